"""Uncertainty of the curves of smooths, jointly with the fixed effects, and their effective degrees of freedom.

In the mixed model of a smooth (:func:`unimix.design.smooths.mixed_design`), with spherical effects u of all blocks,
A = I + U'WU and C = A^-1 U'WX, the effects given the data and the fixed effects are normal with the precision A, and
their mean moves by -C when the fixed effects move. With V the covariance of the fixed effects,

    Cov(u) = A^-1 + C V C',   Cov(beta, u) = -V C'.

This is the Bayesian covariance of the curve at the estimated variances, whose intervals have nearly their probability
on average over the curve (Nychka 1988, JASA 83:1134-1143; Marra & Wood 2012, Scand. J. Statist. 39:53-74).
The effective degrees of freedom are the part of the trace of (X'WX + S)^-1 X'WX that belongs to the smooth's columns,
as in mgcv (Wood 2017, section 5.4.2): their number, less the trace of Cov(u) over its effects with
V = (X'WX - G'C)^-1 and G = U'WX.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design
from unimix.likelihood.glmm.effects_system import layout_of
from unimix.likelihood.lmm.conditioning import relative_factors
from unimix.likelihood.response import row_log_likelihood

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curves:
    """Coefficients of all smooths' curves.

    Attributes:
        coefficients: Conditional modes of the q coefficients of all smooths, one smooth after the other, shape (q,).
        covariance: Their covariance matrix, shape (q, q).
        cross: Their covariances with the fixed effects, shape (p, q).
        edf: Effective degrees of freedom of each smooth's penalised columns.
    """

    coefficients: FloatArray
    covariance: FloatArray
    cross: FloatArray
    edf: tuple[float, ...]


def curves_at(
    mixed: Design,
    beta: FloatArray,
    beta_cov: FloatArray,
    covariances: Sequence[FloatArray],
    modes: Sequence[FloatArray],
    sigma: float,
    parameters: Mapping[str, float],
) -> Curves:
    """Compute :class:`Curves` at estimates.

    Args:
        mixed: The mixed model of a design with smooths, which has rows.
        beta: Fixed effects, shape (p,).
        beta_cov: Their covariance matrix V, shape (p, p).
        covariances: Covariance matrix of each block's effects, shapes (q, q).
        modes: Conditional modes of each block's effects, shapes (L, q).
        sigma: Residual standard deviation of a linear model.
        parameters: Dispersion parameters of a generalised model, by name.
    """
    layout, factors = layout_of(mixed), relative_factors(tuple(covariances), 1.0)
    entries = layout.entries(factors)
    weights, expected = _weights(mixed, beta, modes, sigma, parameters)
    try:
        system = layout.factorise(entries, weights)
    except np.linalg.LinAlgError:  # the log density is convex far from its mode: use the expected information
        weights, system = expected, layout.factorise(entries, expected)
    own = [k for k, b in enumerate(mixed.blocks) if b.is_smooth]
    parts = [np.arange(layout.starts[k], layout.starts[k + 1]) for k in own]
    places = np.concatenate(parts)
    weighted = weights[:, None] * mixed.x
    g = np.column_stack(
        [layout.transposed_times(entries, column) for column in weighted.T] or [np.empty((layout.m, 0))]
    )
    c = _solved(system.solve, g)
    units = np.zeros((layout.m, len(places)))
    units[places, np.arange(len(places))] = 1.0
    given = _solved(system.solve, units)[places]
    given = (given + given.T) / 2
    c_own = c[places]
    information = mixed.x.T @ weighted - g.T @ c
    at_variances = given + c_own @ np.linalg.solve(information, c_own.T)
    sds = np.concatenate([np.full(len(p), np.sqrt(covariances[k][0, 0])) for p, k in zip(parts, own, strict=True)])
    whole = given + c_own @ beta_cov @ c_own.T
    edf, start = [], 0
    for part in parts:
        inside = np.arange(start, start + len(part))
        edf.append(len(part) - float(np.diag(at_variances)[inside].sum()))
        start += len(part)
    return Curves(
        np.concatenate([np.asarray(modes[k])[0] for k in own]),
        np.outer(sds, sds) * whole,
        -(beta_cov @ c_own.T) * sds,
        tuple(edf),
    )


def _solved(solve: object, right: FloatArray) -> FloatArray:
    return np.column_stack([solve(column) for column in right.T] or [np.empty((len(right), 0))])  # type: ignore[operator]


def _weights(
    mixed: Design, beta: FloatArray, modes: Sequence[FloatArray], sigma: float, parameters: Mapping[str, float]
) -> tuple[FloatArray, FloatArray]:
    """Observed and expected information of each row about its linear predictor, shapes (n,)."""
    if mixed.is_linear:
        exact = (np.ones(mixed.n) if mixed.weights is None else mixed.weights) / sigma**2
        return exact, exact
    eta = mixed.x @ beta + (0.0 if mixed.offset is None else mixed.offset)
    for block, own in zip(mixed.blocks, modes, strict=True):
        eta = eta + np.einsum("nq,nq->n", block.z, np.asarray(own)[block.codes])
    rows = row_log_likelihood(mixed, np.array([parameters[n] for n in mixed.parameters]), eta)
    return rows.observed, rows.expected


__all__ = ["Curves", "curves_at"]
