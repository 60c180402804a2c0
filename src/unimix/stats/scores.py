"""Scores of predictive distributions; smaller is better, except for log densities.

The logarithmic score and the continuous ranked probability score CRPS = E|Y - y| - E|Y - Y'|/2 are proper: no
distribution has a better expected score than the true one (Gneiting & Raftery 2007, J. Am. Stat. Assoc. 102:359-378).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.float64]


def normal_log_density(y: FloatArray, mean: FloatArray, sd: FloatArray) -> FloatArray:
    """Log density of normal distributions, shape (n,)."""
    return np.asarray(-0.5 * np.log(2 * np.pi) - np.log(sd) - 0.5 * ((y - mean) / sd) ** 2)


def normal_crps(y: FloatArray, mean: FloatArray, sd: FloatArray) -> FloatArray:
    """CRPS of normal distributions in units of the response, shape (n,); Gneiting & Raftery (2007), equation 21."""
    z = (y - mean) / sd
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return np.asarray(sd * (z * (2 * special.ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi)))


def sample_crps(y: FloatArray, draws: FloatArray) -> FloatArray:
    """CRPS from independent draws, in units of the response, shape (n,).

    The mean of |Y - Y'| is taken over pairs of different draws, so that the expected score does not depend on their
    number (the "fair" CRPS; Ferro 2014, Q. J. R. Meteorol. Soc. 140:1917-1923).

    Args:
        y: Observed responses, shape (n,).
        draws: Draws of the responses, shape (S, n), S > 1.
    """
    s = len(draws)
    ordered = np.sort(draws, axis=0)
    weight = (2 * np.arange(1, s + 1) - s - 1)[:, None]
    spread = 2 * (weight * ordered).sum(axis=0) / (s * (s - 1))
    return np.asarray(np.abs(draws - y).mean(axis=0) - 0.5 * spread)


def clustered_mean(values: FloatArray, clusters: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Mean of values, and its cluster-robust standard error.

    The standard error is the sandwich estimate from cluster totals with the factor J / (J - 1) for J clusters (Cameron
    & Miller 2015, J. Hum. Resour. 50:317-372, section II).

    Args:
        values: Values, shape (n,).
        clusters: Cluster of each value, shape (n,).
    """
    mean = float(values.mean())
    _, index = np.unique(clusters, return_inverse=True)
    totals = np.bincount(index, values - mean)
    count = len(totals)
    if count < 2:
        return mean, float("nan")
    return mean, float(np.sqrt(count / (count - 1) * np.sum(totals**2)) / len(values))
