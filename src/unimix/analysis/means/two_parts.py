"""Expected responses of models with a part for zeros, (1 - pi) m, and their derivatives in both parts' coefficients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import special

from unimix.analysis.means.linear_functions import FixedInference
from unimix.distributions.family import Family
from unimix.distributions.random_responses import mean_of, mean_slope
from unimix.errors import UnsupportedModelError
from unimix.stats.delta import Linear

if TYPE_CHECKING:
    from unimix.analysis.means.averaging import Average
    from unimix.analysis.means.reference_grid import Grid, PopulationRows
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TwoParts:
    """The expected response (1 - pi) m of a model with zero inflation, or of a hurdle model.

    Attributes:
        family: Family of the counts.
        parameters: Dispersion parameters, shape (k,), which are taken as known.
        beta: Coefficients of the mean m, shape (p,).
        gamma: Coefficients of the logit of pi, shape (r,).
    """

    family: Family
    parameters: FloatArray
    beta: FloatArray
    gamma: FloatArray

    @classmethod
    def of(cls, fit: FittedModel) -> TwoParts:
        """The two parts of a result.

        Raises:
            UnsupportedModelError: If the result does not hold the covariance of the two parts, or the expected count
                depends on a dispersion that has a formula.
        """
        part = fit.parts["zero"]
        if not np.asarray(part.cross_covariance).size:
            raise UnsupportedModelError(
                "With zero inflation the expected response depends on two parts, and the result does not hold their "
                "joint covariance matrix, which standard errors need: use kind='link' for the linear predictor of the "
                "count, or fit.predict(new, level='population') for estimates without standard errors."
            )
        if "dispersion" in fit.parts and fit.family.is_truncated:
            raise UnsupportedModelError(
                "The expected count of a family without zeros depends on the dispersion, which has a formula here: use "
                "kind='link', or fit without dispformula=."
            )
        parameters = np.empty(0) if "dispersion" in fit.parts else fit.dispersion_parameters
        return cls(fit.family, parameters, np.asarray(fit.fixed.estimate), np.asarray(part.estimate))

    def mean(self, rows: Linear, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Expected responses, shape (n,), and their derivatives in (beta, gamma), shape (n, p + r).

        With s = 1 - pi = 1 / (1 + exp(z'gamma)), d(s m) = s m'(eta) x'd beta - s (1 - s) m z'd gamma.

        Args:
            rows: Columns of the mean and their offset.
            z: Columns of the zero inflation, shape (n, r).
        """
        eta, share = rows.at(self.beta), special.expit(-(z @ self.gamma))
        mean = mean_of(self.family, eta, self.parameters)
        by_eta = share * mean_slope(self.family, eta, self.parameters)
        by_zeta = -share * (1.0 - share) * mean
        return share * mean, np.hstack([by_eta[:, None] * rows.x, by_zeta[:, None] * z])


def joint_inference(fit: FittedModel, of_mean: FixedInference) -> FixedInference:
    """Inference about functions of the coefficients (beta, gamma) of both parts, with z tests.

    Args:
        fit: A result with a part for zeros, which holds the covariance of the two parts.
        of_mean: Inference about the coefficients beta of the mean.
    """
    part, p = fit.parts["zero"], len(of_mean.beta)
    cross, r = np.asarray(part.cross_covariance), len(part.terms)
    covariance = np.block([[of_mean.covariance, cross], [cross.T, np.asarray(part.covariance)]])
    mine, theirs = np.asarray(of_mean.unbounded).reshape(-1, p), np.asarray(part.unbounded).reshape(-1, r)
    unbounded = np.vstack(
        [np.hstack([mine, np.zeros((len(mine), r))]), np.hstack([np.zeros((len(theirs), p)), theirs])]
    )
    beta = np.concatenate([of_mean.beta, np.asarray(part.estimate)])
    return replace(of_mean, beta=beta, covariance=covariance, turn=np.eye(p + r), unbounded=unbounded)


@dataclass(frozen=True)
class LogMeans:
    """Logarithms of m averages of expected responses, which take the place of the fixed effects in an inference.

    Attributes:
        inference: Inference about functions of the m logarithms.
        lost: Whether an average cannot be estimated, shape (m,).
    """

    inference: FixedInference
    lost: npt.NDArray[np.bool_]


def log_means(
    fit: FittedModel, of_mean: FixedInference, grid: Grid, every: PopulationRows, averages: Average
) -> LogMeans:
    """Average the expected responses of a reference grid, as R's emmeans does for ``component = "response"``.

    The covariance matrix of the logarithms follows from that of both parts' coefficients by the delta method.

    Args:
        fit: A result with a part for zeros.
        of_mean: Inference about the coefficients of the mean.
        grid: The reference grid.
        every: Columns of the mean and of the zero inflation at rows of predictors.
        averages: Averages over the rows of the grid.
    """
    two, joint = TwoParts.of(fit), joint_inference(fit, of_mean)
    whole, z = every.full(grid.frame, "The grid").x, every.zero(grid.frame)
    x = whole if every.span is None else whole[:, every.kept]
    mean, gradient = two.mean(Linear(x, grid.offset), z)
    lost = averages.empty | ((averages.turn != 0) @ every.lacks(whole) > 0)
    value = np.where(lost, 1.0, averages.turn @ mean)
    by_both = (averages.turn @ gradient) / value[:, None]  # d log v = dv / v
    endless = ((averages.turn != 0) @ joint.lacks(np.hstack([x, z]))) > 0
    m = len(value)
    inference = replace(
        joint,
        beta=np.log(value),
        covariance=by_both @ joint.covariance @ by_both.T,
        turn=np.eye(m),
        unbounded=np.eye(m)[endless],
    )
    return LogMeans(inference, lost)


__all__ = ["LogMeans", "TwoParts", "joint_inference", "log_means"]
