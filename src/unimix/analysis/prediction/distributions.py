"""Predictive distributions of new rows, in one form for every engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import special

from unimix.analysis.prediction.draws import coefficient_draws, conditional_of_both_parts, dispersion_of_new, is_sampled
from unimix.design.grouping_factors import RowLevels
from unimix.design.new_data import NewRows
from unimix.distributions.family import Family
from unimix.distributions.log_density import Pointwise, pointwise, zero_inflated
from unimix.distributions.random_responses import draw_response, mean_of
from unimix.likelihood.lmm.batched_linalg import matrix_root
from unimix.stats.joint_error import predictor_variance
from unimix.stats.predictor import PredictorRows, expected_response, predictive_log_density
from unimix.stats.scores import normal_crps, normal_log_density, sample_crps

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

SAMPLES = 4000
"""Smallest number of drawn responses."""


class Predictive(ABC):
    """The predictive distributions of n rows, each by itself."""

    @property
    @abstractmethod
    def mean(self) -> FloatArray:
        """Expected response, shape (n,)."""

    @property
    @abstractmethod
    def spread(self) -> FloatArray:
        """Standard deviation of the response, shape (n,)."""

    @abstractmethod
    def log_density(self, y: FloatArray) -> FloatArray:
        """Log predictive density (or probability) at the observed responses y, shape (n,)."""

    @abstractmethod
    def crps(self, y: FloatArray) -> FloatArray:
        """Continuous ranked probability score, in units of the response, shape (n,)."""

    @abstractmethod
    def interval(self, level: float) -> tuple[FloatArray, FloatArray]:
        """Equal-tailed prediction interval of probability ``level``, shapes (n,)."""


@dataclass(frozen=True)
class NormalPredictive(Predictive):
    """Predictive distribution of a linear model: normal, with the errors of fixed and group effects and the residual.

    Attributes:
        centre: Expected responses, shape (n,).
        sd: Standard deviations of the responses, shape (n,).
    """

    centre: FloatArray
    sd: FloatArray

    @property
    def mean(self) -> FloatArray:
        """Expected response, shape (n,)."""
        return self.centre

    @property
    def spread(self) -> FloatArray:
        """Standard deviation of the response, shape (n,)."""
        return self.sd

    def log_density(self, y: FloatArray) -> FloatArray:
        """Log predictive density at the observed responses y, shape (n,)."""
        return normal_log_density(y, self.centre, self.sd)

    def crps(self, y: FloatArray) -> FloatArray:
        """Continuous ranked probability score in closed form, shape (n,)."""
        return normal_crps(y, self.centre, self.sd)

    def interval(self, level: float) -> tuple[FloatArray, FloatArray]:
        """Ends of the prediction intervals, shapes (n,)."""
        reach = special.ndtri(0.5 + level / 2) * self.sd
        return self.centre - reach, self.centre + reach


@dataclass(frozen=True)
class Rows:
    """Properties of n rows other than their linear predictors.

    Attributes:
        family: Family of the response.
        weights: Precisions of a Gaussian response, shape (n,), or None. Weights that count copies of a row are not part
            of the distribution of a single response.
        trials: Numbers of trials, shape (n,), or None.
        zero: Logit of the probability of a structural zero, shape (n,), or None.
        seed: Seed of the responses that are drawn.
    """

    family: Family
    weights: FloatArray | None
    trials: FloatArray | None
    zero: FloatArray | None
    seed: int

    @property
    def share(self) -> FloatArray:
        """Probability that a row is not a structural zero, shape (n,) or ()."""
        return np.asarray(1.0 if self.zero is None else special.expit(-self.zero))

    def pointwise(self, parameters: FloatArray, y: FloatArray, eta: FloatArray) -> Pointwise:
        """Log-density of each row's response y at its linear predictor."""
        found = pointwise(self.family, parameters, y, eta, self.weights, self.trials)
        return found if self.zero is None else zero_inflated(found, y, self.zero, hurdle=self.family.is_truncated)

    def draw(self, parameters: FloatArray, eta: FloatArray) -> FloatArray:
        """Draw one response for each of the linear predictors (S, n)."""
        rng = np.random.default_rng([self.seed, 11])
        share = None if self.zero is None else self.share
        return draw_response(self.family, parameters, eta, rng, self.weights, self.trials, share)


class DrawnPredictive(Predictive):
    """A predictive distribution that is represented by draws of the response."""

    @property
    @abstractmethod
    def responses(self) -> FloatArray:
        """Drawn responses, shape (S, n)."""

    @property
    def spread(self) -> FloatArray:
        """Standard deviation of the drawn responses, shape (n,)."""
        return np.asarray(self.responses.std(axis=0, ddof=1))

    def crps(self, y: FloatArray) -> FloatArray:
        """Continuous ranked probability score from drawn responses, shape (n,)."""
        return sample_crps(y, self.responses)

    def interval(self, level: float) -> tuple[FloatArray, FloatArray]:
        """Prediction intervals from quantiles of drawn responses, shapes (n,)."""
        tail = 0.5 - level / 2
        low, high = np.quantile(self.responses, [tail, 1 - tail], axis=0)
        return low, high


@dataclass(frozen=True)
class GeneralisedPredictive(DrawnPredictive):
    """Predictive distribution of a generalised model, with a normal distribution of the linear predictor.

    Attributes:
        rows: Properties of the rows.
        centre: Linear predictors, shape (n,).
        sd: Their standard errors, shape (n,).
        parameters: Dispersion parameters, shape (k,).
    """

    rows: Rows
    centre: FloatArray
    sd: FloatArray
    parameters: FloatArray

    @property
    def mean(self) -> FloatArray:
        """Expected response, averaged over the error of the linear predictor, shape (n,)."""
        return np.asarray(expected_response(self.rows.family, self.centre, self.sd, self.parameters) * self.rows.share)

    def log_density(self, y: FloatArray) -> FloatArray:
        """Log predictive density by quadrature over the linear predictor, shape (n,)."""
        return predictive_log_density(lambda eta: self.rows.pointwise(self.parameters, y, eta), self.centre, self.sd)

    @cached_property
    def responses(self) -> FloatArray:
        """Drawn responses, shape (S, n)."""
        rng = np.random.default_rng([self.rows.seed, 13])
        eta = self.centre + self.sd * rng.standard_normal((SAMPLES, len(self.centre)))
        return self.rows.draw(self.parameters, eta)


@dataclass(frozen=True)
class SampledPredictive(DrawnPredictive):
    """Predictive distribution of a sampler: the mixture of the family's distributions over the posterior draws.

    Attributes:
        rows: Properties of the rows.
        eta: Linear predictors, shape (S, n).
        parameters: Dispersion parameters, shape (S, k).
    """

    rows: Rows
    eta: FloatArray
    parameters: FloatArray

    @property
    def mean(self) -> FloatArray:
        """Expected response, averaged over the draws, shape (n,)."""
        expected = mean_of(self.rows.family, self.eta, self.parameters.T[:, :, None])
        return np.asarray(expected.mean(axis=0) * self.rows.share)

    def log_density(self, y: FloatArray) -> FloatArray:
        """Log predictive density: the logarithm of the density averaged over the draws, shape (n,)."""
        values = np.empty_like(self.eta)
        for s, (eta, parameters) in enumerate(zip(self.eta, self.parameters, strict=True)):
            values[s] = self.rows.pointwise(parameters, y, eta).value
        return np.asarray(special.logsumexp(values, axis=0) - np.log(len(values)))

    @cached_property
    def responses(self) -> FloatArray:
        """Drawn responses, shape (S', n)."""
        times = -(-SAMPLES // len(self.eta))
        return self.rows.draw(np.tile(self.parameters, (times, 1)), np.tile(self.eta, (times, 1)))


@dataclass(frozen=True)
class Placed:
    """New rows of a fitted model that have no missing values, with level codes per block (-1 for levels not fitted)."""

    rows: NewRows
    codes: tuple[IntArray, ...]

    def only(self, chosen: Sequence[bool]) -> Placed:
        """Return the rows with the levels of the other blocks marked as not fitted."""
        codes = tuple(c if kept else np.full_like(c, -1) for c, kept in zip(self.codes, chosen, strict=True))
        return Placed(self.rows, codes)

    @property
    def predictor(self) -> PredictorRows:
        """The rows of the linear predictor."""
        return PredictorRows(self.rows.x, self.rows.offset, self.rows.z, self.codes)

    def columns(self, integrated: Sequence[bool]) -> list[FloatArray]:
        """Columns of each block, shapes (n, q), zero where the level was not fitted and is not integrated out."""
        blocks = zip(self.rows.z, self.codes, integrated, strict=True)
        return [z if whole or (c >= 0).all() else z * (c >= 0)[:, None] for z, c, whole in blocks]


def place(fit: FittedModel, data: Any, wanted: Sequence[bool] | None = None) -> Placed:
    """The design rows of new data and the codes of their levels; of the wanted blocks only, where these are given."""
    rows = fit.model.encoding.transform(data, with_groups=[True] * len(fit.random) if wanted is None else wanted)
    if not rows.levels:
        return place_alone(fit, rows)
    codes = tuple(own.among(b.levels) for b, own in zip(fit.random, rows.levels, strict=True))
    return Placed(rows, codes)


def place_alone(fit: FittedModel, rows: NewRows) -> Placed:
    """Design rows that were made without their group effects, as rows of levels that were not fitted."""
    n = len(rows.x)
    nobody = RowLevels(("",), np.zeros(n, dtype=np.int64))
    z = tuple(np.zeros((n, len(b.terms))) for b in fit.random)
    none = np.full(n, -1, dtype=np.int64)
    return Placed(replace(rows, z=z, levels=(nobody,) * len(fit.random)), (none,) * len(fit.random))


def predictive(
    fit: FittedModel,
    data: Any,
    *,
    weights: FloatArray | None = None,
    trials: FloatArray | None = None,
    n_draws: int = 1000,
    seed: int = 0,
) -> Predictive:
    """The predictive distribution of new rows; the effects of levels that were not fitted are integrated out.

    Args:
        fit: A result that holds its data.
        data: New rows, without missing values in the columns used.
        weights: Weights of the new rows, shape (n,); used if weights are precisions.
        trials: Numbers of trials of the new rows for a binomial family, shape (n,).
        n_draws: Number of posterior draws used of a sampled result.
        seed: Seed of the random numbers.

    Raises:
        DataError: If columns are absent, or levels of a predictor are unknown.
        UnsupportedModelError: If the dispersion has a formula.
    """
    at = place(fit, data)
    rows = rows_of(fit, at, weights if fit.family.name == "gaussian" else None, trials, seed)
    integrated = [True] * len(fit.random)
    if is_sampled(fit):
        return SampledPredictive(rows, *predictor_draws(fit, at, integrated, n_draws, seed))
    parameters = dispersion_of_new(fit, data, at.rows.complete)
    return of_normal(rows, *predictor_normal(fit, at, integrated), parameters)


def rows_of(fit: FittedModel, at: Placed, weights: FloatArray | None, trials: FloatArray | None, seed: int) -> Rows:
    """Properties of new rows other than their linear predictors; the arguments are described at :class:`Rows`."""
    zero = None if "zero" not in fit.parts or at.rows.zero is None else at.rows.zero @ fit.parts["zero"].estimate
    return Rows(fit.family, weights, trials, zero, seed)


def predictor_normal(fit: FittedModel, at: Placed, integrated: Sequence[bool]) -> tuple[FloatArray, FloatArray]:
    """Linear predictors and their error variances for an engine that does not sample, shapes (n,).

    Args:
        fit: The result.
        at: The rows; an effect with code -1 is zero in the predictor.
        integrated: For each block, whether the variance of such an effect is part of the error variance.
    """
    error = conditional_of_both_parts(fit, fit.design())
    x = np.pad(at.rows.x, ((0, 0), (0, len(error.beta_cov) - at.rows.x.shape[1])))  # no part of the zero inflation
    return predictor_mean(fit, at), np.maximum(predictor_variance(error, x, at.columns(integrated), at.codes), 0.0)


def predictor_mean(fit: FittedModel, at: Placed) -> FloatArray:
    """Linear predictors, shape (n,); an effect with code -1 is zero."""
    centre = at.rows.x @ fit.fixed.estimate + at.rows.offset
    for block, z, codes in zip(fit.random, at.rows.z, at.codes, strict=True):
        modes = np.vstack([block.modes, np.zeros((1, len(block.terms)))])
        centre = centre + np.einsum("nq,nq->n", z, modes[codes])
    return np.asarray(centre)


def predictor_draws(
    fit: FittedModel, at: Placed, integrated: Sequence[bool], n_draws: int, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Linear predictors (S, n) and dispersion parameters (S, k) under posterior draws.

    Args:
        fit: The result.
        at: The rows; an effect with code -1 is zero in the predictor.
        integrated: For each block, whether such an effect is drawn instead, once per draw and level.
        n_draws: Largest number of posterior draws to use.
        seed: Seed of the effects that are drawn.
    """
    draws = coefficient_draws(fit, n_draws, seed=seed)
    rng = np.random.default_rng([seed, 5])
    eta = at.predictor.under(draws.beta, draws.effects)
    for z, levels, codes, cov, whole in zip(
        at.rows.z, at.rows.levels, at.codes, draws.covariances, integrated, strict=True
    ):
        unknown = np.flatnonzero(codes < 0)
        if whole and len(unknown):
            eta[:, unknown] += new_effects(cov, levels, unknown, z[unknown], rng)
    return np.asarray(eta), draws.parameters


def of_normal(rows: Rows, centre: FloatArray, variance: FloatArray, parameters: FloatArray) -> Predictive:
    """The predictive distribution if the error of the linear predictor is normal; arrays have shape (n,)."""
    if rows.family.is_linear:
        residual = parameters[0] ** 2 / (1.0 if rows.weights is None else rows.weights)
        return NormalPredictive(centre, np.sqrt(variance + residual))
    return GeneralisedPredictive(rows, centre, np.sqrt(np.maximum(variance, 0.0)), parameters)


def new_effects(
    covariances: FloatArray, levels: RowLevels, rows: IntArray, z: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Effects of levels that were not fitted, drawn once per draw and level, times their columns, shape (S, n).

    Args:
        covariances: Covariance matrix of the effects in each draw, shape (S, q, q).
        levels: Levels of all rows.
        rows: Indices of the n rows whose effects are drawn.
        z: Columns of the effects in these rows, shape (n, q).
        rng: Generator of the random numbers.
    """
    names = levels.labels(rows)
    which = levels.among(names)[rows]
    roots = np.stack([matrix_root(c) for c in covariances])
    new = np.einsum("sab,slb->sla", roots, rng.standard_normal((len(covariances), len(names), z.shape[1])))
    return np.asarray(np.einsum("snq,nq->sn", new[:, which], z))
