"""Fit the model of a result again."""

from __future__ import annotations

from typing import Any

from unimix.backends import registry
from unimix.design.arrays import Design
from unimix.distributions.prior_text import read_given
from unimix.errors import OptionError
from unimix.estimation.arguments import DF_METHODS, FitArguments, Method
from unimix.estimation.run import EngineRefitter
from unimix.fitted.criterion import likelihood_arrays
from unimix.fitted.schema import PRIORS
from unimix.foreign_names import suggests_names
from unimix.result import FitResult


def refitter_of(fit: FitResult, *, many: bool = False) -> EngineRefitter:
    """The engine of a result with its options, whether the result was fitted in this session or loaded.

    Args:
        fit: The result.
        many: Whether many similar designs follow, for which the engine leaves out the further starts of a single fit.
    """
    engine = registry.resolve(fit.engine.backend, fit.engine.options)
    engine = engine.for_refits() if many else engine
    method = fit.model.method if fit.model.method in ("REML", "ML", "Laplace", "AGQ") else None
    priors = read_given(fit.provenance.get(PRIORS, "")) or None
    arguments = FitArguments(
        method=method, ci_level=fit.fixed.level, priors=priors, seed=fit.engine.seed, progress=False
    )
    return EngineRefitter(engine, arguments)


def refit_design(fit: FitResult, *, design: Design | None = None, method: str | None = None) -> FitResult:
    """Fit the model of a result again by the same engine, with another criterion or another design.

    Args:
        fit: The result. It must hold its design, unless ``design`` is given.
        design: Design to fit instead of the result's own.
        method: Criterion of the new fit; the result's own, if left out.
    """
    return refitter_of(fit)(design or likelihood_arrays(fit), method)


@suggests_names
def refit(fit: FitResult, data: Any = None, *, method: Method | None = None) -> FitResult:
    """Fit the model of a result again, by the same engine with the same options.

    A result that was loaded from a file regains its engine in this way.

    Args:
        fit: The result.
        data: The data that were fitted; needed only for a result that was loaded or unpickled.
        method: Criterion of the new fit, such as ML instead of REML; the result's own, if left out.

    Returns:
        The new result, with degrees of freedom of the same kind.

    Raises:
        DataError: If data are needed and absent, or differ from the data that were fitted.
        OptionError: If ``fit`` is not a result, or the method does not belong to the model.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (Days | Subject)", um.load_dataset("sleepstudy"))
        >>> um.refit(fit, method="ML").model.method
        'ML'
    """
    if not isinstance(fit, FitResult):
        raise OptionError("um.refit takes a result: um.refit(fit, data).")
    kind = fit.fixed.df_method if fit.fixed.df_method in DF_METHODS else "normal"
    return refitter_of(fit)(likelihood_arrays(fit if data is None else fit.with_data(data)), method, kind)


__all__ = ["refit", "refit_design", "refitter_of"]
