"""Rubin's rules: one answer from estimates of the same quantities in several imputed data sets.

With estimates q_i and their error variances u_i in m imputed data sets,

    q = mean q_i,   U = mean u_i,   B = sum (q_i - q)^2 / (m - 1),   T = U + (1 + 1/m) B

where T is the error variance of q. Source: Rubin (1987), Multiple Imputation for Nonresponse in Surveys, chapter 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pooled:
    """k quantities pooled over m imputed data sets.

    Attributes:
        m: Number of imputed data sets.
        estimate: Means of the estimates, shape (k,).
        within: Variance within imputations U, shape (k,).
        between: Variance between imputations B, shape (k,).
        df_complete: Degrees of freedom if no value had been missing, shape (k,); infinite for z tests.
    """

    m: int
    estimate: FloatArray
    within: FloatArray
    between: FloatArray
    df_complete: FloatArray

    @property
    def total(self) -> FloatArray:
        """Error variance T = U + (1 + 1/m) B, shape (k,)."""
        return np.asarray(self.within + (1 + 1 / self.m) * self.between)

    @property
    def std_error(self) -> FloatArray:
        """Standard errors, shape (k,)."""
        return np.asarray(np.sqrt(self.total))

    @property
    def riv(self) -> FloatArray:
        """Relative increase in variance by the missing values, (1 + 1/m) B / U, shape (k,)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((1 + 1 / self.m) * self.between / self.within)

    @property
    def share(self) -> FloatArray:
        """Share of the variance that the missing values cause, lambda = (1 + 1/m) B / T, shape (k,)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((1 + 1 / self.m) * self.between / self.total)

    @property
    def df(self) -> FloatArray:
        """Barnard and Rubin's degrees of freedom, shape (k,)."""
        return barnard_rubin_df(self.m, self.share, self.df_complete)

    @property
    def fmi(self) -> FloatArray:
        """Fraction of missing information, (r + 2 / (df + 3)) / (r + 1) with r the relative increase, shape (k,)."""
        return np.asarray((self.riv + 2 / (self.df + 3)) / (self.riv + 1))


def pool(estimates: FloatArray, variances: FloatArray, df_complete: FloatArray) -> Pooled:
    """Pool k quantities by Rubin's rules.

    Args:
        estimates: Estimates in each data set, shape (m, k).
        variances: Their error variances, shape (m, k).
        df_complete: Degrees of freedom in each data set, shape (m, k); infinite for z tests.
    """
    return Pooled(
        len(estimates),
        estimates.mean(axis=0),
        variances.mean(axis=0),
        estimates.var(axis=0, ddof=1),
        df_complete.mean(axis=0),
    )


def barnard_rubin_df(m: int, share: FloatArray, df_complete: FloatArray) -> FloatArray:
    """Degrees of freedom of pooled t statistics, in the shape of ``share``.

    Source: Barnard & Rubin (1999), Biometrika 86:948-955, equations 3 and 4; for infinite degrees of freedom without
    missing values they are those of Rubin (1987), (m - 1) / lambda^2.

    Args:
        m: Number of imputed data sets.
        share: Share lambda of the variance that the missing values cause.
        df_complete: Degrees of freedom if no value had been missing.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        # 1 / df = 1 / df_old + 1 / df_observed, each of which may be infinite
        old = share**2 / (m - 1)
        observed = np.where(
            np.isinf(df_complete), 0.0, (df_complete + 3) / ((df_complete + 1) * df_complete * (1 - share))
        )
        return np.asarray(1.0 / (old + observed))


def joint_wald(
    m: int, estimate: FloatArray, within: FloatArray, between: FloatArray, df_complete: float
) -> tuple[float, float, float, float]:
    """Test that k pooled quantities are all zero: D1, its numerator and denominator df, and the relative increase r.

    With r = (1 + 1/m) tr(B U^-1) / k,

        D1 = q' U^-1 q / (k (1 + r))   ~   F(k, v)

    Source: Li, Raghunathan & Rubin (1991), J. Am. Stat. Assoc. 86:1065-1073; v for finite degrees of freedom of the
    complete data by Reiter (2007), Biometrika 94:502-508. For k = 1, D1 is the square of the pooled t statistic, and v
    are Barnard and Rubin's degrees of freedom.

    Args:
        m: Number of imputed data sets.
        estimate: Pooled estimates q, shape (k,).
        within: Covariance matrix U within imputations, shape (k, k); may be singular.
        between: Covariance matrix B between imputations, shape (k, k).
        df_complete: Denominator degrees of freedom if no value had been missing; infinite for Wald's chi-squared.
    """
    values, vectors = np.linalg.eigh((within + within.T) / 2)
    kept = values > 1e-10 * max(float(values.max(initial=0.0)), 1e-300)
    k = int(kept.sum())
    if not k:
        return np.nan, 0.0, np.nan, np.nan
    turn = vectors[:, kept] / np.sqrt(values[kept])  # turn turn' = U^-1
    r = max(float((1 + 1 / m) * np.trace(turn.T @ between @ turn) / k), 0.0)
    statistic = float(np.sum((turn.T @ estimate) ** 2) / (k * (1 + r)))
    if k == 1:
        share = np.array([r / (1 + r)])
        return statistic, 1.0, float(barnard_rubin_df(m, share, np.array([df_complete]))[0]), r
    return statistic, float(k), _denominator(k, m, r, df_complete), r


def _denominator(k: int, m: int, r: float, df_complete: float) -> float:
    """Denominator degrees of freedom of D1 for k > 1 quantities."""
    t = k * (m - 1)
    if not np.isfinite(df_complete) or t <= 4:
        return pooled_ratio_df(k, m, r)
    a = r * t / (t - 2)
    star = (df_complete + 1) / (df_complete + 3) * df_complete
    c0, c1, c2 = 1 / (t - 4), star - 2 * (1 + a), star - 4 * (1 + a)
    if min(c1, c2) <= 0:  # fewer degrees of freedom than the expansion allows: no test is justified by it
        return np.nan
    z = 1 / c2 + c0 * (
        a**2 * c1 / ((1 + a) ** 2 * c2)
        + 8 * a**2 * c1 / ((1 + a) * c2**2)
        + 4 * a**2 / ((1 + a) * c2)
        + 4 * a**2 / (c2 * c1)
        + 16 * a**2 * c1 / c2**3
        + 8 * a**2 / c2**2
    )
    return float(4 + 1 / z)


def pooled_ratio_df(k: int, m: int, r: float) -> float:
    """Denominator degrees of freedom of D1 and D3 for infinite degrees of freedom of the complete data.

    Source: Li, Raghunathan & Rubin (1991), J. Am. Stat. Assoc. 86:1065-1073, equations 1.17 and 2.6.

    Args:
        k: Number of quantities that are tested.
        m: Number of imputed data sets.
        r: Relative increase in variance.
    """
    if r <= 0:
        return float("inf")
    t = k * (m - 1)
    if t > 4:
        return float(4 + (t - 4) * (1 + (1 - 2 / t) / r) ** 2)
    return float(t * (1 + 1 / k) * (1 + 1 / r) ** 2 / 2)


def likelihood_ratio(own: FloatArray, pooled: FloatArray, k: int) -> tuple[float, float, float]:
    """Pool likelihood-ratio statistics: D3, its denominator df, and the relative increase r.

    With d the mean of the statistics at each data set's own estimates, and d' their mean at the pooled estimates,

        r = (m + 1) / (k (m - 1)) (d - d'),   D3 = d' / (k (1 + r))   ~   F(k, v)

    Source: Meng & Rubin (1992), Biometrika 79:103-111.

    Args:
        own: Statistics of each data set at its own estimates, shape (m,).
        pooled: Statistics of each data set at the pooled estimates, shape (m,).
        k: Number of parameters that are tested.
    """
    m = len(own)
    r = max((m + 1) / (k * (m - 1)) * float(own.mean() - pooled.mean()), 0.0)
    return float(pooled.mean()) / (k * (1 + r)), pooled_ratio_df(k, m, r), r


__all__ = ["Pooled", "barnard_rubin_df", "joint_wald", "likelihood_ratio", "pool", "pooled_ratio_df"]
