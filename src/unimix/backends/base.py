"""The base class of every engine's adapter."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from unimix.backends.capabilities import Capabilities, Yes
from unimix.backends.capture import captured
from unimix.backends.convergence import judge
from unimix.backends.cost import UNKNOWN, Cost, stopped, too_large
from unimix.backends.degrees_of_freedom import same_evaluation, supply_df
from unimix.backends.family_support import FamilySheet, only_gaussian
from unimix.backends.interface import BackendInfo, FitRequest, Outcome, Problem, Start
from unimix.backends.interrupts import shield_interrupts
from unimix.backends.limits import NO_LIMITS, in_words
from unimix.design.arrays import Design
from unimix.design.estimability import likelihood_is_unbounded
from unimix.design.estimates import Absent, Deferred, Estimates
from unimix.design.features import METHOD_FEATURES, Feature, requirements
from unimix.errors import (
    EngineBrokenError,
    EngineNotInstalledError,
    FitError,
    LimitError,
    OptionError,
    UnimixError,
    UnsupportedModelError,
    did_you_mean,
    listing,
    to_type,
)
from unimix.installation import pip_line
from unimix.likelihood.lmm.conditioning import (
    Conditioning,
    is_singular,
    relative_factors,
    restore,
    well_scaled,
    without_offset,
)
from unimix.likelihood.lmm.weights import scale_rows
from unimix.parallel.blas_threads import one_thread
from unimix.parallel.limited import run_limited

FloatArray = npt.NDArray[np.float64]
MOST_COUNTED = 2**31 - 1
"""Largest whole number of an option."""
_NATIVE_ENDED = (
    "There is no fit.native: with time_limit= or memory_limit= the engine runs in a process of its own, and its result "
    "object ended with the process. Fit without limits to keep it."
)


@functools.cache
def _version(distribution: str) -> str:
    return importlib.metadata.version(distribution)


class Backend(BaseModel, ABC):
    """An engine and its options, which are the frozen fields of the instance.

    A subclass sets ``info``, ``capabilities`` and, beyond Gaussian models, ``families``, and implements :meth:`_fit`.
    It sets ``takes_start`` if it starts its search at ``problem.start``, and ``refit_options`` if it has options that
    save many fits of similar data the extra searches of a single one: many replicates end on the boundary. It sets
    ``takes_reduced`` if it needs nothing of the rows but their cross-products within levels.

    Attributes:
        conditioning: Whether the engine receives well-scaled columns, from which its estimates are transformed back
            exactly.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    info: ClassVar[BackendInfo]
    capabilities: ClassVar[Capabilities]
    families: ClassVar[FamilySheet] = only_gaussian("the backend is for linear mixed models")

    takes_start: ClassVar[bool] = False
    refit_options: ClassVar[dict[str, object]] = {}
    takes_reduced: ClassVar[bool] = False

    conditioning: bool = True

    def __init__(self, **options: Any) -> None:
        try:
            super().__init__(**options)
        except ValidationError as error:
            raise OptionError(_option_faults(type(self), error)) from None
        # Engines count in integers of 32 bits: R, BLAS and the samplers' seeds.
        large = [f"{n}={v}: a whole number below 2^31." for n, v in self if type(v) is int and abs(v) > MOST_COUNTED]
        if large:
            raise OptionError("\n".join(large))

    @abstractmethod
    def _fit(self, engine: ModuleType, problem: Problem) -> Estimates:
        """Fit the model and return the estimates in the coordinates of ``problem.design``.

        Args:
            engine: Module or object that :meth:`load` returned.
            problem: The model and the request.
        """

    def load(self) -> ModuleType:
        """Import the engine.

        Raises:
            EngineNotInstalledError: If a package is missing.
            EngineBrokenError: If a package is installed but cannot be imported.
        """
        absent = [p for p in self.info.packages if importlib.util.find_spec(p) is None]
        if absent:
            raise EngineNotInstalledError(
                f"backend={self.info.name!r} needs {', '.join(absent)}, which is not installed. "
                + to_type(self.install_lines())
            )
        try:
            engine = importlib.import_module(self.info.packages[0])
            for name in self.info.modules:
                importlib.import_module(name)
        except Exception as error:
            raise EngineBrokenError(
                f"{self.info.packages[0]} is installed but does not import ({type(error).__name__}: {error}). "
                "unimix.doctor() says which versions fit together."
            ) from error
        return engine

    @classmethod
    def install_lines(cls) -> str:
        """Lines to type to install the missing packages that the engine needs."""
        return cls.info.install or pip_line(cls.info.extra, cls.info.distribution)

    def available(self) -> bool:
        """Whether the Python packages are installed; they are not imported."""
        return all(importlib.util.find_spec(p) is not None for p in self.info.packages)

    def preview(self, design: Design, request: FitRequest) -> str:
        """Text of the call to the engine, with generated names; the engine is not loaded."""
        fixed = [f"x{j}" for j in range(design.p)]
        bars = [f"(0 + {' + '.join(f'z{k}_{j}' for j in range(b.q))} | g{k})" for k, b in enumerate(design.blocks)]
        return f"y ~ {' + '.join(['0', *fixed, *bars])}"

    def versions(self) -> dict[str, str]:
        """Versions of the engine's packages."""
        return {d: _version(d) for d in self.info.distributions}

    def for_refits(self) -> Self:
        """Copy for many fits of similar data, without the extra searches that a single fit deserves."""
        return self.model_copy(update=self.refit_options) if self.refit_options else self

    def batch_size(self, design: Design) -> int:
        """Number of responses of this model whose fits :meth:`prepare` makes faster together; 1 if it does not."""
        return 1

    def prepare(self, designs: Sequence[Design], request: FitRequest, like: Design) -> None:
        """Do what the fits of several designs can share, before each is fitted; the estimates do not depend on it.

        Args:
            designs: Designs of one model that differ in their responses only.
            request: Request of every fit.
            like: Design of the model that was fitted to the original data.
        """

    def limits(self, design: Design, request: FitRequest) -> list[str]:
        """Reasons to refuse this model beyond the capability sheet, such as its size."""
        return []

    def cost(self, design: Design, request: FitRequest) -> Cost:
        """Estimate the cost of a fit from its sizes alone, without making arrays as long as the data."""
        return UNKNOWN

    def default_method(self, design: Design) -> str:
        """Default criterion of this engine for a model."""
        if design.family.is_linear or self.info.samples:
            return self.info.default_method
        return "Laplace" if design.blocks else "ML"

    def adapted(self, request: FitRequest, design: Design) -> FitRequest:
        """Replace the requested method by one that this engine has, if it lacks the requested one."""
        if self.capabilities.can(METHOD_FEATURES[request.method]):
            return request
        return replace(request, method=self.default_method(design))

    def refusals(self, design: Design, request: FitRequest) -> list[str]:
        """List in words everything about the model that this engine cannot express."""
        needs = requirements(design, request.method, priors=bool(request.priors))
        kenward_roger = request.df_method == "kenward-roger" and design.has_covariances and design.family.is_linear
        if kenward_roger:
            needs |= {Feature.KENWARD_ROGER}
        lacking: dict[str, list[str]] = {}
        for feature, why in self.capabilities.gaps(needs):
            lacking.setdefault(why, []).append(feature.value)
        reasons = [f"{listing(features)}: {why}" for why, features in lacking.items()] + self.limits(design, request)
        answer = self.families.answer(design.family, mixed=bool(design.blocks))
        if not isinstance(answer, Yes):
            reasons.insert(0, f"{design.family}{' with group effects' if design.blocks else ''}: {answer.reason}")
        if kenward_roger and request.method == "ML":
            reasons.append(
                "Kenward-Roger degrees of freedom belong to REML estimates: use method='REML' or "
                "df_method='satterthwaite'"
            )
        if design.compression is not None and not self.takes_reduced:
            reasons.append(
                "rows that were reduced to cross-products (um.reduce): this engine computes its likelihood row by row. "
                "Use backend='pls', or give the rows themselves"
            )
        if request.method == "ML" and design.family.is_linear and likelihood_is_unbounded(design):
            reasons.append(
                "maximum likelihood: fixed effects and group effects together fit every row exactly, and the "
                "likelihood grows without bound as the residual variance goes to zero. Use fewer terms, or "
                "method='REML'"
            )
        reason = too_large(self.cost(design, request), request.limits)
        return [*reasons, reason] if reason else reasons

    def refuse(self, design: Design, request: FitRequest, others: Mapping[str, Backend] | None = None) -> None:
        """Raise an error if the engine cannot express the model; the engine is not loaded.

        Raises:
            UnsupportedModelError: If the model is refused; the message lists all reasons and suitable backends.
        """
        reasons = self.refusals(design, request)
        if reasons:
            weighed = too_large(self.cost(design, request), request.limits) in reasons
            able = [
                f"backend={n!r}{_in_brackets(b, design, asked, method=asked.method != request.method, size=weighed)}"
                for n, b in (others or {}).items()
                if n != self.info.name and not b.refusals(design, asked := b.adapted(request, design))
            ]
            hint = f"These can: {', '.join(able)}." if able else "No other backend can either."
            raise UnsupportedModelError(
                f"backend={self.info.name!r} cannot fit {design.spec.text()}:\n"
                + "\n".join(f"  - {r}" for r in reasons)
                + f"\n{hint}",
                reasons,
                self.info.name,
            )

    def fit(self, design: Design, request: FitRequest) -> Outcome:
        """Fit a design: prepare it, call the engine with its output captured, and transform the estimates back.

        Raises:
            FitError: If the engine fails; the message contains the engine's own message.
            LimitError: If the fit reached one of ``request.limits``; its clock starts when the engine has been loaded.
                A fit with limits runs in a process of its own.
        """
        if request.limits:
            return self._fit_limited(design, request)
        with one_thread(when=design.is_small):
            return self._fit_design(design, request)

    def _fit_design(self, design: Design, request: FitRequest) -> Outcome:
        seconds: dict[str, float] = {}
        started = time.perf_counter()
        engine = self._load_whole()
        seconds["load"] = time.perf_counter() - started
        started = time.perf_counter()
        problem, way_back, constant, provenance = self._prepare(design, request)
        failure: Exception | None = None
        with captured(streams=not self._shows_progress(request)) as notes:
            try:
                estimates = self._fit(engine, problem)
            except Exception as error:  # an engine may raise anything
                if isinstance(error, UnimixError) and type(error) is not FitError:
                    raise
                failure = error
        if failure is not None:
            ours = isinstance(failure, FitError)
            said = f"\nIt said: {' | '.join(notes)}" if notes and not ours else ""
            raise FitError(
                f"{self.info.name} failed on {design.spec.text()}: "
                f"{failure if ours else f'{type(failure).__name__}: {failure}'}{said}\n"
                "unimix.recommend(formula, data) names the engines that fit this model; another one may succeed."
            ) from failure
        seconds["fit"] = time.perf_counter() - started
        n_times = None if design.residual is None else design.residual.structure.n_times
        estimates.check(design.p, [(b.n_levels, b.q) for b in design.blocks], n_times)
        estimates = self._complete(estimates, problem)
        if estimates.log_likelihood is not None:
            estimates = replace(estimates, log_likelihood=estimates.log_likelihood + constant)
        if way_back is not None:
            fitted, estimates = estimates, restore(estimates, way_back, reml=request.reml and design.has_covariances)
            same_evaluation(problem.design, fitted, design, estimates, request.method)
        borrowed = {"start": provenance["start"]} if request.start is not None else {}
        combined = {**provenance, **estimates.provenance, **borrowed}
        return Outcome(estimates, tuple(notes), self.versions(), seconds, combined)

    def _complete(self, estimates: Estimates, problem: Problem) -> Estimates:
        """Add quantities that the engine does not compute, and judge its convergence."""
        request = problem.request
        if estimates.singular is None:
            estimates = replace(estimates, singular=is_singular(estimates.covariances, estimates.sigma))
        kind = Feature.KENWARD_ROGER if request.df_method == "kenward-roger" else Feature.SATTERTHWAITE
        if self.capabilities.can(kind):
            estimates = supply_df(estimates, problem.design, request.method, request.df_method, problem.coefficients)
        return judge(estimates, problem.original, problem.design, request.method)

    def _load_whole(self) -> ModuleType:
        """Import the engine; Ctrl-C takes effect after the import."""
        with captured(), shield_interrupts():
            return self.load()

    def _fit_limited(self, design: Design, request: FitRequest) -> Outcome:
        """Fit in a process that ends at a limit."""
        limits = request.limits
        work = functools.partial(self._fit_to_send, design, replace(request, limits=NO_LIMITS))
        try:
            outcome, loading = run_limited(self._load_whole, work, limits.seconds, limits.memory)
        except LimitError as ended:
            raise LimitError(stopped(self.info.name, ended.kind, limits, design), ended.kind) from None
        return replace(outcome, seconds={**outcome.seconds, "load": loading})

    def _fit_to_send(self, design: Design, request: FitRequest) -> Outcome:
        """Fit, and return the outcome without the engine's own object; a :class:`Deferred` is returned with it."""
        outcome = self.fit(design, request)
        estimates = outcome.estimates
        if not isinstance(estimates.native, Deferred):
            estimates = replace(estimates, native=Absent(_NATIVE_ENDED))
        return replace(outcome, estimates=estimates)

    def _shows_progress(self, request: FitRequest) -> bool:
        return False

    def _prepare(
        self, design: Design, request: FitRequest
    ) -> tuple[Problem, Conditioning | None, float, dict[str, str]]:
        provenance: dict[str, str] = {}
        fitted, constant, way_back = without_offset(design), 0.0, None
        if fitted is not design:
            provenance["offset"] = "subtracted from the response before the fit and added back (exact for this model)"
        if self.conditioning:
            scaled = well_scaled(fitted)
            fitted, way_back = scaled.rows, scaled.way_back
            provenance["coordinates"] = "fitted in well-scaled columns and transformed back exactly (conditioning=True)"
        answer = self.capabilities[Feature.WEIGHTS]
        if fitted.weights is not None and isinstance(answer, Yes) and answer.how and fitted.is_linear:
            fitted, constant = scale_rows(fitted)
            provenance["weights"] = f"emulated: {answer.how}"
        if request.start is not None:
            provenance["start"] = f"borrowed: {request.start.source}"
        coefficients = np.eye(design.p) if way_back is None else way_back.coefficients
        start = _relative(request.start, way_back)
        return Problem(fitted, request, coefficients, design, start), way_back, constant, provenance


def _in_brackets(backend: Backend, design: Design, request: FitRequest, *, method: bool, size: bool) -> str:
    """Method and estimated memory of another backend in brackets, if requested."""
    words = [f"method={request.method!r}"] if method else []
    needed = backend.cost(design, request).bytes if size else None
    words += [] if needed is None else [in_words(needed)]
    return f" ({', '.join(words)})" if words else ""


def _relative(start: Start | None, way_back: Conditioning | None) -> tuple[FloatArray, ...] | None:
    """Relative factors of a start, in the fitted coordinates."""
    if start is None:
        return None
    if way_back is None:
        return relative_factors(start.covariances, start.sigma)
    return way_back.relative(start.covariances, start.sigma)


def make_backend(cls: type[Backend], options: Mapping[str, Any] | None = None) -> Backend:
    """Configure a backend.

    Raises:
        OptionError: If an option is misspelt or has an impossible value; the message lists all faults.
        EngineBrokenError: If the class of a third party fails.
    """
    if options is not None and not isinstance(options, Mapping):
        raise OptionError(f"options={options!r}: give a dict, such as {{'conditioning': False}}.")
    try:
        return cls(**{str(name): value for name, value in (options or {}).items()})
    except UnimixError:
        raise
    except Exception as error:
        raise EngineBrokenError(
            f"{cls.__name__}() of {cls.__module__} fails: {type(error).__name__}: {error}."
        ) from error


def _option_faults(cls: type[Backend], error: ValidationError) -> str:
    """Faults of the options of a backend, one line each."""
    faults = []
    for fault in error.errors():
        name = str(fault["loc"][0]) if fault["loc"] else ""
        if fault["type"] == "extra_forbidden":
            faults.append(
                f"{name!r} is not an option of {cls.info.name}.{did_you_mean(name, cls.model_fields)} "
                f"Options: {', '.join(cls.model_fields)}."
            )
        else:
            faults.append(f"{name}={fault.get('input')!r}: {fault['msg']}.")
    return "\n".join(faults)


__all__ = ["Backend", "BackendInfo", "FitRequest", "Outcome", "Problem", "Start", "make_backend"]
