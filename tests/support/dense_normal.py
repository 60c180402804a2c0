"""The normal density of all rows at once, as it is written in a textbook."""

from __future__ import annotations

import numpy as np


def dense_normal(v: np.ndarray, x: np.ndarray, y: np.ndarray, *, reml: bool) -> tuple[float, np.ndarray, np.ndarray]:
    """(Restricted) log-likelihood, effects and their covariance matrix by generalised least squares.

    Args:
        v: Covariance matrix of the response, shape (n, n).
        x: Columns of the fixed effects, shape (n, p).
        y: Response, shape (n,).
        reml: Whether the likelihood is the restricted one.
    """
    inverse = np.linalg.inv(v)
    information = x.T @ inverse @ x
    cov = np.linalg.inv(information)
    beta = cov @ x.T @ inverse @ y
    rest = y - x @ beta
    n, p = x.shape
    value = -0.5 * ((n - p * reml) * np.log(2 * np.pi) + np.linalg.slogdet(v)[1] + rest @ inverse @ rest)
    return float(value - 0.5 * reml * np.linalg.slogdet(information)[1]), beta, cov
