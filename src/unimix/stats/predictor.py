"""Expectation and predictive density of responses whose linear predictor has a normal error."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import special

from unimix.design.arrays import Design
from unimix.distributions.distribution import DISTRIBUTIONS
from unimix.distributions.family import Family
from unimix.distributions.log_density import Pointwise
from unimix.distributions.random_responses import mean_of

FloatArray = npt.NDArray[np.float64]

WIDE, NARROW = 161, 161
"""Numbers of nodes within eight standard errors of the linear predictor, and within ten widths of the integrand."""
_ROUNDS, _HALVINGS = 60, 30


def linear_predictors(design: Design, beta: FloatArray, effects: Sequence[FloatArray]) -> FloatArray:
    """Linear predictors X beta + Z b + offset of every row for S sets of coefficients, shape (S, n).

    Args:
        design: The model and its data.
        beta: Fixed effects, shape (S, p).
        effects: Group effects of each block, shapes (S, L, q); an empty sequence omits group effects.
    """
    eta = beta @ design.x.T
    if design.offset is not None:
        eta = eta + design.offset
    for block, effect in zip(design.blocks if len(effects) else (), effects, strict=True):
        for j in range(block.q):
            eta += effect[:, block.codes, j] * block.z[:, j]
    return np.asarray(eta)


def expected_response(
    family: Family, centre: FloatArray, sd: FloatArray, parameters: FloatArray | None = None
) -> FloatArray:
    """Expected response for eta ~ N(centre, sd^2), shape (n,), E g^-1(eta) for all families but the truncated ones.

    The expectation has a closed form for the identity, log and sqrt links, and is computed by Gauss-Hermite quadrature
    for links with bounded means and for truncated families. For inverse links it does not exist; the result is the
    response at the centre.

    Args:
        family: Distribution and link.
        centre: Means of the linear predictors, shape (n,).
        sd: Standard deviations of the linear predictors, shape (n,).
        parameters: Dispersion parameters, shape (k,), for a family whose expected response depends on them.
    """
    plain = DISTRIBUTIONS[family.label].expectation is None
    match family.link if plain else "":
        case "identity":
            return centre
        case "log":
            with np.errstate(over="ignore"):
                return np.asarray(np.exp(centre + sd**2 / 2))
        case "sqrt":
            return np.asarray(centre**2 + sd**2)
        case "inverse" | "inverse_squared":
            return mean_of(family, centre)
        case _:
            nodes, weights = special.roots_hermitenorm(101)
            values = mean_of(family, centre + sd * nodes[:, None], parameters)
            return np.asarray(weights @ values / weights.sum())


def predictive_log_density(rows: Callable[[FloatArray], Pointwise], centre: FloatArray, sd: FloatArray) -> FloatArray:
    """Logarithm of the integral of p(y | eta) N(eta; centre, sd^2) over eta, shape (n,).

    The integral is computed by the trapezoidal rule on nodes that cover the normal distribution and, more densely, the
    mode of each row's integrand, which lies elsewhere if the response is informative.

    Args:
        rows: Function of the linear predictor (n,) that returns the log density per row and its derivatives.
        centre: Means of the linear predictors, shape (n,).
        sd: Standard deviations of the linear predictors, shape (n,); zero gives the density at the centre.
    """
    spread = np.where(sd > 0, sd, 1.0)

    def height(eta: FloatArray) -> tuple[FloatArray, Pointwise]:
        likelihood = rows(eta)
        return likelihood.value - 0.5 * ((eta - centre) / spread) ** 2, likelihood

    eta = np.array(centre, dtype=np.float64)
    value, at = height(eta)
    for _ in range(_ROUNDS):
        usable = np.isfinite(at.observed) & (at.observed + spread**-2.0 > 0)
        bend = np.where(usable, at.observed, np.maximum(np.nan_to_num(at.expected), 0.0)) + spread**-2.0
        step = np.nan_to_num((at.score - (eta - centre) / spread**2) / bend)
        size = np.ones_like(eta)
        for _ in range(_HALVINGS):
            moved, there = height(eta + size * step)
            worse = ~(moved >= value - 1e-12 * np.abs(value))
            if not worse.any():
                break
            size = np.where(worse, size / 2, size)
        else:
            size = np.where(worse, 0.0, size)
            moved, there = height(eta + size * step)
        eta, value, at = eta + size * step, moved, there
        if np.abs(size * step).max(initial=0.0) < 1e-9 * (1.0 + np.abs(eta).max(initial=0.0)):
            break
    bend = np.where(at.observed + spread**-2.0 > 0, at.observed, np.maximum(at.expected, 0.0)) + spread**-2.0
    width = 1.0 / np.sqrt(bend)
    nodes = np.concatenate(
        [
            centre + spread * np.linspace(-8, 8, WIDE)[:, None],
            eta + width * np.linspace(-10, 10, NARROW)[:, None],
        ]
    )
    nodes = np.sort(nodes, axis=0)
    gaps = np.diff(nodes, axis=0)
    weights = np.concatenate([gaps[:1], gaps[:-1] + gaps[1:], gaps[-1:]]) / 2
    with np.errstate(divide="ignore"):
        parts = np.stack([height(x)[0] for x in nodes]) + np.log(weights)
    log_density = special.logsumexp(parts, axis=0) - np.log(spread) - 0.5 * np.log(2 * np.pi)
    return np.where(sd > 0, log_density, rows(centre).value)
