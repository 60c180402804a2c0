"""``fit`` and ``explain``: the two functions that most sessions begin with."""

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
        OptionError: If anything in the call is wrong; the message lists every fault.
        UnknownBackendError: If only the name of the backend is wrong.
    """
    engines, errors = registry.resolve_all([backend], given.get("options"))
    own = type(engines[0]).model_fields if engines else ()
    arguments = FitArguments.read(caller, formula, data, given, engine_options=own, errors=errors)
    return engines[0], arguments


def _refuse(given: dict[str, Any]) -> None:
    """Raise an error that lists every fault of a call of ``fit`` with unknown arguments."""
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
    residual: str | None = None,
    sigma: float | None = None,
    relationship: Mapping[str, Any] | None = None,
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
        formula: The model in lme4's language: ``"y ~ x * f + (1 + x | g)"``. A formula without a random part gives an
            ordinary (generalised) linear model.
        data: A pandas, polars or pyarrow table, any other table that narwhals reads, or a dict of arrays. The data are
            never modified. For a linear mixed model by ``pls`` they may also be rows that do not fit into memory: the
            path of Parquet files, a pyarrow dataset, a polars LazyFrame, a DuckDB relation or a Dask DataFrame, which
            are read in batches, or a reduction, from :func:`unimix.reduce`.
        backend: Name of the engine (``unimix.backends()`` lists them), a backend class, or a configured instance such
            as ``unimix.backends.Lme4(optimizer="bobyqa")``.
        family: Distribution of the response: ``"binomial"``, ``"poisson(sqrt)"``, or
            ``unimix.families.Binomial(link="probit")``; ``unimix.families`` lists them.
        method: Criterion of the estimates. Gaussian models take REML (the default) or ML; generalised models take
            Laplace (the default), AGQ (adaptive Gauss-Hermite quadrature, for one scalar random term), or variational
            and MAP (statsmodels); samplers take posterior.
        weights: Name of a column, or array of shape (n,). For a Gaussian family they are precision weights,
            Var(e) = sigma^2 / w, as in lme4; for a binomial family they are numbers of trials; for any other family
            the log-likelihood of a row counts w times.
        offset: Name of a column, or array of shape (n,), which is added to the linear predictor.
        contrasts: Coding of each factor: a name, ``{"f": "sum"}``; hypotheses, ``{"f": {"b-a": [-1, 1, 0]}}``, with one
            weight per level that sum to zero, so that the coefficient ``f[b-a]`` is that weighted sum of the level
            means; or the coding matrix itself (array or data frame, levels x columns), as R's ``contrasts<-`` takes it.
        ziformula: Zero inflation of counts, ``"~ 1"`` or ``"~ x"``: fixed terms of the logit of the probability of a
            structural zero.
        dispformula: Fixed terms of the logarithm of the dispersion, ``"~ x"``; of the residual standard deviation of a
            linear model, ``"~ arm"``.
        residual: Covariance of the residuals of a linear model within a group: ``"ar1(time | id)"``,
            ``"car1(time | id)"``, ``"exp(...)"``, ``"gau(...)"``, ``"cs(visit | id)"``, ``"toep(...)"``,
            ``"diag(...)"``, or ``"us(visit | id)"`` for any covariance matrix (MMRM). ``hom=TRUE`` gives one variance
            for all times and ``hom=FALSE`` one for each, ``"cs(visit | id, hom=TRUE)"``; the defaults are those of the
            same names in a formula. The model may have group effects within these groups, or none. None for independent
            residuals.
        sigma: Known residual standard deviation of a row with weight 1, for Gaussian models: ``sigma=1`` with
            ``weights=1 / v`` for rows whose variances v are known, as in a meta-analysis. None estimates it.
        relationship: Known relationship matrix A of the levels of a grouping factor, ``{"animal": A}``, for pedigrees
            and phylogenies: the effects of levels l and m have the covariance A_lm Sigma. A data frame with the levels
            as index and columns, a :class:`unimix.Relationship`, or the inverse, ``unimix.inverse(Ainv)``.
        df_method: Denominator degrees of freedom of the t tests. An engine that has none reports z tests and says so.
        ci_level: Probability of the intervals, between 0 and 1.
        missing: ``"drop"`` leaves out rows with missing values in a column of the model, and counts them; ``"raise"``
            refuses them.
        options: Options of the backend, where it is given by name or class.
        priors: Prior distributions of the parameters, for samplers:
            ``{"x": unimix.priors.Normal(0, 10), "sd(g)": unimix.priors.HalfNormal(5)}``.
        seed: Seed of the random numbers; the same seed gives the same draws.
        progress: Whether to show a progress bar; None shows it on a terminal.
        time_limit: Time after which the engine is stopped: seconds, a text such as ``"5 min"``, or a
            ``datetime.timedelta``. The clock starts when the data have been read and the engine has been loaded.
        memory_limit: Memory that the fit may take beyond what the session already holds: bytes, or a text such as
            ``"8 GB"``. A model that will need more is refused, and a fit that comes to need more is stopped. None
            refuses models that do not fit into the free memory; ``"none"`` refuses nothing.
        restart: Whether to start the engine again from the best known point where the certificate finds that a linear
            mixed model ended short of the optimum. The result says that its start was borrowed.

    Returns:
        The result, in the same form for every engine: tables (``fixed_effects``, ``variance_components``,
        ``group_effects``), numbers, ``predict``, ``tidy``, ``summary`` and ``to_json``.

    Raises:
        FormulaError: If the formula cannot be read; the message shows every fault at its position.
        DataError: If the data do not allow the model.
        OptionError: If arguments or options are wrong; the message lists every fault, and where another package's
            name was typed, it gives the name that unimix uses.
        UnknownBackendError: If there is no such backend.
        UnsupportedModelError: If the engine cannot express the model; the message names the engines that can.
        EngineNotInstalledError: If the engine is not installed; the message holds the line that installs it.
        FitError: If the engine failed; the message quotes it.
        LimitError: If the fit was stopped at ``time_limit`` or ``memory_limit``; the message names engines that need
            less.

    Example:
        >>> import unimix as um
        >>> sleep = um.load_dataset("sleepstudy")
        >>> fit = um.fit("Reaction ~ Days + (Days | Subject)", sleep)
        >>> fit.fixed_effects[["estimate", "std_error", "df"]].round(2)
                   estimate  std_error    df
        term
        Intercept    251.41       6.82  17.0
        Days          10.47       1.55  17.0
    """
    given = FitOptions(
        family=family,
        method=method,
        weights=weights,
        offset=offset,
        contrasts=contrasts,
        ziformula=ziformula,
        dispformula=dispformula,
        residual=residual,
        sigma=sigma,
        relationship=relationship,
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
        formula: The model in lme4's language, as in :func:`fit`.
        data: A table or a dict of arrays, as in :func:`fit`.
        backend: The engine: a name, a class or a configured instance.
        arguments: Every other argument of :func:`fit`, so that any call of ``fit`` can be explained as it stands.

    Returns:
        The reading of the formula, the columns and groups that the engine would see, its call, the engines that can
        fit the model, and their expected memory and time; print it.

    Raises:
        FormulaError: If the formula cannot be read.
        DataError: If the data do not allow the model.
        OptionError: If arguments are wrong; the message lists every fault.

    Example:
        >>> import unimix as um
        >>> print(um.explain("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy")))
        Reaction ~ 1 + Days + (1 | Subject)
        <BLANKLINE>
        Columns
        role                 name       engine  first values
        response             Reaction   y       249.6 258.7 250.8 321.4
        fixed                Intercept  x0      1 1 1 1
        fixed                Days       x1      0 1 2 3
        varies over Subject  Intercept  z0_0    1 1 1 1
        ...
    """
    engine, checked = _read_call(explain, formula, data, backend, arguments)
    problem = checked.problem(formula, data).mixed
    design, request = problem.design, problem.request(engine)
    others = {n: (b, b.adapted(problem.request(b), design)) for n, b in registry.others().items()}
    able = [n for n, (b, asked) in others.items() if not b.refusals(design, asked)]
    costs = {n: b.cost(design, asked) for n, (b, asked) in others.items() if n in able}
    costs[engine.info.name] = engine.cost(design, request)
    refusals = engine.refusals(design, request)
    return explain_design(
        design,
        engine.info.name,
        request.method,
        "" if refusals else engine.preview(design, request),
        refusals,
        able,
        {n: str(c) for n, c in costs.items() if c != UNKNOWN},
    )
