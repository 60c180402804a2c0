"""A linear mixed model's (restricted) likelihood at one point: every quantity is made when first asked for, once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from unimix.likelihood.lmm import denominator_df, penalised_least_squares
from unimix.likelihood.lmm.conditional_modes import conditional_effects
from unimix.likelihood.lmm.conditioning import SINGULAR_TOLERANCE
from unimix.likelihood.lmm.denominator_df import Uncertainty
from unimix.likelihood.lmm.derivatives import Moments, Projected, curvature, gradient, in_factors, moments, project
from unimix.likelihood.lmm.optimise import Optimum, climb, leave_boundary, newton_decrement, scaled_gradient
from unimix.likelihood.lmm.penalised_least_squares import Profile
from unimix.likelihood.lmm.reduced_data import Products

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """The likelihood at given covariances and residual standard deviation, in well-scaled coordinates.

    Attributes:
        data: The reduced data.
        factors: Relative factors, lower triangular, shapes (q, q).
        sigma: Residual standard deviation.
        reml: Whether the restricted likelihood is meant.
    """

    data: Products
    factors: tuple[FloatArray, ...]
    sigma: float
    reml: bool

    @classmethod
    def of_optimum(cls, data: Products, found: Optimum, *, reml: bool) -> Evaluation:
        """Where a search ended, at the sigma that maximises the likelihood there."""
        made = cls(data, tuple(found.factors), found.profile.sigma, reml)
        made.__dict__["profile"] = found.profile
        return made

    @cached_property
    def profile(self) -> Profile:
        """The criterion with fixed effects and residual variance profiled out."""
        return penalised_least_squares.profile(self.data, self.factors, reml=self.reml)

    @cached_property
    def _projected(self) -> Projected:
        return project(self.data, self.profile.state)

    @cached_property
    def _moments(self) -> Moments:
        return moments(self.data, self.profile.state, self._projected)

    def log_likelihood(self, beta: FloatArray | None = None, *, reml: bool | None = None) -> float:
        """At the given sigma; under ML also at given fixed effects (p,) instead of the best ones.

        Args:
            beta: Fixed effects in well-scaled coordinates.
            reml: The other criterion at the same parameters, if it differs from the evaluation's.
        """
        reml = self.reml if reml is None else reml
        at = self.profile
        if reml != self.reml:
            at = penalised_least_squares.profile_of(self.data, at.state, reml=reml)
        return penalised_least_squares.at_sigma(self.data, at, self.sigma, beta, reml=reml)

    @cached_property
    def gradient(self) -> list[FloatArray]:
        """Derivatives by the relative covariances, symmetric, shapes (q, q)."""
        return gradient(self.data, self.profile, reml=self.reml, projected=self._projected)

    @cached_property
    def scaled_gradient(self) -> float:
        """Largest element of the gradient by the factors, each in units of its size (at least 0.1 residual SD)."""
        return scaled_gradient(self.gradient, self.factors)

    @cached_property
    def curvature(self) -> tuple[FloatArray, FloatArray]:
        """Gradient (c,) and Hessian (c, c) of the profiled criterion by the elements of the factors."""
        found = curvature(self.profile, self._moments, reml=self.reml)
        return in_factors(found, self.data, self.factors)

    @cached_property
    def newton_decrement(self) -> float:
        """Log-likelihood that a Newton step promises, zero elements held; infinity where there is no maximum."""
        return newton_decrement(self.factors, *self.curvature)

    @cached_property
    def remaining_gain(self) -> float:
        """The same, or what a step from the boundary is seen to gain, if that is more."""
        escape = leave_boundary(self.data, list(self.factors), reml=self.reml, at=self.profile)[1]
        return max(self.newton_decrement, escape)

    @property
    def singular(self) -> bool:
        """Whether a covariance matrix lies on its boundary, whatever the units of its columns."""
        return any((np.diag(f) < SINGULAR_TOLERANCE).any() for f in self.factors)

    @cached_property
    def uphill(self) -> Optimum:
        """The maximum that lies uphill of the point."""
        return climb(self.data, self.factors, reml=self.reml)

    @cached_property
    def effects(self) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]]:
        """Conditional modes, shapes (L, q), and covariances, shapes (L, q, q), of the group effects at sigma."""
        there = replace(self.profile, sigma=self.sigma)
        return conditional_effects(self.data, there, self.factors, self._projected)

    @cached_property
    def satterthwaite(self) -> Uncertainty:
        """What the uncertainty of the covariance parameters does to that of the fixed effects, by Satterthwaite."""
        return denominator_df.satterthwaite(
            self.data, self.factors, self.sigma, self.profile, self._moments, reml=self.reml
        )

    @cached_property
    def kenward_roger(self) -> Uncertainty:
        """The same by Kenward and Roger; of REML estimates."""
        return denominator_df.kenward_roger(self.data, self.factors, self.sigma, self.profile, self._moments)

    def uncertainty(self, df_method: str) -> Uncertainty:
        """By the name of the method: satterthwaite or kenward-roger."""
        return self.kenward_roger if df_method == "kenward-roger" else self.satterthwaite

    def observed_covariance(self, beta: FloatArray) -> FloatArray:
        """Covariance matrix of the fixed effects from the observed information of all parameters, shape (p, p)."""
        return denominator_df.observed_covariance(
            self.data, self.factors, self.sigma, beta, self.profile, self._moments, reml=self.reml
        )
