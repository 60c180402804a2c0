"""Shares of the variance: fixed effects, group effects, and what is left, on the scale of the link.

Nakagawa & Schielzeth (2013), Methods Ecol. Evol. 4:133-142; Johnson (2014), Methods Ecol. Evol. 5:944-946, for random
slopes; Nakagawa, Johnson & Schielzeth (2017), J. R. Soc. Interface 14:20170213, for families.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import RandomBlock
from unimix.distributions.family import Family

FloatArray = npt.NDArray[np.float64]

LATENT = {"logit": float(np.pi**2 / 3), "probit": 1.0, "cloglog": float(np.pi**2 / 6)}
"""Variance of the latent variable of a binomial model, by link."""


def fixed_variance(x: FloatArray, beta: FloatArray) -> FloatArray:
    """Sample variance (n - 1) of the rows' X beta, shape (...).

    Args:
        x: Shape (n, p).
        beta: Shape (..., p).
    """
    centred = x - x.mean(axis=0)
    return np.asarray(np.einsum("...i,ij,...j->...", beta, centred.T @ centred / (len(x) - 1), beta))


def block_variance(z: FloatArray, covariance: FloatArray) -> FloatArray:
    """Variance that a block adds to a row's linear predictor, on average over rows: the mean of z'Cov z, shape (...).

    Args:
        z: Shape (n, q).
        covariance: Shape (..., q, q).
    """
    return np.asarray(np.einsum("ij,...ij->...", z.T @ z / len(z), covariance))


def needs_mean(family: Family) -> bool:
    """Whether :func:`row_variance` depends on the mean of the model without predictors."""
    if family.response == "count":
        return family.link == "log" or (family.link == "sqrt" and bool(family.parameters))
    return family.name == "beta" and family.link == "logit"


def row_variance(family: Family, parameters: FloatArray, mean: float = float("nan")) -> FloatArray:
    """Variance of a row about its linear predictor, on the scale of the link, shape (...).

    sigma^2 of a linear model (sigma^2 nu / (nu - 2) of Student's t); pi^2 / 3 (logit), 1 (probit) and pi^2 / 6
    (cloglog) of a binomial model's latent variable; log(1 + Var(y) / mean^2) of counts with a log link, the lognormal
    approximation; 1 / 4, or (1 + mean / theta) / 4, of counts with a sqrt link; the dispersion of a gamma model with a
    log link and Var(y) / (mean (1 - mean))^2 of a beta model with a logit link, by the delta method.

    Args:
        family: Distribution and link.
        parameters: Dispersion parameters, shape (..., k).
        mean: Expected response of a row without predictors, where :func:`needs_mean` says so.

    Returns:
        NaN where there is no accepted definition.
    """
    shape = parameters.shape[:-1]
    own = parameters[..., 0] if parameters.shape[-1] else np.zeros(shape)
    found: FloatArray | float = float("nan")
    match family.label, family.link:
        case "gaussian", "identity":
            found = own**2
        case "student_t", "identity":
            nu = parameters[..., 1]
            found = np.where(nu > 2, own**2 * nu / np.where(nu > 2, nu - 2, 1.0), np.nan)
        case "binomial", link:
            found = LATENT.get(link, float("nan"))
        case "poisson", "log":
            found = np.log1p(1 / mean)
        case "negative_binomial", "log":
            found = np.log1p(1 / mean + 1 / own)
        case "negative_binomial_1", "log":
            found = np.log1p((1 + own) / mean)
        case "poisson", "sqrt":
            found = 0.25
        case "negative_binomial", "sqrt":
            found = 0.25 * (1 + mean / own)
        case "negative_binomial_1", "sqrt":
            found = 0.25 * (1 + own)
        case "gamma", "log":
            found = own
        case "beta", "logit":
            found = 1 / ((1 + own) * mean * (1 - mean))
    return np.broadcast_to(np.asarray(found, dtype=np.float64), shape)


def intraclass_correlation(
    blocks: Sequence[RandomBlock], covariances: Sequence[FloatArray], residual: FloatArray | float
) -> dict[str, FloatArray]:
    """Share of each grouping factor in the variance that fixed effects do not explain, shapes (...).

    Args:
        blocks: Of the design.
        covariances: Of their effects, shapes (..., q, q).
        residual: From :func:`row_variance`, and what else counts with it.
    """
    found: dict[str, FloatArray] = {}
    for block, covariance in zip(blocks, covariances, strict=True):
        found[block.group] = found.get(block.group, np.zeros(())) + block_variance(block.z, covariance)
    total = sum(found.values()) + residual
    return {group: np.asarray(value / total) for group, value in found.items()}
