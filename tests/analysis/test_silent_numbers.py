"""Wrong numbers that were once given without a word."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pytest

import unimix as um
from unimix.testing import simulate_rich


def test_levels_of_combinations_are_told_apart_whatever_they_are_called() -> None:
    data = pd.DataFrame({"a": ["a:b", "a", "p", 'q"'] * 10, "b": ["c", "b:c", "r", "s"] * 10})
    data["y"] = np.array([5, -5, 1, -1] * 10) + np.random.default_rng(1).normal(size=40)
    fit = um.fit("y ~ 1 + (1 | a:b)", data)
    assert fit.group_effects["a:b"].index.is_unique
    np.testing.assert_allclose(fit.predict(data), fit.fitted)
    np.testing.assert_allclose(um.FitResult.from_json(fit.to_json()).predict(data), fit.fitted)


@pytest.mark.parametrize("kind", ["datetime", "date", "polars"])
def test_dates_are_grouping_factors_and_no_silent_predictors(kind: str) -> None:
    rng = np.random.default_rng(4)
    days = pd.Series(pd.date_range("2023-12-28", periods=8)).sample(frac=1, random_state=1).repeat(6)
    data = pd.DataFrame({"day": days.to_numpy(), "x": rng.normal(size=48)})
    data["y"] = data["x"] + rng.normal(size=8).repeat(6) + rng.normal(size=48)
    text = data.assign(day=data["day"].dt.strftime("%Y-%m-%d"))
    given = {"datetime": data, "date": data.assign(day=data["day"].dt.date), "polars": pl.from_pandas(data)}[kind]
    fit = um.fit("y ~ x + (1 | day)", given)
    assert fit.random[0].levels == tuple(sorted(text["day"].unique()))
    assert um.FitResult.from_json(fit.to_json()) == fit
    np.testing.assert_allclose(fit.predict(given[:5]), fit.fitted[:5])
    assert fit.log_likelihood == pytest.approx(um.fit("y ~ x + (1 | day)", text).log_likelihood, abs=1e-9)
    assert um.fit("y ~ C(day)", given).fixed.terms[1] == "C(day)[T.2023-12-29]"
    for formula in ("y ~ day", "y ~ log(day)", "y ~ x + (day | day)", "y ~ ."):
        with pytest.raises(um.DataError, match=r"\(data\['day'\] - data\['day'\].min\(\)\).dt.days.*\(1 \| day\)"):
            um.fit(formula, given)


@pytest.mark.r
def test_large_effects_that_cancel_are_found() -> None:
    """A year and independent terms: lme4's own search ends at zero variances, 48 log-likelihood units short."""
    rng = np.random.default_rng(3)
    year, g = np.tile(np.arange(2000.0, 2010.0), 12), np.repeat(np.arange(12), 10)
    slopes = rng.normal(size=12)
    y = 10 + slopes[g] * (year - 2004.5) + rng.normal(size=120)
    data = pd.DataFrame({"y": y, "year": year, "g": g})
    for backend in ("lme4", "pymer4", "statsmodels"):
        fit = um.fit("y ~ year + (year || g)", data, backend, df_method="normal")
        # R's lmer with start = c(2000, 1) ends at -307.833.
        assert fit.log_likelihood == pytest.approx(-307.833, abs=2e-3)


def test_long_identifiers_are_not_merged() -> None:
    ids = 2**53 + np.repeat(np.arange(4), 10)
    data = {"id": ids, "y": np.random.default_rng(1).normal(size=40), "g": np.tile(np.arange(10), 4)}
    with pytest.raises(um.DataError, match="that floats cannot distinguish"):
        um.fit("y ~ C(id) + (1 | g)", data)


@pytest.mark.parametrize("unit", [1.0, 1e5, 86400e9])
def test_verdicts_and_correlations_do_not_depend_on_units(unit: float) -> None:
    data = um.load_dataset("sleepstudy")
    data = data.assign(t=data["Days"] * unit)
    fit = um.fit("Reaction ~ t + (1 + t | Subject)", data)
    assert float(fit.random[0].correlation[1, 0]) == pytest.approx(0.0656, abs=2e-4)
    block = fit.random[0]
    wrong = block.model_copy(update={"sd": block.sd * np.array([1.0, 5.0])})
    other = replace(fit, random=(wrong,), engine=fit.engine.model_copy(update={"backend": "other", "engine": "other"}))
    with pytest.raises(um.DisagreementError, match=r"a standard deviation differs by 399\.\d%"):
        um.compare(fit, other).assert_agree()


def test_the_printed_level_is_the_level() -> None:
    data = um.load_dataset("sleepstudy")
    for level, text in ((0.975, "97.5% confidence"), (0.999, "99.9% confidence")):
        assert text in str(um.fit("Reaction ~ Days + (1 | Subject)", data, ci_level=level))


def test_labelled_contrasts_are_not_applied_by_position() -> None:
    data = simulate_rich()
    matrix = pd.DataFrame({"b": [1, 0, 0], "c": [0, 1, 0]}, index=["mid", "hi", "lo"])
    with pytest.raises(um.OptionError, match="have labels"):
        um.fit("y ~ f + (1 | g)", data, contrasts={"f": matrix})
    plain = um.fit("y ~ f + (1 | g)", data, contrasts={"f": matrix.loc[["lo", "mid", "hi"]].to_numpy()})
    assert plain.converged


@pytest.mark.r
def test_same_estimates_with_other_tests_are_said_to_have_other_tests() -> None:
    data = um.load_dataset("sleepstudy")
    one = um.fit("Reaction ~ Days + (1 | Subject)", data, "lme4")
    two = um.fit("Reaction ~ Days + (1 | Subject)", data, "lme4", df_method="normal", ci_level=0.9)
    reason = um.compare(one, two).verdicts["reason"].iloc[1]
    assert "normal against satterthwaite degrees of freedom" in reason
    assert "90 % against 95 % intervals" in reason


def test_a_column_called_like_a_combination_is_refused() -> None:
    data = simulate_rich()
    data["g:h"] = data["sub"]
    with pytest.raises(um.DataError, match="both called g:h"):
        um.fit("y ~ x + (1 | g:h) + (0 + x | `g:h`)", data, "lme4")


@pytest.mark.parametrize("backend", ["lme4", "pymer4", "statsmodels"])
@pytest.mark.parametrize("size", [1e-8, 1e8])
def test_the_size_of_weights_changes_sigma_only(backend: str, size: float) -> None:
    data = simulate_rich()
    plain = um.fit("y ~ x + (1 + x | g)", data, backend, weights="w")
    scaled = um.fit("y ~ x + (1 + x | g)", data, backend, weights=data["w"].to_numpy() * size)
    assert scaled.converged
    assert scaled.sigma == pytest.approx(plain.sigma * np.sqrt(size), rel=1e-4)
    assert scaled.log_likelihood == pytest.approx(plain.log_likelihood, abs=1e-4)
    np.testing.assert_allclose(scaled.random[0].sd, plain.random[0].sd, rtol=1e-3)


@pytest.mark.r
def test_residual_degrees_of_freedom_of_a_mixed_model_are_not_passed_over() -> None:
    fit = um.fit("y ~ x + (1 | g)", simulate_rich(), "lme4", df_method="residual")
    assert "z is reported" in fit.provenance["df"]
