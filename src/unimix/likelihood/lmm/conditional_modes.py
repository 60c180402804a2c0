"""Conditional distribution of the group effects of a linear mixed model, from its reduced data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse

from unimix.likelihood.lmm.batched_linalg import inverse_factor, outer
from unimix.likelihood.lmm.derivatives import Projected, project
from unimix.likelihood.lmm.penalised_least_squares import Profile, matmul, stacked
from unimix.likelihood.lmm.reduced_data import Matrix, Products

FloatArray = npt.NDArray[np.float64]
CHUNK = 2000
"""Number of levels whose covariances with all other effects are in memory at once."""


def conditional_effects(
    products: Products, at: Profile, factors: Sequence[FloatArray], projected: Projected | None = None
) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]]:
    """Conditional modes D Z'V^-1 (y - X beta) and covariances sigma^2 (D - D Z'V^-1 Z D), given beta and D.

    Args:
        products: Reduced data.
        at: Profiled criterion at the factors.
        factors: Relative covariance factors, shapes (q, q).
        projected: Result of :func:`.project` at the same point, if it is already known.

    Returns:
        Modes, shapes (L, q), and covariances, shapes (L, q, q), of each block.
    """
    if products.grouped is not None:
        effects: tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]] = products.grouped.effects(at, factors)
        return effects
    projection = project(products, at.state) if projected is None else projected
    e = np.append(-at.beta, 1.0)
    h, h2 = projection.h @ e, projection.h2 @ e
    factor = stacked(products, factors)
    d = factor @ factor.T
    q, levels = h.shape
    modes1 = (d @ h).T
    # L(I + L'SL)^-1 L' = D - D C (I + C'DC)^-1 C'D with S = CC'; (I + C'DC)^-1 is known per level.
    covs1 = _inside(products, factor)
    if products.rest:
        covs1 = covs1 + _by_others(projection.n, at.state.k, d, q, levels)
    modes: list[FloatArray] = [np.empty(0)] * len(products.sizes)
    covs: list[FloatArray] = [np.empty(0)] * len(products.sizes)
    start = 0
    for k in products.first:
        stop = start + products.sizes[k][0]
        modes[k], covs[k] = modes1[:, start:stop], at.sigma**2 * covs1[:, start:stop, start:stop]
        start = stop
    start = 0
    for k in products.rest:
        size, n_levels = products.sizes[k]
        places = start + np.arange(n_levels)[:, None] * size + np.arange(size)
        modes[k] = h2[places] @ (factors[k] @ factors[k].T)
        if k < len(products.relationships) and (root := products.relationships[k]) is not None:
            # b = (R x I) u: modes R u, and Cov(b_l) = sum over levels r and s of R_lr R_ls Cov(u_r, u_s)
            modes[k] = root @ modes[k]
            whole = at.state.k[start : start + size * n_levels, start : start + size * n_levels]
            dense = np.asarray(whole.toarray() if sparse.issparse(whole) else whole)
            half = np.einsum("lr,risj->lisj", root, dense.reshape(n_levels, size, n_levels, size), optimize=True)
            covs[k] = at.sigma**2 * np.einsum("lisj,ls->lij", half, root, optimize=True)
            start += size * n_levels
            continue
        entries = at.state.k[np.repeat(places, size, axis=1).ravel(), np.tile(places, (1, size)).ravel()]
        covs[k] = at.sigma**2 * np.asarray(entries).reshape(n_levels, size, size)
        start += size * n_levels
    return tuple(modes), tuple(covs)


def _inside(products: Products, factor: FloatArray) -> FloatArray:
    """L(I + L'SL)^-1 L' per level, shape (L, q, q)."""
    q, levels = len(products.c), products.c.shape[2]
    turned = (factor.T @ products.c.reshape(q, q * levels)).reshape(q, q, levels)
    inner = matmul(turned, turned.transpose(1, 0, 2))
    inner.reshape(q * q, levels)[:: q + 1] += 1.0
    inverse = np.moveaxis(outer(inverse_factor(inner)[0]), 2, 0)
    return np.asarray(factor @ inverse @ factor.T)


def _by_others(n: Matrix, k: Matrix, d: FloatArray, q: int, levels: int) -> FloatArray:
    """D N_l K N_l' D per level, shape (L, q, q)."""
    cells = np.empty((levels, q, q))
    for begin in range(0, levels, CHUNK):
        chunk = np.arange(begin, min(begin + CHUNK, levels))
        parts = [n[i * levels + chunk] for i in range(q)]
        turned = [part @ k for part in parts]
        for i in range(q):
            for j in range(q):
                product = turned[i] * parts[j] if isinstance(parts[j], np.ndarray) else parts[j].multiply(turned[i])
                cells[chunk, i, j] = np.asarray(product.sum(axis=1)).ravel()
    return np.asarray(d @ cells @ d)
