"""The sparse matrix of all group effects, and systems of equations in them, solved by independent sets of levels.

With U the n x m matrix of all blocks' z_k L_k spread over their levels, A = I + U'WU has one dense piece per set of
levels that are connected by rows: one level of the outer factor if factors are nested, all levels if they are crossed.
No inverse of a covariance is formed, so that variances may be zero. The form is that of Bates, Maechler, Bolker &
Walker (2015), J. Stat. Softw. 67(1), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from unimix.design.arrays import Design
from unimix.design.tied_levels import TiedLevels

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Matrix: TypeAlias = Any
"""Matrix of floats, dense or sparse (csr)."""


class Block(Protocol):
    """A block of random effects."""

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
    """Form U, shape (n, m); column ``start_k + level * q_k + j`` belongs to effect j of a level of block k."""
    values, columns, start = [np.empty((n, 0))], [np.empty((n, 0), dtype=np.int64)], 0
    for block, factor in zip(blocks, factors, strict=True):
        q = len(factor)
        values.append(block.z @ factor)
        columns.append(start + block.codes[:, None] * q + np.arange(q))
        start += block.n_levels * q
    data, indices = np.hstack(values), np.hstack(columns)
    pointers = np.arange(n + 1) * data.shape[1]
    return sparse.csr_array((data.ravel(), indices.ravel(), pointers), shape=(n, start))


SMALL, CELLS = 150, 100_000
"""Numbers of group effects, and of cells of U, up to which dense matrices are faster than sparse ones."""


class EffectsLayout:
    """Positions of the effects of all blocks in U, computed once for a design.

    Args:
        blocks: Blocks of random effects; may be empty.
        n: Number of rows.
        tied: Sets of levels that are connected by rows.
    """

    def __init__(self, blocks: Sequence[Block], n: int, tied: TiedLevels) -> None:
        self.blocks, self.n, self.tied = blocks, n, tied
        self.widths = [b.z.shape[1] for b in blocks]
        self.starts = np.cumsum([0, *(b.n_levels * q for b, q in zip(blocks, self.widths, strict=True))])
        self.dense = self.m <= SMALL and n * self.m <= CELLS
        self._columns = [self._spread_columns(b) for b in blocks] if self.dense else []

    @property
    def m(self) -> int:
        """Number of effects."""
        return int(self.starts[-1])

    def _spread_columns(self, block: Block) -> FloatArray:
        """Spread the columns of a block over its levels, shape (n, L, q)."""
        wide = np.zeros((self.n, block.n_levels, block.z.shape[1]))
        wide[np.arange(self.n), block.codes] = block.z
        return wide

    def spread(self, factors: Sequence[FloatArray]) -> Matrix:
        """Form U, shape (n, m), from factors L_k, shapes (q, q)."""
        if not self.dense:
            return spread(self.blocks, factors, self.n)
        parts = [(z @ f).reshape(self.n, -1) for z, f in zip(self._columns, factors, strict=True)]
        return np.concatenate([np.empty((self.n, 0)), *parts], axis=1)

    def system(self, u: Matrix, weights: FloatArray) -> Matrix:
        """Form I + U'WU, shape (m, m), with weights (n,)."""
        if not self.dense:
            return sparse.csr_array(u.T @ (sparse.diags_array(weights) @ u) + sparse.eye_array(self.m))
        a = u.T @ (weights[:, None] * u)
        a.flat[:: self.m + 1] += 1.0
        return a

    def solve(self, a: Matrix, right: FloatArray) -> FloatArray:
        """Multiply a vector (m,) by A^-1."""
        if self.dense:
            return np.asarray(np.linalg.solve(a, right))
        return solve_pieces(a, right[:, None], self.blocks, self.widths, self.tied)[0][:, 0]

    def inverse_blocks(self, a: Matrix) -> tuple[list[FloatArray], float]:
        """Diagonal blocks of A^-1 for each level, per block (L, q, q), and log|A|.

        Raises:
            numpy.linalg.LinAlgError: If A is not positive definite.
        """
        if not self.dense:
            return solve_pieces(a, np.zeros((self.m, 0)), self.blocks, self.widths, self.tied)[1:]
        root = np.linalg.cholesky(a)
        half = np.linalg.inv(root)
        inverse, found = half.T @ half, []
        for block, q, start in zip(self.blocks, self.widths, self.starts[:-1], strict=True):
            index = start + np.arange(block.n_levels)[:, None] * q + np.arange(q)
            found.append(inverse[index[:, :, None], index[:, None, :]])
        return found, 2.0 * float(np.log(np.diag(root)).sum())


def layout_of(design: Design) -> EffectsLayout:
    """Return the layout of the effects of a design, which is made once."""
    return design.keep("effects layout", lambda: EffectsLayout(design.blocks, design.n, design.tied))


def solve_pieces(
    a: sparse.csr_array, right: FloatArray, blocks: Sequence[Block], widths: Sequence[int], tied: TiedLevels
) -> tuple[FloatArray, list[FloatArray], float]:
    """Solve A s = right piece by piece, with pieces of equal size in one batch.

    Args:
        a: Positive definite matrix A, shape (m, m).
        right: Right-hand sides, shape (m, r).
        blocks: Blocks of random effects.
        widths: Number of effects per level of each block.
        tied: Sets of levels that are connected by rows.

    Returns:
        Solution s (m, r); diagonal blocks of A^-1 for each level, per block (L, q, q); log |A|.
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
