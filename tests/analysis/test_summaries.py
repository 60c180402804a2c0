"""R2, ICC, effect sizes, dispersion, collinearity, checks: against R (summaries_r.R), closed forms, planted faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import sampled_models
from gold import all_cases, as_list, case_of, gaussian_cases
from scipy import special

import unimix as um
from unimix.distributions.family import as_family
from unimix.stats.effect_sizes import noncentral_interval, partial_shares, share_of, weighted_sd
from unimix.stats.variance_partition import needs_mean, row_variance

R: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "summaries_r.json").read_text(encoding="utf-8"))


def by_definition(case: Any) -> bool:
    """The stored values of ``||`` and ``0 + factor`` terms are of one term alone; those of counts have another mean."""
    groups = [r["group"] for r in case.reference["random"]]
    usual = len(set(groups)) == len(groups) and all(
        "(Intercept)" in as_list(r["terms"]) for r in case.reference["random"]
    )
    return (usual or case.id == "sleepstudy_slope_only_ml") and case.definition["family"] != "poisson"


CASES = [c for c in all_cases() if c.mixed and c.reference.get("nakagawa") and by_definition(c)]


@pytest.fixture(scope="module")
def posterior() -> um.FitResult:
    return sampled_models.sleepstudy()


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_r2_and_icc_are_the_references(case: Any) -> None:
    """1e-5: both are optima; of a singular fit the reference has the marginal one alone, since lme4's tools refuse."""
    expected, fit = case.reference["nakagawa"], case.fit("pls")
    found, icc = fit.r2(), fit.icc()
    assert found.marginal == pytest.approx(expected["r2_marginal"], rel=1e-5, abs=1e-12)
    if expected["r2_conditional"] is None:
        assert fit.singular
        assert found.conditional == pytest.approx(found.marginal, abs=1e-10)
        assert any("singular" in note for note in found.notes)
        return
    assert found.conditional == pytest.approx(expected["r2_conditional"], rel=1e-5)
    assert icc.adjusted == pytest.approx(expected["icc_adjusted"], rel=1e-5)
    assert icc.unadjusted == pytest.approx(expected["icc_unadjusted"], rel=1e-5)


DEFINED = [("sleepstudy_uncorr", "uncorrelated"), ("machines_slope", "machines"), ("seizure_offset", "seizure")]


@pytest.mark.parametrize(("case", "name"), [*DEFINED, ("", "ticks")])
def test_r2_of_independent_terms_and_of_counts(case: str, name: str) -> None:
    """1e-4: glmer's optimum is no better; the mean of counts is that of lme4's null model."""
    expected = R["r2"][name]
    rows = um.load_dataset("grouseticks").head(200)
    fit = (
        case_of(case).fit("pls")
        if case
        else um.fit("TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX)", rows, "pls", family="poisson")
    )
    found, icc = fit.r2(), fit.icc()
    assert found.marginal == pytest.approx(expected["marginal"], rel=1e-4)
    assert found.conditional == pytest.approx(expected["conditional"], rel=1e-4)
    assert (icc.adjusted, icc.unadjusted) == pytest.approx((expected["adjusted"], expected["unadjusted"]), rel=1e-4)
    assert found.components.loc["distribution", "variance"] == pytest.approx(expected["distribution"], rel=1e-4)
    if name == "seizure":
        assert found.conditional == pytest.approx(R["r2"]["seizure_package"]["conditional"], rel=1e-5)
    if name == "ticks":
        assert "INDEX has one level per row" in "\n".join(found.notes)


def test_r2_of_other_families() -> None:
    """2e-4: glmmTMB's optimum."""
    ticks = um.fit("TICKS ~ YEAR + (1 | BROOD)", um.load_dataset("grouseticks"), "pls", family="negative_binomial")
    rate = um.fit("Weight ~ Time + (1 | Pig)", um.load_dataset("dietox"), "pls", family="gamma")
    for fit, name in ((ticks, "nb"), (rate, "gamma")):
        found = fit.r2()
        expected = R["r2"][name]["marginal"], R["r2"][name]["conditional"]
        assert (found.marginal, found.conditional) == pytest.approx(expected, rel=2e-4)


def test_the_variance_of_a_row_on_the_scale_of_the_link() -> None:
    """By the formulas, and by draws: the delta method's within 3 % where the spread is small."""
    rng = np.random.default_rng(3)
    beta = as_family("beta")
    y = rng.beta(0.3 * 400, 0.7 * 400, 200_000)
    assert needs_mean(beta)
    assert row_variance(beta, np.array([400.0]), 0.3) == pytest.approx(special.logit(y).var(), rel=0.03)
    gamma = as_family("gamma(log)")
    assert row_variance(gamma, np.array([0.01])) == pytest.approx(np.log(rng.gamma(100, 1, 200_000)).var(), rel=0.03)
    counts = {"negative_binomial": np.log1p(1 / 7 + 1 / 2), "nb1": np.log1p(3 / 7), "poisson": np.log1p(1 / 7)}
    for name, expected in counts.items():
        assert row_variance(as_family(name), np.array([2.0]), 7.0) == pytest.approx(expected)
    assert row_variance(as_family("poisson(sqrt)"), np.empty(0)) == 0.25
    assert row_variance(as_family("student_t"), np.array([2.0, 5.0])) == pytest.approx(4 * 5 / 3)
    assert np.isnan(row_variance(as_family("binomial(cauchit)"), np.empty(0)))
    assert np.isnan(row_variance(as_family("student_t"), np.array([2.0, 2.0])))


def test_r2_without_groups() -> None:
    """Linear ones 1e-9; likelihoods 1e-7: the optimum of glm()."""
    for case in (c for c in gaussian_cases() if not c.mixed):
        table = case.fit("pls").r2().table["value"]
        expected = case.reference["r_squared"], case.reference["adj_r_squared"]
        assert (table["r_squared"], table["adjusted"]) == pytest.approx(expected, rel=1e-9)
    sleep = um.load_dataset("sleepstudy")
    weights = np.linspace(0.5, 2, len(sleep))
    table = um.fit("Reaction ~ Days", sleep, "pls", weights=weights).r2().table["value"]
    expected = R["r2"]["weighted"]["r2"], R["r2"]["weighted"]["adjusted"]
    assert (table["r_squared"], table["adjusted"]) == pytest.approx(expected, rel=1e-9)
    # The same fit in another coding has the same R2: R's would be about zero.
    pigs = um.load_dataset("dietox")
    two = [um.fit(f"Weight ~ {f}", pigs, "pls").r2().table["value"]["r_squared"] for f in ("Cu", "0 + Cu")]
    assert two[0] == pytest.approx(two[1], rel=1e-8)
    ohio = case_of("ohio").data()
    table = um.fit("resp ~ age * smoke", ohio, "pls", family="binomial").r2().table["value"]
    for name, value in R["r2"]["wheeze"].items():
        assert table[name] == pytest.approx(value, rel=1e-6), name
    table = case_of("seizure_glm").fit("pls").r2().table["value"]
    counts = um.fit("seizures ~ post * trt", case_of("seizure_glm").data(), "pls", family="poisson").r2().table["value"]
    for name, value in R["r2"]["fits"].items():
        assert counts[name] == pytest.approx(value, rel=1e-6), name
    assert set(table.index) == {"nagelkerke", "mcfadden", "cox_snell"}


def test_trials_are_rows() -> None:
    """Counts out of trials and one row per trial are the same data."""
    cbpp = um.load_dataset("cbpp")
    rows = [
        {"y": y, "period": r.period}
        for r in cbpp.itertuples()
        for y in [1] * int(r.incidence) + [0] * int(r.size - r.incidence)
    ]
    a = um.fit("cbind(incidence, size - incidence) ~ period", cbpp, "pls", family="binomial").r2().table["value"]
    b = um.fit("y ~ period", pd.DataFrame(rows), "pls", family="binomial").r2().table["value"]
    pd.testing.assert_series_equal(a, b, rtol=1e-7)


def test_components_add_up(growth: um.FitResult) -> None:
    found = um.fit("diameter ~ 1 + (1 | plate) + (1 | sample)", um.load_dataset("penicillin"), "pls")
    parts = found.r2().components
    assert parts.drop("random (total)")["share"].sum() == pytest.approx(1)
    expected = dict(zip(R["icc"]["Group"], R["icc"]["ICC"], strict=True))
    assert found.icc().by_group == pytest.approx(expected, rel=1e-5)
    assert sum(found.icc().by_group.values()) == pytest.approx(found.icc().adjusted)
    assert "marginal" in str(growth.r2())
    assert "<table" in growth.r2()._repr_html_()


@pytest.mark.r
def test_engines_and_loaded_results_have_the_same_summaries(growth: um.FitResult) -> None:
    """1e-4: engines' optima."""
    data = um.load_dataset("dietox")
    for engine in ("statsmodels", "lme4", "glmmtmb", "mixedlm"):
        other = um.fit(growth.formula, data, engine)
        assert other.r2().conditional == pytest.approx(growth.r2().conditional, rel=1e-4)
        assert other.icc().adjusted == pytest.approx(growth.icc().adjusted, rel=1e-4)
        pd.testing.assert_frame_equal(other.influence("Pig").dfbetas, growth.influence("Pig").dfbetas, atol=1e-3)
    again = um.FitResult.from_json(growth.to_json())
    with pytest.raises(um.DataError, match="holds no data"):
        again.r2()
    assert again.with_data(data).r2().table.equals(growth.r2().table)
    pd.testing.assert_frame_equal(again.with_data(data).check().table, growth.check().table)
    assert "influential rows" in again.check().skipped


def test_posteriors_have_intervals(posterior: um.FitResult) -> None:
    """Nakagawa's and Gelman's R2 of every draw, by hand; the conditional ones lie near those of REML (0.8)."""
    draws, design = posterior.draws(posterior.status.n_draws), posterior.design()
    days, sigma2 = design.x[:, 1], draws.parameters[:, 0] ** 2
    fixed = draws.beta[:, 1] ** 2 * days.var(ddof=1)
    second = np.array([[1, days.mean()], [days.mean(), (days**2).mean()]])
    random = np.einsum("sij,ij->s", draws.covariances[0], second)
    table = posterior.r2().table
    for name, values in (("marginal", fixed), ("conditional", fixed + random)):
        share = values / (fixed + random + sigma2)
        row = table.loc[f"{name} (Nakagawa)", ["value", "lower", "upper"]].to_numpy(dtype=float)
        np.testing.assert_allclose(row, [share.mean(), *np.quantile(share, [0.025, 0.975])], rtol=1e-10)
    codes = design.blocks[0].codes
    own = np.stack([e[codes] @ [1, 0] + e[codes] @ [0, 1] * days for e in draws.effects[0]])
    eta = draws.beta @ design.x.T
    whole, alone = (eta + own).var(axis=1, ddof=1), eta.var(axis=1, ddof=1)
    assert table.loc["conditional", "value"] == pytest.approx((whole / (whole + sigma2)).mean(), rel=1e-10)
    rest = own.var(axis=1, ddof=1) + sigma2
    assert table.loc["marginal", "value"] == pytest.approx((alone / (alone + rest)).mean(), rel=1e-10)
    icc = posterior.icc(ci_level=0.9).table.loc["all groups"]
    np.testing.assert_allclose(icc["adjusted_lower"], np.quantile(random / (random + sigma2), 0.05), rtol=1e-10)
    assert posterior.effect_sizes().table.loc["Days", "lower"] > 0
    found = posterior.check()
    assert {"R-hat", "effective draws", "divergences", "influential rows"} <= set(found.table.index)
    assert "convergence" not in found.table.index
    with pytest.raises(um.UnimixError, match=r"fit\.loo\(\)"):
        posterior.influence()
    with pytest.raises(um.UnimixError, match="no F tests"):
        posterior.effect_sizes("partial")


def test_standardized_coefficients_are_effectsizes(growth: um.FitResult) -> None:
    """1e-6 of estimates, 1e-4 of the ends, one of which is near zero: glm() stops early."""
    sleep = um.load_dataset("sleepstudy")
    weighted = um.fit("Reaction ~ Days", sleep, "pls", weights=np.linspace(0.5, 2, len(sleep)))
    wheeze = um.fit("resp ~ age * smoke", case_of("ohio").data(), "pls", family="binomial")
    for fit, name in ((weighted, "weighted"), (wheeze, "shed")):
        expected, table = R["standardized"][name], fit.effect_sizes().table
        np.testing.assert_allclose(table["estimate"], expected["Std_Coefficient"][1:], rtol=1e-6)
        np.testing.assert_allclose(table["lower"], expected["CI_low"][1:], rtol=1e-4)
    expected = R["standardized"]["pseudo"]
    teeth = um.fit("distance ~ age * Sex + (1 | Subject)", um.load_dataset("orthodont"), "pls")
    table = teeth.effect_sizes("pseudo").table
    np.testing.assert_allclose(table["estimate"], _by_name(table, expected), rtol=1e-5)
    assert table["level"].tolist() == ["within", "between", "within"]
    with pytest.raises(um.UnsupportedModelError, match="levels of Pig do not differ"):
        growth.effect_sizes("pseudo")
    with pytest.raises(um.UnsupportedModelError, match="one grouping factor"):
        wheeze.effect_sizes("pseudo")
    expected, table = R["standardized"]["growth"], growth.effect_sizes().table
    np.testing.assert_allclose(table["estimate"], _by_name(table, expected), rtol=1e-6)


def _by_name(table: pd.DataFrame, expected: dict[str, Any]) -> np.ndarray:
    """R's values in the order of unimix's terms: ``Time:Cu[T.Cu035]`` is ``Time:CuCu035``."""
    values = dict(zip(expected["Parameter"], expected["Std_Coefficient"], strict=True))
    return np.array([values[str(t).replace("[T.", "").replace("]", "")] for t in table.index])


def test_shares_of_f_tests_are_effectsizes(growth: um.FitResult) -> None:
    """1e-3 of the ends: effectsize finds them by Nelder and Mead; ours satisfy their equation within 1e-9."""
    s = R["shares"]
    f, df, error = (np.array(s[k], dtype=float) for k in ("F", "df1", "df2"))
    shares = partial_shares(f, df, error)
    for name, column in (("eta2", "Eta2"), ("omega2", "Omega2"), ("epsilon2", "Epsilon2")):
        np.testing.assert_allclose(shares[name], s[name][f"{column}_partial"], rtol=1e-10)
        own = shares[name] / df / ((1 - shares[name]) / error)
        ends = np.array([noncentral_interval(*row, 0.95) for row in zip(own, df, error, strict=True)])
        found = share_of(ends, error[:, None])
        np.testing.assert_allclose(found[:, 0], s[name]["CI_low"], atol=1e-3)
        np.testing.assert_allclose(found[:, 1], s[name]["CI_high"], atol=1e-3)
        for at, (low, high), row in zip(own, ends, zip(df, error, strict=True), strict=True):
            for value, target in ((low, 0.975), (high, 0.025)):
                if value > 0:
                    assert special.ncfdtr(*row, value, at) == pytest.approx(target, abs=1e-9)
    table = growth.effect_sizes("partial").table
    expected = R["eta_squared"]
    np.testing.assert_allclose(table["eta2"], expected["Eta2_partial"], rtol=1e-4)
    np.testing.assert_allclose(table["eta2_upper"], expected["CI_high"], atol=2e-3)


@pytest.mark.parametrize("family", ["gaussian", "binomial"])
def test_a_standardized_difference_beside_an_empty_cell(family: Literal["gaussian", "binomial"]) -> None:
    """The difference of s does not need the means: it is that of the same model with one factor of the filled cells."""
    rng = np.random.default_rng(3)
    cells = [("x", "u"), ("x", "v"), ("y", "u")]
    rows = pd.DataFrame([(*cells[i % 3], "ft"[i // 3 % 2]) for i in range(240)], columns=["a", "b", "s"])
    rows["cell"], eta = rows["a"] + rows["b"], 0.8 * (rows["s"] == "t") + rng.normal(size=240)
    rows["y"] = eta if family == "gaussian" else (eta > 0.2).astype(float)
    found = um.fit("y ~ s + a * b", rows, family=family).effect_sizes("d")
    same = um.fit("y ~ s + cell", rows, family=family).effect_sizes("d").table
    np.testing.assert_allclose(found.table.loc["s: t - f"], same.loc["s: t - f"], rtol=1e-6)
    # the means of a and b need the empty cell
    assert found.table["estimate"].isna().tolist() == [False, True, True]
    assert "lack combinations of levels: a: y - x, b: v - u." in str(found)


def test_standardized_differences() -> None:
    data = um.load_dataset("orthodont")
    fit = um.fit("distance ~ age + Sex + (1 | Subject)", data, "pls")
    found = fit.effect_sizes("d").table.iloc[0]
    total = np.sqrt(fit.random[0].covariance[0, 0] + fit.sigma**2)
    assert found["estimate"] == pytest.approx(fit.fixed_effects.loc["Sex[T.Female]", "estimate"] / total, rel=1e-8)
    assert found["lower"] == pytest.approx(fit.fixed_effects.loc["Sex[T.Female]", "lower"] / total, rel=1e-6)
    yes = um.fit("long ~ Sex", data.assign(long=data["distance"] > 24), "pls", family="binomial")
    log_odds = yes.fixed_effects["estimate"].iloc[1]
    assert yes.effect_sizes("d").table["estimate"].iloc[0] == pytest.approx(log_odds * np.sqrt(3) / np.pi)
    # Two numbers that C() makes levels are those levels, also beside another such column.
    codes = data.assign(i=np.where(data["Sex"] == "Female", 2, 1), j=np.arange(len(data)) % 2)
    numbers = um.fit("distance ~ age + C(i) + C(j) + (1 | Subject)", codes, "pls").effect_sizes("d").table
    words = (
        um.fit("distance ~ age + Sex + j + (1 | Subject)", codes.assign(j=codes["j"].map({0: "n", 1: "y"})), "pls")
        .effect_sizes("d")
        .table
    )
    assert numbers.index.tolist() == ["i: 2 - 1", "j: 1 - 0"]
    np.testing.assert_allclose(numbers, words, rtol=1e-6)
    # Without a cell the mean of a level does not exist.
    empty = codes.assign(j=codes["j"].astype(str))[(codes["i"] == 1) | (codes["j"] == 1)]
    gap = um.fit("distance ~ age + Sex * j", empty, "pls").effect_sizes("d")
    assert gap.table["estimate"].isna().all()
    assert "Cannot be estimated, because the data lack combinations of levels: Sex: Female - Male, j" in str(gap)
    with pytest.raises(um.DataError, match="two levels"):
        um.fit("distance ~ age", data, "pls").effect_sizes("d")
    with pytest.raises(um.OptionError, match="kind='eta'"):
        fit.effect_sizes("eta")  # type: ignore[arg-type]
    with pytest.raises(um.DataError, match="needs an intercept"):
        um.fit("distance ~ 0 + age", data, "pls").effect_sizes()


def test_weights_of_counts_are_copies_of_rows() -> None:
    """1e-5: two optima of the same likelihood. Single rows are left out with their copies, and differ."""
    rng = np.random.default_rng(9)
    data = pd.DataFrame({"g": np.repeat(np.arange(24), 10).astype(str), "x": rng.normal(size=240)})
    data["w"] = rng.integers(1, 4, 240)
    eta = 0.4 + 0.3 * data["x"] + 0.4 * rng.normal(size=24)[data["g"].astype(int)]
    data["y"] = rng.poisson(np.exp(eta)) * (rng.random(240) > 0.3)
    rows = data.loc[data.index.repeat(data["w"])].reset_index(drop=True)
    a = um.fit("y ~ x + (1 | g)", data, "pls", family="poisson", weights="w")
    b = um.fit("y ~ x + (1 | g)", rows, "pls", family="poisson")
    assert a.check_zeros().observed == (rows["y"] == 0).sum()
    np.testing.assert_allclose(a.check_zeros().table, b.check_zeros().table, rtol=1e-5)
    np.testing.assert_allclose(a.overdispersion().table, b.overdispersion().table, rtol=1e-5)
    # rows that stand for several responses cannot be simulated
    left_out = ["influential rows", "simulated residuals"]
    mine, repeated = (f.check().table.drop(index=left_out, errors="ignore") for f in (a, b))
    assert mine["verdict"].tolist() == repeated["verdict"].tolist()
    assert mine["finding"].tolist() == repeated["finding"].tolist()
    np.testing.assert_allclose(mine["value"].astype(float), repeated["value"].astype(float), rtol=1e-4, atol=1e-6)
    assert mine.loc["zero inflation", "verdict"] != "ok"
    pair = [
        um.fit("y ~ x + I(x ** 2 + w)", d, "pls", family="poisson", **k)
        for d, k in ((data, {"weights": "w"}), (rows, {}))
    ]
    numbers = [f.collinearity().condition_number for f in pair]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-8)


def test_weighted_counts_of_a_posterior_have_no_replications() -> None:
    data = pd.DataFrame({"y": np.random.default_rng(0).poisson(2, 40), "w": 2})
    fit = um.fit("y ~ 1", data, sampled_models.SHORT, family="poisson", weights="w", seed=1)
    for call in (fit.check_zeros, fit.overdispersion):
        with pytest.raises(um.UnsupportedModelError, match="Repeat the rows"):
            call()
    assert {"overdispersion", "zero inflation", "simulated residuals"} == set(fit.check().skipped)


@pytest.mark.r
def test_variances_that_are_zero_by_rounding_are_shown_as_zero() -> None:
    sleep = um.load_dataset("sleepstudy").assign(nine=lambda d: np.arange(len(d)) % 9)
    fit = um.fit("Reaction ~ Days + (1 | Subject) + (1 | nine)", sleep, "glmmtmb")
    found, icc = fit.r2(), fit.icc()
    assert 0 < found.components.loc["Intercept | nine", "share"] < 1e-10
    assert 0 < icc.by_group["nine"] < 1e-10
    for text in (str(found), str(icc)):
        line = next(row for row in text.splitlines() if "nine" in row)
        assert [float(v) for v in line.split()[-2:]] == [0.0, 0.0]
    assert "e-" not in found._repr_html_() + icc._repr_html_()


@pytest.mark.r
def test_refusals_are_in_words(herds: um.FitResult) -> None:
    ticks = um.load_dataset("grouseticks")
    zero = um.fit("TICKS ~ YEAR + (1 | BROOD)", ticks, "glmmtmb", family="poisson", ziformula="~ 1")
    for call in (zero.r2, zero.icc, zero.influence):
        with pytest.raises(um.UnsupportedModelError, match=r"zero inflation \(ziformula=\)"):
            call()
    with pytest.raises(um.UnsupportedModelError, match="cauchit"):
        um.fit(herds.formula, um.load_dataset("cbpp"), "pls", family="binomial(cauchit)").r2()
    sleep = um.load_dataset("sleepstudy")
    with pytest.raises(um.DataError, match=r"add \(1 \| g\)"):
        um.fit("Reaction ~ Days", sleep, "pls").icc()
    with pytest.raises(um.DataError, match="no marginal R2"):
        _ = um.fit("Reaction ~ Days", sleep, "pls").r2().marginal
    assert set(zero.check().skipped) == {"overdispersion", "influential rows", "influential levels of BROOD"}


def test_weighted_standard_deviations() -> None:
    values = np.array([[1.0, 5.0], [2.0, 1.0], [4.0, 2.0]])
    np.testing.assert_allclose(weighted_sd(values, np.full(3, 2.0)), values.std(axis=0, ddof=1))
