"""Rows of the fixed effects, differentiated by a predictor."""

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
    """Derivatives by a numeric predictor at given rows, of the columns and of the offset, those left out included.

    Args:
        rows: Of the result.
        frame: Rows, shape (n, ...), for all of which ``rows.full`` has values.
        name: The predictor.
        what: How messages call it.

    Raises:
        DataError: Where the linear predictor has no derivative.
    """
    at = np.asarray(as_numbers(read_columns(frame, [name])[name]), dtype=np.float64)
    plain = rows.without_given_offset()

    def columns(values: FloatArray, which: IntArray) -> FloatArray | None:
        try:
            made = plain.full(frame.iloc[which].assign(**{name: values}), what)
        except DataError:  # a point beside a row that is defined: smaller steps
            return None
        return np.column_stack([made.x, made.offset])

    found, lost = differentiate(columns, at, *rows.range_of(name))
    if lost.any():
        raise DataError(
            f"{what}: the model has no slope by {name} at {name} = {at[lost][0]:.6g} ({int(lost.sum())} of {len(at)} "
            "rows), where a column of it breaks off or is infinitely steep. Take other rows, newdata=, or at=."
        )
    return Linear(found[:, :-1], found[:, -1])


__all__ = ["derivative_rows"]
