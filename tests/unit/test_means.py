"""Marginal means, contrasts and slopes: against emmeans (references), closed forms and simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from gold import all_cases
from scipy import stats
from statsmodels.stats.multitest import multipletests

import unimix as um
from unimix.numerics.multiplicity import adjusted_p_values, critical_value

CASES = [c for c in all_cases() if c.reference.get("emmeans")]
CAKE = "Weight ~ Time * Cu + Evit + (1 + Time | Pig)"


@pytest.fixture(scope="module")
def pigs() -> um.FitResult:
    return um.fit(CAKE, um.load_dataset("dietox"), "pls")


def numbers(values: list[Any]) -> np.ndarray:
    return np.array([np.inf if v is None else v for v in values], dtype=float)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_means_and_contrasts_are_those_of_emmeans(case: Any) -> None:
    """1e-6 of a standard error, 1e-4 of Tukey's p values: emmeans integrates the studentized range by its own code."""
    reference = case.reference["emmeans"]
    specs = reference["specs"]
    found = case.fit("pls").emmeans(specs)
    table, pairs = found.table, found.contrasts()
    se = numbers(reference["std_error"])
    assert (np.abs(table["estimate"] - numbers(reference["emmean"])) < 1e-6 * se).all()
    np.testing.assert_allclose(table["std_error"], se, rtol=1e-6)
    np.testing.assert_allclose(table["df"], numbers(reference["df"] or [None] * len(table)), rtol=1e-5)
    expected = reference["contrasts"]
    np.testing.assert_allclose(pairs["estimate"], numbers(expected["estimate"]), atol=1e-6 * se.max())
    np.testing.assert_allclose(pairs["std_error"], numbers(expected["std_error"]), rtol=1e-6)
    np.testing.assert_allclose(pairs["p_value"], numbers(expected["p_value_tukey"]), atol=1e-4)
    plain = found.contrasts(adjust="none")
    np.testing.assert_allclose(plain["p_value"], numbers(expected["p_value"]), rtol=1e-4, atol=1e-12)


def test_every_engine_has_the_same_means() -> None:
    data = um.load_dataset("dietox")
    tables = [
        um.fit(CAKE, data, e).emmeans("Cu", by="Evit").contrasts() for e in ("pls", "lme4", "statsmodels", "glmmtmb")
    ]
    for other in tables[1:]:
        pd.testing.assert_frame_equal(other, tables[0], rtol=2e-3, atol=1e-4)


def test_slopes_are_sums_of_coefficients(pigs: um.FitResult) -> None:
    b = pigs.fixed_effects["estimate"]
    found = pigs.slopes("Time", by="Cu")
    expected = [b["Time"], b["Time"] + b["Time:Cu[T.Cu035]"], b["Time"] + b["Time:Cu[T.Cu175]"]]
    np.testing.assert_allclose(found.table["estimate"], expected, rtol=1e-9)
    assert found.table["std_error"].iloc[0] == pytest.approx(pigs.fixed_effects.loc["Time", "std_error"], rel=1e-8)
    assert found.table["df"].iloc[0] == pytest.approx(pigs.fixed_effects.loc["Time", "df"], rel=1e-6)
    pairs = found.contrasts(adjust="none").set_index("contrast")
    row = pigs.fixed_effects.loc["Time:Cu[T.Cu035]"]
    assert pairs.loc["Cu000 - Cu035", "estimate"] == pytest.approx(-row["estimate"], rel=1e-8)
    assert pairs.loc["Cu000 - Cu035", "p_value"] == pytest.approx(row["p_value"], rel=1e-6)
    one = pigs.slopes("Time").table
    assert one["estimate"].iloc[0] == pytest.approx(np.mean(expected), rel=1e-9)
    curve = um.fit("Weight ~ poly(Time, 2) + (1 | Pig)", um.load_dataset("dietox"), "pls")
    at = [float(curve.slopes("Time", at={"Time": t}).table["estimate"].iloc[0]) for t in (2, 10)]
    new = pd.DataFrame({"Time": [1.99, 2.01, 9.99, 10.01]})
    eta = curve.predict(new, level="population")
    np.testing.assert_allclose(at, [(eta[1] - eta[0]) / 0.02, (eta[3] - eta[2]) / 0.02], rtol=1e-6)


def test_grids_are_averages_of_predictions(pigs: um.FitResult) -> None:
    data = um.load_dataset("dietox")
    levels = {n: list(dict.fromkeys(data[n])) for n in ("Cu", "Evit")}
    for weights in ("equal", "proportional"):
        found = pigs.emmeans("Cu", weights=weights, at={"Time": 4}).table.set_index("Cu")
        share = data["Evit"].value_counts(normalize=True) if weights == "proportional" else None
        for cu in levels["Cu"]:
            new = pd.DataFrame({"Time": 4.0, "Cu": cu, "Evit": levels["Evit"]})
            eta = pigs.predict(new, level="population")
            w = None if share is None else share[levels["Evit"]].to_numpy()
            assert found.loc[cu, "estimate"] == pytest.approx(np.average(eta, weights=w), rel=1e-10)
    several = pigs.emmeans("Time", at={"Time": [1, 12]}).table
    assert several["Time"].tolist() == [1, 12]


def test_kinds_of_contrasts(pigs: um.FitResult) -> None:
    means = pigs.emmeans("Cu")
    e = means.table["estimate"].to_numpy()
    found = {m: means.contrasts(m)["estimate"].to_numpy() for m in ("reference", "effects", "consecutive", "poly")}
    np.testing.assert_allclose(found["reference"], [e[1] - e[0], e[2] - e[0]], rtol=1e-8)
    np.testing.assert_allclose(found["effects"], e - e.mean(), rtol=1e-8)
    np.testing.assert_allclose(found["consecutive"], np.diff(e), rtol=1e-8)
    linear, quadratic = np.array([-1, 0, 1]) / np.sqrt(2), np.array([1, -2, 1]) / np.sqrt(6)
    np.testing.assert_allclose(found["poly"], [linear @ e, quadratic @ e], rtol=1e-6)
    own = means.contrasts({"none - some": [1, -0.5, -0.5]})
    assert own["estimate"].iloc[0] == pytest.approx(e[0] - e[1:].mean())
    last = means.contrasts("reference", reference="Cu175")
    assert last["contrast"].tolist() == ["Cu000 - Cu175", "Cu035 - Cu175"]


def test_adjustments() -> None:
    """sidak, bonferroni, holm and fdr are statsmodels'; mvt of two independent z tests is Sidak's; intervals match."""
    statistic, df = np.array([2.5, 1.2, 3.1, 0.4]), np.array([12.0, 20.0, 8.0, 30.0])
    plain = 2 * stats.t.sf(statistic, df)
    for mine, theirs in (("sidak", "sidak"), ("bonferroni", "bonferroni"), ("holm", "holm"), ("fdr", "fdr_bh")):
        found = adjusted_p_values(mine, statistic, df, np.eye(4), 4)
        np.testing.assert_allclose(found, multipletests(plain, method=theirs)[1], rtol=1e-10)
    z, infinite = np.array([2.0, 1.5]), np.full(2, np.inf)
    sidak = adjusted_p_values("sidak", z, infinite, np.eye(2), 2)
    np.testing.assert_allclose(adjusted_p_values("mvt", z, infinite, np.eye(2), 2), sidak, atol=1e-4)
    half = np.array([[1, 0.5, -0.5], [0.5, 1, 0.5], [-0.5, 0.5, 1]])
    three = np.array([2.4, 0.3, 2.0])
    tukey = adjusted_p_values("tukey", three, np.full(3, 15.0), half, 3)
    np.testing.assert_allclose(adjusted_p_values("mvt", three, np.full(3, 15.0), half, 3), tukey, atol=2e-3)
    size = critical_value("tukey", 0.95, 15.0, half, 3)
    assert adjusted_p_values("tukey", np.array([size]), np.array([15.0]), np.eye(1), 3)[0] == pytest.approx(
        0.05, abs=1e-6
    )
    two = adjusted_p_values("tukey", np.array([7.5]), np.array([6641.0]), np.eye(1), 2)
    assert two[0] == pytest.approx(2 * stats.t.sf(7.5, 6641.0), rel=1e-10)
    assert critical_value("sidak", 0.95, np.inf, np.eye(2), 2) == pytest.approx(stats.norm.ppf(0.5 + 0.95**0.5 / 2))


def test_generalised_means_are_probabilities_and_odds_ratios() -> None:
    data = um.load_dataset("cbpp")
    fit = um.fit("cbind(incidence, size - incidence) ~ period + (1 | herd)", data, "pls", family="binomial")
    link, response = fit.emmeans("period"), fit.emmeans("period", kind="response")
    p = 1 / (1 + np.exp(-link.table["estimate"]))
    np.testing.assert_allclose(response.table["estimate"], p)
    np.testing.assert_allclose(response.table["std_error"], link.table["std_error"] * p * (1 - p))
    odds = response.contrasts("reference", adjust="none")
    assert odds["contrast"].tolist()[0] == "2 / 1"
    np.testing.assert_allclose(odds["odds_ratio"], np.exp(fit.fixed_effects["estimate"].iloc[1:]), rtol=1e-8)
    np.testing.assert_allclose(odds["p_value"], fit.fixed_effects["p_value"].iloc[1:], rtol=1e-6)


@pytest.mark.mcmc
def test_posterior_means_are_quantiles_of_draws() -> None:
    data = um.load_dataset("dietox")
    data = data[data["Pig"].isin(list(dict.fromkeys(data["Pig"]))[:20])]
    fit = um.fit("Weight ~ Time + Cu + (1 | Pig)", data, um.backends.PyMC(draws=300), seed=1)
    table = fit.emmeans("Cu").table
    beta = fit.draws(1200).beta
    first = beta[:, 0] + beta[:, list(fit.fixed.terms).index("Time")] * data["Time"].mean()
    assert table["lower"].iloc[0] == pytest.approx(np.quantile(first, 0.025), rel=1e-6)
    assert "p_value" not in fit.emmeans("Cu").contrasts()


def test_what_makes_no_sense_is_refused(pigs: um.FitResult) -> None:
    with pytest.raises(um.OptionError, match=r"specs='cu' is not a predictor of this model. Did you mean 'Cu'"):
        pigs.emmeans("cu")
    with pytest.raises(um.DataError, match="levels in the new data that the model was not fitted to: Cu999"):
        pigs.emmeans("Evit", at={"Cu": "Cu999"})
    with pytest.raises(um.OptionError, match="'Cu' is a factor and has no slope"):
        pigs.slopes("Cu")
    with pytest.raises(um.OptionError, match="must be 3 numbers that sum to zero"):
        pigs.emmeans("Cu").contrasts({"bad": [1, 1, -1]})
    with pytest.raises(um.OptionError, match="adjust='tukey' is for pairwise"):
        pigs.emmeans("Cu").contrasts("effects", adjust="tukey")
    with pytest.raises(um.OptionError, match=r"adjust='scheffe': choose none, tukey"):
        pigs.emmeans("Cu").contrasts(adjust="scheffe")
    again = um.FitResult.from_json(pigs.to_json())
    with pytest.raises(um.DataError, match="holds no data"):
        again.emmeans("Cu")
    data = um.load_dataset("dietox")
    pd.testing.assert_frame_equal(again.emmeans("Cu", data=data).table, pigs.emmeans("Cu").table, rtol=1e-6)


def test_default_adjustments_are_those_of_emmeans(pigs: um.FitResult) -> None:
    """R 4.2.2, emmeans 1.8.4.1, trt.vs.ctrl (mvt), consec and eff of this model, printed digits."""
    fit = um.fit("Weight ~ Time + Cu * Evit + (1 + Time | Pig)", um.load_dataset("dietox"), "pls")
    means = fit.emmeans("Cu")
    assert "averaged over Evit with equal weights" in str(means)
    dunnett = means.contrasts("reference")
    assert dunnett["adjust"].tolist() == ["mvt", "mvt"]
    # both sides integrate the multivariate t by random lattices: 1e-4
    assert dunnett["p_value"].to_numpy() == pytest.approx([0.98862798, 0.36206965], abs=1e-4)
    assert dunnett["lower"].to_numpy() == pytest.approx([-3.3148550, -1.4371079], abs=1e-3)
    assert means.contrasts("consecutive")["p_value"].to_numpy() == pytest.approx([0.98886427, 0.28793855], abs=1e-4)
    effects = means.contrasts("effects")
    assert effects["p_value"].to_numpy() == pytest.approx([0.52306619, 0.52306619, 0.40425536], rel=1e-5)
    # p values by the false discovery rate, intervals by Bonferroni, as there
    assert effects["lower"].to_numpy() == pytest.approx([-2.51435932, -2.64499307, -0.75660908], rel=1e-5)
    kenward = fit.emmeans("Cu", df_method="kenward-roger").table
    again = um.fit(fit.formula, um.load_dataset("dietox"), "pls", df_method="kenward-roger").emmeans("Cu").table
    pd.testing.assert_frame_equal(kenward, again)
    with pytest.raises(um.OptionError, match="df_method='residual' is for models without group effects"):
        fit.anova(df_method="residual")


def test_links_without_ratios_have_differences_of_the_response() -> None:
    """R 4.2.2, pairs(regrid(emmeans(glmer(... probit), "period"))), printed digits; lme4's numerical Hessian."""
    data = um.load_dataset("cbpp")
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    fit = um.fit(formula, data, "lme4", family="binomial(probit)")
    found = fit.emmeans("period", kind="response").contrasts(adjust="none")
    assert found["estimate"].to_numpy()[:3] == pytest.approx([0.11536446, 0.12852418, 0.15070488], rel=1e-4)
    assert found["std_error"].to_numpy()[:3] == pytest.approx([0.03482247, 0.03475321, 0.03560857], rel=1e-3)


def test_slopes_at_several_values_are_not_averaged() -> None:
    data = um.load_dataset("sleepstudy")
    fit = um.fit("Reaction ~ Days + I(Days**2) + (1 | Subject)", data, "pls")
    found = fit.slopes("Days", at={"Days": [0, 5]}).table
    b = fit.fixed.estimate
    assert found["estimate"].to_numpy() == pytest.approx([b[1], b[1] + 10 * b[2]], rel=1e-6)
