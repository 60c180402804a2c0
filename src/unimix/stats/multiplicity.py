"""P values and simultaneous intervals of several tests."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy
from scipy import special

FloatArray = npt.NDArray[np.float64]

METHODS = ("none", "tukey", "sidak", "bonferroni", "holm", "fdr", "mvt")
POINTS = 100_000
"""Number of points of the integral of the multivariate t distribution, which is accurate to about 1e-4."""
LARGE = 1e6
"""Degrees of freedom above which a t distribution counts as normal."""


def adjusted_p_values(
    method: str, statistic: FloatArray, df: FloatArray, correlation: FloatArray, family: int
) -> FloatArray:
    """Adjusted two-sided p values of m tests, shape (m,).

    Args:
        method: One of :data:`METHODS`: tukey (studentized range; for pairwise differences of ``family`` means), sidak,
            bonferroni, holm (Holm 1979, Scand. J. Stat. 6:65), fdr (Benjamini & Hochberg 1995, J. R. Stat. Soc. B
            57:289), mvt (the multivariate t distribution of the statistics: Hothorn, Bretz & Westfall 2008, Biom. J.
            50:346).
        statistic: Statistics t or z, shape (m,).
        df: Degrees of freedom, shape (m,); infinite for z.
        correlation: Correlation matrix of the estimates, shape (m, m).
        family: Number of means, for tukey.
    """
    size = np.abs(statistic)
    plain = 2 * np.where(np.isinf(df), special.ndtr(-size), special.stdtr(np.where(np.isinf(df), 1.0, df), -size))
    m = len(plain)
    match method:
        case "tukey" if family > 2:  # for two means it is the plain t test
            spread = scipy.stats.studentized_range
            found = [spread.sf(np.sqrt(2) * t, family, min(d, LARGE)) for t, d in zip(size, df, strict=True)]
            # the integral is inaccurate in the far tail: never below the p value of a single test
            return np.asarray(np.clip(found, plain, 1.0))
        case "sidak":
            return np.asarray(-np.expm1(m * np.log1p(-np.minimum(plain, 1.0))))
        case "bonferroni":
            return np.asarray(np.minimum(m * plain, 1.0))
        case "holm":
            order = np.argsort(plain, kind="stable")
            stepped = np.maximum.accumulate(plain[order] * np.arange(m, 0, -1))
            return np.minimum(stepped, 1.0)[np.argsort(order, kind="stable")]
        case "fdr":
            order = np.argsort(plain, kind="stable")
            stepped = np.minimum.accumulate((plain[order] * m / np.arange(1, m + 1))[::-1])[::-1]
            return np.minimum(stepped, 1.0)[np.argsort(order, kind="stable")]
        case "mvt":
            found = [1.0 - _inside(t, correlation, float(d)) for t, d in zip(size, df, strict=True)]
            return np.asarray(np.clip(found, plain, 1.0))
        case _:
            return np.asarray(plain)


def critical_value(method: str, level: float, df: float, correlation: FloatArray, family: int) -> float:
    """Half-width of simultaneous intervals in standard errors; for holm and fdr, which have none, of single intervals.

    Args:
        method: One of the methods of :func:`adjusted_p_values`.
        level: Probability that all intervals cover their parameters.
        df: Degrees of freedom.
        correlation: Correlation matrix of the estimates, shape (m, m).
        family: Number of means, for tukey.
    """
    m = len(correlation)
    match method:
        case "tukey" if family > 2:
            return float(scipy.stats.studentized_range.ppf(level, family, min(df, LARGE)) / np.sqrt(2))
        case "sidak":
            level = level ** (1 / m)
        case "bonferroni":
            level = 1 - (1 - level) / m
        case "mvt":
            return float(
                scipy.optimize.brentq(lambda size: _inside(size, correlation, df) - level, 0.3, 50.0, xtol=1e-4)
            )
        case _:
            pass
    upper = 0.5 + level / 2
    return float(special.ndtri(upper) if np.isinf(df) else special.stdtrit(df, upper))


def _inside(size: float, correlation: FloatArray, df: float) -> float:
    """Probability that all statistics lie between -size and size."""
    m = len(correlation)
    limits = np.full(m, size)
    shape = correlation + 1e-10 * np.eye(m)
    rng = np.random.default_rng(1)
    if np.isinf(df):
        found = scipy.stats.multivariate_normal(
            np.zeros(m), shape, allow_singular=True, seed=rng, abseps=1e-6, releps=1e-6
        )
        return float(found.cdf(limits, lower_limit=-limits))
    spread = scipy.stats.multivariate_t(np.zeros(m), shape, df, allow_singular=True, seed=rng)
    return float(spread.cdf(limits, lower_limit=-limits, maxpts=POINTS))
