"""``fit.plot``: all pictures of a fit, and the data that they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from unimix.analysis.means.emmeans import Weights
from unimix.analysis.plot_data import by_plot, regression_lines
from unimix.analysis.plot_data.means import means_and_points
from unimix.analysis.plot_data.smooth_curves import SmoothPlots
from unimix.analysis.prediction import prior
from unimix.fitted.model import interval_level
from unimix.foreign_names import suggests_names
from unimix.parallel.jobs import check_seed

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel


@suggests_names(path="plot.")
class Plots(SmoothPlots):
    """Pictures of a fit: ``fit.plot.groups()``, ``.shrinkage()``, ``.caterpillar()``, ``.diagnostics()`` and others.

    Each method draws with matplotlib and returns the Axes; nothing is shown on the screen by itself. Methods that draw
    a single panel take ``ax=``, the Axes to draw into. With ``draw=False`` nothing is drawn, and the data of the
    picture are returned as a data frame for another plotting library; matplotlib is not needed then.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
        >>> data = fit.plot.caterpillar(draw=False)
        >>> data[["level", "estimate", "lower", "upper"]].round(1).head(3)
          level  estimate  lower  upper
        0   309     -77.8  -96.4  -59.3
        1   310     -63.1  -81.7  -44.5
        2   335     -45.3  -63.9  -26.7
    """

    def __repr__(self) -> str:
        names = [n for n in dir(self) if not n.startswith("_")]
        return f"Plots of {self._fit.formula}: {', '.join(f'.{n}()' for n in names)}"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            message, picture = f"There is no fit.plot.{name}", name.removesuffix("_data")
            if picture != name and hasattr(Plots, picture):
                message += f"; fit.plot.{picture}(draw=False) returns what the picture shows"
            raise AttributeError(message, name=name, obj=self)

    # -- data and lines -------------------------------------------------------------------------

    def groups(
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
        columns: int = 4,
        draw: bool = True,
    ) -> Any:
        """Each level's data with the lines of complete, no and partial pooling, and the uncertainty of the last.

        The thin lines are posterior draws, or draws from the joint error of fixed and group effects.

        Args:
            x: Predictor on the horizontal axis; None takes one whose slope varies.
            group: Name of the grouping factor; optional if the model has only one.
            levels: Levels to show, or their number.
            at: Values of the other predictors; the default is their mean or most frequent value.
            n_draws: Number of lines that show the uncertainty of the partially pooled line.
            seed: Seed of these draws.
            ci_level: Probability of the band in the returned data; None takes that of the fit.
            others: Further results of the same design by label, whose partially pooled lines are added.
            columns: Number of panels per row.
            draw: Whether to draw; if not, the data are returned.

        Returns:
            The matplotlib Axes, one per level. With ``draw=False`` one row per point: columns level, kind (data,
            complete, no, partial, draw, or a label), draw, x, y, lower, upper.

        Raises:
            DataError: If levels are unknown, or the model has no predictor to draw lines over.
            OptionError: If predictors are unknown.
        """
        data = regression_lines.group_lines(
            self._fit,
            x=x,
            group=group,
            levels=levels,
            at=at,
            n_draws=n_draws,
            seed=seed,
            ci_level=interval_level(self._fit, ci_level),
            others=others,
        )
        if not draw:
            return data
        from unimix.plots.groups import draw_groups

        return draw_groups(data, columns=columns, title=self._fit.formula)

    def population(
        self,
        x: str | None = None,
        *,
        at: Mapping[str, Any] | None = None,
        n_draws: int = 100,
        seed: int = 0,
        ci_level: float | None = None,
        ax: Any = None,
        draw: bool = True,
    ) -> Any:
        """All data with the line of the fixed effects, its uncertainty, and the line of complete pooling.

        Args:
            x: Predictor on the horizontal axis; None takes one whose slope varies, else a numeric one.
            at: Values of the other predictors; the default is their mean or most frequent value.
            n_draws: Number of lines that show the uncertainty of the fixed effects.
            seed: Seed of these draws.
            ci_level: Probability of the band in the returned data; None takes that of the fit.
            ax: Axes to draw into; None makes new ones.
            draw: Whether to draw; if not, the data are returned.

        Returns:
            The matplotlib Axes. With ``draw=False`` columns kind (data, complete, population, draw), draw, x, y, lower,
            upper.
        """
        level = interval_level(self._fit, ci_level)
        data = regression_lines.population_lines(self._fit, x=x, at=at, n_draws=n_draws, seed=seed, ci_level=level)
        if not draw:
            return data
        from unimix.plots.groups import draw_population

        return draw_population(data, ax=ax, title=self._fit.formula)

    def means(
        self,
        specs: str | Sequence[str],
        *,
        by: str | Sequence[str] = (),
        at: Mapping[str, Any] | None = None,
        weights: Weights = "equal",
        kind: Literal["response", "link"] = "response",
        points: Literal["response", "partial"] | None = "response",
        seed: int = 0,
        ci_level: float | None = None,
        columns: int = 3,
        draw: bool = True,
    ) -> Any:
        """Marginal means with intervals over the data: the first factor along the axis, the second in colours.

        Args:
            specs: Predictors with a mean for each combination of their levels, as in ``fit.emmeans``; ``by`` adds more.
            by: Further predictors.
            at: Values of predictors in the grid, one or a list for each name.
            weights: Weights of the combinations of factors that are averaged over, as in ``fit.emmeans``.
            kind: Scale of the means: response, or link.
            points: Points under the means, of the rows at the values shown: response for observed responses; partial
                for the mean at the row's values plus its residual, without what other predictors and groups add; None.
            seed: Seed of the sideways shifts that keep the points of a category apart.
            ci_level: Probability of the intervals; None takes that of the fit.
            columns: Number of panels per row, one for every combination of the factors after the second.
            draw: Whether to draw; if not, the data are returned.

        Returns:
            The matplotlib Axes, shape (panels,). With ``draw=False`` one row per mean and per point: columns kind (mean
            or data), one per predictor, y, lower, upper.

        Raises:
            OptionError: If options are unknown, or the points have another scale than the means.

        Example:
            >>> import unimix as um
            >>> fit = um.fit("distance ~ Sex * age + (1 | Subject)", um.load_dataset("orthodont"))
            >>> fit.plot.means("Sex", points="partial", draw=False).groupby(["Sex", "kind"], observed=True)["y"].mean()
            Sex     kind
            Female  data    22.647727
                    mean    22.647727
            Male    data    24.968750
                    mean    24.968750
            Name: y, dtype: float64
        """
        check_seed(seed)
        grid = {"by": by, "at": at, "weights": weights}
        data = means_and_points(self._fit, specs, grid, kind=kind, points=points, ci_level=ci_level)
        if not draw:
            return data
        from unimix.plots.means import draw_means

        scale, means = data.attrs["scale"], data[data["kind"] == "mean"].rename(columns={"y": "estimate"})
        return draw_means(
            means,
            data.attrs["names"],
            columns=columns,
            title=self._fit.formula,
            label=data.attrs["title"] + ("" if scale == "response" else f", {scale}"),
            note="\n".join(data.attrs["notes"]),
            points=data[data["kind"] == "data"],
            seed=seed,
        )

    # -- estimates ------------------------------------------------------------------------------

    def shrinkage(self, *terms: str, group: str | None = None, ax: Any = None, draw: bool = True) -> Any:
        """Where partial pooling moves each level's own estimate: arrows for two coefficients, lines for one.

        Args:
            terms: Names of one or two coefficients; if none is given, the first two that vary.
            group: Name of the grouping factor; optional if the model has only one.
            ax: Axes to draw into; None makes new ones.
            draw: Whether to draw; if not, the data are returned.

        Returns:
            The matplotlib Axes. With ``draw=False`` index level, columns (kind, term) with kinds no, partial, centre
            and complete.
        """
        data = by_plot.shrinkage(self._fit, group, terms)
        if not draw:
            return data
        from unimix.plots.levels import draw_shrinkage

        return draw_shrinkage(data, ax=ax, title=self._fit.formula)

    def caterpillar(
        self, group: str | None = None, *, ci_level: float | None = None, columns: int = 3, draw: bool = True
    ) -> Any:
        """Conditional modes (posterior means) with intervals, sorted, one panel per term.

        Args:
            group: Name of the grouping factor; optional if the model has only one.
            ci_level: Probability of the intervals, which are normal quantiles times the conditional SD; None takes that
                of the fit.
            columns: Number of panels per row.
            draw: Whether to draw; if not, the data are returned.

        Returns:
            The matplotlib Axes, one per term. With ``draw=False`` columns group, term, level, estimate, std_error,
            lower, upper, position.
        """
        level = interval_level(self._fit, ci_level)
        data = by_plot.caterpillar(self._fit, group, level)
        if not draw:
            return data
        from unimix.plots.levels import draw_caterpillar

        title = f"Effects of {data['group'].iloc[0]}: {self._fit.formula}"
        note = f"{by_plot.interval_words(self._fit, level)}; blue where they exclude zero"
        return draw_caterpillar(data, columns=columns, title=title, note=note)

    def forest(
        self,
        *others: FittedModel | Sequence[FittedModel],
        columns: int = 3,
        title: str | None = None,
        draw: bool = True,
    ) -> Any:
        """Fixed effects with intervals, and SDs, of this result and others side by side.

        Args:
            others: Further results, such as those of other engines, or lists of results.
            columns: Number of panels per row.
            title: Title of the figure; None takes the formula.
            draw: Whether to draw; if not, the data are returned.

        Returns:
            The matplotlib Axes, one per quantity. With ``draw=False`` columns part, name, engine, estimate, lower,
            upper, interval.
        """
        from unimix.plots.forest import draw_forest, forest_data

        data = forest_data(by_plot.labelled([self._fit, *by_plot.flat(others)]))
        return draw_forest(data, columns=columns, title=title or self._fit.formula) if draw else data

    def ridge(
        self,
        term: str | None = None,
        *,
        group: str | None = None,
        levels: Sequence[Any] | int = 40,
        seed: int = 0,
        ax: Any = None,
        draw: bool = True,
    ) -> Any:
        """The posterior of a coefficient in each level; for other engines, the normal distribution of its error.

        Args:
            term: Name of a coefficient (fixed plus group effect); None takes the first that varies.
            group: Name of the grouping factor; optional if the model has only one.
            levels: Levels to show, or their number, spread evenly over all levels.
            seed: Seed of the draws, used if the engine has no draws of its own.
            ax: Axes to draw into; None makes new ones.
            draw: Whether to draw; if not, the data are returned.

        Returns:
            The matplotlib Axes. With ``draw=False`` columns level, x, density, mean; levels by increasing mean.
        """
        data = by_plot.ridge(self._fit, term, group, levels, seed)
        if not draw:
            return data
        from unimix.plots.levels import draw_ridge

        return draw_ridge(
            data,
            ax=ax,
            title=f"{data.attrs['term']} by {data.attrs['group']}{_some(data)}: {self._fit.formula}",
            xlabel=f"{data.attrs['term']} (fixed plus group effect; dashed: fixed effect)",
        )

    # -- checks ---------------------------------------------------------------------------------

    def diagnostics(self, *, draw: bool = True) -> Any:
        """Residuals against fitted values, Q-Q of residuals and group effects, scale-location, leverage.

        Args:
            draw: Whether to draw; if not, the data are returned.

        Returns:
            The matplotlib Axes: four, and one for each term of the group effects. With ``draw=False`` one row per row
            that was fitted: columns fitted, residual (standardized), residual_quantile, leverage.
        """
        data = by_plot.diagnostics(self._fit)
        if not draw:
            return data
        from unimix.plots.checks import draw_diagnostics

        return draw_diagnostics(data, by_plot.mode_quantiles(self._fit), title=self._fit.formula)

    def posterior_predictive(self, n: int = 50, *, seed: int = 0, ax: Any = None, draw: bool = True) -> Any:
        """The distribution of the observed response among those of replicated responses, given the group effects.

        Responses are replicated from posterior draws, or from the joint error of fixed and group effects and the
        residual.

        Args:
            n: Number of replicated data sets.
            seed: Seed of the random numbers.
            ax: Axes to draw into; None makes new ones.
            draw: Whether to draw; if not, the data are returned.

        Returns:
            The matplotlib Axes. With ``draw=False`` columns draw (-1 for the observed data), x, density.
        """
        data = by_plot.posterior_predictive(self._fit, n, seed)
        return self._predictive(data, "replicated", ax) if draw else data

    def prior_predictive(self, n: int = 50, *, seed: int = 0, ax: Any = None, draw: bool = True) -> Any:
        """Responses drawn from the prior, beside the observed ones, to see whether the prior allows plausible values.

        Args:
            n: Number of data sets drawn from the prior.
            seed: Seed of the random numbers.
            ax: Axes to draw into; None makes new ones.
            draw: Whether to draw; if not, the data are returned.

        Returns:
            The matplotlib Axes. With ``draw=False`` columns draw (-1 for the observed data), x, density.

        Raises:
            UnimixError: If the engine has no prior.
        """
        data = by_plot.prior_predictive(self._fit, n, seed)
        return self._predictive(data, "from the prior", ax) if draw else data

    def _predictive(self, data: pd.DataFrame, label: str, ax: Any) -> Any:
        from unimix.plots.checks import draw_predictive

        return draw_predictive(data, ax=ax, title=self._fit.formula, xlabel=str(data.attrs["response"]), label=label)

    def trace(self, names: list[str] | None = None, *, draw: bool = True, **options: Any) -> Any:
        """Densities and traces of the draws by chain, with ticks where transitions diverged.

        Args:
            names: Variables of ``fit.posterior``; None takes all but group effects.
            draw: Whether to draw; if not, the data are returned.
            options: Properties of matplotlib's lines, such as ``linewidth=1``.

        Returns:
            The matplotlib Axes, shape (parameters, 2). With ``draw=False`` columns chain, draw and one per parameter.

        Raises:
            UnimixError: If the engine does not sample.
        """
        data = by_plot.draws_frame(self._fit, by_plot.sampled_names(self._fit, names))
        if not draw:
            return data
        from unimix.plots.chains import draw_trace

        return draw_trace(data, by_plot.chain_densities(data), title=self._fit.formula, **options)

    def rank(self, names: list[str] | None = None, *, draw: bool = True, **options: Any) -> Any:
        """Ranks of each chain's draws among all draws; the bars are level when the chains agree.

        Vehtari, Gelman, Simpson, Carpenter & Buerkner (2021), Bayesian Analysis 16:667-718.

        Args:
            names: Variables of ``fit.posterior``; None takes all but group effects.
            draw: Whether to draw; if not, the data are returned.
            options: Properties of matplotlib's bars, such as ``alpha=0.5``.

        Returns:
            The matplotlib Axes. With ``draw=False`` columns chain, draw and one per parameter.

        Raises:
            UnimixError: If the engine does not sample.
        """
        data = by_plot.draws_frame(self._fit, by_plot.sampled_names(self._fit, names))
        if not draw:
            return data
        from unimix.plots.chains import draw_rank

        return draw_rank(data, title=self._fit.formula, **options)

    def model_graph(self, *, ax: Any = None, draw: bool = True) -> Any:
        """PyMC's graph of the model, with its priors; drawing it needs graphviz.

        Args:
            ax: Axes to draw into; None makes new ones.
            draw: Whether to draw; if not, the graph is returned.

        Returns:
            The matplotlib Axes. With ``draw=False`` the graph in graphviz's language.

        Raises:
            UnimixError: If the engine has no such model.
        """
        graph = prior.model_graph(self._fit)
        if not draw:
            return str(graph.source)
        from unimix.plots.chains import draw_graph

        return draw_graph(graph, ax=ax, title=self._fit.formula)


def _some(data: pd.DataFrame) -> str:
    shown, total = data["level"].nunique(), int(data.attrs["n_levels"])
    return f" ({shown} of {total} levels)" if shown < total else ""


__all__ = ["Plots"]
