"""Bayes factors: against the Savage-Dickey ratio of nested models, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import unimix as um

P = um.priors
PRIORS = {
    "Intercept": P.Normal(0, 2), "coefficients": P.Normal(0, 1), "sd": P.HalfNormal(1), "sigma": P.HalfNormal(2),
    "cor": P.LKJ(2),
}  # fmt: skip


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    g, x = np.repeat(np.arange(10), 6), rng.normal(size=60)
    y = 1 + 0.2 * x + 0.5 * rng.normal(size=10)[g] + rng.normal(size=60)
    return pd.DataFrame({"y": y, "x": x, "g": g})


@pytest.fixture(scope="module")
def fits(data: pd.DataFrame) -> tuple[um.FitResult, um.FitResult]:
    options = {"draws": 5000}
    return tuple(
        um.fit(f, data, "bayes", priors=PRIORS, seed=1, options=options) for f in ("y ~ x + (1 | g)", "y ~ 1 + (1 | g)")
    )


def test_it_is_the_savage_dickey_ratio(fits: tuple[um.FitResult, um.FitResult]) -> None:
    """p(x = 0) / p(x = 0 | y): the coefficient's density at zero from its draws by a kernel, good to 5 %.

    Dickey (1971), Ann. Math. Stat. 42:204: the other priors of the larger model do not depend on the coefficient.
    """
    found = um.bayes_factor(*fits, names=["with x", "without"])
    draws = fits[0].posterior.posterior["fixed"].sel(term="x").to_numpy().ravel()
    wanted = stats.norm.pdf(0) / stats.gaussian_kde(draws)(0)[0]
    assert found.bayes_factor == pytest.approx(wanted, rel=0.05 + 5 * found.mc_error)
    assert found.log_bayes_factor == fits[0].log_evidence - fits[1].log_evidence
    assert found.mc_error == pytest.approx(np.hypot(fits[0].log_evidence_error, fits[1].log_evidence_error))
    other = um.bayes_factor(*fits[::-1])
    assert other.log_bayes_factor == -found.log_bayes_factor
    probability = found.table["probability"]
    assert probability.sum() == pytest.approx(1)
    assert probability["with x"] / probability["without"] == pytest.approx(found.bayes_factor)
    text = str(found)
    assert text.startswith(f"Bayes factor of with x against without: {found.bayes_factor:.3g}")
    better = "under without as under with x" if found.log_bayes_factor < 0 else "under with x as under without"
    assert better in text
    assert "<table" in found.to_html()


def test_ratios_beyond_the_range_of_numbers_are_told() -> None:
    data = pd.DataFrame({"y": np.repeat([0.0, 100.0], 250) + np.random.default_rng(1).normal(size=500)})
    data["x"] = np.repeat([0.0, 1.0], 250)
    priors = {"Intercept": P.Normal(0, 100), "coefficients": P.Normal(0, 100), "sigma": P.HalfNormal(100)}
    a, b = (um.fit(f, data, "bayes", priors=priors, seed=1) for f in ("y ~ x", "y ~ 1"))
    found = um.bayes_factor(a, b)
    assert found.bayes_factor == np.inf
    assert found.log_bayes_factor > 1000
    assert f"e+{int(found.log_bayes_factor / np.log(10))}" in str(found)


def test_default_priors_are_asked_for_twice(data: pd.DataFrame) -> None:
    a, b = (
        um.fit(f, data, "bayes", priors={"x": P.Normal(0, 1)} if "x" in f else None, seed=1) for f in ("y ~ x", "y ~ 1")
    )
    match = r"Default priors: Intercept, sigma of y ~ x; Intercept, sigma of y ~ 1(.|\n)*accept_default_priors=True"
    with pytest.raises(um.UnimixError, match=match):
        um.bayes_factor(a, b)
    assert (
        "Default priors, scaled by the data: Intercept, sigma."
        in um.bayes_factor(a, b, accept_default_priors=True).notes
    )
    # a saved result knows which priors were defaults
    with pytest.raises(um.UnimixError, match="Default priors: Intercept, sigma of y ~ x"):
        um.bayes_factor(um.FitResult.from_json(a.to_json()), b)


@pytest.mark.mcmc
def test_what_cannot_be_compared_is_refused(data: pd.DataFrame, fits: tuple[um.FitResult, um.FitResult]) -> None:
    plain = um.fit("y ~ x + (1 | g)", data)
    options = {"sampler": "nuts", "draws": 100, "tune": 100, "chains": 2, "retry": False}
    sampled = um.fit("y ~ x", data, "bayes", priors=PRIORS, seed=1, options=options)
    match = r"maximises a likelihood(.|\n)*has no log evidence: NUTS sampled, which has no importance weights"
    with pytest.raises(um.UnimixError, match=match):  # all faults at once
        um.bayes_factor(plain, sampled, names=["a", "b"])
    fewer = um.fit("y ~ x", data.iloc[:-1], "bayes", priors=PRIORS, seed=1)
    with pytest.raises(um.DataError, match="different rows"):
        um.bayes_factor(fits[0], fewer)
    logs = um.fit("exp(y) ~ x", data, "bayes", priors=PRIORS, seed=1)
    with pytest.raises(um.DataError, match="different responses"):
        um.bayes_factor(fits[0], logs)
    weighted = um.fit("y ~ x", data.assign(w=2.0), "bayes", weights="w", priors=PRIORS, seed=1)
    with pytest.raises(um.DataError, match="different weights"):
        um.bayes_factor(fits[0], weighted)
    with pytest.raises(um.OptionError, match="takes two results"):
        um.bayes_factor(fits[0], "y ~ x")
    with pytest.raises(um.OptionError, match="accept_default_priors"):
        um.bayes_factor(*fits, accept_default_priors="yes")
