"""fit and explain: what most calls begin with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Unpack

from unimix.backends import registry
from unimix.backends.base import Backend
from unimix.backends.cost import UNKNOWN
from unimix.backends.limits import MemoryLimit, TimeLimit
from unimix.backends.registry import DEFAULT_BACKEND, BackendLike
from unimix.design.design import ColumnOrArray
from unimix.distributions.family import FamilyLike
from unimix.estimation.arguments import FitArguments, FitOptions, Method, takes_arguments_of
from unimix.estimation.explanation import Explanation, explain_design
from unimix.estimation.run import fit_problem
from unimix.fitted.schema import DfMethod
from unimix.foreign_names import suggests_names
from unimix.result import FitResult


def _read_call(
    caller: Callable[..., Any], formula: object, data: object, backend: BackendLike, given: Mapping[str, Any]
) -> tuple[Backend, FitArguments]:
    """The engine of a call and its checked arguments.

    Raises:
        OptionError: With every fault.
        UnknownBackendError: If nothing but the backend is wrong.
    """
    engines, errors = registry.resolve_all([backend], given.get("options"))
    own = type(engines[0]).model_fields if engines else ()
    arguments = FitArguments.read(caller, formula, data, given, engine_options=own, errors=errors)
    return engines[0], arguments


def _refuse(given: dict[str, Any]) -> None:
    """Raise with every fault of a call of ``fit`` that has arguments unknown to it."""
    backend = given.pop("backend", DEFAULT_BACKEND)
    _read_call(fit, given.pop("formula", None), given.pop("data", None), backend, given)


@suggests_names(refuse=_refuse)
def fit(
    formula: str,
    data: Any,
    backend: BackendLike = DEFAULT_BACKEND,
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

    Returns:
        The result, in one form whichever engine fitted: tables (``fixed_effects``, ``variance_components``,
        ``group_effects``), numbers, ``predict``, ``tidy``, ``summary`` and ``to_json``.

    Raises:
        FormulaError: The formula cannot be read (every fault, with its position).
        DataError: The data do not allow the model.
        OptionError: Arguments or options are wrong (every fault); what other packages call them is answered with the
            name here.
        UnknownBackendError: There is no such backend.
        UnsupportedModelError: The engine cannot express the model; says which can.
        EngineNotInstalledError: With the line to paste.
        FitError: The engine failed; with its words.
        LimitError: It was stopped at ``time_limit`` or ``memory_limit``; says what is quicker or smaller.
    """
    given = FitOptions(
        family=family,
        method=method,
        weights=weights,
        offset=offset,
        contrasts=contrasts,
        ziformula=ziformula,
        dispformula=dispformula,
        df_method=df_method,
        ci_level=ci_level,
        missing=missing,
        options=options,
        priors=priors,
        seed=seed,
        progress=progress,
        time_limit=time_limit,
        memory_limit=memory_limit,
        restart=restart,
    )
    engine, arguments = _read_call(fit, formula, data, backend, given)
    return fit_problem(engine, arguments.problem(formula, data))


@takes_arguments_of(fit, FitOptions)
def explain(
    formula: str, data: Any, backend: BackendLike = DEFAULT_BACKEND, **arguments: Unpack[FitOptions]
) -> Explanation:
    """Show how a formula is read and what the engine would be given; nothing is fitted or loaded.

    Args:
        formula: As for :func:`fit`.
        data: As for :func:`fit`.
        backend: As for :func:`fit`.
        arguments: Every other argument of :func:`fit`: a call of it can be explained as it stands.

    Raises:
        FormulaError, DataError, OptionError: As for :func:`fit`.
    """
    engine, checked = _read_call(explain, formula, data, backend, arguments)
    problem = checked.problem(formula, data)
    design, request = problem.design, problem.request(engine)
    others = {n: (b, b.adapted(problem.request(b), design)) for n, b in registry.others().items()}
    able = [n for n, (b, asked) in others.items() if not b.refusals(design, asked)]
    costs = {n: b.cost(design, asked) for n, (b, asked) in others.items() if n in able}
    costs[engine.info.name] = engine.cost(design, request)
    return explain_design(
        design,
        engine.info.name,
        request.method,
        engine.preview(design, request),
        engine.refusals(design, request),
        able,
        {n: str(c) for n, c in costs.items() if c != UNKNOWN},
    )
