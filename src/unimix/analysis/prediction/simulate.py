"""Responses simulated from a fitted model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from unimix.analysis.prediction.draws import coefficient_draws
from unimix.errors import OptionError, UnsupportedModelError, did_you_mean
from unimix.parallel.jobs import check_seed
from unimix.stats.simulation import Simulator

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
EFFECTS = ("new", "kept")


def simulator_of(fit: FittedModel, effects: str = "new") -> Simulator:
    """A result's model with its estimates.

    Args:
        fit: The result.
        effects: new group effects in every response, or those of the fit.

    Raises:
        OptionError: For other effects.
        UnsupportedModelError: If rows stand for several responses, or the dispersion has a formula.
    """
    if effects not in EFFECTS:
        raise OptionError(f"effects={effects!r}: choose 'new' or 'kept'.{did_you_mean(str(effects), EFFECTS)}")
    if "dispersion" in fit.parts:
        raise UnsupportedModelError("Models whose dispersion has a formula cannot be simulated yet.")
    design = fit.design()
    if design.weights is not None and not design.family.is_linear:
        raise UnsupportedModelError(
            "A row of weight w stands for w responses with equal values here, which no simulation gives. Repeat the "
            "rows instead of weighting them."
        )
    zero = fit.rows.zero_probability
    return Simulator(
        design=design,
        beta=np.asarray(fit.fixed.estimate),
        covariances=tuple(np.asarray(b.covariance) for b in fit.random),
        parameters=fit.dispersion_parameters,
        share=None if zero is None else 1.0 - np.asarray(zero),
        effects=tuple(np.asarray(b.modes) for b in fit.random) if effects == "kept" else None,
    )


def simulate(
    fit: FittedModel,
    n: int = 1,
    *,
    seed: int | None = None,
    effects: Literal["new", "kept"] = "new",
) -> FloatArray:
    """Responses of the rows used at the estimates, shape (n, n_obs); of a binomial family proportions.

    Args:
        n: Number of responses.
        seed: Seed of the random numbers.
        effects: new group effects in each (lme4's ``simulate``), or kept: those of the fit. A posterior gives every
            response a draw of all parameters.

    Raises:
        OptionError: For a number below 1.
        UnsupportedModelError: If rows stand for several responses, or the dispersion has a formula.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
        >>> fit.simulate(100, seed=1).shape
        (100, 180)
    """
    check_seed(seed)
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise OptionError(f"n={n!r}: a whole number of responses, 1 at least.")
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


__all__ = ["simulate", "simulator_of"]
