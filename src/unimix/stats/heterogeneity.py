"""Heterogeneity of estimates with known variances, as in a meta-analysis.

The k estimates are y = X beta + sum_j Z_j u_j + e with Var(u_j) = tau_j^2 I and Var(e) = diag(v), where v is known.
With W = diag(v)^-1, P = W - W X (X'WX)^-1 X'W and Q = y'Py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy
from scipy import special

FloatArray = npt.NDArray[np.float64]


def projection(x: FloatArray, inverse: FloatArray) -> FloatArray:
    """P = V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1, shape (k, k).

    Args:
        x: Columns of the fixed effects, shape (k, p).
        inverse: V^-1, shape (k, k).
    """
    turned = inverse @ x
    return np.asarray(inverse - turned @ np.linalg.solve(x.T @ turned, turned.T))


@dataclass(frozen=True)
class CochranQ:
    """Cochran's test that the estimates do not differ beyond their known variances.

    Attributes:
        statistic: Q = y'Py, the weighted residual sum of squares.
        df: Degrees of freedom k - p.
        p_value: Upper tail of the chi-squared distribution.
        typical: Known variance of a typical row, (k - p) / tr P.
    """

    statistic: float
    df: int
    p_value: float
    typical: float


def cochran_q(y: FloatArray, x: FloatArray, v: FloatArray) -> CochranQ:
    """Test the heterogeneity that fixed effects leave.

    The typical variance is that of Higgins & Thompson (2002), Stat. Med. 21:1539-1558, eq. 9, and with predictors its
    generalisation in metafor (Viechtbauer 2010, J. Stat. Softw. 36(3)).

    Args:
        y: Estimates, shape (k,).
        x: Columns of the fixed effects, shape (k, p).
        v: Known variances, shape (k,).
    """
    p = projection(x, np.diag(1.0 / v))
    df = len(y) - x.shape[1]
    statistic = float(y @ p @ y)
    return CochranQ(statistic, df, float(special.chdtrc(df, statistic)), df / float(np.trace(p)))


def q_profile(y: FloatArray, x: FloatArray, v: FloatArray, level: float) -> tuple[float, float]:
    """Interval of tau^2 for one effect per row, by inverting the distribution of Q (Viechtbauer 2007, Stat Med 26:37).

    Q(t) = y'P y with V = diag(v + t) has a chi-squared distribution with k - p degrees of freedom at t = tau^2, and
    falls with t. An end is 0 where Q(0) is below the quantile.

    Args:
        y: Estimates, shape (k,).
        x: Columns of the fixed effects, shape (k, p).
        v: Known variances, shape (k,).
        level: Probability of the interval, between 0 and 1.
    """
    df = len(y) - x.shape[1]

    def excess(t: float, quantile: float) -> float:
        w = 1.0 / (v + t)
        turned = w[:, None] * x
        rest = y - x @ np.linalg.solve(x.T @ turned, turned.T @ y)
        return float(w @ rest**2) - quantile

    def end(tail: float) -> float:
        quantile = float(special.chdtri(df, tail))
        if excess(0.0, quantile) <= 0:
            return 0.0
        high = float(v.max())
        while excess(high, quantile) > 0:
            high *= 4.0
        return float(scipy.optimize.brentq(excess, 0.0, high, args=(quantile,), xtol=1e-14 * high, rtol=1e-13))

    return end(0.5 - level / 2), end(0.5 + level / 2)


def variance_errors(p: FloatArray, columns: Sequence[FloatArray]) -> FloatArray:
    """Standard errors of the tau_j^2 from their expected information tr(P V_i P V_j) / 2, V_j = Z_j Z_j'.

    Args:
        p: P at the estimates (V^-1 under maximum likelihood), shape (k, k).
        columns: Matrices Z_j, shapes (k, L).

    Returns:
        Standard errors, one per component; NaN if the information is singular.
    """
    inner = [[float(np.sum((a.T @ p @ b) ** 2)) for b in columns] for a in columns]
    information = 0.5 * np.array(inner)
    try:
        return np.asarray(np.sqrt(np.diag(np.linalg.inv(information))))
    except np.linalg.LinAlgError:
        return np.full(len(columns), np.nan)


__all__ = ["CochranQ", "cochran_q", "projection", "q_profile", "variance_errors"]
