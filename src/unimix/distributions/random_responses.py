"""Random responses of every family, with the parameters of :mod:`unimix.distributions.distribution`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unimix.distributions.distribution import DISTRIBUTIONS
from unimix.distributions.family import Family
from unimix.distributions.links import LINKS

FloatArray = npt.NDArray[np.float64]


def mean_of(family: Family, eta: FloatArray) -> FloatArray:
    """Mean of the response for a linear predictor, in its shape; NaN where the inverse link is not defined."""
    link = LINKS[family.link]
    if not link.positive:
        return link.inverse(eta)
    return np.where(eta > 0, link.inverse(np.where(eta > 0, eta, 1.0)), np.nan)


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
        Responses in the shape of ``eta``; NaN where the inverse link is not defined.
    """
    mu = mean_of(family, eta)
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
