"""Draws from the prior of a model, and the graph of the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from unimix.argument_types import count_fault
from unimix.backends.limits import memory_fault
from unimix.design.estimates import Generative
from unimix.errors import OptionError, UnimixError
from unimix.fitted.model import FittedModel
from unimix.parallel.jobs import check_seed

FloatArray = npt.NDArray[np.float64]


def prior_predictive(fit: FittedModel, n: int = 500, *, seed: int | None = None) -> FloatArray:
    """Responses of the rows used, drawn from the prior, shape (n, n_obs).

    Args:
        n: Number of draws.
        seed: Seed of the random numbers.

    Returns:
        One draw of all responses per row, in the units of the response.

    Raises:
        UnimixError: If the engine has no prior, or the result was loaded.
        OptionError: If ``n`` is not a whole number of at least 1, or too large for the free memory.

    Example:
        >>> import unimix as um
        >>> sleep = um.load_dataset("sleepstudy")
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", sleep, backend="bayes", seed=1)
        >>> fit.prior_predictive(100, seed=1).shape
        (100, 180)
    """
    model = generative_model(fit)
    check_seed(seed)
    fault = count_fault("n", n, 1, "draws") or memory_fault("n", n, fit.model.n_obs, "draws")
    if fault:
        raise OptionError(fault)
    return model.prior_predictive(n, seed)


def model_graph(fit: FittedModel) -> Any:
    """The graph of the Bayesian model, with its priors, as a ``graphviz.Digraph``.

    Raises:
        UnimixError: If the engine has no such model, or the result was loaded.

    Example:
        >>> import unimix as um
        >>> options = {"sampler": "pymc", "draws": 100, "tune": 200, "chains": 2}
        >>> formula, sleep = "Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy")
        >>> fit = um.fit(formula, sleep, backend="pymc", seed=1, options=options, progress=False)
        >>> type(fit.model_graph()).__name__
        'Digraph'
    """
    return generative_model(fit).graph()


def generative_model(fit: FittedModel) -> Generative:
    """The engine's generative model, from which responses can be drawn.

    Raises:
        UnimixError: If the engine has no such model, or the result was loaded.
    """
    if fit._unsaved.generative is None:
        fresh = fit._unsaved.posterior is not None
        why = (
            f"{fit.engine.backend} draws no responses from its prior"
            if fresh
            else "the result was loaded, which keeps no model"
            if fit.status.n_draws
            else f"{fit.engine.backend} has no prior"
        )
        why += "" if fit.status.n_draws and not fresh else "; use backend='pymc' or 'bayes'"
        raise UnimixError(f"There is no model to draw from: {why}.")
    return fit._unsaved.generative
