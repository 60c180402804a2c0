"""``fit.plot``: every picture of a result, each with the data it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from unimix.analysis.plot_data import by_plot, regression_lines
from unimix.analysis.plot_data.accessor_checks import CheckPlots
from unimix.foreign_names import suggests_names

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel


@suggests_names(path="plot.")
class Plots(CheckPlots):
    """Pictures of one result; ``fit.plot.<name>()`` draws, ``fit.plot.<name>_data()`` returns what is drawn.

    All return matplotlib Axes and draw nothing on the screen by themselves; those of one panel take ``ax=``. A result
    that was loaded from JSON or unpickled needs the data that were fitted where the rows are shown: ``data=``.
    """

    def groups_data(
        self,
        x: str | None = None,
        *,
        group: str | None = None,
        levels: Sequence[Any] | int = 12,
        at: Mapping[str, Any] | None = None,
        n_draws: int = 40,
        seed: int = 0,
        ci_level: float | None = None,
        others: Mapping[str, FittedModel] | None = None,
    ) -> pd.DataFrame:
        """What :meth:`groups` shows, one row per point.

        Args:
            x: The predictor along the lines; if left out, one whose slope varies.
            group: The grouping factor; may be left out where there is one.
            levels: Levels to show, or how many.
            at: Values of the other predictors; else their mean or most frequent value in each level.
            n_draws: Lines drawn from the uncertainty of the partially pooled one.
            seed: Seed of these draws.
            ci_level: Probability of the band (that of the fit, if left out).
            others: Further results of the same design by label: their partially pooled lines.

        Returns:
            Columns level, kind (data, complete, no, partial, draw, or a label), draw, x, y, lower, upper.

        Raises:
            DataError: For unknown levels, or a model without lines.
            OptionError: For unknown predictors.
        """
        return regression_lines.group_lines(
            self._fit,
            x=x,
            group=group,
            levels=levels,
            at=at,
            n_draws=n_draws,
            seed=seed,
            ci_level=self._fit.interval_level(ci_level),
            others=others,
        )

    def groups(self, x: str | None = None, *, columns: int = 4, **options: Any) -> Any:
        """Each level's data with the lines of complete, no and partial pooling, and the uncertainty of the last.

        The thin lines are posterior draws, or simulated from the joint error of fixed and group effects.

        Args:
            x: The predictor along the lines; if left out, one whose slope varies.
            columns: Panels per row.
            options: As for :meth:`groups_data`.

        Returns:
            The matplotlib Axes, one per level.
        """
        from unimix.plots.groups import draw_groups

        return draw_groups(self.groups_data(x, **options), columns=columns, title=self._fit.model.formula)

    def population_data(
        self,
        x: str | None = None,
        *,
        at: Mapping[str, Any] | None = None,
        n_draws: int = 100,
        seed: int = 0,
        ci_level: float | None = None,
    ) -> pd.DataFrame:
        """What :meth:`population` shows: columns kind (data, complete, population, draw), draw, x, y, lower, upper.

        Args:
            x: The predictor along the lines; if left out, one whose slope varies, else a numeric one.
            at: Values of the other predictors; else their mean or most frequent value.
            n_draws: Lines drawn from the uncertainty of the fixed effects.
            seed: Seed of these draws.
            ci_level: Probability of the band (that of the fit, if left out).
        """
        level = self._fit.interval_level(ci_level)
        return regression_lines.population_lines(self._fit, x=x, at=at, n_draws=n_draws, seed=seed, ci_level=level)

    def population(self, x: str | None = None, *, ax: Any = None, **options: Any) -> Any:
        """All data with the line of the fixed effects, its uncertainty, and the line of complete pooling.

        Args:
            x: The predictor along the lines; if left out, one whose slope varies, else a numeric one.
            ax: Axes to draw into.
            options: As for :meth:`population_data`.

        Returns:
            The matplotlib Axes.
        """
        from unimix.plots.groups import draw_population

        return draw_population(self.population_data(x, **options), ax=ax, title=self._fit.model.formula)

    def shrinkage_data(self, *terms: str, group: str | None = None) -> pd.DataFrame:
        """What :meth:`shrinkage` shows: index level, columns (kind, term); kinds no, partial, centre, complete.

        Args:
            terms: Coefficients; if left out, the first two that vary.
            group: The grouping factor; may be left out where there is one.
        """
        return by_plot.shrinkage(self._fit, group, terms)

    def shrinkage(self, *terms: str, group: str | None = None, ax: Any = None) -> Any:
        """Where partial pooling moves each level's own estimate: arrows for two coefficients, lines for one.

        Args:
            terms: One or two coefficients; if left out, the first two that vary.
            group: The grouping factor; may be left out where there is one.
            ax: Axes to draw into.

        Returns:
            The matplotlib Axes.
        """
        from unimix.plots.levels import draw_shrinkage

        return draw_shrinkage(self.shrinkage_data(*terms, group=group), ax=ax, title=self._fit.model.formula)

    def caterpillar_data(self, group: str | None = None, *, ci_level: float | None = None) -> pd.DataFrame:
        """What :meth:`caterpillar` shows: columns group, term, level, estimate, std_error, lower, upper, position.

        Args:
            group: The grouping factor; may be left out where there is one.
            ci_level: Probability of the intervals (that of the fit, if left out): normal quantiles times the
                conditional SD.
        """
        return by_plot.caterpillar(self._fit, group, self._fit.interval_level(ci_level))

    def caterpillar(self, group: str | None = None, *, ci_level: float | None = None, columns: int = 3) -> Any:
        """Conditional modes (posterior means) with intervals, sorted, one panel per term.

        Args:
            group: The grouping factor; may be left out where there is one.
            ci_level: Probability of the intervals (that of the fit, if left out).
            columns: Panels per row.

        Returns:
            The matplotlib Axes, one per term.
        """
        from unimix.plots.levels import draw_caterpillar

        data = self.caterpillar_data(group, ci_level=self._fit.interval_level(ci_level))
        title = f"Effects of {data['group'].iloc[0]}: {self._fit.model.formula}"
        note = f"{by_plot.interval_words(self._fit, self._fit.interval_level(ci_level))}; blue where they exclude zero"
        return draw_caterpillar(data, columns=columns, title=title, note=note)

    def forest_data(self, *others: FittedModel | Sequence[FittedModel]) -> pd.DataFrame:
        """What :meth:`forest` shows: columns part, name, engine, estimate, lower, upper, interval."""
        from unimix.plots.forest import forest_data

        return forest_data(_labelled([self._fit, *_flat(others)]))

    def forest(self, *others: FittedModel | Sequence[FittedModel], columns: int = 3, title: str | None = None) -> Any:
        """Fixed effects with intervals, and SDs, of this result and others side by side.

        Args:
            others: Further results, of other engines say; or a list of them.
            columns: Panels per row.
            title: Above the figure; the formula, if left out.

        Returns:
            The matplotlib Axes, one per quantity.
        """
        from unimix.plots.forest import forest

        return forest(_labelled([self._fit, *_flat(others)]), columns=columns, title=title)

    def ridge_data(
        self,
        term: str | None = None,
        *,
        group: str | None = None,
        levels: Sequence[Any] | int = 40,
        seed: int = 0,
    ) -> pd.DataFrame:
        """What :meth:`ridge` shows: columns level, x, density, mean; levels by increasing mean.

        Args:
            term: A coefficient; if left out, the first that varies.
            group: The grouping factor; may be left out where there is one.
            levels: Levels to show, or how many.
            seed: Seed of the draws, where the engine has none of its own.
        """
        return by_plot.ridge(self._fit, term, group, levels, seed)

    def ridge(
        self,
        term: str | None = None,
        *,
        group: str | None = None,
        levels: Sequence[Any] | int = 40,
        seed: int = 0,
        ax: Any = None,
    ) -> Any:
        """The posterior of a coefficient per level; for other engines the normal distribution of its error.

        Args:
            term: A coefficient (fixed plus group effect); if left out, the first that varies.
            group: The grouping factor; may be left out where there is one.
            levels: Levels to show, or how many, evenly among them.
            seed: Seed of the draws, where the engine has none of its own.
            ax: Axes to draw into.

        Returns:
            The matplotlib Axes.
        """
        from unimix.plots.levels import draw_ridge

        found = self.ridge_data(term, group=group, levels=levels, seed=seed)
        return draw_ridge(
            found,
            ax=ax,
            title=f"{found.attrs['term']} by {found.attrs['group']}{_some(found)}: {self._fit.model.formula}",
            xlabel=f"{found.attrs['term']} (fixed plus group effect; dashed: fixed effect)",
        )


def _some(found: pd.DataFrame) -> str:
    shown, total = found["level"].nunique(), int(found.attrs["n_levels"])
    return f" ({shown} of {total} levels)" if shown < total else ""


def _flat(others: Sequence[FittedModel | Sequence[FittedModel]]) -> list[FittedModel]:
    return [fit for other in others for fit in (other if isinstance(other, list | tuple) else [other])]  # type: ignore[misc]


def _labelled(fits: list[FittedModel]) -> list[tuple[str, FittedModel]]:
    """Results under their backends' names, numbered where one occurs twice."""
    found: list[tuple[str, FittedModel]] = []
    for fit in fits:
        count = sum(f.engine.backend == fit.engine.backend for _, f in found)
        found.append((fit.engine.backend if count == 0 else f"{fit.engine.backend} ({count + 1})", fit))
    return found
