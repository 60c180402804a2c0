"""What a distribution of the response is: its log density with derivatives, its variance, and random responses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.float64]
TINY = 1e-300


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

    For a truncated distribution mu is the mean before truncation, and ``expectation`` leads to the mean.

    Attributes:
        log_density: Function of (y, mu, p, w), arrays of shape (n,); None for the binomial, whose tails need the
            linear predictor. The argument w holds the weights, or the trials of a distribution of proportions.
        variance: Function of (mu, p) that returns Var(y) for a weight, or a number of trials, of 1.
        draw: Function of (mu, p, rng, w) that returns responses in the shape of mu; w is 1 or holds the precisions of
            a Gaussian response or the trials of a binomial one, shape (n,).
        unit_deviance: Function of (y, mu, p) that returns 2 dispersion (log f(y; y) - log f(y; mu)); None if mu = y
            does not maximise the likelihood.
        start: Moderate dispersion parameters, from which a search starts.
        correlation: Function of p that returns the correlation rho between the trials of one row: the variance of a
            proportion of m trials is (1 + (m - 1) rho) / m times that of one trial. None for independent trials.
        expectation: Function of (mu, p) that returns the expected response and its derivative with respect to mu; None
            if mu is the expected response.
    """

    log_density: Callable[[FloatArray, FloatArray, FloatArray, FloatArray], Kernel] | None
    variance: Callable[[FloatArray, FloatArray], Any]
    draw: Callable[[FloatArray, FloatArray, np.random.Generator, Any], Any]
    unit_deviance: Callable[[FloatArray, FloatArray, FloatArray], Any] | None = None
    start: tuple[float, ...] = ()
    correlation: Callable[[FloatArray], Any] | None = None
    expectation: Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]] | None = None


def log_rising(size: FloatArray, y: FloatArray) -> FloatArray:
    """Log Gamma(size + y) - log Gamma(size), without cancellation for large ``size``."""
    positive = np.maximum(y, 1.0)
    return np.asarray(np.where(y > 0, special.gammaln(positive) - special.betaln(size, positive), 0.0))


def trigamma(x: FloatArray) -> FloatArray:
    """Second derivative of log Gamma at positive numbers, to 14 digits; SciPy's ``polygamma`` takes 30 times as long.

    With z = x + 8 it is sum_{k<8} 1 / (x + k)^2 + 1/z + 1/(2 z^2) + sum_j B_2j / z^(2j+1) (Abramowitz & Stegun 1964,
    6.4.6 and 6.4.12).
    """
    x = np.asarray(x, dtype=np.float64)
    total = 1.0 / (x * x)
    for k in range(1, 8):
        shifted = x + k
        total = total + 1.0 / (shifted * shifted)
    i = 1.0 / (x + 8.0)
    j = i * i
    series = 1 / 6 - j * (1 / 30 - j * (1 / 42 - j * (1 / 30 - j * (5 / 66 - j * 691 / 2730))))
    return np.asarray(total + i + j / 2 + i * j * series)


def draw_counts(mean: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Draw Poisson counts; means are limited to the range that NumPy supports."""
    return rng.poisson(np.minimum(mean, 1e15)).astype(np.float64)
