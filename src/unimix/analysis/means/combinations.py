"""Weighted sums of means or slopes: whether the data determine them, their values and their joint tests."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.means.contrasts import WITHOUT_INTERVALS
from unimix.analysis.means.linear_functions import FixedInference, Functions
from unimix.analysis.means.reference_grid import PopulationRows
from unimix.analysis.means.scales import Scale
from unimix.errors import UnimixError
from unimix.likelihood.lmm.batched_linalg import null_space

CONSTANT = (
    "Contrasts with a standard error of 0 do not depend on the coefficients: the model has no term for them, and there "
    "is nothing to test."
)
"""Note on contrasts that are the same whatever the data, such as interactions of a model without them."""
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Combinations:
    """Weighted sums of m means, on the scale on which they are compared.

    Attributes:
        weights: The means as linear functions of the fixed effects, shape (m, p).
        offset: Constants added to the means, shape (m,).
        scale: The scale of the response.
        is_turned: Whether the means are turned to that scale.
        lost: Whether a mean cannot be estimated, shape (m,).
        empty: Whether a mean has no weights at all, shape (m,).
        whole: The means as functions of all columns, those left out included, shape (m, k).
        rows: Rows of the columns, which tell what the estimates determine.
        inference: The fixed effects, prepared for inference.
        scale_name: Name of the scale in words.
        ci_level: Probability of the intervals, between 0 and 1.
        warned: Warnings for readers of the means.
    """

    weights: FloatArray
    offset: FloatArray
    scale: Scale
    is_turned: bool
    lost: BoolArray
    empty: BoolArray
    whole: FloatArray
    rows: PopulationRows
    inference: FixedInference
    scale_name: str
    ci_level: float
    warned: tuple[str, ...]

    @property
    def are_ratios(self) -> bool:
        """Whether exp of a combination is a ratio, or an odds ratio."""
        return self.is_turned and bool(self.scale.ratio)

    def can_be_estimated(self, turn: FloatArray) -> BoolArray:
        """Whether the estimates determine combinations (k, m) of the means, even if they do not determine the means."""
        used = np.abs(turn) > 0
        if self.is_turned and not self.are_ratios:  # differences of responses need the means themselves
            return np.asarray(~(used @ self.lost))
        return np.asarray(~(used @ self.empty) & ~self.rows.lacks(turn @ self.whole))

    def estimable_part(self, turn: FloatArray) -> FloatArray:
        """Combinations that span all that the estimates determine of the combinations (k, m), shape (r, m)."""
        kept = self.can_be_estimated(turn)
        if kept.all() or (self.is_turned and not self.are_ratios):
            return turn[kept]
        lacking = np.hstack([self.rows.outside(turn @ self.whole), turn[:, self.empty]])
        lacking[kept] = 0.0
        return np.asarray(null_space(lacking.T) @ turn)

    def are_constant(self, turn: FloatArray) -> BoolArray:
        """Whether combinations (k, m) do not depend on the coefficients, as interactions that the model lacks."""
        if self.is_turned and not self.are_ratios:
            return np.zeros(len(turn), dtype=bool)
        return np.asarray(~self._linear(turn).any(axis=1))

    def _linear(self, turn: FloatArray) -> FloatArray:
        """Combinations (k, m) as linear functions of the fixed effects, shape (k, p), zero where terms cancel."""
        rows = turn @ self.weights
        return np.where(np.abs(rows) > 1e-12 * (np.abs(turn) @ np.abs(self.weights)), rows, 0.0)

    def differences(self, turn: FloatArray) -> tuple[Functions, FloatArray]:
        """Combinations (k, m) of the means as functions of the fixed effects, and the constants added to them (k,)."""
        if not self.is_turned or self.scale.ratio:
            return self.inference.functions(self._linear(turn)), turn @ self.offset
        used = np.flatnonzero((turn != 0).any(axis=0))
        turn, weights, offset = turn[:, used], self.weights[used], self.offset[used]
        eta, scale = weights @ self.inference.beta + offset, self.scale.take(used)
        gradient = turn @ (scale.slope(eta)[:, None] * weights)
        draws = self.inference.posterior
        drawn = None if draws is None else scale.of_draws(draws @ weights.T + offset) @ turn.T
        estimate = turn @ scale.mean(eta) if drawn is None else drawn.mean(axis=0)
        covariance = gradient @ self.inference.covariance @ gradient.T
        if drawn is not None:
            covariance = np.atleast_2d(np.cov(drawn, rowvar=False))
        # The response tends to a limit there, and its derivative to zero: the predictors decide, not the gradient.
        endless = (np.abs(turn) @ self.inference.lacks(weights)) > 0
        functions = Functions(gradient, estimate, covariance, self.inference.df_of(gradient), drawn, endless)
        return functions, np.zeros(len(turn))

    def joint_row(self, turn: FloatArray, labels: dict[str, object]) -> pd.DataFrame:
        """The test that all combinations (k, m) are zero, one row that begins with labels.

        Raises:
            UnimixError: If the fit is a posterior.
        """
        inference = self.inference
        if inference.posterior is not None:
            raise UnimixError("A posterior has no joint test: leave joint=True out.")
        functions, shift = self.differences(turn)
        if self.is_turned or shift.any():
            # L beta + constant = 0, linearised: a shift of beta that gives these values
            turned = inference.covariance @ functions.weights.T
            values = functions.estimate + shift
            moved = turned @ np.linalg.lstsq(functions.weights @ turned, values, rcond=1e-9)[0]
            inference = replace(inference, beta=moved)
        statistic, numerator, denominator, p_value = inference.joint_test(functions.weights)
        columns = {"F": statistic, "num_df": numerator, "den_df": denominator, "p_value": p_value}
        if np.isinf(denominator):
            columns = {"chisq": statistic * numerator, "df": numerator, "p_value": p_value}
        return pd.DataFrame([labels | columns])

    def notes_of(self, adjust: str, them: str) -> list[str]:
        """Notes on contrasts: their scale, intervals and adjustment, for a family of contrasts in words."""
        if self.are_ratios:
            what = f"{self.scale.ratio.replace('_', ' ').capitalize()}s, tested on the scale of the logarithm"
        else:
            what = f"Differences on the scale of the {self.scale_name}"
        several = "" if adjust == "none" else f"; p values and intervals adjusted for {them} ({adjust})"
        if adjust in WITHOUT_INTERVALS:
            several = f"; p values adjusted for {them} ({adjust}), intervals by Bonferroni"
        posterior = self.inference.posterior is not None
        df = "" if posterior else f", df {self.inference.method}"
        level = f"{100 * self.ci_level:g}% intervals"
        return [f"{what}; {level}{df}{'' if posterior else several}.", *self.warned]


__all__ = ["CONSTANT", "Combinations"]
