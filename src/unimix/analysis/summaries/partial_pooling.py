"""Complete, no and partial pooling of one model, level by level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.prediction.draws import MOST_DRAWS, Draws, coefficient_draws, conditional_at, is_sampled
from unimix.design.arrays import Design
from unimix.design.grouping_factors import is_nested
from unimix.distributions.ordered import refuse_categories
from unimix.errors import DataError, OptionError, UnsupportedModelError, did_you_mean, listing
from unimix.fitted.correlated import refuse_correlated, refuse_smooths
from unimix.likelihood.lmm.weights import row_copies
from unimix.stats.joint_error import Conditional, predictor_variance
from unimix.stats.per_level_regressions import Columns, LevelRegressions, all_columns, regressions
from unimix.stats.variance_partition import intraclass_correlation, row_variance

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LevelPart:
    """A block whose effects are part of a level's coefficients.

    Attributes:
        block: Index of the block in the design.
        map: Matrix from the block's effects to the model's columns, shape (k, q).
        codes: Level of the block that each level of the factor belongs to, shape (L,).
        own: Whether the block belongs to the factor itself, not to one that the factor is nested in.
    """

    block: int
    map: FloatArray
    codes: npt.NDArray[np.int64]
    own: bool


@dataclass(frozen=True)
class LevelEstimates:
    """Coefficients of each level of a grouping factor under three kinds of pooling; L levels, k coefficients.

    Attributes:
        group: Name of the grouping factor.
        levels: Levels of the factor.
        columns: Columns of the model.
        codes: Level of each row, shape (n,).
        parts: Blocks that a level's coefficients consist of: the factor's own, and those of factors that it is nested
            in.
        no: Regressions of the levels, one each (no pooling).
        complete: Coefficients of one regression for all rows, in each level's own columns, shape (L, k).
        complete_beta: Coefficients of that regression, shape (p,).
        centre: Fixed effects of the mixed model (plus the effects of factors that a level is nested in), in each
            level's own columns, shape (L, k).
        partial: Fixed plus group effects, in each level's own columns, shape (L, k).
        partial_sd: Standard errors (posterior SDs) of ``partial``, shape (L, k).
        reliability: Reliability 1 - Var(b | y) / Var(b) of the effects at the estimated (posterior mean) covariances,
            shape (L, k); 0 if a coefficient does not vary between levels.
    """

    group: str
    levels: tuple[Any, ...]
    columns: Columns
    codes: npt.NDArray[np.int64]
    parts: tuple[LevelPart, ...]
    no: LevelRegressions
    complete: FloatArray
    complete_beta: FloatArray
    centre: FloatArray
    partial: FloatArray
    partial_sd: FloatArray
    reliability: FloatArray

    @property
    def too_small(self) -> dict[Any, str]:
        """Levels that are too small for a regression of their own, with the reasons."""
        return {self.levels[i]: reason for i, reason in self.no.why.items()}

    @property
    def varying(self) -> tuple[int, ...]:
        """Indices of columns whose coefficients vary between levels because of group effects."""
        spread = np.abs(self.partial - self.centre).max(axis=0)
        size = np.abs(self.partial).max(axis=0)
        return tuple(int(j) for j in np.flatnonzero(self.no.own.any(axis=0) & (spread > 1e-9 * size)))

    def table(self) -> pd.DataFrame:
        """One row per level and coefficient.

        Index level, term; columns n (rows of the level), complete, no_pooling and its std_error, centre (the fixed
        effects of the mixed model), partial and partial_sd (its standard error, or posterior SD of a sampler), moved
        (partial minus no_pooling), shrinkage (proportion of the distance from no_pooling to centre; it can lie outside
        0 .. 1 if correlated effects influence each other), reliability (proportion of the variance of the level's
        effect that its rows explain, 1 - Var(b | y) / Var(b); Raudenbush & Bryk 2002, Hierarchical Linear Models,
        chapter 3).
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

        Columns complete, centre (mean over levels), sd_no_pooling and sd_partial (standard deviations over levels,
        about each level's centre), shrinkage (1 - sd_partial / sd_no_pooling), reliability (mean).
        """
        rows = {}
        for j, name in enumerate(self.columns.names):
            present = self.no.own[:, j]
            if not present.any():
                continue
            no = self.no.estimate[present, j] - self.centre[present, j]
            partial = self.partial[present, j] - self.centre[present, j]
            known = np.isfinite(no)
            spread = float(np.std(no[known], ddof=1)) if known.sum() > 1 else np.nan
            kept = float(np.std(partial[known], ddof=1)) if known.sum() > 1 else np.nan
            rows[name] = {
                "complete": float(self.complete[present, j].mean()),
                "centre": float(self.centre[present, j].mean()),
                "sd_no_pooling": spread,
                "sd_partial": kept,
                "shrinkage": 1 - kept / spread if spread > 0 else np.nan,
                "reliability": float(self.reliability[present, j].mean()),
            }
        frame = pd.DataFrame.from_dict(rows, orient="index")
        frame.index.name = "term"
        return frame


def the_group(fit: FittedModel, group: str | None) -> str:
    """Name of the grouping factor given by the user, or of the only one.

    Raises:
        DataError: If the model has no grouping factor, or none of that name.
        OptionError: If the model has several factors and none is named.
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


def refuse_parts(fit: FittedModel) -> None:
    """Refuse models with zero inflation, a dispersion formula or a known residual variance.

    Raises:
        UnsupportedModelError: If the model has one of them.
    """
    refuse_correlated(fit, "Partial pooling")
    refuse_categories(fit.family, "Pooling, which fits each level by itself,")
    if fit.parts:
        parts = listing(
            {"zero": "zero inflation", "dispersion": "a model of the dispersion"}[name] for name in fit.parts
        )
        raise UnsupportedModelError(
            f"Pooling compares coefficients of the mean only, and this model has {parts}. Leave ziformula= and "
            "dispformula= out."
        )
    if fit.model.related:
        raise UnsupportedModelError(
            f"Pooling is of independent levels, and those of {listing(fit.model.related)} are related (relationship=). "
            "fit.group_effects has their effects."
        )
    if fit.model.sigma is not None:
        raise UnsupportedModelError(
            "Pooling compares with regressions that estimate a residual variance, and here it is known (sigma=). The "
            "effects of the levels are fit.group_effects, and fit.heterogeneity() says how much they differ."
        )


def level_estimates(fit: FittedModel, group: str | None = None) -> LevelEstimates:
    """Estimates of each level under complete, no and partial pooling.

    Complete and no pooling are regressions of the same response on the same columns, by least squares (maximum
    likelihood for generalised models), whichever engine fitted the mixed model.

    Args:
        fit: A mixed model.
        group: Name of the grouping factor; optional if the model has only one.

    Raises:
        DataError: If the factor is unknown.
        OptionError: If the model has several factors and none is named.
        UnsupportedModelError: If the model has zero inflation or a dispersion formula.
    """
    group = the_group(fit, group)
    refuse_parts(fit)
    refuse_smooths(
        fit, "A regression of each level by itself", "fit.plot.population() and fit.plot.means() show curves."
    )
    design = fit.design()
    first = next(b for b in design.blocks if b.group == group)
    levels = first.n_levels
    outer = [b.group != group and is_nested(first.codes, b.codes) for b in design.blocks]
    blocks = [k for k, b in enumerate(design.blocks) if b.group == group or outer[k]]
    columns = all_columns(design, [design.blocks[k] for k in blocks])
    rows = np.zeros(levels, dtype=np.int64)
    rows[first.codes] = np.arange(design.n)  # the position of one row of each level
    parts = tuple(
        LevelPart(k, m, design.blocks[k].codes[rows], not outer[k]) for k, m in zip(blocks, columns.maps, strict=True)
    )
    no = regressions(design, columns, first.codes, levels)
    fixed = np.zeros(len(columns.names))
    fixed[: design.p] = fit.fixed.estimate
    centre, whole = np.tile(fixed, (levels, 1)), np.tile(fixed, (levels, 1))
    for part in parts:
        effects = np.asarray(fit.random[part.block].modes)[part.codes] @ part.map.T
        whole += effects
        centre += 0.0 if part.own else effects
    complete, _ = complete_regression(design)
    padded = np.zeros(len(columns.names))
    padded[: design.p] = complete
    if is_sampled(fit):
        sd = level_draws(coefficient_draws(fit, MOST_DRAWS, seed=0), parts, no.turned).std(axis=0, ddof=1)
    else:
        sd = _error_sd(conditional_at(fit, design), design, parts, no.turned)
    return LevelEstimates(
        group=group,
        levels=tuple(first.levels),
        columns=columns,
        codes=first.codes,
        parts=parts,
        no=no,
        complete=no.turned @ padded,
        complete_beta=complete,
        centre=np.einsum("lij,lj->li", no.turned, centre),
        partial=np.einsum("lij,lj->li", no.turned, whole),
        partial_sd=np.asarray(sd),
        reliability=_reliability(fit, design, parts, len(columns.names), levels),
    )


def complete_regression(design: Design) -> tuple[FloatArray, FloatArray]:
    """Coefficients (p,) of one regression for all rows, and their covariance matrix (p, p)."""
    everywhere = np.zeros(design.n, dtype=np.int64)
    one = regressions(design, all_columns(design, []), everywhere, 1)
    return one.estimate[0], one.covariance[0]


def _error_sd(at: Conditional, design: Design, parts: Sequence[LevelPart], turned: FloatArray) -> FloatArray:
    """Standard error of each coefficient of each level, shape (L, k)."""
    levels, k, _ = turned.shape
    weights, level = turned.reshape(levels * k, k), np.repeat(np.arange(levels), k)
    z, codes = _elsewhere(design, len(weights))
    for part in parts:
        z[part.block], codes[part.block] = weights @ part.map, part.codes[level]
    variance = predictor_variance(at, weights[:, : design.p], z, codes)
    return np.sqrt(np.maximum(variance, 0.0)).reshape(levels, k)


def _elsewhere(design: Design, n: int) -> tuple[list[FloatArray], list[npt.NDArray[np.int64]]]:
    """Columns of zeros and arbitrary level codes for n rows without group effects, per block."""
    return [np.zeros((n, b.q)) for b in design.blocks], [np.zeros(n, dtype=np.int64) for _ in design.blocks]


def level_draws(draws: Draws, parts: Sequence[LevelPart], turned: FloatArray) -> FloatArray:
    """Coefficients per level in its own columns under every draw, shape (S, L, k)."""
    levels, k, _ = turned.shape
    p = draws.beta.shape[1]
    whole = np.zeros((len(draws), levels, k))
    whole[:, :, :p] = draws.beta[:, None]
    for part in parts:
        whole += draws.effects[part.block][:, part.codes] @ part.map.T
    return np.asarray(np.einsum("lij,slj->sli", turned, whole))


def _reliability(fit: FittedModel, design: Design, parts: Sequence[LevelPart], k: int, levels: int) -> FloatArray:
    """Reliability 1 - Var(b | y, beta) / Var(b) per level and column, 0 if the variance is zero, shape (L, k)."""
    known = replace(conditional_at(fit, design), beta_cov=np.zeros((design.p, design.p)))
    varying = [part for part in parts if part.own]
    reliability = np.zeros((levels, k))
    for j in range(k):
        spread = sum(float(p.map[j] @ np.asarray(fit.random[p.block].covariance) @ p.map[j]) for p in varying)
        if spread <= 0:
            continue
        z, codes = _elsewhere(design, levels)
        for part in varying:
            z[part.block] = np.tile(part.map[j], (levels, 1))
        for block, b in enumerate(design.blocks):
            if b.group == design.blocks[varying[0].block].group:
                codes[block] = np.arange(levels)
        unexplained = predictor_variance(known, np.zeros((levels, design.p)), z, codes)
        reliability[:, j] = 1.0 - unexplained / spread
    return reliability


def icc(fit: FittedModel) -> dict[str, float]:
    """Intraclass correlation per grouping factor: its share of the variance that the fixed effects leave.

    The variance of random slopes is averaged over rows, as in :func:`.block_variance`. NaN for families whose residual
    variance on the link scale has no simple form.
    """
    refuse_correlated(fit, "A share of variance")
    design = fit.design()
    residual = row_variance(fit.family, fit.dispersion_parameters)
    copies = row_copies(fit.family, design.weights)
    shares = intraclass_correlation(design.blocks, [np.asarray(b.covariance) for b in fit.random], residual, copies)
    return {group: float(share) for group, share in shares.items()}


__all__ = ["LevelEstimates", "LevelPart", "icc", "level_draws", "level_estimates", "refuse_parts", "the_group"]
