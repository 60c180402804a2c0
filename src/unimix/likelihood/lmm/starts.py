"""Starting points of the search for covariance parameters, because the likelihood can have several maxima.

If random columns are nearly collinear, or levels have few rows, there may be a maximum at zero and a much higher one at
large variances whose effects cancel. First-order conditions hold at both; values along a line from small to large
variances distinguish them.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from unimix.likelihood.lmm.conditional_modes import conditional_effects
from unimix.likelihood.lmm.conditioning import relative_factors
from unimix.likelihood.lmm.parameters import is_plain
from unimix.likelihood.lmm.penalised_least_squares import profile, trial_value
from unimix.likelihood.lmm.reduced_data import Products

FloatArray = npt.NDArray[np.float64]
Factors = list[FloatArray]

SCAN = (0.02, 0.08, 0.3, 1.2, 5.0, 20.0, 80.0, 300.0)
"""Relative standard deviations, the same for every column, at which the likelihood is evaluated."""
POINTS, MOST_POINTS, SMALL = 24, 128, 60
"""Points off the line per covariance parameter, their largest number, and the largest number of group effects for which
they are evaluated."""
FEWEST, MOST, SHARE = 6, 24, 360
"""Bounds on the number of starts, and on that number times the effects: levels with few rows have more maxima."""


def line(products: Products) -> list[Factors]:
    """Points on a line from small to large variances, for random columns of mean square one."""
    return [[size * np.eye(q) for q, _ in products.sizes] for size in SCAN]


def lines(products: Products) -> list[list[Factors]]:
    """The line from small to large variances; with structured covariances one for each size of their correlations."""
    if is_plain(products):
        return [line(products)]
    structures = products.structures
    count = max(len(s.starts(1.0)) for s in structures if s is not None)

    def point(size: float, which: int) -> Factors:
        matrices = [
            size**2 * np.eye(q) if s is None else s.matrix((begun := s.starts(size))[which % len(begun)])
            for (q, _), s in zip(products.sizes, structures, strict=True)
        ]
        return list(relative_factors(tuple(matrices), 1.0))

    return [[point(size, which) for size in SCAN] for which in range(count)]


def peaks(values: Sequence[float] | FloatArray) -> list[int]:
    """Indices of the local maxima among values along a line, best first."""
    padded = [-np.inf, *values, -np.inf]
    places = [k for k in range(len(values)) if padded[k] < padded[k + 1] >= padded[k + 2]]
    return sorted(places, key=lambda k: -padded[k + 1])


def line_starts(products: Products, *, reml: bool) -> list[Factors]:
    """Maxima of the likelihood on each line, best first.

    Args:
        products: Reduced data with random columns of mean square one, so that an effect of one is one residual SD.
        reml: Whether to use the restricted likelihood.
    """
    starts = []
    for points in lines(products):
        values = [trial_value(products, f, reml=reml) for f in points]
        starts += [(values[k], points[k]) for k in peaks(values)]
    return [point for _, point in sorted(starts, key=lambda start: -start[0])]


def worth_scattering(products: Products) -> bool:
    """Whether there may be maxima off the line, as in models of several terms with few effects."""
    return is_plain(products) and len(products.sizes) > 1 and sum(q * levels for q, levels in products.sizes) <= SMALL


def scattered(products: Products) -> list[Factors]:
    """Points off the line, with unequal variances and correlations from -1 to 1.

    With few rows per level the likelihood of several terms has maxima off the line, most of them on the boundary. Only
    small models need these points: with many levels the extra maxima disappear, and evaluations are expensive.
    """
    return _scattered(tuple(q for q, _ in products.sizes))


@functools.cache
def _scattered(widths: tuple[int, ...]) -> list[Factors]:
    rng = np.random.default_rng(20151007)
    blocks, count = [], min(POINTS * sum(q * (q + 1) // 2 for q in widths), MOST_POINTS)
    for q in widths:
        rows = np.tril(rng.normal(size=(count, q, q)))
        rows /= np.linalg.norm(rows, axis=2)[:, :, None]
        sizes = np.exp(rng.uniform(np.log(0.1), np.log(5.0), size=(count, q)))
        blocks.append(sizes[:, :, None] * rows)
    return [list(factors) for factors in zip(*blocks, strict=True)]


def varied(products: Products, points: Sequence[Factors], values: Sequence[float] | FloatArray) -> list[Factors]:
    """Best points for each sign pattern of the correlations in turn, best first.

    Without the patterns, the best points might all lie below the same maximum.
    """
    n_effects = sum(q * levels for q, levels in products.sizes)
    climbed = min(max(SHARE // n_effects, FEWEST), MOST)
    order = list(np.argsort(-np.asarray(values, dtype=np.float64), kind="stable"))
    signs = [tuple(np.sign(f[1, 0]) for f in factors if len(f) > 1) for factors in points]
    kinds = dict.fromkeys(signs[k] for k in order)
    taken = [[k for k in order if signs[k] == kind][: max(climbed // len(kinds), 1)] for kind in kinds]
    return [points[k] for k in sorted(itertools.chain(*taken), key=order.index)]


def em_starts(products: Products, *, reml: bool, steps: int) -> list[Factors]:
    """Relative lower triangular factors after EM steps from every maximum on the line, best first.

    Args:
        products: Reduced data with well-scaled columns.
        reml: Whether to use the restricted likelihood.
        steps: Number of EM steps from each maximum.
    """
    climbed = [em(products, start, steps) for start in line_starts(products, reml=reml)]
    return sorted(climbed, key=lambda f: trial_value(products, f, reml=reml), reverse=True)


def em(products: Products, start: Sequence[FloatArray], steps: int) -> Factors:
    """Relative factors after EM steps towards the ML estimates (Laird and Ware 1982, Biometrics 38).

    Args:
        products: Reduced data.
        start: Relative factors to start from, shapes (q, q), of full rank.
        steps: Number of steps.
    """
    sigma = profile(products, start, reml=True).sigma
    covariances = tuple(sigma**2 * f @ f.T for f in start)
    reached = start
    for _ in range(steps):
        factors = relative_factors(covariances, sigma)
        try:
            at = replace(profile(products, factors, reml=False), sigma=sigma)
        except np.linalg.LinAlgError:  # the residual variance has vanished
            return list(reached)
        reached = factors
        modes, mode_covs = conditional_effects(products, at, factors)
        # y'Py = |y - X beta - Z b|^2 + sum b'D^-1 b, so that the residual sum of squares needs no rows.
        residual, freedom = at.quadratic, 0.0
        for c, m, v in zip(covariances, modes, mode_covs, strict=True):
            residual -= sigma**2 * float(np.trace(np.linalg.solve(c, m.T @ m)))
            freedom += m.size - float(np.trace(np.linalg.solve(c, v.sum(axis=0))))
        covariances = tuple(m.T @ m / len(m) + v.mean(axis=0) for m, v in zip(modes, mode_covs, strict=True))
        sigma = float(np.sqrt((residual + sigma**2 * freedom) / products.n))
    return list(relative_factors(covariances, sigma))
