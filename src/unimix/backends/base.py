"""The template that every engine's adapter fills in."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from unimix.backends.capabilities import Capabilities, Yes
from unimix.backends.capture import captured
from unimix.backends.degrees import with_degrees
from unimix.backends.family_sheet import FamilySheet, only_gaussian
from unimix.backends.judgement import judge
from unimix.errors import (
    EngineBrokenError,
    EngineNotInstalledError,
    FitError,
    OptionError,
    UnimixError,
    UnsupportedModelError,
)
from unimix.model.design import Design
from unimix.model.estimates import Estimates
from unimix.model.features import METHOD_FEATURES, Feature, requirements
from unimix.model.rank import likelihood_is_unbounded
from unimix.numerics.conditioning import Conditioning, condition, is_singular, relative_factors, restore
from unimix.numerics.weights import scale_rows

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BackendInfo:
    """An engine's passport.

    Attributes:
        name: What ``backend=`` calls it.
        engine: Whose numbers they are; two backends with one engine are one engine by two roads.
        title: One line for tables.
        packages: Python packages that must be importable.
        distributions: Packages whose versions go into the result.
        install: The line to paste when one is missing.
        url: Home page of the engine.
        default_method: REML, or posterior; of a Gaussian model.
    """

    name: str
    engine: str
    title: str
    packages: tuple[str, ...]
    distributions: tuple[str, ...]
    install: str
    url: str
    default_method: str = "REML"


@dataclass(frozen=True)
class Start:
    """Where a search for a linear mixed model's covariance parameters is to begin, in the user's units.

    Attributes:
        covariances: Covariance of each block's effects, shapes (q, q).
        sigma: Residual standard deviation.
        source: Whose they are, in words.
    """

    covariances: tuple[FloatArray, ...]
    sigma: float
    source: str


@dataclass(frozen=True)
class FitRequest:
    """What is asked of an engine beside the design.

    Attributes:
        method: REML, ML, Laplace, AGQ, variational, MAP or posterior.
        df_method: satterthwaite, kenward-roger, residual or normal.
        ci_level: Probability of the intervals.
        priors: Prior per parameter name.
        seed: Of random numbers.
        progress: Show a progress bar; None means on a terminal.
        start: Where the search is to begin; only for backends with ``takes_start``.
    """

    method: str
    df_method: str = "satterthwaite"
    ci_level: float = 0.95
    priors: Mapping[str, Any] | None = None
    seed: int | None = None
    progress: bool | None = None
    start: Start | None = None

    @property
    def reml(self) -> bool:
        """Whether the criterion is the restricted likelihood."""
        return self.method == "REML"


@dataclass(frozen=True)
class Problem:
    """What :meth:`Backend._fit` is given.

    Attributes:
        design: The model in the coordinates to be fitted.
        request: What is asked.
        coefficients: Matrix from fitted coordinates to the user's fixed effects, shape (p, p); its rows are the
            contrasts whose degrees of freedom are wanted.
        original: The model in the user's coordinates.
        start: Relative covariance factors, lower triangular, shapes (q, q), at which the search is to begin; or None.
    """

    design: Design
    request: FitRequest
    coefficients: FloatArray
    original: Design
    start: tuple[FloatArray, ...] | None = None


@dataclass(frozen=True)
class Outcome:
    """What :meth:`Backend.fit` returns: estimates in the user's units and how they came about."""

    estimates: Estimates
    notes: tuple[str, ...]
    versions: dict[str, str]
    seconds: dict[str, float]
    provenance: dict[str, str] = field(default_factory=dict)


@functools.cache
def _version(distribution: str) -> str:
    return importlib.metadata.version(distribution)


class Backend(BaseModel, ABC):
    """An engine and its options: the instance's fields are the options, frozen.

    A subclass sets ``info``, ``capabilities`` and, beyond Gaussian models, ``families``, and writes :meth:`_fit`. It
    sets ``takes_start`` if it begins its search at ``problem.start``.

    Attributes:
        conditioning: Hand the engine well-scaled columns and transform the answer back exactly.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    info: ClassVar[BackendInfo]
    capabilities: ClassVar[Capabilities]
    families: ClassVar[FamilySheet] = only_gaussian("the backend is for linear mixed models")

    takes_start: ClassVar[bool] = False

    conditioning: bool = True

    @abstractmethod
    def _fit(self, engine: ModuleType, problem: Problem) -> Estimates:
        """Fit the model and say what was found, in the coordinates of ``problem.design``.

        Args:
            engine: What :meth:`load` returned.
            problem: The model and what is asked.
        """

    def load(self) -> ModuleType:
        """Import the engine.

        Raises:
            EngineNotInstalledError: If a package is missing.
            EngineBrokenError: If a package is there but does not import.
        """
        absent = [p for p in self.info.packages if importlib.util.find_spec(p) is None]
        if absent:
            raise EngineNotInstalledError(
                f"backend={self.info.name!r} needs {', '.join(absent)}, which is not installed. Type:\n"
                f"    {self.info.install}"
            )
        try:
            return importlib.import_module(self.info.packages[0])
        except Exception as error:
            raise EngineBrokenError(
                f"{self.info.packages[0]} is installed but does not import ({type(error).__name__}: {error}). "
                "unimix.doctor() says which versions fit together."
            ) from error

    def available(self) -> bool:
        """Whether the Python packages are installed; nothing is imported."""
        return all(importlib.util.find_spec(p) is not None for p in self.info.packages)

    def preview(self, design: Design, request: FitRequest) -> str:
        """The call that the engine would see, under the generated names; nothing is loaded."""
        fixed = [f"x{j}" for j in range(design.p)]
        bars = [f"(0 + {' + '.join(f'z{k}_{j}' for j in range(b.q))} | g{k})" for k, b in enumerate(design.blocks)]
        return f"y ~ {' + '.join(['0', *fixed, *bars])}"

    def versions(self) -> dict[str, str]:
        """Versions of the engine's packages."""
        return {d: _version(d) for d in self.info.distributions}

    def for_refits(self) -> Self:
        """The same engine for many fits of data that are alike, without care that only one fit is worth."""
        return self

    def limits(self, design: Design, request: FitRequest) -> list[str]:
        """Reasons, beside the capability sheet, why this model is refused (its size, say)."""
        return []

    def default_method(self, design: Design) -> str:
        """The criterion by which this engine fits a model when none is asked for."""
        if design.family.is_linear or self.info.default_method == "posterior":
            return self.info.default_method
        return "Laplace" if design.blocks else "ML"

    def adapted(self, request: FitRequest, design: Design) -> FitRequest:
        """The same request by the method that this engine has, where it lacks the one that is asked for."""
        if self.capabilities.can(METHOD_FEATURES[request.method]):
            return request
        return replace(request, method=self.default_method(design))

    def refusals(self, design: Design, request: FitRequest) -> list[str]:
        """Everything about the model that this engine cannot express, in words."""
        needs = requirements(design, request.method, priors=bool(request.priors))
        kenward_roger = request.df_method == "kenward-roger" and design.blocks and design.family.is_linear
        if kenward_roger:
            needs |= {Feature.KENWARD_ROGER}
        found = [f"{f.value}: {why}" for f, why in self.capabilities.gaps(needs)] + self.limits(design, request)
        answer = self.families.answer(design.family, mixed=bool(design.blocks))
        if not isinstance(answer, Yes):
            found.insert(0, f"{design.family}{' with group effects' if design.blocks else ''}: {answer.reason}")
        if kenward_roger and request.method == "ML":
            found.append(
                "Kenward-Roger degrees of freedom belong to REML estimates: use method='REML' or "
                "df_method='satterthwaite'"
            )
        if request.method == "ML" and design.family.is_linear and likelihood_is_unbounded(design):
            found.append(
                "maximum likelihood: fixed effects and group effects together fit every row exactly, and the "
                "likelihood grows without bound as the residual variance goes to zero. Use fewer terms, or "
                "method='REML'"
            )
        return found

    def refuse(self, design: Design, request: FitRequest, others: Mapping[str, Backend] | None = None) -> None:
        """Raise if the engine cannot express the model; nothing is loaded for that.

        Raises:
            UnsupportedModelError: With every reason, and the names of the backends that can.
        """
        reasons = self.refusals(design, request)
        if reasons:
            able = [
                f"backend={n!r}" + ("" if asked.method == request.method else f" (method={asked.method!r})")
                for n, b in (others or {}).items()
                if n != self.info.name and not b.refusals(design, asked := b.adapted(request, design))
            ]
            hint = f"These can: {', '.join(able)}." if able else "No other backend can either."
            raise UnsupportedModelError(
                f"backend={self.info.name!r} cannot fit {design.spec.text()}:\n"
                + "\n".join(f"  - {r}" for r in reasons)
                + f"\n{hint}"
            )

    def fit(self, design: Design, request: FitRequest) -> Outcome:
        """Fit a design: prepare it, call the engine with its noise captured, transform the answer back.

        Raises:
            FitError: If the engine fails; its words are in the message.
        """
        seconds: dict[str, float] = {}
        started = time.perf_counter()
        with captured():
            engine = self.load()
        seconds["load"] = time.perf_counter() - started
        problem, way_back, constant, provenance = self._prepare(design, request)
        started = time.perf_counter()
        failure: Exception | None = None
        with captured(streams=not self._shows_progress(request)) as notes:
            try:
                found = self._fit(engine, problem)
            except UnimixError:
                raise
            except Exception as error:  # noqa: BLE001  an engine may raise anything
                failure = error
        if failure is not None:
            said = f"\nIt said: {' | '.join(notes)}" if notes else ""
            raise FitError(
                f"{self.info.name} failed on {design.spec.text()}: {type(failure).__name__}: {failure}{said}"
            ) from failure
        seconds["fit"] = time.perf_counter() - started
        found.check(design.p, [(b.n_levels, b.q) for b in design.blocks])
        if found.singular is None:
            found = replace(found, singular=is_singular(found.covariances, found.sigma))
        kind = Feature.KENWARD_ROGER if request.df_method == "kenward-roger" else Feature.SATTERTHWAITE
        if self.capabilities.can(kind):
            found = with_degrees(found, problem.design, request.method, request.df_method, problem.coefficients)
        found = judge(found, design, problem.design, request.method)
        if found.log_likelihood is not None:
            found = replace(found, log_likelihood=found.log_likelihood + constant)
        if way_back is not None:
            found = restore(found, way_back, reml=request.reml and bool(design.blocks))
        borrowed = {"start": provenance["start"]} if request.start is not None else {}
        told = {**provenance, **found.provenance, **borrowed}
        return Outcome(found, tuple(notes), self.versions(), seconds, told)

    def _shows_progress(self, request: FitRequest) -> bool:
        return False

    def _prepare(
        self, design: Design, request: FitRequest
    ) -> tuple[Problem, Conditioning | None, float, dict[str, str]]:
        provenance: dict[str, str] = {}
        fitted, constant = design, 0.0
        if fitted.offset is not None and fitted.is_linear:
            fitted = replace(fitted, y=fitted.y - fitted.offset, offset=None)
            provenance["offset"] = "subtracted from the response before the fit and added back (exact for this model)"
        answer = self.capabilities[Feature.WEIGHTS]
        if fitted.weights is not None and isinstance(answer, Yes) and answer.how and fitted.is_linear:
            fitted, constant = scale_rows(fitted)
            provenance["weights"] = f"emulated: {answer.how}"
        if request.start is not None:
            provenance["start"] = f"borrowed: {request.start.source}"
        if not self.conditioning:
            start = _relative(request.start, None)
            return Problem(fitted, request, np.eye(design.p), design, start), None, constant, provenance
        conditioned, way_back = condition(fitted)
        provenance["coordinates"] = "fitted in well-scaled columns and transformed back exactly (conditioning=True)"
        start = _relative(request.start, way_back)
        return Problem(conditioned, request, way_back.coefficients, design, start), way_back, constant, provenance


def _relative(start: Start | None, way_back: Conditioning | None) -> tuple[FloatArray, ...] | None:
    """Relative factors in the coordinates that are fitted."""
    if start is None:
        return None
    if way_back is None:
        return relative_factors(start.covariances, start.sigma)
    return way_back.relative(start.covariances, start.sigma)


def make_backend(cls: type[Backend], options: Mapping[str, Any] | None = None) -> Backend:
    """Configure a backend; a misspelt or impossible option is an error that names the right ones.

    Raises:
        OptionError: With every fault.
    """
    from pydantic import ValidationError

    from unimix.errors import did_you_mean

    fields = cls.model_fields
    try:
        return cls(**dict(options or {}))
    except ValidationError as error:
        told = []
        for fault in error.errors():
            name = str(fault["loc"][0]) if fault["loc"] else ""
            if fault["type"] == "extra_forbidden":
                told.append(
                    f"{name!r} is not an option of {cls.info.name}.{did_you_mean(name, fields)} "
                    f"Options: {', '.join(fields)}."
                )
            else:
                told.append(f"{name}={fault.get('input')!r}: {fault['msg']}.")
        raise OptionError("\n".join(told)) from None
