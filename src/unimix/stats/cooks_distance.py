"""Residuals and distances of single rows from their leverages."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def standardized(residual: FloatArray, hat: FloatArray, dispersion: float) -> FloatArray:
    """Residuals over their standard deviation: r / sqrt(dispersion (1 - h)), as R's ``rstandard``; shape (n,).

    Args:
        residual: Deviance residuals (of a Gaussian model: sqrt(w) (y - mu)), shape (n,).
        hat: Leverages h, shape (n,); NaN comes of a row with leverage 1.
        dispersion: sigma^2, or the dispersion of a generalised model.
    """
    return np.asarray(residual / np.sqrt(dispersion * _left(hat)))


def cooks_distance(residual: FloatArray, hat: FloatArray, dispersion: float, p: int) -> FloatArray:
    """Cook's distances (r / (1 - h))^2 h / (dispersion p), as R's ``cooks.distance``; shape (n,).

    Cook & Weisberg (1982), Residuals and Influence in Regression, section 3.5 (one-step ones of generalised models,
    section 5.4); of mixed models at given covariance parameters.

    Args:
        residual: Pearson residuals without the dispersion, shape (n,).
        hat: Leverages h, shape (n,); NaN comes of a row with leverage 1.
        dispersion: sigma^2, or the dispersion of a generalised model.
        p: Number of fixed effects; without any there are no distances (NaN).
    """
    if not p:
        return np.full_like(hat, np.nan)
    return np.asarray((residual / _left(hat)) ** 2 * hat / (dispersion * p))


def _left(hat: FloatArray) -> FloatArray:
    """1 - h, NaN where nothing is left."""
    left = 1.0 - hat
    return np.where(left > 1e-12, left, np.nan)


__all__ = ["cooks_distance", "standardized"]
