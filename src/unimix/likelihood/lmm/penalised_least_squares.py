"""The (restricted) likelihood of the linear mixed model by penalised least squares.

    y = X beta + sum_k Z_k b_k + e,   b_k ~ N(0, sigma^2 L_k L_k'),   e ~ N(0, sigma^2 W^-1),
    V = I + sum_k Z_k D_k Z_k'

with D_k = L_k L_k', relative to sigma^2, for every level. beta and sigma are profiled out (Bates, Maechler, Bolker and
Walker 2015, J. Stat. Softw. 67(1), section 3.4). V is linear in D. With V_a = dV / dD_a and
P = V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1, all derivatives are traces and quadratic forms (Harville 1977, J. Am. Stat.
Assoc. 72:320, section 5):

    d log|V| = tr V^-1 V_a,   d log|X'V^-1 X| + d log|V| = tr P V_a,   d y'Py = -y'P V_a P y,   dP = -P V_a P.

"Cells" are the distinct elements of all D_k: (block, row, column) with column <= row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from unimix.likelihood.lmm.batched_linalg import inverse_factor, per_level
from unimix.likelihood.lmm.reduced_data import SMALL, Matrix, Products

FloatArray = npt.NDArray[np.float64]
Cell = tuple[int, int, int]


@dataclass(frozen=True)
class State:
    """Parts of V^-1 at one point.

    Attributes:
        root: Lower triangular R with R'R = (I + C'DC)^-1 per level, shape (q, q, L).
        right: Whitened coordinates R u of [X y], shape (q, L, p + 1).
        between: Whitened coordinates R u2 of the columns of the other factors, shape (q * L, m).
        s22: Z_2'V_1^-1 Z_2, shape (m, m).
        s2r: Z_2'V_1^-1 [X y], shape (m, p + 1).
        k: K = L_2 (I + L_2'S L_2)^-1 L_2' with S = ``s22``, shape (m, m).
        ks: Product K ``s2r``, shape (m, p + 1).
        gram: [X y]'V^-1 [X y], shape (p + 1, p + 1).
        log_det: log|V|.
    """

    root: FloatArray
    right: FloatArray
    between: Matrix
    s22: Matrix
    s2r: FloatArray
    k: Matrix
    ks: FloatArray
    gram: FloatArray
    log_det: float


@dataclass(frozen=True)
class Profile:
    """Profiled criterion at one point.

    Attributes:
        value: (Restricted) log-likelihood with all constants, in lme4's convention.
        sigma: Residual standard deviation that maximises it, or the known one.
        beta: Generalised least-squares estimates, shape (p,).
        cov_unscaled: (X'V^-1 X)^-1, shape (p, p).
        quadratic: Quadratic form y'Py.
        freedom: n - p under REML, n under ML.
        state: Parts of V^-1 from which the criterion was computed.
        known: Whether sigma is known, and not profiled out.
    """

    value: float
    sigma: float
    beta: FloatArray
    cov_unscaled: FloatArray
    quadratic: float
    freedom: int
    state: State
    known: bool = False


def cells(products: Products) -> list[Cell]:
    """List the covariance parameters in order: block by block, the lower triangle row by row."""
    return [(k, i, j) for k, (q, _) in enumerate(products.sizes) for i in range(q) for j in range(i + 1)]


def unpack(products: Products, theta: FloatArray) -> list[FloatArray]:
    """Make lower triangular factors (q, q) from their elements in the order of :func:`cells`."""
    factors = [np.zeros((q, q)) for q, _ in products.sizes]
    for value, (k, i, j) in zip(theta, cells(products), strict=True):
        factors[k][i, j] = value
    return factors


def pack(factors: Sequence[FloatArray]) -> FloatArray:
    """Elements of lower triangular factors in the order of :func:`cells`, shape (c,)."""
    parts = [f[i, : i + 1] for f in factors for i in range(len(f))]
    return np.concatenate(parts) if parts else np.empty(0)


def stacked(products: Products, matrices: Sequence[FloatArray]) -> FloatArray:
    """Block-diagonal matrix of the (q, q) matrices of the stacked blocks; zero if there are none."""
    if not products.first:
        return np.zeros((len(products.c),) * 2)
    return np.asarray(linalg.block_diag(*(matrices[k] for k in products.first)))


def over_levels(products: Products, matrices: Sequence[FloatArray]) -> Matrix:
    """Block-diagonal matrix of the other blocks' (q, q) matrices, once per level, shape (m, m); dense if small."""
    if products.m <= SMALL and products.pieces is None:
        matrix, start = np.zeros((products.m, products.m)), 0
        for k in products.rest:
            q, levels = products.sizes[k]
            places = start + np.arange(levels)[:, None] * q + np.arange(q)
            matrix[places[:, :, None], places[:, None, :]] = matrices[k]
            start += q * levels
        return matrix
    parts = [sparse.kron(sparse.eye_array(products.sizes[k][1]), matrices[k], format="csr") for k in products.rest]
    return sparse.csr_array(sparse.block_diag(parts, format="csr"))


def matmul(a: FloatArray, b: FloatArray) -> FloatArray:
    """Products of small matrices per level, of shapes (q, r, L) and (r, s, L)."""
    product = a[:, 0, None] * b[None, 0]
    for k in range(1, len(b)):
        product += a[:, k, None] * b[None, k]
    return product


def times_levels(a: FloatArray, x: Matrix) -> Matrix:
    """Multiply columns with rows ``i * L + l``, shape (q * L, m), by one matrix per level, shape (q, q, L)."""
    q, levels = len(a), a.shape[2]
    if not sparse.issparse(x):
        by_term = np.asarray(x).reshape(q, levels, -1)
        product = a[:, 0, :, None] * by_term[0]
        for j in range(1, q):
            product += a[:, j, :, None] * by_term[j]
        return product.reshape(q * levels, -1)
    at = np.arange(levels)
    rows = [i * levels + at for i in range(q) for _ in range(q)]
    columns = [j * levels + at for _ in range(q) for j in range(q)]
    where = (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_array(sparse.csr_array((a.ravel(), where), shape=(q * levels, q * levels)) @ x)


def gram_of(a: Matrix, b: Matrix) -> Matrix:
    """Compute A'B."""
    gram = a.T @ b
    return sparse.csr_array(gram) if sparse.issparse(gram) else np.asarray(gram)


def total(a: Matrix, b: Matrix) -> float:
    """Sum of the products of corresponding entries, tr A'B."""
    if sparse.issparse(a) or sparse.issparse(b):
        left, right = (a, b) if sparse.issparse(a) else (b, a)
        return float(left.multiply(right).sum())
    return float(np.vdot(a, b))


def state_at(products: Products, factors: Sequence[FloatArray], *, whole: bool = True) -> State:
    """Compute V^-1 at factors L_k (q, q); without ``whole`` only the parts that the value needs, and ``k`` is empty."""
    if products.grouped is not None:
        grouped: State = products.grouped.state(factors)
        return grouped
    q, levels = len(products.c), products.c.shape[2]
    turned = (stacked(products, factors).T @ products.c.reshape(q, q * levels)).reshape(q, q, levels)
    inner = matmul(turned.transpose(1, 0, 2), turned)
    inner.reshape(q * q, levels)[:: q + 1] += 1.0
    root, log_det = inverse_factor(inner)
    right = per_level(root, products.u)
    flat = right.reshape(q * levels, -1)
    gram = products.within + flat.T @ flat
    if not products.rest:
        nothing = np.zeros((0, 0))
        none = np.zeros((0, flat.shape[1]))
        return State(root, right, np.zeros((q * levels, 0)), nothing, none, nothing, none, gram, log_det)
    between = times_levels(root, products.u2)
    s22 = products.within2 + gram_of(between, between)
    s2r = products.within_right + between.T @ flat
    spread = over_levels(products, factors)
    inside = spread.T @ (s22 @ spread)
    turned_right = spread.T @ s2r
    if not whole and products.pieces is None:
        lower = linalg.cholesky(_one_more(inside), lower=True, overwrite_a=True, check_finite=False)
        more = 2.0 * float(np.log(np.diag(lower)).sum())
        solved = linalg.solve_triangular(lower, turned_right, lower=True, check_finite=False)
        ks = spread @ linalg.solve_triangular(lower, solved, lower=True, trans="T", check_finite=False)
        return State(root, right, between, s22, s2r, np.zeros((0, 0)), ks, gram - solved.T @ solved, log_det + more)
    # Square roots instead of an explicit inverse, which would lose the small eigenvalues (where data inform most).
    half, more = half_inverse(inside, products.pieces)
    solved = half @ turned_right
    wide = half @ spread.T
    k = gram_of(wide, wide)
    return State(root, right, between, s22, s2r, k, wide.T @ solved, gram - solved.T @ solved, log_det + more)


def half_inverse(a: Matrix, pieces: Sequence[npt.NDArray[np.int64]] | None) -> tuple[Matrix, float]:
    """Compute H with H'H = (I + A)^-1, and log|I + A|, for a positive semi-definite matrix A.

    Args:
        a: Matrix A, shape (m, m); dense without pieces, sparse with them.
        pieces: Indices of the diagonal blocks of A, outside which it is zero; None for a single block.
    """
    if pieces is None:
        lower = linalg.cholesky(_one_more(a), lower=True, overwrite_a=True, check_finite=False)
        log_det = 2.0 * float(np.log(np.diag(lower)).sum())
        return (linalg.lapack.dtrtri(lower, lower=1)[0] if len(lower) else lower), log_det
    a = sparse.csr_array(a)
    log_det, rows, columns, values = 0.0, [], [], []
    sizes = np.array([len(p) for p in pieces])
    where, place = (np.empty(a.shape[0], dtype=np.int64) for _ in range(2))
    for t, part in enumerate(pieces):
        where[part], place[part] = t, np.arange(len(part))
    entries = a.tocoo()
    owner = where[entries.row]
    for size in np.unique(sizes):
        members = np.flatnonzero(sizes == size)
        position = np.full(len(sizes), -1)
        position[members] = np.arange(len(members))
        here = position[owner] >= 0
        dense = np.zeros((len(members), size, size))
        at = (position[owner[here]], place[entries.row[here]], place[entries.col[here]])
        dense[at] = entries.data[here]
        dense[:, np.arange(size), np.arange(size)] += 1.0
        lower = np.linalg.cholesky(dense)
        log_det += 2.0 * float(np.log(np.diagonal(lower, axis1=1, axis2=2)).sum())
        index = np.stack([pieces[int(t)] for t in members])
        rows.append(np.repeat(index, size, axis=1).ravel())
        columns.append(np.tile(index, (1, size)).ravel())
        values.append(np.linalg.inv(lower).ravel())
    where_to = (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_array((np.concatenate(values), where_to), shape=a.shape), log_det


def _one_more(a: Matrix) -> FloatArray:
    """Dense matrix I + A."""
    dense = a.toarray() if sparse.issparse(a) else np.array(a)
    dense.flat[:: len(dense) + 1] += 1.0
    return np.asarray(dense)


def profile(products: Products, factors: Sequence[FloatArray], *, reml: bool, whole: bool = True) -> Profile:
    """Criterion at given relative factors, with fixed effects and residual variance profiled out.

    Args:
        products: Reduced data, from :func:`unimix.likelihood.lmm.reduced_data.form`.
        factors: Square roots L_k of D_k, shapes (q, q), which need not be triangular.
        reml: Whether to use the restricted likelihood.
        whole: Whether to compute the parts that only derivatives need.

    Raises:
        numpy.linalg.LinAlgError: If the criterion cannot be computed at the point in floating point.
    """
    return profile_of(products, state_at(products, factors, whole=whole), reml=reml)


def profile_of(products: Products, state: State, *, reml: bool) -> Profile:
    """Compute :func:`profile` from a known V^-1."""
    p, n = products.p, products.n
    lower = np.linalg.cholesky(state.gram)
    half = np.linalg.solve(lower[:p, :p], np.eye(p))
    beta = half.T @ lower[p, :p]
    quadratic = float(lower[p, p] ** 2)
    freedom = n - p if reml else n
    known = products.sigma is not None
    sigma2 = quadratic / freedom if products.sigma is None else products.sigma**2
    # y'Py / sigma^2 is the degrees of freedom where sigma is profiled out
    ratio = quadratic / sigma2 if known else freedom
    value = -0.5 * (freedom * np.log(2 * np.pi * sigma2) + ratio + state.log_det) + products.log_weights
    if reml:
        value -= float(np.log(np.diag(lower)[:p]).sum())
    return Profile(float(value), float(np.sqrt(sigma2)), beta, half.T @ half, quadratic, freedom, state, known)


@np.errstate(invalid="ignore", divide="ignore", over="ignore")  # a trial step may overflow
def trial_value(products: Products, factors: Sequence[FloatArray], *, reml: bool) -> float:
    """Criterion at relative factors, shapes (q, q); -inf if it cannot be computed in floating point."""
    try:
        value = profile(products, factors, reml=reml, whole=False).value
    except np.linalg.LinAlgError:
        return -np.inf
    return value if np.isfinite(value) else -np.inf


def log_likelihood(
    products: Products, factors: Sequence[FloatArray], sigma: float, beta: FloatArray | None = None, *, reml: bool
) -> float:
    """Log likelihood at given factors and residual standard deviation; under ML optionally at given beta (p,)."""
    return at_sigma(products, profile(products, factors, reml=reml), sigma, beta, reml=reml)


def at_sigma(products: Products, at: Profile, sigma: float, beta: FloatArray | None = None, *, reml: bool) -> float:
    """Compute :func:`log_likelihood` from a known profiled criterion."""
    quadratic = at.quadratic
    if beta is not None and not reml:
        off = beta - at.beta
        quadratic += float(off @ at.state.gram[: products.p, : products.p] @ off)
    change = quadratic / sigma**2 - at.quadratic / at.sigma**2 + at.freedom * np.log(sigma**2 / at.sigma**2)
    return float(at.value - 0.5 * change)
