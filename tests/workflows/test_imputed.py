"""Pooling over imputed data sets: mice's and mitml's numbers, closed forms, and what must not change."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import unimix as um
from unimix.errors import DataError, OptionError, UnsupportedModelError
from unimix.stats.rubin import barnard_rubin_df, pool
from unimix.workflows.imputation.likelihood_ratio import log_likelihood_at

DATA = Path(__file__).parents[1] / "data"
MIXED = "y ~ x + f + (1 | g)"


@pytest.fixture(scope="module")
def r():
    """Printed by mice 3.15 and mitml 0.4-4: tests/data/imputed_r.R has the line that makes it."""
    return json.loads((DATA / "imputed_r.json").read_text())


@pytest.fixture(scope="module")
def long():
    return pd.read_csv(DATA / "imputed_frames.csv")


@pytest.fixture(scope="module")
def frames(long):
    return [part.drop(columns=".imp").reset_index(drop=True) for k, part in long.groupby(".imp") if k > 0]


@pytest.fixture(scope="module")
def mixed(frames):
    return um.fit_imputed(MIXED, frames)


@pytest.fixture(scope="module")
def z_tests(frames):
    return um.fit_imputed(MIXED, frames, df_method="normal")


@pytest.fixture(scope="module")
def linear(frames):
    return um.fit_imputed("y ~ x + f", frames)


def close(found, expected, rtol):
    np.testing.assert_allclose(np.asarray(found, dtype=float), np.asarray(expected, dtype=float), rtol=rtol)


@pytest.mark.parametrize(("fixture", "case", "rtol"), [("linear", "lm", 1e-8), ("z_tests", "mixed_infinite", 2e-5)])
def test_estimates_errors_and_fractions_are_those_of_mice(request, r, fixture, case, rtol):
    """Least squares agree to rounding; lme4's optimum is known to 1e-5 of the variances."""
    imputed, expected = request.getfixturevalue(fixture), r[case]
    table, missing = imputed.fixed_effects, imputed.missing_information
    for name in ("estimate", "std_error", "df", "p_value", "lower", "upper"):
        close(table[name], expected[name], 20 * rtol if name in ("df", "p_value") else rtol)
    for name in ("within", "between", "riv", "share", "fmi"):
        close(missing[name], expected[name], 10 * rtol)
    tidy = imputed.tidy()
    close(tidy["std.error"], expected["std_error"], rtol)
    close(tidy["lambda"], expected["share"], 10 * rtol)


def test_barnard_and_rubins_df_of_a_mixed_model_are_those_of_mice(r, mixed):
    df = barnard_rubin_df(5, np.array(r["mixed_40"]["share"]), np.full(4, 40.0))
    close(df, r["mixed_40"]["df"], 1e-9)
    # Satterthwaite's df in place of 40, the means over the fits
    each = np.mean([fit.fixed.df for fit in mixed.fits], axis=0)
    close(mixed.missing_information["df_complete"], each, 1e-6)
    close(mixed.fixed_effects["df"], barnard_rubin_df(5, mixed.missing_information["share"].to_numpy(), each), 1e-6)


def test_joint_tests_are_those_of_mitml(r, linear, z_tests, frames):
    for found, case, rtol in ((linear, "lm_d1", 1e-8), (z_tests, "mixed_d1", 5e-4)):
        row = found.anova().loc["f"]
        for name in ("F", "num_df", "den_df", "p_value", "riv"):
            close(row[name], r[case][name], rtol)
    joint = z_tests.hypotheses(["f[T.b]", "f[T.c]"], joint=True)
    close(joint["F"], r["constraint"]["F"], 5e-4)
    close(z_tests.contrasts("f", joint=True)["F"], r["constraint"]["F"], 5e-4)
    # one coefficient: D1 is the square of the pooled t
    x = linear.anova().loc["x"]
    close(
        [x["F"], x["den_df"]],
        [linear.fixed_effects.loc["x", "statistic"] ** 2, linear.fixed_effects.loc["x", "df"]],
        1e-9,
    )


def test_pooled_likelihood_ratios_are_those_of_mitml(r, linear, mixed, frames):
    smaller = um.fit_imputed("y ~ x", frames)
    mixed_smaller = um.fit_imputed("y ~ x + (1 | g)", frames)
    for small, large, case, rtol in ((smaller, linear, "lm_d3", 1e-6), (mixed_smaller, mixed, "mixed_d3", 2e-3)):
        row = um.anova(large, small).table.iloc[1]
        for name in ("F", "num_df", "den_df", "p_value", "riv"):
            close(row[name], r[case][name], rtol)
    assert "refitted by ML" in str(um.anova(mixed_smaller, mixed))
    with pytest.raises(OptionError, match="two results"):
        um.anova(mixed, mixed.fits[0])


def test_variances_are_means_as_in_mitml(r, mixed):
    table = mixed.variance_components.set_index("group")["covariance"]
    close([table["g"], table["Residual"]], [r["variances"]["g"], r["variances"]["residual"]], 1e-5)
    interval = mixed.confint("random").table
    assert (interval["lower"] < interval["estimate"]).all()
    assert (interval["estimate"] < interval["upper"]).all()
    # by hand, on the scale of the logarithm
    own = [fit.confint(parameters="sigma").table.loc["sigma"].to_numpy(dtype=float) for fit in mixed.fits]
    log, z = np.log(own), stats.norm.ppf(0.975)
    within, between = np.mean(((log[:, 2] - log[:, 1]) / (2 * z)) ** 2), np.var(log[:, 0], ddof=1)
    total = within + 1.2 * between
    reach = stats.t.ppf(0.975, 4 / (1.2 * between / total) ** 2) * np.sqrt(total)
    close(interval.loc["sigma", ["lower", "upper"]], mixed.sigma * np.exp([-reach, reach]), 1e-6)


def test_the_likelihood_at_other_parameters_is_the_dense_one(mixed):
    fit = mixed.fits[0]
    design = fit.design()
    beta, tau, sigma = fit.fixed.estimate + 0.1, 0.7, 1.3
    z = np.eye(design.blocks[0].n_levels)[design.blocks[0].codes]
    v = tau * z @ z.T + sigma**2 * np.eye(design.n)
    dense = stats.multivariate_normal.logpdf(design.y, design.x @ beta, v)
    assert log_likelihood_at(design, beta, [np.array([[tau]])], np.array([sigma])) == pytest.approx(dense, abs=1e-8)


def test_means_slopes_and_hypotheses_are_rubins_rules_of_those_of_each_fit(mixed):
    at = {"x": 0.3}
    each = [fit.emmeans("f", at=at) for fit in mixed.fits]
    tables = [one.table for one in each]
    means = mixed.emmeans("f", at=at).table
    found = pool(
        np.array([t["estimate"] for t in tables]),
        np.array([t["std_error"] for t in tables]) ** 2,
        np.array([t["df"] for t in tables]),
    )
    for name in ("estimate", "std_error", "df"):
        close(means[name], getattr(found, name), 1e-8)
    pairs = [one.contrasts(adjust="none").table for one in each]
    found = pool(*(np.array([t[n] for t in pairs]) ** p for n, p in (("estimate", 1), ("std_error", 2), ("df", 1))))
    pooled = mixed.contrasts("f", at=at, adjust="none")
    for name in ("estimate", "std_error", "df"):
        close(pooled[name], getattr(found, name), 1e-8)
    assert "Barnard-Rubin" in str(pooled)
    slope, row = mixed.slopes("x").table.iloc[0], mixed.fixed_effects.loc["x"]
    close(slope[["estimate", "std_error", "df"]], row[["estimate", "std_error", "df"]], 1e-8)
    one = mixed.hypotheses("x = 0").table.iloc[0]
    close(one[["estimate", "std_error", "p_value"]], row[["estimate", "std_error", "p_value"]], 1e-8)
    generic = mixed.pool(lambda fit: fit.emmeans("f", at=at)).table
    close(generic["std_error"], means["std_error"], 1e-8)


def test_the_grid_is_common_to_all_imputations(mixed, frames):
    centre = np.mean([frame["x"].mean() for frame in frames])
    close(mixed.emmeans("f")["estimate"], mixed.emmeans("f", at={"x": centre})["estimate"], 1e-12)
    assert "over all imputations" in str(mixed.emmeans("f"))


def test_columns_with_their_own_scale_in_each_imputation_are_pooled_at_the_same_values(frames, mixed):
    """scale(x) has other constants in every data set, but means at a value of x are those of x itself."""
    scaled = um.fit_imputed("y ~ scale(x) + f + (1 | g)", frames)
    for name in ("estimate", "std_error", "df"):
        close(scaled.emmeans("f", at={"x": 1.0})[name], mixed.emmeans("f", at={"x": 1.0})[name], 1e-6)
    close(scaled.slopes("x")["std_error"], mixed.slopes("x")["std_error"], 1e-6)


def test_predictions_pool_the_linear_predictors(mixed):
    new = pd.DataFrame({"x": [0.0, 1.0], "f": ["a", "c"], "g": [1, 2]}, index=[7, 8])
    found = mixed.predict(new, interval="confidence").table
    each = [fit.predict(new, interval="confidence").table for fit in mixed.fits]
    close(found["estimate"], np.mean([t["estimate"] for t in each], axis=0), 1e-10)
    total = np.mean([t["std_error"] ** 2 for t in each], axis=0) + 1.2 * np.var(
        [t["estimate"] for t in each], axis=0, ddof=1
    )
    close(found["std_error"], np.sqrt(total), 1e-8)
    assert list(found.index) == [7, 8]
    close(mixed.predict(new), found["estimate"], 1e-12)
    wide = mixed.predict(new, interval="prediction").table
    assert (wide["std_error"] > np.sqrt(found["std_error"] ** 2 + 1.0)).all()
    assert mixed.predict().shape == (150,)
    population = mixed.predict(new, level="population", interval="confidence").table
    means = mixed.emmeans("f", at={"x": 1.0}).table
    close(population["std_error"].iloc[1], means.loc[2, "std_error"], 1e-8)
    close(population["lower"].iloc[1], means.loc[2, "lower"], 1e-8)


def test_rows_in_another_order_have_no_pooled_predictions(frames, mixed):
    turned = um.fit_imputed(MIXED, [*frames[:-1], frames[-1].iloc[::-1]])
    close(turned.fixed_effects["estimate"], mixed.fixed_effects["estimate"], 1e-6)
    with pytest.raises(DataError, match="another order"):
        turned.predict()


def test_a_generalised_model_is_pooled_on_the_link_scale(frames):
    counts = [frame.assign(n=np.floor(np.exp(frame["y"] / 2)).clip(0, 20)) for frame in frames[:3]]
    imputed = um.fit_imputed("n ~ x + f + (1 | g)", counts, family="poisson")
    means = imputed.emmeans("f", kind="response").table
    close(means["estimate"], np.exp(imputed.emmeans("f")["estimate"]), 1e-10)
    ratio = imputed.contrasts("f", kind="response", adjust="none")
    assert "ratio" in ratio.table
    smaller = um.fit_imputed("n ~ x + (1 | g)", counts, family="poisson")
    test = um.anova(smaller, imputed).table.iloc[1]
    own = [um.anova(a, b).table.iloc[1]["chisq"] for a, b in zip(smaller, imputed, strict=True)]
    assert 0 < test["F"] * 2 * (1 + test["riv"]) <= np.mean(own) + 1e-6
    assert imputed.tidy(exponentiate=True)["estimate"].gt(0).all()
    # over the groups: the mean of exp(eta + N(0, v)) at the pooled variance
    v = imputed.variance_components["covariance"].iloc[0]
    over = imputed.emmeans("f", average="groups")
    close(over["estimate"], means["estimate"] * np.exp(v / 2), 1e-6)
    assert "as if they were known: they are pooled over the imputations" in str(over)


def test_responses_that_are_no_function_of_one_predictor_are_pooled_by_their_own():
    """Means that hold zeros, by their logarithms, and slopes over the groups: Rubin's rules of those of each fit."""
    ticks = um.load_dataset("grouseticks")
    data = [ticks, ticks.assign(TICKS=ticks["TICKS"] + (np.arange(len(ticks)) % 7 == 0))]
    zeros = um.fit_imputed("TICKS ~ YEAR + (1 | BROOD)", data, family="poisson", ziformula="~ 1", backend="pls")
    slopes = um.fit_imputed("TICKS ~ YEAR * cHEIGHT + (1 | BROOD)", data, family="poisson", backend="pls")
    groups = {"by": "YEAR", "average": "groups"}
    for pooled, each, log in (
        (zeros.emmeans("YEAR", kind="response"), [f.emmeans("YEAR", kind="response") for f in zeros.fits], True),
        (slopes.slopes("cHEIGHT", **groups), [f.slopes("cHEIGHT", **groups) for f in slopes.fits], False),
    ):
        values = np.array([one.table["estimate"] for one in each])
        errors = np.array([one.table["std_error"] for one in each])
        if log:
            values, errors = np.log(values), errors / values
        total = np.sqrt((errors**2).mean(axis=0) + 1.5 * values.var(axis=0, ddof=1))
        at = values.mean(axis=0)
        np.testing.assert_allclose(pooled.table["estimate"], np.exp(at) if log else at, rtol=1e-8)
        np.testing.assert_allclose(pooled.table["std_error"], total * (np.exp(at) if log else 1.0), rtol=1e-8)


def test_equal_data_sets_have_the_answers_of_one_fit(frames):
    imputed, single = um.fit_imputed(MIXED, [frames[0]] * 3), um.fit(MIXED, frames[0])
    table = imputed.fixed_effects
    close(table["estimate"], single.fixed_effects["estimate"], 1e-12)
    close(table["std_error"], single.fixed_effects["std_error"], 1e-9)
    df = single.fixed_effects["df"]
    close(table["df"], (df + 1) / (df + 3) * df, 1e-6)  # Barnard and Rubin's limit without missing values
    close(imputed.group_effects["g"], single.group_effects["g"], 1e-9)
    assert (imputed.missing_information["riv"].abs() < 1e-12).all()
    assert um.anova(um.fit_imputed("y ~ x + (1 | g)", [frames[0]] * 3), imputed).loc[MIXED, "riv"] == pytest.approx(
        0, abs=1e-6
    )


def test_frames_come_in_several_forms(long, frames, mixed):
    def same(other):
        close(other.fixed_effects, mixed.fixed_effects, 1e-12)

    whole = um.fit_imputed(MIXED, long)
    same(whole)
    assert "before imputation" in " ".join(whole.notes)
    renamed = long.rename(columns={".imp": "copy"}).query("copy > 0")
    same(um.fit_imputed(MIXED, renamed, imputation="copy"))
    named = um.fit_imputed(MIXED, {f"set {k}": frame for k, frame in enumerate(frames)})
    same(named)
    assert named["set 3"].fixed_effects.equals(mixed[3].fixed_effects)

    class Kernel:
        num_datasets = 5

        def complete_data(self, dataset=0, iteration=-1):
            return frames[dataset]

    same(um.fit_imputed(MIXED, Kernel()))


def test_an_imputer_of_scikit_learn_draws_the_data_sets(long):
    pytest.importorskip("sklearn")
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    holes = long[long[".imp"] == 0].drop(columns=".imp")
    imputer = IterativeImputer(sample_posterior=True, max_iter=3)
    imputed = um.fit_imputed("y ~ x + (1 | g)", imputer, data=holes, n_imputations=3, seed=2)
    again = um.fit_imputed("y ~ x + (1 | g)", imputer, data=holes, n_imputations=3, seed=2)
    close(again.fixed_effects, imputed.fixed_effects, 1e-12)
    assert (imputed.missing_information["between"] > 0).all()
    assert imputed.fits[0].n_obs == 150
    with pytest.raises(OptionError, match=r"sample_posterior=True.*\n.*data=frame"):
        um.fit_imputed("y ~ x", IterativeImputer())


def test_wrong_calls_are_refused_with_what_to_type(frames, long):
    with pytest.raises(DataError, match="two at least"):
        um.fit_imputed("y ~ x", frames[:1])
    with pytest.raises(OptionError, match="imputation='column'"):
        um.fit_imputed("y ~ x", frames[0])
    with pytest.raises(OptionError, match="no column 'imp'"):
        um.fit_imputed("y ~ x", long, imputation="imp")
    with pytest.raises(DataError, match="every imputed data set has the same rows"):
        um.fit_imputed("y ~ x", [frames[0], frames[1].iloc[:100]])
    with pytest.raises(DataError, match="different coefficients"):
        um.fit_imputed("y ~ f", [frames[0], frames[1].assign(f=frames[1]["f"].replace("c", "d"))])
    with pytest.raises(UnsupportedModelError, match="not posteriors"):
        um.fit_imputed("y ~ x + (1 | g)", frames, "bayes", seed=1)
    with pytest.raises(OptionError, match="familie"):
        um.fit_imputed("y ~ x", frames, familie="poisson")
    with pytest.raises(OptionError, match="imputer of scikit-learn"):
        um.fit_imputed("y ~ x", frames, data=frames[0])


def test_a_saved_result_answers_as_before(tmp_path, mixed):
    loaded = um.ImputedFit.load(mixed.save(tmp_path / "imputed.zip"))
    close(loaded.fixed_effects, mixed.fixed_effects, 1e-8)  # degrees of freedom are computed again
    close(loaded.emmeans("f")["std_error"], mixed.emmeans("f")["std_error"], 1e-10)
    assert loaded.labels == mixed.labels
    assert str(loaded) == str(mixed)
    with pytest.raises(DataError, match="single fit"):
        um.ImputedFit.load(mixed.fits[0].save(tmp_path / "single.zip"))
    (tmp_path / "broken.zip").write_bytes((tmp_path / "imputed.zip").read_bytes()[:-3000])
    with pytest.raises(DataError, match="damaged"):
        um.ImputedFit.load(tmp_path / "broken.zip")


def test_the_summary_says_what_was_pooled(mixed):
    text = str(mixed)
    assert "5 imputed data sets of 150 rows" in text
    assert "fmi" in text
    assert "White, Royston" in text
    assert "<table" in mixed._repr_html_()
    with pytest.raises(AttributeError, match=r"\[fit.aic for fit in imputed.fits\]"):
        _ = mixed.aic


def test_means_that_hold_zeros_are_not_taken_for_coefficients():
    """Three means and three coefficients of the counts: the means of equal data sets are those of one fit."""
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"f": list("abc") * 40, "g": np.repeat(list("uvwxyz"), 20)})
    data["y"] = rng.poisson(2, 120) * (rng.random(120) > 0.3)
    made = {"backend": "pls", "family": "poisson", "ziformula": "~ 1"}
    imputed, single = um.fit_imputed("y ~ f + (1 | g)", [data] * 2, **made), um.fit("y ~ f + (1 | g)", data, **made)
    close(
        imputed.emmeans("f", kind="response").table["estimate"],
        single.emmeans("f", kind="response").table["estimate"],
        1e-9,
    )
