"""Generalised models through statsmodels: closed forms, R's glm, simulated truth, and ends that are no answers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gold import Gold, as_list, generalised_cases, r_name
from scipy import stats

import unimix as um
from unimix.backends.capabilities import Yes
from unimix.backends.family_support import all_families
from unimix.backends.registry import resolve
from unimix.backends.statsmodels import glm, joint
from unimix.backends.statsmodels.bayes import build_model, expand_trials
from unimix.design.design import build_design
from unimix.distributions.family import Family, as_family
from unimix.formula.interpreter import parse
from unimix.likelihood.glmm.laplace import fixed_predictor
from unimix.likelihood.response import row_log_likelihood
from unimix.testing.generalised import simulate_family

ENGINE, R = resolve("statsmodels", {}), resolve("lme4", {})
PLAIN = [f for f in all_families() if not f.is_linear and isinstance(ENGINE.families.answer(f, mixed=False), Yes)]
ALSO_R = [f for f in PLAIN if isinstance(R.families.answer(f, mixed=False), Yes)]
ONLY_HERE = [f for f in PLAIN if f.label in ("negative_binomial_1", "beta") and f.link != "cauchit"]


def fit(formula: str, data: Any, **arguments: Any) -> um.FitResult:
    return um.fit(formula, data, backend="statsmodels", **arguments)


def plain_data(family: Family, seed: int = 0) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Data of a family with weights and an offset, and the arguments that name those the engine has."""
    data = simulate_family(family, mixed=False, seed=seed)
    rng = np.random.default_rng(seed + 1)
    data["w"], data["off"] = rng.uniform(0.5, 2, len(data)), 0.05 * rng.normal(size=len(data))
    arguments: dict[str, Any] = {"family": family}
    if family.response == "binomial":
        arguments["weights"] = "trials"
    elif family.name not in ("negative_binomial", "beta"):
        arguments["weights"] = "w"
    if family.name != "beta":
        arguments["offset"] = "off"
    return data, arguments


def design_of(formula: str, data: Any, arguments: dict[str, Any]) -> Any:
    kept = {k: v for k, v in arguments.items() if k in ("weights", "offset", "family")}
    return build_design(parse(formula), data, **kept)


def parameters_of(found: um.FitResult, family: Family) -> np.ndarray:
    return np.array([found.criteria.parameters[name] for name in family.parameters])


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


# -- without group effects ------------------------------------------------------------------------


@pytest.mark.r
@pytest.mark.parametrize("family", ALSO_R, ids=str)
def test_plain_models_are_those_of_r(family: Family) -> None:
    data, arguments = plain_data(family)
    ours = fit("y ~ x", data, **arguments)
    theirs = um.fit("y ~ x", data, backend="lme4", **arguments)
    assert ours.converged, ours.status
    # R stops when the deviance rests to 1e-12: with a link that is not canonical about 1e-6 of a standard error early.
    assert (np.abs(ours.fixed.estimate - theirs.fixed.estimate) / theirs.fixed.std_error).max() < 1e-5
    # glm.nb's standard errors take theta as known and the expected information; statsmodels' the observed one of all.
    rtol = 1e-2 if family.label == "negative_binomial" else 1e-6
    np.testing.assert_allclose(ours.fixed.std_error, theirs.fixed.std_error, rtol=rtol)
    assert ours.log_likelihood == pytest.approx(theirs.log_likelihood, abs=1e-8)
    assert ours.criteria.parameters == pytest.approx(dict(theirs.criteria.parameters), rel=1e-6)
    assert ours.fixed.df_method == theirs.fixed.df_method
    np.testing.assert_allclose(ours.fixed.df, theirs.fixed.df)
    np.testing.assert_allclose(ours.fixed.p_value, theirs.fixed.p_value, rtol=1e-4, atol=1e-10)


@pytest.mark.r
@pytest.mark.parametrize("family", ONLY_HERE, ids=str)
def test_plain_models_that_r_glm_lacks_are_those_of_glmmtmb(family: Family) -> None:
    data, arguments = plain_data(family)
    ours = fit("y ~ x", data, **arguments)
    theirs = um.fit("y ~ x", data, backend="glmmtmb", **arguments)
    assert ours.converged, ours.status
    # What glmmTMB's search leaves; its standard errors are of the same kind.
    assert (np.abs(ours.fixed.estimate - theirs.fixed.estimate) / theirs.fixed.std_error).max() < 1e-4
    np.testing.assert_allclose(ours.fixed.std_error, theirs.fixed.std_error, rtol=1e-5)
    assert ours.log_likelihood == pytest.approx(theirs.log_likelihood, abs=1e-7)
    assert ours.log_likelihood >= theirs.log_likelihood - 1e-10
    assert ours.criteria.parameters == pytest.approx(dict(theirs.criteria.parameters), rel=1e-5)


@pytest.mark.parametrize("family", PLAIN, ids=str)
def test_log_likelihoods_carry_all_constants(family: Family) -> None:
    data, arguments = plain_data(family, seed=3)
    found = fit("y ~ x", data, **arguments)
    design = design_of("y ~ x", data, arguments)
    eta = fixed_predictor(design, found.fixed.estimate)
    own = float(row_log_likelihood(design, parameters_of(found, family), eta).value.sum())
    assert found.log_likelihood == pytest.approx(own, abs=1e-8)


def closed_form(family: Family, y: np.ndarray, mu: np.ndarray, p: np.ndarray, trials: np.ndarray) -> float:
    match family.label:
        case "gaussian":
            rows = stats.norm.logpdf(y, mu, p[0])
        case "binomial":
            rows = stats.binom.logpmf(np.round(y * trials), trials, mu)
        case "poisson":
            rows = stats.poisson.logpmf(y, mu)
        case "gamma":
            rows = stats.gamma.logpdf(y, 1 / p[0], scale=mu * p[0])
        case "inverse_gaussian":
            rows = stats.invgauss.logpdf(y, mu * p[0], scale=1 / p[0])
        case "negative_binomial":
            rows = stats.nbinom.logpmf(y, p[0], p[0] / (p[0] + mu))
        case "negative_binomial_1":
            rows = stats.nbinom.logpmf(y, mu / p[0], 1 / (1 + p[0]))
        case _:
            rows = stats.beta.logpdf(y, mu * p[0], (1 - mu) * p[0])
    return float(rows.sum())


@pytest.mark.parametrize("family", PLAIN, ids=str)
def test_log_likelihoods_are_the_closed_forms(family: Family) -> None:
    data = simulate_family(family, mixed=False, seed=5)
    weights = {"weights": "trials"} if family.response == "binomial" else {}
    found = fit("y ~ x", data, family=family, **weights)
    y, trials = data["y"].to_numpy(), data["trials"].to_numpy()
    own = closed_form(family, y, np.asarray(found.fitted), parameters_of(found, family), trials)
    assert found.log_likelihood == pytest.approx(own, abs=1e-8)


@pytest.mark.parametrize("case", [c for c in generalised_cases() if not c.mixed], ids=lambda c: c.id)
def test_reference_cases_without_group_effects(case: Gold) -> None:
    found, reference = case.fit("statsmodels"), case.reference
    table = reference["fixef"]
    estimate, std_error = np.array(as_list(table["estimate"])), np.array(as_list(table["std_error"]))
    assert found.converged
    assert [r_name(t, found) for t in found.fixed.terms] == as_list(table["names"])
    assert (np.abs(found.fixed.estimate - estimate) / std_error).max() < 1e-6
    np.testing.assert_allclose(found.fixed.std_error, std_error, rtol=1e-6)
    assert found.log_likelihood == pytest.approx(reference["loglik"], abs=1e-8)
    assert found.aic == pytest.approx(reference["aic"], abs=1e-7)
    assert found.criteria.pearson_dispersion == pytest.approx(reference["pearson_dispersion"], rel=1e-6)


@pytest.mark.parametrize(
    ("family", "backend"),
    [
        *itertools.product(["gamma(log)", "inverse_gaussian(log)"], ["statsmodels", "lme4", "pymer4"]),
        ("gamma(log)", "glmmtmb"),
    ],
)
def test_weights_count_rows_with_a_dispersion_too(family: str, backend: str) -> None:
    """A whole weight is as many copies of the row, in the estimates, their errors and every likelihood."""
    data, arguments = plain_data(as_family(family))
    data = data.assign(w=np.random.default_rng(3).integers(1, 4, len(data)))
    once = um.fit("y ~ x", data, backend, **{**arguments, "weights": "w"})
    arguments.pop("weights", None)
    copies = um.fit("y ~ x", data.loc[data.index.repeat(data["w"])], backend, **arguments)
    # glmmTMB's standard errors are of a numerical Hessian.
    error = 1e-4 if backend == "glmmtmb" else 1e-8
    np.testing.assert_allclose(once.fixed.estimate, copies.fixed.estimate, atol=1e-6)
    np.testing.assert_allclose(once.fixed.std_error, copies.fixed.std_error, rtol=error)
    np.testing.assert_allclose(once.fixed.df, copies.fixed.df)
    assert once.log_likelihood == pytest.approx(copies.log_likelihood, abs=1e-6)
    assert once.criteria.pearson_dispersion == pytest.approx(copies.criteria.pearson_dispersion, rel=1e-5)
    few = {**arguments, "weights": np.full(len(data), 1e-6)}
    if backend != "glmmtmb":
        with pytest.raises(um.FitError, match="too few for 2 coefficients"):
            um.fit("y ~ x", data, backend, **few)


@pytest.mark.parametrize("backend", ["statsmodels", "lme4", "pymer4"])
def test_weights_of_a_gaussian_response_are_precisions_with_any_link(backend: str) -> None:
    data, arguments = plain_data(as_family("gaussian(log)"))
    arguments.pop("weights", None)
    w = np.random.default_rng(3).uniform(1, 4, len(data))
    once = um.fit("y ~ x", data, backend, weights=w, **arguments)
    twice = um.fit("y ~ x", data, backend, weights=2 * w, **arguments)
    np.testing.assert_allclose(once.fixed.std_error, twice.fixed.std_error, rtol=1e-6)
    assert once.log_likelihood == pytest.approx(twice.log_likelihood, abs=1e-6)
    assert twice.sigma == pytest.approx(np.sqrt(2) * once.sigma, rel=1e-6)


def test_z_has_no_degrees_of_freedom() -> None:
    data, arguments = plain_data(as_family("gamma(log)"))
    assert np.isinf(fit("y ~ x", data, df_method="normal", **arguments).fixed.df).all()


@pytest.mark.r
def test_no_coefficients_leave_the_dispersion() -> None:
    data, arguments = plain_data(as_family("negative_binomial"))
    found = fit("y ~ 0", data, **arguments)
    assert found.converged
    assert found.log_likelihood == pytest.approx(um.fit("y ~ 0", data, backend="lme4", **arguments).log_likelihood)


@pytest.mark.r
def test_a_start_that_fails_is_replaced() -> None:
    """Means that grow without bound at one end and an inverse link: statsmodels' own iterations leave its range."""
    rng = np.random.default_rng(1)
    x = np.sort(rng.uniform(0, 1, 30))
    data = {"x": x, "y": rng.gamma(1, 1 / (0.05 + 3 * x))}
    found = fit("y ~ x", data, family="gamma(inverse)")
    assert "start" in found.provenance
    assert found.converged, found.status
    theirs = um.fit("y ~ x", data, backend="glmmtmb", family="gamma(inverse)")
    assert found.log_likelihood == pytest.approx(theirs.log_likelihood, abs=1e-6)


def test_a_group_without_counts_is_a_status() -> None:
    """statsmodels' own log-likelihood is not a number there: 0 log 0."""
    rng = np.random.default_rng(1)
    g = np.repeat(["a", "b", "c"], 30)
    y = np.where(g == "b", 0, rng.negative_binomial(1, 0.2, 90))
    for family in ("negative_binomial", "nb1"):
        found = fit("y ~ g", {"y": y, "g": g}, family=family)
        assert found.status.state == "not_converged"
        assert any("separation" in m for m in found.status.messages)


@pytest.mark.parametrize("family", PLAIN, ids=str)
def test_stopping_early_is_a_status(family: Family) -> None:
    data, arguments = plain_data(family)
    found = fit("y ~ x", data, options={"max_iterations": 1}, **arguments)
    if found.converged:  # one step from a good start may do
        full = fit("y ~ x", data, **arguments)
        assert found.log_likelihood == pytest.approx(full.log_likelihood, abs=1e-6)
    else:
        assert found.status.messages


def test_separation_is_not_convergence() -> None:
    x = np.arange(20.0)
    found = fit("y ~ x", {"y": (x > 9.5).astype(float), "x": x}, family="binomial")
    assert found.status.state == "not_converged"
    assert any("separation" in m for m in found.status.messages)


def test_counts_that_are_not_overdispersed_have_no_theta() -> None:
    rng = np.random.default_rng(0)
    data = {"y": rng.binomial(8, 0.5, 200), "x": rng.normal(size=200)}
    for family in ("negative_binomial", "nb1"):
        found = fit("y ~ x", data, family=family)
        assert found.status.state == "not_converged"
        assert "overdispers" in found.status.messages[0]
        assert np.isfinite(found.fixed.std_error).all()


def test_an_engine_that_raises_is_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def fit(self, **_: Any) -> None:
            raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(glm, "_build_glm", lambda design: Broken())
    monkeypatch.setattr(joint, "_build_nb", lambda design: Broken())
    for family in ("poisson", "gamma", "negative_binomial"):
        data, arguments = plain_data(as_family(family))
        found = fit("y ~ x", data, **arguments)
        assert found.status.state == "not_converged"
        assert "SVD did not converge" in found.status.messages[0]
        assert np.isnan(found.log_likelihood)


@pytest.mark.parametrize(
    ("family", "arguments", "words"),
    [
        ("negative_binomial", {"weights": "w"}, "NegativeBinomial has no weights"),
        ("beta", {"weights": "w"}, "BetaModel has no weights"),
        ("beta", {"offset": "off"}, "BetaModel has no offset"),
        ("negative_binomial(sqrt)", {}, "log link only"),
        ("student_t", {}, "experiment"),
        ("poisson", {"method": "variational"}, "without group effects"),
    ],
)
def test_plain_models_that_are_refused(family: str, arguments: dict[str, Any], words: str) -> None:
    data = simulate_family(as_family(family), mixed=False).assign(w=1.5, off=0.1)
    with pytest.raises(um.UnsupportedModelError, match=words):
        fit("y ~ x", data, family=family, **arguments)


# -- with group effects ---------------------------------------------------------------------------


@pytest.mark.r
@pytest.mark.parametrize("method", ["variational", "MAP"])
@pytest.mark.parametrize(("response", "family"), [("cbind(won, lost)", "binomial"), ("count", "poisson")])
def test_recovers_simulated_truth(response: str, family: str, method: Any) -> None:
    """Where every group has much to say; 40 groups of 40 rows."""
    data = rich(40, 40, sd=0.8)
    found = fit(f"{response} ~ x + (1 | g)", data, family=family, method=method)
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
    found = fit("count ~ x + (1 | g)", data, family="poisson")
    assert found.converged
    assert any("Intercept" in m and "times" in m for m in found.status.messages)
    laplace = um.fit("count ~ x + (1 | g)", data, backend="lme4", family="poisson")
    assert found.fixed.std_error[0] < 0.5 * laplace.fixed.std_error[0]


@pytest.mark.r
@pytest.mark.parametrize("random", ["(1 + x || g)", "(1 | g) + (1 | h)", "(1 | g/h)", "(0 + x | g)"])
def test_independent_effects_of_every_layout(random: str) -> None:
    found = fit(f"count ~ x + {random}", rich(), family="poisson")
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
    counted = fit("cbind(won, lost) ~ x + (1 | g)", data, family="binomial", method=method, options=options)
    design = design_of("cbind(won, lost) ~ x + (1 | g)", data, {"family": "binomial"})
    rows, outcomes = expand_trials(design)
    assert len(rows) == (data["won"] + data["lost"]).sum()
    single = fit(
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
    found = fit("count ~ x + (1 | g)", data, options={"conditioning": False}, **arguments)
    model = build_model(design_of("count ~ x + (1 | g)", data, arguments), 1.0, 10.0)
    own = model.fit_vb(
        mean=found.native.params, sd=np.sqrt(found.native.cov_params()), minim_opts={"gtol": 1e-4, "maxiter": 5000}
    )
    np.testing.assert_allclose(own.fe_mean, found.fixed.estimate, atol=1e-4)
    np.testing.assert_allclose(own.fe_sd, found.fixed.std_error, rtol=1e-3)
    np.testing.assert_allclose(np.exp(own.vcp_mean), found.random[0].sd, rtol=1e-3)
    np.testing.assert_allclose(own.vc_mean, np.ravel(found.random[0].modes), atol=1e-3)


def test_a_mode_at_zero_is_not_an_answer() -> None:
    """With 0/1 outcomes the joint density has one peak, at SD zero, whatever the data."""
    found = fit("outcome ~ x + (1 | g)", rich(100, 4), family="binomial", method="MAP")
    assert found.status.state == "not_converged"
    assert "goes to zero" in found.status.messages[0]


def test_the_option_chooses_the_approximation() -> None:
    data = rich(30, 40)
    by_option = fit("count ~ x + (1 | g)", data, family="poisson", options={"approximation": "map"})
    assert by_option.model.method == "MAP"
    assert fit("count ~ x + (1 | g)", data, family="poisson").model.method == "variational"
    assert fit("count ~ x", data, family="poisson", options={"approximation": "map"}).model.method == "ML"


def test_priors_are_reported_and_matter() -> None:
    data = rich()
    loose = fit("outcome ~ x + (1 | g)", data, family="binomial")
    tight = fit("outcome ~ x + (1 | g)", data, family="binomial", options={"fe_p": 0.05, "vcp_p": 0.1})
    assert loose.engine.priors["fixed effects"].startswith("Normal(0, 10)")
    assert tight.engine.priors["sd(g: Intercept)"] == "LogNormal(0, 0.1)"
    assert np.abs(tight.fixed.estimate).max() < 0.5 * np.abs(loose.fixed.estimate).max()
    assert abs(np.log(tight.random[0].sd[0])) < abs(np.log(loose.random[0].sd[0]))


def test_the_same_call_gives_the_same_answer() -> None:
    first, second = (fit("outcome ~ x + (1 | g)", rich(), family="binomial", seed=s) for s in (1, 2))
    np.testing.assert_array_equal(first.fixed.estimate, second.fixed.estimate)
    np.testing.assert_array_equal(first.random[0].modes, second.random[0].modes)


@pytest.mark.parametrize("method", ["variational", "MAP"])
def test_an_approximation_that_stopped_early_is_not_converged(monkeypatch: pytest.MonkeyPatch, method: Any) -> None:
    monkeypatch.setattr("unimix.backends.statsmodels.adapter.STEPS", 1)
    found = fit("count ~ x + (1 | g)", rich(30, 40), family="poisson", method=method, options={"max_iterations": 2})
    assert found.status.state == "not_converged"
    assert found.status.messages


def test_intervals_are_quantiles_of_the_approximate_posterior() -> None:
    found = fit("count ~ x + (1 | g)", rich(), family="poisson", ci_level=0.9)
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
        fit(formula, rich(), **arguments)
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
    assert words in fit(formula, rich(), family=family).engine.call


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
