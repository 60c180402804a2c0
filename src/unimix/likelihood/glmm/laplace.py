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
from unimix.likelihood.glmm.effects_system import EffectsLayout, EffectsSystem, layout_of
from unimix.likelihood.lmm.conditioning import relative_factors
from unimix.likelihood.lmm.sparse_effects import Block
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
        eta: Linear predictor at the modes, shape (n,).
        spherical: Modes of the spherical effects u, shape (m,); a start for neighbouring parameters.
        layout: Positions of the effects.
        factors: Square roots L_k of the covariances, shapes (q, q).
        entries: Entries of the rows of U, shape (n, K).
        rows: Log density of each row and its derivatives, at the modes.
        system: A = I + U'WU at the modes, factorised; None where the approximation does not exist.
    """

    log_likelihood: float
    eta: FloatArray
    spherical: FloatArray
    layout: EffectsLayout
    factors: tuple[FloatArray, ...]
    entries: FloatArray
    rows: Pointwise
    system: EffectsSystem | None

    @property
    def modes(self) -> tuple[FloatArray, ...]:
        """Conditional modes of the effects of each block, L_k u, shapes (L, q); NaN where they do not exist."""
        u = self.spherical if self.system is not None else np.full_like(self.spherical, np.nan)
        parts = np.split(u, self.layout.starts[1:-1]) if self.factors else []
        return tuple(part.reshape(-1, len(f)) @ f.T for part, f in zip(parts, self.factors, strict=True))

    @property
    def mode_covs(self) -> tuple[FloatArray, ...]:
        """Conditional covariances of the effects given the parameters, L_k A^-1 L_k', shapes (L, q, q)."""
        if self.system is None:
            shapes = [(b.n_levels, len(f), len(f)) for b, f in zip(self.layout.blocks, self.factors, strict=True)]
            return tuple(np.full(shape, np.nan) for shape in shapes)
        return tuple(f @ a @ f.T for f, a in zip(self.factors, self.system.diagonal_blocks(), strict=True))


def laplace(
    response: Response,
    fixed: FloatArray,
    layout: EffectsLayout,
    factors: Sequence[FloatArray],
    *,
    expected: bool = False,
    start: FloatArray | None = None,
) -> LaplaceSolution:
    """Integrate out the group effects by Laplace's method.

    Args:
        response: Function of the linear predictor (n,) that returns the log density per row and its derivatives.
        fixed: X beta + offset, shape (n,).
        layout: Layout of the blocks of random effects; without blocks the value is exact.
        factors: Square roots L_k of the blocks' covariances L_k L_k', shapes (q, q); may be singular.
        expected: Whether the determinant has the expected information, as in lme4, instead of the observed one; they
            are equal for canonical links.
        start: Spherical effects u from which the search starts, shape (m,).
    """
    factors = tuple(factors)
    entries = layout.entries(factors)
    u = np.zeros(layout.m) if start is None else start
    here = response(fixed + layout.times(entries, u))
    if start is not None and not np.isfinite(here.value).all():
        u = np.zeros(layout.m)
        here = response(fixed)
    value = float(here.value.sum()) - 0.5 * float(u @ u)

    def solution(log_likelihood: float, system: EffectsSystem | None) -> LaplaceSolution:
        eta = fixed + layout.times(entries, u)
        return LaplaceSolution(log_likelihood, eta, u, layout, factors, entries, here, system)

    try:
        if not np.isfinite(value):
            raise np.linalg.LinAlgError
        u, here, value = _climb(response, fixed, layout, entries, u, here, value)
        system = layout.factorise(entries, here.expected if expected else here.observed)
    except np.linalg.LinAlgError:  # factors may be so large that A is not positive definite in floating point
        u = np.zeros(layout.m)
        return solution(-np.inf, None)
    return solution(value - 0.5 * system.log_det, system)


def _climb(
    response: Response,
    fixed: FloatArray,
    layout: EffectsLayout,
    entries: FloatArray,
    u: FloatArray,
    here: Pointwise,
    value: float,
) -> tuple[FloatArray, Pointwise, float]:
    """Take Newton steps over u until none increases the penalised log likelihood."""
    for _ in range(_ROUNDS if layout.m else 0):
        usable = np.isfinite(here.observed) & (here.observed > 0)
        weights = np.where(usable, here.observed, here.expected)
        gradient = layout.transposed_times(entries, here.score) - u
        step = layout.factorise(entries, weights).solve(gradient)
        promised = float(gradient @ step)
        if promised < _DECREMENT * (1.0 + abs(value)) * 1e-3:
            break
        size = 1.0
        for _ in range(_HALVINGS):
            moved = u + size * step
            there = response(fixed + layout.times(entries, moved))
            reached = float(there.value.sum()) - 0.5 * float(moved @ moved)
            if reached >= value - 1e-14 * abs(value):
                break
            size /= 2
        else:
            break
        u, here, gained, value = moved, there, reached - value, reached
        if promised < 1e-10 and abs(gained) <= 1e-15 * abs(value):
            break
    return u, here, value


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
        relative_factors(tuple(covariances), 1.0),
        expected=expected,
        start=start,
    )


def fixed_predictor(design: Design, beta: FloatArray) -> FloatArray:
    """X beta + offset, shape (n,)."""
    eta: FloatArray = design.x @ beta
    return eta if design.offset is None else eta + design.offset


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
    solution = laplace(response, fixed, layout, [np.array([[sd]])], expected=expected)
    if not np.isfinite(solution.log_likelihood) or sd == 0:
        return solution.log_likelihood
    centre, width = solution.spherical, np.sqrt(solution.mode_covs[0][:, 0, 0]) / sd
    nodes, weights = special.roots_hermite(n_nodes)
    column, codes = block.z[:, 0] * sd, block.codes
    parts = np.empty((n_nodes, block.n_levels))
    for k, (node, weight) in enumerate(zip(nodes, weights, strict=True)):
        u = centre + np.sqrt(2.0) * width * node
        rows = response(fixed + column * u[codes]).value
        parts[k] = np.log(weight) + node**2 + np.bincount(codes, rows, block.n_levels) - 0.5 * u**2
    per_level = special.logsumexp(parts, axis=0) + np.log(width) - 0.5 * np.log(np.pi)
    return float(per_level.sum())
