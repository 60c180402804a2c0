"""Log likelihood of the rows of a design, given their linear predictor."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from unimix.design.arrays import Design
from unimix.distributions.links import LINKS
from unimix.distributions.log_density import Pointwise, mixed_derivative, pointwise, zero_inflated

FloatArray = npt.NDArray[np.float64]


def row_log_likelihood(
    design: Design, parameters: FloatArray, eta: FloatArray, zero: FloatArray | None = None
) -> Pointwise:
    """Compute the log likelihood of each row of a design with :func:`pointwise`, with zero inflation if there is any.

    Args:
        design: The model and its data.
        parameters: Dispersion parameters, shape (k,), or shape (1, n) if they differ between rows.
        eta: Linear predictor with offset, shape (n,).
        zero: Logit of the probability of a structural zero, shape (n,), for a model with zero inflation; else None.
    """
    design.require_one_residual()
    if zero is None:
        return pointwise(design.family, parameters, design.y, eta, design.weights, design.trials)
    density = pointwise(design.family, parameters, design.y, eta)
    mixture = zero_inflated(density, design.y, zero, hurdle=design.family.is_truncated)
    return mixture if design.weights is None else mixture.times(design.weights)


def mixed_information(design: Design, parameters: FloatArray, eta: FloatArray, zero: FloatArray) -> FloatArray:
    """Second derivative d^2 l / (d eta d zeta) of each row's log likelihood under zero inflation, shape (n,).

    Args:
        design: The model and its data.
        parameters: Dispersion parameters, shape (k,).
        eta: Linear predictor of the mean with offset, shape (n,).
        zero: Logit of the probability of a structural zero, shape (n,).
    """
    plain = pointwise(design.family, parameters, design.y, eta)
    mixed = mixed_derivative(plain, design.y, zero, hurdle=design.family.is_truncated)
    return mixed if design.weights is None else design.weights * mixed


def saturated(design: Design, parameters: FloatArray) -> float:
    """Log likelihood of the saturated model, mu = y in every row, for binomial and count families."""
    y = design.y
    inside = y
    if design.family.response == "binomial":
        # 0 log 0 = 0: rows without uncertainty have log likelihood zero
        between = (y > 0) & (y < 1)
        inside = np.where(between, y, 0.5)
    else:
        between = y > 0
        inside = np.where(between, y, 1.0)
    eta = LINKS[design.family.link].forward(inside)
    value = row_log_likelihood(design, parameters, eta).value
    return float(value[between].sum())


def rounding(design: Design) -> float:
    """Rounding error of the log likelihood: the terms of a count's log density are far larger than their sum.

    The largest term of a Poisson, negative binomial or binomial density is a log factorial, and the error of a sum in
    double precision is at most about the sum of the sizes of its terms times the machine precision (Higham 2002,
    Accuracy and Stability of Numerical Algorithms, section 4.2). It is 0.1 for 200 counts of size e^25.
    """
    if design.family.response not in ("count", "positive_count", "binomial"):
        return 0.0
    whole = design.trials if design.family.response == "binomial" else design.y
    if whole is None:
        return 0.0
    copies = 1.0 if design.weights is None else design.weights
    return float(np.finfo(np.float64).eps * np.sum(copies * special.gammaln(whole + 1.0)))


def link_unit(design: Design) -> float:
    """Unit of effects on the linear predictor: 1 for links such as log or logit.

    For other links it is the change of the linear predictor that corresponds to one standard deviation of the response,
    at the mean.
    """
    link = design.family.link
    if link not in ("identity", "inverse", "inverse_squared", "sqrt"):
        return 1.0
    mean = float(design.y.mean())
    if link != "identity" and mean <= 0:
        return 1.0
    eta = LINKS[link].forward(np.array([mean]))
    return float(np.std(design.y) / np.abs(LINKS[link].slope(eta))[0]) or 1.0
