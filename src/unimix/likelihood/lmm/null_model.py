"""Models without predictors: intercept and group effects alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design, RandomBlock
from unimix.distributions.links import LINKS
from unimix.errors import FitError
from unimix.likelihood.glmm.optimise import search_laplace
from unimix.likelihood.lmm.conditioning import condition
from unimix.likelihood.lmm.optimise import search
from unimix.likelihood.lmm.reduced_data import form

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class NullModel:
    """Its maximum of the likelihood (by Laplace's approximation where there are group effects).

    Attributes:
        mean: Expected response at effects and offset of zero.
        parameters: Dispersion parameters, shape (k,).
        log_likelihood: With all constants.
    """

    mean: float
    parameters: FloatArray
    log_likelihood: float


def null_model(design: Design) -> NullModel:
    """Fit it to the response of a design, with its offset, weights and group effects.

    Raises:
        FitError: If its likelihood has no maximum that can be found.
    """
    alone = replace(design, x=np.ones((design.n, 1)), fixed_names=("Intercept",), zero=None, dispersion=None)
    own, way_back = condition(alone)
    try:
        found = search_laplace(own)
    except FloatingPointError as error:
        raise FitError(
            f"The model without predictors, which the comparison needs, cannot be fitted: {error}."
        ) from None
    eta = way_back.shift + way_back.coefficients @ found.point.beta
    return NullModel(float(LINKS[design.family.link].inverse(eta)[0]), found.point.parameters, found.value)


def between_and_within(design: Design, block: RandomBlock) -> tuple[float, float]:
    """Standard deviations of a response between and within levels: REML of the linear model y ~ 1 + (1 | g).

    Args:
        design: For the response and its weights.
        block: For the levels.
    """
    ones = np.ones((design.n, 1))
    alone = replace(block, terms=("Intercept",), z=ones, structure="us")
    own, way_back = condition(replace(design, x=ones, fixed_names=("Intercept",), blocks=(alone,), offset=None))
    found = search(form(own), [np.ones(1)], reml=True)
    between = way_back.scale * way_back.blocks[0][0, 0] * found.factors[0][0, 0] * found.profile.sigma
    return float(abs(between)), float(way_back.residual * found.profile.sigma)
