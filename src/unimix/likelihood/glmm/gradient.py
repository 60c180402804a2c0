"""Gradient of Laplace's approximation with respect to covariance factors, fixed effects and dispersion parameters.

With u the conditional modes and A = I + U'WU, the approximation is l = sum log f - u'u/2 - log|A|/2. A parameter
changes l through the predictor at fixed u, through the modes (by the implicit function theorem), and through W. The
derivatives of W with respect to the predictor and the dispersion are central differences of each row's exact second
derivative; all other derivatives are exact. The formulas are those of Skaug & Fournier (2006), Comput. Stat. Data Anal.
51:699-709, section 3, without automatic differentiation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from unimix.design.arrays import Design
from unimix.distributions.links import LINKS
from unimix.likelihood.glmm.laplace import fixed_predictor, laplace
from unimix.likelihood.lmm.penalised_least_squares import gram_of, half_inverse
from unimix.likelihood.lmm.reduced_data import Matrix
from unimix.likelihood.lmm.sparse_effects import layout_of
from unimix.likelihood.response import row_log_likelihood

FloatArray = npt.NDArray[np.float64]
STEP = 1e-4
DENSE = 60


@dataclass(frozen=True)
class Slope:
    """Laplace's approximation and its gradient at one point.

    Attributes:
        value: Log likelihood; -inf where it does not exist.
        spherical: Modes of the spherical effects, shape (m,), at which the next search may start.
        by_factors: Derivatives with respect to the elements of the lower triangular factors, block by block and row
            by row.
        by_beta: Derivatives with respect to the fixed effects, shape (p,).
        by_parameters: Derivatives with respect to the logarithm of each dispersion parameter, shape (k,).
    """

    value: float
    spherical: FloatArray
    by_factors: FloatArray
    by_beta: FloatArray
    by_parameters: FloatArray


def pieces_of(design: Design) -> list[npt.NDArray[np.int64]] | None:
    """Sets of spherical effects that are connected by rows; None if one dense matrix is as fast."""
    if sum(b.q * b.n_levels for b in design.blocks) <= DENSE:
        return None
    count, sets = design.tied
    if count == 1:
        return None
    label = np.concatenate([np.repeat(s, b.q) for s, b in zip(sets, design.blocks, strict=True)])
    order = np.argsort(label, kind="stable")
    return np.split(order, np.cumsum(np.bincount(label, minlength=count))[:-1])


def slope_of_laplace(
    design: Design,
    beta: FloatArray,
    factors: Sequence[FloatArray],
    parameters: FloatArray,
    pieces: Sequence[npt.NDArray[np.int64]] | None,
    start: FloatArray | None = None,
    *,
    whole: bool = False,
) -> Slope:
    """Compute Laplace's approximation at given parameters, and its gradient.

    Args:
        design: Design of a generalised model.
        beta: Fixed effects, shape (p,).
        factors: Lower triangular L_k with covariance L_k L_k', shapes (q, q).
        parameters: Dispersion parameters, shape (k,).
        pieces: Result of :func:`pieces_of`.
        start: Spherical modes from which the inner search starts, shape (m,).
        whole: Whether the factors are arbitrary square roots, so that ``by_factors`` covers all of their elements,
            row by row.
    """
    fixed, layout = fixed_predictor(design, beta), layout_of(design)
    found = laplace(
        lambda eta: row_log_likelihood(design, parameters, eta),
        fixed,
        layout,
        (),
        factors=factors,
        start=start,
    )
    size = sum(len(_elements(len(f), whole=whole)) for f in factors)
    if not np.isfinite(found.log_likelihood):
        nothing = np.full(size + len(beta) + len(parameters), np.nan)
        return Slope(-np.inf, found.spherical, nothing[:size], nothing[: len(beta)], nothing[: len(parameters)])
    eta, u = found.eta, found.spherical
    rows = row_log_likelihood(design, parameters, eta)
    step = STEP * np.maximum(1.0, np.abs(eta)) if not _has_end(design) else STEP * np.abs(eta)
    bend = (
        row_log_likelihood(design, parameters, eta + step).observed
        - row_log_likelihood(design, parameters, eta - step).observed
    ) / (2 * step)
    z = layout.spread(factors)
    half = _half_inverse(z, rows.observed, pieces)
    # An error of the modes enters the gradient at first order, but the value only at second: two more Newton steps.
    for _ in range(2):
        u = u + np.asarray(half.T @ (half @ (z.T @ rows.score - u)))
        eta = fixed + z @ u
        rows = row_log_likelihood(design, parameters, eta)
    inverse = gram_of(half, half)
    through = z @ inverse
    leverage = _row_sums(through, z)
    c = 0.5 * leverage * bend
    t = np.asarray(inverse @ (z.T @ c))
    pull = z @ t
    # dl / d eta at fixed u is s - c, from the density and from W; the modes contribute W U t.
    by_eta = rows.score - c + rows.observed * pull
    by_parameters = np.empty(len(parameters))
    for k, value in enumerate(parameters):
        up, down = parameters.copy(), parameters.copy()
        up[k], down[k] = value * np.exp(STEP), value * np.exp(-STEP)
        high, low = row_log_likelihood(design, up, eta), row_log_likelihood(design, down, eta)
        moved = (high.observed - low.observed) / (2 * STEP)
        turned = (high.score - low.score) / (2 * STEP)
        by_parameters[k] = value * rows.by_parameters[k].sum() - 0.5 * leverage @ moved - pull @ turned
    by_factors = _by_factors(design, factors, u, t, rows.score, rows.observed, by_eta, through, whole=whole)
    return Slope(found.log_likelihood, u, by_factors, design.x.T @ by_eta, by_parameters)


def _has_end(design: Design) -> bool:
    return LINKS[design.family.link].positive


def _elements(q: int, *, whole: bool) -> list[tuple[int, int]]:
    return [(i, j) for i in range(q) for j in range(q if whole else i + 1)]


def _half_inverse(z: Matrix, weights: FloatArray, pieces: Sequence[npt.NDArray[np.int64]] | None) -> Matrix:
    """H with H'H = (I + Z'WZ)^-1, shape (m, m)."""
    if not sparse.issparse(z):
        return half_inverse(z.T @ (weights[:, None] * z), None)[0]
    a = sparse.csr_array(z.T @ (z.multiply(weights[:, None])))
    return half_inverse(a.toarray() if pieces is None else a, pieces)[0]


def _row_sums(a: Matrix, b: Matrix) -> FloatArray:
    if not sparse.issparse(b):
        return np.asarray(np.einsum("nm,nm->n", a, b))
    return np.asarray(b.multiply(a).sum(axis=1)).ravel()


def _by_factors(
    design: Design,
    factors: Sequence[FloatArray],
    u: FloatArray,
    t: FloatArray,
    score: FloatArray,
    observed: FloatArray,
    by_eta: FloatArray,
    through: Matrix,
    *,
    whole: bool,
) -> FloatArray:
    """Derivatives with respect to L_ij, which changes the predictor by z_i u_j and the column of U of u_j by z_i."""
    found, start = [], 0
    at = np.arange(design.n)
    for block, factor in zip(design.blocks, factors, strict=True):
        q = len(factor)
        for i, j in _elements(q, whole=whole):
            own = start + block.codes * q + j
            z = block.z[:, i]
            diagonal = np.asarray(through[at, own]).ravel()
            found.append(z @ (by_eta * u[own] - observed * diagonal - score * t[own]))
        start += q * block.n_levels
    return np.array(found)
