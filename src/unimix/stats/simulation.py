"""Responses drawn from a model, and resampled designs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import AuxiliaryDesign, Design, RandomBlock
from unimix.design.grouping_factors import is_nested
from unimix.design.relationships import root_of
from unimix.design.residual_block import ResidualBlock
from unimix.design.typed_columns import Level
from unimix.distributions.random_responses import draw_response
from unimix.errors import DataError, UnsupportedModelError
from unimix.likelihood.glmm.laplace import fixed_predictor
from unimix.likelihood.lmm.batched_linalg import matrix_root
from unimix.likelihood.lmm.optimise import lower_triangular

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Simulator:
    """Model with values of all its parameters, from which responses are drawn.

    Attributes:
        design: Design of the model; ``y`` is not used.
        beta: Fixed effects, shape (p,).
        covariances: Covariance matrix of each block, shapes (q, q).
        parameters: Dispersion parameters, shape (k,).
        share: Probability of no structural zero, shape (n,), or None.
        effects: Fixed values of the group effects, shapes (L, q); None draws them anew.
        residual: Covariance matrix of the residuals of one group at all times, shape (T, T), if the design's residuals
            are correlated or have several variances; else None. It is relative to modelled standard deviations.
        log_sd: Coefficients of the log residual standard deviations of a linear model that have a formula, shape (k,).
    """

    design: Design
    beta: FloatArray
    covariances: tuple[FloatArray, ...]
    parameters: FloatArray
    share: FloatArray | None = None
    effects: tuple[FloatArray, ...] | None = None
    residual: FloatArray | None = None
    log_sd: FloatArray | None = None

    @property
    def _sds(self) -> FloatArray:
        """Residual standard deviations by the formula and the weights, relative to ``residual``, shape (n,)."""
        design = self.design
        sd = np.ones(design.n) if design.weights is None else 1.0 / np.sqrt(design.weights)
        if design.dispersion is None or self.log_sd is None:
            return sd
        return np.asarray(np.exp(design.dispersion.x @ self.log_sd) * sd)

    def draw(self, rng: np.random.Generator) -> FloatArray:
        """Draw one response, shape (n,); proportions for a binomial family."""
        design = self.design
        eta = fixed_predictor(design, self.beta)
        for k, (block, covariance) in enumerate(zip(design.blocks, self.covariances, strict=True)):
            if self.effects is not None:
                drawn = self.effects[k]
            else:
                # A triangular root is continuous in the covariance: similar covariances give similar responses.
                root = lower_triangular([matrix_root(covariance)])[0]
                drawn = rng.standard_normal((block.n_levels, block.q)) @ root.T
                drawn = drawn if block.relationship is None else block.relationship @ drawn
            eta = eta + np.einsum("nq,nq->n", block.z, drawn[block.codes])
        if design.residual is not None:
            return eta + self._residuals(design.residual, rng)
        if design.has_modelled_variances:
            return np.asarray(eta + self._sds * rng.standard_normal(design.n))
        return draw_response(design.family, self.parameters, eta, rng, design.weights, design.trials, self.share)

    def _residuals(self, block: ResidualBlock, rng: np.random.Generator) -> FloatArray:
        """Draw correlated residuals of all rows, shape (n,); a row of weight w has 1/w of the variance."""
        assert self.residual is not None  # noqa: S101  it belongs to a design with correlated residuals
        if block.independent:
            return np.sqrt(np.diag(self.residual))[block.times] * rng.standard_normal(self.design.n) * self._sds
        # Every group has residuals at all times, and the rows have those of the times that they are at.
        lower = lower_triangular([matrix_root(self.residual)])[0]
        drawn = rng.standard_normal((block.n_groups, block.structure.n_times)) @ lower.T
        return np.asarray(drawn[block.codes, block.times] * self._sds)


def resample(design: Design, codes: IntArray | None, rng: np.random.Generator) -> Design:
    """Draw levels with replacement, with all of their rows; a level that is drawn twice counts as two levels.

    Source: van der Leeden, Meijer & Busing (2008), in de Leeuw & Meijer (eds.), Handbook of Multilevel Analysis,
    section 11.4.

    Args:
        design: Rows to draw from.
        codes: Level index per row, shape (n,); None draws single rows.
        rng: Random number generator.
    """
    if codes is None:
        return take(design, rng.integers(design.n, size=design.n), None, None)
    parts = _rows_of_levels(codes)
    chosen = rng.integers(len(parts), size=len(parts))
    rows = np.concatenate([parts[c] for c in chosen])
    copy = np.repeat(np.arange(len(parts)), [len(parts[c]) for c in chosen])
    return take(design, rows, codes, copy)


def resized(design: Design, codes: IntArray | None, n_levels: int | None, n_rows: int | None) -> Design:
    """Design with more or fewer levels, and with more or fewer rows in each level.

    Args:
        design: Design to be resized.
        codes: Level index per row, shape (n,); None for a design without groups, whose rows form one level.
        n_levels: New number of levels: whole copies of all levels, and a remainder spread evenly over their order;
            None keeps the levels.
        n_rows: New number of rows of each level, chosen in the same way; None keeps the rows.
    """
    parts = _rows_of_levels(np.zeros(design.n, dtype=np.int64) if codes is None else codes)
    chosen = _spread(len(parts), len(parts) if n_levels is None else n_levels)
    picked = [parts[c] if n_rows is None else parts[c][_spread(len(parts[c]), n_rows)] for c in chosen]
    copy = np.repeat(np.arange(len(chosen)), [len(p) for p in picked])
    return take(design, np.concatenate(picked), codes, None if codes is None else copy)


def _rows_of_levels(codes: IntArray) -> list[IntArray]:
    """Indices of the rows of each level, in order."""
    return list(np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1]))


def _spread(total: int, wanted: int) -> IntArray:
    """Whole copies of 0 ... total - 1, and a remainder that is spread evenly."""
    copies, rest = divmod(wanted, total)
    more = (np.arange(rest) * total) // rest if rest else np.empty(0, dtype=np.int64)
    return np.concatenate([np.tile(np.arange(total), copies), more]).astype(np.int64)


def without(design: Design, codes: IntArray | None, level: int) -> Design:
    """Design without the rows of one level (or without one row)."""
    rows = np.delete(np.arange(design.n), level) if codes is None else np.flatnonzero(codes != level)
    return take(design, rows, None, None)


def take(design: Design, rows: IntArray, codes: IntArray | None, copy: IntArray | None) -> Design:
    """Select rows of a design.

    Args:
        design: Design to select from.
        rows: Indices of the rows, which may repeat.
        codes: Level index, per row of the design, of the factor whose levels were drawn; None if no levels were drawn.
        copy: Index of the draw of each selected row, which distinguishes repeated levels of the factor and of factors
            nested in it.
    """

    def picked(values: FloatArray | None) -> FloatArray | None:
        return None if values is None else np.ascontiguousarray(values[rows])

    def part(values: AuxiliaryDesign | None) -> AuxiliaryDesign | None:
        if values is None:
            return None
        same = None if values.same is None else values.same[rows]
        return replace(values, x=np.ascontiguousarray(values.x[rows]), same=same)

    blocks: list[RandomBlock] = []
    for block in design.blocks:
        old = block.codes[rows]
        whole = copy is not None and codes is not None and is_nested(block.codes, codes)
        joint = old if not whole or copy is None else copy * block.n_levels + old
        if copy is not None and block.n_levels == design.n:
            # one level per row: every row that is drawn is a new level
            whole, joint = True, np.arange(len(rows)) * block.n_levels + old
        present, new = np.unique(joint, return_inverse=True)
        levels: tuple[Level, ...]
        if whole:
            levels = tuple(f"{block.levels[int(v) % block.n_levels]} ({int(v) // block.n_levels + 1})" for v in present)
        else:
            levels = tuple(block.levels[int(v)] for v in present)
        relationship = block.relationship
        if relationship is not None:
            if whole:
                raise DataError(
                    f"The levels of {block.group} are related as relationship= says, and copies of them are not: draw "
                    "responses instead (source='parametric')."
                )
            own = relationship[present]
            relationship = root_of(own @ own.T)
        blocks.append(
            replace(
                block,
                relationship=relationship,
                z=np.ascontiguousarray(block.z[rows]),
                codes=new.astype(np.int64).ravel(),
                levels=levels,
            )
        )
    kept: dict[str, Any] = {"columns": {}, "labels": None}
    if design.residual is not None:
        kept["residual"] = _residual_of(design.residual, rows, codes, copy)
    return replace(
        design,
        y=np.ascontiguousarray(design.y[rows]),
        x=np.ascontiguousarray(design.x[rows]),
        blocks=tuple(blocks),
        weights=picked(design.weights),
        offset=picked(design.offset),
        trials=picked(design.trials),
        rows=design.rows[rows],
        zero=part(design.zero),
        dispersion=part(design.dispersion),
        **kept,
    )


def _residual_of(block: ResidualBlock, rows: IntArray, codes: IntArray | None, copy: IntArray | None) -> ResidualBlock:
    """Groups and times of selected rows; the groups within a level that is drawn twice are different groups.

    Raises:
        UnsupportedModelError: If a group has a row twice, whose residuals would have a correlation of one.
    """
    if copy is not None and codes is not None and is_nested(block.codes, codes):
        return block.take(rows, copy * block.n_groups + block.codes[rows])
    if len(np.unique(rows)) < len(rows) and not block.independent:
        raise UnsupportedModelError(
            f"Rows that are drawn more than once have the same time in their {block.group}, and "
            f"residual={block.text!r} has one row per time: draw levels of {block.group}, or of a factor around it."
        )
    return block.take(rows)


__all__ = ["Simulator", "resample", "resized", "take", "without"]
