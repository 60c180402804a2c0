"""How much log-likelihood a Newton step from given covariance parameters promises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design
from unimix.likelihood.glmm.laplace import adaptive_quadrature, fixed_predictor, laplace_at
from unimix.likelihood.lmm.conditioning import relative_factors
from unimix.likelihood.response import row_log_likelihood

FloatArray = npt.NDArray[np.float64]

WORTHWHILE = 1e-4
"""Log-likelihood that a search must not leave behind; it moves an estimate by about a hundredth of its error."""


NOTICEABLE = 1e-3
"""Log-likelihood below the best known that is a fault: less moves no estimate by more than a twentieth of its error."""


def stopped_short(gain: float) -> str:
    """What to say of a search that left more than :data:`WORTHWHILE` behind."""
    return f"the search stopped short of the optimum: about {gain:.2g} log-likelihood is left to gain"


def is_at_optimum(gain: float, curvature: float, *, singular: bool) -> tuple[bool, tuple[str, ...]]:
    """Whether a search ended at a maximum, by numbers: texts and rules of an engine's own check change by version.

    Args:
        gain: What a Newton step promises, in units of the log-likelihood; NaN where the derivatives failed.
        curvature: Least eigenvalue of the Hessian, relative to the largest.
        singular: At the boundary the curvature may have any sign.

    Returns:
        The answer, and why not.
    """
    if not np.isfinite(gain):
        return False, ("the search ended where the likelihood has no maximum",)
    if gain > WORTHWHILE:
        return False, (stopped_short(gain),)
    if curvature < -1e-3 and not singular:
        return False, ("the search ended where the likelihood is no maximum (a direction of negative curvature)",)
    return True, ()


@dataclass(frozen=True)
class Curvature:
    """The neighbourhood of a point.

    Attributes:
        gain: What a Newton step promises, in units of the log-likelihood; infinity where the Hessian is not negative
            definite.
        beta_cov: Inverse of the observed information in the fixed effects, the other parameters estimated, (p, p); None
            where there is none.
        value: Log-likelihood at the point.
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
    """The curvature of Laplace's approximation over covariance factors, fixed effects and dispersion parameters.

    By central differences with steps relative to each element of the factors (or to its row), so that very large and
    very small variances are differentiated equally well. Elements that are zero stay there.

    Args:
        design: Of a generalised model.
        beta: Fixed effects, shape (p,).
        covariances: Covariance of each block's effects, shapes (q, q).
        parameters: Dispersion parameters, shape (k,).
        expected: As for :func:`unimix.likelihood.glmm.laplace.laplace`.
        zero: Logit of the probability of a structural zero, shape (n,), held fixed.
        nodes: Of adaptive Gauss-Hermite quadrature, for one scalar block; 1 is Laplace's approximation.
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
        moved, b, q = [f.copy() for f in factors], beta.copy(), parameters.copy()
        for c, times in moves.items():
            if c < m:
                k, i, j = cells[c]
                moved[k][i, j] += times * sizes[c]
            elif c < m + p:
                b[c - m] += times * steps[c - m]
            else:
                q[c - m - p] *= np.exp(1e-3 * times)
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
        found = laplace_at(design, b, there, q, expected=expected, start=centre.spherical, zero=zero)
        return found.log_likelihood

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
        value: The function, of moves in units of each parameter's step.
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
    """g'H^-1 g / 2: infinity where the Hessian (m, m) is not negative definite."""
    scale = np.sqrt(np.abs(np.diag(hessian)))
    if not (np.isfinite(hessian).all() and (scale > 0).all()):
        return float("inf")
    values, vectors = np.linalg.eigh(-hessian / np.outer(scale, scale))
    if values.min() <= 0:
        return float("inf")
    return float(0.5 * np.sum((vectors.T @ (gradient / scale)) ** 2 / values))
