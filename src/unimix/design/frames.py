"""Reading of tables as named series: pandas, polars, pyarrow, any frame that narwhals reads, and dicts of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from unimix.errors import DataError, listing


def column_labels(data: Any) -> list[str]:
    """Names of all columns of a data frame or mapping, as text."""
    if isinstance(data, Mapping):
        return [str(k) for k in data]
    if isinstance(data, pd.DataFrame):
        if isinstance(data.columns, pd.MultiIndex):
            raise DataError(
                "The data frame has several rows of column names; flatten them: data.columns = ['_'.join(c) ...]."
            )
        return [str(c) for c in data.columns]
    return list(_narwhals(data).collect_schema().names())


def index_hint(data: Any, names: Sequence[str]) -> str:
    """The line to type if names that are not columns are levels of a pandas frame's index; else empty."""
    levels = [n for n in getattr(getattr(data, "index", None), "names", []) if n is not None]
    in_index = [n for n in names if n in map(str, levels)]
    return f" The index of the data has {listing(in_index)}: data.reset_index() makes it columns." if in_index else ""


def _narwhals(data: Any) -> Any:
    try:
        return nw.from_native(data)
    except TypeError:
        raise DataError(
            f"data is a {type(data).__name__}; give a pandas, polars or pyarrow table, anything else narwhals reads, "
            "or a dict of equally long arrays."
        ) from None


def n_rows(data: Any) -> int:
    """Number of rows of data in any supported form."""
    if isinstance(data, Mapping):
        return len(_one_dimensional(next(iter(data.values())), str(next(iter(data))))) if data else 0
    frame = nw.from_native(data) if isinstance(data, pd.DataFrame) else _narwhals(data)
    return int(frame.select(nw.len()).collect().item() if isinstance(frame, nw.LazyFrame) else len(frame))


def one_row(data: Any) -> Any:
    """Convert a dict of single values to one row; return any other data unchanged."""
    if not isinstance(data, Mapping) or not data or not all(np.isscalar(v) or v is None for v in data.values()):
        return data
    return {k: [v] for k, v in data.items()}


def to_pandas(data: Any) -> pd.DataFrame:
    """Convert data in any supported form to a new pandas frame; the index of a pandas frame is kept."""
    if isinstance(data, pd.DataFrame):
        return data.copy()
    if isinstance(data, Mapping):
        names = [str(k) for k in data]
        return pd.DataFrame({n: s.to_pandas().reset_index(drop=True) for n, s in read_series(data, names).items()})
    frame = _narwhals(data)
    collected = frame.collect() if isinstance(frame, nw.LazyFrame) else frame
    return pd.DataFrame(collected.to_pandas())


def read_series(data: Any, names: list[str]) -> dict[str, nw.Series[Any]]:
    """Read the named columns, each of which must exist exactly once."""
    if isinstance(data, Mapping):
        keys = {str(k): k for k in data}
        arrays = {n: _one_dimensional(data[keys[n]], n) for n in names}
        lengths = {n: len(a) for n, a in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(
                "The arrays differ in length: " + ", ".join(f"{n} has {k}" for n, k in lengths.items()) + "."
            )
        return {n: _from_array(a) for n, a in arrays.items()}
    if isinstance(data, pd.DataFrame):
        places = {str(c): i for i, c in enumerate(data.columns)}
        return {n: nw.from_native(data.iloc[:, places[n]], series_only=True) for n in names}
    frame = _narwhals(data)
    if isinstance(frame, nw.LazyFrame):
        frame = frame.select(names).collect()
    return {n: frame[n] for n in names}


def _one_dimensional(array: Any, name: str) -> Any:
    if isinstance(array, str | bytes | Mapping | Set) or not hasattr(array, "__len__"):
        shown = f"; type [{array!r}]" if isinstance(array, str | int | float) and len(repr(array)) < 40 else ""
        raise DataError(f"{name!r} is a {type(array).__name__} and not an array or a list of values{shown}.")
    dimensions = getattr(array, "ndim", 1)
    if dimensions != 1:
        raise DataError(f"{name!r} has {dimensions} dimensions; a column has one.")
    return list(array) if isinstance(array, list | tuple | range) else array


def _from_array(array: Any) -> nw.Series[Any]:
    if isinstance(array, np.ndarray):
        native = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
        kinds = "biufOUT"
        return nw.from_native(pd.Series(native if array.dtype.kind in kinds else list(array)), series_only=True)
    if isinstance(array, pd.api.extensions.ExtensionArray | pd.Index):
        return nw.from_native(pd.Series(array), series_only=True)
    try:
        return nw.from_native(array, series_only=True)
    except TypeError:
        if hasattr(array, "dictionary_encode"):  # a pyarrow array without chunks
            import pyarrow as pa

            return nw.from_native(pa.chunked_array([array]), series_only=True)
        values = list(array)
        return nw.from_native(pd.Series(values, dtype=object), series_only=True)
