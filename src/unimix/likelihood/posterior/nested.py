"""Nested factors: every level of the factor with most effects lies in one level of the other.

The effects of the outer levels are then independent given those of the inner ones, so that the dense matrix of all
other effects falls apart into one small matrix per outer level. Arrays have the level on their last axis, after the
draws: (q, q2, S, L) for the q columns of L inner levels, the q2 columns of their outer level, and S draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from unimix.likelihood.lmm.batched_linalg import inverse_factor, outer, per_level
from unimix.likelihood.lmm.reduced_data import Products

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Nest:
    """Cross-products of the outer effects with the data, by inner level and by outer level.

    Attributes:
        blocks: Index of each outer block in the design, and its columns among the q2.
        parents: Outer level of each inner level, shape (L,).
        columns: Coordinates Q'Z_2 of the columns of the own outer level, shape (q, q2, L).
        within: Cross-products Z_2'(I - QQ')Z_2 per outer level, shape (q2, q2, L2).
        within_right: Cross-products Z_2'(I - QQ')[X y] per outer level, shape (q2, p + 1, L2).
    """

    blocks: tuple[tuple[int, slice], ...]
    parents: IntArray
    columns: FloatArray
    within: FloatArray
    within_right: FloatArray

    @property
    def q2(self) -> int:
        """Number of effects of an outer level."""
        return len(self.within)

    def sums(self, values: FloatArray) -> FloatArray:
        """Sums over the inner levels (..., L) of each outer one, shape (..., L2)."""
        order = np.argsort(self.parents, kind="stable")
        starts = np.searchsorted(self.parents[order], np.arange(self.within.shape[2]))
        return np.asarray(np.add.reduceat(values[..., order], starts, axis=-1))

    def stacked(self, factors: Sequence[FloatArray]) -> FloatArray:
        """Covariance factors of an outer level, shape (S, q2, q2), from those of all blocks, shapes (S, q, q)."""
        found = np.zeros((len(factors[0]), self.q2, self.q2))
        for k, own in self.blocks:
            found[:, own, own] = factors[k]
        return found

    def precision_root(self, s22: FloatArray, factor: FloatArray) -> FloatArray:
        """R with R'R = (I + F'S F)^-1 per draw and outer level, shape (q2, q2, S * L2)."""
        q2 = self.q2
        inside = np.einsum("sak,absl,sbm->kmsl", factor, s22, factor, optimize=True).reshape(q2, q2, -1)
        inside[np.arange(q2), np.arange(q2)] += 1.0
        return inverse_factor(inside)[0]


def nest_of(products: Products) -> Nest | None:
    """The nest of a model, or None if its factors are crossed or more than two levels deep."""
    sizes = [products.sizes[k] for k in products.rest]
    if not sizes or len({levels for _, levels in sizes}) > 1:
        return None
    q, levels, r = products.u.shape
    q2, outer_levels = sum(width for width, _ in sizes), sizes[0][1]
    # the column among the q2, and the outer level, of every effect
    column, parent, blocks, start = [], [], [], 0
    for k, (width, _) in zip(products.rest, sizes, strict=True):
        column.append(np.tile(np.arange(start, start + width), outer_levels))
        parent.append(np.repeat(np.arange(outer_levels), width))
        blocks.append((k, slice(start, start + width)))
        start += width
    place, owner = np.concatenate(column), np.concatenate(parent)
    entries = sparse.coo_array(products.u2)
    level = entries.row % levels
    parents = np.zeros(levels, dtype=np.intp)
    parents[level] = owner[entries.col]
    between = sparse.coo_array(products.within2)
    if (parents[level] != owner[entries.col]).any() or (owner[between.row] != owner[between.col]).any():
        return None
    if len(np.unique(parents)) < outer_levels:
        return None
    columns = np.zeros((q, q2, levels))
    columns[entries.row // levels, place[entries.col], level] = entries.data
    within = np.zeros((q2, q2, outer_levels))
    within[place[between.row], place[between.col], owner[between.row]] = between.data
    right = np.zeros((q2, r, outer_levels))
    right[place, :, owner] = products.within_right
    return Nest(tuple(blocks), parents, columns, within, right)


def with_outer(
    nest: Nest,
    root: FloatArray,
    right: FloatArray,
    relative: Sequence[FloatArray],
    gram: FloatArray,
    log_det: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Extend V_1^-1 to V^-1 by the effects of the outer levels.

    Args:
        nest: The nest.
        root: R with R'R = (I + T'T)^-1 of the inner levels, shape (q, q, S, L).
        right: Coordinates R Q'[X y], shape (q, S, L, p + 1).
        relative: Covariance factors relative to sigma, per block, shapes (S, q, q).
        gram: Cross-products [X y]'V_1^-1 [X y], shape (S, p + 1, p + 1).
        log_det: log|V_1|, shape (S,).
    """
    between = np.einsum("ijsl,jkl->iksl", root, nest.columns)
    s22 = nest.within[:, :, None] + nest.sums(np.einsum("iksl,imsl->kmsl", between, between))
    s2r = nest.within_right[:, :, None] + nest.sums(np.einsum("iksl,islr->krsl", between, right))
    factor = nest.stacked(relative)
    inverse = nest.precision_root(s22, factor)
    turned = np.einsum("sak,arsl->kslr", factor, s2r)
    shape = turned.shape
    solved = per_level(inverse, turned.reshape(nest.q2, -1, shape[3])).reshape(shape)
    diagonal = np.log(np.einsum("iin->in", inverse)).sum(axis=0)
    return gram - np.einsum("kslr,kslt->srt", solved, solved), log_det - 2.0 * diagonal.reshape(shape[1:3]).sum(axis=1)


@dataclass(frozen=True)
class OuterDraws:
    """Effects of the outer levels, with those of the inner levels integrated out.

    Attributes:
        draws: Draws, shape (q2, S, L2); the means without random numbers.
        means: Conditional means, shape (q2, S, L2).
        covariances: Conditional covariances, shape (q2, q2, S, L2).
    """

    draws: FloatArray
    means: FloatArray
    covariances: FloatArray

    def of(self, own: slice) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Draws and means (S, L2, q), and summed covariances (L2, q, q), of one block's columns."""
        draws, means = (a[own].transpose(1, 2, 0) for a in (self.draws, self.means))
        return draws, means, self.covariances[own, own].sum(axis=2).transpose(2, 0, 1)


def draw_outer(
    nest: Nest,
    inside: FloatArray,
    y_side: FloatArray,
    e: FloatArray,
    u: FloatArray,
    factors: Sequence[FloatArray],
    sigma: FloatArray,
    rng: np.random.Generator | None,
) -> OuterDraws:
    """Draw the effects of the outer levels from their distribution given y.

    Args:
        nest: The nest.
        inside: R T, with R'R = (I + TT')^-1, shape (q, q, S, L).
        y_side: R T Q'[X y], shape (q, S, L, p + 1).
        e: Vectors (-beta, 1), shape (S, p + 1).
        u: Coordinates Q'[X y], shape (q, L, p + 1).
        factors: Covariance factors of all blocks, shapes (S, q, q).
        sigma: Residual standard deviations, shape (S,).
        rng: Random number generator; None for the moments alone.
    """
    left = np.einsum("ijsl,jkl->iksl", inside, nest.columns)
    # (I + T'T)^-1 = I - T'(I + TT')^-1 T
    plain = np.einsum("ikl,iml->kml", nest.columns, nest.columns)
    s22 = nest.within[:, :, None] + nest.sums(plain[:, :, None] - np.einsum("iksl,imsl->kmsl", left, left))
    plain_right = np.einsum("ikl,ilr,sr->ksl", nest.columns, u, e, optimize=True)
    s2e = np.einsum("krl,sr->ksl", nest.within_right, e)
    s2e = s2e + nest.sums(plain_right - np.einsum("iksl,islr,sr->ksl", left, y_side, e, optimize=True))
    relative = nest.stacked([f / sigma[:, None, None] for f in factors])
    inverse = nest.precision_root(s22, relative)
    # b_2 = F_2 u_2, u_2 | y ~ N(B^-1 F_2's e / sigma^2, B^-1) with B^-1 = R'R
    turned = np.einsum("sak,asl->ksl", relative, s2e) / sigma[None, :, None]
    half = per_level(inverse, turned.reshape(nest.q2, -1))
    noise = 0.0 if rng is None else rng.standard_normal(half.shape)
    lift = relative * sigma[:, None, None]
    means, draws = (
        np.einsum("sak,ksl->asl", lift, per_level(inverse, h, transpose=True).reshape(turned.shape))
        for h in (half, half + noise)
    )
    spread = outer(inverse).reshape(nest.q2, nest.q2, *turned.shape[1:])
    return OuterDraws(draws, means, np.einsum("sak,kmsl,sbm->absl", lift, spread, lift, optimize=True))


__all__ = ["Nest", "OuterDraws", "draw_outer", "nest_of", "with_outer"]
