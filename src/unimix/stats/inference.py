"""Tests, intervals and information criteria from estimates, which are the same for every engine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from unimix.errors import OptionError

FloatArray = npt.NDArray[np.float64]


def checked_level(ci_level: float) -> None:
    """Raise an error if a level is not a probability.

    Raises:
        OptionError: If the level is not between 0 and 1.
    """
    if isinstance(ci_level, bool) or not isinstance(ci_level, int | float) or not 0 < ci_level < 1:
        raise OptionError(f"ci_level={ci_level!r}: give a probability between 0 and 1, such as 0.95.")


def wald_test(estimate: FloatArray, std_error: FloatArray, df: FloatArray | None) -> tuple[FloatArray, FloatArray]:
    """Test each coefficient against zero.

    Args:
        estimate: Estimates, shape (p,).
        std_error: Standard errors, shape (p,).
        df: Denominator degrees of freedom, shape (p,); None for the normal distribution.

    Returns:
        Statistics and two-sided p values, shapes (p,); NaN where the standard error is infinite, because an estimate
        that tends to infinity has no Wald test.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.where(np.isinf(std_error), np.nan, estimate / std_error)
    size = -np.abs(statistic)
    tail = special.ndtr(size) if df is None else special.stdtr(df, size)
    return statistic, np.asarray(2.0 * tail)


def wald_interval(
    estimate: FloatArray, std_error: FloatArray, df: FloatArray | None, level: float
) -> tuple[FloatArray, FloatArray]:
    """Confidence interval of each coefficient.

    Args:
        estimate: Estimates, shape (p,).
        std_error: Standard errors, shape (p,).
        df: Denominator degrees of freedom, shape (p,); None for the normal distribution.
        level: Probability of the intervals, such as 0.95.

    Returns:
        Lower and upper ends, shapes (p,).
    """
    upper = 0.5 + level / 2
    quantile = special.ndtri(upper) if df is None else special.stdtrit(df, upper)
    return estimate - quantile * std_error, estimate + quantile * std_error


def is_unbounded(
    weights: FloatArray, directions: FloatArray, scale: FloatArray, tolerance: float = 1e-7
) -> npt.NDArray[np.bool_]:
    """Whether linear functions c'beta depend on a direction along which the likelihood has no maximum, shape (m,).

    Args:
        weights: Rows c, shape (m, p).
        directions: Rows d, shape (k, p); functions with c'd != 0 have no finite estimate and no variance.
        scale: Sizes of the coefficients, such as standard errors, shape (p,), by which rounding errors are judged.
        tolerance: Size of c'd, relative to the sum of its absolute terms, that counts as zero.
    """
    if not directions.size:
        return np.zeros(len(weights), dtype=bool)
    scale = np.where(scale > 0, scale, 1.0)
    off = np.abs(weights @ directions.T)
    # Terms that cancel leave a rounding error of their own size; a weight that is one itself has that of the largest.
    terms = np.abs(weights) @ np.abs(directions).T
    floor = np.outer((np.abs(weights) * scale).max(axis=1), (np.abs(directions) / scale).max(axis=1))
    return np.asarray(((off > tolerance * terms) & (off > 1e-12 * floor)).any(axis=1))


ALTERNATIVES = ("two-sided", "greater", "less")


def tail_probability(statistic: FloatArray, df: FloatArray, alternative: str) -> FloatArray:
    """P values of t statistics (z statistics for infinite degrees of freedom), shape (m,).

    Args:
        statistic: Statistics, shape (m,).
        df: Degrees of freedom, shape (m,).
        alternative: Alternative hypothesis: two-sided, greater or less.
    """
    if alternative == "two-sided":
        return np.asarray(2.0 * _lower_tail(-np.abs(statistic), df))
    return _lower_tail(-statistic if alternative == "greater" else statistic, df)


def _lower_tail(statistic: FloatArray, df: FloatArray) -> FloatArray:
    finite = np.isfinite(df)
    tail = np.where(finite, special.stdtr(np.where(finite, df, 1.0), statistic), special.ndtr(statistic))
    return np.asarray(tail)


def information_criteria(log_likelihood: float, n_parameters: int, n: float) -> tuple[float, float]:
    """AIC = -2 l + 2 k and BIC = -2 l + k log n; under REML too, as in lme4, with the same k and n."""
    return -2 * log_likelihood + 2 * n_parameters, -2 * log_likelihood + n_parameters * float(np.log(n))


def correlation(covariance: FloatArray, unit: FloatArray) -> FloatArray:
    """Correlation matrix (q, q), with NaN for zero variances, whose correlations are not identified.

    Args:
        covariance: Covariance matrix, shape (q, q).
        unit: Scale of the columns of the effects, shape (q,), which decides whether a variance counts as zero.
    """
    sd = np.sqrt(np.diag(covariance))
    size = (sd * unit).max(initial=0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlations = covariance / np.outer(sd, sd)
    zero = sd * unit <= 1e-10 * size
    correlations[zero, :] = np.nan
    correlations[:, zero] = np.nan
    np.fill_diagonal(correlations, np.where(zero, np.nan, 1.0))
    return np.asarray(np.clip(correlations, -1.0, 1.0))
