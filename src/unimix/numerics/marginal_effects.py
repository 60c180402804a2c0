"""Group effects given y and the parameters of a Gaussian mixed model: exact moments and exact draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unimix.numerics.marginal import Conditional, CrossProducts, condition_on, residual_products, turn_rest
from unimix.numerics.marginal_algebra import per_level

FloatArray = npt.NDArray[np.float64]


def solve_effects(
    data: CrossProducts, beta: FloatArray, factors: Sequence[FloatArray], log_sigma: float
) -> Conditional:
    """Standardised effects given y.

    Args:
        data: From :func:`unimix.numerics.marginal.cross_products`.
        beta: Fixed effects, shape (p,).
        factors: F with covariance F F' per block, shapes (q, q); may be zero.
        log_sigma: Logarithm of the residual standard deviation.
    """
    _, _, d, d2 = residual_products(data, beta)
    return condition_on(data, d, d2, factors, float(np.exp(-2.0 * log_sigma)))


def conditional_effects(
    data: CrossProducts, beta: FloatArray, factors: Sequence[FloatArray], log_sigma: float
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Mean and covariance of every level's effects given y and the parameters.

    Args:
        data: From :func:`unimix.numerics.marginal.cross_products`.
        beta: Fixed effects, shape (p,).
        factors: F with covariance F F' per block, shapes (q, q); may be zero.
        log_sigma: Logarithm of the residual standard deviation.

    Returns:
        Means, shapes (L, q), and covariances, shapes (L, q, q), per block in the design's order.
    """
    found = solve_effects(data, beta, factors, log_sigma)
    return _means(data, found, factors, found.u, found.u2), _covariances(data, found, factors)


def _means(
    data: CrossProducts, found: Conditional, factors: Sequence[FloatArray], u: FloatArray, u2: FloatArray
) -> list[FloatArray]:
    """Effects b = F u per block, shapes (L, q)."""
    result: list[FloatArray] = [np.empty(0)] * len(data.sizes)
    effects = found.factor @ u
    start = 0
    for k in data.first:
        stop = start + data.sizes[k][0]
        result[k] = effects[start:stop].T
        start = stop
    effects2 = turn_rest(data, factors, u2, back=True)
    start = 0
    for k in data.rest:
        q, levels = data.sizes[k]
        result[k] = effects2[start : start + q * levels].reshape(q, levels).T
        start += q * levels
    return result


def _covariances(data: CrossProducts, found: Conditional, factors: Sequence[FloatArray]) -> list[FloatArray]:
    result: list[FloatArray] = [np.empty(0)] * len(data.sizes)
    spread = np.moveaxis(found.spread, 2, 0)
    start = 0
    for k in data.first:
        stop = start + data.sizes[k][0]
        result[k] = factors[k] @ spread[:, start:stop, start:stop] @ factors[k].T
        start = stop
    start = 0
    for k in data.rest:
        q, levels = data.sizes[k]
        own = found.spread2[start : start + q * levels, start : start + q * levels].reshape(q, levels, q, levels)
        result[k] = factors[k] @ np.einsum("alcl->lac", own) @ factors[k].T
        start += q * levels
    return result


@dataclass
class EffectDraws:
    """Draws of the effects, one per draw of the parameters, and their moments without Monte Carlo error of their own.

    Attributes:
        draws: Per block, shapes (S, L, q).
        means: Average of the conditional means, shapes (L, q).
        covariances: Average conditional covariance plus covariance of the conditional means, shapes (L, q, q).
    """

    draws: list[FloatArray]
    means: list[FloatArray]
    covariances: list[FloatArray]


def draw_effects(
    data: CrossProducts,
    betas: FloatArray,
    factors: Sequence[FloatArray],
    log_sigmas: FloatArray,
    rng: np.random.Generator,
    *,
    keep: int = 1,
) -> EffectDraws:
    """Draw all group effects exactly from their distribution given y and each draw of the parameters.

    The moments are those of Rao and Blackwell: conditional means and covariances are averaged instead of draws
    (Gelman et al., Bayesian Data Analysis, 3rd ed., section 1.8).

    Args:
        data: From :func:`unimix.numerics.marginal.cross_products`.
        betas: Shape (S, p).
        factors: Per block, shapes (S, q, q).
        log_sigmas: Shape (S,).
        rng: Source of randomness.
        keep: Store every ``keep``-th draw, 0 for none; the moments use all.
    """
    total = len(log_sigmas)
    kept = range(0, total, keep) if keep else range(0)
    draws = [np.empty((len(kept), levels, q)) for q, levels in data.sizes]
    means = [np.zeros((levels, q)) for q, levels in data.sizes]
    within = [np.zeros((levels, q, q)) for q, levels in data.sizes]
    centres: list[FloatArray] = []
    products = [np.zeros((levels, q, q)) for q, levels in data.sizes]
    for s in range(total):
        own = [f[s] for f in factors]
        found = solve_effects(data, betas[s], own, float(log_sigmas[s]))
        found_means = _means(data, found, own, found.u, found.u2)
        centres = centres or [m.copy() for m in found_means]
        for k, (mean, covariance) in enumerate(zip(found_means, _covariances(data, found, own), strict=True)):
            off = mean - centres[k]
            means[k] += off
            within[k] += covariance
            products[k] += off[:, :, None] * off[:, None, :]
        if keep and s % keep == 0:
            for k, effects in enumerate(_draw(data, found, own, rng)):
                draws[k][s // keep] = effects
    averages = [m / total for m in means]
    covariances = [
        w / total + (p - total * a[:, :, None] * a[:, None, :]) / max(total - 1, 1)
        for w, p, a in zip(within, products, averages, strict=True)
    ]
    return EffectDraws(draws, [c + a for c, a in zip(centres, averages, strict=True)], covariances)


def _draw(
    data: CrossProducts, found: Conditional, factors: Sequence[FloatArray], rng: np.random.Generator
) -> list[FloatArray]:
    u = found.u + per_level(found.root, rng.standard_normal(found.u.shape), transpose=True)
    u2 = found.u2
    if data.rest:
        off = np.linalg.cholesky(found.spread2) @ rng.standard_normal(data.m)
        u2 = u2 + off
        u = u - found.half @ off
    return _means(data, found, factors, u, u2)
