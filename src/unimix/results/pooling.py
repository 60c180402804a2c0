"""Complete, no and partial pooling of one model, level by level."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.errors import DataError, OptionError, UnsupportedModelError, did_you_mean, listing
from unimix.model.design import Design
from unimix.numerics.conditional import Conditional, predictor_variance
from unimix.numerics.regressions import Columns, LevelRegressions, all_columns, regressions
from unimix.numerics.shares import intraclass_correlation, row_variance
from unimix.results.draws import MOST_DRAWS, Draws, coefficient_draws, conditional_at, is_sampled

if TYPE_CHECKING:
    from unimix.results.result import FitResult

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LevelEstimates:
    """What three kinds of pooling say about each level of a grouping factor; L levels, k coefficients.

    Attributes:
        group: The grouping factor.
        levels: Its levels.
        columns: The columns of the model.
        codes: Level of each row, shape (n,).
        no: A regression per level.
        complete: One regression for all rows, in each level's own columns, shape (L, k).
        complete_beta: Its coefficients, shape (p,).
        complete_cov: Their covariance, shape (p, p).
        centre: Fixed effects of the mixed model, likewise, shape (L, k).
        partial: Fixed plus group effects, likewise, shape (L, k).
        partial_sd: Their standard errors (posterior SDs), shape (L, k).
        reliability: Shape (L, k); 0 where a coefficient does not vary between levels.
    """

    group: str
    levels: tuple[Any, ...]
    columns: Columns
    codes: npt.NDArray[np.int64]
    no: LevelRegressions
    complete: FloatArray
    complete_beta: FloatArray
    complete_cov: FloatArray
    centre: FloatArray
    partial: FloatArray
    partial_sd: FloatArray
    reliability: FloatArray

    @property
    def too_small(self) -> dict[Any, str]:
        """Levels without a regression of their own, and why."""
        return {self.levels[i]: told for i, told in self.no.why.items()}

    @property
    def varying(self) -> tuple[int, ...]:
        """Columns whose partially pooled coefficients differ between levels by more than the fixed part makes them."""
        spread = np.abs(self.partial - self.centre).max(axis=0)
        size = np.abs(self.partial).max(axis=0)
        return tuple(int(j) for j in np.flatnonzero(self.no.own.any(axis=0) & (spread > 1e-9 * size)))

    def table(self) -> pd.DataFrame:
        """One row per level and coefficient.

        Index level, term; columns n (rows of the level), complete, no_pooling with its std_error, centre (the fixed
        effects of the mixed model), partial with its partial_sd (its standard error; posterior SD of a sampler), moved
        (partial minus no_pooling), shrinkage (the share of the way from no_pooling to the centre; beyond 0 .. 1 where
        correlated effects pull each other), reliability (share of the variance of the level's effect that its rows
        explain, 1 - Var(b | y) / Var(b); Raudenbush & Bryk 2002, Hierarchical Linear Models, chapter 3).
        """
        at, names = self.no.own, np.array(self.columns.names, dtype=object)
        rows, which = np.nonzero(at)
        with np.errstate(divide="ignore", invalid="ignore"):
            no, partial, centre = self.no.estimate[at], self.partial[at], self.centre[at]
            way = centre - no
            shrinkage = np.where(np.abs(way) > 1e-12 * np.abs(no), (partial - no) / way, np.nan)
        index = pd.MultiIndex.from_arrays([[self.levels[i] for i in rows], names[which]], names=[self.group, "term"])
        return pd.DataFrame(
            {
                "n": self.no.n[rows],
                "complete": self.complete[at],
                "no_pooling": no,
                "std_error": np.sqrt(np.einsum("lkk->lk", self.no.covariance)[at]),
                "centre": centre,
                "partial": partial,
                "partial_sd": self.partial_sd[at],
                "moved": partial - no,
                "shrinkage": shrinkage,
                "reliability": self.reliability[at],
            },
            index=index,
        )

    def summary(self) -> pd.DataFrame:
        """One row per coefficient: spread of the levels' estimates, and mean shrinkage and reliability.

        Columns complete, centre (mean over levels), sd_no_pooling and sd_partial (standard deviations over levels),
        shrinkage (1 - sd_partial / sd_no_pooling), reliability (mean).
        """
        rows = {}
        for j, name in enumerate(self.columns.names):
            own = self.no.own[:, j]
            if not own.any():
                continue
            no, partial = self.no.estimate[own, j], self.partial[own, j]
            known = np.isfinite(no)
            spread = float(np.std(no[known], ddof=1)) if known.sum() > 1 else np.nan
            kept = float(np.std(partial[known], ddof=1)) if known.sum() > 1 else np.nan
            rows[name] = {
                "complete": float(self.complete[own, j].mean()),
                "centre": float(self.centre[own, j].mean()),
                "sd_no_pooling": spread,
                "sd_partial": kept,
                "shrinkage": 1 - kept / spread if spread > 0 else np.nan,
                "reliability": float(self.reliability[own, j].mean()),
            }
        frame = pd.DataFrame.from_dict(rows, orient="index")
        frame.index.name = "term"
        return frame


def the_group(fit: FitResult, group: str | None) -> str:
    """The grouping factor that is meant.

    Raises:
        DataError: If there is none of that name, or none at all.
        OptionError: If it must be named.
    """
    known = list(dict.fromkeys(b.group for b in fit.random))
    if not known:
        raise DataError(
            f"{fit.model.reading} has no grouping factor to pool over: add one, such as (1 | g), to the formula."
        )
    if group is None:
        if len(known) > 1:
            raise OptionError(
                f"The model has several grouping factors: name one of {listing(map(repr, known))} as group=."
            )
        return known[0]
    if group not in known:
        raise DataError(
            f"{group!r} is not a grouping factor of this model.{did_you_mean(str(group), known)} Known: "
            f"{listing(known)}."
        )
    return group


def level_estimates(fit: FitResult, group: str | None = None, data: Any = None) -> LevelEstimates:
    """Set complete, no and partial pooling side by side.

    Complete and no pooling are regressions of the same response on the same columns, by least squares (maximum
    likelihood for generalised models), whatever engine fitted the mixed model.

    Args:
        fit: A mixed model.
        group: Its grouping factor; may be left out where there is one.
        data: The data that were fitted, for a result that was loaded.

    Raises:
        DataError: For an unknown factor.
        OptionError: If a factor must be named.
        UnsupportedModelError: With zero inflation or a formula of the dispersion.
    """
    group = the_group(fit, group)
    if fit.parts:
        raise UnsupportedModelError(
            f"Pooling looks at the coefficients of the mean alone; this model has {listing(fit.parts)} beside it."
        )
    design = fit.design(data)
    mine = [k for k, b in enumerate(design.blocks) if b.group == group]
    blocks = [design.blocks[k] for k in mine]
    first = blocks[0]
    columns = all_columns(design, blocks)
    no = regressions(design, columns, first.codes, first.n_levels)
    k, levels = len(columns.names), first.n_levels
    fixed = np.zeros(k)
    fixed[: design.p] = fit.fixed.estimate
    whole = np.tile(fixed, (levels, 1))
    for place, at in zip(columns.place, mine, strict=True):
        whole[:, place] += np.asarray(fit.random[at].modes)
    found, covariance = complete_regression(design)
    padded = np.zeros(k)
    padded[: design.p] = found
    if is_sampled(fit):
        sd = _posterior_sd(coefficient_draws(fit, MOST_DRAWS, 0), columns, mine, no.turned)
    else:
        sd = _error_sd(conditional_at(fit, design), design, columns, mine, no.turned)
    return LevelEstimates(
        group=group,
        levels=tuple(first.levels),
        columns=columns,
        codes=first.codes,
        no=no,
        complete=no.turned @ padded,
        complete_beta=found,
        complete_cov=covariance,
        centre=no.turned @ fixed,
        partial=np.einsum("lij,lj->li", no.turned, whole),
        partial_sd=sd,
        reliability=_reliability(fit, design, columns, mine),
    )


def complete_regression(design: Design) -> tuple[FloatArray, FloatArray]:
    """Coefficients (p,) of one regression for all rows, and their covariance (p, p)."""
    everywhere = np.zeros(design.n, dtype=np.int64)
    one = regressions(design, all_columns(design, []), everywhere, 1)
    return one.estimate[0], one.covariance[0]


def _rows_of(
    design: Design, columns: Columns, mine: list[int], weights: FloatArray, level: npt.NDArray[np.int64]
) -> tuple[FloatArray, list[FloatArray], list[npt.NDArray[np.int64]]]:
    """Combinations of coefficients (r, k), each of a level (r,), as rows of the design."""
    x = weights[:, : design.p]
    z = [np.zeros((len(weights), b.q)) for b in design.blocks]
    codes = [np.zeros(len(weights), dtype=np.int64) for _ in design.blocks]
    for place, at in zip(columns.place, mine, strict=True):
        z[at], codes[at] = weights[:, place], level
    return x, z, codes


def _error_sd(at: Conditional, design: Design, columns: Columns, mine: list[int], turned: FloatArray) -> FloatArray:
    levels, k, _ = turned.shape
    level = np.repeat(np.arange(levels), k)
    x, z, codes = _rows_of(design, columns, mine, turned.reshape(levels * k, k), level)
    return np.sqrt(np.maximum(predictor_variance(at, x, z, codes), 0.0)).reshape(levels, k)


def _posterior_sd(draws: Draws, columns: Columns, mine: list[int], turned: FloatArray) -> FloatArray:
    return np.asarray(level_draws(draws, columns, mine, turned).std(axis=0, ddof=1))


def level_draws(draws: Draws, columns: Columns, mine: list[int], turned: FloatArray) -> FloatArray:
    """Coefficients per level in its own columns under every draw, shape (S, L, k)."""
    levels, k, _ = turned.shape
    p = draws.beta.shape[1]
    whole = np.zeros((len(draws), levels, k))
    whole[:, :, :p] = draws.beta[:, None]
    for place, at in zip(columns.place, mine, strict=True):
        whole[:, :, place] += draws.effects[at]
    return np.asarray(np.einsum("lij,slj->sli", turned, whole))


def _reliability(fit: FitResult, design: Design, columns: Columns, mine: list[int]) -> FloatArray:
    """1 - Var(b | y, beta) / Var(b) per level and column, 0 where there is no variance, shape (L, k)."""
    levels, k = design.blocks[mine[0]].n_levels, len(columns.names)
    found = np.zeros((levels, k))
    known = replace(conditional_at(fit, design), beta_cov=np.zeros((design.p, design.p)))
    for place, at in zip(columns.place, mine, strict=True):
        block = design.blocks[at]
        for j, column in enumerate(place):
            variance = float(fit.random[at].covariance[j, j])
            if variance <= 0:
                continue
            z = [np.zeros((levels, b.q)) for b in design.blocks]
            z[at][:, j] = 1.0
            codes = [np.arange(levels) if b is block else np.zeros(levels, dtype=np.int64) for b in design.blocks]
            left = predictor_variance(known, np.zeros((levels, design.p)), z, codes)
            found[:, column] = 1.0 - left / variance
    return found


def icc(fit: FitResult, data: Any = None) -> dict[str, float]:
    """Intraclass correlation per grouping factor: its share in the variance that fixed effects leave.

    Random slopes count with their average over rows (:func:`unimix.numerics.shares.block_variance`). NaN for families
    whose residual variance on the scale of the link has no simple form.
    """
    design = fit.design(data)
    residual = row_variance(fit.family, fit.sigma)
    return intraclass_correlation(design.blocks, [np.asarray(b.covariance) for b in fit.random], residual)


__all__ = ["LevelEstimates", "icc", "level_draws", "level_estimates", "the_group"]
