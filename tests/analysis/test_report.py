"""A model in a paragraph: APA numbers, honest words."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import sampled_models

import unimix as um
from unimix.fitted.describe import model_text, number_in_text

SLEEP = "Reaction ~ Days + (Days | Subject)"


@pytest.mark.r
def test_a_linear_mixed_model() -> None:
    """Numbers of Bates, Maechler, Bolker & Walker (2015); p of lmerTest: 3.26e-06."""
    told = um.fit(SLEEP, um.load_dataset("sleepstudy"), "lme4").report()
    assert told.startswith(
        "A linear mixed model of Reaction was fitted by restricted maximum likelihood (REML) with lme4 to 180 rows in "
        "18 levels of Subject: Reaction ~ Days + (Days | Subject)."
    )
    assert "Days: b = 10.47, 95% CI [7.21, 13.73], t(17.0) = 6.77, p < .001" in told
    assert "SD(Intercept) = 24.74, SD(Days) = 5.92, r(Intercept, Days) = .07; residual SD = 25.59" in told
    assert "Satterthwaite's degrees of freedom" in told
    assert re.search(rf"Software: unimix {re.escape(um.__version__)}; lme4 \(.*R \d.*lme4 \d", told)
    assert "converge" not in told
    assert "singular" not in told
    assert "\n" not in told


def test_the_engine_behind_the_backend_and_the_level_are_named() -> None:
    fit = um.fit(SLEEP, um.load_dataset("sleepstudy"), "pls", ci_level=0.9, df_method="kenward-roger", method="REML")
    told = fit.report(style="apa")
    assert "with unimix to" in told
    assert "90% CI" in told
    assert "Kenward and Roger's" in told
    row = fit.fixed_effects.loc["Days"]
    assert f"[{row['lower']:.2f}, {row['upper']:.2f}], t({row['df']:.1f}) = {row['statistic']:.2f}" in told


def test_z_tests_and_the_scale_of_the_link() -> None:
    """lme4's summary of its example: period2 -0.992 (0.303), z -3.272, p .00107; the tolerance is one of two digits."""
    fit = um.fit(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)", um.load_dataset("cbpp"), "pls", family="binomial"
    )
    told = fit.report()
    assert "generalised linear mixed model (binomial, logit link)" in told
    assert "Fixed effects on the scale of the logit link" in told
    found = re.search(r"period\[T\.2\]: b = (\S+), 95% CI \[(\S+), (\S+)\], z = (\S+), p = (\S+);", told)
    assert found is not None
    numbers = [float(v) for v in found.groups()]
    assert numbers[0] == pytest.approx(-0.99, abs=0.011)
    assert numbers[3] == pytest.approx(-3.26, abs=0.03)
    assert found[5] == ".001"
    assert "residual SD" not in told


def test_a_linear_model_has_residual_degrees_of_freedom() -> None:
    """R: lm(Reaction ~ Days): 251.405 (6.610) t = 38.03, 10.467 (1.238) t = 8.454, sigma 47.71 on 178."""
    data = um.load_dataset("sleepstudy")
    told = um.fit("Reaction ~ Days", data, "statsmodels").report()
    assert "A linear model of Reaction was fitted by least squares" in told
    assert "t(178) = 8.45, p < .001" in told
    assert "Scale: residual SD = 47.71." in told


def test_dropped_rows_weights_and_aliased_columns_are_told() -> None:
    data = um.load_dataset("sleepstudy").assign(w=2.0)
    data["twice"] = 2 * data["Days"]
    data.loc[3, "Days"] = np.nan
    told = um.fit("Reaction ~ Days + twice + (1 | Subject)", data, "pls", weights="w").report()
    assert "to 179 rows in 18 levels of Subject (1 more had missing values), with weights" in told
    assert "Left out because they depend on other columns: twice." in told
    assert "with weights: Reaction ~ Days + twice + (1 | Subject); weights w. Fixed effects" in told


def test_the_model_in_words_has_what_stands_beside_the_formula() -> None:
    data = um.load_dataset("sleepstudy").assign(w=2.0, o=np.arange(180) % 7, n=4, share=np.arange(180) % 5 / 4)
    formula = "Reaction ~ Days + (1 | Subject)"
    given = {"offset": data["o"].to_numpy(), "weights": data["w"].to_numpy()}
    for arguments, more in (
        ({}, ""),
        ({"offset": "o", "weights": "w"}, "; offset o; weights w"),
        (given, "; offset given; weights given"),
    ):
        fit = um.fit(formula, data, "pls", **arguments)
        assert model_text(fit) == f"{formula}{more}"
        for text in (str(fit), repr(fit), fit._repr_html_()):
            assert f"{formula}{more}{',' if more else ''} fitted by pls (REML)" in text
        assert model_text(um.FitResult.from_json(fit.to_json())) == f"{formula}{more}"
    for weights, told in (("n", "; weights n"), (data["n"].to_numpy(), "; weights given")):
        shares = um.fit("share ~ Days", data, "pls", family="binomial", weights=weights)
        assert model_text(shares) == f"share ~ Days{told}"
    counted = um.fit("cbind(o, 7 - o) ~ Days", data, "pls", family="binomial")
    assert model_text(counted) == "cbind(o, 7 - o) ~ Days"
    assert model_text(um.fit("Reaction > 300 ~ Days", data, "pls", family="binomial")) == "Reaction > 300 ~ Days"


def test_a_text_as_response_has_its_success_named_and_keeps_it_in_a_refit() -> None:
    data = um.load_dataset("sleepstudy").assign(speed=lambda d: np.where(d["Reaction"] > 300, "slow", "fast"))
    fit = um.fit("speed ~ Days", data, "pls", family="binomial")
    told = "speed ~ Days. In speed, slow counts as success, fast as failure. Fixed effects"
    again = um.refit(um.FitResult.from_json(fit.to_json()), data)
    assert told in fit.report()
    assert told in again.report()
    assert again.notes == fit.notes
    numbers = um.fit("slow ~ Days", data.assign(slow=(data["speed"] == "slow") * 1), "pls", family="binomial")
    assert "success" not in numbers.report()
    np.testing.assert_allclose(numbers.fixed.estimate, fit.fixed.estimate, rtol=1e-9)


def test_small_numbers_keep_their_sign_and_have_powers_of_ten() -> None:
    data = um.load_dataset("sleepstudy")
    days = data["Days"]
    fit = um.fit("Reaction ~ Days", data, "pls")
    residual = fit.residuals() / fit.sigma
    # A response with slope -0.002 and standard error 0.04: t = -0.05
    se = fit.fixed.std_error[1] / fit.sigma
    flat = data.assign(y=residual * 0.04 / se - 0.002 * days)
    told = um.fit("y ~ Days", flat, "pls").report()
    assert "Days: b = -0.002, 95% CI [-0.081, 0.077], t(178) = -0.05" in told
    none = um.fit("y ~ Days", flat.assign(y=flat["y"] + 0.0019 * days), "pls").report()
    assert "Days: b = 0.00, 95% CI [-0.08, 0.08], t(178) = 0.00" in none
    long = um.fit("Reaction ~ far", data.assign(far=days * 1e6), "pls").report()
    assert "far: b = 1.05 × 10⁻⁵, 95% CI [8.0 × 10⁻⁶, 1.29 × 10⁻⁵]" in long


def test_numbers_in_sentences() -> None:
    assert number_in_text(0.00012, 5) == "0.00012"
    assert number_in_text(-0.00000337, 8) == "-3.37 × 10⁻⁶"
    assert number_in_text(1.4e-9, 8) == "0"
    assert number_in_text(0.5, 8) == "0.50000000"
    assert number_in_text(1.234e12, 2) == "1.23 × 10¹²"
    assert number_in_text(np.inf, 9) == "Inf"


def test_singular_and_failed_fits_say_so() -> None:
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"y": rng.normal(size=60), "g": np.repeat(range(12), 5)})
    fit = um.fit("y ~ 1 + (1 | g)", data, "pls")
    assert fit.singular
    assert "The fit is singular: a variance is estimated as zero" in fit.report()
    status = fit.status.model_copy(update={"state": "not_converged", "messages": ("the search ended early",)})
    failed = replace(fit, status=status).report()
    assert "The fit did not converge: do not use these numbers. The search ended early." in failed


def test_a_posterior_has_means_and_no_p_values() -> None:
    fit = sampled_models.sleepstudy(sampled_models.INTERCEPTS)
    told = fit.report()
    assert told.startswith(
        "A Bayesian linear mixed model of Reaction was fitted by sampling from the posterior with unimix"
    )
    row = fit.fixed_effects.loc["Days"]
    assert (
        f"Days: b = {row['estimate']:.2f}, SD = {row['std_error']:.2f}, "
        f"95% credible interval [{row['lower']:.2f}, {row['upper']:.2f}]" in told
    )
    assert "posterior means" in told
    assert f"largest R-hat {fit.status.rhat:.3f}" in told
    assert f"effective sample size {fit.status.ess_bulk:.0f} (bulk)" in told
    assert "Priors: " in told
    assert not re.search(r"\bp [<=]|t\(|z =", told)
    assert ("did not converge" in told) == (not fit.converged)
    assert um.FitResult.from_json(fit.to_json()).report() == told


def test_the_scale_of_students_t_is_no_standard_deviation() -> None:
    fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"), "pls")
    assert "residual SD = 30.99" in fit.report()
    model = fit.model.model_copy(update={"family": "student_t"})
    numbers = fit.criteria.model_copy(update={"parameters": {"sigma": 25.5, "nu": 8.65}, "sigma": 25.5})
    heavy = replace(fit, model=model, criteria=numbers)
    assert "sigma = 25.50; nu = 8.65" in heavy.report()
    assert "residual SD" not in heavy.report()
    assert "SD (Residual)" not in str(um.table(heavy))
    assert "sigma (student t)" in str(um.table(heavy))


@pytest.mark.r
def test_parts_are_reported_and_styles_refused() -> None:
    data = um.load_dataset("grouseticks")
    fit = um.fit("TICKS ~ cHEIGHT + (1 | BROOD)", data, "glmmtmb", family="negative_binomial", dispformula="~ cHEIGHT")
    told = fit.report()
    row = fit.dispersion_effects.loc["Intercept"]
    assert f"Dispersion (log): Intercept: b = {row['estimate']:.2f}" in told
    with pytest.raises(um.OptionError, match="style='mla': the only style is 'apa'"):
        fit.report("mla")  # type: ignore[arg-type]
