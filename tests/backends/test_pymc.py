from __future__ import annotations

import importlib.util
import os
import signal
import threading
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from slopes_data import simulate

import unimix as um
from unimix.errors import EngineNotInstalledError, OptionError, UnsupportedModelError

pytestmark = [
    pytest.mark.mcmc,
    pytest.mark.skipif(importlib.util.find_spec("pymc") is None, reason="needs pymc"),
]


CALIBRATIONS = int(os.environ.get("UNIMIX_CALIBRATIONS", "25"))
"""Simulated data sets of the calibration; 200 take about two minutes."""

FEW = {"draws": 20, "tune": 20, "retry": False}
"""For what the first steps show: chains that are to be equal are equal from the start, up to rounding."""

SHORT = {"draws": 500, "tune": 300}
"""A Monte Carlo error of about a twentieth of a standard deviation."""

INTERCEPTS = "y ~ x + (1 | g)"


COMPILED_QUICKLY = {"sampler": "pymc", "cores": 1, "chains": 2}
"""PyTensor compiles a model in a few seconds, nutpie in twenty."""


def fit(formula="y ~ x + (1 + x | g)", data=None, *, priors=None, seed=1, weights=None, offset=None, **options):
    data = simulate() if data is None else data
    options = {**COMPILED_QUICKLY, **options}
    return um.fit(
        formula, data, backend="pymc", priors=priors, seed=seed, weights=weights, offset=offset, options=options
    )


def test_same_seed_same_draws_and_global_random_state_untouched():
    np.random.seed(4)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    a, b, other = fit(**FEW), fit(cores=1, **FEW), fit(**FEW, seed=2)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    for name in a.posterior.posterior.data_vars:
        np.testing.assert_array_equal(a.posterior.posterior[name].to_numpy(), b.posterior.posterior[name].to_numpy())
    assert not np.array_equal(a.posterior.posterior["sigma"].to_numpy(), other.posterior.posterior["sigma"].to_numpy())


def test_estimates_are_near_reml_and_the_object_is_named():
    result, reml = fit(draws=1000, tune=500), um.fit("y ~ x + (1 + x | g)", simulate(), backend="statsmodels")
    assert result.converged
    assert result.status.divergences == 0
    off = (result.fixed_effects["estimate"] - reml.fixed_effects["estimate"]) / reml.fixed_effects["std_error"]
    assert np.abs(off).max() < 0.3
    posterior = result.posterior.posterior
    assert list(posterior["fixed"].coords["term"].to_numpy()) == ["Intercept", "x"]
    assert posterior["effects(g)"].dims == ("chain", "draw", "g level", "g term")
    assert posterior["cor(g)"].shape == (2, 1000, 1)
    assert list(posterior["cor(g)"].coords["g pair"].to_numpy()) == ["x, Intercept"]
    effects = posterior["effects(g)"].mean(("chain", "draw")).to_numpy()
    np.testing.assert_allclose(effects, result.group_effects["g"].to_numpy(), atol=0.1)
    assert {"Intercept", "x", "sd(g: Intercept)", "sd(g: x)", "cor(g)", "sigma"} == set(result.engine.priors)
    assert result.engine.priors["Intercept"].endswith("at the mean of the predictors")
    names = {v.name for v in result.native.free_RVs}
    assert {"Intercept (centred)", "x", "covariance(g)", "sigma"} <= names


def assert_same_chain(result, wanted, *, scale=1.0, shift=0.0):
    """Draws of the fixed effects up to rounding, which sends chains other ways only after some hundred steps."""
    ours, theirs = (r.posterior.posterior["fixed"].to_numpy() for r in (result, wanted))
    assert (np.abs(ours * scale - shift - theirs) < 1e-3 * theirs.std(axis=(0, 1))).all()


def test_user_priors_replace_the_defaults_in_the_school_model():
    try:
        school = um.load_dataset("imm10")
    except Exception:  # noqa: BLE001
        pytest.skip("imm10 is not at hand")
    priors = {
        "Intercept": um.priors.Normal(40, 50),
        "homework": um.priors.Normal(0, 10),
        "sd(schid)": um.priors.HalfNormal(50),
        "cor(schid)": um.priors.LKJ(2),
        "sigma": um.priors.HalfCauchy(5),
    }
    quick = {"target_accept": 0.9, "draws": 2000, "tune": 500}
    result = fit("math ~ homework + (1 + homework | schid)", school, priors=priors, **quick)
    assert result.converged, result.status
    assert result.engine.priors == {
        "Intercept": "Normal(40, 50)",
        "homework": "Normal(0, 10)",
        "sd(schid: Intercept)": "HalfNormal(50)",
        "sd(schid: homework)": "HalfNormal(50)",
        "cor(schid)": "LKJ(2)",
        "sigma": "HalfCauchy(5)",
    }
    assert abs(result.fixed_effects.loc["homework", "estimate"] - 2.05) < 0.4
    assert abs(result.fixed_effects.loc["Intercept", "estimate"] - 44.8) < 0.8


def test_wrong_priors_are_refused_all_at_once():
    with pytest.raises(OptionError) as caught:
        fit(
            priors={
                "X": um.priors.Normal(),
                "sd(g)": um.priors.Normal(),
                "cor(g)": um.priors.Normal(),
                "x": um.priors.HalfNormal(),
                "sigma": 3,
            }
        )
    words = str(caught.value)
    for part in ("Did you mean 'x'?", "sd(g: x)", "positive", "needs LKJ", "any number", "give a distribution"):
        assert part in words


def test_linear_model_with_normal_priors_is_the_conjugate_answer():
    rng = np.random.default_rng(3)
    x = rng.normal(size=30)
    data = pd.DataFrame({"x": x, "y": 1 + 2 * x + rng.normal(size=30), "w": rng.uniform(0.5, 2, 30)})
    priors = {
        "Intercept": um.priors.Normal(0, 0.5),
        "x": um.priors.Normal(1, 0.2),
        "sigma": um.priors.Uniform(0.99999, 1.00001),
    }
    result = fit("y ~ x", data, priors=priors, weights="w", draws=2000, tune=500)
    design = np.column_stack([np.ones(30), x])
    precision = np.diag([4.0, 25.0]) + (design.T * data["w"].to_numpy()) @ design
    mean = np.linalg.solve(precision, [0, 25.0] + design.T @ (data["w"] * data["y"]).to_numpy())
    sd = np.sqrt(np.diag(np.linalg.inv(precision)))
    assert np.abs((result.fixed_effects["estimate"] - mean) / sd).max() < 0.1
    np.testing.assert_allclose(result.fixed_effects["std_error"], sd, rtol=0.07)
    np.testing.assert_allclose(result.fixed_effects["lower"], mean - 1.96 * sd, atol=0.15 * sd.max())


def test_a_strong_prior_dominates_tiny_data():
    data = pd.DataFrame({"y": [1.0, 2.0, 4.0, 3.0], "x": [0.0, 1.0, 2.0, 3.5], "g": ["a", "a", "b", "b"]})
    priors = {"x": um.priors.Normal(-5, 0.01), "sd(g)": um.priors.LogNormal(0, 0.01)}
    result = fit("y ~ x + (1 | g)", data, priors=priors, **SHORT, retry=False)
    assert result.fixed_effects.loc["x", "estimate"] == pytest.approx(-5, abs=0.02)
    assert result.variance_components["sdcor"].iloc[0] == pytest.approx(1, abs=0.01)


def test_zero_variance_has_no_divergences():
    rng = np.random.default_rng(8)
    y = rng.normal(size=30).reshape(6, 5)
    y -= y.mean(axis=1, keepdims=True)
    data = pd.DataFrame({"y": y.ravel(), "g": np.repeat(list("abcdef"), 5)})
    result = fit("y ~ 1 + (1 | g)", data, **SHORT)
    assert result.converged
    assert result.status.divergences == 0
    assert np.percentile(result.posterior.posterior["sd(g)"].to_numpy(), 1) < 0.02


def test_offset_crossed_and_intercept_free_models_run():
    data = simulate().assign(o=1000.0)
    crossed = fit("y ~ x + (1 | g) + (1 | h)", data, **FEW)
    assert set(crossed.group_effects) == {"g", "h"}
    shifted = fit("y ~ x + (1 | g) + (1 | h)", data.assign(y=data["y"] + 1000), offset="o", **FEW)
    assert_same_chain(shifted, crossed)
    only = fit("y ~ 0 + h + (0 + x | g)", data.assign(y=data["y"] + 1e6), **FEW)
    assert np.abs(only.fixed_effects["estimate"] - 1e6).max() < 20


def test_short_chains_are_not_called_converged_and_say_what_to_do():
    result = fit(draws=40, tune=30, retry=False)
    assert not result.converged
    assert any("Try draws=" in m for m in result.status.messages)


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_ctrl_c_stops_and_leaves_the_session_usable():
    fit(**FEW)
    timer = threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        fit(draws=500_000)
    timer.join()
    assert fit(**FEW).status.n_draws == 40


def test_nothing_is_printed(capfd):
    fit(**FEW)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


@pytest.mark.slow
def test_simulation_based_calibration():
    """Ranks of the true value among the draws are uniform (Talts et al. 2018, arXiv:1804.06788).

    25 data sets find a posterior that is off by 1.25 of its standard deviations with a probability of 0.98.
    """
    rng = np.random.default_rng(11)
    priors = {
        "Intercept": um.priors.Normal(0, 2),
        "x": um.priors.Normal(0, 1),
        "sd(g)": um.priors.HalfNormal(1),
        "cor(g)": um.priors.LKJ(2),
        "sigma": um.priors.LogNormal(0, 0.3),
    }
    g, x = np.repeat(np.arange(8), 5), rng.normal(size=40) + 1
    ranks = []
    for k in range(CALIBRATIONS):
        beta, sd = rng.normal(size=2) * [2, 1], np.abs(rng.normal(size=2))
        rho, sigma = 2 * rng.beta(2, 2) - 1, np.exp(0.3 * rng.normal())
        b = rng.multivariate_normal([0, 0], np.outer(sd, sd) * [[1, rho], [rho, 1]], size=8)
        y = beta[0] + beta[1] * x + b[g, 0] + b[g, 1] * x + sigma * rng.normal(size=40)
        data = pd.DataFrame({"y": y, "x": x, "g": g.astype(str)})
        quick = {"draws": 150, "tune": 150, "chains": 1, "retry": False, "sampler": "nutpie"}
        quick["parametrization"] = "noncentered"  # one structure, compiled once
        found = fit("y ~ x + (1 + x | g)", data, priors=priors, seed=k, **quick).posterior.posterior
        values = np.concatenate(
            [
                found["fixed"].to_numpy().reshape(150, 2),
                found["sd(g)"].to_numpy().reshape(150, 2),
                found["cor(g)"].to_numpy().reshape(150, 1),
                found["sigma"].to_numpy().reshape(150, 1),
                found["effects(g)"].to_numpy()[:, :, 3].reshape(150, 2),
            ],
            axis=1,
        )[::3]
        ranks.append((values < np.array([*beta, *sd, rho, sigma, *b[3]])).mean(axis=0))
    p_values = [stats.kstest(r, "uniform").pvalue for r in np.array(ranks).T]
    assert min(p_values) > 0.001, p_values


def test_a_first_run_that_failed_is_repeated_and_said_so():
    once = fit(**FEW)
    twice = fit(**{**FEW, "retry": True})
    assert not once.converged
    assert "draws" not in once.provenance
    assert twice.status.n_draws == 4 * once.status.n_draws  # there were too few
    assert once.status.messages[0] in twice.provenance["draws"]


def test_a_second_run_is_longer_where_draws_were_too_few():
    """Slow chains need four times the draws: twice as many left the slopes of MathAchieve at an R-hat of 1.010."""
    from unimix.backends.sampling.pymc_sample import SamplerOptions
    from unimix.design.estimates import Sampling

    options = SamplerOptions(1000, 400, chains=4, cores=None, target_accept=0.9, seed=1, progress=False)
    good = Sampling(rhat=1.001, ess_bulk=900.0, ess_tail=900.0, divergences=0, n_draws=4000, n_chains=4)
    slow = options.for_second_run(replace(good, rhat=1.012))
    assert (slow.draws, slow.tune, slow.target_accept, slow.seed) == (4000, 800, 0.9, 2)
    assert options.for_second_run(replace(good, ess_tail=300.0)).draws == 4000
    diverged = options.for_second_run(replace(good, divergences=3))
    assert (diverged.draws, diverged.target_accept) == (2000, 0.99)


def test_every_prior_is_named_apart():
    found = fit("y ~ x + (1 + x || g)", **FEW)
    assert {"sd(g: Intercept)", "sd(g: x)"} <= set(found.engine.priors)
    data = simulate().rename(columns={"x": "sigma"})
    clash = fit("y ~ sigma + (1 | g)", data, priors={"sigma": um.priors.Normal(0, 1)}, **FEW)
    assert clash.engine.priors["sigma"] == "Normal(0, 1)"
    assert clash.engine.priors["sigma (residual)"].startswith("HalfStudentT")


def test_refusals():
    with pytest.raises(UnsupportedModelError, match="posterior"):
        um.fit("y ~ x + (1 | g)", simulate(), backend="pymc", method="REML")
    for form in ("marginal", "adapted", "auto"):
        with pytest.raises(OptionError, match="backend='bayes'"):
            fit(parametrization=form)
    with pytest.raises(OptionError, match="which is 'draws' here"):
        fit(sample_kwargs={"draws": 5})
    with pytest.raises(OptionError, match="no_such_argument"):
        fit(INTERCEPTS, sample_kwargs={"no_such_argument": 1}, **FEW)


@pytest.mark.parametrize("sampler", ["numpyro", "blackjax"])
def test_a_sampler_that_is_missing_is_refused_with_the_line_to_type(sampler):
    if importlib.util.find_spec(sampler) is not None:
        pytest.skip(f"{sampler} is installed")
    with pytest.raises(EngineNotInstalledError, match="pip install"):
        fit(sampler=sampler)


def test_arguments_of_the_sampler_reach_it():
    taken = []
    fit(INTERCEPTS, sample_kwargs={"callback": lambda trace, draw: taken.append(draw.draw_idx)}, **FEW)
    assert len(taken) == 2 * (20 + 20)
