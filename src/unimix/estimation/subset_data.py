"""Data that carry their weights and offset with them, so that rows can be chosen and fitted again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from unimix.backends.base import Backend
from unimix.design.arrays import Design
from unimix.design.complete_rows import read_extra
from unimix.design.frames import to_pandas
from unimix.design.typed_columns import as_numbers
from unimix.errors import DataError
from unimix.estimation.arguments import FitArguments

COLUMNS = {"weights": "unimix_weights", "offset": "unimix_offset"}
"""Names of the columns that hold what was given as arrays."""


@dataclass(frozen=True)
class SubsettableData:
    """A call's data, ready to be fitted in parts.

    Attributes:
        formula: The formula as given.
        frame: All rows, index 0, 1, 2 ...; weights and offset that were arrays are columns.
        design: The model of all rows.
        arguments: What is asked of every fit, with names of columns for weights and offset.
    """

    formula: str
    frame: pd.DataFrame
    design: Design
    arguments: FitArguments

    @property
    def used(self) -> pd.DataFrame:
        """The rows without missing values."""
        return self.frame.iloc[self.design.rows]

    @property
    def without_groups(self) -> str:
        """The formula without its random part; ``.`` stands for the columns that it stood for beside the groups."""
        return replace(self.design.encoding.spec, random=(), zero=None).text()


def bind_columns(formula: str, data: Any, arguments: FitArguments) -> SubsettableData:
    """Put weights and offset into the data and build the design.

    Args:
        formula: As for ``fit``.
        data: As for ``fit``.
        arguments: What is asked of the fit.

    Raises:
        DataError: If the data do not allow the model, or have columns of the names needed.
        OptionError: For wrong arguments.
    """
    extras = {name: read_extra(getattr(arguments, name), name, data)[0] for name in COLUMNS}
    frame = to_pandas(data).reset_index(drop=True)
    named: dict[str, Any] = {}
    for name, extra in extras.items():
        if extra is None:
            continue
        column = COLUMNS[name]
        if column in frame.columns:
            raise DataError(f"The data have a column {column!r}, a name that is needed here: rename it.")
        if len(as_numbers(extra)) != len(frame):
            raise DataError(f"{name}= has {len(as_numbers(extra))} values, the data have {len(frame)} rows.")
        frame[column] = as_numbers(extra)
        named[name] = column
    bound = replace(arguments, **named)
    return SubsettableData(formula, frame, bound.problem(formula, frame).design, bound)


def arguments_without_groups(arguments: FitArguments, engine: Backend) -> FitArguments:
    """What is asked of an engine where the model loses its random part: the criterion and its priors go with it."""
    asked = arguments.adapted(engine)
    return replace(
        asked,
        method=asked.method if engine.info.samples else None,
        priors={k: v for k, v in asked.priors.items() if not k.startswith(("sd(", "cor("))} if asked.priors else None,
        restart=False,
    )


__all__ = ["COLUMNS", "SubsettableData", "arguments_without_groups", "bind_columns"]
