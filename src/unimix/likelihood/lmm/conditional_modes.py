"""Group effects of a linear mixed model given the data, from its reduced form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design
from unimix.likelihood.lmm.batched_linalg import inverse_factor, outer
from unimix.likelihood.lmm.conditioning import column_scale, relative_factors
from unimix.likelihood.lmm.derivatives import project
from unimix.likelihood.lmm.penalised_least_squares import Profile, matmul, profile, stacked
from unimix.likelihood.lmm.reduced_data import Matrix, Products, form

FloatArray = npt.NDArray[np.float64]
CHUNK = 2000
"""Levels whose covariances with all other effects are held at once."""


def conditional_effects(
    products: Products, at: Profile, factors: Sequence[FloatArray]
) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]]:
    """Conditional modes D Z'V^-1 (y - X beta) and covariances sigma^2 (D - D Z'V^-1 Z D), given beta and D.

    Args:
        products: The model.
        at: The criterion at the factors.
        factors: Relative factors, shapes (q, q).

    Returns:
        Per block: shapes (L, q) and (L, q, q).
    """
    found = project(products, at.state)
    e = np.append(-at.beta, 1.0)
    h, h2 = found.h @ e, found.h2 @ e
    factor = stacked(products, factors)
    d = factor @ factor.T
    q, levels = h.shape
    modes1 = (d @ h).T
    # (I + C'DC)^-1 is known per level; the same for L'SL + I: L(I + L'SL)^-1 L' = D - D C (I + C'DC)^-1 C'D.
    covs1 = _inside(products, factor)
    if products.rest:
        covs1 = covs1 + _by_others(found.n, at.state.k, d, q, levels)
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
        own = start + np.arange(n_levels)[:, None] * size + np.arange(size)
        modes[k] = h2[own] @ (factors[k] @ factors[k].T)
        entries = at.state.k[np.repeat(own, size, axis=1).ravel(), np.tile(own, (1, size)).ravel()]
        covs[k] = at.sigma**2 * np.asarray(entries).reshape(n_levels, size, size)
        start += size * n_levels
    return tuple(modes), tuple(covs)


@dataclass(frozen=True)
class Located:
    """Estimates of a linear mixed model in its reduced form.

    Attributes:
        products: The reduced form, its random columns in units of their own.
        units: These units per block, shapes (q,).
        factors: Relative factors of the unit-free effects, lower triangular, shapes (q, q).
        profile: The criterion there.
        sigma: The estimated residual standard deviation.
    """

    products: Products
    units: list[FloatArray]
    factors: list[FloatArray]
    profile: Profile
    sigma: float


def locate(design: Design, covariances: Sequence[FloatArray], sigma: float, *, reml: bool) -> Located:
    """Estimates in the reduced form of their design.

    Args:
        design: Without offset.
        covariances: Of each block's effects, shapes (q, q); may be singular.
        sigma: Residual standard deviation.
        reml: Criterion.
    """
    products, units = form_unit_free(design)
    unit_free = tuple(c * np.outer(u, u) for c, u in zip(covariances, units, strict=True))
    factors = list(relative_factors(unit_free, sigma))
    return Located(products, units, factors, profile(products, factors, reml=reml), sigma)


def effects_at(at: Located) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]]:
    """Conditional modes, shapes (L, q), and covariances, shapes (L, q, q), at estimates."""
    there = replace(at.profile, sigma=at.sigma)
    return in_units(*conditional_effects(at.products, there, at.factors), at.units)


def form_unit_free(design: Design) -> tuple[Products, list[FloatArray]]:
    """The reduced form of a design whose random columns are in units of their own, and these units, shapes (q,)."""
    units = [column_scale(b.z) for b in design.blocks]
    blocks = tuple(replace(b, z=b.z / u) for b, u in zip(design.blocks, units, strict=True))
    return form(replace(design, blocks=blocks)), units


def in_units(
    modes: Sequence[FloatArray], covariances: Sequence[FloatArray], units: Sequence[FloatArray]
) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]]:
    """Modes (L, q) and covariances (L, q, q) of unit-free effects per block, in the units of the columns."""
    return (
        tuple(m / u for m, u in zip(modes, units, strict=True)),
        tuple(v / np.outer(u, u) for v, u in zip(covariances, units, strict=True)),
    )


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
    found = np.empty((levels, q, q))
    for begin in range(0, levels, CHUNK):
        own = np.arange(begin, min(begin + CHUNK, levels))
        parts = [n[i * levels + own] for i in range(q)]
        turned = [part @ k for part in parts]
        for i in range(q):
            for j in range(q):
                product = turned[i] * parts[j] if isinstance(parts[j], np.ndarray) else parts[j].multiply(turned[i])
                found[own, i, j] = np.asarray(product.sum(axis=1)).ravel()
    return np.asarray(d @ found @ d)
