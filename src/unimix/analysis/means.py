"""Estimated marginal means, their contrasts, and slopes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.grid import Grid, PopulationRows, checked_names, reference_grid
from unimix.analysis.hypotheses import Named, assess
from unimix.analysis.linear import FixedInference, Functions, fixed_inference
from unimix.errors import OptionError, UnsupportedModelError, did_you_mean, listing
from unimix.model.data import FactorColumn, as_numbers
from unimix.model.family import Family
from unimix.model.newdata import design_rows
from unimix.numerics.delta import Linear
from unimix.numerics.inference import checked_level
from unimix.numerics.links import LINKS
from unimix.numerics.multiplicity import METHODS, adjusted_p_values, critical_value
from unimix.numerics.variates import mean_of

if TYPE_CHECKING:
    from unimix.results.result import FitResult

FloatArray = npt.NDArray[np.float64]

WEIGHTS = ("equal", "proportional")
RATIOS = {"log": "ratio", "logit": "odds_ratio"}


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
            adjust: Of the p values and intervals for several contrasts at once: none, tukey (of pairwise), sidak,
                bonferroni, holm, fdr, mvt; tukey for pairwise and none for others, if left out. holm and fdr adjust the
                p values alone.
            reference: Level of ``reference``.

        Returns:
            Columns ``by``, contrast, estimate, std_error, df, statistic, p_value, lower, upper; of a posterior without
            the tests. With kind="response" and a log or logit link ratios or odds ratios.

        Raises:
            OptionError: For unknown methods, or weights that do not sum to zero.
        """
        given = method if isinstance(method, str) else "weights"
        adjust = adjust or ("tukey" if given == "pairwise" else "none")
        if adjust not in METHODS:
            raise OptionError(f"adjust={adjust!r}: choose {listing(METHODS)}.{did_you_mean(adjust, METHODS)}")
        if adjust == "tukey" and given != "pairwise":
            raise OptionError("adjust='tukey' is for pairwise contrasts: choose 'sidak', 'holm' or 'mvt' for others.")
        parts = []
        groups = self.levels.groupby(list(self.by), sort=False, observed=True) if self.by else [((), self.levels)]
        for key, rows in groups:
            at = rows.index.to_numpy()
            labels = [", ".join(str(v) for v in row) for row in rows[list(self.names)].itertuples(index=False)]
            weights = _weights(method, labels, reference)
            found = self._inference.functions(np.array(list(weights.values())) @ self.functions.weights[at])
            shift = np.array(list(weights.values())) @ self.offset[at]
            made = _contrast_table(found, shift, adjust, len(at), self.ci_level)
            if self.kind == "response" and self.family.link in RATIOS and self.what == "emmean":
                made = _as_ratios(made, RATIOS[self.family.link])
            made.insert(0, "contrast", list(weights))
            for name, value in reversed(list(zip(self.by, key if isinstance(key, tuple) else (key,), strict=True))):
                made.insert(0, str(name), [value] * len(made))
            parts.append(made)
        return pd.concat(parts, ignore_index=True)

    def hypotheses(
        self,
        tests: str | Sequence[str],
        *,
        joint: bool = False,
        alternative: str = "two-sided",
        equivalence: tuple[float, float] | None = None,
        ci_level: float = 0.95,
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
        return assess(named, tests, joint=joint, alternative=alternative, equivalence=equivalence, ci_level=ci_level)

    def __str__(self) -> str:
        scale = f"{self.family.link} link" if self.kind == "link" and self.family.link != "identity" else "response"
        note = (
            f"{self.what} on the scale of the {scale}; {100 * self.ci_level:g}% intervals, df {self._inference.method}"
        )
        return f"{self.table.to_string(index=False, float_format='{:.6g}'.format)}\n{note}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table.to_html(index=False)


def _contrast_table(found: Functions, shift: FloatArray, adjust: str, family: int, level: float) -> pd.DataFrame:
    moved = Functions(
        found.weights,
        found.estimate + shift,
        found.covariance,
        found.df,
        None if found.draws is None else found.draws + shift,
    )
    made = moved.table(level)
    if "statistic" not in made:
        return made
    sd = np.where(found.std_error > 0, found.std_error, 1.0)
    correlation = found.covariance / np.outer(sd, sd)
    made["p_value"] = adjusted_p_values(adjust, made["statistic"].to_numpy(), found.df, correlation, family)
    if adjust in ("tukey", "sidak", "bonferroni", "mvt"):
        reach = np.array([critical_value(adjust, level, float(d), correlation, family) for d in found.df])
        made["lower"] = made["estimate"] - reach * made["std_error"]
        made["upper"] = made["estimate"] + reach * made["std_error"]
    return made


def _as_ratios(made: pd.DataFrame, name: str) -> pd.DataFrame:
    made = made.copy()
    for column in ("estimate", "lower", "upper"):
        made[column] = np.exp(made[column])
    made["std_error"] *= made["estimate"]
    return made.rename(columns={"estimate": name})


def _weights(method: str | Mapping[str, Sequence[float]], labels: list[str], reference: Any) -> dict[str, FloatArray]:
    """Weights of the means by contrast, shapes (m,)."""
    m = len(labels)
    eye = np.eye(m)
    if not isinstance(method, str):
        made = {str(k): np.asarray(v, dtype=np.float64) for k, v in method.items()}
        bad = [k for k, v in made.items() if v.shape != (m,) or abs(v.sum()) > 1e-9 * np.abs(v).sum()]
        if bad:
            raise OptionError(
                f"The weights of {bad[0]!r} must be {m} numbers that sum to zero, one per mean: {listing(labels)}."
            )
        return made
    match method:
        case "pairwise":
            return {f"{labels[i]} - {labels[j]}": eye[i] - eye[j] for i, j in itertools.combinations(range(m), 2)}
        case "reference":
            if reference is not None and str(reference) not in labels:
                raise OptionError(f"reference={reference!r} is none of {listing(labels)}.")
            k = 0 if reference is None else labels.index(str(reference))
            return {f"{labels[i]} - {labels[k]}": eye[i] - eye[k] for i in range(m) if i != k}
        case "effects":
            return {f"{labels[i]} - mean": eye[i] - 1 / m for i in range(m)}
        case "consecutive":
            return {f"{labels[i + 1]} - {labels[i]}": eye[i + 1] - eye[i] for i in range(m - 1)}
        case "poly":
            names = ("linear", "quadratic", "cubic", "quartic")[: m - 1]
            grid = np.vander(np.arange(m) - (m - 1) / 2, len(names) + 1, increasing=True)
            q, r = np.linalg.qr(grid)
            return {n: q[:, j + 1] * np.sign(r[j + 1, j + 1]) for j, n in enumerate(names)}
        case _:
            known = ("pairwise", "reference", "effects", "consecutive", "poly")
            raise OptionError(
                f"method={method!r}: choose {listing(known)}, or weights by name.{did_you_mean(method, known)}"
            )


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
    data: Any,
) -> MarginalMeans:
    """Means of the expected response over a reference grid (Searle, Speed & Milliken 1980, Am. Stat. 34:216-221)."""
    _checked(fit, weights, kind, ci_level)
    grid = reference_grid(fit, at, data)
    outer = checked_names(grid.frame, [by] if isinstance(by, str) else list(by), "by")
    inner = checked_names(grid.frame, [specs] if isinstance(specs, str) else list(specs), "specs")
    names = [n for n in inner if n not in outer]
    levels, rows, offset = _averaged(grid, grid.x, [*names, *outer], weights)
    if fit.model.aliased:
        every = PopulationRows(fit, fit.design(data))
        whole = _averaged(grid, every.full(grid.frame, "The grid").x, [*names, *outer], weights)[1]
        every.fitted(Linear(whole, offset), f"Means of {listing([*names, *outer])}")
    inference = fixed_inference(fit, data)
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
    values = as_numbers(column)
    step = 1e-3 * float(np.ptp(values) or 1.0)
    ends = []
    for sign in (1.0, -1.0):
        frame = {c: grid.frame[c].tolist() for c in grid.frame}
        frame[variable] = (grid.frame[variable].astype(float) + sign * step / 2).tolist()
        ends.append(design_rows(fit.model.recipe, frame, with_groups=False).x)
    levels, rows, _ = _averaged(grid, (ends[0] - ends[1]) / step, names, weights)
    inference = fixed_inference(fit, data)
    zero = np.zeros(len(rows))
    return MarginalMeans(
        tuple(names), (), levels, inference.functions(rows), zero, fit.family, "link", ci_level, "slope", inference
    )
