"""The statsmodels backend: closed forms, dense likelihoods, its engine's traps (shared ENGINES notes, rows 4-9)."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.backends.base import FitRequest
from unimix.backends.statsmodels.adapter import Statsmodels
from unimix.backends.statsmodels.model import Likelihood, Point, blocks_of, build_model, lay_out
from unimix.backends.statsmodels.search import Settings, search, triangular_root
from unimix.backends.statsmodels.start import find_starts, inverse_curvature
from unimix.design.arrays import Design
from unimix.design.design import build_design
from unimix.formula.interpreter import parse
from unimix.likelihood.lmm.conditioning import condition
from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.testing import dense, simulate_rich, simulate_slopes

ENGINE = "statsmodels"


def fit(formula: str, data: Any, **arguments: Any) -> um.FitResult:
    return um.fit(formula, data, backend=ENGINE, **arguments)


def one_way(between: float, n_groups: int = 8, size: int = 6, seed: int = 2) -> pd.DataFrame:
    """Balanced groups whose means are pulled together or apart by a factor."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(n_groups), size)
    y = rng.normal(size=len(codes))
    means = y.reshape(n_groups, size).mean(axis=1)
    return pd.DataFrame({"y": 10 + y + (between - 1) * means[codes], "g": [f"g{k}" for k in codes]})


def mean_squares(data: pd.DataFrame) -> tuple[float, float, int]:
    table = data["y"].to_numpy().reshape(data["g"].nunique(), -1)
    n_groups, size = table.shape
    between = size * table.mean(axis=1).var(ddof=1)
    within = ((table - table.mean(axis=1, keepdims=True)) ** 2).sum() / (n_groups * (size - 1))
    return between, within, size


def crossed_data(n: int = 150, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(10, size=n), rng.integers(8, size=n)
    y = 2 + rng.normal(size=10)[a] + 0.7 * rng.normal(size=8)[b] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": rng.normal(size=n), "a": a.astype(str), "b": b.astype(str)})


def exact_of(formula: str, data: Any) -> tuple[Design, float]:
    """Design and log-likelihood of the reported parameters, written down plainly."""
    design = build_design(parse(formula), data)
    found = fit(formula, data)
    covariances = tuple(np.array(b.covariance) for b in found.random)
    return design, found.log_likelihood - dense.log_likelihood(design, covariances, found.sigma, reml=True)


# -- closed forms ---------------------------------------------------------------------------------


def test_balanced_one_way_layout_gives_the_anova_estimates() -> None:
    data = one_way(3.0)
    between, within, size = mean_squares(data)
    found = fit("y ~ 1 + (1 | g)", data)
    assert found.converged
    assert found.sigma**2 == pytest.approx(within, rel=1e-5)
    assert found.random[0].covariance[0, 0] == pytest.approx((between - within) / size, rel=1e-4)
    assert found.fixed.std_error[0] ** 2 == pytest.approx(between / len(data), rel=1e-4)


def test_balanced_one_way_layout_by_maximum_likelihood() -> None:
    data = one_way(3.0)
    between, within, size = mean_squares(data)
    n_groups = data["g"].nunique()
    found = fit("y ~ 1 + (1 | g)", data, method="ML")
    wanted = (between * (n_groups - 1) / n_groups - within) / size
    assert found.random[0].covariance[0, 0] == pytest.approx(wanted, rel=1e-4)
    assert found.sigma**2 == pytest.approx(within, rel=1e-5)


@pytest.mark.parametrize("method", ["REML", "ML"])
def test_negative_anova_estimate_becomes_exactly_zero(method: Any) -> None:
    data = one_way(0.1)
    between, within, _ = mean_squares(data)
    assert between < within
    found = fit("y ~ 1 + (1 | g)", data, method=method)
    assert found.status.state == "singular"
    assert found.random[0].covariance[0, 0] == 0
    assert (found.random[0].modes == 0).all()
    assert (found.random[0].mode_sd == 0).all()
    assert found.sigma == pytest.approx(data["y"].std(ddof=1 if method == "REML" else 0), rel=1e-7)


def test_without_a_random_part_it_is_least_squares() -> None:
    data = simulate_rich()
    found = fit("y ~ x + f", data, weights="w")
    x = build_design(parse("y ~ x + f"), data).x
    root = np.sqrt(data["w"].to_numpy())
    beta, rss = np.linalg.lstsq(root[:, None] * x, root * data["y"])[:2]
    df = len(data) - x.shape[1]
    np.testing.assert_allclose(found.fixed.estimate, beta, rtol=1e-9)
    assert found.sigma**2 == pytest.approx(rss[0] / df, rel=1e-9)
    assert (found.fixed.df == df).all()
    assert found.fixed.df_method == "residual"
    n = len(data)
    wanted = -n / 2 * (np.log(2 * np.pi * rss[0] / n) + 1) + np.log(root).sum()
    assert found.log_likelihood == pytest.approx(wanted, abs=1e-8)
    assert type(found.native).__name__ == "RegressionResultsWrapper"
    assert fit("y ~ x", data, df_method="normal").fixed.df_method == "normal"


# -- what MixedLM can say -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ x + (1 | g)",
        "y ~ x + (1 + x | g)",
        "y ~ x + (1 + x || g)",
        "y ~ x + (0 + x | g)",
        "y ~ x + (1 + x | g) + (0 + u | g)",
        "y ~ x + (1 | g/sub)",
        "y ~ x + (1 + x | g) + (1 | g:sub)",
        "y ~ x + (1 | g) + (0 + x | g:sub)",
        "y ~ x + (1 | g) + (1 | h)",
        "y ~ x + (1 + x || g) + (1 | h)",
        "y ~ 0 + (1 + x | g)",
    ],
)
@pytest.mark.parametrize("method", ["REML", "ML"])
def test_reaches_the_maximum_of_the_dense_likelihood(formula: str, method: Any) -> None:
    data = simulate_rich()
    design = build_design(parse(formula), data)
    found = fit(formula, data, method=method)
    assert found.converged
    covariances = tuple(np.array(b.covariance) for b in found.random)
    own = dense.log_likelihood(design, covariances, found.sigma, reml=method == "REML")
    assert found.log_likelihood == pytest.approx(own, abs=1e-4)
    for k in range(len(covariances)):
        for factor in (0.95, 1.05):
            moved = [factor * c if i == k else c for i, c in enumerate(covariances)]
            assert dense.log_likelihood(design, tuple(moved), found.sigma, reml=method == "REML") < own + 1e-4


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("y ~ x + (1 + x | g) + (1 | h)", "uncorrelated terms"),
        ("y ~ x + (1 | g) + (1 + x | g:sub)", "independent groups"),
        ("y ~ x + (1 + x | g) + (0 + u + v | g)", "one correlated block"),
    ],
)
def test_what_it_cannot_say_is_refused_with_the_reason_and_a_way_out(formula: str, words: str) -> None:
    with pytest.raises(um.UnsupportedModelError, match=words) as refused:
        fit(formula, simulate_rich())
    assert "backend='lme4'" in str(refused.value)


@pytest.mark.r
def test_degrees_of_freedom_are_those_of_lmertest_and_pbkrtest() -> None:
    """1e-3 relative: lmerTest takes derivatives by differences, and both engines end near the optimum."""
    data = simulate_slopes(seed=1, n_groups=12)
    for kind in ("satterthwaite", "kenward-roger"):
        found = fit("y ~ x + (1 | g)", data, df_method=kind)
        theirs = um.fit("y ~ x + (1 | g)", data, "lme4", df_method=kind)
        assert found.fixed.df_method == kind
        assert "by unimix" in found.provenance["df"]
        np.testing.assert_allclose(found.fixed.df, theirs.fixed.df, rtol=1e-3)
        np.testing.assert_allclose(found.fixed.std_error, theirs.fixed.std_error, rtol=1e-4)
    assert np.isinf(fit("y ~ x + (1 | g)", data, df_method="normal").fixed.df).all()


def test_posterior_and_priors_are_refused() -> None:
    with pytest.raises(um.UnsupportedModelError, match="pymc"):
        fit("y ~ x + (1 | g)", simulate_slopes(seed=1, n_groups=12), method="posterior")


def test_the_call_is_shown_without_fitting() -> None:
    data = simulate_rich()
    engine = Statsmodels()

    def shown(formula: str) -> str:
        return engine.preview(build_design(parse(formula), data), FitRequest("REML"))

    assert shown("y ~ x + (1 + x | g)") == "MixedLM(y, X[x0, x1], groups=g0, exog_re=Z[z0_0, z0_1]), reml=True"
    assert "exog_vc=VCSpec[z1_0 by g1]" in shown("y ~ x + (1 | g) + (1 | g:sub)")
    assert "groups=one" in shown("y ~ x + (1 | g) + (1 | h)")
    assert shown("y ~ x") == "OLS(y, X[x0, x1]).fit()"


# -- traps ----------------------------------------------------------------------------------------


def test_row_4_standard_errors_are_generalised_least_squares_not_the_joint_hessian() -> None:
    data = simulate_rich()
    found = fit("y ~ x + (1 | g)", data)
    design = build_design(parse("y ~ x + (1 | g)"), data)
    _, cov = dense.gls(design, (np.array(found.random[0].covariance),), found.sigma)
    np.testing.assert_allclose(found.fixed.covariance, cov, rtol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        formulas = importlib.import_module("statsmodels.formula.api")
        theirs = formulas.mixedlm("y ~ x", data, groups="g").fit()
    assert np.abs(theirs.bse_fe.to_numpy() / found.fixed.std_error - 1).max() > 1e-6
    assert "Hessian" in found.provenance["std_error"]


def test_row_5_no_standard_errors_of_variances_are_passed_on() -> None:
    found = fit("y ~ x + (1 + x | g)", simulate_rich())
    assert np.isnan(found.native.bse_re).all()
    assert np.isfinite(found.native.bse_fe).all()


def test_row_6_covariances_are_in_the_units_of_the_response() -> None:
    data = simulate_rich()
    bare = fit("y ~ x + (1 + x | g)", data, options={"conditioning": False})
    np.testing.assert_allclose(bare.random[0].covariance, bare.native.cov_re, rtol=1e-5)
    assert bare.sigma**2 == pytest.approx(bare.native.scale, rel=1e-9)
    assert bare.log_likelihood == pytest.approx(bare.native.llf, abs=1e-9)
    conditioned = fit("y ~ x + (1 + x | g)", data)
    np.testing.assert_allclose(bare.random[0].covariance, conditioned.random[0].covariance, rtol=1e-3)
    big = fit("y ~ x + (1 + x | g)", data.assign(y=10 * data["y"]))
    np.testing.assert_allclose(big.random[0].covariance, 100 * np.array(conditioned.random[0].covariance), rtol=1e-4)


def test_row_7_singular_slopes_are_found_named_and_keep_their_modes() -> None:
    rng = np.random.default_rng(12)
    g = np.repeat(np.arange(15), 8)
    x = rng.normal(size=len(g))
    y = x + rng.normal(size=15)[g] + rng.normal(size=len(g))
    data = {"y": y, "x": x, "g": [f"g{k}" for k in g]}
    states = set()
    for formula in ("y ~ x + (1 + x | g)", "y ~ x + (1 + x || g)"):
        found = fit(formula, data)
        assert found.converged
        states.add(found.status.state)
        design, difference = exact_of(formula, data)
        assert difference == pytest.approx(0, abs=1e-4)
        assert design.n == len(y)
        assert all(np.isfinite(b.modes).all() for b in found.random)
    assert "singular" in states


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_row_7_units_do_not_decide_what_is_singular(unit: float) -> None:
    data = one_way(1.6)
    data["y"] *= unit
    found = fit("y ~ 1 + (1 | g)", data)
    assert found.status.state == "converged"
    assert fit("y ~ 1 + (1 | g)", one_way(0.1).assign(y=lambda d: d["y"] * unit)).status.state == "singular"


def test_row_7_a_zero_that_wants_to_grow_is_left() -> None:
    data = simulate_slopes(seed=3, n_groups=20)
    design = condition(build_design(parse("y ~ x + (1 + x | g)"), data))[0]
    layout = lay_out(design)
    engine = importlib.import_module("statsmodels.regression.mixed_linear_model")

    def exact(point: Point) -> float:
        relative = blocks_of(point, layout)
        return LinearCriterion.of(design).profiled(relative, reml=True)[0]

    ends = []
    for start in (Point(np.zeros((2, 2)), np.empty(0)), Point(np.diag([1.0, 0.0]), np.empty(0))):
        likelihood = Likelihood(engine, build_model(engine, design, layout, reml=True), layout)
        found = search(likelihood, exact, Settings("bfgs", 200, 0), [start], None)
        assert found.confirmed
        ends.append(found.value)
    good = find_starts(design, layout, reml=True, steps=6)[0]
    found = search(likelihood, exact, Settings("bfgs", 200, 0), [good], inverse_curvature(good, exact, design.n))
    assert max(ends) - min([*ends, found.value]) < 1e-6


def test_a_maximum_at_zero_is_not_taken_for_the_highest() -> None:
    # x is far from zero and the groups differ in slope about the mean of x: intercepts and slopes must both be large
    # and cancel. Zero variances meet all first-order conditions, well below.
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(6), 5)
    x = 10 + rng.normal(size=len(g))
    centred = x - (np.bincount(g, x) / 5)[g]
    y = 4 * rng.normal(size=6)[g] * centred + 0.1 * rng.normal(size=len(g))
    data = {"y": y, "x": x, "g": [f"g{k}" for k in g]}
    design = build_design(parse("y ~ x + (1 + x || g)"), data)
    found = fit("y ~ x + (1 + x || g)", data)
    sigma = fit("y ~ x", data).sigma
    none, little = np.zeros((1, 1)), 1e-3 * sigma**2 * np.eye(1)
    zero = dense.log_likelihood(design, (none, none), sigma, reml=True)
    assert dense.log_likelihood(design, (little, none), sigma, reml=True) < zero
    assert dense.log_likelihood(design, (none, little / 100), sigma, reml=True) < zero
    assert found.status.state == "converged"
    assert found.log_likelihood > zero + 10


def test_row_8_crossed_factors_are_one_group_and_refused_when_large() -> None:
    data = crossed_data()
    found = fit("y ~ x + (1 | a) + (1 | b)", data.set_index(np.zeros(len(data), dtype=int)))
    assert found.native.model.n_groups == 1
    assert found.native.k_vc == 2
    with pytest.raises(um.UnsupportedModelError, match=r"tie 150 rows .* 100 .option max_tied_rows"):
        fit("y ~ x + (1 | a) + (1 | b)", data, options={"max_tied_rows": 100})
    assert fit("y ~ x + (1 | a)", data, options={"max_tied_rows": 100}).converged


def test_row_8_groups_are_as_fine_as_the_factors_allow() -> None:
    # Raters and pupils cross within schools only: schools are independent though the formula does not name them.
    rng = np.random.default_rng(5)
    school = np.repeat(np.arange(9), 16)
    pupil, rater = school * 4 + rng.integers(4, size=144), school * 3 + rng.integers(3, size=144)
    y = rng.normal(size=36)[pupil] + rng.normal(size=27)[rater] + rng.normal(size=144)
    data = {"y": y, "p": [f"p{k}" for k in pupil], "r": [f"r{k}" for k in rater]}
    found = fit("y ~ 1 + (1 | p) + (1 | r)", data)
    assert found.native.model.n_groups == 9
    _, difference = exact_of("y ~ 1 + (1 | p) + (1 | r)", data)
    assert difference == pytest.approx(0, abs=1e-5)


def test_both_optimizers_agree_on_crossed_factors() -> None:
    data = crossed_data()
    first, second = (fit("y ~ x + (1 | a) + (1 | b)", data, options={"optimizer": name}) for name in ("bfgs", "cobyqa"))
    assert first.converged
    assert second.converged
    assert first.log_likelihood == pytest.approx(second.log_likelihood, abs=1e-5)


def test_many_crossed_levels_go_by_sparse_matrices() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.integers(120, size=600), rng.integers(90, size=600)
    data = {"y": rng.normal(size=120)[a] + rng.normal(size=90)[b] + rng.normal(size=600), "a": a, "b": b}
    data = {k: v.astype(str) if k != "y" else v for k, v in data.items()}
    design = build_design(parse("y ~ 1 + (1 | a) + (1 | b)"), data)
    assert lay_out(design).is_costly(design.blocks)
    found = fit("y ~ 1 + (1 | a) + (1 | b)", data)
    assert found.converged
    _, difference = exact_of("y ~ 1 + (1 | a) + (1 | b)", data)
    assert difference == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("method", ["REML", "ML"])
def test_row_9_weights_and_offset_are_exact_emulations(method: Any) -> None:
    data = simulate_rich()
    design = build_design(parse("y ~ x + (1 + x | g)"), data, weights="w", offset="off")
    found = fit("y ~ x + (1 + x | g)", data, weights="w", offset="off", method=method)
    covariances = (np.array(found.random[0].covariance),)
    own = dense.log_likelihood(design, covariances, found.sigma, reml=method == "REML")
    assert found.log_likelihood == pytest.approx(own, abs=1e-5)
    beta, cov = dense.gls(design, covariances, found.sigma)
    np.testing.assert_allclose(found.fixed.estimate, beta, rtol=1e-6)
    np.testing.assert_allclose(found.fixed.covariance, cov, rtol=1e-6)
    assert "emulated" in found.provenance["weights"]


# -- status and the native object -----------------------------------------------------------------


def test_a_starved_search_is_not_converged_and_says_why() -> None:
    options = {"max_iterations": 1, "em_steps": 0, "restarts": 0}
    found = fit("y ~ x + f + (1 + x | g)", simulate_rich(), options=options)
    assert found.status.state == "not_converged"
    assert "gradient" in found.status.messages[0]


@pytest.mark.parametrize("scale", [1e5, 1e-5])
def test_bare_badly_scaled_columns_are_never_called_converged_below_the_optimum(scale: float) -> None:
    data = simulate_slopes(seed=7, n_groups=20)
    good = fit("y ~ x + (1 + x | g)", data)
    bare = fit("y ~ x + (1 + x | g)", data.assign(x=scale * data["x"]), options={"conditioning": False})
    gap = good.log_likelihood - np.log(scale) - bare.log_likelihood
    assert not bare.converged or gap < 1e-3
    again = fit("y ~ x + (1 + x | g)", data.assign(x=scale * data["x"]))
    assert again.converged
    assert good.log_likelihood - np.log(scale) == pytest.approx(again.log_likelihood, abs=1e-5)


def test_native_is_a_working_results_object() -> None:
    data = simulate_rich()
    found = fit("y ~ x + (1 + x | g) + (1 | g:sub)", data, options={"conditioning": False})
    native = found.native
    assert type(native).__name__ == "MixedLMResultsWrapper"
    np.testing.assert_allclose(native.fe_params, found.fixed.estimate)
    np.testing.assert_allclose(native.fittedvalues, found.fitted, atol=1e-5)
    assert native.converged == found.converged
    assert "Mixed Linear Model" in str(native.summary())


def test_triangular_root_of_deficient_factors() -> None:
    for factor in ([[1.0, 0.0], [2.0, 0.0]], [[0.0, 0.0], [0.0, 3.0]], [[0.0], [2.0]], [[1.0, 2.0], [0.5, -1.0]]):
        f = np.array(factor)
        root = triangular_root(f)
        np.testing.assert_allclose(root @ root.T, f @ f.T, atol=1e-12)
        assert (np.triu(root, 1) == 0).all()
