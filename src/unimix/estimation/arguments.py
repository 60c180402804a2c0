"""The arguments of a fit: their names and defaults, their checks, and the request that they become for an engine.

The docstring of ``fit`` describes every argument. All other functions that fit models take the same arguments through
one of the typed dictionaries below, so that editors can complete them, and read them with :meth:`FitArguments.read`, so
that every function refuses a wrong argument with the same message.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Literal, Self, TypedDict, TypeVar, cast

import numpy as np

from unimix import argument_types
from unimix.backends.base import Backend
from unimix.backends.interface import FitRequest
from unimix.backends.limits import Limits, MemoryLimit, TimeLimit, read_limits, read_memory, read_time
from unimix.design.arrays import Design
from unimix.design.design import ColumnOrArray, build_design
from unimix.design.features import METHODS, Feature, method_fault
from unimix.design.smooths import mixed_design, smooths_fault
from unimix.distributions.family import FamilyLike, as_family
from unimix.errors import OptionError, UnimixError, UnsupportedModelError, did_you_mean
from unimix.estimation.reduce import reduce
from unimix.fitted.schema import DfMethod
from unimix.foreign_names import name_faults, parameters_of, swapped_faults
from unimix.formula.interpreter import parse
from unimix.parallel.jobs import seed_fault
from unimix.reduction.reduced import Reduced, argument_faults
from unimix.reduction.sources import is_lazy_frame, is_source

Method = Literal["REML", "ML", "Laplace", "AGQ", "variational", "MAP", "posterior"]
DF_METHODS = ("satterthwaite", "kenward-roger", "residual", "normal")
MISSING = ("drop", "raise")


class ModelOptions(TypedDict, total=False):
    """The arguments that determine the model, its criterion, and the time and memory that its fit may take."""

    family: FamilyLike
    method: Method | None
    weights: ColumnOrArray
    offset: ColumnOrArray
    contrasts: Mapping[str, object] | None
    ziformula: str | None
    dispformula: str | None
    residual: str | None
    sigma: float | None
    relationship: Mapping[str, Any] | None
    df_method: DfMethod
    missing: Literal["drop", "raise"]
    priors: Mapping[str, Any] | None
    time_limit: TimeLimit
    memory_limit: MemoryLimit


class SharedOptions(ModelOptions, total=False):
    """Every argument of a fit that has the same meaning for all engines."""

    ci_level: float
    seed: int | None
    progress: bool | None


class FitOptions(SharedOptions, total=False):
    """Every argument of a fit."""

    options: Mapping[str, Any] | None
    restart: bool


@dataclass(frozen=True, kw_only=True)
class FitArguments:
    """The arguments of one fit, except formula, data and backend; :func:`unimix.fit` describes each of them."""

    family: FamilyLike = "gaussian"
    method: str | None = None
    weights: ColumnOrArray = None
    offset: ColumnOrArray = None
    contrasts: Mapping[str, object] | None = None
    ziformula: str | None = None
    dispformula: str | None = None
    residual: str | None = None
    sigma: float | None = None
    relationship: Mapping[str, Any] | None = None
    df_method: str = "satterthwaite"
    ci_level: float = 0.95
    missing: str = "drop"
    options: Mapping[str, Any] | None = None
    priors: Mapping[str, Any] | None = None
    seed: int | None = None
    progress: bool | None = None
    time_limit: TimeLimit = None
    memory_limit: MemoryLimit = None
    restart: bool = False

    @classmethod
    def read(
        cls,
        caller: Callable[..., Any],
        formula: object,
        data: object,
        given: Mapping[str, object],
        *,
        engine_options: Iterable[str] = (),
        faults: Iterable[str] = (),
        errors: Sequence[UnimixError] = (),
    ) -> Self:
        """Check the arguments that a function was given, and keep them.

        Args:
            caller: The function that the user called.
            formula: Value that was given as the formula.
            data: Value that was given as the data.
            given: Values of the other arguments by name. A name that the caller does not take is a fault.
            engine_options: Names of the options of the chosen engine.
            faults: Messages about other faults of the call.
            errors: Errors that the call has raised already. If one of them is the only fault, it is raised unchanged.

        Raises:
            OptionError: If anything is wrong; the message lists every fault.
        """
        known = parameters_of(caller)
        unknown = {name: value for name, value in given.items() if name not in known}
        messages = [
            *swapped_faults(f"unimix.{caller.__name__}", formula, data),
            *name_faults(caller.__name__, known, unknown, engine_options),
            *(fault for name, check in _CHECKS.items() if name in given and (fault := check(given[name]))),
            *faults,
        ]
        if len(errors) == 1 and not messages:
            raise errors[0]
        if messages or errors:
            raise OptionError("\n".join([*messages, *map(str, errors)]))
        values: dict[str, Any] = dict(given)
        return cls(**values)

    @property
    def limits(self) -> Limits:
        """The limits of time (seconds) and memory (bytes)."""
        return read_limits(self.time_limit, self.memory_limit)[0]

    def problem(self, formula: str, data: Any) -> FitProblem:
        """Read the formula and the data.

        Raises:
            FormulaError: If the formula cannot be read.
            DataError: If the data cannot be read, or do not allow the model.
            OptionError: If the method does not belong to the model.
        """
        started = time.perf_counter()
        if isinstance(data, Reduced) or (is_source(data) and (self._is_linear or not is_lazy_frame(data))):
            design = self._reduced_design(formula, data)
        else:
            design = build_design(
                parse(formula, self.ziformula, self.dispformula, self.residual),
                data,
                weights=self.weights,
                offset=self.offset,
                contrasts=self.contrasts,
                missing=self.missing,
                family=self.family,
                sigma=None if self.sigma is None else float(self.sigma),
                relationship=self.relationship,
            )
        fault = smooths_fault(design, self.df_method) or method_fault(mixed_design(design), self.method, self.df_method)
        if fault:
            raise OptionError(fault)
        return FitProblem(design, self, time.perf_counter() - started)

    @property
    def _is_linear(self) -> bool:
        """Whether the model is linear with independent residuals of one variance."""
        parts = self.ziformula, self.dispformula, self.residual
        return as_family(self.family).is_linear and not any(parts)

    def _reduced_design(self, formula: str, data: Any) -> Design:
        """The arrays of a linear model of reduced rows; a source that is not reduced yet is read for it."""
        if not self._is_linear:
            raise UnsupportedModelError(
                "Rows can be reduced for linear mixed models with independent residuals of one variance: the "
                "likelihood of any other model looks at every row. Read the rows into memory, "
                "um.fit(formula, frame, ...); rows with equal predictors and groups can be counted first: "
                "um.collapse(source, formula, family=...)."
            )
        if self.sigma is not None or self.relationship:
            raise OptionError(
                "sigma= and relationship= are for rows in memory: read them, um.fit(formula, frame, ...)."
            )
        if isinstance(data, Reduced):
            faults = argument_faults(data, weights=self.weights, offset=self.offset, contrasts=self.contrasts)
            if faults:
                raise OptionError("\n".join(faults))
            return data.design(formula)
        return reduce(
            data,
            formula,
            weights=cast("str | None", self.weights),
            offset=cast("str | None", self.offset),
            contrasts=self.contrasts,
            missing=cast("Any", self.missing),
            progress=self.progress,
            time_limit=self.time_limit,
            memory_limit=self.memory_limit,
        ).design()

    def adapted(self, engine: Backend) -> Self:
        """The arguments of a call of several engines, adapted to what one of them can take.

        A sampler takes priors and its method is posterior; any other engine takes no priors. An engine without Kenward
        and Roger's degrees of freedom is asked for Satterthwaite's.
        """
        sampler = engine.info.samples
        has_df = self.df_method != "kenward-roger" or engine.capabilities.can(Feature.KENWARD_ROGER)
        return replace(
            self,
            method="posterior" if sampler else self.method,
            df_method=self.df_method if has_df else "satterthwaite",
            priors=self.priors if sampler else None,
        )

    def for_designs(self, method: str | None) -> FitArguments:
        """The arguments that remain when a changed design is fitted, with other responses or rows.

        The model arguments are part of the design by then, and the time limit was meant for a single call.

        Args:
            method: Criterion of the refits; None takes the engine's default.
        """
        return FitArguments(
            method=method,
            df_method="normal",
            ci_level=self.ci_level,
            priors=self.priors,
            seed=self.seed,
            progress=False,
            memory_limit=self.memory_limit,
        )


@dataclass(frozen=True)
class FitProblem:
    """A model of one data set, ready for any engine.

    Attributes:
        design: The model as arrays.
        arguments: Arguments of the fit.
        design_seconds: Seconds that it took to read the formula and the data.
    """

    design: Design
    arguments: FitArguments
    design_seconds: float = 0.0

    @property
    def mixed(self) -> FitProblem:
        """The problem as engines see it: that of the mixed model, if the design has smooths."""
        return replace(self, design=mixed_design(self.design))

    def adapted(self, engine: Backend) -> FitProblem:
        """Return the problem with its arguments adapted to an engine."""
        return replace(self, arguments=self.arguments.adapted(engine))

    def request(self, engine: Backend) -> FitRequest:
        """The request for one engine, with its default method and, for samplers, a random seed if none was given."""
        arguments = self.arguments
        method = arguments.method or engine.default_method(self.design)
        if not self.design.blocks and not self.design.family.is_linear and method in ("Laplace", "AGQ"):
            method = "ML"  # without group effects there is no integral to approximate
        seed = arguments.seed
        if seed is None and method == "posterior":
            seed = secrets.randbelow(2**31)
        return FitRequest(
            method,
            arguments.df_method,
            float(arguments.ci_level),
            arguments.priors,
            seed,
            arguments.progress,
            limits=arguments.limits,
        )


# --- faults -----------------------------------------------------------------------------------------------------------


def _family_fault(value: Any) -> str:
    try:
        as_family(value)
    except OptionError as error:
        return str(error)
    return ""


def _one_of(name: str, choices: tuple[str, ...], value: object) -> str:
    if isinstance(value, str) and value in choices:
        return ""
    first = ", ".join(map(repr, choices[:-1]))
    return f"{name}={value!r}: choose {first} or {choices[-1]!r}.{did_you_mean(str(value), choices)}"


def _level_fault(value: object) -> str:
    if not isinstance(value, bool) and isinstance(value, int | float) and 0 < value < 1:
        return ""
    return f"ci_level={value!r}: give a probability between 0 and 1, such as 0.95."


def _sigma_fault(value: object) -> str:
    if value is None or (
        not isinstance(value, bool | np.bool) and isinstance(value, Real) and 0 < float(value) < math.inf
    ):
        return ""
    return (
        f"sigma={value!r}: give a positive number, such as sigma=1 with weights=1 / v for known variances v, or None."
    )


def _relationship_fault(value: object) -> str:
    if value is None or isinstance(value, Mapping):
        return ""
    return "relationship= takes a dict of matrices by grouping factor, such as {'animal': A}."


def _priors_fault(value: object) -> str:
    if value is None or isinstance(value, Mapping):
        return ""
    return f"priors={value!r}: give a dict, such as {{'x': unimix.priors.Normal(0, 1)}}."


def _flag_fault(name: str, value: object, *, automatic: bool) -> str:
    if isinstance(value, bool) or (automatic and value is None):
        return ""
    return f"{name}={value!r}: choose {'True, False or None' if automatic else 'True or False'}."


_CHECKS: dict[str, Callable[[Any], str]] = {
    "family": _family_fault,
    "method": lambda v: "" if v is None else _one_of("method", METHODS, v),
    "df_method": lambda v: _one_of("df_method", DF_METHODS, v),
    "ci_level": _level_fault,
    "sigma": _sigma_fault,
    "relationship": _relationship_fault,
    "missing": lambda v: _one_of("missing", MISSING, v),
    "priors": _priors_fault,
    "seed": seed_fault,
    "progress": lambda v: _flag_fault("progress", v, automatic=True),
    "time_limit": lambda v: "".join(read_time(v)[1]),
    "memory_limit": lambda v: "".join(read_memory(v)[1]),
    "restart": lambda v: _flag_fault("restart", v, automatic=False),
}


# --- signatures -------------------------------------------------------------------------------------------------------

Function = TypeVar("Function", bound=Callable[..., Any])


def takes_arguments_of(source: Callable[..., Any], options: Any, **defaults: object) -> Callable[[Function], Function]:
    """A decorator that shows, in the signature and the help of a function, what it takes as ``**arguments``.

    Args:
        source: The function that declares and describes the arguments.
        options: The typed dictionary that the decorated function declares as ``**arguments``.
        defaults: Defaults that differ from those of the source, by name.
    """
    names = options.__required_keys__ | options.__optional_keys__
    shared = [p for p in inspect.signature(source).parameters.values() if p.name in names]
    added = [p.replace(default=defaults.get(p.name, p.default)) for p in shared]
    described = _descriptions(source.__doc__)

    def show(function: Function) -> Function:
        signature = inspect.signature(function)
        kept = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        function.__signature__ = signature.replace(parameters=[*kept, *added])  # type: ignore[attr-defined]
        entry = _descriptions(function.__doc__).get("arguments")
        if function.__doc__ and entry:  # python -OO removes docstrings
            entries = "\n".join([entry, *(described[p.name] for p in added)])
            function.__doc__ = inspect.cleandoc(function.__doc__).replace(entry, entries)

        @functools.wraps(function)
        def answering(*args: Any, **given: Any) -> Any:
            return argument_types.call(function, args, given)

        return cast("Function", answering)

    return show


def _descriptions(documentation: str | None) -> dict[str, str]:
    """The entries of the Args section of a docstring, by name of the argument."""
    section = re.search(r"^Args:\n((?:    .*\n)+)", inspect.cleandoc(documentation or ""), flags=re.MULTILINE)
    entries = re.findall(r"^(    (\w+): .*(?:\n     +.*)*)", section[1] if section else "", flags=re.MULTILINE)
    return {name: entry for entry, name in entries}


__all__ = [
    "DF_METHODS",
    "FitArguments",
    "FitOptions",
    "FitProblem",
    "Method",
    "ModelOptions",
    "SharedOptions",
    "takes_arguments_of",
]
