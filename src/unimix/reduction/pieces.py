"""The second pass over the rows: each part of a source becomes a piece of its reduction, and pieces add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import linalg

from unimix.design.aliasing import largest_entries
from unimix.design.typed_columns import Column, FactorColumn, NumericColumn
from unimix.errors import DataError
from unimix.likelihood.lmm.compressed_rows import CellRows, compressed, factor
from unimix.reduction.plan import Plan, stacked
from unimix.reduction.sources import Part
from unimix.reduction.survey import complete

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
WAITING = 262_144
"""Rows that wait for compression, at least; more wait where more are compressed already, so that time stays linear."""
MOST_COMBINATIONS = 20_000
"""Combinations of factor levels that are counted."""
SPANNED = 1e-9
"""Size of a row outside the span of others, relative to the largest entries of its columns, that counts as nothing."""


@dataclass(frozen=True)
class Piece:
    """Everything that is kept of some rows.

    Attributes:
        n: Number of rows without missing values.
        log_weights: Half the sum of the logarithms of the weights.
        rows: The rows of the model scaled by the roots of their weights, compressed by cell.
        moments: Triangular factor of [1, columns] of all rows, without weights, shape (<= k + 1, k + 1).
        means: Mean of each numeric predictor.
        support: Some rows as they were: the columns of the source that predictors use.
        support_rows: The numbers of the same rows, shape (s, k).
        support_codes: Level indices of the factors of the same rows, shape (s, f).
        combinations: Level indices of the combinations of factor levels that occur, shape (c, f).
        frequencies: Sum of the weights of the rows of each combination, shape (c,).
        names: Names of the k columns.
    """

    n: int
    log_weights: float
    rows: CellRows
    moments: FloatArray
    means: Mapping[str, float]
    support: Mapping[str, Column]
    support_rows: FloatArray
    support_codes: IntArray
    combinations: IntArray
    frequencies: FloatArray
    names: tuple[str, ...]


def reduce_part(part: Part, plan: Plan) -> Piece | None:
    """Read a part of the source for the second time and reduce its rows.

    Returns:
        The piece; None if no row is without missing values.

    Raises:
        DataError: If the part cannot be read, or has changed since the first pass.
    """
    whole: Piece | None = None
    waiting: list[Piece] = []
    for table in part.read(plan.names, plan.rows):
        columns, _, _ = complete(table, plan.names, part.label)
        n = len(next(iter(columns.values())).missing)
        if not n:
            continue
        try:
            waiting.append(_batch(plan, columns, n, part.label))
        except DataError as error:
            raise DataError(f"In {part.label}: {error}") from None
        held = 0 if whole is None else len(whole.rows.values)
        if sum(len(p.rows.values) for p in waiting) > max(WAITING, held):
            whole, waiting = added([*([whole] if whole else []), *waiting]), []
    pieces = [*([whole] if whole else []), *waiting]
    return added(pieces) if pieces else None


def _batch(plan: Plan, columns: Mapping[str, Column], n: int, where: str) -> Piece:
    """The rows of one batch, not compressed yet."""
    typed = plan.typed(columns)
    values, names, weights = plan.rows_of(typed, n)
    cells = np.empty((n, len(plan.groups)), dtype=np.int64)
    for j, (name, levels) in enumerate(plan.groups.items()):
        cells[:, j] = levels.codes(columns[name], where)
    codes = _factor_codes(plan, typed)
    combinations, frequencies = _counted(codes, np.ones(n) if weights is None else weights)
    support = {k: _numeric(typed[k]) for k in plan.predictors}
    chosen = _representatives(codes, support, values[:, :-1])
    moments = factor(np.empty((0, values.shape[1] + 1)), np.column_stack([np.ones(n), values]))
    return Piece(
        n=n,
        log_weights=0.0 if weights is None else float(0.5 * np.log(weights).sum()),
        rows=CellRows(values if weights is None else np.sqrt(weights)[:, None] * values, cells),
        moments=moments,
        means={k: float(c.values.mean()) for k, c in support.items() if isinstance(c, NumericColumn)},
        support={k: c.take(chosen) for k, c in support.items()},
        support_rows=values[chosen],
        support_codes=codes[chosen],
        combinations=combinations,
        frequencies=frequencies,
        names=names,
    )


def _numeric(column: Column) -> Column:
    """The column without exact whole numbers beside its floats, which predictors do not use."""
    return replace(column, whole=None) if isinstance(column, NumericColumn) else column


def added(pieces: list[Piece]) -> Piece:
    """Put pieces of different rows together, in any order.

    Args:
        pieces: Pieces by one plan.
    """
    if len(pieces) == 1:
        return replace(pieces[0], rows=compressed([pieces[0].rows]))
    first = pieces[0]
    moments = first.moments
    for piece in pieces[1:]:
        moments = factor(moments, piece.moments)
    combinations, frequencies = _counted(
        np.concatenate([p.combinations for p in pieces]), np.concatenate([p.frequencies for p in pieces])
    )
    support = stacked([p.support for p in pieces])
    support_rows = np.concatenate([p.support_rows for p in pieces])
    support_codes = np.concatenate([p.support_codes for p in pieces])
    kept = _representatives(support_codes, support, support_rows[:, :-1])
    return Piece(
        n=sum(p.n for p in pieces),
        log_weights=float(np.sum([p.log_weights for p in pieces])),
        rows=compressed([p.rows for p in pieces]),
        moments=moments,
        means={k: float(np.average([p.means[k] for p in pieces], weights=[p.n for p in pieces])) for k in first.means},
        support={k: c.take(kept) for k, c in support.items()},
        support_rows=support_rows[kept],
        support_codes=support_codes[kept],
        combinations=combinations,
        frequencies=frequencies,
        names=first.names,
    )


def _factor_codes(plan: Plan, typed: Mapping[str, Column]) -> IntArray:
    """Level index of each factor of the fixed part per row, shape (n, f)."""
    n = len(next(iter(typed.values())).missing)
    codes = np.empty((n, len(plan.factors)), dtype=np.int64)
    for j, name in enumerate(plan.factors):
        column = typed[name]
        if isinstance(column, FactorColumn):
            codes[:, j] = column.codes
        else:
            codes[:, j] = plan.made[name].codes(column, "the rows")
    return codes


def _counted(codes: IntArray, weights: FloatArray) -> tuple[IntArray, FloatArray]:
    """Distinct rows of codes (n, f), and the sum of the weights (n,) of each."""
    if not codes.shape[1]:
        return np.zeros((1, 0), dtype=np.int64), np.array([weights.sum()])
    order = np.lexsort(codes.T[::-1])
    ordered = codes[order]
    new = np.ones(len(codes), dtype=bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    starts = np.flatnonzero(new)
    if len(starts) > MOST_COMBINATIONS:
        raise DataError(
            f"The factors of the fixed part have more than {MOST_COMBINATIONS:,} combinations of levels. A factor with "
            "many levels is a grouping factor: (1 | factor)."
        )
    return ordered[starts], np.add.reduceat(weights[order], starts)


def _representatives(codes: IntArray, columns: Mapping[str, Column], x: FloatArray) -> IntArray:
    """Rows that represent all: one of each combination of levels, both ends of every number, and a spanning set."""
    chosen = [np.array([0, len(x) - 1])]
    if codes.shape[1]:
        order = np.lexsort(codes.T[::-1])
        new = np.ones(len(codes), dtype=bool)
        new[1:] = (codes[order][1:] != codes[order][:-1]).any(axis=1)
        chosen.append(order[new])
    chosen += [x.argmin(axis=0), x.argmax(axis=0)] if x.shape[1] else []
    for column in columns.values():
        if isinstance(column, FactorColumn):
            chosen.append(np.unique(column.codes, return_index=True)[1])
        else:
            chosen.append(np.array([column.values.argmin(), column.values.argmax()]))
    found = np.unique(np.concatenate(chosen))
    return np.union1d(found, _spanning(x, found))


def _spanning(x: FloatArray, found: IntArray) -> IntArray:
    """Further rows of x (n, k) that span, with those found, what all rows span."""
    unit = largest_entries(x)
    known = x[found] / unit
    _, size, turned = np.linalg.svd(known, full_matrices=False)
    basis = turned[size > SPANNED * max(float(size.max(initial=0.0)), 1.0)]
    if len(basis) == x.shape[1]:
        return np.empty(0, dtype=np.int64)
    left = x / unit
    left = left - (left @ basis.T) @ basis
    if np.abs(left).max(initial=0.0) <= SPANNED:
        return np.empty(0, dtype=np.int64)
    # column pivoting picks rows that are as independent as possible
    r, order = linalg.qr(left.T, mode="r", pivoting=True)
    return np.asarray(order[: int((np.abs(np.diag(r)) > SPANNED).sum())], dtype=np.int64)


__all__ = ["Piece", "added", "reduce_part"]
