"""Distributions of proportions: the beta, and the beta-binomial of successes out of trials.

Both are parametrized by the mean mu and the precision phi, with the shapes a = mu phi and b = (1 - mu) phi. Sources:
Ferrari & Cribari-Neto (2004), J. Appl. Stat. 31:799-815; Crowder (1978), Appl. Stat. 27:34-37.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from unimix.distributions.kernel import TINY, Distribution, Kernel, log_rising, trigamma

FloatArray = npt.NDArray[np.float64]


def beta_value(y: FloatArray, mu: FloatArray, p: FloatArray) -> FloatArray:
    """Log density of a beta distribution, in the shape of mu."""
    phi = p[0]
    a, b = np.maximum(mu * phi, TINY), np.maximum((1 - mu) * phi, TINY)
    constant = special.gammaln(phi) - special.gammaln(a) - special.gammaln(b)
    return np.asarray(constant + (a - 1) * np.log(y) + (b - 1) * np.log1p(-y))


def _beta(y: FloatArray, mu: FloatArray, p: FloatArray, w: FloatArray) -> Kernel:
    phi = p[0]
    a, b = np.maximum(mu * phi, TINY), np.maximum((1 - mu) * phi, TINY)
    logit = np.log(y) - np.log1p(-y)
    gap = special.digamma(a) - special.digamma(b)
    bent = phi**2 * (trigamma(a) + trigamma(b))
    by_phi = special.digamma(phi) - special.digamma(b) + np.log1p(-y) + mu * (logit - gap)
    value = w * beta_value(y, mu, p)
    return Kernel(value, w * phi * (logit - gap), w * bent, w * bent, (w * by_phi,))


def _beta_binomial(y: FloatArray, mu: FloatArray, p: FloatArray, w: FloatArray) -> Kernel:
    """Log density of k = y m successes among the m = w trials: C(m, k) B(k + a, m - k + b) / B(a, b)."""
    phi = p[0]
    k = np.round(y * w)
    rest = w - k
    a, b = np.maximum(mu * phi, TINY), np.maximum((1 - mu) * phi, TINY)
    choose = special.gammaln(w + 1) - special.gammaln(k + 1) - special.gammaln(rest + 1)
    value = choose + log_rising(a, k) + log_rising(b, rest) - log_rising(np.asarray(phi), w)
    up, down = special.digamma(k + a) - special.digamma(a), special.digamma(rest + b) - special.digamma(b)
    bent = trigamma(a) - trigamma(k + a) + trigamma(b)
    by_phi = mu * up + (1 - mu) * down - special.digamma(w + phi) + special.digamma(phi)
    # The expectation of the curvature has no simple form; the search uses the information of the quasi-likelihood.
    information = w / (np.maximum(mu * (1 - mu), TINY) * (1 + (w - 1) / (phi + 1)))
    return Kernel(value, phi * (up - down), phi**2 * (bent - trigamma(rest + b)), information, (by_phi,))


BETA = Distribution(
    _beta,
    variance=lambda mu, p: mu * (1 - mu) / (1 + p[0]),
    draw=lambda mu, p, rng, _w: rng.beta(mu * p[0], (1 - mu) * p[0], mu.shape),
    start=(5.0,),
)
BETA_BINOMIAL = Distribution(
    _beta_binomial,
    variance=lambda mu, _p: mu * (1 - mu),
    draw=lambda mu, p, rng, w: (
        rng.binomial(np.round(w).astype(np.int64), rng.beta(mu * p[0], (1 - mu) * p[0], mu.shape)) / w
    ),
    start=(5.0,),
    correlation=lambda p: 1 / (p[0] + 1),
)
