"""Estimated marginal means, their contrasts, and slopes."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.contrasts import RATIOS, adjustment, as_ratios, contrast_table, contrast_weights
from unimix.analysis.grid import Grid, PopulationRows, checked_names, reference_grid
from unimix.analysis.hypotheses import Named, assess
from unimix.analysis.linear import FixedInference, Functions, fixed_inference
from unimix.errors import DataError, OptionError, UnsupportedModelError, listing
from unimix.model.data import FactorColumn, as_numbers
from unimix.model.family import Family
from unimix.model.newdata import design_rows
from unimix.numerics.delta import Linear
from unimix.numerics.inference import checked_level
from unimix.numerics.links import LINKS
from unimix.numerics.variates import mean_of

if TYPE_CHECKING:
    from unimix.results.result import FitResult

FloatArray = npt.NDArray[np.float64]

WEIGHTS = ("equal", "proportional")


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
        held: Where the other predictors stand: values of numbers, and factors that were averaged over.
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
    held: str
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
        at = self.functions.estimate + self.offset
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
        told += ["Empty rows cannot be estimated: the data have no such combination."] if self.lost.any() else []
        return tuple(told)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table.to_html(index=False) + "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)


def _averaged(
    grid: Grid, rows: FloatArray, names: Sequence[str], weights: str
) -> tuple[pd.DataFrame, FloatArray, FloatArray]:
    """Means over the grid's other predictors: levels, weights of the fixed effects (m, p), offsets (m,)."""
    share = grid.weight if weights == "proportional" else np.ones(len(grid.weight))
    if not names:
        share = share / share.sum()
        return pd.DataFrame(index=[0]), share[None] @ rows, np.array([share @ grid.offset])
    keys = list(grid.frame[list(names)].itertuples(index=False, name=None))
    # The first name varies fastest, as in emmeans.
    ranks = [list(dict.fromkeys(grid.frame[n])) for n in names]
    order = sorted(dict.fromkeys(keys), key=lambda k: [r.index(v) for r, v in zip(ranks, k, strict=True)][::-1])
    place = np.array([order.index(k) for k in keys])
    turn = np.zeros((len(order), len(keys)))
    turn[place, np.arange(len(keys))] = share
    turn /= turn.sum(axis=1, keepdims=True)
    return pd.DataFrame(order, columns=list(names)), turn @ rows, turn @ grid.offset


def _checked(fit: FitResult, weights: str, kind: str, ci_level: float) -> None:
    checked_level(ci_level)
    if weights not in WEIGHTS:
        raise OptionError(f"weights={weights!r}: choose {listing(WEIGHTS)}.")
    if kind not in ("response", "link"):
        raise OptionError(f"kind={kind!r}: choose 'response' or 'link'.")
    if "zero" in fit.parts and kind == "response":
        raise UnsupportedModelError("With zero inflation marginal means are of the count's mean: use kind='link'.")


def emmeans(
    fit: FitResult,
    specs: str | Sequence[str],
    *,
    by: str | Sequence[str] = (),
    at: Mapping[str, Any] | None,
    weights: str,
    kind: str,
    ci_level: float,
    df_method: str | None = None,
    data: Any,
) -> MarginalMeans:
    """Means of the expected response over a reference grid (Searle, Speed & Milliken 1980, Am. Stat. 34:216-221)."""
    _checked(fit, weights, kind, ci_level)
    grid = reference_grid(fit, at, data)
    outer = checked_names(grid.frame, [by] if isinstance(by, str) else list(by), "by")
    inner = checked_names(grid.frame, [specs] if isinstance(specs, str) else list(specs), "specs")
    names = [n for n in inner if n not in outer]
    levels, rows, offset = _averaged(grid, grid.x, [*names, *outer], weights)
    lost = np.zeros(len(levels), dtype=bool)
    if fit.model.aliased:
        every = PopulationRows(fit, fit.design(data))
        whole = _averaged(grid, every.full(grid.frame, "The grid").x, [*names, *outer], weights)[1]
        lost = every.lacks(whole)
        if lost.all():
            every.fitted(Linear(whole, offset), f"Means of {listing([*names, *outer])}")
        rows = np.where(lost[:, None], 0.0, rows)
    inference = fixed_inference(fit, data, df_method)
    return MarginalMeans(
        tuple(names),
        tuple(outer),
        levels,
        inference.functions(rows),
        offset,
        fit.family,
        kind,
        ci_level,
        "emmean",
        _held(grid, [*names, *outer], at, weights),
        lost,
        inference,
    )


def slopes(
    fit: FitResult,
    variable: str,
    *,
    by: str | Sequence[str] = (),
    at: Mapping[str, Any] | None,
    weights: str,
    ci_level: float,
    df_method: str | None = None,
    data: Any,
) -> MarginalMeans:
    """Slopes of the linear predictor by a numeric variable, averaged over the grid, as ``emtrends`` of emmeans."""
    _checked(fit, weights, "link", ci_level)
    design = fit.design(data)
    grid = reference_grid(fit, at, data)
    checked_names(grid.frame, [variable], "variable")
    column = design.columns[variable]
    if isinstance(column, FactorColumn):
        raise OptionError(
            f"{variable!r} is a factor and has no slope: fit.emmeans({variable!r}).contrasts() compares its levels."
        )
    names = checked_names(grid.frame, [by] if isinstance(by, str) else list(by), "by")
    if variable not in names and len(dict.fromkeys(grid.frame[variable])) > 1:
        names = [variable, *names]  # a slope at each of several values, not their average
    values = as_numbers(column)
    step = 1e-3 * float(np.ptp(values) or 1.0)
    ends = []
    for sign in (1.0, -1.0):
        frame = {c: grid.frame[c].tolist() for c in grid.frame}
        frame[variable] = (grid.frame[variable].astype(float) + sign * step / 2).tolist()
        ends.append(design_rows(fit.model.recipe, frame, with_groups=False).x)
    levels, rows, _ = _averaged(grid, (ends[0] - ends[1]) / step, names, weights)
    inference = fixed_inference(fit, data, df_method)
    zero, lost = np.zeros(len(rows)), np.zeros(len(rows), dtype=bool)
    held = _held(grid, names, at, weights)
    found = inference.functions(rows)
    return MarginalMeans(
        tuple(names), (), levels, found, zero, fit.family, "link", ci_level, "slope", held, lost, inference
    )


def _held(grid: Grid, names: Sequence[str], at: Mapping[str, Any] | None, weights: str) -> str:
    """Where the predictors stand that do not tell the means apart, in words."""
    told, averaged = [], []
    for name in grid.frame.columns:
        values = list(dict.fromkeys(grid.frame[name]))
        if name in names or name == "unimix":
            continue
        if len(values) == 1:
            value = values[0]
            shown = f"{value:.6g}" if isinstance(value, float) else str(value)
            told.append(f"{name} = {shown}{'' if name in (at or {}) else ' (mean)'}")
        else:
            averaged.append(str(name))
    parts = [f"at {listing(told)}"] if told else []
    if averaged:
        share = "equal weights" if weights == "equal" else "weights by frequency"
        parts.append(f"averaged over {listing(averaged)} with {share}")
    return "; ".join(parts).capitalize() if not told else "; ".join(parts).replace("at ", "At ", 1)
