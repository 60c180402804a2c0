"""Comparisons: how the expected response changes when a predictor changes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.comparisons.predictor_changes import Change, changes_of
from unimix.analysis.comparisons.predictors import response_note
from unimix.analysis.means.derivatives import derivative_rows
from unimix.analysis.means.linear_functions import FixedInference, SmoothFunctions, fixed_inference
from unimix.analysis.means.reference_grid import PopulationRows, fitted_frame, given_offset
from unimix.analysis.tests.hypotheses import Named, assess
from unimix.design.frames import one_row, to_pandas
from unimix.design.typed_columns import FactorColumn
from unimix.distributions.family import Family, Gaussian
from unimix.distributions.links import LINKS
from unimix.distributions.sampling import mean_of
from unimix.errors import DataError, OptionError, UnsupportedModelError, did_you_mean, listing
from unimix.fitted.model import interval_level
from unimix.fitted.table_result import TableResult
from unimix.stats.delta import Averages, Linear, compare, compare_slopes, mean_gradient, over_draws, slope_gradient
from unimix.stats.inference import checked_level

if TYPE_CHECKING:
    from unimix.design.arrays import Design
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

COMPARISONS = ("difference", "ratio", "log_ratio", "odds_ratio", "log_odds_ratio", "dydx")
LOGARITHMS = {"ratio": "log_ratio", "odds_ratio": "log_odds_ratio"}
OUTCOMES = ("estimate", "std_error", "df", "statistic", "p_value", "lower", "upper")
TAKEN = ("variable", "contrast", *OUTCOMES)


@dataclass(frozen=True, repr=False, eq=False)
class Comparisons(TableResult):
    """Changes of the expected response.

    Attributes:
        levels: One row per comparison: variable, contrast, the groups of ``by``, or the row and its predictors.
        functions: The changes as functions of the fixed effects; of ratios their logarithms.
        comparison: difference, ratio, log_ratio, odds_ratio, log_odds_ratio or dydx.
        kind: response or link.
        ci_level: Probability of the intervals.
        response: What the response is, in words, where it is a function of a column; else empty.
    """

    levels: pd.DataFrame
    functions: SmoothFunctions
    comparison: str
    kind: str
    ci_level: float
    response: str
    _inference: FixedInference

    @property
    def table(self) -> pd.DataFrame:
        """One row per comparison: variable, contrast, groups or rows, then the estimate and its inference.

        Columns estimate, std_error, df, statistic, p_value, lower, upper; of a posterior without the tests. Ratios are
        assess, and have their intervals, on the scale of their logarithm, against a ratio of 1; their standard error is
        that of the ratio, by the delta method.
        """
        made = self.functions.table(self.ci_level)
        if self.comparison in LOGARITHMS:
            for column in ("estimate", "lower", "upper"):
                made[column] = np.exp(made[column])
            made["std_error"] *= made["estimate"]
            if self.functions.draws is not None:
                ratios = np.exp(self.functions.draws)
                made["estimate"], made["std_error"] = ratios.mean(axis=0), ratios.std(axis=0, ddof=1)
        return pd.concat([self.levels.reset_index(drop=True), made], axis=1)

    def hypotheses(
        self,
        tests: str | Sequence[str],
        *,
        joint: bool = False,
        alternative: str = "two-sided",
        equivalence: tuple[float, float] | None = None,
        ci_level: float | None = None,
    ) -> TableResult:
        """Test hypotheses about the comparisons, by position: ``"b0 = b1"`` is of the table's first two rows.

        Args and returns as for :meth:`unimix.FitResult.hypotheses`; of ratios it is the ratios themselves that
        are compared.
        """
        at, gradient, draws = self.functions.estimate, self.functions.gradient, self.functions.draws
        if self.comparison in LOGARITHMS:
            at = np.exp(at)
            gradient = at[:, None] * gradient
            draws = None if draws is None else np.exp(draws)
        named = Named((), at, gradient, draws, self._inference)
        level = self.ci_level if ci_level is None else ci_level
        return assess(named, tests, joint=joint, alternative=alternative, equivalence=equivalence, ci_level=level)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was compared, and how."""
        scale = "expected response" if self.kind == "response" else "linear predictor"
        df = "quantiles of the draws" if self.functions.draws is not None else f"df {self._inference.method}"
        told = f"{self.comparison} of the {scale}, population level; {100 * self.ci_level:g}% intervals, {df}"
        return (told, self.response) if self.response else (told,)

    @property
    def _labels(self) -> Sequence[str]:
        return tuple(map(str, self.levels.columns))


@dataclass(frozen=True)
class _Plan:
    """What every change of one call shares."""

    family: Family
    comparison: str
    rows: PopulationRows
    base: pd.DataFrame
    averages: Averages
    inference: FixedInference

    @property
    def is_linear(self) -> bool:
        return self.family.link == "identity" and self.comparison in ("difference", "dydx")


def comparisons(
    fit: FittedModel,
    variables: str | Sequence[str] | Mapping[str, Any] | None = None,
    *,
    newdata: Any = None,
    by: str | Sequence[str] = (),
    comparison: Literal["difference", "ratio", "log_ratio", "odds_ratio", "log_odds_ratio", "dydx"] = "difference",
    average: bool = True,
    cross: bool = False,
    weights: Any = None,
    kind: Literal["response", "link"] = "response",
    ci_level: float | None = None,
) -> Comparisons:
    """How the expected response changes when a predictor changes, as the comparisons of R's marginaleffects.

    Every row is predicted twice, before and after the change, with all its other predictors and its offset as they
    are; the two predictions are averaged over the rows and then compared, so that a ratio is the ratio of the
    averages. Predictions are of the population: of a group whose effects are zero, which in models with a link is
    not the average over groups.

    Args:
        variables: Predictors; None for all. ``{"x": what}`` says what changes. Of a number: a step, from x to
            x + step (1 if left out); "sd" or "2sd" centred at the row's value; "iqr" (from the first to the third
            quartile of the rows fitted); "minmax"; or two values, (10, 20). Of a factor: "reference" (each level
            against the first, if left out), "pairwise", "sequential", or two levels, ("a", "b"), for b against a.
        newdata: Rows to predict, in any form that ``fit`` takes; None for those that were fitted.
        by: Columns within whose combinations rows are averaged; grouping factors too.
        comparison: difference; ratio; log_ratio; odds_ratio or log_odds_ratio, of probabilities; dydx, the slope of
            the expected response by a number.
        average: Average over the rows, or give one comparison per row.
        cross: Change all predictors together instead of one at a time.
        weights: Weights of the rows in averages: None for equal ones, "model" for the fit's own weights or trials, or
            one number per row.
        kind: response, or link for the linear predictor.
        ci_level: Probability of the intervals (that of the fit, if left out).

    Returns:
        ``.table``: variable, contrast, groups, estimate, std_error, df, statistic, p_value, lower, upper, and
        ``.hypotheses()`` between its rows. Standard errors by the delta method from the covariance matrix of the
        fixed effects (the error of variances is not in them); degrees of freedom of the gradient, of the kind that
        the result has. Ratios have their tests and intervals on the scale of the logarithm. Of a posterior
        means, standard deviations and quantiles of the draws.

    Raises:
        OptionError: For predictors, levels or options that do not exist; all of them at once.
        DataError: For rows that cannot be predicted, or ratios of responses that are not positive.
        UnsupportedModelError: For the response of a model with zero inflation.

    Example:
        >>> import unimix as um
        >>> formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
        >>> fit = um.fit(formula, um.load_dataset("cbpp"), family="binomial")
        >>> fit.comparisons("period")
        variable  contrast  estimate  std_error   df  statistic  p_value    lower     upper
        period    2 - 1      -0.1142    0.03528  Inf      -3.24    0.001  -0.1833  -0.04502
        period    3 - 1      -0.1241    0.03551  Inf      -3.49   <0.001  -0.1937  -0.05447
        period    4 - 1      -0.1497    0.03666  Inf      -4.08   <0.001  -0.2215  -0.07781
        difference of the expected response, population level; 95% intervals, df normal
    """
    ci_level = interval_level(fit, ci_level)
    outer = [by] if isinstance(by, str) else list(by)
    _checked(fit, comparison, kind, ci_level, average=average, grouped=bool(outer), weighted=weights is not None)
    design = fit.design()
    if newdata is None:
        base, what = fitted_frame(design), "The data that were fitted"
        rows = PopulationRows(fit, design, given_offset(fit, design))
    else:
        base, what = to_pandas(one_row(newdata)).reset_index(drop=True), "newdata"
        if not len(base):
            raise DataError("newdata has no rows.")
        rows = PopulationRows(fit, design)
        rows.full(base, what)
    changes = changes_of(fit, design, variables, base, comparison, cross=cross)
    codes, groups = _grouped(base, outer, design, average=average)
    share = _shares(fit, weights, len(base), observed=newdata is None)
    if (np.bincount(codes, share, minlength=len(groups)) <= 0).any():
        raise OptionError("weights: they sum to zero over the rows of one average.")
    if not average:
        labels = design.rows if newdata is None else np.arange(len(base))
        groups = _per_row(base, labels)
    family = fit.family if kind == "response" else Gaussian()
    plan = _Plan(family, comparison, rows, base, Averages.of(codes, share, len(groups)), fixed_inference(fit))
    parts = [_compared(plan, change) for change in changes]
    tables = [_told(change, groups) for change in changes]
    draws = None if parts[0][2] is None else np.concatenate([np.asarray(p[2]) for p in parts], axis=1)
    functions = plan.inference.smooth(
        np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]), draws
    )
    told = response_note(fit, design)
    return Comparisons(
        pd.concat(tables, ignore_index=True), functions, comparison, kind, ci_level, told, plan.inference
    )


def _checked(
    fit: FittedModel, comparison: str, kind: str, ci_level: float, *, average: bool, grouped: bool, weighted: bool
) -> None:
    checked_level(ci_level)
    faults = []
    if comparison not in COMPARISONS:
        faults.append(
            f"comparison={comparison!r}: choose {listing(COMPARISONS)}.{did_you_mean(str(comparison), COMPARISONS)}"
        )
    if kind not in ("response", "link"):
        faults.append(f"kind={kind!r}: choose 'response' or 'link'.")
    elif kind == "link" and comparison in COMPARISONS and comparison not in ("difference", "dydx"):
        faults.append(f"comparison={comparison!r} is of expected responses: kind='link' has differences and slopes.")
    if comparison in ("odds_ratio", "log_odds_ratio") and fit.family.response not in ("binomial", "unit"):
        faults.append(f"comparison={comparison!r} is of probabilities, which the {fit.family.name} family has not.")
    if not average and grouped:
        faults.append("by= averages within groups: leave it out with average=False.")
    if not average and weighted:
        faults.append("weights= are of an average: leave them out with average=False.")
    if faults:
        raise OptionError("\n".join(faults))
    if "zero" in fit.parts and kind == "response":
        raise UnsupportedModelError(
            "With zero inflation the expected response depends on two parts, and the result does not hold their common "
            "covariance matrix, which a standard error needs: use kind='link', of the count's linear predictor, or "
            "fit.predict(new, level='population') for estimates alone."
        )


def _grouped(
    base: pd.DataFrame, names: Sequence[str], design: Design, *, average: bool
) -> tuple[IntArray, pd.DataFrame]:
    """The average that each row belongs to, shape (n,), and the groups."""
    if not average:
        return np.arange(len(base)), pd.DataFrame(index=range(len(base)))
    known = [str(c) for c in base.columns if c != "unimix"]
    strange = [n for n in names if n not in known]
    if strange:
        raise OptionError(
            f"by={strange[0]!r} is not a column here.{did_you_mean(strange[0], known)} Columns: {listing(known)}."
        )
    if not names:
        return np.zeros(len(base), dtype=np.int64), pd.DataFrame(index=[0])
    if set(names) & set(TAKEN):
        taken = next(n for n in names if n in TAKEN)
        raise OptionError(
            f"by={taken!r}: the table has a column {taken!r} of its own. Rename the column and fit again."
        )
    if base[list(names)].isna().any(axis=None):
        raise DataError(f"by: {listing(names)} has missing values. Leave these rows out.")
    ranks = []
    for name in names:
        column = design.columns.get(name)
        levels = [str(v) for v in column.levels] if isinstance(column, FactorColumn) else []
        ranks.append(_ranks(base[name].tolist(), levels))
    keys = list(base[list(names)].itertuples(index=False, name=None))
    order = sorted(dict.fromkeys(keys), key=lambda k: [r[v] for r, v in zip(ranks, k, strict=True)])
    place = {k: i for i, k in enumerate(order)}
    return np.array([place[k] for k in keys]), pd.DataFrame(order, columns=list(names))


def _ranks(values: list[Any], levels: list[str]) -> dict[Any, int]:
    """The order of values: that of the fit's levels, else their own, else of appearance."""
    seen = list(dict.fromkeys(values))
    if all(str(v) in levels for v in seen):
        return {v: levels.index(str(v)) for v in seen}
    with contextlib.suppress(TypeError):
        seen = sorted(seen)
    return {v: i for i, v in enumerate(seen)}


def _shares(fit: FittedModel, weights: Any, n: int, *, observed: bool) -> FloatArray:
    if weights is None:
        return np.ones(n)
    if isinstance(weights, str):
        if weights != "model" or not observed:
            raise OptionError(
                f"weights={weights!r}: 'model' (the fit's own weights or trials, for the rows that were fitted), or "
                f"one number per row, shape ({n},)."
            )
        own = fit.rows.trials if fit.rows.trials is not None else fit.rows.weights
        return np.ones(n) if own is None else np.asarray(own, dtype=np.float64)
    given = np.asarray(weights)
    if given.shape != (n,) or given.dtype.kind not in "iuf" or not np.isfinite(given).all() or (given < 0).any():
        raise OptionError(f"weights: one number per row that is not negative, shape ({n},); got shape {given.shape}.")
    return given.astype(np.float64)


def _per_row(base: pd.DataFrame, rows: Any) -> pd.DataFrame:
    taken = {*TAKEN, "row", "unimix"}
    kept = [c for c in base.columns if str(c) not in taken]
    return pd.concat([pd.DataFrame({"row": np.asarray(rows)}), base[kept].reset_index(drop=True)], axis=1)


def _told(change: Change, groups: pd.DataFrame) -> pd.DataFrame:
    made = groups.copy()
    made.insert(0, "contrast", change.label)
    made.insert(0, "variable", ", ".join(change.names))
    return made


def _compared(plan: _Plan, change: Change) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """Estimates, gradients and draws of one change in every average, on the scale on which they are tested."""
    what = f"The comparison of {', '.join(change.names)} ({change.label})"
    beta, draws = plan.inference.beta, plan.inference.posterior
    if plan.comparison == "dydx":
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
    family, averages = plan.family, plan.averages

    def means(b: FloatArray) -> tuple[FloatArray, FloatArray]:
        found = [_means(plan, r.at(b), what) for r in (after, before)]
        return found[0], found[1]

    high_mean, low_mean = means(beta)
    up, down = compare_slopes(scale, high_mean, low_mean)
    gradients = [mean_gradient(family, rows, beta, averages)[1] for rows in (after, before)]
    gradient = up[:, None] * gradients[0] + down[:, None] * gradients[1]

    def compared(b: FloatArray) -> FloatArray:
        return compare(scale, *means(b))

    drawn = None if draws is None else over_draws(compared, draws, len(plan.base))
    return compare(scale, high_mean, low_mean), gradient, drawn


def _linear(plan: _Plan, change: Linear, draws: FloatArray | None) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    rows = Linear(plan.averages(change.x), plan.averages(change.offset))
    return rows.at(plan.inference.beta), rows.x, None if draws is None else rows.at(draws).T


def _slope(
    plan: _Plan, rows: Linear, rate: Linear, draws: FloatArray | None, what: str
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    link: Callable[[FloatArray], FloatArray] = LINKS[plan.family.link].slope
    _means(plan, rows.at(plan.inference.beta), what)
    value, gradient = slope_gradient(plan.family, rows, rate, plan.inference.beta, plan.averages)
    drawn = None
    if draws is not None:
        drawn = over_draws(lambda b: plan.averages(link(rows.at(b)) * rate.at(b)), draws, len(plan.base))
    return value, gradient, drawn


def _means(plan: _Plan, eta: FloatArray, what: str) -> FloatArray:
    """Average expected responses of predictors (n, ...), shape (m, ...).

    Raises:
        DataError: If the link gives none, or a ratio of them has no meaning.
    """
    mean = mean_of(plan.family, eta)
    bad = ~np.isfinite(mean)
    if plan.family.response in ("count", "positive"):
        bad |= ~(mean > 0)
    if bad.any():
        raise DataError(
            f"{what}: the expected response does not exist in {_share(bad)}, where the linear predictor leaves the "
            f"range of the {plan.family.link} link. Compare nearer values, or on the scale kind='link'."
        )
    found = plan.averages(mean)
    if plan.comparison in ("ratio", "log_ratio") and (found <= 0).any():
        raise DataError(
            f"{what}: a ratio needs positive expected responses, and {_share(found <= 0)} are not. Use "
            "comparison='difference'."
        )
    return found


def _share(bad: npt.NDArray[np.bool_]) -> str:
    return f"{int(bad.sum())} of {bad.size} cases"


__all__ = ["Comparisons", "comparisons"]
