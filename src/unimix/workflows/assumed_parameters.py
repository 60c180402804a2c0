"""Assumed parameters of a planned study, and the units in which they are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unimix.analysis.intervals.parameters import parameters_of
from unimix.errors import OptionError, did_you_mean, listing
from unimix.fitted.correlated import refuse_smooths
from unimix.result import FitResult

UNITS = ("raw", "d", "ratio")


def assumed_parameters(
    planned: FitResult,
    fixed: Mapping[str, float],
    random: Mapping[str, float],
    residual: float | Mapping[str, float] | None,
    units: str,
) -> tuple[dict[str, float], str]:
    """All parameters in raw units by name, and a note on the units.

    Args:
        planned: A result with the names of the model; its estimates are not used.
        fixed: Coefficients by name.
        random: Standard deviations and correlations of the group effects by name.
        residual: Residual standard deviation, or dispersion parameters.
        units: Units of the coefficients, one of :data:`UNITS`.

    Raises:
        OptionError: If parameters are missing or unknown; the message names all of them.
    """
    refuse_smooths(planned, "Power under assumed parameters")
    known = {p.name: p.target.kind for p in parameters_of(planned) if p.target is not None}
    names = {
        "fixed": [n for n, kind in known.items() if kind == "fixed"],
        "random": [n for n, kind in known.items() if kind in ("sd", "cor")],
        "residual": [n for n, kind in known.items() if kind == "scale"],
    }
    faults = []
    if residual is not None and not names["residual"]:
        faults.append(f"residual=: the {planned.model.family} family has no dispersion parameter. Leave it out.")
        residual = None
    given: dict[str, Mapping[str, Any]] = {
        "fixed": fixed,
        "random": _by_full_name(planned, random),
        "residual": residual
        if isinstance(residual, Mapping)
        else {}
        if residual is None
        else {names["residual"][0]: residual},
    }
    truth: dict[str, Any] = {n: 0.0 for n, kind in known.items() if n == "Intercept" or kind == "cor"}
    for argument, wanted in names.items():
        own = given[argument]
        faults += _unknown(argument, own, wanted)
        truth |= {n: own[n] for n in wanted if n in own}
        lacking = [n for n in wanted if n not in truth]
        if lacking:
            said = "0 where there is no effect" if argument == "fixed" else "as the study is expected to have them"
            faults.append(f"{argument}= lacks {listing(map(repr, lacking))}: give every one, {said}.")
    faults += [f"{n!r}: {value!r} is not a number." for n, value in truth.items() if not _is_number(value)]
    if faults:
        raise OptionError("\n".join(faults))
    return _raw(planned, {n: float(v) for n, v in truth.items()}, names["fixed"], units)


def _unknown(argument: str, own: Mapping[str, Any], wanted: Sequence[str]) -> list[str]:
    known = listing(wanted) or "none"
    strange = [n for n in own if n not in wanted]
    return [f"{argument}= has no {n!r}.{did_you_mean(str(n), wanted)} Known: {known}." for n in strange]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and bool(np.isfinite(value))


def _by_full_name(planned: FitResult, random: Mapping[str, float]) -> dict[str, float]:
    """SDs by their names in ``fit.confint()``, where a grouping factor alone may stand for its only SD."""
    sds = [p.name for p in parameters_of(planned) if p.target is not None and p.target.kind == "sd"]
    of_group = {group: [n for n in sds if n.endswith(f" | {group})")] for group in planned.n_groups}
    return {of_group[n][0] if len(of_group.get(n, [])) == 1 else n: v for n, v in random.items()}


def _raw(planned: FitResult, truth: dict[str, float], fixed: list[str], units: str) -> tuple[dict[str, float], str]:
    """The parameters with coefficients in raw units, and a note on the units."""
    others, link = [n for n in fixed if n != "Intercept"], planned.model.link
    if units == "raw":
        scale = "the response" if link == "identity" else f"the linear predictor ({link} link)"
        return truth, f"Coefficients are in raw units, those of {scale}."
    if units == "ratio":
        if link not in ("log", "logit", "cloglog"):
            raise OptionError(f"units='ratio' is for a log, logit or cloglog link, not for the {link} link.")
        bad = [n for n in others if truth[n] <= 0]
        if bad:
            raise OptionError(f"units='ratio': {listing(map(repr, bad))} must be positive; 1 is no effect.")
        logs = {n: float(np.log(truth[n])) for n in others}
        return truth | logs, "Coefficients were given as ratios; estimates are their logarithms."
    if not planned.family.is_linear:
        raise OptionError("units='d' is for linear models, whose response has one residual SD: use 'raw' or 'ratio'.")
    total = total_sd(planned, truth)
    return truth | {n: truth[n] * total for n in others}, (
        f"Coefficients were given in standard deviations of a response, {total:.4g} with all variances (Cohen's d); "
        "estimates are in raw units."
    )


def total_sd(planned: FitResult, truth: Mapping[str, float]) -> float:
    """Standard deviation of a response about its mean under assumed parameters.

    The variance is sigma^2 + mean(z' Cov z) over the rows of the layout, for all random effects.
    """
    values = [(p.target, truth[p.name]) for p in parameters_of(planned) if p.target is not None]
    variance = next(v for t, v in values if t.kind == "scale") ** 2
    for k, block in enumerate(planned.design().blocks):
        sd, correlation = np.zeros(block.q), np.eye(block.q)
        for target, value in values:
            if target.kind == "sd" and target.index == k:
                sd[target.first] = value
            elif target.kind == "cor" and target.index == k:
                correlation[target.first, target.second] = correlation[target.second, target.first] = value
        variance += float(np.einsum("ni,ij,nj->", block.z, correlation * np.outer(sd, sd), block.z)) / len(block.z)
    return float(np.sqrt(variance))


__all__ = ["UNITS", "assumed_parameters", "total_sd"]
