"""Where draws lie: on one side of zero, or between bounds; and the two one-sided tests of estimates without draws."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from unimix.stats.inference import tail_probability

FloatArray = npt.NDArray[np.float64]


def direction(draws: FloatArray) -> FloatArray:
    """Probability of direction: the larger share of draws (S, m) on one side of zero, shape (m,).

    Makowski, Ben-Shachar, Chen & Luedecke (2019), Front. Psychol. 10:2767. For a symmetric posterior it is one minus
    half of a two-sided p value.

    Example:
        >>> import numpy as np
        >>> from unimix.stats.direction import direction
        >>> direction(np.array([[1.0, -2.0], [3.0, -1.0], [-1.0, -1.0], [2.0, -4.0]]))
        array([0.75, 1.  ])
    """
    return np.asarray(np.maximum((draws > 0).mean(axis=0), (draws < 0).mean(axis=0)))


def normal_direction(mean: FloatArray, sd: FloatArray) -> FloatArray:
    """Probability of direction of normal distributions, shape (m,): Phi(|mean| / sd)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(special.ndtr(np.abs(mean) / sd))


def share_between(draws: FloatArray, low: float, high: float) -> FloatArray:
    """Share of draws (S, m) between two bounds, shape (m,): the posterior probability of equivalence."""
    return np.asarray(((draws > low) & (draws < high)).mean(axis=0))


def two_one_sided(
    estimate: FloatArray, std_error: FloatArray, df: FloatArray, low: float, high: float
) -> tuple[FloatArray, FloatArray]:
    """P values of the one-sided tests that estimates are above the lower and below the upper bound, shapes (m,).

    The larger of the two is the p value of the test of equivalence (Schuirmann 1987, J. Pharmacokinet. Biopharm.
    15:657-680).

    Args:
        estimate: Estimates, shape (m,).
        std_error: Their standard errors, shape (m,).
        df: Degrees of freedom, shape (m,); infinite for z tests.
        low: Lower bound.
        high: Upper bound.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        above = tail_probability((estimate - low) / std_error, df, "greater")
        below = tail_probability((estimate - high) / std_error, df, "less")
    return above, below
