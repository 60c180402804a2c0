"""Means of a posterior on the scale of the response are means of its draws, not functions of their mean."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
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


@pytest.mark.mcmc
def test_emmeans_and_predict_agree_on_a_sampled_posterior() -> None:
    """Both are means and SDs of the same draws; a cell without successes makes the inverse link matter."""
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"c": ["A", "B"] * 12, "s": [f"s{i // 4}" for i in range(24)]})
    data["y"] = np.where(data["c"] == "A", 0, rng.integers(0, 2, 24))
    options = {"sampler": "pymc", "cores": 1, "draws": 500, "tune": 500, "chains": 2, "retry": False}
    fit = um.fit("y ~ c + (1 | s)", data, "pymc", family="binomial", seed=1, options=options)
    means = fit.emmeans("c", kind="response").table
    new = pd.DataFrame({"c": ["A", "B"], "s": ["zz", "zz"]})
    right = fit.predict(new, level="population", interval="confidence").table
    np.testing.assert_allclose(means[["estimate", "std_error"]], right[["estimate", "std_error"]], rtol=1e-10)
    # quantiles interpolate between two draws, before or after the link
    np.testing.assert_allclose(means[["lower", "upper"]], right[["lower", "upper"]], rtol=1e-3)
