"""Correlations of q effects as the list of their pairs, below the diagonal of the matrix and by rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def pair_names(terms: Sequence[str]) -> list[str]:
    """Names of the q (q - 1) / 2 pairs of terms."""
    return [f"{later}, {earlier}" for i, later in enumerate(terms) for earlier in terms[:i]]


def below_diagonal(matrices: FloatArray) -> FloatArray:
    """Correlations of the pairs, shape (..., q (q - 1) / 2), of matrices, shape (..., q, q)."""
    rows, columns = np.tril_indices(matrices.shape[-1], -1)
    return np.asarray(matrices[..., rows, columns])


def correlation_matrices(pairs: FloatArray, q: int) -> FloatArray:
    """Correlation matrices, shape (..., q, q), of the correlations of the pairs, shape (..., q (q - 1) / 2).

    Example:
        >>> correlation_matrices(np.array([0.5]), 2)
        array([[1. , 0.5],
               [0.5, 1. ]])
    """
    rows, columns = np.tril_indices(q, -1)
    matrices = np.broadcast_to(np.eye(q), (*pairs.shape[:-1], q, q)).copy()
    matrices[..., rows, columns] = pairs
    matrices[..., columns, rows] = pairs
    return matrices
