from __future__ import annotations

import functools
import importlib.util
import os
import signal
import threading

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import unimix as um
from unimix.design.design import build_design
from unimix.errors import OptionError, UnsupportedModelError
from unimix.formula.interpreter import parse
from unimix.likelihood.posterior.marginal import cross_products, log_density

pytestmark = [
    pytest.mark.mcmc,
    pytest.mark.skipif(importlib.util.find_spec("pymc") is None, reason="needs pymc"),
]


CALIBRATIONS = int(os.environ.get("UNIMIX_CALIBRATIONS", "25"))
"""Simulated data sets of the calibration; 200 take about two minutes."""

FEW = {"draws": 20, "tune": 20, "retry": False}
"""For what the first steps show: chains that are to be equal are equal from the start, up to rounding."""

SHORT = {"draws": 500, "tune": 200, "chains": 2}
"""A Monte Carlo error of about a twentieth of a standard deviation."""

INTERCEPTS = "y ~ x + (1 | g)"


def simulate(seed=0, groups=14, rows=8, slope_sd=0.5):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), rows)
    x = rng.normal(size=len(g)) + 2
    b = rng.normal(size=(groups, 2)) * [1.2, slope_sd]
    y = 3 + 0.7 * x + b[g, 0] + b[g, 1] * x + rng.normal(size=len(g))
    return pd.DataFrame({"y": y, "x": x, "g": [f"g{i:02d}" for i in g], "h": [f"h{i % 5}" for i in range(len(g))]})


def fit(formula="y ~ x + (1 + x | g)", data=None, *, priors=None, seed=1, weights=None, offset=None, **options):
    data = simulate() if data is None else data
    return um.fit(
        formula, data, backend="pymc", priors=priors, seed=seed, weights=weights, offset=offset, options=options
    )


@functools.cache
def intercepts():
    return fit(INTERCEPTS, **SHORT)


def means_and_errors(result):
    """Posterior means and standard deviations of all parameters but the effects."""
    found = result.posterior.posterior
    names = [n for n in found.data_vars if not n.startswith("effects")]
    values = [found[n].to_numpy().reshape(found.sizes["chain"] * found.sizes["draw"], -1) for n in names]
    table = np.concatenate(values, axis=1)
    return table.mean(axis=0), table.std(axis=0)


def assert_same_posterior(a, b, tolerance=0.15):
    mean_a, sd_a = means_and_errors(a)
    mean_b, sd_b = means_and_errors(b)
    varies = sd_a > 1e-9
    np.testing.assert_array_less(np.abs(mean_a - mean_b)[varies] / sd_a[varies], tolerance)
    np.testing.assert_allclose(sd_b[varies], sd_a[varies], rtol=0.2)


def target(formula, priors=None, data=None):
    from unimix.backends.sampling.density import LogPosterior
    from unimix.backends.sampling.priors import resolve_priors

    design = build_design(parse(formula), simulate() if data is None else data)
    table = resolve_priors(design, priors)
    return design, table, LogPosterior(design, table)


DENSITIES = [
    ("y ~ x", None),
    ("y ~ x + (1 | g)", {"sd(g)": um.priors.Uniform(0.5, 9), "x": um.priors.StudentT(3, 0, 2)}),
    ("y ~ x + (1 | g)", {"sd(g)": um.priors.Gamma(2, 1), "sigma": um.priors.LogNormal(0, 1)}),
    ("y ~ x + (1 + x | g)", {"cor(g)": um.priors.LKJ(2.5), "sd(g)": um.priors.Exponential(1)}),
    ("y ~ x + (1 + x | g)", {"cor(g)": um.priors.LKJ(2.5), "sd(g: x)": um.priors.Uniform(0, 5)}),
    ("y ~ x + (1 + x + I(x^2) | g)", {"cor(g)": um.priors.LKJ(1.5)}),
    ("y ~ x + (1 + x || g) + (1 | h)", None),
]


@pytest.mark.parametrize(("formula", "priors"), DENSITIES)
def test_gradient_equals_finite_differences(formula, priors):
    _, _, function = target(formula, priors)
    theta, h = 0.4 * np.random.default_rng(2).normal(size=function.size), 1e-6
    gradient = function(theta)[1]
    numeric = [(function(theta + h * e)[0] - function(theta - h * e)[0]) / (2 * h) for e in np.eye(function.size)]
    np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-5 * np.abs(gradient).max())


@pytest.mark.parametrize(("formula", "priors"), DENSITIES)
def test_density_is_that_of_the_users_parameters_times_the_jacobian(formula, priors):
    design, table, function = target(formula, priors)

    def parameters(theta):
        draws = function.draws(theta[None])
        lower = [r[0][np.tril_indices(r.shape[1], -1)] for r in draws.correlations]
        return draws, np.concatenate([draws.beta[0], *(s[0] for s in draws.sds), draws.sigma, *lower])

    def expected(theta):
        draws, _ = parameters(theta)
        factors = [
            np.linalg.cholesky(s[0][:, None] * r[0] * s[0]) for s, r in zip(draws.sds, draws.correlations, strict=True)
        ]
        total = log_density(cross_products(design), draws.beta[0], factors, float(np.log(draws.sigma[0])))[0]
        for prior, value in zip(table.fixed, table.functionals @ draws.beta[0], strict=True):
            total += prior.log_density(value)
        for own, sd, lkj, r in zip(table.sds, draws.sds, table.correlations, draws.correlations, strict=True):
            total += sum(p.log_density(v) for p, v in zip(own, sd[0], strict=True))
            total += lkj.log_density(r[0]) if lkj is not None else 0
        h = 1e-6
        jacobian = [(parameters(theta + h * e)[1] - parameters(theta - h * e)[1]) / (2 * h) for e in np.eye(len(theta))]
        return total + table.sigma.log_density(draws.sigma[0]) + np.linalg.slogdet(np.array(jacobian))[1]

    rng = np.random.default_rng(5)
    points = 0.4 * rng.normal(size=(3, function.size)) + function.start()
    differences = [function(t)[0] - expected(t) for t in points]
    assert np.ptp(differences) < 1e-4


def test_same_seed_same_draws_and_global_random_state_untouched():
    np.random.seed(4)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    a, b, other = fit(**FEW), fit(cores=1, **FEW), fit(**FEW, seed=2)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    for name in a.posterior.posterior.data_vars:
        np.testing.assert_array_equal(a.posterior.posterior[name].to_numpy(), b.posterior.posterior[name].to_numpy())
    assert not np.array_equal(a.posterior.posterior["sigma"].to_numpy(), other.posterior.posterior["sigma"].to_numpy())


def test_estimates_are_near_reml_and_the_object_is_named():
    result, reml = fit(), um.fit("y ~ x + (1 + x | g)", simulate(), backend="statsmodels")
    assert result.converged
    assert result.status.divergences == 0
    off = (result.fixed_effects["estimate"] - reml.fixed_effects["estimate"]) / reml.fixed_effects["std_error"]
    assert np.abs(off).max() < 0.3
    posterior = result.posterior.posterior
    assert list(posterior["fixed"].coords["term"].to_numpy()) == ["Intercept", "x"]
    assert posterior["effects(g)"].dims == ("chain", "draw", "g level", "g term")
    assert posterior["cor(g)"].shape == (4, 1000, 2, 2)
    effects = posterior["effects(g)"].mean(("chain", "draw")).to_numpy()
    np.testing.assert_allclose(effects, result.group_effects["g"].to_numpy(), atol=0.1)
    assert {"Intercept", "x", "sd(g: Intercept)", "sd(g: x)", "cor(g)", "sigma"} == set(result.engine.priors)
    assert result.engine.priors["Intercept"].endswith("at the mean of the predictors")
    names = {v.name for v in result.native.free_RVs}
    assert {"Intercept", "x", "sd(g: Intercept)", "sigma"} <= names


def assert_same_chain(result, wanted, *, scale=1.0, shift=0.0):
    """Draws of the fixed effects up to rounding, which sends chains other ways only after some hundred steps."""
    ours, theirs = (r.posterior.posterior["fixed"].to_numpy() for r in (result, wanted))
    assert (np.abs(ours * scale - shift - theirs) < 1e-3 * theirs.std(axis=(0, 1))).all()


def test_units_do_not_matter():
    data = simulate()
    plain = fit(data=data, **FEW)
    other = fit(data=data.assign(y=data["y"] * 1e-6, x=data["x"] * 1e6), **FEW)
    assert_same_chain(other, plain, scale=np.array([1e6, 1e12]))
    np.testing.assert_allclose(other.sigma * 1e6, plain.sigma, rtol=1e-3)
    assert_same_chain(fit(data=data.assign(y=data["y"] + 1e6), **FEW), plain, shift=np.array([1e6, 0]))


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
    result = fit("math ~ homework + (1 + homework | schid)", school, priors=priors)
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
    result = fit("y ~ x", data, priors=priors, weights="w")
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


def test_pymc_sampler_agrees_with_nutpie():
    assert_same_posterior(intercepts(), fit(INTERCEPTS, sampler="pymc", cores=1, **SHORT), tolerance=0.25)


@pytest.mark.slow
def test_sampling_the_effects_gives_the_same_posterior():
    """Compiled by nutpie; test_pymc_generalised_density.py proves the density of other models as written."""
    marginal, written = intercepts(), fit(INTERCEPTS, parametrization="noncentered", **SHORT, retry=False)
    assert_same_posterior(marginal, written, tolerance=0.25)
    spread = marginal.group_effects_sd["g"].to_numpy()
    off = (written.group_effects["g"] - marginal.group_effects["g"]).to_numpy() / spread
    assert np.abs(off).max() < 0.3


def test_offset_crossed_and_intercept_free_models_run():
    data = simulate().assign(o=1000.0)
    crossed = fit("y ~ x + (1 | g) + (1 | h)", data, **FEW)
    assert set(crossed.group_effects) == {"g", "h"}
    shifted = fit("y ~ x + (1 | g) + (1 | h)", data.assign(y=data["y"] + 1000), offset="o", **FEW)
    assert_same_chain(shifted, crossed)
    only = fit("y ~ 0 + h + (0 + x | g)", data.assign(y=data["y"] + 1e6), **FEW)
    assert np.abs(only.fixed_effects["estimate"] - 1e6).max() < 20


def test_short_chains_are_not_called_converged_and_say_what_to_do():
    result = fit(draws=40, tune=30, chains=2)
    assert not result.converged
    assert any("Try draws=" in m for m in result.status.messages)


def test_refusals():
    with pytest.raises(UnsupportedModelError, match="posterior"):
        um.fit("y ~ x + (1 | g)", simulate(), backend="pymc", method="REML")
    with pytest.raises(OptionError, match="noncentered"):
        fit(sampler="numpyro")
    n = 4000
    rng = np.random.default_rng(0)
    big = pd.DataFrame({"y": rng.normal(size=n), "g": np.arange(n) // 2, "h": rng.permutation(n) // 2})
    big[["g", "h"]] = big[["g", "h"]].astype(str)
    with pytest.raises(UnsupportedModelError, match="effects outside the largest factor"):
        fit("y ~ 1 + (1 | g) + (1 | h)", big)


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_ctrl_c_stops_and_leaves_the_session_usable():
    fit(**FEW)
    timer = threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        fit(draws=500_000)
    timer.join()
    assert fit(**FEW).status.n_draws == 80


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
        quick = {"draws": 150, "tune": 120, "chains": 1, "retry": False}
        found = fit("y ~ x + (1 + x | g)", data, priors=priors, seed=k, **quick).posterior.posterior
        values = np.concatenate(
            [
                found["fixed"].to_numpy().reshape(150, 2),
                found["sd(g)"].to_numpy().reshape(150, 2),
                found["cor(g)"].to_numpy()[..., 0, 1].reshape(150, 1),
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
    assert twice.status.n_draws == 2 * once.status.n_draws
    assert once.status.messages[0] in twice.provenance["draws"]


def test_every_prior_is_named_apart():
    found = fit("y ~ x + (1 + x || g)", **FEW)
    assert {"sd(g: Intercept)", "sd(g: x)"} <= set(found.engine.priors)
    data = simulate().rename(columns={"x": "sigma"})
    clash = fit("y ~ sigma + (1 | g)", data, priors={"sigma": um.priors.Normal(0, 1)}, **FEW)
    assert clash.engine.priors["sigma"] == "Normal(0, 1)"
    assert clash.engine.priors["sigma (residual)"].startswith("HalfStudentT")
