"""Responses drawn from a PyMC model, and the graph of the model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from unimix.backends.sampling.priors import resolve_priors
from unimix.backends.sampling.pymc_model import Recipe, build_model
from unimix.design.estimates import Deferred
from unimix.errors import EngineNotInstalledError, UnimixError, UnsupportedModelError
from unimix.likelihood.lmm.conditioning import without_offset

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class WrittenModel:
    """Model from which responses can be drawn.

    Attributes:
        model: Deferred result of :func:`unimix.backends.sampling.pymc_model.build_model`.
        recipe: The recipe of the model.
    """

    model: Deferred
    recipe: Recipe

    @classmethod
    def of(cls, recipe: Recipe) -> WrittenModel:
        """The model of a recipe, which is built when it is first needed."""
        return cls(Deferred(partial(build_model, recipe)), recipe)

    def log_prior(
        self, beta: FloatArray, sds: Sequence[FloatArray], correlations: Sequence[FloatArray], dispersion: FloatArray
    ) -> FloatArray:
        """Log density of the priors at S points, shape (S,); the arguments are those of ``PriorTable.log_density``."""
        return self.recipe.table.log_density(beta, sds, correlations, dispersion)

    def with_priors(self, priors: Mapping[str, object] | None) -> WrittenModel:
        """Return this model under other priors."""
        table = resolve_priors(without_offset(self.recipe.design), priors)
        return WrittenModel.of(replace(self.recipe, table=table))

    @property
    def stated(self) -> tuple[dict[str, str], tuple[str, ...]]:
        """Text of every prior in force by name, and the names of the parameters that have default priors."""
        return self.recipe.table.texts, self.recipe.table.defaults

    @property
    def native(self) -> Any:
        """The model."""
        return self.model

    def prior_predictive(self, n: int, seed: int | None) -> FloatArray:
        """Responses drawn from the prior, shape (n, rows).

        Raises:
            UnsupportedModelError: If rows count several times, because the density is not that of a response then.
        """
        import pymc as pm

        if "y" not in {v.name for v in self.model.get().observed_RVs}:
            raise UnsupportedModelError(
                "Weights let rows count several times, so that the model has no distribution of a response to draw "
                "from. Fit it without weights= to look at its prior."
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = pm.sample_prior_predictive(n, model=self.model.get(), var_names=["y"], random_seed=seed)
            except ValueError as error:
                said = str(error).splitlines()[0]
                raise UnimixError(
                    f"The prior allows responses that cannot be drawn ({said}): means of all magnitudes. Give "
                    "narrower priors, priors={'Intercept': unimix.priors.Normal(0, 2), ...}."
                ) from error
        drawn = np.asarray(found.prior_predictive["y"].values, dtype=np.float64).reshape(n, -1)
        trials = self.recipe.design.trials  # draws of a binomial response are counts
        return drawn if trials is None else drawn / trials

    def graph(self) -> Any:
        """Graph of the model, drawn by PyMC.

        Raises:
            EngineNotInstalledError: If graphviz's Python package is missing.
        """
        import pymc as pm

        try:
            return pm.model_to_graphviz(self.model.get())
        except ImportError as error:
            raise EngineNotInstalledError(
                "The graph of a PyMC model needs graphviz. Type:\n    pip install graphviz\nand install its program "
                "`dot` (sudo apt-get install graphviz; conda install graphviz)."
            ) from error
