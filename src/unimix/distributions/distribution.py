"""Density with derivatives, variance, unit deviance and random responses of each family.

The distributions are parametrized by the mean mu and the dispersion parameters p of
:class:`unimix.distributions.family.Family`; densities have all constants. Sources: McCullagh & Nelder (1989),
Generalized Linear Models, chapter 2, for the exponential families; Hardin & Hilbe (2018) for the negative binomials;
Ferrari & Cribari-Neto (2004), J. Appl. Stat. 31, for the beta.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.float64]
_LOG_2PI = float(np.log(2 * np.pi))
_TINY = 1e-300


@dataclass(frozen=True)
class Kernel:
    """Log density per row as a function of the mean mu, with derivatives; all arrays have shape (n,).

    Attributes:
        value: Log density.
        by_mean: First derivative of the log density with respect to mu.
        curvature: Negative second derivative of the log density with respect to mu.
        information: Expectation of ``curvature``.
        by_parameters: First derivatives of the log density with respect to the dispersion parameters.
    """

    value: FloatArray
    by_mean: FloatArray
    curvature: FloatArray
    information: FloatArray
    by_parameters: tuple[FloatArray, ...]


@dataclass(frozen=True)
class Distribution:
    """Functions of a distribution with mean mu and dispersion parameters p.

    The parameters have shape (k,), or shape (k, S, 1) for means of shape (S, n).

    Attributes:
        log_density: Function of (y, mu, p, w), arrays of shape (n,); None for the binomial, whose tails need the
            linear predictor.
        variance: Function of (mu, p) that returns Var(y) for a weight, or a number of trials, of 1.
        draw: Function of (mu, p, rng, w) that returns responses in the shape of mu; w is 1 or holds the precisions of
            a Gaussian response or the trials of a binomial one, shape (n,).
        unit_deviance: Function of (y, mu, p) that returns 2 dispersion (log f(y; y) - log f(y; mu)); None if mu = y
            does not maximise the likelihood.
    """

    log_density: Callable[[FloatArray, FloatArray, FloatArray, FloatArray], Kernel] | None
    variance: Callable[[FloatArray, FloatArray], Any]
    draw: Callable[[FloatArray, FloatArray, np.random.Generator, Any], Any]
    unit_deviance: Callable[[FloatArray, FloatArray, FloatArray], Any] | None = None


def _nb(y: FloatArray, mu: FloatArray, size: FloatArray) -> FloatArray:
    """Log density of a negative binomial with given mean and size."""
    return np.asarray(
        _log_rising(size, y) - special.gammaln(y + 1) - size * np.log1p(mu / size) + special.xlogy(y, mu / (size + mu))
    )


def _log_rising(size: FloatArray, y: FloatArray) -> FloatArray:
    """Log Gamma(size + y) - log Gamma(size), without cancellation for large ``size``."""
    positive = np.maximum(y, 1.0)
    return np.asarray(np.where(y > 0, special.gammaln(positive) - special.betaln(size, positive), 0.0))


def _gaussian(y: FloatArray, mu: FloatArray, p: FloatArray, w: FloatArray) -> Kernel:
    sigma = p[0]
    z2 = w * (y - mu) ** 2 / sigma**2
    flat = w / sigma**2
    value = -0.5 * (_LOG_2PI + z2) - np.log(sigma) + 0.5 * np.log(w)
    return Kernel(value, flat * (y - mu), flat, flat, ((z2 - 1) / sigma,))


def _poisson(y: FloatArray, mu: FloatArray, p: FloatArray, w: FloatArray) -> Kernel:
    del p
    mu = np.maximum(mu, _TINY)
    value = w * (special.xlogy(y, mu) - mu - special.gammaln(y + 1))
    return Kernel(value, w * (y / mu - 1), w * y / mu**2, w / mu, ())


def _gamma(y: FloatArray, mu: FloatArray, p: FloatArray, w: FloatArray) -> Kernel:
    phi = p[0]
    shape, ratio = 1 / phi, y / mu
    value = w * (shape * np.log(shape * ratio) - shape * ratio - np.log(y) - special.gammaln(shape))
    by_shape = w * (np.log(shape * ratio) + 1 - ratio - special.digamma(shape))
    return Kernel(
        value,
        w * shape * (ratio - 1) / mu,
        w * shape * (2 * ratio - 1) / mu**2,
        w * shape / mu**2,
        (-by_shape / phi**2,),
    )


def _inverse_gaussian(y: FloatArray, mu: FloatArray, p: FloatArray, w: FloatArray) -> Kernel:
    phi = p[0]
    size = (y - mu) ** 2 / (y * mu**2)
    value = w * (-0.5 * (_LOG_2PI + np.log(phi) + 3 * np.log(y)) - size / (2 * phi))
    return Kernel(
        value,
        w * (y - mu) / (phi * mu**3),
        w * (3 * y - 2 * mu) / (phi * mu**4),
        w / (phi * mu**3),
        (w * (size / phi - 1) / (2 * phi),),
    )


def _negative_binomial(y: FloatArray, mu: FloatArray, p: FloatArray, w: FloatArray) -> Kernel:
    theta = p[0]
    mu = np.maximum(mu, _TINY)
    total = theta + mu
    by_theta = special.digamma(y + theta) - special.digamma(theta) + np.log(theta / total) + 1 - (y + theta) / total
    return Kernel(
        w * _nb(y, mu, np.full_like(mu, theta)),
        w * (y - mu) * theta / (mu * total),
        w * (y / mu**2 - (y + theta) / total**2),
        w * theta / (mu * total),
        (w * by_theta,),
    )


def _negative_binomial_1_value(y: FloatArray, mu: FloatArray, p: FloatArray) -> FloatArray:
    return _nb(y, mu, np.maximum(mu, _TINY) / p[0])


def _negative_binomial_1(y: FloatArray, mu: FloatArray, p: FloatArray, w: FloatArray) -> Kernel:
    alpha = p[0]
    size = np.maximum(mu, _TINY) / alpha  # var = mu (1 + alpha); success probability 1 / (1 + alpha)
    gap = special.digamma(y + size) - special.digamma(size)
    by_size = gap - np.log1p(alpha)
    bent = special.polygamma(1, size) - special.polygamma(1, y + size)
    value = w * _negative_binomial_1_value(y, mu, p)
    by_alpha = -by_size * size / alpha - size / (1 + alpha) + y / (alpha * (1 + alpha))
    curvature = w * bent / alpha**2
    # E trigamma(y + size) has no closed form; the search uses the information of the quasi-likelihood instead.
    return Kernel(value, w * by_size / alpha, curvature, w / (mu * (1 + alpha)), (w * by_alpha,))


def _beta_value(y: FloatArray, mu: FloatArray, p: FloatArray) -> FloatArray:
    phi = p[0]
    a, b = np.maximum(mu * phi, _TINY), np.maximum((1 - mu) * phi, _TINY)
    constant = special.gammaln(phi) - special.gammaln(a) - special.gammaln(b)
    return np.asarray(constant + (a - 1) * np.log(y) + (b - 1) * np.log1p(-y))


def _beta(y: FloatArray, mu: FloatArray, p: FloatArray, w: FloatArray) -> Kernel:
    phi = p[0]
    a, b = np.maximum(mu * phi, _TINY), np.maximum((1 - mu) * phi, _TINY)
    logit = np.log(y) - np.log1p(-y)
    gap = special.digamma(a) - special.digamma(b)
    bent = phi**2 * (special.polygamma(1, a) + special.polygamma(1, b))
    by_phi = special.digamma(phi) - special.digamma(b) + np.log1p(-y) + mu * (logit - gap)
    value = w * _beta_value(y, mu, p)
    return Kernel(value, w * phi * (logit - gap), w * bent, w * bent, (w * by_phi,))


def _student_t(y: FloatArray, mu: FloatArray, p: FloatArray, w: FloatArray) -> Kernel:
    sigma, nu = p[0], p[1]
    r = (y - mu) / sigma
    inside = 1 + r * r / nu
    half = (nu + 1) / 2
    value = (
        special.gammaln(half)
        - special.gammaln(nu / 2)
        - 0.5 * np.log(nu * np.pi)
        - np.log(sigma)
        - half * np.log(inside)
    )
    by_mean = (nu + 1) * r / (nu * sigma * inside)
    curvature = (nu + 1) * (1 - r * r / nu) / (nu * sigma**2 * inside**2)
    by_sigma = (r * by_mean * sigma - 1) / sigma
    by_nu = 0.5 * (
        special.digamma(half) - special.digamma(nu / 2) - 1 / nu - np.log(inside) + (nu + 1) * r * r / (nu**2 * inside)
    )
    information = np.full_like(mu, (nu + 1) / ((nu + 3) * sigma**2))
    return Kernel(w * value, w * by_mean, w * curvature, w * information, (w * by_sigma, w * by_nu))


def _student_t_variance(mu: FloatArray, p: FloatArray) -> FloatArray:
    nu = p[1]
    wide = np.where(nu > 2, nu / np.where(nu > 2, nu - 2, 1.0), np.inf)
    return np.full_like(mu, p[0] ** 2 * wide)


def _negative_binomial_deviance(y: FloatArray, mu: FloatArray, p: FloatArray) -> FloatArray:
    return np.asarray(2 * (special.xlogy(y, y / mu) - (y + p[0]) * np.log((y + p[0]) / (mu + p[0]))))


def _counts(mean: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Draw Poisson counts; means are limited to the range that NumPy supports."""
    return rng.poisson(np.minimum(mean, 1e15)).astype(np.float64)


VALUES: dict[str, Callable[[FloatArray, FloatArray, FloatArray], FloatArray]] = {
    "negative_binomial_1": _negative_binomial_1_value,
    "beta": _beta_value,
}
"""Log densities of (y, mu, p) without derivatives, of the families whose derivatives take most of the time."""

DISTRIBUTIONS: dict[str, Distribution] = {
    "gaussian": Distribution(
        _gaussian,
        variance=lambda mu, p: np.full_like(mu, p[0] ** 2),
        draw=lambda mu, p, rng, w: mu + p[0] / np.sqrt(w) * rng.standard_normal(mu.shape),
        unit_deviance=lambda y, mu, _p: (y - mu) ** 2,
    ),
    "binomial": Distribution(
        None,
        variance=lambda mu, _p: mu * (1 - mu),
        draw=lambda mu, _p, rng, w: rng.binomial(np.round(w).astype(np.int64), mu) / w,
        unit_deviance=lambda y, mu, _p: 2 * (special.xlogy(y, y / mu) + special.xlogy(1 - y, (1 - y) / (1 - mu))),
    ),
    "poisson": Distribution(
        _poisson,
        variance=lambda mu, _p: mu,
        draw=lambda mu, _p, rng, _w: _counts(mu, rng),
        unit_deviance=lambda y, mu, _p: 2 * (special.xlogy(y, y / mu) - (y - mu)),
    ),
    "gamma": Distribution(
        _gamma,
        variance=lambda mu, p: p[0] * mu**2,
        draw=lambda mu, p, rng, _w: rng.gamma(1 / p[0], p[0] * mu, mu.shape),
        unit_deviance=lambda y, mu, _p: -2 * (np.log(y / mu) - (y - mu) / mu),
    ),
    "inverse_gaussian": Distribution(
        _inverse_gaussian,
        variance=lambda mu, p: p[0] * mu**3,
        draw=lambda mu, p, rng, _w: rng.wald(mu, 1 / p[0], mu.shape),
        unit_deviance=lambda y, mu, _p: (y - mu) ** 2 / (y * mu**2),
    ),
    "negative_binomial": Distribution(
        _negative_binomial,
        variance=lambda mu, p: mu + mu**2 / p[0],
        draw=lambda mu, p, rng, _w: _counts(rng.gamma(p[0], mu / p[0], mu.shape), rng),
        unit_deviance=_negative_binomial_deviance,
    ),
    "negative_binomial_1": Distribution(
        _negative_binomial_1,
        variance=lambda mu, p: mu * (1 + p[0]),
        draw=lambda mu, p, rng, _w: _counts(rng.gamma(mu / p[0], p[0], mu.shape), rng),
    ),
    "beta": Distribution(
        _beta,
        variance=lambda mu, p: mu * (1 - mu) / (1 + p[0]),
        draw=lambda mu, p, rng, _w: rng.beta(mu * p[0], (1 - mu) * p[0], mu.shape),
    ),
    "student_t": Distribution(
        _student_t,
        variance=_student_t_variance,
        draw=lambda mu, p, rng, _w: mu + p[0] * rng.standard_t(np.broadcast_to(p[1], mu.shape)),
    ),
}
"""Distribution of each family, by the family's label."""
