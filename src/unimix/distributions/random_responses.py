"""Random responses of every family, with the parameters of :mod:`unimix.distributions.distribution`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unimix.distributions.cumulative import draw_categories
from unimix.distributions.distribution import DISTRIBUTIONS
from unimix.distributions.family import Cumulative, Family
from unimix.distributions.links import LINKS
from unimix.distributions.ordered import refuse_categories
from unimix.errors import UnsupportedModelError

FloatArray = npt.NDArray[np.float64]


def location_of(family: Family, eta: FloatArray) -> FloatArray:
    """Inverse link mu of a linear predictor, in its shape; NaN where it is not defined.

    Raises:
        UnsupportedModelError: If the response is ordered categories, which have no mean.
    """
    refuse_categories(family)
    link = LINKS[family.link]
    if not link.positive:
        return link.inverse(eta)
    return np.where(eta > 0, link.inverse(np.where(eta > 0, eta, 1.0)), np.nan)


def mean_of(family: Family, eta: FloatArray, parameters: FloatArray | None = None) -> FloatArray:
    """Expected response for a linear predictor, in its shape; NaN where the inverse link is not defined.

    Args:
        family: Distribution and link.
        eta: Linear predictor, any shape.
        parameters: Dispersion parameters, shape (k,), or any shape (k, ...) that extends to that of ``eta``. They are
            needed where the expected response is not the inverse link alone (:attr:`Distribution.expectation`).

    Raises:
        UnsupportedModelError: If the expected response depends on parameters, and they are not given, or the response
            is ordered categories.
    """
    mu = location_of(family, eta)
    expectation = DISTRIBUTIONS[family.label].expectation
    if expectation is None:
        return mu
    if parameters is None:
        raise UnsupportedModelError(
            f"This is not computed on the scale of the response for the {family.name} family, whose expected response "
            "is not the inverse link of the predictor. Ask for it on the scale of the link: kind='link' or "
            "scale='link'."
        )
    return np.asarray(expectation(mu, parameters)[0])


def mean_slope(family: Family, eta: FloatArray, parameters: FloatArray | None = None) -> FloatArray:
    """Derivative of :func:`mean_of` with respect to the linear predictor, in its shape; the arguments are the same."""
    refuse_categories(family)
    slope = LINKS[family.link].slope(eta)
    expectation = DISTRIBUTIONS[family.label].expectation
    if expectation is None:
        return slope
    mean_of(family, eta, parameters)  # refuses where parameters are missing
    given: FloatArray = np.empty(0) if parameters is None else parameters
    return np.asarray(expectation(location_of(family, eta), given)[1] * slope)


def draw_response(
    family: Family,
    parameters: FloatArray,
    eta: FloatArray,
    rng: np.random.Generator,
    weights: FloatArray | None = None,
    trials: FloatArray | None = None,
    share: FloatArray | None = None,
) -> FloatArray:
    """Draw one response for each value of the linear predictor.

    Args:
        family: Distribution and link.
        parameters: Dispersion parameters, shape (k,), or shape (S, k) for one set per row of ``eta``.
        eta: Linear predictor, shape (..., n); the first axis has length S if there are S sets of parameters.
        rng: Random number generator.
        weights: Precisions of a Gaussian response, shape (n,).
        trials: Numbers of trials, shape (n,), for a binomial family; the responses are proportions of them.
        share: Probability of no structural zero, shape (n,).

    Returns:
        Responses in the shape of ``eta``; NaN where the inverse link is not defined. Ordered responses are indices of
        categories, from 0.
    """
    if isinstance(family, Cumulative):
        given_sets = np.ndim(parameters) == 2
        thresholds = family.matrix @ np.atleast_2d(parameters).T
        return draw_categories(family.link, thresholds[..., None] if given_sets else thresholds[:, 0], eta, rng)
    mu = location_of(family, eta)
    inside = np.isfinite(mu)
    if family.link == "identity" and family.response != "real":
        inside &= mu > 0
    mu = np.where(inside, mu, 0.5)
    p = np.atleast_2d(parameters).T[..., None] if np.ndim(parameters) == 2 else np.asarray(parameters)
    with np.errstate(over="ignore"):
        given = trials if family.response == "binomial" else weights
        draw = DISTRIBUTIONS[family.label].draw
        drawn = np.asarray(draw(mu, p, rng, np.ones(mu.shape[-1]) if given is None else given))
    if share is not None:
        drawn = np.where(rng.random(drawn.shape) < share, drawn, 0.0)
    return np.where(inside, drawn, np.nan)
