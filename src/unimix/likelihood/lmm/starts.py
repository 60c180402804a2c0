"""Where a search for covariance parameters should start: the likelihood can have several maxima.

Where random columns are nearly collinear, or levels have few rows, there may be a maximum at zero and a far higher one
at large variances that cancel. First-order conditions hold at both; a look along a line from small to large variances
tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from unimix.likelihood.lmm import gls
from unimix.likelihood.lmm.conditioning import relative_factors

FloatArray = npt.NDArray[np.float64]
Relative = tuple[FloatArray, ...]

SCAN = (0.02, 0.08, 0.3, 1.2, 5.0, 20.0, 80.0, 300.0)
"""Relative standard deviations, the same for every column, at which the likelihood is looked at."""


def likely_starts(
    y: FloatArray, x: FloatArray, blocks: Sequence[gls.Block], *, reml: bool, steps: int = 12
) -> list[Relative]:
    """Relative factors L (covariance = sigma^2 L L') after EM steps from every maximum on the line, best first.

    Args:
        y: Response with one residual variance, shape (n,).
        x: Fixed-effects columns, shape (n, p).
        blocks: Blocks of random effects in well-scaled columns.
        reml: Criterion.
        steps: Number of EM steps from each maximum.
    """
    # An effect of one unit contributes one residual standard deviation, whatever the scale of its column.
    units = [1 / np.mean(b.z**2, axis=0) for b in blocks]

    def value(relative: Relative) -> float:
        return gls.profile(y, x, blocks, relative, reml=reml)[0]

    at = [tuple(size**2 * np.diag(u) for u in units) for size in SCAN]
    line = [-np.inf, *map(value, at), -np.inf]
    peaks = [relative for k, relative in enumerate(at) if line[k] < line[k + 1] >= line[k + 2]]
    climbed = sorted((em(y, x, blocks, p, steps) for p in peaks), key=value, reverse=True)
    return [relative_factors(c, 1.0) for c in climbed]


def em(y: FloatArray, x: FloatArray, blocks: Sequence[gls.Block], relative: Relative, steps: int) -> Relative:
    """Relative covariances after some EM steps towards the ML estimates (Laird and Ware 1982, Biometrics 38).

    Args:
        y: Response, shape (n,).
        x: Fixed-effects columns, shape (n, p).
        blocks: Blocks of random effects.
        relative: Covariances over the residual variance to start from, shapes (q, q).
        steps: Number of steps.
    """
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
        variance = (float(residual @ residual) + variance * freedom) / len(y)
    return tuple(c / variance for c in covariances)
