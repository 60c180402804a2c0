"""Density with derivatives, variance, unit deviance and random responses of each family.

The distributions are parametrized by the mean mu and the dispersion parameters p of
:class:`unimix.distributions.family.Family`; densities have all constants. This file has the normal distribution, the
classical exponential families and the negative binomials; :mod:`proportions`, :mod:`real`, :mod:`positive` and
:mod:`counts` beside it have the others. Sources: McCullagh & Nelder (1989), Generalized Linear Models, chapter 2, for
the exponential families; Hardin & Hilbe (2018) for the negative binomials.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import special

from unimix.distributions.counts import GENERALISED_POISSON, truncated_negative_binomial, truncated_poisson
from unimix.distributions.kernel import TINY, Distribution, Kernel, draw_counts, log_rising, trigamma
from unimix.distributions.positive import EXPONENTIAL, LOGNORMAL, TWEEDIE, gamma_deviance
from unimix.distributions.proportions import BETA, BETA_BINOMIAL, beta_value
from unimix.distributions.real import SKEW_NORMAL, STUDENT_T

FloatArray = npt.NDArray[np.float64]
_LOG_2PI = float(np.log(2 * np.pi))


def _nb(y: FloatArray, mu: FloatArray, size: FloatArray) -> FloatArray:
    """Log density of a negative binomial with given mean and size."""
    return np.asarray(
        log_rising(size, y) - special.gammaln(y + 1) - size * np.log1p(mu / size) + special.xlogy(y, mu / (size + mu))
    )


def _gaussian(y: FloatArray, mu: FloatArray, p: FloatArray, w: FloatArray) -> Kernel:
    sigma = p[0]
    z2 = w * (y - mu) ** 2 / sigma**2
    flat = w / sigma**2
    value = -0.5 * (_LOG_2PI + z2) - np.log(sigma) + 0.5 * np.log(w)
    return Kernel(value, flat * (y - mu), flat, flat, ((z2 - 1) / sigma,))


def _poisson(y: FloatArray, mu: FloatArray, p: FloatArray, w: FloatArray) -> Kernel:
    del p
    mu = np.maximum(mu, TINY)
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
    mu = np.maximum(mu, TINY)
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
    return _nb(y, mu, np.maximum(mu, TINY) / p[0])


def _negative_binomial_1(y: FloatArray, mu: FloatArray, p: FloatArray, w: FloatArray) -> Kernel:
    alpha = p[0]
    size = np.maximum(mu, TINY) / alpha  # var = mu (1 + alpha); success probability 1 / (1 + alpha)
    gap = special.digamma(y + size) - special.digamma(size)
    by_size = gap - np.log1p(alpha)
    bent = trigamma(size) - trigamma(y + size)
    value = w * _negative_binomial_1_value(y, mu, p)
    by_alpha = -by_size * size / alpha - size / (1 + alpha) + y / (alpha * (1 + alpha))
    curvature = w * bent / alpha**2
    # E trigamma(y + size) has no closed form; the search uses the information of the quasi-likelihood instead.
    return Kernel(value, w * by_size / alpha, curvature, w / (mu * (1 + alpha)), (w * by_alpha,))


def _negative_binomial_deviance(y: FloatArray, mu: FloatArray, p: FloatArray) -> FloatArray:
    return np.asarray(2 * (special.xlogy(y, y / mu) - (y + p[0]) * np.log((y + p[0]) / (mu + p[0]))))


VALUES: dict[str, Callable[[FloatArray, FloatArray, FloatArray], FloatArray]] = {
    "negative_binomial_1": _negative_binomial_1_value,
    "beta": beta_value,
}
"""Log densities of (y, mu, p) without derivatives, of the families whose derivatives take most of the time."""

_WITH_ZEROS: dict[str, Distribution] = {
    "gaussian": Distribution(
        _gaussian,
        variance=lambda mu, p: np.full_like(mu, p[0] ** 2),
        draw=lambda mu, p, rng, w: mu + p[0] / np.sqrt(w) * rng.standard_normal(mu.shape),
        unit_deviance=lambda y, mu, _p: (y - mu) ** 2,
        start=(1.0,),
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
        draw=lambda mu, _p, rng, _w: draw_counts(mu, rng),
        unit_deviance=lambda y, mu, _p: 2 * (special.xlogy(y, y / mu) - (y - mu)),
    ),
    "gamma": Distribution(
        _gamma,
        variance=lambda mu, p: p[0] * mu**2,
        draw=lambda mu, p, rng, _w: rng.gamma(1 / p[0], p[0] * mu, mu.shape),
        unit_deviance=gamma_deviance,
        start=(0.5,),
    ),
    "inverse_gaussian": Distribution(
        _inverse_gaussian,
        variance=lambda mu, p: p[0] * mu**3,
        draw=lambda mu, p, rng, _w: rng.wald(mu, 1 / p[0], mu.shape),
        unit_deviance=lambda y, mu, _p: (y - mu) ** 2 / (y * mu**2),
        start=(0.5,),
    ),
    "negative_binomial": Distribution(
        _negative_binomial,
        variance=lambda mu, p: mu + mu**2 / p[0],
        draw=lambda mu, p, rng, _w: draw_counts(rng.gamma(p[0], mu / p[0], mu.shape), rng),
        unit_deviance=_negative_binomial_deviance,
        start=(2.0,),
    ),
    "negative_binomial_1": Distribution(
        _negative_binomial_1,
        variance=lambda mu, p: mu * (1 + p[0]),
        draw=lambda mu, p, rng, _w: draw_counts(rng.gamma(mu / p[0], p[0], mu.shape), rng),
        start=(0.5,),
    ),
    "beta": BETA,
    "beta_binomial": BETA_BINOMIAL,
    "student_t": STUDENT_T,
    "skew_normal": SKEW_NORMAL,
    "lognormal": LOGNORMAL,
    "exponential": EXPONENTIAL,
    "tweedie": TWEEDIE,
    "generalised_poisson": GENERALISED_POISSON,
}
DISTRIBUTIONS: dict[str, Distribution] = {
    **_WITH_ZEROS,
    "truncated_poisson": truncated_poisson(_WITH_ZEROS["poisson"]),
    "truncated_negative_binomial": truncated_negative_binomial(_WITH_ZEROS["negative_binomial"]),
}
"""Distribution of each family, by the family's label; ordered responses are in :mod:`cumulative` beside it."""
