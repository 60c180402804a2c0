"""Starts of the search from a few cheap EM steps, and the curvature at the start.

An evaluation of statsmodels' likelihood and score loops over groups in Python; a good start and a first step of the
right length save half of the evaluations. statsmodels' likelihood alone determines the end of the search.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from unimix.backends.evaluation import likely_starts
from unimix.backends.statsmodels.model import Layout, Point
from unimix.design.arrays import Design

FloatArray = npt.NDArray[np.float64]


def find_starts(design: Design, layout: Layout, *, reml: bool, steps: int) -> list[Point]:
    """Starts, best first, from :func:`unimix.backends.likely_starts`.

    Args:
        design: Design without weights or offset.
        layout: Place of each block in MixedLM.
        reml: Whether to use the restricted likelihood.
        steps: Number of EM steps from each maximum along the line.
    """
    starts = likely_starts(design, reml=reml, steps=steps)
    return [as_point(factors, layout) for factors in starts]


def as_point(factors: Sequence[FloatArray], layout: Layout) -> Point:
    """Convert relative factors (q, q) to statsmodels' parameters."""
    scaled = [f / u[:, None] for f, u in zip(factors, layout.units, strict=True)]
    root = np.zeros((0, 0)) if layout.slope is None else scaled[layout.slope]
    return Point(root, np.array([scaled[k][0, 0] for k in layout.components]))


def inverse_curvature(start: Point, exact: Callable[[Point], float], n: int) -> FloatArray | None:
    """Inverse Hessian of deviance / n by differences of the exact likelihood; None if the deviance is not convex.

    Args:
        start: Point at which the Hessian is computed.
        exact: Function that returns the exact log likelihood of a point.
        n: Number of rows.
    """
    q, here = len(start.root), start.pack()
    size = len(here)
    step = 1e-3 * np.maximum(np.abs(here), 0.05)

    def deviance(*moved: int) -> float:
        values = here.copy()
        for k in moved:
            values[k] += step[k]
        return -2 * exact(Point.unpack(values, q)) / n

    base, ones = deviance(), [deviance(k) for k in range(size)]
    hessian = np.empty((size, size))
    for i in range(size):
        for j in range(i + 1):
            both = deviance(i, j)
            hessian[i, j] = hessian[j, i] = (both - ones[i] - ones[j] + base) / (step[i] * step[j])
    values, vectors = np.linalg.eigh(hessian)
    if not np.isfinite(values).all() or values.min() < 1e-4 * values.max():
        return None
    inverse = (vectors / values) @ vectors.T
    return np.asarray((inverse + inverse.T) / 2)
