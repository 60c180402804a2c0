"""Where the search starts: a few cheap EM steps, and the curvature there.

An evaluation of statsmodels' likelihood and score loops over groups in Python; a good start and a first step of the
right length save half of them. The end of the search is decided by statsmodels' likelihood alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from unimix.backends._statsmodels_model import Layout, Point
from unimix.model.design import Design
from unimix.numerics import gls
from unimix.numerics.conditioning import relative_factors

FloatArray = npt.NDArray[np.float64]


def em_start(design: Design, layout: Layout, steps: int, ratio: float = 0.5) -> Point:
    """Relative covariances after some steps of the EM algorithm (Laird and Ware 1982, Biometrics 38).

    The residual variance takes each block's conditional covariance alone: enough for a start.

    Args:
        design: Without weights or offset.
        layout: Which block is which.
        steps: Number of steps.
        ratio: Variance of each column's contribution over the residual variance, at first.
    """
    y, x, blocks = design.y, design.x, design.blocks
    residual = y - x @ np.linalg.lstsq(x, y)[0]
    variance = float(np.mean(residual**2)) / (1 + ratio)
    covariances = tuple(ratio * variance * np.diag(1 / np.mean(b.z**2, axis=0)) for b in blocks)
    for _ in range(steps):
        found = gls.solve(y, x, blocks, covariances, float(np.sqrt(variance)))
        residual, spread = y - x @ found.beta, 0.0
        for block, modes, covs in zip(blocks, found.modes, found.mode_covs, strict=True):
            residual = residual - np.einsum("nq,nq->n", block.z, modes[block.codes])
            spread += float(np.einsum("nq,nqr,nr->", block.z, covs[block.codes], block.z))
        covariances = tuple(
            np.einsum("lq,lr->qr", m, m) / len(m) + v.mean(axis=0)
            for m, v in zip(found.modes, found.mode_covs, strict=True)
        )
        variance = (float(residual @ residual) + spread) / design.n
    factors = relative_factors(covariances, float(np.sqrt(variance)))
    root = np.zeros((0, 0)) if layout.slope is None else factors[layout.slope]
    return Point(root, np.array([factors[k][0, 0] for k in layout.components]))


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
