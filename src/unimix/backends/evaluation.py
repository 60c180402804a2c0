"""Quantities at an engine's estimates that adapters may need: effects, standard errors, remaining improvement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design
from unimix.likelihood.glmm.criterion import LaplaceCriterion
from unimix.likelihood.glmm.laplace import laplace_at
from unimix.likelihood.glmm.optimise import (
    LaplaceOptimum,
    Point,
    derivatives_at,
    joint_covariance_of,
    search_laplace,
    thresholds_of,
)
from unimix.likelihood.lmm.conditioning import is_singular, relative_factors
from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.likelihood.lmm.newton_decrement import (
    WORTHWHILE,
    Curvature,
    curvature_of_laplace,
    newton_gain,
    stopped_short,
)
from unimix.likelihood.lmm.optimise import ZERO

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class AtEstimates:
    """Quantities of a model at given parameters, computed by unimix.

    Attributes:
        gain: Remaining improvement of the log likelihood (half the squared Newton decrement); infinity if the Hessian
            is not negative definite.
        beta_cov: Covariance matrix of the fixed effects, shape (p, p): generalised least squares for a linear mixed
            model, the observed information of all parameters for a generalised one; None if it does not exist.
        modes: Conditional modes of each block, shapes (L, q).
        mode_covs: Conditional covariances of each block given all parameters, shapes (L, q, q).
        log_likelihood: Value of the criterion, with all constants.
        singular: Whether a covariance matrix is singular, independent of the units of its columns.
        gradient: Largest derivative with respect to an element of the covariance factors, times its size; None for a
            generalised model.
        higher: Covariances off the boundary at which the likelihood of a generalised model is higher, as a start for
            the next search; None if there are none. For linear models ``Backend.fit`` continues the climb itself.
        thresholds: Covariance matrix of the thresholds of an ordered response, shape (K - 1, K - 1), and of the fixed
            effects with them, shape (p, K - 1), from the observed information; None for another response, and if they
            do not exist.
    """

    gain: float
    beta_cov: FloatArray | None
    modes: tuple[FloatArray, ...]
    mode_covs: tuple[FloatArray, ...]
    log_likelihood: float
    singular: bool
    gradient: float | None = None
    higher: tuple[FloatArray, ...] | None = None
    thresholds: tuple[FloatArray, FloatArray] | None = None

    @property
    def complaint(self) -> str:
        """Reason why these estimates are not a maximum; empty if they are."""
        if not np.isfinite(self.gain):
            return "the search ended where the likelihood has no maximum"
        return stopped_short(self.gain) if self.gain > WORTHWHILE else ""


def linear_at(design: Design, covariances: Sequence[FloatArray], sigma: float, *, reml: bool) -> AtEstimates:
    """Evaluate a linear mixed model at given covariances, from cross-products of the data and exact derivatives.

    Args:
        design: Design that the engine received.
        covariances: Covariance matrix of each block's effects, shapes (q, q); may be singular.
        sigma: Residual standard deviation.
        reml: Whether to use the restricted likelihood.
    """
    criterion = LinearCriterion.of(design)
    at = criterion.at(covariances, sigma, reml=reml)
    modes, mode_covs = criterion.effects(at)
    return AtEstimates(
        gain=at.remaining_gain,
        beta_cov=criterion.beta_cov(at),
        modes=modes,
        mode_covs=mode_covs,
        log_likelihood=at.profile.value - criterion.way_back.lost(reml=reml),
        singular=at.singular,
        gradient=at.scaled_gradient,
    )


def likely_starts(design: Design, *, reml: bool, steps: int = 12) -> list[tuple[FloatArray, ...]]:
    """Starts for a search for the covariance parameters of a linear mixed model, best first.

    Args:
        design: Design with unstructured blocks.
        reml: Whether to use the restricted likelihood.
        steps: Number of EM steps from each maximum on a line from small to large variances.

    Returns:
        Relative lower triangular factors L of each block (covariance = sigma^2 L L'), shapes (q, q), one tuple per
        start.
    """
    return LinearCriterion.of(design).likely_starts(reml=reml, steps=steps)


def better_start(
    design: Design, covariances: Sequence[FloatArray], sigma: float, *, reml: bool
) -> tuple[FloatArray, ...] | None:
    """Start for another search after one that ended at these parameters: the best optimum that unimix knows.

    unimix computes the optimum only if the search ended on the boundary, or if the remaining improvement exceeds
    :data:`.WORTHWHILE`; another search for a smaller improvement would take time without changing any reported number.

    Args:
        design: Design that the engine received, with unstructured blocks.
        covariances: Covariance matrix of each block's effects, shapes (q, q).
        sigma: Residual standard deviation.
        reml: Whether to use the restricted likelihood.

    Returns:
        Relative lower triangular factors, shapes (q, q); None if another search is not worthwhile.
    """
    criterion = LinearCriterion.of(design)
    at = criterion.at(covariances, sigma, reml=reml)
    if not at.singular and at.remaining_gain <= WORTHWHILE:
        return None
    best = criterion.optimum([at], reml=reml)
    if best.profile.value - at.profile.value <= WORTHWHILE:
        return None
    return criterion.relative(best.factors)


def laplace_at_estimates(
    design: Design,
    beta: FloatArray,
    covariances: Sequence[FloatArray],
    parameters: FloatArray,
    *,
    expected: bool = False,
    nodes: int = 1,
) -> AtEstimates:
    """Evaluate a generalised mixed model at given parameters, by Laplace's approximation or quadrature.

    Args:
        design: Design of a generalised model, with or without blocks.
        beta: Fixed effects, shape (p,).
        covariances: Covariance matrix of each block's effects, shapes (q, q); may be singular.
        parameters: Dispersion parameters, shape (k,).
        expected: Whether the determinant of Laplace's approximation has the expected information, as in lme4.
        nodes: Number of nodes of adaptive Gauss-Hermite quadrature; 1 is Laplace's approximation.
    """
    criterion = LaplaceCriterion.of(design)
    rows, way_back = criterion.rows, criterion.way_back
    point = criterion.point(covariances, beta, parameters)
    inside = way_back.conditioned(covariances)
    at = laplace_at(rows, point.beta, inside, parameters, expected=expected)
    thresholds = None
    if expected:
        near = curvature_of_laplace(rows, point.beta, inside, parameters, expected=True, nodes=nodes)
    else:
        derivatives = derivatives_at(rows, point, nodes)
        near = _curvature(rows, point, derivatives)
        thresholds = _thresholds(rows, LaplaceOptimum(point, near.value, near.gain, derivatives[2], 0, at.spherical))
    singular, gain, higher = is_singular(inside, 1.0), near.gain, None
    if singular and nodes == 1:
        if not expected and np.isfinite(near.value) and not np.isfinite(gain):
            # The sign of the curvature of a flat ridge is chance: a climb shows how high the ridge rises.
            gain = max(search_laplace(rows, starts=[point]).value - near.value, 0.0)
        rise, higher = _beside_the_boundary(
            lambda c: laplace_at(rows, point.beta, c, parameters, expected=expected, start=at.spherical).log_likelihood,
            inside,
        )
        gain = max(gain, rise)
    turns = way_back.blocks
    return AtEstimates(
        gain=gain,
        beta_cov=None if near.beta_cov is None else way_back.inverse @ near.beta_cov @ way_back.inverse.T,
        modes=tuple(m @ t.T for t, m in zip(turns, at.modes, strict=True)),
        mode_covs=tuple(t @ c @ t.T for t, c in zip(turns, at.mode_covs, strict=True)),
        log_likelihood=near.value,
        singular=singular,
        higher=None if higher is None else tuple(t @ c @ t.T for t, c in zip(turns, higher, strict=True)),
        thresholds=None if thresholds is None else (thresholds[0], way_back.inverse @ thresholds[1]),
    )


def overlapping_covariance(
    design: Design,
    beta: FloatArray,
    covariances: Sequence[FloatArray],
    parameters: FloatArray,
    directions: FloatArray,
) -> FloatArray | None:
    """Covariance of the fixed effects of separated data, for the functions that have a finite estimate, shape (p, p).

    The information of all parameters is restricted to the complement of the separated directions; the result is zero
    along these.

    Args:
        design: Design of a generalised model with unstructured blocks.
        beta: Fixed effects, shape (p,).
        covariances: Covariance matrix of each block's effects, shapes (q, q).
        parameters: Dispersion parameters, shape (k,).
        directions: Separated directions, shape (m, p).

    Returns:
        The matrix, or None if the restricted information is not positive definite.
    """
    point = Point(relative_factors(tuple(covariances), 1.0), beta, parameters, design.family)
    packed, hessian = point.pack(), derivatives_at(design, point)[2]
    cells = len(packed) - design.p - len(parameters)
    keep = np.flatnonzero((np.arange(len(packed)) >= cells) | (np.abs(packed) > ZERO))
    first = int((keep < cells).sum())
    # columns of B: all other parameters, and an orthonormal basis of the complement of the directions
    complement = np.linalg.svd(directions)[2][np.linalg.matrix_rank(directions) :].T
    basis = np.eye(len(keep))
    basis = np.hstack(
        [
            basis[:, :first],
            basis[:, first : first + design.p] @ complement,
            basis[:, first + design.p :],
        ]
    )
    # V = B (B' I B)^-1 B'
    try:
        factor = np.linalg.cholesky(basis.T @ -hessian[np.ix_(keep, keep)] @ basis)
    except np.linalg.LinAlgError:
        return None
    half = np.linalg.solve(factor, basis.T)[:, first : first + design.p]
    return np.asarray(half.T @ half)


def _beside_the_boundary(
    value: Callable[[tuple[FloatArray, ...]], float], covariances: tuple[FloatArray, ...]
) -> tuple[float, tuple[FloatArray, ...] | None]:
    """Improvement of the highest likelihood a few steps away from singular covariances, and its covariances.

    A lower triangular factor hides some directions at a singular covariance: steps into the null space, and rotations
    of the rest of the factor. Each element of a square root from eigenvectors is moved instead, in units of an effect
    of one on the scale of the link.
    """
    here, gained, best = value(covariances), WORTHWHILE, None
    for k, covariance in enumerate(covariances):
        sizes, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(np.maximum(sizes, 0.0))
        for i, j in np.ndindex(*root.shape):
            for step in (-0.3, -0.1, -0.03, 0.03, 0.1, 0.3):
                moved = root.copy()
                moved[:, j] += step * vectors[:, i]
                there = (*covariances[:k], moved @ moved.T, *covariances[k + 1 :])
                if (rise := value(there) - here) > gained:
                    gained, best = rise, there
    return (gained, best) if best is not None else (0.0, None)


def _curvature(design: Design, point: Point, derivatives: tuple[float, FloatArray, FloatArray]) -> Curvature:
    """Curvature from exact derivatives; elements of factors that are zero are held at zero."""
    value, gradient, hessian = derivatives
    packed = point.pack()
    cells = len(packed) - design.p - len(point.parameters)
    free = (np.arange(len(packed)) >= cells) | (np.abs(packed) > ZERO)
    gain = newton_gain(gradient[free], hessian[np.ix_(free, free)])
    if not np.isfinite(gain):
        return Curvature(gain, None, value)
    first = int(free[:cells].sum())
    inverse = np.asarray(np.linalg.inv(-hessian[np.ix_(free, free)]), dtype=np.float64)
    return Curvature(gain, inverse[first : first + design.p, first : first + design.p], value)


def _thresholds(design: Design, optimum: LaplaceOptimum) -> tuple[FloatArray, FloatArray] | None:
    """Covariances of the thresholds and of the fixed effects with them; None if they do not exist."""
    joint = joint_covariance_of(optimum, design)
    found = thresholds_of(optimum, design, joint)
    usable = found is not None and not joint.fault and all(np.isfinite(part).all() for part in found[1:])
    return found[1:] if found is not None and usable else None


__all__ = [
    "AtEstimates",
    "better_start",
    "laplace_at_estimates",
    "likely_starts",
    "linear_at",
    "overlapping_covariance",
]
