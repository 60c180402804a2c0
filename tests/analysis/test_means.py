"""Marginal means, contrasts and slopes: against emmeans (references), closed forms and simulation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import sampled_models
from gold import all_cases
from matplotlib import pyplot as plt
from scipy import stats
from statsmodels.stats.multitest import multipletests

import unimix as um
from unimix.stats.multiplicity import adjusted_p_values, critical_value

CASES = [c for c in all_cases() if c.reference.get("emmeans")]
R: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "means_r.json").read_text())


def numbers(values: list[Any]) -> np.ndarray:
    return np.array([np.inf if v is None else v for v in values], dtype=float)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_means_and_contrasts_are_those_of_emmeans(case: Any) -> None:
    """1e-6 of a standard error, 1e-4 of Tukey's p values: emmeans integrates the studentized range by its own code."""
    reference = case.reference["emmeans"]
    specs = reference["specs"]
    found = case.fit("pls").emmeans(specs)
    table, pairs = found.table, found.contrasts().table
    se = numbers(reference["std_error"])
    assert (np.abs(table["estimate"] - numbers(reference["emmean"])) < 1e-6 * se).all()
    np.testing.assert_allclose(table["std_error"], se, rtol=1e-6)
    np.testing.assert_allclose(table["df"], numbers(reference["df"] or [None] * len(table)), rtol=1e-5)
    expected = reference["contrasts"]
    np.testing.assert_allclose(pairs["estimate"], numbers(expected["estimate"]), atol=1e-6 * se.max())
    np.testing.assert_allclose(pairs["std_error"], numbers(expected["std_error"]), rtol=1e-6)
    np.testing.assert_allclose(pairs["p_value"], numbers(expected["p_value_tukey"]), atol=1e-4)
    plain = found.contrasts(adjust="none").table
    np.testing.assert_allclose(plain["p_value"], numbers(expected["p_value"]), rtol=1e-4, atol=1e-12)


@pytest.mark.r
def test_every_engine_has_the_same_means(pigs: um.FitResult) -> None:
    data = um.load_dataset("dietox")
    tables = [
        um.fit(pigs.formula, data, e).emmeans("Cu", by="Evit").contrasts().table
        for e in ("pls", "lme4", "statsmodels", "glmmtmb", "mixedlm")
    ]
    for other in tables[1:]:
        pd.testing.assert_frame_equal(other, tables[0], rtol=2e-3, atol=1e-4)


def test_grids_are_averages_of_predictions(pigs: um.FitResult) -> None:
    data = um.load_dataset("dietox")
    levels = {n: list(dict.fromkeys(data[n])) for n in ("Cu", "Evit")}
    for weights in ("equal", "proportional"):
        found = pigs.emmeans("Cu", weights=weights, at={"Time": 4}).table.set_index("Cu")
        share = data["Evit"].value_counts(normalize=True) if weights == "proportional" else None
        for cu in levels["Cu"]:
            new = pd.DataFrame({"Time": 4.0, "Cu": cu, "Evit": levels["Evit"]})
            eta = pigs.predict(new, level="population")
            w = None if share is None else share[levels["Evit"]].to_numpy()
            assert found.loc[cu, "estimate"] == pytest.approx(np.average(eta, weights=w), rel=1e-10)
    several = pigs.emmeans("Time", at={"Time": [1, 12]}).table
    assert several["Time"].tolist() == [1, 12]


def test_kinds_of_contrasts(pigs: um.FitResult) -> None:
    means = pigs.emmeans("Cu")
    e = means.table["estimate"].to_numpy()
    found = {
        m: means.contrasts(m, adjust="none")["estimate"].to_numpy()
        for m in ("reference", "effects", "consecutive", "poly")
    }
    np.testing.assert_allclose(found["reference"], [e[1] - e[0], e[2] - e[0]], rtol=1e-8)
    np.testing.assert_allclose(found["effects"], e - e.mean(), rtol=1e-8)
    np.testing.assert_allclose(found["consecutive"], np.diff(e), rtol=1e-8)
    linear, quadratic = np.array([-1, 0, 1]), np.array([1, -2, 1])
    np.testing.assert_allclose(found["poly"], [linear @ e, quadratic @ e], rtol=1e-6)
    own = means.contrasts({"none - some": [1, -0.5, -0.5]}).table
    assert own["estimate"].iloc[0] == pytest.approx(e[0] - e[1:].mean())
    last = means.contrasts("reference", reference="Cu175", adjust="none").table
    assert last["contrast"].tolist() == ["Cu000 - Cu175", "Cu035 - Cu175"]


def test_adjustments() -> None:
    """sidak, bonferroni, holm and fdr are statsmodels'; mvt of two independent z tests is Sidak's; intervals match."""
    statistic, df = np.array([2.5, 1.2, 3.1, 0.4]), np.array([12.0, 20.0, 8.0, 30.0])
    plain = 2 * stats.t.sf(statistic, df)
    for mine, theirs in (("sidak", "sidak"), ("bonferroni", "bonferroni"), ("holm", "holm"), ("fdr", "fdr_bh")):
        found = adjusted_p_values(mine, statistic, df, np.eye(4), 4)
        np.testing.assert_allclose(found, multipletests(plain, method=theirs)[1], rtol=1e-10)
    z, infinite = np.array([2.0, 1.5]), np.full(2, np.inf)
    sidak = adjusted_p_values("sidak", z, infinite, np.eye(2), 2)
    np.testing.assert_allclose(adjusted_p_values("mvt", z, infinite, np.eye(2), 2), sidak, atol=1e-4)
    half = np.array([[1, 0.5, -0.5], [0.5, 1, 0.5], [-0.5, 0.5, 1]])
    three = np.array([2.4, 0.3, 2.0])
    tukey = adjusted_p_values("tukey", three, np.full(3, 15.0), half, 3)
    np.testing.assert_allclose(adjusted_p_values("mvt", three, np.full(3, 15.0), half, 3), tukey, atol=2e-3)
    size = critical_value("tukey", 0.95, 15.0, half, 3)
    assert adjusted_p_values("tukey", np.array([size]), np.array([15.0]), np.eye(1), 3)[0] == pytest.approx(
        0.05, abs=1e-6
    )
    two = adjusted_p_values("tukey", np.array([7.5]), np.array([6641.0]), np.eye(1), 2)
    assert two[0] == pytest.approx(2 * stats.t.sf(7.5, 6641.0), rel=1e-10)
    assert critical_value("sidak", 0.95, np.inf, np.eye(2), 2) == pytest.approx(stats.norm.ppf(0.5 + 0.95**0.5 / 2))


def test_generalised_means_are_probabilities_and_odds_ratios() -> None:
    data = um.load_dataset("cbpp")
    fit = um.fit("cbind(incidence, size - incidence) ~ period + (1 | herd)", data, "pls", family="binomial")
    link, response = fit.emmeans("period"), fit.emmeans("period", kind="response")
    p = 1 / (1 + np.exp(-link.table["estimate"]))
    np.testing.assert_allclose(response.table["estimate"], p)
    np.testing.assert_allclose(response.table["std_error"], link.table["std_error"] * p * (1 - p))
    odds = response.contrasts("reference", adjust="none").table
    assert odds["contrast"].tolist()[0] == "2 / 1"
    np.testing.assert_allclose(odds["odds_ratio"], np.exp(fit.fixed_effects["estimate"].iloc[1:]), rtol=1e-8)
    np.testing.assert_allclose(odds["p_value"], fit.fixed_effects["p_value"].iloc[1:], rtol=1e-6)


def test_posterior_means_are_quantiles_of_draws() -> None:
    data = um.load_dataset("dietox")
    data = data[data["Pig"].isin(list(dict.fromkeys(data["Pig"]))[:20])]
    fit = um.fit("Weight ~ Time + Cu + (1 | Pig)", data, sampled_models.SHORT, seed=1)
    table = fit.emmeans("Cu").table
    beta = fit.draws(2000).beta
    first = beta[:, 0] + beta[:, list(fit.fixed.terms).index("Time")] * data["Time"].mean()
    assert table["lower"].iloc[0] == pytest.approx(np.quantile(first, 0.025), rel=1e-6)
    assert "p_value" not in fit.emmeans("Cu").contrasts()


def test_what_makes_no_sense_is_refused(pigs: um.FitResult) -> None:
    assert list(pigs.emmeans(["Cu", "Cu"]).table)[:2] == ["Cu", "estimate"]
    with pytest.raises(um.OptionError, match=r"specs='cu' is not a predictor of this model. Did you mean 'Cu'"):
        pigs.emmeans("cu")
    with pytest.raises(um.DataError, match="levels in the new data that the model was not fitted to: Cu999"):
        pigs.emmeans("Evit", at={"Cu": "Cu999"})
    with pytest.raises(um.OptionError, match="'Cu' is a factor and has no slope"):
        pigs.slopes("Cu")
    with pytest.raises(um.OptionError, match="must be 3 numbers that sum to zero"):
        pigs.emmeans("Cu").contrasts({"bad": [1, 1, -1]})
    with pytest.raises(um.OptionError, match="adjust='tukey' is for pairwise"):
        pigs.emmeans("Cu").contrasts("effects", adjust="tukey")
    with pytest.raises(um.OptionError, match=r"adjust='scheffe': choose none, tukey"):
        pigs.emmeans("Cu").contrasts(adjust="scheffe")
    again = um.FitResult.from_json(pigs.to_json())
    with pytest.raises(um.DataError, match="holds no data"):
        again.emmeans("Cu")
    data = um.load_dataset("dietox")
    pd.testing.assert_frame_equal(again.with_data(data).emmeans("Cu").table, pigs.emmeans("Cu").table, rtol=1e-6)


def test_default_adjustments_are_those_of_emmeans(pigs: um.FitResult) -> None:
    """R 4.2.2, emmeans 1.8.4.1, trt.vs.ctrl (mvt), consec and eff of this model, printed digits."""
    fit = um.fit("Weight ~ Time + Cu * Evit + (1 + Time | Pig)", um.load_dataset("dietox"), "pls")
    means = fit.emmeans("Cu")
    assert "averaged over Evit with equal weights" in str(means)
    dunnett = means.contrasts("reference").table
    assert dunnett["adjust"].tolist() == ["mvt", "mvt"]
    # both sides integrate the multivariate t by random lattices: 1e-4
    assert dunnett["p_value"].to_numpy() == pytest.approx([0.98862798, 0.36206965], abs=1e-4)
    assert dunnett["lower"].to_numpy() == pytest.approx([-3.3148550, -1.4371079], abs=1e-3)
    assert means.contrasts("consecutive")["p_value"].to_numpy() == pytest.approx([0.98886427, 0.28793855], abs=1e-4)
    effects = means.contrasts("effects").table
    assert effects["p_value"].to_numpy() == pytest.approx([0.52306619, 0.52306619, 0.40425536], rel=1e-5)
    # p values by the false discovery rate, intervals by Bonferroni, as there
    assert effects["lower"].to_numpy() == pytest.approx([-2.51435932, -2.64499307, -0.75660908], rel=1e-5)
    kenward = fit.emmeans("Cu", df_method="kenward-roger").table
    again = um.fit(fit.formula, um.load_dataset("dietox"), "pls", df_method="kenward-roger").emmeans("Cu").table
    pd.testing.assert_frame_equal(kenward, again)
    with pytest.raises(um.OptionError, match="df_method='residual' is for models without group effects"):
        fit.anova(df_method="residual")


@pytest.mark.r
def test_links_without_ratios_have_differences_of_the_response() -> None:
    """R 4.2.2, pairs(regrid(emmeans(glmer(... probit), "period"))), printed digits; lme4's numerical Hessian."""
    data = um.load_dataset("cbpp")
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    fit = um.fit(formula, data, "lme4", family="binomial(probit)")
    found = fit.emmeans("period", kind="response").contrasts(adjust="none").table
    assert found["estimate"].to_numpy()[:3] == pytest.approx([0.11536446, 0.12852418, 0.15070488], rel=1e-4)
    assert found["std_error"].to_numpy()[:3] == pytest.approx([0.03482247, 0.03475321, 0.03560857], rel=1e-3)


def shaped() -> pd.DataFrame:
    """The rows of tests/data/means_r.R: unbalanced, factors associated, week a number."""
    data = um.load_dataset("dietox")
    data["week"] = (data["Time"] + 2 * (data["Cu"] == "Cu035") + (data["Evit"] == "Evit100")) % 3
    gone = (data["Cu"] == "Cu000") & (data["week"] == 1) & (data["Time"] > 4)
    gone |= (data["Evit"] == "Evit200") & (data["Time"] % 2 == 1)
    return data[~gone].assign(share=lambda d: 1 + d["Time"] % 4)


@pytest.fixture(scope="module")
def weighted() -> dict[str, um.FitResult]:
    data = shaped()
    holed = data[~((data["Evit"] == "Evit200") & (data["week"] == 2))]
    return {
        "mixed": um.fit("Weight ~ Time * Cu + Time * C(week) * Evit + (1 | Pig)", data, "pls"),
        "weighted": um.fit("Weight ~ Time * Cu + Time * C(week) * Evit", data, "pls", weights="share"),
        "holed": um.fit("Weight ~ Time * Cu + C(week) * Evit", holed, "pls"),
    }


@pytest.mark.parametrize("weights", ["equal", "proportional", "outer", "cells"])
def test_weights_are_those_of_emmeans(weighted: dict[str, um.FitResult], weights: str) -> None:
    """1e-6 of a standard error, of the mixed model's two optimizers; emtrends differentiates by steps of 1e-3."""
    for name, fit in weighted.items():
        expected = R[name][weights]
        slope = fit.slopes("Time", by="Cu", weights=weights).table
        assert np.abs(slope["estimate"] - expected["slope"]).max() < 1e-6 * min(expected["slope_error"])
        np.testing.assert_allclose(slope["std_error"], expected["slope_error"], rtol=1e-6)
        if expected["estimate"][0] is None:  # one combination that is averaged over has no rows
            with pytest.raises(um.DataError, match="Means of Cu: 3 of 3 rows cannot be estimated"):
                fit.emmeans("Cu", weights=weights)
            continue
        mean = fit.emmeans("Cu", weights=weights).table
        assert np.abs(mean["estimate"] - expected["estimate"]).max() < 1e-6 * min(expected["std_error"])
        np.testing.assert_allclose(mean["std_error"], expected["std_error"], rtol=1e-6)


def test_weights_are_of_the_levels_in_the_grid(weighted: dict[str, um.FitResult]) -> None:
    found = weighted["mixed"].emmeans("Cu", at={"Evit": ["Evit000", "Evit200"]}, weights="proportional").table
    np.testing.assert_allclose(found["estimate"], R["at"]["estimate"], rtol=1e-7)
    np.testing.assert_allclose(found["std_error"], R["at"]["std_error"], rtol=1e-6)
    cells = weighted["holed"].emmeans(["Evit", "week"], weights="cells")
    np.testing.assert_allclose(cells.table["estimate"], numbers_or_nan(R["cells"]), rtol=1e-9)
    with pytest.raises(um.OptionError, match=r"weights='cell': choose equal, proportional, outer, cells"):
        weighted["mixed"].emmeans("Cu", weights="cell")
    with pytest.raises(um.DataError, match=r"no row of the data has these levels, so that Cu"):
        weighted["holed"].emmeans("Time", at={"Evit": "Evit200", "week": 2}, weights="proportional")
    lost = weighted["holed"].emmeans(["Evit", "week"])
    with pytest.raises(um.OptionError, match="'b0 = b8' is not defined"):
        lost.hypotheses("b0 = b8")


def numbers_or_nan(values: list[Any]) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in values], dtype=float)


def test_trials_of_proportions_count_and_those_of_counts_do_not() -> None:
    """As "(weights)" of R's model frames: glmer(prop ~ ., weights = size) has it, cbind(a, b) does not."""
    data = um.load_dataset("cbpp").assign(odd=lambda d: np.where(d["herd"].astype(int) % 2, "yes", "no"))
    data["prop"] = data["incidence"] / data["size"]
    fits = {
        "size": um.fit("prop ~ period + odd", data, "statsmodels", family="binomial", weights="size"),
        "rows": um.fit("cbind(incidence, size - incidence) ~ period + odd", data, "statsmodels", family="binomial"),
    }
    for name, fit in fits.items():
        each = fit.emmeans("period", by="odd").table.pivot_table(index="period", columns="odd", values="estimate")
        counts = data.groupby("odd")["size"].sum() if name == "size" else data.groupby("odd")["size"].count()
        found = fit.emmeans("period", weights="proportional").table["estimate"]
        expected = np.average(each[["no", "yes"]], axis=1, weights=counts[["no", "yes"]])
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_notes_of_interactions_and_of_a_transformed_response(pigs: um.FitResult) -> None:
    assert "interactions with Time (at one value): by='Time' or at=" in str(pigs.emmeans("Cu"))
    assert "interactions with Cu (averaged over)" in str(pigs.slopes("Time"))
    for quiet in (pigs.emmeans("Cu", at={"Time": 4}), pigs.emmeans("Evit"), pigs.slopes("Time", by="Cu")):
        assert "misleading" not in str(quiet)
    assert "response is" not in str(pigs.emmeans("Evit"))
    logs = um.fit("log(Weight) ~ Time + Cu + (1 | Pig)", um.load_dataset("dietox"), "pls")
    assert "Turned back from log(Weight)" in str(logs.emmeans("Cu", kind="response"))
    shown = [logs.emmeans("Cu"), logs.slopes("Time"), logs.comparisons("Cu", comparison="ratio")]
    for one in shown:
        assert "The response is log(Weight): estimates are on that scale" in str(one)
        assert "The response is log(Weight)" in one._repr_html_()
    counts = um.fit("cbind(incidence, size - incidence) ~ period", um.load_dataset("cbpp"), "pls", family="binomial")
    assert "response is" not in str(counts.comparisons("period"))


def test_formulas_of_emmeans(pigs: um.FitResult) -> None:
    pairs: list[tuple[str, Any, Any]] = [
        ("~ Cu", "Cu", ()),
        ("~ Cu * Evit", ["Cu", "Evit"], ()),
        ("~Cu + Evit", ["Cu", "Evit"], ()),
        ("~ Cu | Evit", "Cu", "Evit"),
        ("~ 1", [], ()),
    ]
    for formula, specs, by in pairs:
        pd.testing.assert_frame_equal(pigs.emmeans(formula).table, pigs.emmeans(specs, by=by).table)
    found = pigs.contrasts("consecutive ~ Cu | Evit", adjust="none").table
    pd.testing.assert_frame_equal(found, pigs.contrasts("Cu", "consecutive", by="Evit", adjust="none").table)
    with pytest.raises(um.OptionError, match=r"asks for contrasts: type fit.contrasts\('pairwise ~ Cu'\)"):
        pigs.emmeans("pairwise ~ Cu")
    pd.testing.assert_frame_equal(pigs.contrasts("consec ~ Cu").table, pigs.contrasts("Cu", "consecutive").table)
    with pytest.raises(um.OptionError, match="name two different methods"):
        pigs.contrasts("pairwise ~ Cu", "poly")
    for bad in ("~ Cu | Evit | Time", "~ Cu -", "~ log(Time)", "~"):
        with pytest.raises(um.OptionError, match="Write 'a'"):
            pigs.emmeans(bad)
    assert list(pigs.emmeans(["Cu", "Cu"]).table)[:2] == ["Cu", "estimate"]
    with pytest.raises(um.OptionError, match=r"specs='cu' is not a predictor.*Did you mean 'Cu'"):
        pigs.emmeans("~ cu")


def test_one_mean_missing_values_and_taken_names_are_refused(pigs: um.FitResult) -> None:
    with pytest.raises(um.OptionError, match=r"Time is held at one value. Type several, at=\{'Time': \[1, 2\]\}"):
        pigs.contrasts("Time")
    with pytest.raises(um.OptionError, match="There is one mean"):
        pigs.contrasts("Time", "effects", by="Cu")
    with pytest.raises(um.OptionError, match="There is one slope"):
        pigs.slopes("Time").contrasts()
    for value in (float("nan"), None, [1, float("nan")], []):
        with pytest.raises(um.OptionError, match=r"at=\{'Time': .*none of them missing"):
            pigs.emmeans("Cu", at={"Time": value})
    data = um.load_dataset("dietox").rename(columns={"Cu": "estimate", "Evit": "variable"})
    fit = um.fit("Weight ~ Time * estimate + variable", data, "pls")
    for call in (lambda: fit.emmeans("estimate"), lambda: fit.slopes("Time", by="estimate")):
        with pytest.raises(um.OptionError, match=r"has a column 'estimate' of its own\. Rename the"):
            call()
    for by in ("estimate", "variable"):
        with pytest.raises(um.OptionError, match=f"by='{by}': the table has a column '{by}' of its own"):
            fit.comparisons("Time", by=by)


def test_adjusted_p_values_are_no_less_than_plain_ones() -> None:
    statistic, df = np.array([13.0, 20.0, 30.0]), np.full(3, 1e4)
    plain = 2 * stats.t.sf(statistic, df)
    for method in ("tukey", "mvt"):
        found = adjusted_p_values(method, statistic, df, np.eye(3), 3)
        assert (found >= plain).all()
        assert (found < 1e-8).all()
        assert (found > 0).all()


def test_pictures_show_the_table(pigs: um.FitResult) -> None:
    mpl.use("Agg")
    means = pigs.emmeans("Cu", by="Evit")
    axes = means.plot()
    assert len(axes) == 1
    drawn = np.concatenate([line.get_ydata() for line in axes[0].get_lines()])
    np.testing.assert_allclose(np.sort(drawn), np.sort(means.table["estimate"]))
    ends = np.concatenate([c.get_segments() for c in axes[0].collections])[:, :, 1]
    np.testing.assert_allclose(np.sort(ends[:, 0]), np.sort(means.table["lower"]))
    np.testing.assert_allclose(np.sort(ends[:, 1]), np.sort(means.table["upper"]))
    assert [t.get_text() for t in axes[0].figure.legends[0].get_texts()] == ["Evit000", "Evit100", "Evit200"]
    panels = pigs.emmeans(["Time", "Cu"], by="Evit", at={"Time": [1, 6, 12]}).plot(title="Pigs")
    assert [ax.get_title(loc="left") for ax in panels] == [f"Evit = Evit{v}" for v in ("000", "100", "200")]
    slopes = pigs.slopes("Time", by="Cu").plot()
    assert slopes[0].figure.get_supylabel() == "Slope of Time"
    assert len(pigs.emmeans("~ 1").plot()) == 1
    plt.close("all")
