"""Layout of random effects in lme4 and similar engines: a sparse matrix, a vector of effects and a vector theta."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse

from unimix.design.arrays import Design

FloatArray = npt.NDArray[np.float64]


def effects_matrix(design: Design) -> sparse.csc_matrix:
    """Sparse matrix Z, shape (n, effects), ordered by block, then by level, then by column."""
    parts = [sparse.csc_matrix((design.n, 0))]
    for block in design.blocks:
        q = block.q
        rows = np.repeat(np.arange(design.n), q)
        columns = (block.codes[:, None] * q + np.arange(q)).ravel()
        shape = (design.n, block.n_levels * q)
        parts.append(sparse.csc_matrix((block.z.ravel(), (rows, columns)), shape=shape))
    return sparse.hstack(parts, format="csc")


def split_effects(effects: FloatArray, design: Design) -> tuple[FloatArray, ...]:
    """Split a vector of effects in the order of :func:`effects_matrix` into blocks, shapes (L, q)."""
    blocks, used = [], 0
    for block in design.blocks:
        size = block.n_levels * block.q
        blocks.append(np.asarray(effects[used : used + size], dtype=np.float64).reshape(block.n_levels, block.q))
        used += size
    return tuple(blocks)


def theta_of(factors: Sequence[FloatArray]) -> FloatArray:
    """Vector of the lower triangles of factors (q, q), row by row and block by block."""
    return np.concatenate([np.empty(0), *(f[np.tril_indices(len(f))] for f in factors)])


def factors_of(theta: FloatArray, design: Design) -> tuple[FloatArray, ...]:
    """Lower triangular factors of each block, shapes (q, q), from a vector in the order of :func:`theta_of`."""
    factors, used = [], 0
    for block in design.blocks:
        factor = np.zeros((block.q, block.q))
        cells = np.tril_indices(block.q)
        factor[cells] = theta[used : used + len(cells[0])]
        factors.append(factor)
        used += len(cells[0])
    return tuple(factors)


__all__ = ["effects_matrix", "factors_of", "split_effects", "theta_of"]
