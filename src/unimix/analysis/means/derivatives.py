"""Derivatives of the fixed-effects columns with respect to a predictor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.design.typed_columns import as_numbers, read_columns
from unimix.errors import DataError
from unimix.likelihood.glmm.finite_differences import differentiate
from unimix.stats.delta import Linear

if TYPE_CHECKING:
    from unimix.analysis.means.reference_grid import PopulationRows

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def derivative_rows(rows: PopulationRows, frame: pd.DataFrame, name: str, what: str) -> Linear:
    """Derivatives of all columns and of the offset with respect to a numeric predictor; aliased columns are included.

    Args:
        rows: Function that gives the columns at rows of predictors.
        frame: Rows of predictors, n of them, at all of which the columns exist.
        name: Name of the predictor.
        what: Name of the quantity in messages.

    Raises:
        DataError: If the linear predictor has no derivative at some rows.
    """
    at = np.asarray(as_numbers(read_columns(frame, [name])[name]), dtype=np.float64)
    plain = rows.without_given_offset()

    def columns(values: FloatArray, which: IntArray) -> FloatArray | None:
        try:
            linear = plain.full(frame.iloc[which].assign(**{name: values}), what)
        except DataError:  # the formula is not defined at a point next to the row: try smaller steps
            return None
        return np.column_stack([linear.x, linear.offset])

    slopes, lost = differentiate(columns, at, *rows.range_of(name))
    if lost.any():
        raise DataError(
            f"{what}: the model has no slope of {name} at {name} = {at[lost][0]:.6g} ({int(lost.sum())} of {len(at)} "
            "rows), where one of its columns has a jump or is infinitely steep. Choose other rows by newdata= or at=."
        )
    return Linear(slopes[:, :-1], slopes[:, -1])


__all__ = ["derivative_rows"]
