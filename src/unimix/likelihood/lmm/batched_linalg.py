"""Linear algebra of small matrices, one per level, in arrays whose last axis is the level.

Matrices of up to four rows are computed entry by entry, with each operation on all levels at once; LAPACK handles
larger ones.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_UNROLLED = 4


def inverse_factor(a: FloatArray) -> tuple[FloatArray, float]:
    """Inverse Cholesky factors of positive definite matrices.

    Args:
        a: Positive definite matrices, shape (q, q, L).

    Returns:
        Lower triangular R with R'R = a^-1 per level, shape (q, q, L), and the sum of log|a| over levels.
    """
    q = len(a)
    if q == 1:
        return 1.0 / np.sqrt(a), float(np.log(a).sum())
    if q > _UNROLLED:
        lower = np.linalg.cholesky(np.moveaxis(a, 2, 0))
        log_det = 2.0 * float(np.log(np.diagonal(lower, axis1=1, axis2=2)).sum())
        return np.ascontiguousarray(np.moveaxis(np.tril(np.linalg.inv(lower)), 0, 2)), log_det
    factor, root = np.empty_like(a), np.zeros_like(a)
    for j in range(q):
        for i in range(j, q):
            remaining = a[i, j]
            for k in range(j):
                remaining = remaining - factor[i, k] * factor[j, k]
            factor[i, j] = np.sqrt(remaining) if i == j else remaining * root[j, j]
            if i == j:
                root[j, j] = 1.0 / factor[j, j]
    for j in range(q):
        for i in range(j + 1, q):
            total = factor[i, j] * root[j, j]
            for k in range(j + 1, i):
                total = total + factor[i, k] * root[k, j]
            root[i, j] = -total * root[i, i]
    diagonal = factor[0, 0]
    for j in range(1, q):
        diagonal = diagonal * factor[j, j]
    return root, 2.0 * float(np.log(diagonal).sum())


def per_level(root: FloatArray, x: FloatArray, *, transpose: bool = False) -> FloatArray:
    """Multiply the vectors of each level by its lower triangular matrix, or by the transpose.

    Args:
        root: Lower triangular matrices, shape (q, q, L).
        x: Vectors, shape (q, L) or (q, L, m).
        transpose: Whether to multiply by the transpose.
    """
    q = len(root)
    r = root if x.ndim == 2 else root[..., None]
    if q == 1:
        only: FloatArray = r[0] * x
        return only
    result = np.empty_like(x)
    for i in range(q):
        total = r[i, i] * x[i]
        for j in range(i + 1, q) if transpose else range(i):
            total += (r[j, i] if transpose else r[i, j]) * x[j]
        result[i] = total
    return result


def outer(root: FloatArray) -> FloatArray:
    """Compute R'R per level.

    Args:
        root: Lower triangular R, shape (q, q, L).
    """
    q = len(root)
    if q == 1:
        return root * root
    result = np.empty_like(root)
    for i in range(q):
        for j in range(i + 1):
            total = root[i, i] * root[i, j]
            for k in range(i + 1, q):
                total += root[k, i] * root[k, j]
            result[i, j] = result[j, i] = total
    return result


def sum_of_levels(left: FloatArray, right: FloatArray, q: int) -> FloatArray:
    """Sum over rows and levels of products of the q columns of two arrays.

    Args:
        left: Array of shape (..., L * q), in which the column varies fastest.
        right: Array of the same shape.
        q: Number of columns per level.

    Returns:
        Sums of products, shape (q, q).
    """
    return np.asarray(left.reshape(-1, q).T @ right.reshape(-1, q))


def matrix_root(covariance: FloatArray) -> FloatArray:
    """Matrix R with R R' = covariance, shape (p, p); the covariance may be singular."""
    size = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    unit = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.eigh(covariance / np.outer(unit, unit))
    return np.asarray(unit[:, None] * vectors * np.sqrt(np.maximum(values, 0.0)))


def null_space(columns: FloatArray) -> FloatArray:
    """Directions d, one per row, with columns @ d = 0, shape (m, k); the columns (n, k) may have any units."""
    size = np.sqrt(np.mean(columns**2, axis=0)) if len(columns) else np.zeros(columns.shape[1])
    size = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.eigh((columns / size).T @ (columns / size) / max(len(columns), 1))
    return _without_rounding(vectors[:, values <= 1e-12 * values.max(initial=0.0)].T) / size


def _without_rounding(directions: FloatArray) -> FloatArray:
    """Unit vectors, one per row, with elements that are zero but for rounding set to zero."""
    return np.asarray(np.where(np.abs(directions) > 1e-6, directions, 0.0))
