"""What can be drawn from a fitted model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt

from unimix.analysis.prediction.draws import Draws, coefficient_draws, replicated
from unimix.analysis.prediction.loo import loo
from unimix.analysis.prediction.simulate import simulate
from unimix.design.estimates import Generative
from unimix.errors import UnimixError
from unimix.fitted.saving import SavedResult

if TYPE_CHECKING:
    from unimix.result import FitResult

FloatArray = npt.NDArray[np.float64]


class DrawnResult(SavedResult):
    """A saved result with draws of its coefficients and responses."""

    def draws(self, n: int = 1000, *, seed: int | None = None, data: Any = None) -> Draws:
        """Draws of fixed effects, group effects and, of a sampler, covariance and dispersion parameters, jointly.

        A sampler's are its posterior draws, evenly thinned; for other engines they come from the normal distribution
        of the estimation error at the estimated covariance parameters (Henderson 1975).

        Args:
            n: Number of draws.
            seed: Of random numbers.
            data: The data that were fitted; needed for a result that was loaded or unpickled only.

        Raises:
            OptionError: For a number below 1.
            DataError: If the data are needed and absent, or not those that were fitted.
        """
        return coefficient_draws(cast("FitResult", self), n, seed, data)

    def posterior_predictive(self, n: int = 1000, *, seed: int | None = None, data: Any = None) -> FloatArray:
        """Replicated responses of the rows used, given their group effects, shape (n, n_obs).

        From :meth:`draws`, with the family's distribution about each mean; of a binomial family proportions.

        Args:
            n: Number of replications; a sampler has no more than its draws.
            seed: Of random numbers.
            data: The data that were fitted; needed for a result that was loaded or unpickled only.
        """
        return replicated(cast("FitResult", self), n, seed, data)

    def simulate(
        self,
        n: int = 1,
        *,
        seed: int | None = None,
        effects: Literal["new", "kept"] = "new",
        data: Any = None,
    ) -> FloatArray:
        """Responses of the rows used at the estimates, shape (n, n_obs); of a binomial family proportions.

        Args:
            n: Number of responses.
            seed: Of random numbers.
            effects: new group effects in each (lme4's ``simulate``), or kept: those of the fit. A posterior gives every
                response a draw of all parameters.
            data: The data that were fitted; needed for a result that was loaded or unpickled only.

        Raises:
            OptionError: For a number below 1.
            UnsupportedModelError: If rows stand for several responses, or the dispersion has a formula.
        """
        return simulate(cast("FitResult", self), n, seed, effects, data)

    def loo(self, data: Any = None) -> Any:
        """Leave-one-out cross-validation by Pareto-smoothed importance sampling, from ArviZ (an ``ELPDData``).

        One row is left out at a time, given the effects of its group; Pareto k above 0.7 marks rows whose value cannot
        be trusted. ``um.compare_loo`` sets models side by side.

        Args:
            data: The data that were fitted; needed for a result that was unpickled only.

        Raises:
            UnimixError: If the engine does not sample, or the result was loaded from JSON.
        """
        return loo(cast("FitResult", self), data)

    def prior_predictive(self, n: int = 500, *, seed: int | None = None) -> FloatArray:
        """Responses of the rows used, drawn from the prior, shape (n, n_obs).

        Args:
            n: Number of draws.
            seed: Of random numbers.

        Raises:
            UnimixError: If the engine has no prior, or the result was loaded.
        """
        return self._written_model().prior_predictive(n, seed)

    def model_graph(self) -> Any:
        """The model's graph as a ``graphviz.Digraph``.

        Raises:
            UnimixError: If the engine has no such model, or the result was loaded.
        """
        return self._written_model().graph()

    def _written_model(self) -> Generative:
        if self._generative is None:
            why = (
                "the result was loaded, which keeps no model"
                if self.status.n_draws
                else f"{self.engine.backend} has no prior; use backend='pymc'"
            )
            raise UnimixError(f"There is no model to draw from: {why}.")
        return self._generative
