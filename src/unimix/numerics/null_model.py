"""The generalised model without predictors: intercept, offset and group effects alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from unimix.errors import FitError
from unimix.model.design import Design
from unimix.numerics.conditioning import condition
from unimix.numerics.laplace_search import search_laplace
from unimix.numerics.links import LINKS

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
