"""Effects averaged over the groups: against simulated groups, closed forms, and each other."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import special

import unimix as um

SLOPES = "TICKS ~ YEAR + cHEIGHT + (1 + cHEIGHT | BROOD)"


@pytest.fixture(scope="module")
def slopes() -> um.FitResult:
    return um.fit(SLOPES, um.load_dataset("grouseticks"), "pls", family="poisson")


def test_means_are_those_of_simulated_groups(herds: um.FitResult) -> None:
    """A million herds: four standard errors of their mean."""
    effects = np.random.default_rng(2).normal(0, float(herds.random[0].sd[0]), 1_000_000)
    new = {"period": ["1", "4"]}
    found = herds.predict(new, average="groups")
    for eta, mean in zip(herds.predict(new, level="population", kind="link"), found, strict=True):
        made = special.expit(eta + effects)
        assert abs(made.mean() - mean) < 4 * made.std() / 1000


def test_a_logarithmic_link_has_a_closed_form(slopes: um.FitResult) -> None:
    """E exp(eta + z'b) = exp(eta + z'Gz / 2), with z'Gz of each row's own height."""
    new = pd.DataFrame({"YEAR": ["95", "97"], "cHEIGHT": [-30.0, 50.0]})
    z = np.column_stack([np.ones(2), new["cHEIGHT"]])
    half = np.einsum("ni,ij,nj->n", z, np.asarray(slopes.random[0].covariance), z) / 2
    plain = slopes.predict(new, level="population")
    np.testing.assert_allclose(slopes.predict(new, average="groups"), plain * np.exp(half), rtol=1e-10)
    table = slopes.predict(new, average="groups", interval="confidence").table
    before = slopes.predict(new, level="population", interval="confidence").table
    for column in ("estimate", "std_error", "lower", "upper"):
        np.testing.assert_allclose(table[column], before[column] * np.exp(half), rtol=1e-10)
    # the slope of that mean, whose variance depends on the height, too
    row = new.iloc[[1]]
    slope = slopes.comparisons("cHEIGHT", newdata=row, comparison="dydx", average="groups").table["estimate"].iloc[0]
    rate = slopes.fixed_effects.loc["cHEIGHT", "estimate"] + z[1] @ np.asarray(slopes.random[0].covariance) @ [0, 1]
    assert slope == pytest.approx(rate * plain[1] * np.exp(half[1]), rel=1e-5)


def test_means_comparisons_and_predictions_agree(herds: um.FitResult) -> None:
    means = herds.emmeans("period", average="groups")
    predicted = herds.predict({"period": list("1234")}, average="groups", interval="confidence").table
    for column in ("estimate", "std_error", "lower", "upper"):
        np.testing.assert_allclose(means.table[column], predicted[column], rtol=1e-10)
    contrasts = means.contrasts("reference", adjust="none").table
    changes = herds.comparisons("period", average="groups").table
    for column in ("estimate", "std_error", "p_value"):
        np.testing.assert_allclose(contrasts[column], changes[column], rtol=1e-8)
    assert "averaged over the groups at the estimated variances" in str(means)
    assert "population level" not in str(herds.comparisons("period", average="groups"))
    low, high = (special.logit(predicted["estimate"].iloc[i]) for i in (0, 1))
    odds = herds.comparisons("period", comparison="log_odds_ratio", average="groups").table["estimate"].iloc[0]
    assert odds == pytest.approx(high - low)
    # the odds ratio of the population is nearer to 1 than that of one herd (Zeger, Liang & Albert 1988)
    assert 0 > odds > herds.fixed.estimate[1]
    joint = means.hypotheses("b0 = b1").table
    assert joint["estimate"].iloc[0] == pytest.approx(-contrasts["estimate"].iloc[0])


def test_the_gradient_is_that_of_the_mean(herds: um.FitResult) -> None:
    """The standard error by the delta method, with the derivative by differences of the mean itself: 1e-5."""
    x = np.array([1.0, 1, 0, 0])
    sd = float(herds.random[0].sd[0])
    nodes, weights = special.roots_hermitenorm(80)

    def mean(beta: np.ndarray) -> float:
        return float(weights @ special.expit(x @ beta + sd * nodes) / weights.sum())

    beta = np.asarray(herds.fixed.estimate)
    gradient = np.array([(mean(beta + d) - mean(beta - d)) / 2e-5 for d in np.eye(4) * 1e-5])
    error = np.sqrt(gradient @ np.asarray(herds.fixed.covariance) @ gradient)
    assert herds.emmeans("period", average="groups").table["std_error"].iloc[1] == pytest.approx(error, rel=1e-5)


def test_ratios_where_groups_do_not_change_them() -> None:
    fit = um.fit("TICKS ~ YEAR + (1 | BROOD)", um.load_dataset("grouseticks"), "pls", family="poisson")
    groups = fit.contrasts("YEAR", average="groups").table
    pd.testing.assert_frame_equal(groups, fit.contrasts("YEAR", kind="response").table)


def test_a_linear_model_has_the_same_effects_in_every_group() -> None:
    fit = um.fit("Reaction ~ Days + (Days | Subject)", um.load_dataset("sleepstudy"), "pls")
    new = {"Days": [0, 9]}
    np.testing.assert_allclose(fit.predict(new, average="groups"), fit.predict(new, level="population"))
    pd.testing.assert_frame_equal(fit.slopes("Days", average="groups").table, fit.slopes("Days").table)
    pd.testing.assert_frame_equal(fit.emmeans("Days", average="groups").table, fit.emmeans("Days").table)
    pd.testing.assert_frame_equal(fit.comparisons("Days", average="groups").table, fit.comparisons("Days").table)


def test_a_loaded_result_has_them(slopes: um.FitResult) -> None:
    data = um.load_dataset("grouseticks")
    loaded = um.FitResult.from_json(slopes.to_json()).with_data(data)
    new = {"YEAR": ["95"], "cHEIGHT": [10.0]}
    np.testing.assert_allclose(loaded.predict(new, average="groups"), slopes.predict(new, average="groups"))
    table = loaded.comparisons("YEAR", average="groups").table
    np.testing.assert_allclose(table["estimate"], slopes.comparisons("YEAR", average="groups").table["estimate"])


@pytest.mark.r
@pytest.mark.parametrize("engine", ["lme4", "glmmtmb"])
def test_engines_agree(engine: str, herds: um.FitResult) -> None:
    """5e-3 of the estimate: the optima of the engines, and glmmTMB's standard errors with the variances' part."""
    fit = um.fit(herds.formula, um.load_dataset("cbpp"), engine, family="binomial")
    found = fit.emmeans("period", average="groups").table
    np.testing.assert_allclose(
        found["estimate"], herds.emmeans("period", average="groups").table["estimate"], rtol=5e-3
    )


def test_a_posterior_averages_within_its_draws(herds: um.FitResult) -> None:
    """Its variance is drawn, too: means within a third of a standard error of Laplace's, and wider intervals."""
    fit = um.fit(herds.formula, um.load_dataset("cbpp"), um.backends.Bayes(draws=200), family="binomial", seed=1)
    found, laplace = fit.emmeans("period", average="groups").table, herds.emmeans("period", average="groups").table
    assert (np.abs(found["estimate"] - laplace["estimate"]) < 0.5 * laplace["std_error"]).all()
    changes = fit.comparisons("period", average="groups").table
    contrasts = fit.contrasts("period", "reference", average="groups").table
    np.testing.assert_allclose(changes[["estimate", "lower"]], contrasts[["estimate", "lower"]], rtol=1e-8)
    predicted = fit.predict({"period": list("1234")}, average="groups", interval="confidence").table
    np.testing.assert_allclose(predicted["estimate"], found["estimate"], rtol=1e-8)


def test_intervals_of_a_posterior_hold_the_error_of_the_variances() -> None:
    """Quantiles of exp(x'beta + s^2 / 2) over the draws of beta and s; with s at its mean they were too narrow."""
    ticks = um.load_dataset("grouseticks")
    fit = um.fit("TICKS ~ YEAR + (1 | BROOD)", ticks, um.backends.Bayes(draws=300), family="poisson", seed=1)
    found = fit.emmeans("YEAR", average="groups")
    draws = fit.draws(fit.status.n_draws or 0)
    variance = draws.covariances[0][:, 0, 0]
    first = np.exp(draws.beta[:, 0] + variance / 2)
    table = found.table
    ends = table.loc[0, ["lower", "upper"]].astype(float)
    np.testing.assert_allclose(ends, np.quantile(first, [0.025, 0.975]), rtol=1e-8)
    np.testing.assert_allclose(table.loc[0, "std_error"], first.std(ddof=1), rtol=1e-8)
    narrow = np.exp(np.quantile(draws.beta[:, 0], [0.025, 0.975]) + variance.mean() / 2)
    assert np.ptp(np.log(narrow)) < 0.95 * np.log(ends["upper"] / ends["lower"])
    assert "within each posterior draw" in found.notes[-1]


def test_what_has_no_average_is_refused(herds: um.FitResult) -> None:
    plain = um.fit("Reaction ~ Days", um.load_dataset("sleepstudy"), "pls")
    for call in (plain.emmeans, plain.comparisons, plain.slopes):
        with pytest.raises(um.OptionError, match="averages over random effects, and the model has none"):
            call("Days", average="groups")
    with pytest.raises(um.OptionError, match="averages over random effects"):
        plain.predict(average="groups")
    with pytest.raises(um.OptionError, match="average='group': choose True, False or 'groups'"):
        herds.comparisons("period", average="group")  # type: ignore[arg-type]
    with pytest.raises(um.OptionError, match="leave kind='link' out"):
        herds.predict(average="groups", kind="link")
    with pytest.raises(um.OptionError, match="has the variance between groups already"):
        herds.predict(average="groups", interval="prediction")
    with pytest.raises(um.OptionError, match="leave kind='link' out"):
        herds.comparisons("period", average="groups", kind="link")
    logged = um.fit("log(Reaction) ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"), "pls")
    with pytest.raises(um.OptionError, match="bias_adjust=True instead"):
        logged.emmeans("Days", average="groups")


def test_a_posterior_that_is_normal_has_them(herds: um.FitResult) -> None:
    """statsmodels' variational Bayes: the means of predictions at draws of the coefficients."""
    fit = um.fit(herds.formula, um.load_dataset("cbpp"), "statsmodels", family="binomial")
    means = fit.emmeans("period", average="groups")
    draws = means._inference.posterior @ means.functions.weights.T  # type: ignore[operator]
    nodes, weights = special.roots_hermitenorm(60)
    made = special.expit(draws[..., None] + float(fit.random[0].sd[0]) * nodes) @ (weights / weights.sum())
    np.testing.assert_allclose(means["estimate"], made.mean(axis=0), rtol=1e-8)
    np.testing.assert_allclose(means["std_error"], made.std(axis=0, ddof=1), rtol=1e-8)
