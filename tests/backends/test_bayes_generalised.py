"""bayes on generalised models: against grids, its prior (calibration), NUTS, and what the result says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from binomial_grid import grid_posterior
from generalised_data import simulate
from scipy import stats

import unimix as um
from unimix.backends.base import FitRequest
from unimix.backends.bayes import Bayes
from unimix.backends.sampling import exact, nuts
from unimix.backends.sampling.priors import resolve_priors
from unimix.design.design import build_design
from unimix.distributions.family import as_family
from unimix.formula.interpreter import parse
from unimix.testing.calibration import CALIBRATIONS, p_values

QUICK = {"sampler": "nuts", "draws": 400, "tune": 300, "chains": 2, "retry": False}


def test_posterior_of_a_binomial_model_is_that_of_a_grid() -> None:
    """Intercept and SD on a grid, the effects by 60 nodes: means within four Monte Carlo errors, SDs within 6 %."""
    k, n = np.array([1, 4, 0, 6, 3, 2, 7, 5]), 8
    data = pd.DataFrame({"y": k / n, "n": n, "g": list("abcdefgh")})
    priors = {"Intercept": um.priors.Normal(0, 1), "sd(g)": um.priors.HalfNormal(1)}
    fit = um.fit("y ~ 1 + (1 | g)", data, "bayes", family="binomial", weights="n", priors=priors, seed=1)
    assert fit.converged
    intercepts, sds, density = grid_posterior(k, n)
    found = fit.posterior.posterior
    for values, margin, name in (
        (intercepts, density.sum(axis=1), "fixed"),
        (sds, density.sum(axis=0), "sd(g)"),
    ):
        draws = found[name].to_numpy().ravel()
        mean = float(values @ margin)
        sd = float(np.sqrt((values - mean) ** 2 @ margin))
        assert fit.status.ess_bulk is not None
        assert abs(draws.mean() - mean) < 4 * sd / np.sqrt(fit.status.ess_bulk)
        assert draws.std() == pytest.approx(sd, rel=0.06)


@pytest.mark.parametrize("family", ["binomial", "negative_binomial"])
def test_it_is_calibrated(family: str) -> None:
    """The rank of the true value among the draws is uniform (:mod:`unimix.testing.calibration`).

    60 data sets find a posterior that is off by one of its standard deviations with a probability above 0.99. All
    families are tried with more data sets by ``python -m benchmarks.calibration``.
    """
    sampler = um.backends.Bayes(draws=150, chains=2, sampler="independence")
    found = p_values(CALIBRATIONS[family].ranks(sampler, data_sets=60, seed=12))
    assert found.min() > 1e-3, found


@pytest.mark.mcmc
@pytest.mark.parametrize(("family", "formula"), [("poisson", "y ~ x + (1 + x | g)"), ("beta", "y ~ x + (1 | g)")])
def test_both_samplers_have_one_posterior(family: str, formula: str) -> None:
    """Two densities written independently, with and without the effects: means within four Monte Carlo errors."""
    data = simulate(as_family(family))
    exact = um.fit(formula, data, "bayes", family=family, seed=1)
    by_nuts = um.fit(formula, data, "bayes", family=family, seed=1, options=QUICK)
    assert "independence" in exact.provenance["sampler"]
    assert "NUTS" in by_nuts.provenance["sampler"]
    assert exact.engine.priors == by_nuts.engine.priors
    assert set(exact.posterior.posterior.data_vars) == set(by_nuts.posterior.posterior.data_vars)
    a, b = exact.draws(4000), by_nuts.draws(800)
    error = 4 * np.sqrt(1 / exact.status.ess_bulk + 1 / by_nuts.status.ess_bulk)
    pairs = [(a.beta, b.beta), (a.parameters, b.parameters)]
    pairs += [(np.sqrt(np.einsum("sii->si", v)), np.sqrt(np.einsum("sii->si", w))) for v, w in
              zip(a.covariances, b.covariances, strict=True)]  # fmt: skip
    pairs += [(v.reshape(len(v), -1), w.reshape(len(w), -1)) for v, w in zip(a.effects, b.effects, strict=True)]
    for ours, other in pairs:
        assert (np.abs(ours.mean(axis=0) - other.mean(axis=0)) < error * other.std(axis=0)).all()
    # the error of an SD of n draws is sd / sqrt(2 n)
    np.testing.assert_allclose(exact.fixed.std_error, by_nuts.fixed.std_error, rtol=error)


@pytest.fixture(scope="module")
def cbpp() -> um.FitResult:
    data = um.load_dataset("cbpp").assign(y=lambda d: d["incidence"] / d["size"])
    return um.fit("y ~ period + (1 | herd)", data, "bayes", family="binomial", weights="size", seed=2)


def test_its_posterior_is_certified_and_asked_like_any_other(cbpp: um.FitResult, tmp_path: Path) -> None:
    assert cbpp.converged
    assert cbpp.certificate().verdict == "certified"
    assert "integrated out by 5 nodes per group" in cbpp.engine.call
    assert float(cbpp.posterior.sample_stats["pareto_k"].max()) < 0.7
    assert cbpp.status.ess_bulk is not None
    assert cbpp.status.ess_bulk > 1000
    assert np.isfinite(cbpp.loo().elpd_loo)
    assert cbpp.posterior_predictive(20, seed=1).shape == (20, 56)
    prior = cbpp.prior_predictive(20, seed=1)
    assert ((prior >= 0) & (prior <= 1)).all()
    means = cbpp.emmeans("period").to_frame()
    assert list(means["period"]) == ["1", "2", "3", "4"]
    file = tmp_path / "fit.json"
    cbpp.to_json(file)
    np.testing.assert_array_equal(um.FitResult.from_json(file).fixed.estimate, cbpp.fixed.estimate)


def test_same_seed_same_draws(cbpp: um.FitResult) -> None:
    data = um.load_dataset("cbpp").assign(y=lambda d: d["incidence"] / d["size"])
    again = um.fit("y ~ period + (1 | herd)", data, "bayes", family="binomial", weights="size", seed=2)
    np.testing.assert_array_equal(again.fixed.estimate, cbpp.fixed.estimate)


def test_a_model_without_groups_is_sampled() -> None:
    """The conjugate posterior of a Poisson rate: exp(Intercept) under a flat prior of the intercept."""
    y = np.random.default_rng(2).poisson(3.0, 25)
    prior = {"Intercept": um.priors.Normal(0, 1000)}
    fit = um.fit("y ~ 1", pd.DataFrame({"y": y}), "bayes", family="poisson", priors=prior, seed=1)
    rate = np.exp(fit.posterior.posterior["fixed"].to_numpy().ravel())
    exact = stats.gamma(y.sum(), scale=1 / len(y))
    assert fit.status.ess_bulk is not None
    assert abs(rate.mean() - exact.mean()) < 4 * exact.std() / np.sqrt(fit.status.ess_bulk)
    np.testing.assert_allclose(np.quantile(rate, [0.1, 0.5, 0.9]), exact.ppf([0.1, 0.5, 0.9]), rtol=0.02)


MANY = "y ~ x + (1 + x + z + v | g) + (1 + x + z + v | h)"


def many_covariances() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    g, h = np.repeat(np.arange(12), 15), np.tile(np.arange(15), 12)
    x, z, v = rng.normal(size=(3, 180))
    y = 1 + x + rng.normal(size=12)[g] * (1 + 0.5 * x) + rng.normal(size=15)[h] + rng.normal(size=180)
    return pd.DataFrame({"y": y, "x": x, "z": z, "v": v, "g": g, "h": h})


def test_the_sampler_is_chosen_by_the_model() -> None:
    """A maximal crossed model with 21 covariance parameters, crossed counts, one factor with few or many effects."""
    data = many_covariances()
    counts = data.assign(y=np.arange(180) % 4)
    request = FitRequest(method="posterior")

    def text(formula: str, frame: pd.DataFrame, family: str = "gaussian") -> str:
        design = build_design(parse(formula), frame, family=family)
        assert Bayes().refusals(design, request) == []
        return Bayes().preview(design, request)

    assert "NUTS by nutpie" in text(MANY, data)
    assert "effects integrated out" in text(MANY, data)
    assert "effects sampled in adapted coordinates" in text("y ~ x + (1 | g) + (1 | h)", counts, "poisson")
    assert "independence sampler" in text("y ~ x + (1 | g) + (1 | h)", data)
    assert "independence sampler" in text("y ~ x + (1 + x | g)", counts, "poisson")
    assert "NUTS" in text("y ~ x + (1 + x + z + v | g)", counts, "poisson")
    forced = Bayes(sampler="independence")
    reasons = forced.refusals(build_design(parse(MANY), data), request)
    assert "21 covariance parameters" in reasons[0]
    assert "'sampler': 'nuts'" in reasons[0]


@pytest.mark.mcmc
def test_nuts_samples_what_the_exact_sampler_refuses() -> None:
    data = many_covariances()
    fit = um.fit(MANY, data, "bayes", seed=1, options={"draws": 100, "tune": 60, "chains": 2, "retry": False})
    assert "NUTS by nutpie" in fit.engine.call
    assert fit.provenance["sampler"].startswith("NUTS")
    assert fit.posterior.posterior["cor(g)"].shape == (2, 100, 6)
    crossed = um.fit(
        "y ~ x + (1 | g) + (1 | h)", data.assign(y=np.arange(180) % 4), "bayes", family="poisson", seed=1,
        options={"draws": 100, "tune": 100, "chains": 2, "retry": False},
    )  # fmt: skip
    assert crossed.engine.backend == "bayes"
    assert crossed.posterior.posterior["effects(h)"].shape == (2, 100, 15, 1)


def test_without_nutpie_the_line_to_type_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("nutpie", "pymc") else find(name))
    assert nuts.installed() == ""
    with pytest.raises(um.EngineNotInstalledError, match=r'needs nutpie.*\n.*pip install "nutpie>=') as caught:
        um.fit(MANY, many_covariances(), Bayes())
    assert "21 covariance parameters" in str(caught.value)
    # nothing else of it needs nutpie
    assert um.fit("y ~ x + (1 | g)", many_covariances(), Bayes(draws=100, chains=2), seed=1).status.n_draws == 200


def test_integrals_that_take_long_give_way_to_nuts(monkeypatch: pytest.MonkeyPatch) -> None:
    data = simulate(as_family("poisson"))
    design = build_design(parse("y ~ x + (1 | g)"), data, family="poisson")
    table = resolve_priors(design, None)
    monkeypatch.setattr(exact, "MOST_SECONDS", 1e-6)
    with pytest.raises(exact.UnsuitedError, match=r"nodes per group would take"):
        exact.sample_exactly(design, table, chains=2, draws=100, seed=1, forced=False)
    sampled = exact.sample_exactly(design, table, chains=2, draws=100, seed=1, forced=True).sampled
    assert sampled.posterior.beta.shape == (200, 2)
    ends = build_design(parse("y ~ x + (1 + x | g)"), data, family="poisson(identity)")
    assert "identity link" in exact.reasons_against(ends, 4000, 300)[0]
