"""Counts with many zeros and formulas of the dispersion, as a user of pls sees them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special

import unimix as um
from unimix.result import FitResult


def counts(seed: int, groups: int = 25, size: int = 10, pi: float = 0.4) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(groups), size), rng.normal(size=groups * size)
    plain = rng.poisson(np.exp(0.9 + 0.4 * x + 0.5 * rng.normal(size=groups)[g]))
    y = np.where(rng.random(len(g)) < pi, 0, plain)
    return pd.DataFrame({"y": y, "x": x, "g": [f"g{i:02d}" for i in g], "f": np.where(x > 0, "b", "a")})


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    return counts(1)


@pytest.fixture(scope="module")
def zip_fit(data: pd.DataFrame) -> FitResult:
    return um.fit("y ~ x + (1 | g)", data, family="poisson", ziformula="~ 1")


@pytest.fixture(scope="module")
def hurdle_fit(data: pd.DataFrame) -> FitResult:
    return um.fit("y ~ x + (1 | g)", data, family="truncated_poisson", ziformula="~ x")


def test_the_truth_is_covered_as_often_as_promised() -> None:
    """95 % intervals of three coefficients in 16 data sets: 48 intervals, three standard errors of 0.031 each side."""
    held = []
    for seed in range(16):
        fit = um.fit("y ~ x + (1 | g)", counts(seed), family="poisson", ziformula="~ 1")
        truth = np.array([0.9, 0.4, special.logit(0.4)])
        lower = np.append(fit.fixed.lower, fit.parts["zero"].lower)
        upper = np.append(fit.fixed.upper, fit.parts["zero"].upper)
        held.append((lower < truth) & (truth < upper))
    assert np.mean(held) == pytest.approx(0.95, abs=0.095)


def test_a_hurdle_model_is_its_two_halves(data: pd.DataFrame, hurdle_fit: FitResult) -> None:
    """The likelihood is a product: zero or not by a logit model, and the counts above zero by the truncated family."""
    zero = um.fit("is_zero ~ x", data.assign(is_zero=(data["y"] == 0).astype(int)), family="binomial")
    above = um.fit("y ~ x + (1 | g)", data[data["y"] > 0], family="truncated_poisson")
    assert hurdle_fit.log_likelihood == pytest.approx(zero.log_likelihood + above.log_likelihood, abs=1e-7)
    assert hurdle_fit.parts["zero"].estimate == pytest.approx(zero.fixed.estimate, abs=1e-5)
    assert hurdle_fit.parts["zero"].std_error == pytest.approx(zero.fixed.std_error, rel=1e-4)
    assert hurdle_fit.fixed.estimate == pytest.approx(above.fixed.estimate, abs=1e-5)
    assert hurdle_fit.fixed.std_error == pytest.approx(above.fixed.std_error, rel=1e-4)
    assert np.abs(hurdle_fit.parts["zero"].cross_covariance).max() < 1e-8


def test_a_dispersion_by_a_column_of_ones_is_a_constant_one(data: pd.DataFrame) -> None:
    """A column of ones is the intercept under another name, and log theta is estimated instead of theta."""
    plain = um.fit("y ~ x + (1 | g)", data, family="negative_binomial")
    both = um.fit("y ~ x + (1 | g)", data.assign(one=1.0), family="negative_binomial", dispformula="~ 0 + one")
    assert both.log_likelihood == pytest.approx(plain.log_likelihood, abs=1e-6)
    assert float(np.exp(both.parts["dispersion"].estimate[0])) == pytest.approx(
        plain.criteria.parameters["theta"], rel=1e-3
    )
    assert both.fixed.std_error == pytest.approx(plain.fixed.std_error, rel=1e-4)


def test_weights_are_copies_of_rows(data: pd.DataFrame) -> None:
    small = data.iloc[:100].assign(w=np.tile([1, 2, 3, 1], 25))
    copies = small.loc[small.index.repeat(small["w"])]
    for more in ({"family": "poisson", "ziformula": "~ x"}, {"family": "truncated_poisson", "ziformula": "~ 1"}):
        weighted = um.fit("y ~ x + (1 | g)", small, weights="w", **more)
        whole = um.fit("y ~ x + (1 | g)", copies.reset_index(drop=True), **more)
        assert weighted.log_likelihood == pytest.approx(whole.log_likelihood, abs=1e-7)
        assert weighted.parts["zero"].std_error == pytest.approx(whole.parts["zero"].std_error, rel=1e-4)
        table = weighted.predict(small.head(3), interval="confidence").table
        assert table["std_error"].to_numpy() == pytest.approx(
            whole.predict(small.head(3), interval="confidence").table["std_error"].to_numpy(), rel=1e-3
        )


def test_units_and_conditioning_change_nothing(data: pd.DataFrame) -> None:
    one = um.fit("y ~ x + (1 | g)", data, family="poisson", ziformula="~ x")
    plain = um.fit("y ~ x + (1 | g)", data, um.backends.Pls(conditioning=False), family="poisson", ziformula="~ x")
    assert plain.fixed.estimate == pytest.approx(one.fixed.estimate, abs=1e-6)
    assert plain.parts["zero"].cross_covariance == pytest.approx(one.parts["zero"].cross_covariance, abs=1e-7)
    scaled = um.fit("y ~ k + (1 | g)", data.assign(k=1e4 * data["x"]), family="poisson", ziformula="~ k")
    assert scaled.parts["zero"].estimate[1] * 1e4 == pytest.approx(one.parts["zero"].estimate[1], rel=1e-5)
    binomial = data.assign(any=(data["y"] > 0).astype(int), k=100 * data["x"] + 5)
    first, second = (
        um.fit("any ~ k + (1 | g)", binomial, um.backends.Pls(conditioning=c), family="binomial") for c in (True, False)
    )
    assert first.fixed.estimate == pytest.approx(second.fixed.estimate, rel=1e-6)


def test_expected_responses_hold_the_zeros(data: pd.DataFrame, zip_fit: FitResult, hurdle_fit: FitResult) -> None:
    eta, pi = zip_fit.rows.linear_predictor, float(special.expit(zip_fit.parts["zero"].estimate[0]))
    assert zip_fit.fitted == pytest.approx((1 - pi) * np.exp(eta))
    mu = np.exp(hurdle_fit.rows.linear_predictor)
    share = 1 - np.asarray(hurdle_fit.rows.zero_probability)
    assert hurdle_fit.fitted == pytest.approx(share * mu / -np.expm1(-mu))
    for fit in (zip_fit, hurdle_fit):
        drawn = fit.simulate(200, seed=3)
        assert float((np.asarray(drawn) == 0).mean()) == pytest.approx(float((data["y"] == 0).mean()), abs=0.03)
        table = fit.predict(data.head(4), interval="confidence").table
        assert table["estimate"].to_numpy() == pytest.approx(fit.fitted[:4], rel=1e-9)
        assert ((table["lower"] > 0) & (table["lower"] < table["estimate"])).all()
        assert (fit.predict(data.head(4), interval="prediction").table["lower"] == 0).all()


def test_a_saved_hurdle_model_is_whole(data: pd.DataFrame, hurdle_fit: FitResult) -> None:
    again = um.FitResult.from_json(hurdle_fit.to_json()).with_data(data)
    assert again.certificate().verdict == "certified"
    pd.testing.assert_frame_equal(again.zero_inflation, hurdle_fit.zero_inflation)


def test_profiles_and_wald_intervals(zip_fit: FitResult) -> None:
    """The profile's ends are where the likelihood, searched with the coefficient held by an offset, falls by 1.92."""
    found = zip_fit.confint(parameters="x", method="profile").table
    data, held = counts(1), float(found["upper"].iloc[0])
    alone = um.fit("y ~ 1 + (1 | g)", data.assign(o=held * data["x"]), family="poisson", ziformula="~ 1", offset="o")
    assert 2 * (zip_fit.log_likelihood - alone.log_likelihood) == pytest.approx(3.841459, abs=1e-3)
    assert {"sd(Intercept | g)", "zero(Intercept)"} <= set(zip_fit.confint(method="wald").table.index)
    with pytest.raises(um.UnsupportedModelError, match=r"no profile of zero\(Intercept\): method='wald'"):
        zip_fit.confint(parameters="zero(Intercept)", method="profile")


def test_counts_without_extra_zeros_have_no_estimate() -> None:
    data = counts(3, pi=0.0)
    fit = um.fit("y ~ x + (1 | g)", data, family="poisson", ziformula="~ 1")
    if not fit.converged:
        assert "no zero inflation" in fit.status.messages[0]
        assert np.isinf(fit.zero_inflation["std_error"]).all()
    many = pd.DataFrame({"y": np.random.default_rng(1).poisson(5.0, 200), "g": [f"g{i % 8}" for i in range(200)]})
    fit = um.fit("y ~ 1 + (1 | g)", many, family="poisson", ziformula="~ 1")
    assert not fit.converged
    assert "no zero inflation" in fit.status.messages[0]
    assert np.isinf(fit.zero_inflation["std_error"]).all()
    assert np.isfinite(fit.fixed_effects["std_error"]).all()


@pytest.mark.parametrize(
    ("change", "arguments", "words"),
    [
        ({}, {"family": "truncated_poisson"}, "With a family without zeros ziformula= is a hurdle model"),
        ({"y": 1}, {"family": "truncated_poisson", "ziformula": "~ 1"}, "there are none: leave ziformula= out"),
        ({"y": 0}, {"family": "truncated_poisson", "ziformula": "~ 1"}, "all values are zero"),
        (
            {"y": [0.0, 0.5] * 125},
            {"family": "truncated_poisson", "ziformula": "~ 1"},
            "counts are whole numbers from 0",
        ),
        ({}, {"family": "tweedie", "dispformula": "~ x"}, "which has dispersion and power: leave it out"),
        ({}, {"family": "poisson", "dispformula": "~ x"}, "the poisson family has none: leave it out"),
        ({}, {"family": "gaussian", "dispformula": "~ 0 + x"}, "without an intercept"),
        ({}, {"family": "binomial", "ziformula": "~ 1"}, "not between 0 and 1|is for counts"),
        ({}, {"family": "zip"}, "write family='poisson', ziformula='~ 1'"),
        ({}, {"family": "zinb"}, "write family='negative_binomial', ziformula='~ 1'"),
        ({}, {"family": "hurdle"}, "write family='truncated_poisson', ziformula='~ 1'"),
        ({}, {"family": "hurdle_negbinomial"}, "family='truncated"),
        ({}, {"family": "poisson", "zi": "~ 1"}, "ziformula='~ 1'"),
    ],
)
def test_what_is_refused_says_what_to_type(
    data: pd.DataFrame, change: dict[str, Any], arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises((um.UnimixError, TypeError), match=words):
        um.fit("y ~ x + (1 | g)", data.assign(**change), "pls", **arguments)


@pytest.mark.parametrize("comparison", ["difference", "ratio", "dydx"])
def test_comparisons_hold_the_zeros(comparison: Any, data: pd.DataFrame, hurdle_fit: FitResult) -> None:
    """Estimates by plain arithmetic, standard errors by differences in the coefficients of both parts."""
    fit = um.fit("y ~ x + (1 | g)", data, family="poisson", ziformula="~ x")
    for own in (fit, hurdle_fit):
        x = data["x"].to_numpy()
        joint = np.concatenate([own.fixed.estimate, own.parts["zero"].estimate])
        cross = own.parts["zero"].cross_covariance
        covariance = np.block([[own.fixed.covariance, cross], [cross.T, own.parts["zero"].covariance]])

        def mean(at: np.ndarray, c: np.ndarray, own: FitResult = own) -> float:
            mu = np.exp(c[0] + c[1] * at)
            mu = mu / -np.expm1(-mu) if own is hurdle_fit else mu
            return float((special.expit(-(c[2] + c[3] * at)) * mu).mean())

        def value(c: np.ndarray, x: np.ndarray = x, mean: Any = mean) -> float:
            if comparison == "dydx":
                return (mean(x + 1e-4, c) - mean(x - 1e-4, c)) / 2e-4
            high, low = mean(x + 1, c), mean(x, c)
            return float(np.log(high / low)) if comparison == "ratio" else high - low

        found = own.comparisons({"x": 1} if comparison != "dydx" else "x", comparison=comparison)
        slope = np.array([(value(joint + d) - value(joint - d)) / 2e-4 for d in 1e-4 * np.eye(4)])
        # the slope is a central difference over a thousandth of the range of x
        assert found.functions.estimate[0] == pytest.approx(value(joint), rel=1e-5)
        assert found.functions.std_error[0] == pytest.approx(float(np.sqrt(slope @ covariance @ slope)), rel=1e-4)


def test_marginal_means_hold_the_zeros(data: pd.DataFrame) -> None:
    """A mean of one row of the grid is its prediction, whose errors are glmmTMB's; averages are plain arithmetic."""
    two = data.assign(h=np.where(np.arange(len(data)) % 3 == 0, "u", "v"))
    for family in ("poisson", "truncated_poisson"):
        fit = um.fit("y ~ f + h + (1 | g)", two, family=family, ziformula="~ f")
        means = fit.emmeans(["f", "h"], kind="response").table
        rows = fit.predict(means[["f", "h"]], level="population", interval="confidence").table
        for column in ("estimate", "std_error", "lower", "upper"):
            assert means[column].to_numpy() == pytest.approx(rows[column].to_numpy(), rel=1e-8)
        over_h = fit.emmeans("f", kind="response")
        plain = means.groupby("f")["estimate"].mean()
        assert over_h.table["estimate"].to_numpy() == pytest.approx(plain.to_numpy(), rel=1e-12)
        # with equal weights of h, the ratio is that of the comparison of the same rows
        grid = pd.DataFrame({"f": "a", "h": ["u", "v"]})
        ratio = fit.comparisons("f", newdata=grid, comparison="ratio").table.iloc[0]
        contrast = over_h.contrasts("revpairwise", adjust="none").table.iloc[0]
        assert contrast["ratio"] == pytest.approx(ratio["estimate"], rel=1e-10)
        assert contrast["statistic"] == pytest.approx(ratio["statistic"], rel=1e-8)


def test_a_hurdle_model_that_is_separated_says_so(data: pd.DataFrame) -> None:
    """A level with zeros only has no mean above zero, and its zeros are certain; both coefficients are named."""
    never = data.assign(k=np.where(np.arange(len(data)) % 5 == 0, "never", "some"))
    never.loc[never["k"] == "never", "y"] = 0
    fit = um.fit("y ~ k + (1 | g)", never, family="truncated_poisson", ziformula="~ k")
    assert not fit.converged
    assert "k[T.some]" in fit.status.messages[0]
    assert "k[T.some] (zero inflation)" in fit.status.messages[0]
    assert np.isinf(fit.fixed_effects.loc["k[T.some]", "std_error"])
    assert np.isinf(fit.zero_inflation.loc["k[T.some]", "std_error"])
    always = data.assign(k=np.where(data["y"] > 0, data["x"], 10.0))
    fit = um.fit("y ~ x + (1 | g)", always, family="truncated_poisson", ziformula="~ k")
    assert not fit.converged
    assert np.isfinite(fit.fixed_effects["std_error"]).all()
