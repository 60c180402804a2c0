"""Responses simulated from a fitted model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from unimix.analysis.prediction.draws import coefficient_draws
from unimix.argument_types import count_fault
from unimix.backends.limits import memory_fault
from unimix.distributions.family import Cumulative
from unimix.errors import OptionError, UnsupportedModelError, did_you_mean
from unimix.parallel.jobs import check_seed
from unimix.stats.simulation import Simulator

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
EFFECTS = ("new", "kept")


def simulator_of(fit: FittedModel, effects: str = "new") -> Simulator:
    """A simulator of responses from a result's model at its estimates.

    Args:
        fit: The result.
        effects: Group effects of each response: new draws, or kept from the fit.

    Raises:
        OptionError: If ``effects`` is unknown.
        UnsupportedModelError: If rows stand for several responses, or the dispersion has a formula.
    """
    if effects not in EFFECTS:
        raise OptionError(f"effects={effects!r}: choose 'new' or 'kept'.{did_you_mean(str(effects), EFFECTS)}")
    if "dispersion" in fit.parts and not fit.family.is_linear:
        raise UnsupportedModelError("Generalised models whose dispersion has a formula cannot be simulated yet.")
    design = fit.design()
    if design.weights is not None and not design.family.is_linear:
        raise UnsupportedModelError(
            "A row of weight w stands for w responses with the same value here, which cannot be simulated. Repeat the "
            "rows instead of weighting them."
        )
    zero = fit.rows.zero_probability
    return Simulator(
        design=design,
        beta=np.asarray(fit.fixed.estimate),
        covariances=tuple(np.asarray(b.covariance) for b in fit.random),
        parameters=fit.dispersion_parameters,
        log_sd=fit.parts["dispersion"].estimate if "dispersion" in fit.parts else None,
        share=None if zero is None else 1.0 - np.asarray(zero),
        effects=tuple(np.asarray(b.modes) for b in fit.random) if effects == "kept" else None,
        residual=None if fit.residual_part is None else fit.residual_part.covariance,
    )


def simulate(
    fit: FittedModel,
    n: int = 1,
    *,
    seed: int | None = None,
    effects: Literal["new", "kept"] = "new",
) -> FloatArray:
    """Simulate responses of the rows used at the estimates, shape (n, n_obs).

    Args:
        n: Number of simulated responses of each row.
        seed: Seed of the random numbers.
        effects: Group effects of each simulation: new draws (as lme4's ``simulate``), or kept from the fit. For a
            posterior, each simulation uses one draw of all parameters.

    Returns:
        One simulation of all responses per row, in the units of the response; proportions for a binomial family, and
        categories of an ordered response.

    Raises:
        OptionError: If ``n`` is not a whole number of at least 1, or too large for the free memory, or ``effects`` is
            unknown.
        UnsupportedModelError: If rows stand for several responses, or the dispersion has a formula.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
        >>> fit.simulate(100, seed=1).shape
        (100, 180)
    """
    check_seed(seed)
    fault = count_fault("n", n, 1, "responses") or memory_fault("n", n, fit.model.n_obs, "simulated responses")
    if fault:
        raise OptionError(fault)
    drawn = draw_responses(fit, n, seed, effects)
    return drawn if not isinstance(fit.family, Cumulative) else np.array(fit.family.categories)[drawn.astype(int)]


def draw_responses(fit: FittedModel, n: int, seed: int | None, effects: str) -> FloatArray:
    """Responses as numbers, shape (n, n_obs): those of :func:`simulate`, and positions of ordered categories."""
    own = simulator_of(fit, effects)
    rng = np.random.default_rng(seed)
    if fit.fixed.interval != "credible":
        return np.array([own.draw(rng) for _ in range(n)])
    draws = coefficient_draws(fit, fit.status.n_draws or 1)
    picked = rng.integers(len(draws), size=n)
    return np.array(
        [
            replace(
                own,
                beta=draws.beta[k],
                covariances=tuple(c[k] for c in draws.covariances),
                parameters=draws.parameters[k],
                effects=None if own.effects is None else tuple(e[k] for e in draws.effects),
            ).draw(rng)
            for k in picked
        ]
    )


__all__ = ["draw_responses", "simulate", "simulator_of"]
