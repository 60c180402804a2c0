"""The (restricted) likelihood of a linear mixed model at one point, whose quantities are computed on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from unimix.design.modelled_variances import ModelledVariances
from unimix.likelihood.lmm import denominator_df, penalised_least_squares
from unimix.likelihood.lmm.conditional_modes import conditional_effects
from unimix.likelihood.lmm.conditioning import SINGULAR_TOLERANCE, relative_factors
from unimix.likelihood.lmm.denominator_df import Uncertainty
from unimix.likelihood.lmm.derivatives import Moments, Projected, curvature, gradient, moments, project
from unimix.likelihood.lmm.identification import FlatDirections, flat_directions
from unimix.likelihood.lmm.optimise import Optimum, climb, leave_boundary, newton_decrement, scaled_gradient
from unimix.likelihood.lmm.parameters import directions_at, in_parameters, is_plain
from unimix.likelihood.lmm.penalised_least_squares import Profile
from unimix.likelihood.lmm.reduced_data import Products

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """Likelihood at given covariances and residual standard deviation, in well-scaled coordinates.

    Attributes:
        data: The reduced data.
        factors: Relative lower triangular factors, shapes (q, q).
        sigma: Residual standard deviation.
        reml: Whether the criterion is the restricted likelihood.
    """

    data: Products
    factors: tuple[FloatArray, ...]
    sigma: float
    reml: bool

    @classmethod
    def of_optimum(cls, data: Products, optimum: Optimum, *, reml: bool) -> Evaluation:
        """Evaluation at the end of a search, at the sigma that maximises the likelihood there."""
        evaluation = cls(data, tuple(optimum.factors), optimum.profile.sigma, reml)
        evaluation.__dict__["profile"] = optimum.profile
        return evaluation

    @cached_property
    def profile(self) -> Profile:
        """Criterion with fixed effects and residual variance profiled out."""
        return penalised_least_squares.profile(self.data, self.factors, reml=self.reml)

    @cached_property
    def _projected(self) -> Projected | None:
        return None if self.data.grouped is not None else project(self.data, self.profile.state)

    @cached_property
    def _moments(self) -> Moments:
        return moments(self.data, self.profile.state, directions_at(self.data, self.factors), self._projected)

    def log_likelihood(self, beta: FloatArray | None = None, *, reml: bool | None = None) -> float:
        """Log likelihood at the evaluation's sigma; under ML optionally at given fixed effects (p,).

        Args:
            beta: Fixed effects in well-scaled coordinates, shape (p,); None for the maximising ones.
            reml: Whether to use the restricted likelihood; None for the evaluation's criterion.
        """
        reml = self.reml if reml is None else reml
        at = self.profile
        if reml != self.reml:
            at = penalised_least_squares.profile_of(self.data, at.state, reml=reml)
        return penalised_least_squares.at_sigma(self.data, at, self.sigma, beta, reml=reml)

    @cached_property
    def gradient(self) -> list[FloatArray]:
        """Symmetric derivatives with respect to the relative covariances, shapes (q, q)."""
        return gradient(self.data, self.profile, reml=self.reml, projected=self._projected)

    @cached_property
    def scaled_gradient(self) -> float:
        """Largest derivative with respect to a parameter, times its size (at least 0.1 residual SD or radians)."""
        return scaled_gradient(self.data, self.gradient, self.factors)

    @cached_property
    def curvature(self) -> tuple[FloatArray, FloatArray]:
        """Gradient (d,) and Hessian (d, d) of the profiled criterion in the covariance parameters."""
        along = curvature(self.profile, self._moments, reml=self.reml)
        slopes = [] if is_plain(self.data) else self.gradient
        return in_parameters(along.gradient, along.hessian, self.data, self.factors, slopes)

    @cached_property
    def newton_decrement(self) -> float:
        """Remaining improvement (half the squared Newton decrement), zero elements held; infinity without a maximum."""
        return newton_decrement(self.data, self.factors, *self.curvature)

    @cached_property
    def remaining_gain(self) -> float:
        """Larger of :attr:`newton_decrement` and the observed improvement of a step away from the boundary."""
        escape = leave_boundary(self.data, list(self.factors), reml=self.reml, at=self.profile)[1]
        return max(self.newton_decrement, escape)

    @property
    def singular(self) -> bool:
        """Whether a covariance matrix is singular, independent of the units of its columns."""
        return any((np.diag(f) < SINGULAR_TOLERANCE).any() for f in self.own_factors)

    @property
    def own_factors(self) -> tuple[FloatArray, ...]:
        """The factors; that of the times instead of the cells of modelled variances, because cells share times."""
        return own_factors(self.data, self.factors)

    @cached_property
    def uphill(self) -> Optimum:
        """Maximum that a climb from this point reaches."""
        return climb(self.data, self.factors, reml=self.reml)

    @cached_property
    def effects(self) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]]:
        """Conditional modes, shapes (L, q), and covariances, shapes (L, q, q), of the group effects at sigma."""
        there = replace(self.profile, sigma=self.sigma)
        return conditional_effects(self.data, there, self.factors, self._projected)

    @cached_property
    def satterthwaite(self) -> Uncertainty:
        """Uncertainty of the fixed effects from that of the covariance parameters, by Satterthwaite's method."""
        return denominator_df.satterthwaite(
            self.data, self.factors, self.sigma, self.profile, self._moments, reml=self.reml
        )

    @cached_property
    def flat(self) -> FlatDirections:
        """Directions of the covariance parameters along which the criterion does not change."""
        return flat_directions(self.data, self.factors, self.profile, self._moments, reml=self.reml)

    @cached_property
    def kenward_roger(self) -> Uncertainty:
        """Uncertainty of the fixed effects by Kenward and Roger's method, at REML estimates."""
        return denominator_df.kenward_roger(self.data, self.factors, self.sigma, self.profile, self._moments)

    def uncertainty(self, df_method: str) -> Uncertainty:
        """Uncertainty by the method of this name, ``satterthwaite`` or ``kenward-roger``."""
        return self.kenward_roger if df_method == "kenward-roger" else self.satterthwaite

    def observed_covariance(self, beta: FloatArray) -> FloatArray:
        """Covariance matrix of the fixed effects from the observed information of all parameters, shape (p, p)."""
        return denominator_df.observed_covariance(
            self.data, self.factors, self.sigma, beta, self.profile, self._moments, reml=self.reml
        )


def own_factors(products: Products, factors: Sequence[FloatArray]) -> tuple[FloatArray, ...]:
    """Relative factors (q, q) whose diagonals show singularity; see :attr:`Evaluation.own_factors`."""
    last = products.structures[-1] if products.structures else None
    if not isinstance(last, ModelledVariances):
        return tuple(factors)
    of_times = last.of_times(last.parameters(factors[-1] @ factors[-1].T))
    return (*factors[:-1], relative_factors((of_times,), 1.0)[0])
