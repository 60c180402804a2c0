"""Likelihood of a generalised linear mixed model at given parameters, by Laplace's approximation or quadrature.

With Cov_k = L_k L_k' and U the n x m matrix of all blocks' z_k L_k over their levels, eta = X beta + offset + U u with
u ~ N(0, I). Newton steps maximise the penalised log likelihood over u (penalised iteratively reweighted least squares);
log L is the maximum less log |I + U'WU| / 2. Sources: Breslow & Clayton (1993), JASA 88:9-25; Bates, Maechler, Bolker
& Walker (2015), J. Stat. Softw. 67(1), for the form with spherical effects; Pinheiro & Chao (2006), J. Comput. Graph.
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
    """Result of the maximisation over the effects.

    Attributes:
        log_likelihood: Laplace's approximation, with all constants; -inf where it does not exist.
        modes: Conditional modes of the effects of each block, shapes (L, q).
        mode_covs: Conditional covariances of the effects given the parameters, shapes (L, q, q).
        eta: Linear predictor at the modes, shape (n,).
        spherical: Modes of the spherical effects u, shape (m,); a start for neighbouring parameters.
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
    """Integrate out the group effects by Laplace's method.

    Args:
        response: Function of the linear predictor (n,) that returns the log density per row and its derivatives.
        fixed: X beta + offset, shape (n,).
        layout: Layout of the blocks of random effects; without blocks the value is exact.
        covariances: Covariance matrix of each block's effects, shapes (q, q); may be singular.
        expected: Whether the determinant has the expected information, as in lme4, instead of the observed one; they
            are equal for canonical links.
        start: Spherical effects u from which the search starts, shape (m,).
        factors: Square roots of the covariances, shapes (q, q), if they are already known.
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
    """Compute :func:`laplace` for a design at fixed effects (p,), covariances, dispersion (k,), zero inflation (n,)."""
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
    """Log likelihood of a model with one scalar effect per level, by adaptive Gauss-Hermite quadrature.

    Args:
        response: Function of the linear predictor (n,) that returns the log density per row and its derivatives.
        fixed: X beta + offset, shape (n,).
        block: Block with one column.
        variance: Variance of the effect.
        n_nodes: Number of nodes; 1 is Laplace's approximation.
        expected: Whether nodes are scaled by the expected information; it matters little beyond a few nodes.
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
