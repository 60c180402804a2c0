"""Exact draws and moments of the group effects of a Gaussian mixed model, given y and draws of the parameters.

With Z_1 = Q C' for the stacked factor, T = F'C / sigma and r = y - X beta - Z_2 b_2, the standardised effects of a
level are normal with precision I + TT' and mean (I + TT')^-1 T Q'r / sigma. The effects b_2 of the other factors are
drawn first, with b_1 integrated out (in the blocks of :mod:`unimix.likelihood.lmm.reduced_data`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from unimix.likelihood.lmm.batched_linalg import inverse_factor, outer, per_level
from unimix.likelihood.lmm.penalised_least_squares import matmul
from unimix.likelihood.lmm.reduced_data import Products
from unimix.likelihood.posterior.marginal_posterior import AT_ONCE
from unimix.likelihood.posterior.nested import Nest, OuterDraws, draw_outer, nest_of

FloatArray = npt.NDArray[np.float64]


@dataclass
class EffectDraws:
    """Draws of the effects, one per draw of the parameters, and Rao-Blackwellised moments.

    Attributes:
        draws: Draws of each block's effects, shapes (S, L, q).
        means: Averages of the conditional means, shapes (L, q).
        covariances: Averages of the conditional covariances plus covariances of the conditional means, shapes
            (L, q, q).
    """

    draws: list[FloatArray]
    means: list[FloatArray]
    covariances: list[FloatArray]


class _Moments:
    """Running averages of the conditional means and covariances of one block's effects over draws."""

    def __init__(self, levels: int, q: int) -> None:
        self.count = 0
        self.centre = np.zeros((levels, q))
        self.total = np.zeros((levels, q))
        self.within = np.zeros((levels, q, q))
        self.products = np.zeros((levels, q, q))

    def add(self, means: FloatArray, covariances: FloatArray) -> None:
        """Add means (S, L, q) and the sum over S of covariances (L, q, q)."""
        if not self.count:
            self.centre = means.mean(axis=0)
        off = means - self.centre
        self.count += len(means)
        self.total += off.sum(axis=0)
        self.within += covariances
        self.products += np.einsum("slq,slr->lqr", off, off)

    def mean(self) -> FloatArray:
        return self.centre + self.total / self.count

    def covariance(self) -> FloatArray:
        a = self.total / self.count
        spread = self.products - self.count * a[:, :, None] * a[:, None, :]
        return np.asarray(self.within / self.count + spread / max(self.count - 1, 1))


def draw_all_effects(
    products: Products | None,
    beta: FloatArray,
    factors: Sequence[FloatArray],
    sigma: FloatArray,
    rng: np.random.Generator,
    *,
    keep: bool,
) -> EffectDraws:
    """Draw all group effects from their distribution given y and each draw of the parameters.

    Args:
        products: Reduced data of the model; None without group effects.
        beta: Draws of the fixed effects, shape (S, p).
        factors: Draws of F with covariance F F', per block, shapes (S, q, q).
        sigma: Draws of the residual standard deviation, shape (S,).
        rng: Random number generator.
        keep: Whether to store the draws. The moments do not need them, because they average conditional means and
            covariances (Rao-Blackwell; Gelman et al., Bayesian Data Analysis, 3rd ed., section 1.8).
    """
    if products is None:
        return EffectDraws([], [], [])
    total = len(sigma)
    moments = [_Moments(levels, q) for q, levels in products.sizes]
    draws = [np.empty((total if keep else 0, levels, q)) for q, levels in products.sizes]
    q, levels, r = products.u.shape
    nest = nest_of(products)
    others = products.m if nest is None else nest.q2
    size = max(1, AT_ONCE // max(q * levels * (r + q + others), 1))
    for start in range(0, total, size):
        part = slice(start, min(start + size, total))
        own = [f[part] for f in factors]
        found = _part(products, nest, beta[part], own, sigma[part], rng if keep else None)
        for k, (effects, means, covariances) in enumerate(found):
            moments[k].add(means, covariances)
            if keep:
                draws[k][part] = effects
    return EffectDraws(draws, [m.mean() for m in moments], [m.covariance() for m in moments])


def _part(
    products: Products,
    nest: Nest | None,
    beta: FloatArray,
    factors: list[FloatArray],
    sigma: FloatArray,
    rng: np.random.Generator | None,
) -> list[tuple[FloatArray, FloatArray, FloatArray]]:
    """Draws (empty without ``rng``), conditional means (S, L, q) and summed covariances (L, q, q) of each block."""
    count = len(sigma)
    q, levels, _ = products.u.shape
    stacked = np.zeros((count, q, q))
    at = 0
    for k in products.first:
        size = products.sizes[k][0]
        stacked[:, at : at + size, at : at + size] = factors[k]
        at += size
    # T = F'C / sigma, and R with R'R = (I + TT')^-1, per level and draw
    t = np.einsum("sai,abl->ibsl", stacked / sigma[:, None, None], products.c).reshape(q, q, count * levels)
    inner = matmul(t, np.ascontiguousarray(t.transpose(1, 0, 2)))
    inner.reshape(q * q, count * levels)[:: q + 1] += 1.0
    root, _ = inverse_factor(inner)
    e = np.concatenate([-beta, np.ones((count, 1))], axis=1)
    rest = np.einsum("qlr,sr->qsl", products.u, e)  # Q'(y - X beta)
    made: list[tuple[FloatArray, FloatArray, FloatArray]] = [(np.empty(0),) * 3] * len(products.sizes)
    means, through = rest, None
    if nest is not None:
        above = _above(products, nest, e, factors, sigma, t, root, rng)
        rest = rest - np.einsum("qkl,ksl->qsl", nest.columns, above.draws[:, :, nest.parents])
        means = means - np.einsum("qkl,ksl->qsl", nest.columns, above.means[:, :, nest.parents])
        through = partial(_through_nest, t, root, nest, above.covariances, sigma)
        for k, own in nest.blocks:
            made[k] = above.of(own)
    elif products.rest:
        draw2, mean2, spread2 = _others(products, e, factors, sigma, t, root, rng)
        columns = np.asarray(products.u2.toarray() if hasattr(products.u2, "toarray") else products.u2)
        columns = columns.reshape(q, levels, products.m)
        # Q'r = Q'(y - X beta) - Q'Z_2 b_2, with b_2 drawn, or at its mean
        rest = rest - np.einsum("qlm,sm->qsl", columns, draw2)
        means = means - np.einsum("qlm,sm->qsl", columns, mean2)
        through = partial(_through_others, t, root, columns, spread2, sigma)
        _add_others(made, products, draw2, mean2, spread2)
    # u | b_2, y ~ N((I + TT')^-1 T Q'r / sigma, (I + TT')^-1), and b_1 = F u
    scaled = _standardised(t, root, rest, sigma, count, levels)
    centre = scaled if through is None else _standardised(t, root, means, sigma, count, levels)
    drawn = None
    if rng is not None:
        drawn = scaled + per_level(root, rng.standard_normal(scaled.shape), transpose=True)
    cov_u = outer(root).reshape(q, q, count, levels)
    at = 0
    for k in products.first:
        own = slice(at, at + products.sizes[k][0])
        f = factors[k]
        effects = np.empty(0)
        if drawn is not None:
            effects = np.einsum("sab,bsl->sla", f, drawn.reshape(q, count, levels)[own])
        mean = np.einsum("sab,bsl->sla", f, centre.reshape(q, count, levels)[own])
        cov = np.einsum("sab,bcsl,sdc->lad", f, cov_u[own, own], f, optimize=True)
        # Cov(b_1 | y) = E Cov(b_1 | b_2, y) + Cov(E(b_1 | b_2, y) | y): the second term
        made[k] = (effects, mean, cov if through is None else cov + through(f, own))
        at = own.stop
    return made


def _add_others(
    made: list[tuple[FloatArray, FloatArray, FloatArray]],
    products: Products,
    draws: FloatArray,
    means: FloatArray,
    spread: FloatArray,
) -> None:
    """Put draws, means (S, m) and covariances (S, m, m) of the other factors' effects in their places, by block."""
    at = 0
    for k in products.rest:
        size, n_levels = products.sizes[k]
        own = slice(at, at + size * n_levels)
        cov = np.zeros((n_levels, size, size))
        for level in range(n_levels):
            here = slice(at + level * size, at + (level + 1) * size)
            cov[level] = spread[:, here, here].sum(axis=0)
        shape = (len(draws), n_levels, size)
        made[k] = (draws[:, own].reshape(shape), means[:, own].reshape(shape), cov)
        at = own.stop


def _above(
    products: Products,
    nest: Nest,
    e: FloatArray,
    factors: list[FloatArray],
    sigma: FloatArray,
    t: FloatArray,
    root: FloatArray,
    rng: np.random.Generator | None,
) -> OuterDraws:
    """Effects of the outer levels of nested factors."""
    q, levels, _ = products.u.shape
    inside = np.einsum("ijn,jkn->ikn", root, t).reshape(q, q, len(sigma), levels)
    y_side = np.einsum("ijsl,jlr->islr", inside, products.u, optimize=True)
    return draw_outer(nest, inside, y_side, e, products.u, factors, sigma, rng)


def _standardised(
    t: FloatArray, root: FloatArray, rest: FloatArray, sigma: FloatArray, count: int, levels: int
) -> FloatArray:
    """Compute (I + TT')^-1 T Q'r / sigma, shape (q, S * L)."""
    q = len(t)
    scaled = np.ascontiguousarray((rest / sigma[None, :, None]).reshape(q, count * levels))
    turned = np.einsum("ijn,jn->in", t, scaled)
    return per_level(root, per_level(root, turned), transpose=True)


def _others(
    products: Products,
    e: FloatArray,
    factors: list[FloatArray],
    sigma: FloatArray,
    t: FloatArray,
    root: FloatArray,
    rng: np.random.Generator | None,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Draws, means (S, m) and covariances (S, m, m) of the other factors' effects, with b_1 integrated out."""
    q, levels, _ = products.u.shape
    count, m = len(sigma), products.m
    columns = np.asarray(products.u2.toarray() if hasattr(products.u2, "toarray") else products.u2)
    within2 = np.asarray(products.within2.toarray() if hasattr(products.within2, "toarray") else products.within2)
    # (I + T'T)^-1 = I - T'(I + TT')^-1 T
    inside = np.einsum("ijn,jkn->ikn", root, t).reshape(q, q, count, levels)
    left = np.einsum("ijsl,jlm->silm", inside, columns.reshape(q, levels, m), optimize=True)
    left = left.reshape(count, q * levels, m)
    y_side = np.einsum("ijsl,jlr->silr", inside, products.u, optimize=True).reshape(count, q * levels, -1)
    # S = Z_2'V_1^-1 Z_2 and s = Z_2'V_1^-1 [X y], relative to sigma^2
    s22 = within2 + columns.T @ columns - left.swapaxes(1, 2) @ left
    flat = products.u.reshape(q * levels, -1)
    s2r = products.within_right + columns.T @ flat - left.swapaxes(1, 2) @ y_side
    spread = np.zeros((count, m, m))
    at = 0
    for k in products.rest:
        size, n_levels = products.sizes[k]
        for _ in range(n_levels):
            spread[:, at : at + size, at : at + size] = factors[k] / sigma[:, None, None]
            at += size
    # b_2 = F_2 u_2, u_2 | y ~ N(B^-1 F_2's e / sigma^2, B^-1) with B = I + F_2'S F_2 / sigma^2 = LL'
    turned = spread.swapaxes(1, 2)
    lower = np.linalg.cholesky(turned @ s22 @ spread + np.eye(m))
    right = np.einsum("smr,sr->sm", turned @ s2r, e) / sigma[:, None]
    half = np.linalg.solve(lower, right[:, :, None])
    noise = 0.0 if rng is None else rng.standard_normal(half.shape)
    back = lower.swapaxes(1, 2)
    lift = spread * sigma[:, None, None]
    mean = (lift @ np.linalg.solve(back, half))[:, :, 0]
    draw = (lift @ np.linalg.solve(back, half + noise))[:, :, 0]
    wide = np.linalg.solve(lower, lift.swapaxes(1, 2))
    return draw, mean, wide.swapaxes(1, 2) @ wide


def _gain(t: FloatArray, root: FloatArray, own: slice, sigma: FloatArray) -> FloatArray:
    """The factor (I + TT')^-1 T / sigma of dE(b_1) / db_2 = -F (I + TT')^-1 T Q'Z_2 / sigma, shape (., q, S, L)."""
    q = len(t)
    gain = np.einsum("ijn,jkn->ikn", outer(root), t).reshape(q, q, len(sigma), -1)[own]
    return np.asarray(gain / sigma[None, None, :, None])


def _through_nest(
    t: FloatArray,
    root: FloatArray,
    nest: Nest,
    covariances: FloatArray,
    sigma: FloatArray,
    f: FloatArray,
    own: slice,
) -> FloatArray:
    """Covariances (L, q, q) of the conditional means of b_1 by the outer effects, summed over draws."""
    moved = np.einsum("sab,bksl,kml->amsl", f, _gain(t, root, own, sigma), nest.columns, optimize=True)
    spread = covariances[..., nest.parents]
    return np.asarray(np.einsum("amsl,mosl,dosl->lad", moved, spread, moved, optimize=True))


def _through_others(
    t: FloatArray,
    root: FloatArray,
    through: FloatArray,
    spread2: FloatArray,
    sigma: FloatArray,
    f: FloatArray,
    own: slice,
) -> FloatArray:
    """Covariances (L, q, q) of the conditional means of b_1 by the other effects, summed over draws."""
    gain = _gain(t, root, own, sigma)
    moved = np.einsum("sab,bksl,klm->salm", f, gain, through, optimize=True)
    return np.asarray(np.einsum("salm,smo,sdlo->lad", moved, spread2, moved, optimize=True))


__all__ = ["EffectDraws", "draw_all_effects"]
