"""Means of a posterior on the scale of the response are means of its draws, not functions of their mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from binomial_grid import grid_posterior
from exact_posteriors import herds
from scipy import special

import unimix as um


@pytest.mark.parametrize("method", ["variational", "MAP"])
def test_response_means_of_a_posterior_are_means_of_draws(method: str) -> None:
    """E expit(eta) of a normal eta by quadrature; 4,000 draws of a known distribution: 4 standard errors."""
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"c": ["A", "B"] * 24, "s": [f"s{i // 6}" for i in range(48)]})
    data["y"] = np.where(data["c"] == "A", rng.random(48) < 0.1, rng.random(48) < 0.5).astype(int)
    fit = um.fit("y ~ c + (1 | s)", data, "statsmodels", family="binomial", method=method)
    means = fit.emmeans("c", kind="response").table
    odds = fit.contrasts("c", "reference", kind="response").table
    eta = fit.emmeans("c").table
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    at = special.expit(eta["estimate"].to_numpy()[:, None] + eta["std_error"].to_numpy()[:, None] * nodes)
    right, spread = at @ weights, np.sqrt(at**2 @ weights - (at @ weights) ** 2)
    np.testing.assert_allclose(means["estimate"], right, atol=4 * spread.max() / np.sqrt(4000))
    np.testing.assert_allclose(means["std_error"], spread, rtol=0.1)
    log = fit.contrasts("c", "reference").table.iloc[0]
    # the mean of a lognormal ratio; its spread decides the accuracy of the mean of the draws
    ratio = np.exp(log["estimate"] + log["std_error"] ** 2 / 2)
    error = ratio * np.sqrt(np.expm1(log["std_error"] ** 2) / 4000)
    assert odds["odds_ratio"].iloc[0] == pytest.approx(ratio, abs=4 * error)


def test_emmeans_and_predict_agree_on_a_sampled_posterior() -> None:
    """Both are means and SDs of the same draws; a cell without successes makes the inverse link matter."""
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"c": ["A", "B"] * 12, "s": [f"s{i // 4}" for i in range(24)]})
    data["y"] = np.where(data["c"] == "A", 0, rng.integers(0, 2, 24))
    fit = um.fit("y ~ c + (1 | s)", data, "bayes", family="binomial", seed=1, options={"chains": 2})
    means = fit.emmeans("c", kind="response").table
    new = pd.DataFrame({"c": ["A", "B"], "s": ["zz", "zz"]})
    right = fit.predict(new, level="population", interval="confidence").table
    np.testing.assert_allclose(means[["estimate", "std_error"]], right[["estimate", "std_error"]], rtol=1e-10)
    # quantiles interpolate between two draws, before or after the link
    np.testing.assert_allclose(means[["lower", "upper"]], right[["lower", "upper"]], rtol=1e-3)


def test_expected_responses_are_those_of_a_grid() -> None:
    """E expit(intercept) from a grid, within four Monte Carlo errors; the inverse link of the mean is far from it."""
    k, n = np.array([0, 0, 1, 0, 0]), 6
    data = pd.DataFrame({"y": k / n, "n": n, "g": list("abcde")})
    priors = {"Intercept": um.priors.Normal(0, 1), "sd(g)": um.priors.HalfNormal(1)}
    fit = um.fit("y ~ 1 + (1 | g)", data, "bayes", family="binomial", weights="n", priors=priors, seed=1)
    intercepts, _, density = grid_posterior(k, n, lowest=-6.0)
    margin = density.sum(axis=1)
    p = special.expit(intercepts)
    mean = float(p @ margin)
    error = float(np.sqrt((p - mean) ** 2 @ margin)) / np.sqrt(fit.status.ess_bulk or 1.0)
    for found in (
        fit.predict(level="population")[0],
        fit.predict({"g": "new"}, level="population")[0],
        fit.augment()[".fixed"].iloc[0],
    ):
        assert abs(found - mean) < 4 * error
    assert abs(special.expit(fit.fixed.estimate[0]) - mean) > 8 * error


def test_everything_on_the_response_scale_is_the_mean_of_the_draws() -> None:
    """Fitted rows, new rows, one factor's effects, intervals, residuals and lines."""
    fit, cattle = herds(), um.load_dataset("cbpp")
    group = fit.posterior.posterior
    eta = group["fixed"].to_numpy().reshape(-1, 4) @ fit.design().x.T
    alone = special.expit(eta).mean(axis=0)
    effects = group["effects(herd)"].to_numpy().reshape(len(eta), -1)
    own = special.expit(eta + effects[:, fit.design().blocks[0].codes]).mean(axis=0)
    assert np.abs(own - special.expit(fit.rows.linear_predictor)).max() > 0.005
    loaded = um.FitResult.from_json(fit.to_json())
    for found in (fit.fitted, fit.predict(), fit.predict(cattle), fit.predict(level=["herd"]), loaded.fitted):
        np.testing.assert_allclose(found, own, rtol=1e-12)
    np.testing.assert_allclose(fit.predict(interval="confidence")["estimate"], own, rtol=1e-12)
    np.testing.assert_allclose(loaded.augment(cattle)[".fitted"], own, rtol=1e-12)
    np.testing.assert_allclose(fit.residuals(), fit.rows.observed - own, rtol=1e-9)
    for found in (fit.predict(level="population"), fit.predict(cattle, level=[]), loaded.predict(level="population")):
        np.testing.assert_allclose(found, alone, rtol=1e-12)
    np.testing.assert_allclose(fit.predict(kind="link"), fit.rows.linear_predictor)
    new = fit.predict(cattle.assign(herd="none"), new_levels="population")
    np.testing.assert_allclose(new, alone, rtol=1e-12)
    lines = fit.plot.population(draw=False)
    at = lines[lines["kind"] == "population"]["y"].to_numpy()
    np.testing.assert_allclose(at, fit.emmeans("period", kind="response")["estimate"], rtol=1e-10)
    lines = fit.plot.groups(levels=["1"], draw=False)
    at = lines[lines["kind"] == "partial"]["y"].to_numpy()
    np.testing.assert_allclose(at, fit.predict({"period": list("1234"), "herd": ["1"] * 4}), rtol=1e-10)


def test_new_rows_of_a_posterior_without_draws_are_refused() -> None:
    loaded = um.FitResult.from_json(herds().to_json())
    cattle = um.load_dataset("cbpp")
    with pytest.raises(um.UnimixError, match=r"mean over the draws.*fit\.save.*kind='link'"):
        loaded.predict(cattle[:3], level="population")
    np.testing.assert_allclose(loaded.predict(cattle, kind="link"), herds().rows.linear_predictor)
    for name in ("expected", "population_expected"):
        rows = herds().rows.model_copy(update={name: None})
        text = replace(herds(), rows=rows).to_json()
        with pytest.raises(um.DataError, match="never fitted: expected responses"):
            um.FitResult.from_json(text)


def test_draws_that_were_too_many_to_keep_leave_their_expected_responses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unimix.backends.sampling.draws.MOST_KEPT", 100)
    cattle = um.load_dataset("cbpp")
    fit = um.fit(herds().formula, cattle, "bayes", family="binomial", seed=1)
    assert "effects(herd)" not in fit.posterior.posterior
    np.testing.assert_allclose(fit.fitted, herds().fitted, rtol=1e-12)
    np.testing.assert_allclose(fit.predict(cattle, level="population"), herds().predict(level="population"), rtol=1e-12)
    pd.testing.assert_frame_equal(fit.confint().table, herds().confint().table)
    pd.testing.assert_frame_equal(fit.emmeans("period").table, herds().emmeans("period").table)
    with pytest.raises(um.UnsupportedModelError, match="too many to keep"):
        fit.predict(cattle[:2])


@pytest.mark.parametrize("method", ["variational", "MAP"])
def test_a_normal_approximation_has_expected_responses(method: str) -> None:
    """E expit(N(m, s^2)) by 60 nodes, with the errors of fixed and group effects independent."""
    cattle = um.load_dataset("cbpp")
    fit = um.fit(herds().formula, cattle, "statsmodels", family="binomial", method=method)
    design = fit.design()
    variance = ((design.x @ fit.fixed.covariance) * design.x).sum(axis=1)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)

    def mean(centre: np.ndarray, spread: np.ndarray) -> np.ndarray:
        return special.expit(centre[:, None] + np.sqrt(spread)[:, None] * nodes) @ weights / weights.sum()

    alone = mean(fit.rows.population_predictor, variance)
    own = mean(fit.rows.linear_predictor, variance + fit.random[0].mode_sd[design.blocks[0].codes, 0] ** 2)
    loaded = um.FitResult.from_json(fit.to_json())
    for found in (fit.fitted, loaded.predict(cattle), fit.predict(interval="confidence")["estimate"]):
        np.testing.assert_allclose(found, own, rtol=1e-8)
    for found in (fit.predict(level="population"), loaded.predict(cattle, level="population")):
        np.testing.assert_allclose(found, alone, rtol=1e-8)
