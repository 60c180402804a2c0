"""Priors as text, exactly, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import astuple

from unimix.distributions import priors as distributions
from unimix.distributions.prior_base import Prior
from unimix.errors import OptionError

_TEXT = re.compile(r"(\w+)\((.*)\)(.*)")
_GIVEN = re.compile(r"(.+?) ~ (\w+\([^()]*\))(?:, |$)")


def write_given(priors: Mapping[str, object]) -> str:
    """Text of priors given by name, from which :func:`read_given` reads the same priors.

    Example:
        >>> from unimix.distributions.prior_text import read_given, write_given
        >>> from unimix.priors import HalfNormal, Normal
        >>> text = write_given({"x": Normal(0, 2.5), "sd(g)": HalfNormal(1 / 3)})
        >>> text
        'x ~ Normal(0, 2.5), sd(g) ~ HalfNormal(0.3333333333333333)'
        >>> read_given(text)["sd(g)"]
        HalfNormal(sigma=0.3333333333333333)
    """
    return ", ".join(f"{name} ~ {_exactly(prior)}" for name, prior in priors.items())


def read_given(text: str) -> dict[str, Prior]:
    """The priors that :func:`write_given` wrote, by name; priors of unknown kinds are left out."""
    found = {name: read_prior(prior) for name, prior in _GIVEN.findall(text)}
    return {name: prior for name, prior in found.items() if prior is not None}


def read_prior(text: str) -> Prior | None:
    """The distribution that a text such as ``Normal(0, 2.5)`` or ``Normal(mu: 0, sigma: 2.5)`` describes, or None."""
    found = _TEXT.fullmatch(text)
    kind = getattr(distributions, found[1], None) if found else None
    if found is None or not (isinstance(kind, type) and issubclass(kind, Prior)):
        return None
    try:
        return kind(*(float(part.split(":")[-1]) for part in found[2].split(",")))
    except (TypeError, ValueError, OptionError):
        return None


def _exactly(prior: object) -> str:
    if not isinstance(prior, Prior):
        return str(prior)
    return f"{type(prior).__name__}({', '.join(_number(v) for v in astuple(prior))})"


def _number(value: float) -> str:
    short = f"{value:.6g}"
    return short if float(short) == value else repr(value)


__all__ = ["read_given", "read_prior", "write_given"]
