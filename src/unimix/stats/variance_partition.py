"""Partition of the variance into fixed effects, group effects and residual, on the scale of the link.

Sources: Nakagawa & Schielzeth (2013), Methods Ecol. Evol. 4:133-142; Johnson (2014), Methods Ecol. Evol. 5:944-946, for
random slopes; Nakagawa, Johnson & Schielzeth (2017), J. R. Soc. Interface 14:20170213, for families.
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


def fixed_variance(x: FloatArray, beta: FloatArray, copies: FloatArray | None = None) -> FloatArray:
    """Sample variance (divisor n - 1) of X beta over the rows, shape (...).

    Args:
        x: Fixed-effects columns, shape (n, p).
        beta: Fixed effects, shape (..., p).
        copies: Number of rows that each row stands for, shape (n,); None for ones.
    """
    w = np.ones(len(x)) if copies is None else copies
    centred = x - np.average(x, axis=0, weights=w)
    return np.asarray(((beta @ ((w[:, None] * centred).T @ centred / (w.sum() - 1))) * beta).sum(axis=-1))


def block_variance(z: FloatArray, covariance: FloatArray, copies: FloatArray | None = None) -> FloatArray:
    """Average variance that a block adds to the linear predictor of a row, the mean of z'Cov z, shape (...).

    Args:
        z: Columns of the block, shape (n, q).
        covariance: Covariance matrices of its effects, shape (..., q, q).
        copies: Number of rows that each row stands for, shape (n,); None for ones.
    """
    w = np.ones(len(z)) if copies is None else copies
    return np.asarray(np.einsum("ij,...ij->...", (w[:, None] * z).T @ z / w.sum(), covariance))


def needs_mean(family: Family) -> bool:
    """Whether :func:`row_variance` depends on the mean of the model without predictors."""
    if family.response == "count":
        return family.link == "log" or (family.link == "sqrt" and bool(family.parameters))
    return family.name == "tweedie" or (family.name == "beta" and family.link == "logit")


def row_variance(family: Family, parameters: FloatArray, mean: float = float("nan")) -> FloatArray:
    """Variance of a row about its linear predictor, on the scale of the link, shape (...).

    The variance is sigma^2 for a linear model (sigma^2 nu / (nu - 2) for Student's t), and that of log y for a
    lognormal response. For the latent variable of a binomial model it is pi^2 / 3 (logit), 1 (probit) or pi^2 / 6
    (cloglog). For counts with a log link it is log(1 + Var(y) / mean^2), the lognormal approximation, as for a Tweedie
    response; for counts with a sqrt link, 1 / 4 or (1 + mean / theta) / 4. By the delta method it is the dispersion of
    a gamma model with a log link (1 for an exponential one), and Var(y) / (mean (1 - mean))^2 of a beta model with a
    logit link.

    Args:
        family: Distribution and link.
        parameters: Dispersion parameters, shape (..., k).
        mean: Expected response of the model without predictors, if :func:`needs_mean` is true for the family.

    Returns:
        Variances; NaN for families and links without an accepted definition.
    """
    shape = parameters.shape[:-1]
    dispersion = parameters[..., 0] if parameters.shape[-1] else np.zeros(shape)
    variance: FloatArray | float = float("nan")
    match family.label, family.link:
        case ("gaussian" | "skew_normal", "identity") | ("lognormal", "log"):
            variance = dispersion**2
        case "exponential", "log":
            variance = 1.0
        case "tweedie", "log":
            variance = np.log1p(dispersion * mean ** (parameters[..., 1] - 2))
        case "generalised_poisson", "log":
            variance = np.log1p(dispersion / mean)
        case "student_t", "identity":
            nu = parameters[..., 1]
            variance = np.where(nu > 2, dispersion**2 * nu / np.where(nu > 2, nu - 2, 1.0), np.nan)
        case "binomial", link:
            variance = LATENT.get(link, float("nan"))
        case "poisson", "log":
            variance = np.log1p(1 / mean)
        case "negative_binomial", "log":
            variance = np.log1p(1 / mean + 1 / dispersion)
        case "negative_binomial_1", "log":
            variance = np.log1p((1 + dispersion) / mean)
        case "poisson", "sqrt":
            variance = 0.25
        case "negative_binomial", "sqrt":
            variance = 0.25 * (1 + mean / dispersion)
        case "negative_binomial_1", "sqrt":
            variance = 0.25 * (1 + dispersion)
        case "gamma", "log":
            variance = dispersion
        case "beta", "logit":
            variance = 1 / ((1 + dispersion) * mean * (1 - mean))
    return np.broadcast_to(np.asarray(variance, dtype=np.float64), shape)


def intraclass_correlation(
    blocks: Sequence[RandomBlock],
    covariances: Sequence[FloatArray],
    residual: FloatArray | float,
    copies: FloatArray | None = None,
) -> dict[str, FloatArray]:
    """Share of each grouping factor in the variance not explained by fixed effects, shapes (...), by factor.

    Args:
        blocks: Blocks of the design.
        covariances: Covariance matrices of the effects of each block, shapes (..., q, q).
        residual: Residual variance, from :func:`row_variance` and further components.
        copies: Number of rows that each row stands for, shape (n,); None for ones.
    """
    variances: dict[str, FloatArray] = {}
    for block, covariance in zip(blocks, covariances, strict=True):
        variances[block.group] = variances.get(block.group, np.zeros(())) + block_variance(block.z, covariance, copies)
    total = sum(variances.values()) + residual
    return {group: np.asarray(value / total) for group, value in variances.items()}
