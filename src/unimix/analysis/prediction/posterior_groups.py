"""The ArviZ object of a sampled result, with the log-likelihood and the replications that ArviZ's functions ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from unimix.analysis.prediction.draws import replicated
from unimix.analysis.prediction.loo import pointwise_log_likelihood
from unimix.fitted.model import has_design
from unimix.fitted.sampled import engine_draws
from unimix.stats.draw_diagnostics import with_groups

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

MOST_NUMBERS = 20_000_000
"""Largest size of a group, draws times rows, that is made (160 MB)."""


def posterior(fit: FittedModel) -> Any:
    """Posterior draws as a complete ArviZ object.

    Its groups are posterior, sample_stats, observed_data and, from an engine's own model, constant_data; the variables
    have the names of ``fit.native``. The groups log_likelihood and posterior_predictive are made when the object is
    first asked for, unless draws times rows exceed 20 million. They need the data, and the draws of the group effects.

    Raises:
        UnimixError: If the engine does not sample, or the result was loaded from JSON.
    """
    sampled = engine_draws(fit)
    if not _can_be_completed(fit, sampled):
        return sampled
    return fit._keep("posterior", lambda: with_groups(sampled, _groups(fit, sampled)))


def _can_be_completed(fit: FittedModel, sampled: Any) -> bool:
    draws = sampled.posterior
    size = draws.sizes["chain"] * draws.sizes["draw"] * fit.n_obs
    effects = not fit.random or any(str(v).startswith("effects(") for v in draws.data_vars)
    return has_design(fit) and effects and not fit.parts and size <= MOST_NUMBERS


def _groups(fit: FittedModel, sampled: Any) -> dict[str, Any]:
    import xarray as xr

    chains, draws = sampled.posterior.sizes["chain"], sampled.posterior.sizes["draw"]
    design = fit.design()
    drawn = replicated(fit, chains * draws, seed=0)
    if design.trials is not None:
        drawn = np.round(drawn * design.trials).astype(np.int64)  # numbers of successes, as the observed ones
    elif design.family.response == "count":
        drawn = drawn.astype(np.int64)
    values = {
        "log_likelihood": pointwise_log_likelihood(fit),
        "posterior_predictive": drawn.reshape(chains, draws, -1),
    }
    coordinates = {k: sampled.posterior.coords[k] for k in ("chain", "draw")} | {"row": design.rows}
    return {n: xr.Dataset({"y": (("chain", "draw", "row"), v)}, coords=coordinates) for n, v in values.items()}
