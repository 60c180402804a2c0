"""Data with their weights and offset as columns, so that subsets of the rows can be fitted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from unimix.backends.base import Backend
from unimix.design.arrays import Design
from unimix.design.complete_rows import read_extra
from unimix.design.frames import to_pandas
from unimix.design.typed_columns import as_numbers
from unimix.errors import DataError, UnsupportedModelError
from unimix.estimation.arguments import FitArguments

COLUMNS = {"weights": "unimix_weights", "offset": "unimix_offset"}
"""Names of the columns that hold weights and offsets given as arrays."""


@dataclass(frozen=True)
class SubsettableData:
    """The data of a call, prepared so that subsets of their rows can be fitted.

    Attributes:
        formula: Text of the formula, as it was given.
        frame: All rows, with index 0, 1, 2 ...; weights and offsets that were given as arrays are columns.
        design: The model of all rows.
        arguments: Arguments of every fit; weights and offset are names of columns.
    """

    formula: str
    frame: pd.DataFrame
    design: Design
    arguments: FitArguments

    @property
    def used(self) -> pd.DataFrame:
        """The rows that are fitted: those without missing values in a column of the model."""
        return self.frame.iloc[self.design.rows]

    @property
    def without_groups(self) -> str:
        """The formula without its random part, in which ``.`` stands for the same columns as in the full formula."""
        return replace(self.design.encoding.spec, random=(), zero=None).text()


def bind_columns(formula: str, data: Any, arguments: FitArguments) -> SubsettableData:
    """Put weights and offset into the data and build the design.

    Args:
        formula: The model in lme4's language.
        data: A table or a dict of arrays.
        arguments: Arguments of the fit.

    Raises:
        DataError: If the data do not allow the model, or already have columns of the names in :data:`COLUMNS`.
        OptionError: If the method does not belong to the model.
    """
    if arguments.residual is not None:
        raise UnsupportedModelError(
            f"residual={arguments.residual!r}: the model is not fitted to parts of the rows yet, because predictions "
            "and scores of left-out rows would have to use their correlation with the others. Fit the whole: um.fit."
        )
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
    """The arguments of a fit without the random part: its criterion (REML, Laplace) and its priors are dropped."""
    adapted = arguments.adapted(engine)
    return replace(
        adapted,
        method=adapted.method if engine.info.samples else None,
        priors={k: v for k, v in adapted.priors.items() if not k.startswith(("sd(", "cor("))}
        if adapted.priors
        else None,
        restart=False,
    )


__all__ = ["COLUMNS", "SubsettableData", "arguments_without_groups", "bind_columns"]
