"""Checks of a model: what is found in data with a planted fault, and what is left alone in clean data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gold import case_of

import unimix as um
from unimix.stats.collinearity import condition_number

R: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "summaries_r.json").read_text(encoding="utf-8"))


def test_overdispersion_and_zeros_are_performances(brood: um.FitResult, herds: um.FitResult) -> None:
    """1e-4: glmer's optimum."""
    for fit, name in ((brood, "brood"), (herds, "shed")):
        found, expected = fit.overdispersion(), R["overdispersion"][name]
        assert found.chisq == pytest.approx(expected["chisq_statistic"], rel=1e-4)
        assert found.df == expected["residual_df"]
        assert found.p_value == pytest.approx(expected["p_value"], rel=2e-3)
    zeros = brood.check_zeros()
    assert zeros.observed == R["zeros"]["observed.zeros"]
    assert round(zeros.expected) == R["zeros"]["predicted.zeros"]
    with pytest.raises(um.UnsupportedModelError, match="estimates its own spread"):
        um.fit("Reaction ~ Days", um.load_dataset("sleepstudy"), "pls").overdispersion()
    with pytest.raises(um.UnsupportedModelError, match="single trials"):
        um.fit("resp ~ age", case_of("ohio").data(), "pls", family="binomial").overdispersion()
    with pytest.raises(um.UnsupportedModelError, match="Zeros are checked for counts only"):
        herds.check_zeros()


def test_inflation_factors_are_cars(growth: um.FitResult, brood: um.FitResult) -> None:
    """1e-8 linear; 2 % for the Poisson model, whose covariance lme4 takes from differences."""
    expected = np.array(R["vif"]["growth"])
    found = growth.collinearity().table
    order = ["Time", "Cu", "Evit", "Time:Cu"]
    np.testing.assert_allclose(found.loc[order, "gvif"], expected[:, 0], rtol=1e-6)
    np.testing.assert_allclose(found.loc[order, "se_factor"], expected[:, 2], rtol=1e-6)
    np.testing.assert_allclose(brood.collinearity().table["gvif"], np.array(R["vif"]["ticks"])[:, 0], rtol=0.02)
    curve = um.fit("Weight ~ Time + I(Time ** 2)", um.load_dataset("dietox"), "pls").collinearity()
    np.testing.assert_allclose(curve.table["gvif"], R["vif"]["weighted"], rtol=1e-8)
    assert set(curve.table["verdict"]) == {"high"}
    x = np.column_stack([np.ones(4), [1, 1, -1, -1], [1, -1, 1, -1]])
    assert condition_number(x, [[1], [2]]) == pytest.approx(1)
    with pytest.raises(um.DataError, match="intercept"):
        um.fit("Weight ~ 0 + Time", um.load_dataset("dietox"), "pls").collinearity()


@pytest.mark.parametrize("groups", ["", " + (1 | Subject)"])
def test_products_and_names_do_not_hide_collinear_predictors(groups: str) -> None:
    """Days and a copy of it with noise, whose name begins with its name.

    Without groups the factor apart from the product is 1 / (1 - r^2), within 1e-6 (rounding of a factor of thousands);
    with groups that of the model without the product but for its variances, within 1 %.
    """
    sleep = um.load_dataset("sleepstudy")
    sleep["Days.2"] = sleep["Days"] + 0.05 * np.random.default_rng(0).normal(size=180)
    both, plain = (um.fit(f"Reaction ~ Days {o} Days.2{groups}", sleep, "pls") for o in "*+")
    expected = 1 / (1 - np.corrcoef(sleep["Days"], sleep["Days.2"])[0, 1] ** 2)
    factors = [expected] * 2 if not groups else plain.collinearity().table["vif"].tolist()
    for fit in (both, plain):
        found, row = fit.collinearity(), fit.check().table.loc["collinearity"]
        apart = found.table.loc[["Days", "Days.2"], "vif_apart"]
        np.testing.assert_allclose(apart, factors, rtol=0.01 if groups else 1e-6)
        assert (row["verdict"], row["value"]) == ("problem", apart.max())
        assert found.condition_number > 100
        assert "ill-conditioned." in str(found)
    assert np.isnan(both.collinearity().table.loc["Days:Days.2", "vif_apart"])


def test_vif_apart_is_that_of_the_model_without_products() -> None:
    """Least squares: exact but for rounding far from zero, 1e-6; a third predictor is compared with everything."""
    rng = np.random.default_rng(4)
    data = pd.DataFrame(rng.normal(100, 1, (80, 3)), columns=["x", "z", "v"])
    data["z"] += data["x"]
    data["y"] = rng.normal(size=80)
    whole = um.fit("y ~ x * z + I(x ** 2) + v", data, "pls").collinearity().table
    without = {"x": "x + z + v", "z": "x + I(x ** 2) + z + v", "I(x ** 2)": "z + I(x ** 2) + v"}
    for term, formula in without.items():
        expected = um.fit(f"y ~ {formula}", data, "pls").collinearity().table.loc[term, "vif"]
        assert whole.loc[term, "vif_apart"] == pytest.approx(expected, rel=1e-6)
    assert whole.loc["v", "vif_apart"] == pytest.approx(whole.loc["v", "vif"], rel=1e-8)


def test_what_cannot_be_compared_is_not_called_ok() -> None:
    sleep = um.load_dataset("sleepstudy")
    curve = um.fit("Reaction ~ Days + I(Days ** 2) + (1 | Subject)", sleep, "pls").check()
    assert "collinearity" not in curve.table.index
    assert "no two predictors to compare" in curve.skipped["collinearity"]
    alone = um.fit("Reaction ~ Days", sleep, "pls").check()
    assert "collinearity" in alone.meaningless
    none = um.fit("Reaction ~ 0 + Days + I(Days ** 2)", sleep, "pls").check()
    assert "intercept" in none.skipped["collinearity"]


def test_columns_far_from_zero_are_not_ill_conditioned() -> None:
    """The condition number is that of the correlation matrix of numbers, and of no coding of a factor."""
    rng = np.random.default_rng(2)
    data = um.load_dataset("sleepstudy").assign(
        far=1e4 + rng.normal(size=180), part=["a"] + list("bcd") * 59 + ["b"] * 2
    )
    fit = um.fit("Reaction ~ Days + far + (1 | Subject)", data, "pls")
    found, values = fit.collinearity(), np.linalg.eigvalsh(np.corrcoef(fit.design().x[:, 1:].T))
    assert found.condition_number == pytest.approx(np.sqrt(values[-1] / values[0]), rel=1e-6)
    assert ": ill-conditioned" not in str(found)
    assert fit.check().table.loc["collinearity", "verdict"] == "ok"
    factor = um.fit("Reaction ~ Days + part", data, "pls").collinearity()
    other = um.fit("Reaction ~ Days + part", data, "pls", contrasts={"part": "sum"}).collinearity()
    assert factor.condition_number == pytest.approx(other.condition_number, rel=1e-8)
    assert factor.condition_number < 2


def test_what_was_not_checked_is_told() -> None:
    found = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"), "pls").check()
    assert "18 levels of Subject are too few" in found.skipped["group effects: Intercept | Subject"]
    assert {"separation", "overdispersion", "zero inflation"} <= set(found.meaningless)
    assert "Without meaning for this model: sampling, separation" in str(found)
    assert "Not checked: group effects: Intercept | Subject." in found._repr_html_()
    zero = case_of("dyestuff2").fit("pls").check()
    assert zero.skipped["group effects: Intercept | Batch"] == "Its variance is zero."
    small = um.fit("y ~ x", pd.DataFrame({"x": range(6), "y": [1.0, 3, 2, 5, 4, 4]}), "pls").check()
    assert {"residuals: normality", "residuals: spread"} == set(small.skipped)


def test_p_values_of_findings_are_never_zero() -> None:
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"y": rng.poisson(np.exp(3 * rng.normal(size=200)))})
    said = um.fit("y ~ 1", data, "pls", family="poisson").check().table.loc["overdispersion", "finding"]
    assert said.endswith("p < 0.001.")


def made(fault: str, rng: np.random.Generator) -> pd.DataFrame:
    """Thirty groups of ten, with one fault."""
    g = np.repeat(np.arange(30), 10)
    x, z, e, u = rng.normal(size=300), rng.normal(size=300), rng.normal(size=300), rng.normal(size=30)
    match fault:
        case "collinearity":
            z = x + 0.1 * z
        case "residuals: normality":
            e = rng.exponential(size=300) ** 1.5
        case "residuals: spread":
            e = e * np.exp(x)
        case "influential rows":
            x[3], e[3] = 6, -25
        case "influential levels of g":
            e[g == 5] -= 4 * x[g == 5]
        case "group effects: Intercept | g":
            u[3] += 9
    return pd.DataFrame({"y": 1 + x + 0.5 * z + u[g] + e, "x": x, "z": z, "g": [f"g{k}" for k in g]})


FAULTS = ("collinearity", "residuals: normality", "residuals: spread", "influential rows", "influential levels of g")


@pytest.mark.parametrize("fault", [*FAULTS, "group effects: Intercept | g"])
def test_planted_faults_are_found(fault: str) -> None:
    fit = um.fit("y ~ x + z + (1 | g)", made(fault, np.random.default_rng(5)), "pls", df_method="normal")
    found = fit.check()
    row = found.table.loc[fault]
    assert row["verdict"] in ("look", "problem")
    assert row["advice"]
    assert found.verdict == "problem"
    assert fault in str(found)
    assert "<table" in found._repr_html_()


def test_clean_data_are_left_alone() -> None:
    """40 data sets with about 8 checks each: at most 3 remarks (4 standard errors above one in a thousand)."""
    rng = np.random.default_rng(11)
    said = []
    for _ in range(40):
        found = um.fit("y ~ x + z + (1 | g)", made("", rng), "pls", df_method="normal").check()
        said += [(f.check, f.finding) for f in found.findings if f.verdict != "ok"]
    assert len(said) <= 3, said


def test_faults_of_counts_and_of_binary_responses() -> None:
    rng = np.random.default_rng(6)
    g = np.repeat(np.arange(30), 10)
    x = rng.normal(size=300)
    eta = 0.3 + 0.5 * x + 0.5 * rng.normal(size=30)[g]
    data = pd.DataFrame({"x": x, "g": [f"g{k}" for k in g]})
    clean = data.assign(y=rng.poisson(np.exp(eta)))
    wide = data.assign(y=rng.poisson(np.exp(eta + 0.9 * rng.normal(size=300))))
    zeros = data.assign(y=rng.poisson(np.exp(eta + 1)) * (rng.random(300) > 0.3))
    tables = [um.fit("y ~ x + (1 | g)", d, "pls", family="poisson").check().table for d in (clean, wide, zeros)]
    assert tables[0].loc[["overdispersion", "zero inflation", "separation"], "verdict"].tolist() == ["ok"] * 3
    assert tables[1].loc["overdispersion", "verdict"] == "problem"
    assert tables[2].loc["zero inflation", "verdict"] == "problem"
    split = um.fit("y ~ x", data.assign(y=(x > 0.2).astype(int)), "pls", family="binomial").check()
    assert split.table.loc["separation", "verdict"] == "problem"
    assert split.table.loc["convergence", "verdict"] == "problem"


def test_boundaries_and_few_levels() -> None:
    batches = case_of("dyestuff2").fit("pls").check().table
    assert batches.loc["singularity", "verdict"] == "look"
    assert "SD of Intercept | Batch is zero" in batches.loc["singularity", "finding"]
    assert batches.loc["levels of Batch", "verdict"] == "ok"
    few = um.load_dataset("dietox").assign(site=lambda d: np.arange(len(d)) % 4)
    assert um.fit("Weight ~ Time + (1 | site)", few, "pls").check().table.loc["levels of site", "verdict"] == "look"
