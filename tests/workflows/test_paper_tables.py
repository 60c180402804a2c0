"""Tables of models for papers: their numbers, their words, and files that others can read."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.fitted.describe import fixed_number, p_number, places_for, without_zero
from unimix.workflows.tables.options import term_name

R = json.loads((Path(__file__).parents[1] / "data" / "broom_r.json").read_text(encoding="utf-8"))


def value(table: um.ModelTable, row: str, quantity: str = "value", column: int = 0) -> Any:
    return table.frame.xs((row, quantity), level=("row", "quantity")).iloc[0, column]


def notes(table: um.ModelTable) -> str:
    return "\n".join(map(str, table.notes))


def printed(table: um.ModelTable) -> dict[str, tuple[str, ...]]:
    return {line.label: line.cells for line in table.grid.lines if line.label}


@pytest.mark.r
def test_three_engines_stand_under_their_names(fits: dict[str, um.FitResult]) -> None:
    """Bates, Maechler, Bolker & Walker (2015), section 1: 251.405 (6.825), 10.467 (1.546), SD 24.740, 5.922, 25.592."""
    table = um.table([fits["pls"], fits["lme4"], fits["statsmodels"]], show="both")
    assert [c.name for c in table.columns] == ["pls", "lme4", "statsmodels"]
    assert not any(c.group or c.response for c in table.columns)
    lines = printed(table)
    assert lines["Days"] == ("10.47",) * 3
    assert lines["SD (Intercept | Subject)"] == ("24.74",) * 3
    assert lines["Correlation (Intercept, Days | Subject)"] == (".07",) * 3
    assert lines["SD (Residual)"] == ("25.59",) * 3
    assert lines["Log-likelihood (REML)"] == ("-871.81",) * 3
    cells = [line.cells[1] for line in table.grid.lines]
    assert cells[:3] == ["251.41", "(6.82)", "[237.01, 265.80]"]
    assert "95% confidence intervals in brackets; intervals by Satterthwaite's degrees of freedom" in notes(table)
    assert notes(table).count("standard errors in parentheses") == 1


def test_the_frame_holds_the_fits_own_numbers(fits: dict[str, um.FitResult]) -> None:
    table = um.table([fits["small"], fits["pls"]], show="both", p_values=True)
    for j, fit in enumerate((fits["small"], fits["pls"])):
        for term, row in fit.fixed_effects.iterrows():
            for quantity in ("estimate", "std_error", "lower", "upper", "p_value"):
                assert value(table, str(term), quantity, j) == row[quantity]
        assert value(table, "AIC", column=j) == fit.aic
        assert value(table, "Rows", column=j) == 180
        assert value(table, "SD (Residual)", column=j) == fit.sigma
    assert value(table, "SD (Days | Subject)") is None  # absent from the first model
    assert printed(table)["SD (Days | Subject)"] == ("", "5.92")
    assert [c.name for c in table.columns] == ["Model 1", "Model 2"]
    assert "Model 2: Reaction ~ Days + (Days | Subject)" in notes(table)


def test_terms_keep_the_order_of_their_first_appearance(fits: dict[str, um.FitResult]) -> None:
    table = um.table([fits["herds"], fits["pls"]])
    labels = [row.label for row in table.rows]
    fixed = ["Intercept", "period[T.2]", "period[T.3]", "period[T.4]", "Days"]
    assert labels[:5] == fixed
    assert labels[5:9] == [
        "SD (Intercept | herd)",
        "SD (Intercept | Subject)",
        "SD (Days | Subject)",
        "Correlation (Intercept, Days | Subject)",
    ]
    assert labels[9] == "SD (Residual)"
    assert labels[-1] == "Converged"
    assert [c.response for c in table.columns] == [
        "cbind(incidence, size - incidence) (binomial, logit link)",
        "Reaction",
    ]
    assert "AIC and BIC of different rows or responses cannot be compared." in notes(table)
    assert "AIC and BIC of different criteria (Laplace, REML) cannot be compared." in notes(table)
    assert {"Log-likelihood (REML)", "Log-likelihood (Laplace)"} <= set(labels)


def test_odds_ratios_are_brooms(fits: dict[str, um.FitResult]) -> None:
    """5e-3: lme4 finds the covariance matrix of a generalised model by differences."""
    theirs = R["odds_ratios"]
    table = um.table([fits["herds"]], exponentiate=True, show="both")
    names = [t.replace("(Intercept)", "Intercept") for t in theirs["term"]]
    for i, term in enumerate(re.sub(r"period(\d)", r"period[T.\1]", n) for n in names):
        for quantity, column in (
            ("estimate", "estimate"),
            ("std_error", "std.error"),
            ("lower", "conf.low"),
            ("upper", "conf.high"),
        ):
            assert value(table, term, quantity) == pytest.approx(theirs[column][i], rel=5e-3), (term, quantity)
    assert "odds ratios, with standard errors by the delta method" in notes(table)
    assert value(table, "SD (Intercept | herd)") == fits["herds"].random[0].sd[0]
    counts = um.fit("TICKS ~ cHEIGHT + (1 | BROOD)", um.load_dataset("grouseticks"), "pls", family="poisson")
    assert "rate ratios" in notes(um.table(counts, exponentiate=True))


def test_models_that_differ_beside_the_formula_have_lines_of_their_own() -> None:
    data = um.load_dataset("sleepstudy").assign(w=2.0, o=np.arange(180) % 7)
    formula = "Reaction ~ Days + (1 | Subject)"
    plain = um.fit(formula, data, "pls")
    table = um.table([plain, um.fit(formula, data, "pls", offset="o"), um.fit(formula, data, "pls", weights="w")])
    told = notes(table).splitlines()
    assert f"Model 1: {formula}" in told
    assert f"Model 2: {formula}; offset o" in told
    assert f"Model 3: {formula}; weights w" in told
    assert f"Model: {formula}; weights w" in notes(um.table(um.fit(formula, data, "pls", weights="w"))).splitlines()
    assert f"Model: {formula}" in notes(um.table([plain, plain])).splitlines()


def test_stars_and_criteria_have_whole_notes(fits: dict[str, um.FitResult]) -> None:
    told = [str(n) for n in um.table(fits["pls"], stars=True).notes]
    assert "* p < .05, ** p < .01, *** p < .001." in told
    assert all(len(t) > 10 for t in told)


def test_the_success_of_a_text_is_told() -> None:
    data = um.load_dataset("sleepstudy").assign(speed=lambda d: np.where(d["Reaction"] > 300, "slow", "fast"))
    fit = um.fit("speed ~ Days + (1 | Subject)", data, "pls", family="binomial")
    assert "In speed, slow counts as success, fast as failure." in notes(um.table(fit))


def test_a_terms_name_stands_for_its_coefficients(fits: dict[str, um.FitResult]) -> None:
    def labels(**chosen: Any) -> list[str]:
        return [r.label for r in um.table(fits["herds"], sections="fixed", **chosen).rows]

    periods = ["period[T.2]", "period[T.3]", "period[T.4]"]
    assert labels(keep="period") == periods
    assert labels(drop=["period"]) == ["Intercept"]
    assert labels(drop=["Intercept", "period[T.3]"]) == [periods[0], periods[2]]
    with pytest.raises(um.OptionError, match=r"'perod', which no model has\. Did you mean 'period'\?"):
        labels(keep="perod")
    data = um.load_dataset("dietox").assign(Cu=lambda d: d["Cu"].astype(str).replace("Cu175", "Cu (a:b)"))
    terms = list(um.fit("Weight ~ poly(Time, 2) * Cu", data, "pls").fixed.terms)
    assert "poly(Time, 2)[2]:Cu[T.Cu035]" in terms
    by_term: dict[str, int] = {}
    for coefficient in terms:
        by_term[term_name(coefficient)] = by_term.get(term_name(coefficient), 0) + 1
    assert by_term == {"Intercept": 1, "poly(Time, 2)": 2, "Cu": 2, "poly(Time, 2):Cu": 4}
    assert term_name("C(a, levels=[1, 2])[T.x (y)]:b[T.c:d]") == "C(a, levels=[1, 2]):b"


def test_a_variance_of_zero_prints_as_zero(fits: dict[str, um.FitResult]) -> None:
    """The engines' searches end at numbers such as 1e-20, which stay in the frame."""
    fit = fits["singular"]
    (block,) = fit.random
    tiny = replace(fit, random=(block.model_copy(update={"sd": np.array([4.8e-20])}),))
    table = um.table(tiny)
    assert printed(table)["SD (Intercept | g)"] == ("0.00",)
    assert value(table, "SD (Intercept | g)") == 4.8e-20
    assert "SD(Intercept) = 0.00;" in tiny.report()
    (line,) = [row.split() for row in str(tiny).splitlines() if row.startswith("  g ")]
    assert line == ["g", "Intercept", "0.0000"]
    assert "e-20" not in tiny._repr_html_()
    small = replace(fit, random=(block.model_copy(update={"sd": np.array([4.8e-5])}),))
    assert "4.800e-05" in str(small)
    assert printed(um.table(small))["SD (Intercept | g)"] == ("0.000048",)


def test_posteriors_have_means_and_no_tests(fits: dict[str, um.FitResult], posterior: um.FitResult) -> None:
    table = um.table([fits["small"], posterior], show="both", stars=True, p_values=True)
    assert value(table, "Days", "estimate", 1) == posterior.fixed.estimate[1]
    assert (value(table, "Days", "lower", 1), value(table, "Days", "upper", 1)) == (
        posterior.fixed.lower[1],
        posterior.fixed.upper[1],
    )
    assert value(table, "Days", "p_value", 1) is None
    lines = printed(table)
    assert lines["Days"][0].endswith("***")
    assert "*" not in lines["Days"][1]
    for row in ("AIC", "BIC", "Log-likelihood (REML)", "Degrees of freedom"):
        assert lines[row][0]
        assert lines[row][1] == ""
    assert lines["Draws"] == ("", "2000")
    told = notes(table)
    assert "bayes: posterior means with posterior standard deviations in parentheses and 95% credible intervals" in told
    assert "a posterior has no p values" in told
    assert "p < .05" not in notes(um.table(posterior, stars=True))
    linked = replace(posterior, model=posterior.model.model_copy(update={"family": "poisson", "link": "log"}))
    ratios = "Coefficients are rate ratios, posterior means of the exponentiated coefficients."
    assert ratios in notes(um.table(linked, exponentiate=True))


def test_what_did_not_converge_is_marked(fits: dict[str, um.FitResult], posterior: um.FitResult) -> None:
    failed = replace(
        posterior, status=posterior.status.model_copy(update={"state": "not_converged", "messages": ("too few",)})
    )
    table = um.table({"fine": fits["small"], "bad": failed, "edge": fits["singular"]}, sections="fixed")
    assert [c.mark for c in table.columns] == ["", "†", "‡"]
    assert fits["singular"].status.state == "singular"
    told = notes(table)
    assert "† bad: The chains did not converge: do not use these numbers. Too few." in told
    assert "‡ edge: The fit is singular" in told
    for text in (str(table), table.to_markdown(), table.to_html()):
        assert "bad †" in text
        assert "did not converge" in text
    assert r"bad\textsuperscript{\textdagger}" in table.to_latex()
    assert printed(um.table([fits["singular"]]))["Converged"] == ("yes, singular‡",)


@pytest.mark.r
def test_engines_and_models_together_are_grouped(fits: dict[str, um.FitResult], posterior: um.FitResult) -> None:
    mixed = um.table([fits["small"], posterior, fits["pls"]])
    assert [(c.group, c.name.removesuffix(" †")) for c in mixed.columns] == [
        ("pls", "Model 1"),
        ("pls", "Model 2"),
        ("bayes", "Model 1"),
    ]
    assert [(h.text, h.span) for h in mixed.grid.heads[0]] == [("pls", 2), ("bayes", 1)]
    sleep = um.load_dataset("sleepstudy")
    ml = um.fit(fits["pls"].formula, sleep, "pls", method="ML")
    twice = um.table([fits["pls"], ml, fits["pls"]])
    assert [c.name for c in twice.columns] == ["pls (REML) 1", "pls (ML)", "pls (REML) 2"]
    named = um.table([fits["small"], fits["lme4"]], ["a", "b"])
    assert [c.name for c in named.columns] == ["a", "b"]
    assert printed(named)["Engine"] == ("pls", "lme4")
    other_rows = um.table([fits["pls"], um.fit(fits["pls"].formula, sleep.iloc[20:], "pls")])
    assert printed(other_rows)["Rows"] == ("180", "160")
    assert [c.name for c in other_rows.columns] == ["Model 1", "Model 2"]


def test_beside_has_a_column_per_quantity(fits: dict[str, um.FitResult]) -> None:
    table = um.table([fits["small"], fits["pls"]], layout="beside", show="both", p_values=True, digits=3)
    assert [h.text for h in table.grid.heads[-1]] == ["Estimate", "SE", "CI", "p"] * 2
    assert [(h.text, h.span) for h in table.grid.heads[0]] == [("Model 1", 4), ("Model 2", 4)]
    assert printed(table)["Days"][4:] == ("10.467", "1.546", "7.206, 13.729", "< .001")
    assert printed(table)["Rows"] == ("180", "", "", "", "180", "", "", "")
    pd.testing.assert_frame_equal(
        table.frame, um.table([fits["small"], fits["pls"]], show="both", p_values=True, digits=3).frame
    )


def test_names_and_choices(fits: dict[str, um.FitResult]) -> None:
    new = {"Days": "Days of deprivation", "Subject": "Person"}
    table = um.table([fits["pls"]], coef_names=new, drop="Intercept", stars=(0.1, 0.05), caption="Sleep")
    labels = [row.label for row in table.rows]
    assert labels[0] == "Days of deprivation"
    assert "SD (Days of deprivation | Person)" in labels
    assert "Levels of Person" in labels
    assert "Coefficients not shown: Intercept." in notes(table)
    assert "* p < .1, ** p < .05." in notes(table)
    assert table.caption == "Sleep"
    assert {row.section for row in um.table(fits["pls"], sections=["fixed", "fit"]).rows} == {"Fixed effects", "Fit"}
    assert [r.label for r in um.table(fits["pls"], keep=["Days"], sections="fixed").rows] == ["Days"]


@pytest.mark.r
def test_parts_have_sections_of_their_own() -> None:
    data = um.load_dataset("grouseticks")
    model = um.fit(
        "TICKS ~ cHEIGHT + (1 | BROOD)", data, "glmmtmb", family="negative_binomial", dispformula="~ cHEIGHT"
    )
    plain = um.fit("TICKS ~ cHEIGHT + (1 | BROOD)", data, "glmmtmb", family="negative_binomial", ziformula="~ cHEIGHT")
    table = um.table([model, plain], names=["a", "b"])
    sections = list(dict.fromkeys(row.section for row in table.rows))
    assert sections == ["Fixed effects", "Zero inflation", "Dispersion", "Random part", "Fit"]
    part = table.frame.loc[("Dispersion", "cHEIGHT", "estimate")]
    assert part["a"] == model.dispersion_effects.loc["cHEIGHT", "estimate"]
    assert part["b"] is None
    assert (
        table.frame.loc[("Dispersion", "theta (negative binomial)", "value")]["b"] == plain.criteria.parameters["theta"]
    )
    zero = um.table(plain, exponentiate=True).frame.loc[("Zero inflation", "cHEIGHT", "estimate")].iloc[0]
    assert zero == pytest.approx(np.exp(plain.zero_inflation.loc["cHEIGHT", "estimate"]))
    kept = um.table([model], exponentiate=True).frame.loc[("Dispersion", "cHEIGHT", "estimate")].iloc[0]
    assert kept == part["a"]  # a logarithm of the dispersion stays one
    told = notes(um.table([model, plain], exponentiate=True)).splitlines()
    (ratios,) = [line for line in told if line.startswith("Model 1: coefficients are rate ratios")]
    assert ratios.endswith("; coefficients of the dispersion stay logarithms.")
    assert sum("stay logarithms" in line for line in told) == 1
    assert "stay logarithms" not in notes(um.table(model, exponentiate=True, sections="fixed"))
    formula = "TICKS ~ cHEIGHT + (1 | BROOD)"
    assert f"Model 1 (negative binomial, log link): {formula}; dispformula ~ cHEIGHT" in told
    assert f"Model 2 (negative binomial, log link): {formula}; ziformula ~ cHEIGHT" in told
    for fit, more in ((model, "dispformula ~ cHEIGHT"), (plain, "ziformula ~ cHEIGHT")):
        again = um.FitResult.from_json(fit.to_json())
        for text in (repr(fit), repr(again), fit.report(), again.report()):
            assert f"{formula}; {more}" in text


def test_all_faults_are_told_at_once(fits: dict[str, um.FitResult]) -> None:
    with pytest.raises(um.OptionError) as caught:
        um.table(
            [fits["pls"], fits["herds"]],
            layout="besides",  # type: ignore[arg-type]
            show="sd",  # type: ignore[arg-type]
            stars=(2.0,),
            digits=-1,
            exponentiate=True,
            drop="Day",
            coef_names={"Dayz": "x"},
            sections="fixd",  # type: ignore[arg-type]
        )
    told = str(caught.value)
    for part in (
        "layout='besides': choose 'below', 'beside'. Did you mean 'beside'?",
        "show='sd'",
        "stars=(2.0,)",
        "digits=-1",
        "drop= has 'Day', which no model has. Did you mean 'Days'?",
        "coef_names= has 'Dayz'",
        "sections= has 'fixd'",
        "Reaction ~ Days + (Days | Subject) has the identity link",
    ):
        assert part in told
    with pytest.raises(um.OptionError, match="exclude each other"):
        um.table(fits["pls"], keep="Days", drop="Intercept")
    with pytest.raises(um.OptionError, match="would print 'Days' for several terms"):
        um.table(fits["pls"], coef_names={"Intercept": "Days"})
    with pytest.raises(um.DataError, match="1 names for 2 results"):
        um.table([fits["pls"], fits["small"]], ["a"])
    with pytest.raises(um.OptionError, match="a name twice for one engine"):
        um.table([fits["pls"], fits["small"]], ["a", "a"])
    for wrong in ([], "pls", [1], fits["pls"].fixed_effects):
        with pytest.raises(um.OptionError, match=r"um\.table takes results"):
            um.table(wrong)  # type: ignore[arg-type]


def test_loaded_results_have_the_same_table(fits: dict[str, um.FitResult]) -> None:
    table = um.table([fits["pls"], fits["herds"]], show="both")
    again = um.table([um.FitResult.from_json(fits[k].to_json()) for k in ("pls", "herds")], show="both")
    assert str(table) == str(again)


# -- numbers as text -----------------------------------------------------------------------------


def test_numbers_keep_their_digits() -> None:
    assert [places_for([v], 2) for v in (12.3, 0.5, 0.0123, 0.00456, 0.0)] == [2, 2, 2, 4, 2]
    assert fixed_number(-0.001, 2) == "0.00"
    assert fixed_number(-1.5, 1) == "-1.5"
    assert fixed_number(1.23e-12, places_for([1.23e-12], 2)) == "1.23e-12"
    assert fixed_number(np.nan, 2) == ""
    assert [without_zero(v, 2) for v in (0.066, -0.5, 1.0, -1.0)] == [".07", "-.50", "1.00", "-1.00"]
    assert [p_number(v) for v in (0.0004, 0.0123, 0.9999, np.nan)] == ["< .001", ".012", "> .999", ""]


def test_a_small_coefficient_does_not_become_zero() -> None:
    data = um.load_dataset("sleepstudy")
    table = um.table(um.fit("Reaction ~ Days + (1 | Subject)", data.assign(Days=data["Days"] * 1e4), "pls"))
    assert printed(table)["Days"] == ("0.001047",)
    assert "(0.000080)" in [line.cells[0] for line in table.grid.lines]


# -- files ---------------------------------------------------------------------------------------


def test_shares_of_variance_are_those_of_the_result() -> None:
    data = um.load_dataset("sleepstudy")
    fits = [um.fit(f, data, "pls") for f in ("Reaction ~ Days + (1 | Subject)", "Reaction ~ Days")]
    loaded = type(fits[0]).from_json(fits[0].to_json())
    made = um.table([*fits, loaded], ["Mixed", "Plain", "Loaded"], r2=True)
    shown = {row.label: [cells[0].value if cells else None for cells in row.cells] for row in made.rows}
    assert shown["R2 (marginal)"] == [fits[0].r2().marginal, None, None]
    assert shown["ICC (adjusted)"][0] == fits[0].icc().adjusted
    assert shown["R2"] == [None, pytest.approx(1 - fits[1].residuals().var() / data["Reaction"].var(ddof=0)), None]
    assert any("Loaded has no R2" in str(note) for note in made.notes)
