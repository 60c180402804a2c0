"""Digests of data and arguments, by which a stored fit is recognised."""

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
    """Digest of the content of a data set: names, types, values and row labels.

    Raises:
        DataError: If the argument is not a table of data.
    """
    frame = to_pandas(data)
    digest = hashlib.sha256()
    for name, column in [("", frame.index.to_frame(index=False)), *((str(k), frame[[k]]) for k in frame.columns)]:
        digest.update(repr((name, [_kind(column.iloc[:, j]) for j in range(column.shape[1])])).encode())
        digest.update(_values(column))
    return digest.hexdigest()[:32]


def _kind(column: pd.Series[Any]) -> str:
    if isinstance(column.dtype, pd.CategoricalDtype):  # the text of the type would cut long lists of levels
        return f"category {list(column.dtype.categories)!r} {column.dtype.ordered}"
    if is_object_dtype(column.dtype):  # equal numbers, texts and booleans have equal hashes
        return f"object {sorted({type(v).__qualname__ for v in column})}"
    return str(column.dtype)


def _values(column: pd.DataFrame) -> bytes:
    if any(map(is_object_dtype, column.dtypes)):
        return repr(column.to_numpy().tolist()).encode()
    try:
        return pd.util.hash_pandas_object(column, index=False).to_numpy().tobytes()
    except TypeError:  # some objects have no hash
        return repr(column.to_numpy().tolist()).encode()


def digest_value(value: object) -> str:
    """Digest of an argument.

    Raises:
        OptionError: If the argument has no content that is the same in another session.
    """
    return hashlib.sha256(json.dumps(_plain(value), sort_keys=True).encode()).hexdigest()[:32]


def _plain(value: object) -> Any:
    """A value in a form that JSON can write, with its type where that matters."""
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
        raise OptionError(f"{value!r} has no content by which a file could recognise it: leave path= out.")
    return [type(value).__qualname__, repr(value)]


__all__ = ["digest_data", "digest_value"]
