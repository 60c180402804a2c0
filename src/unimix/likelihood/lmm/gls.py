"""Generalised least squares and conditional modes at given covariances and residual variance, any number of blocks.

With Cov_k = sigma^2 L_k L_k' and U the n x m matrix of all blocks' z_k L_k spread over their levels,
V = sigma^2 (I + U U'). Everything follows from A = I + U'U, which has one dense piece per set of levels that rows tie
together: a level of the outer factor where factors are nested, all levels where they are crossed. No inverse of a
covariance is formed, so variances may be zero. Notation and the penalised least-squares form are those of Bates,
Maechler, Bolker and Walker (2015), "Fitting linear mixed-effects models using lme4", J. Stat. Softw. 67(1), section 3.
"""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from unimix.likelihood.lmm.conditioning import relative_factors

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class Block(Protocol):
    """What is needed of a block of random effects."""

    @property
    def z(self) -> FloatArray:
        """Columns, shape (n, q)."""

    @property
    def codes(self) -> IntArray:
        """Level index per row, shape (n,)."""

    @property
    def n_levels(self) -> int:
        """Number of levels L."""


@dataclass(frozen=True)
class Solution:
    """The linear part of a mixed model at given covariances and sigma.

    Attributes:
        beta: Generalised least-squares estimates, shape (p,).
        beta_cov: (X' V^-1 X)^-1, shape (p, p).
        modes: Conditional means of the effects given ``beta``, per block (L, q).
        mode_covs: Conditional covariances given ``beta``, per block (L, q, q).
        log_likelihood: Log-likelihood at ``beta``, with all constants.
        log_likelihood_reml: Restricted log-likelihood, in lme4's convention.
        quadratic: sigma^2 (y - X beta)' V^-1 (y - X beta): the penalised residual sum of squares.
    """

    beta: FloatArray
    beta_cov: FloatArray
    modes: tuple[FloatArray, ...]
    mode_covs: tuple[FloatArray, ...]
    log_likelihood: float
    log_likelihood_reml: float
    quadratic: float


_TIED: deque[tuple[list[weakref.ref[IntArray]], int, list[IntArray]]] = deque(maxlen=4)


def tied_levels(blocks: Sequence[Block]) -> tuple[int, list[IntArray]]:
    """Which levels belong together because rows share them.

    Args:
        blocks: At least one.

    Returns:
        The number of independent sets, and for each block the set of each of its levels, shapes (L,).
    """
    codes = [b.codes for b in blocks]
    for known, count, sets in list(_TIED):  # every engine asks the same of one design
        if len(known) == len(codes) and all(ref() is c for ref, c in zip(known, codes, strict=True)):
            return count, [s.copy() for s in sets]
    found = _tied_levels(blocks)
    _TIED.append(([weakref.ref(c) for c in codes], found[0], [s.copy() for s in found[1]]))
    return found


def _tied_levels(blocks: Sequence[Block]) -> tuple[int, list[IntArray]]:
    starts = np.cumsum([0, *(b.n_levels for b in blocks)])
    rows = [starts[0] + blocks[0].codes] * (len(blocks) - 1)
    columns = [start + b.codes for start, b in zip(starts[1:-1], blocks[1:], strict=True)]
    i = np.concatenate([np.empty(0, dtype=np.int64), *rows])
    j = np.concatenate([np.empty(0, dtype=np.int64), *columns])
    graph = sparse.coo_array((np.ones(len(i)), (i, j)), shape=(starts[-1], starts[-1]))
    count, labels = connected_components(graph, directed=False)
    return int(count), [labels[a:b].astype(np.int64) for a, b in itertools.pairwise(starts)]


def solve(
    y: FloatArray, x: FloatArray, blocks: Sequence[Block], covariances: tuple[FloatArray, ...], sigma: float
) -> Solution:
    """Fixed effects, conditional modes, their covariances and the log-likelihood at given parameters.

    Args:
        y: Response with residual variance ``sigma**2`` in every row, shape (n,).
        x: Fixed-effects columns of full rank, shape (n, p).
        blocks: Blocks of random effects, in any nesting or crossing; none is allowed.
        covariances: Covariance of each block's effects, shapes (q, q); may be singular.
        sigma: Residual standard deviation.
    """
    n, p = x.shape
    factors = relative_factors(covariances, sigma)
    right = np.column_stack([x, y])
    u = spread(blocks, factors, n)
    a = sparse.csr_array(u.T @ u + sparse.eye_array(u.shape[1]))
    spherical, diagonals, log_det = solve_pieces(a, u.T @ right, blocks, [f.shape[0] for f in factors])
    rest = right - u @ spherical
    # x'(I + UU')^-1 x as a sum of squares: nothing cancels where a variance is large.
    cross = rest.T @ rest + spherical.T @ spherical
    root = np.linalg.cholesky(cross[:p, :p])
    beta = np.linalg.solve(cross[:p, :p], cross[:p, p])
    inverse_root = np.linalg.solve(root, np.eye(p))
    inverse = inverse_root.T @ inverse_root
    effects = spherical[:, p] - spherical[:, :p] @ beta
    residual = rest[:, p] - rest[:, :p] @ beta
    quadratic = float(residual @ residual + effects @ effects)
    base = n * np.log(2 * np.pi * sigma**2) + log_det + quadratic / sigma**2
    log_det_x = 2 * float(np.log(np.diag(root)).sum())
    modes, covs, start = [], [], 0
    for block, factor, diagonal in zip(blocks, factors, diagonals, strict=True):
        size = block.n_levels * len(factor)
        modes.append(effects[start : start + size].reshape(block.n_levels, len(factor)) @ factor.T)
        covs.append(sigma**2 * (factor @ diagonal @ factor.T))
        start += size
    return Solution(
        beta=beta,
        beta_cov=sigma**2 * inverse,
        modes=tuple(modes),
        mode_covs=tuple(covs),
        log_likelihood=float(-0.5 * base),
        log_likelihood_reml=float(-0.5 * (base - p * np.log(2 * np.pi * sigma**2) + log_det_x)),
        quadratic=quadratic,
    )


def profile(
    y: FloatArray, x: FloatArray, blocks: Sequence[Block], relative: tuple[FloatArray, ...], *, reml: bool
) -> tuple[float, float]:
    """Log-likelihood with fixed effects and residual variance profiled out.

    Args:
        y: Response, shape (n,).
        x: Fixed-effects columns, shape (n, p).
        blocks: Blocks of random effects.
        relative: Cov / sigma^2 per block, shapes (q, q).
        reml: Whether the restricted likelihood is meant.

    Returns:
        The (restricted) log-likelihood, and the residual standard deviation that maximises it.
    """
    at_one = solve(y, x, blocks, relative, 1.0)
    freedom = len(y) - (x.shape[1] if reml else 0)
    variance = at_one.quadratic / freedom
    value = at_one.log_likelihood_reml if reml else at_one.log_likelihood
    change = 0.5 * (at_one.quadratic - freedom * (1 + np.log(variance)))
    return float(value + change), float(np.sqrt(variance))


def spread(blocks: Sequence[Block], factors: Sequence[FloatArray], n: int) -> sparse.csr_array:
    """U, shape (n, m): column ``start_k + level * q_k + j`` belongs to effect j of a level of block k."""
    values, columns, start = [np.empty((n, 0))], [np.empty((n, 0), dtype=np.int64)], 0
    for block, factor in zip(blocks, factors, strict=True):
        q = len(factor)
        values.append(block.z @ factor)
        columns.append(start + block.codes[:, None] * q + np.arange(q))
        start += block.n_levels * q
    data, indices = np.hstack(values), np.hstack(columns)
    pointers = np.arange(n + 1) * data.shape[1]
    return sparse.csr_array((data.ravel(), indices.ravel(), pointers), shape=(n, start))


def solve_pieces(
    a: sparse.csr_array, right: FloatArray, blocks: Sequence[Block], widths: Sequence[int]
) -> tuple[FloatArray, list[FloatArray], float]:
    """Solve A s = right piece by piece, equal sizes in one batch.

    Returns:
        s (m, r); the diagonal blocks of A^-1 that belong to each level, per block (L, q, q); log |A|.
    """
    solved = np.zeros_like(right)
    diagonals = [np.zeros((b.n_levels, q, q)) for b, q in zip(blocks, widths, strict=True)]
    if not blocks:
        return solved, diagonals, 0.0
    count, sets = tied_levels(blocks)
    piece = np.concatenate([np.repeat(s, q) for s, q in zip(sets, widths, strict=True)])
    sizes = np.bincount(piece, minlength=count)
    order = np.argsort(piece, kind="stable")
    place = np.empty(len(piece), dtype=np.int64)
    place[order] = np.arange(len(piece)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    entries = a.tocoo()
    log_det = 0.0
    for size in np.unique(sizes):
        members = np.flatnonzero(sizes == size)
        position = np.full(count, -1)
        position[members] = np.arange(len(members))
        dense = np.zeros((len(members), size, size))
        here = position[piece[entries.row]] >= 0
        row, column = entries.row[here], entries.col[here]
        dense[position[piece[row]], place[row], place[column]] = entries.data[here]
        columns = np.flatnonzero(position[piece] >= 0)
        at = (position[piece[columns]], place[columns])
        batch = np.zeros((len(members), size, right.shape[1]))
        batch[at] = right[columns]
        root = np.linalg.cholesky(dense)
        log_det += 2 * float(np.log(np.einsum("bii->bi", root)).sum())
        inverse = np.linalg.inv(dense)
        solved[columns] = np.linalg.solve(dense, batch)[at]
        start = 0
        for block, labels, q, diagonal in zip(blocks, sets, widths, diagonals, strict=True):
            levels = np.flatnonzero(position[labels] >= 0)
            index = place[start + levels[:, None] * q + np.arange(q)]
            which = position[labels[levels]]
            diagonal[levels] = inverse[which[:, None, None], index[:, :, None], index[:, None, :]]
            start += block.n_levels * q
    return solved, diagonals, log_det
