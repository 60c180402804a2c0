"""Shares of the variance: intraclass correlation and reliability."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from unimix.model.design import RandomBlock
from unimix.model.family import Family

FloatArray = npt.NDArray[np.float64]


def block_variance(z: FloatArray, covariance: FloatArray) -> float:
    """Variance that a block adds to a row's linear predictor, on average over rows: the mean of z'Cov z.

    Johnson (2014), Methods Ecol. Evol. 5:944-946, for random slopes.
    """
    return float(np.einsum("ni,ij,nj->n", z, covariance, z).mean())


def row_variance(family: Family, sigma: float) -> float:
    """Variance of a row about its linear predictor, on the scale of the link; NaN where it has no simple form.

    sigma^2 of a linear model; pi^2 / 3 (logit), 1 (probit) and pi^2 / 6 (cloglog) of a binomial model's latent
    variable. Nakagawa, Johnson & Schielzeth (2017), J. R. Soc. Interface 14:20170213.
    """
    if family.is_linear:
        return sigma**2
    if family.name == "binomial":
        return {"logit": np.pi**2 / 3, "probit": 1.0, "cloglog": np.pi**2 / 6}.get(family.link, float("nan"))
    return float("nan")


def intraclass_correlation(
    blocks: Sequence[RandomBlock], covariances: Sequence[FloatArray], residual: float
) -> dict[str, float]:
    """Share of each grouping factor in the variance that fixed effects do not explain.

    Args:
        blocks: Of the design.
        covariances: Of their effects, shapes (q, q).
        residual: From :func:`row_variance`.
    """
    found: dict[str, float] = {}
    for block, covariance in zip(blocks, covariances, strict=True):
        found[block.group] = found.get(block.group, 0.0) + block_variance(block.z, covariance)
    total = sum(found.values()) + residual
    return {group: value / total for group, value in found.items()}
