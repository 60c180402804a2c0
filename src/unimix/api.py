"""fit and explain: what most calls begin with."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any, Literal, Never

from unimix.backends import registry
from unimix.backends.base import Backend
from unimix.backends.cost import UNKNOWN
from unimix.backends.limits import MemoryLimit, TimeLimit
from unimix.distributions.family import FamilyLike
from unimix.estimation.arguments import ColumnOrArray, fit_one, make_request, prepare, restarted
from unimix.estimation.explanation import Explanation, explain_design
from unimix.fitted.schema import DfMethod
from unimix.foreign_names import refuse_keywords, refuse_swapped
from unimix.result import FitResult

BackendLike = str | type[Backend] | Backend
Method = Literal["REML", "ML", "Laplace", "AGQ", "variational", "MAP", "posterior"]


def fit(
    formula: str,
    data: Any,
    backend: BackendLike = "pls",
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
    time_limit: TimeLimit = None,
    memory_limit: MemoryLimit = None,
    restart: bool = False,
    **unknown: Never,
) -> FitResult:
    """Fit a linear or generalised linear mixed model with the engine of your choice.

    Args:
        formula: In lme4's language: ``"y ~ x * f + (1 + x | g)"``. Without a random part an ordinary linear model.
        data: pandas, polars, pyarrow, anything narwhals reads, or a dict of arrays; never modified.
        backend: A name (``unimix.backends()`` lists them), a backend class or a configured instance such as
            ``unimix.backends.Lme4(optimizer="bobyqa")``.
        family: Distribution of the response: ``"binomial"``, ``"poisson(sqrt)"``, or
            ``unimix.families.Binomial(link="probit")``; ``unimix.families`` lists them.
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
        priors: For PyMC: ``{"x": unimix.priors.Normal(0, 10), "sd(g)": unimix.priors.HalfNormal(5)}``.
        seed: Seed of the random numbers; the same seed gives the same draws.
        progress: Show a progress bar; None means on a terminal.
        time_limit: Seconds, a text such as ``"5 min"``, or a ``datetime.timedelta``, after which the engine is
            stopped. The data have been read and the engine has been loaded when the clock starts.
        memory_limit: Bytes, or a text such as ``"8 GB"``, that the fit may take beside what the session already holds:
            a model that will need more is refused, and a fit that comes to need more is stopped. None refuses what
            will not fit into the memory that is free; ``"none"`` refuses nothing.
        restart: Where the certificate finds a linear mixed model short of the optimum, start the engine again from the
            best known point. The result says that its start was borrowed.
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
        LimitError: It was stopped at ``time_limit`` or ``memory_limit``; says what is quicker or smaller.
    """
    refuse_swapped("unimix.fit", formula, data)
    engine = registry.resolve(backend, options)
    refuse_keywords(fit, unknown, type(engine).model_fields)
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
        priors,
        seed,
        progress,
        time_limit,
        memory_limit,
    )
    found = fit_one(engine, call)
    return restarted(engine, call, found) if restart else found


def explain_refusal(formula: str, data: Any, backend: BackendLike, **arguments: Any) -> None:
    """Raise what :func:`fit` would raise before it fits: wrong arguments, models that the engine cannot express.

    Args:
        formula: As for :func:`fit`.
        data: As for :func:`fit`.
        backend: As for :func:`fit`.
        arguments: As for :func:`fit`.
    """
    engine = registry.resolve(backend, arguments.get("options"))
    given = {k: arguments[k] for k in signature(prepare).parameters if k in arguments}
    defaults = {k: p.default for k, p in signature(fit).parameters.items() if k in signature(prepare).parameters}
    call = prepare(**{**defaults, **given, "formula": formula, "data": data})
    request = make_request(engine, call)
    if engine.refusals(call.design, request):
        engine.refuse(call.design, request, registry.others())


def explain(
    formula: str,
    data: Any,
    backend: BackendLike = "pls",
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
        0.95,
        missing,
        priors,
        None,
        None,
        None,
        None,
    )
    request = make_request(engine, call)
    others = {n: (b, b.adapted(make_request(b, call), call.design)) for n, b in registry.others().items()}
    able = [n for n, (b, asked) in others.items() if not b.refusals(call.design, asked)]
    costs = {n: b.cost(call.design, asked) for n, (b, asked) in others.items() if n in able}
    costs[engine.info.name] = engine.cost(call.design, request)
    return explain_design(
        call.design,
        engine.info.name,
        request.method,
        engine.preview(call.design, request),
        engine.refusals(call.design, request),
        able,
        {n: str(c) for n, c in costs.items() if c != UNKNOWN},
    )
