"""Joint uncertainty of the fixed and group effects of a fitted model, at given covariance parameters.

With Cov_k = L_k L_k', U the n x m matrix of all blocks' z_k L_k over their levels, b = L u, and W the observed
information of the rows about their linear predictors (w / sigma^2 for a linear model), the penalised least-squares
equations are

    A = I + U'WU,   u_hat(beta) = A^-1 U'W (working response - X beta)

so that, with V the covariance of beta_hat, x'beta + z'b of a row (old or new) has the error variance

    u'A^-1 u + r'V r,   r = x - (A^-1 U'WX)'u,   u = L'z,

The formulas are those of Henderson (1975), Biometrics 31:423-447, in the form with spherical effects of Bates,
Maechler, Bolker & Walker (2015), J. Stat. Softw. 67(1). A level that was not fitted contributes z'Cov z instead. The
uncertainty of the covariance parameters themselves is not included.

The effects of the factor with most effects come first. A11 has a small block per level, and only the Schur complement
S = A22 - A21 A11^-1 A12 of the other effects is factored as a whole (in independent pieces if factors are nested).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from unimix.design.arrays import Design
from unimix.errors import UnsupportedModelError
from unimix.likelihood.lmm.batched_linalg import matrix_root
from unimix.likelihood.lmm.conditioning import relative_factors
from unimix.likelihood.lmm.penalised_least_squares import half_inverse
from unimix.likelihood.lmm.reduced_data import Matrix, independent_pieces
from unimix.likelihood.lmm.sparse_effects import spread
from unimix.likelihood.posterior.marginal import split_blocks
from unimix.likelihood.response import row_log_likelihood

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

CHUNK = 20_000_000
"""Largest size of an array, in numbers, that is in memory at once."""
CACHED = 1_000_000
"""Size of an array, in numbers, up to which computations on it are fast."""


@dataclass(frozen=True)
class Conditional:
    """Joint error of fixed and group effects, with m1 effects of the first factor and m2 of the others.

    Attributes:
        design: The fitted design.
        beta_cov: Covariance matrix V of the fixed effects, shape (p, p).
        factors: Factors L_k of the blocks, shapes (q, q).
        first: Indices of the blocks of the first factor.
        rest: Indices of the other blocks.
        weight: Diagonal of W, shape (n,).
        halves: For each level of the first factor a matrix H with H'H = A11^-1 (lower triangular), shape (L, q, q).
        across: Matrix A21 A11^-1, shape (m2, m1).
        half_rest: Matrix H with H'H = S^-1, shape (m2, m2).
        follow: Negative derivatives of the spherical modes with respect to beta, A^-1 U'WX, shape (m1 + m2, p).
    """

    design: Design
    beta_cov: FloatArray
    factors: tuple[FloatArray, ...]
    first: tuple[int, ...]
    rest: tuple[int, ...]
    weight: FloatArray
    halves: FloatArray
    across: sparse.csr_array
    half_rest: Matrix
    follow: FloatArray

    @property
    def m1(self) -> int:
        """Number of effects of the first factor."""
        return int(self.halves.shape[0] * self.halves.shape[1])

    @property
    def levels(self) -> tuple[int, ...]:
        """Number of levels of each block."""
        return tuple(b.n_levels for b in self.design.blocks)

    @property
    def stacked(self) -> FloatArray:
        """Block diagonal matrix of the factors of the first factor's blocks, shape (q, q)."""
        return np.asarray(linalg.block_diag(*(self.factors[k] for k in self.first))) if self.first else np.zeros((0, 0))

    @cached_property
    def half_first(self) -> sparse.bsr_array:
        """Matrix H with H'H = A11^-1, shape (m1, m1)."""
        if not self.first:
            return sparse.csr_array((0, 0))
        levels = np.arange(len(self.halves) + 1)
        return sparse.bsr_array((self.halves, levels[:-1], levels), shape=(self.m1, self.m1))

    @cached_property
    def u(self) -> sparse.csr_array:
        """Matrix U of the fitted rows, shape (n, m1 + m2)."""
        blocks = self.design.blocks
        return _spread(self, [b.z for b in blocks], [b.codes for b in blocks], len(self.weight))


def conditional(
    design: Design,
    eta: FloatArray,
    covariances: Sequence[FloatArray],
    parameters: FloatArray,
    beta_cov: FloatArray,
    zero: FloatArray | None = None,
) -> Conditional:
    """Form the joint error of fixed and group effects at the estimates.

    W is the observed information, or the expected information if A is not positive definite with the observed one (as
    for responses with heavy tails).

    Args:
        design: Fitted design.
        eta: Linear predictor at the estimates, shape (n,).
        covariances: Covariance of each block's effects, shapes (q, q); may be singular.
        parameters: Dispersion parameters, shape (k,), or shape (1, n) if they differ between rows.
        beta_cov: Covariance of the fixed effects, shape (p, p).
        zero: Logit of the probability of a structural zero, shape (n,), for a model with zero inflation; else None.
    """
    factors = relative_factors(tuple(covariances), 1.0)
    if design.is_linear:
        weight = np.ones(design.n) if design.weights is None else design.weights
        return formed(design, factors, weight / float(parameters[0]) ** 2, beta_cov)
    information = row_log_likelihood(design, parameters, eta, zero)
    if np.isfinite(information.observed).all():
        try:
            return formed(design, factors, information.observed, beta_cov)
        except np.linalg.LinAlgError:
            pass  # the log density is convex far from its mode: use the expected information
    return formed(design, factors, information.expected, beta_cov)


def formed(design: Design, factors: tuple[FloatArray, ...], weight: FloatArray, beta_cov: FloatArray) -> Conditional:
    """Form the joint error at given factors L_k, shapes (q, q), and weights W, shape (n,)."""
    design.require_one_residual()
    first, rest = split_blocks(design.blocks) if design.blocks else ((), ())
    no_cross, nothing = sparse.csr_array((0, 0)), np.zeros((0, 0))
    at = Conditional(design, beta_cov, factors, first, rest, weight, np.zeros((0, 0, 0)), no_cross, nothing, nothing)
    if not first and not rest:
        return replace(at, follow=np.zeros((0, design.p)))
    right = np.zeros((0, design.p))
    if first:
        zz, zx = _level_sums(design, weight)
        turn = at.stacked
        # A11 = I + U1'WU1, block diagonal with one (q, q) block per level
        halves = np.linalg.inv(np.linalg.cholesky(np.eye(len(turn)) + turn.T @ zz @ turn))
        at = replace(at, halves=halves, across=sparse.csr_array((0, len(halves) * len(turn))))
        right = (turn.T @ zx).reshape(at.m1, -1)
    if rest:
        u = at.u
        weighted = sparse.csr_array(sparse.diags_array(weight) @ u)
        cross = sparse.csr_array(u[:, at.m1 :].T @ weighted[:, : at.m1])
        across = sparse.csr_array(cross @ at.half_first.T @ at.half_first)
        # S = I + U2'WU2 - A21 A11^-1 A12, with A21 = U2'WU1
        pieces = independent_pieces(design)
        schur = sparse.csr_array(u[:, at.m1 :].T @ weighted[:, at.m1 :] - across @ cross.T)
        half_rest = half_inverse(schur if pieces is not None else schur.toarray(), pieces)[0]
        at = replace(at, across=across, half_rest=half_rest)
        right = np.concatenate([right, np.asarray(weighted[:, at.m1 :].T @ design.x)])
    return replace(at, follow=solve(at, right))


def _level_sums(design: Design, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Z'WZ (L, q, q) and Z'WX (L, q, p) of the first factor; kept for linear models, whose W is a multiple of w."""

    def compute(weight: FloatArray) -> tuple[FloatArray, FloatArray]:
        first = split_blocks(design.blocks)[0]
        z = np.concatenate([design.blocks[k].z for k in first], axis=1)
        codes, levels = design.blocks[first[0]].codes, design.blocks[first[0]].n_levels

        def sums(column: FloatArray) -> FloatArray:
            return np.bincount(codes, column, levels).astype(np.float64, copy=False)

        weighted = weight[:, None] * z
        zz = [[sums(a * b) for b in z.T] for a in weighted.T]
        zx = [[sums(a * b) for b in design.x.T] for a in weighted.T]
        q = z.shape[1]
        return np.moveaxis(np.reshape(zz, (q, q, levels)), 2, 0), np.moveaxis(np.reshape(zx, (q, -1, levels)), 2, 0)

    if not design.is_linear:
        return compute(weight)
    weights = np.ones(design.n) if design.weights is None else design.weights
    zz, zx = design.keep("products by level", lambda: compute(weights))
    scale = weight[0] / weights[0]
    return scale * zz, scale * zx


def with_zero_inflation(
    at: Conditional, columns: FloatArray, mixed: FloatArray, cross: FloatArray, covariance: FloatArray
) -> Conditional:
    """The joint error of fixed and group effects and the k coefficients gamma of the zero inflation.

    The coefficients (beta, gamma) take the place of beta, and rows of the predictor have columns (x, 0). The modes
    follow gamma as they follow beta: du_hat / dgamma = A^-1 U' diag(c) G with c = d^2 l / (d eta d zeta) of each row,
    its predictor zeta of the zero inflation and the columns G.

    Args:
        at: Joint error without the zero inflation, at p fixed effects.
        columns: Columns G of the fitted rows, shape (n, k).
        mixed: Derivatives c of the fitted rows, shape (n,).
        cross: Covariance of beta and gamma, shape (p, k).
        covariance: Covariance of gamma, shape (k, k).
    """
    joint = np.block([[at.beta_cov, cross], [cross.T, covariance]])
    moved = solve(at, np.asarray(at.u.T @ (mixed[:, None] * columns))) if at.first else np.zeros((0, columns.shape[1]))
    return replace(at, beta_cov=joint, follow=np.hstack([at.follow, -moved]))


def solve(at: Conditional, right: FloatArray) -> FloatArray:
    """Multiply ``right`` by A^-1, shape (m1 + m2, r)."""
    # x2 = S^-1 (r2 - A21 A11^-1 r1), x1 = A11^-1 r1 - A11^-1 A12 x2
    one, two = right[: at.m1], right[at.m1 :]
    lower = at.half_rest.T @ (at.half_rest @ (two - at.across @ one))
    upper = at.half_first.T @ (at.half_first @ one) - at.across.T @ lower
    return np.concatenate([np.asarray(upper), np.asarray(lower)])


def predictor_variance(
    at: Conditional, x: FloatArray, z: Sequence[FloatArray], codes: Sequence[IntArray]
) -> FloatArray:
    """Error variance of x'beta + z'b for each row.

    Args:
        at: Joint error that :func:`conditional` returned.
        x: Fixed-effects columns, shape (n, p).
        z: Columns of each block, shapes (n, q); an empty sequence sets all group effects to zero.
        codes: Level index per row of each block, shapes (n,); -1 for a level that was not fitted.

    Returns:
        Error variances, shape (n,).
    """
    if not z:
        return _quadratic(x, at.beta_cov)
    # pieces of rows that stay in the processor's cache, or for crossed factors in memory
    width = at.half_rest.shape[0] if at.rest else CHUNK // CACHED * len(at.stacked) * x.shape[1]
    step = max(1, CHUNK // max(width, 1))
    variances = np.empty(len(x))
    for begin in range(0, len(x), step):
        part = slice(begin, begin + step)
        variances[part] = _variance_of_rows(at, x[part], [v[part] for v in z], [c[part] for c in codes])
    return variances


def _variance_of_rows(at: Conditional, x: FloatArray, z: Sequence[FloatArray], codes: Sequence[IntArray]) -> FloatArray:
    variances = np.zeros(len(x))
    if any((c < 0).any() for c in codes):  # a level that was not fitted: z'Cov z
        for block, v, f, c in zip(at.design.blocks, z, at.factors, codes, strict=True):
            unknown = v * (c < 0)[:, None]
            if block.relationship is not None and unknown.any():
                raise UnsupportedModelError(
                    f"The effect of a level of {block.group} that was not fitted depends on its relationship to the "
                    "others (relationship=), which is unknown here: fit rows of each level."
                )
            variances += _quadratic(unknown, f @ f.T)
        z = [v * (c >= 0)[:, None] for v, c in zip(z, codes, strict=True)]
        codes = [np.maximum(c, 0) for c in codes]
    # u'A^-1 u = |H_11 u1|^2 + |H_S (u2 - A21 A11^-1 u1)|^2
    if at.first:
        level = codes[at.first[0]]
        one = np.concatenate([z[k] for k in at.first], axis=1) @ at.stacked
        variances += _squares(np.einsum("nq,nrq->nr", one, at.halves.take(level, axis=0)))
    if at.rest:
        u = _spread(at, z, codes, len(x))
        variances += _squares((u[:, at.m1 :] - u[:, : at.m1] @ at.across.T) @ at.half_rest.T)
        rest = x - np.asarray(u @ at.follow)  # r = x - (A^-1 U'WX)'u
    else:
        rest = x - np.einsum("nq,nqp->np", one, at.follow.reshape(*at.halves.shape[:2], -1).take(level, axis=0))
    return variances + _quadratic(rest, at.beta_cov)


def _squares(a: Matrix) -> FloatArray:
    """Sum of squares of each row."""
    return np.asarray(a.multiply(a).sum(axis=1)).ravel() if sparse.issparse(a) else np.asarray((a * a).sum(axis=1))


def leverage(at: Conditional, design: Design) -> FloatArray:
    """Leverages: diagonal of the matrix from responses to fitted values with group effects, shape (n,).

    The covariance parameters are held fixed. For a linear model the leverages equal lme4's ``hatvalues``; for a
    generalised model they are those of the linearised model. Source: Demidenko & Stukel (2005), Stat. Med. 24:893-909,
    H1.
    """
    information = replace(at, beta_cov=np.asarray(np.linalg.inv(fixed_information(at, design.x)), dtype=np.float64))
    z, codes = [b.z for b in design.blocks], [b.codes for b in design.blocks]
    return np.asarray(at.weight * predictor_variance(information, design.x, z, codes))


def fixed_information(at: Conditional, x: FloatArray) -> FloatArray:
    """Compute X'V^-1 X with V = W^-1 + UU', shape (p, p), for the columns (n, p) with which ``at`` was formed."""
    # V^-1 = W - WU A^-1 U'W (Woodbury)
    weighted = at.weight[:, None] * x
    return np.asarray(x.T @ weighted - np.asarray(at.u.T @ weighted).T @ at.follow)


@dataclass(frozen=True)
class _Rows:
    z: FloatArray
    codes: IntArray
    n_levels: int


def _spread(at: Conditional, z: Sequence[FloatArray], codes: Sequence[IntArray], n: int) -> sparse.csr_array:
    """Columns L'z over all levels, the first factor's blocks stacked per level, shape (n, m1 + m2)."""
    if not at.first and not at.rest:
        return sparse.csr_array((n, 0))
    blocks, factors = [_Rows(z[k], codes[k], at.levels[k]) for k in at.rest], [at.factors[k] for k in at.rest]
    roots = [at.design.blocks[k].relationship for k in at.rest]
    if at.first:
        stacked = _Rows(np.concatenate([z[k] for k in at.first], axis=1), codes[at.first[0]], at.levels[at.first[0]])
        blocks, factors, roots = [stacked, *blocks], [at.stacked, *factors], [None, *roots]
    plain = spread(blocks, factors, n)
    if not at.design.related:
        return plain
    # b = (R x L) u where levels are related
    turned, start = [], 0
    for block, factor, root in zip(blocks, factors, roots, strict=True):
        stop = start + block.n_levels * len(factor)
        own = plain[:, start:stop]
        turned.append(own if root is None else own @ sparse.kron(sparse.csr_array(root), sparse.eye_array(len(factor))))
        start = stop
    return sparse.csr_array(sparse.hstack(turned, format="csr"))


def _quadratic(x: FloatArray, matrix: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("ni,ni->n", x @ matrix, x))


def draw_coefficients(
    at: Conditional, beta: FloatArray, modes: Sequence[FloatArray], n: int, rng: np.random.Generator
) -> tuple[FloatArray, tuple[FloatArray, ...]]:
    """Draw fixed and group effects from their joint normal distribution around the estimates.

    Args:
        at: Joint error that :func:`conditional` returned.
        beta: Fixed effects, shape (p,).
        modes: Conditional modes of each block, shapes (L, q).
        n: Number of draws.
        rng: Random number generator.

    Returns:
        Fixed effects, shape (n, p), and group effects per block, shapes (n, L, q).
    """
    off = rng.standard_normal((n, len(beta))) @ matrix_root(at.beta_cov).T
    # u | beta ~ N(u_hat - A^-1 U'WX (beta - beta_hat), A^-1), with A^-1 in the blocks of the Schur complement
    lower = np.asarray(at.half_rest.T @ rng.standard_normal((at.half_rest.shape[0], n)))
    upper = at.half_first.T @ rng.standard_normal((at.m1, n)) - at.across.T @ lower
    u = np.concatenate([np.asarray(upper), lower]).T - off @ at.follow.T
    effects: list[FloatArray] = [np.empty(0)] * len(at.factors)
    if at.first:
        stacked = u[:, : at.m1].reshape(n, at.levels[at.first[0]], -1)
        start = 0
        for k in at.first:
            stop = start + len(at.factors[k])
            effects[k] = np.asarray(modes[k])[None] + stacked[:, :, start:stop] @ at.factors[k].T
            start = stop
    start = at.m1
    for k in at.rest:
        stop = start + at.levels[k] * len(at.factors[k])
        spherical = u[:, start:stop].reshape(n, at.levels[k], -1)
        if (root := at.design.blocks[k].relationship) is not None:
            spherical = np.einsum("lr,srq->slq", root, spherical)
        effects[k] = np.asarray(modes[k])[None] + spherical @ at.factors[k].T
        start = stop
    return beta + off, tuple(effects)
