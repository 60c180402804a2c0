"""Complete, no and partial pooling of one model, by one engine or several."""

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
from unimix.result import FitResult


@dataclass(frozen=True, repr=False, eq=False)
class Pooling(TableResult):
    """What :func:`pooling` found.

    Attributes:
        group: The grouping factor.
        complete: One regression for all rows of the mixed model, by the first engine: the pooled line.
        partial: The mixed model, by engine.
    """

    group: str
    complete: FitResult
    partial: dict[str, FitResult]

    @cached_property
    def _levels(self) -> dict[str, LevelEstimates]:
        return {label: level_estimates(found, self.group) for label, found in self.partial.items()}

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

        Index level, term; columns n (rows), complete, no_pooling, std_error (of no_pooling, with the residual variance
        pooled over the levels, as lme4's ``lmList``), centre (fixed effects of the mixed model), partial, partial_sd,
        moved (partial - no_pooling), shrinkage (share of the way from no_pooling to the centre), reliability (share of
        the variance of the level's effect that its rows explain).

        A predictor that is constant in a level is part of the level's intercept in every column.
        """
        tables = {label: found.table() for label, found in self._levels.items()}
        return next(iter(tables.values())) if len(tables) == 1 else pd.concat(tables, names=["engine"])

    @cached_property
    def summary_table(self) -> pd.DataFrame:
        """One row per coefficient (and engine, where there are several).

        Columns complete, centre, sd_no_pooling and sd_partial (over levels), shrinkage (1 - their ratio), reliability
        (mean over levels).
        """
        tables = {label: found.summary() for label, found in self._levels.items()}
        return next(iter(tables.values())) if len(tables) == 1 else pd.concat(tables, names=["engine"])

    @property
    def no_pooling(self) -> pd.DataFrame:
        """Coefficients of a regression per level, levels x terms; NaN for levels that are too small."""
        found = next(iter(self._levels.values()))
        index = pd.Index(list(found.levels), name=self.group)
        return pd.DataFrame(found.no.estimate, index=index, columns=list(found.columns.names))

    @property
    def too_small(self) -> dict[Any, str]:
        """Levels without a regression of their own, and why; they keep their rows in the other kinds of pooling."""
        return next(iter(self._levels.values())).too_small

    @cached_property
    def icc(self) -> pd.Series[float]:
        """Intraclass correlation of the grouping factor by engine: its share in what fixed effects leave unexplained.

        Random slopes count with their average over rows (Johnson 2014). With weights it is that of rows of weight 1.
        NaN for families whose residual variance on the scale of the link has no simple form (counts, for instance).
        """
        values = {label: icc(found)[self.group] for label, found in self.partial.items()}
        return pd.Series(values, name=f"icc({self.group})", dtype=float)

    def plot(self, x: str | None = None, **options: Any) -> Any:
        """Small multiples per level with the lines of all kinds of pooling; further engines as lines of their own.

        Args:
            x: The predictor along the lines.
            options: As for ``fit.plot.groups``.

        Returns:
            The matplotlib Axes, one per level.
        """
        others = dict(list(self.partial.items())[1:])
        return self.first.plot.groups(x, group=self.group, others=others or None, **options)

    def plot_shrinkage(self, *terms: str, **options: Any) -> Any:
        """Where partial pooling moves each level's own estimate, by the first engine.

        Args:
            terms: One or two coefficients.
            options: As for ``fit.plot.shrinkage``.

        Returns:
            The matplotlib Axes.
        """
        return self.first.plot.shrinkage(*terms, group=self.group, **options)

    @property
    def notes(self) -> tuple[str, ...]:
        """Intraclass correlations, and the levels without a regression of their own."""
        notes = []
        for label, found in self.partial.items():
            value = float(self.icc[label])
            told = f"none for {found.family}" if np.isnan(value) else f"{value:.3f}"
            weighted = " for rows of weight 1" if found.model.weighted and not np.isnan(value) else ""
            notes.append(f"Intraclass correlation ({label}): {told}{weighted}")
        small, count = self.too_small, self.first.model.groups[self.group]
        if small:
            told = "; ".join(f"{level}: {why}" for level, why in list(small.items())[:8])
            more = f"; and {len(small) - 8} more" if len(small) > 8 else ""
            notes.append(f"{len(small)} of {count} levels have no regression of their own ({told}{more}).")
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

    Complete pooling is one regression for all rows, no pooling a regression per level, partial pooling the mixed model
    (Gelman & Hill 2007, chapter 12).

    Args:
        formula: As for :func:`unimix.fit`, with a grouping factor.
        data: As for :func:`unimix.fit`.
        backend: The engine of the mixed model and of the pooled regression, or several. Regressions per level are least
            squares (maximum likelihood for generalised models), the same for every engine.
        group: The grouping factor; may be left out where there is one.
        backends: Several engines, instead of ``backend``.
        restart: As for :func:`unimix.fit`, of the mixed model.
        arguments: Arguments of :func:`unimix.fit`, but for ``options`` (give configured backends). ``method`` is for
            the mixed model by engines that maximise a likelihood, samplers give their posterior; ``priors`` go to the
            engines that have priors; an engine without Kenward and Roger's degrees of freedom gives Satterthwaite's.

    Raises:
        DataError: If there is no such grouping factor.
        OptionError: If the factor must be named, or for wrong arguments, all of them at once.
    """
    engines, errors = registry.resolve_all(backend if backends is None else backends)
    faults = [] if engines or errors else [f"pooling needs an engine: backend={DEFAULT_BACKEND!r}."]
    given = {**arguments, "restart": restart}
    asked = FitArguments.read(pooling, formula, data, given, faults=faults, errors=errors)
    problem = asked.problem(formula, data)
    partial: dict[str, FitResult] = {}
    for label, engine in zip(registry.numbered([e.info.name for e in engines]), engines, strict=True):
        partial[label] = fit_problem(engine, problem.adapted(engine))
        group = the_group(partial[label], group)
        refuse_parts(partial[label])
    first, rows = engines[0], bind_columns(formula, data, asked)
    own = arguments_without_groups(rows.arguments, first)
    complete = fit_problem(first, own.problem(rows.without_groups, rows.used))
    return Pooling(group or "", complete, partial)
