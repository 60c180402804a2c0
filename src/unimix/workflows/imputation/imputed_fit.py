"""ImputedFit: one model of several imputed data sets, whose answers are pooled by Rubin's rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from unimix.analysis.means.contrast_result import Contrasts
from unimix.analysis.means.emmeans import MeanKind, every_mean, slopes
from unimix.analysis.means.marginal_means import MarginalMeans, Weights
from unimix.analysis.means.specs import read_specs
from unimix.analysis.tests.hypotheses import Named, assess
from unimix.errors import OptionError
from unimix.fitted.schema import DfMethod
from unimix.fitted.table_result import TableResult
from unimix.foreign_names import suggests_names
from unimix.result import FitResult
from unimix.workflows.imputation import saving
from unimix.workflows.imputation.inference import stacked
from unimix.workflows.imputation.means import pooled_means, pooled_spread, pooled_terms
from unimix.workflows.imputation.pooled_estimates import PooledEstimates
from unimix.workflows.imputation.predictions import pooled_predictions
from unimix.workflows.imputation.scalars import pool_statistics

FloatArray = npt.NDArray[np.float64]
BROOM = {"std_error": "std.error", "p_value": "p.value", "lower": "conf.low", "upper": "conf.high", "share": "lambda"}


@suggests_names(path=None)
@dataclass(frozen=True, repr=False, eq=False)
class ImputedFit(PooledEstimates):
    """One model of several imputed data sets: what :func:`fit_imputed` returns.

    Every answer is pooled by Rubin's rules (Rubin 1987, Multiple Imputation for Nonresponse in Surveys), with Barnard
    and Rubin's degrees of freedom (1999, Biometrika 86:948-955). The degrees of freedom of complete data in them are
    the means of those of the fits, such as Satterthwaite's.

    Attributes:
        fits: The fits, one for each data set.
        labels: Names of the data sets.
        notes: Remarks on the data sets and on fits that did not converge.

    Example:
        >>> import numpy as np
        >>> import unimix as um
        >>> sleep, rng = um.load_dataset("sleepstudy"), np.random.default_rng(1)
        >>> frames = [sleep.assign(Days=sleep["Days"] + rng.normal(0, 0.5, len(sleep))) for _ in range(5)]
        >>> imputed = um.fit_imputed("Reaction ~ Days + (1 | Subject)", frames)
        >>> imputed.m, imputed.missing_information[["riv", "fmi"]].shape
        (5, (2, 2))
    """

    # -- means and tests ------------------------------------------------------------------------

    def emmeans(
        self,
        specs: str | Sequence[str],
        *,
        by: str | Sequence[str] = (),
        at: Mapping[str, Any] | None = None,
        weights: Weights = "equal",
        kind: MeanKind = "link",
        bias_adjust: bool | float = False,
        average: Literal["groups"] | None = None,
        ci_level: float | None = None,
        df_method: DfMethod | None = None,
    ) -> MarginalMeans:
        """Pooled marginal means; the arguments are those of :meth:`unimix.FitResult.emmeans`.

        Numeric predictors stand at their means over all rows and imputations. Means are pooled on the link scale, and
        then turned to the response scale.
        """
        specification = read_specs(specs, by)
        if specification.method:
            raise OptionError(f"{specs!r} asks for contrasts: type imputed.contrasts({specs!r}).")
        level, spread = self._level(ci_level), pooled_spread(self.fits, kind, bias_adjust)

        def make(fit: FitResult, values: Mapping[str, Any]) -> MarginalMeans:
            return every_mean(fit, specification, values, weights, kind, level, df_method, spread, average)

        return pooled_means(self.fits, self._at(df_method), at, make)

    def contrasts(
        self,
        specs: str | Sequence[str],
        method: str | Mapping[str, Sequence[float]] = "pairwise",
        *,
        adjust: str | None = None,
        reference: Any = None,
        interaction: str | Sequence[str] | None = None,
        simple: str | None = None,
        joint: bool = False,
        **means: Any,
    ) -> Contrasts:
        """Contrasts of pooled marginal means: ``imputed.emmeans(specs, ...).contrasts(method, ...)`` in one call.

        Args:
            specs: Predictors with a mean for each combination of their levels; or a formula, ``"pairwise ~ a | b"``.
            method: Contrasts to form, as in :meth:`unimix.FitResult.contrasts`.
            adjust: Adjustment for several contrasts.
            reference: Level that ``method="reference"`` compares the others with.
            interaction: Contrasts of contrasts: a method for all factors, or one for each.
            simple: Factor whose levels are contrasted within those of all others, or each.
            joint: Whether to test all contrasts of each group of ``by`` together, by D1.
            means: Further arguments of :meth:`emmeans`.
        """
        read = read_specs(specs, means.pop("by", ()))
        made = self.emmeans(read.names, by=read.by, **means)
        chosen = read.method or method
        return made.contrasts(
            chosen, adjust=adjust, reference=reference, interaction=interaction, simple=simple, joint=joint
        )

    def slopes(
        self,
        variable: str,
        *,
        by: str | Sequence[str] = (),
        at: Mapping[str, Any] | None = None,
        weights: Weights = "equal",
        average: Literal["groups"] | None = None,
        ci_level: float | None = None,
        df_method: DfMethod | None = None,
    ) -> MarginalMeans:
        """Pooled slopes of a numeric predictor; the arguments are those of :meth:`unimix.FitResult.slopes`."""
        level = self._level(ci_level)

        def make(fit: FitResult, values: Mapping[str, Any]) -> MarginalMeans:
            given: Any = {"by": by, "weights": weights, "average": average, "df_method": df_method}
            return slopes(fit, variable, at=values, ci_level=level, **given)

        return pooled_means(self.fits, self._at(df_method), at, make)

    def hypotheses(
        self,
        tests: str | Sequence[str],
        *,
        joint: bool = False,
        alternative: Literal["two-sided", "greater", "less"] = "two-sided",
        equivalence: tuple[float, float] | None = None,
        ci_level: float | None = None,
    ) -> TableResult:
        """Pooled tests of hypotheses about the fixed effects, written as text.

        The arguments are those of :meth:`unimix.FitResult.hypotheses`. Nonlinear hypotheses are evaluated at the pooled
        estimates; joint tests are D1.
        """
        names = self.fits[0].fixed.terms
        gradient = stacked([np.eye(len(names))] * self.m)
        named = Named(names, gradient @ self._inference.beta, gradient, None, self._inference)
        return assess(
            named,
            tests,
            joint=joint,
            alternative=alternative,
            equivalence=equivalence,
            ci_level=self._level(ci_level),
        )

    def anova(self, type: Literal["III", "II"] = "III", *, df_method: DfMethod | None = None) -> TableResult:  # noqa: A002
        """Test each term of the fixed part by D1; ``um.anova(small, large)`` compares imputed models by D3.

        Args:
            type: Type of the tests, III or II, as in :meth:`unimix.FitResult.anova`.
            df_method: Degrees of freedom of the complete data; None takes the method of the fits.

        Returns:
            ``.table`` with index term and columns F, num_df, den_df, p_value, riv (mean relative increase in variance);
            Li, Raghunathan & Rubin (1991, J. Am. Stat. Assoc. 86:1065-1073), with Reiter's degrees of freedom (2007,
            Biometrika 94:502-508) for several coefficients, and Barnard and Rubin's for one.

        Raises:
            OptionError: If the type or the method is unknown.
        """
        chosen = {3: "III", "3": "III", "III": "III", 2: "II", "2": "II", "II": "II"}.get(type)
        if chosen is None:
            raise OptionError(f"type={type!r}: choose 'III' or 'II'.")
        return pooled_terms(self.fits, self._at(df_method), chosen)

    def predict(
        self,
        newdata: Any = None,
        *,
        level: Literal["group", "population"] | Sequence[str] = "group",
        new_levels: Literal["error", "population", "sample"] = "error",
        kind: Literal["response", "link"] | None = None,
        interval: Literal["confidence", "prediction"] | None = None,
        ci_level: float | None = None,
    ) -> FloatArray | TableResult:
        """Pooled predictions: linear predictors are pooled, and then turned to the response scale.

        Args:
            newdata: New rows; None for the rows that were fitted, each with its own imputed values.
            level: Group effects to include, as in :meth:`unimix.FitResult.predict`.
            new_levels: Treatment of levels that were not fitted: error, population or sample.
            kind: response, or link for the linear predictor; None gives the response as it was fitted.
            interval: confidence, for the expected response; or prediction, for a new response of a linear model. The
                error includes the differences between imputations.
            ci_level: Probability of the intervals, between 0 and 1; None takes that of the fits.

        Returns:
            Predictions, shape (n,); with intervals, ``.table`` with columns estimate, std_error, lower, upper.

        Raises:
            OptionError: If an argument is wrong.
            DataError: If columns are absent, levels are unknown, or the data sets have different rows.
            UnsupportedModelError: If the predictions of the model are not pooled.
        """
        return pooled_predictions(
            self.fits,
            newdata,
            level=level,
            new_levels=new_levels,
            kind=kind,
            interval=interval,
            ci_level=self._level(ci_level),
        )

    def pool(self, statistic: Callable[[FitResult], Any], *, ci_level: float | None = None) -> TableResult:
        """Pool any statistic of a fit by Rubin's rules.

        Args:
            statistic: Function of a fit. It returns a number, or a series or dict of numbers, which are averaged; or a
                pair (estimate, std_error), or a table with columns estimate and std_error, and df if there are any,
                such as ``lambda fit: fit.comparisons("x")``, which are pooled with their errors.
            ci_level: Probability of the intervals, between 0 and 1; None takes that of the fits.

        Returns:
            ``.table`` with estimate, and, where there are errors, std_error, df, statistic, p_value, lower, upper, fmi.

        Raises:
            OptionError: If the statistic has another form, or other rows, in some of the fits.

        Example:
            >>> import numpy as np
            >>> import unimix as um
            >>> sleep, rng = um.load_dataset("sleepstudy"), np.random.default_rng(1)
            >>> frames = [sleep.assign(Days=sleep["Days"] + rng.normal(0, 0.5, len(sleep))) for _ in range(5)]
            >>> imputed = um.fit_imputed("Reaction ~ Days + (1 | Subject)", frames)
            >>> imputed.pool(lambda fit: fit.sigma ** 2).table.shape
            (1, 1)
        """
        return pool_statistics(self.fits, statistic, self._level(ci_level))

    # -- files ----------------------------------------------------------------------------------

    def save(self, path: str | Path, *, data: bool = True) -> Path:
        """Write all fits to one file, from which :meth:`load` reads them.

        Args:
            path: File to write, such as ``"imputed.zip"``.
            data: Whether to save the columns that were fitted, which degrees of freedom, means and tests need.

        Raises:
            OptionError: If ``path`` is not a path.
            DataError: If the file cannot be written.
        """
        return saving.save(self.fits, self.labels, self.notes, path, data=data)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file of :meth:`save`; no engine is needed, and nothing in it is run.

        Args:
            path: The file.

        Raises:
            OptionError: If ``path`` is not a path.
            DataError: If there is no such file, or it is damaged or was changed.
        """
        return cls(*saving.load(path))


__all__ = ["ImputedFit"]
