"""Intervals of all parameters against lme4, glmmTMB, R's glm and likelihood ratios of refits."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sampled_models
from gold import all_cases, r_name

import unimix as um
from unimix.errors import OptionError, UnimixError, UnsupportedModelError
from unimix.stats.bootstrap import bootstrap_interval

R = json.loads((Path(__file__).parents[1] / "data" / "intervals_r.json").read_text())
GOLD = Path(__file__).parents[1] / "data" / "gold"
SLOW = {"sleepstudy_slope_ml", "machines_nested", "pastes"}  # the same models or shapes as others
PROFILED = [g for g in all_cases() if g.reference.get("ci_profile") and g.id not in SLOW]


def lme4_name(name, fit):
    """``sd(Days | Subject)`` is ``sd_Days|Subject``."""
    if "(" not in name or " | " not in name:
        return r_name(name, fit)
    kind, inside = name.split("(", 1)
    terms, group = inside[:-1].split(" | ")
    return f"{kind}_{'.'.join(r_name(t, fit) for t in reversed(terms.split(', ')))}|{group}"


def ends_of(key):
    return {n: (a, b) for n, a, b in zip(*(R[key][k] for k in ("names", "lower", "upper")), strict=True)}


@pytest.mark.parametrize("case", PROFILED, ids=lambda g: g.id)
def test_profiles_are_those_of_lme4(case):
    fit = case.fit("pls")
    found = fit.confint("profile").table
    reference = case.reference["ci_profile"]
    theirs = pd.DataFrame({k: reference[k] for k in ("lower", "upper")}, index=reference["names"])
    ours = found.rename(index=lambda n: lme4_name(n, fit))
    assert set(ours.index) == set(theirs.index)
    ours = ours.loc[theirs.index]
    width = theirs["upper"] - theirs["lower"]
    # lme4 interpolates its profiles by splines: about four digits, and three beside a correlation of -1 (imm10)
    tolerance = np.where(ours.index.str.startswith("cor_"), 1.5e-3, 2e-4) * width
    assert (np.abs(ours["lower"] - theirs["lower"]) < tolerance).all()
    assert (np.abs(ours["upper"] - theirs["upper"]) < tolerance).all()


@pytest.mark.parametrize("backend", ["lme4", "statsmodels", "glmmtmb", "glmm", "mixedlm", "mixedlm_rs"])
def test_profiles_do_not_depend_on_the_engine(backend):
    data = um.load_dataset("sleepstudy")
    fit = um.fit("Reaction ~ Days + (1 | Subject)", data, backend)
    own = um.fit("Reaction ~ Days + (1 | Subject)", data, "pls")
    loaded = type(fit).from_json(fit.to_json()).with_data(data).confint("profile")
    ours = own.confint("profile").table
    assert np.allclose(loaded.table[["lower", "upper"]], ours[["lower", "upper"]], rtol=1e-6)
    assert loaded.notes == ("The profiles are of the ML criterion.",)


def test_a_variance_at_zero_has_a_profile():
    data = pd.read_csv(GOLD / "dyestuff2.csv")
    fit = um.fit("Yield ~ 1 + (1 | Batch)", data, "pls", method="ML")
    assert fit.singular
    found = fit.confint("profile").table
    theirs = ends_of("dyestuff2")
    for ours, name in (("sd(Intercept | Batch)", "sd_(Intercept)|Batch"), ("sigma", "sigma"), ("Intercept",) * 2):
        # lme4's spline starts at zero here: three digits
        expected = theirs.get(name, theirs["(Intercept)"] if name == "Intercept" else None)
        assert np.allclose(found.loc[ours, ["lower", "upper"]].to_numpy(float), expected, rtol=1e-3, atol=1e-9)
    told = fit.confint()
    assert told.table.loc["sd(Intercept | Batch)", ["lower", "upper"]].isna().all()
    assert "boundary" in told.notes[0]


def test_weights_and_offset_are_in_the_profile():
    # lme4 1.1-31 loses the weights when it holds a fixed effect: its SDs are right, its fixed effects are not.
    data = um.load_dataset("sleepstudy")
    data["w"], data["off"] = 1 + np.arange(1, 181) % 3, 3 * data["Days"]
    fit = um.fit("Reaction ~ Days + (1 | Subject)", data, "pls", method="ML", weights="w", offset="off")
    found = fit.confint("profile").table
    for k, ours in enumerate(("sd(Intercept | Subject)", "sigma")):
        theirs = [R["weighted"]["lower"][k], R["weighted"]["upper"][k]]
        assert np.allclose(found.loc[ours, ["lower", "upper"]].to_numpy(float), theirs, rtol=1e-4)
    for end in found.loc["Days", ["lower", "upper"]]:
        data["held"] = data["off"] + end * data["Days"]
        held = um.fit("Reaction ~ 1 + (1 | Subject)", data, "pls", method="ML", weights="w", offset="held")
        # where the likelihood ratio of a refit reaches chi-squared's 95 %
        assert 2 * (fit.log_likelihood - held.log_likelihood) == pytest.approx(3.841459, abs=1e-4)


@pytest.mark.r
def test_profiles_of_generalised_models():
    budworm = pd.read_csv(GOLD / "budworm.csv")
    budworm["sex"] = pd.Categorical(budworm["sex"], ["female", "male"])
    plain = um.fit("prop_dead ~ sex + log2_dose", budworm, "statsmodels", family="binomial", weights="ntotal")
    found = plain.confint("profile").table
    assert np.allclose(found["lower"], R["budworm"]["lower"], rtol=2e-4)  # R interpolates
    assert np.allclose(found["upper"], R["budworm"]["upper"], rtol=2e-4)
    ticks = pd.read_csv(GOLD / "grouseticks.csv", dtype={"BROOD": str, "YEAR": str})
    counts = um.fit("TICKS ~ YEAR + cHEIGHT + (1 | BROOD)", ticks, "glmmtmb", family="negative_binomial")
    found = counts.confint("profile", parameters=["cHEIGHT", "YEAR[T.97]"]).table
    theirs = R["counts"]
    for name, k in (("cHEIGHT", 3), ("YEAR[T.97]", 2)):
        # glmmTMB interpolates between points a tenth of a standard error apart
        width = theirs["upper"][k] - theirs["lower"][k]
        assert abs(found.loc[name, "lower"] - theirs["lower"][k]) < 2e-3 * width
        assert abs(found.loc[name, "upper"] - theirs["upper"][k]) < 2e-3 * width


@pytest.mark.r
def test_quadrature_is_profiled_by_quadrature():
    data = um.load_dataset("cbpp")
    arguments = {"backend": "lme4", "family": "binomial", "weights": "size", "method": "AGQ"}
    fit = um.fit("incidence / size ~ period + (1 | herd)", data, **arguments)
    [[_, lower, _]] = fit.confint("profile", parameters="period[T.2]").table.to_numpy()
    data["held"] = lower * (data["period"].astype(str) == "2")
    data["p3"], data["p4"] = (data["period"].astype(str) == p for p in "34")
    held = um.fit("incidence / size ~ p3 + p4 + (1 | herd)", data, offset="held", **arguments)
    assert 2 * (fit.log_likelihood - held.log_likelihood) == pytest.approx(3.841459, abs=1e-4)  # lme4's own search


def test_linear_models():
    data = um.load_dataset("sleepstudy")
    fit = um.fit("Reaction ~ Days", data, "statsmodels")
    found = fit.confint("profile").table
    n = fit.n_obs
    rest = float(np.sum(fit.residuals() ** 2))
    for end in found.loc["Days", ["lower", "upper"]]:
        y = data["Reaction"] - end * data["Days"]
        held = float(np.sum((y - y.mean()) ** 2))
        assert n * np.log(held / rest) == pytest.approx(3.841459, abs=1e-6)
    for end in found.loc["sigma", ["lower", "upper"]]:
        lost = n * np.log(end**2 * n / rest) + rest / end**2 - n
        assert lost == pytest.approx(3.841459, abs=1e-6)


@pytest.mark.r
def test_wald_intervals_of_standard_deviations_are_those_of_glmmtmb():
    data = um.load_dataset("sleepstudy")
    pairs = (
        ("wald_ml", "Reaction ~ Days + (1 + Days | Subject)", "ML", ["Intercept", "Days"]),
        ("wald_reml", "Reaction ~ Days + (1 | Subject)", "REML", ["Intercept"]),
    )
    for key, formula, method, terms in pairs:
        found = um.fit(formula, data, "lme4", method=method).confint().table
        theirs = ends_of(key)
        wanted = {"sigma": "sigma"} | {
            f"sd({t} | Subject)": f"cond.Std.Dev.{t.replace('Intercept', '(Intercept)')}|Subject" for t in terms
        }
        for ours, name in wanted.items():
            # glmmTMB's Hessian is by differences of its gradient
            assert np.allclose(found.loc[ours, ["lower", "upper"]].to_numpy(float), theirs[name], rtol=1e-3)
    cows = um.load_dataset("cbpp")
    fit = um.fit("incidence / size ~ period + (1 | herd)", cows, "lme4", family="binomial", weights="size")
    ends = fit.confint(parameters="random").table[["lower", "upper"]].to_numpy()[0]
    assert np.allclose(ends, [R["wald_binomial"]["lower"][4], R["wald_binomial"]["upper"][4]], rtol=2e-3)


@pytest.mark.r
def test_wald_intervals_of_fixed_effects_are_those_of_the_table():
    data = um.load_dataset("sleepstudy")
    fit = um.fit("Reaction ~ Days + (1 + Days | Subject)", data, "lme4")
    table = fit.confint().table
    assert np.allclose(table.loc[["Intercept", "Days"], ["lower", "upper"]], fit.fixed_effects[["lower", "upper"]])
    loaded = type(fit).from_json(fit.to_json()).confint()
    assert np.allclose(
        loaded.table.loc["Days", ["lower", "upper"]].astype(float), table.loc["Days", ["lower", "upper"]]
    )
    assert "fit.with_data(frame)" in loaded.notes[0]
    # the correlation by atanh: its ends are inside (-1, 1) and not symmetric
    low, high = table.loc["cor(Intercept, Days | Subject)", ["lower", "upper"]]
    assert -1 < low < high < 1


def test_bootstrap_intervals_are_those_of_boot():
    own = R["boot"]
    draws, left = np.array(own["t"]), np.array(own["left"])
    for kind in ("normal", "basic", "percentile", "bca"):
        found = bootstrap_interval(kind, draws, own["t0"], 0.9, left)
        # R interpolates between order statistics on the normal scale: a small share of their distance
        assert np.allclose(found, own[kind], atol=2e-3), kind


def test_a_parametric_bootstrap_has_the_standard_errors_that_theory_has():
    data = um.load_dataset("sleepstudy")
    fit = um.fit("Reaction ~ Days + (1 + Days | Subject)", data, "pls")
    made = fit.bootstrap(200, seed=1, parameters=["Days", "sigma"])
    # balanced data: generalised least squares has the same weights in every replicate, and its variance is exact
    assert made.table.loc["Days", "std_error"] == pytest.approx(fit.fixed.std_error[1], rel=0.15)  # 3 / sqrt(2 * 200)
    assert abs(made.table.loc["Days", "bias"]) < 3 * fit.fixed.std_error[1] / np.sqrt(200)
    wald = fit.confint(parameters="sigma").table
    ends = made.confint("percentile").table.loc["sigma", ["lower", "upper"]].to_numpy(float)
    assert np.allclose(ends, wald.loc["sigma", ["lower", "upper"]].to_numpy(float), rtol=0.04)
    assert made.confint().notes[0] == "200 of 200 refits"
    again = fit.bootstrap(20, seed=1, parameters=["Days", "sigma"])
    # other responses of a batch change the rounding, and the searches stop within 1e-9 of log likelihood
    assert np.allclose(again.replicates, made.replicates[:20], rtol=1e-6)
    two = fit.bootstrap(20, seed=1, parameters=["Days", "sigma"], n_jobs=2)
    assert np.allclose(two.replicates, again.replicates, rtol=1e-10)


@pytest.mark.r
def test_engines_are_refitted_themselves_to_the_same_responses():
    data = um.load_dataset("sleepstudy")
    formula = "Reaction ~ Days + (1 + Days | Subject)"
    fits = [um.fit(formula, data, b).bootstrap(2, seed=3) for b in ("lme4", "statsmodels", "pls", "glmmtmb")]
    for other in fits[1:]:
        # searches of their own; a correlation near 1 is flat
        assert np.allclose(other.replicates, fits[0].replicates, rtol=2e-3, atol=2e-3)
    pymer4 = um.fit(formula, data, "pymer4").bootstrap(2, seed=3)
    assert np.allclose(pymer4.replicates, fits[0].replicates, rtol=2e-3, atol=2e-3)


def test_cases_are_drawn_by_level():
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    y = 1 + x + (0.5 + np.abs(x)) * rng.normal(size=200)
    plain = um.fit("y ~ x", {"x": x, "y": y}, "statsmodels")
    made = plain.bootstrap(300, source="cases", seed=2)
    design = np.column_stack([np.ones(200), x])
    bread = np.linalg.inv(design.T @ design)
    sandwich = bread @ (design.T * plain.residuals() ** 2) @ design @ bread
    # rows drawn with replacement estimate the sandwich (White 1980); 300 replicates know a standard error to 4 %
    assert made.table.loc["x", "std_error"] == pytest.approx(np.sqrt(sandwich[1, 1]), rel=0.13)
    data = um.load_dataset("sleepstudy")
    fit = um.fit("Reaction ~ Days + (1 + Days | Subject)", data, "pls")
    slopes = [np.polyfit(d["Days"], d["Reaction"], 1)[0] for _, d in data.groupby("Subject", observed=True)]
    found = fit.bootstrap(120, source="cases", seed=1, parameters="Days")
    # balanced: the estimate is the mean of the 18 slopes of their own
    expected = np.std(slopes) / np.sqrt(18)
    assert found.table.loc["Days", "std_error"] == pytest.approx(expected, rel=0.2)  # 3 / sqrt(2 * 120)
    ends = found.confint("bca").table.loc["Days"]
    assert ends["lower"] < fit.fixed.estimate[1] < ends["upper"]
    # leaving a subject out is the mean of the other slopes
    assert np.allclose(found.jackknife["Days"], (np.sum(slopes) - np.array(slopes)) / 17, rtol=1e-6)


def test_nested_levels_follow_the_level_that_was_drawn():
    data = um.load_dataset("pastes")
    fit = um.fit("strength ~ 1 + (1 | batch / cask)", data, "pls")
    made = fit.bootstrap(5, source="cases", seed=1)
    assert made.group == "batch"
    assert np.isfinite(made.replicates.to_numpy()).all()
    plates = um.fit("diameter ~ 1 + (1 | plate) + (1 | sample)", um.load_dataset("penicillin"), "pls")
    with pytest.raises(OptionError, match=r"crossed: name one as group="):
        plates.bootstrap(5, source="cases")
    assert plates.bootstrap(5, source="cases", group="plate", seed=1).group == "plate"


def test_a_statistic_of_ones_own():
    fit = um.fit("Reaction ~ Days + (1 + Days | Subject)", um.load_dataset("sleepstudy"), "pls")
    made = fit.bootstrap(40, statistic=lambda f: {"zero": -f.fixed.estimate[0] / f.fixed.estimate[1]}, seed=1)
    assert made.estimates["zero"] == pytest.approx(-fit.fixed.estimate[0] / fit.fixed.estimate[1])
    assert list(made.confint().table.index) == ["zero"]
    with pytest.raises(OptionError, match="need at least 39 refits, and there are 3"):
        fit.bootstrap(3, seed=1).confint()
    with pytest.raises(OptionError, match="statistic= returns numbers by name"):
        fit.bootstrap(3, statistic=lambda f: 1.0)
    with pytest.raises(OptionError, match="seed=-1"):
        fit.bootstrap(3, seed=-1)


def test_generalised_models_are_bootstrapped():
    cows = um.load_dataset("cbpp")
    fit = um.fit("incidence / size ~ period + (1 | herd)", cows, "pls", family="binomial", weights="size")
    made = fit.bootstrap(25, seed=1)
    assert made.table["n"].eq(25).all()
    # 25 replicates know a standard error to a seventh; Laplace's are near it
    ratio = made.table.loc[list(fit.fixed.terms), "std_error"] / fit.fixed.std_error
    assert ((ratio > 0.6) & (ratio < 1.6)).all()


def test_a_bootstrap_that_loses_levels_says_so():
    data = pd.DataFrame({"y": np.arange(12.0) % 5, "f": ["a"] * 11 + ["b"], "g": list("abcdef") * 2})
    fit = um.fit("y ~ f", data, "statsmodels")
    made = fit.bootstrap(20, source="cases", seed=1)
    assert made.table["n"].iloc[0] < 20
    assert "not estimable" in " ".join(made.notes)


@pytest.mark.r
def test_simulated_responses():
    data = um.load_dataset("sleepstudy")
    fit = um.fit("Reaction ~ Days + (1 + Days | Subject)", data, "lme4")
    drawn = fit.simulate(400, seed=1)
    assert drawn.shape == (400, 180)
    design = fit.design()
    block = design.blocks[0]
    own = np.einsum("nq,qr,nr->n", block.z, fit.random[0].covariance, block.z) + fit.sigma**2
    assert np.allclose(drawn.var(axis=0), own, rtol=0.35)  # 5 / sqrt(2 * 400) for the worst of 180
    assert drawn.var(axis=0).mean() == pytest.approx(own.mean(), rel=0.05)
    kept = fit.simulate(200, seed=1, effects="kept")
    assert np.abs(kept.mean(axis=0) - fit.fitted).max() < 5 * fit.sigma / np.sqrt(200)
    assert kept.var(axis=0).mean() == pytest.approx(fit.sigma**2, rel=0.03)
    with pytest.raises(OptionError, match="effects='old'"):
        fit.simulate(effects="old")
    counts = pd.DataFrame({"y": [1, 2, 3, 4], "w": [1, 2, 1, 2], "x": [0.0, 1, 2, 3]})
    weighted = um.fit("y ~ x", counts, "statsmodels", family="poisson", weights="w")
    with pytest.raises(UnsupportedModelError, match="Repeat the rows"):
        weighted.simulate()


def test_posteriors_have_credible_intervals():
    fit = sampled_models.sleepstudy()
    found = fit.confint(ci_level=0.9)
    assert found.method == "credible"
    draws = fit.posterior.posterior
    expected = np.quantile(draws["sigma"].to_numpy(), [0.05, 0.95])
    assert np.allclose(found.table.loc["sigma", ["lower", "upper"]].to_numpy(float), expected)
    correlation = draws["cor(Subject)"].to_numpy()[..., 0]
    ends = found.table.loc["cor(Intercept, Days | Subject)", ["lower", "upper"]].to_numpy(float)
    assert np.allclose(ends, np.quantile(correlation, [0.05, 0.95]))
    with pytest.raises(OptionError, match="credible intervals"):
        fit.confint("profile")
    with pytest.raises(UnimixError, match="needs no bootstrap"):
        fit.bootstrap(10)
    drawn = fit.simulate(50, seed=1)
    assert drawn.shape == (50, 180)
    assert np.isfinite(drawn).all()


@pytest.mark.r
def test_what_has_no_intervals_is_refused_in_words():
    data = um.load_dataset("sleepstudy")
    fit = um.fit("Reaction ~ Days + (1 | Subject)", data, "lme4")
    with pytest.raises(OptionError, match=r"Did you mean 'profile'"):
        fit.confint("profil")
    with pytest.raises(OptionError, match="Did you mean 'Days'") as caught:
        fit.confint(parameters=["Day", "sgma"])
    assert "Did you mean 'sigma'" in str(caught.value)
    with pytest.raises(OptionError, match="ci_level=95"):
        fit.confint(ci_level=95)
    with pytest.raises(OptionError, match="source='case'"):
        fit.bootstrap(10, source="case")
    with pytest.raises(OptionError, match="not a grouping factor"):
        fit.bootstrap(10, group="Day")
    with pytest.raises(UnimixError, match=r"um\.refit\(fit, data\)"):
        type(fit).from_json(fit.to_json()).bootstrap(10)
    back = um.refit(type(fit).from_json(fit.to_json()), data)
    assert np.allclose(back.fixed_effects, fit.fixed_effects, rtol=1e-4)
    assert back.fixed.df_method == fit.fixed.df_method
    with pytest.raises(OptionError, match="n_jobs=0"):
        fit.bootstrap(10, n_jobs=0)


def test_bootstrap_tests_are_those_of_pbkrtest():
    data = pd.read_csv(GOLD / "orthodont.csv")
    few = data[data["Subject"].isin(R["few"]["subjects"])]
    larger = um.fit("distance ~ age + Sex + (1 | Subject)", few, "pls")
    smaller = um.fit("distance ~ age + (1 | Subject)", few, "pls")
    found = um.bootstrap_test(larger, smaller, 150, seed=1)
    assert "refitted by ML" in found.notes[0]
    assert found.table.loc["chi-squared", "statistic"] == pytest.approx(R["few"]["lrt"], rel=1e-5)
    assert found.table.loc["chi-squared", "p_value"] == pytest.approx(R["few"]["chi"], rel=1e-5)
    # their 4000 responses and our 150: three standard errors of the difference
    error = np.hypot(found.monte_carlo_error, np.sqrt(0.25 * 0.75 / 4000))
    assert abs(found.p_value - R["few"]["p"]) < 3 * error
    assert found.p_value > R["few"]["chi"] + 2 * error  # chi-squared is too sure with six subjects
    swapped = um.bootstrap_test(smaller, larger, 10, seed=1)
    assert np.array_equal(swapped.replicates, found.replicates[:10])


def test_bootstrap_tests_of_a_variance_know_the_boundary():
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"y": rng.normal(size=60), "g": np.repeat(np.arange(12), 5)})
    larger, smaller = um.fit("y ~ 1 + (1 | g)", data, "pls"), um.fit("y ~ 1", data, "pls")
    found = um.bootstrap_test(larger, smaller, 200, seed=1)
    # half of the responses, and a little more with few levels, have a variance of zero
    assert 0.4 < np.mean(found.replicates < 1e-6) < 0.75
    assert (found.replicates > -1e-6).all()
    assert list(found.table.index) == ["bootstrap", "chi-squared"]  # Bartlett's correction knows no boundary
