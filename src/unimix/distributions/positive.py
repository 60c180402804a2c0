"""Distributions of positive responses beside the gamma and the inverse Gaussian: lognormal, exponential and Tweedie.

Sources: Aitchison & Brown (1957), The Lognormal Distribution; Dunn & Smyth (2005), Stat. Comput. 15:267-280, for the
series of the Tweedie density, sums of a Poisson number of gamma variables with point mass at zero.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

from unimix.distributions.kernel import Distribution, Kernel, draw_counts

FloatArray = npt.NDArray[np.float64]
_LOG_2PI = float(np.log(2 * np.pi))
_LEAST = 1e-100
"""Smallest mean of a Tweedie response, so that mu^-q is finite."""
_WIDTHS = 9.0
"""Standard deviations on either side of the largest term of the series that are summed: exp(-81 / 2) is left out."""
_CELLS = 2_000_000
"""Largest number of terms that are held at once."""


def _lognormal(y: FloatArray, mu: FloatArray, p: FloatArray, w: FloatArray) -> Kernel:
    """Log y ~ N(log mu - sigma^2 / 2, sigma^2), so that mu is the mean of y."""
    sigma = p[0]
    z = (np.log(y) - np.log(mu)) / sigma + sigma / 2
    value = -np.log(y) - np.log(sigma) - 0.5 * (_LOG_2PI + z * z)
    information = 1 / (sigma * mu) ** 2
    return Kernel(
        w * value, w * z / (sigma * mu), w * (information + z / (sigma * mu**2)), w * information,
        (w * ((z * z - 1) / sigma - z),),
    )  # fmt: skip


def _exponential(y: FloatArray, mu: FloatArray, p: FloatArray, w: FloatArray) -> Kernel:
    del p
    ratio = y / mu
    return Kernel(-w * (np.log(mu) + ratio), w * (ratio - 1) / mu, w * (2 * ratio - 1) / mu**2, w / mu**2, ())


def _tweedie(y: FloatArray, mu: FloatArray, p: FloatArray, w: FloatArray) -> Kernel:
    """Log f = (y mu^(1-q) / (1-q) - mu^(2-q) / (2-q)) / phi + log a(y, phi, q); Var(y) = phi mu^q, 1 < q < 2."""
    phi, power = p[0], p[1]
    mu = np.maximum(mu, _LEAST)
    log_mu, one, two = np.log(mu), 1 - power, 2 - power
    first, second = y * np.exp(one * log_mu) / one, np.exp(two * log_mu) / two
    series, by_phi, by_power = _tweedie_constant(y, np.asarray(phi), np.asarray(power))
    kernel = first - second
    # d/dq of mu^(1-q) / (1-q) is mu^(1-q) (1 / (1-q) - log mu) / (1-q)
    turned = first * (1 / one - log_mu) - second * (1 / two - log_mu)
    information = np.exp(-power * log_mu) / phi
    return Kernel(
        w * (kernel / phi + series),
        w * (y - mu) * information,
        w * information * (1 + power * (y - mu) / mu),
        w * information,
        (w * (by_phi - kernel / phi**2), w * (turned / phi + by_power)),
    )


def _tweedie_constant(y: FloatArray, phi: FloatArray, power: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Log a(y, phi, q) and its derivatives with respect to phi and q; all zero at y = 0."""
    if phi.size == 1 and power.size == 1:
        flat = _series(np.ascontiguousarray(y).tobytes(), float(phi.ravel()[0]), float(power.ravel()[0]))
        shape = np.broadcast_shapes(y.shape, phi.shape, power.shape)
        a, b, c = (part.reshape(y.shape) for part in flat)
        return np.broadcast_to(a, shape), np.broadcast_to(b, shape), np.broadcast_to(c, shape)
    wide = np.broadcast_arrays(y, phi, power)
    each, f, q = (np.ascontiguousarray(part).ravel() for part in wide)
    found = np.zeros((3, len(each)))
    for dispersion, exponent in np.unique(np.column_stack([f, q]), axis=0):
        here = (f == dispersion) & (q == exponent)
        found[:, here] = _series(each[here].tobytes(), float(dispersion), float(exponent))
    a, b, c = (part.reshape(wide[0].shape) for part in found)
    return a, b, c


@lru_cache(maxsize=16)  # a search evaluates the density at many means for one pair of parameters
def _series(packed: bytes, phi: float, power: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Series of the constant for responses (n,) in bytes.

    log a = -log y + log sum_j W_j, log W_j = j log z - log j! - log Gamma(-alpha j), with alpha = (2-q) / (1-q) and
    log z = -alpha log y + alpha log(q-1) - (1-alpha) log phi - log(2-q). The largest term is near
    j = y^(2-q) / (phi (2-q)), with a width of sqrt(j / (1-alpha)).
    """
    y = np.frombuffer(packed)
    value, by_phi, by_power = np.zeros_like(y), np.zeros_like(y), np.zeros_like(y)
    rows = np.flatnonzero(y > 0)
    if not len(rows):
        return value, by_phi, by_power
    nothing = np.full_like(y, np.nan)
    if not (np.isfinite(phi) and phi > 0 and 1 < power < 2):
        return nothing, nothing, nothing
    alpha, slope = (2 - power) / (1 - power), 1 / (1 - power) ** 2  # slope = d alpha / dq
    log_y = np.log(y[rows])
    log_z = -alpha * (log_y - np.log(power - 1)) - (1 - alpha) * np.log(phi) - np.log(2 - power)
    # d log z / dq
    turned = -slope * (log_y - np.log(power - 1) - np.log(phi)) + alpha / (power - 1) + 1 / (2 - power)
    top = np.maximum(1.0, np.exp(np.minimum((2 - power) * log_y - np.log(phi * (2 - power)), 30.0)))
    half = _WIDTHS * np.sqrt(top / (1 - alpha)) + 20.0
    low = np.maximum(1.0, np.floor(top - half))
    count = int(np.max(np.ceil(top + half) - low)) + 1
    if count > _CELLS:  # of a dispersion so small that no search should stay here
        return nothing, nothing, nothing
    step = max(1, _CELLS // count)
    for begin in range(0, len(rows), step):
        part = slice(begin, begin + step)
        j = low[part, None] + np.arange(count)
        shape = -alpha * j
        terms = j * log_z[part, None] - special.gammaln(j + 1) - special.gammaln(shape)
        total = special.logsumexp(terms, axis=1)
        share = np.exp(terms - total[:, None])
        mean = (share * j).sum(axis=1)
        at = rows[part]
        value[at] = total - log_y[part]
        by_phi[at] = -(1 - alpha) * mean / phi
        by_power[at] = mean * turned[part] + slope * (share * j * special.digamma(shape)).sum(axis=1)
    return value, by_phi, by_power


def _draw_tweedie(mu: FloatArray, p: FloatArray, rng: np.random.Generator, _w: object) -> FloatArray:
    """A Poisson number with mean mu^(2-q) / (phi (2-q)) of gamma variables with shape (2-q) / (q-1)."""
    phi, power = p[0], p[1]
    number = draw_counts(mu ** (2 - power) / (phi * (2 - power)), rng)
    shape, scale = (2 - power) / (power - 1), phi * (power - 1) * mu ** (power - 1)
    return np.asarray(np.where(number > 0, rng.gamma(np.maximum(number, 1.0) * shape, scale), 0.0))


def _tweedie_deviance(y: FloatArray, mu: FloatArray, p: FloatArray) -> FloatArray:
    power = p[1]
    one, two = 1 - power, 2 - power
    return np.asarray(2 * (y**two / (one * two) - y * mu**one / one + mu**two / two))


def gamma_deviance(y: FloatArray, mu: FloatArray, _p: FloatArray) -> FloatArray:
    """Unit deviance of the gamma family, and of its special case, the exponential."""
    return np.asarray(-2 * (np.log(y / mu) - (y - mu) / mu))


LOGNORMAL = Distribution(
    _lognormal,
    variance=lambda mu, p: np.expm1(p[0] ** 2) * mu**2,
    draw=lambda mu, p, rng, _w: mu * np.exp(p[0] * rng.standard_normal(mu.shape) - p[0] ** 2 / 2),
    start=(0.7,),
)
EXPONENTIAL = Distribution(
    _exponential,
    variance=lambda mu, _p: mu**2,
    draw=lambda mu, _p, rng, _w: rng.exponential(mu, mu.shape),
    unit_deviance=gamma_deviance,
)
TWEEDIE = Distribution(
    _tweedie,
    variance=lambda mu, p: p[0] * mu ** p[1],
    draw=_draw_tweedie,
    unit_deviance=_tweedie_deviance,
    start=(1.0, 1.5),
)
