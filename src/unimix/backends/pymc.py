"""Adapter for PyMC: the posterior of the hierarchical model as PyMC's users write it, by NUTS."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_serializer, field_validator

from unimix.backends.base import Backend, BackendInfo, FitRequest, Problem
from unimix.backends.capabilities import Answer, Capabilities, Never, NotYet, Yes
from unimix.backends.cost import Cost, Pace, most, sizes_of
from unimix.backends.family_support import FamilySheet, all_families
from unimix.backends.interrupts import keep_interrupts
from unimix.design.estimates import Estimates
from unimix.errors import EngineNotInstalledError, to_type
from unimix.parallel.progress import is_shown

if TYPE_CHECKING:
    from types import ModuleType

    from unimix.backends.sampling.draws import Sampled
    from unimix.backends.sampling.priors import PriorTable
    from unimix.backends.sampling.pymc_model import Recipe
    from unimix.backends.sampling.pymc_sample import SamplerOptions
    from unimix.backends.sampling.pymc_start import StartingPoint
    from unimix.design.arrays import Design

Parametrization = Literal["noncentered", "centered"]
_MOVED = ("auto", "marginal", "adapted")
_NEEDED = {"nutpie": ("nutpie", "numba"), "numpyro": ("numpyro", "jax"), "blackjax": ("blackjax", "jax")}
"""Packages of each sampler."""

_LIKELIHOOD = Never("PyMC samples a posterior; it maximises no likelihood. Use method='posterior', or another backend.")
_NOT_YET = NotYet("PyMC could; the adapter does not write this part yet.")
_NO_DF = Never("a posterior has no degrees of freedom.")
_NOT_WRITTEN = NotYet("the adapter does not write this family in PyMC yet.")
_FAMILIES: dict[str, Answer] = {
    **{family.label: Yes() for family in all_families()},
    **dict.fromkeys(
        ("skew_normal", "tweedie", "generalised_poisson", "truncated_poisson", "truncated_negative_binomial"),
        _NOT_WRITTEN,
    ),
    "cumulative": NotYet("the adapter does not write the thresholds of ordered responses yet."),
}


class PyMC(Backend):
    """Posterior of a linear or generalised linear mixed model in PyMC, by NUTS.

    The model is written as PyMC's users write it: a variable for each fixed effect with its prior, LKJ priors of
    correlations, group effects with names and coordinates. ``fit.native`` is this ``pymc.Model``, which can be
    extended and sampled again; the draws in ``fit.posterior`` have the names of its variables.

    Attributes:
        conditioning: Off, because priors are in the user's units. Chains start near rough estimates, and the sampler
            adapts to the scales of the parameters, so that the units of the columns do not matter.
        draws: Number of draws kept per chain.
        tune: Number of tuning steps per chain; None for 400 with nutpie and 1000 with other samplers.
        chains: Number of chains.
        cores: Number of chains that run at the same time; None for the number of processors.
        sampler: ``"nutpie"``, ``"pymc"`` (PyMC's own NUTS), ``"numpyro"`` or ``"blackjax"``; None for nutpie if it is
            installed, else PyMC's own. nutpie's compiled functions are kept for models of the same structure.
        parametrization: ``"noncentered"`` writes group effects as multiples of standard normal variables.
            ``"centered"`` draws the coefficients of a level around the fixed effects. None centres the effects of a
            term if the rows of a level explain more than 0.8 of their variance in the median level, by rough
            estimates: centred effects are sampled well where the data say much about each level, and non-centred ones
            where they say little (Papaspiliopoulos, Roberts & Skoeld 2007, Stat. Sci. 22:59-73).
        target_accept: Target acceptance rate of the tuning of the step size; a higher rate is slower and safer. None
            for 0.9.
        retry: Whether to sample once more if R-hat, effective sample sizes or divergences of the first run are out of
            bounds; the result says so. The second run has twice the tuning steps, four times the draws if there were
            too few of them (else twice), and smaller steps after divergences.
        sample_kwargs: Further arguments of ``pymc.sample``, or of ``nutpie.sample`` with nutpie.
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
        reference="Abril-Pla, O., Andreani, V., Carroll, C., Dong, L., Fonnesbeck, C. J., Kochurov, M., Kumar, R., "
        "Lao, J., Luhmann, C. C., Martin, O. A., Osthege, M., Vieira, R., Wiecki, T., & Zinkov, R. (2023). PyMC: A "
        "modern, and comprehensive probabilistic programming framework in Python. PeerJ Computer Science, 9, e1516. "
        "https://doi.org/10.7717/peerj-cs.1516",
        default_method="posterior",
        strengths="most families, compiled and sampled",
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
        residual_covariance=NotYet("the adapter writes independent residuals only."),
    )

    pace: ClassVar[Pace] = Pace(call=20.0, rows=400.0)  # compilation, and 25,000 evaluations of the density
    families: ClassVar[FamilySheet] = FamilySheet(_FAMILIES, _FAMILIES)

    conditioning: bool = False
    draws: Annotated[int, Field(ge=4)] = 1000
    tune: Annotated[int, Field(ge=0)] | None = None
    chains: Annotated[int, Field(ge=1)] = 4
    cores: Annotated[int, Field(ge=1)] | None = None
    sampler: Literal["nutpie", "pymc", "numpyro", "blackjax"] | None = None
    parametrization: Parametrization | None = None
    target_accept: Annotated[float, Field(gt=0, lt=1)] = 0.9
    retry: bool = True
    sample_kwargs: dict[str, Any] = Field(default_factory=dict)

    @field_validator("parametrization", mode="before")
    @classmethod
    def _not_of_bayes(cls, value: object) -> object:
        if value in _MOVED:
            raise ValueError(
                f"{value!r} is no way to write a PyMC model: choose 'noncentered', 'centered' or None. unimix's own "
                "density, with group effects integrated out, is backend='bayes'"
            )
        return value

    @field_validator("sample_kwargs")
    @classmethod
    def _no_option_twice(cls, value: dict[str, Any]) -> dict[str, Any]:
        from unimix.backends.sampling.pymc_nuts import reserved_faults

        faults = reserved_faults(value)
        if faults:
            raise ValueError("; ".join(faults))
        return value

    @field_serializer("sample_kwargs", when_used="json")
    def _in_words(self, value: dict[str, Any]) -> dict[str, Any]:
        """Further arguments as a result keeps them: objects such as functions by their text."""
        return {n: v if isinstance(v, str | int | float | bool | None) else repr(v) for n, v in value.items()}

    def load(self) -> ModuleType:
        """Import PyMC and the sampler.

        Raises:
            EngineNotInstalledError: If PyMC or the sampler is missing.
        """
        engine = super().load()
        needed = _NEEDED.get(self._sampler(), ())
        absent = [p for p in needed if importlib.util.find_spec(p) is None]
        if absent:
            raise EngineNotInstalledError(
                f"sampler={self._sampler()!r} needs {' and '.join(absent)}, which is not installed. "
                + to_type(f"pip install {' '.join(absent)}")
            )
        for package in needed:
            importlib.import_module(package)
        return engine

    def cost(self, design: Design, request: FitRequest) -> Cost:  # noqa: ARG002  the hook's signature
        """Estimate the memory of the draws of group effects, of which there are several copies."""
        size, count = sizes_of(design), self.chains * self.draws
        parts = {
            "the data": 4.0 * size.rows + 30 * size.levels,
            "draws of group effects": 6.0 * count * size.effects,
        }
        return most(parts, self.pace.seconds(design))

    def preview(self, design: Design, request: FitRequest) -> str:
        """Text of the model in statistical notation, and of the sampler."""
        from unimix.backends.sampling.priors import resolve_priors
        from unimix.likelihood.lmm.conditioning import without_offset

        plain = without_offset(design)
        table = resolve_priors(plain, request.priors)
        return self._call(plain, table, self._recipe(design, table)[0])

    def versions(self) -> dict[str, str]:
        """Versions of PyMC, ArviZ and the sampler."""
        extra = self._sampler()
        return super().versions() | ({} if extra == "pymc" else {extra: importlib.metadata.version(extra)})

    def _shows_progress(self, request: FitRequest) -> bool:
        return is_shown(request.progress)

    def _tune(self) -> int:
        return self.tune if self.tune is not None else 400 if self._sampler() == "nutpie" else 1000

    def _sampler(self) -> str:
        return self.sampler or ("nutpie" if importlib.util.find_spec("nutpie") else "pymc")

    def _recipe(self, design: Design, table: PriorTable) -> tuple[Recipe, StartingPoint]:
        from unimix.backends.sampling.pymc_model import Recipe
        from unimix.backends.sampling.pymc_start import rough_estimates, starting_point

        rough = rough_estimates(design)
        chosen = rough.centered
        if self.parametrization is not None:
            chosen = (self.parametrization == "centered",) * len(design.blocks)
        recipe = Recipe(design, table, chosen)
        return recipe, starting_point(recipe, rough)

    def _fit(self, engine: ModuleType, problem: Problem) -> Estimates:
        from unimix.backends.sampling.compiler_warnings import ignore_compiler_warnings
        from unimix.backends.sampling.draws import diagnose, estimates_of_draws, is_sampled_well
        from unimix.backends.sampling.priors import resolve_priors
        from unimix.backends.sampling.pymc_generative import WrittenModel
        from unimix.backends.sampling.pymc_sample import SamplerOptions

        del engine
        ignore_compiler_warnings()
        design, request = problem.design, problem.request
        table = resolve_priors(design, request.priors)
        with keep_interrupts():
            recipe, start = self._recipe(problem.original, table)
            written = WrittenModel.of(recipe)
            model = written.model
            model.get()
        options = SamplerOptions(
            draws=self.draws,
            tune=self._tune(),
            chains=self.chains,
            cores=self.cores,
            target_accept=self.target_accept,
            seed=request.seed,
            progress=self._shows_progress(request),
        )
        sampled = self._sample(recipe, model.get(), start, options)
        sampling, messages = diagnose(design, sampled.posterior, sampled.raw)
        again: dict[str, str] = {}
        if self.retry and not is_sampled_well(sampling):
            again["draws"] = f"of a second run, because of the first: {' '.join(messages)}"
            options = options.for_second_run(sampling)
            sampled = self._sample(recipe, model.get(), start, options)
            sampling, messages = diagnose(design, sampled.posterior, sampled.raw)
        made = estimates_of_draws(
            design,
            sampled,
            table.texts,
            ci_level=request.ci_level,
            call=self._call(design, table, recipe),
            library=self._sampler(),
            diagnosis=(sampling, messages),
            observed=problem.original,
        )
        return replace(
            made,
            provenance={**again, **made.provenance},
            native=model,
            generative=written,
        )

    def _sample(self, recipe: Recipe, model: Any, start: StartingPoint, options: SamplerOptions) -> Sampled:
        from threadpoolctl import threadpool_limits

        from unimix.backends.sampling.pymc_nuts import read_sampled, sample_model

        # Chains run in parallel; if each also used all processors for linear algebra, they would be ten times slower.
        with threadpool_limits(limits=1, user_api="blas"):
            trace = sample_model(recipe, model, start, self._sampler(), options, self.sample_kwargs)
        return read_sampled(recipe, model, trace)

    def _call(self, design: Design, table: PriorTable, recipe: Recipe) -> str:
        from unimix.backends.sampling.draws import written_model

        forms = [
            f"{label} {'centred' if c else 'non-centred'}"
            for label, c in zip(recipe.labels, recipe.centered, strict=True)
        ]
        how = (
            f"NUTS by {self._sampler()}{''.join(f', {form}' for form in forms)}: chains={self.chains}, "
            f"tune={self._tune()}, draws={self.draws}, target_accept={self.target_accept:g}"
        )
        return written_model(design, table, how)
