"""Predictions with intervals from the joint error of fixed effects, group effects and residual."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from unimix.analysis.prediction.distributions import (
    Placed,
    Predictive,
    Rows,
    SampledPredictive,
    of_normal,
    place,
    predictor_draws,
    predictor_mean,
    predictor_normal,
    rows_of,
)
from unimix.analysis.prediction.draws import conditional_of_both_parts, dispersion_of, dispersion_of_new, is_sampled
from unimix.analysis.prediction.error_variance import variance_and_df
from unimix.analysis.prediction.expected import is_curved_posterior, posterior_mean
from unimix.analysis.prediction.rows import unknown_levels
from unimix.design.frames import column_labels, one_row, to_pandas
from unimix.distributions.random_responses import mean_of, mean_slope
from unimix.errors import DataError, OptionError, UnsupportedModelError, did_you_mean, listing
from unimix.stats.inference import checked_level
from unimix.stats.joint_error import predictor_variance

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

LEVELS = ("group", "population")
NEW = ("error", "population", "sample")


def included(fit: FittedModel, level: str | Sequence[str]) -> list[bool]:
    """For each block, whether its effects are part of a prediction.

    Raises:
        OptionError: If the level or a grouping factor is unknown.
    """
    groups = [b.group for b in fit.random]
    if isinstance(level, str):
        if level not in LEVELS:
            raise OptionError(
                f"level={level!r}: choose 'group', 'population' or a list of grouping factors."
                f"{did_you_mean(level, LEVELS)}"
            )
        return [level == "group"] * len(groups)
    strange = [g for g in level if g not in groups]
    if strange:
        raise OptionError(
            f"level=[{strange[0]!r}]: not a grouping factor of this model.{did_you_mean(str(strange[0]), groups)} "
            f"Known: {listing(dict.fromkeys(groups)) or 'none'}."
        )
    return [g in level for g in groups]


def place_known(fit: FittedModel, data: Any, chosen: list[bool], new_levels: str, *, every: bool = False) -> Placed:
    """The design rows of new data and the codes of their levels, -1 for levels that were not fitted.

    Args:
        fit: The result.
        data: New rows.
        chosen: For each block, whether its effects are part of the prediction.
        new_levels: Treatment of levels that were not fitted: error, population or sample.
        every: Whether the levels of the other blocks are needed, too.

    Raises:
        DataError: If a level of a chosen block was not fitted and ``new_levels`` is "error".
    """
    at = place(fit, data, None if every else chosen)
    at.rows.check_estimable(fit.model.aliased)
    strange = {
        b.group: at.rows.levels[k].labels(at.codes[k] < 0)
        for k, b in enumerate(fit.random)
        if chosen[k] and (at.codes[k] < 0).any()
    }
    if strange and new_levels == "error":
        raise unknown_levels(strange)
    return at


def predict_interval(
    fit: FittedModel,
    data: Any,
    *,
    level: str | Sequence[str],
    new_levels: str,
    interval: str,
    kind: str,
    ci_level: float,
    seed: int,
    own_rows: bool = False,
) -> pd.DataFrame:
    """Predictions with intervals, columns estimate, std_error, lower, upper; NaN if a predictor is missing.

    Args:
        fit: The result.
        data: New rows.
        level: group, population, or the grouping factors whose effects are part of the prediction.
        new_levels: Treatment of levels that were not fitted: error, population or sample.
        interval: confidence (for the expected response) or prediction (for a response).
        kind: response or link.
        ci_level: Probability of the intervals.
        seed: Seed of the responses that are drawn if there is no closed form.
        own_rows: Whether the rows are those that were fitted, with their weights and trials.

    Raises:
        OptionError: If an argument is wrong.
        DataError: If levels are unknown, or weights are absent.
    """
    checked_level(ci_level)
    if interval not in ("confidence", "prediction"):
        raise OptionError(f"interval={interval!r}: choose 'confidence' or 'prediction'.")
    if interval == "prediction" and kind == "link":
        raise OptionError("Responses are not on the link scale: interval='prediction' needs kind='response'.")
    chosen = included(fit, level)
    prediction, rows_given = interval == "prediction", one_row(data)
    # A prediction interval has the variance of the effects that are left out; a confidence interval needs none of them.
    rows_needed = _with_groups(fit, rows_given, chosen) if prediction else rows_given
    at = place_known(fit, rows_needed, chosen, new_levels, every=prediction)
    # An effect that is left out enters a prediction interval through its variance only.
    integrated = [prediction or (c and new_levels == "sample") for c in chosen]
    new = [
        b.group
        for b, counts, codes in zip(fit.random, integrated, at.codes, strict=True)
        if counts and b.group in fit.model.related and (np.asarray(codes) < 0).any()
    ]
    if new:
        raise UnsupportedModelError(
            f"The variance of a level of {listing(dict.fromkeys(new))} that was not fitted, or whose effect is left "
            "out, depends on its relationship to the others, which the result does not have: choose rows of fitted "
            "levels, or interval='confidence' without new_levels='sample'."
        )
    weights, trials = _precision(fit, at, data, own_rows=own_rows) if prediction else (None, None)
    kept, rows = at.only(chosen), rows_of(fit, at, weights, trials, seed)
    if is_sampled(fit):
        eta, parameters = predictor_draws(fit, kept, integrated, fit.status.n_draws or 1, seed)
        values = (
            _of_response(SampledPredictive(rows, eta, parameters), ci_level)
            if prediction
            else _of_draws(rows, eta, parameters, kind, ci_level)
        )
    else:
        values = _of_estimates(fit, kept, integrated, rows, kind, ci_level, rows_given if prediction else None)
    table = np.full((len(at.rows.complete), 4), np.nan)
    table[at.rows.complete] = values
    index = data.index if isinstance(data, pd.DataFrame) else None
    return pd.DataFrame(table, columns=["estimate", "std_error", "lower", "upper"], index=index)


def _with_groups(fit: FittedModel, data: Any, chosen: list[bool]) -> Any:
    """The data, with a new level for each grouping factor whose effects are left out and whose column is absent."""
    wanted = {b.group for b, c in zip(fit.random, chosen, strict=True) if c}
    needed = {f for t in fit.spec.random if t.group in wanted for f in t.factors}
    encoding = fit.model.encoding
    have = set(column_labels(data)) | set(encoding.needed(encoding.predictors, data))
    absent = {f for t in fit.spec.random for f in t.factors} - needed - have
    return to_pandas(data).assign(**dict.fromkeys(absent, "(new)")) if absent else data


def _precision(
    fit: FittedModel, at: Placed, data: Any, *, own_rows: bool
) -> tuple[FloatArray | None, FloatArray | None]:
    """Weights of a Gaussian response and trials of a binomial one for the complete rows; None stands for 1."""
    if own_rows:
        return (fit.rows.weights if fit.family.is_linear else None), fit.rows.trials
    if fit.family.name != "gaussian" and fit.family.response != "binomial":
        return None, None
    frame = one_row(data)
    trials = fit.model.encoding.trials(frame) if fit.family.response == "binomial" else None
    trials = fit.model.encoding.weights(frame) if trials is None else trials
    if trials is None and fit.model.sigma is not None and fit.model.weighted:
        raise DataError(
            "A new row has no known variance, because weights= was an array: name a column, weights='w', that the new "
            "rows have, too. Intervals of true values are fit.heterogeneity(newdata).prediction, or interval="
            "'confidence' with new_levels='sample'."
        )
    kept = None if trials is None else trials[at.rows.complete]
    if fit.family.name == "gaussian":
        return kept, None
    return None, np.ones(int(at.rows.complete.sum())) if kept is None else kept


def _of_response(made: Predictive, ci_level: float) -> FloatArray:
    """Prediction intervals, shape (n, 4)."""
    return np.column_stack([made.mean, made.spread, *made.interval(ci_level)])


def _of_estimates(
    fit: FittedModel,
    at: Placed,
    integrated: Sequence[bool],
    rows: Rows,
    kind: str,
    ci_level: float,
    new: Any,
) -> FloatArray:
    """Intervals for an engine that does not sample, shape (n, 4): t with the fit's degrees of freedom, else normal.

    ``new`` are the data of new responses, for prediction intervals; None for confidence intervals.
    """
    df: FloatArray | float = np.inf
    prediction = new is not None
    ones = np.ones(len(at.rows.x)) if rows.weights is None else rows.weights
    found = None
    if fit.family.is_linear:
        found = variance_and_df(fit, at, integrated, ones if prediction else None, new)
    endless = fit.fixed.is_unbounded(at.rows.x)
    if found is not None:
        centre, (variance, df) = predictor_mean(fit, at), found
    else:
        centre, variance = predictor_normal(fit, at, integrated)
        if prediction and not fit.family.is_linear:
            values = _of_response(of_normal(rows, centre, variance, dispersion_of(fit)), ci_level)
            values[endless, 1:] = np.nan  # no finite estimate, no distribution of it
            return values
        if prediction:
            variance = variance + dispersion_of_new(fit, new, at.rows.complete)[0] ** 2 / ones
    sd = np.where(endless, np.inf, np.sqrt(variance))
    reach = np.where(np.isinf(df), special.ndtri(0.5 + ci_level / 2), special.stdtrit(df, 0.5 + ci_level / 2))
    ends = np.column_stack([centre, centre - reach * sd, centre + reach * sd])
    if kind == "link" or fit.family.is_linear:
        return np.column_stack([ends[:, 0], sd, ends[:, 1:]])
    if rows.zero is not None:
        return _of_two_parts(fit, at, integrated, rows, centre, sd, reach)
    parameters = fit.dispersion_parameters
    mean = mean_of(rows.family, ends, parameters)
    slope = np.abs(mean_slope(rows.family, centre, parameters))
    if is_curved_posterior(fit):  # known as a normal approximation
        mean[:, 0] = posterior_mean(fit, at)
    return np.column_stack([mean[:, 0], slope * sd, np.sort(mean[:, 1:], axis=1)])


def _of_two_parts(
    fit: FittedModel,
    at: Placed,
    integrated: Sequence[bool],
    rows: Rows,
    centre: FloatArray,
    sd: FloatArray,
    reach: FloatArray,
) -> FloatArray:
    """Confidence intervals of the expected response s mu under zero inflation, shape (n, 4).

    With eta the linear predictor, s = 1 / (1 + exp(zeta)) and zeta = z'gamma, the delta method gives

        var(log(s mu)) = var((mu'/mu) eta - (1 - s) zeta)

    where mu' = d mu / d eta: the error of one linear function of fixed effects, group effects and gamma. The group
    effects' estimates depend on gamma, too. The intervals are symmetric about log(s mu), so that they do not go below
    zero.

    Raises:
        UnsupportedModelError: If the result does not hold the covariance of the two parts.
    """
    part, z = fit.parts["zero"], at.rows.zero
    if z is None or not np.asarray(part.cross_covariance).size:
        raise UnsupportedModelError(
            "The result does not hold the covariance of the mean's coefficients with those of the zero inflation, "
            "which an interval of the expected response needs: use kind='link', or leave interval= out."
        )
    parameters = fit.dispersion_parameters
    mean, share = mean_of(rows.family, centre, parameters), np.asarray(rows.share)
    rate = np.abs(mean_slope(rows.family, centre, parameters)) / mean
    error = conditional_of_both_parts(fit, fit.design())
    x = np.hstack([rate[:, None] * at.rows.x, -(1 - share)[:, None] * z])
    columns = [rate[:, None] * c for c in at.columns(integrated)]
    variance = predictor_variance(error, x, columns, at.codes)
    spread = np.where(part.is_unbounded(z) | np.isinf(sd), np.inf, np.sqrt(np.maximum(variance, 0.0)))
    estimate = share * mean
    return np.column_stack(
        [estimate, estimate * spread, estimate * np.exp(-reach * spread), estimate * np.exp(reach * spread)]
    )


def _of_draws(rows: Rows, eta: FloatArray, parameters: FloatArray, kind: str, ci_level: float) -> FloatArray:
    """Credible intervals from draws of linear predictors (S, n) and dispersion parameters (S, k), shape (n, 4)."""
    tail = 0.5 - ci_level / 2
    shown = eta if kind == "link" else mean_of(rows.family, eta, parameters.T[:, :, None]) * rows.share
    lower, upper = np.quantile(shown, [tail, 1 - tail], axis=0)
    return np.column_stack([shown.mean(axis=0), shown.std(axis=0, ddof=1), lower, upper])


__all__ = ["NEW", "included", "place_known", "predict_interval"]
