"""What an adapter may ask of unimix at an engine's estimates: effects, standard errors, and what is left to gain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design
from unimix.likelihood.glmm.laplace import laplace_at
from unimix.likelihood.glmm.optimise import Point, derivatives_at
from unimix.likelihood.lmm.conditioning import column_scale, is_singular, relative_factors
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
    """A model at given parameters, by unimix.

    Attributes:
        gain: Log-likelihood that a Newton step promises; infinity where the Hessian is not negative definite.
        beta_cov: Covariance matrix of the fixed effects, shape (p, p): generalised least squares for a linear mixed
            model, the observed information of all parameters for a generalised one; None where there is none.
        modes: Conditional modes per block, shapes (L, q).
        mode_covs: Conditional covariances per block given all parameters, shapes (L, q, q).
        log_likelihood: Of the criterion, with all constants.
        singular: Whether a covariance matrix lies on its boundary, whatever the units of its columns.
        gradient: Largest element of the gradient by the covariance factors, each in units of its size; None for a
            generalised model.
        higher: Covariances beside the boundary of which the likelihood of a generalised model is higher, for the next
            search to start at; None where there are none. For linear models ``Backend.fit`` climbs on by itself.
    """

    gain: float
    beta_cov: FloatArray | None
    modes: tuple[FloatArray, ...]
    mode_covs: tuple[FloatArray, ...]
    log_likelihood: float
    singular: bool
    gradient: float | None = None
    higher: tuple[FloatArray, ...] | None = None

    @property
    def complaint(self) -> str:
        """Why these estimates are no maximum, in words; empty if they are."""
        if not np.isfinite(self.gain):
            return "the search ended where the likelihood has no maximum"
        return stopped_short(self.gain) if self.gain > WORTHWHILE else ""


def linear_at(design: Design, covariances: Sequence[FloatArray], sigma: float, *, reml: bool) -> AtEstimates:
    """A linear mixed model at given covariances, from cross-products of the data and exact derivatives.

    Args:
        design: As the engine was given it.
        covariances: Of each block's effects, shapes (q, q); may be singular.
        sigma: Residual standard deviation.
        reml: Criterion.
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
    """Where a search for the covariance parameters of a linear mixed model should start, best first.

    Args:
        design: With unstructured blocks.
        reml: Criterion.
        steps: Number of EM steps from each maximum on a line from small to large variances.

    Returns:
        Relative factors L per block (covariance = sigma^2 L L'), lower triangular, shapes (q, q).
    """
    return LinearCriterion.of(design).likely_starts(reml=reml, steps=steps)


def better_start(
    design: Design, covariances: Sequence[FloatArray], sigma: float, *, reml: bool
) -> tuple[FloatArray, ...] | None:
    """Where a search that ended at these parameters should begin again: at the best optimum that unimix knows.

    It is looked for only where the search ended on the boundary, or where the derivatives promise more than
    :data:`.WORTHWHILE`; a search that is begun again for less costs its time and changes nothing that is reported.

    Args:
        design: As the engine was given it, with unstructured blocks.
        covariances: Of each block's effects, shapes (q, q).
        sigma: Residual standard deviation.
        reml: Criterion.

    Returns:
        Relative factors, lower triangular, shapes (q, q); None where no more than that is to be gained.
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
    """A generalised mixed model at given parameters, by Laplace's approximation or quadrature.

    Args:
        design: Of a generalised model, with or without blocks.
        beta: Fixed effects, shape (p,).
        covariances: Of each block's effects, shapes (q, q); may be singular.
        parameters: Dispersion parameters, shape (k,).
        expected: Whether the determinant of Laplace's approximation takes the expected information, as lme4's does.
        nodes: Of adaptive Gauss-Hermite quadrature; 1 is Laplace's approximation.
    """
    at = laplace_at(design, beta, covariances, parameters, expected=expected)
    if expected:
        near = curvature_of_laplace(design, beta, covariances, parameters, expected=True, nodes=nodes)
    else:
        near = _curvature(design, Point(relative_factors(tuple(covariances), 1.0), beta, parameters), nodes)
    units = [column_scale(b.z) for b in design.blocks]
    scaled = tuple(c * np.outer(u, u) for c, u in zip(covariances, units, strict=True))
    singular, gain, higher = is_singular(scaled, 1.0), near.gain, None
    if singular and nodes == 1:
        rise, higher = _beside_the_boundary(
            lambda c: laplace_at(design, beta, c, parameters, expected=expected, start=at.spherical).log_likelihood,
            tuple(covariances),
            units,
        )
        gain = max(gain, rise)
    return AtEstimates(gain, near.beta_cov, at.modes, at.mode_covs, near.value, singular, higher=higher)


def _beside_the_boundary(
    value: Callable[[tuple[FloatArray, ...]], float], covariances: tuple[FloatArray, ...], units: Sequence[FloatArray]
) -> tuple[float, tuple[FloatArray, ...] | None]:
    """The highest likelihood some steps away from singular covariances, and what it gains.

    A lower triangular factor hides directions there: into the null space, and turns of what is left of the factor. Here
    each element of a square root by eigenvectors is moved, in units of an effect of one on the scale of the link.
    """
    here, gained, best = value(covariances), WORTHWHILE, None
    for k, (covariance, unit) in enumerate(zip(covariances, units, strict=True)):
        sizes, vectors = np.linalg.eigh(covariance * np.outer(unit, unit))
        root = vectors * np.sqrt(np.maximum(sizes, 0.0))
        for i, j in np.ndindex(*root.shape):
            for step in (-0.3, -0.1, -0.03, 0.03, 0.1, 0.3):
                moved = root.copy()
                moved[:, j] += step * vectors[:, i]
                own = moved @ moved.T / np.outer(unit, unit)
                there = (*covariances[:k], own, *covariances[k + 1 :])
                if (rise := value(there) - here) > gained:
                    gained, best = rise, there
    return (gained, best) if best is not None else (0.0, None)


def _curvature(design: Design, point: Point, nodes: int) -> Curvature:
    """The curvature from exact derivatives; elements of factors that are zero stay there."""
    value, gradient, hessian = derivatives_at(design, point, nodes)
    packed = point.pack()
    cells = len(packed) - design.p - len(point.parameters)
    free = (np.arange(len(packed)) >= cells) | (np.abs(packed) > ZERO)
    gain = newton_gain(gradient[free], hessian[np.ix_(free, free)])
    if not np.isfinite(gain):
        return Curvature(gain, None, value)
    first = int(free[:cells].sum())
    inverse = np.asarray(np.linalg.inv(-hessian[np.ix_(free, free)]), dtype=np.float64)
    return Curvature(gain, inverse[first : first + design.p, first : first + design.p], value)


__all__ = ["AtEstimates", "better_start", "laplace_at_estimates", "likely_starts", "linear_at"]
