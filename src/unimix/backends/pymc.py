"""Adapter for PyMC: the posterior of a (generalised) mixed model by NUTS, with marginalised effects if possible."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from unimix.backends.base import Backend, BackendInfo, FitRequest, Problem
from unimix.backends.capabilities import Capabilities, Never, NotYet, Yes
from unimix.backends.cost import Cost, Pace, most, sizes_of
from unimix.backends.family_support import FamilySheet, all_families
from unimix.design.estimates import Deferred, Estimates
from unimix.likelihood.posterior.marginal import n_dense

if TYPE_CHECKING:
    from types import ModuleType

    from unimix.backends.sampling.draws import Sampled
    from unimix.backends.sampling.priors import PriorTable
    from unimix.backends.sampling.pymc_sample import SamplerOptions
    from unimix.design.arrays import Design

FloatArray = npt.NDArray[np.float64]

CAREFUL = 0.99
"""Target acceptance rate of a second run."""

_LIKELIHOOD = Never("PyMC samples a posterior; it maximises no likelihood. Use method='posterior', or another backend.")
_NOT_YET = NotYet("PyMC could; the adapter does not write this part yet. Use backend='glmmtmb'.")
_NO_DF = Never("a posterior has no degrees of freedom.")
_FAMILIES = {family.label: Yes() for family in all_families()}


class PyMC(Backend):
    """Posterior of a linear or generalised linear mixed model, by NUTS.

    The group effects of a linear model are integrated out by default. The sampler then has a few parameters instead of
    hundreds, without divergences, and the effects are drawn exactly afterwards. The group effects of a generalised
    model are sampled, in coordinates that adapt to the information about each level. The posterior is always that of
    the plain hierarchical model, which ``fit.native`` holds as a ``pymc.Model``.

    Attributes:
        conditioning: Off, because priors are in the user's units. The sampler has its own coordinates, whitened at the
            posterior mode, so that the units of the columns do not matter.
        draws: Number of draws kept per chain.
        tune: Number of tuning steps per chain; None for 500, or 300 if the group effects are integrated out.
        chains: Number of chains.
        cores: Number of chains that run at the same time. None takes the number of processors, but one for nutpie
            without compilation, where chains compete for Python and run twice as fast one after the other.
        sampler: ``"nutpie"``, ``"pymc"`` or ``"numpyro"``; None for nutpie if it is installed, else PyMC's own.
        parametrization: ``"marginal"`` integrates out the group effects of a linear model. ``"adapted"`` samples them
            in coordinates between centred and non-centred, level by level, as a generalised model requires.
            ``"auto"`` takes the first of these that the model allows. ``"noncentered"`` and ``"centered"`` sample the
            PyMC model as written, which is slow and may diverge; they are for teaching and for checks.
        target_accept: Target acceptance rate of the tuning of the step size; a higher rate is slower and safer. None
            for 0.9, for 0.85 with ``"adapted"``, and for 0.95 if the model is sampled as written.
        retry: Whether to sample once more, with twice the draws and tuning steps (and smaller steps after divergences),
            if R-hat, effective sample sizes or divergences of the first run are out of bounds; the result says so.
        max_dense: Largest number of effects outside the largest grouping factor of a linear model with crossed factors;
            time grows with the cube of this number. Raise it if you can wait.
    """

    info: ClassVar[BackendInfo] = BackendInfo(
        name="pymc",
        engine="pymc",
        title="PyMC (NUTS)",
        packages=("pymc",),
        distributions=("pymc", "arviz"),
        extra="pymc",
        optional=("nutpie", "numba", "threadpoolctl"),
        url="https://www.pymc.io",
        default_method="posterior",
        strengths="every family, compiled and sampled",
        rank=20,
    )
    capabilities: ClassVar[Capabilities] = Capabilities(
        no_random_part=Yes(),
        group_effects=Yes(),
        weights=Yes(),
        offset=Yes("subtracted from the response and added back"),
        likelihood=_LIKELIHOOD,
        bayesian=Yes(),
        approximate_posterior=Never("PyMC's posterior is not an approximation. Use method='posterior'."),
        degrees_of_freedom=_NO_DF,
        structures=_NOT_YET,
        parts=_NOT_YET,
    )

    pace: ClassVar[Pace] = Pace(call=2.5, rows=50.0, dense=20_000.0)  # of the marginal form; checked on four models
    families: ClassVar[FamilySheet] = FamilySheet(_FAMILIES, _FAMILIES)

    conditioning: bool = False
    draws: Annotated[int, Field(ge=4)] = 1000
    tune: Annotated[int, Field(ge=0)] | None = None
    chains: Annotated[int, Field(ge=1)] = 4
    cores: Annotated[int, Field(ge=1)] | None = None
    sampler: Literal["nutpie", "pymc", "numpyro"] | None = None
    parametrization: Literal["auto", "marginal", "adapted", "noncentered", "centered"] = "auto"
    target_accept: Annotated[float, Field(gt=0, lt=1)] | None = None
    retry: bool = True
    max_dense: Annotated[int, Field(ge=0)] = 500

    @model_validator(mode="after")
    def _numpyro_needs_a_graph(self) -> PyMC:
        if self.sampler == "numpyro" and self.parametrization not in ("noncentered", "centered"):
            raise ValueError(
                "sampler='numpyro' compiles the model as written: "
                "add parametrization='noncentered' (or use sampler='nutpie')"
            )
        return self

    def load(self) -> ModuleType:
        """Import PyMC and the sampler."""
        engine = super().load()
        if self._sampler() == "nutpie":
            importlib.import_module("nutpie.compiled_pyfunc")
        return engine

    def limits(self, design: Design, request: FitRequest) -> list[str]:
        """Reasons to refuse integrating out the effects of a generalised model, or too many of a linear one."""
        del request
        form = self._form(design)
        if form == "marginal" and not design.is_linear:
            return ["parametrization='marginal': the group effects can be integrated out of a linear model only"]
        dense = n_dense(design.blocks)
        if form == "marginal" and dense > self.max_dense:
            reason = (
                f"several large grouping factors: {dense} effects outside the largest factor, and every evaluation of "
                f"the density would factor a dense matrix of that size (at max_dense={self.max_dense} for half an "
                "hour); options={'parametrization': 'adapted'} samples them instead"
            )
            return [reason]
        return []

    def cost(self, design: Design, request: FitRequest) -> Cost:  # noqa: ARG002  the hook's signature
        """Estimate the memory of the draws of group effects: several copies if sampled, one if only kept."""
        from unimix.backends.sampling.draws import fits_in_memory

        size, count = sizes_of(design), self.chains * self.draws
        sampled = self._form(design) != "marginal"
        times = 6.0 if sampled else 2.5 * fits_in_memory(design, count)
        crossed = self.chains * (8.0 * size.dense + 8.0 * size.effects * (size.dense / 8) ** 0.5)
        return most(
            {
                "the data": 4.0 * size.rows + 30 * size.levels,
                "draws of group effects": times * count * size.effects,
                size.crossed: 0.0 if sampled else crossed,
            },
            None if sampled else self.pace.seconds(design),
        )

    def preview(self, design: Design, request: FitRequest) -> str:
        """Text of the model in statistical notation, and of the sampler."""
        from unimix.backends.sampling.priors import resolve_priors

        if design.offset is not None and design.is_linear:
            design = replace(design, y=design.y - design.offset, offset=None)
        return self._call(design, resolve_priors(design, request.priors))

    def versions(self) -> dict[str, str]:
        """Versions of PyMC, ArviZ and the sampler."""
        extra = {"nutpie": "nutpie", "numpyro": "numpyro"}.get(self._sampler())
        return {**super().versions(), **({extra: importlib.metadata.version(extra)} if extra else {})}

    def _shows_progress(self, request: FitRequest) -> bool:
        return sys.stderr.isatty() if request.progress is None else request.progress

    def _form(self, design: Design) -> str:
        if self.parametrization == "auto":
            return "marginal" if design.is_linear else "adapted"
        return self.parametrization

    def _tune(self, design: Design) -> int:
        return self.tune if self.tune is not None else 300 if self._form(design) == "marginal" else 500

    def _accept(self, design: Design) -> float:
        return self.target_accept or {"adapted": 0.85, "marginal": 0.9}.get(self._form(design), 0.95)

    def _sampler(self) -> str:
        return self.sampler or ("nutpie" if importlib.util.find_spec("nutpie") else "pymc")

    def _fit(self, engine: ModuleType, problem: Problem) -> Estimates:
        from unimix.backends.sampling.draws import diagnose, estimates_of_draws, is_sampled_well
        from unimix.backends.sampling.priors import resolve_priors
        from unimix.backends.sampling.pymc_model import WrittenModel, build_model
        from unimix.backends.sampling.pymc_sample import SamplerOptions

        del engine
        design, request = problem.design, problem.request
        table = resolve_priors(design, request.priors)
        options = SamplerOptions(
            draws=self.draws,
            tune=self._tune(design),
            chains=self.chains,
            cores=self.cores,
            target_accept=self._accept(design),
            seed=request.seed,
            progress=self._shows_progress(request),
        )
        model = Deferred(partial(build_model, design, table, centered=self.parametrization == "centered"))
        sampled = self._sample(design, table, model, options)
        sampling, messages = diagnose(design, sampled.posterior, sampled.raw)
        again: dict[str, str] = {}
        if self.retry and not is_sampled_well(sampling):
            again["draws"] = f"of a second run, because of the first: {' '.join(messages)}"
            options = replace(
                options,
                draws=2 * self.draws,
                tune=2 * self._tune(design),
                target_accept=max(CAREFUL if sampling.divergences else 0.0, self._accept(design)),
                seed=None if request.seed is None else request.seed + 1,
            )
            sampled = self._sample(design, table, model, options)
            sampling, messages = diagnose(design, sampled.posterior, sampled.raw)
        made = estimates_of_draws(
            design,
            sampled,
            table.texts,
            ci_level=request.ci_level,
            call=self._call(design, table),
            library=self._sampler(),
            diagnosis=(sampling, messages),
        )
        return replace(
            made,
            provenance={**again, **made.provenance},
            native=model,
            generative=WrittenModel(model, problem.original.offset if design.is_linear else None, design.trials),
        )

    def _sample(self, design: Design, table: PriorTable, model: Deferred, options: SamplerOptions) -> Sampled:
        from threadpoolctl import threadpool_limits

        # Chains run in parallel; if each also used all processors for linear algebra, they would be ten times slower.
        with threadpool_limits(limits=1, user_api="blas"):
            match self._form(design):
                case "marginal":
                    return self._marginal(design, table, options)
                case "adapted":
                    return self._adapted(design, table, options)
            return self._as_written(design, model, options)

    def _marginal(self, design: Design, table: PriorTable, options: SamplerOptions) -> Sampled:
        from unimix.backends.sampling.density import LogPosterior
        from unimix.backends.sampling.draws import Posterior, Sampled, fits_in_memory
        from unimix.backends.sampling.nuts import sample_nutpie, sample_pymc
        from unimix.backends.sampling.scales import effects_in_users_units
        from unimix.backends.sampling.whitening import whiten
        from unimix.likelihood.posterior.effect_draws import draw_all_effects
        from unimix.likelihood.posterior.marginal_posterior import Reduced

        target = LogPosterior(design, table)
        whitening = whiten(target, target.start())
        sample = sample_nutpie if self._sampler() == "nutpie" else sample_pymc
        raw = sample(whitening.density(target), target.size, options)
        draws = target.draws(whitening.points(raw.points).reshape(-1, target.size))
        kept = fits_in_memory(design, len(draws.sigma))
        rng = np.random.default_rng([options.seed or 0, 1])
        reduced = Reduced(target.columns.design)
        found = draw_all_effects(reduced.products, draws.beta_c, draws.factors_c, draws.sigma_c, rng, keep=kept)
        posterior = Posterior(
            draws.beta,
            draws.sds,
            draws.correlations,
            draws.sigma[:, None],
            *effects_in_users_units(found, target.maps, kept=kept),
        )
        return Sampled(posterior, raw, kept)

    def _adapted(self, design: Design, table: PriorTable, options: SamplerOptions) -> Sampled:
        from unimix.backends.sampling.draws import Sampled, fits_in_memory
        from unimix.backends.sampling.generalised_density import GeneralisedPosterior
        from unimix.backends.sampling.nuts import sample_nutpie, sample_pymc

        target = GeneralisedPosterior(design, table)
        whitening = target.settle()
        sample = sample_nutpie if self._sampler() == "nutpie" else sample_pymc
        raw = sample(whitening.density(target), target.size, options)
        posterior = target.draws(whitening.points(raw.points).reshape(-1, target.size))
        kept = fits_in_memory(design, raw.points[..., 0].size)
        return Sampled(posterior if kept else replace(posterior, effects=None), raw, kept)

    def _as_written(self, design: Design, model: Deferred, options: SamplerOptions) -> Sampled:
        from unimix.backends.sampling.draws import Sampled
        from unimix.backends.sampling.pymc_model import read_model_draws
        from unimix.backends.sampling.pymc_sample import sample_model

        return Sampled(*read_model_draws(design, sample_model(model.get(), self._sampler(), options)), kept=True)

    def _call(self, design: Design, table: PriorTable) -> str:
        from unimix.backends.sampling.draws import written_model

        how = (
            f"NUTS by {self._sampler()}, {self._form(design)}: chains={self.chains}, tune={self._tune(design)}, "
            f"draws={self.draws}, target_accept={self._accept(design):g}"
        )
        return written_model(design, table, how)
