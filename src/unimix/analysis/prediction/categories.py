"""Predictions of an ordered response: probabilities of the categories, and the mean category, with intervals.

With f = F' and eta = x'beta + offset, the derivatives of P_j = F(theta_j - eta) - F(theta_(j-1) - eta) are
-(f_j - f_(j-1)) x with respect to beta, f_j with respect to theta_j and -f_(j-1) with respect to theta_(j-1). Standard
errors follow by the delta method from the joint covariance of coefficients and thresholds (Agresti 2013, Categorical
Data Analysis, section 16.1); intervals are symmetric on the logit scale between the ends of the range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from unimix.analysis.prediction.rows import predict_rows
from unimix.design.frames import one_row
from unimix.distributions.cumulative import category_probabilities, exceedance_probabilities, threshold_slopes
from unimix.distributions.family import Cumulative
from unimix.errors import OptionError, UnsupportedModelError, listing
from unimix.fitted.table_result import TableResult

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
KINDS = ("probability", "exceedance", "mean", "category", "link")
CAPTIONS = {
    "probability": "the probability of a category",
    "exceedance": "the probability of a response above a threshold",
    "mean": "the mean category",
}


@dataclass(frozen=True)
class CategoryPredictions:
    """Predictions of n rows with m columns each: categories, thresholds, or the mean alone.

    Attributes:
        names: Names of the columns.
        estimates: Predictions, shape (m, n).
        by_eta: Derivatives with respect to the linear predictor, shape (m, n).
        by_thresholds: Derivatives with respect to the thresholds, shape (m, K - 1, n).
        ends: Ends of the range of the predictions.
    """

    names: tuple[Any, ...]
    estimates: FloatArray
    by_eta: FloatArray
    by_thresholds: FloatArray
    ends: tuple[float, float] = (0.0, 1.0)

    def gradient(self, x: FloatArray) -> FloatArray:
        """Derivatives with respect to the coefficients of columns x (n, p) and the thresholds, (m, n, p + K - 1)."""
        return np.concatenate([self.by_eta[:, :, None] * x, self.by_thresholds.transpose(0, 2, 1)], axis=2)


def predictions_at(family: Cumulative, thresholds: FloatArray, eta: FloatArray, kind: str) -> CategoryPredictions:
    """Compute predictions and their derivatives at linear predictors.

    Args:
        family: Family with its categories.
        thresholds: Thresholds, shape (K - 1,).
        eta: Linear predictors, shape (n,).
        kind: probability, exceedance or mean.
    """
    density = threshold_slopes(family.link, thresholds, eta)  # f(theta_j - eta), shape (K - 1, n)
    m, n = density.shape
    above = np.zeros((m, m, n))
    above[np.arange(m), np.arange(m)] = -density  # dP(Y > j) / d theta_j
    if kind == "exceedance":
        names = tuple(f"> {c}" for c in family.categories[:-1])
        return CategoryPredictions(names, exceedance_probabilities(family.link, thresholds, eta), density, above)
    # P_j = P(Y > j - 1) - P(Y > j), with P(Y > 0) = 1 and P(Y > K) = 0
    turn = np.zeros((m + 1, m))
    turn[np.arange(1, m + 1), np.arange(m)], turn[np.arange(m), np.arange(m)] = 1.0, -1.0
    values = category_probabilities(family.link, thresholds, eta)
    if kind == "probability":
        return CategoryPredictions(family.categories, values, turn @ density, np.einsum("jk,kln->jln", turn, above))
    scores = family.scores
    ends = (float(scores.min()), float(scores.max()))
    turned = scores @ turn
    by_thresholds = np.einsum("k,kln->ln", turned, above)[None]
    return CategoryPredictions(("mean",), (scores @ values)[None], (turned @ density)[None], by_thresholds, ends)


def predict_categories(
    fit: FittedModel,
    newdata: Any,
    *,
    kind: str,
    level: str | Sequence[str],
    chosen: Sequence[bool],
    new_levels: str,
    interval: str | None,
    ci_level: float,
) -> FloatArray | pd.DataFrame | TableResult:
    """Predict an ordered response; the arguments are those of :func:`unimix.analysis.prediction.predict.predict`.

    Raises:
        OptionError: If the kind is unknown, or has no interval.
        UnsupportedModelError: If an interval is asked with group effects.
    """
    family = fit.family
    assert isinstance(family, Cumulative)  # noqa: S101  the caller has asked
    kind = "probability" if kind == "response" else kind
    if kind not in KINDS:
        raise OptionError(f"kind={kind!r}: for ordered categories choose {listing(map(repr, KINDS))}.")
    data = fit.design().frame() if newdata is None and not isinstance(level, str) else newdata
    if interval is not None:
        return _intervals(fit, family, newdata, kind, any(chosen), interval, ci_level)
    if data is None:
        eta = np.asarray(fit.rows.linear_predictor if level == "group" else fit.rows.population_predictor)
    else:
        eta = predict_rows(
            fit.model.encoding,
            fit.fixed.estimate,
            fit.random,
            one_row(data),
            chosen=chosen,
            new_levels=new_levels,
            aliased=fit.model.aliased,
        ).eta
    if kind == "link":
        return eta
    thresholds = np.asarray(fit.parts["thresholds"].estimate)
    if kind == "category":
        shares = category_probabilities(family.link, thresholds, eta)
        likely = np.array(family.categories, dtype=object)[np.argmax(shares, axis=0)]
        return np.asarray(np.where(np.isnan(eta), None, likely), dtype=object)
    found = predictions_at(family, thresholds, eta, kind)
    if kind == "mean":
        return np.asarray(found.estimates[0])
    index = newdata.index if isinstance(newdata, pd.DataFrame) else None
    return pd.DataFrame(found.estimates.T, columns=pd.Index(found.names, name="category"), index=index)


def _intervals(
    fit: FittedModel, family: Cumulative, newdata: Any, kind: str, grouped: bool, interval: str, ci_level: float
) -> TableResult:
    """Confidence intervals of predictions without group effects, one row for each row of the data and column."""
    faults = []
    if interval == "prediction":
        faults.append("A new response is one of the categories: kind='probability' says how likely "
                      "each is. interval='prediction' is for numbers.")  # fmt: skip
    if kind == "category":
        faults.append("kind='category' is the most probable category, which has no interval: ask kind='probability'.")
    if faults:
        raise OptionError("\n".join(faults))
    if grouped:
        raise UnsupportedModelError(
            "Intervals of an ordered response with group effects are not computed here, because the result does not "
            "hold the covariance of group effects and thresholds. Type level='population', or leave interval= out."
        )
    rows = fit.model.encoding.transform(
        fit.design().frame() if newdata is None else one_row(newdata), with_groups=False
    )
    rows.check_estimable(fit.model.aliased)
    thresholds, joint = with_thresholds(fit, np.asarray(fit.fixed.covariance))
    eta = rows.x @ np.asarray(fit.fixed.estimate) + rows.offset
    if kind == "link":
        one = np.ones((1, len(eta)))
        found = CategoryPredictions(("link",), eta[None], one, np.zeros((1, len(thresholds), len(eta))))
    else:
        found = predictions_at(family, thresholds, eta, kind)
    m, full = len(found.names), np.full((len(rows.complete), len(found.names), 4), np.nan)
    gradient = found.gradient(rows.x)
    sd = np.sqrt(np.maximum(np.einsum("mni,ij,mnj->mn", gradient, joint, gradient), 0.0))
    sd[:, fit.fixed.is_unbounded(rows.x)] = np.nan
    z = float(special.ndtri(0.5 + ci_level / 2))
    if kind == "link":
        lower, upper = found.estimates - z * sd, found.estimates + z * sd
    else:
        lower, upper = _logit_interval(found.estimates, z * sd, found.ends)
    full[rows.complete] = np.stack([found.estimates, sd, lower, upper], axis=2).transpose(1, 0, 2)
    labels = newdata.index if isinstance(newdata, pd.DataFrame) else pd.RangeIndex(len(full))
    table = pd.DataFrame(full.reshape(-1, 4), columns=["estimate", "std_error", "lower", "upper"])
    table.insert(0, "row", labels.repeat(m))
    if m > 1:
        table.insert(1, "category", list(found.names) * len(full))
    what = CAPTIONS.get(kind, "the linear predictor")
    return TableResult(table, [f"{100 * ci_level:g}% confidence intervals of {what}, without group effects"])


def with_thresholds(fit: FittedModel, covariance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Thresholds, shape (K - 1,), and the covariance matrix of coefficients and thresholds, (p + K - 1) square."""
    part = fit.parts["thresholds"]
    thresholds = np.asarray(part.estimate)
    cross = np.asarray(part.cross_covariance).reshape(len(covariance), len(thresholds))
    return thresholds, np.block([[covariance, cross], [cross.T, np.asarray(part.covariance)]])


def share_of_range(values: FloatArray, ends: tuple[float, float]) -> FloatArray:
    """Shares (v - a) / (b - a) of values v between ends a and b, inside 0 and 1 so that they have logits."""
    low, high = ends
    return np.clip((values - low) / (high - low), 1e-300, 1 - 1e-16)


def _logit_interval(values: FloatArray, reach: FloatArray, ends: tuple[float, float]) -> tuple[FloatArray, FloatArray]:
    """Interval s ± reach |ds / dv| of s = logit((v - a) / (b - a)), turned back, for values v between ends a and b."""
    low, high = ends
    share = share_of_range(values, ends)
    steep = reach / (high - low) / (share * (1 - share))
    centre = special.logit(share)
    lower, upper = special.expit(centre - steep), special.expit(centre + steep)
    return low + (high - low) * lower, low + (high - low) * upper


__all__ = [
    "CAPTIONS",
    "KINDS",
    "CategoryPredictions",
    "predict_categories",
    "predictions_at",
    "share_of_range",
    "with_thresholds",
]
