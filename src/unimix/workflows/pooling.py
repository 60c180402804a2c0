"""Complete, no and partial pooling of one model, by one or several engines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Unpack

import numpy as np
import pandas as pd

from unimix.analysis.summaries.partial_pooling import LevelEstimates, icc, level_estimates, refuse_parts, the_group
from unimix.api import fit
from unimix.backends import registry
from unimix.backends.registry import DEFAULT_BACKEND, BackendLike
from unimix.display import Block
from unimix.errors import OptionError, listing
from unimix.estimation.arguments import FitArguments, SharedOptions, takes_arguments_of
from unimix.estimation.run import fit_problem
from unimix.estimation.subset_data import arguments_without_groups, bind_columns
from unimix.fitted.formatting import text_table
from unimix.fitted.table_result import TableResult
from unimix.foreign_names import suggests_names
from unimix.result import FitResult


@suggests_names(path=None)
@dataclass(frozen=True, repr=False, eq=False)
class Pooling(TableResult):
    """The answer of :func:`pooling`.

    Attributes:
        group: Name of the grouping factor.
        complete: Complete pooling: one regression for all rows of the mixed model, by the first engine.
        partial: Partial pooling: results of the mixed model by engine.

    Example:
        >>> import unimix as um
        >>> pooled = um.pooling("Reaction ~ Days + (Days | Subject)", um.load_dataset("sleepstudy"))
        >>> pooled.table.loc["308", ["complete", "no_pooling", "partial"]].round(1)
                   complete  no_pooling  partial
        term
        Intercept     251.4       244.2    253.7
        Days           10.5        21.8     19.7
    """

    group: str
    complete: FitResult
    partial: dict[str, FitResult]

    @cached_property
    def _levels(self) -> dict[str, LevelEstimates]:
        return {label: level_estimates(fit_, self.group) for label, fit_ in self.partial.items()}

    def __getitem__(self, label: str) -> FitResult:
        if label not in self.partial:
            raise OptionError(f"{label!r} is not in this object: {listing(self.partial)}.")
        return self.partial[label]

    @property
    def first(self) -> FitResult:
        """The mixed model of the first engine."""
        return next(iter(self.partial.values()))

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per level and coefficient (and engine, where there are several).

        The index is level and term. Columns: n (rows of the level), complete, no_pooling, std_error (standard error of
        no_pooling, with the residual variance pooled over levels, as in lme4's ``lmList``), centre (fixed effect of the
        mixed model), partial, partial_sd, moved (partial - no_pooling), shrinkage (share of the way from no_pooling to
        the centre), reliability (share of the variance of the level's effect that its rows explain).

        A predictor that is constant within a level is part of the level's intercept in every column.
        """
        tables = {label: levels.table() for label, levels in self._levels.items()}
        return next(iter(tables.values())) if len(tables) == 1 else pd.concat(tables, names=["engine"])

    @cached_property
    def summary_table(self) -> pd.DataFrame:
        """One row per coefficient (and engine, where there are several).

        Columns: complete, centre, sd_no_pooling and sd_partial (standard deviations of the estimates over levels),
        shrinkage (1 - sd_partial / sd_no_pooling), reliability (mean over levels).
        """
        tables = {label: levels.summary() for label, levels in self._levels.items()}
        return next(iter(tables.values())) if len(tables) == 1 else pd.concat(tables, names=["engine"])

    @property
    def no_pooling(self) -> pd.DataFrame:
        """Coefficients of one regression per level, levels x terms; NaN for levels with too few rows."""
        first = next(iter(self._levels.values()))
        index = pd.Index(list(first.levels), name=self.group)
        return pd.DataFrame(first.no.estimate, index=index, columns=list(first.columns.names))

    @property
    def too_small(self) -> dict[Any, str]:
        """Levels that are too small for a regression of their own, with the reason.

        Their rows count in complete and partial pooling.
        """
        return next(iter(self._levels.values())).too_small

    @cached_property
    def icc(self) -> pd.Series[float]:
        """Intraclass correlation by engine: the grouping factor's share of the variance around the fixed effects.

        Random slopes count with their average variance over rows (Johnson 2014, Methods Ecol. Evol. 5:944). With
        weights, the value is that of rows of weight 1. It is NaN for families whose residual variance has no simple
        form on the scale of the link, such as counts.
        """
        values = {label: icc(fit_)[self.group] for label, fit_ in self.partial.items()}
        return pd.Series(values, name=f"icc({self.group})", dtype=float)

    def plot(self, x: str | None = None, **options: Any) -> Any:
        """Draw one panel per level with the lines of all kinds of pooling, and one line for each further engine.

        Args:
            x: Name of the predictor on the horizontal axis.
            options: Further arguments of ``fit.plot.groups``.

        Returns:
            The matplotlib Axes, one per level.
        """
        others = dict(list(self.partial.items())[1:])
        return self.first.plot.groups(x, group=self.group, others=others or None, **options)

    def plot_shrinkage(self, *terms: str, **options: Any) -> Any:
        """Draw how far partial pooling by the first engine moves the estimates of each level.

        Args:
            terms: Names of one or two coefficients.
            options: Further arguments of ``fit.plot.shrinkage``.

        Returns:
            The matplotlib Axes.
        """
        return self.first.plot.shrinkage(*terms, group=self.group, **options)

    @property
    def notes(self) -> tuple[str, ...]:
        """Intraclass correlations, and the levels that are too small for a regression of their own."""
        notes = []
        for label, fit_ in self.partial.items():
            value = float(self.icc[label])
            shown = f"none for {fit_.family}" if np.isnan(value) else f"{value:.3f}"
            weighted = " for rows of weight 1" if fit_.model.weighted and not np.isnan(value) else ""
            notes.append(f"Intraclass correlation ({label}): {shown}{weighted}")
        small, count = self.too_small, self.first.model.groups[self.group]
        if small:
            reasons = "; ".join(f"{level}: {why}" for level, why in list(small.items())[:8])
            more = f"; and {len(small) - 8} more" if len(small) > 8 else ""
            notes.append(f"{len(small)} of {count} levels have no regression of their own ({reasons}{more}).")
        return tuple(notes)

    @property
    def _heading(self) -> str:
        first = self.first
        rows = f"{first.model.n_obs} rows in {first.model.groups[self.group]} levels of {self.group}"
        return f"{first.model.formula}: {rows}, by {listing(self.partial)}"

    def _shown(self) -> pd.DataFrame:
        return self.summary_table

    def _view(self) -> Iterable[Block]:
        return [
            self._heading,
            "",
            "Over levels (complete: one regression for all rows; centre: fixed effects of the mixed model):",
            text_table(self._shown()),
            "",
            *self.notes,
            "",
            "Per level: .table, .plot(), .plot_shrinkage()",
        ]


@takes_arguments_of(fit, SharedOptions)
def pooling(
    formula: str,
    data: Any,
    backend: BackendLike | Sequence[BackendLike] = DEFAULT_BACKEND,
    *,
    group: str | None = None,
    backends: Sequence[BackendLike] | None = None,
    restart: bool = False,
    **arguments: Unpack[SharedOptions],
) -> Pooling:
    """Fit one model with complete, no and partial pooling of a grouping factor.

    Complete pooling is one regression for all rows, no pooling is one regression per level, and partial pooling is the
    mixed model (Gelman & Hill 2007, Data Analysis Using Regression and Multilevel/Hierarchical Models, chapter 12).

    Args:
        formula: The model in lme4's language, with a grouping factor.
        data: A table or a dict of arrays, as in :func:`unimix.fit`.
        backend: One or several engines, which fit the mixed model; the first engine also fits the pooled regression.
            Regressions per level use least squares (maximum likelihood for generalised models) with every engine.
        group: Name of the grouping factor; may be left out if the model has only one.
        backends: Several engines, instead of ``backend``.
        restart: Whether an engine that ends below the best known optimum of the mixed model starts again from there;
            see :func:`unimix.fit`.
        arguments: Arguments of :func:`unimix.fit`, except ``options`` (give configured backends). ``method`` applies to
            engines that maximise a likelihood, and ``priors`` to samplers. An engine without Kenward and Roger's
            degrees of freedom gives Satterthwaite's.

    Returns:
        ``.table`` with one row per level and coefficient, ``.summary_table``, ``.icc``, ``.plot()`` and
        ``.plot_shrinkage()``.

    Raises:
        DataError: If the model has no such grouping factor.
        OptionError: If arguments are wrong, all faults at once; or if the model has several grouping factors and none
            was named.

    Example:
        >>> import unimix as um
        >>> pooled = um.pooling("Reaction ~ Days + (Days | Subject)", um.load_dataset("sleepstudy"))
        >>> pooled.summary_table[["complete", "sd_no_pooling", "sd_partial", "shrinkage"]].round(2)
                   complete  sd_no_pooling  sd_partial  shrinkage
        term
        Intercept    251.41          28.95       21.60       0.25
        Days          10.47           6.56        5.46       0.17
    """
    engines, errors = registry.resolve_all(backend if backends is None else backends)
    faults = [] if engines or errors else [f"pooling needs an engine: backend={DEFAULT_BACKEND!r}."]
    given = {**arguments, "restart": restart}
    fit_arguments = FitArguments.read(pooling, formula, data, given, faults=faults, errors=errors)
    problem = fit_arguments.problem(formula, data)
    partial: dict[str, FitResult] = {}
    for label, engine in zip(registry.numbered([e.info.name for e in engines]), engines, strict=True):
        partial[label] = fit_problem(engine, problem.adapted(engine))
        group = the_group(partial[label], group)
        refuse_parts(partial[label])
    first, rows = engines[0], bind_columns(formula, data, fit_arguments)
    without_groups = arguments_without_groups(rows.arguments, first)
    complete = fit_problem(first, without_groups.problem(rows.without_groups, rows.used))
    return Pooling(group or "", complete, partial)
