"""Maximisation of the (restricted) likelihood of a linear mixed model over its covariance parameters.

The search is Newton's method with the exact Hessian in the elements of the relative factors, or in the parameters of
a structure. A likelihood can have
several maxima, and every point with a zero variance is stationary in the factors. The search therefore starts from
every maximum on a line from small to large variances (:mod:`unimix.likelihood.lmm.search`), and where it ends on the
boundary it uses the derivatives with respect to D to decide whether the likelihood increases towards the inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from unimix.likelihood.lmm.derivatives import curvature, gradient, moments
from unimix.likelihood.lmm.newton import ENOUGH, Ascent, ascend
from unimix.likelihood.lmm.newton_decrement import newton_gain
from unimix.likelihood.lmm.parameters import (
    absent,
    by_parameter,
    directions_at,
    factors_of,
    held,
    in_parameters,
    inward,
    is_plain,
    parameters_of,
    without_one,
)
from unimix.likelihood.lmm.penalised_least_squares import Profile, profile, trial_value
from unimix.likelihood.lmm.reduced_data import Products

FloatArray = npt.NDArray[np.float64]
Factors = list[FloatArray]
ZERO = 1e-6
"""Size of an element of a unit-free relative factor below which it counts as zero."""
BETWEEN = 12
"""Steps of a structured model between two trials without its small standard deviations."""
LEFT = 1e-5
"""Remaining improvement of a finished search; rounding error is as large if effects are a thousand residual SDs."""


@dataclass(frozen=True)
class Optimum:
    """Result of a search.

    Attributes:
        factors: Relative lower triangular factors, shapes (q, q).
        profile: Profiled criterion at the factors.
        gain: Remaining improvement (half the squared Newton decrement).
        escape: Observed improvement of a step away from the boundary at the end of the search.
        steps: Number of evaluations with second derivatives.
        finished: Whether neither improvement exceeds rounding error.
    """

    factors: Factors
    profile: Profile
    gain: float
    escape: float
    steps: int
    finished: bool


def climb(products: Products, start: Sequence[FloatArray], *, reml: bool, max_steps: int = 200) -> Optimum:
    """Climb from a start to a maximum.

    Args:
        products: Reduced data.
        start: Relative factors, shapes (q, q).
        reml: Whether to use the restricted likelihood.
        max_steps: Maximum number of evaluations with second derivatives.
    """
    factors, steps, escape = lower_triangular(start), 0, 0.0
    for _ in range(20):
        factors, gain, used = _newton(products, factors, max_steps - steps, reml=reml)
        steps += used
        away = leave_boundary(products, factors, reml=reml)
        escape = away[1]
        if escape < ENOUGH or steps >= max_steps:
            break
        factors = away[0]
    at = profile(products, factors, reml=reml)
    return Optimum(factors, at, gain, escape, steps, max(gain, escape) < LEFT)


def lower_triangular(factors: Sequence[FloatArray]) -> Factors:
    """Lower triangular factors of the same D, with non-negative diagonals."""
    triangles = []
    for f in factors:
        r = np.linalg.qr(f.T, mode="r")
        triangles.append((np.where(np.diag(r) < 0, -1.0, 1.0)[:, None] * r).T)
    return triangles


def _newton(products: Products, factors: Factors, max_steps: int, *, reml: bool) -> tuple[Factors, float, int]:
    """Take trust-region steps until none improves the criterion; standard deviations that end near zero are set to it.

    A structure's likelihood may have a slope at a standard deviation of zero, where it ends, so that a maximum there
    is no stationary point: the search goes on without the parameter.
    """
    theta, used = parameters_of(products, factors), 0
    # Steps zigzag about an end with a slope, so that small standard deviations are tried at zero now and then.
    most = max_steps if is_plain(products) else BETWEEN
    while True:
        ascent = _ascend(products, theta, max(min(most, max_steps - used), 1), reml=reml)
        theta, used = ascent.at, used + ascent.steps
        for without in without_one(products, theta):
            if trial_value(products, factors_of(products, without), reml=reml) >= ascent.value - ENOUGH:
                theta = without
                break
        else:
            if ascent.steps < most or used >= max_steps:
                return lower_triangular(factors_of(products, theta)), ascent.gain, used


def _ascend(products: Products, theta: FloatArray, max_steps: int, *, reml: bool) -> Ascent:
    """Climb from parameters (d,) with those held that are absent."""
    free = np.flatnonzero(~absent(products, theta))

    def whole(own: FloatArray) -> FloatArray:
        moved = theta.copy()
        moved[free] = own
        return moved

    def derivatives(own: FloatArray) -> tuple[FloatArray, FloatArray]:
        slope, hessian = curvature_at(products, factors_of(products, whole(own)), whole(own), reml=reml)
        return slope[free], hessian[np.ix_(free, free)]

    ascent = ascend(
        theta[free],
        lambda own: trial_value(products, factors_of(products, whole(own)), reml=reml),
        derivatives,
        lambda own: np.maximum(np.abs(own), 0.1),  # larger elements may take larger steps
        max_steps,
    )
    return replace(ascent, at=whole(ascent.at))


def leave_boundary(
    products: Products, factors: Factors, *, reml: bool, at: Profile | None = None
) -> tuple[Factors, float]:
    """Best of several steps from the boundary of D, and its improvement."""
    at = at or profile(products, factors, reml=reml)
    best, gained = factors, 0.0
    free = [k for k, structure in enumerate(products.structures) if structure is None]
    near = steps_from_boundary(factors, gradient(products, at, reml=reml), free) if free else []
    for new in [*near, *inward(products, factors)]:
        value = trial_value(products, new, reml=reml)
        if value - at.value > gained:
            best, gained = lower_triangular(new), value - at.value
    return best, gained


def steps_from_boundary(
    factors: Sequence[FloatArray], slopes: Sequence[FloatArray], free: Sequence[int] | None = None
) -> list[Factors]:
    """Factors near the given ones at which the likelihood may be higher; none if no block lies on the boundary.

    The elements of a triangular factor do not show two kinds of steps: steps into the null space of D along which the
    derivative with respect to D has a positive eigenvalue, and rotations of the factor that a zero on its diagonal
    hides.

    Args:
        factors: Relative lower triangular factors, shapes (q, q).
        slopes: Symmetric derivatives with respect to D at the factors, shapes (q, q).
        free: Indices of the unstructured blocks; None for all.
    """
    near: list[Factors] = []
    for k in range(len(factors)) if free is None else free:
        f, g = factors[k], slopes[k]
        size = float(np.abs(f).max(initial=0.0))
        if len(f) and np.diag(f).min() > 1e-3 * max(size, 1e-3):
            continue
        vectors = np.linalg.eigh(g)[1][:, -1:]
        rise = float((vectors.T @ g @ vectors)[0, 0])
        for t in (1e-3, 1e-2, 0.1, 0.5):
            wide = np.hstack([f, t * vectors])
            candidates = [np.asarray(np.linalg.qr(wide.T, mode="r")).T] if rise > 0 else []
            candidates.append(f + t * 2.0 * g @ f / max(float(np.abs(2.0 * g @ f).max()), 1e-300))
            near += [[*factors[:k], candidate, *factors[k + 1 :]] for candidate in candidates]
    return near


def scaled_gradient(products: Products, gradients: Sequence[FloatArray], factors: Sequence[FloatArray]) -> float:
    """Largest derivative with respect to a parameter, times its size (at least 0.1: residual SDs, or radians).

    Args:
        products: Reduced data.
        gradients: Derivatives with respect to the covariances, shapes (q, q).
        factors: Relative lower triangular factors, shapes (q, q).
    """
    slope = by_parameter(gradients, products, factors)
    return float(np.abs(slope * np.maximum(np.abs(parameters_of(products, factors)), 0.1)).max(initial=0.0))


def newton_decrement(
    products: Products, factors: Sequence[FloatArray], slope: FloatArray, hessian: FloatArray
) -> float:
    """Half the squared Newton decrement from exact derivatives, in units of the log likelihood.

    Parameters on the edge, such as elements of factors that are zero, are held there, because the derivatives in them
    are not informative.

    Args:
        products: Reduced data.
        factors: Relative lower triangular factors, shapes (q, q).
        slope: Gradient in the parameters, shape (d,).
        hessian: Hessian in the parameters, shape (d, d).

    Returns:
        Remaining improvement; infinity if the Hessian is not negative definite.
    """
    moving = np.flatnonzero(~held(products, factors, ZERO))
    return newton_gain(slope[moving], hessian[np.ix_(moving, moving)]) if len(moving) else 0.0


def curvature_at(
    products: Products, factors: Factors, theta: FloatArray | None = None, *, reml: bool
) -> tuple[FloatArray, FloatArray]:
    """Gradient (d,) and Hessian (d, d) of the profiled criterion in the parameters (d,), if these are known."""
    at = profile(products, factors, reml=reml)
    along = curvature(at, moments(products, at.state, directions_at(products, factors, theta)), reml=reml)
    slopes = [] if is_plain(products) else gradient(products, at, reml=reml)
    return in_parameters(along.gradient, along.hessian, products, factors, slopes, theta)
