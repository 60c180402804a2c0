"""P values and simultaneous intervals of several tests."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy

from unimix.stats.inference import tail_probability
from unimix.stats.multivariate_t import largest_p_values, largest_quantile, single_quantile

FloatArray = npt.NDArray[np.float64]

METHODS = ("none", "tukey", "sidak", "bonferroni", "holm", "fdr", "mvt", "dunnettx")
LARGE = 1e6
"""Degrees of freedom above which a t distribution counts as normal."""
MANY = 20
"""Number of means above which p values of Tukey's test in the far tail are given by Bonferroni's bound."""


def adjusted_p_values(
    method: str, statistic: FloatArray, df: FloatArray, correlation: FloatArray, family: int
) -> FloatArray:
    """Adjusted two-sided p values of m tests, shape (m,).

    Args:
        method: One of :data:`METHODS`: tukey (studentized range; for pairwise differences of ``family`` means), sidak,
            bonferroni, holm (Holm 1979, Scand. J. Stat. 6:65), fdr (Benjamini & Hochberg 1995, J. R. Stat. Soc. B
            57:289), mvt (the multivariate t distribution of the statistics: Hothorn, Bretz & Westfall 2008, Biom. J.
            50:346), dunnettx (:func:`dunnett_probability`).
        statistic: Statistics t or z, shape (m,).
        df: Degrees of freedom, shape (m,); infinite for z.
        correlation: Correlation matrix of the estimates, shape (m, m).
        family: Number of means, for tukey.
    """
    size = np.abs(statistic)
    plain = tail_probability(size, df, "two-sided")
    match method:
        case "tukey" if family > 2:  # for two means it is the plain t test
            spread = scipy.stats.studentized_range
            adjusted = [spread.sf(np.sqrt(2) * t, family, min(d, LARGE)) for t, d in zip(size, df, strict=True)]
            p = np.asarray(np.clip(adjusted, plain, 1.0))
            far = p < 1e-9  # where SciPy's integral loses its digits
            if far.any() and family <= MANY:
                p[far] = largest_p_values(statistic[far], df[far], _pairwise_correlation(family))
            elif far.any():
                p[far] = family * (family - 1) / 2 * plain[far]
            return p
        case "mvt":
            return largest_p_values(statistic, df, correlation)
        case "dunnettx" if len(size) > 1:
            below = [dunnett_probability(float(t), len(size), float(d)) for t, d in zip(size, df, strict=True)]
            return np.asarray(np.clip(1 - np.array(below), plain, 1.0))
        case _:
            return adjusted_by_size(method, plain)


def adjusted_by_size(method: str, plain: FloatArray) -> FloatArray:
    """P values of m tests, adjusted by what follows from p values alone, shape (m,).

    Args:
        method: sidak, bonferroni, holm or fdr; any other leaves them as they are.
        plain: P values, shape (m,).
    """
    m = len(plain)
    match method:
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
            return largest_quantile(level, df, correlation)
        case "dunnettx" if m > 1:
            most = single_quantile(1 - (1 - level) / m, df)  # Bonferroni's is larger than any
            least = single_quantile(level, df)
            return float(scipy.optimize.brentq(lambda t: dunnett_probability(t, m, df) - level, least, most + 1e-3))
        case _:
            pass
    return single_quantile(level, df)


def dunnett_probability(size: float, m: int, df: float) -> float:
    """Approximate probability that none of m comparisons of equal groups with one of them exceeds ``size``.

    It lies between those of m independent comparisons and of the pairwise differences of as many means as have m of
    them, (1 + sqrt(1 + 8 m)) / 2, with the weights 1 / m and (m - 1) / m. Source: R's emmeans, ``adjust = "dunnettx"``;
    the multivariate t distribution (mvt) is exact, also for groups of different sizes.

    Args:
        size: Absolute value of the statistics.
        m: Number of comparisons.
        df: Degrees of freedom; infinite for z.
    """
    means = (1 + np.sqrt(1 + 8 * m)) / 2
    tukey = float(scipy.stats.studentized_range.cdf(np.sqrt(2) * size, means, min(df, LARGE)))
    single = 1 - float(tail_probability(np.array([size]), np.array([df]), "two-sided")[0])
    return (m - 1) / m * tukey + single**m / m


def _pairwise_correlation(family: int) -> FloatArray:
    """Correlation of the pairwise differences of independent means with equal variances, shape (m, m)."""
    first, second = np.triu_indices(family, 1)
    pairs = np.eye(family)[first] - np.eye(family)[second]
    return np.asarray(pairs @ pairs.T / 2)
