"""Whether a search over logarithms of variances, which never reaches zero, has ended beside a singular covariance."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import RandomBlock
from unimix.likelihood.lmm.conditioning import is_singular, nearest_singular

FloatArray = npt.NDArray[np.float64]
FLAT = 1e-5
"""Difference of the log likelihood from that of a singular covariance below which a covariance is singular."""


def is_boundary(
    blocks: Sequence[RandomBlock],
    covariances: tuple[FloatArray, ...],
    unit: float,
    value: Callable[[tuple[FloatArray, ...]], float],
) -> bool:
    """Whether a covariance is singular, or so close that the likelihood is no lower at a singular one.

    Args:
        blocks: The blocks of the design.
        covariances: Covariance matrix of each block's effects, shapes (q, q).
        unit: Standard deviation of a row, against which the effects are small or large.
        value: Log likelihood at covariances of all blocks.
    """
    if is_singular(covariances, unit):
        return True
    for k, (block, covariance) in enumerate(zip(blocks, covariances, strict=True)):
        near = nearest_singular if block.structure == "us" else _all_one
        limit = near(covariance / unit**2)
        if limit is not None:
            tried = (*covariances[:k], limit * unit**2, *covariances[k + 1 :])
            if value(tried) > value(covariances) - FLAT:
                return True
    return False


def is_vanishing(residual: FloatArray | None, value: Callable[[FloatArray], float]) -> bool:
    """Whether the standard deviation of correlated residuals at one time tends to zero.

    Args:
        residual: Covariance matrix of the residuals, shape (T, T), or None.
        value: Log likelihood at a covariance matrix of the residuals.
    """
    if residual is None:
        return False
    sd = np.sqrt(np.diag(residual))
    if sd.min() > 0.02 * sd.max():
        return False
    smaller = np.where(sd == sd.min(), 0.1, 1.0)
    return value(residual * np.outer(smaller, smaller)) > value(residual) - FLAT


def _all_one(covariance: FloatArray) -> FloatArray | None:
    """Replace correlations close to +-1 in a covariance matrix (q, q) by +-1; None if there are none."""
    sd = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(sd, sd)
    if np.abs(correlation).min() < 0.9:
        return None
    return np.asarray(np.outer(sd, sd) * np.sign(correlation))


__all__ = ["FLAT", "is_boundary", "is_vanishing"]
