"""A result's model, fitted again."""

from __future__ import annotations

from typing import Any

from unimix.backends import registry
from unimix.design.arrays import Design
from unimix.errors import OptionError
from unimix.estimation.arguments import DF_METHODS, FitArguments
from unimix.estimation.run import EngineRefitter
from unimix.foreign_names import suggests_names
from unimix.result import FitResult


def refitter_of(fit: FitResult, *, many: bool = False) -> EngineRefitter:
    """The engine of a result with its options, whether it was fitted here or loaded.

    Args:
        fit: The result.
        many: Without the care that only a single fit is worth.
    """
    engine = registry.resolve(fit.engine.backend, fit.engine.options)
    engine = engine.for_refits() if many else engine
    own = fit.model.method if fit.model.method in ("REML", "ML", "Laplace", "AGQ") else None
    arguments = FitArguments(method=own, ci_level=fit.fixed.level, seed=fit.engine.seed, progress=False)
    return EngineRefitter(engine, arguments)


def refit_design(fit: FitResult, *, design: Design | None = None, method: str | None = None) -> FitResult:
    """The same model by the same engine with its options, by another criterion or of another design.

    Args:
        fit: A result that holds its design, unless one is given.
        design: Design to fit instead of its own.
        method: Method to fit by instead of its own.
    """
    return refitter_of(fit)(design or fit.design(), method)


@suggests_names
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
    return refitter_of(fit)((fit if data is None else fit.with_data(data)).design(), method, kind)


__all__ = ["refit", "refit_design", "refitter_of"]
