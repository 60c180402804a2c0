"""The PyMC model as its owner sees it: names, forms, and what PyMC and ArviZ make of model and draws."""

from __future__ import annotations

import functools
from importlib import metadata

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.design.design import build_design
from unimix.errors import OptionError
from unimix.formula.interpreter import parse

pytestmark = [
    pytest.mark.mcmc,
    pytest.mark.filterwarnings("ignore"),
]

TREES = not metadata.version("arviz").startswith("0.")
"""Whether ArviZ is of the generation of PyMC 6, whose pictures have other names."""
OLD = ("plot_trace", "plot_posterior", "plot_density", "plot_violin", "plot_forest", "plot_rank")
NEW = ("plot_trace", "plot_trace_dist", "plot_dist", "plot_ridge", "plot_forest", "plot_rank")
QUICK = {"sampler": "pymc", "cores": 1, "chains": 2, "draws": 30, "tune": 60, "retry": False}
SLOPES = "y ~ x + (1 + x | g)"


def simulate(rows=8, sd=1.2, shift=0.0):
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(12), rows)
    x = rng.normal(size=len(g))
    b = rng.normal(size=(12, 2)) * [sd, 0.6 * sd]
    y = 3 + 0.7 * x + b[g, 0] + b[g, 1] * x + rng.normal(size=len(g))
    return pd.DataFrame({"y": y, "x": x + shift, "g": [f"g{i:02d}" for i in g]})


@functools.cache
def slopes():
    return um.fit(SLOPES, simulate(), backend="pymc", seed=1, options=QUICK, progress=False)


def recipe(formula, data, priors=None):
    from unimix.backends.sampling.priors import resolve_priors
    from unimix.backends.sampling.pymc_model import Recipe
    from unimix.backends.sampling.pymc_start import rough_estimates

    design = build_design(parse(formula), data)
    rough = rough_estimates(design)
    return Recipe(design, resolve_priors(design, priors), rough.centered), rough


def test_draws_have_the_names_shapes_and_coordinates_of_the_model() -> None:
    fit = slopes()
    model, draws = fit.native, fit.posterior.posterior
    assert {v.name for v in (*model.free_RVs, *model.deterministics)} == set(draws.data_vars)
    for variable in (*model.free_RVs, *model.deterministics):
        assert draws[variable.name].shape[2:] == tuple(variable.shape.eval())
    assert draws["effects(g)"].dims[2:] == ("g level", "g term")
    assert list(draws.coords["g level"].to_numpy()) == list(model.coords["g level"])


def test_pymc_predicts_and_computes_the_likelihood_from_the_draws() -> None:
    import arviz as az
    import pymc as pm

    fit = slopes()
    whole = fit.posterior
    own = pm.compute_log_likelihood(whole, model=fit.native, extend_inferencedata=False, progressbar=False)
    np.testing.assert_allclose(own["y"].to_numpy(), whole.log_likelihood["y"].to_numpy(), rtol=1e-8)
    drawn = pm.sample_posterior_predictive(whole, model=fit.native, random_seed=1, progressbar=False)
    theirs, ours = (
        g["y"].mean(("chain", "draw")).to_numpy() for g in (drawn.posterior_predictive, whole.posterior_predictive)
    )
    # 60 replications each, of a residual SD near 1: the difference has a standard error of 0.18
    assert np.abs(theirs - ours).max() < 4.5 * fit.sigma * np.sqrt(2 / 60)
    found = az.loo(whole)
    assert (found.elpd if TREES else found.elpd_loo) == pytest.approx(fit.loo().elpd_loo)
    np.testing.assert_array_equal(whole.observed_data["y"].to_numpy(), simulate()["y"])
    assert whole is fit.posterior


@pytest.mark.parametrize("name", NEW if TREES else OLD)
def test_every_picture_of_arviz_shows_correlated_effects(name: str) -> None:
    import arviz as az
    import matplotlib.pyplot as plt

    getattr(az, name)(slopes().posterior, var_names=["fixed", "sd(g)", "cor(g)", "sigma"])
    plt.close("all")


def test_observed_and_replicated_responses_are_drawn_by_arviz() -> None:
    import arviz as az
    import matplotlib.pyplot as plt

    if TREES:
        az.plot_ppc_dist(slopes().posterior, num_samples=5)
    else:
        az.plot_ppc(slopes().posterior, num_pp_samples=5)
    plt.close("all")


def test_models_whose_numbers_shift_other_columns_are_compiled_apart() -> None:
    """A balanced column has the mean zero and shifts no prior: a model compiled for another has another graph."""
    frame, rng = simulate(), np.random.default_rng(1)
    balanced, far = np.tile([-1.0, 1.0], len(frame) // 2), 100.0 + rng.normal(size=len(frame))
    priors = {"Intercept": um.priors.Normal(0, 5)}
    one, other = (
        recipe("y ~ u + v + (1 | g)", frame.assign(u=u, v=v), priors)[0] for u, v in ((balanced, far), (far, balanced))
    )
    # each moves the intercept's prior by the mean of the one column that is far from zero
    assert [int(np.flatnonzero((r.functionals != r.table.functionals).any(axis=0))[0]) for r in (one, other)] == [2, 1]
    assert one.structure != other.structure
    assert one.structure == recipe("y ~ u + v + (1 | g)", frame.assign(u=balanced, v=far + 1), priors)[0].structure


def test_its_owner_extends_the_model() -> None:
    """A variable that is added is drawn with the others; the model itself stays as it was."""
    import pymc as pm

    fit = um.fit("y ~ x", simulate(), backend="pymc", seed=1, options={**QUICK, "draws": 20}, progress=False)
    with fit.native:
        pm.Deterministic("twice", 2 * fit.native["x"])
        again = pm.sample(20, tune=20, chains=1, cores=1, random_seed=1, progressbar=False, quiet=True)
    np.testing.assert_allclose(again.posterior["twice"], 2 * again.posterior["x"])
    assert "sigma" in fit.model_graph().source


def test_a_compiled_model_is_given_the_data_of_each_fit() -> None:
    """nutpie compiles a structure once; a response that is moved by 100 moves nothing but the intercept, by 100."""
    options = {"sampler": "nutpie", "draws": 100, "tune": 100, "chains": 2, "cores": 2, "retry": False}
    first, second = (
        um.fit("y ~ x", simulate().assign(y=lambda d: d["y"] + move), backend="pymc", seed=1, options=options)  # noqa: B023
        for move in (0.0, 100.0)
    )
    moved = second.fixed.estimate - first.fixed.estimate
    # the residual SD is 1.5, so that a mean of 96 rows has an error of 0.15, of which chains add a small part
    assert moved == pytest.approx([100.0, 0.0], abs=0.5)
    assert second.sigma == pytest.approx(first.sigma, rel=0.1)


def test_a_second_posterior_of_bayes_has_the_same_variables() -> None:
    ours = um.fit(SLOPES, simulate(), backend="bayes", seed=1).posterior.posterior
    theirs = slopes().posterior.posterior
    for name in ours.data_vars:
        assert theirs[name].dims == ours[name].dims
        assert theirs[name].shape[2:] == ours[name].shape[2:]
        for dim in ours[name].dims[2:]:
            assert list(ours.coords[dim].to_numpy()) == list(theirs.coords[dim].to_numpy())


def test_effects_are_centred_where_the_rows_of_a_level_say_much() -> None:
    """With known variances, the share of one level's rows is n sd^2 / (n sd^2 + sigma^2)."""
    many, rough = recipe("y ~ x + (1 | g)", simulate(rows=40, sd=3.0))
    assert many.centered == (True,)
    sd2, residual = float(rough.covariances[0][0, 0]), rough.sigma**2
    assert rough.informed[0] == pytest.approx(40 * sd2 / (40 * sd2 + residual), rel=0.02)
    assert recipe("y ~ x + (1 | g)", simulate(rows=4, sd=0.3))[0].centered == (False,)


def test_a_level_varies_around_the_fixed_effects_of_the_same_columns() -> None:
    model, _ = recipe(SLOPES, simulate(rows=40, sd=3.0))
    assert model.around == [[0, 1]]
    two, _ = recipe("y ~ 0 + x + (1 + x | g)", simulate(rows=40, sd=3.0))
    assert two.around == [[None, 0]]


def test_intercepts_are_sampled_at_the_mean_where_predictors_are_far_from_zero() -> None:
    priors = {"Intercept": um.priors.Normal(0, 1000)}
    near, _ = recipe("y ~ x + (1 | g)", simulate(), priors)
    far, _ = recipe("y ~ x + (1 | g)", simulate(shift=2000.0), priors)
    np.testing.assert_array_equal(near.functionals, np.eye(2))
    assert far.functionals[0, 1] == pytest.approx(2000, rel=0.01)


def test_the_prior_of_an_intercept_that_is_sampled_elsewhere_is_the_users() -> None:
    """The log density of both forms at the same parameters; the change of variables has the Jacobian 1."""
    from unimix.backends.sampling.pymc_model import build_model

    priors = {"Intercept": um.priors.StudentT(4, 5, 20), "x": um.priors.Cauchy(0, 2)}
    far, _ = recipe("y ~ x", simulate(shift=50.0), priors)
    logp = build_model(far).compile_logp(mode="FAST_COMPILE")
    d = far.design
    found = []
    for beta, sigma in (([3.0, 0.1], 1.0), ([-30.0, 0.7], 1.4), ([9.0, -0.2], 0.7)):
        at = far.functionals @ beta
        value = logp({"Intercept (centred)": at[0], "x": at[1], "sigma_log__": np.log(sigma)})
        rows = -0.5 * ((d.y - d.x @ beta) / sigma) ** 2 - np.log(sigma)
        told = priors["Intercept"].log_density(beta[0]) + priors["x"].log_density(beta[1])
        found.append(value - rows.sum() - told - far.table.sigma.log_density(sigma) - np.log(sigma))
    assert np.ptp(found) < 1e-7


def test_reserved_arguments_are_refused_all_at_once() -> None:
    with pytest.raises(OptionError) as caught:
        um.backends.PyMC(sample_kwargs={"random_seed": 1, "model": None})
    assert "'seed'" in str(caught.value)
    assert "'model'" in str(caught.value)


def test_exponentiated_estimates_are_summaries_of_exponentiated_draws() -> None:
    herds = um.load_dataset("cbpp")
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    fit = um.fit(formula, herds, backend="pymc", family="binomial", seed=1, options=QUICK, progress=False)
    ratios = np.exp(fit.posterior.posterior["fixed"].to_numpy().reshape(60, -1))
    table = fit.tidy(exponentiate=True)
    np.testing.assert_allclose(table["estimate"], ratios.mean(axis=0))
    np.testing.assert_allclose(table["std.error"], ratios.std(axis=0, ddof=1))
    np.testing.assert_allclose(table["conf.low"], np.quantile(ratios, 0.025, axis=0))
    counts = fit.posterior.observed_data["y"].to_numpy()
    np.testing.assert_array_equal(counts, herds["incidence"])
    assert fit.posterior.posterior_predictive["y"].dtype == counts.dtype


def test_warnings_of_compilers_are_no_notes_of_a_fit() -> None:
    """numba says of every function that it cannot keep it for another process, on some systems a dozen times a fit."""
    import warnings

    from unimix.backends.capture import captured
    from unimix.backends.sampling.compiler_warnings import ignore_compiler_warnings

    with captured() as notes:
        ignore_compiler_warnings()
        warnings.warn('Cannot cache compiled function "add" as it uses dynamic globals', stacklevel=1)
        warnings.warn("PyTensor could not link to a BLAS installation", stacklevel=1)
        warnings.warn("The chains did not mix", stacklevel=1)
    assert notes == ["UserWarning: The chains did not mix"]
