"""Log likelihood of each row and its derivatives with respect to the linear predictor, with all constants.

:mod:`unimix.distributions.distribution` has the densities as functions of the mean. A weight multiplies the log density
of its row; for the Gaussian family it divides the variance, and for the binomial family it is the number of trials.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from unimix.distributions.cumulative import cumulative_log_density
from unimix.distributions.distribution import DISTRIBUTIONS
from unimix.distributions.family import Cumulative, Family
from unimix.distributions.links import LINKS, log_complement, log_slope
from unimix.distributions.ordered import refuse_categories

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pointwise:
    """Log likelihood per row as a function of the linear predictor eta; all arrays have shape (n,).

    Attributes:
        value: Log density.
        score: First derivative, d value / d eta.
        observed: Observed information, -d^2 value / d eta^2.
        expected: Expected information, the expectation of ``observed``.
        by_parameters: Derivatives of ``value`` with respect to the dispersion parameters.
        by_zero: Derivative of ``value`` with respect to the logit of the probability of a structural zero; None for a
            model without structural zeros.
    """

    value: FloatArray
    score: FloatArray
    observed: FloatArray
    expected: FloatArray
    by_parameters: tuple[FloatArray, ...]
    by_zero: FloatArray | None = None

    def times(self, weights: FloatArray) -> Pointwise:
        """Log likelihood of rows that count several times, by weights (n,)."""
        return Pointwise(
            weights * self.value,
            weights * self.score,
            weights * self.observed,
            weights * self.expected,
            tuple(weights * d for d in self.by_parameters),
            None if self.by_zero is None else weights * self.by_zero,
        )


def pointwise(
    family: Family,
    parameters: FloatArray,
    y: FloatArray,
    eta: FloatArray,
    weights: FloatArray | None = None,
    trials: FloatArray | None = None,
) -> Pointwise:
    """Log likelihood of every row, and its derivatives.

    Args:
        family: Distribution and link.
        parameters: Dispersion parameters, in the order of ``family.parameters``, shape (k,).
        y: Response, shape (n,).
        eta: Linear predictor with offset, shape (n,).
        weights: Weights, shape (n,), or None for ones.
        trials: Numbers of trials, shape (n,), for a binomial family; None for others.

    Returns:
        Log likelihoods and derivatives; ``value`` is -inf where the linear predictor gives no possible mean.
    """
    if isinstance(family, Cumulative):
        w = 1.0 if weights is None else weights
        *rows, by_parameters = cumulative_log_density(family.link, family.matrix, parameters, y, eta)
        value, score, observed, expected = (w * row for row in rows)
        return Pointwise(value, score, observed, expected, tuple(w * row for row in by_parameters))
    link = LINKS[family.link]
    outside = None
    if link.positive:
        outside = eta <= 0
        eta = np.where(outside, 1.0, eta)
    log_density = DISTRIBUTIONS[family.label].log_density
    if log_density is None:
        density = _binomial(family.link, y, eta, np.ones_like(y) if trials is None else trials)
    else:
        slope, bend = link.slope(eta), link.curvature(eta)
        mu = link.inverse(eta)
        if family.link == "identity" and family.response != "real":
            outside = mu <= 0
            mu = np.where(outside, 1.0, mu)
        copies = trials if family.response == "binomial" else weights
        k = log_density(y, mu, parameters, np.ones_like(y) if copies is None else copies)
        density = Pointwise(
            k.value,
            k.by_mean * slope,
            k.curvature * slope**2 - k.by_mean * bend,
            k.information * slope**2,
            k.by_parameters,
        )
    if outside is not None and outside.any():
        return Pointwise(
            np.where(outside, -np.inf, density.value),
            density.score,
            density.observed,
            density.expected,
            density.by_parameters,
        )
    return density


def zero_inflated(plain: Pointwise, y: FloatArray, zero: FloatArray, *, hurdle: bool = False) -> Pointwise:
    """Mixture of a count distribution with structural zeros (Lambert 1992, Technometrics 34:1-14).

    With counts that cannot be zero this is the hurdle model (Mullahy 1986, J. Econometrics 33:341-365): a zero is
    always structural.

    Args:
        plain: Log likelihood of the count distribution, without weights.
        y: Counts, shape (n,).
        zero: Logit of the probability of a structural zero, shape (n,).
        hurdle: Whether the count distribution has no zeros.

    Returns:
        Log likelihoods of the mixture. ``expected`` is a positive approximation for the search, because the expectation
        has no simple form.
    """
    log_pi, log_rest = special.log_expit(zero), special.log_expit(-zero)
    at_zero = y == 0
    mixed = log_pi if hurdle else np.logaddexp(log_pi, log_rest + plain.value)
    if not hurdle:  # where the link gives no mean there is no mixture
        mixed = np.where(np.isneginf(plain.value), -np.inf, mixed)
    share = np.where(
        at_zero, 0.0 if hurdle else np.exp(log_rest + plain.value - np.where(np.isneginf(mixed), 0.0, mixed)), 1.0
    )
    # with s the share of the counts among what was observed, dl / d zeta = (1 - s) - pi
    return Pointwise(
        np.where(at_zero, mixed, log_rest + plain.value),
        share * plain.score,
        share * plain.observed - share * (1 - share) * plain.score**2,
        np.maximum(share, 1e-3) * plain.expected,
        tuple(share * d for d in plain.by_parameters),
        (1.0 - share) - np.exp(log_pi),
    )


def mixed_derivative(plain: Pointwise, y: FloatArray, zero: FloatArray, *, hurdle: bool = False) -> FloatArray:
    """Second derivative d^2 l / (d eta d zeta) of the mixture of :func:`zero_inflated`, shape (n,).

    With s = f / (f + exp(zeta)), the share of the counts among the zeros, dl / d eta = s d log f / d eta at y = 0, and
    ds / d zeta = -s (1 - s). A positive count is no structural zero, and its score does not depend on zeta. The two
    parts of a hurdle model do not share a row's likelihood, so that the derivative is zero.
    """
    if hurdle:
        return np.zeros_like(zero)
    share = special.expit(plain.value - zero)
    return np.where(y == 0, -share * (1 - share) * plain.score, 0.0)


def variance(family: Family, parameters: FloatArray, mu: FloatArray) -> FloatArray:
    """Var(y) for a weight, or a number of trials, of 1, in the shape of ``mu``; infinite for Student's t with nu <= 2.

    The parameters have shape (k,), or shape (k, S, 1) for means of shape (S, n).
    """
    refuse_categories(family)
    return np.asarray(DISTRIBUTIONS[family.label].variance(mu, parameters))


def response_variance(
    family: Family, parameters: FloatArray, mu: FloatArray, size: FloatArray | None = None
) -> FloatArray:
    """Var(y) of rows with numbers of trials, or weights, ``size``, shape (n,); None for ones.

    Args:
        family: Distribution and link.
        parameters: Dispersion parameters, shape (k,), or shape (k, S, 1) for means of shape (S, n).
        mu: Values of the inverse link, shape (..., n).
        size: Trials of a binomial response, or precisions of a Gaussian one.
    """
    one = variance(family, parameters, mu)
    if size is None:
        return one
    correlation = DISTRIBUTIONS[family.label].correlation
    together = 1.0 if correlation is None else 1.0 + (size - 1.0) * correlation(parameters)
    return np.asarray(one * together / size)


def unit_deviance(family: Family, parameters: FloatArray, y: FloatArray, mu: FloatArray) -> FloatArray | None:
    """Unit deviance of each row, 2 dispersion (log f(y; y) - log f(y; mu)), shape (n,).

    For the exponential families it equals R's ``family()$dev.resids`` at weight 1. It is None for families whose
    likelihood is not maximal at mu = y, such as the beta.
    """
    refuse_categories(family)
    deviance = DISTRIBUTIONS[family.label].unit_deviance
    if deviance is None:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.maximum(deviance(y, mu, parameters), 0.0))


def _binomial(link: str, y: FloatArray, eta: FloatArray, trials: FloatArray) -> Pointwise:
    log_mu, log_rest = log_complement(link, eta)
    k = np.round(y * trials)
    value = k * log_mu + (trials - k) * log_rest
    if (trials != 1.0).any():
        value += special.gammaln(trials + 1) - special.gammaln(k + 1) - special.gammaln(trials - k + 1)
    if link == "logit":
        mu, rest = special.expit(eta), special.expit(-eta)
        information = trials * mu * rest
        return Pointwise(value, k * rest - (trials - k) * mu, information, information, ())
    # Ratios are computed from logarithms, because slope and probability go to zero together in the tails.
    steepness, relative = log_slope(link, eta)
    up, down = np.exp(steepness - log_mu), np.exp(steepness - log_rest)
    score = k * up - (trials - k) * down
    observed = k * up * (up - relative) + (trials - k) * down * (down + relative)
    return Pointwise(value, score, observed, trials * up * down, ())
