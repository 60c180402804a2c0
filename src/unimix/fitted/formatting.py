"""Numbers and frames for reading: one way to print a number, a column of numbers, and a table."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import pandas as pd

from unimix.display import TextTable

NOTHING = 1e-10
"""Size relative to the largest number of its kind below which a number is shown as zero."""
MISSING = "-"


def number(value: float, digits: int = 4) -> str:
    """Write a number for a table; not-a-number is an empty text."""
    if np.isnan(value):
        return ""
    if np.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    value = float(value) + 0.0  # no -0
    if value != 0 and (abs(value) >= 1e6 or abs(value) < 1e-4):
        return f"{value:.{digits - 1}e}"
    if 0 < abs(value) < 0.01:
        return f"{value:.{digits}g}"
    return f"{value:.{digits}f}" if abs(value) < 1000 else f"{value:.{max(0, digits - 2)}f}"


def decimals(value: float, places: int) -> str:
    """Write a number with this many decimals, never -0; not-a-number is an empty text."""
    if not np.isfinite(value):
        return number(value)
    text = f"{value:.{places}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def column(values: Iterable[float], digits: int = 4) -> list[str]:
    """Numbers of one table column, all with as many decimals as the smallest needs for ``digits`` significant digits.

    If the sizes differ too much for that, each number is formatted by itself.
    """
    numbers = [float(v) for v in values]
    sizes = [abs(v) for v in numbers if np.isfinite(v) and v != 0]
    if not sizes:
        return [number(v, digits) for v in numbers]
    usual = digits if max(sizes) < 1000 else max(0, digits - 2)
    places = max(usual, digits - 1 - math.floor(math.log10(min(sizes))))
    if places > digits + 3 or max(sizes) >= 1e6:
        return [number(v, digits) for v in numbers]
    return [decimals(v, places) for v in numbers]


def p_value(value: float) -> str:
    """A p value for a table."""
    return "" if np.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


def p_direction(value: float) -> str:
    """A probability of direction for a table."""
    return "" if np.isnan(value) else ">0.999" if value > 0.999 else f"{value:.3f}"


def p_phrase(p_value: float) -> str:
    """A p value in a sentence."""
    return "p < 0.001" if p_value < 0.001 else f"p {p_value:.2g}"


def without_noise(table: pd.DataFrame, size: pd.Series | None = None) -> pd.DataFrame:
    """The table with 0 in place of numbers that differ from zero only by rounding.

    Args:
        table: The table to show.
        size: Size of each row that is compared with ``NOTHING``; None compares the numbers themselves.
    """
    shown = table.copy()
    for name in shown.select_dtypes("number"):
        error = shown[name] if size is None else size
        shown[name] = shown[name].mask(error.abs() < NOTHING, 0.0)
    return shown


def text_table(table: pd.DataFrame, *, labels: Collection[str] = (), indent: int = 0) -> TextTable:
    """A data frame as a text table, each numeric column with the decimals it needs.

    Args:
        table: The data frame. An index that only numbers the rows is left out.
        labels: Columns that name the rows; numbers in them are printed as they are.
        indent: Number of blanks before each line.
    """
    heads: list[str] = []
    columns: list[list[str]] = []
    align = ""
    counted = isinstance(table.index, pd.RangeIndex) and table.index.name is None
    for level in range(0 if counted else table.index.nlevels):
        names = table.index.get_level_values(level)
        heads.append("" if names.name is None else str(names.name))
        columns.append(_labelled(names))
        align += "l"
    stub = len(columns)
    for outer in reversed(range(stub - 1)):  # a repeated outer level of the index is printed once
        keys = list(zip(*columns[: outer + 1], strict=True))
        columns[outer] = [k[-1] if i == 0 or k != keys[i - 1] else "" for i, k in enumerate(keys)]
    for name, values in zip(table.columns, (table.iloc[:, j] for j in range(table.shape[1])), strict=True):
        numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        heads.append(" ".join(map(str, name)) if isinstance(name, tuple) else str(name))
        columns.append(_numbers(heads[-1], values) if numeric and name not in labels else _labelled(values))
        align += "r" if numeric else "l"
    rows = tuple(zip(*columns, strict=True)) if columns else ()
    return TextTable(tuple(heads), rows, align, stub, indent)


def _labelled(values: Iterable[Any]) -> list[str]:
    """Labels as text; numbers among them without needless decimals."""
    return ["" if _is_missing(v) else f"{v:.10g}" if isinstance(v, float) else str(v) for v in values]


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def _numbers(name: str, values: pd.Series[Any]) -> list[str]:
    if pd.api.types.is_integer_dtype(values):
        return [MISSING if _is_missing(v) else str(v) for v in values]
    numbers = [float(v) for v in values]
    if name == "p_direction":
        texts = [p_direction(v) for v in numbers]
    elif name == "p_value" or name.startswith("p_"):
        texts = [p_value(v) for v in numbers]
    elif _are_whole(numbers):
        texts = [decimals(v, 0) for v in numbers]
    elif name == "df" or name.endswith("_df"):
        texts = [decimals(v, 1) for v in numbers]
    elif name in ("statistic", "F", "chisq"):
        texts = [decimals(v, 2) for v in numbers]
    else:
        texts = column(numbers)
    return [text or MISSING for text in texts]


def _are_whole(numbers: list[float]) -> bool:
    known = [v for v in numbers if np.isfinite(v)]
    return all(v == round(v) and abs(v) < 1e6 for v in known)
