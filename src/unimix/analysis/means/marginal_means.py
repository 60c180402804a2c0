"""A table of marginal means or slopes, with contrasts and hypotheses between its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.means.combinations import Combinations
from unimix.analysis.means.contrast_result import Asked, ContrastRows, Contrasts, contrasts_of
from unimix.analysis.means.contrasts import adjustment, contrast_p_values
from unimix.analysis.means.linear_functions import ENDLESS, FixedInference, Functions
from unimix.analysis.means.reference_grid import PopulationRows
from unimix.analysis.means.scales import Scale
from unimix.analysis.means.simple_effects import simple_effects
from unimix.analysis.tests.hypotheses import Named, assess
from unimix.distributions.family import Family
from unimix.errors import OptionError, UnimixError, listing
from unimix.fitted.table_result import TableResult
from unimix.foreign_names import suggests_names
from unimix.stats.compact_letters import compact_letters
from unimix.stats.delta import Linear
from unimix.stats.inference import checked_level

FloatArray = npt.NDArray[np.float64]
Weights = Literal["equal", "proportional", "outer", "cells"]


@suggests_names(path=None)
@dataclass(frozen=True, repr=False, eq=False)
class MarginalMeans(TableResult):
    """Marginal means of a fitted model, or slopes.

    Attributes:
        names: Factors whose levels distinguish the means.
        by: Factors within whose levels contrasts are formed.
        levels: Levels of each mean, one row per mean, columns ``names`` and ``by``.
        functions: The means as linear functions of the fixed effects, on the link scale.
        offset: Constants added to the means, shape (m,).
        family: Family of the model.
        kind: Scale of the table: response or link.
        ci_level: Probability of the intervals, between 0 and 1.
        what: Kind of the quantities: emmean or slope.
        title: Name of the quantities in words.
        held: Note on the other predictors: values at which they are held, and factors that were averaged over.
        warned: Warnings for readers of the means.
        lost: Whether a mean cannot be estimated, because the data have no such combination of levels, shape (m,).
        scale: The scale of the response, to which ``kind="response"`` turns.
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
    scale: Scale
    _whole: FloatArray  # the means as functions of all columns, those left out included, shape (m, k)
    _empty: npt.NDArray[np.bool_]  # whether a mean has no weights at all, shape (m,)
    _rows: PopulationRows
    _inference: FixedInference

    def check_estimable(self) -> None:
        """Refuse means none of which can be estimated.

        Raises:
            DataError: If there is none.
        """
        if self.lost.all():
            what = (
                f"Means of {listing(self._labels)}" if self.what == "emmean" else self.title.replace("Slope", "Slopes")
            )
            self._rows.fitted(Linear(self._whole, np.zeros(len(self._whole))), what)

    @property
    def table(self) -> pd.DataFrame:
        """One row per mean: the levels, then estimate, std_error, df, lower, upper.

        On the response scale (kind="response"), the inverse link, or the inverse of a transformation such as
        ``log(y)``, is applied to estimates and intervals, and standard errors are computed by the delta method; a
        posterior has the means, standard deviations and quantiles of its draws on that scale.
        """
        frame = self.functions.table(self.ci_level)
        kept = [c for c in ("estimate", "std_error", "df", "lower", "upper") if c in frame]
        frame = frame[kept].copy()
        for column in ("estimate", "lower", "upper"):
            frame[column] += self.offset
        if self._is_turned:
            at = frame["estimate"].to_numpy()
            frame["std_error"] *= np.abs(self.scale.slope(at))
            lower, upper = self.scale.interval(frame[["lower", "upper"]].to_numpy(), at)
            frame["estimate"] = self.scale.mean(at)
            if (drawn := self._drawn_means()) is not None:
                frame["estimate"], frame["std_error"] = drawn.mean(axis=0), drawn.std(axis=0, ddof=1)
                if self.scale.moves_with_draws:  # each draw has variances of its own: no function of the ends
                    tail = 0.5 - self.ci_level / 2
                    lower, upper = np.quantile(drawn, [tail, 1 - tail], axis=0)
            frame["lower"], frame["upper"] = lower, upper
        frame[self.lost] = np.nan
        return pd.concat([self.levels.reset_index(drop=True), frame], axis=1)

    def contrasts(
        self,
        method: str | Mapping[str, Sequence[float]] = "pairwise",
        *,
        adjust: str | None = None,
        reference: Any = None,
        interaction: str | Sequence[str] | None = None,
        scores: Sequence[float] | None = None,
        simple: str | None = None,
        joint: bool = False,
        equivalence: tuple[float, float] | None = None,
    ) -> Contrasts:
        """Differences of the means, within the levels of ``by``.

        Args:
            method: Contrasts to form: pairwise; reference (each mean minus that of the first level, or of the level
                named); effects (each mean minus the mean of all); del.eff (minus the mean of the others); consecutive;
                mean_chg (the mean after each level minus that up to it); helmert; revpairwise; poly (orthogonal
                polynomials, up to the sixth degree, by the smallest whole numbers); or weights by name,
                ``{"low - rest": [1, -0.5, -0.5]}``. emmeans' trt.vs.ctrl, trt.vs.ctrlk, consec and eff are understood.
            adjust: Adjustment of p values and intervals for several contrasts: none, tukey (pairwise only), sidak,
                bonferroni, holm, fdr, mvt (multivariate t), dunnettx (reference only; emmeans' approximation of mvt).
                None takes tukey for pairwise, mvt for reference (Dunnett's test) and consecutive, fdr for effects, and
                none for others. holm and fdr adjust p values only, and are given with Bonferroni's intervals.
            reference: Level that ``method="reference"`` compares the others with; None takes the first.
            interaction: Contrasts of contrasts instead: a method for all factors, or one for each, such as
                ``["pairwise", "consecutive"]``; without adjustment, if none is given.
            scores: Scores of the means for poly, if their steps are not equal; weights then have length one.
            simple: Name of a factor whose levels are contrasted within the levels of all others (simple effects), or
                each for every factor in turn.
            joint: Whether to test all contrasts of each group of ``by`` together, by F, or by Wald's chi-squared if
                there are no degrees of freedom; for main and simple effects, as emmeans' joint tests.
            equivalence: Bounds of a range, of ratios if contrasts are ratios: two one-sided tests show whether each
                contrast lies between them (Schuirmann 1987, J. Pharmacokinet. Biopharm. 15:657-680), with Sidak's
                adjustment in place of tukey and mvt, as in R's emmeans. Of a posterior, the probability that it does.

        Returns:
            ``.table`` with columns ``by``, contrast, estimate, std_error, df, statistic, p_value, lower, upper, adjust
            (the adjustment), and with ``equivalence`` p_noninferiority, p_nonsuperiority, p_equivalence. A posterior
            has p_direction, the probability of the likelier side of zero, and probability_equivalence. With
            kind="response", contrasts are ratios or odds ratios for a log or logit link, and differences of the means
            on the response scale, by the delta method, for other links.

        Raises:
            OptionError: If the method is unknown, or weights do not sum to zero.
            DataError: If there is only one mean, or no contrast can be estimated.
        """
        if simple is not None:

            def of_factor(name: str, others: tuple[str, ...]) -> Contrasts:
                means = replace(self, names=(name,), by=others)
                return means.contrasts(
                    method, adjust=adjust, reference=reference, scores=scores, joint=joint, equivalence=equivalence
                )

            return simple_effects(self.names, self.by, simple, of_factor, interaction=interaction)
        if not len(self.levels[list(self.by)].drop_duplicates() if self.by else [0]) < len(self.levels):
            raise OptionError(_alone(self.what, self.names))
        asked = Asked(method, adjust, reference, interaction, scores, joint, equivalence)
        rows = ContrastRows(self.levels, self.names, self.by, np.eye(len(self.levels)))
        return contrasts_of(self.combinations, rows, asked)

    @property
    def combinations(self) -> Combinations:
        """What weighted sums of the means need."""
        return Combinations(
            weights=self.functions.weights,
            offset=self.offset,
            scale=self.scale,
            is_turned=self._is_turned,
            lost=self.lost,
            empty=self._empty,
            whole=self._whole,
            rows=self._rows,
            inference=self._inference,
            scale_name=self.scale_name,
            ci_level=self.ci_level,
            warned=self.warned,
        )

    def letters(self, *, level: float = 0.05, adjust: str = "tukey") -> TableResult:
        """The means with letters: means that share one do not differ significantly (Piepho 2004).

        Means without a common letter differ. Those with one have not been shown to be equal; the differences with their
        intervals, :meth:`contrasts`, say more. Within the levels of ``by`` letters are given anew.

        Args:
            level: Significance level, between 0 and 1.
            adjust: Adjustment of the pairwise p values, as in :meth:`contrasts`.

        Returns:
            The table of the means with a column letters; a is the largest mean's.

        Raises:
            OptionError: If the level is not a probability, or there is only one mean.
            UnimixError: If the fit is a posterior, which has no tests.
        """
        checked_level(level)
        if self._inference.posterior is not None:
            raise UnimixError("A posterior has no significance tests, and no letters: see contrasts().")
        table = self.table.copy()
        table["letters"] = ""
        groups = self.levels.groupby(list(self.by), sort=False, observed=True) if self.by else [((), self.levels)]
        for _, rows in groups:
            at = rows.index.to_numpy()[~self.lost[rows.index.to_numpy()]]
            if len(at) < 2:
                continue
            first, second = np.triu_indices(len(at), 1)
            eye = np.eye(len(self.levels))[at]
            functions, shift = self.combinations.differences(eye[first] - eye[second])
            moved = replace(functions, estimate=functions.estimate + shift)
            p_value = contrast_p_values(moved, adjustment(adjust, "pairwise"), len(at))
            differ = np.zeros((len(at), len(at)), dtype=bool)
            differ[first, second] = differ[second, first] = p_value < level
            order = np.argsort(-table["estimate"].to_numpy()[at], kind="stable")
            table.loc[at, "letters"] = compact_letters(differ, order.tolist())
        note = (
            f"Means that share a letter do not differ at the {100 * level:g}% level ({adjust}); they need not be equal."
        )
        return TableResult(table, [note, *self.notes])

    def _drawn_means(self) -> FloatArray | None:
        """Posterior draws of the means on the scale of the response, shape (S, m); None if there are none."""
        draws = self._inference.posterior
        return None if draws is None else self.scale.of_draws(draws @ self.functions.weights.T + self.offset)

    @property
    def _is_turned(self) -> bool:
        """Whether the means are on another scale than the linear predictor."""
        return self.kind == "response" and self.what == "emmean" and not self.scale.is_identity

    def hypotheses(
        self,
        tests: str | Sequence[str],
        *,
        joint: bool = False,
        alternative: str = "two-sided",
        equivalence: tuple[float, float] | None = None,
        ci_level: float | None = None,
    ) -> TableResult:
        """Test hypotheses about the means or slopes by position: ``"b0 = b1"`` compares the table's first two rows.

        The arguments and the result are those of :meth:`unimix.FitResult.hypotheses`, on the scale of the table
        (``kind``).
        """
        at = np.where(self.lost, np.nan, self.functions.estimate + self.offset)
        gradient, draws = self.functions.weights, self._inference.posterior
        draws = None if draws is None else draws @ gradient.T + self.offset
        if self._is_turned:
            slope = self.scale.slope(at)
            gradient = np.where(self._inference.lacks(gradient), np.nan, slope)[:, None] * gradient
            at, draws = self.scale.mean(at), None if draws is None else self.scale.of_draws(draws)
        named = Named((), at, gradient, draws, self._inference)
        level = self.ci_level if ci_level is None else ci_level
        return assess(named, tests, joint=joint, alternative=alternative, equivalence=equivalence, ci_level=level)

    @property
    def _labels(self) -> Sequence[str]:
        return (*self.names, *self.by)

    def _below(self) -> Sequence[str]:
        return (f"{self.what} on the scale of the {self.scale_name}", *self.notes)

    @property
    def scale_name(self) -> str:
        """Name of the scale of the means: response, that of a link, or the column that was turned back."""
        if self._is_turned:
            return self.scale.name
        return f"{self.family.link} link" if self.kind == "link" and self.family.link != "identity" else "response"

    @property
    def notes(self) -> tuple[str, ...]:
        """Kind of the intervals, values of the other predictors, and warnings."""
        notes = [f"{100 * self.ci_level:g}% intervals, df {self._inference.method}"]
        notes += [self.held] if self.held else []
        notes += ["Empty rows cannot be estimated from these data."] if self.lost.any() else []
        notes += [ENDLESS] if np.isinf(self.functions.std_error[~self.lost]).any() else []
        return (*notes, *self.warned)

    def plot(self, *, columns: int = 3, title: str = "") -> Any:
        """Draw the means, or slopes, with their intervals: the first factor along the axis, the second in colours.

        Args:
            columns: Number of panels per row. There is a panel for every combination of the factors after the second;
                those of ``by`` come last.
            title: Title of the figure; an empty text takes the name of the quantities.

        Returns:
            The matplotlib Axes, shape (panels,).

        Raises:
            EngineNotInstalledError: If matplotlib is missing.
        """
        from unimix.plots.means import draw_means

        scale = "" if self.scale_name == "response" else f", {self.scale_name}"
        return draw_means(
            self.table,
            [*self.names, *self.by],
            columns=columns,
            title=title,
            label=f"{self.title}{scale}",
            note="\n".join(self.notes),
        )


def _alone(what: str, names: Sequence[str]) -> str:
    """The reason why there is nothing to contrast."""
    if what == "slope":
        return "There is one slope, and nothing to contrast it with: fit.slopes('x', by='f') has one per level of f."
    if not names:
        return "There is one mean, and nothing to contrast it with: name a predictor, fit.emmeans('f')."
    return (
        f"There is one mean, and nothing to contrast it with: {listing(names)} is held at one value. Type several, "
        f"at={{{names[0]!r}: [1, 2]}}; fit.slopes({names[0]!r}) gives the slope of a numeric predictor."
    )
