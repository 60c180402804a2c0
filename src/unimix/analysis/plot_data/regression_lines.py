"""Lines of complete, no and partial pooling over one predictor, level by level."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit

from unimix.analysis.comparisons.predictors import is_factor_of, level_text
from unimix.analysis.prediction.distributions import Placed, place_alone
from unimix.analysis.prediction.draws import coefficient_draws
from unimix.analysis.prediction.expected import expected_rows
from unimix.analysis.summaries.partial_pooling import LevelEstimates, complete_regression, level_estimates
from unimix.argument_types import count_fault
from unimix.design.arrays import Design
from unimix.design.new_data import NewRows
from unimix.design.typed_columns import Column, FactorColumn, NumericColumn, as_factor, as_numbers
from unimix.distributions.random_responses import mean_of
from unimix.errors import DataError, OptionError, did_you_mean, listing
from unimix.formula.expand import expand, remaining_atoms
from unimix.stats.inference import checked_level
from unimix.stats.per_level_regressions import follow, new_columns

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]

GRID = 60
"""Number of points of a line over a numeric predictor."""
MOST_DRAWS = 100_000
"""Largest number of lines that show an uncertainty."""


@dataclass(frozen=True)
class _Grid:
    """New rows of one level, at the points of the line."""

    level: int
    x: list[Any]
    rows: NewRows


def drawn_columns(design: Design) -> dict[str, Column]:
    """Columns of the model as pictures draw them: numbers of which the formula makes a factor, ``C(dose)``, are one."""
    spec = design.spec
    parts = (spec.fixed, *spec.parts.values(), *(term.left for term in spec.random))
    nodes = [node for part in parts for node in remaining_atoms(expand(part)).values()]
    coded = {name for name in design.columns if any(is_factor_of(node, name) for node in nodes)}
    return {name: as_factor(c, name) if name in coded else c for name, c in design.columns.items()}


def chosen_predictor(fit: FittedModel, design: Design, group: str | None, x: str | None) -> str:
    """The predictor over which lines are drawn: one whose slope varies, else one that varies within levels.

    Without a grouping factor, a numeric predictor is preferred.

    Args:
        fit: The result.
        design: The design that was fitted.
        group: Name of the grouping factor, or None.
        x: Name of the predictor that the user chose, or None.

    Raises:
        DataError: If the model has no such predictor.
        OptionError: If ``x`` is not one of its predictors.
    """
    columns = drawn_columns(design)
    known = [n for n in fit.model.encoding.predictors if n in columns]
    groups = list(dict.fromkeys(b.group for b in design.blocks)) if group is None else [group]
    slopes = [n for g in groups for n in fit.model.encoding.slopes(g) if n in columns]
    everything = list(dict.fromkeys([*known, *slopes]))
    if x is not None:
        if x not in everything:
            raise OptionError(
                f"x={x!r} is not a predictor of this model.{did_you_mean(x, everything)} Predictors: "
                f"{listing(everything) or 'none'}."
            )
        return x
    codes = next((b.codes for b in design.blocks if b.group == group), np.zeros(design.n, dtype=np.int64))

    def varies(name: str) -> bool:
        values = as_numbers(columns[name])
        low, high = np.full(codes.max() + 1, np.inf), np.full(codes.max() + 1, -np.inf)
        np.minimum.at(low, codes, values)
        np.maximum.at(high, codes, values)
        return bool((high > low).any())

    ordered = sorted(
        (n for n in everything if varies(n)),
        key=lambda n: (n not in slopes, not isinstance(columns[n], NumericColumn), everything.index(n)),
    )
    if not ordered:
        where = "" if group is None else f" that varies within {group}"
        raise DataError(
            f"{fit.model.reading} has no predictor{where}: there is no line to draw. fit.plot.caterpillar() shows "
            "group effects."
        )
    return ordered[0]


def _check_draws(n_draws: object) -> None:
    """Check a number of lines.

    Raises:
        OptionError: If it is not a whole number that is not negative.
    """
    if fault := count_fault("n_draws", n_draws, 0, "lines", MOST_DRAWS):
        raise OptionError(fault)


def picked_levels(estimates: LevelEstimates, levels: Sequence[Any] | int) -> list[int]:
    """Indices of the levels to show: those named, or a number of them spread evenly over the levels in order."""
    count = len(estimates.levels)
    if isinstance(levels, str):
        raise OptionError(f"levels={levels!r}: give a list, levels=[{levels!r}], or a number of levels.")
    if isinstance(levels, int):
        if levels < 1:
            raise OptionError(f"levels={levels!r}: give a number of levels, at least 1, or a list of them.")
        return sorted(set(np.linspace(0, count - 1, min(levels, count)).round().astype(int).tolist()))
    if not len(levels):
        raise OptionError("levels=[] names no level: give some, or a number of levels.")
    known = {str(level): i for i, level in enumerate(estimates.levels)}
    strange = [v for v in levels if str(v) not in known]
    if strange:
        raise DataError(
            f"{listing(map(repr, strange))}: not a level of {estimates.group}."
            f"{did_you_mean(str(strange[0]), known)} Levels: {listing(known)}."
        )
    return [known[str(v)] for v in levels]


def group_lines(
    fit: FittedModel,
    *,
    x: str | None = None,
    group: str | None = None,
    levels: Sequence[Any] | int = 12,
    at: Mapping[str, Any] | None = None,
    n_draws: int = 40,
    seed: int = 0,
    ci_level: float = 0.95,
    others: Mapping[str, FittedModel] | None = None,
) -> pd.DataFrame:
    """Observed values and lines per level, one row per point.

    Args:
        fit: A mixed model.
        x: Predictor on the horizontal axis, or None.
        group: Name of the grouping factor, or None.
        levels: Levels to show, or their number.
        at: Values of the other predictors; the default is their mean or most frequent value in each level.
        n_draws: Number of lines that show the uncertainty of the partially pooled line.
        seed: Seed of these draws.
        ci_level: Probability of the band around the partially pooled line.
        others: Further results of the same design by label, whose partially pooled lines are added.

    Returns:
        Columns level, kind (data, complete, no, partial, draw, or the label of another result), draw (number of the
        draw, or -1), x, y (expected response, or the observed one for kind data), lower and upper (kind partial only).
    """
    checked_level(ci_level)
    _check_draws(n_draws)
    design = fit.design()
    estimates = level_estimates(fit, group)
    checked_others(fit, others)
    name = chosen_predictor(fit, design, estimates.group, x)
    shown = picked_levels(estimates, levels)
    draws = coefficient_draws(fit, max(n_draws, 1000), seed=seed)
    parts = [_observed(design, estimates, name, shown)]
    for level in shown:
        grid = _grid(fit, design, np.flatnonzero(estimates.codes == level), level, name, at)
        parts.append(_lines(fit, estimates, grid, draws, n_draws, ci_level))
        for label, other in (others or {}).items():
            line = _partial(other, estimates, grid, estimates.levels[level])
            parts.append(_frame(estimates.levels[grid.level], grid.x, label, line))
    frame = pd.concat(parts, ignore_index=True)
    frame.attrs = {
        **_attributes(fit, design, name),
        "group": estimates.group,
        "n_levels": len(estimates.levels),
        "engine": fit.engine.backend,
    }
    return frame


def checked_others(fit: FittedModel, others: Any) -> None:
    """Check that ``others`` are results of the same design by label.

    Raises:
        OptionError: If they are not a mapping of results.
        DataError: If one was fitted to a different design.
    """
    if others is None:
        return
    if not isinstance(others, Mapping):
        raise OptionError("others= takes results by label: others={'lme4': other}.")
    strange = [k for k, other in others.items() if other.model.fingerprint != fit.model.fingerprint]
    if strange:
        raise DataError(
            f"others[{strange[0]!r}] was fitted to a different design ({others[strange[0]].model.reading}), so that "
            "its lines cannot be compared."
        )


def population_lines(
    fit: FittedModel,
    *,
    x: str | None = None,
    at: Mapping[str, Any] | None = None,
    n_draws: int = 100,
    seed: int = 0,
    ci_level: float = 0.95,
) -> pd.DataFrame:
    """All observed values, the line of the fixed effects with its uncertainty, and that of complete pooling.

    Args:
        fit: A model with or without group effects.
        x: Predictor on the horizontal axis, or None.
        at: Values of the other predictors; the default is their mean or most frequent value.
        n_draws: Number of lines that show the uncertainty of the fixed effects.
        seed: Seed of these draws.
        ci_level: Probability of the band.

    Returns:
        Columns kind (data, complete, population, draw), draw, x, y, lower and upper (kind population only).
    """
    checked_level(ci_level)
    _check_draws(n_draws)
    design = fit.design()
    name = chosen_predictor(fit, design, None, x)
    grid = _grid(fit, design, np.arange(design.n), -1, name, at)
    beta = coefficient_draws(fit, max(n_draws, 1000), seed=seed).beta
    share: FloatArray | float = 1.0
    if "zero" in fit.parts and grid.rows.zero is not None:
        share = expit(-(grid.rows.zero @ fit.parts["zero"].estimate))

    parameters = fit.dispersion_parameters

    def response(eta: FloatArray) -> FloatArray:
        return np.asarray(mean_of(fit.family, eta + grid.rows.offset, parameters) * share)

    every = response(beta @ grid.rows.x.T)
    tail = 0.5 - ci_level / 2
    lower, upper = np.quantile(every, [tail, 1 - tail], axis=0)
    line = expected_rows(fit, place_alone(fit, grid.rows)) * share
    parts = [
        _frame("", _observed_x(design, name), "data", design.y),
        _frame("", grid.x, "population", line, lower, upper),
    ]
    if fit.random and not fit.parts and not fit.smooths:
        complete, _ = complete_regression(design)
        parts.append(_frame("", grid.x, "complete", response(grid.rows.x @ complete)))
    picked: list[int] = np.linspace(0, len(every) - 1, n_draws).round().astype(int).tolist() if n_draws else []
    parts += [_frame("", grid.x, "draw", every[s], draw=s) for s in picked]
    frame = pd.concat(parts, ignore_index=True).drop(columns="level")
    frame.attrs = _attributes(fit, design, name)
    return frame


def _attributes(fit: FittedModel, design: Design, name: str) -> dict[Hashable, Any]:
    """Attributes of the data frame: labels of the axes, and the categories of the predictor in order."""
    column = drawn_columns(design)[name]
    categories = list(map(level_text, column.levels)) if isinstance(column, FactorColumn) else None
    return {"x": name, "response": response_label(fit), "categories": categories}


def response_label(fit: FittedModel) -> str:
    """Label of an axis that shows the response."""
    response = fit.model.response.replace("`", "")
    return f"share of successes, {response}" if response.startswith("cbind(") else response


def _observed_x(design: Design, name: str) -> list[Any]:
    column = drawn_columns(design)[name]
    if isinstance(column, FactorColumn):
        return [level_text(column.levels[c]) for c in column.codes]
    return list(as_numbers(column).tolist())


def _observed(design: Design, estimates: LevelEstimates, name: str, shown: list[int]) -> pd.DataFrame:
    labels = [estimates.levels[c] for c in estimates.codes]
    return _frame(labels, _observed_x(design, name), "data", design.y)[np.isin(estimates.codes, shown)]


def _grid(
    fit: FittedModel,
    design: Design,
    of_level: npt.NDArray[np.int64],
    level: int,
    name: str,
    at: Mapping[str, Any] | None,
) -> _Grid:
    """New rows at the points of the line; other columns have typical values of the rows ``of_level``."""
    columns = drawn_columns(design)
    axis = columns[name]
    if isinstance(axis, NumericColumn):
        whole = as_numbers(axis)
        along: list[Any] = np.linspace(float(whole.min()), float(whole.max()), GRID).tolist()
        shown = along
    else:
        along = list(axis.levels)
        shown = list(map(level_text, along))
    grouping = {f for b in design.blocks for f in b.factors}
    held = [k for k in at or {} if k in grouping and level >= 0]
    if held:
        raise OptionError(
            f"at={{{held[0]!r}: ...}} is a grouping factor. Each of its levels has a panel: choose levels=[...]."
        )
    strange = [k for k in at or {} if k not in design.columns]
    if strange:
        raise OptionError(
            f"at={{{strange[0]!r}: ...}} is not a column of this model.{did_you_mean(strange[0], design.columns)} "
            f"Columns: {listing(design.columns)}."
        )
    rows: dict[str, list[Any]] = {}
    for column_name, column in columns.items():
        value = (at or {}).get(column_name, _typical(column, of_level, first=column_name in grouping))
        rows[column_name] = [value] * len(along)
    rows[name] = along
    return _Grid(level, shown, fit.model.encoding.transform(rows, with_groups=level >= 0))


def _typical(column: Column, rows: npt.NDArray[np.int64], *, first: bool) -> Any:
    """Typical value of a column: the mean of numbers, the most frequent level of a factor, or the first row's value."""
    if isinstance(column, FactorColumn):
        code = column.codes[rows[0]] if first else np.bincount(column.codes[rows]).argmax()
        return column.levels[int(code)]
    if first:
        return (as_numbers(column) if column.whole is None else column.whole)[rows[0]].item()
    return float(as_numbers(column)[rows].mean())


def _lines(
    fit: FittedModel, estimates: LevelEstimates, grid: _Grid, draws: Any, n_draws: int, ci_level: float
) -> pd.DataFrame:
    z = [grid.rows.z[part.block] for part in estimates.parts]
    columns = new_columns(estimates.columns, grid.rows.x, z)
    level, offset = grid.level, grid.rows.offset

    parameters = fit.dispersion_parameters

    def response(eta: FloatArray) -> FloatArray:
        return mean_of(fit.family, eta + offset, parameters)

    every = draws.beta @ grid.rows.x.T
    for part, values in zip(estimates.parts, z, strict=True):
        every = every + draws.effects[part.block][:, part.codes[level]] @ values.T
    every = response(every)
    tail = 0.5 - ci_level / 2
    lower, upper = np.quantile(every, [tail, 1 - tail], axis=0)
    partial = _partial(fit, estimates, grid, estimates.levels[level])
    parts = [
        _frame(estimates.levels[level], grid.x, "complete", response(grid.rows.x @ estimates.complete_beta)),
        _frame(estimates.levels[level], grid.x, "partial", partial, lower, upper),
    ]
    codes = np.full(len(grid.x), level)
    if level not in estimates.no.why and follow(columns, estimates.no, codes).all():
        alone = response(columns @ np.nan_to_num(estimates.no.estimate[level]))
        parts.append(_frame(estimates.levels[level], grid.x, "no", alone))
    picked: list[int] = np.linspace(0, len(every) - 1, n_draws).round().astype(int).tolist() if n_draws else []
    parts += [_frame(estimates.levels[level], grid.x, "draw", every[s], draw=s) for s in picked]
    return pd.concat(parts, ignore_index=True)


def _partial(fit: FittedModel, estimates: LevelEstimates, grid: _Grid, label: Any) -> FloatArray:
    """Expected responses along a level's partially pooled line under a result of the same design."""
    n, level = len(grid.x), estimates.levels.index(label)
    codes = [np.full(n, -1, dtype=np.int64) for _ in fit.random]
    for part in estimates.parts:
        codes[part.block] = np.full(n, part.codes[level], dtype=np.int64)
    return expected_rows(fit, Placed(grid.rows, tuple(codes)))


def _frame(
    level: Any,
    x: list[Any],
    kind: str,
    y: FloatArray,
    lower: FloatArray | float = np.nan,
    upper: FloatArray | float = np.nan,
    draw: int = -1,
) -> pd.DataFrame:
    return pd.DataFrame({"level": level, "kind": kind, "draw": draw, "x": x, "y": y, "lower": lower, "upper": upper})


__all__ = ["chosen_predictor", "group_lines", "picked_levels", "population_lines", "response_label"]
