"""unimix's own posterior of linear and generalised mixed models, on its own log densities.

Where the group effects can be integrated out (of a linear model always, of a generalised one with one grouping factor),
an adapted independence sampler (:mod:`unimix.likelihood.posterior.independence_sampler`) draws the few parameters that
remain, and the effects are drawn given each draw. There is no compilation and no warm-up. All other models, and those
whose posterior one proposal does not cover, are sampled by NUTS with analytic gradients
(:mod:`unimix.backends.sampling.nuts`). The priors and their names are those of the PyMC backend.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from unimix.backends.base import Backend, BackendInfo, FitRequest, Problem
from unimix.backends.capabilities import Answer, Capabilities, Never, NotYet, Yes
from unimix.backends.cost import Cost, Pace, most, sizes_of
from unimix.backends.family_support import FamilySheet, all_families
from unimix.design.estimates import EVIDENCE, Estimates, Evidence
from unimix.errors import EngineNotInstalledError, listing, to_type
from unimix.parallel.progress import is_shown

if TYPE_CHECKING:
    from types import ModuleType

    from unimix.backends.sampling.draws import Sampled
    from unimix.backends.sampling.priors import PriorTable
    from unimix.backends.sampling.pymc_sample import SamplerOptions
    from unimix.design.arrays import Design
    from unimix.design.estimates import Sampling

ROW_SECONDS = 8e-7
"""Seconds per row and draw of a generalised model by the independence sampler, with its proposals and integrals."""

_LIKELIHOOD = Never("bayes samples a posterior; it maximises no likelihood.")
_NO_PART = NotYet("bayes has no such part.")
_NO_DF = Never("a posterior has no degrees of freedom.")
_SERIES = NotYet("the series of the Tweedie density takes too long for the draws of its power.")
_ORDERED = NotYet("the thresholds of ordered responses have no priors here yet.")
_FAMILIES: dict[str, Answer] = {
    **{family.label: Yes() for family in all_families()},
    "tweedie": _SERIES,
    "cumulative": _ORDERED,
}


@dataclass(frozen=True)
class _Run:
    """Draws of one run, with their diagnostics.

    Attributes:
        sampled: The draws.
        sampling: R-hat, effective sample sizes and divergences.
        messages: What is wrong with the draws.
        how: Text about the sampler.
        fault: Reason for another sampler; empty if there is none.
        log_evidence: Log evidence and its Monte Carlo error; None for NUTS.
        target: The posterior that was sampled; None for NUTS.
    """

    sampled: Sampled
    sampling: Sampling
    messages: tuple[str, ...]
    how: str
    fault: str = ""
    log_evidence: tuple[float, float] | None = None
    target: Any = None

    @property
    def is_good(self) -> bool:
        from unimix.backends.sampling.draws import is_sampled_well

        return is_sampled_well(self.sampling) and not self.messages


class Bayes(Backend):
    """Posterior of a linear or generalised mixed model, without compilation.

    Attributes:
        conditioning: Off, because priors are in the user's units and the sampler has its own coordinates.
        draws: Number of draws kept per chain.
        chains: Number of chains, each with its own proposals.
        sampler: ``"independence"`` for the exact sampler, ``"nuts"`` for NUTS; None for the exact one where it suits
            the model and covers its posterior, else NUTS.
        tune: Number of tuning steps of NUTS per chain; None for 500, or 300 if the group effects are integrated out.
        target_accept: Target acceptance rate of NUTS; None for 0.85, or 0.9 if the group effects are integrated out.
        cores: Number of chains of NUTS that run at the same time; None for one, because chains compete for Python.
        retry: Whether to sample once more if R-hat, effective sample sizes or divergences of the first run are out of
            bounds; the result says so. A second run of NUTS has twice the tuning steps, four times the draws if there
            were too few of them (else twice), and smaller steps after divergences; one of the independence sampler has
            twice the draws.
        max_dense: Largest number of connected effects of crossed factors of a linear model, without the largest factor,
            for the exact sampler: a dense matrix of that size is factored for every proposal.
    """

    info: ClassVar[BackendInfo] = BackendInfo(
        name="bayes",
        engine="unimix",
        title="unimix's own posterior",
        packages=("numpy", "scipy", "arviz"),
        distributions=("unimix", "numpy", "scipy", "arviz"),
        extra="bayes",
        url="engines.md",
        default_method="posterior",
        strengths="pip only, a posterior of nearly every family in seconds",
        rank=10,
    )
    capabilities: ClassVar[Capabilities] = Capabilities(
        smooths=NotYet("curves are not sampled yet."),
        no_random_part=Yes(),
        group_effects=Yes(),
        weights=Yes(),
        offset=Yes("subtracted from the response and added back"),
        likelihood=_LIKELIHOOD,
        bayesian=Yes(),
        approximate_posterior=Never("the posterior of bayes is no approximation. Use method='posterior'."),
        degrees_of_freedom=_NO_DF,
        structures=_NO_PART,
        parts=_NO_PART,
        residual_covariance=NotYet("bayes has independent residuals so far."),
    )
    families: ClassVar[FamilySheet] = FamilySheet(_FAMILIES, _FAMILIES)
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
    sampler: Literal["independence", "nuts"] | None = None
    tune: Annotated[int, Field(ge=0)] | None = None
    target_accept: Annotated[float, Field(gt=0, lt=1)] | None = None
    cores: Annotated[int, Field(ge=1)] | None = None
    retry: bool = True
    max_dense: Annotated[int, Field(ge=0)] = 300

    def load(self) -> ModuleType:
        """Check that ArviZ, which holds the draws, is installed; the engine itself is part of unimix."""
        importlib.import_module("arviz")
        return importlib.import_module("unimix.likelihood.posterior.marginal_posterior")

    def limits(self, design: Design, request: FitRequest) -> list[str]:
        """Reasons why the exact sampler does not suit the model, if it was asked for; NUTS takes every model."""
        del request
        against = self._against(design) if self.sampler == "independence" else []
        return [f"{reason}. Use options={{'sampler': 'nuts'}}" for reason in against]

    def cost(self, design: Design, request: FitRequest) -> Cost:  # noqa: ARG002  the hook's signature
        """Estimate the memory of the draws of the group effects, if they are kept, and of the matrices in use."""
        from unimix.backends.sampling.draws import MOST_KEPT, fits_in_memory

        size, count = sizes_of(design), self.chains * self.draws
        exact = not self._uses_nuts(design)
        held = max(8.0 * MOST_KEPT, 2.5 * count * size.effects * fits_in_memory(design, count))
        if not design.is_linear:
            # several copies of the draws while they are put into the user's units
            held = (3.0 if exact else 6.0) * count * size.effects
        parts = {"the data": 3.2 * size.rows + 30 * size.levels, "draws of group effects": held}
        if not exact:
            return most(parts)
        seconds = self.pace.seconds(design) if design.is_linear else self.pace.call + ROW_SECONDS * design.n * count
        return most(parts, seconds)

    def preview(self, design: Design, request: FitRequest) -> str:
        """Text of the model in statistical notation, and of the sampler."""
        from unimix.backends.sampling.draws import written_model
        from unimix.backends.sampling.priors import resolve_priors
        from unimix.likelihood.lmm.conditioning import without_offset

        design = without_offset(design)
        how = f"adapted independence sampler: chains={self.chains}, draws={self.draws}"
        if self._uses_nuts(design):
            how = self._nuts_text(design)
        return written_model(design, resolve_priors(design, request.priors), how)

    def _against(self, design: Design) -> list[str]:
        from unimix.backends.sampling.exact import reasons_against

        return reasons_against(design, self.chains * self.draws, self.max_dense)

    def _uses_nuts(self, design: Design) -> bool:
        return self.sampler == "nuts" or (self.sampler is None and bool(self._against(design)))

    def _package(self) -> str:
        from unimix.backends.sampling.nuts import installed

        return installed()

    def _nuts_text(self, design: Design, options: SamplerOptions | None = None) -> str:
        from unimix.backends.sampling.nuts import integrates, with_version

        options = options or self._options(design, None)
        package = self._package()
        effects = "integrated out" if integrates(design) else "sampled in adapted coordinates"
        return (
            f"NUTS by {with_version(package) if package else 'nutpie'}, on unimix's own density with the group effects "
            f"{effects}: chains={options.chains}, tune={options.tune}, draws={options.draws}, "
            f"target_accept={options.target_accept:g}"
        )

    def _options(self, design: Design, request: FitRequest | None) -> SamplerOptions:
        from unimix.backends.sampling.nuts import tuning
        from unimix.backends.sampling.pymc_sample import SamplerOptions

        tune, accept = tuning(design)
        return SamplerOptions(
            draws=self.draws,
            tune=tune if self.tune is None else self.tune,
            chains=self.chains,
            cores=self.cores,
            target_accept=self.target_accept or accept,
            seed=None if request is None else request.seed,
            progress=request is not None and self._shows_progress(request),
        )

    def _shows_progress(self, request: FitRequest) -> bool:
        return is_shown(request.progress)

    def _fit(self, engine: ModuleType, problem: Problem) -> Estimates:
        from unimix.backends.sampling.draws import estimates_of_draws, written_model
        from unimix.backends.sampling.prior_simulator import PriorSimulator
        from unimix.backends.sampling.priors import resolve_priors

        del engine
        design, request = problem.design, problem.request
        if self._uses_nuts(design) and not self._package():
            self._refuse_nuts(design)
        table = resolve_priors(design, request.priors)
        run, because = self._run(design, table, request)
        made = estimates_of_draws(
            design,
            run.sampled,
            table.texts,
            ci_level=request.ci_level,
            call=written_model(design, table, run.how),
            library="unimix",
            diagnosis=(run.sampling, run.messages),
            observed=problem.original,
        )
        absent = self._why_no_evidence(design, table, run, because.get("draws", ""))
        evidence = None if absent or run.log_evidence is None else Evidence(*run.log_evidence, table.defaults)
        about = {EVIDENCE: absent or "mean of the importance weights of all proposals"}
        return replace(
            made,
            converged=run.is_good,
            evidence=evidence,
            provenance={"sampler": run.how, **because, **about, **made.provenance},
            native=run.target,
            generative=PriorSimulator(problem.original, table),
        )

    def _why_no_evidence(self, design: Design, table: PriorTable, run: _Run, because: str) -> str:
        """Reason why the run gives no log evidence; empty if it gives one."""
        if run.log_evidence is None:
            why = "; ".join(self._against(design)) or because or "options={'sampler': 'nuts'}"
            return f"none: NUTS sampled, which has no importance weights ({why})"
        if run.fault:
            return f"none: the importance weights cannot be trusted. {run.fault}"
        if improper := table.unknown_priors():
            return f"none: nothing says that the priors of {listing(improper)} are proper. Give priors of unimix.priors"
        weights = None if design.family.name == "gaussian" else design.weights
        if weights is not None and not np.array_equal(weights, np.round(weights)):
            return "none: with weights that are not whole numbers, the likelihood is not the density of a response"
        return ""

    def _refuse_nuts(self, design: Design) -> None:
        """Say what NUTS needs.

        Raises:
            EngineNotInstalledError: Always.
        """
        from unimix.backends.sampling.nuts import line_to_type

        why = "; ".join(self._against(design)) or "sampler='nuts'"
        raise EngineNotInstalledError(
            f"backend='bayes' samples this model by NUTS ({why}), and needs nutpie for it, which is not installed. "
            + to_type(line_to_type())
        )

    def _run(self, design: Design, table: PriorTable, request: FitRequest) -> tuple[_Run, dict[str, str]]:
        """Sample, and sample again by what is safer if the draws are not good; return why."""
        because: dict[str, str] = {}
        if not self._uses_nuts(design):
            run, fault = self._exact(design, table, request)
            if run is not None:
                return run, {"draws": fault} if fault else because
            because["draws"] = f"by NUTS, because of the independence sampler: {fault}"
        options = self._options(design, request)
        run = self._nuts(design, table, options)
        if self.retry and not run.is_good:
            because["draws"] = " ".join(
                [*because.values(), f"of a second run of NUTS, because of the first: {' '.join(run.messages)}"]
            )
            options = options.for_second_run(run.sampling)
            run = self._nuts(design, table, options)
        return run, because

    def _exact(self, design: Design, table: PriorTable, request: FitRequest) -> tuple[_Run | None, str]:
        """Draws of the independence sampler, and why they are of a second run; or None, and why NUTS is needed."""
        from unimix.backends.sampling.draws import ESS_LIMIT
        from unimix.backends.sampling.exact import UnsuitedError
        from unimix.backends.sampling.nuts import line_to_type

        final = self.sampler == "independence" or not self._package()
        try:
            run = self._exact_run(design, table, self.draws, request.seed, forced=final)
            if not run.fault and not run.is_good and self.retry and self.chains * self.draws >= 4 * ESS_LIMIT:
                again = None if request.seed is None else request.seed + 1
                why = f"of a second run, because of the first: {' '.join(run.messages)}"
                return self._exact_run(design, table, 2 * self.draws, again, forced=final), why
        except UnsuitedError as unsuited:
            return None, str(unsuited)
        if run.fault and not final:
            return None, run.fault
        if run.fault and not self._package():
            advice = f"NUTS may get further, and needs nutpie: {line_to_type()}"
            run = replace(run, messages=(*run.messages, advice))
        return run, ""

    def _exact_run(self, design: Design, table: PriorTable, draws: int, seed: int | None, *, forced: bool) -> _Run:
        from unimix.backends.sampling.draws import diagnose
        from unimix.backends.sampling.exact import sample_exactly

        found = sample_exactly(design, table, chains=self.chains, draws=draws, seed=seed, forced=forced)
        sampling, messages = diagnose(design, found.sampled.posterior, found.sampled.raw)
        messages = (*messages, found.fault) if found.fault else messages
        how = f"{found.how}adapted independence sampler: chains={self.chains}, draws={draws}"
        return _Run(found.sampled, sampling, messages, how, found.fault, found.log_evidence, found.target)

    def _nuts(self, design: Design, table: PriorTable, options: SamplerOptions) -> _Run:
        from unimix.backends.sampling.draws import diagnose
        from unimix.backends.sampling.nuts import sample_posterior

        sampled = sample_posterior(design, table, options, self._package())
        sampling, messages = diagnose(design, sampled.posterior, sampled.raw)
        return _Run(sampled, sampling, messages, self._nuts_text(design, options))
