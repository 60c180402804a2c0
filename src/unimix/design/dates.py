"""Dates as levels of a factor, in chronological order."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.errors import DataError


def date_levels(values: Any, name: str) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Number the dates in chronological order.

    Args:
        values: Dates or datetimes in a pandas Series or a list; missing values are None or NaT.
        name: Name of the column, for messages.

    Returns:
        Level index per row, shape (n,), -1 for missing values; and the levels as ISO texts in order, without the time
        if all times are midnight.

    Raises:
        DataError: If dates with and without a time zone are mixed.
    """
    raw, distinct = pd.factorize(values if isinstance(values, pd.Series) else np.array(values, dtype=object))
    moments = [_moment(v) for v in distinct]
    try:
        order = sorted(range(len(moments)), key=moments.__getitem__)
    except TypeError:
        raise DataError(
            f"Column {name!r} mixes dates with and without a time zone; type "
            f"data[{name!r}] = pd.to_datetime(data[{name!r}], utc=True)."
        ) from None
    labels = [_label(moments[i]) for i in order]
    levels = tuple(dict.fromkeys(labels))
    index = {label: i for i, label in enumerate(levels)}
    position = np.full(len(moments) + 1, -1, dtype=np.int64)
    position[order] = [index[label] for label in labels]
    return position[raw], levels


def _moment(value: Any) -> dt.datetime:
    if isinstance(value, np.datetime64):
        return pd.Timestamp(value)
    return value if isinstance(value, dt.datetime) else dt.datetime.combine(value, dt.time())


def _label(moment: dt.datetime) -> str:
    midnight = moment.tzinfo is None and moment.time() == dt.time() and not getattr(moment, "nanosecond", 0)
    return moment.date().isoformat() if midnight else moment.isoformat()


def dates_refused(name: str) -> str:
    """Message that a column of dates is not a predictor, with the line to type instead."""
    column = f"data[{name!r}]"
    return (
        f"Column {name!r} holds dates. For a trend make it numbers: data['days'] = ({column} - {column}.min()).dt.days "
        f"(after {column} = pd.to_datetime({column}), if it is not a datetime yet). As a factor it is C({name}), as a "
        f"grouping factor (1 | {name})."
    )


__all__ = ["date_levels", "dates_refused"]
