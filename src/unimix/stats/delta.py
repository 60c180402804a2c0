"""Smooth functions of estimates and their gradients: averages of expected responses, and comparisons of two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse, special

from unimix.distributions.family import Family
from unimix.distributions.links import LINKS
from unimix.distributions.ordered import refuse_categories
from unimix.distributions.random_responses import mean_of
from unimix.likelihood.lmm.batched_linalg import null_space
from unimix.stats.inference import is_unbounded

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

CHUNK = 5_000_000
"""Largest number of draws times rows in memory at once."""


@dataclass(frozen=True)
class Averages:
    """Weighted averages of n rows within m groups, as a sparse matrix (m, n) with row sums of one."""

    matrix: sparse.csr_matrix

    @classmethod
    def of(cls, codes: IntArray, weights: FloatArray, m: int) -> Averages:
        """Make the averages from the group and the weight of each row, shapes (n,)."""
        share = weights / np.bincount(codes, weights, minlength=m)[codes]
        return cls(sparse.csr_matrix((share, (codes, np.arange(len(codes)))), shape=(m, len(codes))))

    def __call__(self, values: FloatArray) -> FloatArray:
        """Average values (n, ...) within groups, shape (m, ...)."""
        return np.asarray(self.matrix @ values)


@dataclass(frozen=True)
class Linear:
    """Linear predictors of n rows: x beta + offset, with x (n, p) and offset (n,)."""

    x: FloatArray
    offset: FloatArray

    def at(self, beta: FloatArray) -> FloatArray:
        """Linear predictors, shape (n,) for coefficients (p,), and shape (n, S) for draws (S, p)."""
        values = self.x @ beta.T
        return np.asarray(values + (self.offset if values.ndim == 1 else self.offset[:, None]))


def mean_gradient(family: Family, rows: Linear, beta: FloatArray, averages: Averages) -> tuple[FloatArray, FloatArray]:
    """Averages of expected responses, shape (m,), and their derivatives with respect to the coefficients, (m, p)."""
    eta = rows.at(beta)
    slope = LINKS[family.link].slope(eta)
    return averages(mean_of(family, eta)), averages(slope[:, None] * rows.x)


def slope_gradient(
    family: Family, rows: Linear, change: Linear, beta: FloatArray, averages: Averages
) -> tuple[FloatArray, FloatArray]:
    """Averages of slopes d mu / d x = g^-1'(eta) d eta / d x, shape (m,), and their derivatives, shape (m, p).

    Args:
        family: Family of the response.
        rows: Linear predictors.
        change: Derivatives of the linear predictors with respect to x.
        beta: Coefficients, shape (p,).
        averages: Averages over the rows.
    """
    refuse_categories(family)
    link = LINKS[family.link]
    eta, rate = rows.at(beta), change.at(beta)
    slope = link.slope(eta)
    turned = (link.curvature(eta) * rate)[:, None] * rows.x + slope[:, None] * change.x
    return averages(slope * rate), averages(turned)


def over_draws(function: Callable[[FloatArray], FloatArray], draws: FloatArray, n: int) -> FloatArray:
    """Apply a function from draws (s, p) to values (m, s) to all S draws in pieces; the result has shape (S, m)."""
    size = max(1, CHUNK // max(n, 1))
    return np.concatenate([function(draws[i : i + size]).T for i in range(0, len(draws), size)])


def compare(kind: str, high: FloatArray, low: FloatArray) -> FloatArray:
    """Compare expected responses by ``difference``, ``log_ratio`` or ``log_odds_ratio``, in their shape."""
    if kind == "log_ratio":
        return np.asarray(np.log(high) - np.log(low))
    if kind == "log_odds_ratio":
        return np.asarray(special.logit(high) - special.logit(low))
    return high - low


def compare_slopes(kind: str, high: FloatArray, low: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Derivatives of :func:`compare` with respect to each of the two responses."""
    if kind == "log_ratio":
        return 1.0 / high, -1.0 / low
    if kind == "log_odds_ratio":
        return 1.0 / (high * (1.0 - high)), -1.0 / (low * (1.0 - low))
    return np.ones_like(high), -np.ones_like(low)


def normal_draws(mean: FloatArray, covariance: FloatArray, n: int) -> FloatArray:
    """Normal draws, shape (n, p), whose sample mean and covariance matrix are exactly the given ones."""
    standard = np.random.default_rng(0).standard_normal((n, len(mean)))
    standard -= standard.mean(axis=0)
    root = np.linalg.cholesky(np.atleast_2d(np.cov(standard.T)))
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(mean + np.linalg.solve(root, standard.T).T @ (vectors * np.sqrt(np.maximum(values, 0.0))).T)


def delta_error(gradient: FloatArray, covariance: FloatArray) -> FloatArray:
    """Standard errors of m functions by the delta method, shape (m,).

    Args:
        gradient: Derivatives of the functions with respect to the estimates, shape (m, p).
        covariance: Covariance matrix of the estimates, shape (p, p).
    """
    return np.asarray(np.sqrt(np.maximum(np.einsum("mp,mp->m", gradient @ covariance, gradient), 0.0)))


@dataclass(frozen=True)
class Span:
    """Space of the fitted rows of linearly dependent columns, which decides whether other rows lie in it.

    Attributes:
        size: Root mean square of the columns, shape (k,).
        null: Null space of the fitted rows, in columns divided by ``size``, shape (k, d).
    """

    size: FloatArray
    null: FloatArray

    @classmethod
    def of(cls, x: FloatArray) -> Span:
        """Make the space of fitted columns, shape (n, k)."""
        size = np.sqrt(np.mean(x**2, axis=0))
        size = np.where(size > 0, size, 1.0)
        return cls(size, (null_space(x) * size).T)

    def lacks(self, rows: FloatArray) -> npt.NDArray[np.bool_]:
        """Mask, shape (m,), of rows (m, k) outside the space, which the estimates do not determine."""
        return is_unbounded(rows / self.size, self.null.T, np.ones(len(self.size)), tolerance=1e-5)

    def outside(self, rows: FloatArray) -> FloatArray:
        """Components of rows (m, k) outside the space, shape (m, d)."""
        return np.asarray((rows / self.size) @ self.null)
