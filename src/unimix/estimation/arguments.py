"""One call: checked arguments, one engine, one result."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt

from unimix.analysis.certificate.certify import best_covariances
from unimix.backends import registry
from unimix.backends.base import Backend, FitRequest, Outcome, Start
from unimix.backends.capture import same_error_state
from unimix.backends.cost import or_else
from unimix.backends.limits import NO_LIMITS, Limits, MemoryLimit, TimeLimit, read_limits
from unimix.design.arrays import Design
from unimix.design.design import build_design
from unimix.design.features import METHODS, Feature, method_fault
from unimix.distributions.family import FamilyLike
from unimix.errors import LimitError, OptionError, did_you_mean, listing
from unimix.estimation.assemble import assemble
from unimix.fitted.schema import PRIORS, EngineInfo
from unimix.formula.interpreter import parse
from unimix.likelihood.lmm.newton_decrement import NOTICEABLE
from unimix.parallel.jobs import seed_fault
from unimix.result import FitResult

ColumnOrArray = str | npt.ArrayLike | None
DF_METHODS = ("satterthwaite", "kenward-roger", "residual", "normal")


@dataclass(frozen=True)
class Call:
    """The checked arguments of one call, beside the backend."""

    design: Design
    method: str | None
    df_method: str
    ci_level: float
    priors: Mapping[str, Any] | None
    seed: int | None
    progress: bool | None
    design_seconds: float
    limits: Limits = NO_LIMITS


@dataclass(frozen=True)
class Again:
    """The engine and the arguments of a call, for other responses and rows.

    Attributes:
        engine: With its options.
        method: As it was asked for.
        ci_level: Probability of intervals.
        priors: Of a sampler.
        seed: Seed of the random numbers.
        limits: Of memory; that of time belonged to the one call.
    """

    engine: Backend
    method: str | None
    ci_level: float
    priors: Mapping[str, Any] | None
    seed: int | None
    limits: Limits = NO_LIMITS

    def __call__(self, design: Design, method: str | None = None, df_method: str = "normal") -> FitResult:
        """Fit a design, by another method if one is named; degrees of freedom only where they are asked for."""
        method = method or self.method
        call = Call(design, method, df_method, self.ci_level, self.priors, self.seed, False, 0.0, self.limits)
        return fit_one(self.engine, call)


def prepare(
    formula: str,
    data: Any,
    family: FamilyLike,
    method: str | None,
    weights: ColumnOrArray,
    offset: ColumnOrArray,
    contrasts: Mapping[str, object] | None,
    ziformula: str | None,
    dispformula: str | None,
    df_method: str,
    ci_level: float,
    missing: str,
    priors: Mapping[str, Any] | None,
    seed: int | None,
    progress: bool | None,
    time_limit: TimeLimit,
    memory_limit: MemoryLimit,
) -> Call:
    """Check the arguments of a call and build its design.

    Raises:
        OptionError: With every fault of the plain arguments.
    """
    faults = argument_faults(method, df_method, ci_level, seed)
    limits, wrong = read_limits(time_limit, memory_limit)
    faults += wrong
    if faults:
        raise OptionError("\n".join(faults))
    started = time.perf_counter()
    design = build_design(
        parse(formula, ziformula, dispformula),
        data,
        weights=weights,
        offset=offset,
        contrasts=contrasts,
        missing=missing,
        family=family,
    )
    fault = method_fault(design, method, df_method)
    if fault:
        raise OptionError(fault)
    seconds = time.perf_counter() - started
    return Call(design, method, df_method, float(ci_level), priors, seed, progress, seconds, limits)


def argument_faults(method: str | None, df_method: str, ci_level: float, seed: int | None) -> list[str]:
    """What is wrong with the plain arguments of a call."""
    faults = []
    if method is not None and method not in METHODS:
        faults.append(f"method={method!r}: choose {listing(METHODS)}.{did_you_mean(str(method), METHODS)}")
    if df_method not in DF_METHODS:
        faults.append(
            f"df_method={df_method!r}: choose {listing(DF_METHODS)}.{did_you_mean(str(df_method), DF_METHODS)}"
        )
    if isinstance(ci_level, bool) or not isinstance(ci_level, int | float) or not 0 < ci_level < 1:
        faults.append(f"ci_level={ci_level!r}: a probability between 0 and 1, such as 0.95.")
    return faults + ([fault] if (fault := seed_fault(seed)) else [])


def suited(call: Call, engine: Backend, priors: Mapping[str, Any] | None) -> Call:
    """A call for several engines as one of them can take it: samplers have priors and no criterion."""
    sampler = engine.info.default_method == "posterior"
    has_df = call.df_method != "kenward-roger" or engine.capabilities.can(Feature.KENWARD_ROGER)
    return replace(
        call,
        method="posterior" if sampler else call.method,
        df_method=call.df_method if has_df else "satterthwaite",
        priors=priors if sampler else None,
    )


def make_request(engine: Backend, call: Call) -> FitRequest:
    """What one engine is asked for: methods are filled in, and a seed where draws are made."""
    method = call.method or engine.default_method(call.design)
    if not call.design.blocks and not call.design.family.is_linear and method in ("Laplace", "AGQ"):
        method = "ML"  # nothing is integrated out
    if not call.design.blocks and call.design.dispersion is not None and call.method is None:
        method = "ML"
    seed = call.seed
    if seed is None and method == "posterior":
        seed = secrets.randbelow(2**31)
    return FitRequest(method, call.df_method, call.ci_level, call.priors, seed, call.progress, limits=call.limits)


def restarted(engine: Backend, call: Call, found: FitResult) -> FitResult:
    """The same fit from the best known point, where it ended below it.

    Raises:
        OptionError: If the engine takes no start for this model.
    """
    design = call.design
    if not engine.takes_start or not (design.is_linear and design.blocks) or found.fixed.interval == "credible":
        raise OptionError(
            f"restart=True: backend={engine.info.name!r} takes no start for this model; it is for linear mixed models "
            "by REML or ML."
        )
    gap = found.certificate().gap
    if gap <= NOTICEABLE:
        return found
    covariances, sigma = best_covariances(found, design)
    source = f"unimix's own optimum, because the first search ended {gap:.3g} log-likelihood below it"
    again = fit_one(engine, call, Start(covariances, sigma, source))
    if again.log_likelihood > found.log_likelihood:
        return again
    told = f"restart=True: started at {source}, {engine.info.name} ended no higher; this is its first result"
    return found.model_copy(update={"notes": (*found.notes, told)})


@same_error_state()
def fit_one(engine: Backend, call: Call, start: Start | None = None) -> FitResult:
    """Fit by one engine and assemble the result."""
    request = replace(make_request(engine, call), start=start)
    if engine.refusals(call.design, request):
        engine.refuse(call.design, request, registry.others())
    outcome = _fitted(engine, call.design, request)
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
        call.design,
        found,
        method=request.method,
        engine=info,
        provenance=outcome.provenance
        | ({PRIORS: listing(f"{k} ~ {v}" for k, v in request.priors.items())} if request.priors else {}),
        notes=outcome.notes,
        ci_level=request.ci_level,
    )
    seconds = {"design": call.design_seconds, **outcome.seconds, "extract": time.perf_counter() - started}
    finished = result.model_copy(update={"engine": info.model_copy(update={"seconds": seconds})})
    kept = replace(call.limits, seconds=None)
    again = Again(engine.for_refits(), request.method, call.ci_level, call.priors, call.seed, kept)
    return finished.attach(
        native=found.native,
        posterior=found.posterior,
        design=call.design,
        generative=found.generative,
        refitter=again,
    )


def _fitted(engine: Backend, design: Design, request: FitRequest) -> Outcome:
    """Fit; a fit that was stopped at a limit names the engines that would stay below it."""
    try:
        return engine.fit(design, request)
    except LimitError as error:
        others = {n: (b, b.adapted(request, design)) for n, b in registry.others().items() if n != engine.info.name}
        able = [(n, b.cost(design, asked)) for n, (b, asked) in others.items() if not b.refusals(design, asked)]
        raise LimitError(f"{error}{or_else(error.kind, engine.cost(design, request), able)}", error.kind) from None
