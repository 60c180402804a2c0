"""The likelihood of a linear mixed model from its full covariance matrix, as a reference for engines.

The covariance matrix V = sigma^2 W^-1 + sum_k Z_k (A_k x Cov_k) Z_k' is formed in full (n x n). This is only feasible
for small data, and independent of the other computations of unimix.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular

from unimix.design.arrays import Design

FloatArray = npt.NDArray[np.float64]


def marginal_covariance(design: Design, covariances: tuple[FloatArray, ...], sigma: float) -> FloatArray:
    """The covariance matrix V of the response, shape (n, n).

    Args:
        design: The model.
        covariances: Covariance matrices of the effects of each block, shapes (q, q), and last that of correlated
            residuals up to its scale, shape (T, T).
        sigma: Residual standard deviation; that at the first time of correlated residuals.
    """
    weights = np.ones(design.n) if design.weights is None else design.weights
    v = np.diag(sigma**2 / weights)  # sigma^2 W^-1
    if (residual := design.residual) is not None:
        c = covariances[-1] * (sigma**2 / covariances[-1][0, 0])
        same_group = np.eye(design.n) if residual.independent else residual.codes[:, None] == residual.codes[None, :]
        v = same_group * c[np.ix_(residual.times, residual.times)] / np.sqrt(np.outer(weights, weights))
    for block, covariance in zip(design.blocks, covariances[: len(design.blocks)], strict=True):
        known = np.eye(block.n_levels) if block.relationship is None else block.relationship @ block.relationship.T
        # Z_k (A_k x Cov_k) Z_k'; without a relationship matrix A_k = I only rows of one level are related
        v += known[np.ix_(block.codes, block.codes)] * (block.z @ covariance @ block.z.T)
    return v


def _whitened(
    design: Design, covariances: tuple[FloatArray, ...], sigma: float
) -> tuple[FloatArray, FloatArray, FloatArray, float]:
    """Q and R of the whitened X, the whitened y, and log |V|.

    With V = LL', the whitened X is L^-1 X = QR and the whitened y is L^-1 y. The QR decomposition is stable for badly
    scaled columns.
    """
    y = design.y if design.offset is None else design.y - design.offset
    root = np.linalg.cholesky(marginal_covariance(design, covariances, sigma))
    q, r = np.linalg.qr(solve_triangular(root, design.x, lower=True))
    return q, r, solve_triangular(root, y, lower=True), 2.0 * float(np.log(np.diag(root)).sum())


def gls(design: Design, covariances: tuple[FloatArray, ...], sigma: float) -> tuple[FloatArray, FloatArray]:
    """Generalised least squares: fixed effects (p,) and their covariance matrix (p, p).

    Args:
        design: The model.
        covariances: Covariance of each block's effects, shapes (q, q).
        sigma: Residual standard deviation.
    """
    q, r, y, _ = _whitened(design, covariances, sigma)
    inverse = solve_triangular(r, np.eye(design.p))
    return inverse @ (q.T @ y), inverse @ inverse.T  # beta = R^-1 Q'y, Cov(beta) = (X'V^-1 X)^-1 = R^-1 R^-T


def log_likelihood(design: Design, covariances: tuple[FloatArray, ...], sigma: float, *, reml: bool) -> float:
    """The (restricted) log-likelihood at the generalised-least-squares estimates, with all constants, as in lme4.

    Args:
        design: The model.
        covariances: Covariance of each block's effects, shapes (q, q).
        sigma: Residual standard deviation.
        reml: Whether to compute the restricted log-likelihood.
    """
    q, r, y, log_det = _whitened(design, covariances, sigma)
    rest = y - q @ (q.T @ y)
    n = design.n - (design.p if reml else 0)
    # -(n log 2 pi + log |V| + (y - X beta)'V^-1 (y - X beta) + log |X'V^-1 X|) / 2, with n - p for n under REML
    value = -0.5 * (n * np.log(2 * np.pi) + log_det + rest @ rest)
    return float(value - (np.log(np.abs(np.diag(r))).sum() if reml else 0.0))
