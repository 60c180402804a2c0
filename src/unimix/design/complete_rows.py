"""Preparation of columns for a design: weights and offsets, complete rows, levels in use, codings."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from unimix.design.row_labels import aligned
from unimix.design.typed_columns import Column, FactorColumn, NumericColumn, drop_unused, read_columns
from unimix.errors import DataError, OptionError, did_you_mean, listing
from unimix.formula.contrasts import Contrast, as_contrast
from unimix.formula.parser import quote

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
ColumnOrArray = str | npt.ArrayLike | None


def read_extra(value: ColumnOrArray, role: str, data: Any) -> tuple[NumericColumn | None, str | None]:
    """Read ``weights=`` or ``offset=`` as a column (given an array in the order of the data) or as a name."""
    if value is None or isinstance(value, str):
        return None, value
    value = aligned(value, data, role)
    try:
        column = read_columns({role: value}, [role])[role]
    except DataError as error:
        raise OptionError(f"{role}= takes the name of a column or an array of numbers. {error}") from error
    if not isinstance(column, NumericColumn):
        raise OptionError(
            f"{role}= takes the name of a column or an array of numbers, not of {listing(map(repr, column.levels), 3)}."
        )
    return column, None


def complete_rows(columns: list[tuple[str, Column]], n_rows: int, missing: str) -> tuple[IntArray, dict[str, int]]:
    """Indices of the rows without a missing value, shape (m,), and the number of missing values per column."""
    masks = [(k, c.missing) for k, c in columns]
    counts = {k: int(m.sum()) for k, m in masks if m.any()}
    if not counts:
        return np.arange(n_rows, dtype=np.int64), {}
    counted = ", ".join(f"{k} {v}" for k, v in counts.items())
    if missing == "raise":
        raise DataError(f"Missing values, and missing='raise': {counted}. Use missing='drop', or fill them.")
    complete = np.flatnonzero(~np.any([m for _, m in masks], axis=0)).astype(np.int64)
    if len(complete) == 0:
        raise DataError(f"Every one of the {n_rows} rows has a missing value: {counted}.")
    return complete, counts


def codings(
    contrasts: Mapping[str, object] | None, columns: Mapping[str, Column], made_factors: Container[str | None]
) -> dict[str, Contrast]:
    """Read the argument ``contrasts=`` as one contrast per factor.

    Args:
        contrasts: Codings by name of the column.
        columns: Columns by name.
        made_factors: Names of the columns that stand as ``C(x)`` in the formula.
    """
    if contrasts is not None and not isinstance(contrasts, Mapping):
        raise OptionError(
            f"contrasts= maps factors to codings, such as {{'f': 'sum'}}; it is a {type(contrasts).__name__}."
        )
    coding = {}
    for name, value in (contrasts or {}).items():
        if name not in columns:
            raise OptionError(f"contrasts names {name!r}, which the formula does not use.{did_you_mean(name, columns)}")
        if not isinstance(columns[name], FactorColumn) and name not in made_factors:
            raise OptionError(
                f"contrasts names {name!r}, which is numeric: write C({quote(name)}) in the formula, which makes it a "
                "factor."
            )
        coding[name] = as_contrast(value, name)
    return coding


def used_levels(columns: Mapping[str, Column], notes: list[str]) -> dict[str, Column]:
    """Drop the levels without rows, and add a note for each factor that had some."""
    trimmed: dict[str, Column] = {}
    for name, column in columns.items():
        if isinstance(column, FactorColumn):
            trimmed[name], unused = drop_unused(column)
            if unused:
                notes.append(f"Levels of {name} without rows left out: {listing(map(str, unused))}.")
        else:
            trimmed[name] = column
    return trimmed


def numeric_extra(role: str, named: Column | None, given: NumericColumn | None, name: str | None) -> FloatArray | None:
    """Values of weights or an offset, shape (n,)."""
    column = given or named
    if column is None:
        return None
    if not isinstance(column, NumericColumn):
        raise DataError(f"{role}={name!r} is categorical; it must be numeric.")
    return np.ascontiguousarray(column.values)


def dropped_note(n_rows: int, n_used: int, dropped: Mapping[str, int]) -> list[str]:
    """Note about dropped rows; an empty list if no row was dropped."""
    counts = ", ".join(f"{k} {v}" for k, v in dropped.items())
    return [f"{n_rows - n_used} of {n_rows} rows dropped for missing values ({counts})."] if n_used < n_rows else []
