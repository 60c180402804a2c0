"""Posterior of a generalised model with one grouping factor, its group effects integrated out by quadrature.

The coordinates are the fixed effects of well-scaled columns, and covariance and dispersion parameters as in
:mod:`unimix.backends.sampling.scales`. The integrals are those of :mod:`unimix.likelihood.posterior.group_integrals`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from unimix.backends.sampling.defaults import predictor_scale
from unimix.backends.sampling.draws import Posterior
from unimix.backends.sampling.generalised_density import middle
from unimix.backends.sampling.marginal import finite_or_impossible
from unimix.backends.sampling.priors import PriorTable
from unimix.backends.sampling.scales import FixedPriors, Scales, fitted_columns, in_users_units
from unimix.design.arrays import Design
from unimix.likelihood.glmm.glm import fisher_scoring
from unimix.likelihood.posterior.group_integrals import LADDER, GroupIntegrals, Parameters

FloatArray = npt.NDArray[np.float64]

TRIED = 100
"""Number of proposals at which numbers of nodes are compared."""


class IntegratedPosterior:
    """Log posterior of fixed effects, covariance and dispersion parameters in unconstrained coordinates.

    Args:
        design: Design in the user's columns, whose blocks belong to one grouping factor.
        table: Priors of all parameters.

    Attributes:
        size: Number of coordinates.
        refinement: Logarithm of the factor by which more nodes would change the integral of the density.
        integrals: Integrals over the group effects.
    """

    def __init__(self, design: Design, table: PriorTable) -> None:
        self.columns = columns = fitted_columns(design, table)
        fitted = columns.design
        self.p, self._design = design.p, design
        self.integrals = GroupIntegrals(fitted)
        self._fixed = FixedPriors(columns, table)
        self._scales = Scales(columns, table, [1.0] * len(fitted.blocks))
        self.size = self.p + self._scales.size
        self.refinement = 0.0
        beta = fisher_scoring(fitted) if self.p else np.empty(0)
        extras = np.array([middle(prior) for prior in table.dispersion])
        # a moderate standard deviation on the scale of the linear predictor
        scales = self._scales.start(0.3 * predictor_scale(design).unit, extras)
        self._start = np.concatenate([beta, scales])
        if fitted.blocks:
            information = np.diag(self.integrals.move_reference(self._parameters(self._start[None])[0]))
            ends = np.cumsum([b.q for b in fitted.blocks])[:-1]
            # approximate standard error of the effect of one level
            knees = [float(np.mean(part) + 1e-12) ** -0.5 for part in np.split(information, ends)]
            self._start = np.concatenate([beta, self._scales.move_knees(scales, knees)])

    @property
    def constant(self) -> float:
        """Constant that :meth:`log_density` omits: with it, the density integrates to that of the response."""
        return self._scales.constant + self._fixed.constant - self.columns.lost + self.refinement

    def start(self) -> FloatArray:
        """Point inside the support, near the mode, shape (size,)."""
        return self._start

    @property
    def folded(self) -> tuple[int, ...]:
        """Indices of the coordinates whose sign has no meaning."""
        return tuple(self.p + int(i) for i in self._scales.folded)

    def log_density(self, points: FloatArray) -> FloatArray:
        """Log density up to a constant at points (S, size), shape (S,); -inf where it cannot be computed."""
        return finite_or_impossible(self._at, points)

    def _at(self, points: FloatArray) -> FloatArray:
        parameters, prior = self._parameters(points)
        return self.integrals.log_likelihood(parameters) + prior + self._fixed.values(parameters.beta)

    def _parameters(self, points: FloatArray) -> tuple[Parameters, FloatArray]:
        """Parameters at points (S, size), and the log prior of all but the fixed effects, shape (S,)."""
        factors, extras, prior = self._scales.many(points[:, self.p :])
        stacked = np.zeros((len(points), self.integrals.q, self.integrals.q))
        at = 0
        for factor in factors:
            own = slice(at, at + factor.shape[1])
            stacked[:, own, own] = factor
            at = own.stop
        return Parameters(points[:, : self.p], stacked, extras / self.columns.residual), prior

    def move_reference(self, point: FloatArray) -> None:
        """Start all searches for modes of group effects from their normal approximation at a point, shape (size,)."""
        if self.integrals.q:
            self.integrals.move_reference(self._parameters(point[None])[0])

    def choose_nodes(
        self, points: FloatArray, log_proposal: Callable[[FloatArray], FloatArray], tolerance: float
    ) -> float:
        """Choose the smallest number of nodes whose error is below a tolerance.

        A log density that is wrong by delta shifts the posterior mean of any quantity by at most sd(delta) of its
        standard deviations, to first order (Cauchy-Schwarz), so that sd(delta) is the error, estimated by the
        difference from the next larger number, under importance weights.

        Args:
            points: Draws of a proposal, shape (S, size).
            log_proposal: Log density of the proposal.
            tolerance: Largest error.

        Returns:
            The error of the number that was chosen, which is the largest if none is below the tolerance.
        """
        if not self.integrals.q:
            return 0.0
        numbers = LADDER[self.integrals.q]
        at = log_proposal(points)
        self.integrals.nodes = numbers[0]
        before, error = self.log_density(points), np.inf
        for fewer, more in itertools.pairwise(numbers):
            self.integrals.nodes = more
            after = self.log_density(points)
            usable = np.isfinite(before) & np.isfinite(after)
            weight = np.exp(after[usable] - at[usable] - np.max(after[usable] - at[usable], initial=-np.inf))
            if weight.size:
                weight = weight / weight.sum()
                off = after[usable] - before[usable]
                error = float(np.sqrt(weight @ (off - weight @ off) ** 2))
                # the weights are those of the posterior by more nodes: E exp(-off) is the ratio of fewer to more
                self.refinement = -float(np.log(weight @ np.exp(-off)))
            if error < tolerance:
                self.integrals.nodes = fewer
                break
            before = after
        return error

    def posterior(self, points: FloatArray, rng: np.random.Generator, *, keep: bool) -> Posterior:
        """Draw the group effects given each draw of the parameters, and return all in the user's units.

        Args:
            points: Draws of the coordinates, shape (S, size).
            rng: Random number generator.
            keep: Whether to keep the draws of the group effects.
        """
        factors, extras, _ = self._scales.many(points[:, self.p :])
        sds, correlations = in_users_units(factors, self.columns.maps)
        beta = self.columns.shift + points[:, : self.p] @ self.columns.matrix.T
        effects: list[FloatArray] = []
        if factors:
            u = self.integrals.draw(self._parameters(points)[0], rng)
            at = 0
            for factor, mapping in zip(factors, self.columns.maps, strict=True):
                own = slice(at, at + factor.shape[1])
                effects.append(np.einsum("sab,slb->sla", mapping @ factor, u[:, :, own]))
                at = own.stop
        made = Posterior.of_effects(beta, sds, correlations, extras, tuple(effects))
        return made if keep else made.without_effects(self._design)
