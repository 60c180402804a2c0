"""The maximum of a generalised linear mixed model's likelihood, by Laplace's approximation or by quadrature.

Covariance factors, fixed effects and the logarithms of dispersion parameters are searched together: quasi-Newton steps
from several sizes of the variances, then Newton's method with a Hessian from differences of the exact gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from unimix.design.arrays import Design
from unimix.likelihood.glmm.glm import START, fisher_scoring
from unimix.likelihood.glmm.gradient import Slope, pieces_of, slope_of_laplace
from unimix.likelihood.glmm.laplace import adaptive_quadrature, fixed_predictor
from unimix.likelihood.lmm.conditioning import column_scale
from unimix.likelihood.lmm.newton import Ascent, ascend
from unimix.likelihood.lmm.newton_decrement import differences, newton_gain
from unimix.likelihood.response import link_unit, row_log_likelihood

FloatArray = npt.NDArray[np.float64]

SIZES = (0.3, 1.0)
"""Standard deviations, on the scale of the link, from which the search starts."""
DIFFERENCE = 1e-4
COARSE = 1e-3
"""Steps of differences of a gradient, and of values."""


@dataclass(frozen=True)
class Point:
    """The parameters of a generalised linear mixed model.

    Attributes:
        factors: Lower triangular, shapes (q, q).
        beta: Shape (p,).
        parameters: Dispersion parameters, shape (k,).
    """

    factors: tuple[FloatArray, ...]
    beta: FloatArray
    parameters: FloatArray

    def pack(self) -> FloatArray:
        """All in one vector, dispersion by logarithm."""
        cells = [f[i, : i + 1] for f in self.factors for i in range(len(f))]
        return np.concatenate([*cells, self.beta, np.log(self.parameters)])


def unpack(design: Design, x: FloatArray) -> Point:
    """The way back from :meth:`Point.pack`."""
    factors, start = [], 0
    for block in design.blocks:
        f = np.zeros((block.q, block.q))
        for i in range(block.q):
            f[i, : i + 1] = x[start : start + i + 1]
            start += i + 1
        factors.append(f)
    return Point(tuple(factors), x[start : start + design.p], np.exp(np.clip(x[start + design.p :], -30, 30)))


@dataclass(frozen=True)
class Found:
    """The best point, and the curvature there.

    Attributes:
        point: The parameters.
        value: Log-likelihood.
        gain: Log-likelihood that Newton's method still promises.
        hessian: Of the log-likelihood in the packed parameters, shape (d, d).
        steps: Newton steps.
        spherical: Modes of the spherical effects, shape (m,).
    """

    point: Point
    value: float
    gain: float
    hessian: FloatArray
    steps: int
    spherical: FloatArray


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # a trial step may be far out
def search_laplace(design: Design, n_nodes: int = 1, *, starts: Sequence[Point] | None = None) -> Found:
    """The highest maximum that can be found.

    Args:
        design: Of a generalised mixed model in well-scaled columns.
        n_nodes: Of adaptive Gauss-Hermite quadrature, for one scalar block; 1 is Laplace's approximation.
        starts: Points to climb from instead of the likely ones.

    Raises:
        FloatingPointError: If the likelihood is not finite at any start.
    """
    pieces = pieces_of(design)
    warm: list[FloatArray | None] = [None]

    def slope(x: FloatArray) -> Slope:
        at = unpack(design, x)
        found = slope_of_laplace(design, at.beta, at.factors, at.parameters, pieces, warm[0])
        if np.isfinite(found.value):
            warm[0] = found.spherical
        return found

    def value_of(x: FloatArray) -> float:
        return by_nodes(design, x, n_nodes) if n_nodes > 1 else slope(x).value

    def value_and_gradient(x: FloatArray) -> tuple[float, FloatArray]:
        found = slope(x)
        return found.value, np.concatenate([found.by_factors, found.by_beta, found.by_parameters])

    def loss(x: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = value_and_gradient(x)
        return (-value, -gradient) if np.isfinite(value) else (1e300, np.zeros_like(x))

    def derivatives(x: FloatArray) -> tuple[FloatArray, FloatArray]:
        if n_nodes > 1:
            return by_differences(value_of, x)
        return value_and_gradient(x)[1], hessian_of(lambda z: value_and_gradient(z)[1], x)

    best: Ascent | None = None
    for start in _starts(design) if starts is None else starts:
        warm[0] = None
        x = start.pack()
        if not np.isfinite(value_of(x)):
            continue
        if n_nodes == 1:
            settings = {"maxiter": 200, "ftol": 1e-12, "gtol": 1e-5}
            x = scipy.optimize.minimize(loss, x, jac=True, method="L-BFGS-B", options=settings).x
        climbed = ascend(x, value_of, derivatives, np.ones_like, 30)
        if best is None or climbed.value > best.value + 1e-10:
            best = climbed
    if best is None:
        raise FloatingPointError("the likelihood is not finite at any start")
    at = best.at
    found = slope(at)
    return Found(unpack(design, at), best.value, best.gain, derivatives(at)[1], best.steps, found.spherical)


def _starts(design: Design) -> list[Point]:
    beta, unit = fisher_scoring(design), link_unit(design)
    parameters = np.full(len(design.family.parameters), START.get(design.family.label, 1.0))
    made = []
    for size in SIZES:
        factors = tuple(np.diag(size * unit / column_scale(b.z)) for b in design.blocks)
        made.append(Point(factors, beta, parameters))
    return made


def by_nodes(design: Design, x: FloatArray, n_nodes: int) -> float:
    """Log-likelihood of packed parameters by quadrature."""
    at = unpack(design, x)
    fixed = fixed_predictor(design, at.beta)
    variance = float(at.factors[0][0, 0] ** 2)
    return adaptive_quadrature(
        lambda eta: row_log_likelihood(design, at.parameters, eta), fixed, design.blocks[0], variance, n_nodes
    )


def by_differences(value: Callable[[FloatArray], float], x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Gradient and Hessian by differences of values."""

    def moved(moves: dict[int, float]) -> float:
        at = x.copy()
        for c, times in moves.items():
            at[c] += times * COARSE
        return value(at)

    gradient, hessian = differences(moved, len(x))
    return gradient / COARSE, hessian / COARSE**2


def hessian_of(gradient: Callable[[FloatArray], FloatArray], x: FloatArray, step: float = DIFFERENCE) -> FloatArray:
    """Hessian (d, d) by central differences of a gradient."""
    columns = [(gradient(x + d) - gradient(x - d)) / (2 * step) for d in step * np.eye(len(x))]
    found = np.array(columns)
    return np.asarray((found + found.T) / 2)


def curvature_at(design: Design, point: Point, n_nodes: int = 1) -> Found:
    """A point as if it had been found: log-likelihood, Hessian, and what Newton's method promises there.

    Args:
        design: Of a generalised model in well-scaled columns.
        point: The parameters.
        n_nodes: As for :func:`search_laplace`.
    """
    value, gradient, hessian = derivatives_at(design, point, n_nodes)
    return Found(point, value, newton_gain(gradient, hessian), hessian, 0, np.empty(0))


def derivatives_at(design: Design, point: Point, n_nodes: int = 1) -> tuple[float, FloatArray, FloatArray]:
    """Log-likelihood, its gradient (d,) and its Hessian (d, d) in the packed parameters; arguments as above."""
    pieces, x = pieces_of(design), point.pack()

    def slope(at: FloatArray) -> FloatArray:
        own = unpack(design, at)
        found = slope_of_laplace(design, own.beta, own.factors, own.parameters, pieces)
        return np.concatenate([found.by_factors, found.by_beta, found.by_parameters])

    if n_nodes > 1:
        value = by_nodes(design, x, n_nodes)
        gradient, hessian = by_differences(lambda z: by_nodes(design, z, n_nodes), x)
    else:
        value = slope_of_laplace(design, point.beta, point.factors, point.parameters, pieces).value
        gradient, hessian = slope(x), hessian_of(slope, x)
    return value, gradient, hessian


def covariance_of(found: Found, design: Design) -> tuple[FloatArray, str]:
    """Covariance of the fixed effects (p, p) with all else estimated, and what is wrong with the curvature, or ''.

    On the boundary what is zero is left out.
    """
    size = len(found.hessian)
    cells = size - design.p - len(found.point.parameters)
    packed = found.point.pack()
    kept = np.array([i >= cells or abs(packed[i]) > 1e-6 for i in range(size)])
    information = -found.hessian[np.ix_(kept, kept)]
    at = slice(int(kept[:cells].sum()), int(kept[:cells].sum()) + design.p)
    values, vectors = np.linalg.eigh(information)
    usable = values > 1e-10 * max(float(values.max(initial=0.0)), 1e-300)
    told = ""
    if values.min(initial=1.0) < -1e-6 * values.max(initial=1.0):
        told = "the search ended where the likelihood is no maximum (a direction of negative curvature)"
    inverse = (vectors[:, usable] / values[usable]) @ vectors[:, usable].T
    return np.asarray(inverse[at, at]), told
