"""unimix's own engine: penalised least squares with exact derivatives, without further packages.

A linear mixed model is fitted in four steps: reduce the data to cross-products
(:mod:`unimix.likelihood.lmm.reduced_data`), evaluate the likelihood with fixed effects and residual variance profiled
out (:mod:`unimix.likelihood.lmm.penalised_least_squares`), maximise it by Newton's method from every likely start
(:mod:`unimix.likelihood.lmm.optimise`), and compute the effects at the maximum.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from unimix.backends import pls_generalised
from unimix.backends.base import Backend, BackendInfo, FitRequest, Problem
from unimix.backends.capabilities import Capabilities
from unimix.backends.cost import Cost, Pace, most, sizes_of
from unimix.backends.family_support import FamilySheet
from unimix.backends.pls_capabilities import CAPABILITIES, FAMILIES, variance_limits
from unimix.backends.residual_limits import residual_limits
from unimix.design.arrays import Design
from unimix.design.estimates import Estimates
from unimix.design.modelled_variances import covariance_parameters
from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.likelihood.lmm.newton_decrement import stopped_short
from unimix.likelihood.lmm.reduced_data import n_dense_effects
from unimix.likelihood.lmm.small_model import stackable
from unimix.likelihood.posterior.marginal import split_blocks

FloatArray = npt.NDArray[np.float64]
BATCH, MOST_ROWS = 32, 100_000
"""Number of responses of a small model that are searched at once, and the largest number of their rows."""


class Pls(Backend):
    """Penalised least squares by unimix: crossed and nested linear mixed models, and GLMMs by Laplace's approximation.

    The likelihood is always computed with well-scaled columns, whatever the value of ``conditioning``.

    Attributes:
        max_steps: Maximum number of Newton steps from one start.
        thorough: Whether to search small models (up to 60 group effects) from the best of many further starts too;
            refits of a bootstrap or a profile do not.
        max_dense: Largest number of effects, in one set of connected levels and outside the grouping factor with most
            effects, for which a dense matrix is formed. Time grows with the third power of this number.
        n_agq: Number of nodes of adaptive Gauss-Hermite quadrature for ``method="AGQ"``.
    """

    info: ClassVar[BackendInfo] = BackendInfo(
        name="pls",
        engine="unimix",
        title="unimix's own penalised least squares",
        packages=("numpy", "scipy"),
        distributions=("unimix", "numpy", "scipy"),
        url="certificate.md#how-the-criterion-works",
        strengths="pip only, fits most models, exact derivatives, and among the quickest",
        rank=10,
    )
    capabilities: ClassVar[Capabilities] = CAPABILITIES
    families: ClassVar[FamilySheet] = FAMILIES
    pace: ClassVar[Pace] = Pace(
        call=0.0083,
        products=8.7,
        visits=1.6,
        moments=0.13,
        pairs=0.2,
        stacked=0.28,
        crossed_rows=0.43,
        crossed_pairs=0.25,
        crossed_moments=0.041,
        dense=3.4,
        dense_pairs=0.35,
    )
    takes_start: ClassVar[bool] = True
    takes_reduced: ClassVar[bool] = True
    refit_options: ClassVar[dict[str, object]] = {"thorough": False}

    max_steps: Annotated[int, Field(ge=1)] = 200
    thorough: bool = True
    max_dense: Annotated[int, Field(ge=1)] = 8000
    n_agq: Annotated[int, Field(ge=2, le=100)] = 25

    def load(self) -> ModuleType:
        """Return unimix's own numerical module, which is the engine."""
        return importlib.import_module("unimix.likelihood.lmm.penalised_least_squares")

    def limits(self, design: Design, request: FitRequest) -> list[str]:
        """Reasons to refuse models that are too large, and generalised models with an unsuitable method."""
        if not design.family.is_linear:
            unable = ["relationship= with a generalised model: pls has it for Gaussian ones"] if design.related else []
            return [*unable, *pls_generalised.limits(design, request)]
        if design.residual is not None or design.has_modelled_variances:
            return [*residual_limits(design), *variance_limits(design)]
        size = n_dense_effects(design)
        if size <= self.max_dense:
            return []
        reason = (
            f"{size:,} effects of crossed factors are tied together, in addition to those of the largest factor, and "
            f"the dense matrix of more than {self.max_dense:,} takes long (option max_dense)"
        )
        return [reason]

    def batch_size(self, design: Design) -> int:
        """Number of responses of a small linear model that are searched at once."""
        if not (design.has_one_residual and design.blocks) or design.is_structured or design.n > MOST_ROWS:
            return 1
        if design.sigma is not None or design.related:
            return 1
        sizes = [(b.q, b.n_levels) for b in design.blocks]
        return BATCH if stackable(sizes, several=bool(split_blocks(design.blocks)[1])) else 1

    def prepare(self, designs: Sequence[Design], request: FitRequest, like: Design) -> None:
        """Search the likelihoods of several responses of a linear model at once; start others near the first fit."""
        if like.has_one_residual and like.blocks:
            LinearCriterion.search_together(
                designs, reml=request.reml, max_steps=self.max_steps, thorough=self.thorough
            )
        elif not like.family.is_linear:
            for design in designs:
                pls_generalised.start_near(design, like, request.nodes(like, self.n_agq))

    def cost(self, design: Design, request: FitRequest) -> Cost:  # noqa: ARG002  the hook's signature
        """Estimate the memory of cross-products of the data and of dense matrices of crossed effects."""
        size = sizes_of(design)
        sparse = size.between < 0.15 * size.effects * size.dense**0.5 / 8**0.5
        return most(
            {
                "the data": 3.2 * size.rows + 30 * size.levels,
                size.crossed: 9.0 * size.dense + (6.0 if sparse else 15.0) * size.between,
            },
            self.pace.seconds(design),
        )

    def preview(self, design: Design, request: FitRequest) -> str:
        """Text of the formula with generated names, and of the criterion."""
        residual = "" if design.residual is None else f", residual={design.residual.text}"
        return f"{super().preview(design, request)}{residual}, {request.method}"

    def _fit(self, engine: ModuleType, problem: Problem) -> Estimates:  # noqa: ARG002  it has been imported
        if not problem.design.family.is_linear:
            return pls_generalised.fit(problem, self.n_agq, self.preview(problem.design, problem.request))
        return self._fit_mixed(problem) if problem.design.has_covariances else self._fit_plain(problem)

    def _fit_mixed(self, problem: Problem) -> Estimates:
        design, request = problem.design, problem.request
        criterion = LinearCriterion.of(design)
        further = []
        if problem.start is not None:
            further = [criterion.at([f @ f.T for f in problem.start], 1.0, reml=request.reml)]
        optimum = criterion.search(further, reml=request.reml, max_steps=self.max_steps, thorough=self.thorough)
        at = criterion.at_optimum(optimum, reml=request.reml)
        covariances, sigma = criterion.covariances(optimum.factors, optimum.profile.sigma)
        k = len(design.blocks)
        residual = covariances[k] if design.residual is not None else None
        parts = {}
        if design.has_modelled_variances:
            parts = {"dispersion": criterion.dispersion(at)}
            residual = None if residual is None else criterion.of_times(at)
        modes, mode_covs = criterion.effects(at)
        estimates = Estimates(
            beta=criterion.beta(at),
            beta_cov=criterion.beta_cov(at),
            std_error_kind="generalised least squares",
            covariances=covariances[:k],
            residual=residual,
            parts=parts,
            sigma=sigma,
            modes=modes,
            mode_covs=mode_covs,
            log_likelihood=criterion.value(at),
            converged=optimum.finished,
            singular=at.singular,
            messages=() if optimum.finished else (stopped_short(max(optimum.gain, optimum.escape)),),
            gradient=at.scaled_gradient,
            engine_call=self.preview(design, request),
            provenance={"optimum": f"{optimum.steps} Newton steps, from every maximum on a line of variances"},
            native=optimum,
        )
        criterion.recognise(*covariance_parameters(design, estimates), at)
        return estimates

    def _fit_plain(self, problem: Problem) -> Estimates:
        design, request = problem.design, problem.request
        root = np.ones(design.n) if design.weights is None else np.sqrt(design.weights)
        q, r = np.linalg.qr(root[:, None] * design.x)
        inverse = np.linalg.solve(r, np.eye(design.p))
        beta = inverse @ (q.T @ (root * design.y))
        rest = float(np.sum((root * (design.y - design.x @ beta)) ** 2))
        n, df_residual = design.n_obs, design.n_obs - design.p
        known = design.sigma is not None
        # ML: the mean square that maximises the likelihood is rest / n, unless it is known
        ml = rest / n if design.sigma is None else design.sigma**2
        value = -0.5 * (n * np.log(2 * np.pi * ml) + rest / ml) + design.log_weights
        variance = rest / df_residual if design.sigma is None else design.sigma**2
        z = known or request.df_method == "normal"
        return Estimates(
            beta=beta,
            beta_cov=variance * (inverse @ inverse.T),
            covariances=(),
            sigma=float(np.sqrt(variance)),
            modes=(),
            mode_covs=(),
            log_likelihood=value,
            converged=True,
            df=None if z else np.full(design.p, float(df_residual)),
            df_method="normal" if z else "residual",
            singular=False,
            engine_call=self.preview(design, request),
        )
