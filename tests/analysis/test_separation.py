"""Separated data: estimates that tend to infinity have no standard errors, Wald tests or bounded intervals."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.design.arrays import Design
from unimix.likelihood.glmm.separation import overlapping_rows


@pytest.fixture(scope="module")
def nests() -> pd.DataFrame:
    """Four treatments of which sucrose always succeeds."""
    rng, rows = np.random.default_rng(1), []
    for nest in range(17):
        u = rng.normal(0, 0.7)
        for kind, eta in zip(["none", "control", "sucrose", "protein"], [2, 0.9, 99, 0.9], strict=True):
            chance = 1 / (1 + np.exp(-(eta + u)))
            rows += [(f"n{nest}", kind, int(rng.random() < chance)) for _ in range(rng.integers(1, 3))]
    data = pd.DataFrame(rows, columns=["nest", "kind", "out"])
    data["kind"] = pd.Categorical(data["kind"], ["none", "control", "sucrose", "protein"])
    return data


@pytest.fixture(scope="module")
def fit(nests: pd.DataFrame) -> um.FitResult:
    return um.fit("out ~ kind + (1 | nest)", nests, "pls", family="binomial")


@pytest.fixture(scope="module")
def overlap(nests: pd.DataFrame) -> um.FitResult:
    """The limit of the likelihood along the separated direction is that of the rows without sucrose."""
    rest = nests[nests["kind"] != "sucrose"]
    return um.fit("out ~ kind + (1 | nest)", rest, "pls", family="binomial")


def test_only_the_separated_coefficient_loses_its_test(fit: um.FitResult, overlap: um.FitResult) -> None:
    row = fit.fixed_effects.loc["kind[T.sucrose]"]
    assert np.isinf(row["std_error"])
    assert np.isnan(row["p_value"])
    assert (row["lower"], row["upper"]) == (-np.inf, np.inf)
    kept = overlap.fixed_effects
    # the two searches end within 1e-6 of each other in units of standard errors
    columns = ["estimate", "std_error", "p_value", "lower", "upper"]
    np.testing.assert_allclose(fit.fixed_effects.loc[kept.index, columns], kept[columns], rtol=1e-4)
    # R 4.2.2, lme4 1.1-31, glmer without sucrose; its Hessian is from finite differences
    assert kept["std_error"].tolist() == pytest.approx([0.4721863, 0.6175441, 0.7216624], rel=2e-4)
    assert um.FitResult.from_json(fit.to_json()) == fit


def test_a_separated_reference_level_leaves_the_other_contrasts(nests: pd.DataFrame, overlap: um.FitResult) -> None:
    first = nests.assign(kind=nests["kind"].cat.reorder_categories(["sucrose", "none", "control", "protein"]))
    again = um.fit("out ~ kind + (1 | nest)", first, "pls", family="binomial")
    assert np.isinf(again.fixed_effects["std_error"]).all()
    pairs = again.contrasts("kind", adjust="none").table.set_index("contrast")
    finite = ["none - control", "none - protein", "control - protein"]
    assert np.isinf(pairs["std_error"].drop(finite)).all()
    right = overlap.contrasts("kind", adjust="none").table.set_index("contrast")
    columns = ["estimate", "std_error", "p_value"]
    np.testing.assert_allclose(pairs.loc[finite, columns], right.loc[finite, columns], rtol=1e-4)


def test_every_wald_answer_says_so(fit: um.FitResult, nests: pd.DataFrame) -> None:
    anova = fit.anova()
    assert np.isnan(anova.loc["kind", "chisq"])
    assert any("um.anova(smaller, fit)" in note for note in anova.notes)
    odds = fit.contrasts("kind", "reference", kind="response").table.set_index("contrast")
    assert odds.loc["sucrose / none", ["lower", "upper"]].tolist() == [0.0, np.inf]
    assert np.isnan(odds.loc["sucrose / none", "p_value"])
    assert odds.loc["control / none", "p_value"] < 1
    means = fit.emmeans("kind", kind="response")
    assert means.table.loc[2, ["lower", "upper"]].tolist() == [0.0, 1.0]
    assert np.isinf(means.hypotheses("b0 = b2").table["std_error"]).all()
    changes = fit.comparisons("kind").table.set_index("contrast")
    assert np.isinf(changes.loc["sucrose - none", "std_error"])
    assert np.isfinite(changes.loc["control - none", "std_error"])
    said = fit.hypotheses(["`kind[T.sucrose]` = 0", "`kind[T.control]` = 0"])
    assert np.isnan(said.table["p_value"]).tolist() == [True, False]
    with pytest.raises(um.errors.UnimixError, match="no joint Wald test"):
        fit.hypotheses(["`kind[T.sucrose]` = 0", "`kind[T.control]` = 0"], joint=True)
    new = pd.DataFrame({"kind": ["sucrose", "none"], "nest": ["n0", "n0"]})
    table = fit.predict(new, level="population", interval="confidence").table
    assert table.loc[0, ["lower", "upper"]].tolist() == [0.0, 1.0]
    assert 0 < table.loc[1, "lower"] < table.loc[1, "upper"] < 1
    assert fit.predict(new, interval="prediction").table.loc[0, ["lower", "upper"]].isna().all()
    with pytest.raises(um.errors.UnsupportedModelError, match="Separation"):
        fit.draws(10)
    assert "tends to infinity (no Wald test)" in str(fit.report())
    explained = fit.r2()
    assert explained.table["value"].isna().all()
    assert any("Separation" in note for note in explained.notes)
    assert np.isfinite(fit.icc().table["adjusted"]).all()


def test_likelihood_ratios_remain(fit: um.FitResult, nests: pd.DataFrame) -> None:
    # R 4.2.2, lme4 1.1-31: anova(m0, m) chisq 20.514, p 0.0001328; the profile's lower end from uniroot on deviances
    # with offset(b * sucrose)
    less = um.fit("out ~ 1 + (1 | nest)", nests, "pls", family="binomial")
    test = um.anova(less, fit)
    assert test.table["chisq"].iloc[1] == pytest.approx(20.514, abs=1e-3)
    assert test.table["p_value"].iloc[1] == pytest.approx(0.0001328, rel=1e-3)
    assert any("remain right" in note for note in test.notes)
    assert not any("too low" in note for note in test.notes)
    ends = fit.confint(parameters=["kind[T.sucrose]"], method="profile").table
    assert ends["lower"].iloc[0] == pytest.approx(1.188876, rel=1e-4)
    assert np.isinf(ends["upper"].iloc[0])


def test_the_check_does_not_advise_the_engine_that_fitted(fit: um.FitResult) -> None:
    table = fit.check().table
    assert "backend='pls'" not in json.dumps(table["advice"].tolist())
    assert "profile" in table.loc["separation", "advice"]


@pytest.mark.parametrize(
    ("x", "y", "overlaps"),
    [
        ([0, 0, 1, 1], [0, 1, 1, 1], [True, True, False, False]),  # quasi-complete
        ([0, 0, 1, 1], [0, 0, 1, 1], [False] * 4),  # complete
        ([1, 2, 2, 3], [0, 0, 1, 1], [False, True, True, False]),  # the rows at x = 2 overlap
        ([0, 1, 0, 1], [0, 1, 1, 0], [True] * 4),
    ],
)
def test_rows_that_determine_the_estimates(x: list[int], y: list[int], overlaps: list[bool]) -> None:
    design: Design = um.fit("y ~ x", pd.DataFrame({"x": x, "y": y}), "pls", family="binomial").design()
    found = overlapping_rows(design)
    assert found.get("fixed", np.ones(4, dtype=bool)).tolist() == overlaps


def test_two_directions_at_once() -> None:
    """Two separated cells of different signs: a single direction of the linear program need not move both."""
    data = pd.DataFrame({"a": list("wwwxxyyzz") * 4, "y": [0, 1, 1, 1, 1, 0, 0, 1, 0] * 4})
    table = um.fit("y ~ a", data, "pls", family="binomial").fixed_effects
    assert np.isinf(table["std_error"]).tolist() == [False, True, True, False]
    # closed form of two cells: var = 1 / (n p q) + 1 / (m r s), with 12 rows of p = 2/3 and 8 of r = 1/2
    assert table.loc["a[T.z]", "std_error"] == pytest.approx(np.sqrt(12 / (8 * 4) + 8 / (4 * 4)), rel=1e-6)


def test_a_count_that_is_always_zero() -> None:
    data = pd.DataFrame({"a": list("wwxxyy") * 5, "n": [1, 3, 0, 0, 2, 4] * 5})
    fit = um.fit("n ~ a", data, "pls", family="poisson")
    assert np.isinf(fit.fixed_effects["std_error"]).tolist() == [False, True, False]
    # var of a log rate is 1 / (sum of counts)
    assert fit.fixed_effects.loc["a[T.y]", "std_error"] == pytest.approx(np.sqrt(1 / 20 + 1 / 30), rel=1e-6)


def test_group_effects_that_predict_every_row() -> None:
    """Where the variance runs off, the fixed effects run off with it."""
    data = pd.DataFrame({"g": np.repeat([f"g{k}" for k in range(20)], 8), "y": np.repeat([0, 1], 80)})
    fit = um.fit("y ~ 1 + (1 | g)", data, "pls", family="binomial")
    assert not fit.converged
    assert np.isinf(fit.fixed_effects["std_error"]).all()


def test_rounding_is_no_dependence_on_the_separated_level(nests: pd.DataFrame) -> None:
    """Type III rows, effects and averages have weights of 1e-17 where they mean zero."""
    data = nests.assign(x=np.random.default_rng(3).normal(size=len(nests)), f=list("uvw") * 35 + ["u"])
    fit = um.fit("out ~ kind + f + x", data, "pls", family="binomial")
    tests = fit.anova().table
    assert tests["p_value"].isna().tolist() == [True, False, False]
    np.testing.assert_allclose(tests.loc["x", "chisq"], fit.fixed_effects.loc["x", "statistic"] ** 2, rtol=1e-6)
    for method in ("effects", "pairwise", "poly"):
        for weights in ("equal", "proportional", "outer"):
            made = fit.contrasts("f", method, weights=weights).table
            assert np.isfinite(made["std_error"]).all()
    assert np.isinf(fit.contrasts("kind", "effects").table["std_error"]).all()
    cov = fit.fixed_cov
    assert np.isinf(cov.loc["kind[T.sucrose]", "kind[T.sucrose]"])
    assert np.isnan(cov.loc["x", "kind[T.sucrose]"])
    assert np.sqrt(cov.loc["x", "x"]) == pytest.approx(fit.fixed_effects.loc["x", "std_error"])


def test_rounding_is_no_lack_of_data() -> None:
    """Effects of a factor beside an empty cell of two others, which need none of its columns."""
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"a": list("pq") * 30, "b": (["u"] * 2 + ["v", "u"]) * 15, "f": rng.choice(list("xyz"), 60)})
    fit = um.fit("y ~ a * b + f", data.assign(y=rng.normal(size=60)), "pls")
    assert fit.model.aliased
    for method in ("effects", "pairwise", "poly"):
        made = fit.contrasts("f", method)
        assert np.isfinite(made.table["std_error"]).all()
        assert not any("Left out" in note for note in made.notes)


@pytest.mark.parametrize("backend", ["pls", "statsmodels", "mixedlm", "lme4", "glmmtmb"])
def test_every_engine_has_the_standard_errors_of_the_overlapping_rows(nests: pd.DataFrame, backend: str) -> None:
    """Engines' own variances along the direction reach 1e14, beside which finite ones lose their digits."""
    rest = um.fit("out ~ kind", nests[nests["kind"] != "sucrose"], "pls", family="binomial").fixed_effects
    table = um.fit("out ~ kind", nests, backend, family="binomial").fixed_effects
    assert np.isinf(table.loc["kind[T.sucrose]", "std_error"])
    np.testing.assert_allclose(table.loc[rest.index, "std_error"], rest["std_error"], rtol=1e-5)
    np.testing.assert_allclose(table.loc[rest.index, "p_value"], rest["p_value"], rtol=1e-4)
