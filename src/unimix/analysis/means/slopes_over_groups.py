"""Slopes of the expected response over all groups of a population."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.means.linear_functions import FixedInference
from unimix.analysis.prediction.over_groups import OverGroups, group_columns
from unimix.design.typed_columns import as_numbers, read_columns
from unimix.errors import DataError
from unimix.likelihood.glmm.finite_differences import differentiate
from unimix.stats.delta import Linear
from unimix.stats.predictor import expected_curvature, expected_slope

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class MovingRows:
    """m rows of predictors that move along one of them, x.

    With eta = x'beta and the variance v between groups, the expected response over the groups is f(eta, v), and its
    slope f_eta eta' + f_v v', where primes are derivatives with respect to x and f_v = f_eta,eta / 2.

    Attributes:
        over: The rows, with their columns z of the group effects.
        at: Linear predictors.
        rate: Their derivatives with respect to x.
        z_rate: Derivatives of the columns z of each random term, shapes (m, q).
    """

    over: OverGroups
    at: Linear
    rate: Linear
    z_rate: tuple[FloatArray, ...]

    def slopes(self, beta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Slopes at the estimates, shape (m,), and their derivatives with respect to the coefficients, (m, p)."""
        family, sd = self.over.family, self.over.sd
        half = np.zeros(len(sd))
        for z, rate, covariance in zip(self.over.z, self.z_rate, self.over.covariances, strict=True):
            half += np.einsum("ni,ij,nj->n", z, covariance, rate)  # half of v'
        eta, eta_rate = self.at.at(beta), self.rate.at(beta)
        once, (twice, mixed) = expected_slope(family, eta, sd), expected_curvature(family, eta, sd)
        # f_v,eta v' = (d f_eta / d s) s' with s' = v' / (2 s); where s = 0, it does not move
        sd_rate = np.divide(half, sd, out=np.zeros_like(half), where=sd > 0)
        gradient = (twice * eta_rate + mixed * sd_rate)[:, None] * self.at.x + once[:, None] * self.rate.x
        return once * eta_rate + half * twice, gradient

    def by_variances(self, beta: FloatArray) -> FloatArray:
        """Derivatives of the slopes with respect to the k variance parameters, shape (m, k)."""
        error = self.over.error
        if error is None:
            return np.zeros((len(self.at.x), 0))

        def slopes(covariances: tuple[FloatArray, ...]) -> FloatArray:
            return replace(self, over=replace(self.over, covariances=covariances)).slopes(beta)[0]

        return error.gradient(slopes, self.over.covariances)

    def slopes_of_draws(self, draws: FloatArray) -> FloatArray:
        """Slopes under posterior draws of the coefficients (S, p), shape (S, m)."""
        family, parts = self.over.family, []
        step = max(1, 200_000 // max(len(self.at.x), 1))
        for part in (slice(i, i + step) for i in range(0, len(draws), step)):
            sd = self.over.sd_of_draws(part)
            half = np.zeros_like(sd)
            for z, rate, c in zip(self.over.z, self.z_rate, self.over.covariances_of_draws(part), strict=True):
                half = half + np.einsum("ni,sij,nj->sn", z, c, rate, optimize=True)
            eta, eta_rate = self.at.at(draws[part]).T, self.rate.at(draws[part]).T
            parts.append(expected_slope(family, eta, sd) * eta_rate + half * expected_curvature(family, eta, sd)[0])
        return np.concatenate(parts)


def moving_rows(
    fit: FittedModel,
    frame: pd.DataFrame,
    name: str,
    turn: FloatArray,
    rows: tuple[Linear, Linear],
    domain: tuple[float, float],
) -> MovingRows:
    """Averages of a grid's rows that move along a predictor.

    Args:
        fit: The result.
        frame: Rows of the grid.
        name: Name of the predictor.
        turn: Weights of the grid's rows in each average, shape (m, n).
        rows: Averaged linear predictors, and their derivatives.
        domain: Smallest and largest fitted value of the predictor.

    Raises:
        DataError: If the columns of the group effects have no derivative somewhere.
    """
    at = np.asarray(as_numbers(read_columns(frame, [name])[name]), dtype=np.float64)
    over = OverGroups.of(fit, frame)

    def columns(values: FloatArray, which: IntArray) -> FloatArray | None:
        try:
            return np.hstack(group_columns(fit, frame.iloc[which].assign(**{name: values})))
        except DataError:  # the formula is not defined at a point next to the row: try smaller steps
            return None

    rate, lost = differentiate(columns, at, *domain)
    if lost.any():
        raise DataError(
            f"Slopes of {name}: the random effects' columns have no slope at {name} = {at[lost][0]:.6g}. Choose "
            "another value by at=."
        )
    ends = np.cumsum([z.shape[1] for z in over.z])[:-1]
    return MovingRows(over.averaged(turn), *rows, tuple(np.split(turn @ rate, ends, axis=1)))


def inference_of_slopes(inference: FixedInference, moving: MovingRows) -> FixedInference:
    """Inference about functions of the m slopes, which take the place of the fixed effects.

    Args:
        inference: Inference about the fixed effects.
        moving: The rows.
    """
    value, gradient = moving.slopes(inference.beta)
    endless = inference.lacks(moving.at.x) | inference.lacks(moving.rate.x)
    drawn = None if inference.posterior is None else moving.slopes_of_draws(inference.posterior)
    error = moving.over.error
    if error is not None:
        gradient = np.hstack([gradient, moving.by_variances(inference.beta)])
        inference = inference.with_variances(error.joint)
    covariance, m = gradient @ inference.covariance @ gradient.T, len(value)
    if drawn is not None:
        value, covariance = drawn.mean(axis=0), np.atleast_2d(np.cov(drawn, rowvar=False))
    return replace(
        inference,
        beta=value,
        covariance=covariance,
        df_of=lambda weights: inference.df_of(weights @ gradient),
        turn=np.eye(m),
        draws=drawn,
        unbounded=np.eye(m)[endless],
    )


__all__ = ["MovingRows", "inference_of_slopes", "moving_rows"]
