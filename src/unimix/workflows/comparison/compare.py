"""One model through several engines, or finished results side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Never

from unimix.api import BackendLike, Method
from unimix.backends import registry
from unimix.backends.base import Backend
from unimix.backends.limits import MemoryLimit, TimeLimit
from unimix.distributions.family import FamilyLike
from unimix.errors import OptionError, UnimixError, brief, listing
from unimix.estimation.arguments import ColumnOrArray, fit_one, prepare, suited
from unimix.fitted.schema import DfMethod
from unimix.foreign_names import refuse_keywords, refuse_swapped
from unimix.result import FitResult
from unimix.workflows.comparison.build import build_comparison
from unimix.workflows.comparison.comparison import Comparison
from unimix.workflows.comparison.failure import Failure


def compare(
    formula: str | Sequence[FitResult] | FitResult,
    data: Any = None,
    *more: FitResult,
    backends: Sequence[BackendLike] | None = None,
    family: FamilyLike = "gaussian",
    method: Method | None = None,
    weights: ColumnOrArray = None,
    offset: ColumnOrArray = None,
    contrasts: Mapping[str, object] | None = None,
    ziformula: str | None = None,
    dispformula: str | None = None,
    df_method: DfMethod = "satterthwaite",
    ci_level: float = 0.95,
    missing: Literal["drop", "raise"] = "drop",
    priors: Mapping[str, Any] | None = None,
    seed: int | None = None,
    progress: bool | None = None,
    time_limit: TimeLimit = None,
    memory_limit: MemoryLimit = None,
    **unknown: Never,
) -> Comparison:
    """Fit one model through several engines, or set finished results side by side.

    Args:
        formula: As for :func:`fit`; or finished results, ``compare(fit_a, fit_b)`` or ``compare([fit_a, fit_b])``.
        data: As for :func:`fit`.
        more: Further finished results.
        backends: Names, classes or instances; all engines that are installed, if left out.
        family: As for :func:`fit`.
        method: For the engines that maximise a likelihood; samplers give their posterior.
        weights: As for :func:`fit`.
        offset: As for :func:`fit`.
        contrasts: As for :func:`fit`.
        ziformula: As for :func:`fit`.
        dispformula: As for :func:`fit`.
        df_method: As for :func:`fit`.
        ci_level: As for :func:`fit`.
        missing: As for :func:`fit`.
        priors: Go to the engines that have priors.
        seed: As for :func:`fit`.
        progress: As for :func:`fit`.
        time_limit: Of each engine, as for :func:`fit`.
        memory_limit: Of each engine, as for :func:`fit`.
        unknown: As for :func:`fit`.

    Returns:
        The comparison. An engine that fails or refuses keeps its column, with its error; one that refuses the model
        and was not asked for by name does not count against the agreement.

    Raises:
        DataError: If finished results belong to different designs.
        OptionError: For wrong arguments.
    """
    refuse_keywords(compare, unknown)
    refuse_swapped("unimix.compare", formula, data)
    if not isinstance(formula, str):
        given = [formula] if isinstance(formula, FitResult) else list(formula)
        given += [r for r in (data, *more) if r is not None]
        return build_comparison(given, [])
    if more:
        raise OptionError("compare takes a formula and data, or finished results; not both.")
    engines = engines_of(backends)
    call = prepare(
        formula,
        data,
        family,
        method,
        weights,
        offset,
        contrasts,
        ziformula,
        dispformula,
        df_method,
        ci_level,
        missing,
        None,
        seed,
        progress,
        time_limit,
        memory_limit,
    )
    results: list[FitResult | Failure] = []
    for engine in engines:
        try:
            results.append(fit_one(engine, suited(call, engine, priors)))
        except UnimixError as error:
            results.append(Failure(engine.info.name, type(error).__name__, brief(error), asked=backends is not None))
    fitted = [r for r in results if isinstance(r, FitResult)]
    return build_comparison(fitted, [r for r in results if isinstance(r, Failure)], order=[_label(r) for r in results])


def _label(result: FitResult | Failure) -> str:
    return result.engine.backend if isinstance(result, FitResult) else result.backend


def engines_of(backends: Sequence[BackendLike] | None, *, least: int = 2) -> list[Backend]:
    """The configured engines that are named, or all that are installed.

    Raises:
        OptionError: If there are fewer than ``least``.
    """
    if backends is None:
        found = [b for b in registry.others().values() if b.available()]
        if len(found) < least:
            raise OptionError(
                f"A comparison needs two engines, and only {listing(b.info.name for b in found)} is installed here. "
                "`python -m unimix.doctor` says how to get the others."
            )
        return found
    if isinstance(backends, str):
        raise OptionError(f"backends={backends!r}: give a list, such as backends=['statsmodels', 'lme4'].")
    engines = [registry.resolve(b) for b in backends]
    if len(engines) < least:
        raise OptionError("A comparison needs at least two backends.")
    return engines
