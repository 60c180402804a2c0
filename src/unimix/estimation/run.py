"""From a problem to a result: one engine fits the model, and its estimates are assembled into a result."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from unimix.analysis.certificate.certify import best_covariances
from unimix.backends import registry
from unimix.backends.base import Backend
from unimix.backends.capture import same_error_state
from unimix.backends.cost import or_else
from unimix.backends.interface import FitRequest, Outcome, Start
from unimix.design.arrays import Design
from unimix.design.smooths import mixed_design
from unimix.distributions.prior_text import write_given
from unimix.errors import LimitError, OptionError
from unimix.estimation.arguments import FitArguments, FitProblem
from unimix.estimation.assemble import assemble
from unimix.fitted.schema import PRIORS, EngineInfo
from unimix.fitted.smooth_parts import mixed_form
from unimix.fitted.unsaved import Refitter, Unsaved
from unimix.likelihood.lmm.newton_decrement import NOTICEABLE
from unimix.parallel.blas_threads import one_thread
from unimix.result import FitResult


@dataclass(frozen=True)
class EngineRefitter(Refitter[FitResult]):
    """An engine with its arguments, which fits changed designs: other responses, other rows.

    Attributes:
        engine: The engine with its options.
        arguments: Arguments of every fit.
        single: The engine for a single fit, if ``engine`` leaves out further starts.
    """

    engine: Backend
    arguments: FitArguments
    single: Backend | None = None

    def __call__(self, design: Design, method: str | None = None, df_method: str = "normal") -> FitResult:
        """Fit a design by the engine.

        Args:
            design: The model as arrays.
            method: Criterion of the fit; that of the arguments, if left out.
            df_method: Denominator degrees of freedom of the tests; ``"normal"`` gives z tests, the fastest.
        """
        return fit_once(self.engine, self._problem(design, method, df_method))

    def with_priors(self, priors: Mapping[str, object] | None) -> EngineRefitter:
        """The same engine and arguments with other priors."""
        return replace(self, arguments=replace(self.arguments, priors=priors))

    def for_one_fit(self) -> EngineRefitter:
        """The engine as it fits a single model, with further starts."""
        return replace(self, engine=self.single or self.engine)

    def _problem(self, design: Design, method: str | None, df_method: str) -> FitProblem:
        method = method or self.arguments.method
        return FitProblem(design, replace(self.arguments, method=method, df_method=df_method))

    def batch_size(self, design: Design) -> int:
        """Number of responses of a design that are best prepared together; 1 if that gains nothing."""
        return self.engine.batch_size(mixed_design(design))

    @same_error_state()
    def prepare(self, designs: Sequence[Design], like: Design) -> None:
        """Do what the fits of several designs can share; refused models and engine failures are left to the fits.

        Args:
            designs: Designs that differ in their responses only.
            like: Design of the model that was fitted to the original data.
        """
        designs, like = [mixed_design(d) for d in designs], mixed_design(like)
        request = self._problem(like, None, "normal").request(self.engine)
        if designs and not self.engine.refusals(designs[0], request):
            with one_thread(when=designs[0].is_small):
                self.engine.prepare(designs, request, like)


def fit_problem(engine: Backend, problem: FitProblem) -> FitResult:
    """Fit a model by one engine.

    With ``restart=True`` the engine starts again from the best known point, where its first search ended below it.

    Raises:
        UnsupportedModelError: If the engine cannot express the model.
        FitError: If the engine fails.
        OptionError: If ``restart=True`` was given and the engine takes no start for this model.
    """
    first = fit_once(engine, problem)
    return refit_from_best_optimum(engine, problem, first) if problem.arguments.restart else first


def refuse_unsupported(engine: Backend, problem: FitProblem) -> None:
    """Raise the error that a fit would raise before it begins.

    Raises:
        UnsupportedModelError: If the engine cannot express the model.
    """
    _refuse(engine, problem.mixed.design, problem.mixed.request(engine))


def _refuse(engine: Backend, design: Design, request: FitRequest) -> None:
    if engine.refusals(design, request):
        engine.refuse(design, request, registry.others())


def refit_from_best_optimum(engine: Backend, problem: FitProblem, first: FitResult) -> FitResult:
    """Fit again from the best known point, if the first search ended noticeably below it.

    Returns:
        The result with the higher log-likelihood.

    Raises:
        OptionError: If the engine takes no start for this model.
    """
    design = mixed_design(problem.design)
    if (
        not engine.takes_start
        or not (design.is_linear and design.has_covariances)
        or first.fixed.interval == "credible"
    ):
        raise OptionError(
            f"restart=True: backend={engine.info.name!r} takes no start for this model; it is for linear mixed models "
            "by REML or ML."
        )
    gap = first.certificate().gap
    if gap <= NOTICEABLE:
        return first
    covariances, sigma = best_covariances(mixed_form(first), design)
    source = f"unimix's own optimum, because the first search ended {gap:.3g} log-likelihood below it"
    second = fit_once(engine, problem, Start(covariances, sigma, source))
    if second.log_likelihood > first.log_likelihood:
        return second
    note = f"restart=True: started at {source}, {engine.info.name} ended no higher; this is its first result"
    return replace(first, notes=(*first.notes, note))


@same_error_state()
def fit_once(engine: Backend, problem: FitProblem, start: Start | None = None) -> FitResult:
    """Fit a model by one engine and assemble the result.

    Args:
        engine: The engine with its options.
        problem: The model and the arguments of the fit.
        start: Point at which the engine starts; its own choice, if left out.

    Raises:
        UnsupportedModelError: If the engine cannot express the model.
        FitError: If the engine fails.
        LimitError: If the fit was stopped at its limit of time or memory.
    """
    design, problem = problem.design, problem.mixed
    request = replace(problem.request(engine), start=start)
    _refuse(engine, problem.design, request)
    outcome = _fitted(engine, problem.design, request)
    started = time.perf_counter()
    estimates = outcome.estimates
    info = EngineInfo(
        backend=engine.info.name,
        engine=engine.info.engine,
        versions=outcome.versions,
        options=engine.model_dump(mode="json"),
        seed=request.seed if estimates.sampling else None,
        call=estimates.engine_call,
        seconds={},
        priors=dict(estimates.priors),
    )
    result = assemble(
        design,
        estimates,
        method=request.method,
        engine=info,
        provenance=outcome.provenance | ({PRIORS: write_given(request.priors)} if request.priors else {}),
        notes=outcome.notes,
        ci_level=request.ci_level,
    )
    seconds = {"design": problem.design_seconds, **outcome.seconds, "extract": time.perf_counter() - started}
    refitter = EngineRefitter(engine.for_refits(), problem.arguments.for_designs(request.method), engine)
    unsaved = Unsaved(estimates.native, estimates.posterior, design, estimates.generative, refitter)
    return replace(result, engine=info.model_copy(update={"seconds": seconds}), _unsaved=unsaved)


def _fitted(engine: Backend, design: Design, request: FitRequest) -> Outcome:
    """Run the engine; if it is stopped at a limit, add the engines that would stay below the limit to the message."""
    try:
        return engine.fit(design, request)
    except LimitError as error:
        others = {n: (b, b.adapted(request, design)) for n, b in registry.others().items() if n != engine.info.name}
        able = [(n, b.cost(design, asked)) for n, (b, asked) in others.items() if not b.refusals(design, asked)]
        raise LimitError(f"{error}{or_else(error.kind, engine.cost(design, request), able)}", error.kind) from None


__all__ = ["EngineRefitter", "fit_once", "fit_problem", "refit_from_best_optimum", "refuse_unsupported"]
