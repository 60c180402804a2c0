"""statsmodels: variational and MAP approximations of the posterior of a generalised mixed model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from generalised_data import by_statsmodels, design_by_arguments
from gold import generalised_cases
from scipy import stats

import unimix as um
from unimix.backends.statsmodels.bayes import build_model, expand_trials


def rich(n_groups: int = 20, size: int = 15, sd: float = 0.8, seed: int = 0) -> pd.DataFrame:
    """Counts, successes of varying trials and 0/1 outcomes over groups, with intercept 0.5 and slope 0.3."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(n_groups), size)
    x = rng.normal(size=len(codes))
    effects = rng.normal(size=n_groups)
    eta = 0.5 + 0.3 * x + sd * ((effects - effects.mean()) / effects.std())[codes]
    trials = rng.integers(2, 9, len(codes))
    won = rng.binomial(trials, 1 / (1 + np.exp(-eta)))
    return pd.DataFrame(
        {
            "count": rng.poisson(np.exp(eta)),
            "won": won,
            "lost": trials - won,
            "outcome": (rng.random(len(codes)) < 1 / (1 + np.exp(-eta))).astype(float),
            "x": x,
            "off": 0.1 * rng.normal(size=len(codes)),
            "w": rng.uniform(0.5, 2, len(codes)),
            "g": [f"g{c:02d}" for c in codes],
            "h": [f"h{k}" for k in rng.integers(0, 8, len(codes))],
        }
    )


@pytest.mark.r
@pytest.mark.parametrize("method", ["variational", "MAP"])
@pytest.mark.parametrize(("response", "family"), [("cbind(won, lost)", "binomial"), ("count", "poisson")])
def test_recovers_simulated_truth(response: str, family: str, method: Any) -> None:
    """Where every group has much to say; 40 groups of 40 rows."""
    data = rich(40, 40, sd=0.8)
    found = by_statsmodels(f"{response} ~ x + (1 | g)", data, family=family, method=method)
    assert found.converged, found.status
    assert found.criteria.criterion == method
    assert found.fixed.interval == "credible"
    assert np.isnan(found.log_likelihood)
    laplace = um.fit(f"{response} ~ x + (1 | g)", data, backend="lme4", family=family)
    assert (np.abs(found.fixed.estimate - laplace.fixed.estimate) / laplace.fixed.std_error).max() < 0.2
    assert float(found.random[0].sd[0]) == pytest.approx(float(laplace.random[0].sd[0]), rel=0.05)
    assert float(found.random[0].sd[0]) == pytest.approx(0.8, rel=0.1)
    np.testing.assert_allclose(found.random[0].modes, laplace.random[0].modes, atol=0.1)
    assert found.fixed.estimate[1] == pytest.approx(0.3, abs=4 * found.fixed.std_error[1])


@pytest.mark.r
def test_mean_field_errors_that_are_too_small_are_told() -> None:
    """The intercept and the group effects are correlated, and the approximation has no correlations."""
    data = rich()
    found = by_statsmodels("count ~ x + (1 | g)", data, family="poisson")
    assert found.converged
    assert any("Intercept" in m and "times" in m for m in found.status.messages)
    laplace = um.fit("count ~ x + (1 | g)", data, backend="lme4", family="poisson")
    assert found.fixed.std_error[0] < 0.5 * laplace.fixed.std_error[0]


@pytest.mark.r
@pytest.mark.parametrize("random", ["(1 + x || g)", "(1 | g) + (1 | h)", "(1 | g/h)", "(0 + x | g)"])
def test_independent_effects_of_every_layout(random: str) -> None:
    found = by_statsmodels(f"count ~ x + {random}", rich(), family="poisson")
    assert found.converged, found.status
    laplace = um.fit(f"count ~ x + {random}", rich(), backend="lme4", family="poisson")
    assert (np.abs(found.fixed.estimate - laplace.fixed.estimate) / laplace.fixed.std_error).max() < 1
    assert [b.terms for b in found.random] == [b.terms for b in laplace.random]


@pytest.mark.parametrize("method", ["variational", "MAP"])
@pytest.mark.parametrize("sizes", ["equal", "any"])
def test_trials_are_rows_of_their_own(sizes: str, method: Any) -> None:
    data = rich(25, 12)
    if sizes == "equal":
        data["lost"] = 6 - data["won"].clip(upper=6)
        data["won"] = data["won"].clip(upper=6)
    # Conditioning weighs rows alike: with unequal trials the fitted columns would differ, and with them the priors.
    options = {"conditioning": sizes == "equal"}
    counted = by_statsmodels("cbind(won, lost) ~ x + (1 | g)", data, family="binomial", method=method, options=options)
    design = design_by_arguments("cbind(won, lost) ~ x + (1 | g)", data, {"family": "binomial"})
    rows, outcomes = expand_trials(design)
    assert len(rows) == (data["won"] + data["lost"]).sum()
    single = by_statsmodels(
        "y ~ x + (1 | g)",
        data.iloc[rows].assign(y=outcomes),
        family="binomial",
        method=method,
        options=options,
    )
    assert counted.converged
    np.testing.assert_allclose(counted.fixed.estimate, single.fixed.estimate, atol=1e-4)
    np.testing.assert_allclose(counted.fixed.std_error, single.fixed.std_error, rtol=1e-4)
    np.testing.assert_allclose(counted.random[0].sd, single.random[0].sd, rtol=1e-4)
    assert "emulated" in counted.provenance["trials"]
    assert "trials" not in single.provenance


def test_the_engines_own_fit_agrees() -> None:
    """`fit_vb` from the point that was found stays there."""
    data = rich()
    arguments = {"family": "poisson"}
    found = by_statsmodels("count ~ x + (1 | g)", data, options={"conditioning": False}, **arguments)
    model = build_model(design_by_arguments("count ~ x + (1 | g)", data, arguments), 1.0, 10.0)
    own = model.fit_vb(
        mean=found.native.params, sd=np.sqrt(found.native.cov_params()), minim_opts={"gtol": 1e-4, "maxiter": 5000}
    )
    np.testing.assert_allclose(own.fe_mean, found.fixed.estimate, atol=1e-4)
    np.testing.assert_allclose(own.fe_sd, found.fixed.std_error, rtol=1e-3)
    np.testing.assert_allclose(np.exp(own.vcp_mean), found.random[0].sd, rtol=1e-3)
    np.testing.assert_allclose(own.vc_mean, np.ravel(found.random[0].modes), atol=1e-3)


def test_a_mode_at_zero_is_not_an_answer() -> None:
    """With 0/1 outcomes the joint density has one peak, at SD zero, whatever the data."""
    found = by_statsmodels("outcome ~ x + (1 | g)", rich(100, 4), family="binomial", method="MAP")
    assert found.status.state == "not_converged"
    assert "goes to zero" in found.status.messages[0]


def test_the_option_chooses_the_approximation() -> None:
    data = rich(30, 40)
    by_option = by_statsmodels("count ~ x + (1 | g)", data, family="poisson", options={"approximation": "map"})
    assert by_option.model.method == "MAP"
    assert by_statsmodels("count ~ x + (1 | g)", data, family="poisson").model.method == "variational"
    assert by_statsmodels("count ~ x", data, family="poisson", options={"approximation": "map"}).model.method == "ML"


def test_priors_are_reported_and_matter() -> None:
    data = rich()
    loose = by_statsmodels("outcome ~ x + (1 | g)", data, family="binomial")
    tight = by_statsmodels("outcome ~ x + (1 | g)", data, family="binomial", options={"fe_p": 0.05, "vcp_p": 0.1})
    assert loose.engine.priors["fixed effects"].startswith("Normal(0, 10)")
    assert tight.engine.priors["sd(g: Intercept)"] == "LogNormal(0, 0.1)"
    assert np.abs(tight.fixed.estimate).max() < 0.5 * np.abs(loose.fixed.estimate).max()
    assert abs(np.log(tight.random[0].sd[0])) < abs(np.log(loose.random[0].sd[0]))


def test_the_same_call_gives_the_same_answer() -> None:
    first, second = (by_statsmodels("outcome ~ x + (1 | g)", rich(), family="binomial", seed=s) for s in (1, 2))
    np.testing.assert_array_equal(first.fixed.estimate, second.fixed.estimate)
    np.testing.assert_array_equal(first.random[0].modes, second.random[0].modes)


@pytest.mark.parametrize("method", ["variational", "MAP"])
def test_an_approximation_that_stopped_early_is_not_converged(monkeypatch: pytest.MonkeyPatch, method: Any) -> None:
    monkeypatch.setattr("unimix.backends.statsmodels.adapter.STEPS", 1)
    found = by_statsmodels(
        "count ~ x + (1 | g)", rich(30, 40), family="poisson", method=method, options={"max_iterations": 2}
    )
    assert found.status.state == "not_converged"
    assert found.status.messages


def test_intervals_are_quantiles_of_the_approximate_posterior() -> None:
    found = by_statsmodels("count ~ x + (1 | g)", rich(), family="poisson", ci_level=0.9)
    half = stats.norm.ppf(0.95) * found.fixed.std_error
    np.testing.assert_allclose(found.fixed.lower, found.fixed.estimate - half, rtol=1e-10)
    np.testing.assert_allclose(found.fixed.upper, found.fixed.estimate + half, rtol=1e-10)
    assert np.isnan(found.fixed.p_value).all()


@pytest.mark.parametrize(
    ("formula", "arguments", "words"),
    [
        ("count ~ x + (1 | g)", {"family": "poisson", "offset": "off"}, "has no offset"),
        ("count ~ x + (1 | g)", {"family": "poisson", "weights": "w"}, "has no weights"),
        ("count ~ x + (1 + x | g)", {"family": "poisson"}, r"\(Intercept \+ x \| g\).*independent"),
        ("outcome ~ x + (1 | g)", {"family": "binomial(probit)"}, "canonical link"),
        ("count ~ x + (1 | g)", {"family": "negative_binomial"}, "dispersion parameter"),
        ("count ~ x + (1 | g)", {"family": "poisson", "method": "Laplace"}, "maximises no likelihood"),
        ("count ~ x + (1 | g)", {"family": "poisson", "method": "posterior"}, "no sampler"),
    ],
)
def test_mixed_models_that_are_refused(formula: str, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(um.UnsupportedModelError, match=words) as refused:
        by_statsmodels(formula, rich(), **arguments)
    assert "backend='pymc'" in str(refused.value)


@pytest.mark.parametrize(
    ("formula", "family", "words"),
    [
        ("cbind(won, lost) ~ x", "binomial", "GLM([successes, failures], X[x0, x1], family=Binomial(Logit())).fit()"),
        ("count ~ x", "nb1", "NegativeBinomial(y, X[x0, x1], loglike_method='nb1').fit()"),
        ("count ~ x + (1 | g)", "poisson", "exog_vc=Z[z0_0 by g0], ident, vcp_p=1, fe_p=10).vb_elbo"),
    ],
)
def test_the_call_can_be_seen(formula: str, family: str, words: str) -> None:
    assert words in str(um.explain(formula, rich(), backend="statsmodels", family=family))
    assert words in by_statsmodels(formula, rich(), family=family).engine.call


REFERENCES = {
    # fixed effects in standard errors, standard errors and SDs as multiples of the reference: what was measured
    "cbpp": (0.1, (0.65, 1.1), (1.04, 1.09)),
    "ohio": (0.7, (0.4, 1.0), (0.88, 0.92)),
    "grouseticks": (0.4, (0.15, 0.3), (0.07, 1.2)),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_how_far_the_approximation_is_from_the_references(name: str) -> None:
    """The distance is the engine's: neither better nor worse than the documentation says."""
    case = next(c for c in generalised_cases() if c.id == name)
    distance, errors, spreads = REFERENCES[name]
    found = case.fit("statsmodels")
    exact = case.reference.get("agq", case.reference["fixef"])
    estimate, std_error = np.array(exact["estimate"]), np.array(exact["std_error"])
    assert found.converged, found.status
    assert (np.abs(found.fixed.estimate - estimate) / std_error).max() < distance
    ratio = found.fixed.std_error / std_error
    assert errors[0] < ratio.min()
    assert ratio.max() < errors[1]
    ours, theirs = case.standard_deviations(found)
    theirs = np.atleast_1d(exact["theta"]) if "theta" in exact else theirs
    assert spreads[0] < (ours / theirs).min()
    assert (ours / theirs).max() < spreads[1]
