"""Tests and checks of a fitted model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import pandas as pd

from unimix.analysis.certificate.certificate import Certificate
from unimix.analysis.certificate.certify import certify
from unimix.analysis.comparisons.comparisons import Comparisons, comparisons
from unimix.analysis.comparisons.marginaleffects import to_marginaleffects
from unimix.analysis.means.emmeans import MarginalMeans, emmeans, slopes
from unimix.analysis.means.specs import read_specs
from unimix.analysis.summaries.report import report
from unimix.analysis.tests.anova import anova
from unimix.analysis.tests.hypotheses import hypotheses
from unimix.design.design import Design
from unimix.errors import DataError, OptionError
from unimix.fitted.rebuild_design import rebuild_design
from unimix.result_simulated import DrawnResult

if TYPE_CHECKING:
    from unimix.result import FitResult


DfMethod = Literal["satterthwaite", "kenward-roger", "residual", "normal"]
Weights = Literal["equal", "proportional", "outer", "cells"]


class TestedResult(DrawnResult):
    """A result with tests of its terms, its certificate and its design."""

    __test__ = False  # no test class of pytest's

    def anova(
        self,
        type: Literal["III", "II"] = "III",  # noqa: A002  R's name
        *,
        df_method: DfMethod | None = None,
        data: Any = None,
    ) -> pd.DataFrame:
        """Test every term of the fixed part; ``um.anova(a, b)`` tests models against each other.

        Type III tests each term beside all others, under sum-to-zero coding of every factor, so that the coding of the
        fit does not matter (as lmerTest's and SAS's); type II beside those that do not contain it (Fox & Weisberg 2019,
        An R Companion to Applied Regression, section 5.3.4).

        Args:
            type: III or II.
            df_method: Degrees of freedom of a linear model: satterthwaite, kenward-roger, normal; those of the fit, if
                left out.
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
        return anova(cast("FitResult", self), type, data, df_method)

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
        weights: Weights = "equal",
        kind: Literal["response", "link"] = "link",
        ci_level: float | None = None,
        df_method: DfMethod | None = None,
        data: Any = None,
    ) -> MarginalMeans:
        """Estimated marginal means, as R's emmeans: population predictions averaged over a reference grid.

        Args:
            specs: Predictors whose combinations have a mean each; or a formula, ``"~ a * b"``, ``"~ a | b"`` (by b).
            by: Predictors within whose levels contrasts are formed.
            at: Values of predictors, one or a list of them; else all levels of factors, and the means of numbers.
            weights: Of the combinations of the factors that are averaged over: equal; proportional to how often each
                occurs in the data; outer, to the product of the frequencies of their levels; cells, to the frequencies
                within each mean's own rows. Prior weights count. As R's emmeans.
            kind: link, or response: through the inverse link, with standard errors by the delta method; contrasts of
                models with a log or logit link are then ratios or odds ratios.
            ci_level: Probability of the intervals (that of the fit, if left out), for each mean by itself.
            df_method: As for :meth:`anova`.
            data: The data that were fitted; needed for a result that was loaded or unpickled only.

        Returns:
            ``.table``, and ``.contrasts()``: pairwise, against a reference, polynomial, by weights, adjusted by Tukey,
            Sidak, Holm, false discovery rate or the multivariate t distribution. Degrees of freedom per row, of the
            kind that the result has; of a posterior quantiles of the draws.

        Raises:
            OptionError: For unknown predictors or levels.
        """
        return emmeans(
            cast("FitResult", self),
            specs,
            by=by,
            at=at,
            weights=weights,
            kind=kind,
            ci_level=self.interval_level(ci_level),
            df_method=df_method,
            data=data,
        )

    def slopes(
        self,
        variable: str,
        *,
        by: str | Sequence[str] = (),
        at: Mapping[str, Any] | None = None,
        weights: Weights = "equal",
        ci_level: float | None = None,
        df_method: DfMethod | None = None,
        data: Any = None,
    ) -> MarginalMeans:
        """Slopes of the linear predictor by a numeric variable, as ``emtrends`` of R's emmeans.

        Args:
            variable: The numeric predictor.
            by: Predictors whose combinations have a slope each; ``.contrasts()`` compares them.
            at: As for :meth:`emmeans`; the slope of a curve is that at the variable's mean, or at this value.
            weights: As for :meth:`emmeans`.
            ci_level: Probability of the intervals (that of the fit, if left out).
            df_method: As for :meth:`anova`.
            data: As for :meth:`emmeans`.

        Raises:
            OptionError: For unknown predictors, or a factor.
        """
        return slopes(
            cast("FitResult", self),
            variable,
            by=by,
            at=at,
            weights=weights,
            ci_level=self.interval_level(ci_level),
            df_method=df_method,
            data=data,
        )

    def contrasts(
        self,
        specs: str | Sequence[str],
        method: str | Mapping[str, Sequence[float]] = "pairwise",
        *,
        by: str | Sequence[str] = (),
        at: Mapping[str, Any] | None = None,
        weights: Weights = "equal",
        kind: Literal["response", "link"] = "link",
        adjust: str | None = None,
        reference: Any = None,
        ci_level: float | None = None,
        df_method: DfMethod | None = None,
        data: Any = None,
    ) -> pd.DataFrame:
        """Contrasts of marginal means: ``fit.emmeans(specs, ...).contrasts(method, ...)`` in one call.

        Args:
            specs: As for :meth:`emmeans`; a formula may name the method, ``"pairwise ~ a | b"``.
            method: pairwise, reference, effects, consecutive, poly, or weights by name.
            by: As for :meth:`emmeans`.
            at: As for :meth:`emmeans`.
            weights: As for :meth:`emmeans`.
            kind: link, or response: ratios and odds ratios of models with a log or logit link.
            adjust: none, tukey, sidak, bonferroni, holm, fdr, mvt; tukey for pairwise and none for others, if left out.
            reference: Level of ``method="reference"``.
            ci_level: Probability of the intervals (that of the fit, if left out).
            df_method: As for :meth:`anova`.
            data: As for :meth:`emmeans`.

        Returns:
            As :meth:`unimix.analysis.means.emmeans.MarginalMeans.contrasts`.

        Raises:
            OptionError: For unknown predictors, levels or methods.
        """
        wanted = read_specs(specs, by)
        if wanted.method and method not in ("pairwise", wanted.method):
            raise OptionError(f"specs={specs!r} and method={method!r} are two methods: name one.")
        means = self.emmeans(
            wanted.names,
            by=wanted.by,
            at=at,
            weights=weights,
            kind=kind,
            ci_level=ci_level,
            df_method=df_method,
            data=data,
        )
        method = wanted.method or method
        return means.contrasts(method, adjust=adjust, reference=reference)

    def comparisons(
        self,
        variables: str | Sequence[str] | Mapping[str, Any] | None = None,
        *,
        newdata: Any = None,
        by: str | Sequence[str] = (),
        comparison: Literal["difference", "ratio", "log_ratio", "odds_ratio", "log_odds_ratio", "dydx"] = "difference",
        average: bool = True,
        cross: bool = False,
        weights: Any = None,
        kind: Literal["response", "link"] = "response",
        ci_level: float | None = None,
        data: Any = None,
    ) -> Comparisons:
        """How the expected response changes when a predictor changes, as the comparisons of R's marginaleffects.

        Every row is predicted twice, before and after the change, with all its other predictors and its offset as they
        are; the two predictions are averaged over the rows and then compared, so that a ratio is the ratio of the
        averages. Predictions are of the population: of a group whose effects are zero, which in models with a link is
        not the average over groups.

        Args:
            variables: Predictors; None for all. ``{"x": what}`` says what changes. Of a number: a step, from x to
                x + step (1 if left out); "sd" or "2sd" centred at the row's value; "iqr" (from the first to the third
                quartile of the rows fitted); "minmax"; or two values, (10, 20). Of a factor: "reference" (each level
                against the first, if left out), "pairwise", "sequential", or two levels, ("a", "b"), for b against a.
            newdata: Rows to predict, in any form that ``fit`` takes; None for those that were fitted.
            by: Columns within whose combinations rows are averaged; grouping factors too.
            comparison: difference; ratio; log_ratio; odds_ratio or log_odds_ratio, of probabilities; dydx, the slope of
                the expected response by a number.
            average: Average over the rows, or give one comparison per row.
            cross: Change all predictors together instead of one at a time.
            weights: Of the rows in the averages: None for equal ones, "model" for the fit's own weights or trials, or
                one number per row.
            kind: response, or link for the linear predictor.
            ci_level: Probability of the intervals (that of the fit, if left out).
            data: The data that were fitted; needed for a result that was loaded or unpickled only.

        Returns:
            ``.table``: variable, contrast, groups, estimate, std_error, df, statistic, p_value, lower, upper, and
            ``.hypotheses()`` between its rows. Standard errors by the delta method from the covariance matrix of the
            fixed effects (the error of variances is not in them); degrees of freedom of the gradient, of the kind that
            the result has. Ratios have their tests and intervals on the scale of the logarithm. Of a posterior
            means, standard deviations and quantiles of the draws.

        Raises:
            OptionError: For predictors, levels or options that do not exist; all of them at once.
            DataError: For rows that cannot be predicted, or ratios of responses that are not positive.
            UnsupportedModelError: For the response of a model with zero inflation.
        """
        return comparisons(
            cast("FitResult", self),
            variables,
            newdata=newdata,
            by=by,
            comparison=comparison,
            average=average,
            cross=cross,
            weights=weights,
            kind=kind,
            ci_level=self.interval_level(ci_level),
            data=data,
        )

    def hypotheses(
        self,
        tests: str | Sequence[str],
        *,
        joint: bool = False,
        alternative: Literal["two-sided", "greater", "less"] = "two-sided",
        equivalence: tuple[float, float] | None = None,
        ci_level: float | None = None,
        data: Any = None,
    ) -> pd.DataFrame:
        """Test hypotheses about the fixed effects, written as texts.

        ``"Days = 0"``, ``"2 * a + b = 1"``, ``"a = b, c = 0"``, ``"exp(a) = 2"``, ``"a / b = 1"``; ``"a"``
        alone is against 0.
        Coefficients go by the names of ``fit.fixed_effects``, between backticks where the name could be misread, or by
        their positions there: b0 is the first.

        Args:
            tests: One text or several; each holds one hypothesis or several with commas between them.
            joint: Test all of them together: F with the denominator degrees of freedom that the result has, else
                Wald's chi-squared; of nonlinear ones by their gradients.
            alternative: two-sided, or the side of left minus right: greater or less. Intervals are then open there.
            equivalence: Bounds of left minus right: two one-sided tests that it lies between them (Schuirmann 1987,
                J. Pharmacokinet. Biopharm. 15:657-680).
            ci_level: Probability of the intervals (that of the fit, if left out).
            data: The data that were fitted; needed for a result that was loaded or unpickled only.

        Returns:
            Index hypothesis; estimate (left minus right), std_error, df, statistic, p_value, lower, upper, and
            p_noninferiority, p_nonsuperiority, p_equivalence with ``equivalence``. Nonlinear ones by the delta method,
            with degrees of freedom of the gradient. Of a posterior estimate, std_error, lower, upper from the draws,
            probability (of the side; of the likelier one when two-sided) and probability_equivalence. With ``joint``
            one row: F, num_df, den_df or chisq, df; p_value.

        Raises:
            OptionError: For hypotheses that cannot be read and unknown names; all of them at once.
            UnimixError: For a joint test of a posterior.
        """
        return hypotheses(
            cast("FitResult", self),
            tests,
            joint=joint,
            alternative=alternative,
            equivalence=equivalence,
            ci_level=self.interval_level(ci_level),
            data=data,
        )

    def to_marginaleffects(self, data: Any = None) -> Any:
        """The result as a model of the Python package marginaleffects, for its predictions, slopes, plots.

        Args:
            data: The data that were fitted; needed for a result that was loaded or unpickled only.

        Returns:
            A model for ``marginaleffects.avg_predictions(model)`` and the like. Predictions are of the population
            (group effects zero), standard errors by the delta method from the fixed effects, tests by z (t of linear
            models without group effects); a posterior goes by its mean and covariance matrix. :meth:`comparisons` has
            degrees of freedom per row, and draws.

        Raises:
            EngineNotInstalledError: If marginaleffects is missing.
            EngineBrokenError: If it, or polars, is of a version with which it does not run.
            UnsupportedModelError: With zero inflation.
        """
        return to_marginaleffects(cast("FitResult", self), data)

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
                "A loaded result holds no data: give it the frame that was fitted, as data=frame (fitted=frame in "
                "predict), or fit it again: um.refit(fit, frame)."
            )
        return rebuild_design(cast("FitResult", self), data)
