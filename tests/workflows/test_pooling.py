"""Complete, no and partial pooling: against lmList, least squares, closed forms and the references."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from dense_effects import dense_error
from gold import gaussian_cases

import unimix as um
from unimix.analysis.summaries.partial_pooling import icc, level_estimates

R = json.loads((Path(__file__).parents[1] / "data" / "pooling_r.json").read_text())
SLEEP = "Reaction ~ Days + (1 + Days | Subject)"


@pytest.fixture(scope="module")
def sleep() -> um.Pooling:
    return um.pooling(SLEEP, um.load_dataset("sleepstudy"), "pls")


def by_term(column: pd.Series) -> pd.DataFrame:
    """Levels x terms."""
    frame = column.rename("value").reset_index()
    return frame.pivot_table(index=frame.columns[0], columns="term", values="value", observed=True)


def groups_of(dataset: str) -> list[pd.DataFrame]:
    data = um.load_dataset(dataset)
    return [g for _, g in data.groupby("Subject" if "Subject" in data else "Pig", observed=True)]


@pytest.mark.parametrize(
    ("name", "dataset", "formula"),
    [
        ("sleep", "sleepstudy", SLEEP),
        ("pigs", "dietox", "Weight ~ Time + I(Time^2) + (1 | Pig)"),
    ],
)
def test_no_pooling_is_lmlist(name: str, dataset: str, formula: str) -> None:
    """1e-6: both are least squares; R prints twelve digits. The pooled residual SD is lmList's."""
    found = um.pooling(formula, um.load_dataset(dataset), "pls")
    expected = R[name]
    table = found.no_pooling.loc[expected["levels"]]
    np.testing.assert_allclose(table.to_numpy(), expected["coef"], rtol=1e-6)
    errors = by_term(found.table["std_error"]).loc[[*expected["levels"]], list(table.columns)]
    np.testing.assert_allclose(errors.to_numpy(), expected["se"], rtol=1e-6)
    regressions = level_estimates(found.first).no
    assert regressions.sigma == pytest.approx(expected["sigma"], rel=1e-8)
    assert regressions.df == sum(len(g) - table.shape[1] for g in groups_of(dataset))


def test_complete_is_least_squares_and_partial_the_mixed_model(sleep: um.Pooling) -> None:
    data = um.load_dataset("sleepstudy")
    ols = sm.OLS(data["Reaction"], sm.add_constant(data["Days"])).fit()
    np.testing.assert_allclose(sleep.complete.fixed.estimate, ols.params, rtol=1e-8)
    np.testing.assert_allclose(sleep.complete.fixed.std_error, ols.bse, rtol=1e-8)
    wide = by_term(sleep.table["partial"])
    expected = sleep.first.coefficients("Subject")
    np.testing.assert_allclose(wide[expected.columns].loc[expected.index], expected, rtol=1e-10)
    assert set(sleep.table["complete"].xs("Days", level="term").round(6)) == {round(float(ols.params["Days"]), 6)}


def test_columns_of_the_table_follow_from_each_other(sleep: um.Pooling) -> None:
    t = sleep.table
    np.testing.assert_allclose(t["moved"], t["partial"] - t["no_pooling"], rtol=1e-12)
    np.testing.assert_allclose(t["shrinkage"], t["moved"] / (t["centre"] - t["no_pooling"]), rtol=1e-9)
    assert (t["reliability"].between(0, 1)).all()
    assert (t["n"] == 10).all()
    summary = sleep.summary_table
    wide = by_term(t["no_pooling"])
    assert summary.loc["Days", "sd_no_pooling"] == pytest.approx(wide["Days"].std())


def test_reliability_of_an_intercept_is_the_textbooks() -> None:
    """tau^2 / (tau^2 + sigma^2 / n_j), unbalanced; and the intercept moves by exactly that share (balanced x)."""
    data = um.load_dataset("dietox")
    fit = um.fit("Weight ~ Time + (1 | Pig)", data, "pls")
    found = level_estimates(fit)
    n = data.groupby("Pig")["Weight"].size().reindex(found.levels).to_numpy()
    tau2, sigma2 = fit.random[0].covariance[0, 0], fit.sigma**2
    np.testing.assert_allclose(found.reliability[:, 0], tau2 / (tau2 + sigma2 / n), rtol=1e-9)
    assert (found.reliability[:, 1] == 0).all()
    constant = um.fit("Weight ~ 1 + (1 | Pig)", data, "pls")
    t = level_estimates(constant).table()
    np.testing.assert_allclose(1 - t["shrinkage"], t["reliability"], atol=1e-9)  # near zero: pigs differ little


def test_a_predictor_that_is_constant_in_a_level_belongs_to_its_intercept() -> None:
    """Cu is the pig's: its effect stands in the intercepts of every kind of pooling; lines are the fitted ones."""
    data = um.load_dataset("dietox")
    fit = um.fit("Weight ~ Time + Cu + (1 + Time | Pig)", data, "pls")
    found = level_estimates(fit)
    assert [n for j, n in enumerate(found.columns.names) if found.no.own[:, j].any()] == ["Intercept", "Time"]
    x = found.columns.array
    line = np.einsum("nk,nk->n", x * found.no.own[found.codes], found.partial[found.codes])
    np.testing.assert_allclose(line, fit.fitted, rtol=1e-9)
    fixed = np.einsum("nk,nk->n", x * found.no.own[found.codes], found.centre[found.codes])
    np.testing.assert_allclose(fixed, fit.predict(level="population"), rtol=1e-9)


def test_partial_standard_errors_are_those_of_the_mixed_model_equations() -> None:
    """Against the covariance of (beta, b) from the dense V."""
    fit = um.fit(SLEEP, um.load_dataset("sleepstudy"), "pls")
    joint, _, _ = dense_error(fit)
    found = level_estimates(fit).partial_sd
    for level in (0, 7, 17):
        for j in range(2):
            pick = np.zeros(len(joint))
            pick[[j, 2 + 2 * level + j]] = 1.0
            assert found[level, j] == pytest.approx(np.sqrt(pick @ joint @ pick), rel=1e-8)


def small() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    n = np.array([12, 9, 7, 1, 5, 8])
    data = pd.DataFrame({"g": np.repeat(list("abcdef"), n), "x": rng.normal(size=n.sum())})
    data.loc[data["g"] == "e", "x"] = 2.0
    effects = dict(zip("abcdef", rng.normal(0, 2, 6), strict=True))
    return data.assign(y=1 + data["x"] + data["g"].map(effects) + rng.normal(size=len(data)))


def test_levels_that_are_too_small_are_named_and_keep_their_place() -> None:
    found = um.pooling("y ~ x + (1 | g)", small(), "pls")
    assert found.too_small == {
        "d": "1 row for 2 coefficients",
        "e": "x cannot be distinguished from the other columns in its 5 rows",
    }
    assert found.table.loc[["d", "e"], "no_pooling"].isna().all()
    assert found.table.loc[["d", "e"], "partial"].notna().all()
    assert found.no_pooling.loc[list("abcf")].notna().all().all()
    assert "2 of 6 levels have no regression of their own (d: 1 row for 2 coefficients" in str(found)


def test_weights_and_offsets_reach_every_kind() -> None:
    data = small()
    data["w"] = np.linspace(0.5, 3, len(data))
    data["o"] = np.linspace(-1, 1, len(data))
    found = um.pooling("y ~ x + offset(o) + (1 | g)", data, "pls", weights="w")
    own = data[data["g"] == "b"]
    wls = sm.WLS(own["y"] - own["o"], sm.add_constant(own["x"]), weights=own["w"]).fit()
    np.testing.assert_allclose(found.no_pooling.loc["b"], wls.params, rtol=1e-8)
    whole = sm.WLS(data["y"] - data["o"], sm.add_constant(data["x"]), weights=data["w"]).fit()
    np.testing.assert_allclose(found.complete.fixed.estimate, whole.params, rtol=1e-8)
    np.testing.assert_allclose(found.table["complete"].xs("x", level="term"), whole.params["x"], rtol=1e-8)


def test_generalised_models_have_maximum_likelihood_per_level() -> None:
    """1e-6 against statsmodels; a level without events is separated and named."""
    rng = np.random.default_rng(8)
    data = pd.DataFrame({"g": np.repeat(list("abcd"), 40), "x": rng.normal(size=160)})
    rate = np.exp(0.5 + 0.4 * data["x"] + data["g"].map({"a": 0.0, "b": 1.0, "c": -0.5, "d": 0.3}))
    data["y"] = rng.poisson(rate)
    data.loc[data["g"] == "d", "y"] = 0
    found = um.pooling("y ~ x + (1 | g)", data, "pls", family="poisson")
    assert list(found.too_small) == ["d"]
    assert "infinite" in found.too_small["d"]
    own = data[data["g"] == "b"]
    glm = sm.GLM(own["y"], sm.add_constant(own["x"]), family=sm.families.Poisson()).fit()
    np.testing.assert_allclose(found.no_pooling.loc["b"], glm.params, rtol=1e-6)
    np.testing.assert_allclose(found.table.loc["b", "std_error"], glm.bse, rtol=1e-5)


def package_is_right(case: Any) -> bool:
    """The references' shares come from a package that errs at independent terms, terms without intercept and zeros."""
    random = case.reference["random"]
    groups = [r["group"] for r in random]
    usual = len(set(groups)) == len(groups) and all("(Intercept)" in r["terms"] for r in random)
    return usual and not case.reference["singular"]


CASES = [c for c in gaussian_cases() if c.mixed and c.reference.get("nakagawa") and package_is_right(c)]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_the_intraclass_correlation_is_the_references(case: Any) -> None:
    """1e-5 for the sum over factors: Nakagawa's adjusted ICC, of lme4's default fit."""
    expected = case.reference["nakagawa"]["icc_adjusted"]
    assert sum(icc(case.fit("pls")).values()) == pytest.approx(expected, rel=1e-5)


def test_independent_slopes_count_by_their_mean_square() -> None:
    data = um.load_dataset("sleepstudy")
    fit = um.fit("Reaction ~ Days + (Days || Subject)", data, "pls")
    random = fit.random[0].covariance[0, 0] + fit.random[1].covariance[0, 0] * (data["Days"] ** 2).mean()
    assert icc(fit) == {"Subject": pytest.approx(random / (random + fit.sigma**2), rel=1e-10)}


def test_several_engines_and_the_same_regressions() -> None:
    data = um.load_dataset("sleepstudy")
    found = um.pooling(SLEEP, data, backends=["pls", "statsmodels"])
    assert list(found.partial) == ["pls", "statsmodels"]
    assert found.table.index.names == ["engine", "Subject", "term"]
    a, b = found.table.loc["pls"], found.table.loc["statsmodels"]
    np.testing.assert_allclose(a["no_pooling"], b["no_pooling"], rtol=1e-12)
    np.testing.assert_allclose(a["partial"], b["partial"], rtol=1e-4)
    assert list(found.icc.index) == ["pls", "statsmodels"]


def test_a_posterior_pools_too() -> None:
    data = um.load_dataset("sleepstudy")
    priors = {"sd(Subject: Intercept)": um.priors.HalfNormal(40), "Days": um.priors.Normal(0, 50)}
    sampler = um.backends.Bayes(draws=1000, chains=2)
    found = um.pooling(SLEEP, data, sampler, seed=3, priors=priors)
    other = level_estimates(um.fit(SLEEP, data, "pls")).table()
    gap = (found.table["partial"] - other["partial"]).abs() / other["partial_sd"]
    assert gap.max() < 0.5  # the priors are weak beside 180 rows
    assert found.complete.fixed.interval == "credible"
    assert "Normal" in found.complete.engine.priors["Days"]


def test_what_cannot_be_pooled_is_said() -> None:
    data = um.load_dataset("sleepstudy")
    with pytest.raises(um.DataError, match="no grouping factor to pool over"):
        um.pooling("Reaction ~ Days", data)
    with pytest.raises(um.DataError, match=r"'subject' is not a grouping factor of this model. Did you mean 'Subject'"):
        um.pooling(SLEEP, data, "pls", group="subject")
    pastes = um.load_dataset("pastes")
    with pytest.raises(um.OptionError, match="several grouping factors: name one of"):
        um.pooling("strength ~ 1 + (1 | batch/cask)", pastes, "pls")
    named = um.pooling("strength ~ 1 + (1 | batch/cask)", pastes, "pls", group="batch")
    assert len(named.no_pooling) == 10
    with pytest.raises(um.OptionError, match="'lme4' is not in this object: pls"):
        named["lme4"]


def test_a_loaded_result_pools_when_it_is_given_its_data() -> None:
    data = um.load_dataset("sleepstudy")
    fit = um.fit(SLEEP, data, "pls")
    again = um.FitResult.from_json(fit.to_json())
    with pytest.raises(um.DataError, match="holds no data"):
        level_estimates(again)
    pd.testing.assert_frame_equal(
        level_estimates(again.with_data(data)).table(), level_estimates(fit).table(), rtol=1e-9
    )
