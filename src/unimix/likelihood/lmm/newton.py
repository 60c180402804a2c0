"""Newton's method for a maximum, in a trust region.

Nocedal & Wright (2006), Numerical Optimization, 2nd ed., chapter 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

ENOUGH = 1e-9
"""Log-likelihood below which nothing is worth another step."""


@dataclass(frozen=True)
class Ascent:
    """Where a search ended.

    Attributes:
        at: The point, shape (d,).
        value: The function there.
        gain: What Newton's method still promises; along directions of positive curvature, by its size.
        steps: Evaluations of second derivatives.
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
    """Climb to a maximum; saddles are left along their direction of positive curvature.

    Args:
        start: Shape (d,).
        value: The function; -inf where it does not exist.
        derivatives: Gradient (d,) and Hessian (d, d).
        unit: Size of a unit step of each parameter at a point, shape (d,).
        max_steps: Evaluations of second derivatives.
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
        found = _step(x, here, slope, values, vectors, size, radius, value)
        if found is None:
            break
        x, here, radius = found
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
    """The next point, the function there and the next radius; None where no step leads up."""
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
    """The step that maximises slope's - s'diag(values)s / 2 within a radius, all of shape (d,)."""
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
