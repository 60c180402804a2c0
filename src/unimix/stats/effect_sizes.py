"""Effect sizes from test statistics and coefficients."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy
from scipy import special

FloatArray = npt.NDArray[np.float64]

LOGISTIC = float(np.sqrt(3) / np.pi)
"""Factor from a log odds ratio to Cohen's d: one over the standard deviation of the logistic distribution."""


def partial_shares(statistic: FloatArray, df: FloatArray, df_error: FloatArray) -> dict[str, FloatArray]:
    """Partial eta squared, omega squared and epsilon squared of F tests, shapes (m,), truncated at zero.

    Sources: Cohen (1988), Statistical Power Analysis, p. 550; Olejnik & Algina (2003), Psychol. Methods 8:434-447.
    """
    above = (statistic - 1) * df
    return {
        "eta2": statistic * df / (statistic * df + df_error),
        "omega2": np.maximum(above / (above + df + df_error + 1), 0.0),
        "epsilon2": np.maximum(above / (statistic * df + df_error), 0.0),
    }


def noncentral_interval(statistic: float, df: float, df_error: float, level: float) -> tuple[float, float]:
    """Two-sided confidence interval of the noncentrality of an F test.

    The ends are the noncentralities for which the statistic is the upper and the lower quantile (Steiger 2004, Psychol.
    Methods 9:164-182). An end is zero if there is no such noncentrality.

    Args:
        statistic: F statistic.
        df: Numerator degrees of freedom.
        df_error: Denominator degrees of freedom, finite.
        level: Probability of the interval, between 0 and 1.
    """

    def end(target: float) -> float:
        def gap(noncentrality: float) -> float:
            return float(special.ncfdtr(df, df_error, noncentrality, statistic)) - target

        if special.fdtr(df, df_error, statistic) <= target:
            return 0.0
        high = 2 * (df * statistic + 10.0)
        while gap(high) > 0:
            high *= 2
        return float(scipy.optimize.brentq(gap, 1e-12, high, xtol=1e-10, rtol=1e-12))

    tail = 0.5 - level / 2
    return end(1 - tail), end(tail)


def share_of(noncentrality: FloatArray, df_error: FloatArray) -> FloatArray:
    """Population value of partial eta squared for a noncentrality."""
    return np.asarray(noncentrality / (noncentrality + df_error))


def weighted_sd(values: FloatArray, weights: FloatArray | None, *, copies: bool = False) -> FloatArray:
    """Standard deviation of columns (n, ...), shape (...), from the unbiased variance.

    Args:
        values: Values, shape (n, ...).
        weights: Weights, shape (n,); None for ones.
        copies: Whether a weight counts copies of its row; if not, weights are reliabilities.
    """
    w = np.full(len(values), 1 / len(values)) if weights is None else weights / weights.sum()
    lost = 1 / weights.sum() if copies and weights is not None else np.sum(w**2)
    middle = np.tensordot(w, values, axes=1)
    return np.asarray(np.sqrt(np.tensordot(w, (values - middle) ** 2, axes=1) / (1 - lost)))
