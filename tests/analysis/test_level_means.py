"""Means of the levels of a grouping factor: closed forms, intervals, families, engines, loaded results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import unimix as um


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(15), 6)
    y = 3 + rng.normal(size=15)[g] + rng.normal(size=90)
    counts = rng.poisson(np.exp(0.5 + 0.6 * rng.normal(size=15)[g]))
    return pd.DataFrame({"y": y, "n": counts, "g": [f"g{k:02d}" for k in g]})


@pytest.fixture(scope="module")
def fit(data: pd.DataFrame) -> um.FitResult:
    return um.fit("y ~ 1 + (1 | g)", data, "pls")


def test_balanced_levels_have_the_closed_form(fit: um.FitResult, data: pd.DataFrame) -> None:
    """The shrinkage of six rows is 6 tau^2 / (6 tau^2 + sigma^2); given the variances, Var(mean | y) is known, too."""
    found = fit.level_means().table
    by_level = data.groupby("g")["y"]
    assert found["raw"].to_numpy() == pytest.approx(by_level.mean().to_numpy(), rel=1e-12)
    assert found["raw_se"].to_numpy() == pytest.approx(by_level.sem().to_numpy(), rel=1e-10)
    tau2, sigma2, mu = float(fit.random[0].covariance[0, 0]), fit.sigma**2, float(fit.fixed.estimate[0])
    kept = 6 * tau2 / (6 * tau2 + sigma2)
    assert found["partial"].to_numpy() == pytest.approx((mu + kept * (found["raw"] - mu)).to_numpy(), rel=1e-9)
    assert found["population"].to_numpy() == pytest.approx(np.full(15, mu), rel=1e-9)
    # Var(mu + b | y) = kept sigma^2 / 6 + (1 - kept)^2 Var(mu), Var(mu) = (tau^2 + sigma^2 / 6) / 15
    sd = np.sqrt(kept * sigma2 / 6 + (1 - kept) ** 2 * (tau2 + sigma2 / 6) / 15)
    width = (found["upper"] - found["lower"]) / (2 * 1.959964)
    # the mean of 15 intervals from 1000 draws each: 5 standard errors of 0.03 / sqrt(15), not all independent
    assert width.mean() == pytest.approx(sd, rel=0.05)
    assert (found["rows"] == 6).all()


def test_counts_proportions_and_weights(data: pd.DataFrame) -> None:
    counts = um.fit("n ~ 1 + (1 | g)", data, "pls", family="poisson")
    found = counts.level_means().table
    assert found["raw"].to_numpy() == pytest.approx(data.groupby("g")["n"].mean().to_numpy())
    expected = np.exp(float(counts.fixed.estimate[0]) + np.asarray(counts.random[0].modes)[:, 0])
    assert found["partial"].to_numpy() == pytest.approx(expected, rel=1e-9)
    between = (found["partial"] - found["raw"]) * (found["partial"] - found["population"])
    assert (between <= 1e-6).all()  # partial pooling lies between the two
    cows = um.load_dataset("cbpp")
    herds = um.fit("cbind(incidence, size - incidence) ~ period + (1 | herd)", cows, "pls", family="binomial")
    sums = cows.groupby("herd", observed=True)[["incidence", "size"]].sum()
    shares = dict(zip(sums.index.astype(str), sums["incidence"] / sums["size"], strict=True))
    table = herds.level_means("herd").table
    assert table["raw"].tolist() == pytest.approx([shares[k] for k in table.index], abs=1e-12)


@pytest.mark.parametrize("backend", ["statsmodels", "mixedlm", "lme4", "glmmtmb", "bayes"])
def test_every_engine(backend: str, fit: um.FitResult, data: pd.DataFrame) -> None:
    other = um.fit("y ~ 1 + (1 | g)", data, backend, seed=1 if backend == "bayes" else None)
    ours, theirs = (f.level_means().table for f in (fit, other))
    # optimizers leave 1e-3; a posterior averages over the variances
    assert np.abs(ours["partial"] - theirs["partial"]).max() < (0.1 if backend == "bayes" else 5e-3)
    assert np.abs(ours["upper"] - theirs["upper"]).max() < (0.25 if backend == "bayes" else 0.02)


def test_loaded_results_and_refusals(fit: um.FitResult, data: pd.DataFrame, tmp_path: Path) -> None:
    loaded = um.FitResult.load(fit.save(tmp_path / "fit.zip"))
    pd.testing.assert_frame_equal(loaded.level_means().table, fit.level_means().table, rtol=1e-6)
    with pytest.raises(um.DataError, match="holds no data"):
        um.FitResult.from_json(fit.to_json()).level_means()
    with pytest.raises(um.DataError, match="'h' is not a grouping factor"):
        fit.level_means("h")
    with pytest.raises(um.DataError, match="no grouping factor"):
        um.fit("y ~ 1", data, "pls").level_means()
    with pytest.raises(um.OptionError, match="ci_level"):
        fit.level_means(ci_level=2)
    with pytest.raises(um.UnimixError, match=r"fit\.level_means instead of fit\.robust"):
        fit.robust().level_means()


def test_weights_that_count_copies_are_copies() -> None:
    """A row of weight 3 is three rows, in the standard error of the raw mean as well."""
    rng = np.random.default_rng(6)
    data = pd.DataFrame({"g": np.repeat(list("abcdef"), 8), "x": rng.normal(size=48), "k": rng.integers(1, 4, 48)})
    data["y"] = rng.poisson(np.exp(0.4 * data["x"] + 0.5))
    weighted = um.fit("y ~ x + (1 | g)", data, "pls", family="poisson", weights="k").level_means().table
    copied = um.fit("y ~ x + (1 | g)", data.loc[data.index.repeat(data["k"])], "pls", family="poisson")
    for column in ("raw", "raw_se", "population", "partial"):
        # two searches for the same optimum
        assert weighted[column].to_numpy() == pytest.approx(copied.level_means().table[column].to_numpy(), rel=1e-6)


def test_the_zero_inflation_is_drawn_with_the_mean() -> None:
    """A level of one row has the interval of that row's expected response, which comes from the delta method.

    Ends by 1,000 draws have a standard error of about 4 % of the half width, and the delta method is as far from them
    again. Drawing the mean without the zero inflation, which goes along with it, moved each end by 40 %.
    """
    rng = np.random.default_rng(8)
    g = np.concatenate([[0], np.repeat(np.arange(1, 13), 6)])
    x = rng.normal(size=len(g))
    y = rng.poisson(np.exp(0.2 + 0.4 * x + 0.3 * rng.normal(size=13)[g])) * (rng.random(len(g)) > 0.4)
    data = pd.DataFrame({"y": y, "x": x, "g": [f"g{k:02d}" for k in g]})
    fit = um.fit("y ~ x + (1 | g)", data, "pls", family="poisson", ziformula="~ x")
    row, found = fit.predict(interval="confidence").table.iloc[0], fit.level_means().table.iloc[0]
    assert found["partial"] == pytest.approx(row["estimate"], rel=1e-10)
    half = np.log(row["upper"] / row["lower"]) / 2
    for end in ("lower", "upper"):
        assert np.log(found[end] / row[end]) == pytest.approx(0, abs=0.15 * half)


def test_the_scale_of_a_transformed_response_is_said(data: pd.DataFrame) -> None:
    shifted = data.assign(y=data["y"] + 10.0)
    found = um.fit("log(y) ~ 1 + (1 | g)", shifted).level_means()
    assert "The response is log(y): estimates are on that scale." in found.notes
    np.testing.assert_allclose(found.table["raw"], np.log(shifted["y"]).groupby(shifted["g"]).mean(), rtol=1e-12)
    assert not any("on that scale" in note for note in um.fit("y ~ 1 + (1 | g)", data).level_means().notes)


def test_levels_at_equal_values_are_lines_of_their_coefficients() -> None:
    """The mean of a level at x is its intercept plus x times its slope; its interval is that of a prediction."""
    sleep = um.load_dataset("sleepstudy")
    fit = um.fit("Reaction ~ Days + (1 + Days | Subject)", sleep[sleep.index % 7 > 0])
    found = fit.level_means(at={"Days": 4.5})
    lines = fit.coefficients("Subject")
    expected = (lines["Intercept"] + 4.5 * lines["Days"])[found.table.index]
    np.testing.assert_allclose(found.table["partial"], expected, rtol=1e-10)
    np.testing.assert_allclose(found.table["population"], fit.fixed.estimate @ [1, 4.5], rtol=1e-10)
    assert "raw" not in found.table
    assert "All rows at Days = 4.5." in found.notes
    new = pd.DataFrame({"Days": 4.5, "Subject": found.table.index})
    exact = fit.predict(new, interval="confidence")
    # quantiles of 1000 draws at 2.5%: standard error 8% of the half width, here the largest of 36
    half = (exact["upper"] - exact["lower"]).to_numpy() / 2
    for end in ("lower", "upper"):
        assert (np.abs(found.table[end].to_numpy() - exact[end].to_numpy()) / half).max() < 0.2


def test_values_of_one_predictor_leave_the_others_as_they_are(data: pd.DataFrame) -> None:
    rng = np.random.default_rng(8)
    frame = data.assign(x=rng.normal(size=90), f=rng.permutation(list("ab") * 45))
    fit = um.fit("n ~ f + x + (1 | g)", frame, family="poisson")
    found = fit.level_means(at={"f": "b"}).table
    expected = pd.Series(fit.predict(frame.assign(f="b"))).groupby(frame["g"]).mean()
    np.testing.assert_allclose(found["partial"], expected, rtol=1e-10)
    population = pd.Series(fit.predict(frame.assign(f="b"), level="population")).groupby(frame["g"]).mean()
    np.testing.assert_allclose(found["population"], population, rtol=1e-10)
    zeros = um.fit("n ~ f + x + (1 | g)", frame, family="poisson", ziformula="~ f")
    expected = pd.Series(zeros.predict(frame.assign(f="b"))).groupby(frame["g"]).mean()
    np.testing.assert_allclose(zeros.level_means(at={"f": "b"}).table["partial"], expected, rtol=1e-10)
    shifted = um.fit("y ~ x + (1 | g)", frame, offset=np.arange(90) / 10.0).level_means(at={"x": 0.0}).table
    plain = um.fit("y ~ x + (1 | g)", frame.assign(o=np.arange(90) / 10.0), offset="o").level_means(at={"x": 0.0}).table
    np.testing.assert_allclose(shifted, plain, rtol=1e-8)


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ({"z": 1}, "'z'.* is not a predictor of this model"),
        ({"g": "g01"}, "'g'.* is not a predictor of this model"),
        ({"x": [0, 1]}, "give one value, at which all rows are set"),
        ({"x": np.nan}, "give one value, at which all rows are set"),
    ],
)
def test_values_that_are_none_are_refused(data: pd.DataFrame, at: dict[str, object], message: str) -> None:
    fit = um.fit("y ~ x + (1 | g)", data.assign(x=np.arange(90) / 90))
    with pytest.raises(um.OptionError, match=message):
        fit.level_means(at=at)
