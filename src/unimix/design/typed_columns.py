"""Conversion of a data frame to typed columns, numbers or factors, with missing values marked."""

from __future__ import annotations

import datetime as dt
import decimal
import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import narwhals as nw
import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.design.aliasing import row_blocks
from unimix.design.dates import date_levels
from unimix.design.frames import column_labels, index_hint, n_rows, read_series
from unimix.errors import DataError, did_you_mean, listing

if TYPE_CHECKING:
    from collections.abc import Iterable

Level = bool | int | float | str
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


# From 2^53 on, neighbouring whole numbers are the same float.
EXACT = 2**53


@dataclass(frozen=True)
class NumericColumn:
    """A numeric column.

    Attributes:
        values: Numbers, shape (n,); NaN for missing values.
        whole: Exact integers, shape (n,), if floats would merge them (long identifiers), otherwise None; entries of
            missing rows are arbitrary.
    """

    values: FloatArray
    whole: npt.NDArray[Any] | None = None

    @property
    def missing(self) -> BoolArray:
        """Mask of the rows without a value, shape (n,)."""
        return np.isnan(self.values)

    def label(self, row: int) -> str:
        """Value of one row as text, for messages."""
        return f"{self.values[row]:.6g}"

    def take(self, rows: npt.NDArray[Any]) -> NumericColumn:
        """The column with the given rows only."""
        return NumericColumn(self.values[rows], None if self.whole is None else self.whole[rows])


@dataclass(frozen=True)
class FactorColumn:
    """A categorical column.

    Attributes:
        codes: Level index per row, shape (n,); -1 for missing values.
        levels: Levels in order.
        origin: ``text`` or ``dates`` if the user's column held these rather than a categorical type.
        ordered: Whether the user's column is categorical and declares that its levels have an order.
    """

    codes: IntArray
    levels: tuple[Level, ...]
    origin: Literal["", "text", "dates"] = ""
    ordered: bool = False

    @property
    def missing(self) -> BoolArray:
        """Mask of the rows without a value, shape (n,)."""
        return self.codes < 0

    def label(self, row: int) -> str:
        """Value of one row as text, for messages."""
        return str(self.levels[self.codes[row]]) if self.codes[row] >= 0 else "missing"

    def take(self, rows: npt.NDArray[Any]) -> FactorColumn:
        """The column with the given rows only."""
        return replace(self, codes=self.codes[rows])


Column = NumericColumn | FactorColumn


def read_columns(data: Any, names: Iterable[str]) -> dict[str, Column]:
    """Read the named columns without modifying the data.

    Args:
        data: pandas, polars, pyarrow or another frame that narwhals reads, or a dict of arrays.
        names: Columns to read; each must exist exactly once.

    Raises:
        DataError: If columns are absent, repeated or unusable; one message lists all of them.
    """
    wanted = list(dict.fromkeys(names))
    labels = column_labels(data)
    faults = [
        f"{n!r} is not a column of the data.{index_hint(data, [n]) or did_you_mean(n, labels)}"
        for n in wanted
        if n not in labels
    ]
    if faults:
        faults[-1] += f" Columns: {listing(labels)}."
    faults += [
        f"The data have {labels.count(n)} columns called {n!r}; rename them." for n in wanted if labels.count(n) > 1
    ]
    if faults:
        raise DataError("\n".join(faults))
    columns: dict[str, Column] = {}
    for name, series in read_series(data, wanted).items():
        try:
            with np.errstate(all="ignore"):
                columns[name] = _typed(series, name)
            column = columns[name]
            require_text(name, [name, *(column.levels if isinstance(column, FactorColumn) else ())])
        except DataError as error:
            faults.append(str(error))
    if faults:
        raise DataError("\n".join(faults))
    return columns


def require_text(name: str, values: Iterable[object]) -> None:
    """Refuse text with half a character, which no table, file or engine can hold.

    Args:
        name: Name of the column.
        values: Name, levels or new values of the column; values that are not text are ignored.

    Raises:
        DataError: If a text cannot be encoded.
    """
    try:
        "".join(value for value in values if isinstance(value, str)).encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"Column {name!r} holds text with half a character ({error.object[error.start]!r}), as after reading a "
            "file with another encoding than its own: read it again, such as pd.read_csv(path, encoding='latin-1')."
        ) from None


def _typed(series: nw.Series[Any], name: str) -> Column:
    dtype = series.dtype
    if dtype == nw.Boolean:
        return _from_booleans(series)
    if dtype.is_numeric():
        return _numbers(series, name)
    if dtype == nw.String:
        return _from_strings(series)
    if dtype in (nw.Categorical, nw.Enum):
        return _from_categories(series, name)
    if dtype in (nw.Object, nw.Unknown):
        return _from_objects(series.to_list(), name)
    if dtype in (nw.Date, nw.Datetime):
        native = series.to_native()
        return FactorColumn(*date_levels(native if isinstance(native, pd.Series) else series.to_list(), name), "dates")
    if dtype == nw.Duration:
        raise DataError(
            f"Column {name!r} holds durations; make them numbers: data[{name!r}] = data[{name!r}].dt.total_seconds()."
        )
    raise DataError(f"Column {name!r} holds {dtype}; convert it to numbers (elapsed days, say) or to text first.")


def _numbers(series: nw.Series[Any], name: str) -> NumericColumn:
    if series.dtype.is_decimal():
        return _from_numbers(series.to_list(), name)
    if series.dtype.is_integer():
        bounds = (series.min(), series.max()) if len(series) > series.null_count() else ()
        if any(abs(int(v)) >= EXACT for v in bounds):
            return _from_numbers(series.to_list(), name)
    values = series.to_numpy() if not series.null_count() else series.cast(nw.Float64).to_numpy()
    if values.dtype == object:
        return _from_numbers(series.to_list(), name)
    return NumericColumn(np.array(values, dtype=np.float64))


def _from_numbers(values: list[Any], name: str) -> NumericColumn:
    """Column of Python numbers; whole numbers that floats would merge are also kept as exact integers."""
    blank = [_is_missing(v) for v in values]
    try:
        floats = np.array([np.nan if b else float(v) for v, b in zip(values, blank, strict=True)], dtype=np.float64)
    except OverflowError:
        raise DataError(f"Column {name!r} holds a number beyond the range of floats; divide it first.") from None
    if not (np.abs(floats) >= EXACT).any() or np.isinf(floats).any():
        return NumericColumn(floats)
    if any(isinstance(v, float) for v, b in zip(values, blank, strict=True) if not b):
        return NumericColumn(floats)
    whole = np.array([0 if b else int(v) for v, b in zip(values, blank, strict=True)], dtype=object)
    if any(w != v for w, v, b in zip(whole, values, blank, strict=True) if not b):
        return NumericColumn(floats)
    small = all(-(2**63) <= w < 2**63 for w in whole)
    return NumericColumn(floats, whole.astype(np.int64) if small else whole)


def _from_booleans(series: nw.Series[Any]) -> FactorColumn:
    if not series.null_count():
        return FactorColumn(np.array(series.to_numpy(), dtype=np.int64), (False, True))
    codes = [-1 if _is_missing(v) else int(v) for v in series.to_list()]
    return FactorColumn(np.array(codes, dtype=np.int64), (False, True))


def _from_strings(series: nw.Series[Any]) -> FactorColumn:
    native = series.to_native()
    objects = native if isinstance(native, pd.Series) else pd.Series(series.to_list(), dtype=object)
    raw, uniques = pd.factorize(objects, use_na_sentinel=True)
    return _sorted_factor(raw, [str(u) for u in uniques])


def _sorted_factor(codes: npt.NDArray[Any], labels: list[str]) -> FactorColumn:
    """Sort the levels by code point and renumber the codes."""
    order = sorted(range(len(labels)), key=labels.__getitem__)
    position = np.empty(len(labels) + 1, dtype=np.int64)
    position[order] = np.arange(len(labels))
    position[-1] = -1
    return FactorColumn(position[codes], tuple(labels[i] for i in order), "text")


def _from_categories(series: nw.Series[Any], name: str) -> FactorColumn:
    native: Any = series.to_native()
    ordered = isinstance(series.dtype, nw.Enum)
    if isinstance(native, pd.Series):
        codes, categories = np.array(native.cat.codes, dtype=np.int64), native.cat.categories.tolist()
        ordered = bool(native.cat.ordered)
    elif isinstance(series.dtype, nw.Enum) and not hasattr(native, "unify_dictionaries"):
        categories = list(series.dtype.categories)
        index = {c: i for i, c in enumerate(categories)}
        codes = np.array([-1 if v is None else index[v] for v in series.to_list()], dtype=np.int64)
    elif hasattr(native, "unify_dictionaries"):
        codes, categories = _from_dictionary(native)
        ordered = bool(native.type.ordered)
    else:
        # polars keeps one pool of categories per process, so that their order depends only on what was read before
        return replace(_from_strings(series.cast(nw.String)), origin="")
    levels = tuple(_level(c) for c in categories)
    _distinct(levels, name)
    return FactorColumn(codes, levels, ordered=ordered)


def _from_dictionary(native: Any) -> tuple[IntArray, list[Any]]:
    """Codes and categories of a pyarrow dictionary column."""
    chunks = native.unify_dictionaries().chunks
    categories = chunks[0].dictionary.to_pylist() if chunks else []
    indices = [c.indices.fill_null(-1).to_numpy(zero_copy_only=False) for c in chunks]
    codes = np.concatenate([np.empty(0, dtype=np.int64), *indices]).astype(np.int64)
    if None in categories:
        codes[codes == categories.index(None)] = -1
        categories = ["" if c is None else c for c in categories]
    return codes, categories


def _level(value: Any) -> Level:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return int(value) if value.is_integer() and abs(value) < EXACT else value
    if isinstance(value, str):
        return str(value)
    return value if isinstance(value, bool | int) else str(value)


def _distinct(levels: tuple[Level, ...], name: str) -> None:
    counts = Counter(str(level) for level in levels)
    if len(counts) < len(levels):
        twice = sorted(text for text, count in counts.items() if count > 1)
        raise DataError(
            f"Column {name!r} has different levels that read the same: {listing(twice)}; use one type of labels."
        )


def _is_missing(value: Any) -> bool:
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    if isinstance(value, float | np.floating):
        return bool(np.isnan(value))
    return isinstance(value, decimal.Decimal) and value.is_nan()


_KINDS: tuple[tuple[Any, str], ...] = (
    ((bool, np.bool_), "booleans"),
    ((int, float, np.integer, np.floating, decimal.Decimal), "numbers"),
    (str, "text"),
    ((dt.date, np.datetime64), "dates"),
    ((dt.time, dt.timedelta, np.timedelta64), "times or durations"),
    ((complex, np.complexfloating), "complex numbers"),
)


def _kind(value: type) -> str:
    return next((word for types, word in _KINDS if issubclass(value, types)), value.__name__)


def _from_objects(values: list[Any], name: str) -> Column:
    types: dict[type, bool] = dict.fromkeys(map(type, values), True)
    kinds = {_kind(t) for t in types if t not in (type(None), type(pd.NA), type(pd.NaT))}
    if len(kinds) > 1 and any(issubclass(t, float | np.floating) for t in types):  # NaN among text is a missing value
        kinds = {_kind(type(v)) for v in values if not _is_missing(v)}
    if not kinds or kinds == {"numbers"}:
        return _from_numbers(values, name)
    if kinds == {"booleans"}:
        return FactorColumn(np.array([-1 if _is_missing(v) else int(v) for v in values], dtype=np.int64), (False, True))
    if kinds == {"text"}:
        texts = np.array([None if _is_missing(v) else str(v) for v in values], dtype=object)
        codes, uniques = pd.factorize(texts, use_na_sentinel=True)
        return _sorted_factor(codes, list(uniques))
    if kinds == {"dates"}:
        return FactorColumn(*date_levels(values, name), "dates")
    kinds_text = " and ".join(sorted(kinds))
    raise DataError(
        f"Column {name!r} {'mixes' if len(kinds) > 1 else 'holds'} {kinds_text}; "
        "convert it to one of numbers, text, booleans."
    )


def factor_from_numbers(
    values: FloatArray, known: Iterable[Level] | None, name: str
) -> tuple[IntArray, tuple[Level, ...]]:
    """Make a factor of numbers, with levels in increasing order.

    Args:
        values: Numbers, shape (n,); NaN for missing values.
        known: Levels to use instead of the values that occur, or None.
        name: Name of the column, for messages.

    Raises:
        DataError: If a value is not among the known levels.
    """
    codes, present = _factorized(values)
    if known is None:
        return codes, tuple(_level(v) for v in present.tolist())
    levels = tuple(known)
    index = {level: i for i, level in enumerate(levels)}
    strange = [v for v in (_level(float(v)) for v in present) if v not in index]
    if strange:
        raise DataError(f"{name} has levels that the fitted model does not know: {listing(map(str, strange))}.")
    table = np.array([*(index[_level(float(v))] for v in present), -1], dtype=np.int64)
    return table[codes], levels


def _factorized(values: FloatArray) -> tuple[IntArray, FloatArray]:
    """Index of each number among the distinct values, shape (n,), -1 for NaN; and the distinct values in order."""
    parts = [values[part] for part in row_blocks(len(values), 1)]
    present = np.unique(np.concatenate([np.unique(part) for part in parts])) if parts else values[:0]
    present = present[: len(present) - int(np.isnan(present).sum())]  # NaN is sorted to the end
    codes = np.empty(len(values), dtype=np.int64)
    for part in row_blocks(len(values), 1):
        uniques, inverse = np.unique(values[part], return_inverse=True)
        codes[part] = np.where(np.isnan(uniques), -1, np.searchsorted(present, uniques))[inverse]
    return codes, present


def as_numbers(column: Column) -> FloatArray:
    """Values of a numeric column, codes of a factor, shape (n,)."""
    return column.values if isinstance(column, NumericColumn) else column.codes.astype(np.float64)  # noqa: PD011  (no pandas object)


def as_exact(column: NumericColumn) -> npt.NDArray[Any]:
    """Values of a numeric column, shape (n,); whole numbers are exact."""
    return column.values if column.whole is None else column.whole  # noqa: PD011  (no pandas object)


def as_factor(column: Column, name: str) -> FactorColumn:
    """Convert a column to a grouping factor; numbers become levels in increasing order."""
    if isinstance(column, FactorColumn):
        return column
    if column.whole is not None:
        present = ~column.missing
        levels, inverse = np.unique(column.whole[present], return_inverse=True)
        exact = np.full(len(column.values), -1, dtype=np.int64)
        exact[present] = inverse
        return FactorColumn(exact, tuple(int(v) for v in levels))
    codes, labels = factor_from_numbers(column.values, None, name)
    return FactorColumn(codes, labels)


def drop_unused(column: FactorColumn) -> tuple[FactorColumn, tuple[Level, ...]]:
    """Drop levels without rows; return the column and the levels that were dropped."""
    counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.levels))
    if (counts > 0).all():
        return column, ()
    kept = np.flatnonzero(counts)
    position = np.full(len(column.levels) + 1, -1, dtype=np.int64)
    position[kept] = np.arange(len(kept))
    dropped = tuple(level for level, count in zip(column.levels, counts, strict=True) if not count)
    levels = tuple(column.levels[i] for i in kept)
    return replace(column, codes=position[column.codes], levels=levels), dropped


__all__ = [
    "Column",
    "FactorColumn",
    "Level",
    "NumericColumn",
    "as_factor",
    "column_labels",
    "drop_unused",
    "factor_from_numbers",
    "n_rows",
    "read_columns",
]
