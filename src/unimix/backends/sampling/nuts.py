"""NUTS on unimix's own log densities, by nutpie or, where that is missing, by PyMC; nothing is compiled.

The group effects of a linear model are integrated out (:mod:`unimix.backends.sampling.density`). Those of a generalised
model, and of a linear one with many effects of crossed factors, are sampled in coordinates that adapt to the
information about each level (:mod:`unimix.backends.sampling.generalised_density`).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from unimix.backends.sampling.density import LogPosterior
from unimix.backends.sampling.draws import Posterior, RawDraws, Sampled, fits_in_memory
from unimix.backends.sampling.generalised_density import GeneralisedPosterior
from unimix.backends.sampling.priors import PriorTable
from unimix.backends.sampling.pymc_sample import SamplerOptions, read_draws, run_nutpie, run_pymc
from unimix.backends.sampling.scales import effects_in_users_units
from unimix.backends.sampling.whitening import LogDensity, whiten
from unimix.design.arrays import Design
from unimix.installation import install_line, requirements
from unimix.likelihood.posterior.effect_draws import draw_all_effects
from unimix.likelihood.posterior.marginal import n_dense
from unimix.likelihood.posterior.marginal_posterior import Reduced

Sampler = Callable[[LogDensity, int, SamplerOptions], RawDraws]

MOST_DENSE = 500
"""Largest number of effects outside the largest factor of a linear model whose effects are integrated out: time grows
with the cube of this number."""


def installed() -> str:
    """Name of the package that samples: nutpie, else pymc; empty if neither is installed."""
    return next((name for name in ("nutpie", "pymc") if importlib.util.find_spec(name) is not None), "")


def with_version(package: str) -> str:
    """Name and version of an installed package."""
    return f"{package} {importlib.metadata.version(package)}"


def line_to_type() -> str:
    """Line that installs nutpie."""
    return install_line([r for r in requirements("pymc") if r.name == "nutpie"])


def integrates(design: Design) -> bool:
    """Whether the group effects of a model are integrated out."""
    return design.is_linear and n_dense(design.blocks) <= MOST_DENSE


def tuning(design: Design) -> tuple[int, float]:
    """Default number of tuning steps and target acceptance rate."""
    return (300, 0.9) if integrates(design) else (500, 0.85)


def sample_posterior(design: Design, table: PriorTable, options: SamplerOptions, package: str = "nutpie") -> Sampled:
    """Draw all parameters and group effects of a model.

    Args:
        design: Design in the user's columns, without an offset if the model is linear.
        table: Priors of all parameters.
        options: Options of the sampler.
        package: Package that samples, ``"nutpie"`` or ``"pymc"``.
    """
    sample = sample_nutpie if package == "nutpie" else sample_pymc
    # Chains may run in parallel; if each also used all processors for linear algebra, they would be ten times slower.
    with threadpool_limits(limits=1, user_api="blas"):
        if integrates(design):
            return _without_effects(LogPosterior(design, table), design, sample, options)
        return _with_effects(GeneralisedPosterior(design, table), design, sample, options)


def _without_effects(target: LogPosterior, design: Design, sample: Sampler, options: SamplerOptions) -> Sampled:
    whitening = whiten(target, target.start())
    raw = sample(whitening.density(target), target.size, options)
    draws = target.draws(whitening.points(raw.points).reshape(-1, target.size))
    kept = fits_in_memory(design, len(draws.sigma))
    rng = np.random.default_rng([options.seed or 0, 1])
    reduced = Reduced(target.columns.design)
    found = draw_all_effects(reduced.products, draws.beta_c, draws.factors_c, draws.sigma_c, rng, keep=kept)
    effects = effects_in_users_units(found, target.maps, kept=kept)
    return Sampled(Posterior(draws.beta, draws.sds, draws.correlations, draws.sigma[:, None], *effects), raw, kept)


def _with_effects(target: GeneralisedPosterior, design: Design, sample: Sampler, options: SamplerOptions) -> Sampled:
    whitening = target.settle()
    raw = sample(whitening.density(target), target.size, options)
    posterior = target.draws(whitening.points(raw.points).reshape(-1, target.size))
    kept = fits_in_memory(design, raw.points[..., 0].size)
    return Sampled(posterior if kept else posterior.without_effects(design), raw, kept)


def sample_nutpie(density: LogDensity, size: int, options: SamplerOptions) -> RawDraws:
    """Draw with nutpie from a Python function, without compilation.

    Args:
        density: Function of a vector of length ``size`` that returns the log density and its gradient.
        size: Length of the vector.
        options: Options of the sampler.
    """
    from nutpie.compiled_pyfunc import from_pyfunc

    model = from_pyfunc(
        size,
        lambda: density,
        lambda *_: lambda x: {"x": x},
        [np.dtype(np.float64)],
        [(size,)],
        ["x"],
        make_initial_point_fn=lambda seed: np.random.default_rng(seed).standard_normal(size),
    )
    # several threads would compete for Python and take twice the time
    return read_draws(run_nutpie(model, options, cores=options.cores or 1), ["x"])


def sample_pymc(density: LogDensity, size: int, options: SamplerOptions) -> RawDraws:
    """Draw with PyMC's own NUTS from a Python function, which PyTensor calls with its gradient.

    Args:
        density: Function of a vector of length ``size`` that returns the log density and its gradient.
        size: Length of the vector.
        options: Options of the sampler.
    """
    import pymc as pm

    from unimix.backends.sampling.density_op import density_op

    rng = np.random.default_rng(options.seed)
    with pm.Model() as model:
        pm.Potential("density", density_op(density)(pm.Flat("x", shape=size)))
    starts = [{"x": rng.standard_normal(size)} for _ in range(options.chains)]
    more = {
        "nuts_sampler": "pymc",  # PyMC 6 would take nutpie
        "initvals": starts,
        "compile_kwargs": {"mode": "FAST_COMPILE"},
        "target_accept": options.target_accept,
    }
    return read_draws(run_pymc(model, options, **more), ["x"])


__all__ = ["installed", "integrates", "line_to_type", "sample_posterior", "tuning"]
