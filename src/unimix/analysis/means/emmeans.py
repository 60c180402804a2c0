"""Estimated marginal means, their contrasts, and slopes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from unimix.analysis.comparisons.predictors import Predictors, response_note
from unimix.analysis.means.averaging import average, checked_labels, checked_weights, held, interaction_note
from unimix.analysis.means.derivatives import derivative_rows
from unimix.analysis.means.linear_functions import fixed_inference
from unimix.analysis.means.marginal_means import MarginalMeans
from unimix.analysis.means.reference_grid import PopulationRows, checked_names, reference_grid
from unimix.analysis.means.specs import read_specs
from unimix.errors import OptionError, UnsupportedModelError, listing
from unimix.fitted.model import interval_level
from unimix.fitted.schema import DfMethod
from unimix.fitted.table_result import TableResult
from unimix.stats.delta import Linear
from unimix.stats.inference import checked_level

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
Weights = Literal["equal", "proportional", "outer", "cells"]


def _checked(fit: FittedModel, weights: str, kind: str, ci_level: float) -> None:
    checked_level(ci_level)
    checked_weights(weights)
    if kind not in ("response", "link"):
        raise OptionError(f"kind={kind!r}: choose 'response' or 'link'.")
    if "zero" in fit.parts and kind == "response":
        raise UnsupportedModelError("With zero inflation marginal means are of the count's mean: use kind='link'.")


def emmeans(
    fit: FittedModel,
    specs: str | Sequence[str],
    *,
    by: str | Sequence[str] = (),
    at: Mapping[str, Any] | None = None,
    weights: Weights = "equal",
    kind: Literal["response", "link"] = "link",
    ci_level: float | None = None,
    df_method: DfMethod | None = None,
) -> MarginalMeans:
    """Estimated marginal means, as R's emmeans: population predictions averaged over a reference grid.

    Args:
        specs: Predictors whose combinations have a mean each; or a formula, ``"~ a * b"``, ``"~ a | b"`` (by b).
        by: Predictors within whose levels contrasts are formed.
        at: Values of predictors, one or a list of them; else all levels of factors, and the means of numbers.
        weights: Weights of the combinations of factors that are averaged over: equal; proportional to how often each
            occurs in the data; outer, to the product of the frequencies of their levels; cells, to the frequencies
            within each mean's own rows. Prior weights count. As R's emmeans.
        kind: link, or response: through the inverse link, with standard errors by the delta method; contrasts of
            models with a log or logit link are then ratios or odds ratios.
        ci_level: Probability of the intervals (that of the fit, if left out), for each mean by itself.
        df_method: As for :meth:`anova`.

    Returns:
        ``.table``, and ``.contrasts()``: pairwise, against a reference, polynomial, by weights, adjusted by Tukey,
        Sidak, Holm, false discovery rate or the multivariate t distribution. Degrees of freedom per row, of the
        kind that the result has; of a posterior quantiles of the draws.

    Raises:
        OptionError: For unknown predictors or levels.

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
    ci_level = interval_level(fit, ci_level)
    _checked(fit, weights, kind, ci_level)
    wanted = read_specs(specs, by)
    if wanted.method:
        raise OptionError(f"{specs!r} asks for contrasts: type fit.contrasts({specs!r}).")
    design, grid = fit.design(), reference_grid(fit, at)
    outer = checked_names(grid.frame, wanted.by, "by")
    inner = checked_names(grid.frame, wanted.names, "specs")
    names = [n for n in inner if n not in outer]
    everything = [*names, *outer]
    checked_labels(everything)
    averages = average(grid, everything, weights)
    rows, lost = averages.turn @ grid.x, averages.empty
    if fit.model.aliased:
        every = PopulationRows(fit, design)
        whole = averages.turn @ every.full(grid.frame, "The grid").x
        rows, lost = _estimable(every, whole, lost, f"Means of {listing(everything)}")
    inference = fixed_inference(fit, df_method)
    partners = Predictors.of(fit, design).partners(everything)
    return MarginalMeans(
        names=tuple(names),
        by=tuple(outer),
        levels=averages.levels,
        functions=inference.functions(rows),
        offset=averages.turn @ grid.offset,
        family=fit.family,
        kind=kind,
        ci_level=ci_level,
        what="emmean",
        title="Marginal mean",
        held=held(averages, grid, at),
        warned=_warned(interaction_note(averages, partners, at), response_note(fit, design)),
        lost=lost,
        _inference=inference,
    )


def slopes(
    fit: FittedModel,
    variable: str,
    *,
    by: str | Sequence[str] = (),
    at: Mapping[str, Any] | None = None,
    weights: Weights = "equal",
    ci_level: float | None = None,
    df_method: DfMethod | None = None,
) -> MarginalMeans:
    """Slopes of the linear predictor by a numeric variable, as ``emtrends`` of R's emmeans.

    Args:
        variable: The numeric predictor.
        by: Predictors whose combinations have a slope each; ``.contrasts()`` compares them.
        at: As for :meth:`emmeans`; the slope of a curve is that at the variable's mean, or at this value.
        weights: As for :meth:`emmeans`.
        ci_level: Probability of the intervals (that of the fit, if left out).
        df_method: As for :meth:`anova`.

    Raises:
        OptionError: For unknown predictors, or a factor.

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
        Differences on the scale of the response; 95% intervals, df satterthwaite; p values and intervals for all of
        them at once (tukey).
    """
    ci_level = interval_level(fit, ci_level)
    _checked(fit, weights, "link", ci_level)
    design, grid = fit.design(), reference_grid(fit, at)
    checked_names(grid.frame, [variable], "variable")
    known = Predictors.of(fit, design)
    if variable in known.levels:
        raise OptionError(
            f"{variable!r} is a factor and has no slope: fit.emmeans({variable!r}).contrasts() compares its levels."
        )
    names = checked_names(grid.frame, [by] if isinstance(by, str) else list(by), "by")
    if variable not in names and len(dict.fromkeys(grid.frame[variable])) > 1:
        names = [variable, *names]  # a slope at each of several values, not their average
    checked_labels(names)
    averages = average(grid, names, weights)
    every, what = PopulationRows(fit, design), f"Slopes of {variable}"
    derivative = derivative_rows(every, grid.frame, variable, what)
    rows, lost = _estimable(every, averages.turn @ derivative.x, averages.empty, what)
    inference = fixed_inference(fit, df_method)
    hidden = interaction_note(averages, known.partners([variable]), at)
    return MarginalMeans(
        names=tuple(names),
        by=(),
        levels=averages.levels,
        functions=inference.functions(rows),
        offset=averages.turn @ derivative.offset,
        family=fit.family,
        kind="link",
        ci_level=ci_level,
        what="slope",
        title=f"Slope of {variable}",
        held=held(averages, grid, at),
        warned=_warned(hidden, response_note(fit, design)),
        lost=lost,
        _inference=inference,
    )


def _warned(*notes: str) -> tuple[str, ...]:
    return tuple(note for note in notes if note)


def _estimable(
    every: PopulationRows, whole: FloatArray, empty: npt.NDArray[np.bool_], what: str
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Rows (m, p) of the columns that were fitted, any where they are lost, and which are lost, shape (m,).

    Raises:
        DataError: If all of them are.
    """
    lost = empty | every.lacks(whole)
    if lost.all():
        every.fitted(Linear(whole, np.zeros(len(whole))), what)
    rows = whole if every.span is None else whole[:, every.kept]
    return np.where(lost[:, None], np.eye(1, rows.shape[1]), rows), lost


def contrasts(
    fit: FittedModel,
    specs: str | Sequence[str],
    method: str | Mapping[str, Sequence[float]] = "pairwise",
    *,
    by: str | Sequence[str] = (),
    at: Mapping[str, Any] | None = None,
    weights: Weights = "equal",
    kind: Literal["response", "link"] = "link",
    adjust: str | None = None,
    reference: Any = None,
    ci_level: float | None = None,
    df_method: DfMethod | None = None,
) -> TableResult:
    """Contrasts of marginal means: ``fit.emmeans(specs, ...).contrasts(method, ...)`` in one call.

    Args:
        specs: As for :meth:`emmeans`; a formula may name the method, ``"pairwise ~ a | b"``.
        method: pairwise, reference, effects, consecutive, poly, or weights by name.
        by: As for :meth:`emmeans`.
        at: As for :meth:`emmeans`.
        weights: As for :meth:`emmeans`.
        kind: link, or response: ratios and odds ratios of models with a log or logit link.
        adjust: none, tukey, sidak, bonferroni, holm, fdr, mvt; tukey for pairwise and none for others, if left out.
        reference: Level of ``method="reference"``.
        ci_level: Probability of the intervals (that of the fit, if left out).
        df_method: As for :meth:`anova`.

    Returns:
        As :meth:`unimix.analysis.means.marginal_means.MarginalMeans.contrasts`.

    Raises:
        OptionError: For unknown predictors, levels or methods.

    Example:
        >>> import unimix as um
        >>> formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
        >>> fit = um.fit(formula, um.load_dataset("cbpp"), family="binomial")
        >>> fit.contrasts("period", "reference", kind="response")
        contrast  odds_ratio  std_error   df  statistic  p_value    lower   upper  adjust
        2 / 1         0.3707    0.11368  Inf      -3.24    0.004  0.17866  0.7692  mvt
        3 / 1         0.3235    0.10566  Inf      -3.46    0.002  0.14865  0.7039  mvt
        4 / 1         0.2059    0.08801  Inf      -3.70   <0.001  0.07444  0.5696  mvt
        Odds ratios, tested on the scale of the logarithm; 95% intervals, df normal; p values and intervals for all
        of them at once (mvt).
    """
    wanted = read_specs(specs, by)
    if wanted.method and method not in ("pairwise", wanted.method):
        raise OptionError(f"specs={specs!r} and method={method!r} are two methods: name one.")
    means = emmeans(
        fit,
        wanted.names,
        by=wanted.by,
        at=at,
        weights=weights,
        kind=kind,
        ci_level=ci_level,
        df_method=df_method,
    )
    method = wanted.method or method
    return means.contrasts(method, adjust=adjust, reference=reference)
