"""The sparse matrix of all group effects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import sparse

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


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


def effect_entries(blocks: Sequence[Block], factors: Sequence[FloatArray], n: int) -> FloatArray:
    """Entries of the rows of U, z_k L_k, shape (n, K) with K the sum of the q_k, from factors L_k, shapes (q, q)."""
    return np.hstack([np.empty((n, 0)), *(b.z @ f for b, f in zip(blocks, factors, strict=True))])


def effect_columns(blocks: Sequence[Block], n: int) -> tuple[IntArray, IntArray]:
    """Columns of U in which the entries of a row stand, shape (n, K), and the first column of each block.

    Effect j of a level of block k has column ``start_k + level * q_k + j``; the last start is the number of columns.
    """
    widths = [b.z.shape[1] for b in blocks]
    starts = np.cumsum([0, *(b.n_levels * q for b, q in zip(blocks, widths, strict=True))])
    parts = [s + b.codes[:, None] * q + np.arange(q) for b, q, s in zip(blocks, widths, starts[:-1], strict=True)]
    return np.hstack([np.empty((n, 0), dtype=np.int64), *parts]), starts


def spread(blocks: Sequence[Block], factors: Sequence[FloatArray], n: int) -> sparse.csr_array:
    """Form U, shape (n, m)."""
    data, (columns, starts) = effect_entries(blocks, factors, n), effect_columns(blocks, n)
    pointers = np.arange(n + 1) * data.shape[1]
    return sparse.csr_array((data.ravel(), columns.ravel(), pointers), shape=(n, int(starts[-1])))
