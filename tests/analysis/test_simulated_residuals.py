"""Simulated residuals: closed forms, calibration of p values, power against planted faults, engines, loaded results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats
from simulated_families import FAMILIES, drawn, p_values

import unimix as um
from unimix.stats.quantile_residuals import (
    kolmogorov_distance,
    kolmogorov_p,
    lag_one,
    monte_carlo_p,
    moran,
    outside,
    randomised_ranks,
)

G = np.repeat(np.arange(25), 8)


def counts(rng: np.random.Generator, *, more: float = 0.0, zeros: float = 0.0) -> pd.DataFrame:
    """25 groups of 8 counts; ``more`` is the SD of an additional effect of each row."""
    x = rng.normal(size=len(G))
    eta = 1 + 0.4 * x + 0.5 * rng.normal(size=25)[G] + more * rng.normal(size=len(G))
    y = rng.poisson(np.exp(eta)) * (rng.random(len(G)) >= zeros)
    return pd.DataFrame({"y": y, "x": x, "g": [f"g{k}" for k in G]})


@pytest.fixture(scope="module")
def sleep() -> um.FitResult:
    return um.fit("Reaction ~ Days + (Days | Subject)", um.load_dataset("sleepstudy"), "pls")


def test_statistics_agree_with_scipy_and_the_definitions() -> None:
    rng = np.random.default_rng(1)
    u = rng.random((3, 40))
    for row, distance in zip(u, kolmogorov_distance(u), strict=True):
        expected = stats.kstest(row, "uniform")
        assert distance == pytest.approx(expected.statistic, rel=1e-12)
        assert kolmogorov_p(distance, 40) == pytest.approx(expected.pvalue, rel=1e-10)
    values = rng.poisson(2.0, size=(50, 30)).astype(float)
    others = [np.delete(values, k, axis=0) for k in range(50)]
    plain = [((v < o.min(axis=0)) | (v > o.max(axis=0))).sum() for v, o in zip(values, others, strict=True)]
    assert outside(values).tolist() == plain
    ranks = randomised_ranks(values, rng)
    below = (values[None] < values[:, None]).sum(axis=1) / 50
    upto = (values[None] <= values[:, None]).sum(axis=1) / 50
    assert ((ranks >= below) & (ranks <= upto)).all()
    weights = rng.random((40, 40))
    np.fill_diagonal(weights, 0.0)
    e = u[0] - u[0].mean()
    assert moran(u, weights)[0] == pytest.approx(40 * (e @ weights @ e) / (weights.sum() * (e @ e)), rel=1e-12)
    first = np.arange(40) % 10 == 0
    c = u[0] - 0.5
    pairs = [c[i] * c[i - 1] for i in range(40) if i % 10]
    assert lag_one(u, np.arange(40), first)[0] == pytest.approx(np.mean(pairs) / np.mean(c**2), rel=1e-12)
    assert monte_carlo_p(np.array([5.0, 1, 2, 3]), "greater") == 0.25
    assert monte_carlo_p(np.array([5.0, 1, 2, 3])) == 0.5


@pytest.mark.parametrize("effects", ["new", "kept"])
def test_gaussian_residuals_are_cox_snells(sleep: um.FitResult, effects: Any) -> None:
    """For a Gaussian model the quantile residual is Phi((y - mean) / SD), and -log(1 - u) Cox and Snell's residual."""
    design, block = sleep.design(), sleep.random[0]
    if effects == "new":
        mean = design.x @ sleep.fixed.estimate
        z = design.blocks[0].z
        sd = np.sqrt(sleep.sigma**2 + np.einsum("nq,qr,nr->n", z, np.asarray(block.covariance), z))
    else:
        mean, sd = np.asarray(sleep.fitted), sleep.sigma
    exact = special.ndtr((design.y - mean) / sd)
    found = sleep.simulated_residuals(4000, effects=effects, seed=1)
    # 5 Monte Carlo standard errors of a probability of 4000 simulations, sqrt(1 / 4 / 4000) = 0.008
    assert np.abs(found.residuals - exact).max() < 0.04
    middle = exact < 0.9
    ours, cox_snell = -np.log1p(-found.residuals), -np.log1p(-exact)
    assert np.abs(ours - cox_snell)[middle].max() < 0.3  # 0.04 / (1 - 0.9) and a little curvature


def test_residuals_given_a_draw_are_independent_and_uniform() -> None:
    """y - X beta* - Z b* of one draw (beta*, b*) given y has the covariance sigma^2 I: its p values are uniform.

    50 Gaussian and 50 Poisson data sets; conservative tests (the residual variance was fitted) are only bounded above.
    """
    rng = np.random.default_rng(3)
    p: dict[str, list[list[float]]] = {"y": [], "z": []}
    for k in range(50):
        data = counts(rng).assign(z=lambda d: d["x"] + rng.normal(size=25)[G] + rng.normal(size=len(d)))
        for response, family in (("y", "poisson"), ("z", "gaussian")):
            fit = um.fit(f"{response} ~ x + (1 | g)", data, "pls", family=family, df_method="normal")
            found = fit.simulated_residuals(99, effects="drawn", seed=k)
            in_time = found.test_autocorrelation(np.arange(200)).table["p_value"].item()
            p[response].append([*found.table["p_value"].iloc[:3], in_time])
    for values in p.values():
        rates = (np.array(values) <= 0.1).mean(axis=0)
        # 0.1 and three standard errors of a share of 50, 3 sqrt(0.09 / 50) = 0.13
        assert (rates <= 0.23).all(), rates
    autocorrelation = np.concatenate([np.array(v)[:, 3] for v in p.values()])
    assert stats.kstest(autocorrelation, "uniform").pvalue > 0.01
    dispersion = np.array(p["y"])[:, 1]
    assert stats.kstest(dispersion, "uniform").pvalue > 0.001


def test_planted_faults_are_found() -> None:
    """Power: each fault is found in at least 8 of 10 data sets at the 5 % level."""
    rng, found = np.random.default_rng(4), {"dispersion": 0, "zeros": 0, "time": 0, "space": 0}
    place = np.random.default_rng(9).random((2, 200))
    distance = np.sqrt(((place[:, :, None] - place[:, None, :]) ** 2).sum(axis=0))
    near = np.linalg.cholesky(np.exp(-distance / 0.3) + 1e-9 * np.eye(200))
    for k in range(10):
        wide = um.fit("y ~ x + (1 | g)", counts(rng, more=0.7), "pls", family="poisson", df_method="normal")
        found["dispersion"] += (
            wide.simulated_residuals(effects="drawn", seed=k).table.loc["dispersion", "p_value"] <= 0.05
        )
        empty = um.fit("y ~ x + (1 | g)", counts(rng, zeros=0.25), "pls", family="poisson", df_method="normal")
        residuals = empty.simulated_residuals(effects="drawn", seed=k)
        found["zeros"] += residuals.table.loc["zeros", "p_value"] <= 0.05
        x, e = rng.normal(size=200), rng.normal(size=200)
        for t in range(1, 200):
            e[t] += 0.6 * e[t - 1]
        data = pd.DataFrame({"x": x, "y": x + e, "z": x + near @ rng.normal(size=200) + 0.3 * e})
        ordered = um.fit("y ~ x", data, "pls", df_method="normal").simulated_residuals(seed=k)
        found["time"] += ordered.test_autocorrelation(np.arange(200)).table["p_value"].item() <= 0.05
        spatial = um.fit("z ~ x", data, "pls", df_method="normal").simulated_residuals(seed=k)
        found["space"] += spatial.test_spatial(*place).table["p_value"].item() <= 0.05
    assert min(found.values()) >= 8, found


def test_the_check_has_them_and_leaves_large_data_alone(sleep: um.FitResult, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sleep.check().table.loc["simulated residuals", "verdict"] == "ok"
    wide = counts(np.random.default_rng(5), more=1.5)
    row = um.fit("y ~ x + (1 | g)", wide, "pls", family="poisson", df_method="normal").check().table
    assert row.loc["simulated residuals", "verdict"] == "problem"
    assert "fit.simulated_residuals(effects='drawn')" in row.loc["simulated residuals", "advice"]
    monkeypatch.setattr("unimix.analysis.checks.rows.MOST_SIMULATED", 100)
    assert "180 rows take a while: fit.simulated_residuals" in sleep.check().skipped["simulated residuals"]


@pytest.mark.parametrize("backend", ["statsmodels", "mixedlm", "lme4", "glmmtmb", "bayes"])
def test_every_engine_has_them(backend: str, sleep: um.FitResult) -> None:
    fit = um.fit(sleep.formula, um.load_dataset("sleepstudy"), backend, seed=1 if backend == "bayes" else None)
    ours, theirs = (f.simulated_residuals(500, seed=2).residuals for f in (sleep, fit))
    # the same estimates to 1e-3 and other random numbers: 5 standard errors of a difference of two probabilities, 0.03
    # each; a posterior has wider predictions as well
    assert np.abs(ours - theirs).max() < (0.2 if backend == "bayes" else 0.15)
    assert fit.simulated_residuals(20, effects="drawn").table.loc["uniformity", "p_value"] > 0.001


def test_loaded_results_have_them(sleep: um.FitResult, tmp_path: Path) -> None:
    loaded = um.FitResult.load(sleep.save(tmp_path / "fit.zip"))
    for effects in ("new", "drawn", "kept"):
        ours, theirs = (f.simulated_residuals(50, effects=effects, seed=1) for f in (sleep, loaded))
        # rounding of a rebuilt design may turn one rank of 51
        assert np.abs(ours.residuals - theirs.residuals).max() < 0.03
    with pytest.raises(um.DataError, match=r"fit\.with_data\(frame\)"):
        um.FitResult.from_json(sleep.to_json()).simulated_residuals()


def test_refusals_and_answers(sleep: um.FitResult) -> None:
    with pytest.raises(
        um.OptionError, match=r"n=5: .*at least 20[\s\S]*effects='kep': choose 'new', 'drawn' or 'kept'"
    ):
        sleep.simulated_residuals(5, effects="kep")  # type: ignore[arg-type]
    found = sleep.simulated_residuals(50)
    assert str(found).startswith("Simulated (quantile) residuals")
    assert "zeros" not in found.table.index
    with pytest.raises(
        um.DataError, match="170 rows have the same time as another one of their series: name the series"
    ):
        found.test_autocorrelation("Days")
    with pytest.raises(um.OptionError, match=r"time='Day' is not a column of the formula.*Days"):
        found.test_autocorrelation("Day")
    with pytest.raises(um.OptionError, match="time='Subject' must hold finite numbers"):
        found.test_autocorrelation("Subject")
    with pytest.raises(um.OptionError, match="x= has 3 values, and the data have 180 rows"):
        found.test_spatial([1, 2, 3], [1, 2, 3])
    with pytest.raises(um.DataError, match="1 places: at least 3"):
        found.test_spatial(np.zeros(180), np.zeros(180))
    days = pd.Series(pd.date_range("2020-01-01", periods=180))
    assert 0 < found.test_autocorrelation(days).table["p_value"].item() <= 1
    kept = sleep.simulated_residuals(50, effects="kept")
    assert "p values are not calibrated" in kept.notes[1]
    with pytest.raises(um.UnimixError, match=r"fit\.simulated_residuals instead of fit\.robust"):
        sleep.robust().simulated_residuals()


def test_the_picture_and_its_data(sleep: um.FitResult) -> None:
    found = sleep.simulated_residuals(50)
    data = found.plot("Days", draw=False)
    assert list(data.columns) == ["residual", "quantile", "fitted", "x"]
    assert data["x"].tolist() == um.load_dataset("sleepstudy")["Days"].tolist()
    axes = [*found.plot("Days"), *found.plot("Subject"), *found.plot()]
    assert [ax.get_xlabel() for ax in axes[1::2]] == ["Days", "Subject", "rank of the fitted values"]


@pytest.mark.parametrize(
    ("family", "effects", "n_sets"),
    [("binomial", "drawn", 20), ("negative binomial", "drawn", 20), ("cumulative", "new", 10)],
)
def test_p_values_of_right_models_are_not_small(family: str, effects: Any, n_sets: int) -> None:
    """Few data sets; tests/parity/after.py prints the shares of 40 for six families."""
    shares = (p_values(family, effects, n_sets) <= 0.1).mean()
    # 0.1 and three standard errors of a share
    assert (shares <= 0.1 + 3 * np.sqrt(0.09 / n_sets)).all(), shares


def test_a_zero_inflated_model_has_them() -> None:
    """The zero inflation is drawn with the mean: 8 data sets, 0.1 + 3 sqrt(0.09 / 8) = 0.42."""
    shares = (p_values("zero-inflated", "drawn", 8) <= 0.1).mean()
    assert (shares <= 0.42).all(), shares


@pytest.mark.parametrize(
    ("truth", "fitted", "test"),
    [
        ("heavy tails", "gaussian", "uniformity"),
        ("negative binomial", "poisson", "dispersion"),
        ("zero-inflated", "poisson", "zeros"),
        ("outliers", "poisson", "outliers"),
    ],
)
def test_wrong_families_and_outliers_are_found(truth: str, fitted: str, test: str) -> None:
    """At least 8 of 10 data sets at the 5 % level."""
    rng, found = np.random.default_rng(12), 0
    for k in range(10):
        if truth == "heavy tails":
            data = drawn(lambda rng, eta: eta + rng.standard_t(2, size=len(eta)), rng)
        elif truth == "outliers":
            data = drawn(FAMILIES["poisson"][0], rng)
            data.loc[rng.choice(200, 6, replace=False), "y"] += 15
        else:
            data = drawn(FAMILIES[truth][0], rng)
        fit = um.fit("y ~ x + (1 | g)", data, "pls", df_method="normal", **FAMILIES[fitted][1])
        found += fit.simulated_residuals(effects="drawn", seed=k).table.loc[test, "p_value"] <= 0.05
    assert found >= 8


def test_ordered_categories_are_checked_with_new_group_effects() -> None:
    data = drawn(FAMILIES["cumulative"][0], np.random.default_rng(1))
    fit = um.fit("y ~ x + (1 | g)", data, "pls", family="cumulative")
    own = fit.simulated_residuals(effects="new").table
    row = fit.check().table.loc["simulated residuals"]
    assert row["verdict"] == "ok"
    assert row["value"] == pytest.approx(own.loc["uniformity", "statistic"])
    with pytest.raises(um.UnsupportedModelError, match="joint draw of coefficients"):
        fit.simulated_residuals(effects="drawn")
