"""Remaining improvement of the log likelihood at given parameters, from a Newton step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design
from unimix.distributions.parameter_scales import from_free, to_free
from unimix.likelihood.glmm.laplace import adaptive_quadrature, fixed_predictor, laplace_at
from unimix.likelihood.lmm.conditioning import relative_factors
from unimix.likelihood.response import row_log_likelihood

FloatArray = npt.NDArray[np.float64]

WORTHWHILE = 1e-4
"""Remaining improvement that a search must not exceed; it moves an estimate by about 0.01 standard errors."""


NOTICEABLE = 1e-3
"""Shortfall from the best known log likelihood that is a fault; a smaller one moves no estimate by 0.05 SE."""


def stopped_short(gain: float) -> str:
    """Message about a search whose remaining improvement exceeds :data:`WORTHWHILE`."""
    return f"the search stopped short of the optimum: a Newton step would raise the log-likelihood by about {gain:.2g}"


def is_at_optimum(gain: float, curvature: float, *, singular: bool) -> tuple[bool, tuple[str, ...]]:
    """Decide from derivatives whether a search ended at a maximum; engines' own checks change between versions.

    Args:
        gain: Remaining improvement (half the squared Newton decrement), in units of the log likelihood; NaN if the
            derivatives failed.
        curvature: Smallest eigenvalue of the negative Hessian, relative to the largest.
        singular: Whether the fit is on the boundary, where the curvature may have any sign.

    Returns:
        Whether the point is a maximum, and the reasons if it is not.
    """
    if not np.isfinite(gain):
        return False, ("the search ended where the likelihood has no maximum",)
    if gain > WORTHWHILE:
        return False, (stopped_short(gain),)
    if curvature < -1e-3 and not singular:
        return False, ("the search ended at a point that is not a maximum (a direction of negative curvature)",)
    return True, ()


@dataclass(frozen=True)
class Curvature:
    """Curvature of the likelihood at a point.

    Attributes:
        gain: Remaining improvement (half the squared Newton decrement), in units of the log likelihood; infinity if the
            Hessian is not negative definite.
        beta_cov: Covariance matrix of the fixed effects from the observed information of all parameters, shape (p, p);
            None if it does not exist.
        value: Log likelihood at the point.
    """

    gain: float
    beta_cov: FloatArray | None
    value: float = float("nan")


def curvature_of_laplace(
    design: Design,
    beta: FloatArray,
    covariances: Sequence[FloatArray],
    parameters: FloatArray,
    *,
    expected: bool,
    zero: FloatArray | None = None,
    nodes: int = 1,
) -> Curvature:
    """Curvature of Laplace's approximation in covariance factors, fixed effects and dispersion parameters.

    The derivatives are central differences with steps relative to each element of the factors (or to its row), so that
    very large and very small variances are differentiated equally well. Elements that are zero are held at zero.

    Args:
        design: Design of a generalised model.
        beta: Fixed effects, shape (p,).
        covariances: Covariance matrix of each block's effects, shapes (q, q).
        parameters: Dispersion parameters, shape (k,).
        expected: Whether the determinant has the expected information instead of the observed one.
        zero: Logit of the probability of a structural zero, shape (n,), which is held fixed.
        nodes: Number of nodes of adaptive Gauss-Hermite quadrature, for one scalar block; 1 is Laplace's approximation.
    """
    factors = relative_factors(tuple(covariances), 1.0)
    cells = [(k, i, j) for k, f in enumerate(factors) for i in range(len(f)) for j in range(i + 1) if f[i, j] != 0]
    sizes = [1e-3 * max(abs(factors[k][i, j]), 0.1 * float(np.abs(factors[k][i]).max())) for k, i, j in cells]
    m, p = len(cells), design.p
    centre = laplace_at(design, beta, covariances, parameters, expected=expected, zero=zero)
    if not np.isfinite(centre.log_likelihood):
        return Curvature(float("inf"), None)
    rows = row_log_likelihood(design, parameters, centre.eta, zero)
    information = design.x.T @ (np.abs(rows.expected)[:, None] * design.x)
    steps = 0.02 / np.sqrt(np.maximum(np.diag(information), 1e-300))

    def value(moves: dict[int, float]) -> float:
        moved, b, free = [f.copy() for f in factors], beta.copy(), to_free(design.family, parameters)
        for c, times in moves.items():
            if c < m:
                k, i, j = cells[c]
                moved[k][i, j] += times * sizes[c]
            elif c < m + p:
                b[c - m] += times * steps[c - m]
            else:
                free[c - m - p] += 1e-3 * times
        q = from_free(design.family, free)
        there = [f @ f.T for f in moved]
        if nodes > 1:
            return adaptive_quadrature(
                lambda eta: row_log_likelihood(design, q, eta),
                fixed_predictor(design, b),
                design.blocks[0],
                float(there[0][0, 0]),
                nodes,
                expected=expected,
            )
        approximation = laplace_at(design, b, there, q, expected=expected, start=centre.spherical, zero=zero)
        return approximation.log_likelihood

    gradient, hessian = differences(value, m + p + len(parameters))
    gain = newton_gain(gradient, hessian)
    here = value({}) if nodes > 1 else centre.log_likelihood
    if not np.isfinite(gain):
        return Curvature(gain, None, here)
    inverse = np.linalg.inv(-hessian)[m : m + p, m : m + p]
    return Curvature(gain, inverse * np.outer(steps, steps), here)


def differences(value: Callable[[dict[int, float]], float], m: int) -> tuple[FloatArray, FloatArray]:
    """Gradient (m,) and Hessian (m, m) of a function by central differences.

    Args:
        value: Function of moves, by index of the parameter, in units of the parameter's step.
        m: Number of parameters.
    """
    here = value({})
    up, down = ([value({c: s}) for c in range(m)] for s in (1.0, -1.0))
    gradient = (np.array(up) - np.array(down)) / 2
    hessian = np.diag(np.array(up) + np.array(down) - 2 * here)
    for a in range(m):
        for b in range(a):
            both = value({a: 1.0, b: 1.0}) + value({a: -1.0, b: -1.0})
            cross = (both - up[a] - down[a] - up[b] - down[b] + 2 * here) / 2
            hessian[a, b] = hessian[b, a] = cross
    return gradient, hessian


def newton_gain(gradient: FloatArray, hessian: FloatArray) -> float:
    """Half the squared Newton decrement, -g'H^-1 g / 2; infinity if the Hessian (m, m) is not negative definite."""
    scale = np.sqrt(np.abs(np.diag(hessian)))
    if not (np.isfinite(hessian).all() and (scale > 0).all()):
        return float("inf")
    values, vectors = np.linalg.eigh(-hessian / np.outer(scale, scale))
    if values.min() <= 0:
        return float("inf")
    return float(0.5 * np.sum((vectors.T @ (gradient / scale)) ** 2 / values))
