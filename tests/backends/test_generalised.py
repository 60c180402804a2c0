"""Generalised models beyond the contract: constants of the likelihood, separation, scales, parts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from generalised_data import RESPONSES as DATA
from generalised_data import ROWS as N
from scipy import stats

import unimix as um
from unimix.backends.capabilities import Yes
from unimix.backends.registry import others
from unimix.design.design import build_design
from unimix.distributions.family import as_family
from unimix.formula.interpreter import parse
from unimix.testing import dense
from unimix.testing.generalised import simulate_family
from unimix.testing.simulated import simulate_rich

# --- constants -------------------------------------------------------------------------------------------------------


def closed_form(fit: um.FitResult, data: pd.DataFrame) -> float:
    """Log-likelihood by scipy's densities at the fitted means."""
    y, mu, p = data["y"].to_numpy(), np.array(fit.fitted), fit.criteria.parameters
    match fit.model.family:
        case "gaussian":
            return float(stats.norm.logpdf(y, mu, p["sigma"]).sum())
        case "binomial":
            return float(stats.binom.logpmf(np.round(y * data["trials"]), data["trials"], mu).sum())
        case "poisson":
            return float(stats.poisson.logpmf(y, mu).sum())
        case "gamma":
            return float(stats.gamma.logpdf(y, 1 / p["dispersion"], scale=mu * p["dispersion"]).sum())
        case "inverse_gaussian":
            return float(stats.invgauss.logpdf(y, mu * p["dispersion"], scale=1 / p["dispersion"]).sum())
        case "negative_binomial":
            return float(stats.nbinom.logpmf(y, p["theta"], p["theta"] / (p["theta"] + mu)).sum())
        case "negative_binomial_1":
            return float(stats.nbinom.logpmf(y, mu / p["alpha"], 1 / (1 + p["alpha"])).sum())
        case "beta":
            return float(stats.beta.logpdf(y, mu * p["precision"], (1 - mu) * p["precision"]).sum())
        case "beta_binomial":
            k, n, phi = np.round(y * data["trials"]), data["trials"].to_numpy(), p["precision"]
            return float(stats.betabinom.logpmf(k, n, mu * phi, (1 - mu) * phi).sum())
        case "student_t":
            return float(stats.t.logpdf(y, p["nu"], mu, p["sigma"]).sum())
        case "truncated_poisson":
            mu = np.exp(fit.rows.linear_predictor)
            return float((stats.poisson.logpmf(y, mu) - np.log(stats.poisson.sf(0, mu))).sum())
        case "truncated_negative_binomial":
            mu = np.exp(fit.rows.linear_predictor)
            whole = stats.nbinom(p["theta"], p["theta"] / (p["theta"] + mu))
            return float((whole.logpmf(y) - np.log(whole.sf(0))).sum())
        case label:
            raise ValueError(label)


FAMILIES = [
    *("gaussian(log)", "binomial", "poisson", "gamma", "inverse_gaussian", "nbinom2", "nbinom1", "beta"),
    *("beta_binomial", "student_t", "truncated_poisson", "truncated_negative_binomial"),
]
PLAIN = [
    (name, family)
    for name, backend in others().items()
    for family in FAMILIES
    if not backend.info.samples and isinstance(backend.families.answer(as_family(family), mixed=False), Yes)
]


@pytest.mark.parametrize(("backend", "family"), PLAIN)
def test_log_likelihoods_carry_all_constants(backend, family):
    """Without group effects every engine's value is that of scipy's densities, and engines agree with pls."""
    made = as_family(family)
    data = simulate_family(made, mixed=False, seed=4, n_groups=10)
    arguments = {"family": made, **({"weights": "trials"} if made.response == "binomial" else {})}
    fit = um.fit("y ~ x", data, backend, **arguments)
    assert fit.criteria.criterion == "ML"
    assert fit.log_likelihood == pytest.approx(closed_form(fit, data), abs=1e-6)
    # Dispersion parameters at different estimates of them move the value by less than this.
    assert fit.log_likelihood == pytest.approx(um.fit("y ~ x", data, "pls", **arguments).log_likelihood, abs=1e-4)


# --- separation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["lme4", "glmmtmb", "pymer4"])
@pytest.mark.parametrize("formula", ["sep ~ x", "sep ~ x + (1 | g)"])
def test_separation_is_a_status(backend, formula):
    data = DATA.assign(sep=(DATA["x"] > 0).astype(int))
    try:
        fit = um.fit(formula, data, backend, family="binomial")
    except um.FitError:
        return  # the engine stopped, in words
    assert fit.status.state == "not_converged"
    assert any("separation" in m and "x" in m for m in fit.status.messages)
    assert "DID NOT CONVERGE" in str(fit)


@pytest.mark.r
def test_quasi_separation_of_counts_is_seen():
    data = DATA.assign(f=np.where(np.arange(N) < 10, "none", "some"))
    data.loc[:9, "count"] = 0
    fit = um.fit("count ~ f", data, "lme4", family="poisson")
    assert not fit.converged
    assert "f[T.some]" in fit.status.messages[0]
    assert um.fit("count ~ x", data, "lme4", family="poisson").converged


# --- scales and residuals --------------------------------------------------------------------------------------------


@pytest.mark.r
def test_residuals_are_rs():
    """R's residuals.glm of every type, on a binomial model with trials."""
    from unimix.backends.r.bridge import connect

    fit = um.fit("rate ~ x", DATA, "lme4", family="binomial", weights="trials")
    bridge = connect("lme4", "")
    for kind in ("response", "pearson", "deviance", "working"):
        values = bridge._ri.baseenv["eval"](bridge._ri.parse(f"function(m) residuals(m, type = '{kind}')"))(fit.native)
        np.testing.assert_allclose(fit.residuals(kind), np.array(list(values)), rtol=1e-7, atol=1e-9)


@pytest.mark.r
def test_exponentiated_estimates_are_ratios_with_their_intervals():
    fit = um.fit("count ~ x + (1 | g)", DATA, "lme4", family="poisson")
    plain, table = fit.tidy(), fit.tidy(exponentiate=True)
    np.testing.assert_allclose(table["estimate"], np.exp(plain["estimate"]))
    np.testing.assert_allclose(table["conf.low"], np.exp(plain["conf.low"]))
    np.testing.assert_allclose(table["std.error"], plain["std.error"] * np.exp(plain["estimate"]))
    with pytest.raises(um.OptionError, match="probit"):
        um.fit("yes ~ x", DATA, "lme4", family="binomial(probit)").tidy(exponentiate=True)
    with pytest.raises(um.OptionError, match="fixed"):
        fit.tidy("ran_vals", exponentiate=True)


@pytest.mark.r
def test_overdispersion_is_reported():
    rng = np.random.default_rng(2)
    data = DATA.assign(wild=rng.negative_binomial(1.0, 0.2, N))
    fit = um.fit("wild ~ x", data, "lme4", family="poisson")
    pearson = np.sum((data["wild"] - fit.fitted) ** 2 / fit.fitted) / (N - 2)
    assert fit.criteria.pearson_dispersion == pytest.approx(pearson)
    assert pearson > 2
    assert "Pearson chi-squared / df" in str(fit)
    calm = um.fit("wild ~ x", data, "lme4", family="nbinom2")
    assert calm.criteria.pearson_dispersion == pytest.approx(1.0, abs=0.6)


@pytest.mark.r
def test_a_generalised_result_survives_json():
    data = simulate_rich()
    fit = um.fit("count ~ x + (1 | g)", data, "glmmtmb", family="nbinom1", ziformula="~ x")
    again = um.FitResult.from_json(fit.to_json())
    assert again == fit
    np.testing.assert_array_equal(again.predict(data), fit.predict(data))
    np.testing.assert_allclose(fit.predict(data), fit.fitted, rtol=1e-12)
    pd.testing.assert_frame_equal(again.zero_inflation, fit.zero_inflation)
    assert "Zero inflation (logit of" in str(again)


# --- parts and structures --------------------------------------------------------------------------------------------


@pytest.mark.r
def test_a_model_of_the_dispersion_is_the_dense_likelihood():
    """REML of a heteroscedastic model, written down with a dense covariance matrix; both codings of the columns."""
    data = simulate_rich()
    fit = um.fit("y ~ x + (1 | g)", data, "glmmtmb", dispformula="~ x")
    bare = um.fit("y ~ x + (1 | g)", data, "glmmtmb", dispformula="~ x", options={"conditioning": False})
    design = build_design(parse("y ~ x + (1 | g)"), data)
    gamma = fit.dispersion_effects["estimate"].to_numpy()
    sigma = np.exp(np.column_stack([np.ones(len(data)), data["x"]]) @ gamma)
    from dataclasses import replace

    heteroscedastic = replace(design, weights=1 / sigma**2)
    own = dense.log_likelihood(heteroscedastic, (np.array(fit.random[0].covariance),), 1.0, reml=True)
    assert fit.log_likelihood == pytest.approx(own, abs=1e-5)
    assert bare.log_likelihood == pytest.approx(own, abs=1e-5)
    np.testing.assert_allclose(bare.dispersion_effects["estimate"], gamma, atol=1e-4)
    assert np.isnan(fit.sigma)


@pytest.mark.r
def test_structures_have_their_form():
    data = simulate_rich()
    ar1 = um.fit("series ~ x + ar1(0 + t | g)", data, "glmmtmb").random[0]
    lag = np.array(ar1.correlation)
    np.testing.assert_allclose(np.diag(lag, 2), lag[0, 1] ** 2, rtol=1e-6)
    np.testing.assert_allclose(ar1.sd, ar1.sd[0], rtol=1e-6)
    cs = np.array(um.fit("series ~ x + cs(0 + t | g)", data, "glmmtmb").random[0].correlation)
    np.testing.assert_allclose(cs[np.tril_indices(6, -1)], cs[1, 0], rtol=1e-6)
    with pytest.raises(um.DataError, match="one factor of equally spaced times"):
        um.fit("y ~ x + ar1(1 + x | g)", data, "glmmtmb")
    both = [um.fit(f"y ~ x + {term}", data, "lme4").log_likelihood for term in ("diag(1 + x | g)", "(1 + x || g)")]
    assert both[0] == both[1]
    us = [um.fit(f"y ~ x + {term}", data, "lme4").log_likelihood for term in ("us(1 + x | g)", "(1 + x | g)")]
    assert us[0] == us[1]


@pytest.mark.parametrize("backend", ["lme4", "glmmtmb"])
def test_group_effects_that_predict_everything_are_a_status(backend):
    """Twelve yes-or-no answers in six pairs with an intercept and a slope each: the variances have no maximum."""
    x = [112.5, 93.1, 76.0, 104.8, 120.4, -60.4, 120.2, -16.3, 49.9, 157.3, 94.5, 72.9]
    data = pd.DataFrame({"y": [1, 1, 1, 1, 1, 0, 1, 0, 1, 0, 0, 0], "x": x, "g": np.repeat(list("abcdef"), 2)})
    try:
        fit = um.fit("y ~ x + (1 + x | g)", data, backend, family="binomial")
    except um.FitError:
        return  # the engine has no standard errors there, and says so
    assert fit.status.state == "not_converged"
    assert "predict (nearly) every response" in fit.status.messages[0]


@pytest.mark.r
@pytest.mark.parametrize("backend", ["lme4", "glmmtmb", "statsmodels"])
@pytest.mark.parametrize("formula", ["tame ~ x", "tame ~ x + (1 | g)"])
def test_counts_without_overdispersion_are_a_status(backend, formula):
    """Binomial counts vary less than Poisson ones: theta has no estimate, and R's logLik of glm.nb is then wrong."""
    data = DATA.assign(tame=np.random.default_rng(1).binomial(6, 0.5, N))
    try:
        fit = um.fit(formula, data, backend, family="nbinom2")
    except (um.FitError, um.UnsupportedModelError):
        return
    assert fit.status.state == "not_converged"
    poisson = um.fit(formula, data, "glmmtmb", family="poisson")
    assert fit.log_likelihood == pytest.approx(poisson.log_likelihood, abs=0.05)


@pytest.mark.r
def test_results_go_through_pickle_without_the_engines_object():
    import pickle

    fit = um.fit("count ~ x + (1 | g)", DATA, "lme4", family="poisson")
    again = pickle.loads(pickle.dumps(fit))
    assert again == fit
    assert fit.native is not None
    assert again.native is None


@pytest.mark.r
def test_comparisons_name_criteria_and_measure_approximations():
    herds = um.load_dataset("cbpp")
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    same = um.compare(formula, herds, backends=["lme4", "glmmtmb", "statsmodels"], family="binomial")
    same.assert_agree()
    assert same.verdicts.loc["glmmtmb", "verdict"] == "numerically equal"
    assert same.verdicts.loc["statsmodels", "verdict"] == "expected to differ"
    reason = str(same.verdicts.loc["statsmodels", "reason"])
    assert "variational" in reason
    assert "times the others'" in reason
    probit = um.compare(formula, herds, backends=["lme4", "glmmtmb"], family="binomial(probit)")
    assert "not comparable" in str(probit.verdicts.loc["glmmtmb", "reason"])
    assert np.isnan(probit.differences.loc[("fit", "log_likelihood (difference)"), "glmmtmb"])
    laplace = um.fit(formula, herds, "lme4", family="binomial")
    exact = um.fit(formula, herds, "lme4", family="binomial", method="AGQ")
    both = um.compare(laplace, exact)
    assert "AGQ(25)" in str(both)
    assert set(both.verdicts["verdict"]) == {"reference", "expected to differ"}


# --- what a sceptic found --------------------------------------------------------------------------------------------


def series() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    e = np.zeros((25, 12))
    e[:, 0] = rng.normal(size=25)
    for t in range(1, 12):
        e[:, t] = 0.8 * e[:, t - 1] + 0.6 * rng.normal(size=25)
    data = pd.DataFrame({"s": np.repeat(np.arange(25).astype(str), 12), "time": np.tile(np.arange(1, 13), 25)})
    return data.assign(y=e.ravel() + 0.5 * rng.normal(size=300), text="t" + data["time"].astype(str))


@pytest.mark.r
def test_times_of_an_autoregression_are_in_order_and_equally_spaced():
    data = series()
    wanted = um.fit("y ~ 1 + ar1(0 + C(time) | s)", data, "glmmtmb")
    ordered = data.assign(text=pd.Categorical(data["text"], categories=[f"t{k}" for k in range(1, 13)]))
    fit = um.fit("y ~ 1 + ar1(0 + text | s)", ordered, "glmmtmb")
    assert fit.log_likelihood == pytest.approx(wanted.log_likelihood, abs=1e-6)
    with pytest.raises(um.DataError, match="as text sorts"):
        um.fit("y ~ 1 + ar1(0 + text | s)", data, "glmmtmb")
    with pytest.raises(um.DataError, match="equally spaced"):
        um.fit("y ~ 1 + ar1(0 + C(time) | s)", data[data["time"] != 5], "glmmtmb")
    for structure in ("ar1", "cs"):
        with pytest.raises(um.DataError, match="needs several columns"):
            um.fit(f"y ~ 1 + {structure}(0 + time | s)", data, "glmmtmb")


def gamma_like(seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x, u, g = rng.normal(size=120), rng.normal(size=15) * 0.5, np.repeat(np.arange(15), 8)
    mu = np.exp(0.5 + 0.4 * x + u[g])
    return pd.DataFrame({"g": g, "x": x, "y": rng.gamma(4, mu / 4)})


@pytest.mark.r
def test_the_unit_of_the_response_hides_no_search_that_stopped_short():
    """The same heteroscedastic model in units a thousand times larger: the same optimum, or a status."""
    data = gamma_like()
    plain = um.fit("y ~ x + (1 | g)", data, "glmmtmb", dispformula="~ x", method="ML")
    large = um.fit("y ~ x + (1 | g)", data.assign(y=1000 * data["y"]), "glmmtmb", dispformula="~ x", method="ML")
    gap = plain.log_likelihood - (large.log_likelihood + len(data) * np.log(1000))
    assert plain.status.state == "converged"
    assert gap < 1e-3 or not large.converged
    tiny = um.fit("y ~ x + (1 | g)", data.assign(y=1e-6 * data["y"]), "glmmtmb", dispformula="~ x", method="ML")
    assert not tiny.singular
    np.testing.assert_allclose(plain.residuals("pearson"), plain.residuals() / np.asarray(plain.rows.dispersion))
    assert "Residual" not in set(plain.variance_components["group"])


@pytest.mark.parametrize("backend", ["lme4", "glmmtmb"])
def test_linear_predictors_outside_a_link_are_a_status(backend):
    rng = np.random.default_rng(7)
    x, u, g = rng.normal(size=120), rng.normal(size=15) * 0.3, np.repeat(np.arange(15), 8)
    data = pd.DataFrame({"y": rng.poisson((1.3 + 0.25 * x + u[g]) ** 2), "x": x, "g": g})
    fit = um.fit("y ~ x + (1 | g)", data, backend, family="poisson(sqrt)")
    assert not fit.converged
    assert any("sqrt link has no mean" in m for m in fit.status.messages)


@pytest.mark.parametrize(
    ("formula", "words"), [("~ 0", "write '~ 1' for a constant one"), ("~ .", "in ziformula or in dispformula")]
)
def test_a_dispersion_without_terms_or_with_all_of_them_is_refused(formula, words):
    with pytest.raises(um.FormulaError, match=words):
        um.fit("count ~ x + (1 | g)", DATA, "glmmtmb", family="nbinom2", dispformula=formula)


@pytest.mark.parametrize("backend", ["lme4", "pymer4"])
def test_large_counts_loosen_the_inner_tolerance_and_say_so(backend):
    """At 1e-12 lme4's step-halvings fail: a deviance of counts near 1e6 has no such digits."""
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(24), 10), rng.normal(size=240)
    count = rng.poisson(1e6 * np.exp(0.1 * x + 0.05 * rng.normal(size=24)[g]))
    data = pd.DataFrame({"count": count, "x": x, "g": g.astype(str)})
    fit = um.fit("count ~ x + (1 | g)", data, backend, family="poisson")
    other = um.fit("count ~ x + (1 | g)", data, "glmmtmb", family="poisson")
    assert "step-halvings" in fit.provenance["tol_pwrss"]
    assert fit.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-3)
    assert (np.abs(fit.fixed.estimate - other.fixed.estimate) / other.fixed.std_error).max() < 1e-2


def test_weights_of_glmer_nb_are_refused():
    with pytest.raises(um.UnsupportedModelError, match="goes wrong"):
        um.fit("count ~ x + (1 | g)", DATA, "lme4", family="nbinom2", weights="trials")


@pytest.mark.r
def test_separated_zero_inflation_is_a_status():
    data = simulate_rich()
    data.loc[data["f"] == "hi", "count"] += 1
    fit = um.fit("count ~ x + (1 | g)", data, "glmmtmb", family="poisson", ziformula="~ f")
    assert not fit.converged
    assert any("f[T.hi] (zero inflation)" in m for m in fit.status.messages)
