"""Laplace's approximation of a generalised linear mixed model's likelihood, and quadrature, at given parameters.

With Cov_k = L_k L_k' and U the n x m matrix of all blocks' z_k L_k over their levels, eta = X beta + offset + U u with
u ~ N(0, I). The penalised log-likelihood is maximised over u by Newton steps (penalised iteratively reweighted least
squares); log L is its value less log |I + U'WU| / 2. Breslow & Clayton (1993), JASA 88:9-25; Bates, Maechler, Bolker &
Walker (2015), J. Stat. Softw. 67(1), for the form with spherical effects; Pinheiro & Chao (2006), J. Comput. Graph.
Stat. 15:58-81, for adaptive Gauss-Hermite quadrature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from unimix.design.arrays import Design
from unimix.design.tied_levels import tied_levels
from unimix.distributions.log_density import Pointwise
from unimix.likelihood.lmm.conditioning import relative_factors
from unimix.likelihood.lmm.sparse_effects import Block, EffectsLayout, layout_of
from unimix.likelihood.response import row_log_likelihood

FloatArray = npt.NDArray[np.float64]
Response = Callable[[FloatArray], Pointwise]

_ROUNDS, _HALVINGS = 200, 40
_DECREMENT = 1e-13


@dataclass(frozen=True)
class LaplaceSolution:
    """What the inner maximisation found.

    Attributes:
        log_likelihood: Laplace's approximation, with all constants; -inf where there is none.
        modes: Conditional modes of the effects per block, shapes (L, q).
        mode_covs: Their conditional covariances given the parameters, shapes (L, q, q).
        eta: Linear predictor at the modes, shape (n,).
        spherical: The modes as u, shape (m,); a warm start for neighbouring parameters.
    """

    log_likelihood: float
    modes: tuple[FloatArray, ...]
    mode_covs: tuple[FloatArray, ...]
    eta: FloatArray
    spherical: FloatArray


def laplace(
    response: Response,
    fixed: FloatArray,
    layout: EffectsLayout,
    covariances: Sequence[FloatArray],
    *,
    expected: bool = False,
    start: FloatArray | None = None,
    factors: Sequence[FloatArray] | None = None,
) -> LaplaceSolution:
    """Integrate the group effects out by Laplace's method.

    Args:
        response: Log-density per row and its derivatives, as a function of the linear predictor (n,).
        fixed: X beta + offset, shape (n,).
        layout: Of the blocks of random effects; without any the value is exact.
        covariances: Covariance of each block's effects, shapes (q, q); may be singular.
        expected: Use the expected information in the determinant, as lme4 does, instead of the observed one. Equal
            for canonical links.
        start: Effects u to start from.
        factors: Square roots of the covariances, where they are known already.
    """
    factors = relative_factors(tuple(covariances), 1.0) if factors is None else factors
    blocks, u_matrix, width = layout.blocks, layout.spread(factors), layout.m
    u = np.zeros(width) if start is None else start
    here = response(fixed + u_matrix @ u)
    if start is not None and not np.isfinite(here.value).all():
        u = np.zeros(width)
        here = response(fixed)
    value = float(here.value.sum()) - 0.5 * float(u @ u)
    if not np.isfinite(value):
        return _nothing(blocks, factors, fixed, u)

    for _ in range(_ROUNDS if width else 0):
        usable = np.isfinite(here.observed) & (here.observed > 0)
        weights = np.where(usable, here.observed, here.expected)
        gradient = u_matrix.T @ here.score - u
        step = layout.solve(layout.system(u_matrix, weights), gradient)
        promised = float(gradient @ step)
        if promised < _DECREMENT * (1.0 + abs(value)) * 1e-3:
            break
        size = 1.0
        for _ in range(_HALVINGS):
            moved = u + size * step
            there = response(fixed + u_matrix @ moved)
            reached = float(there.value.sum()) - 0.5 * float(moved @ moved)
            if reached >= value - 1e-14 * abs(value):
                break
            size /= 2
        else:
            break
        u, here, gained, value = moved, there, reached - value, reached
        if promised < 1e-10 and abs(gained) <= 1e-15 * abs(value):
            break
    weights = here.expected if expected else here.observed
    try:
        diagonals, log_det = layout.inverse_blocks(layout.system(u_matrix, weights))
    except np.linalg.LinAlgError:
        return _nothing(blocks, factors, fixed, u)
    modes, covs, first = [], [], 0
    for block, factor, diagonal in zip(blocks, factors, diagonals, strict=True):
        size_k = block.n_levels * len(factor)
        modes.append(u[first : first + size_k].reshape(block.n_levels, len(factor)) @ factor.T)
        covs.append(factor @ diagonal @ factor.T)
        first += size_k
    return LaplaceSolution(value - 0.5 * log_det, tuple(modes), tuple(covs), fixed + u_matrix @ u, u)


def laplace_at(
    design: Design,
    beta: FloatArray,
    covariances: Sequence[FloatArray],
    parameters: FloatArray,
    *,
    expected: bool = False,
    start: FloatArray | None = None,
    zero: FloatArray | None = None,
) -> LaplaceSolution:
    """:func:`laplace` of a design at given fixed effects (p,), covariances, dispersion (k,) and zero inflation (n,)."""
    return laplace(
        lambda eta: row_log_likelihood(design, parameters, eta, zero),
        fixed_predictor(design, beta),
        layout_of(design),
        covariances,
        expected=expected,
        start=start,
    )


def fixed_predictor(design: Design, beta: FloatArray) -> FloatArray:
    """X beta + offset, shape (n,)."""
    eta: FloatArray = design.x @ beta
    return eta if design.offset is None else eta + design.offset


def _nothing(
    blocks: Sequence[Block], factors: Sequence[FloatArray], fixed: FloatArray, u: FloatArray
) -> LaplaceSolution:
    shapes = [(b.n_levels, len(f)) for b, f in zip(blocks, factors, strict=True)]
    modes = tuple(np.full(s, np.nan) for s in shapes)
    covs = tuple(np.full((levels, q, q), np.nan) for levels, q in shapes)
    return LaplaceSolution(-np.inf, modes, covs, fixed, np.zeros_like(u))


def adaptive_quadrature(
    response: Response, fixed: FloatArray, block: Block, variance: float, n_nodes: int, *, expected: bool = False
) -> float:
    """Log-likelihood with one scalar effect per level, by adaptive Gauss-Hermite quadrature.

    Args:
        response: As for :func:`laplace`.
        fixed: X beta + offset, shape (n,).
        block: One column.
        variance: Of the effect.
        n_nodes: Number of nodes; 1 is Laplace's approximation.
        expected: As for :func:`laplace`; matters little beyond a few nodes.
    """
    sd = float(np.sqrt(variance))
    layout = EffectsLayout([block], len(fixed), tied_levels([(block.codes, block.n_levels)]))
    found = laplace(response, fixed, layout, [np.array([[variance]])], expected=expected)
    if not np.isfinite(found.log_likelihood) or sd == 0:
        return found.log_likelihood
    centre, width = found.spherical, np.sqrt(found.mode_covs[0][:, 0, 0]) / sd
    nodes, weights = special.roots_hermite(n_nodes)
    column, codes = block.z[:, 0] * sd, block.codes
    parts = np.empty((n_nodes, block.n_levels))
    for k, (node, weight) in enumerate(zip(nodes, weights, strict=True)):
        u = centre + np.sqrt(2.0) * width * node
        rows = response(fixed + column * u[codes]).value
        parts[k] = np.log(weight) + node**2 + np.bincount(codes, rows, block.n_levels) - 0.5 * u**2
    per_level = special.logsumexp(parts, axis=0) + np.log(width) - 0.5 * np.log(np.pi)
    return float(per_level.sum())
