"""Log posterior of a generalised (mixed) model in unconstrained coordinates, with its gradient, in NumPy.

The coordinates are the fixed effects of well-scaled columns, covariance and dispersion parameters as in
:mod:`unimix.backends.sampling.scales`, and the group effects block by block in the coordinates of
:mod:`unimix.backends.sampling.effect_coordinates`. Priors apply to the user's parameters.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from unimix.backends.sampling.defaults import predictor_scale
from unimix.backends.sampling.draws import Posterior
from unimix.backends.sampling.effect_coordinates import BlockReference, Turned, backward, forward, references
from unimix.backends.sampling.priors import PriorTable
from unimix.backends.sampling.scales import FixedPriors, Scales, ScaleState, fitted_columns
from unimix.backends.sampling.whitening import Whitening, guarded, whiten_leading
from unimix.design.arrays import Design
from unimix.distributions.priors import LogNormal, Uniform
from unimix.likelihood.posterior.row_densities import RowDensities, working_weights
from unimix.likelihood.response import row_log_likelihood

FloatArray = npt.NDArray[np.float64]

_ROUNDS = 30
_REACH = 6.0
_STEPS = (1.0, 0.5, 0.2, 0.05, 0.0)
_SETTLED = 1e-2


class Rows:
    """Log likelihood of all rows and its derivatives."""

    def __init__(self, design: Design) -> None:
        self.design = design
        self._densities = RowDensities(design)

    def __call__(self, parameters: FloatArray, eta: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Log likelihood, and derivatives in eta (n,) and in the dispersion parameters (k,)."""
        if self._densities.short and not len(parameters):
            value, score, _ = self._densities.derivatives(parameters, eta)
            return float(value.sum()), score, np.empty(0)
        found = row_log_likelihood(self.design, parameters, eta)
        by_parameters = np.array([float(d.sum()) for d in found.by_parameters])
        return float(found.value.sum()), found.score, by_parameters


@dataclass(frozen=True)
class _Point:
    """Intermediate quantities of the density."""

    beta: FloatArray
    state: ScaleState
    eta: FloatArray
    residuals: dict[int, FloatArray]
    coordinates: dict[int, FloatArray]
    turned: dict[int, Turned]


class GeneralisedPosterior:
    """Log posterior density as a function of one vector of length ``size``.

    Attributes:
        low: Number of leading coordinates, which are not group effects.
        whitening: Map to coordinates in which the posterior is approximately standard normal.
    """

    def __init__(self, design: Design, table: PriorTable) -> None:
        self._columns = columns = fitted_columns(design, table)
        fitted = columns.design
        self._x, self._blocks = fitted.x, fitted.blocks
        self._offset = np.zeros(design.n) if fitted.offset is None else fitted.offset
        self._rows = Rows(fitted)
        self.p = design.p
        self._unit = columns.residual
        self._fixed = FixedPriors(columns, table)
        predictor = predictor_scale(design)
        level = np.full(design.n, 0.0 if design.is_linear else predictor.centre)
        # the offset may vary widely: the intercept alone must keep the response in range
        beta = np.linalg.lstsq(self._x, level - (self._offset - self._offset.mean()) * (design.family.link != "log"))[0]
        extras = np.array([middle(p) for p in table.dispersion])
        self._scales = Scales(columns, table, [1.0] * len(self._blocks))
        self.low = self.p + self._scales.size
        self._shapes = [(b.n_levels, b.q) for b in self._blocks]
        ends = np.cumsum([self.low, *(levels * q for levels, q in self._shapes)])
        self._places = [slice(int(a), int(b)) for a, b in itertools.pairwise(ends)]
        self.size = int(ends[-1])
        self._z_columns = [[np.ascontiguousarray(c) for c in b.z.T] for b in self._blocks]
        theta = np.zeros(self.size)
        theta[: self.low] = np.concatenate([beta, self._scales.start(0.3 * predictor.unit, extras)])
        self._references: tuple[BlockReference, ...] = ()
        self._start = self.move_reference(theta, self._x @ beta + self._offset)

    def move_reference(self, theta: FloatArray, eta: FloatArray) -> FloatArray:
        """Base the coordinates of effects and small standard deviations on another reference point.

        Args:
            theta: New reference point, shape (size,).
            eta: Linear predictor with offset, shape (n,).

        Returns:
            The same parameters in the new coordinates, with the effects at their approximate conditional means.
        """
        state = self._scales.at(theta[self.p : self.low])
        found = row_log_likelihood(self._rows.design, self._scales.extras(state) / self._unit, eta)
        w = working_weights(found)
        step = np.where(np.isfinite(found.score), found.score, 0.0) / w
        moved = np.zeros(self.size)
        moved[: self.low] = theta[: self.low]
        # a full step may leave the range in which a mean exists
        for size in _STEPS:
            z = eta - self._offset + size * step
            self._references = references(self._blocks, self._x, z, w, state.factors)
            knees = [1.0] * len(self._blocks)
            for ref in self._references:
                # approximate standard error of the effect of one level
                knees[ref.index] = float(np.mean(np.diagonal(ref.g, axis1=1, axis2=2)) + 1e-12) ** -0.5
            moved[self.p : self.low] = self._scales.move_knees(moved[self.p : self.low], knees)
            if np.isfinite(self(moved)[0]):
                break
        return moved

    def _at(self, theta: FloatArray) -> _Point:
        beta = theta[: self.p]
        state = self._scales.at(theta[self.p : self.low])
        eta = self._offset + self._x @ beta
        residuals: dict[int, FloatArray] = {}
        coordinates: dict[int, FloatArray] = {}
        turned: dict[int, Turned] = {}
        for ref in self._references:
            k = ref.index
            r = ref.rz - ref.rx @ beta
            for j, matrix, _ in ref.couplings:
                r -= matrix @ turned[j].b.ravel()
            residuals[k] = r.reshape(self._shapes[k])
            coordinates[k] = theta[self._places[k]].reshape(self._shapes[k])
            turned[k] = forward(ref.g, state.factors[k], residuals[k], coordinates[k])
            codes = self._blocks[k].codes
            for a, column in enumerate(self._z_columns[k]):
                eta += column * turned[k].b[codes, a]
        return _Point(beta, state, eta, residuals, coordinates, turned)

    def __call__(self, theta: FloatArray) -> tuple[float, FloatArray]:
        """Log posterior density of the unconstrained vector up to a constant, and its gradient, (size,)."""
        at = self._at(theta)
        value, score, by_parameters = self._rows(self._scales.extras(at.state) / self._unit, at.eta)
        gradient = np.empty_like(theta)
        by_beta = score @ self._x
        by_effects = [self._summed(k, score) for k in range(len(self._blocks))]
        by_factor: list[FloatArray] = [np.empty(0)] * len(self._blocks)
        for ref in reversed(self._references):
            k = ref.index
            value += at.turned[k].value
            by_factor[k], by_r, by_v = backward(
                at.turned[k], at.state.factors[k], at.residuals[k], at.coordinates[k], by_effects[k]
            )
            gradient[self._places[k]] = by_v.ravel()
            flat = by_r.ravel()
            by_beta -= flat @ ref.rx
            for j, _, transposed in ref.couplings:
                by_effects[j] -= (transposed @ flat).reshape(self._shapes[j])
        prior, slope = self._fixed(at.beta)
        rest, by_scales = self._scales.density(at.state, by_factor, by_parameters / self._unit)
        gradient[: self.p] = by_beta + slope
        gradient[self.p : self.low] = by_scales
        return value + prior + rest, gradient

    def _summed(self, k: int, score: FloatArray) -> FloatArray:
        """Compute Z'score for a block, shape (L, q)."""
        codes, levels = self._blocks[k].codes, self._shapes[k][0]
        sums = [np.bincount(codes, column * score, levels) for column in self._z_columns[k]]
        return np.stack(sums, axis=1)

    def settle(self) -> Whitening:
        """Find the mode, make it the reference point, and whiten the leading coordinates.

        In this approximation a scale may diverge to zero although it does not in the posterior, so that it is bounded.
        """
        negative = guarded(self)
        theta = self._start
        for _ in range(_ROUNDS):
            bounds = [(None, None)] * self.size
            for j in range(self.p, self.low):
                bounds[j] = (self._start[j] - _REACH, self._start[j] + _REACH)
            best = minimize(
                negative,
                theta,
                jac=True,
                method="L-BFGS-B",
                bounds=bounds,
                options={"maxiter": 500, "maxcor": 20},
            ).x
            if not self._blocks:
                theta = best
                break
            moved = float(np.abs(best - theta).max())
            theta = self.move_reference(best, self._at(best).eta)
            if moved < _SETTLED:
                break
        return whiten_leading(self, theta, self.low)

    def draws(self, thetas: FloatArray) -> Posterior:
        """Convert points to parameters in the user's units.

        Args:
            thetas: Points, shape (S, size).
        """
        sds, correlations, _, extras = self._scales.draws(thetas[:, self.p : self.low])
        effects = [np.empty((len(thetas), *shape)) for shape in self._shapes]
        for s, theta in enumerate(thetas):
            for k, found in self._at(theta).turned.items():
                effects[k][s] = found.b @ self._columns.maps[k].T
        return Posterior.of_effects(
            self._columns.shift + thetas[:, : self.p] @ self._columns.matrix.T,
            sds,
            correlations,
            extras,
            tuple(effects),
        )


def middle(prior: object) -> float:
    """Typical value under the prior of a dispersion parameter."""
    for name in ("sigma", "beta"):
        if type(prior).__name__.startswith("Half") and hasattr(prior, name):
            return float(getattr(prior, name)) / 2.0
    if isinstance(prior, LogNormal):
        return float(np.exp(prior.mu))
    if isinstance(prior, Uniform):
        return 0.5 * (prior.lower + prior.upper)
    return 2.0
