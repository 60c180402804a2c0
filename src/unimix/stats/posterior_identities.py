"""Identities that hold for draws of a posterior, and not for draws of another distribution.

For a density p and a vector field f that vanishes where p ends, integration by parts gives

    E[f . grad log p + div f] = 0

(Stein's identity; Gorham & Mackey 2015, Advances in Neural Information Processing Systems 28). The gradient of the log
posterior of a mixed model is known in closed form, so that every field gives a quantity whose mean over correct draws
is zero up to Monte Carlo error: constant fields test the location, fields that grow with the distance from the mean
test the spread. Neither the sampler nor the normalising constant enters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design
from unimix.likelihood.response import row_log_likelihood
from unimix.stats.predictor import linear_predictors

FloatArray = npt.NDArray[np.float64]
MOST_PAIRS = 8
"""Number of fixed effects up to which the spread of every pair is tested, and not only that of each effect."""


@dataclass(frozen=True)
class PosteriorDraws:
    """S draws of all parameters of a mixed model, with the derivatives of the log priors there.

    Attributes:
        beta: Fixed effects, shape (S, p).
        effects: Group effects of each block, shapes (S, L, q).
        sds: Standard deviations of each block's effects, shapes (S, q).
        correlations: Correlation matrices of each block's effects, shapes (S, q, q).
        dispersion: Dispersion parameters of the family, shape (S, k).
        by_beta: Derivative of the log prior with respect to the fixed effects, shape (S, p).
        by_sds: Derivatives with respect to the standard deviations, shapes (S, q).
        eta: Parameter of the LKJ prior of each block's correlations.
        by_dispersion: Derivatives with respect to the dispersion parameters, shape (S, k).
    """

    beta: FloatArray
    effects: Sequence[FloatArray]
    sds: Sequence[FloatArray]
    correlations: Sequence[FloatArray]
    dispersion: FloatArray
    by_beta: FloatArray
    by_sds: Sequence[FloatArray]
    eta: Sequence[float]
    by_dispersion: FloatArray


def identities(design: Design, draws: PosteriorDraws) -> dict[str, FloatArray]:
    """Quantities, shape (S,), whose posterior means are zero, by the parameter that they test.

    Args:
        design: The model in the units of the draws.
        draws: Draws of all parameters.
    """
    eta = linear_predictors(design, draws.beta, tuple(draws.effects))
    rows = row_log_likelihood(design, draws.dispersion.T[:, :, None], eta)
    zero_means: dict[str, FloatArray] = {}
    inverse = [
        np.linalg.inv(r) / (s[:, :, None] * s[:, None, :]) for s, r in zip(draws.sds, draws.correlations, strict=True)
    ]
    location = _location(design, draws, rows.score, rows.expected.mean(axis=0), inverse)
    off = draws.beta - draws.beta.mean(axis=0)
    for j, name in enumerate(design.fixed_names):
        zero_means[name] = location[:, j]
        for i in range(design.p) if design.p <= MOST_PAIRS else (j,):
            # field (beta_i - mean_i) d_j, whose divergence is 1 for i = j and else 0
            spread = off[:, i] * location[:, j] + (i == j)
            zero_means[f"variance of {name}" if i == j else f"covariance of {design.fixed_names[i]} and {name}"] = (
                spread
            )
    for k, block in enumerate(design.blocks):
        zero_means |= _of_block(block.group, block.terms, draws, k)
        through = np.einsum("sn,sn->s", rows.score, np.einsum("nq,snq->sn", block.z, draws.effects[k][:, block.codes]))
        quadratic = np.einsum("sla,sab,slb->s", draws.effects[k], inverse[k], draws.effects[k], optimize=True)
        zero_means[f"effects of {block.group}"] = through - quadratic + block.n_levels * block.q
    for j, (name, (low, high)) in enumerate(zip(design.family.parameters, design.family.ranges, strict=True)):
        value, score = draws.dispersion[:, j], rows.by_parameters[j].sum(axis=1) + draws.by_dispersion[:, j]
        if np.isfinite(high):  # field (v - a) (b - v) / (b - a), which is zero at both ends
            slope = ((value - low) * (high - value) * score + low + high - 2 * value) / (high - low)
            zero_means |= {name: slope}
        else:
            zero_means |= _scaled(name, value, value * score + 1.0)
    return zero_means


def _location(
    design: Design, draws: PosteriorDraws, score: FloatArray, weight: FloatArray, inverse: Sequence[FloatArray]
) -> FloatArray:
    """Slope of the log posterior along one direction per fixed effect, shape (S, p).

    Each direction moves a fixed effect and the effects of the largest block as they follow it: b_l moves by
    -(Z_l'W Z_l + Cov^-1)^-1 Z_l'W X. Any fixed direction will do; this one has the least noise.
    """
    moved, toward = design.x, 0.0
    if design.blocks:
        k = max(range(len(design.blocks)), key=lambda k: design.blocks[k].n_levels * design.blocks[k].q)
        block = design.blocks[k]
        wz = weight[:, None] * block.z
        a = np.zeros((block.n_levels, block.q, block.q))
        np.add.at(a, block.codes, wz[:, :, None] * block.z[:, None, :])
        right = np.zeros((block.n_levels, block.q, design.p))
        np.add.at(right, block.codes, wz[:, :, None] * design.x[:, None, :])
        follow = -np.linalg.solve(a + np.median(inverse[k], axis=0), right)
        moved = design.x + np.einsum("nq,nqp->np", block.z, follow[block.codes])
        toward = np.einsum("sab,slb,lap->sp", inverse[k], draws.effects[k], follow, optimize=True)
    return np.asarray(score @ moved - toward + draws.by_beta)


def _of_block(group: str, terms: Sequence[str], draws: PosteriorDraws, k: int) -> dict[str, FloatArray]:
    """Identities of the standard deviations and correlations of one block."""
    sd, r, effects = draws.sds[k], draws.correlations[k], draws.effects[k]
    levels = effects.shape[1]
    zero_means: dict[str, FloatArray] = {}
    u = effects / sd[:, None, :]
    products = np.einsum("sla,slb->sab", u, u)  # sum over levels of u u', u = b / sd
    inner = np.linalg.inv(r)
    turned = inner @ products
    for j, term in enumerate(terms):
        # sd d/dsd of -L log sd - u'R^-1 u / 2 + log prior, and 1 for the divergence of the field sd
        slope = turned[:, j, j] - levels + sd[:, j] * draws.by_sds[k][:, j] + 1.0
        zero_means |= _scaled(f"sd({group}: {term})", sd[:, j], slope)
    both, size = turned @ inner, np.linalg.det(r)
    for i in range(len(terms)):
        for j in range(i):
            # field |R|, which vanishes where R is singular: (eta - 1 + 1 - L / 2) log|R| and the quadratic form
            slope = 2 * (draws.eta[k] - levels / 2) * inner[:, i, j] + both[:, i, j]
            zero_means[f"cor({group}: {terms[i]}, {terms[j]})"] = size * slope
    return zero_means


def _scaled(name: str, value: FloatArray, slope: FloatArray) -> dict[str, FloatArray]:
    """Identities of a positive parameter, for the fields x and (log x - mean) x."""
    size = np.log(value)
    return {name: slope, f"variance of log {name}": (size - size.mean()) * slope + 1.0}


__all__ = ["PosteriorDraws", "identities"]
