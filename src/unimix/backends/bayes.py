"""unimix's own posterior of a linear mixed model, with all but the covariance parameters integrated out exactly.

Group effects and fixed effects are integrated out (:mod:`unimix.likelihood.posterior.marginal_posterior`). An adapted
independence sampler (:mod:`unimix.likelihood.posterior.independence_sampler`) draws the few remaining covariance
parameters, and all other parameters are drawn exactly given each draw. There is no compilation and no warm-up. The
priors and their names are those of the PyMC backend.
"""

from __future__ import annotations

import importlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from unimix.backends.base import Backend, BackendInfo, FitRequest, Problem
from unimix.backends.capabilities import Capabilities, Never, NotYet, Yes
from unimix.backends.cost import Cost, Pace, most, sizes_of
from unimix.backends.family_support import FamilySheet, only_gaussian
from unimix.likelihood.lmm.reduced_data import n_dense_effects

if TYPE_CHECKING:
    from types import ModuleType

    from unimix.backends.sampling.draws import RawDraws, Sampled
    from unimix.backends.sampling.marginal import CollapsedPosterior
    from unimix.backends.sampling.priors import PriorTable
    from unimix.design.arrays import Design
    from unimix.design.estimates import Estimates

FloatArray = npt.NDArray[np.float64]

MOST_COVARIANCES = 12
"""Largest number of covariance parameters for which a single proposal fits their posterior."""
K_LIMIT = 0.7
"""Pareto k above which the proposal does not cover the posterior (Vehtari et al. 2024)."""
LARGEST = 0.01
"""Share of the largest importance weight below which no single draw matters, whatever the value of k."""

_LIKELIHOOD = Never("bayes samples a posterior; it maximises no likelihood. Use backend='pls'.")
_NO_PART = NotYet("bayes has no such part. Use backend='glmmtmb'.")
_NO_DF = Never("a posterior has no degrees of freedom.")


class Bayes(Backend):
    """Exact posterior of a linear mixed model, without compilation and without warm-up.

    Attributes:
        conditioning: Off, because priors are in the user's units and the sampler has its own coordinates.
        draws: Number of draws kept per chain.
        chains: Number of chains, each with its own proposals.
        max_dense: Largest number of connected effects of crossed factors, without the largest factor: a dense matrix of
            that size is factored for every proposal.
    """

    info: ClassVar[BackendInfo] = BackendInfo(
        name="bayes",
        engine="unimix",
        title="unimix's own exact posterior",
        packages=("numpy", "scipy", "arviz"),
        distributions=("unimix", "numpy", "scipy", "arviz"),
        extra="bayes",
        url="engines.md",
        default_method="posterior",
        strengths="pip only, an exact posterior in tenths of a second",
        rank=10,
    )
    capabilities: ClassVar[Capabilities] = Capabilities(
        no_random_part=Yes(),
        group_effects=Yes(),
        weights=Yes(),
        offset=Yes("subtracted from the response and added back"),
        likelihood=_LIKELIHOOD,
        bayesian=Yes(),
        approximate_posterior=Never("the posterior of bayes is exact. Use method='posterior'."),
        degrees_of_freedom=_NO_DF,
        structures=_NO_PART,
        parts=_NO_PART,
    )
    families: ClassVar[FamilySheet] = only_gaussian("bayes is for linear mixed models. Use backend='pymc'.")
    pace: ClassVar[Pace] = Pace(
        call=0.045,
        rows=0.22,
        sets=91.0,
        levels=11.0,
        pairs=3.0,
        stacked=67.0,
        crossed_rows=88.0,
        crossed=150.0,
        dense_pairs=550.0,
    )

    conditioning: bool = False
    draws: Annotated[int, Field(ge=100)] = 1000
    chains: Annotated[int, Field(ge=2)] = 4
    max_dense: Annotated[int, Field(ge=0)] = 300

    def load(self) -> ModuleType:
        """Check that ArviZ, which holds the draws, is installed; the engine itself is part of unimix."""
        importlib.import_module("arviz")
        return importlib.import_module("unimix.likelihood.posterior.marginal_posterior")

    def limits(self, design: Design, request: FitRequest) -> list[str]:
        """Reasons to refuse models with too many covariance parameters or too many crossed effects."""
        del request
        if not design.family.is_linear:
            return []
        reasons = []
        count = 1 + sum(b.q * (b.q + 1) // 2 for b in design.blocks)
        if count > MOST_COVARIANCES:
            reasons.append(
                f"{count} covariance parameters: their posterior is drawn from a single approximation, which fits up "
                f"to {MOST_COVARIANCES}. Use backend='pymc', or || for independent effects"
            )
        dense = n_dense_effects(design)
        if dense > self.max_dense:
            reasons.append(
                f"{dense:,} effects of crossed factors are tied together, beside those of the largest factor, and a "
                f"dense matrix of that size would be factored for every draw (max_dense={self.max_dense})"
            )
        return reasons

    def cost(self, design: Design, request: FitRequest) -> Cost:  # noqa: ARG002  the hook's signature
        """Estimate the memory of the draws of the group effects, if they are kept, and of the matrices in use."""
        from unimix.backends.sampling.draws import MOST_KEPT, fits_in_memory

        size, count = sizes_of(design), self.chains * self.draws
        kept = max(8.0 * MOST_KEPT, 2.5 * count * size.effects * fits_in_memory(design, count))
        parts = {"the data": 3.2 * size.rows + 30 * size.levels, "draws of group effects": kept}
        return most(parts, self.pace.seconds(design))

    def preview(self, design: Design, request: FitRequest) -> str:
        """Text of the model in statistical notation, and of the sampler."""
        from unimix.backends.sampling.priors import resolve_priors

        if design.offset is not None:
            design = replace(design, y=design.y - design.offset, offset=None)
        return self._call(design, resolve_priors(design, request.priors))

    def _call(self, design: Design, table: PriorTable) -> str:
        from unimix.backends.sampling.draws import written_model

        how = f"adapted independence sampler: chains={self.chains}, draws={self.draws}"
        return written_model(design, table, how)

    def _fit(self, engine: ModuleType, problem: Problem) -> Estimates:
        from unimix.backends.sampling.draws import estimates_of_draws
        from unimix.backends.sampling.priors import PriorSimulator, resolve_priors

        del engine
        design, request = problem.design, problem.request
        table = resolve_priors(design, request.priors)
        native, sampled, message = self._sample(design, table, request.seed)
        made = estimates_of_draws(
            design,
            sampled,
            table.texts,
            ci_level=request.ci_level,
            call=self._call(design, table),
            library="unimix",
            observed=problem.original,
        )
        if message:
            made = replace(made, converged=False, messages=(*made.messages, message))
        return replace(made, native=native, generative=PriorSimulator(problem.original, table))

    def _sample(self, design: Design, table: PriorTable, seed: int | None) -> tuple[CollapsedPosterior, Sampled, str]:
        import arviz as az

        from unimix.backends.sampling.draws import Sampled, fits_in_memory
        from unimix.backends.sampling.marginal import CollapsedPosterior
        from unimix.likelihood.posterior.independence_sampler import sample

        target = CollapsedPosterior(design, table)
        started = time.perf_counter()
        found = sample(
            target.log_density,
            target.start(),
            chains=self.chains,
            draws=self.draws,
            rng=np.random.default_rng([seed or 0, 0]),
            folded=target.folded,
        )
        seconds = time.perf_counter() - started
        k = float(az.psislw(found.log_weights)[1])
        kept = fits_in_memory(design, found.points[..., 0].size)
        raw = _raw(found.points, found.accepted, k, seconds)
        posterior = target.posterior(
            found.points.reshape(-1, target.size), np.random.default_rng([seed or 0, 1]), keep=kept
        )
        message = ""
        if not k < K_LIMIT and found.largest > LARGEST:
            message = (
                f"Pareto k of the proposal is {k:.2f} ({K_LIMIT} at most), and one draw has {found.largest:.0%} of all "
                "importance weight: the proposal does not cover the posterior, and the draws cannot be trusted. Use "
                "backend='pymc', or more informative priors."
            )
        return target, Sampled(posterior, raw, kept), message


def _raw(points: FloatArray, accepted: float, k: float, seconds: float) -> RawDraws:
    from unimix.backends.sampling.draws import RawDraws

    chains, draws = points.shape[:2]
    stats = {
        "acceptance_rate": np.full((chains, draws), accepted),
        "pareto_k": np.full((chains, draws), k),
    }
    return RawDraws(points, np.zeros((chains, draws), dtype=bool), stats, seconds)
