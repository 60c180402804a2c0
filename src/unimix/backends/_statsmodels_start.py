"""Where the search starts: a few cheap EM steps, and the curvature there.

An evaluation of statsmodels' likelihood and score loops over groups in Python; a good start and a first step of the
right length save half of them. The end of the search is decided by statsmodels' likelihood alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from unimix.backends._statsmodels_model import Layout, Point, blocks_of
from unimix.model.design import Design
from unimix.numerics import gls
from unimix.numerics.conditioning import relative_factors

FloatArray = npt.NDArray[np.float64]


SCAN = (0.02, 0.08, 0.3, 1.2, 5.0, 20.0, 80.0, 300.0)
"""Relative standard deviations, the same for every column, at which the likelihood is looked at before the search."""


def find_starts(design: Design, layout: Layout, exact: Callable[[Point], float], steps: int) -> list[Point]:
    """Where to start: after EM steps from every maximum along a line from small to large variances; best first.

    Where random columns are nearly collinear, or levels have few rows, there may be a maximum at zero and a higher one
    at large variances that cancel.

    Args:
        design: Without weights or offset.
        layout: Which block is which.
        exact: Log-likelihood of a point.
        steps: Number of EM steps from each.
    """
    q = 0 if layout.slope is None else design.blocks[layout.slope].q
    line = [-np.inf, *(exact(_equal(layout, q, size)) for size in SCAN), -np.inf]
    peaks = [size for k, size in enumerate(SCAN) if line[k] < line[k + 1] >= line[k + 2]]
    return sorted((em_steps(design, layout, _equal(layout, q, s), steps) for s in peaks), key=exact, reverse=True)


def _equal(layout: Layout, q: int, size: float) -> Point:
    """Every random column contributes ``size`` residual standard deviations, independently."""
    return Point(size * np.eye(q), np.full(len(layout.components), size))


def em_steps(design: Design, layout: Layout, start: Point, steps: int) -> Point:
    """Relative covariances after some EM steps towards the ML estimates (Laird and Ware 1982, Biometrics 38)."""
    y, x, blocks = design.y, design.x, design.blocks
    relative = blocks_of(start, layout)
    variance = gls.profile(y, x, blocks, relative, reml=True)[1] ** 2
    covariances = tuple(variance * c for c in relative)
    for _ in range(steps):
        found = gls.solve(y, x, blocks, covariances, float(np.sqrt(variance)))
        residual, freedom = y - x @ found.beta, 0.0
        for block, c, modes, covs in zip(blocks, covariances, found.modes, found.mode_covs, strict=True):
            residual = residual - np.einsum("nq,nq->n", block.z, modes[block.codes])
            freedom += modes.size - float(np.trace(np.linalg.solve(c, covs.sum(axis=0))))
        covariances = tuple(
            np.einsum("lq,lr->qr", m, m) / len(m) + v.mean(axis=0)
            for m, v in zip(found.modes, found.mode_covs, strict=True)
        )
        variance = (float(residual @ residual) + variance * freedom) / design.n
    factors = relative_factors(covariances, float(np.sqrt(variance)))
    scaled = [f / u[:, None] for f, u in zip(factors, layout.units, strict=True)]
    root = np.zeros((0, 0)) if layout.slope is None else scaled[layout.slope]
    return Point(root, np.array([scaled[k][0, 0] for k in layout.components]))


def inverse_curvature(start: Point, exact: Callable[[Point], float], n: int) -> FloatArray | None:
    """Inverse Hessian of deviance / n by differences of the exact likelihood; None where it is not convex.

    Args:
        start: Where.
        exact: Log-likelihood of a point.
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
