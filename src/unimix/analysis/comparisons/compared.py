"""The numbers of a comparison: estimates, gradients and draws of each change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.comparisons.predictor_changes import Change
from unimix.analysis.means.derivatives import derivative_rows
from unimix.analysis.means.linear_functions import FixedInference
from unimix.analysis.means.reference_grid import PopulationRows
from unimix.analysis.means.two_parts import TwoParts
from unimix.analysis.prediction.over_groups import OverGroups
from unimix.design.typed_columns import as_numbers, read_columns
from unimix.distributions.family import Family
from unimix.distributions.links import LINKS
from unimix.distributions.random_responses import mean_of
from unimix.errors import DataError
from unimix.stats.delta import Averages, Linear, compare, compare_slopes, mean_gradient, over_draws, slope_gradient

FloatArray = npt.NDArray[np.float64]

LOGARITHMS = {"ratio": "log_ratio", "odds_ratio": "log_odds_ratio"}


@dataclass(frozen=True)
class Plan:
    """Settings that all changes of one call share.

    Attributes:
        family: Family whose expected responses are compared.
        comparison: difference, ratio, log_ratio, odds_ratio, log_odds_ratio or dydx.
        rows: Columns of the fixed effects for rows of predictors.
        base: The rows whose predictors are changed, n of them.
        averages: Averages over the rows.
        inference: The fixed effects, prepared for inference.
        over: Function from rows to their averages over the groups; None for groups whose effects are zero.
        two_parts: The expected response of a model with a part for zeros, whose coefficients the inference covers; else
            None.
    """

    family: Family
    comparison: str
    rows: PopulationRows
    base: pd.DataFrame
    averages: Averages
    inference: FixedInference
    over: Callable[[pd.DataFrame], OverGroups] | None
    two_parts: TwoParts | None = None

    @property
    def is_linear(self) -> bool:
        """Whether the changes are linear functions of the fixed effects."""
        return self.family.link == "identity" and self.comparison in ("difference", "dydx")


def compared(plan: Plan, change: Change) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """Estimates, gradients and draws of one change for every average, on the scale of the tests."""
    what = f"The comparison of {', '.join(change.names)} ({change.label})"
    if plan.two_parts is not None:
        return *_of_two_parts(plan, plan.two_parts, change, what), None
    beta, draws = plan.inference.beta, plan.inference.posterior
    if plan.comparison == "dydx":
        if plan.over is not None:
            return _slope_over_groups(plan, plan.over, change, what)
        rate = plan.rows.fitted(derivative_rows(plan.rows, plan.base, change.names[0], what), what)
        if plan.is_linear:
            return _linear(plan, rate, draws)
        return _slope(plan, plan.rows(plan.base, what), rate, draws, what)
    low = plan.rows.full(plan.base.assign(**change.low), what)
    high = plan.rows.full(plan.base.assign(**change.high), what)
    if plan.is_linear:
        return _linear(plan, plan.rows.fitted(Linear(high.x - low.x, high.offset - low.offset), what), draws)
    before, after = plan.rows.fitted(low, what), plan.rows.fitted(high, what)
    scale = LOGARITHMS.get(plan.comparison, plan.comparison)
    if plan.over is not None:
        over = plan.over(plan.base.assign(**change.high)), plan.over(plan.base.assign(**change.low))
        return _compared_over_groups(plan, scale, (after, before), over, what)
    family, averages = plan.family, plan.averages

    def means(b: FloatArray) -> tuple[FloatArray, FloatArray]:
        means_at = [_means(plan, r.at(b), what) for r in (after, before)]
        return means_at[0], means_at[1]

    high_mean, low_mean = means(beta)
    up, down = compare_slopes(scale, high_mean, low_mean)
    gradients = [mean_gradient(family, rows, beta, averages)[1] for rows in (after, before)]
    gradient = up[:, None] * gradients[0] + down[:, None] * gradients[1]
    gradient = _without_limits(plan, gradient, before, after)

    def compared(b: FloatArray) -> FloatArray:
        return compare(scale, *means(b))

    drawn = None if draws is None else over_draws(compared, draws, len(plan.base))
    return compare(scale, high_mean, low_mean), gradient, drawn


def _of_two_parts(plan: Plan, two_parts: TwoParts, change: Change, what: str) -> tuple[FloatArray, FloatArray]:
    """Estimates and gradients of one change in responses (1 - pi) m; a slope is a central difference."""
    scale, step, frames = LOGARITHMS.get(plan.comparison, plan.comparison), 1.0, (change.high, change.low)
    if plan.comparison == "dydx":
        step, frames = _small_changes(plan, change)
        scale = "difference"
    means, gradients, endless = [], [], np.zeros(len(plan.base), dtype=bool)
    for moved in frames:
        frame = plan.base.assign(**moved)
        rows, z = plan.rows(frame, what), plan.rows.zero(frame)
        mean, gradient = two_parts.mean(rows, z)
        means.append(_averaged(plan, mean, what))
        gradients.append(plan.averages(gradient))
        endless |= plan.inference.lacks(np.hstack([rows.x, z]))
    up, down = compare_slopes(scale, means[0], means[1])
    gradient = up[:, None] * gradients[0] + down[:, None] * gradients[1]
    lost = plan.averages(endless.astype(float)) > 0
    gradient = np.where(lost[:, None], np.nan, gradient)
    return compare(scale, means[0], means[1]) / step, gradient / step


def _small_changes(plan: Plan, change: Change) -> tuple[float, tuple[dict[str, FloatArray], dict[str, FloatArray]]]:
    """A thousandth of a predictor's range, and its values half of that above and below those of the rows."""
    name = change.names[0]
    at = np.asarray(as_numbers(read_columns(plan.base, [name])[name]), dtype=np.float64)
    low, high = plan.rows.range_of(name)
    step = 1e-3 * ((high - low) or 1.0)
    return step, ({name: at + step / 2}, {name: at - step / 2})


def _compared_over_groups(
    plan: Plan, scale: str, rows: tuple[Linear, Linear], over: tuple[OverGroups, OverGroups], what: str
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """Estimates, gradients and draws of one change in responses that are averaged over the groups.

    The gradients are about the fixed effects and, where their error is known, the k variance parameters, (m, p + k).
    """
    beta, draws = plan.inference.beta, plan.inference.posterior
    high, low = (_averaged(plan, o.mean(r.at(beta)), what) for o, r in zip(over, rows, strict=True))
    up, down = compare_slopes(scale, high, low)
    slopes = [
        plan.averages(np.hstack([o.slope(r.at(beta))[:, None] * r.x, o.by_variances(r.at(beta))]))
        for o, r in zip(over, rows, strict=True)
    ]
    gradient = _without_limits(plan, up[:, None] * slopes[0] + down[:, None] * slopes[1], *rows)
    drawn = None
    if draws is not None:
        ends = [_averaged(plan, o.mean_of_draws(r.at(draws).T).T, what) for o, r in zip(over, rows, strict=True)]
        drawn = compare(scale, ends[0], ends[1]).T
    return compare(scale, high, low), gradient, drawn


def _slope_over_groups(
    plan: Plan, over: Callable[[pd.DataFrame], OverGroups], change: Change, what: str
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """Slope of the response that is averaged over the groups, by steps of a thousandth of the predictor's range.

    The variance between groups may depend on the predictor, so that the slope has a part of its own from it. The
    difference is central, with a relative error of about 1e-7.
    """
    step, moved = _small_changes(plan, change)
    frames = [plan.base.assign(**values) for values in moved]
    rows = (plan.rows(frames[0], what), plan.rows(frames[1], what))
    ends = over(frames[0]), over(frames[1])
    value, gradient, drawn = _compared_over_groups(plan, "difference", rows, ends, what)
    return value / step, gradient / step, None if drawn is None else drawn / step


def _without_limits(plan: Plan, gradient: FloatArray, *rows: Linear) -> FloatArray:
    """Gradients (m, p) with NaN for averages over rows whose linear predictor tends to infinity.

    The expected response of such a row tends to a limit and its derivative to zero, which does not
    mean that the response is known.
    """
    endless = plan.averages(np.any([plan.inference.lacks(r.x) for r in rows], axis=0).astype(float)) > 0
    return np.where(endless[:, None], np.nan, gradient)


def _linear(plan: Plan, change: Linear, draws: FloatArray | None) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    rows = Linear(plan.averages(change.x), plan.averages(change.offset))
    return rows.at(plan.inference.beta), rows.x, None if draws is None else rows.at(draws).T


def _slope(
    plan: Plan, rows: Linear, rate: Linear, draws: FloatArray | None, what: str
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    link: Callable[[FloatArray], FloatArray] = LINKS[plan.family.link].slope
    _means(plan, rows.at(plan.inference.beta), what)
    value, gradient = slope_gradient(plan.family, rows, rate, plan.inference.beta, plan.averages)
    gradient = _without_limits(plan, gradient, rows, rate)
    drawn = None
    if draws is not None:
        drawn = over_draws(lambda b: plan.averages(link(rows.at(b)) * rate.at(b)), draws, len(plan.base))
    return value, gradient, drawn


def _means(plan: Plan, eta: FloatArray, what: str) -> FloatArray:
    """Average expected responses at linear predictors (n, ...), shape (m, ...).

    Raises:
        DataError: If an expected response does not exist, or a ratio of responses has no meaning.
    """
    return _averaged(plan, mean_of(plan.family, eta), what)


def _averaged(plan: Plan, mean: FloatArray, what: str) -> FloatArray:
    """Averages of expected responses (n, ...), shape (m, ...); see :func:`_means`."""
    bad = ~np.isfinite(mean)
    if plan.family.response in ("count", "positive", "nonnegative"):
        bad |= ~(mean > 0)
    if bad.any():
        raise DataError(
            f"{what}: the expected response does not exist in {_share(bad)}, where the linear predictor is outside the "
            f"range of the {plan.family.link} link. Compare values that are closer together, or use kind='link'."
        )
    averages = plan.averages(mean)
    if plan.comparison in ("ratio", "log_ratio") and (averages <= 0).any():
        raise DataError(
            f"{what}: a ratio needs positive expected responses, and {_share(averages <= 0)} are not. Use "
            "comparison='difference'."
        )
    return averages


def _share(bad: npt.NDArray[np.bool_]) -> str:
    return f"{int(bad.sum())} of {bad.size} cases"


__all__ = ["LOGARITHMS", "Plan", "compared"]
