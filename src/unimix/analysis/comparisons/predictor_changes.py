"""The changes of a comparison: the values of a predictor before and after each of them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.comparisons.predictors import Predictors, level_text
from unimix.design.typed_columns import as_numbers, read_columns
from unimix.errors import OptionError, did_you_mean, listing
from unimix.likelihood.lmm.weights import row_copies
from unimix.stats.effect_sizes import weighted_sd

if TYPE_CHECKING:
    from unimix.design.arrays import Design
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]

STEPS = ("sd", "2sd", "iqr", "minmax")
FACTOR_WAYS = ("reference", "pairwise", "sequential")
NOTHING = "The model has no predictors to compare."
WORDS = {"difference": "{1} - {0}", "ratio": "{1} / {0}", "log_ratio": "log({1} / {0})"}
WORDS |= {"odds_ratio": "odds({1}) / odds({0})", "log_odds_ratio": "log odds({1}) - log odds({0})"}


@dataclass(frozen=True)
class Change:
    """One change of one predictor or of several together.

    Attributes:
        names: Names of the predictors that change.
        label: Label of the change in the table.
        low: Values before the change by predictor, one or one per row; empty for a slope.
        high: Values after the change, in the same form.
    """

    names: tuple[str, ...]
    label: str
    low: dict[str, Any]
    high: dict[str, Any]


def changes_of(
    fit: FittedModel, design: Design, variables: Any, base: pd.DataFrame, comparison: str, *, cross: bool
) -> list[Change]:
    """Read the argument ``variables`` of a comparison.

    Args:
        fit: The result.
        design: The design that was fitted.
        variables: None for all predictors, names of predictors, or a mapping from names to changes.
        base: Rows whose values are changed.
        comparison: difference, ratio, log_ratio, odds_ratio, log_odds_ratio or dydx.
        cross: Whether to change all predictors together.

    Raises:
        OptionError: If anything is wrong; the message lists all faults.
    """
    known = Predictors.of(fit, design)
    wanted = _wanted(variables, known, slopes=comparison == "dydx")
    if not wanted:
        raise OptionError("There is no numeric predictor to differentiate by." if known.columns else NOTHING)
    faults = [_unknown(fit, name, list(known.columns)) for name in wanted if name not in known.columns]
    by_name: dict[str, list[Change]] = {}
    for name, how in wanted.items():
        if name not in known.columns:
            continue
        try:
            by_name[name] = _changes(name, how, known, base, comparison, row_copies(fit.family, fit.rows.weights))
        except OptionError as error:
            faults.append(str(error))
    if cross and comparison == "dydx":
        faults.append(
            "cross=True changes predictors together, but a slope has one predictor. Choose comparison='difference'."
        )
    elif cross and len(wanted) < 2:
        faults.append("cross=True changes several predictors together: name at least two, variables=['x', 'z'].")
    if faults:
        raise OptionError("\n".join(faults))
    if not cross:
        return [change for changes in by_name.values() for change in changes]
    return [_joined(parts) for parts in itertools.product(*by_name.values())]


def _joined(parts: Sequence[Change]) -> Change:
    low = {k: v for part in parts for k, v in part.low.items()}
    high = {k: v for part in parts for k, v in part.high.items()}
    return Change(tuple(n for p in parts for n in p.names), ", ".join(p.label for p in parts), low, high)


def _wanted(variables: Any, known: Predictors, *, slopes: bool) -> dict[str, Any]:
    if variables is None:
        return {n: None for n in known.columns if not (slopes and n in known.levels)}
    if isinstance(variables, str):
        return {variables: None}
    if isinstance(variables, Mapping) and variables:
        return {str(k): v for k, v in variables.items()}
    if isinstance(variables, Sequence) and variables and all(isinstance(v, str) for v in variables):
        return dict.fromkeys(variables)
    raise OptionError(f"variables={variables!r}: give a predictor, a list of them, or {{'x': change}}.")


def _unknown(fit: FittedModel, name: str, known: list[str]) -> str:
    factors = {n for t in fit.spec.random for n in (t.group, *t.factors)}
    if name in factors:
        return (
            f"{name!r} is a grouping factor: its effects are random and not part of population predictions. "
            f"fit.group_effects[{name!r}] has them."
        )
    return (
        f"{name!r} is not a predictor of the mean.{did_you_mean(name, known)} Predictors: {listing(known) or 'none'}."
    )


def _changes(
    name: str, how: Any, known: Predictors, base: pd.DataFrame, comparison: str, copies: FloatArray | None
) -> list[Change]:
    if comparison == "dydx":
        if name in known.levels:
            raise OptionError(f"{name!r} is a factor and has no slope: comparison='difference' compares its levels.")
        if how is not None:
            raise OptionError(f"variables={{{name!r}: {how!r}}}: a slope has no step. Type variables={name!r}.")
        return [Change((name,), "dY/dx", {}, {})]
    if name in known.levels:
        return _of_levels(name, how, known.levels[name], comparison)
    return [_of_number(name, how, as_numbers(known.columns[name]), base, comparison, copies)]


def _numbers(base: pd.DataFrame, name: str) -> Any:
    return as_numbers(read_columns(base, [name])[name])


def _of_levels(name: str, how: Any, levels: list[Any], comparison: str) -> list[Change]:
    how = "reference" if how is None else how
    shown = [level_text(v) for v in levels]
    if isinstance(how, str):
        pairs = {
            "reference": [(0, j) for j in range(1, len(levels))],
            "pairwise": list(itertools.combinations(range(len(levels)), 2)),
            "sequential": [(j, j + 1) for j in range(len(levels) - 1)],
        }.get(how)
        if pairs is None:
            raise OptionError(
                f"variables={{{name!r}: {how!r}}}: for a factor, choose {listing(map(repr, FACTOR_WAYS))} or two "
                f"levels, ({shown[0]!r}, {shown[-1]!r}).{did_you_mean(how, FACTOR_WAYS)}"
            )
    else:
        if not isinstance(how, tuple | list) or len(how) != 2:
            raise OptionError(
                f"variables={{{name!r}: {how!r}}}: for a factor, choose {listing(map(repr, FACTOR_WAYS))} or two "
                f"levels, ({shown[0]!r}, {shown[-1]!r})."
            )
        ends = [level_text(v) for v in how]
        strange = [v for v in ends if v not in shown]
        if strange:
            raise OptionError(
                f"{strange[0]!r} is not a level of {name} that was fitted: {listing(shown)}."
                f"{did_you_mean(strange[0], shown)}"
            )
        if ends[0] == ends[1]:
            raise OptionError(f"variables={{{name!r}: {how!r}}}: name two different levels.")
        pairs = [(shown.index(ends[0]), shown.index(ends[1]))]
    words = WORDS[comparison]
    return [Change((name,), words.format(shown[i], shown[j]), {name: levels[i]}, {name: levels[j]}) for i, j in pairs]


def _of_number(
    name: str, how: Any, fitted: FloatArray, base: pd.DataFrame, comparison: str, copies: FloatArray | None
) -> Change:
    how = 1 if how is None else how
    words = WORDS[comparison]
    number = isinstance(how, int | float | np.integer | np.floating) and not isinstance(how, bool)
    if number and np.isfinite(how) and how != 0:
        at = _numbers(base, name)
        return Change((name,), f"{float(how):+g}", {name: at}, {name: at + float(how)})
    if isinstance(how, str) and how in ("sd", "2sd"):
        at, half = _numbers(base, name), float(weighted_sd(fitted, copies, copies=True)) * (0.5 if how == "sd" else 1.0)
        ends = ("x - sd/2", "x + sd/2") if how == "sd" else ("x - sd", "x + sd")
        return Change((name,), words.format(*(f"({e})" for e in ends)), {name: at - half}, {name: at + half})
    if isinstance(how, str) and how in STEPS:
        low, high = (_quantile(fitted, p, copies) for p in ([0.25, 0.75] if how == "iqr" else [0.0, 1.0]))
        ends = ("Q1", "Q3") if how == "iqr" else ("min", "max")
    else:
        pair = list(how) if isinstance(how, tuple | list) else []
        numbers = all(isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in pair)
        if len(pair) != 2 or not numbers or not np.isfinite(pair).all():
            hint = did_you_mean(how, STEPS) if isinstance(how, str) else ""
            raise OptionError(
                f"variables={{{name!r}: {how!r}}}: for a numeric predictor, choose a step such as 1, "
                f"{listing(map(repr, STEPS))}, or two values, (10, 20).{hint}"
            )
        low, high = float(pair[0]), float(pair[1])
        ends = (f"{low:g}", f"{high:g}")
    if low == high:
        raise OptionError(f"variables={{{name!r}: {how!r}}}: both values are {low:g}; choose two different ones.")
    return Change((name,), words.format(*ends), {name: float(low)}, {name: float(high)})


def _quantile(values: FloatArray, p: float, copies: FloatArray | None) -> float:
    """Quantile by linear interpolation, of rows that stand for several copies each."""
    if copies is None:
        return float(np.quantile(values, p))
    order = np.argsort(values)
    place, ends = p * (copies.sum() - 1), np.cumsum(copies[order])
    # the values of the copies before and after the place h = p (N - 1) in the ordered sample
    low, high = (
        values[order][min(int(np.searchsorted(ends, k, side="right")), len(ends) - 1)]
        for k in (np.floor(place), np.ceil(place))
    )
    return float(low + (place - np.floor(place)) * (high - low))


__all__ = ["Change", "changes_of"]
