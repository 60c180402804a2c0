"""Log density and gradient of Gaussian mixed models with the group effects integrated out.

    y = X beta + sum_k Z_k b_k + e,   b_k level ~ N(0, F_k F_k'),   e ~ N(0, sigma^2 W^-1)

Given beta, the factors F_k and log sigma, both y and the effects given y are normal (Bates, Maechler, Bolker & Walker
2015, J. Stat. Software 67(1), section 3; Gelman et al., Bayesian Data Analysis, 3rd ed., section 15.3). With b = F u
and A = F'Z'WZF / sigma^2 + I,

    log p(y) = const - n log sigma - log|A| / 2 - (r'Wr - |A^{-1/2} F'Z'Wr / sigma|^2) / (2 sigma^2),   r = y - X beta.

Only cross-products enter, so that the cost depends on the number of levels, not of rows. The gradient follows from
Fisher's identity as the expectation of the complete-data gradient given y; it is valid on the boundary (a zero factor)
too.

With one grouping factor A is block diagonal, and all levels are computed at once in arrays whose last axis is the
level. With several factors, the one with most effects is block diagonal, and the others enter through a dense Schur
complement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack

from unimix.design.arrays import Design, RandomBlock
from unimix.likelihood.lmm.batched_linalg import inverse_factor, outer, per_level, sum_of_levels

FloatArray = npt.NDArray[np.float64]

_LOG_2PI = float(np.log(2 * np.pi))


@dataclass(frozen=True)
class CrossProducts:
    """Cross-products of the data that the density needs.

    The blocks of the factor with most effects come first, stacked to q1 columns per level (L1 levels); the m effects
    of all other blocks follow, ordered by block, level and column.

    Attributes:
        constant: Constant -n/2 log(2 pi) + sum(log w) / 2.
        n: Number of rows.
        yy: Scalar y'Wy.
        xy: X'Wy, shape (p,).
        xx: X'WX, shape (p, p).
        first: Indices of the blocks that are stacked.
        rest: Indices of the other blocks.
        sizes: Numbers of columns and levels, (q, L), of every block, in the design's order.
        zz: Z1'WZ1 per level, shape (q1, q1, L1).
        zy: Z1'Wy, shape (q1, L1).
        zx: Z1'WX, shape (q1 * L1, p).
        cross: Z1'WZ2 per level, shape (L1, q1, m).
        zz2: Z2'WZ2, shape (m, m).
        zy2: Z2'Wy, shape (m,).
        zx2: Z2'WX, shape (m, p).
    """

    constant: float
    n: int
    yy: float
    xy: FloatArray
    xx: FloatArray
    first: tuple[int, ...]
    rest: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    zz: FloatArray
    zy: FloatArray
    zx: FloatArray
    cross: FloatArray
    zz2: FloatArray
    zy2: FloatArray
    zx2: FloatArray

    @property
    def m(self) -> int:
        """Number of effects outside the stacked blocks."""
        return len(self.zy2)


def split_blocks(blocks: Sequence[RandomBlock]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Indices of the blocks of the factor with most effects, and of the others.

    A factor whose levels are related is among the others; if there is no other factor, the first indices are empty.
    """
    effects: dict[str, int] = {}
    for block in blocks:
        if block.relationship is None:
            effects[block.group] = effects.get(block.group, 0) + block.n_levels * block.q
    if not effects:
        return (), tuple(range(len(blocks)))
    largest = max(effects, key=lambda g: effects[g])
    first = tuple(k for k, b in enumerate(blocks) if b.group == largest)
    return first, tuple(k for k in range(len(blocks)) if k not in first)


def n_dense(blocks: Sequence[RandomBlock]) -> int:
    """Number of rows of the dense matrix: the effects of all factors except the largest."""
    return sum(blocks[k].n_levels * blocks[k].q for k in split_blocks(blocks)[1]) if blocks else 0


def cross_products(design: Design) -> CrossProducts:
    """Form the cross-products of a design once.

    Args:
        design: Gaussian design without an offset (subtract it first).
    """
    w = np.ones(design.n) if design.weights is None else design.weights
    blocks = design.blocks
    first, rest = split_blocks(blocks) if blocks else ((), ())
    x, y = design.x, design.y
    wx, wy = x * w[:, None], y * w
    p = design.p
    stacked = np.concatenate([blocks[k].z for k in first], axis=1) if first else np.zeros((design.n, 0))
    codes, levels = (blocks[first[0]].codes, blocks[first[0]].n_levels) if first else (np.zeros(design.n, int), 0)
    q = stacked.shape[1]
    sizes = tuple((b.q, b.n_levels) for b in blocks)
    columns, places = _rest_columns([blocks[k] for k in rest])
    m = sum(sizes[k][0] * sizes[k][1] for k in rest)
    zz, zy = np.zeros((q, q, levels)), np.zeros((q, levels))
    zx, cross = np.zeros((q, levels, p)), np.zeros((levels, q, m))
    for a in range(q):
        wz = stacked[:, a] * w
        zy[a] = np.bincount(codes, wz * y, levels)
        for b in range(a + 1):
            zz[a, b] = zz[b, a] = np.bincount(codes, wz * stacked[:, b], levels)
        for j in range(p):
            zx[a, :, j] = np.bincount(codes, wz * x[:, j], levels)
        for column, place in zip(columns, places, strict=True):
            np.add.at(cross[:, a], (codes, place), wz * column)
    zz2, zy2, zx2 = np.zeros((m, m)), np.zeros(m), np.zeros((m, p))
    for column, place in zip(columns, places, strict=True):
        zy2 += np.bincount(place, column * wy, m)
        for j in range(p):
            zx2[:, j] += np.bincount(place, column * wx[:, j], m)
        for other, where in zip(columns, places, strict=True):
            np.add.at(zz2, (place, where), w * column * other)
    return CrossProducts(
        constant=float(-0.5 * design.n * _LOG_2PI + 0.5 * np.log(w).sum()),
        n=design.n,
        yy=float(y @ wy),
        xy=x.T @ wy,
        xx=x.T @ wx,
        first=first,
        rest=rest,
        sizes=sizes,
        zz=zz,
        zy=zy,
        zx=zx.reshape(q * levels, p),
        cross=cross,
        zz2=zz2,
        zy2=zy2,
        zx2=zx2,
    )


def _rest_columns(blocks: list[RandomBlock]) -> tuple[list[FloatArray], list[npt.NDArray[np.int64]]]:
    """Random columns outside the stacked blocks, and the position of the effect of each column per row."""
    columns, places, start = [], [], 0
    for block in blocks:
        for a in range(block.q):
            columns.append(block.z[:, a])
            places.append(start + block.codes * block.q + a)
        start += block.q * block.n_levels
    return columns, places


@dataclass(frozen=True)
class Conditional:
    """Standardised effects u (b = F u) given y and the parameters, and further terms of the gradient.

    Attributes:
        factor: Block-diagonal F of the stacked blocks, shape (q1, q1).
        u: Conditional mean of the stacked effects, shape (q1, L1).
        root: Lower triangular R with D^-1 = R'R, where D are the level blocks of A, shape (q1, q1, L1).
        spread: Conditional covariance of the stacked effects per level, shape (q1, q1, L1).
        u2: Conditional mean of the other effects, shape (m,).
        spread2: Conditional covariance of the other effects, shape (m, m).
        mixed: Conditional covariance of the stacked and the other effects, shape (L1, q1, m).
        log_det: Log determinant log|A|.
        fit: Quadratic form c'A^-1 c with c = F'Z'Wr / sigma^2.
    """

    factor: FloatArray
    u: FloatArray
    root: FloatArray
    spread: FloatArray
    u2: FloatArray
    spread2: FloatArray
    mixed: FloatArray
    log_det: float
    fit: float


def stacked_factor(data: CrossProducts, factors: Sequence[FloatArray]) -> FloatArray:
    """Block-diagonal factor of the stacked blocks, shape (q1, q1)."""
    if len(data.first) == 1:
        return factors[data.first[0]]
    factor = np.zeros(data.zz.shape[:2])
    start = 0
    for k in data.first:
        stop = start + len(factors[k])
        factor[start:stop, start:stop] = factors[k]
        start = stop
    return factor


def turn_rest(data: CrossProducts, factors: Sequence[FloatArray], values: FloatArray, *, back: bool) -> FloatArray:
    """Multiply the last axis (the m other effects) by F2' (``back=False``) or by F2, shape (..., m)."""
    parts, start = [], 0
    for k in data.rest:
        q, levels = data.sizes[k]
        part = values[..., start : start + q * levels]
        # rows hold transposed vectors: (F2'x)' = x'F2
        factor = factors[k].T if back else factors[k]
        parts.append(part * factor[0, 0] if q == 1 else (part.reshape(-1, q) @ factor).reshape(part.shape))
        start += q * levels
    return np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]


def condition_on(
    data: CrossProducts, d: FloatArray, d2: FloatArray, factors: Sequence[FloatArray], precision: float
) -> Conditional:
    """Compute the conditional distribution of the effects given y.

    Args:
        data: Cross-products of the data.
        d: Product Z1'Wr, shape (q1, L1).
        d2: Product Z2'Wr, shape (m,).
        factors: Lower triangular F of each block, shapes (q, q).
        precision: Residual precision 1 / sigma^2.
    """
    factor = stacked_factor(data, factors)
    q, levels = d.shape
    # D = I + F1'Z1'WZ1 F1 / sigma^2 per level, D^-1 = R'R
    half_product = (precision * factor.T) @ data.zz.reshape(q, q * levels)
    inner = np.matmul(factor.T, half_product.reshape(q, q, levels))
    inner.reshape(q * q, levels)[:: q + 1] += 1.0
    root, log_det = inverse_factor(inner)
    c = (precision * factor.T) @ d
    w = per_level(root, c)
    fit = float(np.vdot(w, w))  # c'D^-1 c
    if not data.rest:
        u = per_level(root, w, transpose=True)
        nothing = np.zeros((levels, q, 0))
        return Conditional(factor, u, root, outer(root), np.empty(0), np.empty((0, 0)), nothing, log_det, fit)
    m = data.m
    by_level = np.ascontiguousarray(np.moveaxis(root, 2, 0))
    # G = R F1'Z1'WZ2 F2 / sigma^2, E = F2'Z2'WZ2 F2 / sigma^2; Schur complement I + E - G'G = LL'
    g = np.matmul(by_level @ (precision * factor.T), data.cross).reshape(levels * q, m)
    g = turn_rest(data, factors, g, back=False)
    schur = precision * turn_rest(data, factors, turn_rest(data, factors, data.zz2, back=False).T, back=False)
    schur -= g.T @ g
    schur.flat[:: m + 1] += 1.0
    spread2, log_det2 = inverse_of(schur)
    # u2 = (LL')^-1 (c2 - G'R c), u1 = R'(R c - G u2)
    c2 = turn_rest(data, factors, precision * d2, back=False) - w.T.ravel() @ g
    u2 = spread2 @ c2
    u = per_level(root, w - (g @ u2).reshape(levels, q).T, transpose=True)
    # Cov(u1, u2) = -R'G Cov(u2), Cov(u1) = R'(I + G Cov(u2) G')R per level
    solved = (g @ spread2).reshape(levels, q, m)
    inner = np.matmul(g.reshape(levels, q, m), solved.swapaxes(1, 2))
    inner.reshape(levels, q * q)[:, :: q + 1] += 1.0
    transposed = by_level.swapaxes(1, 2)
    spread = np.moveaxis(np.matmul(np.matmul(transposed, inner), by_level), 0, 2)
    mixed = -np.matmul(transposed, solved)
    return Conditional(factor, u, root, spread, u2, spread2, mixed, log_det + log_det2, fit + float(c2 @ u2))


def inverse_of(a: FloatArray) -> tuple[FloatArray, float]:
    """Inverse of a positive definite matrix, shape (m, m), and log|a|; the matrix itself is overwritten.

    Raises:
        LinAlgError: If the matrix is not positive definite.
    """
    # LAPACK reads the transpose, which is the same matrix
    factor, fault = lapack.dpotrf(a.T, lower=0, clean=1, overwrite_a=1)
    if fault:
        raise np.linalg.LinAlgError("the matrix of the other factors is not positive definite")
    log_det = 2.0 * float(np.log(np.diagonal(factor)).sum())
    inverse, _ = lapack.dpotri(factor, lower=0, overwrite_c=1)
    # the lower triangle is zero
    both = inverse + inverse.T
    both.flat[:: len(a) + 1] *= 0.5
    return both, log_det


def residual_products(data: CrossProducts, beta: FloatArray) -> tuple[float, FloatArray, FloatArray, FloatArray]:
    """Compute r'Wr, X'Wr (p,), Z1'Wr (q1, L1) and Z2'Wr (m,) with r = y - X beta."""
    half = data.xx @ beta
    rr = data.yy + float(beta @ (half - 2.0 * data.xy))
    d = data.zy - (data.zx @ beta).reshape(data.zy.shape)
    return rr, data.xy - half, d, data.zy2 - data.zx2 @ beta


def log_density(
    data: CrossProducts, beta: FloatArray, factors: Sequence[FloatArray], log_sigma: float
) -> tuple[float, FloatArray, list[FloatArray], float]:
    """Compute the log density of y with the group effects integrated out, and its gradient.

    Args:
        data: Cross-products of the data.
        beta: Fixed effects, shape (p,).
        factors: Matrices F with covariance F F', one per block, shapes (q, q); may be zero.
        log_sigma: Logarithm of the residual standard deviation.

    Returns:
        Log density with all constants, and its derivatives with respect to beta (p,), to the entries of each factor
        (q, q), all treated as free, and to log sigma.
    """
    precision = float(np.exp(-2.0 * log_sigma))
    rr, xr, d, d2 = residual_products(data, beta)
    if not data.first:
        value = data.constant - data.n * log_sigma - 0.5 * precision * rr
        return value, precision * xr, [], precision * rr - data.n
    found = condition_on(data, d, d2, factors, precision)
    # log p(y) = const - n log sigma - (log|A| + r'Wr / sigma^2 - c'A^-1 c) / 2
    value = data.constant - data.n * log_sigma - 0.5 * (found.log_det + precision * rr - found.fit)
    q, levels = d.shape
    # products = sum over levels of Z'WZ F E[uu'], shape (q, q), for the expected residual sum of squares
    second = found.spread + found.u[:, None, :] * found.u[None, :, :]
    turned = np.matmul(found.factor, second).reshape(q, q * levels)
    products = data.zz.reshape(q, q * levels) @ turned.T
    scores = d @ found.u.T
    effects = (found.factor @ found.u).ravel()
    by_beta = xr - effects @ data.zx  # dl / dbeta = X'W E(r - Z b) / sigma^2
    explained = float(d.ravel() @ effects)
    by_block: list[FloatArray] = [np.empty(0)] * len(data.sizes)
    fitted = 0.0
    if data.rest:
        effects2 = turn_rest(data, factors, found.u2, back=True)
        by_beta -= effects2 @ data.zx2
        explained += float(d2 @ effects2)
        extra, rest_products = _products_of_rest(data, found, factors)
        products = products + extra
        for k, part, columns in rest_products:
            by_level = (-1, data.sizes[k][0])
            by_block[k] = precision * (d2[columns].reshape(by_level).T @ found.u2[columns].reshape(by_level) - part)
            fitted += float(np.vdot(factors[k], part))
    fitted += float(np.vdot(found.factor, products))
    by_first = precision * (scores - products)  # dl / dF = (Z'Wr E(u)' - Z'WZ F E(uu')) / sigma^2
    start = 0
    for k in data.first:
        stop = start + data.sizes[k][0]
        by_block[k] = by_first[start:stop, start:stop]
        start = stop
    # dl / dlog sigma = E|r - Z b|_W^2 / sigma^2 - n
    by_log_sigma = precision * (rr - 2.0 * explained + fitted) - data.n
    return value, precision * by_beta, by_block, by_log_sigma


def _products_of_rest(
    data: CrossProducts, found: Conditional, factors: Sequence[FloatArray]
) -> tuple[FloatArray, list[tuple[int, FloatArray, slice]]]:
    """Terms of the other factors in the stacked blocks' product (q1, q1), and their own products (q, q) by block."""
    # E(u1 u2') = u1 u2' + Cov(u1, u2)
    between = found.u.T[:, :, None] * found.u2 + found.mixed
    turned = turn_rest(data, factors, between, back=True)
    extra = np.matmul(data.cross, turned.swapaxes(1, 2)).sum(axis=0)
    left = np.matmul(found.factor.T, data.cross)
    # F2'Z2'WZ2 and E(u2 u2')
    own = np.ascontiguousarray(turn_rest(data, factors, data.zz2, back=False).T)
    second = found.spread2 + np.outer(found.u2, found.u2)
    parts, start = [], 0
    for k in data.rest:
        size = data.sizes[k]
        columns = slice(start, start + size[0] * size[1])
        total = sum_of_levels(left[..., columns], between[..., columns], size[0])
        total = total + sum_of_levels(own[:, columns], second[:, columns], size[0])
        parts.append((k, total, columns))
        start = columns.stop
    return extra, parts
