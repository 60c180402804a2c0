"""From a problem to a result: one engine fits it, and what it found is assembled."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from unimix.analysis.certificate.certify import best_covariances
from unimix.backends import registry
from unimix.backends.base import Backend
from unimix.backends.capture import same_error_state
from unimix.backends.cost import or_else
from unimix.backends.interface import FitRequest, Outcome, Start
from unimix.design.arrays import Design
from unimix.errors import LimitError, OptionError, listing
from unimix.estimation.arguments import FitArguments, FitProblem
from unimix.estimation.assemble import assemble
from unimix.fitted.model import Refitter, Unsaved
from unimix.fitted.schema import PRIORS, EngineInfo
from unimix.likelihood.lmm.newton_decrement import NOTICEABLE
from unimix.result import FitResult


@dataclass(frozen=True)
class EngineRefitter(Refitter):
    """An engine and what was asked of it, for other responses and rows.

    Attributes:
        engine: With its options.
        arguments: What is asked of every fit.
    """

    engine: Backend
    arguments: FitArguments

    def __call__(self, design: Design, method: str | None = None, df_method: str = "normal") -> FitResult:
        """Fit a design, by another method if one is named; degrees of freedom only where they are asked for."""
        method = method or self.arguments.method
        return fit_once(self.engine, FitProblem(design, replace(self.arguments, method=method, df_method=df_method)))


def fit_problem(engine: Backend, problem: FitProblem) -> FitResult:
    """Fit by one engine; with ``restart=True`` again from the best known point, where the first search ended below it.

    Raises:
        UnsupportedModelError: If the engine cannot express the model.
        FitError: If it fails.
        OptionError: With ``restart=True``, if the engine takes no start for this model.
    """
    first = fit_once(engine, problem)
    return refit_from_best_optimum(engine, problem, first) if problem.arguments.restart else first


def refuse_unsupported(engine: Backend, problem: FitProblem) -> None:
    """Raise what a fit would raise before it begins.

    Raises:
        UnsupportedModelError: If the engine cannot express the model.
    """
    _refuse(engine, problem.design, problem.request(engine))


def _refuse(engine: Backend, design: Design, request: FitRequest) -> None:
    if engine.refusals(design, request):
        engine.refuse(design, request, registry.others())


def refit_from_best_optimum(engine: Backend, problem: FitProblem, first: FitResult) -> FitResult:
    """The same fit from the best known point, where it ended below it.

    Raises:
        OptionError: If the engine takes no start for this model.
    """
    design = problem.design
    if not engine.takes_start or not (design.is_linear and design.blocks) or first.fixed.interval == "credible":
        raise OptionError(
            f"restart=True: backend={engine.info.name!r} takes no start for this model; it is for linear mixed models "
            "by REML or ML."
        )
    gap = first.certificate().gap
    if gap <= NOTICEABLE:
        return first
    covariances, sigma = best_covariances(first, design)
    source = f"unimix's own optimum, because the first search ended {gap:.3g} log-likelihood below it"
    second = fit_once(engine, problem, Start(covariances, sigma, source))
    if second.log_likelihood > first.log_likelihood:
        return second
    note = f"restart=True: started at {source}, {engine.info.name} ended no higher; this is its first result"
    return replace(first, notes=(*first.notes, note))


@same_error_state()
def fit_once(engine: Backend, problem: FitProblem, start: Start | None = None) -> FitResult:
    """Fit by one engine and assemble the result."""
    design = problem.design
    request = replace(problem.request(engine), start=start)
    _refuse(engine, design, request)
    outcome = _fitted(engine, design, request)
    started = time.perf_counter()
    found = outcome.estimates
    info = EngineInfo(
        backend=engine.info.name,
        engine=engine.info.engine,
        versions=outcome.versions,
        options=engine.model_dump(mode="json"),
        seed=request.seed if found.sampling else None,
        call=found.engine_call,
        seconds={},
        priors=dict(found.priors),
    )
    result = assemble(
        design,
        found,
        method=request.method,
        engine=info,
        provenance=outcome.provenance
        | ({PRIORS: listing(f"{k} ~ {v}" for k, v in request.priors.items())} if request.priors else {}),
        notes=outcome.notes,
        ci_level=request.ci_level,
    )
    seconds = {"design": problem.design_seconds, **outcome.seconds, "extract": time.perf_counter() - started}
    refitter = EngineRefitter(engine.for_refits(), problem.arguments.for_designs(request.method))
    beside = Unsaved(found.native, found.posterior, design, found.generative, refitter)
    return replace(result, engine=info.model_copy(update={"seconds": seconds}), _unsaved=beside)


def _fitted(engine: Backend, design: Design, request: FitRequest) -> Outcome:
    """Fit; a fit that was stopped at a limit names the engines that would stay below it."""
    try:
        return engine.fit(design, request)
    except LimitError as error:
        others = {n: (b, b.adapted(request, design)) for n, b in registry.others().items() if n != engine.info.name}
        able = [(n, b.cost(design, asked)) for n, (b, asked) in others.items() if not b.refusals(design, asked)]
        raise LimitError(f"{error}{or_else(error.kind, engine.cost(design, request), able)}", error.kind) from None


__all__ = ["EngineRefitter", "fit_once", "fit_problem", "refit_from_best_optimum", "refuse_unsupported"]
