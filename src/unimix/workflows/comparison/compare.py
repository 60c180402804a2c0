"""Fit one model by several engines, or set finished results side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from unimix.api import fit
from unimix.backends import registry
from unimix.backends.base import Backend
from unimix.backends.registry import BackendLike
from unimix.errors import OptionError, UnimixError, brief, listing
from unimix.estimation.arguments import FitArguments, SharedOptions, takes_arguments_of
from unimix.estimation.run import fit_problem
from unimix.likelihood.lmm.conditioning import rows_kept
from unimix.result import FitResult
from unimix.workflows.comparison.build import build_comparison
from unimix.workflows.comparison.comparison import Comparison
from unimix.workflows.comparison.failure import Failure


@takes_arguments_of(fit, SharedOptions)
def compare(
    formula: str | Sequence[FitResult] | FitResult,
    data: Any = None,
    *more: FitResult,
    backends: Sequence[BackendLike] | None = None,
    **arguments: Unpack[SharedOptions],
) -> Comparison:
    """Fit one model by several engines, or set finished results side by side.

    Args:
        formula: The model in lme4's language, as in :func:`unimix.fit`; or finished results, ``compare(fit_a, fit_b)``
            or ``compare([fit_a, fit_b])``.
        data: A table or a dict of arrays, as in :func:`unimix.fit`; or a finished result.
        more: Further finished results.
        backends: The engines: names, classes or instances; all installed engines, if left out.
        arguments: Arguments of :func:`unimix.fit`, except ``options`` (give configured backends) and ``restart``.
            ``method`` applies to engines that maximise a likelihood, and ``priors`` to samplers. An engine without
            Kenward and Roger's degrees of freedom gives Satterthwaite's. Limits of time and memory apply to each fit.

    Returns:
        The comparison. An engine that fails or refuses the model keeps its column, with the error. An engine that
        refuses the model does not count against the agreement unless it was named.

    Raises:
        FormulaError: If the formula cannot be read.
        DataError: If the data do not allow the model, or finished results belong to different designs.
        OptionError: If arguments are wrong; the message lists every fault.

    Example:
        >>> import unimix as um
        >>> sleep = um.load_dataset("sleepstudy")
        >>> same = um.compare("Reaction ~ Days + (1 | Subject)", sleep, backends=["pls", "statsmodels"])
        >>> same.verdicts["verdict"]
        backend
        pls                    reference
        statsmodels    numerically equal
        Name: verdict, dtype: ...
    """
    if not isinstance(formula, str) and not isinstance(data, str):
        if arguments or backends is not None:
            named = listing([*arguments, *(["backends"] if backends is not None else [])])
            raise OptionError(f"Finished results are compared as they are: leave {named} out.")
        given = [formula] if isinstance(formula, FitResult) else list(formula)
        return build_comparison([*given, *(r for r in (data, *more) if r is not None)], [])
    faults = _faults_of_more(more)
    engines, errors = engines_of(backends)
    fit_arguments = FitArguments.read(compare, formula, data, arguments, faults=faults, errors=errors)
    problem = fit_arguments.problem(str(formula), data)
    results: list[FitResult | Failure] = []
    with rows_kept(problem.design):
        for engine in engines:
            try:
                results.append(fit_problem(engine, problem.adapted(engine)))
            except UnimixError as error:
                failure = Failure(engine.info.name, type(error).__name__, brief(error), asked=backends is not None)
                results.append(failure)
    fitted = [r for r in results if isinstance(r, FitResult)]
    return build_comparison(fitted, [r for r in results if isinstance(r, Failure)], order=[_label(r) for r in results])


def _faults_of_more(more: Sequence[object]) -> list[str]:
    """Faults of what follows a formula and data: results, or engines that stand where ``um.fit`` takes them."""
    if not more:
        return []
    named = [n for value in more for n in (value if isinstance(value, list | tuple) else [value])]
    if all(isinstance(name, str) for name in named):
        return [f"compare takes engines by name: type backends={named!r}."]
    return ["compare takes a formula and data, or finished results; not both."]


def _label(result: FitResult | Failure) -> str:
    return result.engine.backend if isinstance(result, FitResult) else result.backend


def engines_of(backends: Sequence[BackendLike] | None, *, least: int = 2) -> tuple[list[Backend], list[UnimixError]]:
    """The named engines, or all installed ones, and the errors in their names and options.

    Args:
        backends: Names, classes or instances, as the user gave them; None for all installed engines.
        least: Smallest number of engines that is needed.
    """
    if isinstance(backends, str):
        return [], [OptionError(f"backends={backends!r}: give a list, such as backends=['statsmodels', 'lme4'].")]
    if backends is None:
        engines = [b for b in registry.others().values() if b.available()]
        few = (
            f"A comparison needs two engines, and only {listing(b.info.name for b in engines)} is installed here. "
            "`python -m unimix.doctor` says how to get the others."
        )
        return engines, [] if len(engines) >= least else [OptionError(few)]
    engines, errors = registry.resolve_all(backends)
    if not errors and len(engines) < least:
        errors = [OptionError("A comparison needs at least two backends.")]
    return engines, errors
