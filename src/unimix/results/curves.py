"""Lines of complete, no and partial pooling over one predictor, level by level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.errors import DataError, OptionError, did_you_mean, listing
from unimix.model.data import Column, FactorColumn, NumericColumn, as_numbers
from unimix.model.design import Design
from unimix.model.newdata import NewRows, design_rows, predictor_names, slope_names
from unimix.numerics.variates import mean_of
from unimix.results.draws import coefficient_draws
from unimix.results.pooling import LevelEstimates, complete_regression, level_estimates

if TYPE_CHECKING:
    from unimix.results.result import FitResult

FloatArray = npt.NDArray[np.float64]

GRID = 60
"""Points of a line over a numeric predictor."""


@dataclass(frozen=True)
class _Grid:
    """New rows of one level along the predictor."""

    level: int
    x: list[Any]
    rows: NewRows


def chosen_predictor(fit: FitResult, design: Design, group: str | None, x: str | None) -> str:
    """The predictor along which lines are drawn: one whose slope varies, else one that varies within levels.

    Without a group: a numeric one, if there is any.

    Raises:
        DataError: If the model has no such predictor.
        OptionError: If the name is not one of its predictors.
    """
    known = [n for n in predictor_names(fit.model.recipe) if n in design.columns]
    groups = list(dict.fromkeys(b.group for b in design.blocks)) if group is None else [group]
    slopes = [n for g in groups for n in slope_names(fit.model.recipe, g) if n in design.columns]
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
        values = as_numbers(design.columns[name])
        low, high = np.full(codes.max() + 1, np.inf), np.full(codes.max() + 1, -np.inf)
        np.minimum.at(low, codes, values)
        np.maximum.at(high, codes, values)
        return bool((high > low).any())

    ordered = sorted(
        (n for n in everything if varies(n)),
        key=lambda n: (n not in slopes, not isinstance(design.columns[n], NumericColumn), everything.index(n)),
    )
    if not ordered:
        where = "" if group is None else f" that varies within {group}"
        raise DataError(
            f"{fit.model.reading} has no predictor{where}: there is no line to draw. fit.plot.caterpillar() shows "
            "group effects."
        )
    return ordered[0]


def picked_levels(estimates: LevelEstimates, levels: Sequence[Any] | int) -> list[int]:
    """Indices of the levels to show: those named, or so many, evenly among the levels in order."""
    count = len(estimates.levels)
    if isinstance(levels, int):
        if levels < 1:
            raise OptionError(f"levels={levels!r}: a number of levels, 1 at least, or a list of them.")
        return sorted(set(np.linspace(0, count - 1, min(levels, count)).round().astype(int).tolist()))
    known = {str(level): i for i, level in enumerate(estimates.levels)}
    strange = [v for v in levels if str(v) not in known]
    if strange:
        raise DataError(
            f"{listing(map(repr, strange))}: not a level of {estimates.group}."
            f"{did_you_mean(str(strange[0]), known)} Levels: {listing(known)}."
        )
    return [known[str(v)] for v in levels]


def group_lines(
    fit: FitResult,
    *,
    x: str | None = None,
    group: str | None = None,
    levels: Sequence[Any] | int = 12,
    at: Mapping[str, Any] | None = None,
    n_draws: int = 40,
    seed: int = 0,
    ci_level: float = 0.95,
    others: Mapping[str, FitResult] | None = None,
    data: Any = None,
) -> pd.DataFrame:
    """Observed values and lines per level, one row per point.

    Args:
        fit: A mixed model.
        x: The predictor along the lines.
        group: The grouping factor.
        levels: The levels to show, or how many.
        at: Values of the other predictors; else their mean or most frequent value in each level.
        n_draws: Lines drawn from the uncertainty of the partially pooled one.
        seed: Of these draws.
        ci_level: Probability of the band around the partially pooled line.
        others: Further results of the same design by label, whose partially pooled lines are added.
        data: The data that were fitted, for a result that was loaded.

    Returns:
        Columns level, kind (data, complete, no, partial, draw, or the label of another result), draw (number, or -1),
        x, y (expected response; observed where kind is data), lower and upper (partial only).
    """
    design = fit.design(data)
    found = level_estimates(fit, group, data)
    name = chosen_predictor(fit, design, found.group, x)
    shown = picked_levels(found, levels)
    draws = coefficient_draws(fit, max(n_draws, 1000), seed, data)
    parts = [_observed(design, found, name, shown)]
    for level in shown:
        grid = _grid(fit, design, np.flatnonzero(found.codes == level), level, name, at)
        parts.append(_lines(fit, design, found, grid, draws, n_draws, ci_level))
        for label, other in (others or {}).items():
            eta = _partial(other, design, found.group, grid)
            parts.append(_frame(found.levels[grid.level], grid.x, label, mean_of(fit.family, eta)))
    frame = pd.concat(parts, ignore_index=True)
    frame.attrs = {"x": name, "group": found.group, "response": fit.model.response, "n_levels": len(found.levels)}
    return frame


def population_lines(
    fit: FitResult,
    *,
    x: str | None = None,
    at: Mapping[str, Any] | None = None,
    n_draws: int = 100,
    seed: int = 0,
    ci_level: float = 0.95,
    data: Any = None,
) -> pd.DataFrame:
    """All observed values, the line of the fixed effects with its uncertainty, and that of complete pooling.

    Args:
        fit: A model with or without group effects.
        x: The predictor along the lines.
        at: Values of the other predictors; else their mean or most frequent value.
        n_draws: Lines drawn from the uncertainty of the fixed effects.
        seed: Of these draws.
        ci_level: Probability of the band.
        data: The data that were fitted, for a result that was loaded.

    Returns:
        Columns kind (data, complete, population, draw), draw, x, y, lower and upper (population only).
    """
    design = fit.design(data)
    name = chosen_predictor(fit, design, None, x)
    grid = _grid(fit, design, np.arange(design.n), -1, name, at)
    beta = coefficient_draws(fit, max(n_draws, 1000), seed, data).beta

    def response(eta: FloatArray) -> FloatArray:
        return mean_of(fit.family, eta + grid.rows.offset)

    every = response(beta @ grid.rows.x.T)
    tail = 0.5 - ci_level / 2
    lower, upper = np.quantile(every, [tail, 1 - tail], axis=0)
    parts = [
        _frame("", _observed_x(design, name), "data", design.y),
        _frame("", grid.x, "population", response(grid.rows.x @ fit.fixed.estimate), lower, upper),
    ]
    if fit.random:
        complete, _ = complete_regression(design)
        parts.append(_frame("", grid.x, "complete", response(grid.rows.x @ complete)))
    picked: list[int] = np.linspace(0, len(every) - 1, n_draws).round().astype(int).tolist() if n_draws else []
    parts += [_frame("", grid.x, "draw", every[s], draw=s) for s in picked]
    frame = pd.concat(parts, ignore_index=True).drop(columns="level")
    frame.attrs = {"x": name, "response": fit.model.response}
    return frame


def _observed_x(design: Design, name: str) -> list[Any]:
    column = design.columns[name]
    if isinstance(column, FactorColumn):
        return [str(column.levels[c]) for c in column.codes]
    return list(as_numbers(column).tolist())


def _observed(design: Design, found: LevelEstimates, name: str, shown: list[int]) -> pd.DataFrame:
    labels = [found.levels[c] for c in found.codes]
    return _frame(labels, _observed_x(design, name), "data", design.y)[np.isin(found.codes, shown)]


def _grid(
    fit: FitResult,
    design: Design,
    mine: npt.NDArray[np.int64],
    level: int,
    name: str,
    at: Mapping[str, Any] | None,
) -> _Grid:
    """New rows along the predictor, other columns as in the rows ``mine``."""
    axis = design.columns[name]
    if isinstance(axis, NumericColumn):
        whole = as_numbers(axis)
        along: list[Any] = np.linspace(float(whole.min()), float(whole.max()), GRID).tolist()
    else:
        along = list(axis.levels)
    strange = [k for k in at or {} if k not in design.columns]
    if strange:
        raise OptionError(
            f"at={{{strange[0]!r}: ...}} is not a column of this model.{did_you_mean(strange[0], design.columns)} "
            f"Columns: {listing(design.columns)}."
        )
    grouping = {f for b in design.blocks for f in b.factors}
    rows: dict[str, list[Any]] = {}
    for column_name, column in design.columns.items():
        value = (at or {}).get(column_name, _typical(column, mine, first=column_name in grouping))
        rows[column_name] = [value] * len(along)
    rows[name] = along
    return _Grid(level, along, design_rows(fit.model.recipe, rows, with_groups=level >= 0))


def _typical(column: Column, rows: npt.NDArray[np.int64], *, first: bool) -> Any:
    """Mean of numbers, most frequent level of factors; the first row's value of a grouping factor."""
    if isinstance(column, FactorColumn):
        code = column.codes[rows[0]] if first else np.bincount(column.codes[rows]).argmax()
        return column.levels[int(code)]
    if first:
        return (as_numbers(column) if column.whole is None else column.whole)[rows[0]].item()
    return float(as_numbers(column)[rows].mean())


def _columns_of(design: Design, found: LevelEstimates, grid: _Grid) -> FloatArray:
    """The new rows' columns in the order of ``found.columns``, shape (n, k)."""
    values = np.zeros((len(grid.x), len(found.columns.names)))
    mine = [k for k, b in enumerate(design.blocks) if b.group == found.group]
    for place, at in zip(found.columns.place, mine, strict=True):
        values[:, place] = grid.rows.z[at]
    values[:, : design.p] = grid.rows.x
    return values


def _lines(
    fit: FitResult, design: Design, found: LevelEstimates, grid: _Grid, draws: Any, n_draws: int, ci_level: float
) -> pd.DataFrame:
    columns = _columns_of(design, found, grid)
    level, offset = grid.level, grid.rows.offset

    def response(eta: FloatArray) -> FloatArray:
        return mean_of(fit.family, eta + offset)

    every = draws.beta @ grid.rows.x.T
    for k, block in enumerate(design.blocks):
        if block.group == found.group:
            every = every + draws.effects[k][:, level] @ grid.rows.z[k].T
    every = response(every)
    tail = 0.5 - ci_level / 2
    lower, upper = np.quantile(every, [tail, 1 - tail], axis=0)
    parts = [
        _frame(found.levels[grid.level], grid.x, "complete", response(grid.rows.x @ found.complete_beta)),
        _frame(
            found.levels[grid.level],
            grid.x,
            "partial",
            mean_of(fit.family, _partial(fit, design, found.group, grid)),
            lower,
            upper,
        ),
    ]
    if level not in found.no.why:
        parts.append(
            _frame(found.levels[grid.level], grid.x, "no", response(columns @ np.nan_to_num(found.no.estimate[level])))
        )
    picked: list[int] = np.linspace(0, len(every) - 1, n_draws).round().astype(int).tolist() if n_draws else []
    parts += [_frame(found.levels[grid.level], grid.x, "draw", every[s], draw=s) for s in picked]
    return pd.concat(parts, ignore_index=True)


def _partial(fit: FitResult, design: Design, group: str, grid: _Grid) -> FloatArray:
    eta = grid.rows.x @ fit.fixed.estimate + grid.rows.offset
    for k, block in enumerate(design.blocks):
        if block.group == group:
            eta = eta + grid.rows.z[k] @ np.asarray(fit.random[k].modes)[grid.level]
    return np.asarray(eta)


def _frame(
    level: Any,
    x: list[Any],
    kind: str,
    y: FloatArray,
    lower: FloatArray | float = np.nan,
    upper: FloatArray | float = np.nan,
    draw: int = -1,
) -> pd.DataFrame:
    shown = [str(v) if isinstance(v, str | bool) else v for v in x]
    return pd.DataFrame(
        {"level": level, "kind": kind, "draw": draw, "x": shown, "y": y, "lower": lower, "upper": upper}
    )


__all__ = ["chosen_predictor", "group_lines", "picked_levels", "population_lines"]
