"""Smooths ``s(x)`` from the call to the tables: what is refused, and that every analysis sees the curve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.errors import DataError, FormulaError, OptionError, UnimixError, UnsupportedModelError


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    n, m = 120, 6
    x, g, arm = rng.uniform(0, 10, n), np.repeat(np.arange(m), n // m), rng.choice(["a", "b"], n)
    y = np.sin(x) + 0.3 * (arm == "b") + 0.5 * rng.normal(size=m)[g] + 0.4 * rng.normal(size=n)
    return pd.DataFrame({"x": x, "g": [f"g{k}" for k in g], "arm": arm, "y": y, "z": rng.normal(size=n)})


@pytest.fixture(scope="module")
def fit(rows: pd.DataFrame) -> um.FitResult:
    return um.fit("y ~ arm + s(x) + (1 | g)", rows)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ arm:s(x)", "cannot be part of a product"),
        ("y ~ arm * s(x)", "cannot be part of a product"),
        ("y ~ x - s(x)", "cannot be taken away"),
        ("y ~ x + (s(x) | g)", "a random term"),
        ("y ~ log(s(x))", "another call"),
        ("y ~ I(s(x) + 1)", "another call"),
        ("s(y) ~ x", "the response"),
        ("y ~ x + offset(s(x))", "the response"),
        ("y ~ s(x, z)", "one curve for each column"),
        ("y ~ s(x, by=arm)", "by= in s\\(\\) asks for a curve for each level of a factor"),
        ("y ~ s(x, fx=TRUE)", "bs\\(x\\) or ns\\(x\\)"),
        ("y ~ s(x) + s(x, k=5)", "two curves of one column"),
    ],
)
def test_a_smooth_stands_on_its_own_in_the_sum(rows: pd.DataFrame, formula: str, message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        um.fit(formula, rows)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ s(few)", "the default, needs as many different values, and there are 4 .*write k=4 or fewer"),
        ("y ~ s(few, k=6)", "k=6 needs as many different values"),
        ("y ~ s(same)", "there are 1 different value in the rows used: a smooth needs 3"),
        ("y ~ s(arm)", "categorical"),
        ("y ~ s(x, k=2)", "from 3 to 100"),
        ("y ~ s(x, k=5.5)", "whole number"),
        ("y ~ s(x, bs='cc')", "not a basis of s\\(\\)"),
        ("y ~ s(x, knots=c(1, 2))", "'knots' is not an argument of s\\(\\)"),
        ("y ~ C(few) + s(few, k=4)", "a combination of other terms"),
    ],
)
def test_data_that_do_not_allow_a_smooth_are_refused(rows: pd.DataFrame, formula: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        um.fit(formula, rows.assign(few=np.arange(len(rows)) % 4, same=2.0))


@pytest.mark.parametrize("backend", ["lme4", "glmmtmb", "statsmodels", "pymc", "bayes", "glmm", "mixedlm", "bambi"])
def test_engines_without_smooths_refuse_before_they_are_loaded(rows: pd.DataFrame, backend: str) -> None:
    with pytest.raises(UnsupportedModelError, match=r"a smooth curve, s\(x\)(.|\n)*These can: backend='pls'"):
        um.fit("y ~ s(x) + (1 | g)", rows, backend=backend)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"family": "poisson", "ziformula": "~ 1"}, "beside ziformula= is not fitted"),
        ({"family": "negative_binomial", "dispformula": "~ arm"}, "beside dispformula= is not fitted"),
        ({"residual": "cs(1 | g)"}, "beside residual="),
        ({"df_method": "kenward-roger"}, "kenward-roger.*satterthwaite"),
    ],
)
def test_models_beside_which_a_curve_is_not_fitted(rows: pd.DataFrame, arguments: dict, message: str) -> None:
    with pytest.raises((OptionError, UnsupportedModelError), match=message):
        um.fit("k ~ s(x) + (1 | g)", rows.assign(k=np.arange(len(rows)) % 5), **arguments)


@pytest.mark.parametrize(
    "analysis",
    [
        lambda f: f.robust(),
        lambda f: f.collinearity(),
        lambda f: f.effect_sizes(),
        lambda f: f.confint("profile"),
        lambda f: f.anova("I"),
        lambda f: f.plot.groups(draw=False),
        lambda f: f.plot.shrinkage(draw=False),
        lambda f: um.power(f, "arm[T.b]", n_sim=2),
        lambda f: f.hypotheses("`s(x)` = 0"),
    ],
)
def test_analyses_that_would_take_the_curve_for_fixed_effects_are_refused(fit: um.FitResult, analysis) -> None:
    with pytest.raises(UnimixError):
        analysis(fit)


def test_tables_show_the_smooth_and_hide_its_coefficients(fit: um.FitResult) -> None:
    text = fit.summary()
    assert "Smooths (edf" in text
    assert "s(x)[1]" not in text
    assert list(fit.smooth_terms.columns) == ["basis", "k", "edf", "sd", "from", "to"]
    row = fit.variance_components.set_index(["group", "term1"]).loc[("s(x)", "curve")]
    assert row["sdcor"] == fit.smooths[0].sd
    assert "effective degrees of freedom" in fit.report()
    assert "curve" in str(um.table([fit]))
    shown = fit.anova()
    assert list(shown.table.index) == ["arm"]
    assert "No row for s(x)" in str(shown)
    assert set(fit.confint().table.index) >= {"sd(curve | s(x))", "sd(Intercept | g)", "sigma"}
    assert fit.fixed_effects.loc["s(x)[1]", "p_value"] != fit.fixed_effects.loc["s(x)[1]", "p_value"]  # none


def test_tests_of_other_terms_are_those_of_the_mixed_model(fit: um.FitResult) -> None:
    row, table = fit.fixed_effects.loc["arm[T.b]"], fit.anova().table
    assert table.loc["arm", "F"] == pytest.approx(row["statistic"] ** 2)
    assert table.loc["arm", "den_df"] == pytest.approx(row["df"])
    contrast = fit.contrasts("arm").table.iloc[0]
    assert (-contrast["estimate"], contrast["df"]) == pytest.approx((row["estimate"], row["df"]))
    joint = fit.hypotheses("`arm[T.b]` = 0.1", joint=True).table.iloc[0]
    assert joint["F"] == pytest.approx(((row["estimate"] - 0.1) / row["std_error"]) ** 2)


def test_means_slopes_and_predictions_follow_the_curve(fit: um.FitResult) -> None:
    at = [1.0, 4.0, 7.5]
    predicted = fit.predict(pd.DataFrame({"x": at, "arm": "a"}), level="population", interval="confidence").table
    means = fit.emmeans("x", at={"x": at, "arm": ["a"]}).table
    np.testing.assert_allclose(means["estimate"], predicted["estimate"], atol=1e-10)
    np.testing.assert_allclose(means[["std_error", "lower", "upper"]], predicted[["std_error", "lower", "upper"]])
    ends = fit.predict(pd.DataFrame({"x": [4.0 - 1e-5, 4.0 + 1e-5], "arm": "a"}), level="population")
    slope = fit.slopes("x", at={"x": 4.0}).table["estimate"].iloc[0]
    assert slope == pytest.approx(float(np.diff(ends)[0]) / 2e-5, rel=1e-4)  # rounding of the differences
    drawn = fit.plot.population("x", draw=False)
    line = drawn[drawn["kind"] == "population"]
    assert ((line["lower"] < line["y"]) & (line["y"] < line["upper"])).all()


def test_beyond_the_data_the_curve_is_a_straight_line_and_that_is_said(fit: um.FitResult) -> None:
    for bs in ("tp", "cr", "ps"):
        own = um.fit(f"y ~ s(x, bs='{bs}')", fit.design().frame())
        ends = own.predict({"x": [11.0, 12.0, 13.0, -1.0, -2.0, -3.0]})
        assert ends[0] - 2 * ends[1] + ends[2] == pytest.approx(0, abs=1e-8)
        assert ends[3] - 2 * ends[4] + ends[5] == pytest.approx(0, abs=1e-8)
    shown = fit.predict(pd.DataFrame({"x": [5.0, 12.0], "arm": "a", "g": "g1"}), interval="confidence")
    assert "1 of 2 rows lie outside the range of x that was fitted" in str(shown)
    assert "as a straight line" in str(shown)


def test_a_saved_fit_predicts_and_certifies(fit: um.FitResult, rows: pd.DataFrame, tmp_path: Path) -> None:
    loaded = um.FitResult.from_json(fit.to_json())
    assert loaded == fit
    new = pd.DataFrame({"x": [2.0, 3.0], "arm": "b", "g": "g2"})
    np.testing.assert_array_equal(loaded.predict(new), fit.predict(new))
    again = loaded.with_data(rows)
    assert again.certificate().verdict == "certified"
    np.testing.assert_allclose(again.emmeans("arm").table["df"], fit.emmeans("arm").table["df"], rtol=1e-6)
    assert um.FitResult.load(fit.save(tmp_path / "fit.zip")).smooths[0].edf == fit.smooths[0].edf
    with pytest.raises(DataError):
        loaded.with_data(rows.assign(x=rows["x"] + 0.1))


def test_missing_values_are_left_out_before_the_basis_is_made(rows: pd.DataFrame) -> None:
    holes = rows.assign(x=rows["x"].where(np.arange(len(rows)) > 4))
    fit, short = um.fit("y ~ s(x)", holes), um.fit("y ~ s(x)", rows.iloc[5:])
    assert fit.model.n_dropped == 5
    np.testing.assert_array_equal(fit.fixed.estimate, short.fixed.estimate)
    assert np.isnan(fit.predict({"x": [1.0, np.nan]})[1])


def test_a_line_beside_the_smooth_takes_its_place(rows: pd.DataFrame) -> None:
    both, alone = um.fit("y ~ x + s(x)", rows), um.fit("y ~ s(x)", rows)
    np.testing.assert_allclose(both.fitted, alone.fitted, atol=1e-8)
    assert both.model.aliased == ("s(x)[line]",)
    assert both.smooths[0].edf == pytest.approx(alone.smooths[0].edf - 1, abs=1e-8)


def test_simulations_and_refits_keep_the_curve(fit: um.FitResult) -> None:
    drawn = fit.simulate(400, seed=1)
    centre = drawn.mean(axis=0) - fit.rows.population_predictor
    assert np.abs(centre).max() < 5 * np.sqrt((fit.sigma**2 + fit.random[0].sd[0] ** 2) / 400)
    replicates = fit.bootstrap(4, parameters=["sd(curve | s(x))", "sigma"], seed=1, progress=False)
    assert list(replicates.table.index) == ["sd(curve | s(x))", "sigma"]
    assert np.isfinite(replicates.replicates.to_numpy()).all()
    assert um.refit(fit, method="ML").model.method == "ML"


def test_a_curve_is_compared_with_a_line_by_simulation_only(fit: um.FitResult, rows: pd.DataFrame) -> None:
    line = um.fit("y ~ arm + x + (1 | g)", rows)
    compared = um.anova(line, fit)
    assert np.isnan(compared.table["p_value"].iloc[1])
    assert "um.bootstrap_test" in str(compared)
    assert um.bootstrap_test(line, fit, n=4, seed=1, progress=False).p_value == pytest.approx(0.2)
    dropped = fit.drop1()
    assert "s(x)" not in dropped.table.index
    less = um.fit("y ~ s(x) + (1 | g)", rows, method="ML")
    assert dropped.table.loc["arm", "log_likelihood"] == pytest.approx(less.log_likelihood, abs=1e-7)


def test_many_different_values_have_a_basis_of_some_of_them() -> None:
    """Above 2,000 different values the basis is made from 2,000 of them, as in mgcv, by the largest eigenvalues."""
    rng = np.random.default_rng(1)
    x = np.sort(rng.uniform(size=2500))
    y = np.sin(20 * x) + 0.1 * rng.normal(size=2500)
    fit = um.fit("y ~ s(x, k=20)", {"x": x, "y": y})
    assert np.abs(fit.fitted - np.sin(20 * x)).max() < 0.05
    # with 250 of the values all eigenvalues are computed, and the space of the curves is nearly the same
    few = um.fit("y ~ s(x, k=20)", {"x": x[::10], "y": y[::10]}).model.encoding.transform({"x": x}, with_groups=False).x
    own = fit.design().x
    assert np.abs(few @ np.linalg.lstsq(few, own)[0] - own).max() < 0.02 * np.abs(own).max()
