"""The sparse matrix of all group effects, and systems of equations in them, solved set by set.

With U the n x m matrix of all blocks' z_k L_k spread over their levels, A = I + U'WU has one dense piece per set of
levels that rows tie together: a level of the outer factor where factors are nested, all levels where they are crossed.
No inverse of a covariance is formed, so variances may be zero. Bates, Maechler, Bolker & Walker (2015), J. Stat. Softw.
67(1), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import sparse

from unimix.design.tied_levels import TiedLevels

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
    a: sparse.csr_array, right: FloatArray, blocks: Sequence[Block], widths: Sequence[int], tied: TiedLevels
) -> tuple[FloatArray, list[FloatArray], float]:
    """Solve A s = right piece by piece, equal sizes in one batch.

    Args:
        a: Positive definite, shape (m, m).
        right: Shape (m, r).
        blocks: The blocks.
        widths: Number of effects per level of each.
        tied: Which of their levels rows tie together.

    Returns:
        s (m, r); the diagonal blocks of A^-1 that belong to each level, per block (L, q, q); log |A|.
    """
    solved = np.zeros_like(right)
    diagonals = [np.zeros((b.n_levels, q, q)) for b, q in zip(blocks, widths, strict=True)]
    if not blocks:
        return solved, diagonals, 0.0
    count, sets = tied
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
