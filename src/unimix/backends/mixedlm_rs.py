"""Adapter for mixedlm-rs, which fits one grouping factor with one correlated block, in Rust.

The adapter calls the class directly. It never calls ``install()``, which would replace statsmodels' ``MixedLM`` for the
whole session.
"""

from __future__ import annotations

from types import ModuleType
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from unimix.backends import (
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
    likely_starts,
    linear_at,
    most,
    only_gaussian,
    sizes_of,
)

FloatArray = npt.NDArray[np.float64]
_ONE_BLOCK = Upstream(
    "mixedlm-rs 0.2 has one correlated block over one grouping factor, exog_re, and no variance components."
)
_NO_STRUCTURE = Upstream("mixedlm-rs has unstructured covariances only.")
_NO_GLMM = Never("mixedlm-rs is for linear mixed models.")
_NO_POSTERIOR = Never("mixedlm-rs maximises a likelihood; it has no posterior.")


class MixedlmRs(Backend):
    """mixedlm-rs: linear mixed models with one grouping factor, in Rust; needs pip only.

    Attributes:
        max_iterations: Maximum number of iterations of one search.
        restarts: Number of further starts after a search that ended on the boundary or short of the optimum.
    """

    info: ClassVar[BackendInfo] = BackendInfo(
        name="mixedlm_rs",
        engine="mixedlm-rs",
        title="mixedlm-rs, in Rust",
        packages=("mixedlm_rs",),
        distributions=("mixedlm-rs",),
        extra="mixedlm-rs",
        url="https://github.com/Fatin-Ishraq/mixedlm-rs",
        strengths="pip only, the quickest with one grouping factor",
        rank=80,
    )
    capabilities: ClassVar[Capabilities] = Capabilities(
        no_random_part=Never("mixedlm-rs needs a grouping factor."),
        group_effects=_ONE_BLOCK,
        random_intercept=Yes(),
        correlated_terms=Yes(),
        weights=Yes("rows scaled by sqrt(w), and sum(log w) / 2 added to the log-likelihood (exact)"),
        offset=Yes("subtracted from the response and added back"),
        likelihood=Yes(),
        laplace=_NO_GLMM,
        agq=_NO_GLMM,
        bayesian=_NO_POSTERIOR,
        degrees_of_freedom=Yes("by unimix"),
        structures=_NO_STRUCTURE,
        zero_inflation=_NO_GLMM,
        residual_covariance=Upstream("mixedlm-rs has independent residuals."),
        dispersion_formula=Upstream("mixedlm-rs has one residual variance."),
    )
    families: ClassVar[FamilySheet] = only_gaussian(_NO_GLMM.reason)
    pace: ClassVar[Pace] = Pace(
        call=0.0064,
        products=11,
        visits=1.7,
        pairs=0.03,
        stacked=0.48,
    )
    takes_start: ClassVar[bool] = True
    refit_options: ClassVar[dict[str, object]] = {"restarts": 0}

    max_iterations: Annotated[int, Field(ge=1)] = 500
    restarts: Annotated[int, Field(ge=0, le=3)] = 2

    def limits(self, design: Design, request: FitRequest) -> list[str]:
        """Reasons to refuse models without fixed effects, on which mixedlm-rs raises a TypeError."""
        del request
        return [] if design.p else ["mixedlm-rs needs a fixed effect."]

    def cost(self, design: Design, request: FitRequest) -> Cost:  # noqa: ARG002  the hook's signature
        """Estimate the memory of the columns and of the products per level."""
        size = sizes_of(design)
        return most({"the data": 1e7 + 6.0 * size.rows + 30.0 * size.levels}, self.pace.seconds(design))

    def preview(self, design: Design, request: FitRequest) -> str:
        """Text of the call in Python, with generated names."""
        x, z = (f"{c}[{', '.join(n)}]" for c, n in zip("XZ", _names(design), strict=True))
        return f"MixedLM(y, {x}, groups=g0, exog_re={z}).fit(reml={request.reml}, maxiter={self.max_iterations})"

    def _fit(self, engine: ModuleType, problem: Problem) -> Estimates:
        design, request = problem.design, problem.request
        block = design.blocks[0]
        model = engine.MixedLM(design.y, design.x, block.codes, exog_re=block.z)
        best = self._search(model, design, None if problem.start is None else problem.start[0], reml=request.reml)
        searches = 1
        if self.restarts and (best.at.singular or best.at.complaint):
            starts = likely_starts(design, reml=request.reml)[: self.restarts]
            others = [self._search(model, design, start[0], reml=request.reml) for start in starts]
            best, searches = max([best, *others], key=lambda s: s.result.llf), 1 + len(others)
        result, at = best.result, best.at
        origin = f"best of {searches} searches by mixedlm-rs: one ended on the boundary, or short"
        words = f"mixedlm-rs says: {result.diagnostics['optimiser_message']}"
        return Estimates(
            beta=np.asarray(result.fe_params, dtype=np.float64),
            beta_cov=np.asarray(result.cov_params(), dtype=np.float64)[: design.p, : design.p],
            std_error_kind="generalised least squares",
            covariances=(np.asarray(result.cov_re, dtype=np.float64),),
            sigma=float(np.sqrt(result.scale)),
            modes=(np.asarray(result.random_effects_array, dtype=np.float64),),
            mode_covs=(np.asarray(result.random_effects_cov_array, dtype=np.float64),),
            log_likelihood=float(result.llf),
            converged=not at.complaint,
            singular=at.singular,
            messages=(at.complaint, words) if at.complaint else (),
            gradient=float(result.diagnostics["max_abs_projected_gradient"]),
            engine_call=self.preview(design, request),
            provenance={"optimum": origin} if searches > 1 else {},
            native=result,
        )

    def _search(self, model: Any, design: Design, start: FloatArray | None, *, reml: bool) -> _Search:
        """Run one search from a relative lower triangular factor (q, q), and evaluate its end by unimix."""
        first = None if start is None else start[np.tril_indices(len(start))]
        result = model.fit(start_params=first, reml=reml, maxiter=self.max_iterations)
        covariance = np.asarray(result.cov_re, dtype=np.float64)
        return _Search(result, linear_at(design, (covariance,), float(np.sqrt(result.scale)), reml=reml))


class _Search(NamedTuple):
    """Result of one search, and its evaluation by unimix."""

    result: Any
    at: AtEstimates


def _names(design: Design) -> tuple[list[str], list[str]]:
    """Generated names of the columns of X and Z."""
    return [f"x{j}" for j in range(design.p)], [f"z0_{j}" for b in design.blocks for j in range(b.q)]
