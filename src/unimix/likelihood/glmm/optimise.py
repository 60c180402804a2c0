"""Maximisation of the likelihood of a generalised linear mixed model, by Laplace's approximation or by quadrature.

The search runs over covariance factors, fixed effects, dispersion parameters on their free scales and the coefficients
of the zero inflation and of the dispersion together. It takes quasi-Newton steps from several sizes of the variances,
and then applies Newton's method with a Hessian from differences of the exact gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import scipy

from unimix.design.arrays import Design, RandomBlock
from unimix.distributions.family import Cumulative, Family
from unimix.distributions.parameter_scales import from_free, slopes, to_free
from unimix.likelihood.glmm.glm import fisher_scoring, moderate_dispersion, moderate_parts
from unimix.likelihood.glmm.gradient import Slope, has_one_sd, slope_of_laplace
from unimix.likelihood.glmm.laplace import adaptive_quadrature, fixed_predictor
from unimix.likelihood.glmm.row_model import RowModel
from unimix.likelihood.lmm.conditioning import column_scale
from unimix.likelihood.lmm.newton import Ascent, ascend
from unimix.likelihood.lmm.newton_decrement import differences, newton_gain
from unimix.likelihood.lmm.optimise import lower_triangular
from unimix.likelihood.response import link_unit

FloatArray = npt.NDArray[np.float64]

SIZES = (0.3, 1.0)
"""Standard deviations of the effects, on the scale of the link, at which the search starts."""
LEAST = 0.1
"""Smallest element on the diagonal of the factors from which a search starts at a neighbouring maximum."""
ROUGH, NEAR = 1e-6, 0.1
"""A second climb stops at this relative change of the likelihood, and is given up if its end lies below the best known
maximum by less than the second number and by as much as the curvature there says."""
DIFFERENCE = 1e-4
COARSE = 1e-3
"""Step sizes for differences of a gradient, and for differences of values."""


@dataclass(frozen=True)
class Point:
    """The parameters of a generalised linear mixed model.

    Attributes:
        factors: Lower triangular factors of the covariances, shapes (q, q).
        beta: Fixed effects, shape (p,).
        parameters: Dispersion parameters, shape (k,); none if the dispersion has a formula.
        family: Family of the response, which knows the ranges of the dispersion parameters.
        parts: Coefficients of the zero inflation and of the dispersion, by name of the part, in the order of
            :attr:`.Design.parts`.
        one_sd: Whether a block's factor is a standard deviation times the identity, for each block; none if no block's.
    """

    factors: tuple[FloatArray, ...]
    beta: FloatArray
    parameters: FloatArray
    family: Family
    parts: Mapping[str, FloatArray] = field(default_factory=dict)
    one_sd: tuple[bool, ...] = ()

    def off_the_boundary(self) -> Point:
        """Return the point with standard deviations large enough for a gradient, which vanishes at zero."""
        return replace(self, factors=tuple(f + np.diag(np.maximum(LEAST - np.diag(f), 0.0)) for f in self.factors))

    def pack(self) -> FloatArray:
        """All parameters in one vector, shape (d,); dispersion parameters on their free scales."""
        one_sd = self.one_sd or (False,) * len(self.factors)
        rows = [range(1 if one else len(f)) for f, one in zip(self.factors, one_sd, strict=True)]
        cells = [f[i, : i + 1] for f, own in zip(self.factors, rows, strict=True) for i in own]
        free = to_free(self.family, self.parameters) if len(self.parameters) else np.empty(0)
        return np.concatenate([*cells, self.beta, free, *self.parts.values()])


def unpack(design: Design, x: FloatArray) -> Point:
    """Inverse of :meth:`Point.pack`."""
    factors, start = [], 0
    for block in design.blocks:
        f = np.zeros((block.q, block.q))
        if has_one_sd(block):
            f, start = x[start] * np.eye(block.q), start + 1
        for i in range(0 if has_one_sd(block) else block.q):
            f[i, : i + 1] = x[start : start + i + 1]
            start += i + 1
        factors.append(f)
    p = design.x.shape[1]
    beta, rest = x[start : start + p], x[start + p :]
    k, parts = len(design.parameters), {}
    parameters = from_free(design.family, rest[:k]) if k else np.empty(0)
    for name, part in design.parts.items():
        parts[name] = rest[k : k + part.x.shape[1]]
        k += part.x.shape[1]
    return Point(tuple(factors), beta, parameters, design.family, parts, one_sd_of(design))


def one_sd_of(design: Design) -> tuple[bool, ...]:
    """Whether each block's factor is a standard deviation times the identity; empty if no block's is."""
    tied = tuple(map(has_one_sd, design.blocks))
    return tied if any(tied) else ()


def slope_at(design: Design, point: Point, start: FloatArray | None = None) -> Slope:
    """Laplace's approximation and its gradient at a point; ``start`` is described at :func:`slope_of_laplace`."""
    return slope_of_laplace(design, point.beta, point.factors, point.parameters, start, parts=point.parts)


@dataclass(frozen=True)
class LaplaceOptimum:
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
def search_laplace(
    design: Design, n_nodes: int = 1, *, starts: Sequence[Point] | None = None, hessian: FloatArray | None = None
) -> LaplaceOptimum:
    """Find the highest maximum of the likelihood.

    Args:
        design: Design of a generalised mixed model with well-scaled columns.
        n_nodes: Number of nodes of adaptive Gauss-Hermite quadrature, for one scalar block; 1 is Laplace's
            approximation.
        starts: Points to climb from, instead of the likely ones.
        hessian: Hessian at the maximum of a similar design, shape (d, d), from which the steps of the climb are scaled.

    Raises:
        FloatingPointError: If the likelihood is not finite at any start.
    """
    warm: list[FloatArray | None] = [None]

    def slope(x: FloatArray) -> Slope:
        here = slope_at(design, unpack(design, x), warm[0])
        if np.isfinite(here.value):
            warm[0] = here.spherical
        return here

    def value_of(x: FloatArray) -> float:
        return by_nodes(design, x, n_nodes) if n_nodes > 1 else slope(x).value

    def value_and_gradient(x: FloatArray) -> tuple[float, FloatArray]:
        here = slope(x)
        return here.value, here.gradient

    @lru_cache(maxsize=1)  # those at the end of a climb are asked for again
    def kept_derivatives(packed: bytes) -> tuple[FloatArray, FloatArray]:
        x = np.frombuffer(packed)
        if n_nodes > 1:
            return by_differences(value_of, x)
        return value_and_gradient(x)[1], hessian_of(lambda z: value_and_gradient(z)[1], x)

    def derivatives(x: FloatArray) -> tuple[FloatArray, FloatArray]:
        return kept_derivatives(x.tobytes())

    root = None if hessian is None else inverse_root(-hessian)

    def quasi_newton(x: FloatArray, tolerance: float) -> FloatArray:
        at = unpack(design, _quasi_newton(value_and_gradient, x, tolerance, root))
        return replace(at, factors=tuple(lower_triangular(at.factors))).pack()

    best: Ascent | None = None
    for start in _starts(design) if starts is None else starts:
        warm[0] = None
        x = start.pack()
        if not np.isfinite(value_of(x)):
            continue
        if n_nodes == 1:
            if best is not None:
                x = quasi_newton(x, ROUGH)
                if _on_the_same_hill(best, derivatives(best.at)[1], x, value_of(x)):
                    continue
            x = quasi_newton(x, 1e-12)
        climbed = ascend(x, value_of, derivatives, np.ones_like, 30)
        if best is None or climbed.value > best.value + 1e-10:
            best = climbed
    if best is None:
        raise FloatingPointError("the likelihood is not finite at any start")
    at = best.at
    modes = slope(at).spherical
    return LaplaceOptimum(unpack(design, at), best.value, best.gain, derivatives(at)[1], best.steps, modes)


def _quasi_newton(
    value_and_gradient: Callable[[FloatArray], tuple[float, FloatArray]],
    start: FloatArray,
    tolerance: float,
    root: FloatArray | None,
) -> FloatArray:
    """End of L-BFGS steps uphill, which stop at a relative change of the value.

    Args:
        value_and_gradient: Function to maximise, with its gradient.
        start: Start, shape (d,).
        tolerance: Relative change of the value at which the steps stop.
        root: Matrix R of the coordinates z in which the steps are taken, x = start + R z, shape (d, d); None for the
            parameters themselves.
    """
    turn = np.eye(len(start)) if root is None else root

    def loss(z: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = value_and_gradient(start + turn @ z)
        return (-value, -turn.T @ gradient) if np.isfinite(value) else (1e300, np.zeros_like(z))

    settings = {"maxiter": 200, "ftol": tolerance, "gtol": 1e-5}
    optimum = scipy.optimize.minimize(loss, np.zeros_like(start), jac=True, method="L-BFGS-B", options=settings)
    return np.asarray(start + turn @ optimum.x)


def inverse_root(information: FloatArray) -> FloatArray:
    """Matrix R with RR' = information^-1, shape (d, d); directions with little information are bounded in length."""
    values, vectors = np.linalg.eigh(information)
    return np.asarray(vectors / np.sqrt(np.maximum(np.abs(values), 1e-6 * np.abs(values).max(initial=1e-300))))


def _on_the_same_hill(best: Ascent, hessian: FloatArray, x: FloatArray, value: float) -> bool:
    """Whether the expansion at a maximum, l + d'Hd / 2, explains the value at a point near to it.

    The point is below the maximum by at most NEAR when its climb is given up, and has climbed until its likelihood
    changed by less than one part in a million. A second maximum can only be passed over if the curvature at the first
    one predicts its height to a fifth, and if the rest of its own climb would gain more than it is below: the reported
    estimates are those of a maximum in any case, and the certificate climbs again from the estimates of every engine.
    """
    below = best.value - value
    move = x - best.at
    return -1e-10 <= below <= NEAR and abs(below + 0.5 * float(move @ hessian @ move)) <= 0.2 * below + 1e-7


def _starts(design: Design) -> list[Point]:
    beta, unit = fisher_scoring(design), link_unit(design)
    parameters = moderate_dispersion(design) if design.dispersion is None else np.empty(0)
    parts = moderate_parts(design)
    starts = []
    for size in SIZES:
        factors = tuple(np.diag(size * unit / _sizes(b)) for b in design.blocks)
        starts.append(Point(factors, beta, parameters, design.family, parts, one_sd_of(design)))
    return starts


def _sizes(block: RandomBlock) -> FloatArray:
    """Sizes of the columns of a block, shape (q,); the size of all together where they have one standard deviation."""
    sizes = column_scale(block.z)
    return np.full(block.q, np.linalg.norm(sizes)) if has_one_sd(block) else sizes


def by_nodes(design: Design, x: FloatArray, n_nodes: int) -> float:
    """Log likelihood at packed parameters, by quadrature."""
    at = unpack(design, x)
    fixed = fixed_predictor(design, at.beta)
    variance = float(at.factors[0][0, 0] ** 2)
    model = RowModel.of(design, at.parameters, at.parts)
    return adaptive_quadrature(model.at, fixed, design.blocks[0], variance, n_nodes)


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
    hessian = np.array(columns)
    return np.asarray((hessian + hessian.T) / 2)


def curvature_at(design: Design, point: Point, n_nodes: int = 1) -> LaplaceOptimum:
    """Log likelihood, Hessian and remaining improvement at a given point, in the form of a search result.

    Args:
        design: Design of a generalised model with well-scaled columns.
        point: Parameters in well-scaled coordinates.
        n_nodes: Number of nodes of adaptive Gauss-Hermite quadrature; 1 is Laplace's approximation.
    """
    value, gradient, hessian = derivatives_at(design, point, n_nodes)
    return LaplaceOptimum(point, value, newton_gain(gradient, hessian), hessian, 0, np.empty(0))


def derivatives_at(design: Design, point: Point, n_nodes: int = 1) -> tuple[float, FloatArray, FloatArray]:
    """Log likelihood, gradient (d,) and Hessian (d, d) in the packed parameters, as for :func:`curvature_at`."""
    x = point.pack()

    def slope(at: FloatArray) -> FloatArray:
        return slope_at(design, unpack(design, at)).gradient

    if n_nodes > 1:
        value = by_nodes(design, x, n_nodes)
        gradient, hessian = by_differences(lambda z: by_nodes(design, z, n_nodes), x)
    else:
        value = slope_at(design, point).value
        gradient, hessian = slope(x), hessian_of(slope, x)
    return value, gradient, hessian


def covariance_of(optimum: LaplaceOptimum, design: Design) -> tuple[FloatArray, FloatArray, str]:
    """Covariance of the fixed effects (p, p) with all other parameters estimated, and a fault of the curvature or ''.

    Parameters that are zero on the boundary are left out. Directions of the fixed effects without information have no
    variance: they are returned, shape (m, p), and the covariance matrix holds for functions that do not depend on them.
    """
    whole = joint_covariance_of(optimum, design)
    at = whole.of["fixed"]
    return whole.covariance[at, at], whole.lost_of("fixed"), whole.fault


@dataclass(frozen=True)
class JointCovariance:
    """Covariance of all coefficients, with the covariance factors and dispersion parameters estimated too.

    Attributes:
        covariance: Covariance matrix of the fixed effects, the dispersion parameters on their free scales and the
            coefficients of the other parts, shape (r, r).
        lost: Directions without information, shape (m, r), for which the covariance matrix does not hold.
        of: Positions of the coefficients of ``fixed`` and of each part.
        dispersion: Positions of the dispersion parameters.
        fault: Reason why the point is not a maximum; empty if it is.
    """

    covariance: FloatArray
    lost: FloatArray
    of: Mapping[str, slice]
    dispersion: slice
    fault: str

    def lost_of(self, name: str) -> FloatArray:
        """Directions without information that a part takes part in, shape (m, k)."""
        rows = self.lost[:, self.of[name]]
        return np.asarray(rows[np.linalg.norm(rows, axis=1) > 1e-3])


def joint_covariance_of(optimum: LaplaceOptimum, design: Design) -> JointCovariance:
    """Compute the :class:`JointCovariance` at an optimum; factors that are zero on the boundary are left out."""
    size, widths = len(optimum.hessian), {n: p.x.shape[1] for n, p in design.parts.items()}
    k = len(optimum.point.parameters)
    rest = design.p + k + sum(widths.values())
    cells, of, end = size - rest, {"fixed": slice(0, design.p)}, design.p + k
    dispersion = slice(design.p, end)
    for name, width in widths.items():
        of[name] = slice(end, end + width)
        end += width
    packed = optimum.point.pack()
    kept = np.array([i >= cells or abs(packed[i]) > 1e-6 for i in range(size)])
    information = -optimum.hessian[np.ix_(kept, kept)]
    first = int(kept[:cells].sum())
    if not np.isfinite(information).all():  # a step further the mean leaves the range that the link allows
        fault = "the likelihood ends where the search ended, so that it has no curvature and no standard errors"
        return JointCovariance(np.full((rest, rest), np.nan), np.empty((0, rest)), of, dispersion, fault)
    values, vectors = np.linalg.eigh(information)
    usable = values > 1e-10 * max(float(values.max(initial=0.0)), 1e-300)
    fault = ""
    if values.min(initial=1.0) < -1e-6 * values.max(initial=1.0):
        fault = "the search ended at a point that is not a maximum (a direction of negative curvature)"
    inverse = (vectors[:, usable] / values[usable]) @ vectors[:, usable].T
    return JointCovariance(
        np.asarray(inverse[first:, first:]), np.asarray(vectors[first:, ~usable].T), of, dispersion, fault
    )


def thresholds_of(
    optimum: LaplaceOptimum, design: Design, joint: JointCovariance
) -> tuple[FloatArray, FloatArray, FloatArray] | None:
    """Thresholds J p of an ordered response, their covariance, and that of the fixed effects with them.

    The covariance of the parameters holds on their free scales x; with p = p(x) the delta method gives
    Cov(p) = p'(x) Cov(x) p'(x).

    Returns:
        Thresholds, shape (K - 1,), and covariances, shapes (K - 1, K - 1) and (p, K - 1), which are NaN where the data
        do not determine them; None for another response.
    """
    family = design.family
    if not isinstance(family, Cumulative):
        return None
    at, fixed = joint.dispersion, joint.of["fixed"]
    turn = family.matrix * slopes(family, optimum.point.parameters)  # J p'(x)
    covariance, cross = turn @ joint.covariance[at, at] @ turn.T, joint.covariance[fixed, at] @ turn.T
    if np.linalg.norm(joint.lost[:, at]) > 1e-3:
        covariance, cross = np.full_like(covariance, np.nan), np.full_like(cross, np.nan)
    return family.matrix @ optimum.point.parameters, covariance, cross
