"""Predictions of the response, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from unimix.analysis.prediction.intervals import NEW, included, predict_interval
from unimix.analysis.prediction.rows import predict_rows
from unimix.design.frames import one_row
from unimix.distributions.random_responses import mean_of
from unimix.errors import OptionError, listing
from unimix.fitted.model import FittedModel, interval_level
from unimix.fitted.residuals import mean
from unimix.fitted.table_result import TableResult

FloatArray = npt.NDArray[np.float64]


@overload
def predict(
    fit: FittedModel,
    newdata: Any = None,
    *,
    level: Literal["group", "population"] | Sequence[str] = "group",
    new_levels: Literal["error", "population", "sample"] = "error",
    kind: Literal["response", "link"] = "response",
    interval: None = None,
    ci_level: float | None = None,
    seed: int = 0,
) -> FloatArray: ...
@overload
def predict(
    fit: FittedModel,
    newdata: Any = None,
    *,
    level: Literal["group", "population"] | Sequence[str] = "group",
    new_levels: Literal["error", "population", "sample"] = "error",
    kind: Literal["response", "link"] = "response",
    interval: Literal["confidence", "prediction"],
    ci_level: float | None = None,
    seed: int = 0,
) -> TableResult: ...
def predict(
    fit: FittedModel,
    newdata: Any = None,
    *,
    level: Literal["group", "population"] | Sequence[str] = "group",
    new_levels: Literal["error", "population", "sample"] = "error",
    kind: Literal["response", "link"] = "response",
    interval: Literal["confidence", "prediction"] | None = None,
    ci_level: float | None = None,
    seed: int = 0,
) -> FloatArray | TableResult:
    """Predict the response, with intervals on request.

    Args:
        newdata: New rows, in any form that ``um.fit`` takes, or a dict of single values for one row; None for the rows
            that were fitted.
        level: Group effects to include: group for all of them, population for none, or a list of grouping factors.
        new_levels: Treatment of levels that were not fitted: error; population (their effects are zero); or sample
            (their effects are zero, and their variance is part of the interval).
        kind: response for the expected response, by the inverse link and with structural zeros, or link for the linear
            predictor. At population level this is the response of a group whose effects are zero, not the average over
            groups.
        interval: confidence: interval for the expected response, from the joint error of fixed and group effects at the
            estimated variances. prediction: interval for one new response, with the weight or number of trials that its
            row has in the column of ``weights=`` or in ``cbind`` (else weight 1, one trial). It also includes the
            residual, and the variance between groups of each effect that is left out or was not fitted; its estimate is
            then the mean over groups. For a sampler, intervals are quantiles of the draws.
        ci_level: Probability of the intervals, between 0 and 1; None takes that of the fit.
        seed: Seed of the draws from which prediction intervals of generalised models are computed.

    Returns:
        Predictions, shape (n,), in the units of the response or the linear predictor; with intervals, ``.table`` with
        columns estimate, std_error, lower, upper and the index of the rows. NaN if a predictor is missing.

    Raises:
        DataError: If columns are absent or levels are unknown.
        OptionError: If an argument is wrong.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
        >>> fit.predict({"Days": 3, "Subject": "308"}).round(2)
        array([323.59])
        >>> fit.predict({"Days": [0, 9]}, level="population", interval="confidence")
        estimate  std_error     lower     upper
        251.4051     9.7467  231.2332  271.5770
        345.6107     9.7467  325.4388  365.7826
        95% confidence intervals of the mean, without group effects
    """
    chosen = included(fit, level)
    if new_levels not in NEW:
        raise OptionError(f"new_levels={new_levels!r}: choose {listing(map(repr, NEW))}.")
    if kind not in ("response", "link"):
        raise OptionError(f"kind={kind!r}: choose 'response' or 'link'.")
    if interval is not None:
        rows = fit.design().frame() if newdata is None else newdata
        level_of_interval = interval_level(fit, ci_level)
        table = predict_interval(
            fit,
            rows,
            level=level,
            new_levels=new_levels,
            interval=interval,
            kind=kind,
            ci_level=level_of_interval,
            seed=seed,
            own_rows=newdata is None,
        )
        beyond = [] if newdata is None else fit.model.encoding.beyond_splines(one_row(newdata))
        return TableResult(table, [_note(level_of_interval, interval, kind, level), *beyond])
    if newdata is None and isinstance(level, str):
        eta = fit.rows.linear_predictor if level == "group" else fit.rows.population_predictor
        return eta if kind == "link" else mean(fit.family, fit.dispersion_parameters, fit.rows, eta)
    zero = fit.parts["zero"].estimate if "zero" in fit.parts else None
    prediction = predict_rows(
        fit.model.encoding,
        fit.fixed.estimate,
        fit.random,
        fit.design().frame() if newdata is None else one_row(newdata),
        chosen=chosen,
        new_levels=new_levels,
        zero=zero,
        aliased=fit.model.aliased,
    )
    if kind == "link":
        return prediction.eta
    return mean_of(fit.family, prediction.eta, fit.dispersion_parameters) * prediction.share


def _note(ci_level: float, interval: str, kind: str, level: str | Sequence[str]) -> str:
    """The kind of the intervals, and the quantity that they are for, in words."""
    centre = "a new response" if interval == "prediction" else "the linear predictor" if kind == "link" else "the mean"
    groups = {"group": "with the group effects", "population": "without group effects"}
    which = groups[level] if isinstance(level, str) else f"with the effects of {listing(level) or 'no group'}"
    return f"{100 * ci_level:g}% {interval} intervals of {centre}, {which}"
