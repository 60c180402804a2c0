"""Posteriors under other priors without sampling again, and their sensitivity to priors and likelihood."""

from __future__ import annotations

import functools
import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import unimix as um

P = um.priors
QUICK = {"sampler": "pymc", "cores": 1, "chains": 2}
"""PyTensor compiles a model in a few seconds, nutpie in twenty."""
FORMULA = "Reaction ~ Days + (1 + Days | Subject)"
OLD = {
    "Intercept": P.Normal(250, 50), "coefficients": P.Normal(0, 20), "sd": P.HalfNormal(50), "cor": P.LKJ(2),
    "sigma": P.HalfNormal(50),
}  # fmt: skip
NEW = {**OLD, "Days": P.StudentT(4, 8, 2), "sd(Subject: Days)": P.HalfNormal(5), "cor": P.LKJ(4)}


@functools.cache
def sleep_fit() -> um.FitResult:
    return um.fit(FORMULA, um.load_dataset("sleepstudy"), "bayes", priors=OLD, seed=1, options={"draws": 2000})


def assert_same_posterior(a: um.FitResult, b: um.FitResult) -> None:
    """Means within five Monte Carlo errors, SDs within 10 %, of every parameter and group effect."""
    error = 5 * np.sqrt(1 / a.status.ess_bulk + 1 / b.status.ess_bulk)
    for name in b.posterior.posterior.data_vars:
        ours, other = (f.posterior.posterior[name].to_numpy() for f in (a, b))
        ours, other = (v.reshape(v.shape[0] * v.shape[1], -1) for v in (ours, other))
        sd = other.std(axis=0)
        assert (np.abs(ours.mean(axis=0) - other.mean(axis=0)) < error * sd).all(), name
        np.testing.assert_allclose(ours.std(axis=0), sd, rtol=0.1, err_msg=name)


def test_it_is_the_posterior_that_is_sampled_under_the_other_priors() -> None:
    found = sleep_fit().reweighted(NEW)
    again = um.fit(FORMULA, um.load_dataset("sleepstudy"), "bayes", priors=NEW, seed=2, options={"draws": 2000})
    assert_same_posterior(found, again)
    assert found.engine.priors == again.engine.priors
    error = np.hypot(found.log_evidence_error, again.log_evidence_error)
    assert abs(found.log_evidence - again.log_evidence) < 5 * error
    assert abs(found.log_evidence - sleep_fit().log_evidence) > 20 * error  # the priors do matter
    # the sizes count copies as one draw
    assert found.status.ess_bulk < sleep_fit().status.ess_bulk
    assert found.provenance["draws"].startswith("reweighted to other priors, Pareto k")
    assert found.certificate().verdict == "certified"
    assert found.prior_predictive(50, seed=1).shape == (50, 180)
    # what fits again, fits under the new priors
    assert um.refit(found).engine.priors == again.engine.priors
    assert um.FitResult.from_json(found.to_json()) == found
    assert found.reweighted(OLD).fixed.estimate == pytest.approx(sleep_fit().fixed.estimate, rel=0.02)


def test_of_a_binomial_model() -> None:
    data = um.load_dataset("cbpp")
    call = {"family": "binomial", "backend": "bayes"}
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    old = um.fit(formula, data, seed=1, **call)
    priors = {"period": P.Normal(-1, 0.5), "sd(herd)": P.HalfNormal(0.5)}
    assert_same_posterior(old.reweighted(priors), um.fit(formula, data, priors=priors, seed=2, **call))


def test_what_the_draws_do_not_show_is_refused() -> None:
    fit = sleep_fit()
    with pytest.raises(um.UnimixError, match=r"Pareto k of the importance weights is(.|\n)*Sample again:\n    um.fit"):
        fit.reweighted({**OLD, "Days": P.Normal(40, 0.5)})
    with pytest.raises(um.UnimixError, match="exclude all draws"):
        fit.reweighted({**OLD, "sigma": P.Uniform(200, 300)})
    with pytest.raises(um.OptionError, match="Did you mean 'Days'"):
        fit.reweighted({"days": P.Normal(0, 1)})
    with pytest.raises(um.UnimixError, match="loaded from JSON, which keeps no draws"):
        um.FitResult.from_json(fit.to_json()).reweighted(NEW)
    with pytest.raises(um.DataError, match=r"does not keep its priors as distributions\. Fit the model again"):
        pickle.loads(pickle.dumps(fit)).reweighted(NEW)
    plain = um.fit(FORMULA, um.load_dataset("sleepstudy"))
    for ask in (plain.prior_sensitivity, lambda: plain.reweighted(NEW)):
        with pytest.raises(um.UnimixError, match="pls does not sample"):
            ask()
    with pytest.raises(um.UnimixError, match=r"There is no fit\.native: the draws were reweighted"):
        _ = fit.reweighted(NEW).native


def test_a_prior_that_excludes_many_draws_truncates() -> None:
    """A uniform prior of sigma that ends at its median: no draw beyond, and half of the prior's density within."""
    fit = sleep_fit()
    sigma = fit.posterior.posterior["sigma"].to_numpy()
    middle = float(np.median(sigma))
    flat = {**OLD, "sigma": P.Uniform(0, 100)}
    whole, half = fit.reweighted(flat), fit.reweighted({**OLD, "sigma": P.Uniform(0, middle)})
    assert float(half.posterior.posterior["sigma"].max()) <= middle
    share = float((whole.posterior.posterior["sigma"] <= middle).mean())
    # p(y | half) / p(y | whole) = P(sigma < middle | y) / P(sigma < middle)
    wanted = np.log(share) - np.log(middle / 100)
    assert half.log_evidence - whole.log_evidence == pytest.approx(wanted, abs=0.1)


def test_sensitivity_is_that_of_exact_normal_posteriors() -> None:
    """A mean with known sigma: the distance of normal distributions by numerical integration; 15 % of it is noise."""
    rng = np.random.default_rng(1)
    y = rng.normal(0, 1, 20)
    priors = {"Intercept": P.Normal(1.5, 0.3), "sigma": P.Uniform(0.9999, 1.0001)}
    fit = um.fit("y ~ 1", pd.DataFrame({"y": y}), "bayes", priors=priors, seed=1, options={"draws": 5000})
    found = fit.prior_sensitivity()

    def posterior(by_prior: float, by_likelihood: float) -> tuple[float, float]:
        precision = by_prior / 0.3**2 + by_likelihood * 20
        return (by_prior * 1.5 / 0.3**2 + by_likelihood * y.sum()) / precision, precision**-0.5

    def distance(p: tuple[float, float], q: tuple[float, float]) -> float:
        """Cumulative Jensen-Shannon distance of two normal distributions (Nguyen & Vreeken 2015), the larger side."""
        x = np.linspace(-3, 4, 40_001)
        sides = []
        for sign in (1, -1):
            a, b = (stats.norm.cdf(sign * (x - m) / s) for m, s in (p, q))
            middle = (a + b) / 2
            with np.errstate(divide="ignore", invalid="ignore"):
                one = np.nansum(a * np.log2(a / middle)) + np.sum(b - a) / (2 * np.log(2))
                two = np.nansum(b * np.log2(b / middle)) + np.sum(a - b) / (2 * np.log(2))
            # the integrals of the distribution functions reach as far as the draws do
            low, high = (np.quantile(draws, e) for e in (0, 1))
            reach = (x > low) & (x < high) if sign == 1 else (-x > -high) & (-x < -low)
            sides.append(np.sqrt((one + two) / np.sum((a + b)[reach])))
        return max(sides)

    draws = fit.posterior.posterior["fixed"].to_numpy().ravel()
    for name, powers in {"prior": lambda a: (a, 1), "likelihood": lambda a: (1, a)}.items():
        total = sum(distance(posterior(1, 1), posterior(*powers(a))) for a in (1 / 1.01, 1.01))
        assert found.loc["Intercept", name] == pytest.approx(total / (2 * np.log2(1.01)), rel=0.15)
    assert found.loc["Intercept", "diagnosis"].startswith("prior and data pull in different directions")


def test_diagnoses() -> None:
    """A strong prior, weak data; and a weak prior, whose parameters are not named."""
    fit = sleep_fit()
    assert (fit.prior_sensitivity()["diagnosis"] == "").all()
    strong = um.fit(
        FORMULA, um.load_dataset("sleepstudy"), "bayes", priors={**OLD, "Days": P.Normal(10, 0.2)}, seed=1
    ).prior_sensitivity()
    assert strong.loc["Days", "diagnosis"] == "strong prior, or data that say little"
    assert strong.loc["sigma", "diagnosis"] == ""
    assert "Pareto k" in strong.notes[0]


@pytest.mark.mcmc
def test_draws_of_pymc_are_reweighted_with_the_variables_of_its_model() -> None:
    """Against bayes under the other priors, and the sensitivities against those of bayes within their noise."""
    data = um.load_dataset("sleepstudy")
    formula = "Reaction ~ Days + (1 | Subject)"
    old = {k: v for k, v in OLD.items() if k != "cor"}
    new = {**old, "Days": P.Normal(8, 1.5)}
    theirs = um.fit(formula, data, "pymc", priors=old, seed=1, progress=False, options=QUICK)
    found = theirs.reweighted(new)
    own = um.fit(formula, data, "bayes", priors=new, seed=1)
    assert_same_posterior(found, own)
    assert set(found.posterior.posterior.data_vars) == set(theirs.posterior.posterior.data_vars)
    np.testing.assert_array_equal(
        found.posterior.posterior["Days"].to_numpy(), found.posterior.posterior["fixed"].sel(term="Days").to_numpy()
    )
    assert float(found.native["Days"].owner.inputs[-1].eval()) == 1.5  # the model has the other priors
    a, b = found.prior_sensitivity(), own.prior_sensitivity()
    np.testing.assert_allclose(a["prior"], b["prior"], atol=0.03)
    # the Intercept hardly depends on the likelihood, and the chains of PyMC have a third of the draws of bayes
    np.testing.assert_allclose(a["likelihood"], b["likelihood"], rtol=0.3, atol=0.08)
