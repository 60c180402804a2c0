"""Contrasts of contrasts, empty cells, joint tests and letters, against R's emmeans and brute force."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import unimix as um

R: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "contrasts_of_contrasts_r.json").read_text())
COLUMNS = ("estimate", "std_error", "lower", "upper")


@pytest.fixture(scope="module")
def pigs() -> pd.DataFrame:
    """The unbalanced rows of tests/data/contrasts_of_contrasts_r.R."""
    data = um.load_dataset("dietox")
    data["stage"] = pd.cut(data["Time"], [0, 4, 8, 12], labels=["early", "mid", "late"])
    lost = (data["Cu"] == "Cu035") & (data["Time"] % 3 == 1) | (data["Evit"] == "Evit200") & (data["Time"] % 4 == 2)
    return data[~lost]


def fitted(data: pd.DataFrame, response: str = "Weight", terms: str = "Cu * stage + Evit") -> um.FitResult:
    return um.fit(f"{response} ~ {terms} + (1 | Pig)", data, "pls")


@pytest.fixture(scope="module")
def plain(pigs: pd.DataFrame) -> um.FitResult:
    return fitted(pigs)


@pytest.fixture(scope="module")
def logged(pigs: pd.DataFrame) -> um.FitResult:
    return fitted(pigs, "log(Weight)")


def without(data: pd.DataFrame, stage: str) -> pd.DataFrame:
    return data[~((data["Cu"] == "Cu035") & (data["stage"] == stage))]


def agree(found: Any, expected: dict[str, Any]) -> None:
    """Estimates and standard errors within 5e-6 of a standard error: lme4 stops 1e-6 from its optimum.

    Degrees of freedom within 1e-5, because lmerTest takes derivatives by differences, and ends of intervals with them
    within 1e-5 of a standard error; p values within 1e-4, because R integrates the studentized range to four digits.
    """
    table = found.table
    value = next(c for c in ("ratio", "estimate") if c in table)
    error = np.array(expected["std_error"])
    for mine, theirs in zip((value, *COLUMNS[1:]), COLUMNS, strict=True):
        near = 1e-5 if mine in ("lower", "upper") else 5e-6
        np.testing.assert_array_less(np.abs(table[mine] - expected[theirs]), near * error, err_msg=mine)
    np.testing.assert_allclose(table["df"], expected["df"], rtol=1e-5)
    if "p_value" in table:
        np.testing.assert_allclose(table["p_value"], expected["p_value"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["plain", "response"])
def test_they_are_those_of_emmeans(name: str, plain: um.FitResult, logged: um.FitResult) -> None:
    """Differences of differences, and ratios of ratios of a response that is turned back from its logarithm."""
    expected, ratios = R[name], name == "response"
    fit, kind = (logged, {"kind": "response"}) if ratios else (plain, {})
    within = fit.contrasts("~ stage | Cu", "consecutive", adjust="none", **kind)
    apart = within.contrasts(by="contrast")
    agree(apart, expected["within"])
    agree(within.contrasts("reference", by="contrast", adjust="sidak"), expected["reference"])
    agree(within.contrasts(adjust="none"), expected["groups"])
    agree(apart.contrasts("consecutive", by="contrast", adjust="none"), expected["third"])
    agree(fit.contrasts("Cu", adjust="none", **kind).contrasts(), expected["pairs"])
    agree(fit.contrasts("Cu", "del.eff", adjust="none", **kind).contrasts(adjust="none"), expected["effects"])
    every = within.contrasts(by=[], adjust="holm")
    # emmeans' rows have the groups in the same order, and Bonferroni's intervals beside Holm's p values
    agree(every, expected["all"])
    sign = "/" if ratios else "-"
    assert every["contrast"].tolist() == [label.replace(" Cu", ", Cu") for label in expected["all"]["label"]]
    assert apart["of"].tolist() == [
        *[f"mid {sign} early"] * 3,
        *[f"late {sign} mid"] * 3,
    ]
    bounds = (1 / 1.1, 1.1) if ratios else (-3, 3)
    tested = within.contrasts(by="contrast", adjust="none", equivalence=bounds)
    np.testing.assert_allclose(tested["p_equivalence"], expected["equivalence"], rtol=1e-5)
    assert "adjusted for all of them (holm), intervals by Bonferroni" in str(every)
    assert "those of the same contrast (tukey)" in str(apart)


@pytest.mark.parametrize("name", ["empty", "empty_log"])
def test_what_an_empty_cell_leaves_is_that_of_emmeans(name: str, pigs: pd.DataFrame) -> None:
    """Cu035 has no late weeks."""
    expected, ratios = R[name], name == "empty_log"
    fit = fitted(without(pigs, "late"), "log(Weight)" if ratios else "Weight")
    sign, kind = ("/", {"kind": "response"}) if ratios else ("-", {})
    within = fit.contrasts("~ stage | Cu", "consecutive", adjust="none", **kind)
    agree(within, expected["consec"])
    assert f"combinations of levels that they need: Cu035: late {sign} mid." in within.notes[-1]
    pairs = fit.contrasts("Cu", adjust="none", **kind)
    agree(pairs, {k: np.atleast_1d(v) for k, v in expected["pairs"].items()})
    assert f"Cu000 {sign} Cu035, Cu035 {sign} Cu175" in pairs.notes[-1]
    agree(fit.contrasts("~ Cu | stage", adjust="none", **kind), expected["by_stage"])
    agree(fit.contrasts("~ stage | Cu", "poly", **kind), expected["poly"])
    agree(fit.contrasts("~ Cu | stage", "del.eff", adjust="none", **kind), expected["del_eff"])
    # the family of a contrast that is left out stays that of all three doses, as in emmeans
    apart = within.contrasts(by="contrast")
    agree(apart, expected["within"])
    assert f"late {sign} mid: Cu000 {sign} Cu035" in apart.notes[-1]


def test_nested_factors_are_those_of_emmeans(pigs: pd.DataFrame) -> None:
    data = pigs.assign(part=pigs["Cu"].str[2:] + " " + pigs["stage"].astype(str))
    fit = fitted(data[data["part"] != "035 mid"], terms="Cu / part + Evit")
    expected = R["nested"]
    agree(fit.emmeans("Cu"), expected["cu"])
    parts = fit.emmeans("part").table.sort_values("part")
    np.testing.assert_allclose(parts["estimate"], expected["parts"]["estimate"], rtol=1e-7)
    agree(fit.contrasts("Cu"), expected["pairs"])
    inside = fit.contrasts("~ part | Cu", adjust="none")
    agree(inside, expected["within"])
    joint = fit.contrasts("~ part | Cu", joint=True)
    check_joint(joint, R["joint_nested"])


def check_joint(found: Any, expected: dict[str, Any], den_df: float = 2e-3) -> None:
    """F within half of emmeans' last digit.

    Its degrees of freedom are the smallest of the rows' instead of Fai and Cornelius's: within 2e-3 for balanced rows.
    """
    np.testing.assert_allclose(found["F"], expected["F"], atol=6e-4)
    assert found["num_df"].tolist() == expected["num_df"]
    np.testing.assert_allclose(found["den_df"], expected["den_df"], rtol=den_df)
    np.testing.assert_allclose(np.log(found["p_value"]), np.log(expected["p_value"]), rtol=5e-3)


def test_joint_tests_of_groups_are_those_of_emmeans(
    plain: um.FitResult, logged: um.FitResult, pigs: pd.DataFrame
) -> None:
    """Of an empty cell, what the data determine is tested, whichever contrasts span it."""
    for fit, name in ((plain, "joint"), (logged, "joint_log")):
        stages = {k: v[:3] for k, v in R[name].items()}  # the first three of emmeans::joint_tests(m, by = "Cu")
        check_joint(fit.contrasts("~ stage | Cu", joint=True), stages)
        check_joint(fit.contrasts("~ stage | Cu", "poly", kind="response", joint=True), stages)
    check_joint(plain.contrasts("~ Cu | stage", "consecutive", joint=True), R["joint_stage"], 1e-4)  # lmerTest's
    for stage, name in (("late", "joint_empty"), ("mid", "joint_middle")):
        fit = fitted(without(pigs, stage))
        for method in ("consecutive", "pairwise", "poly"):
            found = fit.contrasts("~ stage | Cu", method, joint=True)
            check_joint(found, R[name])
        assert "Tested as far as the data determine them" in found.notes[-1]
    with pytest.raises(um.OptionError, match="without joint=True"):
        found.contrasts()


def test_polynomials_effects_and_letters_are_those_of_emmeans(
    plain: um.FitResult, logged: um.FitResult, pigs: pd.DataFrame
) -> None:
    agree(plain.contrasts("stage", "poly", scores=[0, 1, 4]), R["scores"])
    agree(plain.contrasts("stage", "poly"), R["poly"])
    agree(logged.contrasts("stage", "poly", kind="response"), R["poly_log"])
    agree(logged.contrasts("stage", "del.eff", adjust="none", kind="response"), R["effects_log"])
    for fit, name in (
        (plain, "letters"),
        (logged, "letters_log"),
        (fitted(without(pigs, "late")), "letters_empty"),
    ):
        for kind in ("link", "response"):
            assert fit.emmeans(["Cu", "stage"], kind=kind).letters()["letters"].tolist() == R[name]


def test_codings_of_factors_do_not_change_them(pigs: pd.DataFrame, plain: um.FitResult) -> None:
    """The same means in other columns: 1e-6 of a standard error."""
    within = plain.contrasts("~ stage | Cu", "consecutive", adjust="none").contrasts(by="contrast", adjust="none").table
    for coding in ("sum", "helmert", "poly"):
        coded = um.fit(plain.formula, pigs, "pls", contrasts={"Cu": coding, "stage": coding, "Evit": coding})
        found = (
            coded.contrasts("~ stage | Cu", "consecutive", adjust="none").contrasts(by="contrast", adjust="none").table
        )
        assert (np.abs(found["estimate"] - within["estimate"]) < 1e-6 * within["std_error"]).all()
        np.testing.assert_allclose(found[["std_error", "df"]], within[["std_error", "df"]], rtol=1e-5)


def test_covariances_are_those_of_the_means(plain: um.FitResult) -> None:
    """(a - b) - (a - c) = c - b, with its standard error and degrees of freedom."""
    pairs = plain.contrasts("Cu", adjust="none")
    twice = pairs.contrasts({"it": [1, -1, 0]}).table.iloc[0]
    once = plain.contrasts("Cu", {"it": [0, -1, 1]}).table.iloc[0]
    for column in ("estimate", "std_error", "df", "p_value"):
        assert twice[column] == pytest.approx(once[column], rel=1e-9)
    whole = plain.contrasts("~ stage | Cu", "consecutive", adjust="none").contrasts(by="contrast", joint=True)
    mixed = plain.contrasts("~ Cu * stage", interaction="consecutive", joint=True)
    both = plain.contrasts("~ stage | Cu", "consecutive", adjust="none").contrasts(by=[], joint=True)
    assert whole["num_df"].tolist() == [2, 2]
    assert mixed["num_df"].tolist() == [4]
    assert both["num_df"].tolist() == [5]


@pytest.mark.parametrize("coding", ["treatment", "poly"])
def test_what_the_model_has_no_term_for_has_no_test(coding: str, pigs: pd.DataFrame) -> None:
    """Rounding errors of an interaction that is zero by the model, 1e-16, had a p value of 0.01 in poly coding."""
    codings = dict.fromkeys(("Cu", "stage", "Evit"), coding)
    fit = um.fit("Weight ~ Cu + stage + Evit + (1 | Pig)", pigs, "pls", contrasts=codings)
    within = fit.contrasts("~ stage | Cu", "consecutive", adjust="none")
    for made in (within.contrasts(by="contrast"), fit.contrasts("~ stage * Cu", interaction="pairwise")):
        assert (made["estimate"] == 0).all()
        assert (made["std_error"] == 0).all()
        assert made["p_value"].isna().all()
        assert "do not depend on the coefficients" in made.notes[-1]
    for call in (within.contrasts, fit.emmeans(["stage", "Cu"]).contrasts):
        given = {"by": "contrast"} if call == within.contrasts else {"interaction": "pairwise"}
        with pytest.raises(um.DataError, match="the model has no term for these contrasts"):
            call(joint=True, **given)


def test_an_offset_is_a_constant_without_a_test(pigs: pd.DataFrame) -> None:
    """log(t) of two values of t: log(1 / 2), known without error, and 1 / 2 as a ratio."""
    data = pigs.assign(n=(pigs["Weight"] / 10).round().astype(int), t=1 + pigs["Time"] % 3)
    fit = um.fit("n ~ Cu * stage + offset(log(t)) + (1 | Pig)", data, "pls", family="poisson")
    link, ratio = (fit.contrasts("t", at={"t": [1, 2]}, kind=kind).table.iloc[0] for kind in ("link", "response"))
    assert link["estimate"] == pytest.approx(np.log(0.5))
    assert ratio["ratio"] == pytest.approx(0.5)
    for row in (link, ratio):
        assert row["std_error"] == 0
        assert row[["statistic", "p_value"]].isna().all()
    with pytest.raises(um.DataError, match="the model has no term for these contrasts"):
        fit.contrasts("t", at={"t": [1, 2]}, joint=True)
    # beside it, contrasts of contrasts do not depend on the offset
    rates = [
        fit.contrasts("~ stage | Cu", "consecutive", adjust="none", at={"t": t}).contrasts(by="contrast").table
        for t in (1, 2)
    ]
    pd.testing.assert_frame_equal(rates[0], rates[1])


def test_bounds_of_ratios_do_not_depend_on_the_base_of_the_logarithm(pigs: pd.DataFrame) -> None:
    """log10 and log2 of the same response, to 1e-6: the optima differ."""
    tables = [
        fitted(pigs, response).contrasts("Cu", kind="response", adjust="none", equivalence=(0.9, 1.1)).table
        for response in ("log(Weight)", "log10(Weight)", "log2(Weight)")
    ]
    change, error = np.log(tables[0]["ratio"]), tables[0]["std_error"] / tables[0]["ratio"]
    upper = stats.t.cdf((change - np.log(1.1)) / error, tables[0]["df"])
    np.testing.assert_allclose(tables[0]["p_nonsuperiority"], upper, rtol=1e-8)
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0], rtol=1e-5)


def test_posteriors_have_them_by_their_draws(pigs: pd.DataFrame) -> None:
    """Ratios of ratios draw by draw: means, SDs and quantiles of exp of the draws' differences."""
    fit = um.fit("log(Weight) ~ Cu * stage + (1 | Pig)", pigs, um.backends.Bayes(draws=100), seed=1)
    means = fit.emmeans(["stage", "Cu"], kind="response")
    found = means.contrasts("consecutive", simple="stage").contrasts("reference", by="contrast").table
    draws = means._inference.posterior @ means.functions.weights.T  # type: ignore[operator]
    rate = draws[:, [1, 4, 7, 2, 5, 8]] - draws[:, [0, 3, 6, 1, 4, 7]]
    ratios = np.exp(rate[:, [1, 2, 4, 5]] - rate[:, [0, 0, 3, 3]])
    np.testing.assert_allclose(found["ratio"], ratios.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(found["std_error"], ratios.std(axis=0, ddof=1), rtol=1e-10)
    np.testing.assert_allclose(found["lower"], np.quantile(ratios, 0.025, axis=0), rtol=1e-3)  # of the logarithms
    assert "p_direction" in found
    assert "p_value" not in found


@pytest.mark.r
def test_other_engines_and_loaded_fits_have_the_same(plain: um.FitResult, pigs: pd.DataFrame) -> None:
    """5e-6 of a standard error for lme4, which stops there; none for a loaded fit."""
    call = {"by": "contrast", "adjust": "none"}
    mine = plain.contrasts("~ stage | Cu", "consecutive", adjust="none").contrasts(**call).table
    loaded = um.FitResult.from_json(plain.to_json()).with_data(pigs)
    other = um.fit(plain.formula, pigs, "lme4")
    for fit, near in ((loaded, 1e-9), (other, 5e-6)):
        found = fit.contrasts("~ stage | Cu", "consecutive", adjust="none").contrasts(**call).table
        assert (np.abs(found["estimate"] - mine["estimate"]) < near * mine["std_error"]).all()
        np.testing.assert_allclose(found[["std_error", "df"]], mine[["std_error", "df"]], rtol=10 * near)


def test_differences_of_responses_have_their_own_gradient(pigs: pd.DataFrame) -> None:
    """Of sqrt(y) turned back: the squares of the means, by the delta method by hand."""
    fit = fitted(pigs, "sqrt(Weight)")
    means = fit.emmeans(["stage", "Cu"], kind="response")
    found = means.contrasts("consecutive", simple="stage").contrasts(by="contrast", adjust="none").table.iloc[0]
    by_hand = means.hypotheses("(b1 - b0) - (b4 - b3) = 0").table.iloc[0]
    for column in ("estimate", "std_error", "df", "p_value", "lower"):
        assert found[column] == pytest.approx(by_hand[column], rel=1e-8)


def test_what_cannot_be_compared_is_refused(plain: um.FitResult) -> None:
    within = plain.contrasts("~ stage | Cu", "consecutive", adjust="none")
    with pytest.raises(um.OptionError, match="by='stage' is not a column of these contrasts: contrast, Cu"):
        within.contrasts(by="stage")
    with pytest.raises(um.OptionError, match=r"nothing to compare it with. Type by=\[\]"):
        within.contrasts(by=["contrast", "Cu"])
    with pytest.raises(um.OptionError, match="Form several contrasts first"):
        plain.contrasts("Cu", {"it": [1, -1, 0]}).contrasts()
    with pytest.raises(um.OptionError, match="several kinds of contrasts"):
        plain.emmeans(["Cu", "stage"]).contrasts(simple="each", adjust="none").contrasts()
    with pytest.raises(um.OptionError, match="reference='late' is not one of mid - early, late - mid"):
        within.contrasts("reference", reference="late")
    one = plain.emmeans(["stage", "Cu"]).contrasts({"rise": [-1, 0, 1]}, simple="stage")
    with pytest.raises(um.OptionError, match="Type by='contrast'"):
        one.contrasts()
    named = one.contrasts(by="contrast", adjust="none")
    assert named["of"].tolist() == ["rise"] * 3
    assert (
        within.contrasts("reference", reference="late - mid", adjust="none")["contrast"].tolist()
        == ["(mid - early) - (late - mid)"] * 3
    )


def test_a_predictor_may_be_called_of(pigs: pd.DataFrame) -> None:
    fit = um.fit("Weight ~ of * stage + (1 | Pig)", pigs.rename(columns={"Cu": "of"}), "pls")
    means = fit.emmeans(["stage", "of"])
    apart = means.contrasts("consecutive", simple="stage", adjust="none").contrasts(by="contrast", adjust="none")
    assert apart.columns[:2].tolist() == ["of1", "contrast"]
    assert means.contrasts(simple="each", adjust="none").columns[:3].tolist() == ["of1", "stage", "of"]
