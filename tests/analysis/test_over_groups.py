"""Effects averaged over the groups: against simulated groups, closed forms, and each other."""

from __future__ import annotations

from collections.abc import Callable

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
    np.testing.assert_allclose(table["estimate"], before["estimate"] * np.exp(half), rtol=1e-10)
    # log m = eta + z'Gz / 2, whose interval is symmetric about it
    reach = np.log(table["upper"] / table["estimate"])
    np.testing.assert_allclose(reach, np.log(table["estimate"] / table["lower"]), rtol=1e-10)
    np.testing.assert_allclose(reach, special.ndtri(0.975) * table["std_error"] / table["estimate"], rtol=1e-10)
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
    assert "averaged over the groups with the error of the estimated variances" in str(means)
    assert "population level" not in str(herds.comparisons("period", average="groups"))
    low, high = (special.logit(predicted["estimate"].iloc[i]) for i in (0, 1))
    odds = herds.comparisons("period", comparison="log_odds_ratio", average="groups").table["estimate"].iloc[0]
    assert odds == pytest.approx(high - low)
    # the odds ratio of the population is nearer to 1 than that of one herd (Zeger, Liang & Albert 1988)
    assert 0 > odds > herds.fixed.estimate[1]
    joint = means.hypotheses("b0 = b1").table
    assert joint["estimate"].iloc[0] == pytest.approx(-contrasts["estimate"].iloc[0])


NODES, WEIGHTS = special.roots_hermitenorm(80)


def by_quadrature(at: np.ndarray) -> float:
    """Log-likelihood of the herds at (beta, log sd), by quadrature over each herd's effect."""
    data = um.load_dataset("cbpp")
    x = np.array(pd.get_dummies(data["period"]), dtype=float)
    x[:, 0] = 1.0
    eta = (x @ at[:4])[:, None] + np.exp(at[4]) * NODES
    y, n = data["incidence"].to_numpy()[:, None], data["size"].to_numpy()[:, None]
    rows = y * special.log_expit(eta) + (n - y) * special.log_expit(-eta)
    herds = pd.DataFrame(rows).groupby(data["herd"].astype(str)).sum().to_numpy()
    return float(special.logsumexp(herds, axis=1, b=WEIGHTS / WEIGHTS.sum()).sum())


def hessian(function: Callable[[np.ndarray], float], at: np.ndarray, step: float = 1e-3) -> np.ndarray:
    """Second derivatives by central differences."""
    steps = np.eye(len(at)) * step
    corners = [[function(at + s * a + t * b) * s * t for s in (1, -1) for t in (1, -1)] for a in steps for b in steps]
    return np.sum(corners, axis=1).reshape(len(at), -1) / (4 * step**2)


def test_the_error_is_that_of_the_whole_likelihood() -> None:
    """The delta method about (beta, log sd), by differences of a likelihood that is written down anew.

    1e-3 of the standard errors: second differences, and 25 nodes against 80.
    """
    fit = um.fit(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        um.load_dataset("cbpp"),
        "pls",
        family="binomial",
        options={"n_agq": 25},
    )
    at = np.append(np.asarray(fit.fixed.estimate), np.log(fit.random[0].sd[0]))
    covariance = np.linalg.inv(-hessian(by_quadrature, at))
    x = np.array([[1.0, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]])

    def means(at: np.ndarray) -> np.ndarray:
        return special.expit((x @ at[:4])[:, None] + np.exp(at[4]) * NODES) @ WEIGHTS / WEIGHTS.sum()

    gradient = np.array([(means(at + d) - means(at - d)) / 2e-5 for d in np.eye(5) * 1e-5]).T
    found = fit.emmeans("period", average="groups")
    error = np.sqrt(np.diag(gradient @ covariance @ gradient.T))
    np.testing.assert_allclose(found.table["std_error"], error, rtol=1e-3)
    # with the fixed effects alone, errors were up to 3 % smaller
    known = np.sqrt(np.diag(gradient[:, :4] @ np.asarray(fit.fixed.covariance) @ gradient[:, :4].T))
    assert (known / error).min() < 0.98
    apart = gradient[1] - gradient[0]
    contrast = found.contrasts("reference", adjust="none").table["std_error"].iloc[0]
    assert contrast == pytest.approx(np.sqrt(apart @ covariance @ apart), rel=1e-3)
    change = fit.comparisons("period", average="groups", comparison="ratio").table.iloc[0]
    ratio = gradient[1] / means(at)[1] - gradient[0] / means(at)[0]
    assert np.log(change["upper"] / change["lower"]) == pytest.approx(
        2 * special.ndtri(0.975) * np.sqrt(ratio @ covariance @ ratio), rel=1e-3
    )


def test_where_the_error_of_the_variances_is_not_known(herds: um.FitResult) -> None:
    """At the boundary, and without the data, errors are those at known variances, and the notes say so."""
    data = pd.DataFrame({"y": np.repeat([1, 2, 3, 6], 20), "g": np.arange(80) % 20})
    fit = um.fit("y ~ (1 | g)", data, "pls", family="poisson")
    assert fit.random[0].sd[0] < 1e-8
    table = fit.emmeans((), average="groups")
    assert table.table["std_error"].iloc[0] == pytest.approx(
        fit.emmeans((), kind="response").table["std_error"].iloc[0]
    )
    assert "as if they were known: one is on its boundary" in str(table)
    robust = herds.robust("CR1", cluster="herd").emmeans("period", average="groups")
    assert "cluster-robust errors are those of the fixed effects" in str(robust)


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
