"""Search for the highest maximum of the likelihood of a linear mixed model, from every likely start.

The search climbs from all starts of a small model together, in dense matrices, and from those of a large model in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from unimix.likelihood.lmm.newton import ENOUGH, Ascent, ascend_together
from unimix.likelihood.lmm.optimise import LEFT, Optimum, climb, steps_from_boundary
from unimix.likelihood.lmm.penalised_least_squares import profile, trial_value, unpack
from unimix.likelihood.lmm.reduced_data import Products
from unimix.likelihood.lmm.small_model import SmallModel, small_model, stackable
from unimix.likelihood.lmm.starts import Factors, line, line_starts, peaks, scattered, varied, worth_scattering

FloatArray = npt.NDArray[np.float64]
SAME = 1e-6
"""Distance of relative covariances, in units of their size (at least one), below which two points are the same."""


def search(
    products: Products,
    further: Sequence[Sequence[FloatArray]] = (),
    *,
    reml: bool,
    max_steps: int = 200,
    thorough: bool = True,
) -> Optimum:
    """Find the highest maximum.

    Args:
        products: Reduced data, with random columns of mean square one.
        further: Relative factors, shapes (q, q), of further points to climb from.
        reml: Whether to use the restricted likelihood.
        max_steps: Maximum number of steps from each start.
        thorough: Whether to climb also from the best of many points off the line, if the model is small.
    """
    thorough = thorough and worth_scattering(products)
    if stackable(products):
        try:
            return _together(products, further, reml=reml, max_steps=max_steps, thorough=thorough)
        except np.linalg.LinAlgError:
            pass  # the criterion cannot be computed at one of the points: climb from each separately
    begun: list[Sequence[FloatArray]] = [*line_starts(products, reml=reml), *further]
    if thorough:
        points = scattered(products)
        begun += varied(products, points, [trial_value(products, f, reml=reml) for f in points])
    found = [climb(products, start, reml=reml, max_steps=max_steps) for start in begun]
    best = max(found, key=lambda f: f.profile.value)
    return replace(best, steps=sum(f.steps for f in found))


def _together(
    products: Products, further: Sequence[Sequence[FloatArray]], *, reml: bool, max_steps: int, thorough: bool
) -> Optimum:
    """Climb from all starts of a small model at once."""
    model = small_model(products, reml=reml)
    equal, points = line(products), scattered(products) if thorough else []
    values = model.values(_stacked([*equal, *points]))
    begun: list[Sequence[FloatArray]] = [equal[k] for k in peaks(values[: len(equal)])]
    begun += [*further, *varied(products, points, values[len(equal) :])]
    waiting, steps = model.theta(_stacked(begun)), 0
    ends: list[tuple[FloatArray, float, float, float]] = []
    for _ in range(20):
        climbed = ascend_together(
            waiting,
            model.at,
            lambda theta: np.maximum(np.abs(theta), 0.1),  # larger elements may take larger steps
            max_steps - steps // len(begun),
        )
        steps += sum(c.steps for c in climbed)
        tops = _distinct(model, climbed)
        waiting, escapes = _leave(model, [top.at for top in tops])
        ends += [(top.at, top.value, top.gain, escape) for top, escape in zip(tops, escapes, strict=True)]
        if not len(waiting) or steps >= max_steps * len(begun):
            break
    theta, _, gain, escape = max(ends, key=lambda end: end[1])
    factors = unpack(products, theta)
    at = profile(products, factors, reml=reml)
    return Optimum(factors, at, gain, escape, steps, max(gain, escape) < LEFT)


def _stacked(points: Sequence[Sequence[FloatArray]]) -> list[FloatArray]:
    """Stack the factors of several points per block, shapes (B, q, q)."""
    return [np.array([factors[k] for factors in points]) for k in range(len(points[0]))]


def _distinct(model: SmallModel, ends: Sequence[Ascent]) -> list[Ascent]:
    """Distinct ends of several searches, best first, with factors that have non-negative diagonals."""
    order = sorted(ends, key=lambda end: -end.value)
    factors = model.factors(np.array([end.at for end in order]))
    theta = model.theta(factors)
    covariances = np.concatenate([(f @ f.transpose(0, 2, 1)).reshape(len(f), -1) for f in factors], axis=1)
    size = np.maximum(1.0, np.abs(covariances).max(axis=1, initial=0.0))
    kept: list[int] = []
    for k, own in enumerate(covariances):
        if not kept or (np.abs(own - covariances[kept]).max(axis=1, initial=0.0) >= SAME * size[kept]).all():
            kept.append(k)
    return [replace(order[k], at=theta[k]) for k in kept]


def _leave(model: SmallModel, ends: Sequence[FloatArray]) -> tuple[FloatArray, list[float]]:
    """Steps from the boundary that deserve a search, shape (B, d), and the improvement of the best step of each end."""
    here = model.at(np.array(ends))
    tried: list[tuple[int, Factors]] = []
    for k, theta in enumerate(ends):
        factors = unpack(model.products, theta)
        tried += [(k, new) for new in steps_from_boundary(factors, model.by_covariance(here.by_cell[k]))]
    gained, best = np.zeros(len(ends)), np.full(len(ends), -1)
    for t, value in enumerate(model.values(_stacked([new for _, new in tried])) if tried else ()):
        k = tried[t][0]
        if value - here.value[k] > gained[k]:
            gained[k], best[k] = value - here.value[k], t
    worth = [tried[t][1] for t in best[gained >= ENOUGH]]
    nothing = np.empty((0, len(model.cells)))
    return model.theta(_stacked(worth)) if worth else nothing, [float(g) for g in gained]
