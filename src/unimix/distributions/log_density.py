"""Densities of the response and their derivatives by the linear predictor, with all constants.

Parametrized by the mean mu = g^-1(eta) and the dispersion parameters phi of
:class:`unimix.distributions.family.Family`. McCullagh & Nelder (1989), Generalized Linear Models, chapter 2, for the
exponential families; Hardin & Hilbe (2018) for the negative binomials; Ferrari & Cribari-Neto (2004), J. Appl. Stat.
31, for the beta. A weight multiplies the log-density of its row; for the Gaussian family it divides the variance, for
the binomial it is the number of trials.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from unimix.distributions.family import Family
from unimix.distributions.links import LINKS, log_complement, log_slope

FloatArray = npt.NDArray[np.float64]
_LOG_2PI = float(np.log(2 * np.pi))
_TINY = 1e-300


@dataclass(frozen=True)
class Kernel:
    """Log-density per row as a function of the mean, with derivatives; all arrays (n,).

    Attributes:
        value: Log-density.
        by_mean: Its derivative by mu.
        curvature: Minus its second derivative by mu.
        information: Expectation of ``curvature``.
        by_parameters: Derivatives by the dispersion parameters.
    """

    value: FloatArray
    by_mean: FloatArray
    curvature: FloatArray
    information: FloatArray
    by_parameters: tuple[FloatArray, ...]


@dataclass(frozen=True)
class Pointwise:
    """Log-likelihood per row as a function of the linear predictor; all arrays (n,).

    Attributes:
        value: Log-density.
        score: d value / d eta.
        observed: -d^2 value / d eta^2.
        expected: Its expectation.
        by_parameters: Derivatives by the dispersion parameters.
    """

    value: FloatArray
    score: FloatArray
    observed: FloatArray
    expected: FloatArray
    by_parameters: tuple[FloatArray, ...]


def pointwise(
    family: Family,
    parameters: FloatArray,
    y: FloatArray,
    eta: FloatArray,
    weights: FloatArray | None = None,
    trials: FloatArray | None = None,
) -> Pointwise:
    """Log-likelihood of every row and its derivatives.

    Args:
        family: Distribution and link.
        parameters: Dispersion parameters, in the order of ``family.parameters``, shape (k,).
        y: Response, shape (n,).
        eta: Linear predictor with offset, shape (n,).
        weights: Shape (n,), or None for ones.
        trials: Shape (n,), for a binomial family.

    Returns:
        ``value`` is -inf where the linear predictor gives no possible mean.
    """
    link = LINKS[family.link]
    outside = None
    if link.positive:
        outside = eta <= 0
        eta = np.where(outside, 1.0, eta)
    if family.name == "binomial":
        found = _binomial(family.link, y, eta, np.ones_like(y) if trials is None else trials)
    else:
        slope, bend = link.slope(eta), link.curvature(eta)
        mu = link.inverse(eta)
        if family.link == "identity" and family.response != "real":
            outside = mu <= 0
            mu = np.where(outside, 1.0, mu)
        k = _KERNELS[family.label](y, mu, parameters, np.ones_like(y) if weights is None else weights)
        found = Pointwise(
            k.value,
            k.by_mean * slope,
            k.curvature * slope**2 - k.by_mean * bend,
            k.information * slope**2,
            k.by_parameters,
        )
    if outside is not None and outside.any():
        return Pointwise(
            np.where(outside, -np.inf, found.value), found.score, found.observed, found.expected, found.by_parameters
        )
    return found


def zero_inflated(plain: Pointwise, y: FloatArray, zero: FloatArray) -> Pointwise:
    """Mix a count with structural zeros (Lambert 1992, Technometrics 34:1-14).

    Args:
        plain: Of the count itself; weights are not allowed.
        y: Counts, shape (n,).
        zero: Logit of the probability of a structural zero, shape (n,).

    Returns:
        ``expected`` is only a positive stand-in for the search: the expectation has no simple form.
    """
    log_pi, log_rest = special.log_expit(zero), special.log_expit(-zero)
    mixed = np.logaddexp(log_pi, log_rest + plain.value)
    at_zero = y == 0
    share = np.where(at_zero, np.exp(log_rest + plain.value - mixed), 1.0)
    return Pointwise(
        np.where(at_zero, mixed, log_rest + plain.value),
        share * plain.score,
        share * plain.observed - share * (1 - share) * plain.score**2,
        np.maximum(share, 1e-3) * plain.expected,
        tuple(share * d for d in plain.by_parameters),
    )


def variance(family: Family, parameters: FloatArray, mu: FloatArray) -> FloatArray:
    """Var(y) at weight (or trials) 1, shape of ``mu``; infinite for Student's t with nu <= 2.

    Parameters have shape (k,), or (k, S, 1) for means (S, n).
    """
    match family.label:
        case "gaussian":
            return np.full_like(mu, parameters[0] ** 2)
        case "binomial":
            return mu * (1 - mu)
        case "poisson":
            return mu
        case "gamma":
            return np.asarray(parameters[0] * mu**2)
        case "inverse_gaussian":
            return np.asarray(parameters[0] * mu**3)
        case "negative_binomial":
            return np.asarray(mu + mu**2 / parameters[0])
        case "negative_binomial_1":
            return np.asarray(mu * (1 + parameters[0]))
        case "beta":
            return np.asarray(mu * (1 - mu) / (1 + parameters[0]))
        case _:
            nu = parameters[1]
            wide = np.where(nu > 2, nu / np.where(nu > 2, nu - 2, 1.0), np.inf)
            return np.full_like(mu, parameters[0] ** 2 * wide)


def unit_deviance(family: Family, parameters: FloatArray, y: FloatArray, mu: FloatArray) -> FloatArray | None:
    """Twice the log-likelihood that a row loses against mu = y, times the dispersion; shape (n,).

    For the exponential families as in R's ``family()$dev.resids`` at weight 1. None where there is no such thing
    (beta, NB1 and Student's t: mu = y does not maximise their likelihood).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        match family.label:
            case "gaussian":
                found = (y - mu) ** 2
            case "binomial":
                found = 2 * (special.xlogy(y, y / mu) + special.xlogy(1 - y, (1 - y) / (1 - mu)))
            case "poisson":
                found = 2 * (special.xlogy(y, y / mu) - (y - mu))
            case "gamma":
                found = -2 * (np.log(y / mu) - (y - mu) / mu)
            case "inverse_gaussian":
                found = (y - mu) ** 2 / (y * mu**2)
            case "negative_binomial":
                theta = parameters[0]
                found = 2 * (special.xlogy(y, y / mu) - (y + theta) * np.log((y + theta) / (mu + theta)))
            case _:
                return None
    return np.asarray(np.maximum(found, 0.0))


def _nb(y: FloatArray, mu: FloatArray, size: FloatArray) -> FloatArray:
    """Log-density of a negative binomial by mean and size."""
    return np.asarray(
        _log_rising(size, y) - special.gammaln(y + 1) - size * np.log1p(mu / size) + special.xlogy(y, mu / (size + mu))
    )


def _log_rising(size: FloatArray, y: FloatArray) -> FloatArray:
    """Log Gamma(size + y) - log Gamma(size); without cancellation where ``size`` is large."""
    positive = np.maximum(y, 1.0)
    return np.asarray(np.where(y > 0, special.gammaln(positive) - special.betaln(size, positive), 0.0))


def _binomial(link: str, y: FloatArray, eta: FloatArray, trials: FloatArray) -> Pointwise:
    log_mu, log_rest = log_complement(link, eta)
    k = np.round(y * trials)
    constant = special.gammaln(trials + 1) - special.gammaln(k + 1) - special.gammaln(trials - k + 1)
    value = constant + k * log_mu + (trials - k) * log_rest
    # Ratios by logarithms: slope and probability go to zero together in the tails.
    steepness, relative = log_slope(link, eta)
    up, down = np.exp(steepness - log_mu), np.exp(steepness - log_rest)
    score = k * up - (trials - k) * down
    observed = k * up * (up - relative) + (trials - k) * down * (down + relative)
    return Pointwise(value, score, observed, trials * up * down, ())


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


def _negative_binomial_1(y: FloatArray, mu: FloatArray, p: FloatArray, w: FloatArray) -> Kernel:
    alpha = p[0]
    size = np.maximum(mu, _TINY) / alpha  # var = mu (1 + alpha); success probability 1 / (1 + alpha)
    gap = special.digamma(y + size) - special.digamma(size)
    by_size = gap - np.log1p(alpha)
    bent = special.polygamma(1, size) - special.polygamma(1, y + size)
    value = w * _nb(y, mu, size)
    by_alpha = -by_size * size / alpha - size / (1 + alpha) + y / (alpha * (1 + alpha))
    curvature = w * bent / alpha**2
    # The expectation of trigamma(y + size) has no closed form; the quasi-likelihood's information serves the search.
    return Kernel(value, w * by_size / alpha, curvature, w / (mu * (1 + alpha)), (w * by_alpha,))


def _beta(y: FloatArray, mu: FloatArray, p: FloatArray, w: FloatArray) -> Kernel:
    phi = p[0]
    a, b = np.maximum(mu * phi, _TINY), np.maximum((1 - mu) * phi, _TINY)
    logit = np.log(y) - np.log1p(-y)
    gap = special.digamma(a) - special.digamma(b)
    value = (
        special.gammaln(phi) - special.gammaln(a) - special.gammaln(b) + (a - 1) * np.log(y) + (b - 1) * np.log1p(-y)
    )
    bent = phi**2 * (special.polygamma(1, a) + special.polygamma(1, b))
    by_phi = special.digamma(phi) - special.digamma(b) + np.log1p(-y) + mu * (logit - gap)
    return Kernel(w * value, w * phi * (logit - gap), w * bent, w * bent, (w * by_phi,))


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


_KERNELS = {
    "gaussian": _gaussian,
    "poisson": _poisson,
    "gamma": _gamma,
    "inverse_gaussian": _inverse_gaussian,
    "negative_binomial": _negative_binomial,
    "negative_binomial_1": _negative_binomial_1,
    "beta": _beta,
    "student_t": _student_t,
}
