"""The draws of a sampled fit, as its engine gave them."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from unimix.errors import UnimixError
from unimix.fitted.schema import EngineInfo, FixedPartResult, Status


class SampledFit(Protocol):
    """What is read here of a :class:`unimix.fitted.model.FittedModel`, which imports this file."""

    @property
    def _unsaved(self) -> Any:
        """The objects that are not saved."""

    @property
    def engine(self) -> EngineInfo:
        """The engine that fitted the model."""

    @property
    def fixed(self) -> FixedPartResult:
        """Fixed effects."""

    @property
    def status(self) -> Status:
        """Whether the fit can be used."""


def engine_draws(fit: SampledFit) -> Any:
    """The draws as an ArviZ object, with the groups that the engine gave.

    Raises:
        UnimixError: If the engine does not sample, or the result was loaded from JSON.
    """
    if fit._unsaved.posterior is None:
        why = (
            "the result was loaded from JSON, which keeps no draws (fit.save('fit.zip') keeps them)"
            if fit.status.n_draws
            else f"{fit.engine.backend} does not sample; use backend='pymc'"
        )
        raise UnimixError(f"There are no posterior draws: {why}.")
    return fit._unsaved.posterior


def fixed_draws(fit: SampledFit) -> npt.NDArray[np.float64] | None:
    """Draws of the fixed effects, shape (S, p); None without fixed effects.

    Raises:
        UnimixError: If the engine does not sample, or the result was loaded from JSON.
    """
    if not fit.fixed.terms:
        return None
    return variable_draws(fit, "fixed")


def ratio_draws(fit: SampledFit) -> npt.NDArray[np.float64] | None:
    """Draws of the fixed effects, shape (S, p), from which ratios are summarised; None if the engine does not sample.

    Raises:
        UnimixError: If a sampled result was loaded without its draws: exp of a mean is not the mean of a ratio.
    """
    sampled = fit.fixed.interval == "credible" and fit.status.n_draws is not None
    return fixed_draws(fit) if sampled else None


def variable_draws(fit: SampledFit, name: str) -> npt.NDArray[np.float64]:
    """Draws of one variable of the posterior, chain after chain, shape (S, ...).

    Raises:
        UnimixError: If the engine does not sample, or the result was loaded from JSON.
    """
    group = engine_draws(fit).posterior
    values = np.asarray(group[name].transpose("chain", "draw", ...).values, dtype=np.float64)
    return values.reshape(group.sizes["chain"] * group.sizes["draw"], *values.shape[2:])
