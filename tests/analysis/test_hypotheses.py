"""Hypotheses as texts: against lmerTest, car, emmeans (tests/data/hypotheses_r.R), derivatives and draws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import unimix as um
from unimix.formula.parser import Reader
from unimix.stats.dual_numbers import FUNCTIONS, evaluate

R: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "hypotheses_r.json").read_text())
MIXED = "Weight ~ Time * Cu + Evit + (1 + Time | Pig)"
THREE = ["Cu[T.Cu035] - Cu[T.Cu175] = 0", "2 * Time + Time:Cu[T.Cu035] = 14", "(Intercept) = 15"]


@pytest.fixture(scope="module")
def pigs() -> um.FitResult:
    return um.fit(MIXED, um.load_dataset("dietox"), "pls")


@pytest.fixture(scope="module")
def binomial() -> um.FitResult:
    formula = "cbind(incidence, size - incidence) ~ period"
    return um.fit(formula, um.load_dataset("cbpp"), "statsmodels", family="binomial")


@pytest.mark.parametrize("method", ["satterthwaite", "kenward-roger"])
def test_each_and_all_are_those_of_lmertest(pigs: um.FitResult, method: str) -> None:
    """Estimates 1e-6 of a standard error (optimizers); lmerTest's Satterthwaite df are of numerical Hessians: 1e-5."""
    fit = pigs
    if method == "kenward-roger":
        fit = um.fit(MIXED, um.load_dataset("dietox"), "pls", df_method=method)
    expected = R[method.replace("-", "_")]
    found = fit.hypotheses(THREE).table
    assert found.index.tolist() == THREE
    assert (np.abs(found["estimate"] - expected["estimate"]) < 1e-6 * np.array(expected["std_error"])).all()
    for column, rtol in (("std_error", 1e-6), ("df", 1e-5), ("statistic", 1e-5), ("p_value", 1e-5)):
        np.testing.assert_allclose(found[column], expected[column], rtol=rtol, err_msg=column)
    joint = fit.hypotheses(", ".join(THREE), joint=True).table
    assert len(joint) == 1
    for column in ("F", "num_df", "den_df", "p_value"):
        assert joint[column].iloc[0] == pytest.approx(expected["joint"][column], rel=1e-5), column


def test_linear_and_generalised_models_are_those_of_car(binomial: um.FitResult) -> None:
    """R's glm stops at 1e-8 of the deviance, which leaves 1e-6 in chi-squared."""
    flat = um.fit("Weight ~ Time * Cu", um.load_dataset("dietox"), "pls")
    joint = flat.hypotheses("Cu[T.Cu035] - Cu[T.Cu175] = 0, Time = 7", joint=True).iloc[0]
    assert joint["F"] == pytest.approx(R["linear"]["F"], rel=1e-8)
    assert (joint["num_df"], joint["den_df"]) == (2, R["linear"]["den_df"])
    assert joint["p_value"] == pytest.approx(R["linear"]["p_value"], rel=1e-8)
    wald = binomial.hypotheses(["period[T.2] = period[T.3]", "period[T.4] = -1"], joint=True).iloc[0]
    assert wald["chisq"] == pytest.approx(R["binomial"]["chisq"], rel=1e-6)
    assert (wald["df"], wald["p_value"]) == (2, pytest.approx(R["binomial"]["p_value"], rel=1e-6))


def test_nonlinear_ones_are_cars_delta_method(pigs: um.FitResult) -> None:
    b = pigs.fixed_effects["estimate"]
    # R's columns: Intercept, Time, Cu035, Cu175, Evit100, ...: the same order as ours
    found = pigs.hypotheses(["b1 / b0", "exp(b1 / 10)", "log(b0) * b4 - sqrt(b1)"]).table
    np.testing.assert_allclose(found["estimate"], R["delta"]["estimate"], rtol=1e-6)
    np.testing.assert_allclose(found["std_error"], R["delta"]["std_error"], rtol=1e-6)
    moved = pigs.hypotheses("exp(b1 / 10) = 2").table
    assert moved["estimate"].iloc[0] == pytest.approx(np.exp(b["Time"] / 10) - 2, rel=1e-10)
    # the gradient of a function of one coefficient is a multiple of that coefficient's row
    assert moved["df"].iloc[0] == pytest.approx(pigs.fixed_effects.loc["Time", "df"], rel=1e-8)


@pytest.mark.parametrize(
    "text", [*(f"{f}(a)" for f in FUNCTIONS), "a ** b", "-a ^ 2 / b", "a * b - 3 ** a", "(-a) ** 3"]
)
def test_derivatives_are_exact(text: str) -> None:
    """Central differences with step 1e-5 are good to 1e-9 relative."""
    node, places, at = Reader(text).expression(1), {"a": 0, "b": 1}, np.array([0.7, 1.3])
    found = evaluate(node, places, at)
    for k in range(2):
        step = np.eye(2)[k] * 1e-5
        up, down = (evaluate(node, places, at + s * step, slopes=False).value for s in (1, -1))
        assert found.slope[k] == pytest.approx((up - down) / 2e-5, rel=1e-8, abs=1e-9)
    many = evaluate(node, places, np.stack([at, at + 0.1]), slopes=False).value
    assert many[0] == pytest.approx(float(found.value))


def test_names_and_positions(pigs: um.FitResult) -> None:
    terms = list(pigs.fixed.terms)
    for i, term in enumerate(terms):
        texts = [f"{term} = 1", f"`{term}` = 1", f"b{i} = 1", f"{term.replace(':', ' : ')}=1", f"1 * {term} == 1"]
        found = pigs.hypotheses(texts).table
        np.testing.assert_allclose(found["estimate"], pigs.fixed.estimate[i] - 1, rtol=1e-12, err_msg=term)
    curve = um.fit("Weight ~ I(Time^2) + C(Cu) + log(Time) + Time", um.load_dataset("dietox"), "pls")
    b = curve.fixed_effects["estimate"]
    found = curve.hypotheses("I(Time**2) = 0, I(Time ^ 2), C(Cu)[T.Cu035] = 0, `log(Time)` = 0, log(b1 + 100)").table
    expected = [b["I(Time^2)"]] * 2 + [b["C(Cu)[T.Cu035]"], b["log(Time)"], np.log(b.iloc[1] + 100)]
    np.testing.assert_allclose(found["estimate"], expected, rtol=1e-12)
    with pytest.raises(
        um.OptionError, match=r"log\(Time\) is a coefficient, and also a function of another one.*`log\(Time\)`"
    ):
        curve.hypotheses("log(Time) = 0")
    data = pd.DataFrame({"y": [1.0, 3, 2, 5, 4, 6], "b0": [1.0, 2, 3, 4, 5, 7], "b 2": [1.0, 0, 1, 0, 1, 1]})
    fit = um.fit("y ~ b0 + `b 2`", data, "pls")
    with pytest.raises(um.OptionError, match="b0 is a coefficient's name and a position: write `b0`"):
        fit.hypotheses("b0 = 0")
    found = fit.hypotheses("`b0` = 0, `b 2` = 0, b2 = 0").table
    np.testing.assert_allclose(found["estimate"], fit.fixed.estimate[[1, 2, 2]])


def test_one_sided_tests_and_equivalence(pigs: um.FitResult) -> None:
    two = pigs.hypotheses("Evit[T.Evit100] = 0").iloc[0]
    up, down = (pigs.hypotheses("Evit[T.Evit100] = 0", alternative=a).iloc[0] for a in ("greater", "less"))
    assert up["p_value"] == pytest.approx(two["p_value"] / 2) == pytest.approx(1 - down["p_value"])
    reach = stats.t.ppf(0.95, two["df"]) * two["std_error"]
    assert (up["lower"], up["upper"]) == (pytest.approx(two["estimate"] - reach), np.inf)
    assert (down["lower"], down["upper"]) == (-np.inf, pytest.approx(two["estimate"] + reach))
    found = pigs.hypotheses(["Evit[T.Evit100] = 0", "Evit[T.Evit200] = 0"], equivalence=(-3, 3)).table
    # emmeans makes the same two tests; its Satterthwaite df have the numerical error of lmerTest's
    np.testing.assert_allclose(found["estimate"], R["equivalence"]["estimate"], atol=1e-5)
    np.testing.assert_allclose(found["p_equivalence"], R["equivalence"]["p_value"], rtol=1e-5)
    assert found["p_equivalence"].eq(found[["p_noninferiority", "p_nonsuperiority"]].max(axis=1)).all()


def test_joint_tests_of_one_of_many_units_and_of_repeated_hypotheses(pigs: um.FitResult) -> None:
    one = pigs.hypotheses("Time = 7").iloc[0]
    joint = pigs.hypotheses("Time = 7", joint=True).iloc[0]
    assert joint["F"] == pytest.approx(one["statistic"] ** 2, rel=1e-8)
    assert (joint["num_df"], joint["den_df"]) == (1, pytest.approx(one["df"], rel=1e-6))
    assert joint["p_value"] == pytest.approx(one["p_value"], rel=1e-6)
    twice = pigs.hypotheses("Time = 7, 2 * Time = 14", joint=True).iloc[0]
    assert (twice["F"], twice["num_df"]) == (pytest.approx(joint["F"], rel=1e-6), 1)
    with pytest.raises(um.OptionError, match="contradict each other"):
        pigs.hypotheses("Time = 7, Time = 8", joint=True)
    # a predictor in other units changes nothing
    data = um.load_dataset("dietox")
    data["Far"] = data["Time"] * 1e7
    far = um.fit("Weight ~ Far * Cu", data, "pls").hypotheses("Cu[T.Cu035] = 1, Far:Cu[T.Cu035] = 0", joint=True).table
    near = (
        um.fit("Weight ~ Time * Cu", data, "pls").hypotheses("Cu[T.Cu035] = 1, Time:Cu[T.Cu035] = 0", joint=True).table
    )
    np.testing.assert_allclose(far, near, rtol=1e-6)
    assert near["num_df"].iloc[0] == 2


def test_hypotheses_that_depend_on_each_other(pigs: um.FitResult) -> None:
    """Nonlinear ones need not contradict each other where their gradients are parallel: Time = 3 and Time^2 = 9."""
    with pytest.raises(um.OptionError, match=r"Time = 3, Time\^2 = 9 depend on each other.*Leave one out"):
        pigs.hypotheses(["Time = 3", "Time^2 = 9"], joint=True)
    each = pigs.hypotheses(["Time = 3", "Time^2 = 9"]).table
    assert np.isfinite(each["p_value"]).all()
    for linear in ("(Time - 3) / 2 = 0, -Time * 2 = 3", "Time = 3, 2 ^ 2 * Time = 13"):
        with pytest.raises(um.OptionError, match="contradict each other"):
            pigs.hypotheses(linear, joint=True)


def test_a_model_without_fixed_effects_has_no_hypotheses() -> None:
    fit = um.fit("Weight ~ 0 + (1 | Pig)", um.load_dataset("dietox"), "pls")
    for test in ("b0 = 0", "x = 1"):
        with pytest.raises(um.OptionError, match="The model has no fixed effects"):
            fit.hypotheses(test)


def test_units_change_joint_degrees_of_freedom_as_lmertests_do() -> None:
    """lmerTest's contestMD, as written and of rows over their standard errors: 1e-5, its Hessians are numerical.

    Where one standard error is 1000 times the other, lmerTest would soon lose a hypothesis (from 1e4 on): then the rows
    are taken over their standard errors, and no further unit changes anything.
    """
    data = um.load_dataset("sleepstudy")
    data = data[(data["Subject"].astype(str).rank(method="dense") < 12) | (data["Days"] < 5)]
    for unit, expected in (
        (1, R["units"]["one"]),
        (10, R["units"]["ten"]),
        *((u, R["units"]["unit"]) for u in (1e5, 1e8)),
    ):
        fit = um.fit("Reaction ~ x + (1 + Days | Subject)", data.assign(x=data["Days"] * unit), "pls")
        found = fit.hypotheses(f"b0 = 250, b1 = {10 / unit!r}", joint=True).iloc[0]
        assert found["F"] == pytest.approx(R["units"]["F"], rel=1e-5)
        assert found["num_df"] == 2
        assert found["den_df"] == pytest.approx(expected, rel=1e-5), unit


def test_means_and_slopes_have_hypotheses(pigs: um.FitResult, binomial: um.FitResult) -> None:
    means = pigs.emmeans("Cu")
    found = means.hypotheses("b0 = b1").iloc[0]
    pair = means.contrasts(adjust="none").iloc[0]
    for column in ("estimate", "std_error", "df", "p_value"):
        assert found[column] == pytest.approx(pair[column], rel=1e-9)
    equal = pigs.slopes("Time", by="Cu").hypotheses("b0 = b1, b0 = b2", joint=True).iloc[0]
    assert equal["F"] == pytest.approx(pigs.anova().loc["Time:Cu", "F"], rel=1e-6)
    probabilities = binomial.emmeans("period", kind="response").hypotheses(["b1 - b0", "b2 - b0", "b3 - b0"]).table
    np.testing.assert_allclose(probabilities["estimate"], R["differences"]["estimate"], rtol=1e-6)
    np.testing.assert_allclose(probabilities["std_error"], R["differences"]["std_error"], rtol=1e-5)
    with pytest.raises(um.OptionError, match="named by position, b0 to b2"):
        means.hypotheses("Cu000 = Cu035")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Tim = 0", r"'Tim' is not one of the estimates. Did you mean 'Time'\? Known: b0 = Intercept, b1 = Time"),
        ("b9 = 0", "b9 does not exist: there are 8, from b0 to b7"),
        ("Time > 0", "alternative='greater' or 'less'"),
        ("Time = ", "cannot be read"),
        ("Cu[T.Cu035]:Time = 0", r"cannot be read.*b6 = Time:Cu\[T.Cu035\]"),
        ("", "it is empty"),
        ("Time = 0,", "it is empty"),
        ("1 = 1", "names no coefficient"),
        ("Time - Time = 0", "does not depend on the coefficients"),
        ("log(-Time) = 0", "is not defined"),
        ("1 / (Time - Time)", "is not defined"),
        ("tan(Time) = 0", r"tan\(\) is not a function here"),
        ("exp(Time, 2) = 0", "takes one quantity"),
        ("Time = 0 = 1", "was not expected here"),
        ("Time : Evit", "only"),
        ("Time = 'a'", "only"),
        ("__import__('os').system('x')", "cannot be read"),
        ("CuCu035 = 0", "Did you mean 'Cu"),
    ],
)
def test_what_cannot_be_read_is_refused(pigs: um.FitResult, text: str, message: str) -> None:
    with pytest.raises(um.OptionError, match=message):
        pigs.hypotheses(text)


def test_all_faults_are_told_at_once(pigs: um.FitResult) -> None:
    with pytest.raises(um.OptionError) as caught:
        pigs.hypotheses(["Tim = 0", "b9 = 0"], alternative="bigger", equivalence=(1, -1), joint=True)
    told = str(caught.value)
    assert all(
        word in told for word in ("Tim", "b9", "alternative='bigger'", "equivalence=(1, -1)", "one hypothesis at a")
    )
    with pytest.raises(um.OptionError, match="hypotheses are strings"):
        pigs.hypotheses([])
    with pytest.raises(um.OptionError, match="ci_level=2"):
        pigs.hypotheses("Time", ci_level=2)
    again = um.FitResult.from_json(pigs.to_json())
    found = again.with_data(um.load_dataset("dietox")).hypotheses(THREE).table
    pd.testing.assert_frame_equal(found, pigs.hypotheses(THREE).table, rtol=1e-6)
