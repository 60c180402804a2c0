"""What users and a distrustful statistician tried on pooling and cross-validation, and what must come of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import unimix as um
from unimix.analysis.summaries.partial_pooling import level_estimates
from unimix.distributions.family import as_family
from unimix.distributions.log_density import pointwise
from unimix.stats.predictor import expected_response, predictive_log_density

ONE: dict[str, Any] = {"backends": ["pls"], "folds": 4, "seed": 1}


def grouped(levels: int = 12, n: int = 8, seed: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(levels), n)
    x = rng.normal(size=len(g))
    y = 1 + x + rng.normal(0, 1.5, levels)[g] + rng.normal(0, 0.7, levels)[g] * x + rng.normal(size=len(g))
    return pd.DataFrame({"y": y, "x": x, "g": [f"g{k}" for k in g]})


def test_independent_effects_are_reliable_level_by_level() -> None:
    """Against 1 - diag((Z'Z / sigma^2 + G^-1)^-1) / G with both columns; unbalanced."""
    data = grouped().drop(index=range(5)).reset_index(drop=True)
    fit = um.fit("y ~ x + (1 + x || g)", data, "pls")
    found = level_estimates(fit)
    precision = np.diag([1 / float(b.covariance[0, 0]) for b in fit.random])
    for i, level in enumerate(found.levels):
        x = data[data["g"] == level]["x"]
        z = np.column_stack([np.ones(len(x)), x])
        left = np.linalg.inv(z.T @ z / fit.sigma**2 + precision)
        np.testing.assert_allclose(found.reliability[i], 1 - np.diag(left) * np.diag(precision), rtol=1e-8)


def test_predictors_that_are_constant_in_some_levels_only() -> None:
    """x1 is 3 in odd groups, x2 is -2 in even ones: both are part of the intercept where they are constant."""
    data = grouped(levels=10, seed=8).rename(columns={"x": "x1"})
    rng = np.random.default_rng(1)
    odd = data["g"].str[1:].astype(int) % 2 == 1
    data["x2"] = np.where(odd, rng.normal(size=len(data)), -2.0)
    data.loc[odd, "x1"] = 3.0
    data["y"] = 10 + 5 * data["x1"] + 4 * data["x2"] + rng.normal(0, 0.1, len(data))
    pool = um.pooling("y ~ x1 + x2 + (1 | g)", data, "pls")
    table = pool.table
    assert set(table.loc["g1"].index) == {"Intercept", "x2"}
    assert set(table.loc["g2"].index) == {"Intercept", "x1"}
    assert table["moved"].abs().max() < 1.0
    assert table.loc[("g1", "Intercept"), "partial"] == pytest.approx(25, abs=0.5)
    lines = pool.first.plot.groups("x1", levels=["g1", "g2"], n_draws=0, draw=False)
    assert set(lines[lines["level"] == "g1"]["kind"]) == {"data", "complete", "partial"}
    assert "no" in set(lines[lines["level"] == "g2"]["kind"])
    data.loc[data.index[8], "x1"] = 0.5  # g1 has one row with another x1: no other row of g1 says what that does
    pair = [(np.delete(np.arange(len(data)), [8, 20]), np.array([8, 20]))]
    held = um.cross_validate("y ~ x1 + x2 + (1 | g)", data, ["pls"], split=pair)
    assert "1 row without a prediction (values that no training row of the g has)" in held.why["no pooling"]


def test_a_nested_factor_keeps_the_effects_of_the_outer_one() -> None:
    rng = np.random.default_rng(5)
    batch = np.repeat(np.arange(10), 60)
    cask = np.tile(np.repeat(np.arange(4), 15), 10)
    effect = rng.normal(0, 10, 10)[batch] + rng.normal(0, 1, 40)[batch * 4 + cask]
    data = pd.DataFrame({"batch": batch.astype(str), "cask": cask.astype(str), "x": rng.normal(size=600)})
    data["y"] = 100 + data["x"] + effect + rng.normal(size=600)
    fit = um.fit("y ~ x + (1 | batch/cask)", data, "pls")
    table = level_estimates(fit, "cask:batch").table().xs("Intercept", level="term")
    assert table["moved"].abs().max() < 1.0
    assert table["centre"].std() > 5
    means = data.groupby(data["cask"] + ":" + data["batch"])[["y", "x"]].mean()
    np.testing.assert_allclose(table["partial"], means["y"].loc[table.index] - means["x"].loc[table.index], atol=0.6)
    line = fit.plot.groups("x", group="cask:batch", levels=3, n_draws=0, draw=False)
    for level, own in line.groupby("level"):
        mid = own[own["kind"] == "partial"]["y"].mean()
        assert abs(mid - own[own["kind"] == "data"]["y"].mean()) < 3, level


def test_the_coding_of_a_random_factor_does_not_matter() -> None:
    data = grouped(levels=10)
    data["f"] = np.where(np.arange(len(data)) % 2, "hi", "lo")
    data = pd.concat([data, pd.DataFrame({"y": [1.0, 2.0], "x": [0.10, 0.11], "g": "few", "f": ["hi", "lo"]})])
    a, b = (level_estimates(um.fit(f"y ~ x + f + {r}", data, "pls", method="ML")) for r in ("(0 + f | g)", "(f | g)"))
    np.testing.assert_allclose(a.partial, b.partial, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(a.reliability, b.reliability, atol=1e-4)
    alone = level_estimates(um.fit("y ~ x + (0 + f | g)", data, "pls")).table().loc["few"]
    assert alone.loc["x", "partial_sd"] < 1


def test_a_dot_is_not_the_grouping_factor() -> None:
    data = grouped()
    pool = um.pooling("y ~ . + (1 | g)", data, "pls")
    assert list(pool.complete.fixed.terms) == ["Intercept", "x"]
    dot, named = (um.cross_validate(f, data, **ONE).table for f in ("y ~ . + (1 | g)", "y ~ x + (1 | g)"))
    pd.testing.assert_frame_equal(dot, named)


def test_rows_without_a_group_are_in_no_kind_of_pooling() -> None:
    data = grouped()
    data.loc[data.index[:30], "g"] = None
    data.loc[data.index[:30], "y"] += 100
    pool = um.pooling("y ~ x + (1 | g)", data, "pls", weights=np.ones(len(data)))
    assert pool.complete.n_obs == pool.first.n_obs == len(data) - 30
    np.testing.assert_allclose(pool.table["complete"].xs("x", level="term"), pool.complete.fixed.estimate[1])


@pytest.mark.r
def test_models_of_more_than_the_mean_are_refused_at_once() -> None:
    data = grouped()
    data["count"] = np.random.default_rng(1).poisson(2, len(data)) * (np.arange(len(data)) % 3 > 0)
    with pytest.raises(um.UnsupportedModelError, match="this model has zero inflation"):
        um.pooling("count ~ x + (1 | g)", data, "glmmtmb", family="poisson", ziformula="~ 1")


@pytest.mark.parametrize("family", ["inverse_gaussian(log)", "binomial(cauchit)", "gamma(log)"])
def test_conditional_errors_are_those_of_the_exact_hessian(family: str) -> None:
    """The modes' SDs given the fixed effects, from Laplace's Hessian: 1e-4 relative."""
    data = grouped(levels=15, n=10, seed=4)
    eta = 0.3 + 0.4 * data["x"] + data["g"].map({f"g{k}": 0.6 * np.sin(k) for k in range(15)})
    rng = np.random.default_rng(2)
    if family.startswith("binomial"):
        data["v"] = rng.binomial(1, 0.5 + np.arctan(eta) / np.pi)
    else:
        data["v"] = rng.wald(np.exp(eta), 3.0) if family.startswith("inverse") else rng.gamma(3, np.exp(eta) / 3)
    fit = um.fit("v ~ x + (1 | g)", data, "pls", family=family)
    block = fit.random[0]
    expected = 1 - np.asarray(block.mode_sd)[:, 0] ** 2 / block.covariance[0, 0]
    np.testing.assert_allclose(level_estimates(fit).reliability[:, 0], expected, rtol=1e-4)


CASES = [
    ("poisson", [], [0, 3, 40]), ("negative_binomial", [1.5], [0, 3, 100]), ("binomial", [], [0.0, 0.5, 1.0]),
    ("gamma", [0.3], [0.01, 1, 20]), ("student_t", [0.5, 3.0], [-9, 0, 9]), ("inverse_gaussian", [0.2], [0.1, 1, 5]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values", "responses"), CASES)
@pytest.mark.parametrize(("centre", "sd"), [(0.5, 0.3), (1.0, 1.5), (2.0, 3.0), (0.4, 0.0)])
def test_predictive_densities_are_integrals(
    name: str, values: list[float], responses: list[float], centre: float, sd: float
) -> None:
    """1e-3 in the logarithm, against 200,001 points over fourteen standard errors; some integrands have two humps."""
    family, parameters = as_family(name), np.array(values)
    trials = 10.0 if name == "binomial" else None
    for y in responses:

        def rows(eta: np.ndarray, y: float = y) -> Any:
            n = None if trials is None else np.full(len(eta), trials)
            return pointwise(family, parameters, np.full(len(eta), float(y)), eta, None, n)

        found = predictive_log_density(rows, np.array([centre]), np.array([sd]))[0]
        if sd == 0:
            assert found == pytest.approx(rows(np.array([centre])).value[0])
            continue
        grid = np.linspace(centre - 14 * sd, centre + 14 * sd, 200_001)
        with np.errstate(all="ignore"):
            height = rows(grid).value + stats.norm.logpdf(grid, centre, sd)
        height = np.where(np.isfinite(height), height, -np.inf)
        expected = height.max() + np.log(np.trapezoid(np.exp(height - height.max()), grid))
        assert found == pytest.approx(expected, abs=1e-3)


def test_expected_responses_are_integrals() -> None:
    draws = np.random.default_rng(1).normal(0.4, 1.3, 4_000_000)
    for name, value in (
        ("poisson", np.exp(draws)),
        ("poisson(sqrt)", draws**2),
        ("binomial", 1 / (1 + np.exp(-draws))),
    ):
        found = expected_response(as_family(name), np.array([0.4]), np.array([1.3]))[0]
        assert found == pytest.approx(value.mean(), rel=0.01)


def test_weights_with_an_index_go_by_their_labels() -> None:
    data = grouped()
    w = pd.Series(np.linspace(0.5, 4, len(data)), index=data.index)
    a, b = (um.cross_validate("y ~ x + (1 | g)", data, weights=v, **ONE) for v in (w, w.sample(frac=1, random_state=1)))
    pd.testing.assert_frame_equal(a.rows, b.rows)


def test_factors_with_the_same_labels_are_told_apart() -> None:
    rng = np.random.default_rng(2)
    data = grouped(levels=10, n=10)
    data["a"], data["b"] = data["g"], "g" + pd.Series(rng.integers(0, 10, len(data))).astype(str)
    found = um.cross_validate("y ~ x + (1 | a) + (1 | b)", data, ["pls"], group="b", split="groups", folds=5)
    assert (found.rows["level"].to_numpy() == data["b"].to_numpy()[found.rows["position"]]).all()
    with pytest.raises(um.OptionError, match=r"name one of 'a', 'b' as group=. It decides which rows"):
        um.cross_validate("y ~ x + (1 | a) + (1 | b)", data, ["pls"])


def test_positions_that_do_not_exist_are_refused() -> None:
    data = grouped()
    with pytest.raises(um.OptionError, match=r"positions go from 0 to 95, so 99 is not one. Labels of a pandas index"):
        um.cross_validate("y ~ x + (1 | g)", data, ["pls"], split=[(np.arange(50), np.array([60, 99]))])
    with pytest.raises(um.OptionError, match="a mask has 3 values, the data have 96 rows"):
        um.cross_validate("y ~ x + (1 | g)", data, ["pls"], split=[(np.arange(50), np.array([True, False, True]))])


def test_a_response_that_learns_from_the_data_is_refused() -> None:
    with pytest.raises(um.DataError, match=r"scale\(y\) depends on the data"):
        um.cross_validate("scale(y) ~ x + (1 | g)", grouped(), **ONE)


def test_copies_of_rows_do_not_multiply_the_score_of_one() -> None:
    data = grouped()
    data["n"] = np.random.default_rng(4).poisson(np.exp(0.3 * data["y"].clip(-3, 5)))
    run: dict[str, Any] = {**ONE, "family": "poisson", "pooling": ["complete"]}
    one, ten = (um.cross_validate("n ~ x + (1 | g)", data, weights=np.full(96, w), **run).table for w in (1.0, 10.0))
    assert ten["log_score"].iloc[0] == pytest.approx(one["log_score"].iloc[0], abs=0.05)


def test_no_pooling_does_not_decide_what_the_others_are_scored_on() -> None:
    data = um.load_dataset("cbpp")
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    found = um.cross_validate(formula, data, family="binomial", **ONE)
    two = um.cross_validate(formula, data, family="binomial", pooling=["complete", "partial"], **ONE)
    pd.testing.assert_frame_equal(found.table.loc[two.table.index], two.table)
    assert found.table.loc["partial pooling (pls)", "n"] == 56
    alone = found.table.loc["no pooling", "n"]
    assert alone < 56
    if alone:
        assert "no pooling is scored on the" in str(found)
        assert found.differences("mae", "no pooling").loc["partial pooling (pls)", "n"] == alone


def test_wrong_calls_stop_before_the_first_fold() -> None:
    data = grouped()
    formula = "y ~ x + (1 | g)"
    assert um.cross_validate(formula, data, backend="pls", folds=2, pooling=["partial"]).models == [
        "partial pooling (pls)"
    ]
    with pytest.raises(um.OptionError, match="no argument 'methd'"):
        um.cross_validate(formula, data, ["pls"], methd="ML")
    with pytest.raises(um.UnsupportedModelError, match="statsmodels"):
        um.cross_validate(formula, data.assign(y=data["y"] > 1), ["statsmodels"], family="binomial(probit)")
    with pytest.raises(um.OptionError, match="gives the shape"):
        um.cross_validate(formula, data, ["pls"], metrics={"mse": lambda y, mean: ((y - mean) ** 2).mean()})
    with pytest.raises(um.OptionError, match="a metric of this name exists already"):
        um.cross_validate(formula, data, ["pls"], metrics={"rmse": lambda y, mean: y})


def test_a_value_beyond_a_splines_range_is_extrapolated() -> None:
    data = grouped(levels=4, n=25)
    data.loc[7, "x"] = 9.0
    found = um.cross_validate("y ~ bs(x, df=4) + (1 | g)", data, **ONE)
    assert (found.fits["error"] == "").all()
    assert not found.rows["mean"].isna().any()
    row = found.rows[(found.rows["position"] == 7) & found.rows["model"].str.startswith("partial")].iloc[0]
    fold = found.rows[found.rows["fold"] == row["fold"]]["position"].unique()
    others = um.fit("y ~ bs(x, df=4) + (1 | g)", data.drop(index=fold), "pls")
    assert data.drop(index=fold)["x"].max() < 9.0
    assert row["mean"] == pytest.approx(float(others.predict(data.loc[[7]])[0]), rel=1e-8)


def test_pictures_of_categories_are_in_their_order() -> None:
    data = grouped()
    data["dose"] = pd.Categorical(
        np.random.default_rng(1).choice(["low", "high", "medium"], len(data)), categories=["low", "medium", "high"]
    )
    fit = um.fit("y ~ dose + (1 | g)", data, "pls")
    for ax in (fit.plot.population(), fit.plot.groups(levels=2)[0]):
        assert [t.get_text() for t in ax.get_xticklabels()] == ["low", "medium", "high"]
    line = next(li for li in fit.plot.population().get_lines() if li.get_label() == "fixed effects")
    np.testing.assert_array_equal(line.get_xdata(), [0, 1, 2])


def test_lines_of_other_designs_and_held_groups_are_refused() -> None:
    data = grouped()
    fit = um.fit("y ~ x + (1 | g)", data, "pls")
    other = um.fit("y ~ x + (1 | g)", data[data["g"] != "g0"], "pls")
    with pytest.raises(um.DataError, match="was fitted to a different design"):
        fit.plot.groups(others={"sub": other})
    with pytest.raises(um.OptionError, match="takes results by label"):
        fit.plot.groups(others=[fit])
    with pytest.raises(um.OptionError, match=r"is a grouping factor\. Each of its levels has a panel"):
        fit.plot.groups(at={"g": "g1"})
    with pytest.raises(um.OptionError, match="ci_level=95: give a probability"):
        fit.plot.caterpillar(ci_level=95)
    with pytest.raises(um.OptionError, match="one or two coefficients, and 3 were named"):
        fit.plot.shrinkage("Intercept", "x", "x")
    with pytest.raises(um.OptionError, match=r"levels='g1': give a list, levels=\['g1'\]"):
        fit.plot.groups(levels="g1")


@pytest.mark.r
def test_the_populations_line_has_structural_zeros_in_it() -> None:
    rng = np.random.default_rng(7)
    data = grouped(levels=20, n=15)
    data["n"] = rng.poisson(np.exp(0.8 + 0.4 * data["x"])) * (rng.random(len(data)) < 0.5)
    fit = um.fit("n ~ x + (1 | g)", data, "glmmtmb", family="poisson", ziformula="~ 1")
    found = fit.plot.population("x", draw=False)
    line = found[found["kind"] == "population"]
    new = pd.DataFrame({"x": line["x"].astype(float), "g": "g0"})
    np.testing.assert_allclose(line["y"], fit.predict(new, level="population"), rtol=1e-8)
