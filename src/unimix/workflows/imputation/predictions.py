"""Predictions, pooled over imputed data sets on the scale of the linear predictor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from unimix.analysis.means.scales import Scale
from unimix.analysis.prediction.distributions import predictor_mean, predictor_normal
from unimix.analysis.prediction.draws import dispersion_of_new
from unimix.analysis.prediction.error_variance import variance_and_df
from unimix.analysis.prediction.intervals import NEW, included, place_known
from unimix.design.frames import one_row
from unimix.errors import DataError, OptionError, UnsupportedModelError, listing
from unimix.fitted.table_result import TableResult
from unimix.result import FitResult
from unimix.stats.rubin import Pooled, pool

FloatArray = npt.NDArray[np.float64]


def pooled_predictions(
    fits: Sequence[FitResult],
    newdata: Any,
    *,
    level: Any,
    new_levels: str,
    kind: str | None,
    interval: str | None,
    ci_level: float,
) -> FloatArray | TableResult:
    """Predictions of every fit, pooled; see :meth:`unimix.ImputedFit.predict`."""
    first = fits[0]
    _check(first, new_levels, kind, interval)
    chosen = included(first, level)
    if newdata is None:
        _check_rows(fits)
    each = [_of_one(fit, newdata, chosen, new_levels, prediction=interval == "prediction") for fit in fits]
    stack = np.stack(each)  # (m, n, 3): linear predictor, its error variance, degrees of freedom
    found = pool(stack[:, :, 0], stack[:, :, 1], stack[:, :, 2])
    response = kind != "link" and (first.family.link != "identity" or kind == "response")
    scale = Scale.of(first, "response" if response else "link")
    if interval is None:
        return scale.mean(found.estimate) if response else found.estimate
    table = _intervals(found, ci_level)
    if response:
        at = table["estimate"].to_numpy()
        table["std_error"] *= np.abs(scale.slope(at))
        table["lower"], table["upper"] = scale.interval(table[["lower", "upper"]].to_numpy(), at)
        table["estimate"] = scale.mean(at)
    if isinstance(newdata, pd.DataFrame):
        table.index = newdata.index
    words = "a new response" if interval == "prediction" else "the mean" if kind != "link" else "the linear predictor"
    note = f"{100 * ci_level:g}% {interval} intervals of {words}, pooled over {len(fits)} imputations"
    return TableResult(table, [note, *([scale.note] if scale.note else [])])


def _check(first: FitResult, new_levels: str, kind: str | None, interval: str | None) -> None:
    faults = []
    if new_levels not in NEW:
        faults.append(f"new_levels={new_levels!r}: choose {listing(map(repr, NEW))}.")
    if kind not in (None, "response", "link"):
        faults.append(f"kind={kind!r}: choose 'response' or 'link'.")
    if interval not in (None, "confidence", "prediction"):
        faults.append(f"interval={interval!r}: choose 'confidence' or 'prediction'.")
    if interval == "prediction" and kind == "link":
        faults.append("Responses are not on the link scale: interval='prediction' needs kind='response'.")
    if faults:
        raise OptionError("\n".join(faults))
    if interval == "prediction" and not first.family.is_linear:
        raise UnsupportedModelError(
            "Prediction intervals are pooled for linear models. Draw responses from each fit instead: "
            "[fit.simulate(...) for fit in imputed.fits]."
        )
    if interval == "prediction" and first.model.weighted:
        raise UnsupportedModelError(
            "Prediction intervals of a weighted model depend on each new row's weight and are not pooled: leave "
            "interval= out, or take interval='confidence'."
        )
    if first.parts:
        raise UnsupportedModelError(
            f"Predictions of a model with a part for {' and '.join(first.parts)} are not pooled. Those of each fit are "
            "[fit.predict(...) for fit in imputed.fits]."
        )


def _check_rows(fits: Sequence[FitResult]) -> None:
    """Refuse fits whose rows belong to other groups, in another order or number."""
    groups = [[np.array(b.levels, dtype=object)[b.codes] for b in fit.design().blocks] for fit in fits]
    alike = [all(np.array_equal(a, b) for a, b in zip(groups[0], other, strict=True)) for other in groups]
    if not all(alike) or len({fit.n_obs for fit in fits}) > 1:
        raise DataError(
            "The imputed data sets have different rows, or another order of them, so that their own rows have no "
            "pooled predictions: give newdata=, or bring them to one order."
        )


def _of_one(fit: FitResult, newdata: Any, chosen: list[bool], new_levels: str, *, prediction: bool) -> FloatArray:
    """Linear predictor, its error variance and degrees of freedom of one fit, shape (n, 3); NaN for incomplete rows."""
    rows = fit.design().frame() if newdata is None else one_row(newdata)
    at = place_known(fit, rows, chosen, new_levels).only(chosen)
    integrated = [prediction or (c and new_levels == "sample") for c in chosen]
    ones = np.ones(len(at.rows.x))
    df: FloatArray | float = np.inf
    found = variance_and_df(fit, at, integrated, ones if prediction else None, rows) if fit.family.is_linear else None
    if found is not None:
        centre, (variance, df) = predictor_mean(fit, at), found
    else:
        centre, variance = predictor_normal(fit, at, integrated)
        if prediction:
            variance = variance + dispersion_of_new(fit, rows, at.rows.complete)[0] ** 2
    values = np.full((len(at.rows.complete), 3), np.nan)
    values[at.rows.complete] = np.column_stack([centre, variance, np.broadcast_to(df, centre.shape)])
    return values


def _intervals(found: Pooled, ci_level: float) -> pd.DataFrame:
    """Columns estimate, std_error, lower, upper by t with Barnard and Rubin's degrees of freedom."""
    top = 0.5 + ci_level / 2
    finite = np.isfinite(found.df)
    reach = np.where(finite, special.stdtrit(np.where(finite, found.df, 1.0), top), special.ndtri(top))
    return pd.DataFrame(
        {
            "estimate": found.estimate,
            "std_error": found.std_error,
            "lower": found.estimate - reach * found.std_error,
            "upper": found.estimate + reach * found.std_error,
        }
    )


__all__ = ["pooled_predictions"]
