"""Intervals from bootstrap replicates.

Sources: Davison & Hinkley (1997), Bootstrap Methods and their Application, chapter 5; Efron (1987), J. Am. Stat. Assoc.
82:171, for BCa.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.float64]

KINDS = ("percentile", "basic", "normal", "bca")


def quantiles(replicates: FloatArray, probabilities: FloatArray) -> FloatArray:
    """Interpolated quantiles of replicates (R,) at positions (R + 1) p, as in the literature on the bootstrap."""
    return np.quantile(replicates, probabilities, method="weibull")


def bootstrap_interval(
    kind: str, replicates: FloatArray, estimate: float, level: float, jackknife: FloatArray | None = None
) -> tuple[float, float]:
    """Interval of one quantity.

    Args:
        kind: Kind of interval: percentile; basic (2 t - quantiles); normal (estimate less the bias, with the standard
            deviation of the replicates); or bca (bias-corrected and accelerated).
        replicates: Finite bootstrap replicates, shape (R,).
        estimate: Estimate t.
        level: Probability of the interval, between 0 and 1.
        jackknife: Estimates with one unit left out, shape (m,), which bca needs.
    """
    tail = 0.5 - level / 2
    if kind == "normal":
        reach = float(special.ndtri(1 - tail)) * float(np.std(replicates, ddof=1))
        centre = 2 * estimate - float(replicates.mean())
        return centre - reach, centre + reach
    probabilities = np.array([tail, 1 - tail])
    if kind == "bca":
        if jackknife is None:
            raise ValueError("bca needs the jackknife")
        probabilities = _bca(replicates, estimate, jackknife, probabilities)
    low, high = quantiles(replicates, probabilities)
    return (2 * estimate - high, 2 * estimate - low) if kind == "basic" else (float(low), float(high))


def _bca(replicates: FloatArray, estimate: float, jackknife: FloatArray, probabilities: FloatArray) -> FloatArray:
    below = (np.sum(replicates < estimate) + 0.5 * np.sum(replicates == estimate)) / len(replicates)
    # If all replicates are on one side, half a replicate counts for the other side.
    z0 = float(special.ndtri(np.clip(below, 0.5 / len(replicates), 1 - 0.5 / len(replicates))))
    centred = jackknife.mean() - jackknife
    spread = float(np.sum(centred**2))
    a = float(np.sum(centred**3)) / (6 * spread**1.5) if spread > 0 else 0.0
    z = z0 + special.ndtri(probabilities)
    return np.asarray(special.ndtr(z0 + z / (1 - a * z)))


__all__ = ["KINDS", "bootstrap_interval"]
