"""The names by which the priors of a model can be given, and the faults of a call that gives them.

The prior of a parameter is the one given under its own name, else the one of its term or grouping factor, else the one
of its class: ``coefficients`` (all fixed effects except the intercept), ``sd`` and ``cor``. A class may have no
parameter, so that one dict of priors serves several models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from unimix.design.arrays import Design
from unimix.distributions.priors import LKJ, HalfNormal, Normal, Prior, Uniform
from unimix.errors import OptionError, did_you_mean, listing, nearest, to_type

Kind = Literal["real", "positive", "correlation"] | tuple[float, float]
"""What a prior must be for; a pair holds the ends of a dispersion parameter that has two."""
COEFFICIENTS, SDS, CORRELATIONS = "coefficients", "sd", "cor"
_CLASSES: dict[str, Kind] = {COEFFICIENTS: "real", SDS: "positive", CORRELATIONS: "correlation"}
_FITTING = {
    "positive": "HalfNormal, HalfStudentT, HalfCauchy, Exponential, Gamma, InverseGamma, LogNormal or Uniform(0, b)",
    "real": "Normal, StudentT or Cauchy",
}


def sd_names(group: str, terms: tuple[str, ...], *, alone: bool) -> list[str]:
    """Names of the standard deviations of a block; ``alone`` is true if its factor has no other block."""
    return [f"sd({group})"] if len(terms) == 1 and alone else [f"sd({group}: {t})" for t in terms]


def dispersion_names(design: Design) -> list[str]:
    """Names of the dispersion parameters, which are those of the family unless a fixed effect has the same name."""
    taken = set(design.fixed_names)
    return [
        n if n not in taken else f"{n} ({'residual' if n == 'sigma' else 'dispersion'})"
        for n in design.family.parameters
    ]


def governing_names(design: Design) -> dict[str, tuple[str, ...]]:
    """Names under which the prior of each parameter can be given, by name of the parameter, the most specific first."""
    own = set(design.fixed_names)

    def free(*names: str) -> tuple[str, ...]:
        """Names that are not those of fixed effects."""
        return tuple(n for n in names if n not in own)

    found: dict[str, tuple[str, ...]] = {}
    for name in design.fixed_names:
        term = design.column_terms.get(name)
        found[name] = (name, *(free(term) if term else ()), *(free(COEFFICIENTS) if name != "Intercept" else ()))
    for block in design.blocks:
        for term in block.terms:
            found[f"sd({block.group}: {term})"] = free(f"sd({block.group}: {term})", f"sd({block.group})", SDS)
    for block in design.blocks:
        if block.q > 1:
            found[f"cor({block.group})"] = free(f"cor({block.group})", CORRELATIONS)
    return found | {name: (name,) for name in dispersion_names(design)}


def read_priors(design: Design, given: Mapping[str, object] | None) -> dict[str, Prior]:
    """The user's prior of each parameter that has one, by name of the parameter.

    Args:
        design: Design of the model.
        given: Priors by the names of :func:`governing_names`.

    Raises:
        OptionError: If names do not exist or priors do not suit their parameters; the message lists all faults.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise OptionError(f"priors= maps names to priors, such as {{'sigma': HalfNormal(5)}}, not {given!r}.")
    governing = governing_names(design)
    kinds = {key: _kind(design, name) for name, keys in governing.items() for key in keys}
    kinds = {**_CLASSES, **kinds}
    faults = [fault for name, prior in given.items() if (fault := _fault(name, prior, kinds))]
    if any(name not in kinds for name in given):
        faults.append(f"Names: {listing(kinds, 30)}.")
    if faults:
        line = _corrected(given, kinds)
        raise OptionError("\n".join([*faults, *([to_type(line)] if line else [])]))
    chosen = {name: next((given[k] for k in keys if k in given), None) for name, keys in governing.items()}
    return {name: prior for name, prior in chosen.items() if isinstance(prior, Prior)}


def _kind(design: Design, parameter: str) -> Kind:
    if parameter in design.fixed_names:
        return "real"
    if any(parameter == f"cor({b.group})" for b in design.blocks):
        return "correlation"
    ends = dict(zip(dispersion_names(design), design.family.ranges, strict=True)).get(parameter, (0.0, np.inf))
    return ends if np.isfinite(ends[1]) else "positive"


def _fault(name: str, prior: object, kinds: Mapping[str, Kind]) -> str:
    """What is wrong with a prior that was given; an empty text if nothing is."""
    if name not in kinds:
        return f"priors names {name!r}, which is no parameter of this model.{did_you_mean(name, kinds)}"
    if not isinstance(prior, Prior):
        return f"The prior of {name} is {prior!r}: give a distribution, such as unimix.priors.Normal(0, 10)."
    if _suits(prior, kinds[name]):
        return ""
    match kinds[name]:
        case (low, high):
            return f"The prior of {name} is {prior}, but it lies between {low:g} and {high:g}: use Uniform there."
        case "correlation":
            return f"The prior of {name} is {prior}, but a correlation matrix needs LKJ(eta)."
        case "positive":
            what = "a standard deviation" if name.startswith((SDS, "sigma")) else "this parameter"
            return f"The prior of {name} is {prior}, but {what} is positive: use {_FITTING['positive']}."
        case _:
            what = "a fixed effect" if name != COEFFICIENTS else "each of them"
            return (
                f"The prior of {name} is {prior}, but {what} may be any number: use {_FITTING['real']} (their width "
                "says what you believe)."
            )


def _suits(prior: Prior, kind: Kind) -> bool:
    if kind == "correlation":
        return isinstance(prior, LKJ)
    if isinstance(kind, tuple):
        return isinstance(prior, Uniform) and kind[0] <= prior.lower and prior.upper <= kind[1]
    return prior.support == kind and not (kind == "real" and isinstance(prior, Uniform))


def _corrected(given: Mapping[str, object], kinds: Mapping[str, Kind]) -> str:
    """The argument with the nearest names, and with priors that suit them; empty if no name is near."""
    line: dict[str, str] = {}
    for name, prior in given.items():
        right = name if name in kinds else nearest(str(name), kinds)
        if right is None:
            continue
        size = abs(getattr(prior, "sigma", getattr(prior, "beta", 1.0))) or 1.0
        kind = kinds[right]
        usual: dict[Kind, Prior] = {"real": Normal(0, size), "positive": HalfNormal(size), "correlation": LKJ(2)}
        other = Uniform(*kind) if isinstance(kind, tuple) else usual[kind]
        line[right] = f"unimix.priors.{prior if isinstance(prior, Prior) and _suits(prior, kinds[right]) else other}"
    return f"priors={{{', '.join(f'{n!r}: {p}' for n, p in line.items())}}}" if line else ""


__all__ = ["dispersion_names", "governing_names", "read_priors", "sd_names"]
