"""Tests of terms and of models: against lmerTest, car and R's anova (references), and by simulation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sampled_models
from gold import as_list, gaussian_cases, generalised_cases
from scipy import stats

import unimix as um
from unimix.workflows.model_tests.nesting import mixture_p_value

TYPE3 = [c for c in gaussian_cases() if c.reference.get("anova_type3") and not c.reference["singular"]]
KR = [c for c in gaussian_cases() if (c.reference.get("kenward_roger") or {}).get("anova_type3")]
SLEEP = "Reaction ~ Days + (Days | Subject)"


def column(reference: Any, name: str) -> list[float]:
    return as_list(reference[name]) if isinstance(reference, dict) else [row[name] for row in reference]


@pytest.mark.parametrize("case", TYPE3, ids=lambda c: c.id)
def test_type_three_is_lmertests(case: Any) -> None:
    """1e-5: lmerTest takes its derivatives by differences."""
    found, reference = case.fit("pls").anova(), case.reference["anova_type3"]
    np.testing.assert_allclose(found["F"], column(reference, "F"), rtol=1e-5)
    np.testing.assert_allclose(found["den_df"], column(reference, "den_df"), rtol=1e-4)
    np.testing.assert_allclose(found["sum_sq"], column(reference, "sum_sq"), rtol=1e-5)
    np.testing.assert_allclose(found["p_value"], column(reference, "p_value"), rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("case", KR, ids=lambda c: c.id)
def test_kenward_roger_is_pbkrtests(case: Any) -> None:
    found = case.fit("pls", df_method="kenward-roger").anova().table
    reference = case.reference["kenward_roger"]["anova_type3"]
    np.testing.assert_allclose(found["F"], column(reference, "F"), rtol=1e-5)
    np.testing.assert_allclose(found["den_df"], column(reference, "den_df"), rtol=1e-5)


WALD = [c for c in generalised_cases() if c.reference.get("anova_type2_wald")]


@pytest.mark.parametrize("case", WALD, ids=lambda c: c.id)
def test_type_two_is_cars(case: Any) -> None:
    """2 %: car's chi-squared rests on lme4's numerical covariance matrix."""
    found, reference = case.fit("pls").anova("II"), case.reference["anova_type2_wald"]
    name = next(
        n for n in ("chisq", "statistic", "Chisq") if n in (reference if isinstance(reference, dict) else reference[0])
    )
    np.testing.assert_allclose(found["chisq"], column(reference, name), rtol=0.02)


@pytest.mark.r
def test_every_engine_has_the_same_tests() -> None:
    data = um.load_dataset("dietox")
    formula = "Weight ~ Time * Cu + (1 + Time | Pig)"
    tables = [
        um.fit(formula, data, backend).anova().table for backend in ("pls", "lme4", "statsmodels", "glmmtmb", "mixedlm")
    ]
    for other in tables[1:]:
        pd.testing.assert_frame_equal(other, tables[0], rtol=1e-3)


def test_the_coding_does_not_matter() -> None:
    data = um.load_dataset("dietox")
    formula = "Weight ~ Time * Cu * Evit + (1 | Pig)"
    a = um.fit(formula, data, "pls").anova().table
    b = um.fit(formula, data, "pls", contrasts={"Cu": "sum", "Evit": "helmert"}).anova().table
    pd.testing.assert_frame_equal(a, b, rtol=1e-5)
    two = um.fit(formula, data, "pls").anova("II").table
    assert two.loc["Time:Cu:Evit", "F"] == pytest.approx(a.loc["Time:Cu:Evit", "F"])
    assert not np.isclose(two.loc["Time", "F"], a.loc["Time", "F"])


def test_loaded_results_and_posteriors_say_what_they_need() -> None:
    data = um.load_dataset("sleepstudy")
    fit = um.fit(SLEEP, data, "pls")
    again = um.FitResult.from_json(fit.to_json())
    with pytest.raises(um.DataError, match="holds no data"):
        again.anova()
    pd.testing.assert_frame_equal(again.with_data(data).anova().table, fit.anova().table, rtol=1e-7)
    with pytest.raises(um.OptionError, match="type='IV': choose 'III', 'II' or 'I'"):
        fit.anova("IV")
    with pytest.raises(um.UnimixError, match="A posterior has no F tests"):
        sampled_models.sleepstudy().anova()


@pytest.fixture(scope="module")
def models() -> dict[str, um.FitResult]:
    data = um.load_dataset("sleepstudy")
    formulas = {"a": "Reaction ~ Days + (1 | Subject)", "c": SLEEP, "z": "Reaction ~ 1 + (Days | Subject)"}
    return {k: um.fit(f, data, "pls") for k, f in formulas.items()}


def test_likelihood_ratios_are_rs(models: dict[str, um.FitResult]) -> None:
    """R 4.2.2, lmerTest 3.1-3: anova(a, c, refit = FALSE), anova(z, c), ranova(a), ranova(c); printed digits."""
    by_reml = um.anova(models["c"], models["a"])
    assert by_reml.table["chisq"].iloc[1] == pytest.approx(42.837, abs=5e-4)
    assert by_reml.table["p_value"].iloc[1] == pytest.approx(mixture_p_value(42.8368, 2, boundary=True), rel=1e-3)
    by_ml = um.anova(models["z"], models["c"])
    assert by_ml.table["chisq"].iloc[1] == pytest.approx(23.537, abs=6e-4)
    assert by_ml.table["p_value"].iloc[1] == pytest.approx(1.226e-06, rel=1e-3)
    assert by_ml.table["aic"].round(1).tolist() == [1785.5, 1763.9]
    assert "refitted by ML" in by_ml.notes[0]
    one = um.ranova(models["a"]).table.loc["Intercept | Subject"]
    assert (round(one["chisq"], 1), round(one["aic"], 1), one["df"]) == (107.2, 1899.7, 1)
    two = um.ranova(models["c"]).table.loc["Days | Subject"]
    assert two["chisq"] == pytest.approx(42.837, abs=5e-4)
    assert two["p_value_chisq"] == pytest.approx(4.99e-10, rel=1e-2)


def test_models_that_cannot_be_compared_are_refused(models: dict[str, um.FitResult]) -> None:
    data = um.load_dataset("sleepstudy")
    with pytest.raises(um.DataError, match="cannot be shown to be nested in"):
        um.anova(models["a"], models["z"])
    with pytest.raises(um.DataError, match=r"different rows \(180 and 170\)"):
        um.anova(models["a"], um.fit(SLEEP, data.iloc[10:], "pls"))
    with pytest.raises(um.DataError, match="different weights"):
        um.anova(models["a"], um.fit(SLEEP, data, "pls", weights=np.linspace(1, 2, 180)))
    with pytest.raises(um.DataError, match="REML criteria of different fixed columns"):
        um.compare_ic(models["a"], models["z"])
    with pytest.raises(um.OptionError, match="two results at least"):
        um.anova(models["a"])
    with pytest.raises(um.DataError, match="has no random effects to test"):
        um.ranova(um.fit("Reaction ~ Days", data, "pls"))


def test_the_mixture_is_uniform_under_the_null() -> None:
    """80 data sets without group effects: share of p < 0.1 within 4 binomial errors."""
    rng = np.random.default_rng(4)
    g = np.repeat([f"g{k}" for k in range(12)], 6)
    p = []
    for _ in range(80):
        data = pd.DataFrame({"y": rng.normal(size=72), "g": g})
        p.append(um.ranova(um.fit("y ~ 1 + (1 | g)", data, "pls", df_method="normal")).table["p_value"].iloc[1])
    assert abs(np.mean(np.array(p) < 0.1) - 0.1) < 4 * np.sqrt(0.09 / 80)
    assert mixture_p_value(3.0, 1, boundary=True) == pytest.approx(0.5 * stats.chi2.sf(3.0, 1))
    assert mixture_p_value(3.0, 2, boundary=False) == pytest.approx(stats.chi2.sf(3.0, 2))


def test_criteria_and_weights() -> None:
    data = um.load_dataset("sleepstudy")
    fits = [um.fit(f, data, "pls", method="ML") for f in ("Reaction ~ Days + (1 | Subject)", SLEEP)]
    table = um.compare_ic(*fits, names=["intercepts", "slopes"]).table
    assert list(table.index) == ["slopes", "intercepts"]
    assert set(table["state"]) == {"converged"}
    assert table["weight"].sum() == pytest.approx(1)
    aic, k, n = table["aic"].iloc[0], 6, 180
    assert table["aicc"].iloc[0] == pytest.approx(aic + 2 * k * (k + 1) / (n - k - 1))


def test_a_model_without_groups_is_compared_by_ml(models: dict[str, um.FitResult]) -> None:
    """R's anova(b, a) of lmer and lm: both by ML, 106.21 (printed digits)."""
    plain = um.fit("Reaction ~ Days", um.load_dataset("sleepstudy"), "statsmodels")
    found = um.anova(models["a"], plain)
    assert found.table["chisq"].iloc[1] == pytest.approx(106.21, abs=6e-3)
    assert "other results are by ML" in found.notes[0]


def test_posteriors_are_compared_by_what_they_predict() -> None:
    data = um.load_dataset("sleepstudy")
    small, large = sampled_models.sleepstudy(sampled_models.INTERCEPTS), sampled_models.sleepstudy()
    table = um.compare_loo(small, large, names=["intercepts", "slopes"]).table
    assert list(table.index) == ["slopes", "intercepts"]
    ours = {"a": small.loo(), "b": large.loo()}
    assert table.loc["slopes", "elpd"] == pytest.approx(
        float(ours["b"].elpd_loo if hasattr(ours["b"], "elpd_loo") else ours["b"].elpd), abs=1e-9
    )
    # the name is of ArviZ 0.x, then of ArviZ 1
    a, b = (np.asarray(o.loo_i if hasattr(o, "loo_i") else o.elpd_i) for o in (ours["a"], ours["b"]))
    rows = a - b
    assert table.loc["intercepts", "elpd_diff"] == pytest.approx(rows.sum(), abs=1e-9)
    assert table.loc["intercepts", "se_diff"] == pytest.approx(np.sqrt(180) * rows.std(), rel=1e-9)
    assert table["bad_k"].iloc[0] == int((np.asarray(ours["b"].pareto_k) > 0.7).sum())
    with pytest.raises(um.UnimixError, match=r"um\.compare_loo"):
        um.anova(small, large)
    with pytest.raises(um.DataError, match="different rows"):
        um.compare_loo(
            small,
            um.fit(SLEEP, data.iloc[10:], sampled_models.SHORT, seed=1),
        )


def test_reml_criteria_of_other_codings_are_not_compared() -> None:
    """log|X'V^-1 X| depends on the coding: by ML the test is the same whatever it is."""
    data = um.load_dataset("dietox")
    small = um.fit("Weight ~ Time + Cu + (1 + Time || Pig)", data, "pls", contrasts={"Cu": "sum"})
    large = um.fit("Weight ~ Time + Cu + (1 + Time | Pig)", data, "pls")
    other = um.fit("Weight ~ Time + Cu + (1 + Time || Pig)", data, "pls")
    found = um.anova(small, large)
    assert "codings, differ" in found.notes[0]
    expected = um.anova(um.refit(other, method="ML"), um.refit(large, method="ML"))
    assert found.table["chisq"].iloc[1] == pytest.approx(expected.table["chisq"].iloc[1], abs=1e-5)
    with pytest.raises(um.DataError, match="codings, cannot be compared"):
        um.compare_ic(small, other)


def test_random_terms_are_left_out_as_lmertest_does() -> None:
    """R 4.2.2, lmerTest 3.1-3: ranova with (Machine | Worker) and (0 + Machine | Worker), 78.567 with 5 df."""
    data = pd.read_csv(Path(__file__).parents[1] / "data" / "gold" / "machines.csv").astype({"Worker": str})
    for term in ("Machine | Worker", "0 + Machine | Worker"):
        table = um.ranova(um.fit(f"score ~ Machine + ({term})", data, "pls")).table
        assert list(table.index) == ["<none>", "Machine | Worker"]
        assert table["chisq"].iloc[1] == pytest.approx(78.567, abs=6e-4)
        assert table["df"].iloc[1] == 5
    shifted = um.load_dataset("sleepstudy").assign(late=lambda d: d["Days"] - 5)
    tables = [um.ranova(um.fit(f"Reaction ~ {x} + ({x} | Subject)", shifted, "pls")).table for x in ("Days", "late")]
    assert tables[0]["chisq"].iloc[1] == pytest.approx(tables[1]["chisq"].iloc[1], abs=1e-5)


@pytest.mark.r
def test_plain_and_mixed_and_other_families_of_counts() -> None:
    """R 4.2.2: anova(glmer, glm) of cbpp has log-likelihoods -99.588 and -96.131 without and with herds, printed."""
    cows = um.load_dataset("cbpp")
    formula = "cbind(incidence, size - incidence) ~ period"
    plain = um.fit(formula, cows, "statsmodels", family="binomial")
    mixed = um.fit(f"{formula} + (1 | herd)", cows, "pls", family="binomial")
    found = um.anova(mixed, plain)
    assert found.table["chisq"].iloc[1] == pytest.approx(um.ranova(mixed).table["chisq"].iloc[1], abs=1e-4)
    assert "on the boundary" in found.notes[0]
    ticks = um.load_dataset("grouseticks")
    counts = [
        um.fit("TICKS ~ YEAR + (1 | BROOD)", ticks, "glmmtmb", family=f, ziformula=z)
        for f, z in (("poisson", None), ("negative_binomial", None), ("poisson", "~ 1"))
    ]
    table = um.compare_ic(*counts, names=["p", "nb", "zip"]).table
    assert table.loc["p", "aic"] == pytest.approx(counts[0].aic)
    assert table.index[0] == "nb"
    test = um.anova(counts[0], counts[1])
    assert test.table["p_value"].iloc[1] == pytest.approx(
        mixture_p_value(test.table["chisq"].iloc[1], 1, boundary=True)
    )
    inflated = um.anova(counts[0], counts[2])
    assert "zero inflation" in inflated.notes[0]
    with pytest.raises(um.DataError, match="cannot be shown to be nested"):
        um.anova(counts[1], counts[2])


@pytest.mark.r
def test_models_beside_each_other_are_not_nested() -> None:
    data = um.load_dataset("sleepstudy")
    data["o"], data["z"] = 3.0 * data["Subject"].astype(int), np.tile([0.0, 1.0], 90)
    shifted = um.fit("Reaction ~ 1 + offset(o) + (1 | Subject)", data, "pls")
    with pytest.raises(um.DataError, match="cannot be shown to be nested"):
        um.anova(shifted, um.fit("Reaction ~ Days + (1 | Subject)", data, "pls"))
    spreads = [um.fit("Reaction ~ Days + (1 | Subject)", data, "glmmtmb", dispformula=f) for f in ("~ Days", "~ z")]
    with pytest.raises(um.DataError, match="cannot be shown to be nested"):
        um.anova(*spreads)
    rng = np.random.default_rng(0)
    hits = pd.DataFrame({"g": np.repeat(np.arange(20), 10), "x": rng.normal(size=200), "b": np.tile([0, 1], 100)})
    first = um.fit("b ~ 1 + (1 | g)", hits[hits["g"] > 0], "pls", family="binomial")
    second = um.fit("b ~ x + (1 | g)", hits[hits["g"] < 19], "pls", family="binomial")
    with pytest.raises(um.DataError, match="different rows of their data"):
        um.anova(first, second)
    with pytest.raises(um.DataError, match=r"needs the data of a loaded result: um\.refit"):
        um.anova(type(first).from_json(first.to_json()), second)
    logged = um.fit("log(Reaction) ~ Days + (1 | Subject)", data, "pls")
    with pytest.raises(um.DataError, match="different responses"):
        um.anova(logged, um.fit("Reaction ~ 1 + (1 | Subject)", data, "pls"))
