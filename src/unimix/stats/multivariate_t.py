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
import scipy
from scipy import special

from unimix.stats.inference import tail_probability

FloatArray = npt.NDArray[np.float64]

TOLERANCE = 1e-4
"""Error of p values, as three standard errors; a thousandth is allowed for larger p values of more than ``FEW`` tests.

With more than about 200 tests, samples of size ``MOST`` reach a few thousandths.
"""
FEW = 6
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
    p_values = error = np.full(len(statistic), np.nan)
    for points in _sample_sizes(len(correlation)):
        p_values, error = _exceedance(np.abs(statistic), df, correlation, points)
        if not (error > _tolerance(p_values, len(correlation))).any():
            break
    return p_values


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
        size = (
            low if excess(low) <= 0 else high if excess(high) >= 0 else float(scipy.optimize.brentq(excess, low, high))
        )
        if _exceedance(np.array([size]), dfs, correlation, points)[1][0] <= _tolerance(1 - level, len(correlation)):
            break
    return size


def single_quantile(level: float, df: float) -> float:
    """Size that a single statistic exceeds with the probability ``1 - level``."""
    lower = (1 - level) / 2
    return float(-(special.ndtri(lower) if np.isinf(df) else special.stdtrit(df, lower)))


def _tolerance(p: FloatArray | float, m: int) -> FloatArray:
    return np.asarray(np.maximum(TOLERANCE, 0.0 if m <= FEW else np.multiply(1e-3, p)))


def _sample_sizes(m: int) -> list[int]:
    """Points of one lattice, for samples of growing size."""
    first = 4096 if m <= FEW else 1024 if m <= 40 else 256
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
    rng = np.random.default_rng(1)
    return rank, _cone_angles(rows, [_directions(points, rank - 1, rng) for _ in range(LATTICES)])


def _cone_angles(rows: FloatArray, lattices: list[FloatArray]) -> FloatArray:
    """Number of tests by the angle of their cone, shape (LATTICES, 1025).

    Args:
        rows: Unit vectors a_i, shape (m, k).
        lattices: Directions v in coordinates of the space that is perpendicular to a_i, shapes (n, k - 1); their
            negatives are used, too.
    """
    rho = rows @ rows.T
    counts = np.zeros((len(lattices), len(ANGLES)))
    for i, row in enumerate(rows):
        others = np.arange(len(rows)) != i
        r = rho[others, i, None]
        beside = rows[others] - r * row
        # the directions in which most other tests lie come first, on the best coordinates of a lattice
        beside = beside @ np.linalg.eigh(beside.T @ beside)[1][:, :0:-1]
        for k, directions in enumerate(lattices):
            along = beside @ directions.T  # a_j'v
            ahead, behind = along / (1 - r), along / (1 + r)
            for slope in (np.maximum(ahead.max(0), -behind.min(0)), np.maximum(-ahead.min(0), behind.max(0))):
                place = np.arctan2(1.0, slope) / ANGLES[1]
                below = np.minimum(place.astype(np.int64), len(ANGLES) - 2)
                counts[k] += np.bincount(below, 1 - (place - below), len(ANGLES))
                counts[k] += np.bincount(below + 1, place - below, len(ANGLES))
    return counts / (2 * len(lattices[0]))


def _directions(n: int, d: int, rng: np.random.Generator) -> FloatArray:
    """Points on the sphere in d dimensions from a randomly shifted lattice, shape (n, d)."""
    coordinates = {1: 1, 2: 1, 3: 2}.get(d, d)
    step = np.sqrt(list(itertools.islice(_primes(), coordinates)))
    uniform = (np.arange(n)[:, None] * step + rng.random(coordinates)) % 1.0
    angle, height = 2 * np.pi * uniform[:, 0], 2 * uniform[:, -1] - 1
    match d:
        case 1:
            return np.ones((n, 1))
        case 2:
            return np.column_stack([np.cos(angle), np.sin(angle)])
        case 3:  # the height of a uniform point on the sphere is uniform
            around = np.sqrt(1 - height**2)
            return np.column_stack([height, around * np.cos(angle), around * np.sin(angle)])
        case _:
            normal = special.ndtri(np.clip(np.abs(2 * uniform - 1), 1e-16, 1 - 1e-16))  # folded: Genz & Bretz
            return np.asarray(normal / np.linalg.norm(normal, axis=1)[:, None])


def _primes() -> Iterator[int]:
    """Prime numbers."""
    primes: list[int] = []
    for n in itertools.count(2):
        if all(n % p for p in itertools.takewhile(lambda p: p * p <= n, primes)):  # noqa: B023
            primes.append(n)
            yield n


__all__ = ["largest_p_values", "largest_quantile", "single_quantile"]
