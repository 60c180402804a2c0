"""Values that are given to a check: the name of a column of the formula, or one value per row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from unimix.design.arrays import Design
from unimix.design.typed_columns import NumericColumn
from unimix.errors import OptionError, did_you_mean, listing


def row_values(design: Design, given: Any, argument: str) -> pd.Series:
    """One value per fitted row, shape (n,); the series has the name of the column.

    Args:
        design: The rows that were fitted.
        given: Name of a column or grouping factor of the formula, or one value per row of the data.
        argument: Name of the argument, for messages.

    Raises:
        OptionError: If there is no such column, or the number of values is not that of the rows, or one is missing.
    """
    if isinstance(given, str):
        return _column(design, given, argument)
    if not isinstance(given, Sequence | np.ndarray | pd.Series | pd.Index | pd.Categorical):
        raise OptionError(
            f"{argument}={type(given).__name__}: name a column of the formula, or give one value per row."
        )
    values = pd.Series(given, copy=True).reset_index(drop=True)
    if len(values) == design.n_rows:
        values = values.iloc[design.rows].reset_index(drop=True)
    elif len(values) != design.n:
        rows = f"{design.n_rows}" if design.n == design.n_rows else f"{design.n_rows} (or {design.n} that were used)"
        raise OptionError(f"{argument}= has {len(values)} values, and the data have {rows} rows.")
    if values.isna().any():
        raise OptionError(f"{argument}= is missing in {int(values.isna().sum())} of the rows that were fitted.")
    return values.rename(str(getattr(given, "name", None) or argument))


def numbers(design: Design, given: Any, argument: str) -> pd.Series:
    """One number per fitted row, shape (n,); dates are counted in days.

    Raises:
        OptionError: If the values are not numbers.
    """
    values = row_values(design, given, argument)
    if pd.api.types.is_datetime64_any_dtype(values):
        values = (values - values.min()) / pd.Timedelta(days=1)
    if not pd.api.types.is_numeric_dtype(values) or not np.isfinite(values).all():
        raise OptionError(f"{argument}={values.name!r} must hold finite numbers, or dates.")
    return values.astype(float)


def _column(design: Design, name: str, argument: str) -> pd.Series:
    groups = {b.group: b for b in design.blocks}
    if name in groups and name not in design.columns:
        block = groups[name]
        return pd.Series([str(block.levels[c]) for c in block.codes], name=name)
    if name not in design.columns:
        known = list(dict.fromkeys([*design.columns, *groups]))
        raise OptionError(
            f"{argument}={name!r} is not a column of the formula.{did_you_mean(name, known)} Known: "
            f"{listing(known) or 'none'}. Any other column is given as {argument}=data[{name!r}]."
        )
    column = design.columns[name]
    if isinstance(column, NumericColumn):
        return pd.Series(column.values, name=name)
    return pd.Series([str(column.levels[c]) for c in column.codes], name=name)


__all__ = ["numbers", "row_values"]
