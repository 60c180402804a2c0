"""Group effects given y and the parameters, from the joint normal distribution in dense matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unimix.design.arrays import Design
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
