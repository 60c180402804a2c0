"""Comparisons of expected responses: against emmeans (tests/data/hypotheses_r.R), closed forms and derivatives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sampled_models
from scipy import stats
from scipy.special import expit, logit

import unimix as um

R: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "hypotheses_r.json").read_text())
OUTCOMES = ["estimate", "std_error", "df", "statistic", "p_value", "lower", "upper"]
BINOMIAL = "cbind(incidence, size - incidence) ~ period"


@pytest.fixture(scope="module")
def pigs() -> um.FitResult:
    return um.fit("Weight ~ Time * Cu + Evit + (1 + Time | Pig)", um.load_dataset("dietox"), "pls")


@pytest.fixture(scope="module")
def counts() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    x, f, g = rng.normal(2, 1, 240), rng.integers(0, 3, 240), np.repeat(np.arange(24), 10)
    eta = 0.3 * x - 0.08 * x**2 + np.array([0.0, 0.4, -0.3])[f] + rng.normal(0, 0.4, 24)[g]
    time = rng.uniform(0.5, 3, 240)
    return pd.DataFrame(
        {"y": rng.poisson(time * np.exp(eta)), "x": x, "f": np.array(["a", "b", "c"])[f], "time": time}
    ).assign(g=[f"g{v}" for v in g], size=rng.integers(1, 9, 240), logtime=np.log(time))


@pytest.fixture(scope="module")
def poisson(counts: pd.DataFrame) -> um.FitResult:
    formula = "y ~ x + I(x^2) + f + offset(log(time)) + (1 | g)"
    return um.fit(formula, counts, "pls", family="poisson")


def columns(data: pd.DataFrame) -> np.ndarray:
    """The columns of ``poisson``, written out."""
    x = data["x"].to_numpy(dtype=float)
    f = data["f"].to_numpy()
    return np.column_stack([np.ones(len(x)), x, x**2, f == "b", f == "c"]).astype(float)


def delta(fit: um.FitResult, function: Callable[[np.ndarray], Any]) -> tuple[np.ndarray, np.ndarray]:
    """A function of the fixed effects and its standard error by central differences (1e-9 relative)."""
    beta = np.asarray(fit.fixed.estimate)
    steps = np.eye(len(beta)) * 1e-5
    gradient = np.array([(np.atleast_1d(function(beta + s)) - np.atleast_1d(function(beta - s))) / 2e-5 for s in steps])
    return np.atleast_1d(function(beta)), np.sqrt(np.diag(gradient.T @ np.asarray(fit.fixed.covariance) @ gradient))


def test_differences_and_ratios_are_those_of_emmeans() -> None:
    """1e-6: R's glm stops at 1e-8 of the deviance. emmeans tests ratios on the scale of the logarithm, as here."""
    fit = um.fit(BINOMIAL, um.load_dataset("cbpp"), "statsmodels", family="binomial")
    for comparison, name in (("difference", "differences"), ("ratio", "ratios")):
        found, expected = fit.comparisons("period", comparison=comparison).table, R[name]
        for column in ("estimate", "std_error"):
            np.testing.assert_allclose(found[column], expected[column], rtol=1e-6)
        np.testing.assert_allclose(found["p_value"], expected["p_value"], rtol=1e-4)
    odds = fit.comparisons("period", comparison="odds_ratio").table
    np.testing.assert_allclose(odds["estimate"], np.exp(fit.fixed.estimate[1:]), rtol=1e-10)
    np.testing.assert_allclose(odds["p_value"], fit.fixed.p_value[1:], rtol=1e-8)
    log_odds = fit.comparisons("period", comparison="log_odds_ratio").table
    np.testing.assert_allclose(log_odds["std_error"], fit.fixed.std_error[1:], rtol=1e-10)


def test_a_linear_models_changes_are_its_coefficients(pigs: um.FitResult) -> None:
    data = um.load_dataset("dietox")
    b, time = pigs.fixed_effects, data["Time"]
    found = pigs.comparisons("Time", by="Cu").table
    slopes = pigs.slopes("Time", by="Cu").table
    assert found["Cu"].tolist() == ["Cu000", "Cu035", "Cu175"]
    pd.testing.assert_frame_equal(
        found[["estimate", "std_error", "df"]], slopes[["estimate", "std_error", "df"]], rtol=1e-8
    )
    pd.testing.assert_frame_equal(
        pigs.comparisons("Time", by="Cu", comparison="dydx").table[OUTCOMES], found[OUTCOMES], rtol=1e-6
    )
    evit = pigs.comparisons("Evit").table
    pd.testing.assert_frame_equal(
        evit[OUTCOMES], b.loc[["Evit[T.Evit100]", "Evit[T.Evit200]"], OUTCOMES].reset_index(drop=True), rtol=1e-8
    )
    assert evit["contrast"].tolist() == ["Evit100 - Evit000", "Evit200 - Evit000"]
    q1, q3 = np.quantile(time, [0.25, 0.75])
    spans = {"sd": time.std(), "2sd": 2 * time.std(), "iqr": q3 - q1, "minmax": 11, 3: 3, -2: -2, (10, 20): 10}
    one = pigs.comparisons("Time").table.iloc[0]
    for how, span in spans.items():
        row = pigs.comparisons({"Time": how}).table.iloc[0]
        assert row["estimate"] == pytest.approx(one["estimate"] * span, rel=1e-8), how
        assert row["df"] == pytest.approx(one["df"], rel=1e-6)
    every = pigs.comparisons().table
    assert every["variable"].tolist() == ["Time", "Cu", "Cu", "Evit", "Evit"]
    kr = um.fit(pigs.formula, data, "pls", df_method="kenward-roger")
    row = kr.comparisons("Evit").table.iloc[0]
    assert row[OUTCOMES].tolist() == pytest.approx(kr.fixed_effects.loc["Evit[T.Evit100]", OUTCOMES].tolist(), rel=1e-6)


def test_ways_to_change_a_factor(pigs: um.FitResult) -> None:
    at = pd.DataFrame({"Time": [4.0], "Cu": ["Cu000"], "Evit": ["Evit000"]})
    means = pigs.emmeans("Cu", at={"Time": 4, "Evit": "Evit000"})
    pairs = means.contrasts(adjust="none").table
    found = pigs.comparisons({"Cu": "pairwise"}, newdata=at).table
    np.testing.assert_allclose(found["estimate"], -pairs["estimate"], rtol=1e-8)
    np.testing.assert_allclose(found["p_value"], pairs["p_value"], rtol=1e-6)
    assert found["contrast"].tolist() == ["Cu035 - Cu000", "Cu175 - Cu000", "Cu175 - Cu035"]
    sequence = pigs.comparisons({"Cu": "sequential"}, newdata=at).table
    pd.testing.assert_frame_equal(sequence[OUTCOMES], found.loc[[0, 2], OUTCOMES].reset_index(drop=True))
    two = pigs.comparisons({"Cu": ("Cu175", "Cu035")}, newdata=at).table
    assert two["estimate"].iloc[0] == pytest.approx(-found["estimate"].iloc[2])
    short = pigs.contrasts("Cu", at={"Time": 4, "Evit": "Evit000"}, adjust="none").table
    pd.testing.assert_frame_equal(short, pairs)
    both = pigs.comparisons({"Time": (0, 2), "Cu": ("Cu000", "Cu175")}, newdata=at, cross=True).table
    b = pigs.fixed_effects["estimate"]
    assert both["estimate"].iloc[0] == pytest.approx(2 * b["Time"] + b["Cu[T.Cu175]"] + 2 * b["Time:Cu[T.Cu175]"])
    assert both[["variable", "contrast"]].iloc[0].tolist() == ["Time, Cu", "2 - 0, Cu175 - Cu000"]
    # numbers that the formula reads as levels, and booleans
    data = um.load_dataset("dietox").assign(weeks=lambda d: d["Time"] % 3, heavy=lambda d: d["Evit"] == "Evit100")
    fit = um.fit("Weight ~ C(weeks) + heavy", data, "pls")
    expected = fit.fixed_effects.iloc[1:]["estimate"]
    np.testing.assert_allclose(fit.comparisons().table["estimate"], expected, rtol=1e-9)


@pytest.mark.parametrize("comparison", ["difference", "log_ratio", "dydx"])
def test_averages_of_a_curve_with_offset(poisson: um.FitResult, counts: pd.DataFrame, comparison: str) -> None:
    """Written out, with derivatives by central differences: 1e-6 of the standard error."""

    def averaged(beta: np.ndarray) -> Any:
        low, high = (np.exp(columns(counts.assign(x=counts["x"] + s)) @ beta) * counts["time"] for s in (0, 1))
        if comparison == "dydx":
            return np.mean(low * (beta[1] + 2 * beta[2] * counts["x"]))
        return np.mean(high) - np.mean(low) if comparison == "difference" else np.log(np.mean(high) / np.mean(low))

    estimate, error = delta(poisson, averaged)
    found = poisson.comparisons("x", comparison=comparison).table.iloc[0]
    assert found["estimate"] == pytest.approx(estimate[0], rel=1e-7)
    assert found["std_error"] == pytest.approx(error[0], rel=1e-6)
    assert found["df"] == np.inf
    assert found["p_value"] == pytest.approx(2 * stats.norm.sf(abs(estimate[0] / error[0])), rel=1e-5)
    if comparison == "log_ratio":
        ratio = poisson.comparisons("x", comparison="ratio").table.iloc[0]
        assert ratio["std_error"] == pytest.approx(np.exp(estimate[0]) * error[0], rel=1e-6)
        assert ratio["lower"] == pytest.approx(np.exp(found["lower"]))
        assert ratio["p_value"] == pytest.approx(found["p_value"])


def test_rows_groups_weights_and_the_link(poisson: um.FitResult, counts: pd.DataFrame) -> None:
    def means(beta: np.ndarray) -> Any:
        made = [np.exp(columns(counts.assign(f=f)) @ beta) * counts["time"] for f in ("a", "b")]
        return np.asarray(made[1] - made[0])

    estimate, error = delta(poisson, means)
    rows = poisson.comparisons({"f": ("a", "b")}, average=False).table
    np.testing.assert_allclose(rows["estimate"], estimate, rtol=1e-9)
    np.testing.assert_allclose(rows["std_error"], error, rtol=1e-6)
    assert rows["row"].tolist() == list(range(240))
    assert rows["g"].tolist() == counts["g"].tolist()
    weights = counts["size"].to_numpy()
    expected, spread = delta(poisson, lambda b: np.average(means(b), weights=weights))
    found = poisson.comparisons({"f": ("a", "b")}, weights=weights).table.iloc[0]
    assert [found["estimate"], found["std_error"]] == pytest.approx([expected[0], spread[0]], rel=1e-6)
    groups = poisson.comparisons({"f": ("a", "b")}, by="g").table.set_index("g")
    for name in ("g3", "g17"):
        expected, spread = delta(poisson, lambda b, n=name: np.mean(means(b)[(counts["g"] == n).to_numpy()]))
        assert groups.loc[name, ["estimate", "std_error"]].tolist() == pytest.approx([expected[0], spread[0]], rel=1e-6)
    link = poisson.comparisons({"f": ("a", "b")}, kind="link").table.iloc[0]
    assert link["estimate"] == pytest.approx(poisson.fixed_effects.loc["f[T.b]", "estimate"], rel=1e-10)
    new = counts.iloc[[5, 9]].drop(columns="y")
    grid = poisson.comparisons({"f": ("a", "b")}, newdata=new, average=False).table
    np.testing.assert_allclose(grid[["estimate", "std_error"]], rows.loc[[5, 9], ["estimate", "std_error"]], rtol=1e-12)
    # time stands in the offset alone: the ratio is certain
    doubled = poisson.comparisons({"time": (1, 2)}, comparison="ratio").table.iloc[0]
    assert [doubled["estimate"], doubled["std_error"]] == pytest.approx([2.0, 0.0], abs=1e-12)


def test_offsets_given_apart_and_trials(counts: pd.DataFrame, poisson: um.FitResult) -> None:
    """The same model with its offset as an array, as a column and in the formula: 1e-6 (three searches)."""
    formula = "y ~ x + I(x^2) + f + (1 | g)"
    expected = poisson.comparisons("x").table[["estimate", "std_error"]]
    for offset in (np.log(counts["time"]), "logtime"):
        fit = um.fit(formula, counts, "pls", family="poisson", offset=offset)
        found = fit.comparisons("x").table[["estimate", "std_error"]]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        if not isinstance(offset, str):
            with pytest.raises(um.DataError, match="fitted with offset= as an array"):
                fit.comparisons("x", newdata=counts)
    data = um.load_dataset("cbpp")
    fit = um.fit(BINOMIAL + " + (1 | herd)", data, "pls", family="binomial")
    p = expit(np.cumsum(np.r_[fit.fixed.estimate[0], np.zeros(3)]) + np.r_[0, fit.fixed.estimate[1:]])
    found = fit.comparisons({"period": ("1", "2")}).table.iloc[0]
    assert found["estimate"] == pytest.approx(p[1] - p[0], rel=1e-10)
    # averages over the periods as they are: by rows, and by trials
    data = data.assign(even=data["herd"].astype(int) % 2)
    curve = um.fit("cbind(incidence, size - incidence) ~ period + even + (1 | herd)", data, "pls", family="binomial")
    b = curve.fixed_effects["estimate"]
    eta = b.iloc[0] + np.array([0.0, *b.iloc[1:4]])[data["period"].astype(int) - 1]
    change = expit(eta + b["even"]) - expit(eta)
    for weights, w in ((None, None), ("model", data["size"])):
        found = curve.comparisons({"even": (0, 1)}, weights=weights).table.iloc[0]
        assert found["estimate"] == pytest.approx(np.average(change, weights=w), rel=1e-9)
    averaged = [np.mean(expit(eta)), np.mean(expit(eta + b["even"]))]
    odds = curve.comparisons({"even": (0, 1)}, comparison="odds_ratio").table.iloc[0]
    assert odds["estimate"] == pytest.approx(np.exp(logit(averaged[1]) - logit(averaged[0])), rel=1e-9)


def test_hypotheses_between_comparisons(poisson: um.FitResult, pigs: um.FitResult) -> None:
    made = poisson.comparisons({"f": "reference"}, comparison="ratio")
    beta = poisson.fixed_effects["estimate"]
    found = made.hypotheses("b0 / b1 = 1").iloc[0]
    contrast = poisson.hypotheses("exp(f[T.b] - f[T.c]) = 1").iloc[0]
    for column in ("estimate", "std_error", "p_value"):
        assert found[column] == pytest.approx(contrast[column], rel=1e-8)
    assert found["estimate"] == pytest.approx(np.exp(beta["f[T.b]"] - beta["f[T.c]"]) - 1, rel=1e-8)
    slopes = pigs.comparisons("Time", by="Cu").hypotheses("b1 = b0").iloc[0]
    row = pigs.fixed_effects.loc["Time:Cu[T.Cu035]"]
    assert [slopes[c] for c in OUTCOMES] == pytest.approx([row[c] for c in OUTCOMES], rel=1e-6)


@pytest.mark.r
def test_engines_agree_and_loaded_results_need_their_data() -> None:
    """Engines stop at other points of one optimum: 2e-3 of their standard errors."""
    data = um.load_dataset("cbpp")
    formula = BINOMIAL + " + (1 | herd)"
    fits = [um.fit(formula, data, e, family="binomial") for e in ("pls", "lme4", "glmmtmb", "mixedlm")]
    tables = [f.comparisons("period").table for f in fits]
    for other in tables[1:]:
        assert (np.abs(other["estimate"] - tables[0]["estimate"]) < 2e-3 * tables[0]["std_error"]).all()
        np.testing.assert_allclose(other["std_error"], tables[0]["std_error"], rtol=5e-3)
    again = um.FitResult.from_json(fits[0].to_json())
    pd.testing.assert_frame_equal(again.with_data(data).comparisons("period").table, tables[0], rtol=1e-8)
    with pytest.raises(um.DataError, match="holds no data"):
        again.comparisons("period")


@pytest.fixture(scope="module")
def sampled() -> um.FitResult:
    return sampled_models.cbpp()


def test_comparisons_of_a_posterior_are_of_its_draws(sampled: um.FitResult) -> None:
    beta = sampled.draws(sampled.status.n_draws or 1).beta
    p = expit(beta[:, [0]] + np.column_stack([np.zeros(len(beta)), beta[:, 1:]]))
    difference, ratio = p[:, 1] - p[:, 0], p[:, 1] / p[:, 0]
    for comparison, draws in (("difference", difference), ("ratio", ratio)):
        found = sampled.comparisons({"period": ("1", "2")}, comparison=comparison).table.iloc[0]
        # quantiles of a ratio and of its logarithm interpolate between the same draws, each on its own scale
        assert [found["lower"], found["upper"]] == pytest.approx(np.quantile(draws, [0.025, 0.975]), rel=1e-2)
        assert found["estimate"] == pytest.approx(draws.mean(), rel=1e-8)
        assert found["std_error"] == pytest.approx(draws.std(ddof=1), rel=1e-8)
        assert "p_value" not in found
    rows = sampled.comparisons({"period": ("1", "2")}, average=False).table
    assert rows["estimate"].to_numpy() == pytest.approx(difference.mean())


def test_hypotheses_of_a_posterior_are_of_its_draws(sampled: um.FitResult) -> None:
    beta = sampled.draws(sampled.status.n_draws or 1).beta
    odds = np.exp(beta[:, 1]) - 0.5
    found = sampled.hypotheses("exp(period[T.2]) = 0.5", equivalence=(-0.2, 0.2)).iloc[0]
    assert found["lower"] == pytest.approx(np.quantile(odds, 0.025))
    assert found["estimate"] == pytest.approx(np.mean(odds))
    assert found["p_direction"] == max(np.mean(odds > 0), np.mean(odds < 0))
    assert found["probability_equivalence"] == np.mean(np.abs(odds) < 0.2)
    less = sampled.hypotheses("exp(period[T.2]) = 0.5", alternative="less").table
    assert less["probability"].iloc[0] == np.mean(odds < 0)
    assert not {"p_value", "df"} & set(less)
    means = sampled.emmeans("period", kind="response").hypotheses("b1 - b0").iloc[0]
    assert means["estimate"] == pytest.approx(np.mean(expit(beta[:, 0] + beta[:, 1]) - expit(beta[:, 0])), rel=1e-8)
    with pytest.raises(um.UnimixError, match="posterior has no joint test"):
        sampled.hypotheses("b1 = 0", joint=True)
    middle = float(np.mean(beta[:, 1])) - 0.01
    with pytest.raises(um.OptionError, match=r"is not defined in \d+ of \d+ draws"):
        sampled.hypotheses(f"log(b1 - ({middle})) = 0")


def test_a_posterior_known_as_a_normal_distribution() -> None:
    """4000 draws with exactly its mean and covariance matrix: quantiles to 0.1 of a standard deviation."""
    fit = um.fit(BINOMIAL + " + (1 | herd)", um.load_dataset("cbpp"), "statsmodels", family="binomial")
    assert fit.fixed.interval == "credible"
    table, b = fit.hypotheses([f"b{i}" for i in range(4)]), fit.fixed_effects
    np.testing.assert_allclose(table[["estimate", "std_error"]], b[["estimate", "std_error"]], rtol=1e-9)
    for end in ("lower", "upper"):
        assert (np.abs(table[end].to_numpy() - b[end].to_numpy()) < 0.1 * b["std_error"]).all()


def test_what_the_data_cannot_tell_is_refused() -> None:
    data = um.load_dataset("dietox").assign(double=lambda d: 2.0 * d["Time"])
    fit = um.fit("Weight ~ Time + double + Cu", data, "pls")
    with pytest.raises(um.DataError, match=r"comparison of double \(\+1\).* cannot be estimated.*left out \(double\)"):
        fit.comparisons("double")
    assert fit.comparisons("Cu").table["estimate"].to_numpy() == pytest.approx(fit.fixed.estimate[2:], rel=1e-9)
    both = fit.comparisons({"Time": 1, "double": 2}, cross=True).table  # along the line of the data
    assert both["estimate"].iloc[0] == pytest.approx(fit.fixed_effects.loc["Time", "estimate"], rel=1e-8)
    empty = data[~((data["Cu"] == "Cu035") & (data["Evit"] == "Evit200"))]
    cells = um.fit("Weight ~ Cu * Evit + Time", empty, "pls")
    with pytest.raises(um.DataError, match=r"comparison of Evit \(Evit200 - Evit000\): \d+ of \d+ rows cannot"):
        cells.comparisons({"Evit": ("Evit000", "Evit200")})
    means = cells.emmeans("Cu")
    assert means.table["estimate"].isna().tolist() == [False, True, False]
    assert "Empty rows cannot be estimated" in str(means)
    assert means.contrasts()["contrast"].tolist() == ["Cu000 - Cu175"]
    with pytest.raises(um.DataError, match="Means of Evit: 1 of 1 rows cannot be estimated"):
        cells.emmeans("Evit", at={"Evit": "Evit200"})
    some = cells.comparisons({"Evit": ("Evit000", "Evit100")}, newdata={"Cu": "Cu175", "Evit": "Evit000", "Time": 3})
    assert np.isfinite(some.table["estimate"].iloc[0])


@pytest.mark.r
def test_what_makes_no_sense_is_refused(pigs: um.FitResult, poisson: um.FitResult, counts: pd.DataFrame) -> None:
    with pytest.raises(um.OptionError) as caught:
        pigs.comparisons({"Tim": 1, "Pig": None, "Cu": "pairwize", "Time": "sdd"})
    told = str(caught.value)
    for words in (
        "Did you mean 'Time'?",
        "'Pig' is a grouping factor",
        "Did you mean 'pairwise'?",
        "Did you mean 'sd'?",
    ):
        assert words in told
    for variables, words in (
        ({"Cu": ("Cu000", "Cu999")}, "'Cu999' is not a level of Cu that was fitted"),
        ({"Cu": ("Cu000", "Cu000")}, "two different levels"),
        ({"Time": (3, 3)}, "choose two different ones"),
        ({"Time": 0}, "choose a step"),
        ({"Time": (1, 2, 3)}, "choose a step"),
        (3, "variables=3"),
        ({}, "variables={}"),
    ):
        with pytest.raises(um.OptionError, match=words):
            pigs.comparisons(variables)
    for options, words in (
        ({"comparison": "odds_ratio"}, "is for probabilities, and the family is gaussian"),
        ({"comparison": "diferences"}, r"choose difference, ratio.*Did you mean 'difference'"),
        ({"comparison": "ratio", "kind": "link"}, "kind='link' has differences and slopes"),
        ({"kind": "mean"}, "choose 'response' or 'link'"),
        (
            {"average": False, "by": "Cu", "weights": "model"},
            r"(?s)by= averages.*weights= are the weights of an average",
        ),
        ({"by": "cu"}, "Did you mean 'Cu'"),
        ({"weights": [1, 2]}, r"shape \(861,\); got shape \(2,\)"),
        ({"weights": "size"}, "weights='size': give 'model'"),
        ({"cross": True}, "name at least two"),
        ({"ci_level": 95}, "ci_level=95"),
    ):
        with pytest.raises(um.OptionError, match=words):
            pigs.comparisons("Time", **options)
    with pytest.raises(um.OptionError, match="'Cu' is a factor and has no slope"):
        pigs.comparisons("Cu", comparison="dydx")
    with pytest.raises(um.DataError, match="a ratio needs positive expected responses, and 1 of 1 cases are not"):
        pigs.comparisons({"Time": (-10, 2)}, comparison="ratio")
    new = pd.DataFrame({"Time": [1.0, 2.0], "Cu": ["Cu000", "Cu999"], "Evit": "Evit000"})
    with pytest.raises(um.DataError, match="levels in the new data that the model was not fitted to: Cu999"):
        pigs.comparisons("Cu", newdata=new)
    with pytest.raises(um.DataError, match="newdata has missing values in 1 of 2 rows"):
        pigs.comparisons("Time", newdata=new.assign(Cu=["Cu000", None]))
    with pytest.raises(um.DataError, match="lack Evit"):
        pigs.comparisons("Time", newdata=new.drop(columns="Evit"))
    with pytest.raises(um.DataError, match="newdata has no rows"):
        pigs.comparisons("Time", newdata=new.iloc[:0])
    far = poisson.comparisons({"x": (2, 50)}, kind="link").table  # extrapolation is the reader's
    assert np.isfinite(far["estimate"].iloc[0])
    flat = um.fit("Weight ~ 1 + (1 | Pig)", um.load_dataset("dietox"), "pls")
    with pytest.raises(um.OptionError, match="no predictors to compare"):
        flat.comparisons()
    with pytest.raises(um.OptionError, match="no numeric predictor"):
        um.fit("Weight ~ Cu", um.load_dataset("dietox"), "pls").comparisons(comparison="dydx")
    root = um.fit("y ~ x + f", counts, "statsmodels", family="poisson(sqrt)")
    with pytest.raises(um.DataError, match="outside the range of the sqrt link"):
        root.comparisons({"x": (-400, 400)})
    zeros = counts.assign(y=np.where(np.arange(240) % 4, counts["y"], 0))
    inflated = um.fit("y ~ x + (1 | g)", zeros, "glmmtmb", family="poisson", ziformula="~ 1")
    assert np.isfinite(inflated.comparisons("x").table["std_error"].iloc[0])
    link = inflated.comparisons("x", kind="link").table.iloc[0]
    assert link["estimate"] == pytest.approx(inflated.fixed_effects.loc["x", "estimate"], rel=1e-9)
