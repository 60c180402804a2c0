"""Distributions of the response and their links."""

from __future__ import annotations

from typing import Literal

from unimix.errors import OptionError, did_you_mean

FamilyName = Literal["gaussian"]
FAMILIES: dict[str, str] = {"gaussian": "identity"}
_PLANNED = ("binomial", "poisson", "gamma", "negativebinomial", "beta", "inversegaussian", "studentt")


def check_family(family: str) -> str:
    """Return the canonical name of a family.

    Raises:
        OptionError: If unimix does not fit this family.
    """
    name = str(family).lower().replace("_", "").replace(" ", "").replace("-", "")
    name = {"normal": "gaussian"}.get(name, name)
    if name in FAMILIES:
        return name
    if name in _PLANNED:
        raise OptionError(
            f"family={family!r} is not available in this version, which fits Gaussian models: family='gaussian'. "
            "For generalised models use lme4's glmer, pymer4's glmer or bambi directly."
        )
    raise OptionError(f"family={family!r} is unknown.{did_you_mean(name, (*FAMILIES, *_PLANNED))} Known: gaussian.")
