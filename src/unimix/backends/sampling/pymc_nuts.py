"""Draws from a PyMC model by PyMC's own NUTS, nutpie, numpyro or blackjax.

nutpie's compiled functions are kept for models of the same structure, whose numbers are containers of data: a second
fit in a process compiles nothing.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from unimix.backends.interrupts import keep_interrupts
from unimix.backends.sampling.draws import ModelDraws, Posterior, Sampled, fits_in_memory
from unimix.backends.sampling.pymc_model import Recipe, build_model, dispersion_variables
from unimix.backends.sampling.pymc_sample import SamplerOptions, read_draws, run_nutpie, run_pymc
from unimix.backends.sampling.pymc_start import StartingPoint
from unimix.errors import EngineBrokenError, OptionError, did_you_mean
from unimix.installation import installed_version
from unimix.stats.correlation_pairs import correlation_matrices

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
OF_NUTS = frozenset(
    {"max_treedepth", "early_max_treedepth", "step_scale", "Emax", "adapt_step_size", "gamma", "k", "t0"}
)
"""Further arguments of PyMC's own NUTS."""
MOST_FULL = 200
"""Largest number of variables for which a dense mass matrix costs little beside the density."""
WEIGHT = 10
"""Number of draws that the scales of the starting point count for, as in ``pymc.sample``."""
RESERVED = frozenset(
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
    _refuse_unknown(sampler, more)
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


def _refuse_unknown(sampler: str, more: Mapping[str, Any]) -> None:
    """Refuse arguments that the sampler would ignore in silence."""
    if sampler == "nutpie":
        import nutpie

        function, extra = nutpie.sample, frozenset[str]()
    else:
        import pymc as pm

        function, extra = pm.sample, OF_NUTS if sampler == "pymc" else frozenset[str]()
    known = (set(inspect.signature(function).parameters) | extra) - OWN.keys() - RESERVED
    unknown = [n for n in more if n not in known]
    if unknown:
        hints = " ".join(f"{n!r} is no argument of it.{did_you_mean(n, sorted(known))}" for n in unknown)
        raise OptionError(f"sample_kwargs goes to {function.__module__.partition('.')[0]}.sample: {hints}")


def reserved_faults(more: Mapping[str, Any]) -> list[str]:
    """Faults of ``sample_kwargs``: names that have an option of their own, or that the backend needs itself."""
    faults = [f"sample_kwargs has {n!r}, which is {OWN[n]!r} here" for n in more if n in OWN]
    return faults + [f"sample_kwargs has {n!r}, which this backend sets" for n in more if n in RESERVED]


def is_ill_conditioned(recipe: Recipe) -> bool:
    """Whether the sampled fixed effects are so correlated that a diagonal mass matrix is not enough."""
    if recipe.design.p < 2:
        return False
    columns = recipe.design.x @ np.linalg.inv(recipe.functionals)
    columns = columns / np.sqrt(np.mean(columns**2, axis=0))
    return bool(np.linalg.cond(columns.T @ columns / len(columns)) > ILL_CONDITIONED)


def _by_nutpie(recipe: Recipe, start: StartingPoint, options: SamplerOptions, more: Mapping[str, Any]) -> Any:
    with keep_interrupts():
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
    import pymc as pm

    start = start.in_order([v.name for v in model.free_RVs])
    rng = np.random.default_rng(None if options.seed is None else [options.seed, 3])
    names = {v.name: model.rvs_to_values[v].name for v in model.free_RVs}
    starts = [
        dict(_initial_value(n, names[n], v) for n, v in start.scattered(rng).items()) for _ in range(options.chains)
    ]
    given = {"initvals": starts, **more}
    if sampler != "pymc" or "init" in more:
        return run_pymc(model, options, nuts_sampler=sampler, target_accept=options.target_accept, **given)
    own = {n: given.pop(n) for n in OF_NUTS & given.keys()}
    with model, keep_interrupts():
        step = pm.NUTS(
            potential=_potential(recipe, start),
            target_accept=options.target_accept,
            **{**given.get("compile_kwargs", {}), **own},
        )
    return run_pymc(model, options, step=step, **given)


def _initial_value(name: str, value_name: str, start: FloatArray) -> tuple[str, Any]:
    """Name and value from which PyMC starts a variable; transformed values go by the name of the value."""
    import pytensor.tensor as pt

    if value_name.endswith("_cholesky_corr__"):  # PyMC 6 finds no variable by this name: uncorrelated, as in start
        return name, np.eye(round((1 + np.sqrt(1 + 8 * start.size)) / 2))
    return value_name, pt.constant(start)


def _potential(recipe: Recipe, start: StartingPoint) -> Any:
    """Mass matrix that is adapted from the scales of the starting point, whatever the units of the columns."""
    from pymc.step_methods.hmc.quadpotential import QuadPotentialDiagAdapt, QuadPotentialFullAdapt

    mean = np.concatenate([v.ravel() for v in start.values.values()])
    variances = np.concatenate([s.ravel() for s in start.scales.values()]) ** 2
    if is_ill_conditioned(recipe) and len(mean) <= MOST_FULL:
        return QuadPotentialFullAdapt(len(mean), mean, np.diag(variances), WEIGHT)
    return QuadPotentialDiagAdapt(len(mean), mean, variances, WEIGHT)


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
    return Sampled(posterior if kept else posterior.without_effects(design), raw, kept, own)
