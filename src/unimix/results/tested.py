"""Tests of a fitted model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

import pandas as pd

from unimix.analysis.anova import anova
from unimix.results.simulated import DrawnResult

if TYPE_CHECKING:
    from unimix.results.result import FitResult


class TestedResult(DrawnResult):
    """A result with tests of its terms."""

    __test__ = False  # no test class of pytest's

    def anova(self, type: Literal["III", "II"] = "III", *, data: Any = None) -> pd.DataFrame:  # noqa: A002  R's name
        """Test every term of the fixed part; ``um.anova(a, b)`` tests models against each other.

        Type III tests each term beside all others, under sum-to-zero coding of every factor, so that the coding of the
        fit does not matter (as lmerTest's and SAS's); type II beside those that do not contain it (Fox & Weisberg 2019,
        An R Companion to Applied Regression, section 5.3.4).

        Args:
            type: III or II.
            data: The data that were fitted; needed for a result that was loaded or unpickled only.

        Returns:
            Index term; of a linear model sum_sq, mean_sq, num_df, den_df, F, p_value, with denominator degrees of
            freedom of the kind that the result has (Satterthwaite's after Fai & Cornelius, Kenward and Roger's,
            residual); else Wald's chisq, df, p_value.

        Raises:
            OptionError: For another type.
            DataError: If a term is aliased with others, so that there is no such test.
            UnimixError: For a posterior.
        """
        return anova(cast("FitResult", self), type, data)
