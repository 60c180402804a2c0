"""Linear predictors of new rows from a saved result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from unimix.design.encoding import Encoding
from unimix.errors import DataError, listing
from unimix.fitted.schema import RandomPartResult

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """Predictions of n rows.

    Attributes:
        eta: Linear predictor, shape (n,).
        share: Probability that a row is not a structural zero, shape (n,); 1 without zero inflation.
    """

    eta: FloatArray
    share: FloatArray


def unknown_levels(strange: Mapping[str, Sequence[str]]) -> DataError:
    """The error for levels that were not fitted, given by grouping factor."""
    unknown = "; ".join(f"{group}: {listing(levels)}" for group, levels in strange.items())
    return DataError(
        f"The new data have levels that were not fitted ({unknown}), whose effects are unknown: "
        "predict(..., new_levels='population') sets them to zero; new_levels='sample' does so, too, and with interval= "
        "counts their variance; level='population' leaves all group effects out."
    )


def predict_rows(
    encoding: Encoding,
    beta: FloatArray,
    random: Sequence[RandomPartResult],
    data: Any,
    *,
    chosen: Sequence[bool],
    new_levels: str,
    zero: FloatArray | None = None,
    aliased: Sequence[str] = (),
) -> Prediction:
    """Evaluate the linear predictor of new rows, X beta + Z b + offset, with the group effects b that are chosen.

    Args:
        encoding: Encoding of the fitted design.
        beta: Fixed effects, shape (p,).
        random: Blocks of random effects with their levels and modes.
        data: New rows.
        chosen: For each block, whether its effects are added.
        new_levels: Treatment of levels that were not fitted: error, population or sample.
        zero: Coefficients of the zero inflation, shape (k,), or None.
        aliased: Names of the columns that were left out.

    Returns:
        The predictions; NaN if a value is missing.

    Raises:
        DataError: If a level was not fitted and ``new_levels`` is "error".
    """
    rows = encoding.transform(data, with_groups=chosen)
    rows.check_estimable(aliased)
    values = rows.x @ beta + rows.offset
    strange: dict[str, list[str]] = {}
    if any(chosen):
        for block, z, levels, wanted in zip(random, rows.z, rows.levels, chosen, strict=True):
            if not wanted:
                continue
            codes = levels.among(block.levels)
            if (codes < 0).any() and new_levels == "error":
                strange[block.group] = levels.labels(codes < 0)
                continue
            modes = np.vstack([block.modes, np.zeros((1, len(block.terms)))])
            values = values + np.einsum("nq,nq->n", z, modes[codes])
    if strange:
        raise unknown_levels(strange)
    eta = np.full(len(rows.complete), np.nan)
    eta[rows.complete] = values
    share = np.ones(len(rows.complete))
    if zero is not None and rows.zero is not None:
        share[rows.complete] = expit(-(rows.zero @ zero))
    return Prediction(eta, share)
