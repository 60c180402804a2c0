"""Uncertainty of standard deviations and correlations of structured covariances, by the delta method."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.likelihood.lmm.evaluation import Evaluation
from unimix.likelihood.lmm.parameters import factors_of, held, parameters_of
from unimix.likelihood.profile.constrained_parameters import Target
from unimix.likelihood.profile.profiling import unbounded

FloatArray = npt.NDArray[np.float64]
STEP = 1e-6


def structured_spread(criterion: LinearCriterion, at: Evaluation) -> tuple[list[tuple[Target, float]], FloatArray]:
    """Standard deviations, correlations and sigma on unbounded scales, with their covariance matrix.

    The parameters of the structures have the inverse of their observed information as covariance matrix, and all
    standard deviations and correlations follow from them.

    Args:
        criterion: Likelihood of a linear mixed model.
        at: Its evaluation at the estimates.

    Returns:
        Targets with their values (log SD, atanh correlation, log sigma), and their covariance matrix, shape (k, k),
        which is NaN on the boundary. A known sigma is no target.
    """
    data, sizes = criterion.data, [q for q, _ in criterion.data.sizes]
    sizes = sizes[:-1] if data.grouped is not None else sizes  # the last covariance is that of the residuals
    known = data.sigma
    targets = [Target("sd", k, i) for k, q in enumerate(sizes) for i in range(q)]
    targets += [Target("cor", k, i, j) for k, q in enumerate(sizes) for i in range(q) for j in range(i)]

    def natural(z: FloatArray) -> FloatArray:
        own_parameters, scale = (z[:-1], float(np.exp(z[-1]))) if known is None else (z, known)
        covariances, sigma = criterion.covariances(factors_of(data, own_parameters), scale)
        values = [np.log(sigma)] if known is None else []
        for target in reversed(targets):
            own = covariances[target.index]
            variance = own[target.first, target.first]
            correlation = own[target.first, target.second] / np.sqrt(variance * own[target.second, target.second])
            values.append(unbounded(target, float(np.sqrt(variance) if target.kind == "sd" else correlation)))
        return np.array(values[::-1])

    z = np.append(parameters_of(data, at.factors), np.log(at.sigma) if known is None else [])
    every = [*targets, *([Target("scale", 0)] if known is None else [])]
    with np.errstate(invalid="ignore", divide="ignore"):
        here = natural(z)
    values = list(zip(every, map(float, here), strict=True))
    if held(data, at.factors, 1e-4).any() or not np.isfinite(here).all():
        return values, np.full((len(every), len(every)), np.nan)
    jacobian = np.array([(natural(z + d) - natural(z - d)) / (2 * STEP) for d in STEP * np.eye(len(z))]).T
    return values, np.asarray(jacobian @ at.satterthwaite.variances() @ jacobian.T)


__all__ = ["structured_spread"]
