"""Fitted values and residuals beside the rows they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.errors import DataError
from unimix.model.frames import one_row, to_pandas
from unimix.model.newdata import response_values

if TYPE_CHECKING:
    from unimix.results.result import FitResult

FloatArray = npt.NDArray[np.float64]


def augment_rows(fit: FitResult) -> pd.DataFrame:
    """The rows used: response, ``.fitted``, ``.resid``, ``.fixed``; indexed as the data were, or by position."""
    rows = fit.rows
    columns = {
        fit.model.response: np.array(rows.observed),
        ".fitted": np.array(fit.fitted),
        ".resid": rows.observed - fit.fitted,
        ".fixed": np.array(fit.predict(level="population")),
    }
    positions = pd.Index(_places(fit), name="row")
    return pd.DataFrame(columns, index=positions if rows.labels is None else rows.labels.index())


def augment_data(fit: FitResult, data: Any, new_levels: Literal["error", "population"]) -> pd.DataFrame:
    """A copy of the data with ``.fitted``, ``.resid`` and ``.fixed``.

    Args:
        fit: The result.
        data: The rows that were fitted, where NaN stands in the dropped ones, or new rows.
        new_levels: As for ``predict``.
    """
    data = one_row(data)
    table = to_pandas(data)
    observed = response_values(fit.model.recipe, data)
    if _is_fitted_to(fit, table, observed):
        found = augment_rows(fit)
        for column in (".fitted", ".resid", ".fixed"):
            values = np.full(len(table), np.nan)
            values[_places(fit)] = found[column]
            table[column] = values
        return table
    fitted = fit.predict(data, new_levels=new_levels)
    table[".fitted"] = fitted
    table[".resid"] = np.nan if observed is None else observed - fitted
    table[".fixed"] = fit.predict(data, level="population")
    return table


def _places(fit: FitResult) -> npt.NDArray[np.int64]:
    return np.array(fit.rows.index, dtype=np.int64)


def _is_fitted_to(fit: FitResult, table: pd.DataFrame, observed: FloatArray | None) -> bool:
    """Whether these are the rows that were fitted, dropped ones included: same responses, same fitted values."""
    if observed is None or len(table) != fit.model.n_obs + fit.model.n_dropped:
        return False
    places = _places(fit)
    if not np.allclose(observed[places], fit.rows.observed, rtol=1e-9, atol=0.0):
        return False
    try:
        again = fit.predict(table.iloc[places])
    except DataError:  # of an offset that is not among the columns, or of other levels
        return False
    return bool(np.allclose(again, fit.fitted, rtol=1e-7, atol=1e-7 * float(np.ptp(fit.rows.observed))))


__all__ = ["augment_data", "augment_rows"]
