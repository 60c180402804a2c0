"""Responses from the prior before a fit: against closed-form moments, and what is refused."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from scipy import integrate, special, stats

import unimix as um

P = um.priors
N = 4000


def rows() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"g": np.repeat([f"s{k}" for k in range(5)], 4), "x": rng.normal(1, 2, 20)})
    return frame.assign(y=rng.normal(size=20), f=list("ab") * 10, o=rng.normal(size=20))


def test_moments_of_a_linear_model_are_those_of_its_priors() -> None:
    """E y = X m + o and Cov y = X S X' + E(s0^2 + s1^2 x x') within groups + E sigma^2, within five standard errors."""
    data = rows()
    priors = {
        "Intercept": P.Normal(10, 3), "x": P.Normal(2, 1), "sd(g: Intercept)": P.HalfNormal(4),
        "sd(g: x)": P.Exponential(1), "cor(g)": P.LKJ(2), "sigma": P.HalfNormal(5),
    }  # fmt: skip
    found = um.prior_predictive("y ~ x + (1 + x | g)", data, n=N, offset="o", priors=priors, seed=1)
    x = np.column_stack([np.ones(20), data["x"]])
    same = data["g"].to_numpy()[:, None] == data["g"].to_numpy()
    # E s^2: 16 of a half-normal, 2 of an exponential prior; correlations are zero on average
    cov = x @ np.diag([9.0, 1.0]) @ x.T + same * (16 + 2 * np.outer(x[:, 1], x[:, 1])) + 25 * np.eye(20)
    assert found.responses.shape == (N, 20)
    sd = np.sqrt(np.diag(cov))
    off = found.responses - (x @ [10, 2] + data["o"].to_numpy())
    assert (np.abs(off.mean(axis=0)) < 5 * sd / np.sqrt(N)).all()
    products = off[:, :, None] * off[:, None, :]
    error = products.std(axis=0) / np.sqrt(N)
    assert (np.abs(products.mean(axis=0) - cov) < 5 * error).all()
    assert list(found.parameters) == [
        "Intercept", "x", "sd(g: Intercept)", "sd(g: x)", "cor(g: x, Intercept)", "sigma",
    ]  # fmt: skip
    assert stats.kstest(found.parameters["x"], stats.norm(2, 1).cdf).pvalue > 1e-4
    assert stats.kstest(found.parameters["sigma"], stats.halfnorm(scale=5).cdf).pvalue > 1e-4


def test_proportions_are_those_of_the_prior() -> None:
    """The mean of a proportion is E expit(a + s u), and the share of zeros E (1 - p)^n."""
    data = pd.DataFrame({"k": [1, 3], "n": [3, 3], "g": ["a", "b"]})
    priors = {"Intercept": P.Normal(-1, 0.5), "sd": P.HalfNormal(1)}
    found = um.prior_predictive("cbind(k, n - k) ~ 1 + (1 | g)", data, n=N, family="binomial", priors=priors, seed=2)
    u, weights = np.polynomial.hermite_e.hermegauss(40)

    def mean(function: object) -> float:
        def given(s: float) -> float:
            total = np.sqrt(0.25 + s**2)
            p = special.expit(-1 + total * u)
            return float(function(p) @ weights / weights.sum() * stats.halfnorm.pdf(s))

        return integrate.quad(given, 0, 8)[0]

    y = found.responses[:, 0]
    for values, wanted in ((y, mean(lambda p: p)), ((y == 0).astype(float), mean(lambda p: (1 - p) ** 3))):
        assert abs(values.mean() - wanted) < 5 * values.std() / np.sqrt(N)
    assert found.loc["zeros", "observed"] == 0.0


def test_it_is_the_prior_that_a_fit_has() -> None:
    data = rows()
    priors = {"Intercept": P.Normal(0, 1), "f": P.Normal(0, 2)}
    found = um.prior_predictive("y ~ f + (1 | g)", data, n=100, priors=priors, seed=5)
    fit = um.fit("y ~ f + (1 | g)", data, "bayes", priors=priors, seed=1)
    assert found.priors == fit.engine.priors
    np.testing.assert_array_equal(found.responses, fit.prior_predictive(100, seed=5))
    assert found.notes[-1] == "Default priors, which are scaled by these data: sd(g), sigma."


def test_it_says_where_the_observed_response_lies(tmp_path: object) -> None:
    data = rows()
    priors = {"Intercept": P.Normal(100, 1), "sigma": P.HalfNormal(1)}
    found = um.prior_predictive("y ~ 1", data, priors=priors, seed=1)
    assert found.notes[0].startswith("Outside the middle 95 % of the draws: mean, ")
    assert found.loc["mean", "below"] == 0.0
    assert found.loc["mean", "observed"] == pytest.approx(data["y"].mean())
    assert str(found).startswith("500 responses from the prior: y")
    mpl.use("agg")
    ax = found.plot(20)
    assert ax.get_xlabel() == "y"
    assert len(ax.get_lines()) == 21  # and the observed one
    low, high = ax.get_xlim()
    assert low < data["y"].min()
    assert high > 99


def test_means_that_do_not_exist_are_counted() -> None:
    data = pd.DataFrame({"y": [1.0, 2.0, 3.0], "x": [0.0, 1.0, 2.0]})
    priors = {"Intercept": P.Normal(0, 1), "x": P.Normal(0, 1e-9), "dispersion": P.HalfNormal(1)}
    found = um.prior_predictive("y ~ x", data, family="gamma(inverse)", n=1000, priors=priors, seed=1)
    lost = int(found.notes[-1].split()[0])
    assert abs(lost - 500) < 5 * np.sqrt(250)  # a half of the intercepts is negative
    with pytest.raises(um.UnimixError, match="No draw gives finite responses"):
        um.prior_predictive(
            "y ~ x", data, family="gamma(inverse)", priors={**priors, "Intercept": P.Normal(-50, 1)}, seed=1
        )


def test_faults_of_the_call_are_told_at_once() -> None:
    with pytest.raises(um.OptionError) as caught:
        um.prior_predictive("y ~ x", rows(), n=0, seed=-1, method="REML")
    text = str(caught.value)
    assert "has no argument 'method'" in text
    assert "n=0" in text
    assert "seed=-1" in text
    with pytest.raises(um.OptionError, match="Did you mean 'x'"):
        um.prior_predictive("y ~ x", rows(), priors={"X": P.Normal(0, 1)})
    with pytest.raises(um.UnsupportedModelError, match="no distribution of a response to draw"):
        um.prior_predictive("y ~ 1", pd.DataFrame({"y": [1, 2], "w": [1, 2]}), family="poisson", weights="w")
