"""Generalised models in PyMC: simulated truth, exact posteriors, what the result says, calibration."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from binomial_grid import grid_posterior
from generalised_data import design_of, simulate
from scipy import stats

import unimix as um
from unimix.distributions.family import as_family
from unimix.errors import OptionError

pytestmark = [
    pytest.mark.mcmc,
    pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS"),
]


FEW = {"draws": 20, "tune": 20, "retry": False}
"""For what the first steps show: chains that are to be equal are equal from the start, up to rounding."""

SHORT = {"draws": 500, "tune": 300, "retry": False}
"""A Monte Carlo error of about a twentieth of a standard deviation."""


COMPILED_QUICKLY = {"sampler": "pymc", "cores": 1, "chains": 2}
"""PyTensor compiles a model in a few seconds, nutpie in twenty."""


def fit(formula, data, family, *, priors=None, seed=1, weights=None, offset=None, **options):
    return um.fit(
        formula,
        data,
        backend="pymc",
        family=family,
        priors=priors,
        seed=seed,
        weights=weights,
        offset=offset,
        options={**COMPILED_QUICKLY, **options},
    )


def test_poisson_rate_is_the_conjugate_answer() -> None:
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"y": rng.poisson(3.0, 25), "w": rng.choice([1.0, 3.0], 25), "t": rng.uniform(0.5, 2, 25)})
    data["log_t"] = np.log(data["t"])
    # exp(Intercept) has density rate^-1 exp(log density of the intercept): a wide prior is flat in the intercept
    priors = {"Intercept": um.priors.Normal(0, 1000)}
    result = fit("y ~ 1", data, "poisson", weights="w", offset="log_t", priors=priors, draws=2000, tune=500)
    rate = np.exp(result.posterior.posterior["fixed"].to_numpy().ravel())
    exact = stats.gamma((data["w"] * data["y"]).sum(), scale=1 / (data["w"] * data["t"]).sum())
    assert abs(rate.mean() - exact.mean()) < 0.1 * exact.std()
    assert rate.std() == pytest.approx(exact.std(), rel=0.06)
    np.testing.assert_allclose(np.quantile(rate, [0.1, 0.5, 0.9]), exact.ppf([0.1, 0.5, 0.9]), rtol=0.01)


def test_one_level_binomial_model_is_the_quadrature_answer() -> None:
    """Intercept and SD of a random-intercept model on a grid, the effects integrated out by quadrature."""
    k, n = np.array([1, 4, 0, 6, 3, 2, 7, 5]), 8
    data = pd.DataFrame({"y": k / n, "n": n, "g": list("abcdefgh")})
    priors = {"Intercept": um.priors.Normal(0, 1), "sd(g)": um.priors.HalfNormal(1)}
    result = fit("y ~ 1 + (1 | g)", data, "binomial", weights="n", priors=priors, draws=2000, tune=1000, retry=False)
    intercepts, sds, density = grid_posterior(k, n)
    for values, margin, draws in (
        (intercepts, density.sum(axis=1), result.posterior.posterior["fixed"].to_numpy().ravel()),
        (sds, density.sum(axis=0), result.posterior.posterior["sd(g)"].to_numpy().ravel()),
    ):
        mean = float(values @ margin)
        sd = float(np.sqrt((values - mean) ** 2 @ margin))
        assert abs(draws.mean() - mean) < 0.1 * sd
        assert draws.std() == pytest.approx(sd, rel=0.07)


def test_weights_repeat_rows_and_offsets_shift() -> None:
    data = simulate(as_family("poisson"), groups=8, rows=6)
    doubled = data.loc[np.repeat(data.index, data["w"].astype(int))].reset_index(drop=True)
    priors = {
        "Intercept": um.priors.Normal(0, 2),
        "x": um.priors.Normal(0, 2),
        "sd(g)": um.priors.HalfNormal(1),
    }
    weighted = fit("y ~ x + (1 | g)", data, "poisson", weights="w", priors=priors, **SHORT)
    repeated = fit("y ~ x + (1 | g)", doubled, "poisson", priors=priors, **SHORT)
    spread = repeated.fixed_effects["std_error"]
    off = (weighted.fixed_effects["estimate"] - repeated.fixed_effects["estimate"]) / spread
    assert off.abs().max() < 0.25
    np.testing.assert_allclose(weighted.fixed_effects["std_error"], spread, rtol=0.15)
    plain = fit("y ~ x + (1 | g)", data, "poisson", weights="w", priors=priors, **FEW)
    moved = priors | {"Intercept": um.priors.Normal(-0.7, 2)}
    shifted = fit("y ~ x + (1 | g)", data.assign(c=0.7), "poisson", weights="w", offset="c", priors=moved, **FEW)
    ours, theirs = (r.posterior.posterior["fixed"].to_numpy() for r in (shifted, plain))
    # the same steps up to rounding, which sends chains other ways only after some hundred steps
    assert (np.abs(ours - [-0.7, 0] - theirs) < 1e-3 * theirs.std(axis=(0, 1))).all()


def test_trials_count() -> None:
    data = simulate(as_family("binomial"), groups=10, rows=5)
    few = fit("y ~ x", data, "binomial", weights="trials", **SHORT)
    many = fit("y ~ x", data.assign(t=data["trials"] * 4), "binomial", weights="t", **SHORT)
    np.testing.assert_allclose(few.fixed_effects["std_error"], 2 * many.fixed_effects["std_error"], rtol=0.1)
    data["k"] = np.round(data["y"] * data["trials"])
    data["rest"] = data["trials"] - data["k"]
    pair = fit("cbind(k, rest) ~ x", data, "binomial", **SHORT)
    np.testing.assert_array_equal(pair.fixed_effects["estimate"], few.fixed_effects["estimate"])


def test_estimates_posterior_and_model_are_named() -> None:
    data = simulate(as_family("negative_binomial"))
    result = fit("y ~ x + (1 + x | g)", data, "negative_binomial", **FEW)
    assert {"Intercept", "x", "sd(g: Intercept)", "sd(g: x)", "cor(g)", "theta"} == set(result.engine.priors)
    posterior = result.posterior.posterior
    assert posterior["theta"].dims == ("chain", "draw")
    assert "sigma" not in posterior
    assert result.sigma == 1
    effects = posterior["effects(g)"].mean(("chain", "draw")).to_numpy()
    np.testing.assert_allclose(effects, result.group_effects["g"].to_numpy(), atol=1e-10)
    names = {v.name for v in result.native.free_RVs}
    assert {"Intercept (centred)", "x", "covariance(g)", "theta"} <= names
    assert list(result.native.coords["g level"]) == sorted(set(data["g"]))
    gamma = fit("y ~ x", simulate(as_family("gamma")), "gamma", **FEW)
    dispersion = gamma.posterior.posterior["dispersion"].to_numpy()
    assert gamma.sigma == pytest.approx(np.sqrt(dispersion).mean())


def test_preview_names_family_and_link() -> None:
    design = design_of(as_family("binomial(probit)"), "y ~ x + (1 | g)")
    from unimix.backends.base import FitRequest
    from unimix.backends.pymc import PyMC

    text = PyMC().preview(design, FitRequest(method="posterior"))
    assert "Binomial(trials, mu)" in text
    assert "probit" in text
    assert "offset" in text
    assert "g non-centred" in text
    weighted = PyMC().preview(design_of(as_family("gamma(log)"), "y ~ x"), FitRequest(method="posterior"))
    assert "Gamma(mu, dispersion), each row's log density times w" in weighted


def test_wrong_priors_and_options_are_refused() -> None:
    data = simulate(as_family("student_t"))
    with pytest.raises(OptionError, match="Did you mean 'sigma'") as caught:
        fit(
            "y ~ x + (1 | g)",
            data,
            "student_t",
            priors={"sigmaa": um.priors.HalfNormal(1), "nu": um.priors.Normal(0, 1)},
        )
    assert "nu" in str(caught.value)
    assert "positive" in str(caught.value)
    with pytest.raises(OptionError, match="no parameter"):
        fit("y ~ x", simulate(as_family("poisson")), "poisson", priors={"sigma": um.priors.HalfNormal(1)})


def test_priors_are_used() -> None:
    data = simulate(as_family("student_t"))
    priors = {"nu": um.priors.LogNormal(np.log(30), 0.01), "x": um.priors.Normal(-3, 0.001)}
    result = fit("y ~ x + (1 | g)", data, "student_t", priors=priors, draws=200, tune=200, chains=2, retry=False)
    assert result.posterior.posterior["nu"].to_numpy().mean() == pytest.approx(30, rel=0.02)
    assert result.fixed_effects.loc["x", "estimate"] == pytest.approx(-3, abs=0.01)


def test_same_seed_same_draws() -> None:
    data = simulate(as_family("poisson"), groups=6, rows=4)
    a, b, c = (fit("y ~ x + (1 | g)", data, "poisson", seed=s, **FEW) for s in (3, 3, 4))
    for name in a.posterior.posterior.data_vars:
        np.testing.assert_array_equal(a.posterior.posterior[name].to_numpy(), b.posterior.posterior[name].to_numpy())
    assert not np.array_equal(a.fixed_effects["estimate"], c.fixed_effects["estimate"])


@pytest.mark.slow
def test_simulation_based_calibration() -> None:
    """Ranks of the true value among the draws are uniform (Talts et al. 2018, arXiv:1804.06788).

    40 data sets find a posterior that is off by one of its standard deviations with a probability of 0.98.
    """
    rng = np.random.default_rng(12)
    priors = {"Intercept": um.priors.Normal(0, 1), "x": um.priors.Normal(0, 1), "sd(g)": um.priors.HalfNormal(1)}
    g, x = np.repeat(np.arange(10), 4), rng.normal(size=40)
    ranks = []
    quick = {"draws": 150, "chains": 1, "tune": 150, "retry": False, "sampler": "nutpie"}
    quick["parametrization"] = "noncentered"  # one structure, compiled once
    for k in range(40):
        beta, sd = rng.normal(size=2), abs(rng.normal())
        b = sd * rng.normal(size=10)
        chance = 1 / (1 + np.exp(-(beta[0] + beta[1] * x + b[g])))
        n = np.full(40, 3)
        data = pd.DataFrame({"y": rng.binomial(n, chance) / n, "n": n, "x": x, "g": g.astype(str)})
        found = fit(
            "y ~ x + (1 | g)", data, "binomial", weights="n", priors=priors, seed=k, **quick
        ).posterior.posterior
        values = np.concatenate(
            [
                found["fixed"].to_numpy().reshape(150, 2),
                found["sd(g)"].to_numpy().reshape(150, 1),
                found["effects(g)"].to_numpy()[:, :, 3].reshape(150, 1),
            ],
            axis=1,
        )[::3]
        ranks.append((values < np.array([*beta, sd, b[3]])).mean(axis=0))
    p_values = [stats.kstest(r, "uniform").pvalue for r in np.array(ranks).T]
    assert min(p_values) > 0.001, p_values
