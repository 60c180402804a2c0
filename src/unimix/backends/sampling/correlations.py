"""Cholesky factors of correlation matrices from unconstrained numbers (canonical partial correlations)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def correlation_factor(y: FloatArray, q: int) -> FloatArray:
    """Cholesky factor of a correlation matrix from unconstrained numbers.

    Args:
        y: Inverse hyperbolic tangents of the canonical partial correlations, by rows of the lower triangle, shape
            (q(q-1)/2,).
        q: Number of rows of the matrix.

    Returns:
        Lower triangular factor with rows of length one, shape (q, q).
    """
    z, c = np.tanh(y), 1.0 / np.cosh(np.minimum(np.abs(y), 300.0))
    if q == 2:
        return np.array([[1.0, 0.0], [z[0], c[0]]])
    root = np.zeros((q, q))
    root[0, 0] = 1.0
    place = 0
    for i in range(1, q):
        left = 1.0
        for j in range(i):
            root[i, j] = z[place] * left
            left *= c[place]
            place += 1
        root[i, i] = left
    return root


def correlation_factors(y: FloatArray, q: int) -> FloatArray:
    """Cholesky factors (S, q, q) of many correlation matrices from vectors (S, q(q-1)/2)."""
    root = np.zeros((len(y), q, q))
    root[:, 0, 0] = 1.0
    z, c = np.tanh(y), 1.0 / np.cosh(np.minimum(np.abs(y), 300.0))
    place = 0
    for i in range(1, q):
        left = np.ones(len(y))
        for j in range(i):
            root[:, i, j] = z[:, place] * left
            left = left * c[:, place]
            place += 1
        root[:, i, i] = left
    return root


def correlation_gradient(by_root: FloatArray, root: FloatArray, y: FloatArray) -> FloatArray:
    """Convert a gradient in the entries of the factor (q, q) to one in the unconstrained numbers (q(q-1)/2,)."""
    z, c = np.tanh(y), 1.0 / np.cosh(np.minimum(np.abs(y), 300.0))
    if len(root) == 2:
        pair: FloatArray = c * (by_root[1, 0] * c - by_root[1, 1] * z)
        return pair
    result = np.empty_like(y)
    products = by_root * root
    place = 0
    for i in range(1, len(root)):
        left = 1.0
        for j in range(i):
            after = products[i, j + 1 : i + 1].sum()
            result[place] = by_root[i, j] * left * c[place] ** 2 - z[place] * after
            left *= c[place]
            place += 1
    return result
