"""Marginal posterior of the covariance parameters of a Gaussian mixed model, and draws of all other parameters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from unimix.backends.sampling.draws import Posterior
from unimix.backends.sampling.priors import PriorTable
from unimix.backends.sampling.scales import FixedPriors, Scales, effects_in_users_units, fitted_columns
from unimix.design.arrays import Design
from unimix.distributions.priors import Normal
from unimix.likelihood.posterior.effect_draws import draw_all_effects
from unimix.likelihood.posterior.marginal_posterior import NormalPrior, Reduced, log_likelihood_at

FloatArray = npt.NDArray[np.float64]


@np.errstate(all="ignore")  # a proposal far from the mode may overflow; it has density zero
def finite_or_impossible(function: Callable[[FloatArray], FloatArray], points: FloatArray) -> FloatArray:
    """Values of a log density at points (S, size), shape (S,); -inf where it cannot be computed."""
    try:
        found = function(points)
    except np.linalg.LinAlgError:
        if len(points) == 1:
            return np.array([-np.inf])
        return np.concatenate([finite_or_impossible(function, point[None]) for point in points])
    return np.asarray(np.where(np.isfinite(found), found, -np.inf))


class CollapsedPosterior:
    """Log posterior of the covariance parameters in unconstrained coordinates.

    Fixed effects with normal priors are integrated out. If one of them has another prior, all fixed effects are
    coordinates, before the others.

    Args:
        design: Design in the user's columns, without an offset.
        table: Priors of all parameters.

    Attributes:
        size: Number of coordinates.
        constant: Constant that :meth:`log_density` omits: with it, the density integrates to that of the response.
    """

    def __init__(self, design: Design, table: PriorTable) -> None:
        self.columns = fitted_columns(design, table)
        knees = [float(np.sqrt(b.n_levels / design.n)) for b in design.blocks]
        self.scales = Scales(self.columns, table, knees)
        self.reduced = Reduced(self.columns.design)
        self.maps, self.p = self.columns.maps, design.p
        self._fixed = FixedPriors(self.columns, table)
        self.normal: NormalPrior | None = None
        if all(isinstance(prior, Normal) for prior in table.fixed):
            means = np.array([p.mu for p in table.fixed if isinstance(p, Normal)])
            sds = np.array([p.sigma for p in table.fixed if isinstance(p, Normal)])
            shift = table.functionals @ self.columns.shift
            rows = table.functionals @ self.columns.matrix
            self.normal = NormalPrior.of_functionals(rows, means - shift, sds)
        self.first = 0 if self.normal is not None else self.p
        self.size = self.first + self.scales.size
        # a normal prior of the fixed effects is integrated with its constant
        self.constant = self.scales.constant - self.columns.lost + (self._fixed.constant if self.first else 0.0)

    @property
    def folded(self) -> tuple[int, ...]:
        """Indices of the coordinates whose sign has no meaning."""
        return tuple(self.first + int(i) for i in self.scales.folded)

    def start(self) -> FloatArray:
        """Starting point inside the support, shape (size,)."""
        return np.concatenate([np.zeros(self.first), self.scales.start(float(np.exp(-1.0)))])

    def log_density(self, points: FloatArray) -> FloatArray:
        """Log density up to a constant at points (S, size), shape (S,); -inf where it cannot be computed."""
        return finite_or_impossible(self._at, points)

    def _at(self, points: FloatArray) -> FloatArray:
        factors, extras, prior = self.scales.many(points[:, self.first :])
        sigma = extras[:, 0] / self.columns.residual
        moments = self.reduced.moments(factors, sigma)
        if self.normal is not None:
            value = self.normal.log_likelihood(self.reduced, moments, sigma)
        else:
            beta = points[:, : self.first]
            value = log_likelihood_at(self.reduced, moments, sigma, beta) + self._fixed.values(beta)
        return np.asarray(value + prior)

    def posterior(self, points: FloatArray, rng: np.random.Generator, *, keep: bool) -> Posterior:
        """Draw all parameters in the user's units, given the covariance parameters.

        Args:
            points: Draws of the coordinates, shape (S, size).
            rng: Random number generator.
            keep: Whether to keep the draws of the group effects.
        """
        sds, correlations, factors, extras = self.scales.draws(points[:, self.first :])
        sigma = extras[:, 0] / self.columns.residual
        if self.normal is not None:
            beta = self.normal.draw(self.reduced.moments(factors, sigma), sigma, rng)
        else:
            beta = points[:, : self.first]
        found = draw_all_effects(self.reduced.products, beta, factors, sigma, rng, keep=keep)
        return Posterior(
            self.columns.shift + beta @ self.columns.matrix.T,
            sds,
            correlations,
            extras,
            *effects_in_users_units(found, self.maps, kept=keep),
        )
