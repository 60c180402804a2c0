"""Newton's method for a maximum, with a trust region.

Source: Nocedal & Wright (2006), Numerical Optimization, 2nd ed., chapter 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

ENOUGH = 1e-9
"""Improvement of the log likelihood below which the search stops."""


@dataclass(frozen=True)
class Ascent:
    """Result of a search.

    Attributes:
        at: Final point, shape (d,).
        value: Value of the function at the final point.
        gain: Remaining improvement (half the squared Newton decrement); directions of positive curvature count by its
            absolute size.
        steps: Number of evaluations of second derivatives.
    """

    at: FloatArray
    value: float
    gain: float
    steps: int


def ascend(
    start: FloatArray,
    value: Callable[[FloatArray], float],
    derivatives: Callable[[FloatArray], tuple[FloatArray, FloatArray]],
    unit: Callable[[FloatArray], FloatArray],
    max_steps: int,
) -> Ascent:
    """Climb to a maximum; at a saddle the search follows the direction of positive curvature.

    Args:
        start: Starting point, shape (d,).
        value: Function to maximise; -inf where it does not exist.
        derivatives: Function that returns the gradient (d,) and the Hessian (d, d).
        unit: Function that returns the size of a unit step of each parameter at a point, shape (d,).
        max_steps: Maximum number of evaluations of second derivatives.
    """
    x, here = start, value(start)
    radius, steps, gain = 1.0, 0, np.inf
    while steps < max_steps and np.isfinite(here):
        gradient, hessian = derivatives(x)
        steps += 1
        size = unit(x)
        if not (np.isfinite(gradient).all() and np.isfinite(hessian).all()):
            return Ascent(x, here, np.inf, steps)
        values, vectors = np.linalg.eigh(-hessian * np.outer(size, size))
        slope = vectors.T @ (gradient * size)
        scale = max(float(np.abs(values).max(initial=0.0)), 1e-300)
        gain = float(0.5 * np.sum(slope**2 / np.maximum(np.abs(values), 1e-10 * scale)))
        up = len(values) > 0 and values[0] < -1e-8 * scale
        if not up and gain < min(1e-12 * max(1.0, abs(here)), ENOUGH):
            break
        if up and abs(slope[0]) < 1e-8 * scale:
            slope[0] += 1e-3 * scale
        moved = _step(x, here, slope, values, vectors, size, radius, value)
        if moved is None:
            break
        x, here, radius = moved
    return Ascent(x, here, gain, steps)


def _step(
    x: FloatArray,
    here: float,
    slope: FloatArray,
    values: FloatArray,
    vectors: FloatArray,
    size: FloatArray,
    radius: float,
    value: Callable[[FloatArray], float],
) -> tuple[FloatArray, float, float] | None:
    """Next point, value there and next radius; None if no step increases the function."""
    while radius > 1e-12:
        step = bounded(slope, values, radius)
        trial = x + size * (vectors @ step)
        there = value(trial)
        promised = float(slope @ step - 0.5 * step @ (values * step))
        length = float(np.linalg.norm(step))
        if there > here and there - here > 1e-4 * promised:
            kept = (there - here) / promised
            wider = 0.25 * length if kept < 0.25 else min(2.0 * radius, 50.0) if kept > 0.5 else radius
            return trial, there, max(wider, 1e-6)
        if promised < 1e-13 * max(1.0, abs(here)):
            return None
        radius = 0.3 * min(radius, length)
    return None


def bounded(slope: FloatArray, values: FloatArray, radius: float) -> FloatArray:
    """Step s that maximises slope's - s'diag(values)s / 2 within a radius; all arrays have shape (d,)."""
    least = max(0.0, -float(values[0]) * (1 + 1e-6))
    floor = 1e-14 * max(float(np.abs(values).max()), 1e-300)

    def step(shift: float) -> FloatArray:
        return np.asarray(slope / np.maximum(values + shift, floor))

    if least == 0.0 and np.linalg.norm(step(0.0)) <= radius:
        return step(0.0)
    low, high = least, least + float(np.linalg.norm(slope)) / radius + floor
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if np.linalg.norm(step(middle)) > radius else (low, middle)
    return step(high)


class Derivatives(Protocol):
    """Value (B,), gradient (B, d) and Hessian (B, d, d) of a function at B points of d parameters."""

    @property
    def value(self) -> FloatArray:
        """Values, shape (B,); -inf where the function does not exist."""

    @property
    def gradient(self) -> FloatArray:
        """First derivatives, shape (B, d)."""

    @property
    def hessian(self) -> FloatArray:
        """Second derivatives, shape (B, d, d)."""


@dataclass
class _Climbers:
    """State of several searches, one per entry of the first axis."""

    x: FloatArray
    here: FloatArray
    gradient: FloatArray
    hessian: FloatArray
    radius: FloatArray
    gain: FloatArray
    steps: IntArray


def ascend_together(
    starts: FloatArray,
    derivatives: Callable[[FloatArray, IntArray], Derivatives],
    unit: Callable[[FloatArray], FloatArray],
    max_steps: int,
) -> list[Ascent]:
    """Apply :func:`ascend` to several starts at once, each with its own trust region.

    Args:
        starts: Starting points, shape (B, d).
        derivatives: Function of points (K, d) and of the indices of their searches (K,), which returns values and
            derivatives.
        unit: Function that returns the size of a unit step of each parameter at points, shape (B, d).
        max_steps: Maximum number of evaluations of second derivatives from each start.
    """
    b = len(starts)
    first = derivatives(starts, np.arange(b))
    at = _Climbers(
        starts.copy(),
        first.value.copy(),
        first.gradient.copy(),
        first.hessian.copy(),
        np.ones(b),
        np.full(b, np.inf),
        np.ones(b, dtype=np.int64),
    )
    active = np.flatnonzero(np.isfinite(at.here))
    while len(active):
        finite = np.isfinite(at.gradient[active]).all(axis=1) & np.isfinite(at.hessian[active]).all(axis=(1, 2))
        at.gain[active[~finite]] = np.inf
        active = active[finite]
        size = unit(at.x[active])
        values, vectors = np.linalg.eigh(-at.hessian[active] * size[:, :, None] * size[:, None, :])
        slope = np.einsum("bij,bi->bj", vectors, at.gradient[active] * size)
        scale = np.maximum(np.abs(values).max(axis=1, initial=0.0), 1e-300)
        at.gain[active] = 0.5 * np.sum(slope**2 / np.maximum(np.abs(values), 1e-10 * scale[:, None]), axis=1)
        up = values[:, 0] < -1e-8 * scale if values.shape[1] else np.zeros(len(active), dtype=bool)
        enough = np.minimum(1e-12 * np.maximum(1.0, np.abs(at.here[active])), ENOUGH)
        going = (up | (at.gain[active] >= enough)) & (at.steps[active] < max_steps)
        flat = up & (np.abs(slope[:, :1]).sum(axis=1) < 1e-8 * scale)
        slope[flat, 0] += 1e-3 * scale[flat]
        active = _try(at, active[going], size[going], values[going], vectors[going], slope[going], derivatives)
    return [Ascent(x, float(v), float(g), int(s)) for x, v, g, s in zip(at.x, at.here, at.gain, at.steps, strict=True)]


def _try(
    at: _Climbers,
    active: IntArray,
    size: FloatArray,
    values: FloatArray,
    vectors: FloatArray,
    slope: FloatArray,
    derivatives: Callable[[FloatArray, IntArray], Derivatives],
) -> IntArray:
    """Move every active search uphill, or stop it if no step increases the function; return those that moved."""
    moved, waiting = [], np.arange(len(active))
    while len(waiting):
        who = active[waiting]
        step = bounded_together(slope[waiting], values[waiting], at.radius[who])
        trial = at.x[who] + size[waiting] * np.einsum("bij,bj->bi", vectors[waiting], step)
        there = derivatives(trial, who)
        promised = np.sum(slope[waiting] * step - 0.5 * values[waiting] * step**2, axis=1)
        length = np.linalg.norm(step, axis=1)
        gained = there.value - at.here[who]
        taken = (gained > 0) & (gained > 1e-4 * promised)
        risen = who[taken]
        at.x[risen], at.here[risen] = trial[taken], there.value[taken]
        at.gradient[risen], at.hessian[risen] = there.gradient[taken], there.hessian[taken]
        at.steps[risen] += 1
        kept = gained[taken] / promised[taken]
        wider = np.where(kept > 0.5, np.minimum(2.0 * at.radius[risen], 50.0), at.radius[risen])
        at.radius[risen] = np.maximum(np.where(kept < 0.25, 0.25 * length[taken], wider), 1e-6)
        moved.append(risen)
        lost = who[~taken]
        at.radius[lost] = 0.3 * np.minimum(at.radius[lost], length[~taken])
        hopeless = promised[~taken] < 1e-13 * np.maximum(1.0, np.abs(at.here[lost]))
        waiting = waiting[~taken][~hopeless & (at.radius[lost] > 1e-12)]
    return np.concatenate(moved) if moved else active[:0]


def bounded_together(slope: FloatArray, values: FloatArray, radius: FloatArray) -> FloatArray:
    """Apply :func:`bounded` to several points: slopes and values (B, d), radii (B,)."""
    if not slope.shape[1]:
        return slope
    least = np.maximum(0.0, -values[:, 0] * (1 + 1e-6))
    floor = 1e-14 * np.maximum(np.abs(values).max(axis=1), 1e-300)

    def step(shift: FloatArray, which: IntArray) -> FloatArray:
        return np.asarray(slope[which] / np.maximum(values[which] + shift[:, None], floor[which, None]))

    everyone = np.arange(len(slope))
    steps = step(np.zeros(len(slope)), everyone)
    far = np.flatnonzero((least > 0) | (np.linalg.norm(steps, axis=1) > radius))
    if not len(far):
        return steps
    low = least[far]
    high = low + np.linalg.norm(slope[far], axis=1) / radius[far] + floor[far]
    shift = high
    for _ in range(60):
        bounded = step(shift, far)
        length = np.linalg.norm(bounded, axis=1)
        if (np.abs(length - radius[far]) < 1e-3 * radius[far]).all():
            break
        low, high = np.where(length > radius[far], shift, low), np.where(length > radius[far], high, shift)
        # Newton's method for 1 / length, which is nearly linear in the shift (Nocedal & Wright, section 4.3).
        bend = np.sum(bounded**2 / np.maximum(values[far] + shift[:, None], floor[far, None]), axis=1)
        shift = shift + (length / radius[far] - 1.0) * length**2 / np.maximum(bend, 1e-300)
        shift = np.where((shift > low) & (shift < high), shift, 0.5 * (low + high))
    steps[far] = step(shift, far)
    return steps
