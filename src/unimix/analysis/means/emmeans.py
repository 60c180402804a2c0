"""Estimated marginal means, their contrasts, and slopes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from unimix.analysis.comparisons.predictors import Predictors, response_note
from unimix.analysis.means import averaging
from unimix.analysis.means.averaging import checked_labels, checked_weights, grid_in_words, interaction_note
from unimix.analysis.means.category_means import category_means, is_of_categories
from unimix.analysis.means.contrast_result import Contrasts
from unimix.analysis.means.derivatives import derivative_rows
from unimix.analysis.means.linear_functions import fixed_inference
from unimix.analysis.means.marginal_means import MarginalMeans
from unimix.analysis.means.reference_grid import PopulationRows, checked_names, reference_grid
from unimix.analysis.means.scales import Scale, is_transformed
from unimix.analysis.means.slopes_over_groups import inference_of_slopes, moving_rows
from unimix.analysis.means.specs import Specs, read_specs
from unimix.analysis.means.two_parts import log_means
from unimix.analysis.prediction.categories import CAPTIONS
from unimix.analysis.prediction.over_groups import GROUPS, OverGroups, averaged_note, check_over_groups
from unimix.distributions.family import Poisson
from unimix.distributions.random_responses import mean_of
from unimix.errors import OptionError
from unimix.fitted.criterion import support_arrays
from unimix.fitted.model import interval_level
from unimix.fitted.schema import DfMethod
from unimix.stats.delta import Linear
from unimix.stats.inference import checked_level

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
Weights = Literal["equal", "proportional", "outer", "cells"]
MeanKind = Literal["response", "link", "probability", "exceedance", "mean"]


def _checked(fit: FittedModel, weights: str, kind: str, ci_level: float) -> None:
    checked_level(ci_level)
    checked_weights(weights)
    if kind not in ("response", "link", *CAPTIONS):
        raise OptionError(f"kind={kind!r}: choose 'response' or 'link'.")
    if kind == "response" and "zero" not in fit.parts:
        mean_of(fit.family, np.zeros(0))  # refuses a family whose expected response is not the inverse link


MEANS_OF_TURNED = "For the mean of a transformed response type kind='response', bias_adjust=True instead."
SLOPES_OF_TURNED = (
    "Means of a transformed response at several values are fit.emmeans({variable!r}, at={{{variable!r}: [0, 1]}}, "
    "kind='response', bias_adjust=True)."
)
"""What to type where averages over the groups are not of the response itself."""


def _checked_average(fit: FittedModel, average: str, instead: str) -> None:
    """Check that a fit has means of its response over the groups; ``instead`` is what a transformed one has."""
    if average != GROUPS:
        raise OptionError(f"average={average!r}: choose 'groups', or leave it out.")
    if is_transformed(fit):
        raise OptionError(
            f"average='groups' averages responses as they were fitted, here {fit.model.response}. {instead}"
        )
    check_over_groups(fit)


def emmeans(
    fit: FittedModel,
    specs: str | Sequence[str],
    *,
    by: str | Sequence[str] = (),
    at: Mapping[str, Any] | None = None,
    weights: Weights = "equal",
    kind: MeanKind = "link",
    bias_adjust: bool | float = False,
    average: Literal["groups"] | None = None,
    ci_level: float | None = None,
    df_method: DfMethod | None = None,
) -> MarginalMeans:
    """Estimated marginal means, as in R's emmeans: population predictions averaged over a reference grid.

    Args:
        specs: Predictors with a mean for each combination of their levels; or a formula, ``"~ a * b"`` or ``"~ a | b"``
            (by b).
        by: Predictors within whose levels contrasts are formed.
        at: Values of predictors in the grid, one or a list for each name; by default, factors have all their levels and
            numeric predictors their means.
        weights: Weights of the combinations of factors that are averaged over, as in R's emmeans: equal; proportional
            to the frequency of each combination in the data; outer, the product of the frequencies of the levels;
            cells, the frequencies within each mean. Frequencies count prior weights.
        kind: Scale of the means: link, or response, which applies the inverse link, with standard errors by the delta
            method; contrasts of models with a log or logit link are then ratios or odds ratios. A transformed response
            of a linear model, such as ``log(y)``, ``sqrt(y)``, ``log1p(y)`` or ``y^2``, is turned back, too, and
            contrasts of ``log(y)`` are ratios. With zero inflation, and in hurdle models, the means are averages of
            expected responses, which hold the zeros. Ordered responses have probability (of each category), exceedance
            (of each threshold) and mean (category), whose contrasts are differences within each category.
        bias_adjust: Whether to give means of a response that is turned back instead of its value at the mean of, say,
            ``log(y)``, which is the median: the mean over a normal distribution with the variance of the residual and
            of all group effects. A number is the standard deviation to use instead.
        average: groups for means of the response over all groups of the population, by quadrature over the random
            effects, instead of those of a group whose effects are zero; it implies ``kind="response"``. Standard errors
            are by the delta method about the fixed effects and the variances.
        ci_level: Probability of the interval of each single mean, between 0 and 1; None takes that of the fit.
        df_method: Degrees of freedom of a linear model: satterthwaite, kenward-roger, residual or normal; None takes
            the method of the fit.

    Returns:
        ``.table``; and ``.contrasts()``, which are pairwise, against a reference, polynomial or by weights, adjusted by
        Tukey, Sidak, Holm, false discovery rate or the multivariate t distribution. Degrees of freedom are computed per
        row by the method of the fit; a posterior has quantiles of its draws instead.

    Raises:
        OptionError: If predictors, levels or options are unknown.
        DataError: If no mean can be estimated.
        UnsupportedModelError: If the response scale is asked of a result that does not hold the covariance of its mean
            with its zero inflation.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("distance ~ Sex * age + (1 | Subject)", um.load_dataset("orthodont"))
        >>> fit.emmeans("Sex", at={"age": 10})
        Sex     estimate  std_error    df    lower    upper
        Male     24.1844     0.4921  26.3  23.1733  25.1955
        Female   22.1682     0.5935  26.3  20.9488  23.3876
        emmean on the scale of the response
        95% intervals, df satterthwaite
        At age = 10
    """
    specification = read_specs(specs, by)
    if specification.method:
        raise OptionError(f"{specs!r} asks for contrasts: type fit.contrasts({specs!r}).")
    means = every_mean(fit, specification, at, weights, kind, ci_level, df_method, bias_adjust, average)
    means.check_estimable()
    return means


def every_mean(
    fit: FittedModel,
    specification: Specs,
    at: Mapping[str, Any] | None,
    weights: str,
    kind: str,
    ci_level: float | None,
    df_method: str | None,
    bias_adjust: bool | float = False,
    average: str | None = None,
) -> MarginalMeans:
    """The means, whether or not each of them can be estimated; see :func:`emmeans`."""
    ci_level = interval_level(fit, ci_level)
    if average is not None:
        _checked_average(fit, average, MEANS_OF_TURNED)
        if bias_adjust is not False:
            raise OptionError(
                f"bias_adjust= is for a response that is turned back, not {fit.model.response}: leave it out."
            )
        kind = "response"
    rated = average is None and is_of_categories(fit.family, kind, [*specification.by, *specification.names])
    _checked(fit, weights, kind, ci_level)
    scale = Scale.of(fit, kind, bias_adjust) if average is None else Scale.of_family(fit.family)
    design, grid = support_arrays(fit), reference_grid(fit, at)
    outer = checked_names(grid.frame, specification.by, "by")
    inner = checked_names(grid.frame, specification.names, "specs")
    names = [n for n in inner if n not in outer]
    everything = [*names, *outer]
    checked_labels(everything)
    averages = averaging.average(grid, everything, weights)
    every, whole = PopulationRows(fit, design), averages.turn @ grid.x
    if fit.model.aliased:
        whole = averages.turn @ every.full(grid.frame, "The grid").x
    rows, lost = _estimable(every, whole, averages.empty)
    inference, offset = fixed_inference(fit, df_method), averages.turn @ grid.offset
    if kind == "response" and "zero" in fit.parts:
        found = log_means(fit, inference, grid, every, averages)
        inference, lost, scale = found.inference, found.lost, Scale.of_family(Poisson("log"))
        rows, offset = np.eye(len(offset)), np.zeros(len(offset))
        averages = replace(averages, empty=lost)
    if rated:
        of_categories = category_means(fit, inference, grid, every, averages, kind)
        inference, cell = of_categories.inference, of_categories.cell
        outer += [str(n) for n in of_categories.levels if n not in everything]
        rows, offset, lost, whole = np.eye(len(cell)), np.zeros(len(cell)), lost[cell], whole[cell]
        averages = replace(averages, levels=of_categories.levels, empty=averages.empty[cell])
        scale, kind = of_categories.scale, "response"
    if average is not None:
        scale = Scale.over_groups(OverGroups.of(fit, grid.frame).averaged(averages.turn))
    if bias_adjust is not False and "zero" in fit.parts:
        raise OptionError("bias_adjust= is for a transformed response, and a count with zeros has none: leave it out.")
    inference, rows = scale.with_variances(inference, rows, offset)
    functions = inference.functions(rows)
    if bias_adjust is not False:
        scale.mean((functions.estimate + offset)[~lost])  # refused here, not where the table is printed
    partners = Predictors.of(fit, design).partners(everything)
    return MarginalMeans(
        names=tuple(names),
        by=tuple(outer),
        levels=averages.levels,
        functions=functions,
        offset=offset,
        family=fit.family,
        kind=kind,
        ci_level=ci_level,
        what="emmean",
        title="Marginal mean",
        held=grid_in_words(averages, grid, at),
        warned=_warned(
            interaction_note(averages, partners, at),
            scale.note or response_note(fit, design),
            *fit.model.encoding.beyond_splines(grid.frame),
        ),
        lost=lost,
        scale=scale,
        _whole=whole,
        _empty=averages.empty,
        _rows=every,
        _inference=inference,
    )


def slopes(
    fit: FittedModel,
    variable: str,
    *,
    by: str | Sequence[str] = (),
    at: Mapping[str, Any] | None = None,
    weights: Weights = "equal",
    average: Literal["groups"] | None = None,
    ci_level: float | None = None,
    df_method: DfMethod | None = None,
) -> MarginalMeans:
    """Slopes of the linear predictor with respect to a numeric predictor, as ``emtrends`` in R's emmeans.

    With ``average="groups"`` they are slopes of the mean response of the population.

    Args:
        variable: Name of the numeric predictor.
        by: Predictors with a slope for each combination of their levels; ``.contrasts()`` compares the slopes.
        at: Values of predictors in the grid, one or a list for each name; the slope of a curve is taken at the value of
            ``variable`` given here, or at its mean.
        weights: Weights of the combinations of factors that are averaged over: equal, proportional, outer or cells, as
            in :meth:`emmeans`.
        average: groups for slopes of the mean response over all groups of the population, by quadrature over the random
            effects: the derivatives of ``emmeans(..., average="groups")``. They hold the change of the variance
            between groups where a random slope has one. A linear model with the identity link has the same slopes in
            every group.
        ci_level: Probability of the intervals, between 0 and 1; None takes that of the fit.
        df_method: Degrees of freedom of a linear model: satterthwaite, kenward-roger, residual or normal; None takes
            the method of the fit.

    Returns:
        ``.table`` with one row per slope, and ``.contrasts()``.

    Raises:
        OptionError: If predictors, levels or options are unknown, or the variable is a factor.
        DataError: If the linear predictor has no slope there, or no slope can be estimated.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("distance ~ Sex * age + (1 | Subject)", um.load_dataset("orthodont"))
        >>> slopes = fit.slopes("age", by="Sex")
        >>> slopes
        Sex     estimate  std_error    df   lower   upper
        Male      0.7844    0.07750  79.0  0.6301  0.9386
        Female    0.4795    0.09347  79.0  0.2935  0.6656
        slope on the scale of the response
        95% intervals, df satterthwaite
        At age = 11 (mean)
        >>> slopes.contrasts()
        contrast       estimate  std_error    df  statistic  p_value    lower   upper  adjust
        Male - Female    0.3048     0.1214  79.0       2.51    0.014  0.06315  0.5465  tukey
        Differences on the scale of the response; 95% intervals, df satterthwaite; p values and intervals adjusted
        for all of them (tukey).
    """
    ci_level = interval_level(fit, ci_level)
    if average is not None:
        _checked_average(fit, average, SLOPES_OF_TURNED.format(variable=variable))
    over = average is not None and fit.family.link != "identity"
    _checked(fit, weights, "response" if over else "link", ci_level)
    design, grid = support_arrays(fit), reference_grid(fit, at)
    checked_names(grid.frame, [variable], "variable")
    known = Predictors.of(fit, design)
    if variable in known.levels:
        raise OptionError(
            f"{variable!r} is a factor and has no slope: fit.emmeans({variable!r}).contrasts() compares its levels."
        )
    names = checked_names(grid.frame, [by] if isinstance(by, str) else list(by), "by")
    if variable not in names and len(dict.fromkeys(grid.frame[variable])) > 1:
        names = [variable, *names]  # one slope at each value, not their average
    checked_labels(names)
    averages = averaging.average(grid, names, weights)
    every, what = PopulationRows(fit, design), f"Slopes of {variable}"
    derivative = derivative_rows(every, grid.frame, variable, what)
    whole, offset = averages.turn @ derivative.x, averages.turn @ derivative.offset
    rows, lost = _estimable(every, whole, averages.empty)
    inference, empty = fixed_inference(fit, df_method), averages.empty
    beyond = fit.model.encoding.beyond_splines(grid.frame)
    warned = _warned(interaction_note(averages, known.partners([variable]), at), response_note(fit, design), *beyond)
    if over:
        here = averages.turn @ every.full(grid.frame, what).x
        at_rows, also = _estimable(every, here, empty)
        turned = Linear(at_rows, averages.turn @ grid.offset), Linear(rows, offset)
        moving = moving_rows(fit, grid.frame, variable, averages.turn, turned, every.range_of(variable))
        inference = inference_of_slopes(inference, moving)
        empty, whole = lost | also, np.where(also[:, None], here, whole)  # slopes of the response need both
        lost = empty
        rows, offset = np.eye(len(lost)), np.zeros(len(lost))
        warned = (f"Slopes of the mean response {averaged_note(fit)}.", *warned)
    means = MarginalMeans(
        names=tuple(names),
        by=(),
        levels=averages.levels,
        functions=inference.functions(rows),
        offset=offset,
        family=fit.family,
        kind="response" if over else "link",
        ci_level=ci_level,
        what="slope",
        title=f"Slope of {variable}",
        held=grid_in_words(averages, grid, at),
        warned=warned,
        lost=lost,
        scale=Scale.of_family(fit.family),
        _whole=whole,
        _empty=empty,
        _rows=every,
        _inference=inference,
    )
    means.check_estimable()
    return means


def _warned(*notes: str) -> tuple[str, ...]:
    return tuple(note for note in notes if note)


def _estimable(
    every: PopulationRows, whole: FloatArray, empty: npt.NDArray[np.bool_]
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Rows (m, p) of the columns that were fitted, and which of them cannot be estimated, shape (m,).

    The rows that cannot be estimated mean nothing by themselves, but their differences may.
    """
    return whole if every.span is None else whole[:, every.kept], empty | every.lacks(whole)


def contrasts(
    fit: FittedModel,
    specs: str | Sequence[str],
    method: str | Mapping[str, Sequence[float]] = "pairwise",
    *,
    by: str | Sequence[str] = (),
    at: Mapping[str, Any] | None = None,
    weights: Weights = "equal",
    kind: MeanKind = "link",
    bias_adjust: bool | float = False,
    average: Literal["groups"] | None = None,
    adjust: str | None = None,
    reference: Any = None,
    interaction: str | Sequence[str] | None = None,
    scores: Sequence[float] | None = None,
    simple: str | None = None,
    joint: bool = False,
    equivalence: tuple[float, float] | None = None,
    ci_level: float | None = None,
    df_method: DfMethod | None = None,
) -> Contrasts:
    """Contrasts of marginal means: ``fit.emmeans(specs, ...).contrasts(method, ...)`` in one call.

    Args:
        specs: Predictors with a mean for each combination of their levels; or a formula, which may name the method,
            ``"pairwise ~ a | b"``.
        method: Contrasts to form: pairwise, revpairwise, reference, effects, del.eff, consecutive, mean_chg, helmert,
            poly, or weights by name.
        by: Predictors within whose levels contrasts are formed.
        at: Values of predictors in the grid, one or a list for each name.
        weights: Weights of the combinations of factors that are averaged over: equal, proportional, outer or cells, as
            in :meth:`emmeans`.
        kind: Scale of the contrasts: link, or response, which gives ratios or odds ratios for models with a log or
            logit link, and turns a transformed response such as ``log(y)`` back, as in :meth:`emmeans`.
        bias_adjust: Whether differences are of means of a response that is turned back, as in :meth:`emmeans`.
        average: groups for contrasts of means over all groups of the population, as in :meth:`emmeans`.
        adjust: Adjustment for several contrasts: none, tukey, sidak, bonferroni, holm, fdr, mvt or dunnettx. None takes
            tukey for pairwise, mvt for reference and consecutive, fdr for effects, and none for others.
        reference: Level that ``method="reference"`` compares the others with; None takes the first.
        interaction: Contrasts of contrasts instead: a method for all factors of ``specs``, or one for each.
        scores: Scores of the means for poly, if their steps are not equal.
        simple: Factor whose levels are contrasted within those of all others, or each for every factor in turn.
        joint: Whether to test all contrasts of each group of ``by`` together.
        equivalence: Bounds between which each contrast is to lie: two one-sided tests, or of a posterior the
            probability that it does.
        ci_level: Probability of the intervals, between 0 and 1; None takes that of the fit.
        df_method: Degrees of freedom of a linear model: satterthwaite, kenward-roger, residual or normal; None takes
            the method of the fit.

    Returns:
        ``.table`` with one row per contrast, as
        :meth:`unimix.analysis.means.marginal_means.MarginalMeans.contrasts` gives it.

    Raises:
        OptionError: If predictors, levels, methods or options are unknown.
        DataError: If no contrast can be estimated, or there is only one mean.

    Example:
        >>> import unimix as um
        >>> formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
        >>> fit = um.fit(formula, um.load_dataset("cbpp"), family="binomial")
        >>> fit.contrasts("period", "reference", kind="response")
        contrast  odds_ratio  std_error   df  statistic  p_value    lower   upper  adjust
        2 / 1         0.3707    0.11368  Inf      -3.24    0.004  0.17866  0.7692  mvt
        3 / 1         0.3235    0.10566  Inf      -3.46    0.002  0.14865  0.7039  mvt
        4 / 1         0.2059    0.08801  Inf      -3.70   <0.001  0.07444  0.5696  mvt
        Odds ratios, tested on the scale of the logarithm; 95% intervals, df normal; p values and intervals adjusted
        for all of them (mvt).
    """
    specification = read_specs(specs, by)
    if specification.method and method not in ("pairwise", specification.method):
        raise OptionError(f"specs={specs!r} and method={method!r} name two different methods: name only one.")
    means = every_mean(fit, specification, at, weights, kind, ci_level, df_method, bias_adjust, average)
    method = specification.method or method
    return means.contrasts(
        method,
        adjust=adjust,
        reference=reference,
        interaction=interaction,
        scores=scores,
        simple=simple,
        joint=joint,
        equivalence=equivalence,
    )
