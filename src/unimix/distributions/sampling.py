"""Random responses of every family, parametrized as in :mod:`unimix.distributions.log_density`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unimix.distributions.family import Family
from unimix.distributions.links import LINKS

FloatArray = npt.NDArray[np.float64]


def mean_of(family: Family, eta: FloatArray) -> FloatArray:
    """Expected response of a linear predictor, in its shape; NaN where the link gives none."""
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
    """One response per linear predictor.

    Args:
        family: Distribution and link.
        parameters: Dispersion parameters, shape (k,), or (S, k): one set per row of ``eta``.
        eta: Shape (..., n), with the S sets along the first axis where parameters differ.
        rng: Source of randomness.
        weights: Precisions of a Gaussian response, shape (n,).
        trials: Shape (n,), for a binomial family: the result is a proportion of them.
        share: Probability of no structural zero, shape (n,).

    Returns:
        In the shape of ``eta``; NaN where the link gives no mean.
    """
    mu = mean_of(family, eta)
    inside = np.isfinite(mu)
    if family.link == "identity" and family.response != "real":
        inside &= mu > 0
    mu = np.where(inside, mu, 0.5)
    p = np.atleast_2d(parameters).T[..., None] if np.ndim(parameters) == 2 else np.asarray(parameters)
    with np.errstate(over="ignore"):
        found = _draw(family, p, mu, rng, weights, trials)
    if share is not None:
        found = np.where(rng.random(found.shape) < share, found, 0.0)
    return np.where(inside, found, np.nan)


def _draw(
    family: Family,
    p: FloatArray,
    mu: FloatArray,
    rng: np.random.Generator,
    weights: FloatArray | None,
    trials: FloatArray | None,
) -> FloatArray:
    size = mu.shape
    match family.label:
        case "gaussian":
            return np.asarray(mu + p[0] / np.sqrt(1.0 if weights is None else weights) * rng.standard_normal(size))
        case "binomial":
            n = np.ones(size[-1]) if trials is None else trials
            return np.asarray(rng.binomial(np.round(n).astype(np.int64), mu, size) / n)
        case "poisson":
            return rng.poisson(_limited(mu), size).astype(np.float64)
        case "gamma":
            return np.asarray(rng.gamma(1 / p[0], p[0] * mu, size))
        case "inverse_gaussian":
            return np.asarray(rng.wald(mu, 1 / p[0], size))
        case "negative_binomial":
            return rng.poisson(_limited(rng.gamma(p[0], mu / p[0], size))).astype(np.float64)
        case "negative_binomial_1":
            return rng.poisson(_limited(rng.gamma(mu / p[0], p[0], size))).astype(np.float64)
        case "beta":
            return np.asarray(rng.beta(mu * p[0], (1 - mu) * p[0], size))
        case _:
            return np.asarray(mu + p[0] * rng.standard_t(np.broadcast_to(p[1], size)))


def _limited(mean: FloatArray) -> FloatArray:
    """Means within the range that NumPy draws counts for."""
    return np.minimum(mean, 1e15)
