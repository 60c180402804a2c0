"""``within(x, g)`` and ``between(x, g)``: parity with columns made by hand, new data, saved results, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

import unimix as um
from unimix.design.level_means import LevelMeans
from unimix.errors import DataError, FormulaError, OptionError

GOLD: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "within_r.json").read_text())
HYBRID = "MathAch ~ within(SES, School) + between(SES, School) + (1 | School)"
SLOPES = "MathAch ~ Sex + within(SES, School) * between(SES, School) + (1 + within(SES, School) | School)"
# An optimum is found to about 1e-7 of a standard error by either side; estimates are of the order of one.
CLOSE = 1e-5
# The same arithmetic on the same columns.
SAME = 1e-10


@pytest.fixture(scope="module")
def school() -> pd.DataFrame:
    """The pupils, with missing values in the four rows that the R script leaves out."""
    frame = um.load_dataset("mathachieve").astype({"School": str})
    frame["high"] = (frame["MathAch"] > 15).astype(float)
    frame.loc[[2, 49], "SES"] = np.nan
    frame.loc[[50, 3999], ["MathAch", "high"]] = np.nan
    return frame


@pytest.fixture(scope="module")
def slopes(school: pd.DataFrame) -> um.FitResult:
    """Intercepts and slopes as outcomes."""
    return um.fit(SLOPES, school)


def small(sizes: int | None = None) -> pd.DataFrame:
    """Groups whose means of x matter for y; of unequal sizes, or of one size."""
    rng = np.random.default_rng(3)
    n = np.full(12, sizes) if sizes else rng.integers(4, 8, 12)
    g = np.repeat(np.arange(12), n)
    mean = rng.normal(size=12)
    x = mean[g] + rng.normal(size=len(g))
    y = 0.5 * x + 2 * mean[g] + rng.normal(size=12)[g] + rng.normal(size=len(g))
    frame = pd.DataFrame({"y": y, "x": x, "g": [f"g{k}" for k in g], "f": np.tile(list("ab"), len(g))[: len(g)]})
    return frame.assign(z=rng.poisson(np.exp(0.3 * x)))


def by_hand(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the mean of x in its group and the deviation from it, made by pandas."""
    mean = frame.groupby("g")["x"].transform("mean")
    return frame.assign(b=mean, w=frame["x"] - mean)


# -- what is fitted -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("hybrid", HYBRID),
        ("mundlak", "MathAch ~ SES + between(SES, School) + (1 | School)"),
        ("slopes", SLOPES),
    ],
)
def test_linear_models_are_those_of_lme4(school: pd.DataFrame, name: str, formula: str) -> None:
    fit, gold = um.fit(formula, school), GOLD[name]
    np.testing.assert_allclose(fit.fixed.estimate, gold["fixed"], rtol=CLOSE)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.fixed_cov)), gold["se"], rtol=CLOSE)
    assert fit.log_likelihood == pytest.approx(gold["log_likelihood"][0], abs=1e-6)
    if name == "slopes":  # a flat likelihood: the variance of the slopes is found to 1e-4 of itself
        np.testing.assert_allclose(fit.variance_components["sdcor"], gold["sd"], rtol=1e-3)


def test_nlme_and_the_published_table_agree(school: pd.DataFrame) -> None:
    fit = um.fit(HYBRID, school)
    np.testing.assert_allclose(fit.fixed.estimate, GOLD["nlme"]["fixed"], rtol=CLOSE)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.fixed_cov)), GOLD["nlme"]["se"], rtol=CLOSE)
    whole = um.fit(HYBRID, um.load_dataset("mathachieve")).fixed_effects
    # Raudenbush & Bryk (2002), table 5.11: within 2.191 (0.109), between 5.866 (0.362). Their school means are rounded
    # to three digits and made before pupils were left out, which moves the second decimal of the coefficient between.
    assert whole.loc["within(SES, School)", "estimate"] == pytest.approx(2.191, abs=6e-4)
    assert whole.loc["within(SES, School)", "std_error"] == pytest.approx(0.109, abs=6e-4)
    assert whole.loc["between(SES, School)", "estimate"] == pytest.approx(5.866, abs=1e-2)


def test_a_logistic_model_is_that_of_lme4(school: pd.DataFrame) -> None:
    fit = um.fit("high ~ within(SES, School) + between(SES, School) + (1 | School)", school, family="binomial")
    # glmer stops at a relative change of 1e-8 of the deviance, which leaves 1e-4 of an estimate.
    np.testing.assert_allclose(fit.fixed.estimate, GOLD["binary"]["fixed"], rtol=2e-4)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.fixed_cov)), GOLD["binary"]["se"], rtol=2e-3)


@pytest.mark.parametrize("sizes", [5, None])
def test_the_within_effect_is_that_of_dummies(sizes: int | None) -> None:
    """Mundlak (1978): the coefficient within is the fixed-effects estimator, with or without a random intercept."""
    frame = small(sizes)
    dummies = smf.ols("y ~ x + C(g)", frame).fit().params["x"]
    for formula, name in [
        ("y ~ within(x, g) + between(x, g)", "within(x, g)"),
        ("y ~ within(x, g) + between(x, g) + (1 | g)", "within(x, g)"),
        ("y ~ x + between(x, g) + (1 | g)", "x"),
    ]:
        estimate = um.fit(formula, frame).fixed_effects["estimate"]
        assert estimate[name] == pytest.approx(dummies, rel=1e-8)
    hybrid = um.fit("y ~ within(x, g) + between(x, g)", frame).fixed_effects["estimate"]
    means = frame.groupby("g")[["x", "y"]].mean().assign(n=frame.groupby("g").size())
    between = smf.wls("y ~ x", means, weights=means["n"]).fit().params["x"]
    assert hybrid["between(x, g)"] == pytest.approx(between, rel=1e-8)


def test_rows_with_a_missing_response_do_not_count() -> None:
    frame = small()
    frame.loc[[0, 5], "y"] = np.nan
    fit = um.fit("y ~ within(x, g) + between(x, g) + (1 | g)", frame)
    hand = um.fit("y ~ w + b + (1 | g)", by_hand(frame.dropna()))
    np.testing.assert_allclose(fit.fixed.estimate, hand.fixed.estimate, rtol=SAME)
    of = fit.model.encoding.level_means["between(x, g)"]
    expected = frame.dropna().groupby("g")["x"].mean()
    np.testing.assert_allclose(pd.Series(of.means, of.levels)[expected.index], expected, rtol=SAME)


def test_means_are_taken_of_expressions_and_of_combinations_of_factors() -> None:
    frame = small().assign(h=lambda d: np.arange(len(d)) % 2)
    cell = frame.groupby(["g", "h"])["x"].transform("mean")
    share = (frame["f"] == "a").groupby(frame["g"]).transform("mean")
    logs = np.log(frame["z"] + 1).groupby(frame["g"]).transform("mean")
    formula = "y ~ within(x, g:h) + I(between(x, g:h) - between(x, g)) + between(f == 'a', g) + between(log(z + 1), g)"
    fit = um.fit(formula, frame)
    expected = np.column_stack([frame["x"] - cell, cell - frame.groupby("g")["x"].transform("mean"), share, logs])
    np.testing.assert_allclose(fit.design().x[:, 1:], expected, rtol=SAME, atol=1e-12)


def test_digits_far_from_zero_are_kept() -> None:
    frame = small().assign(x=lambda d: d["x"] + 1e9)
    fit = um.fit("y ~ within(x, g)", frame)
    exact = small()
    # x itself is stored to 1e-7, the spacing of floats at 1e9.
    np.testing.assert_allclose(fit.design().x[:, 1], exact["x"] - exact.groupby("g")["x"].transform("mean"), atol=3e-7)


# -- what is asked of the fit -------------------------------------------------------------------


def test_predictions_use_the_means_of_the_fit(slopes: um.FitResult) -> None:
    new = pd.DataFrame({"SES": [-1.0, 0.5], "School": ["1224", "9586"], "Sex": "Male"})
    # the modes of a slope whose variance is found to 1e-4 of itself
    np.testing.assert_allclose(slopes.predict(new), GOLD["predicted"], rtol=1e-4)
    loaded = um.FitResult.from_json(slopes.to_json())
    np.testing.assert_array_equal(loaded.predict(new), slopes.predict(new))


def test_means_are_those_of_emmeans(slopes: um.FitResult) -> None:
    table = slopes.emmeans("Sex", df_method="normal").table.set_index("Sex").loc[["Male", "Female"]]
    np.testing.assert_allclose(table["estimate"], GOLD["sexes"]["emmean"], rtol=CLOSE)
    np.testing.assert_allclose(table["std_error"], GOLD["sexes"]["SE"], rtol=1e-4)


def test_slopes_do_not_depend_on_the_reading() -> None:
    frame = small()
    hybrid = um.fit("y ~ within(x, g) + between(x, g) + (1 | g)", frame)
    mundlak = um.fit("y ~ x + between(x, g) + (1 | g)", frame)
    beta = hybrid.fixed_effects["estimate"]
    for name, value in [
        ("x", beta["within(x, g)"]),
        ("between(x, g)", beta["between(x, g)"] - beta["within(x, g)"]),
    ]:
        for fit in (hybrid, mundlak):
            slope = fit.slopes(name)
            assert slope.table["estimate"].item() == pytest.approx(value, rel=1e-7)
            assert not any("misleading" in note for note in slope.notes)
    crossed = um.fit("y ~ f * within(x, g) + between(x, g) + (1 | g)", frame)
    assert any("misleading" in note and "between" not in note for note in crossed.slopes("x").notes)


def test_other_answers_are_those_of_columns_made_by_hand() -> None:
    frame = small()
    fit = um.fit("y ~ f * within(x, g) + between(x, g) + (1 + within(x, g) | g)", frame)
    hand = um.fit("y ~ f * w + b + (1 + w | g)", by_hand(frame))
    np.testing.assert_allclose(fit.anova().to_numpy(), hand.anova().to_numpy(), rtol=1e-6)
    np.testing.assert_allclose(fit.anova(type=2).to_numpy(), hand.anova(type=2).to_numpy(), rtol=1e-6)
    np.testing.assert_allclose(fit.collinearity().table["vif"], hand.collinearity().table["vif"], rtol=1e-6)
    np.testing.assert_allclose(fit.simulate(2, seed=1), hand.simulate(2, seed=1), rtol=1e-7)
    one, other = fit.bootstrap(40, seed=1), hand.bootstrap(40, seed=1)
    np.testing.assert_allclose(one.table.to_numpy(), other.table.to_numpy(), rtol=1e-5, atol=1e-5)
    changed = frame.head(4).assign(x=9.0)
    mean = by_hand(frame).head(4).assign(w=lambda d: 9.0 - d["b"])
    np.testing.assert_allclose(
        fit.predict(changed, interval="prediction", seed=1).table,
        hand.predict(mean, interval="prediction", seed=1).table,
    )
    compared = fit.comparisons("x").table["estimate"].item()
    assert compared == pytest.approx(hand.comparisons("w").table["estimate"].item(), rel=1e-7)


def test_counts_averaged_over_groups() -> None:
    frame = small()
    fit = um.fit("z ~ within(x, g) + between(x, g) + (1 + within(x, g) | g)", frame, "glmm", family="poisson")
    hand = um.fit("z ~ w + b + (1 + w | g)", by_hand(frame), "glmm", family="poisson")
    mean = float(frame["x"].mean())
    one = fit.emmeans("x", at={"x": [mean, mean + 1]}, average="groups").table["estimate"]
    other = hand.emmeans("w", at={"w": [0.0, 1.0], "b": mean}, average="groups").table["estimate"]
    np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("backend", ["statsmodels", "lme4", "bayes"])
def test_every_engine_is_given_the_same_columns(backend: str) -> None:
    formula = "y ~ within(x, g) + between(x, g) + (1 + within(x, g) | g)"
    fit = um.fit(formula, small(), backend, seed=1 if backend == "bayes" else None)
    np.testing.assert_array_equal(fit.design().x, um.fit(formula, small()).design().x)
    assert fit.slopes("x").table["estimate"].item() == pytest.approx(
        fit.fixed_effects.loc["within(x, g)", "estimate"], rel=1e-9
    )
    new = small().head(2).assign(g="new", **{"between(x, g)": 1.0})
    beta = np.asarray(fit.fixed.estimate)
    expected = beta[0] + beta[1] * (new["x"] - 1.0) + beta[2]
    np.testing.assert_allclose(fit.predict(new, new_levels="population"), expected, rtol=1e-8)


def test_the_contextual_effect_is_a_hypothesis_of_the_hybrid_model() -> None:
    hybrid = um.fit("y ~ within(x, g) + between(x, g) + (1 | g)", small())
    mundlak = um.fit("y ~ x + between(x, g) + (1 | g)", small()).fixed_effects.loc["between(x, g)"]
    found = hybrid.hypotheses("between(x, g) = within(x, g)").table.iloc[0]
    for name in ("estimate", "std_error", "df", "p_value"):
        assert found[name] == pytest.approx(mundlak[name], rel=1e-5)


def test_a_slope_within_may_depend_on_the_mean() -> None:
    """The closed form of the region: where (b1 + b3 z)^2 exceeds t^2 times its variance."""
    fit = um.fit("y ~ within(x, g) * between(x, g) + (1 | g)", small())
    found = fit.johnson_neyman("x", by="between(x, g)", df_method="normal").table
    b, v = np.asarray(fit.fixed.estimate), np.asarray(fit.fixed_cov)
    t2 = 1.959963984540054**2
    roots = np.roots([b[3] ** 2 - t2 * v[3, 3], 2 * (b[1] * b[3] - t2 * v[1, 3]), b[1] ** 2 - t2 * v[1, 1]])
    ends = [e for e in found["lower"].iloc[1:] if np.isreal(e)]
    low, high = found["lower"].min(), found["upper"].max()
    inside = sorted(float(r.real) for r in roots if abs(r.imag) < 1e-12 and low < r.real < high)
    np.testing.assert_allclose(ends, inside, rtol=1e-6)


def test_the_dispersion_may_have_means_of_its_own() -> None:
    frame = small()
    fit = um.fit("z ~ within(x, g) + (1 | g)", frame, family="negative_binomial", dispformula="~ between(f == 'a', g)")
    assert fit.dispersion_effects.index.tolist() == ["Intercept", 'between(f == "a", g)']
    loaded = um.FitResult.from_json(fit.to_json())
    np.testing.assert_array_equal(loaded.predict(frame.head(3)), fit.predict(frame.head(3)))
    fit = um.fit("z ~ x + (1 | g) + offset(between(x, g))", frame, family="poisson")
    hand = um.fit("z ~ x + (1 | g) + offset(b)", by_hand(frame), family="poisson")
    np.testing.assert_allclose(fit.predict(frame), hand.predict(by_hand(frame)), rtol=SAME)


def test_pictures_hold_the_mean_of_each_level() -> None:
    frame = small()
    fit = um.fit("y ~ within(x, g) + between(x, g) + (1 | g)", frame)
    found = fit.plot.groups("x", levels=["g3"], n_draws=0, draw=False)
    line = found[found["kind"] == "partial"]
    expected = fit.predict(pd.DataFrame({"x": line["x"], "g": "g3"}))
    np.testing.assert_allclose(line["y"], expected, rtol=SAME)


# -- new data -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hybrid() -> um.FitResult:
    """A small hybrid model."""
    return um.fit("y ~ within(x, g) + between(x, g) + (1 | g)", small())


@pytest.mark.parametrize("options", [{"level": "population"}, {"new_levels": "population"}, {"new_levels": "sample"}])
def test_a_new_level_has_no_mean(hybrid: um.FitResult, options: dict[str, Any]) -> None:
    new = pd.DataFrame({"x": [1.0, 3.0, 0.0], "g": ["new", "new", "g1"]})
    with pytest.raises(DataError, match=r"no mean for levels of g that were not fitted: new\. Give the mean of x"):
        hybrid.predict(new, **options)
    with pytest.raises(DataError, match=r"new\['between\(x, g\)'\] = new.groupby\('g'\)\['x'\].transform\('mean'\)"):
        hybrid.predict(new, **options)


def test_the_line_to_type_gives_the_mean_of_the_new_rows(hybrid: um.FitResult) -> None:
    new = pd.DataFrame({"x": [1.0, 3.0], "g": "new"})
    new["between(x, g)"] = new.groupby("g")["x"].transform("mean")
    beta = np.asarray(hybrid.fixed.estimate)
    expected = beta[0] + beta[1] * np.array([-1.0, 1.0]) + beta[2] * 2.0
    np.testing.assert_allclose(hybrid.predict(new, new_levels="population"), expected, rtol=SAME)
    np.testing.assert_allclose(hybrid.predict(new.drop(columns="g"), level="population"), expected, rtol=SAME)
    at = hybrid.emmeans("x", at={"x": [1, 3], "between(x, g)": 2.0}).table["estimate"]
    np.testing.assert_allclose(at, expected, rtol=SAME)


def test_a_given_mean_stands_for_the_stored_one(hybrid: um.FitResult) -> None:
    new = small().head(3)
    moved = new.assign(**{"between(x, g)": 5.0})
    of = hybrid.model.encoding.level_means["between(x, g)"]
    beta, stored = np.asarray(hybrid.fixed.estimate), of.means[of.levels.index("g0")]
    difference = hybrid.predict(moved) - hybrid.predict(new)
    np.testing.assert_allclose(difference, (beta[2] - beta[1]) * (5.0 - stored), rtol=1e-8)


def test_missing_levels_and_means_give_missing_predictions(hybrid: um.FitResult) -> None:
    new = small().head(3)
    assert np.isnan(hybrid.predict(new.assign(g=[None, "g0", "g0"]))).tolist() == [True, False, False]
    given = new.assign(**{"between(x, g)": [np.nan, 0.0, 1.0]})
    assert np.isnan(hybrid.predict(given)).tolist() == [True, False, False]
    assert np.isnan(hybrid.predict(new.assign(x=[np.nan, 0.0, 1.0]))).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"x": [1.0]}, "lack g. between.x, g. needs the level of g, or the mean itself in a column 'between.x, g.'"),
        ({"x": [1.0], "g": ["g1"], "between(x,g)": [1.0]}, "call it 'between.x, g.', with this spacing"),
        ({"x": [1.0], "g": ["g1"], "within(x, g)": [1.0]}, "give the mean of the level in a column 'between.x, g.'"),
        ({"x": [1.0], "g": ["g1"], "between(x, g)": ["a"]}, "was numeric when the model was fitted"),
        ({"x": [1.0], "g": ["g1"], "between(x, g)": [np.inf]}, "holds infinite values"),
    ],
)
def test_new_data_that_do_not_say_the_mean_are_refused(
    hybrid: um.FitResult, frame: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        hybrid.predict(pd.DataFrame(frame), level="population")


def test_a_model_of_means_alone_needs_no_x() -> None:
    fit = um.fit("y ~ between(x, g) + (1 | g)", small())
    np.testing.assert_allclose(fit.predict({"g": ["g4"]}), fit.predict(small().query("g == 'g4'"))[:1], rtol=SAME)


def test_numbers_as_levels_are_recognised_in_any_form() -> None:
    frame = small().assign(g=lambda d: d["g"].str[1:].astype(int))
    fit = um.fit("y ~ within(x, g) + between(x, g) + (1 | g)", frame)
    loaded = um.FitResult.from_json(fit.to_json())
    for kind in (float, str):
        np.testing.assert_array_equal(loaded.predict(frame.astype({"g": kind})), fit.predict(frame))


def test_left_out_groups_are_not_predicted_with_a_mean_of_their_own() -> None:
    found = um.cross_validate(
        "y ~ within(x, g) + between(x, g) + (1 | g)", small(), split="groups", group="g", folds=3, seed=1
    )
    assert "rows without a prediction (between(x, g) has no mean for levels of g that were not fitted)" in str(found)


# -- saved results ------------------------------------------------------------------------------


def test_a_saved_result_finds_its_data_again(tmp_path: Path) -> None:
    frame = small()
    frame.loc[frame["g"] == "g3", "y"] = np.nan  # a level that no fitted row has
    fit = um.fit("y ~ f + within(x, g) + between(x, g) + (1 | g)", frame)
    asked = fit.emmeans("f").table["estimate"]
    loaded = um.FitResult.from_json(fit.to_json())
    np.testing.assert_allclose(loaded.with_data(frame).emmeans("f").table["estimate"], asked, rtol=SAME)
    whole = um.FitResult.load(fit.save(tmp_path / "fit.zip"))
    np.testing.assert_allclose(whole.emmeans("f").table["estimate"], asked, rtol=SAME)
    with pytest.raises(DataError, match="not the data that were fitted"):
        loaded.with_data(frame.assign(x=frame["x"] + 1.0))


def test_damaged_means_are_refused(hybrid: um.FitResult) -> None:
    saved = json.loads(hybrid.to_json())
    means = saved["model"]["encoding"]["level_means"]["between(x, g)"]
    means["means"] = means["means"][1:]
    with pytest.raises(DataError, match="one mean per level"):
        um.FitResult.from_json(json.dumps(saved))
    saved["model"]["encoding"]["level_means"] = {}
    with pytest.raises(DataError, match="means of levels are not those of its formula"):
        um.FitResult.from_json(json.dumps(saved)).predict(small())
    with pytest.raises(ValueError, match="one mean per level"):
        LevelMeans(factors=("g",), levels=("a", "b"), means=(1.0,))


# -- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ within(x)", "takes a numeric expression and a grouping factor"),
        ("y ~ between(x, g, f)", "takes a numeric expression and a grouping factor"),
        ("y ~ between(x, g=f)", "takes a numeric expression and a grouping factor"),
        ("y ~ between(x, log(g))", "takes a numeric expression and a grouping factor"),
        ("y ~ between(x, .)", "takes a numeric expression and a grouping factor"),
        ("within(y, g) ~ within(x, g)", "cannot stand in the response: the means of the levels are estimates"),
        ("y ~ within(between(x, g), f)", "holds between.. or within.. itself"),
        ("y ~ within(x, school)", "'school' is not a column of the data"),
    ],
)
def test_formulas_that_say_no_mean_are_refused(formula: str, message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        um.fit(formula, small())


def test_data_that_have_no_mean_are_refused() -> None:
    with pytest.raises(DataError, match="f is categorical"):
        um.fit("y ~ between(f, g)", small())
    with pytest.raises(DataError, match="does not depend on the data"):
        um.fit("y ~ between(1, g)", small())
    for name in ("between(x, g)", "within(x,g)"):
        with pytest.raises(DataError, match="leave the column out"):
            um.fit("y ~ within(x, g)", small().assign(**{name: 1.0}))
    with pytest.raises(OptionError, match="already a function of the formula language"):
        um.register_function("within", abs)


def test_rows_that_are_read_in_batches_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    small().to_parquet(path)
    with pytest.raises(DataError, match="the mean of a level needs all of its rows at once"):
        um.reduce(path, "y ~ within(x, g) + (1 | g)")
    with pytest.raises(DataError, match="depends on how often each row occurs"):
        um.collapse(path, "z ~ within(x, g) + (1 | g)", family="poisson")
    fit = um.fit("y ~ within(x, g) + between(x, g) + (1 | g)", small())
    written = pd.read_parquet(fit.predict_to(path, tmp_path / "predicted.parquet"))
    np.testing.assert_allclose(written["prediction"], fit.fitted, rtol=SAME)
