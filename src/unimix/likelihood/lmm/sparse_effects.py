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
