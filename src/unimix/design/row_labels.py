"""Row labels: the index of a pandas frame that is kept with the result, and the alignment of pandas Series."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, model_validator

from unimix.design.encoding import JsonLevel
from unimix.errors import DataError, listing

IntArray = npt.NDArray[np.int64]


class RowLabels(BaseModel):
    """Index of the rows used, as plain values.

    Attributes:
        names: Name of each level of the index.
        dtypes: Type of each level, as pandas writes it.
        values: One tuple of n labels per level; labels that JSON cannot hold (dates, for instance) are text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: tuple[str | None, ...]
    dtypes: tuple[str, ...]
    values: tuple[tuple[JsonLevel | None, ...], ...]

    @model_validator(mode="after")
    def _levels(self) -> Self:
        if not len(self.names) == len(self.dtypes) == len(self.values) >= 1:
            raise ValueError("each level of the index has a name, a type and labels")
        if len({len(labels) for labels in self.values}) > 1:
            raise ValueError("each level of the index has as many labels as there are rows")
        return self

    def index(self) -> pd.Index[Any]:
        """Rebuild the pandas index."""
        levels = [_level(v, d, n) for v, d, n in zip(self.values, self.dtypes, self.names, strict=True)]
        return levels[0] if len(levels) == 1 else pd.MultiIndex.from_arrays(levels, names=list(self.names))


def row_labels(data: Any, rows: IntArray) -> RowLabels | None:
    """Labels of the rows used; None if the data are not pandas or the labels are just 0, 1, 2 ...

    Args:
        data: Data as given by the user.
        rows: Positions of the rows used, shape (n,).
    """
    if not isinstance(data, pd.DataFrame) or data.index.equals(pd.RangeIndex(len(data))):
        return None
    index = data.index[rows]
    levels: list[pd.Index[Any]] = (
        [index.get_level_values(i) for i in range(index.nlevels)] if isinstance(index, pd.MultiIndex) else [index]
    )
    return RowLabels.model_construct(
        names=tuple(None if level.name is None else str(level.name) for level in levels),
        dtypes=tuple(str(level.dtype) for level in levels),
        values=tuple(tuple(_plain(v) for v in level.tolist()) for level in levels),
    )


def _plain(value: Any) -> JsonLevel | None:
    if value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and not np.isfinite(value)):
        return None
    if isinstance(value, bool | int | float | str):
        return value
    return str(value.isoformat() if isinstance(value, pd.Timestamp) else value)


def _level(values: tuple[JsonLevel | None, ...], dtype: str, name: str | None) -> pd.Index[Any]:
    index = pd.Index(list(values), dtype=object, name=name)
    try:
        if dtype.startswith("datetime64"):
            return pd.DatetimeIndex(pd.to_datetime(index, format="ISO8601", utc="," in dtype)).astype(dtype)
        return index.astype(dtype)
    except (TypeError, ValueError, OverflowError):
        return index


def aligned(values: Any, data: Any, role: str) -> Any:
    """Put values into the order of the rows of the data if both have pandas labels.

    Args:
        values: Argument ``weights=`` or ``offset=`` as given by the user.
        data: Data as given by the user.
        role: Name of the argument, ``weights`` or ``offset``.

    Raises:
        DataError: If the labels do not match those of the data.
    """
    if not isinstance(values, pd.Series) or not isinstance(data, pd.DataFrame) or values.index.equals(data.index):
        return values
    there, here = values.index, data.index
    if len(there) == len(here) and there.is_unique and here.is_unique and not len(here.difference(there)):
        return values.reindex(here)
    absent = here[~here.isin(there)]
    if len(absent):
        why = f"it has no value for {len(absent)} of the {len(here)} rows (labels {_some(absent)})"
    elif not (there.is_unique and here.is_unique):
        why = "labels occur more than once, in another order"
    else:
        why = f"it has {len(there)} values for {len(here)} rows"
    cut = f" or {role}=values.loc[data.index]" if not len(absent) and there.is_unique else ""
    raise DataError(
        f"{role}= is a pandas Series whose index is not that of the data: {why}, so it is not clear which value "
        f"belongs to which row. Make it a column of the data and type {role}='column'{cut}; {role}=values.to_numpy() "
        "takes the values by position."
    )


def _some(labels: pd.Index[Any]) -> str:
    return listing([str(v) for v in labels[:3].tolist()]) + (" ..." if len(labels) > 3 else "")


__all__ = ["RowLabels", "aligned", "row_labels"]
