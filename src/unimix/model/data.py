"""Any data frame to typed columns: numbers or factors, with missing values marked."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import narwhals as nw
import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.errors import DataError, did_you_mean, listing

Level = bool | int | float | str
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class NumericColumn:
    """Numbers, shape (n,); NaN is missing."""

    values: FloatArray

    @property
    def missing(self) -> BoolArray:
        """Which rows have no value, shape (n,)."""
        return np.isnan(self.values)

    def label(self, row: int) -> str:
        """The value of one row for a message."""
        return f"{self.values[row]:.6g}"

    def take(self, rows: npt.NDArray[Any]) -> NumericColumn:
        """The same column with these rows only."""
        return NumericColumn(self.values[rows])


@dataclass(frozen=True)
class FactorColumn:
    """A categorical column.

    Attributes:
        codes: Level index per row, shape (n,); -1 is missing.
        levels: Levels in order.
    """

    codes: IntArray
    levels: tuple[Level, ...]

    @property
    def missing(self) -> BoolArray:
        """Which rows have no value, shape (n,)."""
        return self.codes < 0

    def label(self, row: int) -> str:
        """The value of one row for a message."""
        return str(self.levels[self.codes[row]]) if self.codes[row] >= 0 else "missing"

    def take(self, rows: npt.NDArray[Any]) -> FactorColumn:
        """The same column with these rows only."""
        return FactorColumn(self.codes[rows], self.levels)


Column = NumericColumn | FactorColumn


def column_labels(data: Any) -> list[str]:
    """Names of all columns of a data frame or mapping, as text."""
    if isinstance(data, Mapping):
        return [str(k) for k in data]
    if isinstance(data, pd.DataFrame):
        if isinstance(data.columns, pd.MultiIndex):
            raise DataError("The data frame has several rows of column names; flatten them: data.columns = ['_'.join(c) ...].")
        return [str(c) for c in data.columns]
    return list(_narwhals(data).collect_schema().names())


def _narwhals(data: Any) -> Any:
    try:
        return nw.from_native(data)
    except TypeError:
        raise DataError(
            f"data is a {type(data).__name__}; give a pandas, polars or pyarrow table, anything else narwhals reads, "
            "or a dict of equally long arrays."
        ) from None


def read_columns(data: Any, names: Iterable[str]) -> dict[str, Column]:
    """Read the named columns; the data are not modified.

    Args:
        data: pandas, polars, pyarrow or another frame that narwhals reads, or a dict of arrays.
        names: Columns to read; each must exist exactly once.

    Raises:
        DataError: For absent, repeated or unusable columns (all of them in one message).
    """
    wanted = list(dict.fromkeys(names))
    labels = column_labels(data)
    faults = [f"{n!r} is not a column of the data.{did_you_mean(n, labels)}" for n in wanted if n not in labels]
    if faults:
        faults[-1] += f" Columns: {listing(labels)}."
    faults += [f"The data have {labels.count(n)} columns called {n!r}; rename them." for n in wanted if labels.count(n) > 1]
    if faults:
        raise DataError("\n".join(faults))
    columns: dict[str, Column] = {}
    for name, series in _series(data, wanted).items():
        try:
            columns[name] = _typed(series, name)
        except DataError as error:
            faults.append(str(error))
    if faults:
        raise DataError("\n".join(faults))
    return columns


def _series(data: Any, names: list[str]) -> dict[str, nw.Series[Any]]:
    if isinstance(data, Mapping):
        keys = {str(k): k for k in data}
        arrays = {n: data[keys[n]] for n in names}
        arrays = {n: a if hasattr(a, "__len__") and not isinstance(a, str) else list(np.atleast_1d(a)) for n, a in arrays.items()}
        lengths = {n: len(a) for n, a in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise DataError("The arrays differ in length: " + ", ".join(f"{n} has {k}" for n, k in lengths.items()) + ".")
        found = {}
        for name, array in arrays.items():
            if getattr(array, "ndim", 1) != 1:
                raise DataError(f"{name!r} has {array.ndim} dimensions; a column has one.")
            try:
                found[name] = nw.from_native(array, series_only=True)
            except TypeError:
                found[name] = nw.from_native(pd.Series(array), series_only=True)
        return found
    if isinstance(data, pd.DataFrame):
        keys = {str(k): k for k in data.columns}
        return {n: nw.from_native(data[keys[n]], series_only=True) for n in names}
    frame = _narwhals(data)
    if isinstance(frame, nw.LazyFrame):
        frame = frame.select(names).collect()
    return {n: frame[n] for n in names}


def _typed(series: nw.Series[Any], name: str) -> Column:
    dtype = series.dtype
    if dtype == nw.Boolean:
        return _from_objects(series.to_list(), name)
    if dtype.is_numeric():
        return NumericColumn(_numbers(series, name))
    if dtype == nw.String:
        return _from_strings(series)
    if dtype in (nw.Categorical, nw.Enum):
        return _from_categories(series, name)
    if dtype == nw.Object or dtype == nw.Unknown:
        return _from_objects(series.to_list(), name)
    raise DataError(f"Column {name!r} holds {dtype}; convert it to numbers (elapsed days, say) or to text first.")


def _numbers(series: nw.Series[Any], name: str) -> FloatArray:
    if series.dtype.is_decimal():
        series = series.cast(nw.Float64)
    values = series.to_numpy() if not series.null_count() else series.cast(nw.Float64).to_numpy()
    if values.dtype == object:
        values = np.array([np.nan if v is None or v is pd.NA else float(v) for v in values])
    if np.iscomplexobj(values):
        raise DataError(f"Column {name!r} holds complex numbers.")
    return np.array(values, dtype=np.float64)


def _from_strings(series: nw.Series[Any]) -> FactorColumn:
    native = series.to_native()
    objects = native if isinstance(native, pd.Series) else pd.Series(series.to_list(), dtype=object)
    raw, uniques = pd.factorize(objects, use_na_sentinel=True)
    labels = [str(u) for u in uniques]
    order = sorted(range(len(labels)), key=labels.__getitem__)
    position = np.empty(len(labels) + 1, dtype=np.int64)
    position[order] = np.arange(len(labels))
    position[-1] = -1
    return FactorColumn(position[raw], tuple(labels[i] for i in order))


def _from_categories(series: nw.Series[Any], name: str) -> FactorColumn:
    native = series.to_native()
    if isinstance(native, pd.Series):
        codes = np.asarray(native.cat.codes, dtype=np.int64)
        categories = native.cat.categories.tolist()
    else:
        categories = series.cat.get_categories().to_list()
        index = {c: i for i, c in enumerate(categories)}
        codes = np.array([-1 if v is None else index[v] for v in series.to_list()], dtype=np.int64)
    levels = tuple(_level(c) for c in categories)
    _distinct(levels, name)
    return FactorColumn(codes, levels)


def _level(value: Any) -> Level:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value == int(value) and abs(value) < 2**53:
        return int(value)
    return value if isinstance(value, bool | int | float | str) else str(value)


def _distinct(levels: tuple[Level, ...], name: str) -> None:
    texts = [str(level) for level in levels]
    if len(set(texts)) < len(texts):
        twice = sorted({t for t in texts if texts.count(t) > 1})
        raise DataError(f"Column {name!r} has different levels that read the same: {listing(twice)}; use one type of labels.")


def _from_objects(values: list[Any], name: str) -> Column:
    kinds: set[str] = set()
    for value in values:
        if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
            continue
        if isinstance(value, bool | np.bool_):
            kinds.add("bool")
        elif isinstance(value, int | float | np.integer | np.floating | decimal.Decimal):
            kinds.add("number")
        elif isinstance(value, str):
            kinds.add("text")
        elif isinstance(value, datetime.date | datetime.timedelta):
            kinds.add("date or time")
        else:
            kinds.add(type(value).__name__)
    blank = [v is None or v is pd.NA or v is pd.NaT or (isinstance(v, float) and np.isnan(v)) for v in values]
    if not kinds or kinds == {"number"}:
        return NumericColumn(np.array([np.nan if b else float(v) for v, b in zip(values, blank, strict=True)], dtype=np.float64))
    if kinds == {"bool"}:
        return FactorColumn(np.array([-1 if b else int(v) for v, b in zip(values, blank, strict=True)], dtype=np.int64), (False, True))
    if kinds == {"text"}:
        levels = tuple(sorted({str(v) for v, b in zip(values, blank, strict=True) if not b}))
        index: dict[str, int] = {str(level): i for i, level in enumerate(levels)}
        return FactorColumn(np.array([-1 if b else index[str(v)] for v, b in zip(values, blank, strict=True)], dtype=np.int64), levels)
    raise DataError(f"Column {name!r} mixes or holds {' and '.join(sorted(kinds))}; convert it to one of numbers, text, booleans.")


def factor_from_numbers(values: FloatArray, known: Iterable[Level] | None, name: str) -> tuple[IntArray, tuple[Level, ...]]:
    """Make a factor of numbers, levels in increasing order.

    Args:
        values: Numbers, shape (n,); NaN is missing.
        known: Levels to use instead of those found, or None.
        name: For messages.

    Raises:
        DataError: If a value is not among the known levels.
    """
    present, inverse = np.unique(values[~np.isnan(values)], return_inverse=True)
    levels = tuple(_level(float(v)) for v in present) if known is None else tuple(known)
    codes = np.full(len(values), -1, dtype=np.int64)
    if known is None:
        codes[~np.isnan(values)] = inverse
        return codes, levels
    index = {level: i for i, level in enumerate(levels)}
    strange = [v for v in (_level(float(v)) for v in present) if v not in index]
    if strange:
        raise DataError(f"{name} has levels that the fitted model does not know: {listing(map(str, strange))}.")
    table = np.array([index[_level(float(v))] for v in present], dtype=np.int64)
    codes[~np.isnan(values)] = table[inverse] if len(table) else inverse
    return codes, levels


def as_factor(column: Column, name: str) -> FactorColumn:
    """Use a column as a grouping factor: numbers become levels in increasing order."""
    if isinstance(column, FactorColumn):
        return column
    codes, levels = factor_from_numbers(column.values, None, name)
    return FactorColumn(codes, levels)


def drop_unused(column: FactorColumn) -> tuple[FactorColumn, tuple[Level, ...]]:
    """Drop levels without rows; return the column and the levels that were dropped."""
    counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.levels))
    if (counts > 0).all():
        return column, ()
    kept = np.flatnonzero(counts)
    position = np.full(len(column.levels) + 1, -1, dtype=np.int64)
    position[kept] = np.arange(len(kept))
    dropped = tuple(level for level, count in zip(column.levels, counts, strict=True) if not count)
    return FactorColumn(position[column.codes], tuple(column.levels[i] for i in kept)), dropped
