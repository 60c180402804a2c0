"""Summaries of a fitted model: what it explains, how large its effects are, and whether it can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from unimix.analysis.checks.check import Checks, check
from unimix.analysis.checks.collinearity import Collinearity, collinearity
from unimix.analysis.checks.dispersion import Overdispersion, ZeroInflation, overdispersion, zero_inflation
from unimix.analysis.checks.influence import Influence, influence, influence_by_refits
from unimix.analysis.summaries.effect_sizes import EffectSizes, effect_sizes
from unimix.analysis.summaries.r2 import IntraclassCorrelation, RSquared, icc, r2
from unimix.result_tested import TestedResult

if TYPE_CHECKING:
    from unimix.result import FitResult


class SummarisedResult(TestedResult):
    """A tested result with summaries of the whole model and checks of it."""

    __test__ = False  # no test class of pytest's

    def r2(self, data: Any = None, *, ci_level: float | None = None) -> RSquared:
        """How much of the variance the model explains.

        Mixed models: marginal (fixed effects) and conditional (fixed and group effects) R2 of Nakagawa & Schielzeth
        (2013), Methods Ecol. Evol. 4:133-142, for random slopes as Johnson (2014), 5:944-946, with the components. The
        variance of a row is sigma^2, or that of its distribution on the scale of the link (Nakagawa, Johnson &
        Schielzeth 2017, J. R. Soc. Interface 14:20170213); for counts at the mean of the model without predictors,
        which is fitted for it. Observation-level effects of generalised models count with it.
        Linear models without groups: R2 and adjusted R2. Generalised ones: Tjur's (2009, Am. Stat. 63:366),
        Nagelkerke's (1991, Biometrika 78:691), McFadden's (1974) and Cox and Snell's (1989), where they are defined.
        Posteriors: Bayes R2 of Gelman, Goodrich, Gabry & Vehtari (2019), Am. Stat. 73:307-309, and Nakagawa's, of every
        draw. In its marginal version what the group effects add to expected responses counts as residual.

        Args:
            data: The data that were fitted; needed for a result that was loaded or unpickled only.
            ci_level: Probability of the intervals of a posterior (that of the fit, if left out).

        Returns:
            ``.marginal``, ``.conditional``, ``.table`` and ``.components``.

        Raises:
            UnsupportedModelError: Where R2 has no accepted definition.
        """
        return r2(cast("FitResult", self), data, self.interval_level(ci_level))

    def icc(self, data: Any = None, *, ci_level: float | None = None) -> IntraclassCorrelation:
        """Intraclass correlation: the share of the grouping factors in the variance, adjusted for fixed effects or not.

        From the components of :meth:`r2`: R / (R + E) and R / (F + R + E) (Nakagawa & Schielzeth 2013).

        Args:
            data: As for :meth:`r2`.
            ci_level: Probability of the intervals of a posterior (that of the fit, if left out).

        Returns:
            ``.adjusted``, ``.unadjusted``, ``.by_group`` and ``.table``.

        Raises:
            DataError: Without group effects.
            UnsupportedModelError: As for :meth:`r2`.
        """
        return icc(cast("FitResult", self), data, self.interval_level(ci_level))

    def influence(
        self,
        by: str | None = None,
        *,
        refit: bool = False,
        n_jobs: int | None = None,
        progress: bool | None = None,
        data: Any = None,
    ) -> Influence:
        """What leaving out each row, or each level of a grouping factor, does to the fixed effects.

        Generalised least squares without the rows, at the estimated covariance parameters, by downdating instead of
        refits (Haslett 1999, J. R. Stat. Soc. B 61:603-609; Demidenko & Stukel 2005, Stat. Med. 24:893-909). Of a
        linear model without groups the residual variance is estimated again, as in R's ``influence.measures``.
        Generalised models are linearised at the estimates (one-step approximation, Pregibon 1981, Ann. Stat.
        9:705-724).

        Args:
            by: A grouping factor, whose levels are left out one by one; None leaves out single rows.
            refit: Fit the model again without each by its engine, covariance parameters and all (lme4's
                ``influence``), instead of downdating at the estimated ones.
            n_jobs: Processes for refits, by joblib; -1 for all cores. None: this process, or what a surrounding
                ``joblib.parallel_config`` says.
            progress: Whether refits show a bar; None shows it on terminals.
            data: The data that were fitted; needed for a result that was loaded or unpickled only.

        Returns:
            ``.table`` with Cook's distance (change' V^-1 change / p), covratio and for rows leverage and lme4's
            conditional Cook's distance; ``.dfbetas`` (changes in standard errors), ``.estimates`` without the rows; of
            refits ``.parameters``, with standard deviations and correlations.

        Raises:
            DataError: For an unknown grouping factor.
            UnsupportedModelError: With zero inflation or a formula of the dispersion.
            UnimixError: For a posterior.
        """
        fit = cast("FitResult", self)
        if refit:
            return influence_by_refits(fit, self._refitter, by, data, n_jobs=n_jobs, progress=progress)
        return influence(fit, by, data)

    def effect_sizes(
        self,
        kind: Literal["standardized", "pseudo", "partial", "d"] = "standardized",
        *,
        type: Literal["III", "II"] = "III",  # noqa: A002  as of anova
        ci_level: float | None = None,
        data: Any = None,
    ) -> EffectSizes:
        """Effect sizes of coefficients, of terms, or of two-level factors.

        Args:
            kind: standardized: coefficients times the standard deviation of their column, over that of the response
                (of generalised models not over it), as ``effectsize::standardize_parameters(method="basic")`` of R.
                pseudo: of a linear model with one grouping factor, in standard deviations within its levels, or between
                them for columns that are constant there (Hoffman 2015, Longitudinal Analysis, p. 342), as
                ``method="pseudo"``.
                partial: partial eta, omega and epsilon squared of every term from the F tests of :meth:`anova`, with
                intervals from the noncentral F distribution, as ``effectsize::F_to_eta2``. d: the difference of the
                marginal means of every two-level factor over the root of all variances but the fixed effects'
                (Westfall, Kenny & Judd 2014, J. Exp. Psychol. Gen. 143:2020-2045); of logistic models log odds ratios
                times sqrt(3) / pi (Hasselblad & Hedges 1995, Psychol. Bull. 117:167-178).
            type: Of the F tests of partial.
            ci_level: Probability of the intervals (that of the fit, if left out); quantiles of a posterior's draws.
            data: The data that were fitted; needed for a result that was loaded or unpickled only.

        Returns:
            ``.table`` with columns estimate, lower, upper (partial: eta2, omega2, epsilon2 with their ends).

        Raises:
            OptionError: For another kind.
            UnsupportedModelError: Where the kind has no meaning for the family.
            DataError: Without an intercept (standardized, partial), or without a two-level factor (d); ``C(x)`` is one.
            UnimixError: For the F tests of a posterior.
        """
        return effect_sizes(cast("FitResult", self), kind, type, self.interval_level(ci_level), data)

    def overdispersion(self, data: Any = None) -> Overdispersion:
        """Whether counts or proportions vary more than their distribution says: Pearson's chi-squared.

        Given the group effects, on n minus all parameters degrees of freedom, as ``performance::check_overdispersion``;
        of a posterior against replicated responses (Gelman, Meng & Stern 1996, Stat. Sinica 6:733-807).

        Args:
            data: The data that were fitted; needed for a posterior that was loaded or unpickled only.

        Raises:
            UnsupportedModelError: For families that estimate their spread, single trials, zero inflation, or a
                posterior of weighted counts.
        """
        return overdispersion(cast("FitResult", self), data)

    def zero_check(self, data: Any = None) -> ZeroInflation:
        """Whether a count has more zeros than the model expects: observed zeros against the sum of their probabilities.

        The p value ignores that the mean was fitted to the same rows, which makes it conservative. A row of weight w
        counts w times.

        Args:
            data: The data that were fitted; needed for a posterior that was loaded or unpickled only.

        Raises:
            UnsupportedModelError: For other families than counts, a formula of the dispersion, or a posterior of
                weighted counts.
        """
        return zero_inflation(cast("FitResult", self), data)

    def collinearity(self, data: Any = None) -> Collinearity:
        """How far each term of the fixed part is explained by the others: (generalised) variance inflation factors.

        From the covariance of the fixed effects, as ``car::vif`` (Fox & Monette 1992, J. Am. Stat. Assoc. 87:178-183);
        each also against the terms of other predictors alone, without products and powers; with the condition number of
        the predictors about their means.

        Args:
            data: The data that were fitted; needed for a result that was loaded or unpickled only.

        Raises:
            DataError: Without an intercept, or without predictors.
        """
        return collinearity(cast("FitResult", self), data)

    def check(self, data: Any = None) -> Checks:
        """Everything that can be wrong with the fit, one row per check.

        Convergence, singularity, numbers of levels, separation, overdispersion, zero inflation, collinearity, normality
        of residuals and conditional modes, constant spread, influential rows and levels; R-hat, effective draws and
        divergences of a sampler. Verdicts rest on published thresholds where there are any,
        which the documentation lists; a test alone never makes one, since with many rows every departure is
        significant. Order in time is not known, so that autocorrelation is not looked for.

        Args:
            data: The data that were fitted; needed for a result that was loaded or unpickled only.

        Returns:
            ``.table`` with columns verdict (ok, look, problem), value, finding, advice; ``.verdict``, the worst;
            ``.skipped``, what could not be checked and why; ``.meaningless``, what does not apply to such a model.
        """
        return check(cast("FitResult", self), data)
