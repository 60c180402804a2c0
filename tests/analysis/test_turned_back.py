"""Transformed responses that are turned back: against emmeans, closed forms and simulation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.formula.inverse import inverse_of
from unimix.formula.parser import Reader

R: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "back_r.json").read_text())
ENDS = {"at": {"Days": [0, 9]}, "kind": "response"}


def fitted(response: str) -> um.FitResult:
    return um.fit(f"{response} ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"), "pls")


@pytest.mark.parametrize("response", R)
def test_means_and_contrasts_are_those_of_emmeans(response: str) -> None:
    """1e-6: the optima of lme4 and pls differ by 1e-8."""
    expected = R[response]
    means = fitted(response).emmeans("Days", **ENDS)
    for column in ("estimate", "std_error", "lower", "upper"):
        np.testing.assert_allclose(means.table[column], expected[column], rtol=1e-6)
    pair = means.contrasts().table.iloc[0]
    if response in ("log(Reaction)", "log10(Reaction)"):
        assert (pair["ratio"], pair["std_error"]) == pytest.approx(
            (expected["ratio"], expected["ratio_error"]), rel=1e-6
        )
        assert pair["lower"] == pytest.approx(expected["ratio_lower"], rel=1e-6)
    else:  # log(y + 1) has no ratio of y: a difference by the delta method
        found = (pair["estimate"], pair["std_error"])
        assert found == pytest.approx((expected["difference"], expected["difference_error"]), rel=1e-6)


@pytest.mark.parametrize("response", R)
def test_adjusted_means_are_means_of_the_response(response: str) -> None:
    """The exact mean of the normal distribution: emmeans has its second-order expansion, exact for squares only, and
    off by exp(s^2 / 2) - (1 + s^2 / 2) = 8e-5 for the logarithms.
    """
    expected, fit = R[response], fitted(response)
    found = fit.emmeans("Days", bias_adjust=True, **ENDS).table["estimate"]
    np.testing.assert_allclose(found, expected["adjusted"], rtol=1e-7 if response == "sqrt(Reaction)" else 1.2e-4)
    given = fit.emmeans("Days", bias_adjust=expected["sd"], **ENDS).table["estimate"]
    np.testing.assert_allclose(found, given, rtol=1e-6)
    eta = fit.emmeans("Days", at={"Days": [0, 9]}).table["estimate"].to_numpy()
    if response == "log(Reaction)":
        np.testing.assert_allclose(found, np.exp(eta + expected["sd"] ** 2 / 2), rtol=1e-6)


def test_ratios_of_logarithms_do_not_depend_on_base_or_unit() -> None:
    tables = [
        fitted(response).emmeans("Days", **ENDS).contrasts().table
        for response in ("log(Reaction)", "log10(Reaction)", "log2(Reaction)", "log(Reaction / 1000)")
    ]
    for other in tables[1:]:
        pd.testing.assert_frame_equal(other, tables[0], rtol=1e-6)


def test_predictions_are_turned_back_on_request() -> None:
    fit = fitted("log(Reaction)")
    np.testing.assert_array_equal(fit.predict(), fit.fitted)  # the response as it was fitted
    np.testing.assert_allclose(fit.predict(kind="response"), np.exp(fit.fitted), rtol=1e-12)
    np.testing.assert_allclose(
        fit.predict(kind="response", bias_adjust=True), np.exp(fit.fitted + fit.sigma**2 / 2), rtol=1e-10
    )
    new = {"Days": [0, 9]}
    for interval in ("confidence", "prediction"):
        given = {"level": "population", "interval": interval}
        plain, back = fit.predict(new, **given).table, fit.predict(new, kind="response", **given).table
        for column in ("estimate", "lower", "upper"):
            np.testing.assert_allclose(back[column], np.exp(plain[column]), rtol=1e-12)
        np.testing.assert_allclose(back["std_error"], plain["std_error"] * np.exp(plain["estimate"]), rtol=1e-12)
    # quantiles of responses are not adjusted, their mean is; what is left out of the prediction counts
    adjusted = fit.predict(new, level="population", interval="prediction", kind="response", bias_adjust=True).table
    pd.testing.assert_series_equal(adjusted["upper"], back["upper"])
    total = fit.sigma**2 + float(fit.random[0].covariance[0, 0])
    np.testing.assert_allclose(adjusted["estimate"], back["estimate"] * np.exp(total / 2), rtol=1e-8)
    loaded = um.FitResult.from_json(fit.to_json())
    np.testing.assert_allclose(loaded.predict(new, level="population", kind="response"), back["estimate"])


def test_the_adjusted_mean_is_the_mean_of_simulated_responses() -> None:
    """One new response of each of 200,000 new subjects: four standard errors of their mean."""
    fit = um.fit("sqrt(Reaction) ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"), "pls")
    rng, n = np.random.default_rng(5), 200_000
    eta = float(fit.emmeans("Days").table["estimate"].iloc[0])
    made = (eta + rng.normal(0, fit.random[0].sd[0], n) + rng.normal(0, fit.sigma, n)) ** 2
    found = float(fit.emmeans("Days", kind="response", bias_adjust=True).table["estimate"].iloc[0])
    assert abs(found - made.mean()) < 4 * made.std() / np.sqrt(n)


def test_one_variance_is_needed_for_all_rows() -> None:
    """Random slopes and weights give rows variances of their own; so do levels that were not fitted."""
    sleep = um.load_dataset("sleepstudy").assign(w=lambda d: 1.0 + d["Days"] % 2)
    slopes = um.fit("log(Reaction) ~ Days + (Days | Subject)", sleep)
    with pytest.raises(um.UnsupportedModelError, match=r"random slopes over Subject do not give.*bias_adjust=0.3"):
        slopes.emmeans("Days", kind="response", bias_adjust=True)
    own = slopes.predict(sleep.head(2), kind="response", bias_adjust=True)  # the group effects are part of the mean
    np.testing.assert_allclose(own, np.exp(slopes.fitted[:2] + slopes.sigma**2 / 2), rtol=1e-10)
    weighted = um.fit("log(Reaction) ~ Days + (1 | Subject)", sleep, weights="w")
    with pytest.raises(um.UnsupportedModelError, match="which weights= do not give"):
        weighted.predict(sleep.head(2), kind="response", bias_adjust=True)
    plain = um.fit("log(Reaction) ~ Days + (1 | Subject)", sleep)
    for choice in ("population", "sample"):
        with pytest.raises(um.OptionError, match="levels that were not fitted"):
            plain.predict(
                {"Days": [0], "Subject": ["new"]},
                kind="response",
                bias_adjust=True,
                new_levels=choice,  # type: ignore[arg-type]
            )


@pytest.mark.parametrize(
    "text",
    [
        "log(y)", "log2(y / 3)", "log10(2 * y)", "log1p(y)", "sqrt(y)", "sqrt(y - 1)", "exp(y / 9)", "y^2", "y**0.5",
        "y^(1/3)", "y^-1", "1 / y", "-1000 / y", "3 - y", "-log(y) * 2", "logit(y / 20)", "log(y / (1 - y))", "I(y^3)",
        "2 * sqrt(y + 3) - 1",
    ],
)  # fmt: skip
def test_inverses_undo_their_functions(text: str) -> None:
    from unimix.design.evaluate import Environment, evaluate
    from unimix.design.typed_columns import read_columns

    node = Reader(text).expression(1)
    y = np.linspace(0.2, 0.9, 7) if "1 - y" in text else np.linspace(2.0, 9.0, 7)
    t = np.asarray(evaluate(node, Environment(read_columns({"y": y}, ["y"]))), dtype=float)
    found = inverse_of(node)
    assert found is not None
    np.testing.assert_allclose(found.value(t), y, rtol=1e-12)
    step = 1e-6 * np.abs(t)
    numeric = (found.value(t + step) - found.value(t - step)) / (2 * step)
    np.testing.assert_allclose(found.slope(t), numeric, rtol=1e-5)


@pytest.mark.parametrize("text", ["scale(y)", "abs(y)", "y + z", "sin(y)", "log(y) + y", "y^0", "2^y"])
def test_other_functions_have_none(text: str) -> None:
    assert inverse_of(Reader(text).expression(1)) is None


def test_what_cannot_be_turned_back_is_refused() -> None:
    data = um.load_dataset("sleepstudy").assign(centred=lambda d: d["Reaction"] - 300)
    square = um.fit("centred^2 ~ Days + (1 | Subject)", data, "pls")
    with pytest.raises(um.OptionError, match=r"centred cannot be told from centred"):
        square.emmeans("Days", kind="response")
    with pytest.raises(um.DataError, match="with_data"):
        um.FitResult.from_json(square.to_json()).predict({"Days": [1]}, level="population", kind="response")
    scaled = um.fit("scale(Reaction) ~ Days + (1 | Subject)", data, "pls")
    with pytest.raises(um.OptionError, match=r"how scale\(Reaction\) is turned back is not known"):
        scaled.predict(kind="response")
    plain = um.fit("Reaction ~ Days + (1 | Subject)", data, "pls")
    with pytest.raises(um.OptionError, match="bias_adjust= is for a transformed response"):
        plain.emmeans("Days", kind="response", bias_adjust=True)
    with pytest.raises(um.OptionError, match="bias_adjust=-1: give True, or the standard deviation"):
        fitted("log(Reaction)").predict(kind="response", bias_adjust=-1)
    with pytest.raises(um.DataError, match="the mean of Reaction does not exist"):
        fitted("1 / Reaction").emmeans("Days", kind="response", bias_adjust=1.0)


def test_a_falling_function_keeps_the_order_of_the_ends() -> None:
    fit = fitted("1 / Reaction")
    table = fit.emmeans("Days", **ENDS).table
    assert (table["lower"] < table["estimate"]).all()
    assert (table["estimate"] < table["upper"]).all()
    # an interval of a square root that reaches below zero ends at zero, not at the square of its negative end
    data = pd.DataFrame({"y": [0.0, 0.1, 0.0, 0.4, 0.2, 3.0], "x": list("aaabbb")})
    low = um.fit("sqrt(y) ~ x", data, "pls").emmeans("x", kind="response").table
    assert low["lower"].iloc[0] == 0


def test_a_posterior_is_turned_back_by_its_draws() -> None:
    engine = um.backends.Bayes(draws=100)
    fit = um.fit("log(distance) ~ age + (1 | Subject)", um.load_dataset("orthodont"), engine, seed=1)
    plain, back = fit.emmeans("age").table, fit.emmeans("age", kind="response").table
    np.testing.assert_allclose(back["lower"], np.exp(plain["lower"]), rtol=1e-10)
    np.testing.assert_allclose(back["estimate"], np.exp(plain["estimate"]), rtol=1e-3)  # the draws' SD is 2%


@pytest.fixture(scope="module")
def posterior() -> tuple[um.FitResult, pd.DataFrame]:
    rng = np.random.default_rng(8)
    g, x = np.repeat(np.arange(8), 6), rng.normal(size=48)
    data = pd.DataFrame({"x": x, "g": [f"g{i}" for i in g]})
    data["y"] = np.exp(0.4 * x + 0.6 * rng.normal(size=8)[g] + 0.5 * rng.normal(size=48))
    return um.fit("log(y) ~ x + (1 | g)", data, "bayes", seed=1), data


def test_a_posterior_is_turned_back_draw_by_draw(posterior: tuple[um.FitResult, pd.DataFrame]) -> None:
    """Means of exp over the draws, not exp of their mean; marginal means and predictions give the same."""
    fit, _ = posterior
    draws = fit.draws(fit.status.n_draws or 1)
    new = pd.DataFrame({"x": [-1.0, 2.0], "g": ["g1", "g5"]})
    eta = draws.beta @ np.column_stack([np.ones(2), new["x"]]).T
    means = fit.emmeans("x", at={"x": [-1, 2]}, kind="response").table
    flat = fit.predict(new, level="population", kind="response")
    np.testing.assert_allclose(flat, np.exp(eta).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(flat, means["estimate"], rtol=1e-12)
    table = fit.predict(new, level="population", kind="response", interval="confidence").table
    np.testing.assert_allclose(table["std_error"], np.exp(eta).std(axis=0, ddof=1), rtol=1e-12)
    for column in ("estimate", "std_error", "lower", "upper"):  # 1e-5: quantiles lie between two draws
        np.testing.assert_allclose(table[column], means[column], rtol=1e-5)
    own = eta + draws.effects[0][:, [1, 5], 0]
    np.testing.assert_allclose(fit.predict(new, kind="response"), np.exp(own).mean(axis=0), rtol=1e-12)
    missing = fit.predict(new.assign(x=[np.nan, 2.0]), kind="response")
    assert np.isnan(missing[0])
    assert missing[1] == pytest.approx(np.exp(own[:, 1]).mean())


def test_means_of_a_posterior_have_the_variances_of_each_draw(posterior: tuple[um.FitResult, pd.DataFrame]) -> None:
    """E exp(eta + s Z) = exp(eta + s^2 / 2) with s^2 = sigma^2 + sd^2 of each draw; of the residual alone for a group.

    1e-9: quadrature with 61 nodes.
    """
    fit, _ = posterior
    draws = fit.draws(fit.status.n_draws or 1)
    sigma2, between = draws.parameters[:, 0] ** 2, draws.covariances[0][:, 0, 0]
    means = np.exp(draws.beta @ [1, 0.5] + (sigma2 + between) / 2)
    found = fit.emmeans("x", at={"x": 0.5}, kind="response", bias_adjust=True)
    row = found.table.iloc[0]
    assert row["estimate"] == pytest.approx(means.mean(), rel=1e-9)
    assert row["std_error"] == pytest.approx(means.std(ddof=1), rel=1e-9)
    np.testing.assert_allclose(row[["lower", "upper"]].to_numpy(float), np.quantile(means, [0.025, 0.975]), rtol=1e-9)
    assert "within each draw" in str(found)
    new = {"x": [0.5], "g": ["g2"]}
    own = np.exp(draws.beta @ [1, 0.5] + draws.effects[0][:, 2, 0] + sigma2 / 2)
    table = fit.predict(new, kind="response", bias_adjust=True, interval="confidence").table.iloc[0]
    assert table["estimate"] == pytest.approx(own.mean(), rel=1e-9)
    assert table["upper"] == pytest.approx(np.quantile(own, 0.975), rel=1e-9)
    strange = {"x": [0.5], "g": ["new"]}
    drawn = fit.predict(strange, kind="response", new_levels="sample", interval="confidence", seed=3).table.iloc[0]
    assert drawn["upper"] / drawn["lower"] > table["upper"] / table["lower"]


def test_errors_of_means_hold_those_of_the_variances() -> None:
    """var(log m) = V + var(sigma^2) / 4, var(sigma^2) = 2 sigma^4 / f, of a model without groups: a closed form."""
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"y": np.exp(1 + 0.8 * rng.normal(size=25))})
    fit = um.fit("log(y) ~ 1", data)
    row = fit.emmeans((), kind="response", bias_adjust=True).table.iloc[0]
    sigma2 = np.log(data["y"]).var(ddof=1)
    v, extra = sigma2 / 25, 2 * sigma2**2 / 24 / 4
    mean = np.exp(np.log(data["y"]).mean() + sigma2 / 2)
    assert row["estimate"] == pytest.approx(mean, rel=1e-9)
    assert row["std_error"] == pytest.approx(mean * np.sqrt(v + extra), rel=1e-6)
    assert row["df"] == pytest.approx(24 * ((v + extra) / v) ** 2, rel=1e-6)
    known = fit.emmeans((), kind="response", bias_adjust=float(np.sqrt(sigma2))).table.iloc[0]
    assert known["std_error"] == pytest.approx(mean * np.sqrt(v), rel=1e-6)
