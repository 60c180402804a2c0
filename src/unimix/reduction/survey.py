"""The first pass over the rows: types, levels, missing values, and what the formula's functions learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from unimix.design.complete_rows import dropped_note
from unimix.design.estimability import check_infinite, check_magnitudes
from unimix.design.evaluate import Environment
from unimix.design.typed_columns import Column, FactorColumn, NumericColumn, read_columns
from unimix.errors import DataError
from unimix.formula.parser import Call
from unimix.reduction.learnt import Learnt, Moments
from unimix.reduction.levels import KINDS, LevelSet
from unimix.reduction.sources import Part

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Wanted:
    """What the first pass looks for.

    Attributes:
        names: Columns that the model uses.
        leveled: Numeric columns among them whose distinct values are levels.
        calls: Calls of the formula that learn from the rows.
        rows: Number of rows of one batch.
    """

    names: tuple[str, ...]
    leveled: frozenset[str]
    calls: tuple[Call, ...]
    rows: int


@dataclass(frozen=True)
class Survey:
    """What the first pass found; surveys of different rows are put together by :func:`merged`.

    Attributes:
        n_rows: Number of rows.
        n: Number of rows without missing values.
        missing: Number of missing values of each column that has some.
        first_missing: Name of the first part that has some, or an empty text.
        kinds: ``numeric`` or ``levels`` of each column with a value.
        levels: Distinct values of categorical columns, and of numeric ones whose values are levels.
        moments: Moments of numeric columns.
        learnt: What the calls of the formula learn.
    """

    n_rows: int = 0
    n: int = 0
    missing: Mapping[str, int] = field(default_factory=dict)
    first_missing: str = ""
    kinds: Mapping[str, str] = field(default_factory=dict)
    levels: Mapping[str, LevelSet] = field(default_factory=dict)
    moments: Mapping[str, Moments] = field(default_factory=dict)
    learnt: Learnt = field(default_factory=lambda: Learnt({}, {}))

    def notes(self) -> list[str]:
        """Notes on rows that were left out."""
        return dropped_note(self.n_rows, self.n, self.missing)


def complete(table: Any, names: tuple[str, ...], where: str) -> tuple[dict[str, Column], int, dict[str, int]]:
    """Columns of a batch without the rows that have missing values, its number of rows, and its missing values.

    Raises:
        DataError: If a column holds infinite values or cannot be read; the message names the part.
    """
    try:
        columns = read_columns(table, names)
        check_infinite(list(columns.items()))
        check_magnitudes(list(columns.items()))
    except DataError as error:
        raise DataError(f"In {where}: {error}") from None
    masks = {k: c.missing for k, c in columns.items()}
    counts = {k: int(m.sum()) for k, m in masks.items() if m.any()}
    n = len(next(iter(masks.values())))
    if counts:
        kept = np.flatnonzero(~np.any(list(masks.values()), axis=0))
        columns = {k: c.take(kept) for k, c in columns.items()}
    return columns, n, counts


def survey(part: Part, wanted: Wanted) -> Survey:
    """Read a part of the source for the first time.

    Raises:
        DataError: If the part cannot be read, or its batches differ in type.
    """
    found = Survey()
    for table in part.read(wanted.names, wanted.rows):
        columns, n_rows, missing = complete(table, wanted.names, part.label)
        n = len(next(iter(columns.values())).missing)
        batch = Survey(n_rows, n, missing, part.label if missing else "")
        if n:
            try:
                batch = replace(batch, **_values(columns, wanted))
            except DataError as error:
                raise DataError(f"In {part.label}: {error}") from None
        found = merged(found, batch, part.label)
    return found


def _values(columns: Mapping[str, Column], wanted: Wanted) -> dict[str, Any]:
    levels = {
        k: found
        for k, c in columns.items()
        if (isinstance(c, FactorColumn) or k in wanted.leveled) and (found := LevelSet.of(k, c))
    }
    numbers = {k: Moments.of(c.values) for k, c in columns.items() if isinstance(c, NumericColumn)}
    return {
        "kinds": {k: "numeric" if isinstance(c, NumericColumn) else "levels" for k, c in columns.items()},
        "levels": levels,
        "moments": {k: m for k, m in numbers.items() if m},
        "learnt": Learnt.of(list(wanted.calls), Environment(columns)),
    }


def merged(first: Survey, second: Survey, where: str) -> Survey:
    """Put the surveys of different rows together.

    Args:
        first: Survey of the earlier rows.
        second: Survey of the later rows.
        where: Name of the part of the later rows, for messages.

    Raises:
        DataError: If a column holds numbers in one and levels in the other.
    """
    kinds = dict(first.kinds)
    for name, kind in second.kinds.items():
        if kinds.setdefault(name, kind) != kind:
            of = second.levels.get(name) or first.levels.get(name)
            words = KINDS[of.kind] if of and of.kind != "number" else "text"
            here, before = ("numbers", words) if kind == "numeric" else (words, "numbers")
            raise DataError(f"{name!r} holds {here} in {where} and {before} before it.")
    levels, moments = dict(first.levels), dict(first.moments)
    for name, found in second.levels.items():
        levels[name] = levels[name].with_more(found, where) if name in levels else found
    for name, of_more in second.moments.items():
        moments[name] = of_more.with_more(moments.get(name))
    names = dict.fromkeys([*first.missing, *second.missing])
    return Survey(
        first.n_rows + second.n_rows,
        first.n + second.n,
        {k: first.missing.get(k, 0) + second.missing.get(k, 0) for k in names},
        first.first_missing or second.first_missing,
        kinds,
        levels,
        moments,
        first.learnt.with_more(second.learnt, where),
    )


__all__ = ["Survey", "Wanted", "complete", "merged", "survey"]
