"""A result's model, fitted again."""

from __future__ import annotations

from typing import Any

from unimix.backends import registry
from unimix.design.arrays import Design
from unimix.errors import OptionError
from unimix.estimation.arguments import DF_METHODS, Again
from unimix.result import FitResult


def again(fit: FitResult, *, many: bool = False) -> Again:
    """The engine of a result with its options, whether it was fitted here or loaded; for many fits in a row."""
    engine = registry.resolve(fit.engine.backend, fit.engine.options)
    engine = engine.for_refits() if many else engine
    own = fit.model.method if fit.model.method in ("REML", "ML", "Laplace", "AGQ") else None
    return Again(engine, own, fit.fixed.level, None, fit.engine.seed)


def again_at(fit: FitResult, *, design: Design | None = None, method: str | None = None) -> FitResult:
    """The same model by the same engine with its options, by another criterion or of another design.

    Args:
        fit: A result that holds its design, unless one is given.
        design: Instead of its own.
        method: Instead of its own.
    """
    return again(fit)(design or fit.design(), method)


def refit(fit: FitResult, data: Any = None, *, method: str | None = None) -> FitResult:
    """Fit a result's model again, by the same engine with its options: a result that was loaded gets its engine back.

    Args:
        fit: The result.
        data: The data that were fitted; needed for a result that was loaded or unpickled only.
        method: Another criterion: ML instead of REML, say.

    Returns:
        A new result, with degrees of freedom of the same kind.

    Raises:
        DataError: If the data are needed and absent, or not those that were fitted.
    """
    if not isinstance(fit, FitResult):
        raise OptionError("um.refit takes a result: um.refit(fit, data).")
    kind = fit.fixed.df_method if fit.fixed.df_method in DF_METHODS else "normal"
    return again(fit)((fit if data is None else fit.with_data(data)).design(), method, kind)


__all__ = ["again", "again_at", "refit"]
