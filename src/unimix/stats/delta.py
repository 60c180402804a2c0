"""Smooth functions of estimates with their gradients: averages of expected responses, and what compares two of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse, special

from unimix.distributions.family import Family
from unimix.distributions.links import LINKS
from unimix.distributions.sampling import mean_of

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

CHUNK = 5_000_000
"""Numbers of draws times rows that are held at once."""


@dataclass(frozen=True)
class Averages:
    """Weighted averages of n rows within m groups, as a sparse matrix (m, n) whose rows sum to one."""

    matrix: sparse.csr_matrix

    @classmethod
    def of(cls, codes: IntArray, weights: FloatArray, m: int) -> Averages:
        """From the group of each row and its weight, shapes (n,)."""
        share = weights / np.bincount(codes, weights, minlength=m)[codes]
        return cls(sparse.csr_matrix((share, (codes, np.arange(len(codes)))), shape=(m, len(codes))))

    def __call__(self, values: FloatArray) -> FloatArray:
        """Averages of values (n, ...), shape (m, ...)."""
        return np.asarray(self.matrix @ values)


@dataclass(frozen=True)
class Linear:
    """Linear predictors of n rows: x beta + offset, with x (n, p) and offset (n,)."""

    x: FloatArray
    offset: FloatArray

    def at(self, beta: FloatArray) -> FloatArray:
        """For coefficients (p,), shape (n,); for draws (S, p), shape (n, S)."""
        made = self.x @ beta.T
        return np.asarray(made + (self.offset if made.ndim == 1 else self.offset[:, None]))


def mean_gradient(family: Family, rows: Linear, beta: FloatArray, averages: Averages) -> tuple[FloatArray, FloatArray]:
    """Average expected responses, shape (m,), and their derivatives by the coefficients, shape (m, p)."""
    eta = rows.at(beta)
    slope = LINKS[family.link].slope(eta)
    return averages(mean_of(family, eta)), averages(slope[:, None] * rows.x)


def slope_gradient(
    family: Family, rows: Linear, change: Linear, beta: FloatArray, averages: Averages
) -> tuple[FloatArray, FloatArray]:
    """Average of d mu / d x = g^-1'(eta) d eta / d x, shape (m,), and its derivatives, shape (m, p).

    Args:
        family: Of the response.
        rows: Linear predictors.
        change: Their derivatives by x.
        beta: Shape (p,).
        averages: Of the rows.
    """
    link = LINKS[family.link]
    eta, rate = rows.at(beta), change.at(beta)
    slope = link.slope(eta)
    turned = (link.curvature(eta) * rate)[:, None] * rows.x + slope[:, None] * change.x
    return averages(slope * rate), averages(turned)


def over_draws(function: Callable[[FloatArray], FloatArray], draws: FloatArray, n: int) -> FloatArray:
    """Apply a function of draws (s, p), with values (m, s), to all of them by pieces; shape (S, m)."""
    size = max(1, CHUNK // max(n, 1))
    return np.concatenate([function(draws[i : i + size]).T for i in range(0, len(draws), size)])


def compare(kind: str, high: FloatArray, low: FloatArray) -> FloatArray:
    """difference, log_ratio or log_odds_ratio of expected responses, in their shape."""
    if kind == "log_ratio":
        return np.asarray(np.log(high) - np.log(low))
    if kind == "log_odds_ratio":
        return np.asarray(special.logit(high) - special.logit(low))
    return high - low


def compare_slopes(kind: str, high: FloatArray, low: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Derivatives of :func:`compare` by either response."""
    if kind == "log_ratio":
        return 1.0 / high, -1.0 / low
    if kind == "log_odds_ratio":
        return 1.0 / (high * (1.0 - high)), -1.0 / (low * (1.0 - low))
    return np.ones_like(high), -np.ones_like(low)


def normal_draws(mean: FloatArray, covariance: FloatArray, n: int) -> FloatArray:
    """Draws of a normal distribution whose own mean and covariance matrix are exactly those given, shape (n, p)."""
    standard = np.random.default_rng(0).standard_normal((n, len(mean)))
    standard -= standard.mean(axis=0)
    own = np.linalg.cholesky(np.atleast_2d(np.cov(standard.T)))
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(mean + np.linalg.solve(own, standard.T).T @ (vectors * np.sqrt(np.maximum(values, 0.0))).T)


def delta_error(gradient: FloatArray, covariance: FloatArray) -> FloatArray:
    """Standard errors of m functions by the delta method, shape (m,).

    Args:
        gradient: Shape (m, p).
        covariance: Of the p estimates.
    """
    return np.asarray(np.sqrt(np.maximum(np.einsum("mp,mp->m", gradient @ covariance, gradient), 0.0)))


@dataclass(frozen=True)
class Span:
    """Which rows of columns (n, k) that depend on each other are combinations of those that were fitted.

    Attributes:
        size: Root mean square of the columns, shape (k,).
        null: Directions that the fitted rows do not see, in columns of that unit, shape (k, d).
    """

    size: FloatArray
    null: FloatArray

    @classmethod
    def of(cls, x: FloatArray) -> Span:
        """Of fitted columns, shape (n, k)."""
        size = np.sqrt(np.mean(x**2, axis=0))
        size = np.where(size > 0, size, 1.0)
        values, vectors = np.linalg.eigh((x / size).T @ (x / size) / len(x))
        return cls(size, np.asarray(vectors[:, values <= 1e-12 * values.max(initial=0.0)]))

    def lacks(self, rows: FloatArray) -> npt.NDArray[np.bool_]:
        """Which rows (m, k) are no combination, so that the estimates do not determine them, shape (m,)."""
        unit = rows / self.size
        off = np.linalg.norm(unit @ self.null, axis=1)
        return np.asarray(off > 1e-5 * np.linalg.norm(unit, axis=1))
