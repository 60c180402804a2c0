"""Pooled estimates, variance components, and the printed summary of imputed fits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.intervals.intervals import Intervals
from unimix.display import Block, Printed
from unimix.errors import OptionError
from unimix.fitted import tables
from unimix.fitted.formatting import number, text_table
from unimix.result import FitResult
from unimix.stats.inference import checked_level, wald_interval
from unimix.stats.rubin import Pooled, pool
from unimix.workflows.imputation.components import intervals_of_scales, pooled_random, pooled_sigma
from unimix.workflows.imputation.inference import PooledInference, pooled_inference, stacked

FloatArray = npt.NDArray[np.float64]
BROOM = {"std_error": "std.error", "p_value": "p.value", "lower": "conf.low", "upper": "conf.high", "share": "lambda"}


@dataclass(frozen=True, repr=False, eq=False)
class PooledEstimates(Printed):
    """Estimates of fits of one model to several imputed data sets, pooled by Rubin's rules, and their printed summary.

    Attributes:
        fits: The fits, one for each data set.
        labels: Names of the data sets.
        notes: Remarks on the data sets and on fits that did not converge.
    """

    fits: tuple[FitResult, ...]
    labels: tuple[str, ...]
    notes: tuple[str, ...]

    # -- what was fitted ------------------------------------------------------------------------

    @property
    def m(self) -> int:
        """Number of imputed data sets."""
        return len(self.fits)

    def __len__(self) -> int:
        return len(self.fits)

    def __iter__(self) -> Iterator[FitResult]:
        return iter(self.fits)

    def __getitem__(self, key: int | str) -> FitResult:
        """The fit of one data set, by its name or its position from 0."""
        if isinstance(key, str) and key in self.labels:
            return self.fits[self.labels.index(key)]
        if isinstance(key, int) and -self.m <= key < self.m:
            return self.fits[key]
        raise OptionError(f"{key!r} is not an imputation: give a position from 0 to {self.m - 1}, or a name.")

    @property
    def formula(self) -> str:
        """Formula as the user wrote it."""
        return self.fits[0].formula

    @property
    def converged(self) -> bool:
        """Whether every fit converged."""
        return all(fit.converged for fit in self.fits)

    @property
    def ci_level(self) -> float:
        """Probability of the intervals, between 0 and 1."""
        return self.fits[0].fixed.level

    def _level(self, ci_level: float | None) -> float:
        level = self.ci_level if ci_level is None else ci_level
        checked_level(level)
        return level

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if not name.startswith("_") and hasattr(FitResult, name):
                how = f"each fit has its own, [fit.{name} for fit in imputed.fits]"
                message = f"{name} is not pooled: {how}; imputed.pool(function) pools estimates by Rubin's rules."
            else:
                message = f"'ImputedFit' object has no attribute {name!r}"
            raise AttributeError(message, name=name, obj=self)

    # -- estimates ------------------------------------------------------------------------------

    @cached_property
    def _inference(self) -> PooledInference:
        return pooled_inference(self.fits)

    def _at(self, df_method: str | None) -> PooledInference:
        return self._inference if df_method is None else pooled_inference(self.fits, df_method)

    @cached_property
    def _fixed(self) -> Pooled:
        each = self._inference.each
        estimates, variances = (
            np.array([f(one) for one in each]) for f in (lambda o: o.beta, lambda o: np.diag(o.covariance))
        )
        return pool(estimates, variances, np.array([one.df_of(np.eye(len(one.beta))) for one in each]))

    @property
    def fixed_effects(self) -> pd.DataFrame:
        """Pooled fixed effects: index term; columns estimate, std_error, df, statistic, p_value, lower, upper."""
        found = self._fixed
        index = pd.Index(self.fits[0].fixed.terms, name="term")
        return tables.wald_table(found.estimate, found.std_error, found.df, self.ci_level, index)

    @property
    def missing_information(self) -> pd.DataFrame:
        """What the missing values cost, one row per fixed effect.

        Columns: within and between (variances within and between imputations), total, df_complete (degrees of freedom
        if no value had been missing), df, riv (relative increase in variance), share (of the total variance, lambda),
        fmi (fraction of missing information).
        """
        found = self._fixed
        names = ("within", "between", "total", "df_complete", "df", "riv", "share", "fmi")
        return pd.DataFrame(
            {name: getattr(found, name) for name in names}, index=pd.Index(self.fits[0].fixed.terms, name="term")
        )

    @property
    def fixed_cov(self) -> pd.DataFrame:
        """Pooled covariance matrix of the fixed effects, terms x terms."""
        names = list(self.fits[0].fixed.terms)
        weights = stacked([np.eye(len(names))] * self.m)
        return pd.DataFrame(weights @ self._inference.covariance @ weights.T, index=names, columns=names)

    @property
    def sigma(self) -> float:
        """Square root of the mean residual variance."""
        return pooled_sigma(self.fits)

    @cached_property
    def _random(self) -> Any:
        return pooled_random(self.fits)

    @property
    def variance_components(self) -> pd.DataFrame:
        """Pooled variances, covariances, SDs and correlations, in the layout of ``fit.variance_components``.

        Variances and covariances are means over the fits, so that the matrix stays one of covariances, and SDs and
        correlations follow from them. ``confint("random")`` has their intervals.
        """
        return tables.variance_components(self._random, self.sigma if self.fits[0]._scale is not None else None)

    @property
    def group_effects(self) -> tables.GroupTables:
        """Means of the group effects over the fits: ``imputed.group_effects["g"]``, levels x terms."""
        return tables.group_tables(self._random, "modes")

    @property
    def group_effects_sd(self) -> tables.GroupTables:
        """Standard errors of the group effects by Rubin's rules, in the layout of ``group_effects``."""
        return tables.group_tables(self._random, "mode_sd")

    def confint(
        self, parameters: Literal["fixed", "random", "all"] = "all", *, ci_level: float | None = None
    ) -> Intervals:
        """Pooled Wald intervals.

        Those of fixed effects are t intervals with Barnard and Rubin's degrees of freedom. Standard deviations and
        correlations are pooled on the scales of their logarithm and of atanh, with the errors of each fit from the
        observed information, and have an interval about the pooled estimate; where a variance is zero in a fit they
        have none.

        Args:
            parameters: fixed, random (standard deviations, correlations, sigma), or all.
            ci_level: Probability of the intervals, between 0 and 1; None takes that of the fits.

        Raises:
            OptionError: If the parameters are none of these.
        """
        if parameters not in ("fixed", "random", "all"):
            raise OptionError(f"parameters={parameters!r}: choose 'fixed', 'random' or 'all'.")
        level = self._level(ci_level)
        parts, notes = [], list[str]()
        if parameters != "random":
            found = self._fixed
            lower, upper = wald_interval(found.estimate, found.std_error, found.df, level)
            columns = {"estimate": found.estimate, "lower": lower, "upper": upper}
            parts.append(pd.DataFrame(columns, index=pd.Index(self.fits[0].fixed.terms, name="parameter")))
        if parameters != "fixed":
            scales = intervals_of_scales(self.fits, self._random, level)
            parts.append(scales.table)
            notes += scales.notes
        return Intervals(pd.concat(parts), "wald", level, tuple(notes))

    def tidy(self, effects: Literal["fixed", "ran_pars"] = "fixed", *, exponentiate: bool = False) -> pd.DataFrame:
        """One row per estimate, with the column names of broom and mice.

        Args:
            effects: fixed, or ran_pars (standard deviations and correlations).
            exponentiate: Whether to exponentiate the fixed effects and their intervals.

        Returns:
            Columns effect, term, estimate, std.error, df, statistic, p.value, conf.low, conf.high, riv, lambda, fmi; of
            ran_pars effect, group, term, estimate.

        Raises:
            OptionError: If the effects are none of these.
        """
        if effects not in ("fixed", "ran_pars"):
            raise OptionError(f"effects={effects!r}: choose 'fixed' or 'ran_pars'.")
        if effects == "ran_pars":
            return tables.tidy_ran_pars(
                self.fits[0].fixed, self._random, self.sigma if self.fits[0]._scale is not None else None
            )
        table = pd.concat([self.fixed_effects, self.missing_information[["riv", "share", "fmi"]]], axis=1).reset_index()
        if exponentiate:
            self.fits[0].tidy(exponentiate=True)  # refuses links whose coefficients are no logarithms of ratios
            for column in ("estimate", "lower", "upper"):
                table[column] = np.exp(table[column])
            table["std_error"] *= table["estimate"]
        names = {
            "std_error": "std.error",
            "p_value": "p.value",
            "lower": "conf.low",
            "upper": "conf.high",
            "share": "lambda",
        }
        table = table.rename(columns=names)
        table.insert(0, "effect", "fixed")
        return table

    # -- text -----------------------------------------------------------------------------------

    def summary(self) -> str:
        """The pooled summary as text; ``print(imputed)`` shows the same."""
        return str(self)

    def _view(self) -> Iterable[Block]:
        first = self.fits[0]
        table = self.fixed_effects.drop(columns="statistic")
        table["fmi"] = self.missing_information["fmi"]
        groups = ", ".join(f"{n} {name}" for name, n in first.n_groups.items())
        blocks: list[Block] = [
            (
                f"{self.formula} fitted by {first.backend} ({first.model.method}) to {self.m} imputed data sets of "
                f"{first.n_obs} rows{f' over {groups}' if groups else ''}."
            ),
            "",
            f"Fixed effects, pooled ({100 * self.ci_level:g}% confidence intervals, Barnard-Rubin df)",
            text_table(table),
        ]
        if first.random:
            components = self.variance_components[["group", "term1", "term2", "covariance", "sdcor"]]
            shown = components.rename(columns={"term1": "term", "term2": "with"}).set_index("group")
            blocks += ["", "Random effects, pooled", text_table(shown.fillna({"term": "", "with": ""}))]
        elif first._scale is not None:
            blocks += ["", f"Residual standard deviation {number(self.sigma)}"]
        largest = float(self.missing_information["fmi"].max()) if len(table) else np.nan
        blocks += ["", *(["Variances and covariances are means over the imputations."] if first.random else [])]
        if np.isfinite(largest) and self.m < 100 * largest:
            blocks.append(
                f"The largest fraction of missing information is {largest:.2f}: {int(np.ceil(100 * largest))} "
                "imputations or more make standard errors and p values repeatable (White, Royston & Wood 2011)."
            )
        return [*blocks, *(f"Note: {note}" for note in self.notes)]


__all__ = ["PooledEstimates"]
