"""Tests and checks of a fitted model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

import pandas as pd

from unimix.analysis.anova import anova
from unimix.errors import DataError
from unimix.model.design import Design
from unimix.results.certificate import Certificate
from unimix.results.certify import certify
from unimix.results.rebuild import rebuild_design
from unimix.results.simulated import DrawnResult

if TYPE_CHECKING:
    from unimix.results.result import FitResult


class TestedResult(DrawnResult):
    """A result with tests of its terms, its certificate and its design."""

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

    def certificate(self, data: Any = None) -> Certificate:
        """Check the result against unimix's own criterion: same model, optimum, standard errors, degrees of freedom.

        The log-likelihood is evaluated at the engine's estimates and climbed from there and from every likely start
        (linear mixed models by penalised least squares, generalised ones by Laplace's approximation or quadrature).

        Args:
            data: The data that were fitted; needed for a result that was loaded or unpickled only.

        Returns:
            The verdict (certified, certified at the boundary, wrong inference, not at the optimum, a different model,
            not checkable)
            with a sentence, and the checks it rests on.

        Raises:
            DataError: If the data are needed and absent, or not those that were fitted.
        """
        return certify([cast("FitResult", self)], self.design(data))[0]

    @property
    def holds_design(self) -> bool:
        """Whether the fitted arrays are at hand: not so in a result that was loaded or unpickled."""
        return self._design is not None

    def design(self, data: Any = None) -> Design:
        """The arrays that were fitted: y, X, blocks of Z with their levels.

        Args:
            data: The data that were fitted; needed for a result that was loaded or unpickled only.

        Raises:
            DataError: If the data are needed and absent, or not those that were fitted.
        """
        if self._design is not None and data is None:
            return self._design
        if data is None:
            raise DataError(
                "A loaded result holds no data: give it the frame that was fitted, data=frame (fit.certificate(frame))."
            )
        return rebuild_design(cast("FitResult", self), data)
