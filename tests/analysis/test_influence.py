"""Influence of rows and of levels: against generalised least squares without them, R, and refits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.likelihood.response import row_log_likelihood
from unimix.stats import influence as downdating
from unimix.stats.influence import deletions, linearise

R: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "summaries_r.json").read_text(encoding="utf-8"))[
    "influence"
]


def covariance(fit: um.FitResult, weight: np.ndarray) -> np.ndarray:
    """V, shape (n, n)."""
    design = fit.design()
    found = np.diag(1 / weight)
    for block, part in zip(design.blocks, fit.random, strict=True):
        z = np.zeros((design.n, block.n_levels * block.q))
        for j in range(block.q):
            z[np.arange(design.n), block.codes * block.q + j] = block.z[:, j]
        found += z @ np.kron(np.eye(block.n_levels), part.covariance) @ z.T
    return found


def without(fit: um.FitResult, sets: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Estimates and their covariance by generalised least squares, first of all rows, then without each set."""
    design = fit.design()
    rows = row_log_likelihood(design, fit.dispersion_parameters, fit.rows.linear_predictor)
    v = covariance(fit, rows.expected)
    y = fit.rows.linear_predictor + rows.score / rows.expected
    y = y if design.offset is None else y - design.offset
    found = []
    for left in [np.empty(0, dtype=int), *sets]:
        kept = np.setdiff1d(np.arange(design.n), left)
        inverse = np.linalg.inv(v[np.ix_(kept, kept)])
        gram = design.x[kept].T @ inverse @ design.x[kept]
        found.append((np.linalg.solve(gram, design.x[kept].T @ inverse @ y[kept]), np.linalg.inv(gram)))
    return found


def agrees(fit: um.FitResult, by: str | None) -> None:
    """1e-8: both are exact, and V is well-conditioned."""
    blocks = fit.design().blocks
    codes = np.arange(fit.n_obs) if by is None else next(b.codes for b in blocks if b.group == by)
    found = fit.influence(by)
    (beta, cov), *others = without(fit, [np.flatnonzero(codes == k) for k in range(len(found.table))])
    change = np.array([b - beta for b, _ in others])
    np.testing.assert_allclose(found.dfbetas, -change / np.sqrt(np.diag(cov)), atol=1e-8)
    np.testing.assert_allclose(found.estimates, fit.fixed.estimate + change, rtol=1e-8, atol=1e-8)
    distance = np.einsum("mi,ij,mj->m", change, np.linalg.inv(cov), change) / len(beta)
    np.testing.assert_allclose(found.table["cooks_distance"], distance, atol=1e-8)
    ratio = [np.linalg.det(c) / np.linalg.det(cov) for _, c in others]
    np.testing.assert_allclose(found.table["covratio"], ratio, rtol=1e-8)
    surprise = [
        d @ np.linalg.pinv(c - cov, rcond=1e-9, hermitian=True) @ d for d, (_, c) in zip(change, others, strict=True)
    ]
    np.testing.assert_allclose(found._deletions.surprise, surprise, rtol=1e-5, atol=1e-8)


MODELS = [
    ("sleepstudy", "Reaction ~ Days + (Days | Subject)", (None, "Subject")),
    ("sleepstudy", "Reaction ~ Days + (Days || Subject)", (None, "Subject")),
    ("penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", (None, "plate", "sample")),
    ("pastes", "strength ~ 1 + (1 | batch/cask)", (None, "batch", "cask:batch")),
]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("name", "formula", "by"), MODELS, ids=[m[1] for m in MODELS])
def test_downdating_is_least_squares_without_the_rows(name: str, formula: str, by: Any, weighted: bool) -> None:
    data = um.load_dataset(name)
    weights = np.random.default_rng(1).uniform(0.5, 2, len(data)) if weighted else None
    fit = um.fit(formula, data, "pls", weights=weights, df_method="normal")
    for group in by:
        agrees(fit, group)


def test_offsets_slopes_of_crossed_factors_and_singular_fits() -> None:
    rng = np.random.default_rng(2)
    data = pd.DataFrame(rng.integers(0, [7, 9], (80, 2)), columns=["g", "h"]).astype(str)
    data["x"] = rng.normal(1000, 1, 80)  # a large mean
    data["y"] = data["x"] + rng.normal(size=7)[data["g"].astype(int)] + rng.normal(size=80)
    fit = um.fit("y ~ x + (1 + x | g) + (1 | h)", data, "pls", offset=rng.normal(size=80), df_method="normal")
    assert fit.singular
    for by in (None, "g", "h"):
        found = fit.influence(by)
        (beta, _), *others = without(fit, _sets(fit, by))
        change = np.array([b - beta for b, _ in others])
        # x'x is ill-conditioned in the reference: 1e-4 of a standard error.
        np.testing.assert_allclose(found.dfbetas, -change / fit.fixed.std_error, atol=1e-4)


def _sets(fit: um.FitResult, by: str | None) -> list[np.ndarray]:
    codes = np.arange(fit.n_obs) if by is None else next(b.codes for b in fit.design().blocks if b.group == by)
    return [np.flatnonzero(codes == k) for k in range(codes.max() + 1)]


def test_generalised_models_are_linearised() -> None:
    cbpp, ticks = um.load_dataset("cbpp"), um.load_dataset("grouseticks").head(150)
    herds = um.fit("cbind(incidence, size - incidence) ~ period + (1 | herd)", cbpp, "pls", family="binomial")
    counts = um.fit("TICKS ~ cHEIGHT + (1 | BROOD)", ticks, "pls", family="negative_binomial")
    for fit, group in ((herds, "herd"), (counts, "BROOD")):
        agrees(fit, None)
        agrees(fit, group)
        assert "One-step" in str(fit.influence(group))


def test_rows_of_a_linear_model_are_rs() -> None:
    sleep = um.load_dataset("sleepstudy")
    fit = um.fit("Reaction ~ Days", sleep, "pls", weights=np.linspace(0.5, 2, len(sleep)))
    found, expected = fit.influence(), R["lm"]
    np.testing.assert_allclose(found.table["cooks_distance"], expected["cooks"], atol=1e-10)
    np.testing.assert_allclose(found.table["cooks_conditional"], expected["cooks"], atol=1e-10)
    np.testing.assert_allclose(found.dfbetas, expected["dfbetas"], atol=1e-10)
    np.testing.assert_allclose(found.table["covratio"], expected["covratio"], rtol=1e-9)
    np.testing.assert_allclose(found.table["leverage"], expected["hat"], atol=1e-10)
    assert found.method == "least squares"


def test_one_step_of_a_generalised_linear_model_is_rs() -> None:
    """1e-5: glm() stops early."""
    fit = um.fit("cbind(incidence, size - incidence) ~ period", um.load_dataset("cbpp"), "pls", family="binomial")
    found, expected = fit.influence(), R["glm"]
    np.testing.assert_allclose(found.table["cooks_distance"], expected["cooks"], atol=1e-5)
    np.testing.assert_allclose(found.table["leverage"], expected["hat"], atol=1e-6)
    changes = np.asarray(fit.fixed.estimate) - found.estimates.to_numpy()
    np.testing.assert_allclose(changes, expected["coefficients"], atol=1e-5)


def test_conditional_distances_are_lme4s() -> None:
    """1e-5: lme4's optimum."""
    fit = um.fit("Reaction ~ Days + (Days | Subject)", um.load_dataset("sleepstudy"), "pls")
    np.testing.assert_allclose(fit.influence().table["cooks_conditional"], R["lmer"]["cooks"], atol=1e-5)


def test_the_approximations_lie_near_refits() -> None:
    """Held covariance parameters move the changes by less than 0.15 standard errors here."""
    sleep = um.load_dataset("sleepstudy")
    fit = um.fit("Reaction ~ Days + (Days | Subject)", sleep, "pls", df_method="normal")
    found = fit.influence("Subject")
    for subject in ("308", "309", "335"):
        again = um.fit(fit.formula, sleep[sleep["Subject"].astype(str) != subject], "pls", df_method="normal")
        gap = found.estimates.loc[subject] - again.fixed_effects["estimate"]
        assert (np.abs(gap) < 0.15 * fit.fixed.std_error).all()


def test_the_changes_have_the_variance_that_the_model_gives_them() -> None:
    """300 data sets at the true covariances: p values below 0.1 occur that often, within 4 binomial errors."""
    rng = np.random.default_rng(8)
    fit = um.fit("Reaction ~ Days + (Days | Subject)", um.load_dataset("sleepstudy"), "pls", df_method="normal")
    design = fit.design()
    root = np.linalg.cholesky(covariance(fit, np.full(180, fit.sigma**-2)))
    low = 0
    for _ in range(300):
        own = replace(design, y=root @ rng.normal(size=180))
        model = linearise(own, np.zeros(180), (np.asarray(fit.random[0].covariance),), np.array([fit.sigma]))
        found = deletions(model, design.blocks[0].codes, 18)
        low += int(found.surprise[4] > 4.605170185988092)  # chi-squared with 2 df, upper 0.1
    assert abs(low / 300 - 0.1) < 4 * np.sqrt(0.09 / 300)


def test_what_cannot_be_estimated_without_a_level_is_nan() -> None:
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"g": np.repeat(list("abcdef"), 5)})
    data["f"] = np.where(data["g"] == "a", "one", "two")
    data["y"] = rng.normal(size=6)[np.repeat(np.arange(6), 5)] + rng.normal(size=30)
    fit = um.fit("y ~ f + (1 | g)", data, "pls", df_method="normal")
    found = fit.influence("g")
    assert found.table["cooks_distance"].isna().tolist() == [True] + [False] * 5
    assert "Without a some fixed effects cannot be estimated" in str(found)
    assert fit.check().table.loc["influential levels of g", "verdict"] == "ok"


def test_large_sets_are_solved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = um.fit("Reaction ~ Days + (Days | Subject)", um.load_dataset("sleepstudy"), "pls", df_method="normal")
    plain = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"), "pls", df_method="normal")
    expected = [f.influence("Subject") for f in (fit, plain)]
    monkeypatch.setattr(downdating, "LARGE", 5)
    for f, e in zip((fit, plain), expected, strict=True):
        found = f.influence("Subject")
        np.testing.assert_allclose(found.dfbetas, e.dfbetas, atol=1e-9)
        np.testing.assert_allclose(found.table.astype(float), e.table.astype(float), rtol=1e-8)
        for name in ("lost", "surprise", "rank"):
            np.testing.assert_allclose(getattr(found._deletions, name), getattr(e._deletions, name), rtol=1e-6)


def test_many_crossed_levels() -> None:
    """10,000 rows in 1,000 and 500 crossed levels. benchmarks/analyses.py measures the time."""
    rng = np.random.default_rng(4)
    n = 10_000
    data = pd.DataFrame({"x": rng.normal(size=n), "g": rng.integers(0, 1000, n), "h": rng.integers(0, 500, n)})
    data["y"] = data["x"] + rng.normal(size=1000)[data["g"]] + rng.normal(size=500)[data["h"]] + rng.normal(size=n)
    fit = um.fit("y ~ x + (1 | g) + (1 | h)", data.astype({"g": str, "h": str}), "pls", df_method="normal")
    for by in (None, "g", "h"):
        found = fit.influence(by)
        assert np.isfinite(found.table["cooks_distance"]).all()


def test_distances_beyond_one_are_problems_and_named() -> None:
    """A lever that its own leverage hides from the test of outliers, beside an outlier without leverage."""
    rng = np.random.default_rng(0)
    g = np.arange(60) % 6
    x, e = np.r_[rng.normal(size=59), 14.0], rng.normal(size=60)
    e[[5, 59]] += 5, 3
    data = pd.DataFrame({"x": x, "y": e + rng.normal(size=6)[g], "g": g.astype(str)})
    fit = um.fit("y ~ x + (1 | g)", data, "pls", df_method="normal")
    found = fit.influence()
    distance = found.table["cooks_distance"]
    assert distance.idxmax() == 59
    assert found.table.loc[59, "leverage"] > 0.8
    assert np.flatnonzero(found.p_values * 60 < 0.01).tolist() == [5]
    row = fit.check().table.loc["influential rows"]
    assert (row["verdict"], row["value"]) == ("problem", distance.max())
    assert row["finding"].startswith("Row 59: Cook's distance")
    assert "Row 5:" in row["finding"]
    assert fit.check().table.loc["influential levels of g", "verdict"] == "look"
    few = pd.DataFrame({"x": np.arange(5.0), "y": np.random.default_rng(0).normal(size=5)})
    small = um.fit("y ~ x", few, "pls")
    assert 1 < small.influence().table["cooks_distance"].max() < 1.5
    assert small.influence().p_values.min() > 0.1
    assert small.check().table.loc["influential rows", "verdict"] == "problem"


def test_a_row_without_which_nothing_is_estimated_is_told() -> None:
    data = um.load_dataset("sleepstudy").assign(one=lambda d: (np.arange(len(d)) == 7).astype(float))
    found = um.fit("Reaction ~ Days + one", data, "pls").check().table.loc["influential rows", "finding"]
    assert "Without 7 some fixed effects cannot be estimated" in found


def test_printing_shows_the_most_affected_coefficients_and_no_noise() -> None:
    sleep = um.load_dataset("sleepstudy").assign(half=lambda d: np.repeat(["a", "b"], 90))
    found = um.fit("Reaction ~ 0 + half + half:Days", sleep, "pls").influence()
    # A row of one half leaves the line of the other where it is, to rounding.
    noise = found.dfbetas.abs().to_numpy()
    assert ((noise > 0) & (noise < 1e-10)).any()
    assert "e-1" not in str(found)
    assert "coefficients: .dfbetas has all" not in str(found)
    many = um.fit("Reaction ~ C(Days) + (1 | Subject)", sleep, "pls", df_method="normal").influence("Subject")
    first = many.table["cooks_distance"].nlargest(10).index
    largest = set(many.dfbetas.loc[first].abs().max().nlargest(5).index)
    text, page = str(many), many._repr_html_()
    shown = {c for c in many.dfbetas if f"dfbetas {c}" in text}
    assert shown == largest == {c for c in many.dfbetas if f"dfbetas {c}" in page}
    assert "The 5 most affected of 10 coefficients: .dfbetas has all." in text
    assert many.dfbetas.shape == (18, 10)


def test_names_and_labels() -> None:
    sleep = um.load_dataset("sleepstudy").set_index(pd.Index([f"r{i}" for i in range(180)]))
    fit = um.fit("Reaction ~ Days + (1 | Subject)", sleep, "pls", df_method="normal")
    assert fit.influence().table.index[0] == "r0"
    assert list(fit.influence("Subject").table.columns) == ["n", "cooks_distance", "covratio"]
    with pytest.raises(um.DataError, match="is not a grouping factor of this model"):
        fit.influence("Subjct")
    with pytest.raises(um.DataError, match="no fixed effects"):
        um.fit("Reaction ~ 0 + (1 | Subject)", sleep, "pls", df_method="normal").influence()


def test_refits_move_the_covariance_parameters_too() -> None:
    data = um.load_dataset("sleepstudy")
    fit = um.fit("Reaction ~ Days + (1 + Days | Subject)", data, "pls")
    found = fit.influence("Subject", refit=True)
    assert found.parameters is not None
    level = "308"
    alone = um.fit("Reaction ~ Days + (1 + Days | Subject)", data[data["Subject"].astype(str) != level], "pls")
    row = list(map(str, found.table.index)).index(level)
    np.testing.assert_allclose(found.estimates.iloc[row], alone.fixed.estimate, rtol=1e-7)
    assert found.parameters.iloc[row]["sigma"] == pytest.approx(alone.sigma, rel=1e-6)
    change = np.asarray(fit.fixed.estimate) - np.asarray(alone.fixed.estimate)
    expected = change @ np.linalg.solve(fit.fixed.covariance, change) / 2
    assert found.table["cooks_distance"].iloc[row] == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(found.dfbetas.iloc[row], change / alone.fixed.std_error, rtol=1e-5)
    # balanced data: the fixed effects hardly feel the covariance parameters
    held = fit.influence("Subject")
    np.testing.assert_allclose(found.estimates, held.estimates, rtol=1e-6)
    with pytest.raises(um.UnimixError, match=r"um\.refit"):
        type(fit).from_json(fit.to_json()).with_data(data).influence("Subject", refit=True)
