"""Functions of the fixed effects with their errors, degrees of freedom, tests and draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from unimix.analysis.means.equivalence import equivalence_columns
from unimix.fitted.tables import wald_table
from unimix.stats.direction import direction
from unimix.stats.inference import tail_probability

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Functions:
    """m linear functions L beta of the fixed effects.

    Attributes:
        weights: Matrix L, shape (m, p).
        estimate: Estimates L beta, shape (m,).
        covariance: Covariance matrix L V L', shape (m, m).
        df: Degrees of freedom, shape (m,); infinite for z tests.
        draws: L beta for every posterior draw, shape (S, m); None if there are no draws.
        unbounded: Whether the functions have no finite estimate (separation), shape (m,): ``covariance`` does not hold
            for these. None if all have.
    """

    weights: FloatArray
    estimate: FloatArray
    covariance: FloatArray
    df: FloatArray
    draws: FloatArray | None
    unbounded: npt.NDArray[np.bool_] | None = None

    @property
    def std_error(self) -> FloatArray:
        """Standard errors (posterior SDs), shape (m,); infinite for functions without a finite estimate."""
        errors = np.sqrt(np.maximum(np.diag(self.covariance), 0.0))
        return errors if self.unbounded is None else np.where(self.unbounded, np.inf, errors)

    def table(self, level: float, index: pd.Index[Any] | None = None) -> pd.DataFrame:
        """Columns estimate, std_error, df, statistic, p_value, lower, upper; a posterior has no tests.

        Args:
            level: Probability of the intervals, which are t (or z) intervals, or equal-tailed quantiles of the draws.
            index: Index of the rows; None numbers them.
        """
        if self.draws is not None:
            tail = 0.5 - level / 2
            lower, upper = np.quantile(self.draws, [tail, 1 - tail], axis=0)
            columns = {"estimate": self.estimate, "std_error": self.std_error, "lower": lower, "upper": upper}
            return pd.DataFrame(columns, index=index)
        return wald_table(self.estimate, self.std_error, self.df, level, index)


@dataclass(frozen=True)
class SmoothFunctions:
    """m smooth functions of the fixed effects: by the delta method, or by posterior draws.

    Attributes:
        estimate: Values of the functions at the estimates, shape (m,).
        gradient: Derivatives with respect to the fixed effects, shape (m, p).
        std_error: Standard errors (posterior SDs), shape (m,).
        df: Degrees of freedom of the gradients, shape (m,); infinite for z tests.
        draws: Values of the functions for every posterior draw, shape (S, m); None if there are no draws.
    """

    estimate: FloatArray
    gradient: FloatArray
    std_error: FloatArray
    df: FloatArray
    draws: FloatArray | None

    def table(self, level: float, alternative: str = "two-sided") -> pd.DataFrame:
        """Columns estimate, std_error, df, statistic, p_value, lower, upper; p_direction of a posterior without tests.

        Args:
            level: Probability of the intervals; with a one-sided alternative one of their ends is infinite.
            alternative: two-sided, greater or less.
        """
        upper = 0.5 + level / 2 if alternative == "two-sided" else level
        if self.draws is not None:
            ends = np.quantile(self.draws, [1 - upper, upper], axis=0)
            columns = {"estimate": self.estimate, "std_error": self.std_error, "lower": ends[0], "upper": ends[1]}
            columns |= {"p_direction": direction(self.draws)} if alternative == "two-sided" else {}
        else:
            with np.errstate(divide="ignore", invalid="ignore"):
                statistic = np.where(np.isinf(self.std_error), np.nan, self.estimate / self.std_error)
            reach = np.where(np.isfinite(self.df), special.stdtrit(self.df, upper), special.ndtri(upper))
            columns = {
                "estimate": self.estimate,
                "std_error": self.std_error,
                "df": self.df,
                "statistic": statistic,
                "p_value": tail_probability(statistic, self.df, alternative),
                "lower": self.estimate - reach * self.std_error,
                "upper": self.estimate + reach * self.std_error,
            }
        frame = pd.DataFrame(columns)
        if alternative != "two-sided":
            frame["upper" if alternative == "greater" else "lower"] = np.inf if alternative == "greater" else -np.inf
        return frame

    def equivalence(self, bounds: tuple[float, float]) -> pd.DataFrame:
        """Columns of equivalence tests, or the posterior probability of the range."""
        return equivalence_columns(self.estimate, self.std_error, self.df, self.draws, bounds)


__all__ = ["Functions", "SmoothFunctions"]
