"""Likelihood of a small linear mixed model at many points at once, with all its derivatives.

Points are stacked along an axis, so that a search from many starts needs only a few calls of NumPy for each step. The
points may belong to several responses of one model, as in a bootstrap. A model with one grouping factor is computed
level by level (:class:`OneFactor`); one with several factors and few effects is computed with dense matrices
(:class:`SeveralFactors`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import sparse

from unimix.likelihood.lmm.batched_linalg import inverse_factor, per_level
from unimix.likelihood.lmm.parameters import is_plain
from unimix.likelihood.lmm.penalised_least_squares import cells, matmul
from unimix.likelihood.lmm.reduced_data import NOTHING, Products

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
RANK = 1e-15
"""Eigenvalue of scaled cross-products, relative to the largest, below which it counts as zero."""
MOST_DENSE, MOST_IN_LEVELS = 60, 5000
"""Largest numbers of group effects, of several factors and of one, for which points are stacked."""


@dataclass(frozen=True)
class Points:
    """Profiled criterion at B points of d covariance parameters.

    Attributes:
        theta: Elements of the relative factors, shape (B, d).
        value: (Restricted) log likelihood, shape (B,); -inf where it cannot be computed in floating point.
        by_cell: Derivatives with respect to the cells of D, shape (B, d).
        gradient: Derivatives with respect to the elements of the factors, shape (B, d).
        hessian: Second derivatives with respect to the elements of the factors, shape (B, d, d).
    """

    theta: FloatArray
    value: FloatArray
    by_cell: FloatArray
    gradient: FloatArray
    hessian: FloatArray


@dataclass(frozen=True)
class StackedMoments:
    """Moments as in :class:`unimix.likelihood.lmm.derivatives.Moments`, at B points; r = p + 1.

    Attributes:
        gram: [X y]'V^-1 [X y], shape (B, r, r).
        log_det: log|V|, shape (B,).
        t: tr V^-1 V_a, shape (B, d).
        tt: tr V^-1 V_a V^-1 V_b, shape (B, d, d).
        a: R'V^-1 V_a V^-1 R, shape (B, d, r, r).
        aa: R'V^-1 V_a V^-1 V_b V^-1 R, shape (B, d, r, d, r).
    """

    gram: FloatArray
    log_det: FloatArray
    t: FloatArray
    tt: FloatArray
    a: FloatArray
    aa: FloatArray


def stackable(sizes: Sequence[tuple[int, int]], *, several: bool) -> bool:
    """Whether a model is small enough to be evaluated at many points at once.

    Args:
        sizes: Numbers of columns and levels, (q, L), of every block.
        several: Whether the blocks have several grouping factors.
    """
    return sum(q * levels for q, levels in sizes) <= (MOST_DENSE if several else MOST_IN_LEVELS)


def is_stackable(products: Products) -> bool:
    """Whether a model is evaluated at many points at once: a small one of independent levels, no structures."""
    if products.sigma is not None or any(r is not None for r in products.relationships):
        return False
    return is_plain(products) and stackable(products.sizes, several=bool(products.rest))


def small_model(responses: Sequence[Products], *, reml: bool) -> SmallModel:
    """Make the model with one factor or with several, as the data require; its arguments are those of SmallModel."""
    return (SeveralFactors if responses[0].rest else OneFactor)(responses, reml=reml)


class SmallModel(ABC):
    """A linear mixed model that is evaluated at many points at once.

    Args:
        responses: Reduced data of the model's R responses, which have the same columns.
        reml: Whether to use the restricted likelihood.
    """

    def __init__(self, responses: Sequence[Products], *, reml: bool) -> None:
        self.products, self.reml = (products := responses[0]), reml
        self.cells = cells(products)
        self.freedom = products.n - products.p if reml else products.n

    @abstractmethod
    def grams(self, factors: Sequence[FloatArray], which: IntArray) -> tuple[FloatArray, FloatArray]:
        """Compute [X y]'V^-1 [X y] (B, r, r) and log|V| (B,) for the responses of these indices (B,).

        Args:
            factors: Square roots of D, shapes (B, q, q).
            which: Index of the response of each point, shape (B,).
        """

    @abstractmethod
    def moments(self, factors: Sequence[FloatArray], which: IntArray) -> StackedMoments:
        """Compute the moments of V^-1, with the arguments of :meth:`grams`."""

    @cached_property
    def _bends(self) -> FloatArray:
        """Second derivatives of the cells of D = LL' with respect to the elements of L, shape (d, d, d)."""
        d = len(self.cells)
        place = {cell: a for a, cell in enumerate(self.cells)}
        bends = np.zeros((d, d, d))
        for a, (k, i, j) in enumerate(self.cells):
            for row in range(j, self.products.sizes[k][0]):
                cell = place[k, max(i, row), min(i, row)]
                bends[cell, a, place[k, row, j]] += 2.0 if row == i else 1.0
        return bends

    def factors(self, theta: FloatArray) -> list[FloatArray]:
        """Make lower triangular factors per block, shapes (B, q, q), from their elements (B, d)."""
        stacked = [np.zeros((len(theta), q, q)) for q, _ in self.products.sizes]
        for a, (k, i, j) in enumerate(self.cells):
            stacked[k][:, i, j] = theta[:, a]
        return stacked

    def theta(self, factors: Sequence[FloatArray]) -> FloatArray:
        """Elements (B, d) of the lower triangular factors of the same D, with non-negative diagonals.

        Args:
            factors: Any square roots of D, shapes (B, q, q) or wider.
        """
        lower = []
        for f in factors:
            r = np.linalg.qr(f.transpose(0, 2, 1), mode="r")
            signs = np.where(np.diagonal(r, axis1=1, axis2=2) < 0, -1.0, 1.0)
            lower.append((signs[:, :, None] * r).transpose(0, 2, 1))
        return np.stack([lower[k][:, i, j] for k, i, j in self.cells], axis=1)

    @np.errstate(all="ignore")  # a trial step may overflow
    def values(self, factors: Sequence[FloatArray], which: IntArray) -> FloatArray:
        """Criterion with the arguments of :meth:`grams`; -inf where it cannot be computed in floating point."""
        return self._profiled(*self.grams(factors, which))[0]

    def _profiled(self, gram: FloatArray, log_det: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Value (B,), y'Py (B,), [-beta, 1] (B, p + 1) and (X'V^-1 X)^-1 (B, p, p) of the profiled criterion."""
        p, bad = self.products.p, ~(np.isfinite(gram).all(axis=(1, 2)) & np.isfinite(log_det))
        gram = np.where(bad[:, None, None], np.eye(p + 1), gram)
        lower = np.linalg.cholesky(gram)
        half = np.linalg.inv(lower[:, :p, :p])
        quadratic = lower[:, p, p] ** 2
        value = -0.5 * (self.freedom * (1 + np.log(2 * np.pi * quadratic / self.freedom)) + log_det)
        if self.reml:
            value = value - np.log(np.diagonal(lower, axis1=1, axis2=2)[:, :p]).sum(axis=1)
        e = np.ones((len(gram), p + 1))
        e[:, :p] = -(half.transpose(0, 2, 1) @ lower[:, p, :p, None])[:, :, 0]
        value = np.where(bad, -np.inf, value + self.products.log_weights)
        return value, np.asarray(quadratic), e, np.asarray(half.transpose(0, 2, 1) @ half)

    @np.errstate(all="ignore")
    def at(self, theta: FloatArray, which: IntArray) -> Points:
        """Criterion, gradient and Hessian at elements of factors (B, d), for the responses of these indices (B,).

        The formulas are those of :func:`unimix.likelihood.lmm.derivatives.curvature`, with q_a = y'P V_a P y,
        Q_ab = y'P V_a P V_b P y and f the degrees of freedom.
        """
        moments = self.moments(self.factors(theta), which)
        value, quadratic, e, cov = self._profiled(moments.gram, moments.log_det)
        b, c, p = len(theta), len(self.cells), self.products.p
        t, tt, a, aa = moments.t, moments.tt, moments.a, moments.aa
        ax = (a @ e[:, None, :, None])[..., 0]
        q = (ax @ e[..., None])[..., 0]
        xy = ax[..., :p]
        quad = np.einsum("barcs,br,bs->bac", aa, e, e) - xy @ cov @ xy.transpose(0, 2, 1)
        if self.reml:
            turned = a[..., :p, :p] @ cov[:, None]
            t = t - np.trace(turned, axis1=2, axis2=3)
            tt = tt - 2.0 * np.einsum("barcs,bsr->bac", aa[:, :, :p, :, :p], cov)
            tt = tt + turned.reshape(b, c, -1) @ turned.transpose(0, 3, 2, 1).reshape(b, -1, c)
        ratio = (self.freedom / quadratic)[:, None]
        by_cell = -0.5 * t + 0.5 * ratio * q
        by_cells = 0.5 * tt - ratio[..., None] * quad
        by_cells += 0.5 * (ratio / quadratic[:, None])[..., None] * q[:, :, None] * q[:, None, :]
        jacobian = (theta @ self._bends).transpose(1, 0, 2)
        gradient = (by_cell[:, None] @ jacobian)[:, 0]
        hessian = jacobian.transpose(0, 2, 1) @ by_cells @ jacobian + np.tensordot(by_cell, self._bends, axes=1)
        return Points(theta, value, by_cell, gradient, (hessian + hessian.transpose(0, 2, 1)) / 2)

    def by_covariance(self, by_cell: FloatArray) -> list[FloatArray]:
        """Convert derivatives in the cells at one point (d,) to symmetric G_k (q, q) with dl = sum_k tr G_k dD_k."""
        slopes = [np.zeros((q, q)) for q, _ in self.products.sizes]
        for slope, (k, i, j) in zip(by_cell, self.cells, strict=True):
            slopes[k][i, j] = slopes[k][j, i] = slope if i == j else 0.5 * slope
        return slopes


class OneFactor(SmallModel):
    """Model with one grouping factor: V^-1 is block diagonal, and arrays hold the levels of all points side by side."""

    def __init__(self, responses: Sequence[Products], *, reml: bool) -> None:
        super().__init__(responses, reml=reml)
        self._u = np.stack([data.u for data in responses], axis=1)
        self._within = np.stack([data.within for data in responses])

    def _whitened(
        self, factors: Sequence[FloatArray], which: IntArray
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Compute R with R'R = (I + C'DC)^-1 (q, q, B, L), R u (q, B, L, r), [X y]'V^-1 [X y] and log|V|."""
        data = self.products
        q, levels, b = len(data.c), data.c.shape[2], len(factors[0])
        whole, start = np.zeros((b, q, q)), 0
        for k in data.first:
            stop = start + data.sizes[k][0]
            whole[:, start:stop, start:stop] = factors[k]
            start = stop
        turned = whole.transpose(0, 2, 1) @ data.c.reshape(q, q * levels)
        turned = turned.reshape(b, q, q, levels).transpose(1, 2, 0, 3).reshape(q, q, b * levels)
        inner = matmul(turned.transpose(1, 0, 2), turned)
        inner.reshape(q * q, -1)[:: q + 1] += 1.0
        bad = ~np.isfinite(inner).all(axis=(0, 1))
        inner[:, :, bad] = np.eye(q)[:, :, None]
        root = inverse_factor(inner)[0].reshape(q, q, b, levels)
        log_det = -2.0 * np.log(np.diagonal(root)).sum(axis=(1, 2))
        right = per_level(root.reshape(q, q, -1), self._u[:, which].reshape(q, b * levels, -1))
        right = right.reshape(q, b, levels, -1)
        flat = right.transpose(1, 0, 2, 3).reshape(b, q * levels, -1)
        gram = self._within[which] + flat.transpose(0, 2, 1) @ flat
        return root, right, gram, np.where(bad.reshape(b, levels).any(axis=1), np.inf, log_det)

    def grams(self, factors: Sequence[FloatArray], which: IntArray) -> tuple[FloatArray, FloatArray]:
        """Compute [X y]'V^-1 [X y] and log|V|; see :class:`SmallModel`."""
        return self._whitened(factors, which)[2:]

    @cached_property
    def _units(self) -> FloatArray:
        """Matrices E_a = dD / dD_a of the stacked columns of a level, shape (d, q, q)."""
        first, sizes = self.products.first, self.products.sizes
        starts = {k: sum(sizes[other][0] for other in first[:place]) for place, k in enumerate(first)}
        units = np.zeros((len(self.cells), len(self.products.c), len(self.products.c)))
        for a, (k, i, j) in enumerate(self.cells):
            units[a, starts[k] + i, starts[k] + j] = units[a, starts[k] + j, starts[k] + i] = 1.0
        return units

    def moments(self, factors: Sequence[FloatArray], which: IntArray) -> StackedMoments:
        """Compute the moments of V^-1 from H_l = (R C')'(R C') and h_l = C R'R u per level."""
        root, right, gram, log_det = self._whitened(factors, which)
        c, units = self.products.c, self._units
        q, levels = len(c), c.shape[2]
        b, d, r = len(gram), len(units), right.shape[3]
        flat_root = root.reshape(q, q, -1)
        half = per_level(flat_root, right.reshape(q, b * levels, r), transpose=True).reshape(q, b, levels, r)
        h = np.stack([sum(c[i, j][:, None] * half[j] for j in range(q)) for i in range(q)])  # (q, B, L, r)
        w = matmul(flat_root, np.tile(c.transpose(1, 0, 2), (1, 1, b)))  # R C', (q, q, B L)
        within = matmul(np.ascontiguousarray(w.transpose(1, 0, 2)), w).reshape(q * q, b, levels).transpose(1, 0, 2)
        cells_of = units.reshape(d, q * q)
        t = within.sum(axis=2) @ cells_of.T
        twice = (within @ within.transpose(0, 2, 1)).reshape(b, q, q, q, q)
        tt = cells_of @ twice.transpose(0, 4, 1, 2, 3).reshape(b, q * q, q * q) @ cells_of.T
        by_point = h.transpose(1, 0, 3, 2).reshape(b, q * r, levels)
        outer = (by_point @ by_point.transpose(0, 2, 1)).reshape(b, q, r, q, r)
        a = np.einsum("dij,birjs->bdrs", units, outer)
        moved = np.tensordot(units, h, axes=([2], [0]))  # E_a h, (d, q, B, L, r)
        w4 = w.reshape(q, q, b, levels)
        joint = np.stack([sum(w4[i, j][..., None] * moved[:, j] for j in range(q)) for i in range(q)])
        flat = joint.transpose(2, 0, 3, 1, 4).reshape(b, q * levels, d * r)
        aa = (flat.transpose(0, 2, 1) @ flat).reshape(b, d, r, d, r)
        return StackedMoments(gram, log_det, t, tt, a, aa)


class SeveralFactors(SmallModel):
    """Model with several grouping factors and few effects, in dense matrices.

    The reduced data form an ordinary least-squares problem with few rows, R = [Z X y], where R'R are the cross-products
    of all columns. With U = Z L and A = I + U'U, the ridge regression S = A^-1 U'R of all columns on U gives

        R'V^-1 R = (R - U S)'(R - U S) + S'S,   log|V| = log|A|,

    which are sums of squares without cancellation. R'V^-1 R contains H = Z'V^-1 Z, h = Z'V^-1 [X y] and
    [X y]'V^-1 [X y], from which all moments follow: with V_a = Z E_a Z',

        tr V^-1 V_a = tr E_a H,   tr V^-1 V_a V^-1 V_b = tr E_a H E_b H,   R'V^-1 V_a V^-1 V_b V^-1 R = h'E_a H E_b h.
    """

    def __init__(self, responses: Sequence[Products], *, reml: bool) -> None:
        super().__init__(responses, reml=reml)
        self._starts = np.cumsum([0, *(q * levels for q, levels in self.products.sizes)])
        stacked = [self._stacked_rows(data) for data in responses]
        n = max(len(z) for z, _ in stacked)
        self._z, self._right = (np.stack([_padded(rows[k], n) for rows in stacked]) for k in (0, 1))

    @property
    def m(self) -> int:
        """Number of group effects."""
        return int(self._starts[-1])

    def _stacked_rows(self, data: Products) -> tuple[FloatArray, FloatArray]:
        """Matrices Z (N, m) and [X y] (N, p + 1): coordinates within the first factor, then a root of the rest."""
        q, levels = len(data.c), data.c.shape[2]
        r, rest = data.p + 1, data.m
        upper = np.zeros((q * levels, self.m))
        row = np.arange(q)[:, None] * levels + np.arange(levels)
        column = 0
        for k in data.first:
            size = data.sizes[k][0]
            for j in range(size):
                upper[row, self._starts[k] + np.arange(levels) * size + j] = data.c[column]
                column += 1
        columns = [np.arange(self._starts[k], self._starts[k + 1]) for k in data.rest]
        others = np.concatenate([np.empty(0, dtype=np.int64), *columns])
        upper[:, others] = data.u2.toarray() if sparse.issparse(data.u2) else data.u2
        within2 = data.within2.toarray() if sparse.issparse(data.within2) else data.within2
        gram = np.block([[within2, data.within_right], [data.within_right.T, data.within]])
        above = np.concatenate([upper[:, others], data.u.reshape(q * levels, r)], axis=1)
        remaining = np.diag(gram)
        whole = remaining + (above**2).sum(axis=0)
        unit = np.sqrt(np.where(remaining > NOTHING * whole, remaining, np.where(whole > 0, whole, 1.0)))
        values, vectors = np.linalg.eigh(gram / np.outer(unit, unit))
        kept = values > RANK * max(float(values[-1]), 0.0)
        root = np.sqrt(values[kept])[:, None] * vectors[:, kept].T * unit
        lower = np.zeros((len(root), self.m))
        lower[:, others] = root[:, :rest]
        right = np.concatenate([data.u.reshape(q * levels, r), root[:, rest:]])
        return np.concatenate([upper, lower]), right

    @cached_property
    def _sources(self) -> IntArray:
        """Indices of the rows of H that form E_a H for each cell a, shape (d, m); index m is a row of zeros."""
        sources = np.full((len(self.cells), self.m), self.m)
        for a, (k, i, j) in enumerate(self.cells):
            q, levels = self.products.sizes[k]
            first = self._starts[k] + np.arange(levels) * q
            sources[a, first + i], sources[a, first + j] = first + j, first + i
        return sources

    def _of(self, rows: FloatArray, which: IntArray) -> FloatArray:
        """Rows of each point's response, shape (B, N, ...); of shape (1, N, ...) if there is one response."""
        return rows if len(rows) == 1 else rows[which]

    def _spread(self, factors: Sequence[FloatArray], z: FloatArray) -> FloatArray:
        """Compute U = Z L, shape (B, N, m)."""
        n, parts = z.shape[1], []
        for k, (q, levels) in enumerate(self.products.sizes):
            block = z[:, :, self._starts[k] : self._starts[k + 1]].reshape(len(z), n * levels, q)
            turned = block @ factors[k] if q > 1 else block * factors[k]
            parts.append(turned.reshape(len(turned), n, levels * q))
        return np.concatenate(parts, axis=2)

    def _inner(self, factors: Sequence[FloatArray], z: FloatArray, right: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Compute R'V^-1 R (B, r, r) and log|V| (B,) from Z (B, N, m) and R (B, N, r)."""
        u = self._spread(factors, z)
        turned = u.transpose(0, 2, 1)
        inside = turned @ u
        inside.reshape(len(u), -1)[:, :: u.shape[2] + 1] += 1.0
        bad = ~np.isfinite(inside).all(axis=(1, 2))
        inside[bad] = np.eye(u.shape[2])
        lower = np.linalg.cholesky(inside)
        log_det = 2.0 * np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(axis=1)
        solved = np.linalg.solve(inside, turned @ right)
        rest = right - u @ solved
        gram = rest.transpose(0, 2, 1) @ rest + solved.transpose(0, 2, 1) @ solved
        return gram, np.where(bad, np.inf, log_det)

    def grams(self, factors: Sequence[FloatArray], which: IntArray) -> tuple[FloatArray, FloatArray]:
        """Compute [X y]'V^-1 [X y] and log|V|; see :class:`SmallModel`."""
        return self._inner(factors, self._of(self._z, which), self._of(self._right, which))

    def moments(self, factors: Sequence[FloatArray], which: IntArray) -> StackedMoments:
        """Compute the moments of V^-1 from H and h; see :class:`SmallModel`."""
        z, right = self._of(self._z, which), self._of(self._right, which)
        m, r, d = self.m, self.products.p + 1, len(self.cells)
        whole, log_det = self._inner(factors, z, np.concatenate([z, right], axis=2))
        b = len(whole)
        padded = np.concatenate([whole[:, :m], np.zeros((b, 1, whole.shape[2]))], axis=1)
        moved = padded[:, self._sources]  # E_a [H h], shape (B, d, m, m + r)
        between, right = moved[..., :m], moved[..., m:]
        t = np.trace(between, axis1=2, axis2=3)
        tt = between.reshape(b, d, -1) @ between.transpose(0, 3, 2, 1).reshape(b, -1, d)
        flat = right.transpose(0, 2, 1, 3).reshape(b, m, -1)
        a = (whole[:, :m, m:].transpose(0, 2, 1) @ flat).reshape(b, r, d, r).transpose(0, 2, 1, 3)
        aa = (flat.transpose(0, 2, 1) @ (whole[:, :m, :m] @ flat)).reshape(b, d, r, d, r)
        return StackedMoments(whole[:, m:, m:], log_det, t, tt, a, aa)


def _padded(rows: FloatArray, n: int) -> FloatArray:
    """Rows with rows of zeros below, n in all, which change no sum of squares."""
    return np.concatenate([rows, np.zeros((n - len(rows), rows.shape[1]))])
