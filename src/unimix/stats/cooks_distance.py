"""Standardised residuals and Cook's distances of single rows, from their leverages."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def standardized(residual: FloatArray, hat: FloatArray, dispersion: float) -> FloatArray:
    """Standardised residuals r / sqrt(dispersion (1 - h)), as in R's ``rstandard``; shape (n,).

    Args:
        residual: Deviance residuals (for a Gaussian model, sqrt(w) (y - mu)), shape (n,).
        hat: Leverages h, shape (n,); a row with leverage 1 gives NaN.
        dispersion: Residual variance sigma^2, or the dispersion of a generalised model.
    """
    return np.asarray(residual / np.sqrt(dispersion * _one_minus(hat)))


def cooks_distance(residual: FloatArray, hat: FloatArray, dispersion: float, p: int) -> FloatArray:
    """Cook's distances (r / (1 - h))^2 h / (dispersion p), as in R's ``cooks.distance``; shape (n,).

    Source: Cook & Weisberg (1982), Residuals and Influence in Regression, section 3.5, and section 5.4 for the one-step
    distances of generalised models. For mixed models the covariance parameters are held fixed.

    Args:
        residual: Pearson residuals without the dispersion, shape (n,).
        hat: Leverages h, shape (n,); a row with leverage 1 gives NaN.
        dispersion: Residual variance sigma^2, or the dispersion of a generalised model.
        p: Number of fixed effects; the distances are NaN if there are none.
    """
    if not p:
        return np.full_like(hat, np.nan)
    return np.asarray((residual / _one_minus(hat)) ** 2 * hat / (dispersion * p))


def _one_minus(hat: FloatArray) -> FloatArray:
    """Compute 1 - h; NaN where h is 1."""
    gain = 1.0 - hat
    return np.where(gain > 1e-12, gain, np.nan)


__all__ = ["cooks_distance", "standardized"]
