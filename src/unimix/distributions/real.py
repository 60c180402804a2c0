"""Distributions of responses that may be any number, beside the normal: Student's t and the skew normal.

Sources: Lange, Little & Taylor (1989), JASA 84:881-896, for Student's t; Azzalini (1985), Scand. J. Stat. 12:171-178,
for the skew normal with its mean, standard deviation and skewness as parameters.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from unimix.distributions.kernel import Distribution, Kernel

FloatArray = npt.NDArray[np.float64]
_LOG_2PI = float(np.log(2 * np.pi))
_B = float(np.sqrt(2 / np.pi))  # mean of |N(0, 1)|
_NEARLY_NONE = 1e-9
"""Skewness below which the derivative with respect to it is taken at this value, because it is 0 / 0 at zero."""


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


def _skewed(skewness: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Shift c and shape alpha of a skew normal, from its skewness g = (4 - pi) c^3 / 2.

    With z = ((y - mu) / sigma + c) / sqrt(1 + c^2) the density is 2 phi(z) Phi(alpha z) / (sigma sqrt(1 + c^2)), where
    delta = c / (b sqrt(1 + c^2)), b = sqrt(2 / pi) and alpha = delta / sqrt(1 - delta^2).
    """
    g = np.where(np.abs(skewness) < _NEARLY_NONE, np.copysign(_NEARLY_NONE, skewness), skewness)
    c = np.cbrt(2 * g / (4 - np.pi))
    delta = c / (_B * np.sqrt(1 + c * c))
    return np.asarray(c), np.asarray(delta / np.sqrt(1 - delta * delta))


def _skew_normal(y: FloatArray, mu: FloatArray, p: FloatArray, w: FloatArray) -> Kernel:
    sigma = p[0]
    c, alpha = _skewed(np.asarray(p[1]))
    wide = 1 + c * c
    z = ((y - mu) / sigma + c) / np.sqrt(wide)
    log_tail = special.log_ndtr(alpha * z)
    hazard = np.exp(-0.5 * (alpha * z) ** 2 - 0.5 * _LOG_2PI - log_tail)  # phi(alpha z) / Phi(alpha z)
    value = np.log(2) - np.log(sigma) - 0.5 * np.log(wide) - 0.5 * (_LOG_2PI + z * z) + log_tail
    by_z = alpha * hazard - z
    bent = 1 + alpha**2 * hazard * (alpha * z + hazard)  # -d^2 log f / dz^2
    by_mean = -by_z / (sigma * np.sqrt(wide))
    by_sigma = -(1 + by_z * (y - mu) / (sigma * np.sqrt(wide))) / sigma
    delta = c / (_B * np.sqrt(wide))
    by_alpha = wide**-1.5 / _B * (1 - delta * delta) ** -1.5  # d alpha / dc
    by_c = -c / wide + by_z * (1 / np.sqrt(wide) - z * c / wide) + hazard * z * by_alpha
    by_skewness = by_c * 2 / (3 * (4 - np.pi) * c * c)
    information = np.full_like(mu, 1 / sigma**2)  # exact without skewness; the search needs no more
    return Kernel(
        w * value, w * by_mean, w * bent / (sigma**2 * wide), w * information, (w * by_sigma, w * by_skewness)
    )


def _draw_skew_normal(mu: FloatArray, p: FloatArray, rng: np.random.Generator, _w: object) -> FloatArray:
    c, _ = _skewed(np.asarray(p[1]))
    delta = c / (_B * np.sqrt(1 + c * c))
    z = delta * np.abs(rng.standard_normal(mu.shape)) + np.sqrt(1 - delta**2) * rng.standard_normal(mu.shape)
    return np.asarray(mu + p[0] * (np.sqrt(1 + c * c) * z - c))


STUDENT_T = Distribution(
    _student_t,
    variance=_student_t_variance,
    draw=lambda mu, p, rng, _w: mu + p[0] * rng.standard_t(np.broadcast_to(p[1], mu.shape)),
    start=(1.0, 5.0),
)
SKEW_NORMAL = Distribution(
    _skew_normal,
    variance=lambda mu, p: np.broadcast_to(p[0] ** 2, mu.shape).copy(),
    draw=_draw_skew_normal,
    start=(1.0, 0.2),
)
