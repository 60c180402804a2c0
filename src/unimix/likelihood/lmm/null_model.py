"""Null models, which have an intercept and group effects but no predictors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design, RandomBlock
from unimix.distributions.links import LINKS
from unimix.errors import FitError
from unimix.likelihood.glmm.criterion import LaplaceCriterion
from unimix.likelihood.lmm.criterion import LinearCriterion

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class NullModel:
    """Estimates of a null model by maximum likelihood (Laplace's approximation if there are group effects).

    Attributes:
        mean: Expected response for group effects and offset of zero.
        parameters: Dispersion parameters, shape (k,).
        log_likelihood: Maximum of the log likelihood, with all constants.
    """

    mean: float
    parameters: FloatArray
    log_likelihood: float


def null_model(design: Design) -> NullModel:
    """Fit the null model to the response of a design, with its offset, weights and group effects.

    Raises:
        FitError: If the search finds no maximum of the likelihood.
    """
    ones = np.ones((design.n, 1))
    alone = replace(design, x=ones, fixed_names=("Intercept",), zero=None, dispersion=None, smooths=())
    criterion = LaplaceCriterion.of(alone)
    try:
        optimum = criterion.search()
    except FloatingPointError as error:
        raise FitError(
            f"The model without predictors, which the comparison needs, cannot be fitted: {error}."
        ) from None
    way_back = criterion.way_back
    eta = way_back.shift + way_back.coefficients @ optimum.point.beta
    return NullModel(float(LINKS[design.family.link].inverse(eta)[0]), optimum.point.parameters, optimum.value)


def between_and_within(design: Design, block: RandomBlock) -> tuple[float, float]:
    """Standard deviations of a response between and within levels, by REML for the linear model y ~ 1 + (1 | g).

    Args:
        design: Design that holds the response and its weights.
        block: Block that holds the levels.
    """
    ones = np.ones((design.n, 1))
    alone = replace(block, terms=("Intercept",), z=ones, structure="us")
    plain = replace(design, x=ones, fixed_names=("Intercept",), blocks=(alone,), offset=None, sigma=None, smooths=())
    criterion = LinearCriterion.of(plain)
    optimum = criterion.search(reml=True)
    (between,), within = criterion.covariances(optimum.factors, optimum.profile.sigma)
    return float(np.sqrt(between[0, 0])), within
