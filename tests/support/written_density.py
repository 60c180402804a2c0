"""The posterior as a statistician writes it down: to hold the log density that a sampler moves on against.

Rows given the linear predictor, group effects given their covariance matrices, and priors as a result words them.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

import unimix as um
from unimix.design.arrays import Design
from unimix.likelihood.response import row_log_likelihood

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Draw:
    """One draw in the user's units.

    Attributes:
        beta: Fixed effects, shape (p,).
        covariances: Covariance matrix of each block's effects, shapes (q, q) with q of 1 or 2.
        effects: Effects of each block, shapes (L, q).
        parameters: Dispersion parameters, in the family's order.
    """

    beta: FloatArray
    covariances: Sequence[FloatArray]
    effects: Sequence[FloatArray]
    parameters: FloatArray


def log_density(design: Design, draw: Draw, priors: Mapping[str, str], *, noncentered: bool) -> float:
    """Log density of a draw in the coordinates of PyMC's sampler, up to a constant.

    These are logarithms of all that is positive, artanh of a correlation, and effects times the inverse root of their
    covariance matrix if not centred.

    Args:
        design: In the user's columns.
        draw: What the density is of.
        priors: Every prior as ``fit.engine.priors`` words it.
        noncentered: Whether the sampler moves standardised effects.
    """
    eta = design.x @ draw.beta + (0 if design.offset is None else design.offset)
    total = 0.0
    for block, covariance, effects in zip(design.blocks, draw.covariances, draw.effects, strict=True):
        eta = eta + (block.z * effects[block.codes]).sum(axis=1)
        total += stats.multivariate_normal(cov=covariance).logpdf(effects).sum()
        total += noncentered * block.n_levels * np.linalg.slogdet(covariance)[1] / 2
        sds = np.sqrt(np.diag(covariance))
        for term, sd in zip(block.terms, sds, strict=True):
            name = f"sd({block.group}: {term})"
            total += _prior(priors.get(name) or priors[f"sd({block.group})"]).log_density(sd) + np.log(sd)
        if block.q == 2:
            correlation = covariance / np.outer(sds, sds)
            total += _prior(priors[f"cor({block.group})"]).log_density(correlation)
            total += np.log(1 - correlation[0, 1] ** 2)
    total += row_log_likelihood(design, draw.parameters, eta).value.sum()
    at_means = design.x.mean(axis=0) @ draw.beta
    for name, value in zip(design.fixed_names, draw.beta, strict=True):
        total += _prior(priors[name]).log_density(at_means if "mean" in priors[name] else value)
    for name, value in zip(design.family.parameters, draw.parameters, strict=True):
        inverse = priors[name].startswith("1 / ")
        own = 1 / value if inverse else value
        total += _prior(priors[name]).log_density(own) + np.log(own)
    return float(total)


def _prior(text: str) -> Any:
    """The prior that is worded ``Normal(0, 2.5) at the mean of the predictors`` or ``HalfNormal(sigma: 1)``."""
    found = re.search(r"(\w+)\(([^)]*)\)", text)
    assert found is not None, text
    return getattr(um.priors, found[1])(*(float(part.rpartition(":")[2]) for part in found[2].split(",")))


def assert_same_up_to_a_constant(theirs: FloatArray, ours: Sequence[float]) -> None:
    """Priors are worded with six digits, which is 1e-5 of a log density.

    Args:
        theirs: The sampler's log density at each draw.
        ours: :func:`log_density` at each draw.
    """
    assert len(np.unique(theirs)) >= 3, "the chain did not move"
    assert np.ptp(theirs - np.array(ours)) < 1e-4


@contextlib.contextmanager
def nothing_compiled() -> Iterator[None]:
    """PyTensor interprets its graphs: a model is ready in a second, and each step takes long."""
    import pytensor

    with pytensor.config.change_flags(mode="FAST_COMPILE", cxx=""):
        yield
