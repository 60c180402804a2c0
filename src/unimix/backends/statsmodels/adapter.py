"""Adapter for statsmodels' MixedLM: its likelihood and score are maximised by unimix, and the optimum is checked."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from unimix.backends.base import Backend, BackendInfo, FitRequest, Problem
from unimix.backends.capabilities import Capabilities
from unimix.backends.cost import Cost, Pace, most, sizes_of
from unimix.backends.family_support import FamilySheet
from unimix.backends.statsmodels import bayes, glm
from unimix.backends.statsmodels.capabilities import CAPABILITIES, FAMILIES
from unimix.backends.statsmodels.model import Layout, Likelihood, Point, blocks_of, build_model, lay_out
from unimix.backends.statsmodels.search import Optimum, Settings, search
from unimix.backends.statsmodels.start import as_point, find_starts, inverse_curvature
from unimix.design.arrays import Design
from unimix.design.estimates import Estimates
from unimix.errors import EngineBrokenError, listing
from unimix.likelihood.lmm.conditioning import relative_factors
from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.likelihood.lmm.newton_decrement import WORTHWHILE

FloatArray = npt.NDArray[np.float64]

EXTREME = 50.0
"""Relative standard deviation above which the end of the search is checked against the exact likelihood."""
STEPS = 20
"""Number of cheap steps in the search of an approximate posterior that count as one iteration."""
_OWN_LOSS = 1e-3
"""Largest difference between statsmodels' log-likelihood and the exact one at its estimates."""


class Statsmodels(Backend):
    """statsmodels' mixed models, in pure Python and installed with unimix.

    Gaussian models are fitted by ``MixedLM``, and models without a random part by ``OLS``, ``GLM``,
    ``NegativeBinomial`` or ``BetaModel``. Binomial (logit) and Poisson (log) models with independent random effects
    have an approximate posterior.

    Attributes:
        optimizer: Optimizer of the likelihood: ``bfgs`` with its score, ``cobyqa`` without it, or ``auto``, which takes
            cobyqa for variance components with many levels per group, where the score is expensive.
        max_iterations: Maximum number of iterations of one search (20 times as many for an approximate posterior, whose
            steps are cheap).
        restarts: Number of further starts after a search that ended on the boundary.
        em_steps: Number of cheap steps of unimix's EM algorithm that find the first starts and the length of the first
            step; with 0 the search starts from equal variances.
        max_tied_rows: Largest number of rows that may be connected by crossed factors (or by inner levels of one outer
            level); time and memory grow at least with the square of this number. Raise it if you can wait.
        approximation: Default approximation of the posterior of a generalised mixed model: ``variational`` (mean-field
            variational Bayes) or ``map`` (the joint mode and the curvature there, which exists only if the data say
            much about every group).
        vcp_p: Prior SD of the logarithm of a random effect's standard deviation, whose median is 1.
        fe_p: Prior SD of the fixed effects, in the fitted columns (orthogonal with mean square 1 if ``conditioning`` is
            on). statsmodels' own default, 2, would shrink the estimates.
    """

    info: ClassVar[BackendInfo] = BackendInfo(
        name="statsmodels",
        engine="statsmodels",
        title="statsmodels MixedLM",
        packages=("statsmodels",),
        distributions=("statsmodels",),
        url="https://www.statsmodels.org",
        reference="Seabold, S., & Perktold, J. (2010). statsmodels: Econometric and statistical modeling with Python. "
        "Proceedings of the 9th Python in Science Conference, 92-96. https://doi.org/10.25080/Majora-92bf1922-011",
        strengths="pip only, with an independent implementation of the likelihood",
        rank=60,
    )
    capabilities: ClassVar[Capabilities] = CAPABILITIES
    families: ClassVar[FamilySheet] = FAMILIES
    pace: ClassVar[Pace] = Pace(
        call=0.0069,
        rows=0.057,
        products=13,
        sets=260,
        visits=14,
        set_pairs=0.71,
        pairs=1.1,
        stacked=0.24,
        crossed_moments=0.11,
        dense_pairs=1000,
    )
    takes_start: ClassVar[bool] = True

    optimizer: Literal["auto", "bfgs", "cobyqa"] = "auto"
    max_iterations: Annotated[int, Field(ge=1)] = 200
    restarts: Annotated[int, Field(ge=0, le=4)] = 1
    em_steps: Annotated[int, Field(ge=0)] = 6
    max_tied_rows: Annotated[int, Field(ge=1)] = 5000
    approximation: Literal["variational", "map"] = "variational"
    vcp_p: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    fe_p: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10.0

    def load(self) -> ModuleType:
        """Import statsmodels' mixed models only, because ``statsmodels.api`` takes seconds longer."""
        super().load()
        try:
            return importlib.import_module("statsmodels.regression.mixed_linear_model")
        except Exception as error:
            raise EngineBrokenError(
                f"statsmodels is installed but its mixed models do not import ({type(error).__name__}: {error}). "
                "unimix.doctor() says which versions fit together."
            ) from error

    def limits(self, design: Design, request: FitRequest) -> list[str]:
        """Reasons to refuse models beyond the sheets: large connected groups, and gaps of the generalised models."""
        if not design.blocks:
            return glm.limits(design, request)
        if not design.family.is_linear:
            return bayes.limits(design, request)
        if len({b.group for b in design.blocks}) < 2:
            return []
        largest = lay_out(design).largest
        if largest <= self.max_tied_rows:
            return []
        factors = listing(dict.fromkeys(b.group for b in design.blocks))
        reason = (
            f"the factors {factors} tie {largest:,} rows together, and MixedLM is too slow beyond about "
            f"{self.max_tied_rows:,} (option max_tied_rows)"
        )
        return [reason]

    def cost(self, design: Design, request: FitRequest) -> Cost:  # noqa: ARG002  the hook's signature
        """Estimate the memory of lists per group and, for crossed factors, of matrices of all connected rows."""
        size = sizes_of(design)
        parts = {"the data": 5.5 * size.rows + 30 * size.levels}
        if len({b.group for b in design.blocks}) > 1:
            rows = lay_out(design).largest
            parts[f"{size.crossed}: {rows:,} rows are tied together"] = 8.0 * rows**2 + 2 * size.tied
        return most(parts, self.pace.seconds(design))

    def default_method(self, design: Design) -> str:
        """REML; for generalised models the chosen approximation, or ML without group effects."""
        if design.family.is_linear or not design.blocks:
            return super().default_method(design)
        return "MAP" if self.approximation == "map" else "variational"

    def preview(self, design: Design, request: FitRequest) -> str:
        """Text of the call in Python, with generated names."""
        if design.family.is_linear:
            return call_text(design, request)
        if design.blocks:
            return bayes.call_text(design, request.method, self.vcp_p, self.fe_p)
        return glm.call_text(design)

    def _fit(self, engine: ModuleType, problem: Problem) -> Estimates:
        if not problem.design.family.is_linear:
            if not problem.design.blocks:
                return glm.fit_plain(problem, self.max_iterations)
            settings = bayes.Settings(self.vcp_p, self.fe_p, STEPS * self.max_iterations, self.conditioning)
            return bayes.fit_approximation(problem, settings)
        return self._fit_mixed(engine, problem) if problem.design.blocks else fit_ols(problem)

    def _fit_mixed(self, engine: ModuleType, problem: Problem) -> Estimates:
        design, request = problem.design, problem.request
        layout = lay_out(design)
        model = build_model(engine, design, layout, reml=request.reml)
        likelihood = Likelihood(engine, model, layout)
        costly = layout.is_costly(design.blocks)
        optimizer = self.optimizer if self.optimizer != "auto" else "cobyqa" if costly else "bfgs"
        settings = Settings(optimizer, self.max_iterations, self.restarts)

        criterion = LinearCriterion.of(design)

        def exact(point: Point) -> float:
            relative = blocks_of(point, layout)
            return criterion.profiled(relative, reml=request.reml)[0]

        starts: list[Point] = []
        curvature = None
        if self.em_steps:
            starts = find_starts(design, layout, reml=request.reml, steps=self.em_steps)
            if optimizer == "bfgs":
                curvature = inverse_curvature(starts[0], exact, design.n)
        if problem.start is not None:
            starts, curvature = [as_point(problem.start, layout), *starts], None
        optimum = search(likelihood, exact, settings, starts, curvature)
        return read(engine, likelihood, problem, layout, optimum, self.em_steps)


def call_text(design: Design, request: FitRequest) -> str:
    """Text of the call of ``MixedLM`` or ``OLS`` in Python."""
    x = f"X[{', '.join(f'x{j}' for j in range(design.p))}]"
    if not design.blocks:
        return f"OLS(y, {x}).fit()"
    layout = lay_out(design)
    parts = ["y", x]
    if layout.n_groups == 1:
        parts.append("groups=one")
    elif layout.slope is not None:
        parts.append(f"groups=g{layout.slope}")
    else:
        parts.append("groups=tied rows")
    if layout.slope is not None:
        columns = ", ".join(f"z{layout.slope}_{j}" for j in range(design.blocks[layout.slope].q))
        parts.append(f"exog_re=Z[{columns}]")
    if layout.components:
        terms = ", ".join(f"z{k}_0 by g{k}" for k in layout.components)
        parts.append(f"exog_vc=VCSpec[{terms}]")
    return f"MixedLM({', '.join(parts)}), reml={request.reml}"


def read(
    engine: ModuleType, likelihood: Likelihood, problem: Problem, layout: Layout, optimum: Optimum, em_steps: int
) -> Estimates:
    """Read statsmodels' estimates at the optimum, and compute quantities that it lacks or gets wrong from them."""
    design, request = problem.design, problem.request
    model = likelihood.model
    parameters = likelihood.parameters(optimum.point)
    scale = float(model.get_scale(parameters.fe_params, parameters.cov_re, parameters.vcomp))
    sigma = float(np.sqrt(scale))
    covariances = tuple(scale * c for c in blocks_of(optimum.point, layout))
    criterion = LinearCriterion.of(design)
    at = criterion.at(covariances, sigma, reml=request.reml)
    exact, beta_cov = criterion.value(at), criterion.beta_cov(at)
    modes, mode_covs = criterion.effects(at)
    complaints = list(optimum.complaints)
    if abs(exact - optimum.value) > _OWN_LOSS:
        complaints.append(
            f"statsmodels' log-likelihood ({optimum.value:.6g}) is not that of its estimates ({exact:.6g}): "
            "numerical trouble, as caused by badly scaled columns with conditioning=False"
        )
    factors = relative_factors(covariances, sigma)
    if max((float(np.abs(f).max()) for f in factors), default=0.0) > EXTREME:
        gain = at.newton_decrement
        if gain > 10 * WORTHWHILE:
            complaints.append(
                f"variances are more than {EXTREME**2:g} times the residual's, and statsmodels' likelihood is too "
                f"inaccurate there: a Newton step would raise the log-likelihood by about {gain:.2g}"
            )
    provenance = {
        "std_error": "(X'V^-1 X)^-1 by unimix at statsmodels' estimates (its own come from an observed Hessian)",
        "group_effects": "conditional modes and covariances by unimix at statsmodels' estimates (it has none at zero "
        "variances)",
        "optimum": f"statsmodels' likelihood{search_in_words(optimum, likelihood)}",
        **({"start": f"{em_steps} EM steps by unimix"} if em_steps else {}),
    }
    return Estimates(
        beta=np.asarray(parameters.fe_params, dtype=np.float64),
        beta_cov=beta_cov,
        std_error_kind="generalised least squares",
        covariances=covariances,
        sigma=sigma,
        modes=modes,
        mode_covs=mode_covs,
        log_likelihood=optimum.value,
        converged=not complaints,
        messages=tuple(complaints),
        gradient=optimum.gradient,
        engine_call=call_text(design, request),
        provenance=provenance,
        native=native(engine, model, parameters, scale, beta_cov, converged=not complaints),
    )


def search_in_words(optimum: Optimum, likelihood: Likelihood) -> str:
    """Text about how the optimum was found."""
    starts = f", best of {optimum.searches} starts" if optimum.searches > 1 else ""
    return f" maximised by unimix in {likelihood.evaluations} evaluations{starts}"


def native(
    engine: ModuleType, model: Any, parameters: Any, scale: float, beta_cov: FloatArray, *, converged: bool
) -> Any:
    """Make a ``MixedLMResults`` at the optimum, as ``MixedLM.fit`` does, with NaN as standard errors of variances."""
    size = model.k_fe + model.k_re2 + model.k_vc
    cov = np.full((size, size), np.nan)
    cov[: model.k_fe, : model.k_fe] = beta_cov / scale
    results = engine.MixedLMResults(model, parameters.get_packed(use_sqrt=False, has_fe=True), cov)
    results.params_object = parameters
    results.fe_params = parameters.fe_params
    results.cov_re = scale * parameters.cov_re
    results.cov_re_unscaled = parameters.cov_re
    results.vcomp = scale * parameters.vcomp
    results.scale = scale
    results.method = "REML" if model.reml else "ML"
    results.converged = converged
    results.hist = None
    results.reml = model.reml
    results.cov_pen = results.freepat = None
    results.k_fe, results.k_re, results.k_re2, results.k_vc = model.k_fe, model.k_re, model.k_re2, model.k_vc
    results.use_sqrt = model.use_sqrt
    return engine.MixedLMResultsWrapper(results)


def fit_ols(problem: Problem) -> Estimates:
    """Fit a model without a random part by ``OLS``."""
    design, request = problem.design, problem.request
    linear = importlib.import_module("statsmodels.regression.linear_model")
    results = linear.OLS(design.y, design.x).fit()
    z = request.df_method == "normal"
    return Estimates(
        beta=np.asarray(results.params, dtype=np.float64),
        beta_cov=np.asarray(results.cov_params(), dtype=np.float64).reshape(design.p, design.p),
        covariances=(),
        sigma=float(np.sqrt(results.scale)),
        modes=(),
        mode_covs=(),
        log_likelihood=float(results.llf),
        converged=True,
        df=None if z else np.full(design.p, float(results.df_resid)),
        df_method="normal" if z else "residual",
        singular=False,
        engine_call=call_text(design, request),
        native=results,
    )
