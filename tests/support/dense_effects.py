"""Group effects given y and the parameters, from the joint normal distribution in dense matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unimix.design.arrays import Design
from unimix.result import FitResult
from unimix.testing.dense import marginal_covariance


def dense_effects(
    design: Design, beta: np.ndarray, factors: Sequence[np.ndarray], sigma: float
) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Means (L, q) and covariances (L, q, q) per block, and the covariance of all effects (block, level, term)."""
    columns, prior = [], []
    for block, factor in zip(design.blocks, factors, strict=True):
        for level in range(block.n_levels):
            columns.append(block.z * (block.codes == level)[:, None])
            prior.append(factor @ factor.T)
    z = np.concatenate(columns, axis=1)
    g = np.zeros((z.shape[1], z.shape[1]))
    start = 0
    for part in prior:
        g[start : start + len(part), start : start + len(part)] = part
        start += len(part)
    v = marginal_covariance(design, tuple(f @ f.T for f in factors), sigma)
    gain = np.linalg.solve(v, z @ g).T
    mean, covariance = gain @ (design.y - design.x @ beta), g - gain @ z @ g
    means, covariances, start = [], [], 0
    for block in design.blocks:
        q, stop = block.q, start + block.n_levels * block.q
        means.append(mean[start:stop].reshape(-1, q))
        own = covariance[start:stop, start:stop].reshape(block.n_levels, q, block.n_levels, q)
        covariances.append(np.einsum("laeb->leab", own)[np.arange(block.n_levels), np.arange(block.n_levels)])
        start = stop
    return means, covariances, covariance


def dense_z(design: Design) -> np.ndarray:
    """Columns of all group effects, block after block and level after level, shape (n, sum of L q)."""
    parts = []
    for block in design.blocks:
        z = np.zeros((design.n, block.n_levels, block.q))
        z[np.arange(design.n), block.codes] = block.z
        parts.append(z.reshape(design.n, -1))
    return np.concatenate(parts, axis=1)


def dense_error(fit: FitResult) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Covariance of the errors of (beta, b) from V alone (Harville 1976), X and Z."""
    design = fit.design()
    x, z = design.x, dense_z(design)
    d = np.zeros((z.shape[1], z.shape[1]))
    start = 0
    for block, part in zip(design.blocks, fit.random, strict=True):
        for _ in range(block.n_levels):
            d[start : start + block.q, start : start + block.q] = part.covariance
            start += block.q
    w = np.ones(design.n) if design.weights is None else design.weights
    v = z @ d @ z.T + np.diag(fit.sigma**2 / w)
    vi = np.linalg.inv(v)
    v_beta = np.linalg.inv(x.T @ vi @ x)
    gain = d @ z.T @ vi
    cov_b = d - gain @ (v - x @ v_beta @ x.T) @ gain.T
    cross = -v_beta @ x.T @ gain.T
    return np.block([[v_beta, cross], [cross.T, cov_b]]), x, z
