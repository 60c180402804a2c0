"""Distance of two covariance matrices of the same estimates."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
ROUNDED = 1e-10
"""Eigenvalue of a correlation matrix, relative to the largest, that consists of rounding errors."""
SYMMETRIC = 1e-6
"""Largest difference of a matrix from its transpose, relative to the variances."""


def worst_contrast(claimed: FloatArray, exact: FloatArray) -> float:
    """Largest relative difference of the standard error of any contrast: sqrt(c'Own c / c'Exact c) - 1 over all c.

    Args:
        claimed: Covariance matrix, shape (p, p).
        exact: Covariance matrix to compare with, shape (p, p).
    """
    size = np.sqrt(np.maximum(np.diag(exact), 1e-300))
    with np.errstate(invalid="ignore", over="ignore"):
        claimed, exact = claimed / np.outer(size, size), exact / np.outer(size, size)
    if (
        not (np.isfinite(claimed).all() and np.isfinite(exact).all())
        or np.abs(claimed - claimed.T).max(initial=0.0) > SYMMETRIC
    ):
        return float("inf")
    values, vectors = np.linalg.eigh(exact)
    if not len(values):
        return 0.0
    # Directions that cancel to rounding are not compared: their variances have no correct digit.
    kept = values > max(ROUNDED * values[-1], 0.0)
    if not kept.any():  # a matrix of zeros, where the likelihood has no maximum
        return float("inf")
    half = vectors[:, kept] / np.sqrt(values[kept])
    ratio = np.linalg.eigvalsh(half.T @ claimed @ half)  # extremes of c'Own c / c'Exact c
    return float(np.abs(np.sqrt(np.maximum(ratio, 0.0)) - 1.0).max())
