"""The likelihood of a linear mixed model written down plainly, to hold engines against.

V = sigma^2 W^-1 + sum_k Z_k Cov_k Z_k' is formed in full (n x n): for small data, and independent of all else here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unimix.model.design import Design

FloatArray = npt.NDArray[np.float64]


def marginal_covariance(design: Design, covariances: tuple[FloatArray, ...], sigma: float) -> FloatArray:
    """V, shape (n, n).

    Args:
        design: The model.
        covariances: Covariance of each block's effects, shapes (q, q).
        sigma: Residual standard deviation.
    """
    weights = np.ones(design.n) if design.weights is None else design.weights
    v = np.diag(sigma**2 / weights)
    for block, covariance in zip(design.blocks, covariances, strict=True):
        same = block.codes[:, None] == block.codes[None, :]
        v += same * (block.z @ covariance @ block.z.T)
    return v


def gls(design: Design, covariances: tuple[FloatArray, ...], sigma: float) -> tuple[FloatArray, FloatArray]:
    """Generalised least squares: fixed effects (p,) and their covariance matrix (p, p).

    Args:
        design: The model.
        covariances: Covariance of each block's effects, shapes (q, q).
        sigma: Residual standard deviation.
    """
    y = design.y if design.offset is None else design.y - design.offset
    v = marginal_covariance(design, covariances, sigma)
    vx = np.linalg.solve(v, design.x)
    cov = np.linalg.inv(design.x.T @ vx)
    return cov @ (vx.T @ y), cov


def log_likelihood(design: Design, covariances: tuple[FloatArray, ...], sigma: float, *, reml: bool) -> float:
    """(Restricted) log-likelihood at the generalised-least-squares estimates, with all constants, in lme4's convention.

    Args:
        design: The model.
        covariances: Covariance of each block's effects, shapes (q, q).
        sigma: Residual standard deviation.
        reml: Restricted or not.
    """
    y = design.y if design.offset is None else design.y - design.offset
    v = marginal_covariance(design, covariances, sigma)
    beta, cov = gls(design, covariances, sigma)
    r = y - design.x @ beta
    n = design.n - (design.p if reml else 0)
    value = -0.5 * (n * np.log(2 * np.pi) + np.linalg.slogdet(v)[1] + r @ np.linalg.solve(v, r))
    return float(value + (0.5 * np.linalg.slogdet(cov)[1] if reml else 0.0))
