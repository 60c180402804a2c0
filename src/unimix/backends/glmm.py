"""Adapter for glmm: linear and generalised mixed models in Rust; unimix adds conditional covariances, df and checks.

glmm has no interface of arrays. It receives numeric columns under generated names, and a formula that lists them. Its
formulas do not have every model, but :func:`.columns_for` finds other columns of the same model that they have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import AfterValidator, Field

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
    Pace,
    Problem,
    Upstream,
    Yes,
    laplace_at_estimates,
    likely_starts,
    linear_at,
    most,
    relative_factors,
    sizes_of,
)
from unimix.backends.glmm_columns import EngineColumns, columns_for
from unimix.errors import FitError
from unimix.likelihood.glmm.dispersion import profile_dispersion
from unimix.likelihood.glmm.laplace import fixed_predictor
from unimix.likelihood.lmm.weights import as_copies

FloatArray = npt.NDArray[np.float64]

SIZES = (2.0, 0.3, 1.0)
"""Standard deviations at which another search starts after a generalised model ended on the boundary."""
LARGEST_THETA = 1e4
"""Upper end of glmm's search for theta of a negative binomial model."""
_NO_POSTERIOR = Never("glmm maximises a likelihood; it has no posterior.")
_NO_PART = Upstream("glmm does not support this.")
_NO_LINK = Upstream("glmm 0.6 does not have this link.")
_NO_FAMILY = Upstream("glmm 0.6 has no such family.")
_FAMILIES: dict[str, Answer] = {
    "gaussian(identity)": Yes(),
    "gaussian": _NO_LINK,
    "binomial": _NO_LINK,
    **{f"binomial({link})": Yes() for link in ("logit", "probit", "cloglog")},
    "poisson": _NO_LINK,
    "poisson(log)": Yes(),
    "gamma": _NO_LINK,
    "gamma(log)": Yes(),
    "gamma(inverse)": Yes(),
    "inverse_gaussian": _NO_LINK,
    "negative_binomial": _NO_LINK,
    "negative_binomial(log)": Yes(),
}
_INDEPENDENT = Upstream(
    "glmm 0.6 has no independent terms on one factor, (1 + x || g): every term has a random intercept, and all its "
    "effects are correlated."
)
_SLOPES = (
    "a random slope whose column is not among the fixed effects, or that has no random intercept: glmm 0.6 takes the "
    "columns of a random term from the fixed part, beside an intercept. Add the slope to the fixed part, or use "
    "backend='pls', 'lme4' or 'mixedlm'"
)


def _odd(nodes: int) -> int:
    if nodes % 2 == 0:
        raise ValueError("glmm has rules with an odd number of nodes only")
    return nodes


class Glmm(Backend):
    """glmm: linear and generalised mixed models in Rust, with NumPy as its only dependency; needs pip only.

    Attributes:
        restarts: Number of further starts after a search that ended on the boundary or short of the optimum.
        n_agq: Number of nodes of adaptive Gauss-Hermite quadrature for ``method="AGQ"``; it is odd.
    """

    info: ClassVar[BackendInfo] = BackendInfo(
        name="glmm",
        engine="glmm",
        title="glmm, in Rust",
        packages=("glmm",),
        distributions=("glmm",),
        extra="glmm",
        url="https://github.com/pawlenartowicz/glmm",
        strengths="pip only, the quickest with generalised models and with large crossed factors",
        rank=20,
        quick_when_crossed=True,
    )
    capabilities: ClassVar[Capabilities] = Capabilities(
        no_random_part=Yes(),
        group_effects=Yes(),
        independent_terms=_INDEPENDENT,
        several_correlated_blocks=_INDEPENDENT,
        weights=Yes(),
        offset=Yes("subtracted from the response and added back in Gaussian models"),
        likelihood=Yes(),
        bayesian=_NO_POSTERIOR,
        degrees_of_freedom=Yes("by unimix"),
        structures=Upstream("glmm 0.6 has unstructured covariances only."),
        parts=_NO_PART,
        residual_covariance=Upstream("glmm has independent residuals."),
    )
    pace: ClassVar[Pace] = Pace(
        call=0.0076,
        rows=0.052,
        products=4.6,
        visits=2,
        levels=0.023,
        pairs=0.019,
        crossed_pairs=0.17,
        crossed_moments=0.037,
        dense_pairs=0.32,
    )
    families: ClassVar[FamilySheet] = FamilySheet(
        {**_FAMILIES, "inverse_gaussian": Upstream("glmm 0.6 fits this family without group effects only. Use 'pls'.")},
        {**_FAMILIES, "inverse_gaussian(log)": Yes(), "inverse_gaussian(inverse_squared)": Yes()},
        others=_NO_FAMILY,
    )
    takes_start: ClassVar[bool] = True
    refit_options: ClassVar[dict[str, object]] = {"restarts": 0}

    restarts: Annotated[int, Field(ge=0, le=3)] = 2
    n_agq: Annotated[int, Field(ge=3, le=25), AfterValidator(_odd)] = 25

    def limits(self, design: Design, request: FitRequest) -> list[str]:
        """Reasons to refuse models that glmm's formulas cannot express."""
        faults = []
        if not design.p:
            faults.append("glmm needs a fixed effect.")
        elif len(design.groups) == len(design.blocks) and columns_for(design) is None:
            faults.append(_SLOPES)
        if design.blocks and design.weights is not None and design.family.parameters == ("dispersion",):
            faults.append(
                f"weights with the {design.family.name} family: glmm's are precisions, and in unimix a row's "
                "log-likelihood counts w times."
            )
        return faults + request.quadrature_faults(design)

    def cost(self, design: Design, request: FitRequest) -> Cost:  # noqa: ARG002  the hook's signature
        """Estimate the memory of columns, of their copies in Rust, and of dense matrices of crossed effects."""
        size = sizes_of(design)
        parts = {
            "the data": (1e7 if design.is_linear else 2.5e7) + 6.0 * size.rows + 30.0 * size.levels,
            size.crossed: 12.0 * size.dense + 12.0 * size.between,
        }
        return most(parts, self.pace.seconds(design))

    def preview(self, design: Design, request: FitRequest) -> str:
        """Text of the call in Python, with generated names."""
        columns = columns_for(design) or EngineColumns(design.x, np.eye(design.p), (), ())
        family = "" if design.is_linear else f', "{_name(design)}", link="{design.family.link}"'
        more = f", reml={request.reml}" if design.is_linear and design.blocks else ""
        more += f", nagq={nodes}" if (nodes := request.nodes(design, self.n_agq)) > 1 else ""
        more += ", weights=weights" if _weights(design) is not None else ""
        more += ", offset=offset" if design.offset is not None and not design.is_linear else ""
        return f'glmm.fit(columns, "{columns.formula}"{family}{more}, satterthwaite=False)'

    def _fit(self, engine: ModuleType, problem: Problem) -> Estimates:
        design = problem.design
        if not design.blocks:
            return self._fit_plain(engine, problem)
        columns = columns_for(design)
        if columns is None:  # rounding may hide in one scale what is exact in another
            raise FitError(f"glmm's formulas do not have {_SLOPES}.")
        return self._fit_mixed(engine, problem, columns)

    def _fit_mixed(self, engine: ModuleType, problem: Problem, columns: EngineColumns) -> Estimates:
        design, request = problem.design, problem.request
        run = _Engine(engine, design, request, columns, request.nodes(design, self.n_agq))
        best = run.evaluate(run.call(problem.start))
        searches = 1
        if self.restarts and (best.at.singular or best.at.complaint):
            others = [run.call(start) for start in run.further_starts(best)[: self.restarts]]
            searches += len(others)
            other = max(others, key=lambda result: float(result.loglik))
            if other.loglik > best.result.loglik:
                best = run.evaluate(other)
        result, at = best.result, best.at
        provenance = {"group_effects": "conditional modes by glmm; their covariances by unimix at its estimates"}
        if not result.converged:  # glmm does not report them in this case
            provenance["group_effects"] = "by unimix at glmm's estimates, because glmm's search did not converge"
        if searches > 1:
            provenance["optimum"] = f"best of {searches} searches by glmm: one ended on the boundary, or short"
        fault = run.fault(at, best.parameters)
        beta_cov = columns.basis @ np.asarray(result.vcov, dtype=np.float64) @ columns.basis.T
        notes = [note["kind"] for note in result.diagnostics["notes"]]
        if at.beta_cov is not None and (not np.isfinite(beta_cov).all() or "hessian_se_fallback" in notes):
            beta_cov = at.beta_cov
            provenance["std_error"] = "by unimix at glmm's estimates, because glmm could not compute its own"
        return Estimates(
            beta=best.beta,
            beta_cov=beta_cov,
            std_error_kind="generalised least squares" if design.is_linear else "observed information",
            covariances=best.covariances,
            sigma=best.sigma,
            modes=columns.modes(result) if result.converged else at.modes,
            mode_covs=at.mode_covs,
            log_likelihood=float(result.loglik) + (columns.log_det if result.reml else 0.0),
            converged=not fault,
            parameters=dict(zip(design.family.parameters, best.parameters.tolist(), strict=not design.is_linear)),
            criterion=f"AGQ({run.nodes})" if run.nodes > 1 else "",
            singular=at.singular,
            messages=(*fault, *_messages(result)) if fault else (),
            engine_call=self.preview(design, request),
            provenance=provenance,
            native=result,
        )

    def _fit_plain(self, engine: ModuleType, problem: Problem) -> Estimates:
        """Fit a model without group effects: by least squares, as R's ``lm``, or a generalised linear model."""
        design, request = problem.design, problem.request
        columns = EngineColumns(design.x, np.eye(design.p), (), ())
        run = _Engine(engine, design, request, columns, 1)
        result = run.call()
        family, df_residual = design.family, float(design.n - design.p)
        plain = Estimates(
            beta=np.asarray(result.beta, dtype=np.float64),
            beta_cov=np.asarray(result.vcov, dtype=np.float64),
            covariances=(),
            sigma=float(np.sqrt(result.dispersion)) if design.is_linear else 1.0,
            modes=(),
            mode_covs=(),
            log_likelihood=float(result.loglik),
            converged=bool(result.converged),
            singular=False,
            messages=() if result.converged else _messages(result),
            engine_call=self.preview(design, request),
            native=result,
        )
        parameters = np.array([float(result.dispersion)] if family.parameters == ("theta",) else [])
        if family.parameters == ("dispersion",):
            value, at_value = profile_dispersion(design, fixed_predictor(design, plain.beta))
            by_copies = design.weights is not None  # glmm divides the dispersion by the weights
            parameters = np.array([value])
            factor, df_residual, copies = as_copies(design)
            plain = replace(
                plain,
                beta_cov=factor * plain.beta_cov,
                std_error_kind="Pearson dispersion",
                sigma=float(np.sqrt(value)),
                log_likelihood=at_value if by_copies else plain.log_likelihood,
                provenance={
                    f"dispersion{', log_likelihood' if by_copies else ''}": "by maximum likelihood given the "
                    "coefficients, by unimix: glmm reports the Pearson estimate of the dispersion",
                    "std_error": f"glmm's, with the Pearson estimate of the dispersion{copies}",
                },
            )
        if not design.is_linear:
            fault = run.fault(laplace_at_estimates(design, plain.beta, (), parameters), parameters)
            dispersion = dict(zip(family.parameters, parameters.tolist(), strict=True))
            plain = replace(plain, parameters=dispersion, converged=not fault, messages=(*fault, *plain.messages))
        if request.df_method == "normal" or not (design.is_linear or family.parameters == ("dispersion",)):
            return plain
        return replace(plain, df=np.full(design.p, df_residual), df_method="residual")


class _Search(NamedTuple):
    """Result of one search in the coordinates of the design, and its evaluation by unimix."""

    result: Any
    beta: FloatArray
    covariances: tuple[FloatArray, ...]
    sigma: float
    parameters: FloatArray
    at: AtEstimates


class _Engine:
    """One model, ready for searches by glmm."""

    def __init__(self, engine: ModuleType, design: Design, request: FitRequest, columns: EngineColumns, nodes: int):
        self.engine, self.design, self.columns, self.nodes = engine, design, columns, nodes
        self.reml = request.reml and bool(design.blocks)
        self.data: dict[str, Any] = {"y": design.y}
        self.data |= {f"x{j}": np.ascontiguousarray(column) for j, column in enumerate(columns.x.T)}
        self.data |= {
            f"g{k}": pd.Categorical.from_codes(b.codes, categories=pd.RangeIndex(b.n_levels))
            for k, b in enumerate(design.blocks)
        }

    def call(self, start: Sequence[FloatArray] | None = None) -> Any:
        """Run one search by glmm from relative factors (q, q), or from its own start.

        Raises:
            FitError: If glmm left out a term, or has no estimates.
        """
        design = self.design
        result = self.engine.fit(
            self.data,
            self.columns.formula,
            _name(design),
            link=design.family.link,
            weights=_weights(design),
            offset=design.offset,
            nagq=self.nodes,
            reml=self.reml if design.is_linear else None,
            warm_start=None if start is None else {"theta": self.columns.theta(start)},
            satterthwaite=False,
            anova_test="Wald",
        )
        if len(result.re_groups) != len(design.blocks) or np.any(result.aliased) or result.nagq != self.nodes:
            raise FitError(f"it fitted another model. {' '.join(_messages(result))}")
        if not (np.isfinite(result.beta).all() and np.isfinite(result.loglik)):
            raise FitError(f"it found no estimates. {' '.join(_messages(result))}")
        return result

    def evaluate(self, result: Any) -> _Search:
        """Evaluate the end of a search by unimix."""
        beta = self.columns.basis @ np.asarray(result.beta, dtype=np.float64)
        covariances = self.columns.covariances(result)
        if self.design.is_linear:
            sigma = float(np.sqrt(result.dispersion))
            try:
                at = linear_at(self.design, covariances, sigma, reml=self.reml)
            except np.linalg.LinAlgError as error:
                raise FitError(
                    f"it ended where the likelihood cannot be computed. {' '.join(_messages(result))}"
                ) from error
            return _Search(result, beta, covariances, sigma, np.empty(0), at)
        scaled = self.design.family.parameters == ("dispersion",)
        parameters = np.array([float(result.dispersion)] if self.design.family.parameters else [])
        at = laplace_at_estimates(self.design, beta, covariances, parameters, nodes=self.nodes)
        return _Search(result, beta, covariances, float(np.sqrt(result.dispersion)) if scaled else 1.0, parameters, at)

    def fault(self, at: AtEstimates, parameters: FloatArray) -> tuple[str, ...]:
        """Why these estimates are not a maximum; empty if they are."""
        if at.complaint and self.design.family.parameters == ("theta",) and parameters[0] > 0.999 * LARGEST_THETA:
            limit = f"glmm searches theta up to {LARGEST_THETA:,.0f}, and these counts have a larger one"
            return (f"{limit}. Use backend='pls', or family='poisson'", at.complaint)
        return (at.complaint,) if at.complaint else ()

    def further_starts(self, best: _Search) -> list[tuple[FloatArray, ...]]:
        """Relative factors (q, q) from which glmm is started again, best first."""
        if self.design.is_linear:
            return likely_starts(self.design, reml=self.reml)
        higher = [] if best.at.higher is None else [relative_factors(best.at.higher, 1.0)]
        return [*higher, *(tuple(size * np.eye(b.q) for b in self.design.blocks) for size in SIZES)]


def _name(design: Design) -> str:
    """Name of the family in glmm."""
    return design.family.name.replace("_", "")


def _weights(design: Design) -> FloatArray | None:
    """Weights for glmm, which are the numbers of trials of a binomial model."""
    return design.weights if design.trials is None or (design.trials == 1).all() else design.trials


def _messages(result: Any) -> tuple[str, ...]:
    """Warnings of glmm in its own words."""
    return tuple(f"glmm says: {warning['message']}" for warning in result.warnings)


__all__ = ["Glmm"]
