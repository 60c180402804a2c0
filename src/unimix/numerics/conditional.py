"""What is uncertain in the fixed and group effects of a fitted model, jointly, at given covariance parameters.

With Cov_k = L_k L_k', U the n x m matrix of all blocks' z_k L_k over their levels, b = L u, and W the observed
information of the rows about their linear predictors (w / sigma^2 for a linear model), the penalised least-squares
equations are

    A = I + U'WU,   u_hat(beta) = A^-1 U'W (working response - X beta)

so that, with V the covariance of beta_hat, x'beta + z'b of a row (old or new) has the error variance

    u'A^-1 u + r'V r,   r = x - (A^-1 U'WX)'u,   u = L'z,

Henderson (1975), Biometrics 31:423-447, in the form with spherical effects of Bates, Maechler, Bolker & Walker (2015),
J. Stat. Softw. 67(1). A level that was not fitted contributes z'Cov z instead. The error of the covariance parameters
themselves is not included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.linalg import splu

from unimix.model.design import Design
from unimix.numerics.conditioning import relative_factors
from unimix.numerics.families import of_design
from unimix.numerics.gls import spread

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

CHUNK = 20_000_000
"""Numbers that are held at once."""


@dataclass(frozen=True)
class Conditional:
    """The joint error of fixed and group effects.

    Attributes:
        beta_cov: V, shape (p, p).
        factors: L_k per block, shapes (q, q).
        levels: Number of levels per block.
        weight: W, shape (n,).
        root: Root of W times U, shape (n, m).
        solver: Of A, with a method ``solve``; None without group effects.
        follow: A^-1 U'WX, shape (m, p): how the spherical modes follow the fixed effects.
    """

    beta_cov: FloatArray
    factors: tuple[FloatArray, ...]
    levels: tuple[int, ...]
    weight: FloatArray
    root: sparse.csr_array
    solver: Any
    follow: FloatArray


def conditional(
    design: Design,
    eta: FloatArray,
    covariances: Sequence[FloatArray],
    parameters: FloatArray,
    beta_cov: FloatArray,
    zero: FloatArray | None = None,
) -> Conditional:
    """Form what the error of a prediction needs.

    Args:
        design: What was fitted.
        eta: Linear predictor at the estimates, shape (n,).
        covariances: Covariance of each block's effects, shapes (q, q); may be singular.
        parameters: Dispersion parameters, shape (k,); or (1, n) where they differ by row.
        beta_cov: Covariance of the fixed effects, shape (p, p).
        zero: Logit of the probability of a structural zero, shape (n,), with zero inflation.
    """
    factors = relative_factors(tuple(covariances), 1.0)
    information = of_design(design, parameters, eta, zero)
    usable = np.isfinite(information.observed) & (information.observed > 0)
    weight = np.where(usable, information.observed, information.expected)
    root = np.sqrt(weight)
    u = sparse.csr_array(sparse.diags_array(root) @ spread(design.blocks, factors, design.n))
    levels = tuple(b.n_levels for b in design.blocks)
    if not design.blocks:
        return Conditional(beta_cov, (), (), weight, u, None, np.zeros((0, design.p)))
    a = sparse.csc_array(u.T @ u + sparse.eye_array(u.shape[1]))
    solver = splu(a, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
    follow = solver.solve(np.asarray(u.T @ (root[:, None] * design.x)))
    return Conditional(beta_cov, factors, levels, weight, u, solver, follow)


def predictor_variance(
    at: Conditional, x: FloatArray, z: Sequence[FloatArray], codes: Sequence[IntArray]
) -> FloatArray:
    """Error variance of x'beta + z'b for each row.

    Args:
        at: From :func:`conditional`.
        x: Fixed-effects columns, shape (n, p).
        z: Columns per block, shapes (n, q); an empty sequence predicts for all group effects zero.
        codes: Level per block, shapes (n,); -1 for a level that was not fitted.

    Returns:
        Shape (n,).
    """
    if not z:
        return _quadratic(x, at.beta_cov)
    strange = sum(
        _quadratic(values * (c < 0)[:, None], f @ f.T) for values, f, c in zip(z, at.factors, codes, strict=True)
    )
    u = _columns(at, z, codes)
    found = np.empty(len(x))
    step = max(1, CHUNK // max(u.shape[1], 1))
    for begin in range(0, len(x), step):
        part = u[begin : begin + step].toarray().T
        found[begin : begin + step] = np.einsum("mn,mn->n", part, at.solver.solve(part))
    rest = x - np.asarray(u @ at.follow)
    return np.asarray(found + _quadratic(rest, at.beta_cov) + strange)


def leverage(at: Conditional, design: Design) -> FloatArray:
    """Diagonal of the matrix that turns responses into fitted values, group effects included, shape (n,).

    At given covariance parameters and, for a generalised model, at the working weights; as ``hatvalues`` of lme4.
    Demidenko & Stukel (2005), Stat. Med. 24:893-909, H1.
    """
    weighted = np.sqrt(at.weight)[:, None] * design.x
    normal = weighted.T @ weighted - np.asarray(at.root.T @ weighted).T @ at.follow
    own = replace(at, beta_cov=np.asarray(np.linalg.inv(normal), dtype=np.float64))
    z, codes = [b.z for b in design.blocks], [b.codes for b in design.blocks]
    return np.asarray(at.weight * predictor_variance(own, design.x, z, codes))


def _columns(at: Conditional, z: Sequence[FloatArray], codes: Sequence[IntArray]) -> sparse.csr_array:
    """L'z of new rows over all levels, shape (n, m)."""
    known = [
        _Rows(values * (c >= 0)[:, None], np.maximum(c, 0), n) for values, c, n in zip(z, codes, at.levels, strict=True)
    ]
    return spread(known, at.factors, len(z[0]))


@dataclass(frozen=True)
class _Rows:
    z: FloatArray
    codes: IntArray
    n_levels: int


def _quadratic(x: FloatArray, matrix: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("ni,ij,nj->n", x, matrix, x))


def draw_coefficients(
    at: Conditional, beta: FloatArray, modes: Sequence[FloatArray], n: int, rng: np.random.Generator
) -> tuple[FloatArray, tuple[FloatArray, ...]]:
    """Fixed and group effects from their joint normal distribution around the estimates.

    Exact draws by perturbing the equations and solving them again: A^-1 (U'W^(1/2) e + v) with standard normal e and v
    has the covariance A^-1 (Papandreou & Yuille 2010, NIPS 23).

    Args:
        at: From :func:`conditional`.
        beta: Fixed effects, shape (p,).
        modes: Conditional modes per block, shapes (L, q).
        n: Number of draws.
        rng: Source of randomness.

    Returns:
        Fixed effects, shape (n, p), and group effects per block, shapes (n, L, q).
    """
    off = rng.standard_normal((n, len(beta))) @ half(at.beta_cov).T
    rows, m = at.root.shape
    u = np.empty((n, m))
    step = max(1, CHUNK // max(rows + m, 1))
    for begin in range(0, n if m else 0, step):
        count = min(step, n - begin)
        disturbed = at.root.T @ rng.standard_normal((rows, count)) + rng.standard_normal((m, count))
        u[begin : begin + count] = at.solver.solve(np.asarray(disturbed)).T
    u -= off @ at.follow.T
    effects, start = [], 0
    for factor, levels, centre in zip(at.factors, at.levels, modes, strict=True):
        size = levels * len(factor)
        own = u[:, start : start + size].reshape(n, levels, len(factor))
        effects.append(np.asarray(centre)[None] + own @ factor.T)
        start += size
    return beta + off, tuple(effects)


def half(covariance: FloatArray) -> FloatArray:
    """R with R R' = the covariance, shape (p, p); it may be singular."""
    size = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    unit = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.eigh(covariance / np.outer(unit, unit))
    return np.asarray(unit[:, None] * vectors * np.sqrt(np.maximum(values, 0.0)))
