"""Hypotheses about everything that a posterior has draws of; probability of direction, and equivalence."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from exact_posteriors import herds, sleepstudy
from scipy import stats

import unimix as um

FloatArray = np.typing.NDArray[np.float64]


def drawn(name: str, *labels: str) -> FloatArray:
    """Draws of one variable of the ArviZ object, at labels of its dimensions, shape (S,)."""
    array = sleepstudy().posterior.posterior[name]
    at = dict(zip([d for d in array.dims if d not in ("chain", "draw")], labels, strict=True))
    return np.asarray(array.sel(at).transpose("chain", "draw").values).ravel()


def test_all_parameters_and_levels_of_a_posterior_can_be_tested() -> None:
    days, sd0, sd1 = drawn("fixed", "Days"), drawn("sd(Subject)", "Intercept"), drawn("sd(Subject)", "Days")
    one, two = drawn("effects(Subject)", "308", "Days"), drawn("effects(Subject)", "309", "Days")
    cases = {
        "sd(Days | Subject) = 5": sd1 - 5,
        "sd__Days^2 / sd(Intercept|Subject)^2 = 0.1": sd1**2 / sd0**2 - 0.1,
        "cor(Intercept, Days | Subject)": drawn("cor(Subject)", "Days, Intercept"),
        "sigma = 25": drawn("sigma") - 25,
        "sd__Observation = 25": drawn("sigma") - 25,
        "effects(Subject)[308, Days] = effects( Subject )[309,Days]": one - two,
        "b1 + effects(Subject)[308, Days] = 15": days + one - 15,
    }
    found = sleepstudy().hypotheses(list(cases), equivalence=(-1, 1)).table
    right = np.stack(list(cases.values()), axis=1)
    np.testing.assert_allclose(found["estimate"], right.mean(axis=0))
    np.testing.assert_allclose(found["std_error"], right.std(axis=0, ddof=1))
    np.testing.assert_allclose(found[["lower", "upper"]].T, np.quantile(right, [0.025, 0.975], axis=0))
    np.testing.assert_allclose(found["p_direction"], np.maximum((right > 0).mean(axis=0), (right < 0).mean(axis=0)))
    np.testing.assert_allclose(found["probability_equivalence"], (np.abs(right) < 1).mean(axis=0))


def test_several_hypotheses_in_one_text_keep_the_commas_of_names() -> None:
    found = sleepstudy().hypotheses("cor(Intercept, Days | Subject) = 0, effects(Subject)[308, Days] = 0").table
    assert list(found.index) == ["cor(Intercept, Days | Subject) = 0", "effects(Subject)[308, Days] = 0"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("effects(Subject)[1, Days]", r"effects\(Subject\)\[1,Days\] is not a level and a term of Subject"),
        ("effects(Subject)[308]", "They are written effects"),
        ("sd(Dayz | Subject) = 1", r"Known: b0 = Intercept, b1 = Days, sd\(Intercept \| Subject\)"),
        ("sigmas = 1", "Did you mean 'sigma'"),
        ("b2 = 0", "there are 2, from b0 to b1"),
    ],
)
def test_names_that_are_not_there_are_told(text: str, told: str) -> None:
    with pytest.raises(um.OptionError, match=told):
        sleepstudy().hypotheses(text)


def test_without_draws_they_are_refused_with_what_to_do() -> None:
    cattle = um.load_dataset("cbpp")
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    for backend, more in (("pls", {}), ("statsmodels", {"method": "variational"})):
        fit = um.fit(formula, cattle, backend, family="binomial", **more)
        with pytest.raises(um.UnsupportedModelError, match=r"no Wald test of sd\(Intercept \| herd\)"):
            fit.hypotheses("sd(Intercept | herd) = 1")
        with pytest.raises(um.UnsupportedModelError, match="effects of levels are predictions"):
            fit.hypotheses("effects(herd)[1, Intercept] = 0")
    with pytest.raises(um.UnimixError, match=r"loaded from JSON.*fit\.save"):
        um.FitResult.from_json(herds().to_json()).hypotheses("sd(Intercept | herd) = 1")


def test_a_coefficient_of_the_same_name_goes_first() -> None:
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"sigma": rng.normal(size=60), "g": np.repeat(list("abcdef"), 10)})
    data["y"] = data["sigma"] + rng.normal(size=60)
    for backend in ("pls", "bayes"):
        fit = um.fit("y ~ sigma + (1 | g)", data, backend, seed=1)
        assert fit.hypotheses("sigma = 0").table["estimate"].iloc[0] == pytest.approx(fit.fixed.estimate[1])


# -- the probability of direction ---------------------------------------------------------------


def test_tables_of_posteriors_have_the_probability_of_direction() -> None:
    fit = herds()
    beta = fit.posterior.posterior["fixed"].to_numpy().reshape(-1, 4)
    right = np.maximum((beta > 0).mean(axis=0), (beta < 0).mean(axis=0))
    for table in (fit, um.FitResult.from_json(fit.to_json())):
        np.testing.assert_array_equal(table.tidy()["p.direction"], right)
        np.testing.assert_array_equal(table.fixed_effects["p_direction"], right)
        assert "p_direction" in str(table)
    found = fit.contrasts("period", "consecutive").table
    gaps = np.stack([beta[:, 1], beta[:, 2] - beta[:, 1], beta[:, 3] - beta[:, 2]], axis=1)
    side = np.maximum((gaps > 0).mean(axis=0), (gaps < 0).mean(axis=0))
    np.testing.assert_array_equal(found["p_direction"], side)
    ratios = fit.comparisons({"period": "sequential"}, comparison="odds_ratio").table
    np.testing.assert_array_equal(ratios["p_direction"], side)
    paper = um.table(fit, p_values=True, layout="beside")
    assert paper.frame.loc[("Fixed effects", "period[T.2]", "p_direction")].iloc[0] == right[1]
    assert "pd is the probability of direction" in str(paper)
    plain = um.fit(fit.formula, um.load_dataset("cbpp"), "pls", family="binomial")
    assert "p.direction" not in plain.tidy()


def test_that_of_a_normal_approximation_has_a_closed_form() -> None:
    fit = um.fit(herds().formula, um.load_dataset("cbpp"), "statsmodels", family="binomial", method="variational")
    right = stats.norm.cdf(np.abs(fit.fixed.estimate) / fit.fixed.std_error)
    np.testing.assert_allclose(fit.tidy()["p.direction"], right, rtol=1e-12)
    # the mean and the SD of a lognormal distribution
    m, v = fit.fixed.estimate, fit.fixed.std_error**2
    ratios = fit.tidy(exponentiate=True)
    np.testing.assert_allclose(ratios["estimate"], stats.lognorm.mean(np.sqrt(v), scale=np.exp(m)), rtol=1e-10)
    np.testing.assert_allclose(ratios["std.error"], stats.lognorm.std(np.sqrt(v), scale=np.exp(m)), rtol=1e-10)


def test_ratios_in_paper_tables_are_means_of_ratios() -> None:
    fit = herds()
    ratios = np.exp(fit.posterior.posterior["fixed"].to_numpy().reshape(-1, 4))
    paper = um.table(fit, exponentiate=True)
    assert paper.frame.loc[("Fixed effects", "period[T.2]", "estimate")].iloc[0] == pytest.approx(ratios[:, 1].mean())
    assert paper.frame.loc[("Fixed effects", "period[T.2]", "std_error")].iloc[0] == pytest.approx(
        ratios[:, 1].std(ddof=1)
    )
    assert "posterior means of the exponentiated coefficients" in str(paper)


# -- equivalence --------------------------------------------------------------------------------


def test_equivalence_of_contrasts_and_comparisons_of_draws() -> None:
    fit = herds()
    beta = fit.posterior.posterior["fixed"].to_numpy().reshape(-1, 4)
    gap = beta[:, 3] - beta[:, 2]
    link = fit.contrasts("period", "consecutive", equivalence=(-0.5, 0.5)).table
    odds = fit.contrasts("period", "consecutive", kind="response", equivalence=(0.5, 2)).table
    ratio = fit.comparisons({"period": ("3", "4")}, comparison="odds_ratio", equivalence=(0.5, 2)).table
    assert link["probability_equivalence"].iloc[2] == np.mean(np.abs(gap) < 0.5)
    inside = np.mean(np.abs(gap) < np.log(2))
    assert odds["probability_equivalence"].iloc[2] == ratio["probability_equivalence"].iloc[0] == inside
    assert not {"p_equivalence", "p_value"} & set(link)


def test_two_one_sided_tests_of_contrasts_and_comparisons() -> None:
    """One contrast: t tests by SciPy. Three: Sidak's adjustment in place of Tukey's, as emmeans chooses it."""
    fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"), "pls")
    found = fit.comparisons("Days", equivalence=(9, 12)).table.iloc[0]
    t = [(found["estimate"] - bound) / found["std_error"] for bound in (9, 12)]
    right = [stats.t.sf(t[0], found["df"]), stats.t.cdf(t[1], found["df"])]
    assert [found["p_noninferiority"], found["p_nonsuperiority"]] == pytest.approx(right)
    assert found["p_equivalence"] == max(right)
    pigs = um.fit("Weight ~ Time + Evit + (1 | Pig)", um.load_dataset("dietox"), "pls")
    for adjust, used in ((None, "sidak"), ("mvt", "sidak"), ("holm", "holm"), ("none", "none")):
        answer = pigs.contrasts("Evit", adjust=adjust, equivalence=(-6, 6))
        table = answer.table
        alone = pigs.emmeans("Evit").hypotheses(["b0 - b1", "b0 - b2", "b1 - b2"], equivalence=(-6, 6))["p_equivalence"]
        by_hand = {
            "none": alone,
            "sidak": 1 - (1 - alone) ** 3,
            "holm": np.minimum(np.maximum.accumulate(np.sort(alone) * [3, 2, 1]), 1)[np.argsort(np.argsort(alone))],
        }
        np.testing.assert_allclose(table["p_equivalence"], by_hand[used], rtol=1e-8)
        assert ("Sidak's adjustment" in str(answer)) == (used == "sidak")


def test_bounds_that_are_none_are_told() -> None:
    fit = herds()
    for bounds in ((1, 0), (1,), "ab", (0, True), (0, 10**400), (float("nan"), 1)):
        with pytest.raises(um.OptionError, match="give two bounds"):
            fit.contrasts("period", equivalence=bounds)  # type: ignore[arg-type]
    with pytest.raises(um.OptionError, match="bounds of ratios are positive"):
        fit.comparisons("period", comparison="ratio", equivalence=(-0.1, 0.1))


def test_an_estimate_that_tends_to_infinity_has_no_equivalence_test() -> None:
    data = pd.DataFrame({"x": [0, 0, 0, 0, 1, 1, 1, 1], "y": [0, 1, 0, 1, 1, 1, 1, 1]})
    fit = um.fit("y ~ C(x)", data, "pls", family="binomial")
    for table in (
        fit.contrasts("x", equivalence=(-1, 1)).table,
        fit.hypotheses("b1 = 0", equivalence=(-1, 1)).table,
    ):
        assert table[["p_noninferiority", "p_nonsuperiority", "p_equivalence"]].isna().all(axis=None)
