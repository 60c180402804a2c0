"""The maximum of a linear mixed model's (restricted) likelihood over its covariance parameters.

Newton's method with the exact Hessian, in the elements of the relative factors. A likelihood can have several maxima,
and every point with a zero variance is stationary in the factors: the search starts from every maximum on a line from
small to large variances (:mod:`unimix.likelihood.lmm.search`), and where it ends on the boundary it looks at the
derivatives by D itself, whether one leads back inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unimix.likelihood.lmm.derivatives import by_factor, curvature, gradient, in_factors, moments
from unimix.likelihood.lmm.newton import ENOUGH, ascend
from unimix.likelihood.lmm.newton_decrement import newton_gain
from unimix.likelihood.lmm.penalised_least_squares import Profile, pack, profile, trial_value, unpack
from unimix.likelihood.lmm.reduced_data import Products

FloatArray = npt.NDArray[np.float64]
Factors = list[FloatArray]
ZERO = 1e-6
"""Element of a unit-free relative factor that counts as zero."""
LEFT = 1e-5
"""Log-likelihood that a finished search may leave; rounding hides as much where effects are a thousand residual SDs."""


@dataclass(frozen=True)
class Optimum:
    """Where a search ended.

    Attributes:
        factors: Relative factors, lower triangular, shapes (q, q).
        profile: The criterion there.
        gain: Log-likelihood that Newton's method still promises.
        escape: Log-likelihood that a step away from the boundary was seen to gain at the end.
        steps: Evaluations with second derivatives.
        finished: Whether neither promises more than rounding.
    """

    factors: Factors
    profile: Profile
    gain: float
    escape: float
    steps: int
    finished: bool


def climb(products: Products, start: Sequence[FloatArray], *, reml: bool, max_steps: int = 200) -> Optimum:
    """The maximum that lies uphill of a start.

    Args:
        products: The model.
        start: Relative factors, shapes (q, q).
        reml: Criterion.
        max_steps: Evaluations with second derivatives.
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
    """Lower triangular factors of the same D, with diagonals that are not negative."""
    found = []
    for f in factors:
        r = np.linalg.qr(f.T, mode="r")
        found.append((np.where(np.diag(r) < 0, -1.0, 1.0)[:, None] * r).T)
    return found


def _newton(products: Products, factors: Factors, max_steps: int, *, reml: bool) -> tuple[Factors, float, int]:
    """Trust-region steps until none promises anything."""

    def derivatives(theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        return curvature_at(products, unpack(products, theta), reml=reml)

    found = ascend(
        pack(factors),
        lambda theta: trial_value(products, unpack(products, theta), reml=reml),
        derivatives,
        lambda theta: np.maximum(np.abs(theta), 0.1),  # elements of large factors move further
        max_steps,
    )
    return lower_triangular(unpack(products, found.at)), found.gain, found.steps


def leave_boundary(
    products: Products, factors: Factors, *, reml: bool, at: Profile | None = None
) -> tuple[Factors, float]:
    """The best of some steps from the boundary of positive semi-definite D, and what it gains."""
    at = at or profile(products, factors, reml=reml)
    best, gained = factors, 0.0
    for new in steps_from_boundary(factors, gradient(products, at, reml=reml)):
        value = trial_value(products, new, reml=reml)
        if value - at.value > gained:
            best, gained = lower_triangular(new), value - at.value
    return best, gained


def steps_from_boundary(factors: Sequence[FloatArray], slopes: Sequence[FloatArray]) -> list[Factors]:
    """Factors near those on the boundary where the likelihood may be higher; none where no block lies on it.

    Two kinds of steps cannot be seen in the elements of a triangular factor: into the null space of D, where the
    derivative by D has a positive eigenvalue, and turns of the factor that a zero on its diagonal hides.

    Args:
        factors: Relative factors, lower triangular, shapes (q, q).
        slopes: Derivatives by D there, symmetric, shapes (q, q).
    """
    found: list[Factors] = []
    for k, (f, g) in enumerate(zip(factors, slopes, strict=True)):
        size = float(np.abs(f).max(initial=0.0))
        if len(f) and np.diag(f).min() > 1e-3 * max(size, 1e-3):
            continue
        vectors = np.linalg.eigh(g)[1][:, -1:]
        rise = float((vectors.T @ g @ vectors)[0, 0])
        for t in (1e-3, 1e-2, 0.1, 0.5):
            wide = np.hstack([f, t * vectors])
            candidates = [np.asarray(np.linalg.qr(wide.T, mode="r")).T] if rise > 0 else []
            candidates.append(f + t * 2.0 * g @ f / max(float(np.abs(2.0 * g @ f).max()), 1e-300))
            found += [[*factors[:k], own, *factors[k + 1 :]] for own in candidates]
    return found


def scaled_gradient(gradients: Sequence[FloatArray], factors: Sequence[FloatArray]) -> float:
    """Largest element of the gradient by the factors, each in units of its size (or of a tenth of a residual SD).

    Args:
        gradients: Derivatives by the covariances, shapes (q, q).
        factors: Relative factors, lower triangular, shapes (q, q).
    """
    slope = by_factor(gradients, factors)
    return float(np.abs(slope * np.maximum(np.abs(pack(factors)), 0.1)).max(initial=0.0))


def newton_decrement(factors: Sequence[FloatArray], slope: FloatArray, hessian: FloatArray) -> float:
    """What a Newton step by the exact derivatives promises, in units of the log-likelihood.

    Elements of the factors that are zero stay there: derivatives by them tell nothing.

    Args:
        factors: Relative factors, lower triangular, shapes (q, q).
        slope: Gradient by their elements, shape (c,).
        hessian: Shape (c, c).

    Returns:
        Infinity where the Hessian is not negative definite.
    """
    moving = np.flatnonzero(np.abs(pack(factors)) > ZERO)
    return newton_gain(slope[moving], hessian[np.ix_(moving, moving)]) if len(moving) else 0.0


def curvature_at(products: Products, factors: Factors, *, reml: bool) -> tuple[FloatArray, FloatArray]:
    """Gradient (c,) and Hessian (c, c) of the profiled criterion by the elements of the factors."""
    at = profile(products, factors, reml=reml)
    return in_factors(curvature(at, moments(products, at.state), reml=reml), products, factors)
