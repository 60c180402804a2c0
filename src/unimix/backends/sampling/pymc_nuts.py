"""Draws from a PyMC model by PyMC's own NUTS, nutpie, numpyro or blackjax.

nutpie's compiled functions are kept for models of the same structure, whose numbers are containers of data: a second
fit in a process compiles nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from unimix.backends.sampling.draws import ModelDraws, Posterior, Sampled, fits_in_memory
from unimix.backends.sampling.pymc_model import Recipe, build_model, dispersion_variables
from unimix.backends.sampling.pymc_sample import SamplerOptions, read_draws, run_nutpie, run_pymc
from unimix.backends.sampling.pymc_start import StartingPoint
from unimix.errors import EngineBrokenError, OptionError
from unimix.stats.correlation_pairs import correlation_matrices
from unimix.versions import installed_version

FloatArray = npt.NDArray[np.float64]

KEPT = 16
"""Number of compiled models that are kept in a process."""
ILL_CONDITIONED = 100.0
"""Condition number of the columns' correlations above which the sampler adapts to correlations, too."""
OWN = {
    "draws": "draws", "tune": "tune", "chains": "chains", "cores": "cores", "target_accept": "target_accept",
    "nuts_sampler": "sampler", "nuts": "target_accept", "random_seed": "seed", "seed": "seed",
    "progressbar": "progress", "progress_bar": "progress",
}  # fmt: skip
"""Arguments of the samplers that have a name of their own here."""
_RESERVED = frozenset(
    {"model", "compiled_model", "return_inferencedata", "return_raw_trace", "blocking", "trace", "step"}
)

_compiled: OrderedDict[Any, Any] = OrderedDict()


def sample_model(
    recipe: Recipe,
    model: Any,
    start: StartingPoint,
    sampler: str,
    options: SamplerOptions,
    more: Mapping[str, Any],
) -> Any:
    """Draw from a model.

    Args:
        recipe: Recipe of the model.
        model: The model itself, of type ``pymc.Model``.
        start: Point about which the chains start.
        sampler: Name of the sampler: nutpie, pymc, numpyro or blackjax.
        options: Options of the sampler.
        more: Further arguments of ``pymc.sample``, or of ``nutpie.sample``.

    Returns:
        The ArviZ object of the sampler.

    Raises:
        OptionError: If the sampler refuses one of the further arguments.
    """
    try:
        if sampler == "nutpie":
            return _by_nutpie(recipe, start, options, more)
        return _by_pymc(recipe, model, start, sampler, options, more)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        named = [n for n in more if n in str(error)]
        if named:
            raise OptionError(
                f"sample_kwargs: {sampler} refuses {', '.join(named)}: {error}. The arguments are those of "
                f"{'nutpie.sample' if sampler == 'nutpie' else 'pymc.sample'}."
            ) from error
        raise


def reserved_faults(more: Mapping[str, Any]) -> list[str]:
    """Faults of ``sample_kwargs``: names that have an option of their own, or that the backend needs itself."""
    faults = [f"sample_kwargs has {n!r}, which is {OWN[n]!r} here" for n in more if n in OWN]
    return faults + [f"sample_kwargs has {n!r}, which this backend sets" for n in more if n in _RESERVED]


def is_ill_conditioned(recipe: Recipe) -> bool:
    """Whether the sampled fixed effects are so correlated that a diagonal mass matrix is not enough."""
    if recipe.design.p < 2:
        return False
    columns = recipe.design.x @ np.linalg.inv(recipe.functionals)
    columns = columns / np.sqrt(np.mean(columns**2, axis=0))
    return bool(np.linalg.cond(columns.T @ columns / len(columns)) > ILL_CONDITIONED)


def _by_nutpie(recipe: Recipe, start: StartingPoint, options: SamplerOptions, more: Mapping[str, Any]) -> Any:
    compiled, order = _compile_nutpie(recipe)

    def initial_point(seed: Any) -> FloatArray:
        point = start.scattered(np.random.default_rng(seed))
        return np.concatenate([point[name].ravel() for name in order])

    own = {"low_rank_modified_mass_matrix": True} if is_ill_conditioned(recipe) else {}
    ready = replace(compiled, initial_point_func=initial_point)
    return run_nutpie(ready, options, cores=options.cores, **{**own, **more})


def _compile_nutpie(recipe: Recipe) -> tuple[Any, list[str]]:
    """The compiled model with the recipe's numbers, and the names of its variables in the order of its vector."""
    import nutpie

    template = build_model(replace(recipe, as_data=True))
    key = recipe.structure
    if key not in _compiled:
        _compiled[key] = nutpie.compile_pymc_model(template)
        while len(_compiled) > KEPT:
            _compiled.popitem(last=False)
    _compiled.move_to_end(key)
    compiled, used = _compiled[key], _names_of_data(_compiled[key])
    known = {d.name: d.get_value() for d in template.data_vars}
    if not used <= known.keys() or "observed" not in used:
        raise EngineBrokenError(
            f"nutpie {installed_version('nutpie')} does not tell which data a compiled model holds, so that another "
            "fit might be given the data of the first one. Type: options={'sampler': 'pymc'}"
        )
    return compiled.with_data(**{n: known[n] for n in used}), [v.name for v in template.free_RVs]


def _names_of_data(compiled: Any) -> set[str]:
    """Names of the containers of data that a model compiled by nutpie uses.

    Up to nutpie 0.16.8 they are the keys of ``shared_data``; later these are random, and another mapping has the names.
    """
    by_variable = getattr(compiled, "shared_var_keys", None)
    return set(compiled.shared_data) if by_variable is None else {v.name for v in by_variable}


def _by_pymc(
    recipe: Recipe,
    model: Any,
    start: StartingPoint,
    sampler: str,
    options: SamplerOptions,
    more: Mapping[str, Any],
) -> Any:
    import pytensor.tensor as pt

    rng = np.random.default_rng(None if options.seed is None else [options.seed, 3])
    names = {v.name: model.rvs_to_values[v].name for v in model.free_RVs}
    starts = [{names[n]: pt.constant(v) for n, v in start.scattered(rng).items()} for _ in range(options.chains)]
    own: dict[str, Any] = {"initvals": starts}
    if sampler == "pymc":
        own["init"] = "adapt_full" if is_ill_conditioned(recipe) and _is_small(start) else "adapt_diag"
    return run_pymc(model, options, nuts_sampler=sampler, **{**own, **more})


def _is_small(start: StartingPoint) -> bool:
    """Whether a dense mass matrix costs little beside the density."""
    return sum(v.size for v in start.values.values()) <= 200


def read_sampled(recipe: Recipe, model: Any, trace: Any) -> Sampled:
    """Read the draws of a model, in the user's units.

    Args:
        recipe: Recipe of the model.
        model: The model itself, which names the variables of the draws and their dimensions.
        trace: ArviZ object of the sampler.
    """
    design, labels = recipe.design, recipe.labels
    names = dispersion_variables(design)
    raw = read_draws(trace, names or ["fixed"])
    shape = raw.diverging.shape

    def chained(name: str) -> FloatArray:
        return np.asarray(trace.posterior[name].transpose("chain", "draw", ...).values, dtype=np.float64)

    def flat(name: str) -> FloatArray:
        values = chained(name)
        return values.reshape(shape[0] * shape[1], *values.shape[2:])

    count = shape[0] * shape[1]
    posterior = Posterior.of_effects(
        flat("fixed") if design.p else np.empty((count, 0)),
        tuple(flat(f"sd({label})") for label in labels),
        tuple(
            correlation_matrices(flat(f"cor({label})"), b.q) if b.q > 1 else np.ones((count, 1, 1))
            for b, label in zip(design.blocks, labels, strict=True)
        ),
        np.stack([flat(name) for name in names], axis=1) if names else np.empty((count, 0)),
        tuple(flat(f"effects({label})") for label in labels),
    )
    kept = fits_in_memory(design, count)
    dims = {n: tuple(own) for n, own in model.named_vars_to_dims.items()}
    levels = {f"{label} level" for label in labels}
    values = {
        v.name: chained(v.name)
        for v in (*model.free_RVs, *model.deterministics)
        if kept or not levels.intersection(dims.get(v.name, ()))
    }
    constant = {d.name: d.get_value() for d in model.data_vars}
    own = ModelDraws(values, {n: dims[n] for n in (*values, *constant) if n in dims}, constant)
    return Sampled(posterior if kept else replace(posterior, effects=None), raw, kept, own)
