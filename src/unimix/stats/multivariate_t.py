"""The largest of several correlated t statistics: p values and quantiles.

Write the m statistics as ``T_i = a_i'u r / s``: unit rows a_i of a root of the correlation matrix (rank k), u uniform
on the sphere in k dimensions, r ~ chi_k, and s^2 ~ chi2_df / df, or s = 1 for infinitely many degrees of freedom. T_i
is the largest in size if u lies in a cone around a_i or -a_i. In a direction v that is perpendicular to a_i, the cone
ends at the angle theta_i(v) with

    1 / tan theta_i(v) = max_j max(a_j'v / (1 - a_i'a_j), -a_j'v / (1 + a_i'a_j)).

With theta the angle between a_i and u, ``|T_i| > t`` means ``r / s > t / cos theta``. Therefore

    P(max_i |T_i| > t) = sum_i E_v P(|T_i| > t, theta < theta_i(v)),

where each probability is an integral of ``sin(theta)^(k-2) P(r / s > t / cos theta)`` over theta. No term exceeds
``P(|T_i| > t)``: the sum obeys Bonferroni's bound, and is accurate however small it is (the volume of tubes: Sun 1993,
Ann. Probab. 21:34). Only the mean over v is found by sampling, from one sample for every t and df, on randomly shifted
lattices (Genz & Bretz 2009, Computation of Multivariate Normal and t Probabilities, section 4.2).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from unimix.stats.inference import tail_probability

FloatArray = npt.NDArray[np.float64]

TOLERANCE = 1e-4
"""Error of p values up to 0.1, as three standard errors; for larger ones a thousandth is allowed.

With up to four tests 1e-4 holds throughout. With more than about 200, samples of size ``MOST`` reach a few thousandths.
"""
LATTICES = 16
"""Number of independent lattices, from whose scatter the error is estimated."""
MOST = 1e9
"""Largest work of a sample: number of points, times the squared number of tests."""
SAME = 1e-9
"""Tests are the same if their correlation differs by less than this from 1 or -1."""
ANGLES = np.linspace(0.0, np.pi / 2, 1025)


def largest_p_values(statistic: FloatArray, df: FloatArray, correlation: FloatArray) -> FloatArray:
    """Probability that the largest of m statistics exceeds each of the given ones in size, shape (m,).

    Args:
        statistic: Statistics t or z, shape (m,).
        df: Degrees of freedom, shape (m,); infinite for z.
        correlation: Correlation matrix of the statistics, shape (m, m).
    """
    found = error = np.full(len(statistic), np.nan)
    for points in _sample_sizes(len(correlation)):
        found, error = _exceedance(np.abs(statistic), df, correlation, points)
        if not (error > np.maximum(TOLERANCE, 1e-3 * found)).any():
            break
    return found


def largest_quantile(level: float, df: float, correlation: FloatArray) -> float:
    """Size that the largest of m statistics exceeds with the probability ``1 - level``.

    Args:
        level: Probability that no statistic exceeds the quantile.
        df: Degrees of freedom; infinite for z.
        correlation: Correlation matrix of the statistics, shape (m, m).
    """
    dfs = np.array([df])
    low, high = single_quantile(level, df), single_quantile(1 - (1 - level) / len(correlation), df)
    size = high
    for points in _sample_sizes(len(correlation)):

        def excess(size: float, points: int = points) -> float:
            return float(_exceedance(np.array([size]), dfs, correlation, points)[0][0]) - (1 - level)

        # tests that are all the same have the quantile of one; far in the tail Bonferroni's differs by rounding alone
        size = low if excess(low) <= 0 else high if excess(high) >= 0 else float(optimize.brentq(excess, low, high))
        if _exceedance(np.array([size]), dfs, correlation, points)[1][0] <= max(TOLERANCE, 1e-3 * (1 - level)):
            break
    return size


def single_quantile(level: float, df: float) -> float:
    """Size that a single statistic exceeds with the probability ``1 - level``."""
    lower = (1 - level) / 2
    return float(-(special.ndtri(lower) if np.isinf(df) else special.stdtrit(df, lower)))


def _sample_sizes(m: int) -> list[int]:
    """Points of one lattice, for samples of growing size."""
    first = 4096 if m <= 6 else 1024 if m <= 40 else 256
    return [n for n in (256, 1024, 4096, 16384, 65536) if first <= n <= MOST / (LATTICES * m**2)] or [64]


def _exceedance(
    size: FloatArray, df: FloatArray, correlation: FloatArray, points: int
) -> tuple[FloatArray, FloatArray]:
    """Probability that the largest statistic exceeds a size, and three standard errors of it, shapes (m,)."""
    alone = tail_probability(size, df, "two-sided")
    valid = np.diag(correlation) > 0
    rank, cones = _cones(np.ascontiguousarray(correlation[np.ix_(valid, valid)]).tobytes(), int(valid.sum()), points)
    if rank < 2:
        return alone, np.zeros(len(size))
    within = np.vstack([_within_angle(size, df, rank), _within_angle(np.zeros(1), np.full(1, np.inf), rank)])
    # every statistic exceeds zero, so that the last column estimates 1: a control variate
    *shares, total = (cones @ within.T).T
    p = alone * np.array(shares).T
    if (scatter := total.var(ddof=1)) > 0:
        slope = (total - total.mean()) @ (p - p.mean(0)) / ((LATTICES - 1) * scatter)
        p = p - slope * (total - 1)[:, None]
    tests = cones[0].sum()
    return np.clip(p.mean(0), alone, np.minimum(tests * alone, 1.0)), 3 * p.std(0, ddof=1) / np.sqrt(LATTICES)


def _within_angle(size: FloatArray, df: FloatArray, rank: int) -> FloatArray:
    """P(theta < angle) of one statistic that exceeds a size, at each of :data:`ANGLES`, shape (m, 1025)."""
    with np.errstate(over="ignore"):
        square = (size[:, None] / np.maximum(np.cos(ANGLES), 1e-300)) ** 2
        nu = np.where(np.isinf(df), 1.0, df)[:, None]
        finite = special.betainc(nu / 2, rank / 2, nu / (nu + square))
    tail = np.where(np.isinf(df)[:, None], special.gammaincc(rank / 2, square / 2), finite)
    density = np.sin(ANGLES) ** (rank - 2) * tail
    below = np.zeros_like(density)
    np.cumsum((density[:, 1:] + density[:, :-1]) / 2, axis=1, out=below[:, 1:])
    # beyond the range of the numbers, where all of the mass is at the angle 0
    return np.asarray(np.divide(below, below[:, -1:], out=np.ones_like(below), where=below[:, -1:] > 0))


@functools.lru_cache(maxsize=8)
def _cones(correlation: bytes, m: int, points: int) -> tuple[int, FloatArray]:
    """Distribution of the angles at which the cones end.

    Returns:
        Rank k of the tests that differ; and for each lattice the number of tests by the angle of their cone, shape
        (LATTICES, 1025): angles between two of :data:`ANGLES` are shared between both.
    """
    matrix = np.frombuffer(correlation).reshape(m, m)
    earlier = np.triu(np.abs(matrix) > 1 - SAME, 1).any(0)
    values, vectors = np.linalg.eigh(matrix[np.ix_(~earlier, ~earlier)])
    kept = np.flatnonzero(values > 1e-10 * values[-1:])[::-1]  # the largest first, on the best coordinates of a lattice
    rows = vectors[:, kept] * np.sqrt(values[kept])
    rows /= np.linalg.norm(rows, axis=1)[:, None]
    rank = len(kept)
    if rank < 2:
        return rank, np.empty(0)
    step = np.sqrt(list(itertools.islice(_primes(), rank)))
    rng = np.random.default_rng(1)
    return rank, np.array([_cone_angles(rows, _lattice(points, step, rng)) for _ in range(LATTICES)])


def _cone_angles(rows: FloatArray, normal: FloatArray) -> FloatArray:
    """Number of tests by the angle of their cone, shape (1025,), from normal vectors and their negatives, shape (n, k).

    The direction v of the i-th cone is the part of the normal vector that is perpendicular to a_i.
    """
    products = np.ascontiguousarray((normal @ rows.T).T)  # a_j'w
    square = np.sum(normal**2, axis=1)
    rho = rows @ rows.T
    counts = np.zeros(len(ANGLES))
    for i in range(len(rows)):
        others = np.arange(len(rows)) != i
        r = rho[others, i, None]
        along = products[others] - r * products[i]  # a_j'v |v|
        ahead, behind = along / (1 - r), along / (1 + r)
        length = np.sqrt(np.maximum(square - products[i] ** 2, 0.0))
        for slope in (np.maximum(ahead.max(0), -behind.min(0)), np.maximum(-ahead.min(0), behind.max(0))):
            place = np.arctan2(length, slope) / ANGLES[1]
            below = np.minimum(place.astype(np.int64), len(ANGLES) - 2)
            counts += np.bincount(below, 1 - (place - below), len(ANGLES))
            counts += np.bincount(below + 1, place - below, len(ANGLES))
    return counts / (2 * len(normal))


def _lattice(n: int, step: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Normal vectors from n points of a randomly shifted lattice, folded, shape (n, k)."""
    shifted = (np.arange(n)[:, None] * step + rng.random(len(step))) % 1.0
    return np.asarray(special.ndtri(np.clip(np.abs(2 * shifted - 1), 1e-16, 1 - 1e-16)))


def _primes() -> Iterator[int]:
    """Prime numbers."""
    found: list[int] = []
    for n in itertools.count(2):
        if all(n % p for p in itertools.takewhile(lambda p: p * p <= n, found)):  # noqa: B023
            found.append(n)
            yield n


__all__ = ["largest_p_values", "largest_quantile", "single_quantile"]
