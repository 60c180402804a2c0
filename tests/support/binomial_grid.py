"""Posterior of a binomial model with one group effect per level, on a grid of its intercept and standard deviation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

FloatArray = npt.NDArray[np.float64]


def grid_posterior(k: FloatArray, n: int, lowest: float = -3.0) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Intercepts, standard deviations and the probability of each pair, with the effects integrated out by 60 nodes.

    The priors are Normal(0, 1) and HalfNormal(1).

    Args:
        k: Number of successes of each level.
        n: Number of trials of each level.
        lowest: Smallest intercept of the grid.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    intercepts, sds = np.linspace(lowest, 3, 121), np.linspace(0.005, 4, 160)
    eta = intercepts[:, None, None] + sds[None, :, None] * nodes
    rows = [(np.exp(stats.binom.logpmf(v, n, 1 / (1 + np.exp(-eta)))) * weights).sum(axis=2) for v in k]
    log_density = sum(np.log(r) for r in rows)
    log_density = log_density + stats.norm.logpdf(intercepts)[:, None] + stats.halfnorm.logpdf(sds)
    density = np.exp(log_density - log_density.max())
    return intercepts, sds, density / density.sum()
