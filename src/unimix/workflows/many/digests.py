"""Digests of data and arguments: what makes a fit the same fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_object_dtype
from pydantic import BaseModel

from unimix.design.frames import to_pandas
from unimix.errors import OptionError


def digest_data(data: Any) -> str:
    """Digest of a data set's content: names, types, values and row labels.

    Raises:
        DataError: If it is no data.
    """
    frame = to_pandas(data)
    digest = hashlib.sha256()
    for name, column in [("", frame.index.to_frame(index=False)), *((str(k), frame[[k]]) for k in frame.columns)]:
        digest.update(repr((name, [_kind(column.iloc[:, j]) for j in range(column.shape[1])])).encode())
        digest.update(_values(column))
    return digest.hexdigest()[:32]


def _kind(column: pd.Series[Any]) -> str:
    if isinstance(column.dtype, pd.CategoricalDtype):  # its text cuts long lists of levels
        return f"category {list(column.dtype.categories)!r} {column.dtype.ordered}"
    if is_object_dtype(column.dtype):  # numbers, texts and booleans have equal hashes there
        return f"object {sorted({type(v).__qualname__ for v in column})}"
    return str(column.dtype)


def _values(column: pd.DataFrame) -> bytes:
    if any(map(is_object_dtype, column.dtypes)):
        return repr(column.to_numpy().tolist()).encode()
    try:
        return pd.util.hash_pandas_object(column, index=False).to_numpy().tobytes()
    except TypeError:  # objects that have no hash
        return repr(column.to_numpy().tolist()).encode()


def digest_value(value: object) -> str:
    """Digest of an argument.

    Raises:
        OptionError: If two of them cannot be told apart from one session to the next.
    """
    return hashlib.sha256(json.dumps(_plain(value), sort_keys=True).encode()).hexdigest()[:32]


def _plain(value: object) -> Any:
    """A value as JSON can write it, its type included where that matters."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, BaseModel):
        return [type(value).__qualname__, value.model_dump_json()]
    if is_dataclass(value) and not isinstance(value, type):
        return [type(value).__qualname__, {f.name: _plain(getattr(value, f.name)) for f in fields(value)}]
    if isinstance(value, pd.DataFrame):
        return ["frame", digest_data(value)]
    if isinstance(value, pd.Series):
        return ["series", digest_data(value.to_frame())]
    if isinstance(value, np.ndarray):
        flat = value.tolist() if value.dtype.hasobject else hashlib.sha256(value.tobytes()).hexdigest()
        return ["array", str(value.dtype), list(value.shape), _plain(flat)]
    if isinstance(value, Mapping):
        return ["map", [[_plain(k), _plain(v)] for k, v in value.items()]]  # the order of contrasts is that of columns
    if isinstance(value, Sequence):
        return [_plain(v) for v in value]
    if hasattr(value, "to_numpy"):
        return _plain(np.asarray(value.to_numpy()))
    if " at 0x" in repr(value):
        raise OptionError(f"{value!r} has no content by which a file could know it again: leave path= out.")
    return [type(value).__qualname__, repr(value)]


__all__ = ["digest_data", "digest_value"]
