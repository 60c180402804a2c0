"""Parameters and responses drawn from the priors of a model, and the density of its priors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unimix.backends.sampling.draws import Posterior
from unimix.backends.sampling.priors import PriorTable, resolve_priors
from unimix.design.arrays import Design
from unimix.design.estimates import Absent
from unimix.distributions.prior_draws import draw_correlations, draw_prior
from unimix.errors import UnimixError, UnsupportedModelError
from unimix.likelihood.lmm.conditioning import without_offset
from unimix.stats.simulation import Simulator

FloatArray = npt.NDArray[np.float64]


def draw_parameters(table: PriorTable, n: int, rng: np.random.Generator) -> Posterior:
    """Draw all parameters of a model from their priors, n times; there are no group effects."""
    p = len(table.fixed)
    drawn = [draw_prior(prior, n, rng) for prior in table.fixed]
    # priors are those of the functionals A beta
    beta = np.asarray(np.linalg.solve(table.functionals, np.array(drawn).reshape(p, n)).T, dtype=np.float64)
    dispersion = np.array([draw_prior(prior, n, rng) for prior in table.dispersion]).reshape(-1, n).T
    sds, correlations = [], []
    for priors, lkj in zip(table.sds, table.correlations, strict=True):
        sds.append(np.stack([draw_prior(prior, n, rng) for prior in priors], axis=1))
        alone = np.ones((n, 1, 1))
        correlations.append(alone if lkj is None else draw_correlations(lkj.eta, len(priors), n, rng))
    return Posterior(beta, tuple(sds), tuple(correlations), dispersion, None, (), ())


@dataclass(frozen=True)
class PriorSimulator:
    """Responses of a linear or generalised model, drawn from its priors.

    Attributes:
        design: Design in the user's columns, with its offset.
        table: The priors.
    """

    design: Design
    table: PriorTable

    @classmethod
    def of(cls, design: Design, priors: Mapping[str, object] | None) -> PriorSimulator:
        """The model of a design under the user's priors, and defaults for all other parameters.

        Raises:
            OptionError: If the priors do not suit the model; the message lists all faults.
        """
        return cls(design, resolve_priors(without_offset(design), priors))

    def draws(self, n: int, seed: int | None) -> tuple[Posterior, FloatArray]:
        """Parameters and responses drawn from the prior; the responses are those of :meth:`prior_predictive`.

        Raises:
            UnsupportedModelError: If rows count several times, because the density is not that of a response then.
            UnimixError: If the prior allows means of which no response can be drawn.
        """
        rng, design = np.random.default_rng(seed), self.design
        if design.weights is not None and design.family.name != "gaussian":
            raise UnsupportedModelError(
                "Weights let rows count several times, so that the model has no distribution of a response to draw "
                "from. Fit it without weights= to look at its prior."
            )
        drawn = draw_parameters(self.table, n, rng)
        covariances = [s[:, :, None] * s[:, None, :] * r for s, r in zip(drawn.sds, drawn.correlations, strict=True)]
        responses = np.empty((n, design.n))
        for i in range(n):
            simulator = Simulator(design, drawn.beta[i], tuple(c[i] for c in covariances), drawn.dispersion[i])
            try:
                responses[i] = simulator.draw(rng)
            except ValueError as error:
                raise UnimixError(
                    f"The prior allows responses that cannot be drawn ({error}): means of all magnitudes. Give "
                    "narrower priors, priors={'Intercept': unimix.priors.Normal(0, 2), ...}."
                ) from error
        return drawn, responses

    def prior_predictive(self, n: int, seed: int | None) -> FloatArray:
        """Responses drawn from the prior, shape (n, rows); proportions for a binomial family.

        Raises:
            UnsupportedModelError: If rows count several times, because the density is not that of a response then.
        """
        return self.draws(n, seed)[1]

    def log_prior(
        self, beta: FloatArray, sds: Sequence[FloatArray], correlations: Sequence[FloatArray], dispersion: FloatArray
    ) -> FloatArray:
        """Log density of the priors at S points, shape (S,); the arguments are those of ``PriorTable.log_density``."""
        return self.table.log_density(beta, sds, correlations, dispersion)

    def with_priors(self, priors: Mapping[str, object] | None) -> PriorSimulator:
        """Return this model under other priors."""
        return PriorSimulator.of(self.design, priors)

    @property
    def stated(self) -> tuple[dict[str, str], tuple[str, ...]]:
        """Text of every prior in force by name, and the names of the parameters that have default priors."""
        return self.table.texts, self.table.defaults

    @property
    def native(self) -> Any:
        """Placeholder for the engine's own object, which no sampler has made."""
        return Absent("There is no fit.native: the draws were reweighted, and no sampler ran under these priors.")

    def graph(self) -> Any:
        """Refuse the graph of the model.

        Raises:
            UnimixError: Always.
        """
        raise UnimixError("bayes writes no graph of its model: backend='pymc' draws the same model with its priors.")


__all__ = ["PriorSimulator", "draw_parameters"]
