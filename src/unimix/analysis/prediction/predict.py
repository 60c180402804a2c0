"""Predictions of the response, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.means.scales import Scale, is_transformed
from unimix.analysis.prediction.categories import KINDS as CATEGORY_KINDS
from unimix.analysis.prediction.categories import predict_categories
from unimix.analysis.prediction.distributions import place, predictor_draws
from unimix.analysis.prediction.expected import is_curved_posterior, posterior_mean
from unimix.analysis.prediction.intervals import NEW, included, place_known, predict_interval
from unimix.analysis.prediction.over_groups import GROUPS, OverGroups, check_over_groups
from unimix.analysis.prediction.rows import predict_rows
from unimix.analysis.prediction.turned_back import in_units_of_the_column, of_posterior, turned_back, with_variances
from unimix.design.frames import one_row, to_pandas
from unimix.distributions.family import Cumulative
from unimix.distributions.ordered import refuse_categories
from unimix.distributions.random_responses import mean_of
from unimix.errors import OptionError, listing
from unimix.fitted.model import FittedModel, interval_level, is_sampled
from unimix.fitted.residuals import mean
from unimix.fitted.table_result import TableResult

FloatArray = npt.NDArray[np.float64]
Kind = Literal["response", "link", "probability", "exceedance", "mean", "category"]


@overload
def predict(
    fit: FittedModel,
    newdata: Any = None,
    *,
    level: Literal["group", "population"] | Sequence[str] = "group",
    new_levels: Literal["error", "population", "sample"] = "error",
    kind: Kind | None = None,
    bias_adjust: bool | float = False,
    interval: None = None,
    ci_level: float | None = None,
    average: Literal["groups"] | None = None,
    seed: int = 0,
) -> FloatArray: ...
@overload
def predict(
    fit: FittedModel,
    newdata: Any = None,
    *,
    level: Literal["group", "population"] | Sequence[str] = "group",
    new_levels: Literal["error", "population", "sample"] = "error",
    kind: Kind | None = None,
    bias_adjust: bool | float = False,
    interval: Literal["confidence", "prediction"],
    ci_level: float | None = None,
    average: Literal["groups"] | None = None,
    seed: int = 0,
) -> TableResult: ...
def predict(
    fit: FittedModel,
    newdata: Any = None,
    *,
    level: Literal["group", "population"] | Sequence[str] = "group",
    new_levels: Literal["error", "population", "sample"] = "error",
    kind: Kind | None = None,
    bias_adjust: bool | float = False,
    interval: Literal["confidence", "prediction"] | None = None,
    ci_level: float | None = None,
    average: Literal["groups"] | None = None,
    seed: int = 0,
) -> Any:
    """Predict the response, with intervals on request.

    Args:
        newdata: New rows, in any form that ``um.fit`` takes, or a dict of single values for one row; None for the rows
            that were fitted.
        level: Group effects to include: group for all of them, population for none, or a list of grouping factors.
        new_levels: Treatment of levels that were not fitted: error; population (their effects are zero); or sample
            (their effects are zero, and their variance is part of the interval).
        kind: response for the expected response, by the inverse link and with structural zeros, or link for the linear
            predictor. Of a posterior both are posterior means: the expected response is the mean over the draws, and
            not the inverse link of a mean. At population level this is the response of a group whose effects are zero,
            not the average over groups. ``kind="response"`` turns a transformed response of a linear model back,
            ``log(y)`` into y; None gives the response as it was fitted. Of ordered categories: probability of each
            category (also None and response), exceedance for the probability of a response above each threshold, mean
            for the mean category (whole numbers count as themselves, other categories from 1 to K), category for the
            most probable one, or link for the mean of the latent variable.
        bias_adjust: Whether to give the mean of a response that is turned back instead of its value at the mean of,
            say, ``log(y)``: the mean over a normal distribution with the variance of the residual and of the group
            effects that are left out. A number is the standard deviation to use instead.
        interval: confidence: interval for the expected response, from the joint error of fixed and group effects at the
            estimated variances. prediction: interval for one new response, with the weight or number of trials that its
            row has in the column of ``weights=`` or in ``cbind`` (else weight 1, one trial). It also includes the
            residual, and the variance between groups of each effect that is left out or was not fitted; its estimate is
            then the mean over groups. For a sampler, intervals are quantiles of the draws.
        ci_level: Probability of the intervals, between 0 and 1; None takes that of the fit.
        average: groups for the mean over all groups of the population, by quadrature over the random effects (the
            response of a whole population), instead of that of a group whose effects are zero (a typical group). The
            two differ where the link bends. It takes the place of ``level``; intervals are confidence intervals, which
            hold the error of the estimated variances where it is known.
        seed: Seed of the draws from which prediction intervals of generalised models are computed.

    Returns:
        Predictions, shape (n,), in the units of the response or the linear predictor; with intervals, ``.table`` with
        columns estimate, std_error, lower, upper and the index of the rows. NaN if a predictor is missing.
        Probabilities of ordered categories are a frame with a column for each category; with intervals, ``.table`` has
        a row for each
        row of the data and category.

    Raises:
        DataError: If columns are absent or levels are unknown.
        OptionError: If an argument is wrong.
        UnsupportedModelError: If intervals of ordered categories are asked with group effects.
        UnimixError: If expected responses of new rows are asked of a posterior that was loaded without its draws.

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
    if isinstance(fit.family, Cumulative) and average is None and bias_adjust is False:
        return predict_categories(
            fit,
            newdata,
            kind=kind or "probability",
            level=level,
            chosen=chosen,
            new_levels=new_levels,
            interval=interval,
            ci_level=interval_level(fit, ci_level),
        )
    refuse_categories(fit.family, "average= or bias_adjust=")
    if kind in CATEGORY_KINDS and kind != "link":
        raise OptionError(f"kind={kind!r} is for ordered categories, family='cumulative': choose 'response' or 'link'.")
    if kind not in (None, "response", "link"):
        raise OptionError(f"kind={kind!r}: choose 'response' or 'link'.")
    if average is not None:
        return _over_groups(fit, newdata, average, kind, interval, interval_level(fit, ci_level), seed)
    back = turned_back(fit, kind or "", chosen, bias_adjust)
    if back is not None:
        plain = predict(
            fit, newdata, level=level, new_levels=new_levels, interval=interval, ci_level=ci_level, seed=seed
        )
        rows = fit.design().frame() if newdata is None else one_row(newdata)
        drawn = None
        if bias_adjust is True and any(chosen) and new_levels != "error":
            codes = place_known(fit, rows, chosen, new_levels).codes
            if any((c < 0).any() for c, counts in zip(codes, chosen, strict=True) if counts):
                raise OptionError(
                    "bias_adjust=True with levels that were not fitted: the variance of their effects would count for "
                    "these rows only. Ask for them by level='population', where that of all effects counts."
                )
        if is_sampled(fit):
            at = place_known(fit, rows, chosen, new_levels).only(chosen)
            integrated = [c and new_levels == "sample" for c in chosen]
            drawn = of_posterior(fit, at, back, interval_level(fit, ci_level), integrated, seed)
        return in_units_of_the_column(plain, back, drawn)
    kind = kind or "response"
    if interval is not None:
        asked = fit.design().frame() if newdata is None else newdata
        level_of_interval = interval_level(fit, ci_level)
        table = predict_interval(
            fit,
            asked,
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
        return eta if kind == "link" else mean(fit.family, fit.dispersion_parameters, fit.rows, groups=level == "group")
    rows = fit.design().frame() if newdata is None else one_row(newdata)
    if kind == "response" and is_curved_posterior(fit):
        at = place_known(fit, rows, chosen, new_levels).only(chosen)
        expected = np.full(len(at.rows.complete), np.nan)
        expected[at.rows.complete] = posterior_mean(fit, at)
        return expected
    zero = fit.parts["zero"].estimate if "zero" in fit.parts else None
    prediction = predict_rows(
        fit.model.encoding,
        fit.fixed.estimate,
        fit.random,
        rows,
        chosen=chosen,
        new_levels=new_levels,
        zero=zero,
        aliased=fit.model.aliased,
    )
    if kind == "link":
        return prediction.eta
    return mean_of(fit.family, prediction.eta, fit.dispersion_parameters) * prediction.share


def _over_groups(
    fit: FittedModel, newdata: Any, average: str, kind: str | None, interval: str | None, ci_level: float, seed: int
) -> FloatArray | TableResult:
    """Predictions averaged over the groups: the population's mean on the scale of the response."""
    faults = []
    if average != GROUPS:
        faults.append(f"average={average!r}: choose 'groups', or leave it out.")
    if kind == "link":
        faults.append("average='groups' averages expected responses: leave kind='link' out.")
    if is_transformed(fit) and kind == "response":
        faults.append(f"average='groups' with a response {fit.model.response}: type bias_adjust=True instead.")
    if interval == "prediction":
        faults.append("A prediction interval has the variance between groups already: leave average= out.")
    if faults:
        raise OptionError("\n".join(faults))
    check_over_groups(fit)
    frame = to_pandas(fit.design().frame() if newdata is None else one_row(newdata)).reset_index(drop=True)
    eta = np.asarray(predict(fit, frame, level="population", kind="link"))
    full = np.flatnonzero(~np.isnan(eta))
    rows = OverGroups.of(fit, frame.iloc[full].reset_index(drop=True))
    values = np.full((len(eta), 4), np.nan)
    if rows.sampled is not None:
        at = place(fit, frame.iloc[full].reset_index(drop=True), [False] * len(fit.random))
        drawn = predictor_draws(fit, at, [False] * len(fit.random), fit.status.n_draws or 1, seed)[0]
        means, tail = rows.mean_of_draws(drawn), 0.5 - ci_level / 2
        ends = np.quantile(means, [tail, 1 - tail], axis=0)
        values[full] = np.column_stack([means.mean(axis=0), means.std(axis=0, ddof=1), *ends])
    else:
        values[full, 0] = rows.mean(eta[full])
        if interval is not None:
            table = predict(fit, frame, level="population", kind="link", interval="confidence", ci_level=ci_level).table
            at = place(fit, frame.iloc[full].reset_index(drop=True), [False] * len(fit.random))
            plain = with_variances(table.iloc[full], Scale.over_groups(rows), at.rows.x)
            values[full, 1] = plain["std_error"] * np.abs(rows.slope(eta[full]))
            values[full, 2:] = np.column_stack([rows.mean(plain[end].to_numpy()) for end in ("lower", "upper")])
    if interval is None:
        return np.asarray(values[:, 0])
    index = newdata.index if isinstance(newdata, pd.DataFrame) else None
    columns = ["estimate", "std_error", "lower", "upper"]
    note = f"{100 * ci_level:g}% confidence intervals of the mean, {rows.note}"
    return TableResult(pd.DataFrame(values, columns=columns, index=index), [note])


def _note(ci_level: float, interval: str, kind: str, level: str | Sequence[str]) -> str:
    """The kind of the intervals, and the quantity that they are for, in words."""
    centre = "a new response" if interval == "prediction" else "the linear predictor" if kind == "link" else "the mean"
    groups = {"group": "with the group effects", "population": "without group effects"}
    which = groups[level] if isinstance(level, str) else f"with the effects of {listing(level) or 'no group'}"
    return f"{100 * ci_level:g}% {interval} intervals of {centre}, {which}"
