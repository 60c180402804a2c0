"""Gaussian mixed models with group and fixed effects integrated out, at many sets of covariance parameters at once.

With V = I + sum_k Z_k F_k F_k' Z_k' / sigma^2 relative to sigma^2 and a normal prior of precision P and mean m,

    log p(y | F, sigma) = const - n log sigma - log|V| / 2 - y'V^-1 y / (2 sigma^2)
                          + (log|P| - log|A| - m'Pm + b'A^-1 b) / 2,
    A = X'V^-1 X / sigma^2 + P,   b = X'V^-1 y / sigma^2 + P m,

and beta given y, F and sigma is normal with mean A^-1 b and covariance A^-1 (Gelman et al., Bayesian Data Analysis, 3rd
ed., section 14.8).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.linalg import lapack

from unimix.design.arrays import Design
from unimix.likelihood.lmm.batched_linalg import inverse_factor, per_level
from unimix.likelihood.lmm.penalised_least_squares import matmul, state_at
from unimix.likelihood.lmm.reduced_data import Matrix, Products, form
from unimix.likelihood.posterior.nested import nest_of, with_outer

FloatArray = npt.NDArray[np.float64]
Room: TypeAlias = tuple[FloatArray, FloatArray, FloatArray]
"""Memory for the columns of the other factors and two of their cross-products, shapes (S, q * L, m) and (S, m, m)."""

_LOG_2PI = float(np.log(2 * np.pi))
MOST_DENSE = 200
"""Number of effects of the other factors up to which one dense matrix per point is faster than pieces."""
LARGEST = 300_000
"""Largest size of the matrix of the other factors' columns, in numbers, that is stored as dense."""
AT_ONCE = 150_000
"""Size of one array in numbers; beyond a processor's cache the same work takes three times as long."""


@dataclass(frozen=True)
class Moments:
    """Cross-products [X y]'V^-1 [X y] and log|V| at S points.

    Attributes:
        gram: Cross-products [X y]'V^-1 [X y], shape (S, p + 1, p + 1).
        log_det: Log determinants log|V|, shape (S,).
    """

    gram: FloatArray
    log_det: FloatArray


def _plain(products: Products) -> Products:
    """Convert the matrices to dense ones if those of all points together are small."""
    if not sparse.issparse(products.u2) or products.m > MOST_DENSE or products.u2.shape[0] * products.m > LARGEST:
        return products
    return replace(products, u2=products.u2.toarray(), within2=_dense(products.within2), pieces=None)


def _dense(a: Matrix) -> FloatArray:
    return np.asarray(a.toarray() if sparse.issparse(a) else a)


class Reduced:
    """Linear mixed model reduced to the quantities that its likelihood needs.

    Args:
        design: Gaussian design without an offset.
    """

    def __init__(self, design: Design) -> None:
        self.n, self.p = design.n, design.p
        weights = np.ones(design.n) if design.weights is None else design.weights
        self.constant = float(-0.5 * design.n * _LOG_2PI + 0.5 * np.log(weights).sum())
        right = np.sqrt(weights)[:, None] * np.column_stack([design.x, design.y])
        self.plain = right.T @ right
        self.products: Products | None = _plain(form(design)) if design.blocks else None
        self._nest = None if self.products is None else nest_of(self.products)

    def moments(self, factors: Sequence[FloatArray], sigma: FloatArray) -> Moments:
        """Compute the moments at factors (S, q, q) per block and sigma (S,)."""
        total = len(sigma)
        if self.products is None:
            return Moments(np.broadcast_to(self.plain, (total, *self.plain.shape)), np.zeros(total))
        relative = [f / sigma[:, None, None] for f in factors]
        parts = list(self._parts(total))
        room = self._room(max((part.stop - part.start for part in parts), default=0))
        found = [self._part([f[part] for f in relative], room) for part in parts]
        return Moments(np.concatenate([g for g, _ in found]), np.concatenate([d for _, d in found]))

    def _parts(self, total: int) -> Iterator[slice]:
        products = self.products
        assert products is not None  # noqa: S101  asked for where there are blocks only
        q, levels, r = products.u.shape
        others = products.m if self._nest is None else self._nest.q2
        size = max(1, AT_ONCE // max(q * levels * (r + others), 1))
        for start in range(0, total, size):
            yield slice(start, min(start + size, total))

    def _room(self, count: int) -> Room:
        """Arrays that all parts of a call fill, since new memory costs as much time as the arithmetic in it."""
        products = self.products
        assert products is not None  # noqa: S101  asked for where there are blocks only
        q, levels = products.c.shape[1:]
        m = 0 if self._nest is not None or sparse.issparse(products.u2) else products.m
        return np.empty((count, q * levels, m)), np.empty((count, m, m)), np.empty((count, m, m))

    def _part(self, relative: list[FloatArray], room: Room) -> tuple[FloatArray, FloatArray]:
        products = self.products
        assert products is not None  # noqa: S101  asked for where there are blocks only
        count = len(relative[0])
        if products.rest and sparse.issparse(products.u2) and self._nest is None:
            states = [state_at(products, [f[s] for f in relative], whole=False) for s in range(count)]
            return np.array([s.gram for s in states]), np.array([s.log_det for s in states])
        q, levels = len(products.c), products.c.shape[2]
        stacked = np.zeros((count, q, q))
        at = 0
        for k in products.first:
            size = products.sizes[k][0]
            stacked[:, at : at + size, at : at + size] = relative[k]
            at += size
        turned = np.einsum("sai,abl->ibsl", stacked, products.c).reshape(q, q, count * levels)
        inner = matmul(turned.transpose(1, 0, 2), turned)
        inner.reshape(q * q, count * levels)[:: q + 1] += 1.0
        root, _ = inverse_factor(inner)
        diagonal = np.einsum("iik->ik", root).prod(axis=0)
        log_det = -2.0 * np.log(diagonal).reshape(count, levels).sum(axis=1)
        r = products.u.shape[2]
        spread = np.broadcast_to(products.u[:, None], (q, count, levels, r)).reshape(q, count * levels, r)
        right = per_level(root, spread).reshape(q, count, levels, r)
        flat = np.ascontiguousarray(right.transpose(1, 0, 2, 3)).reshape(count, q * levels, r)
        gram = products.within + flat.swapaxes(1, 2) @ flat
        if not products.rest:
            return gram, log_det
        root = root.reshape(q, q, count, levels)
        if self._nest is not None:
            return with_outer(self._nest, root, right, relative, gram, log_det)
        return self._with_rest(root, flat, relative, gram, log_det, room)

    def _with_rest(
        self,
        root: FloatArray,
        flat: FloatArray,
        relative: list[FloatArray],
        gram: FloatArray,
        log_det: FloatArray,
        room: Room,
    ) -> tuple[FloatArray, FloatArray]:
        """Extend V_1^-1 to V^-1 by the effects of the other factors, with one dense matrix per point."""
        products = self.products
        assert products is not None  # noqa: S101  asked for where there are blocks only
        q, _, count, levels = root.shape
        m, r = products.m, flat.shape[2]
        columns = np.moveaxis(products.u2.reshape(q, levels, m), 1, 0)
        between, s22, turned = (a[:count] for a in room)
        # rows by level, then column, in contrast to `flat`: the large array is written once
        np.matmul(np.moveaxis(root, (2, 3), (0, 1)), columns, out=between.reshape(count, levels, q, m))
        own = flat.reshape(count, q, levels, r).swapaxes(1, 2).reshape(count, levels * q, r)
        np.matmul(between.swapaxes(1, 2), between, out=s22)
        s22 += products.within2
        s2r = products.within_right + between.swapaxes(1, 2) @ own
        # F'S22 F + I and F'S2r, where F has the same small matrix for all levels of a factor
        right = np.empty_like(s2r)
        inside = s22  # the first product is turned back into it
        for k, part in products.parts_of_rest():
            shape = (count, products.sizes[k][1], products.sizes[k][0])
            back = relative[k].swapaxes(1, 2)[:, None]
            turned[:, part] = np.matmul(back, s22[:, part].reshape(*shape, m)).reshape(count, -1, m)
            right[:, part] = np.matmul(back, s2r[:, part].reshape(*shape, r)).reshape(count, -1, r)
        for k, part in products.parts_of_rest():
            rows = np.matmul(turned[:, :, part].reshape(count, -1, products.sizes[k][0]), relative[k])
            inside[:, :, part] = rows.reshape(count, m, -1)
        inside.reshape(count, m * m)[:, :: m + 1] += 1.0
        more = np.empty(count)
        for s in range(count):
            # LL' = F'S22 F + I and L^-1 F'S2r in place; LAPACK reads the transpose
            upper, fault = lapack.dpotrf(inside[s].T, lower=0, clean=0, overwrite_a=1)
            if fault:
                raise np.linalg.LinAlgError("the matrix of the other factors is not positive definite")
            right[s], _ = lapack.dtrtrs(upper, right[s], lower=0, trans=1)
            more[s] = 2.0 * np.log(np.diagonal(upper)).sum()
        return gram - right.swapaxes(1, 2) @ right, log_det + more


@dataclass(frozen=True)
class NormalPrior:
    """Normal prior of the fixed effects.

    Attributes:
        precision: Precision matrix P, shape (p, p).
        linear: Product P m with the prior mean m, shape (p,).
    """

    precision: FloatArray
    linear: FloatArray

    @classmethod
    def of_functionals(cls, rows: FloatArray, means: FloatArray, sds: FloatArray) -> NormalPrior:
        """Prior with p independent normal linear functionals a'beta.

        Args:
            rows: Functionals a, one per row, shape (p, p).
            means: Prior means of the functionals, shape (p,).
            sds: Prior standard deviations of the functionals, shape (p,).
        """
        scaled = rows / sds[:, None]
        return cls(scaled.T @ scaled, scaled.T @ (means / sds))

    def log_likelihood(self, reduced: Reduced, moments: Moments, sigma: FloatArray) -> FloatArray:
        """Log p(y) with the fixed effects integrated out, shape (S,)."""
        p = reduced.p
        precision, linear = self._given(moments, sigma)
        lower = np.linalg.cholesky(precision)
        half = np.linalg.solve(lower, linear[:, :, None])[:, :, 0]
        diagonal = np.einsum("sii->si", lower)
        mean = np.linalg.solve(self.precision, self.linear) if p else np.empty(0)
        value = reduced.constant - reduced.n * np.log(sigma) - 0.5 * moments.log_det
        value = value - 0.5 * moments.gram[:, p, p] / sigma**2 - np.log(diagonal).sum(axis=1)
        prior = 0.5 * float(np.linalg.slogdet(self.precision)[1]) - 0.5 * float(self.linear @ mean)
        return np.asarray(value + prior + 0.5 * np.sum(half**2, axis=1))

    def draw(self, moments: Moments, sigma: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Draw the fixed effects given y and each set of covariance parameters, shape (S, p)."""
        precision, linear = self._given(moments, sigma)
        lower = np.linalg.cholesky(precision)
        half = np.linalg.solve(lower, linear[:, :, None]) + rng.standard_normal((*linear.shape, 1))
        return np.asarray(np.linalg.solve(lower.swapaxes(1, 2), half)[:, :, 0])

    def _given(self, moments: Moments, sigma: FloatArray) -> tuple[FloatArray, FloatArray]:
        p, scale = len(self.linear), sigma[:, None] ** 2
        return (
            moments.gram[:, :p, :p] / scale[:, :, None] + self.precision,
            moments.gram[:, :p, p] / scale + self.linear,
        )


def log_likelihood_at(reduced: Reduced, moments: Moments, sigma: FloatArray, beta: FloatArray) -> FloatArray:
    """Log p(y | beta), shape (S,), for fixed effects (S, p)."""
    e = np.concatenate([-beta, np.ones((len(beta), 1))], axis=1)
    quadratic = np.einsum("sa,sab,sb->s", e, moments.gram, e)
    return np.asarray(reduced.constant - reduced.n * np.log(sigma) - 0.5 * moments.log_det - 0.5 * quadratic / sigma**2)


__all__ = ["Moments", "NormalPrior", "Reduced", "log_likelihood_at"]
