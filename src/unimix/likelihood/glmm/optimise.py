"""Maximisation of the likelihood of a generalised linear mixed model, by Laplace's approximation or by quadrature.

The search runs over covariance factors, fixed effects and the logarithms of dispersion parameters together. It takes
quasi-Newton steps from several sizes of the variances, and then applies Newton's method with a Hessian from differences
of the exact gradient.
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
"""Standard deviations of the effects, on the scale of the link, at which the search starts."""
SAME = 1e-4
"""Distance of two points, in units of the larger of one and their elements, below which they are the same maximum."""
DIFFERENCE = 1e-4
COARSE = 1e-3
"""Step sizes for differences of a gradient, and for differences of values."""


@dataclass(frozen=True)
class Point:
    """The parameters of a generalised linear mixed model.

    Attributes:
        factors: Lower triangular factors of the covariances, shapes (q, q).
        beta: Fixed effects, shape (p,).
        parameters: Dispersion parameters, shape (k,).
    """

    factors: tuple[FloatArray, ...]
    beta: FloatArray
    parameters: FloatArray

    def pack(self) -> FloatArray:
        """All parameters in one vector, shape (d,); dispersion parameters as logarithms."""
        cells = [f[i, : i + 1] for f in self.factors for i in range(len(f))]
        return np.concatenate([*cells, self.beta, np.log(self.parameters)])


def unpack(design: Design, x: FloatArray) -> Point:
    """Inverse of :meth:`Point.pack`."""
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
    """Best point of a search, and the curvature there.

    Attributes:
        point: Parameters at the best point.
        value: Log likelihood at the best point.
        gain: Remaining improvement of the log likelihood (half the squared Newton decrement).
        hessian: Hessian of the log likelihood in the packed parameters, shape (d, d).
        steps: Number of Newton steps.
        spherical: Modes of the spherical effects, shape (m,).
    """

    point: Point
    value: float
    gain: float
    hessian: FloatArray
    steps: int
    spherical: FloatArray


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # a trial step may be very long
def search_laplace(design: Design, n_nodes: int = 1, *, starts: Sequence[Point] | None = None) -> Found:
    """Find the highest maximum of the likelihood.

    Args:
        design: Design of a generalised mixed model with well-scaled columns.
        n_nodes: Number of nodes of adaptive Gauss-Hermite quadrature, for one scalar block; 1 is Laplace's
            approximation.
        starts: Points to climb from, instead of the likely ones.

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

    known: dict[bytes, tuple[FloatArray, FloatArray]] = {}

    def derivatives(x: FloatArray) -> tuple[FloatArray, FloatArray]:
        key = x.tobytes()
        if key not in known:
            known[key] = (
                by_differences(value_of, x)
                if n_nodes > 1
                else (value_and_gradient(x)[1], hessian_of(lambda z: value_and_gradient(z)[1], x))
            )
        return known[key]

    best: Ascent | None = None
    for start in _starts(design) if starts is None else starts:
        warm[0] = None
        x = start.pack()
        if not np.isfinite(value_of(x)):
            continue
        if n_nodes == 1:
            settings = {"maxiter": 200, "ftol": 1e-12, "gtol": 1e-5}
            x = scipy.optimize.minimize(loss, x, jac=True, method="L-BFGS-B", options=settings).x
            if best is not None and _same(x, best.at) and value_of(x) <= best.value + 1e-10:
                continue  # the maximum that is known
        climbed = ascend(x, value_of, derivatives, np.ones_like, 30)
        if best is None or climbed.value > best.value + 1e-10:
            best = climbed
    if best is None:
        raise FloatingPointError("the likelihood is not finite at any start")
    at = best.at
    found = slope(at)
    return Found(unpack(design, at), best.value, best.gain, derivatives(at)[1], best.steps, found.spherical)


def _same(x: FloatArray, y: FloatArray) -> bool:
    """Whether two packed points are closer to each other than maxima can be."""
    return bool((np.abs(x - y) <= SAME * np.maximum(1.0, np.abs(y))).all())


def _starts(design: Design) -> list[Point]:
    beta, unit = fisher_scoring(design), link_unit(design)
    parameters = np.full(len(design.family.parameters), START.get(design.family.label, 1.0))
    made = []
    for size in SIZES:
        factors = tuple(np.diag(size * unit / column_scale(b.z)) for b in design.blocks)
        made.append(Point(factors, beta, parameters))
    return made


def by_nodes(design: Design, x: FloatArray, n_nodes: int) -> float:
    """Log likelihood at packed parameters, by quadrature."""
    at = unpack(design, x)
    fixed = fixed_predictor(design, at.beta)
    variance = float(at.factors[0][0, 0] ** 2)
    return adaptive_quadrature(
        lambda eta: row_log_likelihood(design, at.parameters, eta), fixed, design.blocks[0], variance, n_nodes
    )


def by_differences(value: Callable[[FloatArray], float], x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Gradient (d,) and Hessian (d, d) by differences of values."""

    def moved(moves: dict[int, float]) -> float:
        at = x.copy()
        for c, times in moves.items():
            at[c] += times * COARSE
        return value(at)

    gradient, hessian = differences(moved, len(x))
    return gradient / COARSE, hessian / COARSE**2


def hessian_of(gradient: Callable[[FloatArray], FloatArray], x: FloatArray, step: float = DIFFERENCE) -> FloatArray:
    """Hessian, shape (d, d), by central differences of a gradient."""
    columns = [(gradient(x + d) - gradient(x - d)) / (2 * step) for d in step * np.eye(len(x))]
    found = np.array(columns)
    return np.asarray((found + found.T) / 2)


def curvature_at(design: Design, point: Point, n_nodes: int = 1) -> Found:
    """Log likelihood, Hessian and remaining improvement at a given point, in the form of a search result.

    Args:
        design: Design of a generalised model with well-scaled columns.
        point: Parameters in well-scaled coordinates.
        n_nodes: Number of nodes of adaptive Gauss-Hermite quadrature; 1 is Laplace's approximation.
    """
    value, gradient, hessian = derivatives_at(design, point, n_nodes)
    return Found(point, value, newton_gain(gradient, hessian), hessian, 0, np.empty(0))


def derivatives_at(design: Design, point: Point, n_nodes: int = 1) -> tuple[float, FloatArray, FloatArray]:
    """Log likelihood, gradient (d,) and Hessian (d, d) in the packed parameters, as for :func:`curvature_at`."""
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
    """Covariance of the fixed effects (p, p) with all other parameters estimated, and a fault of the curvature or ''.

    Parameters that are zero on the boundary are left out.
    """
    size = len(found.hessian)
    cells = size - design.p - len(found.point.parameters)
    packed = found.point.pack()
    kept = np.array([i >= cells or abs(packed[i]) > 1e-6 for i in range(size)])
    information = -found.hessian[np.ix_(kept, kept)]
    at = slice(int(kept[:cells].sum()), int(kept[:cells].sum()) + design.p)
    values, vectors = np.linalg.eigh(information)
    usable = values > 1e-10 * max(float(values.max(initial=0.0)), 1e-300)
    fault = ""
    if values.min(initial=1.0) < -1e-6 * values.max(initial=1.0):
        fault = "the search ended at a point that is not a maximum (a direction of negative curvature)"
    inverse = (vectors[:, usable] / values[usable]) @ vectors[:, usable].T
    return np.asarray(inverse[at, at]), fault
