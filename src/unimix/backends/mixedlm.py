"""Adapter for mixedlm: optimizers and likelihoods in Rust; unimix adds standard errors of GLMMs, df and checks.

mixedlm reads formulas by its own rules (``y ~ x:f`` loses a column). It therefore receives numeric columns as
``ModelMatrices``, never a formula or a data frame, and quantities that it computes wrongly come from unimix.
"""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from unimix.backends import (
    Answer,
    AtEstimates,
    Backend,
    BackendInfo,
    Capabilities,
    Cost,
    Design,
    Estimates,
    FamilySheet,
    FitRequest,
    Never,
    NotYet,
    Pace,
    Problem,
    Upstream,
    Yes,
    effects_matrix,
    factors_of,
    laplace_at_estimates,
    likely_starts,
    linear_at,
    most,
    relative_factors,
    sizes_of,
    split_effects,
    theta_of,
)

FloatArray = npt.NDArray[np.float64]

COMPILED = ("binomial(logit)", "poisson(log)")
"""Links that mixedlm evaluates in Rust; it evaluates others in Python, with dense matrices of all group effects."""
SIZES = (2.0, 0.3, 1.0)
"""Standard deviations at which another search starts after a generalised model ended on the boundary."""
SMALL, FLAT = 1e-2, 1e-6
"""Size of theta, and cost in deviance, below which an element of theta becomes zero: COBYQA stops near zero."""
_NO_POSTERIOR = Never("mixedlm maximises a likelihood; it has no posterior.")
_NO_PART = Upstream("mixedlm does not support this.")
_NO_DISPERSION = Upstream("mixedlm 1.3 takes every dispersion as 1 instead of estimating it.")
_FIXED_THETA = Upstream(
    "mixedlm's glmer_nb, which has the log link only, does not estimate theta: it keeps the value that it is given, 1 "
    "by default."
)
_NO_FAMILY = Upstream("mixedlm has no such family.")
_EXPECTED = Yes("the determinant of Laplace's approximation takes the expected information")
_REST: dict[str, Answer] = {
    "gaussian(identity)": Yes(),
    "gaussian": _NO_DISPERSION,
    "gamma": _NO_DISPERSION,
    "inverse_gaussian": _NO_DISPERSION,
    "negative_binomial": _FIXED_THETA,
}


class Mixedlm(Backend):
    """mixedlm: lme4's algorithms in Rust and SciPy, for linear and generalised mixed models; needs pip only.

    Attributes:
        optimizer: Optimizer of linear mixed models: ``auto`` is L-BFGS-B with exact derivatives, and COBYQA if that
            ends on the boundary. Generalised models always use COBYQA.
        max_iterations: Maximum number of iterations of one search.
        restarts: Number of further starts after a search that ended on the boundary or short of the optimum.
        n_agq: Number of nodes of adaptive Gauss-Hermite quadrature for ``method="AGQ"``.
        max_in_python: Largest number of group effects for mixedlm's evaluation in Python, which has dense matrices of
            all effects. It is used for links other than logit and log, and if the inner loop of the compiled one fails.
    """

    info: ClassVar[BackendInfo] = BackendInfo(
        name="mixedlm",
        engine="mixedlm",
        title="mixedlm, in Rust",
        packages=("mixedlm",),
        distributions=("mixedlm",),
        extra="mixedlm",
        url="https://github.com/Cameron-Lyons/mixedlm",
        modules=("mixedlm.estimation", "mixedlm.families", "mixedlm.formula.parser", "mixedlm.models"),
        strengths="pip only, independent terms too, and quick with large crossed factors",
        rank=30,
        quick_when_crossed=True,
    )
    capabilities: ClassVar[Capabilities] = Capabilities(
        no_random_part=Yes(),
        group_effects=Yes(),
        weights=Yes("rows scaled by sqrt(w) in Gaussian models"),
        offset=Yes("subtracted from the response and added back in Gaussian models"),
        likelihood=Yes(),
        laplace=Yes(
            "standard errors by unimix from the Hessian of all parameters, because mixedlm's take the variances as "
            "known; with links that are not canonical, the determinant takes the expected information"
        ),
        agq=Yes("standard errors by unimix, as with Laplace's approximation"),
        bayesian=_NO_POSTERIOR,
        satterthwaite=Yes("by unimix"),
        kenward_roger=Yes("by unimix: mixedlm's own method of this name is Satterthwaite's"),
        compound_symmetry=Upstream(
            "mixedlm's compound symmetry has one variance for all columns, and unimix's cs() one for each."
        ),
        autoregressive=NotYet("mixedlm has ar1; the adapter does not use it yet."),
        structures=NotYet("the adapter uses none of mixedlm's structures yet."),
        parts=_NO_PART,
        residual_covariance=Upstream("mixedlm has independent residuals."),
    )
    pace: ClassVar[Pace] = Pace(
        call=0.0081,
        rows=0.062,
        products=11,
        visits=1.6,
        pairs=0.015,
        stacked=0.25,
        crossed_rows=2.1,
        crossed_pairs=0.14,
        crossed_moments=0.24,
    )
    families: ClassVar[FamilySheet] = FamilySheet(
        {**_REST, "binomial": _EXPECTED, "poisson": _EXPECTED, **{name: Yes() for name in COMPILED}},
        {**_REST, "binomial": Yes(), "poisson": Yes()},
        others=_NO_FAMILY,
    )
    takes_start: ClassVar[bool] = True
    refit_options: ClassVar[dict[str, object]] = {"restarts": 0}

    optimizer: Literal["auto", "L-BFGS-B", "COBYQA"] = "auto"
    max_iterations: Annotated[int, Field(ge=1)] = 1000
    restarts: Annotated[int, Field(ge=0, le=3)] = 2
    n_agq: Annotated[int, Field(ge=2, le=100)] = 25
    max_in_python: Annotated[int, Field(ge=0)] = 1000

    def limits(self, design: Design, request: FitRequest) -> list[str]:
        """Reasons to refuse generalised models."""
        faults = request.quadrature_faults(design)
        if not design.is_linear and not _is_compiled(design) and (count := _n_effects(design)) > self.max_in_python:
            faults.append(
                f"{count:,} group effects with the {design.family.link} link: mixedlm evaluates other links than logit "
                f"and log in Python with dense matrices, which takes long beyond {self.max_in_python:,} (option "
                "max_in_python)"
            )
        return faults

    def cost(self, design: Design, request: FitRequest) -> Cost:  # noqa: ARG002  the hook's signature
        """Estimate the memory of sparse columns, their products, and dense matrices of crossed effects."""
        size = sizes_of(design)
        dense = 15.0 * size.dense + 15.0 * size.between
        if not design.is_linear and not _is_compiled(design):
            dense = max(dense, size.effects**2)
        parts = {"the data": 1e7 + 9.0 * size.rows + 40.0 * size.levels, size.crossed: dense}
        return most(parts, self.pace.seconds(design))

    def preview(self, design: Design, request: FitRequest) -> str:
        """Text of the model with generated names, and of the class that receives its matrices."""
        formula = super().preview(design, request)
        if design.is_linear:
            call = f"LMMOptimizer(ModelMatrices[{formula}], REML={request.reml or not design.blocks})"
            return f'{call}.optimize(method="{self.optimizer}", maxiter={self.max_iterations})'
        family = f'{design.family.name.title()}("{design.family.link}")'
        call = f"GLMMOptimizer(ModelMatrices[{formula}], {family}, nAGQ={request.nodes(design, self.n_agq)})"
        return f'{call}.optimize(method="COBYQA", maxiter={self.max_iterations})'

    def _fit(self, engine: ModuleType, problem: Problem) -> Estimates:
        if not problem.design.is_linear:
            return self._fit_generalised(engine, problem)
        return self._fit_linear(engine, problem) if problem.design.blocks else self._fit_plain(engine, problem)

    def _fit_linear(self, engine: ModuleType, problem: Problem) -> Estimates:
        design, request = problem.design, problem.request
        matrices = model_matrices(engine, design)
        search = engine.estimation.LMMOptimizer(matrices, REML=request.reml)
        first = None if problem.start is None else theta_of(problem.start)
        best = self._search(search, design, first, reml=request.reml)
        searches = 1
        if self.restarts and (best.at.singular or best.at.complaint):
            starts = likely_starts(design, reml=request.reml)[: self.restarts]
            others = [self._search(search, design, theta_of(start), reml=request.reml) for start in starts]
            best, searches = min([best, *others], key=lambda s: s.optimum.deviance), 1 + len(others)
        optimum, at = best.optimum, best.at
        native = lmer_result(engine, super().preview(design, request), matrices, optimum, reml=request.reml)
        provenance = {"group_effects": "conditional modes by mixedlm; their covariances by unimix at its estimates"}
        if searches > 1:
            provenance["optimum"] = f"best of {searches} searches by mixedlm: one ended on the boundary, or short"
        return Estimates(
            beta=np.asarray(optimum.beta, dtype=np.float64),
            beta_cov=np.asarray(native.vcov(), dtype=np.float64).reshape(design.p, design.p),
            std_error_kind="generalised least squares",
            covariances=best.covariances,
            sigma=float(optimum.sigma),
            modes=split_effects(optimum.u, design),
            mode_covs=at.mode_covs,
            log_likelihood=-0.5 * float(optimum.deviance),
            converged=not at.complaint,
            singular=at.singular,
            messages=best.messages(),
            engine_call=self.preview(design, request),
            provenance=provenance,
            native=native,
        )

    def _search(self, search: Any, design: Design, start: FloatArray | None, *, reml: bool) -> _Search:
        """Run one search for the covariance parameters, and evaluate its end by unimix."""
        options = {"ftol": 1e-15, "gtol": 1e-8} if self.optimizer == "L-BFGS-B" else {"final_tr_radius": 1e-8}
        more = {"maxiter": self.max_iterations, "options": options, "use_analytic_gradient": True}
        optimum = search.optimize(start=start, method=self.optimizer, **more)
        sigma = float(optimum.sigma)
        covariances = tuple(sigma**2 * f @ f.T for f in factors_of(optimum.theta, design))
        return _Search(search, optimum, covariances, linear_at(design, covariances, sigma, reml=reml))

    def _fit_plain(self, engine: ModuleType, problem: Problem) -> Estimates:
        """Fit by least squares; the likelihood is that of the linear model, as in R's ``lm``."""
        design, request = problem.design, problem.request
        matrices = model_matrices(engine, design)
        optimum, likely = (engine.estimation.LMMOptimizer(matrices, REML=r).optimize() for r in (True, False))
        native = lmer_result(engine, super().preview(design, request), matrices, optimum, reml=True)
        return Estimates(
            beta=np.asarray(optimum.beta, dtype=np.float64),
            beta_cov=np.asarray(native.vcov(), dtype=np.float64).reshape(design.p, design.p),
            covariances=(),
            sigma=float(optimum.sigma),
            modes=(),
            mode_covs=(),
            log_likelihood=-0.5 * float(likely.deviance),
            converged=True,
            df=None if request.df_method == "normal" else np.full(design.p, float(design.n - design.p)),
            df_method="normal" if request.df_method == "normal" else "residual",
            singular=False,
            engine_call=self.preview(design, request),
            native=native,
        )

    def _fit_generalised(self, engine: ModuleType, problem: Problem) -> Estimates:
        design, request = problem.design, problem.request
        nodes = request.nodes(design, self.n_agq)
        family = getattr(engine.families, design.family.name.title())  # Binomial or Poisson
        matrices = model_matrices(engine, design)
        kinds = [family]
        if _is_compiled(design) and 0 < _n_effects(design) <= self.max_in_python:
            # mixedlm compiles instances of its own class; a subclass is evaluated in Python, with step halving.
            kinds.append(type(family.__name__, (family,), {}))
        ends: list[_Search] = []
        for kind in kinds:
            try:
                ends.append(self._climb(engine, design, matrices, kind, nodes, ends[-1] if ends else None))
            except RuntimeError:  # mixedlm raises it for a likelihood that is not finite
                if kind is kinds[-1] and not ends:
                    raise
            if ends and not ends[-1].at.complaint:
                break
        best = min(ends, key=lambda end: end.optimum.deviance)
        provenance = dict(_GENERALISED)
        if type(best.search.family) is not family:
            provenance["optimum"] = "by mixedlm's evaluation in Python: the inner loop of its compiled one failed"
        optimum, at = best.optimum, best.at
        native, beta_cov = glmer_result(engine, super().preview(design, request), best.search, optimum), at.beta_cov
        if beta_cov is None:
            beta_cov = np.asarray(native.vcov(), dtype=np.float64)
            provenance["std_error"] = "mixedlm's, the variances taken as known: there is no maximum here"
        expected = bool(design.blocks) and not design.family.is_canonical
        criterion = f"AGQ({nodes})" if nodes > 1 else "Laplace (expected information)" if expected else ""
        return Estimates(
            beta=np.asarray(optimum.beta, dtype=np.float64),
            beta_cov=beta_cov,
            std_error_kind="observed information",
            covariances=best.covariances,
            sigma=1.0,
            modes=split_effects(optimum.u, design),
            mode_covs=at.mode_covs,
            log_likelihood=float(native.logLik().value),
            converged=not at.complaint,
            criterion=criterion,
            singular=at.singular,
            messages=best.messages(),
            engine_call=self.preview(design, request),
            provenance=provenance,
            native=native,
        )

    def _climb(
        self, engine: ModuleType, design: Design, matrices: Any, family: Any, nodes: int, before: _Search | None
    ) -> _Search:
        """Best search with one kind of evaluation; after an end on the boundary further starts are tried."""

        def search(start: FloatArray | None) -> _Search:
            return self._search_generalised(engine, design, matrices, family, nodes, start)

        best = search(None if before is None else before.optimum.theta)
        ones = theta_of([np.eye(b.q) for b in design.blocks])
        for size in SIZES[: self.restarts if best.at.singular or best.at.complaint else 0]:
            higher = best.at.higher
            start = size * ones if higher is None else theta_of(relative_factors(higher, 1.0))
            best = min(best, search(start), key=lambda s: s.optimum.deviance)
        return best

    def _search_generalised(
        self, engine: ModuleType, design: Design, matrices: Any, family: Any, nodes: int, start: FloatArray | None
    ) -> _Search:
        """Run one search for covariance parameters and fixed effects, and evaluate its end by unimix."""
        settings = {"nAGQ": nodes, "pirls_maxiter": 200, "pirls_tol": 1e-10, "nAGQ0initStep": start is None}
        search = engine.estimation.GLMMOptimizer(matrices, family(design.family.link), **settings)
        options = {"final_tr_radius": 1e-7}
        optimum = search.optimize(start=start, method="COBYQA", maxiter=self.max_iterations, options=options)
        at_zero = np.where(np.abs(optimum.theta) < SMALL, 0.0, optimum.theta)
        if not np.array_equal(at_zero, optimum.theta):
            value, _, u, fine = search.joint_objective().evaluate(np.concatenate([at_zero, optimum.beta]))
            if fine and value <= optimum.deviance + FLAT:
                optimum = replace(optimum, theta=at_zero, u=u, deviance=value)
        beta, covariances = np.asarray(optimum.beta), tuple(f @ f.T for f in factors_of(optimum.theta, design))
        expected = not design.family.is_canonical
        at = laplace_at_estimates(design, beta, covariances, np.empty(0), expected=expected, nodes=nodes)
        return _Search(search, optimum, covariances, at)


_GENERALISED = {
    "std_error": "of the observed information of all parameters, by unimix at mixedlm's estimates: mixedlm's own take "
    "the variances as known",
    "group_effects": "conditional modes by mixedlm; their covariances by unimix at its estimates",
}


class _Search(NamedTuple):
    """Result of one search, and its evaluation by unimix."""

    search: Any
    optimum: Any
    covariances: tuple[FloatArray, ...]
    at: AtEstimates

    def messages(self) -> tuple[str, ...]:
        return (self.at.complaint, f"mixedlm says: {self.optimum.message}") if self.at.complaint else ()


def _is_compiled(design: Design) -> bool:
    return f"{design.family.label}({design.family.link})" in COMPILED


def _n_effects(design: Design) -> int:
    return sum(b.n_levels * b.q for b in design.blocks)


def model_matrices(engine: ModuleType, design: Design) -> Any:
    """Convert a design to mixedlm's ``ModelMatrices``."""
    parts = engine.matrices.design
    structures = [
        parts.RandomEffectStructure(
            grouping_factor=f"g{k}",
            term_names=[f"z{k}_{j}" for j in range(b.q)],
            n_levels=b.n_levels,
            n_terms=b.q,
            correlated=True,
            level_map={str(i): i for i in range(b.n_levels)},
            level_indices=b.codes.astype(np.int32),
        )
        for k, b in enumerate(design.blocks)
    ]
    trials = design.trials
    weights = trials if trials is not None else design.weights
    return parts.ModelMatrices(
        y=design.y,
        X=np.ascontiguousarray(design.x),
        Z=effects_matrix(design),
        fixed_names=[f"x{j}" for j in range(design.p)],
        random_structures=structures,
        n_obs=design.n,
        n_fixed=design.p,
        n_random=_n_effects(design),
        weights=np.ones(design.n) if weights is None else np.ascontiguousarray(weights, dtype=np.float64),
        offset=np.zeros(design.n) if design.offset is None else design.offset,
        trials=None if trials is None or (trials == 1).all() else trials,
    )


def lmer_result(engine: ModuleType, formula: str, matrices: Any, optimum: Any, *, reml: bool) -> Any:
    """Make the object that mixedlm's ``lmer`` would return."""
    parse = engine.formula.parser.parse_formula
    return engine.models.LmerResult(formula=parse(formula), matrices=matrices, REML=reml, **vars(optimum))


def glmer_result(engine: ModuleType, formula: str, search: Any, optimum: Any) -> Any:
    """Make the object that mixedlm's ``glmer`` would return."""
    parsed = engine.formula.parser.parse_formula(formula)
    of_search = {name: getattr(search, name) for name in ("matrices", "family", "nAGQ", "pirls_maxiter", "pirls_tol")}
    return engine.models.GlmerResult(formula=parsed, **of_search, **vars(optimum), optimizer="COBYQA")
