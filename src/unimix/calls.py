"""One call: checked arguments, one engine, one result."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt

from unimix.backends import registry
from unimix.backends.base import Backend, FitRequest, Start
from unimix.errors import OptionError, did_you_mean, listing
from unimix.model.design import Design, build_design
from unimix.model.family import FamilyLike
from unimix.model.features import METHODS, method_fault
from unimix.model.parse import parse
from unimix.numerics.optimum import NOTICEABLE
from unimix.results.assemble import assemble
from unimix.results.certify import best_covariances
from unimix.results.result import FitResult
from unimix.results.schema import PRIORS, EngineInfo

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


@dataclass(frozen=True)
class Again:
    """The engine and the arguments of a call, for other responses and rows.

    Attributes:
        engine: With its options.
        method: As it was asked for.
        ci_level: Probability of intervals.
        priors: Of a sampler.
        seed: Of random numbers.
    """

    engine: Backend
    method: str | None
    ci_level: float
    priors: Mapping[str, Any] | None
    seed: int | None

    def __call__(self, design: Design, method: str | None = None, df_method: str = "normal") -> FitResult:
        """Fit a design, by another method if one is named; degrees of freedom only where they are asked for."""
        call = Call(design, method or self.method, df_method, self.ci_level, self.priors, self.seed, False, 0.0)
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
) -> Call:
    """Check the arguments of a call and build its design.

    Raises:
        OptionError: With every fault of the plain arguments.
    """
    faults = []
    if method is not None and method not in METHODS:
        faults.append(f"method={method!r}: choose {listing(METHODS)}.{did_you_mean(str(method), METHODS)}")
    if df_method not in DF_METHODS:
        faults.append(
            f"df_method={df_method!r}: choose {listing(DF_METHODS)}.{did_you_mean(str(df_method), DF_METHODS)}"
        )
    if isinstance(ci_level, bool) or not isinstance(ci_level, int | float) or not 0 < ci_level < 1:
        faults.append(f"ci_level={ci_level!r}: a probability between 0 and 1, such as 0.95.")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or seed < 0):
        faults.append(f"seed={seed!r}: a whole number that is not negative.")
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
    return Call(design, method, df_method, float(ci_level), priors, seed, progress, seconds)


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
    return FitRequest(method, call.df_method, call.ci_level, call.priors, seed, call.progress)


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


def fit_one(engine: Backend, call: Call, start: Start | None = None) -> FitResult:
    """Fit by one engine and assemble the result."""
    request = replace(make_request(engine, call), start=start)
    if engine.refusals(call.design, request):
        engine.refuse(call.design, request, registry.others())
    outcome = engine.fit(call.design, request)
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
    again = Again(engine.for_refits(), request.method, call.ci_level, call.priors, call.seed)
    return finished.attach(
        native=found.native,
        posterior=found.posterior,
        design=call.design,
        generative=found.generative,
        refitter=again,
    )
