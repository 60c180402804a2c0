"""Distributions of counts beside the Poisson and the negative binomials: generalised Poisson, and without zeros.

Sources: Consul & Jain (1973), Technometrics 15:791-799, for the generalised Poisson distribution; Cohen (1960),
Biometrics 16:203-211, and Grogger & Carson (1991), J. Appl. Econometrics 6:225-238, for counts without zeros.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy
from scipy import special

from unimix.distributions.kernel import TINY, Distribution, Kernel

FloatArray = npt.NDArray[np.float64]


def _generalised_poisson(y: FloatArray, mu: FloatArray, p: FloatArray, w: FloatArray) -> Kernel:
    """Mean mu and variance phi mu: f = mu m^(y-1) s^-y exp(-m / s) / y!, with s = sqrt(phi) and m = mu + (s - 1) y.

    For phi < 1 counts above mu / (1 - s) have no probability, and the others sum to nearly one.
    """
    phi = np.asarray(p[0])
    s = np.sqrt(phi)
    mu = np.maximum(mu, TINY)
    m = mu + (s - 1) * y
    inside = m > 0
    m = np.where(inside, m, 1.0)
    value = np.log(mu) + (y - 1) * np.log(m) - y * np.log(s) - m / s - special.gammaln(y + 1)
    by_s = y * (y - 1) / m - 2 * y / s + m / s**2
    return Kernel(
        np.where(inside, w * value, -np.inf),
        w * (1 / mu + (y - 1) / m - 1 / s),
        w * (1 / mu**2 + (y - 1) / m**2),
        w / (mu * phi),  # of the quasi-likelihood; the search needs no more
        (w * by_s / (2 * s),),
    )


def _draw_generalised_poisson(mu: FloatArray, p: FloatArray, rng: np.random.Generator, _w: object) -> FloatArray:
    """Invert the distribution function, count by count; probabilities are divided by their sum where phi < 1."""
    s = np.broadcast_to(np.sqrt(p[0]), mu.shape)
    left = rng.random(mu.shape)
    drawn = np.zeros(mu.shape)
    if (s < 1).any():
        left = left * _probability(mu, s)
    log_rest = np.log(mu)
    open_ = np.ones(mu.shape, dtype=bool)
    y = 0
    while open_.any() and y < 100_000:
        m = mu + (s - 1) * y
        safe = np.where(m > 0, m, 1.0)
        log_f = log_rest + (y - 1) * np.log(safe) - y * np.log(s) - safe / s - special.gammaln(y + 1.0)
        left = np.where(open_, left - np.where(m > 0, np.exp(log_f), 0.0), left)
        drawn = np.where(open_, y, drawn)
        open_ &= (left > 0) & (m > 0)
        y += 1
    return drawn


def _probability(mu: FloatArray, s: FloatArray) -> FloatArray:
    """Sum of the probabilities where s < 1, and 1 elsewhere."""
    total, y = np.zeros(mu.shape), 0
    while y < 100_000:
        m = np.where(s < 1, mu + (s - 1) * y, -1.0)
        if not (m > 0).any():
            break
        safe = np.where(m > 0, m, 1.0)
        log_f = np.log(mu) + (y - 1) * np.log(safe) - y * np.log(s) - safe / s - special.gammaln(y + 1.0)
        total += np.where(m > 0, np.exp(log_f), 0.0)
        y += 1
    return np.where(s < 1, total, 1.0)


def _poisson_zero(mu: FloatArray, p: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, tuple[FloatArray, ...]]:
    """A = -log P(y = 0), its first two derivatives with respect to mu, and those with respect to the parameters."""
    del p
    return mu, np.ones_like(mu), np.zeros_like(mu), ()


def _nb_zero(mu: FloatArray, p: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, tuple[FloatArray, ...]]:
    """The values of :func:`_poisson_zero` for the negative binomial (NB2): A = theta log(1 + mu / theta)."""
    theta, total = p[0], p[0] + mu
    log = np.log1p(mu / theta)
    return theta * log, theta / total, -theta / total**2, (log - mu / total,)


def without_zeros(
    whole: Distribution,
    zero: Callable[..., tuple[FloatArray, FloatArray, FloatArray, tuple[FloatArray, ...]]],
    curvature: Callable[[FloatArray, FloatArray, FloatArray], FloatArray],
    quantile: Callable[[FloatArray, FloatArray, FloatArray], FloatArray],
) -> Distribution:
    """A distribution of counts given that they are not zero: f(y) / (1 - f(0)), y = 1, 2, ...

    Args:
        whole: Distribution with zeros, whose mean is mu.
        zero: Function of (mu, p) that returns A = -log f(0), its two derivatives with respect to mu, and those with
            respect to the parameters.
        curvature: Function of (m, mu, p) that returns the negative second derivative of log f for a count m; it is
            linear in m.
        quantile: Function of (u, mu, p) that returns quantiles of the distribution with zeros.
    """

    def log_density(y: FloatArray, mu: FloatArray, p: FloatArray, w: FloatArray) -> Kernel:
        if whole.log_density is None:
            raise TypeError("the distribution has no log density in its mean")
        mu = np.maximum(mu, TINY)
        plain = whole.log_density(y, mu, p, w)
        a, by_mu, twice, by_p = zero(mu, p)
        # log(1 - e^-A) has the derivative 1 / (e^A - 1), and that has the derivative -1 / ((e^A - 1) (1 - e^-A))
        rise, share = np.expm1(np.minimum(a, 700.0)), -np.expm1(-a)
        bend = twice / rise - by_mu**2 / (rise * share)
        return Kernel(
            plain.value - w * np.log(share),
            plain.by_mean - w * by_mu / rise,
            plain.curvature + w * bend,
            w * (curvature(mu / share, mu, p) + bend),
            tuple(d - w * b / rise for d, b in zip(plain.by_parameters, by_p, strict=True)),
        )

    def expectation(mu: FloatArray, p: FloatArray) -> tuple[FloatArray, FloatArray]:
        mu = np.maximum(mu, TINY)
        a, by_mu, *_ = zero(mu, p)
        share = -np.expm1(-a)
        return mu / share, 1 / share - mu * np.exp(-a) * by_mu / share**2

    def variance(mu: FloatArray, p: FloatArray) -> FloatArray:
        share = -np.expm1(-zero(np.maximum(mu, TINY), p)[0])
        mean = np.maximum(mu, TINY) / share
        return np.asarray((whole.variance(mu, p) + mu**2) / share - mean**2)

    def draw(mu: FloatArray, p: FloatArray, rng: np.random.Generator, _w: object) -> FloatArray:
        mu = np.clip(mu, 1e-12, 1e15)
        none = np.exp(-zero(mu, p)[0])
        return np.maximum(quantile(none + (1 - none) * rng.random(mu.shape), mu, p), 1.0)

    return Distribution(log_density, variance=variance, draw=draw, start=whole.start, expectation=expectation)


def truncated_poisson(whole: Distribution) -> Distribution:
    """Poisson counts without zeros."""
    return without_zeros(
        whole, _poisson_zero, lambda m, mu, _p: m / mu**2, lambda u, mu, _p: np.asarray(scipy.stats.poisson.ppf(u, mu))
    )


def truncated_negative_binomial(whole: Distribution) -> Distribution:
    """Negative binomial counts (NB2) without zeros."""
    return without_zeros(
        whole,
        _nb_zero,
        lambda m, mu, p: m / mu**2 - (m + p[0]) / (mu + p[0]) ** 2,
        lambda u, mu, p: np.asarray(scipy.stats.nbinom.ppf(u, p[0], p[0] / (p[0] + mu))),
    )


GENERALISED_POISSON = Distribution(
    _generalised_poisson,
    variance=lambda mu, p: p[0] * mu,
    draw=_draw_generalised_poisson,
    start=(1.5,),
)
