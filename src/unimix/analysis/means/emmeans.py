"""Estimated marginal means, their contrasts, and slopes."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.comparisons.predictors import Predictors, response_note
from unimix.analysis.means.averaging import average, checked_labels, checked_weights, held, interaction_note
from unimix.analysis.means.contrasts import RATIOS, adjustment, as_ratios, contrast_table, contrast_weights
from unimix.analysis.means.derivatives import derivative_rows
from unimix.analysis.means.linear_functions import FixedInference, Functions, fixed_inference
from unimix.analysis.means.reference_grid import PopulationRows, checked_names, reference_grid
from unimix.analysis.means.specs import read_specs
from unimix.analysis.tests.hypotheses import Named, assess
from unimix.distributions.family import Family
from unimix.distributions.links import LINKS
from unimix.distributions.sampling import mean_of
from unimix.errors import DataError, OptionError, UnsupportedModelError, listing
from unimix.fitted.schema import DfMethod
from unimix.stats.delta import Linear
from unimix.stats.inference import checked_level

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
Weights = Literal["equal", "proportional", "outer", "cells"]


@dataclass(frozen=True)
class MarginalMeans:
    """Marginal means of a fitted model, or slopes.

    Attributes:
        names: Factors that tell the means apart.
        by: Those within which contrasts are formed.
        levels: One row per mean, columns ``names`` and ``by``.
        functions: The means as linear functions of the fixed effects, on the scale of the link.
        offset: What is added to each, shape (m,).
        family: Of the model.
        kind: response or link.
        ci_level: Probability of the intervals.
        what: emmean or slope.
        title: What they are, in words.
        held: Where the other predictors stand: values of numbers, and factors that were averaged over.
        warned: What a reader of the means may be misled by, in words.
        lost: Means that cannot be estimated, because the data have no such combination of levels, shape (m,).
    """

    names: tuple[str, ...]
    by: tuple[str, ...]
    levels: pd.DataFrame
    functions: Functions
    offset: FloatArray
    family: Family
    kind: str
    ci_level: float
    what: str
    title: str
    held: str
    warned: tuple[str, ...]
    lost: npt.NDArray[np.bool_]
    _inference: FixedInference

    @property
    def table(self) -> pd.DataFrame:
        """One row per mean: the levels, then estimate, std_error, df, lower, upper.

        On the scale of the response (kind="response") estimates and intervals go through the inverse link, standard
        errors by the delta method.
        """
        made = self.functions.table(self.ci_level)
        kept = [c for c in ("estimate", "std_error", "df", "lower", "upper") if c in made]
        made = made[kept].copy()
        for column in ("estimate", "lower", "upper"):
            made[column] += self.offset
        if self.kind == "response" and self.family.link != "identity" and self.what == "emmean":
            slope = np.abs(LINKS[self.family.link].slope(made["estimate"].to_numpy()))
            made["std_error"] *= slope
            ends = np.sort(mean_of(self.family, made[["lower", "upper"]].to_numpy()), axis=1)
            made["estimate"] = mean_of(self.family, made["estimate"].to_numpy())
            made["lower"], made["upper"] = ends[:, 0], ends[:, 1]
        made[self.lost] = np.nan
        return pd.concat([self.levels.reset_index(drop=True), made], axis=1)

    def contrasts(
        self,
        method: str | Mapping[str, Sequence[float]] = "pairwise",
        *,
        adjust: str | None = None,
        reference: Any = None,
    ) -> pd.DataFrame:
        """Differences of the means, within the levels of ``by``.

        Args:
            method: pairwise; reference (each against the first level, or the one named); effects (each against the
                mean of all); consecutive; poly (orthogonal polynomials, up to the fourth degree); or weights by name,
                ``{"low - rest": [1, -0.5, -0.5]}``.
            adjust: Of the p values and intervals for all contrasts at once: none, tukey (of pairwise), sidak,
                bonferroni, holm, fdr, mvt (multivariate t). Left out: tukey for pairwise, mvt for reference (Dunnett's
                test) and consecutive, fdr for effects, none for others, as R's emmeans. holm and fdr are of p values;
                Bonferroni's intervals stand beside them.
            reference: Level of ``reference``.

        Returns:
            Columns ``by``, contrast, estimate, std_error, df, statistic, p_value, lower, upper, adjust (how); of a
            posterior without the tests. With kind="response" and a log or logit link ratios or odds ratios, with other
            links differences of the means on the response's scale, by the delta method.

        Raises:
            OptionError: For unknown methods, or weights that do not sum to zero.
        """
        adjust = adjustment(adjust, method if isinstance(method, str) else "weights")
        if not len(self.levels[list(self.by)].drop_duplicates() if self.by else [0]) < len(self.levels):
            raise OptionError(_alone(self.what, self.names))
        ratios = self.kind == "response" and self.family.link in RATIOS and self.what == "emmean"
        parts = []
        groups = self.levels.groupby(list(self.by), sort=False, observed=True) if self.by else [((), self.levels)]
        for key, rows in groups:
            at = rows.index.to_numpy()
            labels = [", ".join(str(v) for v in row) for row in rows[list(self.names)].itertuples(index=False)]
            weights = contrast_weights(method, labels, reference, "/" if ratios else "-")
            turn = np.array(list(weights.values()))
            kept = ~(np.abs(turn) @ self.lost[at] > 0)
            if not kept.any():
                continue
            made = contrast_table(*self._differences(turn[kept], at), adjust, len(at), self.ci_level)
            if ratios:
                made = as_ratios(made, RATIOS[self.family.link])
            made.insert(0, "contrast", [name for name, k in zip(weights, kept, strict=True) if k])
            for name, value in reversed(list(zip(self.by, key if isinstance(key, tuple) else (key,), strict=True))):
                made.insert(0, str(name), [value] * len(made))
            if "p_value" in made:
                made["adjust"] = adjust
            parts.append(made)
        if not parts:
            raise DataError("None of these contrasts can be estimated: the data lack combinations of levels.")
        return pd.concat(parts, ignore_index=True)

    def _differences(self, turn: FloatArray, at: npt.NDArray[np.int64]) -> tuple[Functions, FloatArray]:
        """Contrasts of some of the means, and what is added to each."""
        own, offset = self.functions.weights[at], self.offset[at]
        link = self.family.link
        if self.kind == "link" or self.what == "slope" or link in RATIOS or link == "identity":
            return self._inference.functions(turn @ own), turn @ offset
        eta = own @ self._inference.beta + offset
        gradient = turn @ (LINKS[link].slope(eta)[:, None] * own)
        draws = self._inference.posterior
        drawn = None if draws is None else mean_of(self.family, draws @ own.T + offset) @ turn.T
        estimate = turn @ mean_of(self.family, eta) if drawn is None else drawn.mean(axis=0)
        covariance = gradient @ self._inference.covariance @ gradient.T
        found = Functions(gradient, estimate, covariance, self._inference.df_of(gradient), drawn)
        return found, np.zeros(len(turn))

    def hypotheses(
        self,
        tests: str | Sequence[str],
        *,
        joint: bool = False,
        alternative: str = "two-sided",
        equivalence: tuple[float, float] | None = None,
        ci_level: float | None = None,
    ) -> pd.DataFrame:
        """Test hypotheses about the means or slopes, by position: ``"b0 = b1"`` is of the table's first two rows.

        Args and returns as for :meth:`unimix.FitResult.hypotheses`, on the scale of the table (``kind``).
        """
        at = np.where(self.lost, np.nan, self.functions.estimate + self.offset)
        gradient, draws = self.functions.weights, self._inference.posterior
        draws = None if draws is None else draws @ gradient.T + self.offset
        if self.kind == "response" and self.what == "emmean":
            gradient = LINKS[self.family.link].slope(at)[:, None] * gradient
            at, draws = mean_of(self.family, at), None if draws is None else mean_of(self.family, draws)
        named = Named((), at, gradient, draws, self._inference)
        level = self.ci_level if ci_level is None else ci_level
        return assess(named, tests, joint=joint, alternative=alternative, equivalence=equivalence, ci_level=level)

    def __str__(self) -> str:
        scale = f"{self.family.link} link" if self.kind == "link" and self.family.link != "identity" else "response"
        text = self.table.to_string(index=False, float_format="{:.6g}".format)
        return "\n".join([text, f"{self.what} on the scale of the {scale}", *self.notes])

    @property
    def notes(self) -> tuple[str, ...]:
        """How the means were made."""
        told = [f"{100 * self.ci_level:g}% intervals, df {self._inference.method}"]
        told += [self.held] if self.held else []
        told += ["Empty rows cannot be estimated: the data do not tell them."] if self.lost.any() else []
        return (*told, *self.warned)

    def plot(self, *, columns: int = 3, title: str = "") -> Any:
        """Draw the means, or slopes, with their intervals: the first factor along the axis, the second in colours.

        Args:
            columns: Panels per row. There is one for every combination of the factors after the second, those of
                ``by`` last.
            title: Above the figure.

        Returns:
            The matplotlib Axes, shape (panels,).

        Raises:
            EngineNotInstalledError: If matplotlib is missing.
        """
        from unimix.plots.means import draw_means

        scale = f", {self.family.link} link" if self.kind == "link" and self.family.link != "identity" else ""
        return draw_means(
            self.table,
            [*self.names, *self.by],
            columns=columns,
            title=title,
            label=f"{self.title}{scale}",
            note="\n".join(self.notes),
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table.to_html(index=False) + "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)


def _alone(what: str, names: Sequence[str]) -> str:
    """Why there is nothing to contrast."""
    if what == "slope":
        return "There is one slope, and nothing to contrast it with: fit.slopes('x', by='f') has one per level of f."
    if not names:
        return "There is one mean, and nothing to contrast it with: name a predictor, fit.emmeans('f')."
    return (
        f"There is one mean, and nothing to contrast it with: {listing(names)} stands at one value. Type several, "
        f"at={{{names[0]!r}: [1, 2]}}; fit.slopes({names[0]!r}) has the slope of a number."
    )


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
        weights: Of the combinations of the factors that are averaged over: equal; proportional to how often each
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
    """
    ci_level = fit.interval_level(ci_level)
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
    """
    ci_level = fit.interval_level(ci_level)
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
) -> pd.DataFrame:
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
        As :meth:`unimix.analysis.means.emmeans.MarginalMeans.contrasts`.

    Raises:
        OptionError: For unknown predictors, levels or methods.
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
