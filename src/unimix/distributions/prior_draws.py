"""Random draws from prior distributions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unimix.distributions import priors

FloatArray = npt.NDArray[np.float64]


def draw_prior(prior: priors.Prior, n: int, rng: np.random.Generator) -> FloatArray:
    """Draw from a prior of one number, shape (n,).

    Args:
        prior: The prior; correlations are drawn by :func:`draw_correlations`.
        n: Number of draws.
        rng: Random number generator.

    Raises:
        TypeError: If the prior is not one of :mod:`unimix.priors`.
    """
    match prior:
        case priors.Normal(mu, sigma):
            return rng.normal(mu, sigma, n)
        case priors.StudentT(nu, mu, sigma):
            return mu + sigma * rng.standard_t(nu, n)
        case priors.Cauchy(alpha, beta):
            return alpha + beta * rng.standard_cauchy(n)
        case priors.HalfNormal(sigma):
            return np.abs(rng.normal(0.0, sigma, n))
        case priors.HalfStudentT(nu, sigma):
            return np.abs(sigma * rng.standard_t(nu, n))
        case priors.HalfCauchy(beta):
            return np.abs(beta * rng.standard_cauchy(n))
        case priors.Exponential(lam):
            return rng.exponential(1.0 / lam, n)
        case priors.Gamma(alpha, beta):
            return rng.gamma(alpha, 1.0 / beta, n)
        case priors.InverseGamma(alpha, beta):
            return 1.0 / rng.gamma(alpha, 1.0 / beta, n)
        case priors.LogNormal(mu, sigma):
            return rng.lognormal(mu, sigma, n)
        case priors.Uniform(lower, upper):
            return rng.uniform(lower, upper, n)
        case _:
            raise TypeError(f"{type(prior).__name__} has no draws here.")


def draw_correlations(eta: float, q: int, n: int, rng: np.random.Generator) -> FloatArray:
    """Draw correlation matrices with density proportional to det(R)^(eta - 1), shape (n, q, q).

    The partial correlations of a C-vine are independent beta variables (Lewandowski, Kurowicka & Joe 2009, J.
    Multivar. Anal. 100:1989-2001, section 2.4).
    """
    factor = np.zeros((n, q, q))
    factor[:, 0, 0] = 1.0
    for i in range(1, q):
        left = np.ones(n)
        for k in range(i):
            # the partial correlation of k and i given 0 ... k - 1 is beta((q - 2 - k) / 2 + eta) on (-1, 1)
            shape = eta + (q - 2 - k) / 2
            partial = 2.0 * rng.beta(shape, shape, n) - 1.0
            factor[:, i, k] = partial * np.sqrt(left)
            left = left * (1.0 - partial**2)
        factor[:, i, i] = np.sqrt(left)
    return np.asarray(factor @ factor.transpose(0, 2, 1))


__all__ = ["draw_correlations", "draw_prior"]
