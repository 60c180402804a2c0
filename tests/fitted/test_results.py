"""The result: tables, verbs, predictions, saving, honest words. One engine is enough here: the schema knows none."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.fitted.text import column, random_table
from unimix.testing import simulate_rich, simulate_slopes


@pytest.fixture(scope="module")
def fit() -> um.FitResult:
    return um.fit("Reaction ~ Days + (1 + Days | Subject)", um.load_dataset("sleepstudy"), backend="pls")


@pytest.fixture(scope="module")
def rich() -> um.FitResult:
    return um.fit("y ~ x * f + (1 + x || g) + (1 | h)", simulate_rich(), backend="pls", weights="w", offset="off")


def test_fixed_effects_are_the_printed_ones(fit: um.FitResult) -> None:
    # Bates, Maechler, Bolker & Walker (2015), table in section 1 and summary in 5.2: printed to four digits.
    table = fit.fixed_effects
    assert list(table.index) == ["Intercept", "Days"]
    assert list(table.columns) == ["estimate", "std_error", "df", "statistic", "p_value", "lower", "upper"]
    np.testing.assert_allclose(table["estimate"], [251.405, 10.467], atol=6e-4)
    np.testing.assert_allclose(table["std_error"], [6.825, 1.546], atol=6e-4)
    np.testing.assert_allclose(table["statistic"], [36.84, 6.77], atol=6e-3)
    assert fit.log_likelihood == pytest.approx(-1743.6 / 2, abs=0.03)


def test_wald_intervals_use_the_t_quantile(fit: um.FitResult) -> None:
    from scipy import stats

    row = fit.fixed_effects.loc["Days"]
    half = stats.t.ppf(0.975, row["df"]) * row["std_error"]
    assert row["upper"] - row["estimate"] == pytest.approx(half)
    assert row["p_value"] == pytest.approx(2 * stats.t.sf(row["statistic"], row["df"]))


def test_variance_components_have_lme4s_layout(fit: um.FitResult) -> None:
    table = fit.variance_components
    assert list(table.columns) == ["group", "term1", "term2", "covariance", "sdcor"]
    assert table["group"].tolist() == ["Subject", "Subject", "Subject", "Residual"]
    assert table["term1"].tolist()[:3] == ["Intercept", "Days", "Intercept"]
    assert table["term2"].tolist()[2] == "Days"
    np.testing.assert_allclose(table["sdcor"], [24.740, 5.922, 0.066, 25.592], atol=6e-4)
    np.testing.assert_allclose(table["covariance"][[0, 1, 3]], table["sdcor"][[0, 1, 3]] ** 2)
    assert table["covariance"][2] == pytest.approx(np.prod(table["sdcor"][:3]))


def test_group_effects_stand_side_by_side(rich: um.FitResult) -> None:
    assert list(rich.group_effects) == ["g", "h"]
    assert list(rich.group_effects["g"].columns) == ["Intercept", "x"]
    assert rich.group_effects["g"].shape == rich.group_effects_sd["g"].shape == (14, 2)
    with pytest.raises(um.DataError, match=r"'G' is not a grouping factor.*Did you mean 'g'"):
        rich.group_effects["G"]


def test_coefficients_are_fixed_plus_group_effects(fit: um.FitResult, rich: um.FitResult) -> None:
    table = fit.coefficients()
    np.testing.assert_allclose(table["Days"], fit.group_effects["Subject"]["Days"] + fit.fixed.estimate[1])
    with pytest.raises(um.DataError, match="Name the grouping factor"):
        rich.coefficients()
    by_h = rich.coefficients("h")
    assert list(by_h.columns) == list(rich.fixed.terms)
    assert np.ptp(by_h["x"]) == 0


def test_rows_add_up(rich: um.FitResult) -> None:
    data = simulate_rich()
    np.testing.assert_allclose(rich.fitted + rich.residuals(), data["y"])
    np.testing.assert_allclose(rich.residuals("pearson"), rich.residuals() * np.sqrt(data["w"]))
    np.testing.assert_allclose(rich.residuals("standardized"), rich.residuals("pearson") / rich.sigma)
    np.testing.assert_allclose(rich.predict(data), rich.fitted)
    np.testing.assert_allclose(rich.predict(data, level="population"), rich.predict(level="population"))
    table = rich.augment()
    assert list(table.columns) == ["y", ".fitted", ".resid", ".fixed"]
    # Of a Gaussian model they are the Pearson ones.
    np.testing.assert_allclose(rich.residuals("deviance"), rich.residuals("pearson"), rtol=1e-12)
    with pytest.raises(um.OptionError, match="pearson"):
        rich.residuals("deviant")  # type: ignore[arg-type]


def test_new_levels_are_an_error_or_the_population(fit: um.FitResult) -> None:
    new = pd.DataFrame({"Days": [0.0, 5.0, np.nan], "Subject": ["308", "nobody", "308"]})
    with pytest.raises(um.DataError, match=r"not fitted \(Subject: nobody\).*new_levels='population'"):
        fit.predict(new)
    got = fit.predict(new, new_levels="population")
    assert got[0] == pytest.approx(fit.coefficients().loc["308", "Intercept"])
    assert got[1] == pytest.approx(fit.fixed.estimate @ [1, 5])
    assert np.isnan(got[2])
    line = fit.fixed.estimate[0] + fit.fixed.estimate[1] * np.array([2, 3])
    np.testing.assert_allclose(fit.predict({"Days": [2, 3]}, level="population"), line)


def test_wrong_arguments_of_predict_are_told(fit: um.FitResult) -> None:
    with pytest.raises(um.OptionError, match="choose 'group', 'population' or a list"):
        fit.predict(level="all")  # type: ignore[arg-type]
    with pytest.raises(um.OptionError, match="choose 'error', 'population', 'sample'"):
        fit.predict(new_levels="zero")  # type: ignore[arg-type]
    with pytest.raises(um.UnimixError, match="Days"):
        fit.predict({"Subject": ["308"]})


def test_brooms_verbs(fit: um.FitResult) -> None:
    assert list(fit.tidy().columns)[:4] == ["effect", "term", "estimate", "std.error"]
    pars = fit.tidy("ran_pars")
    assert pars["term"].tolist() == ["sd__Intercept", "sd__Days", "cor__Intercept.Days", "sd__Observation"]
    values = fit.tidy("ran_vals")
    assert len(values) == 36
    coefs = fit.tidy("ran_coefs")
    assert set(coefs["term"]) == {"Intercept", "Days"}
    glance = fit.glance().iloc[0]
    assert (glance["nobs"], glance["npar"], glance["status"]) == (180, 6, "converged")
    with pytest.raises(um.OptionError, match="Did you mean 'ran_pars'"):
        fit.tidy("ran_par")  # type: ignore[arg-type]


def test_tidy_stacks_tables(fit: um.FitResult) -> None:
    both = fit.tidy(["fixed", "ran_pars"])
    assert both["effect"].tolist() == ["fixed"] * 2 + ["ran_pars"] * 4
    assert both.columns[:5].tolist() == ["effect", "group", "term", "estimate", "std.error"]
    np.testing.assert_array_equal(both["estimate"], [*fit.tidy()["estimate"], *fit.tidy("ran_pars")["estimate"]])
    assert both["std.error"].notna().tolist() == [True] * 2 + [False] * 4
    assert both["estimate"].dtype == both["conf.low"].dtype == np.float64
    everything = fit.tidy("all")
    assert everything["effect"].drop_duplicates().tolist() == ["fixed", "ran_pars", "ran_vals", "ran_coefs"]
    assert len(everything) == 2 + 4 + 36 + 36
    assert everything["level"].iloc[6] == fit.random[0].levels[0]
    assert fit.tidy(("ran_pars",)).equals(fit.tidy("ran_pars"))
    for wrong in ("ran_par", ["fixed", "ran_par"], [["fixed"]], {"a": 1}, 3, []):
        with pytest.raises(um.OptionError, match="choose fixed, ran_pars, ran_vals, ran_coefs, a list of these"):
            fit.tidy(wrong)  # type: ignore[arg-type]


def test_exponentiate_concerns_the_fixed_rows() -> None:
    fit = um.fit("incidence ~ period + (1 | herd)", um.load_dataset("cbpp"), backend="pls", family="poisson")
    table = fit.tidy(["fixed", "ran_pars"], exponentiate=True)
    plain = fit.tidy(["fixed", "ran_pars"])
    fixed = table["effect"] == "fixed"
    np.testing.assert_allclose(table.loc[fixed, "estimate"], np.exp(plain.loc[fixed, "estimate"]))
    np.testing.assert_array_equal(table.loc[~fixed, "estimate"], plain.loc[~fixed, "estimate"])


def test_residual_degrees_of_freedom_are_those_of_r(fit: um.FitResult) -> None:
    # df.residual(lmer(Reaction ~ Days + (1 + Days | Subject), sleepstudy)) is 174, of the lm it is 178.
    assert fit.glance()["df.residual"].item() == fit.criteria.df_residual == 174
    assert um.fit("Reaction ~ Days", um.load_dataset("sleepstudy")).criteria.df_residual == 178


def test_a_grouping_factor_called_residual_is_no_residual() -> None:
    data = simulate_slopes(n_groups=10).rename(columns={"g": "Residual"})
    fit = um.fit("y ~ x + (1 | Residual)", data, backend="pls")
    assert fit.tidy("ran_pars")["term"].tolist() == ["sd__Intercept", "sd__Observation"]


def test_json_round_trip_is_exact(rich: um.FitResult, tmp_path) -> None:
    assert rich.to_json(tmp_path / "fit.json", indent=1) == tmp_path / "fit.json"
    text = rich.to_json(indent=1)
    assert (tmp_path / "fit.json").read_text(encoding="utf-8") == text
    loaded = um.FitResult.from_json(tmp_path / "fit.json")
    assert loaded.to_json(indent=1) == text
    assert loaded == rich
    assert hash(loaded) == hash(rich)
    assert um.FitResult.from_json(str(tmp_path / "fit.json")) == rich
    assert loaded.native is None
    assert str(loaded) == str(rich)
    pd.testing.assert_frame_equal(loaded.fixed_effects, rich.fixed_effects)
    pd.testing.assert_frame_equal(loaded.group_effects["g"], rich.group_effects["g"])


def test_a_loaded_result_predicts_without_the_engine(rich: um.FitResult, tmp_path) -> None:
    import subprocess
    import sys

    rich.to_json(tmp_path / "fit.json")
    simulate_rich().to_csv(tmp_path / "new.csv", index=False)
    code = (
        "import sys, pandas as pd, unimix as um\n"
        "fit = um.FitResult.from_json('fit.json')\n"
        "new = pd.read_csv('new.csv')\n"
        "print(*fit.predict(new)[:3].tolist()); str(fit); fit._repr_html_(); fit.variance_components\n"
        "assert not {'rpy2', 'statsmodels', 'pymc'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose([float(v) for v in done.stdout.split()], rich.fitted[:3])


@pytest.mark.parametrize("change", ["", "{}", '{"model": 1}', "not json", "/no/such/file.json"])
def test_what_is_no_result_is_refused(change: str) -> None:
    with pytest.raises(um.DataError, match="not a saved FitResult"):
        um.FitResult.from_json(change)


def test_a_changed_or_foreign_file_is_refused(fit: um.FitResult) -> None:
    content = json.loads(fit.to_json())
    content["schema_version"] = 99
    with pytest.raises(um.DataError, match="schema version"):
        um.FitResult.from_json(json.dumps(content))
    content = json.loads(fit.to_json())
    content["surprise"] = 1
    with pytest.raises(um.DataError):
        um.FitResult.from_json(json.dumps(content))


def test_a_result_of_the_schema_before_is_refused_in_words() -> None:
    """Version 2 knew no digests of its data."""
    old = Path(__file__).parents[1] / "data" / "fit_schema_2.json"
    assert json.loads(old.read_text())["schema_version"] == 2
    with pytest.raises(um.DataError, match=r": it has schema version 2; this unimix reads 3\. Fit the model again$"):
        um.FitResult.from_json(old)


def test_a_result_shows_its_own_names_and_none_of_a_library_below_it(fit: um.FitResult) -> None:
    names = {n for n in dir(fit) if not n.startswith("_")}
    assert not {"copy", "dict", "json", "model_copy", "model_dump", "model_fields", "parse_raw", "attach"} & names
    for old, new in {"fit": "fit.criteria", "zero_check": "fit.check_zeros", "resid": "fit.residuals"}.items():
        with pytest.raises(AttributeError, match=re.escape(new)):
            getattr(fit, old)


def test_results_are_frozen(fit: um.FitResult) -> None:
    with pytest.raises(AttributeError, match="cannot assign"):
        fit.notes = ()  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        fit.fixed.estimate[0] = 0.0
    table = fit.fixed_effects
    table.loc["Days", "estimate"] = 0.0
    assert fit.fixed_effects.loc["Days", "estimate"] != 0.0


def test_text_and_notebook(fit: um.FitResult, rich: um.FitResult) -> None:
    text = str(fit)
    assert text.splitlines()[0] == (
        "Reaction ~ Days + (1 + Days | Subject) fitted by pls (REML) to 180 rows over 18 Subject: converged."
    )
    assert "95% confidence intervals, satterthwaite df" in text
    assert "0.066" in text
    assert "<table" in rich._repr_html_()
    assert repr(fit) == text.splitlines()[0]


def test_correlations_stand_as_a_lower_triangle(fit: um.FitResult) -> None:
    """As R prints them: row i has its i correlations from the first column on."""
    block = fit.random[0]
    r = np.array([[1, 0.5, -0.25, 0.125], [0.5, 1, -0.0001, 0], [-0.25, -0.0001, 1, np.nan], [0.125, 0, np.nan, 1]])
    sd = np.array([1.0, 20, 0.0126, 0.0006])
    wide = block.model_copy(update={"terms": ("a", "b", "c", "d"), "sd": sd, "unit": np.ones(4), "correlation": r})
    table = random_table(replace(fit, random=(wide,)))
    assert table.heads == ("group", "term", "sd", "corr", "", "")
    assert [row[3:] for row in table.rows] == [
        ("", "", ""),
        ("0.500", "", ""),
        ("-0.250", "0.000", ""),
        ("0.125", "0.000", "undefined"),
        ("", "", ""),
    ]
    lines = str(replace(fit, random=(wide,))).splitlines()
    assert lines == [line.rstrip() for line in lines]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.0126, 0.0006055], ["0.0126000", "0.0006055"]),
        ([251.4051, 10.4673], ["251.4051", "10.4673"]),
        ([0.5501, 0.0798], ["0.55010", "0.07980"]),
        ([15.7, -0.0, np.nan], ["15.7000", "0.0000", ""]),
        ([12345.6, 1500.0], ["12345.60", "1500.00"]),
        ([5.0, 1e-9], ["5.0000", "1.000e-09"]),  # too far apart for one number of decimals
        ([np.inf, -np.inf, 0.0], ["Inf", "-Inf", "0.0000"]),
    ],
)
def test_a_column_has_one_number_of_decimals(values: list[float], shown: list[str]) -> None:
    assert column(values) == shown


@pytest.mark.r
def test_provenance_says_whose_numbers_they_are() -> None:
    rich = um.fit("y ~ x * f + (1 + x || g) + (1 | h)", simulate_rich(), backend="lme4", weights="w", offset="off")
    assert rich.provenance["df"] == "satterthwaite by unimix, from exact derivatives at REML estimates"
    assert "by lme4; their covariances by unimix" in rich.provenance["group_effects"]
    assert "conditioning" in rich.provenance["coordinates"]
    assert "subtracted" in rich.provenance["offset"]
    assert "computed by unimix" in rich.provenance["interval"]
    assert rich.engine.versions["R"].startswith(("3.", "4.", "5."))
    assert rich.engine.call.startswith("lmer(y ~ 0 + x0")
    assert set(rich.engine.seconds) == {"design", "load", "fit", "extract"}


def test_there_are_no_draws_and_it_says_so(fit: um.FitResult) -> None:
    with pytest.raises(um.UnimixError, match="does not sample; use backend='pymc'"):
        _ = fit.posterior


def test_missing_rows_are_counted_and_placed() -> None:
    data = simulate_slopes(n_groups=10).set_index(pd.Index(range(1000, 1120)))
    data.iloc[4, 1] = np.nan
    data.iloc[7, 2] = None
    fit = um.fit("y ~ x + (1 | g)", data, backend="pls")
    assert fit.model.missing == {"x": 1, "g": 1}
    assert fit.n_obs == 118
    assert 1004 not in fit.augment().index
    assert 1007 not in fit.augment().index
    assert fit.augment().index[-1] == 1119
    assert any("2 of 120 rows dropped" in n for n in fit.notes)
    with pytest.raises(um.DataError, match="missing='raise'"):
        um.fit("y ~ x + (1 | g)", data, backend="pls", missing="raise")
