"""Search for the highest maximum of the likelihood of a linear mixed model, from every likely start.

The search climbs from all starts of a small model together, in dense matrices, and from those of a large model in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from unimix.likelihood.lmm.newton import ENOUGH, Ascent, ascend_together
from unimix.likelihood.lmm.optimise import LEFT, Optimum, climb, steps_from_boundary
from unimix.likelihood.lmm.penalised_least_squares import profile, trial_value, unpack
from unimix.likelihood.lmm.reduced_data import Products
from unimix.likelihood.lmm.small_model import SmallModel, is_stackable, small_model
from unimix.likelihood.lmm.starts import Factors, line, line_starts, peaks, scattered, varied, worth_scattering

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
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
    if is_stackable(products):
        try:
            return _together([products], further, reml=reml, max_steps=max_steps, thorough=thorough)[0]
        except np.linalg.LinAlgError:
            pass  # the criterion cannot be computed at one of the points: climb from each separately
    begun: list[Sequence[FloatArray]] = [*line_starts(products, reml=reml), *further]
    if thorough:
        points = scattered(products)
        begun += varied(products, points, [trial_value(products, f, reml=reml) for f in points])
    optima = [climb(products, start, reml=reml, max_steps=max_steps) for start in begun]
    best = max(optima, key=lambda f: f.profile.value)
    return replace(best, steps=sum(f.steps for f in optima))


def search_responses(
    responses: Sequence[Products], *, reml: bool, max_steps: int = 200, thorough: bool = True
) -> list[Optimum]:
    """Find the highest maximum for every response of one small model, climbing for all of them at once.

    Args:
        responses: Reduced data of the responses, which have the same columns and are ``stackable``.
        reml: Whether to use the restricted likelihood.
        max_steps: Maximum number of steps from each start.
        thorough: Whether to climb also from the best of many points off the line.

    Raises:
        LinAlgError: If the criterion of a response cannot be computed at one of the points.
    """
    thorough = thorough and worth_scattering(responses[0])
    return _together(responses, reml=reml, max_steps=max_steps, thorough=thorough)


def _together(
    responses: Sequence[Products],
    further: Sequence[Sequence[FloatArray]] = (),
    *,
    reml: bool,
    max_steps: int,
    thorough: bool,
) -> list[Optimum]:
    """Climb from all starts of all responses of a small model at once; each response has the ``further`` starts too."""
    model, count = small_model(responses, reml=reml), len(responses)
    begun, owners = _begin(model, count, further, thorough=thorough)
    waiting, steps = model.theta(_stacked(begun)), np.zeros(count, dtype=np.int64)
    limit = max_steps * np.bincount(owners, minlength=count)
    ends: list[list[_End]] = [[] for _ in responses]
    for _ in range(20):
        own = owners
        climbed = ascend_together(
            waiting,
            lambda theta, who, own=own: model.at(theta, own[who]),  # type: ignore[misc]
            lambda theta: np.maximum(np.abs(theta), 0.1),  # larger elements may take larger steps
            max_steps,
        )
        np.add.at(steps, owners, [c.steps for c in climbed])
        tops = [(k, top) for k in np.unique(owners) for top in _distinct(model, climbed, np.flatnonzero(owners == k))]
        waiting, owners, escapes = _leave(model, [top.at for _, top in tops], np.array([k for k, _ in tops]))
        for (k, top), escape in zip(tops, escapes, strict=True):
            ends[k].append(_End(top.at, top.value, top.gain, escape))
        going = steps[owners] < limit[owners]
        waiting, owners = waiting[going], owners[going]
        if not len(waiting):
            break
    return [_optimum(data, own, int(n), reml=reml) for data, own, n in zip(responses, ends, steps, strict=True)]


@dataclass(frozen=True)
class _End:
    """End of a climb: elements of the factors (d,), value, Newton decrement, and gain of the best step off the edge."""

    theta: FloatArray
    value: float
    gain: float
    escape: float


def _begin(
    model: SmallModel, count: int, further: Sequence[Sequence[FloatArray]], *, thorough: bool
) -> tuple[list[Sequence[FloatArray]], IntArray]:
    """Starts of the climbs for each of ``count`` responses, and the index of the response of each start."""
    products = model.products
    equal, points = line(products), scattered(products) if thorough else []
    stacked = [np.tile(f, (count, 1, 1)) for f in _stacked([*equal, *points])]
    values = model.values(stacked, np.repeat(np.arange(count), len(equal) + len(points))).reshape(count, -1)
    begun: list[Sequence[FloatArray]] = []
    owners: list[int] = []
    for k, on_line in enumerate(values):
        likely = [equal[j] for j in peaks(on_line[: len(equal)])]
        starts = [*likely, *further, *varied(products, points, on_line[len(equal) :])]
        begun += starts
        owners += [k] * len(starts)
    return begun, np.array(owners)


def _optimum(data: Products, ends: Sequence[_End], steps: int, *, reml: bool) -> Optimum:
    """Highest of the ends of a response's climbs."""
    best = max(ends, key=lambda end: end.value)
    factors = unpack(data, best.theta)
    at = profile(data, factors, reml=reml)
    return Optimum(factors, at, best.gain, best.escape, steps, max(best.gain, best.escape) < LEFT)


def _stacked(points: Sequence[Sequence[FloatArray]]) -> list[FloatArray]:
    """Stack the factors of several points per block, shapes (B, q, q)."""
    return [np.array([factors[k] for factors in points]) for k in range(len(points[0]))]


def _distinct(model: SmallModel, ends: Sequence[Ascent], which: IntArray) -> list[Ascent]:
    """Distinct ends of the searches ``which``, best first, with factors that have non-negative diagonals."""
    order = sorted((ends[k] for k in which), key=lambda end: -end.value)
    factors = model.factors(np.array([end.at for end in order]))
    theta = model.theta(factors)
    covariances = np.concatenate([(f @ f.transpose(0, 2, 1)).reshape(len(f), -1) for f in factors], axis=1)
    size = np.maximum(1.0, np.abs(covariances).max(axis=1, initial=0.0))
    kept: list[int] = []
    for k, covariance in enumerate(covariances):
        if not kept or (np.abs(covariance - covariances[kept]).max(axis=1, initial=0.0) >= SAME * size[kept]).all():
            kept.append(k)
    return [replace(order[k], at=theta[k]) for k in kept]


def _leave(model: SmallModel, ends: Sequence[FloatArray], owners: IntArray) -> tuple[FloatArray, IntArray, list[float]]:
    """Steps from the boundary that deserve a search, with their responses, and the gain of the best step of each end.

    Args:
        model: The model.
        ends: Ends of climbs, shapes (d,).
        owners: Index of the response of each end.
    """
    here = model.at(np.array(ends), owners)
    tried: list[tuple[int, Factors]] = []
    for k, theta in enumerate(ends):
        factors = unpack(model.products, theta)
        tried += [(k, new) for new in steps_from_boundary(factors, model.by_covariance(here.by_cell[k]))]
    gained, best = np.zeros(len(ends)), np.full(len(ends), -1)
    values = model.values(_stacked([new for _, new in tried]), owners[[k for k, _ in tried]]) if tried else ()
    for t, value in enumerate(values):
        k = tried[t][0]
        if value - here.value[k] > gained[k]:
            gained[k], best[k] = value - here.value[k], t
    worth = np.flatnonzero(gained >= ENOUGH)
    begun = [tried[t][1] for t in best[worth]]
    waiting = model.theta(_stacked(begun)) if begun else np.empty((0, len(model.cells)))
    return waiting, owners[worth], [float(g) for g in gained]
