"""A table of marginal means or slopes, with contrasts and hypotheses between its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.means.contrasts import (
    RATIOS,
    WITHOUT_INTERVALS,
    adjustment,
    as_ratios,
    contrast_table,
    contrast_weights,
)
from unimix.analysis.means.linear_functions import FixedInference, Functions
from unimix.analysis.tests.hypotheses import Named, assess
from unimix.distributions.family import Family
from unimix.distributions.links import LINKS
from unimix.distributions.sampling import mean_of
from unimix.errors import DataError, OptionError, listing
from unimix.fitted.table_result import TableResult

FloatArray = npt.NDArray[np.float64]
Weights = Literal["equal", "proportional", "outer", "cells"]


@dataclass(frozen=True, repr=False, eq=False)
class MarginalMeans(TableResult):
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
    ) -> TableResult:
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
        return TableResult(pd.concat(parts, ignore_index=True), self._notes_of(adjust, ratios=ratios))

    def _notes_of(self, adjust: str, *, ratios: bool) -> list[str]:
        """What a reader of contrasts must know."""
        if ratios:
            what = f"{RATIOS[self.family.link].replace('_', ' ').capitalize()}s, tested on the scale of the logarithm"
        else:
            what = f"Differences on the scale of the {self._scale}"
        several = "" if adjust == "none" else f"; p values and intervals for all of them at once ({adjust})"
        if adjust in WITHOUT_INTERVALS:
            several = f"; p values for all of them at once ({adjust}), intervals by Bonferroni"
        posterior = self._inference.posterior is not None
        df = "" if posterior else f", df {self._inference.method}"
        return [f"{what}; {100 * self.ci_level:g}% intervals{df}{'' if posterior else several}.", *self.warned]

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
        functions = Functions(gradient, estimate, covariance, self._inference.df_of(gradient), drawn)
        return functions, np.zeros(len(turn))

    def hypotheses(
        self,
        tests: str | Sequence[str],
        *,
        joint: bool = False,
        alternative: str = "two-sided",
        equivalence: tuple[float, float] | None = None,
        ci_level: float | None = None,
    ) -> TableResult:
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

    @property
    def _labels(self) -> Sequence[str]:
        return (*self.names, *self.by)

    def _below(self) -> Sequence[str]:
        return (f"{self.what} on the scale of the {self._scale}", *self.notes)

    @property
    def _scale(self) -> str:
        return f"{self.family.link} link" if self.kind == "link" and self.family.link != "identity" else "response"

    @property
    def notes(self) -> tuple[str, ...]:
        """How the means were made."""
        notes = [f"{100 * self.ci_level:g}% intervals, df {self._inference.method}"]
        notes += [self.held] if self.held else []
        notes += ["Rows without numbers cannot be estimated: the data do not tell them."] if self.lost.any() else []
        return (*notes, *self.warned)

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

        scale = "" if self._scale == "response" else f", {self._scale}"
        return draw_means(
            self.table,
            [*self.names, *self.by],
            columns=columns,
            title=title,
            label=f"{self.title}{scale}",
            note="\n".join(self.notes),
        )


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
