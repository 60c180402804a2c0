"""fit, compare, explain: reads like a table of contents."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Never

import numpy.typing as npt

from unimix.backends import registry
from unimix.backends.base import Backend, FitRequest
from unimix.comparison.comparison import Comparison, Failure, build_comparison
from unimix.errors import OptionError, UnimixError, did_you_mean, listing
from unimix.explanation import Explanation, explain_design
from unimix.foreign import refuse_keywords, refuse_swapped
from unimix.model.design import Design, build_design
from unimix.model.family import FamilyLike
from unimix.model.features import METHODS, method_fault
from unimix.model.parse import parse
from unimix.results.assemble import assemble
from unimix.results.result import FitResult
from unimix.results.schema import PRIORS, EngineInfo

BackendLike = str | type[Backend] | Backend
ColumnOrArray = str | npt.ArrayLike | None
DF_METHODS = ("satterthwaite", "kenward-roger", "residual", "normal")
Method = Literal["REML", "ML", "Laplace", "AGQ", "variational", "MAP", "posterior"]
DfMethod = Literal["satterthwaite", "kenward-roger", "residual", "normal"]


@dataclass(frozen=True)
class _Call:
    """The checked arguments of one call, beside the backend."""

    design: Design
    method: str | None
    df_method: str
    ci_level: float
    priors: Mapping[str, Any] | None
    seed: int | None
    progress: bool | None
    design_seconds: float


def fit(
    formula: str,
    data: Any,
    backend: BackendLike = "statsmodels",
    *,
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
    options: Mapping[str, Any] | None = None,
    priors: Mapping[str, Any] | None = None,
    seed: int | None = None,
    progress: bool | None = None,
    **unknown: Never,
) -> FitResult:
    """Fit a linear or generalised linear mixed model with the engine of your choice.

    Args:
        formula: In lme4's language: ``"y ~ x * f + (1 + x | g)"``. Without a random part an ordinary linear model.
        data: pandas, polars, pyarrow, anything narwhals reads, or a dict of arrays; never modified.
        backend: A name (``unimix.backends()`` lists them), a backend class or a configured instance such as
            ``unimix.backends.Lme4(optimizer="bobyqa")``.
        family: Distribution of the response: ``"binomial"``, ``"poisson(sqrt)"``, ``unimix.Binomial(link="probit")``;
            ``unimix.families`` lists them.
        method: REML or ML for Gaussian models; Laplace, AGQ (quadrature, one scalar random term), or statsmodels'
            variational and MAP for generalised ones; posterior for PyMC. Default: REML, Laplace, posterior.
        weights: Column or array (n,): precision weights, Var(e) = sigma^2 / w, as in lme4; numbers of trials where the
            family is binomial; for other families a row's log-likelihood counts w times.
        offset: Column or array (n,), added to the linear predictor.
        contrasts: Coding per factor. A name, ``{"f": "sum"}``; hypotheses, ``{"f": {"b-a": [-1, 1, 0]}}``: one weight
            per level, summing to zero, and the coefficient ``f[b-a]`` is that weighted sum of the level means; or the
            coding matrix itself (array or data frame, levels x columns), as R's ``contrasts<-`` takes it.
        ziformula: Zero inflation of counts, ``"~ 1"`` or ``"~ x"``: fixed terms of the logit of the probability of a
            structural zero.
        dispformula: Fixed terms of the logarithm of the dispersion, ``"~ x"``.
        df_method: Denominator degrees of freedom of the t tests. An engine without them reports z and says so.
        ci_level: Probability of the intervals.
        missing: drop rows with missing values in a used column (they are counted), or raise.
        options: Options of the backend, when it is given by name or class.
        priors: For PyMC: ``{"x": unimix.Normal(0, 10), "sd(g)": unimix.HalfNormal(5)}``.
        seed: Of random numbers; the same seed gives the same draws.
        progress: Show a progress bar; None means on a terminal.
        unknown: Nothing; what other packages call an argument is answered with its name here.

    Returns:
        The result, in one form whichever engine fitted: tables (``fixed_effects``, ``variance_components``,
        ``group_effects``), numbers, ``predict``, ``tidy``, ``summary`` and ``to_json``.

    Raises:
        FormulaError: The formula cannot be read (every fault, with its position).
        DataError: The data do not allow the model.
        OptionError: An argument or option is wrong.
        UnsupportedModelError: The engine cannot express the model; says which can.
        EngineNotInstalledError: With the line to paste.
        FitError: The engine failed; with its words.
    """
    refuse_swapped("unimix.fit", formula, data)
    engine = registry.resolve(backend, options)
    refuse_keywords(fit, unknown, type(engine).model_fields)
    call = _prepare(
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
        priors,
        seed,
        progress,
    )
    return _fit_one(engine, call)


def _prepare(
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
) -> _Call:
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
    return _Call(design, method, df_method, float(ci_level), priors, seed, progress, seconds)


def _request(engine: Backend, call: _Call) -> FitRequest:
    method = call.method or engine.default_method(call.design)
    if not call.design.blocks and not call.design.family.is_linear and method in ("Laplace", "AGQ"):
        method = "ML"  # nothing is integrated out
    seed = call.seed
    if seed is None and method == "posterior":
        seed = secrets.randbelow(2**31)
    return FitRequest(method, call.df_method, call.ci_level, call.priors, seed, call.progress)


def _fit_one(engine: Backend, call: _Call) -> FitResult:
    request = _request(engine, call)
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
    return finished.attach(native=found.native, posterior=found.posterior, design=call.design)


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
        unknown: As for :func:`fit`.

    Returns:
        The comparison. An engine that fails or refuses keeps its column, with its error.

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
    engines = _engines(backends)
    call = _prepare(
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
    )
    results: list[FitResult | Failure] = []
    for engine in engines:
        sampler = engine.info.default_method == "posterior"
        own = replace(
            call,
            method="posterior" if sampler else call.method,
            df_method=call.df_method if _has_df(engine, call) else "satterthwaite",
            priors=priors if sampler else None,
        )
        try:
            results.append(_fit_one(engine, own))
        except UnimixError as error:
            results.append(Failure(engine.info.name, type(error).__name__, str(error)))
    fitted = [r for r in results if isinstance(r, FitResult)]
    return build_comparison(fitted, [r for r in results if isinstance(r, Failure)], order=[_label(r) for r in results])


def _label(result: FitResult | Failure) -> str:
    return result.engine.backend if isinstance(result, FitResult) else result.backend


def _has_df(engine: Backend, call: _Call) -> bool:
    from unimix.model.features import Feature

    return call.df_method != "kenward-roger" or engine.capabilities.can(Feature.KENWARD_ROGER)


def _engines(backends: Sequence[BackendLike] | None) -> list[Backend]:
    if backends is None:
        found = [b for b in registry.others().values() if b.available()]
        if len(found) < 2:
            raise OptionError(
                f"A comparison needs two engines, and only {listing(b.info.name for b in found)} is installed here. "
                "`python -m unimix.doctor` says how to get the others."
            )
        return found
    if isinstance(backends, str):
        raise OptionError(f"backends={backends!r}: give a list, such as backends=['statsmodels', 'lme4'].")
    engines = [registry.resolve(b) for b in backends]
    if len(engines) < 2:
        raise OptionError("A comparison needs at least two backends.")
    return engines


def explain(
    formula: str,
    data: Any,
    backend: BackendLike = "statsmodels",
    *,
    family: FamilyLike = "gaussian",
    method: Method | None = None,
    weights: ColumnOrArray = None,
    offset: ColumnOrArray = None,
    contrasts: Mapping[str, object] | None = None,
    ziformula: str | None = None,
    dispformula: str | None = None,
    df_method: DfMethod = "satterthwaite",
    missing: Literal["drop", "raise"] = "drop",
    options: Mapping[str, Any] | None = None,
    priors: Mapping[str, Any] | None = None,
    **unknown: Never,
) -> Explanation:
    """Show how a formula is read and what the engine would be given; nothing is fitted or loaded.

    Args:
        formula: As for :func:`fit`.
        data: As for :func:`fit`.
        backend: As for :func:`fit`.
        family: As for :func:`fit`.
        method: As for :func:`fit`.
        weights: As for :func:`fit`.
        offset: As for :func:`fit`.
        contrasts: As for :func:`fit`.
        ziformula: As for :func:`fit`.
        dispformula: As for :func:`fit`.
        df_method: As for :func:`fit`.
        missing: As for :func:`fit`.
        options: As for :func:`fit`.
        priors: As for :func:`fit`.
        unknown: As for :func:`fit`.

    Raises:
        FormulaError, DataError, OptionError: As for :func:`fit`.
    """
    refuse_swapped("unimix.explain", formula, data)
    engine = registry.resolve(backend, options)
    refuse_keywords(explain, unknown, type(engine).model_fields)
    call = _prepare(
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
        0.95,
        missing,
        priors,
        None,
        None,
    )
    request = _request(engine, call)
    able = [
        n
        for n, b in registry.others().items()
        if not b.refusals(call.design, b.adapted(_request(b, call), call.design))
    ]
    return explain_design(
        call.design,
        engine.info.name,
        request.method,
        engine.preview(call.design, request),
        engine.refusals(call.design, request),
        able,
    )
