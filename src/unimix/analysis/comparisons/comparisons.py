"""Comparisons: how the expected response changes when a predictor changes."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.comparisons.compared import LOGARITHMS, Plan, compared
from unimix.analysis.comparisons.predictor_changes import Change, changes_of
from unimix.analysis.comparisons.predictors import response_note
from unimix.analysis.means.equivalence import COLUMNS as EQUIVALENCE
from unimix.analysis.means.equivalence import checked_bounds
from unimix.analysis.means.linear_functions import ENDLESS, FixedInference, SmoothFunctions, fixed_inference
from unimix.analysis.means.reference_grid import PopulationRows, fitted_frame, given_offset
from unimix.analysis.means.two_parts import TwoParts, joint_inference
from unimix.analysis.prediction.over_groups import GROUPS, NOTE, OverGroups, averaged_note, check_over_groups
from unimix.analysis.prediction.variance_error import variance_error
from unimix.analysis.tests.hypotheses import Named, assess
from unimix.design.frames import one_row, to_pandas
from unimix.design.typed_columns import FactorColumn
from unimix.distributions.family import Gaussian
from unimix.errors import DataError, OptionError, did_you_mean, listing
from unimix.fitted.model import interval_level
from unimix.fitted.table_result import TableResult
from unimix.foreign_names import suggests_names
from unimix.stats.delta import Averages
from unimix.stats.inference import checked_level

if TYPE_CHECKING:
    from unimix.design.arrays import Design
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

COMPARISONS = ("difference", "ratio", "log_ratio", "odds_ratio", "log_odds_ratio", "dydx")
OUTCOMES = ("estimate", "std_error", "df", "statistic", "p_value", "lower", "upper", "p_direction", *EQUIVALENCE)
TAKEN = ("variable", "contrast", *OUTCOMES)


@suggests_names(path=None)
@dataclass(frozen=True, repr=False, eq=False)
class Comparisons(TableResult):
    """Changes of the expected response.

    Attributes:
        levels: One row per comparison: variable, contrast, and the groups of ``by`` or the row and its predictors.
        functions: The changes as functions of the fixed effects; for ratios, their logarithms.
        comparison: difference, ratio, log_ratio, odds_ratio, log_odds_ratio or dydx.
        kind: response or link.
        ci_level: Probability of the intervals, between 0 and 1.
        bounds: Bounds of equivalence tests, for ratios their logarithms; None without such tests.
        response: A note if the response is a function of a column, such as ``log(y)``; else empty.
    """

    levels: pd.DataFrame
    functions: SmoothFunctions
    comparison: str
    kind: str
    ci_level: float
    bounds: tuple[float, float] | None
    response: str
    _inference: FixedInference

    @property
    def table(self) -> pd.DataFrame:
        """One row per comparison: variable, contrast, groups or rows, then the estimate and its inference.

        Columns estimate, std_error, df, statistic, p_value, lower, upper; a posterior has p_direction, the probability
        of the likelier side of no change. Equivalence tests add p_noninferiority, p_nonsuperiority and p_equivalence,
        or probability_equivalence. Ratios are tested
        against 1, and their intervals are computed, on the scale of the logarithm; their standard error is that of the
        ratio itself, by the delta method.
        """
        frame = self.functions.table(self.ci_level)
        if self.comparison in LOGARITHMS:
            for column in ("estimate", "lower", "upper"):
                frame[column] = np.exp(frame[column])
            frame["std_error"] *= frame["estimate"]
            if self.functions.draws is not None:
                ratios = np.exp(self.functions.draws)
                frame["estimate"], frame["std_error"] = ratios.mean(axis=0), ratios.std(axis=0, ddof=1)
        if self.bounds is not None:
            frame = pd.concat([frame, self.functions.equivalence(self.bounds)], axis=1)
        return pd.concat([self.levels.reset_index(drop=True), frame], axis=1)

    def hypotheses(
        self,
        tests: str | Sequence[str],
        *,
        joint: bool = False,
        alternative: str = "two-sided",
        equivalence: tuple[float, float] | None = None,
        ci_level: float | None = None,
    ) -> TableResult:
        """Test hypotheses about the comparisons by position: ``"b0 = b1"`` compares the table's first two rows.

        The arguments and the result are those of :meth:`unimix.FitResult.hypotheses`. Hypotheses about ratios concern
        the ratios themselves, not their logarithms.
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
        """The scale of the comparisons, and the kind of their intervals."""
        scale = "expected response" if self.kind == "response" else "linear predictor"
        df = "quantiles of the draws" if self.functions.draws is not None else f"df {self._inference.method}"
        level = "" if NOTE in self.response else ", population level"
        sentence = f"{self.comparison} of the {scale}{level}; {100 * self.ci_level:g}% intervals, {df}"
        endless = ENDLESS if np.isinf(self.functions.std_error).any() else ""
        return tuple(note for note in (sentence, self.response, endless) if note)

    @property
    def _labels(self) -> Sequence[str]:
        return tuple(map(str, self.levels.columns))


def comparisons(
    fit: FittedModel,
    variables: str | Sequence[str] | Mapping[str, Any] | None = None,
    *,
    newdata: Any = None,
    by: str | Sequence[str] = (),
    comparison: Literal["difference", "ratio", "log_ratio", "odds_ratio", "log_odds_ratio", "dydx"] = "difference",
    average: bool | Literal["groups"] = True,
    cross: bool = False,
    weights: Any = None,
    kind: Literal["response", "link"] = "response",
    equivalence: tuple[float, float] | None = None,
    ci_level: float | None = None,
) -> Comparisons:
    """How the expected response changes when a predictor changes, as ``comparisons`` in R's marginaleffects.

    Every row is predicted twice, before and after the change, with its other predictors and its offset held fixed. The
    two predictions are averaged over the rows and then compared, so that a ratio is the ratio of the averages.
    Predictions are for the population, that is for a group whose effects are zero, which in models with a link is not
    the average over groups. With zero inflation, and in hurdle models, they hold the zeros, and standard errors have
    the errors of both parts.

    Args:
        variables: Predictors to change; None for all. ``{"x": what}`` says how x changes. For a numeric predictor: a
            step, from x to x + step (1 if left out); "sd" or "2sd", centred at the row's value; "iqr" (from the first
            to the third quartile of the fitted rows); "minmax"; or two values, (10, 20). For a factor: "reference"
            (each level minus the first; the default), "pairwise", "sequential", or two levels, ("a", "b"), which
            compares b with a.
        newdata: Rows to predict, in any form that ``um.fit`` takes; None for the rows that were fitted.
        by: Columns, grouping factors included, within whose combinations rows are averaged.
        comparison: difference; ratio; log_ratio; odds_ratio or log_odds_ratio for probabilities; or dydx, the slope of
            the expected response with respect to a numeric predictor.
        average: Whether to average over the rows; if not, there is one comparison per row. groups averages over the
            rows and over all groups of the population, too, by quadrature over the random effects: the change of the
            response of a whole population instead of that of a group whose effects are zero.
        cross: Whether to change all predictors together instead of one at a time.
        weights: Weights of the rows in averages: None for equal weights, "model" for the fit's own weights or numbers
            of trials, or one number per row.
        kind: Scale of the comparison: response, or link for the linear predictor.
        equivalence: Bounds between which each comparison is to lie, of ratios such as (0.8, 1.25): two one-sided tests
            (Schuirmann 1987, J. Pharmacokinet. Biopharm. 15:657-680), or of a posterior the probability that it does.
        ci_level: Probability of the intervals, between 0 and 1; None takes that of the fit.

    Returns:
        ``.table`` with columns variable, contrast, groups, estimate, std_error, df, statistic, p_value, lower, upper,
        and ``.hypotheses()`` about its rows. Standard errors come from the covariance matrix of the fixed effects by
        the delta method and do not include the error of the variances. Degrees of freedom are those of the gradient,
        by the method of the fit. Tests and intervals of ratios are on the scale of the logarithm. A posterior gives
        means, standard deviations and quantiles of its draws.

    Raises:
        OptionError: If predictors, levels or options do not exist; the message lists all faults.
        DataError: If rows cannot be predicted, or a ratio is taken of responses that are not positive.
        UnsupportedModelError: If the result does not hold the covariance of its mean with its zero inflation.

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
    over = _checked_groups(fit, average, kind)
    average = bool(average)
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
    bounds = checked_bounds(equivalence, ratios=comparison in LOGARITHMS)
    changes = changes_of(fit, design, variables, base, comparison, cross=cross)
    codes, groups = _grouped(base, outer, design, average=average)
    share = _shares(fit, weights, len(base), observed=newdata is None)
    if (np.bincount(codes, share, minlength=len(groups)) <= 0).any():
        raise OptionError("weights= sum to zero over the rows of one average.")
    if not average:
        labels = design.rows if newdata is None else np.arange(len(base))
        groups = _per_row(base, labels)
    family = fit.family if kind == "response" else Gaussian()
    averages = Averages.of(codes, share, len(groups))
    inference = fixed_inference(fit)
    two_parts = TwoParts.of(fit) if "zero" in fit.parts and kind == "response" else None
    plan = Plan(
        family,
        comparison,
        rows,
        base,
        averages,
        inference if two_parts is None else joint_inference(fit, inference),
        (lambda f: OverGroups.of(fit, f)) if over else None,
        two_parts,
    )
    parts = [compared(plan, change) for change in changes]
    tables = [_labelled(change, groups) for change in changes]
    draws = None if parts[0][2] is None else np.concatenate([np.asarray(p[2]) for p in parts], axis=1)
    whole = plan.inference
    error = variance_error(fit)[0] if over else None
    if error is not None:
        whole = whole.with_variances(error.joint)
    functions = whole.smooth(np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]), draws)
    said = f"The mean response {averaged_note(fit)}."
    note = said if over else response_note(fit, design)
    return Comparisons(pd.concat(tables, ignore_index=True), functions, comparison, kind, ci_level, bounds, note, whole)


def _checked_groups(fit: FittedModel, average: bool | str, kind: str) -> bool:
    """Whether to average over the groups."""
    if isinstance(average, bool):
        return False
    if average != GROUPS:
        raise OptionError(f"average={average!r}: choose True, False or 'groups'.")
    if kind == "link":
        raise OptionError("average='groups' averages expected responses: leave kind='link' out.")
    check_over_groups(fit)
    return fit.family.link != "identity"  # a linear model has the same changes in every group


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
        faults.append(
            f"comparison={comparison!r} needs expected responses: kind='link' has differences and slopes only."
        )
    if comparison in ("odds_ratio", "log_odds_ratio") and fit.family.response not in ("binomial", "unit"):
        faults.append(f"comparison={comparison!r} is for probabilities, and the family is {fit.family.name}.")
    if not average and grouped:
        faults.append("by= averages within groups: leave it out with average=False.")
    if not average and weighted:
        faults.append("weights= are the weights of an average: leave them out with average=False.")
    if faults:
        raise OptionError("\n".join(faults))


def _grouped(
    base: pd.DataFrame, names: Sequence[str], design: Design, *, average: bool
) -> tuple[IntArray, pd.DataFrame]:
    """The index of the average that each row belongs to, shape (n,), and the table of groups."""
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
    """Ranks of values: in the order of the fit's levels, else sorted, else in order of appearance."""
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
                f"weights={weights!r}: give 'model' (the fit's own weights or trials, for the rows that were fitted), "
                f"or one number per row, shape ({n},)."
            )
        counts = fit.rows.trials if fit.rows.trials is not None else fit.rows.weights
        return np.ones(n) if counts is None else np.asarray(counts, dtype=np.float64)
    try:
        given = np.asarray(weights)
    except ValueError:  # rows of different lengths
        given = np.zeros(0)
    if given.shape != (n,) or given.dtype.kind not in "iuf" or not np.isfinite(given).all() or (given < 0).any():
        raise OptionError(f"weights= takes one nonnegative number per row, shape ({n},); got shape {given.shape}.")
    return given.astype(np.float64)


def _per_row(base: pd.DataFrame, rows: Any) -> pd.DataFrame:
    taken = {*TAKEN, "row", "unimix"}
    kept = [c for c in base.columns if str(c) not in taken]
    return pd.concat([pd.DataFrame({"row": np.asarray(rows)}), base[kept].reset_index(drop=True)], axis=1)


def _labelled(change: Change, groups: pd.DataFrame) -> pd.DataFrame:
    frame = groups.copy()
    frame.insert(0, "contrast", change.label)
    frame.insert(0, "variable", ", ".join(change.names))
    return frame


__all__ = ["Comparisons", "comparisons"]
