"""Pictures that check a fit: draws, predictive distributions, residuals, the model itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from unimix.analysis.plot_data import by_plot
from unimix.foreign_names import suggests_names

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel


@suggests_names(path="plot.")
class CheckPlots:
    """Pictures that check a result; :class:`~unimix.analysis.plot_data.accessor.Plots` adds those of its estimates."""

    def __init__(self, fit: FittedModel) -> None:
        self._fit = fit

    def __dir__(self) -> list[str]:
        return [n for n in super().__dir__() if not n.startswith("_")]

    def __repr__(self) -> str:
        names = [n for n in dir(self) if not n.endswith("_data")]
        return f"Plots of {self._fit.model.formula}: {', '.join(f'.{n}()' for n in names)}"

    def trace_data(self, names: list[str] | None = None) -> pd.DataFrame:
        """What :meth:`trace` and :meth:`rank` show: columns chain, draw and one per parameter.

        Args:
            names: Variables of ``fit.posterior``; all but group effects and correlations, if left out.
        """
        return by_plot.draws_frame(self._fit, by_plot.sampled_names(self._fit, names))

    rank_data = trace_data

    def trace(self, names: list[str] | None = None, **options: Any) -> Any:
        """ArviZ's trace plot: densities and traces of the draws by chain.

        Args:
            names: Variables of ``fit.posterior``; all but group effects and correlations, if left out.
            options: As for ``arviz.plot_trace``.

        Returns:
            The matplotlib Axes, shape (parameters, 2).

        Raises:
            UnimixError: If the engine does not sample.
        """
        from unimix.plots.chains import draw_trace

        shown = by_plot.sampled_names(self._fit, names)
        return draw_trace(self._fit.posterior, shown, title=self._fit.model.formula, **options)

    def rank(self, names: list[str] | None = None, **options: Any) -> Any:
        """ArviZ's rank plot: flat where the chains agree (Vehtari and others 2021).

        Args:
            names: Variables of ``fit.posterior``; all but group effects and correlations, if left out.
            options: As for ``arviz.plot_rank``.

        Returns:
            The matplotlib Axes.

        Raises:
            UnimixError: If the engine does not sample.
        """
        from unimix.plots.chains import draw_rank

        shown = by_plot.sampled_names(self._fit, names)
        return draw_rank(self._fit.posterior, shown, title=self._fit.model.formula, **options)

    def posterior_predictive_data(self, n: int = 50, *, seed: int = 0) -> pd.DataFrame:
        """What :meth:`posterior_predictive` shows: columns draw (-1: observed), x, density.

        Args:
            n: Number of replicated data sets.
            seed: Seed of the random numbers.
        """
        return by_plot.posterior_predictive(self._fit, n, seed)

    def posterior_predictive(self, n: int = 50, *, seed: int = 0, ax: Any = None) -> Any:
        """The distribution of the observed response among replicated ones, given the group effects.

        Replicated from posterior draws, or from the joint error of fixed and group effects and the residual.

        Args:
            n: Number of replicated data sets.
            seed: Seed of the random numbers.
            ax: Axes to draw into.

        Returns:
            The matplotlib Axes.
        """
        from unimix.plots.checks import draw_predictive

        found = self.posterior_predictive_data(n, seed=seed)
        return draw_predictive(
            found, ax=ax, title=self._fit.model.formula, xlabel=str(found.attrs["response"]), label="replicated"
        )

    def prior_predictive_data(self, n: int = 50, *, seed: int = 0) -> pd.DataFrame:
        """What :meth:`prior_predictive` shows: columns draw (-1: observed), x, density.

        Args:
            n: Number of data sets drawn from the prior.
            seed: Seed of the random numbers.
        """
        return by_plot.prior_predictive(self._fit, n, seed)

    def prior_predictive(self, n: int = 50, *, seed: int = 0, ax: Any = None) -> Any:
        """Responses drawn from the prior, beside the observed ones: does the prior allow what can be, and only that?

        Args:
            n: Number of data sets drawn from the prior.
            seed: Seed of the random numbers.
            ax: Axes to draw into.

        Returns:
            The matplotlib Axes.

        Raises:
            UnimixError: If the engine has no prior.
        """
        from unimix.plots.checks import draw_predictive

        found = self.prior_predictive_data(n, seed=seed)
        return draw_predictive(
            found, ax=ax, title=self._fit.model.formula, xlabel=str(found.attrs["response"]), label="from the prior"
        )

    def diagnostics_data(self) -> pd.DataFrame:
        """What :meth:`diagnostics` shows: index row; columns fitted, residual, residual_quantile, leverage."""
        return by_plot.diagnostics(self._fit)

    def diagnostics(self) -> Any:
        """Residuals against fitted values, Q-Q of residuals and group effects, scale-location, leverage.

        Returns:
            The matplotlib Axes, four and one per kind of group effect.
        """
        from unimix.plots.checks import draw_diagnostics

        found = self.diagnostics_data()
        return draw_diagnostics(found, by_plot.mode_quantiles(self._fit), title=self._fit.model.formula)

    def model_graph_data(self) -> str:
        """The graph of the model in graphviz's language."""
        return str(self._fit.generative_model().graph().source)

    def model_graph(self, *, ax: Any = None) -> Any:
        """PyMC's graph of the model, with its priors; needs graphviz.

        Args:
            ax: Axes to draw into.

        Returns:
            The matplotlib Axes.

        Raises:
            UnimixError: If the engine has no such model.
        """
        from unimix.plots.chains import draw_graph

        return draw_graph(self._fit.generative_model().graph(), ax=ax, title=self._fit.model.formula)
