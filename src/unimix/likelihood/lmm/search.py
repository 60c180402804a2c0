"""The highest maximum of a linear mixed model's likelihood that can be found, from every likely start.

The starts of a small model are climbed from together, in dense matrices; those of a large one in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from unimix.likelihood.lmm.newton import ENOUGH, ascend_together
from unimix.likelihood.lmm.optimise import LEFT, Optimum, climb, lower_triangular, steps_from_boundary
from unimix.likelihood.lmm.penalised_least_squares import pack, profile, trial_value, unpack
from unimix.likelihood.lmm.reduced_data import Products
from unimix.likelihood.lmm.small_model import SmallModel
from unimix.likelihood.lmm.starts import SMALL, Factors, line, line_starts, peaks, scattered, varied

FloatArray = npt.NDArray[np.float64]
SAME = 1e-6
"""Relative covariances, in units of the larger of one and their own size, closer than which two points are one."""


def search(
    products: Products,
    further: Sequence[Sequence[FloatArray]] = (),
    *,
    reml: bool,
    max_steps: int = 200,
    thorough: bool = True,
) -> Optimum:
    """The highest maximum that can be found.

    Args:
        products: The model, its random columns of mean square one.
        further: Other points to climb from.
        reml: Criterion.
        max_steps: From each start.
        thorough: Also from the best of many points off the line, where the model is small.
    """
    if sum(q * levels for q, levels in products.sizes) <= SMALL:
        try:
            return _together(products, further, reml=reml, max_steps=max_steps, thorough=thorough)
        except np.linalg.LinAlgError:
            pass  # one of the points lies out of numerical reach: each by itself
    begun: list[Sequence[FloatArray]] = [*line_starts(products, reml=reml), *further]
    if thorough and len(products.sizes) > 1 and sum(q * levels for q, levels in products.sizes) <= SMALL:
        points = scattered(products)
        begun += varied(points, [trial_value(products, f, reml=reml) for f in points])
    found = [climb(products, start, reml=reml, max_steps=max_steps) for start in begun]
    best = max(found, key=lambda f: f.profile.value)
    return replace(best, steps=sum(f.steps for f in found))


def _together(
    products: Products, further: Sequence[Sequence[FloatArray]], *, reml: bool, max_steps: int, thorough: bool
) -> Optimum:
    """All starts of a small model at once."""
    model = SmallModel(products, reml=reml)
    equal, points = line(products), scattered(products) if thorough and len(products.sizes) > 1 else []
    values = model.values(_stacked([*equal, *points]))
    begun: list[Sequence[FloatArray]] = [equal[k] for k in peaks(values[: len(equal)])]
    begun += [*further, *varied(points, values[len(equal) :])]
    waiting, steps = [lower_triangular(f) for f in begun], 0
    ends: list[tuple[Factors, float, float, float]] = []
    for _ in range(20):
        climbed = ascend_together(
            np.array([pack(f) for f in waiting]),
            model.at,
            lambda theta: np.maximum(np.abs(theta), 0.1),  # elements of large factors move further
            max_steps - steps // max(len(begun), 1),
        )
        steps += sum(c.steps for c in climbed)
        tops = _distinct([(lower_triangular(unpack(products, c.at)), c.value, c.gain) for c in climbed])
        waiting = []
        for factors, value, gain in tops:
            away, escape = _leave(model, factors, value)
            ends.append((factors, value, gain, escape))
            waiting += [away] if escape >= ENOUGH else []
        if not waiting or steps >= max_steps * len(begun):
            break
    factors, _, gain, escape = max(ends, key=lambda end: end[1])
    at = profile(products, factors, reml=reml)
    return Optimum(factors, at, gain, escape, steps, max(gain, escape) < LEFT)


def _stacked(points: Sequence[Sequence[FloatArray]]) -> list[FloatArray]:
    """Factors of several points, per block, shapes (B, q, q)."""
    return [np.array([factors[k] for factors in points]) for k in range(len(points[0]))]


def _distinct(tops: Sequence[tuple[Factors, float, float]]) -> list[tuple[Factors, float, float]]:
    """The different ends of several searches, best first."""
    found: list[tuple[Factors, float, float]] = []
    seen: list[FloatArray] = []
    for top in sorted(tops, key=lambda t: -t[1]):
        own = np.concatenate([(f @ f.T).ravel() for f in top[0]])
        if any(np.abs(own - other).max(initial=0.0) < SAME * max(1.0, np.abs(other).max()) for other in seen):
            continue
        seen.append(own)
        found.append(top)
    return found


def _leave(model: SmallModel, factors: Factors, value: float) -> tuple[Factors, float]:
    """The best of some steps from the boundary, and what it gains."""
    slopes = model.by_covariance(model.at(pack(factors)[None]))
    tried = steps_from_boundary(factors, slopes)
    if not tried:
        return factors, 0.0
    values = model.values(_stacked(tried))
    best = int(np.argmax(values))
    gained = float(values[best] - value)
    return (lower_triangular(tried[best]), gained) if gained > 0 else (factors, 0.0)
