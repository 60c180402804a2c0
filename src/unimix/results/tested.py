"""Tests and checks of a fitted model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import pandas as pd

from unimix.analysis.anova import anova
from unimix.analysis.means import MarginalMeans, emmeans, slopes
from unimix.analysis.report import report
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

    def report(self, style: Literal["apa"] = "apa") -> str:
        """One paragraph for a paper, in APA style: what was fitted and how, every estimate, engine and versions.

        Fixed effects have 95 % intervals (of the level that was fitted), t or z and p; of a posterior the mean, the
        posterior SD and a credible interval, with priors, R-hat and effective sample sizes. A fit that did not converge
        or is singular is called so.

        Args:
            style: apa (Publication Manual of the American Psychological Association, 7th edition).

        Raises:
            OptionError: For another style.
        """
        return report(cast("FitResult", self), style)

    def emmeans(
        self,
        specs: str | Sequence[str],
        *,
        by: str | Sequence[str] = (),
        at: Mapping[str, Any] | None = None,
        weights: Literal["equal", "proportional"] = "equal",
        kind: Literal["response", "link"] = "link",
        ci_level: float = 0.95,
        data: Any = None,
    ) -> MarginalMeans:
        """Estimated marginal means, as R's emmeans: population predictions averaged over a reference grid.

        Args:
            specs: Predictors whose combinations have a mean each.
            by: Predictors within whose levels contrasts are formed.
            at: Values of predictors, one or a list of them; else all levels of factors, and the means of numbers.
            weights: Of the factors that are averaged over: equal, or proportional to their frequencies.
            kind: link, or response: through the inverse link, with standard errors by the delta method; contrasts of
                models with a log or logit link are then ratios or odds ratios.
            ci_level: Probability of the intervals, for each mean by itself.
            data: The data that were fitted; needed for a result that was loaded or unpickled only.

        Returns:
            ``.table``, and ``.contrasts()``: pairwise, against a reference, polynomial, by weights, adjusted by Tukey,
            Sidak, Holm, false discovery rate or the multivariate t distribution. Degrees of freedom per row, of the
            kind that the result has; of a posterior quantiles of the draws.

        Raises:
            OptionError: For unknown predictors or levels.
        """
        return emmeans(
            cast("FitResult", self), specs, by=by, at=at, weights=weights, kind=kind, ci_level=ci_level, data=data
        )

    def slopes(
        self,
        variable: str,
        *,
        by: str | Sequence[str] = (),
        at: Mapping[str, Any] | None = None,
        weights: Literal["equal", "proportional"] = "equal",
        ci_level: float = 0.95,
        data: Any = None,
    ) -> MarginalMeans:
        """Slopes of the linear predictor by a numeric variable, as ``emtrends`` of R's emmeans.

        Args:
            variable: The numeric predictor.
            by: Predictors whose combinations have a slope each; ``.contrasts()`` compares them.
            at: As for :meth:`emmeans`; the slope of a curve is that at the variable's mean, or at this value.
            weights: As for :meth:`emmeans`.
            ci_level: Probability of the intervals.
            data: As for :meth:`emmeans`.

        Raises:
            OptionError: For unknown predictors, or a factor.
        """
        return slopes(cast("FitResult", self), variable, by=by, at=at, weights=weights, ci_level=ci_level, data=data)

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
