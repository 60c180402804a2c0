"""Ordered responses: probabilities of the categories of a cumulative model, their derivatives, and thresholds.

A latent variable with mean eta and distribution function F is cut at increasing thresholds theta_1 < ... < theta_(K-1),
so that P(Y <= j) = F(theta_j - eta), as in R's ``ordinal::clmm``. Sources: McCullagh (1980), J. R. Stat. Soc. B
42:109-142, for the model and the symmetric thresholds; Christensen (2019), Cumulative Link Models with the R package
ordinal, sections 2 and 3, for equidistant thresholds and the derivatives.

The K - 1 thresholds are J p with one real parameter p_0 and positive parameters p_1, p_2, ..., so that they
increase for every value of p: the first threshold and the gaps between neighbours (flexible), the middle
and distances from it
(symmetric), or the first threshold and one gap (equidistant).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from unimix.distributions.links import LINKS, log_complement, log_slope

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
THRESHOLDS = ("flexible", "symmetric", "equidistant")
LEAST = 1e-3
"""Smallest positive threshold parameter at which a search starts."""
_TINY = 1e-300


def threshold_matrix(kind: str, n_categories: int) -> FloatArray:
    """Matrix J of the thresholds theta = J p, shape (K - 1, k), for K categories.

    Args:
        kind: One of :data:`THRESHOLDS`.
        n_categories: Number K of categories, at least 2.

    Example:
        >>> threshold_matrix("flexible", 4)
        array([[1., 0., 0.],
               [1., 1., 0.],
               [1., 1., 1.]])
        >>> threshold_matrix("symmetric", 4)
        array([[ 1., -1.],
               [ 1.,  0.],
               [ 1.,  1.]])
    """
    m = n_categories - 1
    if kind == "flexible":
        return np.tril(np.ones((m, m)))
    if kind == "equidistant":
        return np.column_stack([np.ones(m), np.arange(m, dtype=np.float64)])[:, : min(m, 2)]
    half = m // 2  # thresholds above the middle one, or above the middle of the scale
    above = np.tril(np.ones((half, half)))
    centre = np.zeros((m - 2 * half, half))
    return np.column_stack([np.ones(m), np.vstack([-above[::-1], centre, above])])


def threshold_parameters(kind: str, thresholds: FloatArray) -> FloatArray:
    """Parameters p of the thresholds J p that are nearest to given ones, shape (k,), with positive distances."""
    matrix = threshold_matrix(kind, len(thresholds) + 1)
    p = np.linalg.lstsq(matrix, thresholds)[0]
    return np.append(p[:1], np.maximum(p[1:], LEAST))


def parameter_names(kind: str, n_categories: int) -> tuple[str, ...]:
    """Names of the parameters p of the thresholds."""
    m = n_categories - 1
    if kind == "equidistant":
        return ("first", "spacing")[: min(m, 2)]
    if kind == "flexible":
        return ("first", *(f"gap_{j}" for j in range(1, m)))
    return ("middle", *(f"distance_{j}" for j in range(1, m // 2 + 1)))


def log_interval(link: str, upper: FloatArray, lower: FloatArray) -> FloatArray:
    """Log (F(a) - F(b)) for a > b, accurate in both tails; infinite ends are allowed.

    Args:
        link: Name of the link, whose inverse is the distribution function F.
        upper: Upper ends a, any shape.
        lower: Lower ends b, in the shape of ``upper``.
    """
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        if link == "logit":  # F(a) - F(b) = F(a) (1 - F(b)) (1 - exp(b - a))
            return np.asarray(special.log_expit(upper) + special.log_expit(-lower) + _log1mexp(upper - lower))
        if link == "cloglog":  # exp(-h_b) (1 - exp(-(h_a - h_b))), h = exp(.)
            hazard, width = np.exp(np.minimum(lower, 700.0)), upper - lower
            far = np.exp(np.minimum(upper, 700.0)) - hazard
            gap = np.where(width > 1.0, far, hazard * np.expm1(np.minimum(width, 1.0)))
            return np.asarray(-hazard + _log1mexp(gap))
        if link == "loglog":  # the mirror image of cloglog: F(x) = 1 - F_cloglog(-x)
            return log_interval("cloglog", -lower, -upper)
        if link == "cauchit":  # atan(a) - atan(b) = atan2(a - b, 1 + a b)
            open_ = np.isinf(upper) | np.isinf(lower)
            a, b = np.where(open_, 1.0, upper), np.where(open_, 0.0, lower)
            inner = np.log(np.maximum(np.arctan2(a - b, 1.0 + a * b) / np.pi, _TINY))
            tail = np.where(np.isinf(upper), log_complement(link, lower)[1], log_complement(link, upper)[0])
            return np.asarray(np.where(np.isposinf(upper) & np.isneginf(lower), 0.0, np.where(open_, tail, inner)))
        mirrored = upper + lower > 0  # both ends are reflected to the lower tail, where 1 - F loses no digits
        a, b = np.where(mirrored, -lower, upper), np.where(mirrored, -upper, lower)
        log_a, log_b = special.log_ndtr(a), special.log_ndtr(b)
        return np.asarray(log_a + _log1mexp(log_a - log_b))


def _log1mexp(x: FloatArray) -> FloatArray:
    """Log (1 - exp(-x)) for x > 0 (Maechler 2012, Accurately computing log(1 - exp(-|a|)))."""
    return np.asarray(np.where(x > np.log(2), np.log1p(-np.exp(-x)), np.log(-np.expm1(-np.maximum(x, _TINY)))))


def _ends(thresholds: FloatArray) -> FloatArray:
    """Thresholds with the open ends of the scale, theta_0 = -inf and theta_K = inf; the first axis is longer by 2."""
    end = np.full((1, *thresholds.shape[1:]), np.inf)
    return np.concatenate([-end, thresholds, end])


def cumulative_log_density(
    link: str, matrix: FloatArray, parameters: FloatArray, y: FloatArray, eta: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Log probability of the observed categories, and its derivatives.

    With a = theta_y - eta, b = theta_(y-1) - eta, P = F(a) - F(b) and the density f = F' these are

        d log P / d eta = -(f(a) - f(b)) / P,    -d^2 log P / d eta^2 = ((f(a) - f(b)) / P)^2 - (f'(a) - f'(b)) / P,
        d log P / d theta_y = f(a) / P,          d log P / d theta_(y-1) = -f(b) / P,

    and the expected information is sum_j (f(a_j) - f(b_j))^2 / P_j.

    Args:
        link: Name of the link.
        matrix: Matrix J of the thresholds, shape (K - 1, k).
        parameters: Threshold parameters p, shape (k,).
        y: Index of the observed category, from 0, shape (n,).
        eta: Linear predictor, shape (n,).

    Returns:
        Log probability, score, observed and expected information, shapes (n,); derivatives with respect to p, (k, n).
    """
    codes = y.astype(np.int64)
    ends = _ends(matrix @ parameters)
    wide = np.vstack([np.zeros(matrix.shape[1]), matrix, np.zeros(matrix.shape[1])])
    a, b = ends[codes + 1] - eta, ends[codes] - eta
    value = log_interval(link, a, b)
    up, bent_up = _relative_density(link, a, value)
    down, bent_down = _relative_density(link, b, value)
    score = down - up
    observed = score**2 - (bent_up - bent_down)
    by_parameters = up * wide[codes + 1].T - down * wide[codes].T
    cuts = ends[:, None] - eta
    logs = log_interval(link, cuts[1:], cuts[:-1])
    high, low = _relative_density(link, cuts[1:], logs)[0], _relative_density(link, cuts[:-1], logs)[0]
    expected = (np.exp(logs) * (high - low) ** 2).sum(axis=0)
    return value, score, observed, np.asarray(expected), by_parameters


def _relative_density(link: str, x: FloatArray, log_probability: FloatArray) -> tuple[FloatArray, FloatArray]:
    """f(x) / P and f'(x) / P, zero at infinite x."""
    inside = np.isfinite(x)
    logs, bend = log_slope(link, np.where(inside, x, 0.0))
    with np.errstate(over="ignore", invalid="ignore"):
        ratio = np.where(inside, np.exp(logs - log_probability), 0.0)
        return ratio, np.where(inside & (ratio > 0), ratio * bend, 0.0)


def category_probabilities(link: str, thresholds: FloatArray, eta: FloatArray) -> FloatArray:
    """Probability of every category, shape (K, ...), for predictors of shape (...).

    Args:
        link: Name of the link.
        thresholds: Thresholds, shape (K - 1,), or shape (K - 1, ...) that extends to that of ``eta``.
        eta: Linear predictor, any shape.

    Example:
        >>> import numpy as np
        >>> category_probabilities("logit", np.array([-1.0, 1.0]), np.zeros(1)).round(3).ravel()
        array([0.269, 0.462, 0.269])
    """
    theta = thresholds.reshape(*thresholds.shape, *[1] * (1 + np.ndim(eta) - thresholds.ndim))
    cuts = _ends(theta) - eta
    return np.asarray(np.exp(log_interval(link, cuts[1:], cuts[:-1])))


def exceedance_probabilities(link: str, thresholds: FloatArray, eta: FloatArray) -> FloatArray:
    """P(Y > j) = 1 - F(theta_j - eta) for the K - 1 thresholds, shape (K - 1, n), for predictors of shape (n,)."""
    return np.exp(log_complement(link, thresholds[:, None] - eta)[1])


def threshold_slopes(link: str, thresholds: FloatArray, eta: FloatArray) -> FloatArray:
    """Density f(theta_j - eta), shape (K - 1, n): minus the derivative of P(Y > j) with respect to theta_j - eta."""
    return np.asarray(LINKS[link].slope(thresholds[:, None] - eta))


def draw_categories(link: str, thresholds: FloatArray, eta: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Draw the index of a category, from 0, for each value of the linear predictor, in its shape.

    With u uniform, the category is the number of thresholds whose P(Y <= j) is below u.

    Args:
        link: Name of the link.
        thresholds: Thresholds, shape (K - 1,), or shape (K - 1, S, 1) for predictors of shape (S, n).
        eta: Linear predictor.
        rng: Random number generator.
    """
    u = rng.random(np.shape(eta))
    drawn = np.zeros(np.shape(eta))
    for theta in thresholds:
        drawn += LINKS[link].inverse(np.asarray(theta - eta)) < u
    return drawn
