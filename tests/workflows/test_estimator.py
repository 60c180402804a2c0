"""The scikit-learn regressor: scikit-learn's own checks, the same numbers as um.fit, errors that say what to type."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.utils.estimator_checks import estimator_checks_generator

import unimix as um
from unimix.testing import simulate_slopes
from unimix.workflows.sklearn_estimator import MixedModelRegressor

FORMULA = "~ Time + (1 + Time | Pig)"
PIGS = um.load_dataset("dietox")
X, Y = PIGS[["Time", "Pig", "Cu"]], PIGS["Weight"]

EXPLAINED = "in this check's data the groups explain the response exactly, which leaves no residual variance"
ONE_ROW_LEVELS = "the check's grouping column has a level of its own in every row"
COPIES = "weights of a mixed model are precisions, not copies of rows; and "
EXPECTED = {
    "check_sample_weights_shape": EXPLAINED,
    "check_sample_weights_not_overwritten": EXPLAINED,
    "check_sample_weight_equivalence_on_dense_data": COPIES + ONE_ROW_LEVELS,
}
EXPECTED_OF_FORMULA = EXPECTED | {
    "check_pipeline_consistency": EXPLAINED,
    "check_estimators_pickle": EXPLAINED,
    "check_regressors_train": "x1 is not the one column of ten that matters, so that R2 stays below 0.5",
}


def expected_failures(estimator: MixedModelRegressor) -> dict[str, str]:
    if estimator.formula is not None:
        return EXPECTED_OF_FORMULA
    return {} if estimator.groups is None else EXPECTED


MODELS = [
    MixedModelRegressor(),
    MixedModelRegressor(backend="statsmodels", method="ML"),
    MixedModelRegressor(groups=[1]),
    MixedModelRegressor("~ 1 + (1 | x1)"),
]


def all_checks() -> Iterator[Any]:
    """Every check of every model, but for that of the array API, which SciPy allows in a process of its own only."""
    for model in MODELS:
        expected = expected_failures(model)
        for estimator, check in estimator_checks_generator(model):
            name = getattr(check, "func", check).__name__
            if "array_api" not in name:
                marks = [pytest.mark.xfail(reason=expected[name])] if name in expected else []
                yield pytest.param(estimator, check, marks=marks, id=f"{model}-{name}")


@pytest.mark.parametrize(("estimator", "check"), list(all_checks()))
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def test_scikit_learns_check_of_the_array_api() -> None:
    code = (
        "from sklearn.utils.estimator_checks import check_array_api_input as check\n"
        "from unimix.workflows.sklearn_estimator import MixedModelRegressor as M\n"
        "for m in (M(), M(groups=[1])):\n"
        "    check('MixedModelRegressor', m, array_namespace='numpy', expect_only_array_outputs=False)\n"
        "print('checked')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "checked", done.stderr


@pytest.fixture(scope="module")
def fit() -> um.FitResult:
    return um.fit("Weight " + FORMULA, PIGS, "pls")


@pytest.mark.parametrize("formula", [FORMULA, "Weight " + FORMULA, "\n ~Time + (1 + Time | Pig)"])
def test_it_is_um_fit(fit: um.FitResult, formula: str) -> None:
    model = MixedModelRegressor(formula).fit(X, Y)
    assert np.array_equal(model.predict(X), fit.predict(PIGS))
    assert np.array_equal(model.predict(X, level="population"), fit.predict(PIGS, level="population"))
    assert isinstance(model.result_, um.FitResult)
    assert model.result_.log_likelihood == fit.log_likelihood
    assert model.result_.certificate().verdict == "certified"
    assert model.n_features_in_ == 3
    assert model.feature_names_in_.tolist() == ["Time", "Pig", "Cu"]
    assert not hasattr(model, "coef_")


def test_the_public_name() -> None:
    assert um.MixedModelRegressor is MixedModelRegressor


def test_every_argument_arrives() -> None:
    model = MixedModelRegressor(
        FORMULA, backend="statsmodels", method="ML", df_method="normal", options={"conditioning": False}
    ).fit(X, Y)
    result = model.result_
    assert (result.backend, result.model.method, result.fixed.df_method) == ("statsmodels", "ML", "normal")
    assert result.engine.options["conditioning"] is False


def test_generalised_models_predict_the_response() -> None:
    ticks = um.load_dataset("grouseticks")
    model = MixedModelRegressor("~ HEIGHT + YEAR + (1 | BROOD)", family="poisson").fit(ticks, ticks["TICKS"])
    same = um.fit("TICKS ~ HEIGHT + YEAR + (1 | BROOD)", ticks, "pls", family="poisson")
    assert np.array_equal(model.predict(ticks), same.predict(ticks))
    herds = um.load_dataset("cbpp")
    shares, trials = herds["incidence"] / herds["size"], herds["size"]
    model = MixedModelRegressor("~ period + (1 | herd)", family="binomial").fit(herds, shares, sample_weight=trials)
    same = um.fit("cbind(incidence, size - incidence) ~ period + (1 | herd)", herds, "pls", family="binomial")
    np.testing.assert_allclose(model.predict(herds), same.predict(herds), rtol=1e-6)


def test_groups_without_a_formula() -> None:
    data = simulate_slopes(n_groups=12).assign(z=lambda d: np.sin(d["x"]), batch=lambda d: np.arange(len(d)) % 7)
    names = ["x", "g", "z", "batch"]
    same = um.fit("y ~ x + z + (1 | g) + (1 | batch)", data, "pls")
    for groups in (["g", "batch"], ["batch", 1], (1, 3), np.array([1, 3]), [3, "g", 3]):
        model = MixedModelRegressor(groups=groups).fit(data[names], data["y"])
        # the same model, with its terms in another order: both searches end within 1e-9 of the same log-likelihood
        np.testing.assert_allclose(model.predict(data[names]), same.predict(data), rtol=1e-8, atol=1e-7)
    assert model.coef_[[1, 3]].tolist() == [0, 0]
    np.testing.assert_allclose([model.intercept_, *model.coef_[[0, 2]]], same.fixed.estimate, rtol=1e-7)
    one = MixedModelRegressor(groups="g").fit(data[["x", "g"]], data["y"])
    assert one.result_.formula == "y ~ x + (1 | g)"
    assert MixedModelRegressor(groups=np.int64(0)).fit(data[["g"]], data["y"]).result_.formula == "y ~ 1 + (1 | g)"
    assert MixedModelRegressor(groups=[]).fit(data[["x"]], data["y"]).result_.formula == "y ~ x"


def test_booleans_are_numbers_and_text_is_coded_without_a_formula() -> None:
    data = X.assign(late=X["Time"] > 6)
    model = MixedModelRegressor(groups="Pig").fit(data[["late", "Pig"]], Y)
    same = um.fit("Weight ~ late + (1 | Pig)", PIGS.assign(late=1.0 * data["late"]), "pls")
    np.testing.assert_allclose(model.coef_[0], same.fixed.estimate[1], rtol=1e-9)
    coded = MixedModelRegressor(groups="Pig").fit(X, Y)
    assert coded.result_.fixed.terms == ("Intercept", "Time", "Cu[T.Cu035]", "Cu[T.Cu175]")
    assert not hasattr(coded, "coef_")


@pytest.mark.parametrize("kind", [pl.from_pandas, pa.Table.from_pandas], ids=["polars", "pyarrow"])
def test_other_frames(fit: um.FitResult, kind: Any) -> None:
    table = kind(X)
    model = MixedModelRegressor(FORMULA).fit(table, Y.to_numpy())
    assert np.array_equal(model.predict(table), fit.predict(PIGS))
    assert model.feature_names_in_.tolist() == ["Time", "Pig", "Cu"]
    everything = MixedModelRegressor("Weight ~ . + (1 | Pig)").fit(table, Y.to_numpy())
    assert everything.result_.fixed.terms == ("Intercept", "Time", "Cu[T.Cu035]", "Cu[T.Cu175]")
    weights = np.arange(len(Y)) % 3
    halved = MixedModelRegressor(groups="Pig").fit(kind(X[["Time", "Pig"]]), Y, sample_weight=weights)
    same = um.fit("Weight ~ Time + (1 | Pig)", PIGS[weights > 0], "pls", weights=weights[weights > 0])
    np.testing.assert_allclose(halved.predict(kind(X[["Time", "Pig"]])), same.predict(PIGS), rtol=1e-9)


def test_arrays_have_the_columns_x0_x1(fit: um.FitResult) -> None:
    array = X[["Time", "Pig"]].to_numpy()
    model = MixedModelRegressor("~ x0 + (1 + x0 | x1)").fit(array, Y)
    np.testing.assert_allclose(model.predict(array), fit.predict(PIGS), rtol=1e-9)
    mixed = MixedModelRegressor("~ x0 + (1 + x0 | x1) + x2").fit(X.to_numpy(dtype=object), Y)
    assert mixed.result_.fixed.terms == ("Intercept", "x0", "x2[T.Cu035]", "x2[T.Cu175]")
    numbered = MixedModelRegressor("~ x0 + (1 + x0 | x1)").fit(pd.DataFrame(array), Y)
    assert np.array_equal(numbered.predict(pd.DataFrame(array)), model.predict(array))


def test_names_that_are_not_syntactic() -> None:
    rng = np.random.default_rng(1)
    names = ["a b", "TRUE", "1st", "y", "y_", "x + z", "größe", "."]
    frame = pd.DataFrame(rng.normal(size=(60, len(names))), columns=names)
    y = frame.sum(axis=1) + rng.normal(size=60)
    plain = LinearRegression().fit(frame, y)
    for columns in (names, [*names[:-1], "`"], [*names[:-1], ""]):
        model = MixedModelRegressor().fit(frame.set_axis(columns, axis=1), y)
        np.testing.assert_allclose(model.coef_, plain.coef_, rtol=1e-9)
        np.testing.assert_allclose(model.predict(frame.set_axis(columns, axis=1)), plain.predict(frame), rtol=1e-9)
    grouped = frame.assign(**{"my group": np.arange(60) % 6})
    model = MixedModelRegressor(groups="my group").fit(grouped, y)
    assert model.result_.n_groups == {"my group": 6}
    assert model.result_.formula.startswith("y__ ~ `a b` + `TRUE` + `1st` + y + y_ + `x + z` + größe + `.`")


def test_the_name_of_the_response_is_only_a_name(fit: um.FitResult) -> None:
    """X may hold a column of that name: it is not looked at, or it is an ordinary predictor."""
    junk = X.assign(Weight=np.nan)
    assert np.array_equal(MixedModelRegressor("Weight " + FORMULA).fit(junk, Y).predict(junk), fit.predict(PIGS))
    other = X.rename(columns={"Time": "y"})
    model = MixedModelRegressor("~ y + (1 + y | Pig)").fit(other, Y)
    assert model.result_.formula.startswith("y_ ~")
    assert np.array_equal(model.predict(other), fit.predict(PIGS))


def test_more_columns_than_a_formula_can_name() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(150, 100)), columns=[f"{'long' * 30}{j}" for j in range(100)])
    y = frame.iloc[:, 3] + rng.normal(size=150)
    model = MixedModelRegressor().fit(frame, y)
    np.testing.assert_allclose(model.coef_, LinearRegression().fit(frame, y).coef_, atol=1e-10)


def test_dependent_columns_have_coefficient_zero() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 40))
    x = np.column_stack([a, np.full(40, 3.0), b, a + b, np.zeros(40)])
    y = 1 + a - b + rng.normal(size=40)
    model = MixedModelRegressor().fit(x, y)
    assert model.coef_[[1, 3, 4]].tolist() == [0, 0, 0]
    np.testing.assert_allclose(model.predict(x), LinearRegression().fit(x, y).predict(x), rtol=1e-9)
    grouped = MixedModelRegressor(groups=5).fit(np.column_stack([x, np.arange(40) % 5]), y)
    assert grouped.coef_[[1, 3, 4, 5]].tolist() == [0, 0, 0, 0]


def test_more_columns_than_rows() -> None:
    rng = np.random.default_rng(3)
    x, y = 1e5 + rng.normal(size=(6, 9)) * 10.0 ** np.arange(9), rng.normal(size=6)
    model = MixedModelRegressor().fit(x, y)
    np.testing.assert_allclose(model.predict(x), y, atol=1e-6)
    assert np.count_nonzero(model.coef_) == 5
    with pytest.raises(AttributeError, match=r"no result_\. 6 rows cannot determine 6 fixed effects.*least squares"):
        _ = model.result_


@pytest.mark.parametrize("y", [np.full(30, 7.0), np.zeros(30), 2 - 3 * np.arange(30.0) ** 2], ids=["7", "0", "exact"])
@pytest.mark.parametrize("groups", [None, [1]])
def test_no_residual_variance(y: np.ndarray, groups: Any) -> None:
    """The limit for sigma to zero: exact predictions without group effects, and no result that has tests."""
    x = np.column_stack([np.arange(30.0) ** 2, np.arange(30) % 4, np.arange(30) % 7])
    model = MixedModelRegressor(groups=groups).fit(x, y, sample_weight=1 + np.arange(30) % 2)
    new = np.array([[10.0, 99, 3]])
    np.testing.assert_allclose(model.predict(x), y, atol=1e-9)
    np.testing.assert_allclose(model.predict(new, level="population"), y[0] + 10 * (y[1] - y[0]), atol=1e-9)
    assert not hasattr(model, "result_")
    with pytest.raises(AttributeError, match=r"is constant|explain the response exactly"):
        _ = model.result_
    with pytest.raises(um.OptionError, match="choose 'group' or 'population'"):
        model.predict(x, level="both")


@pytest.mark.parametrize(
    "model",
    [
        MixedModelRegressor(groups=[1], new_levels="error"),
        MixedModelRegressor(family="poisson"),
        MixedModelRegressor(priors={"x0": um.priors.Normal(0, 1)}),
        MixedModelRegressor(backend="pymc"),
        MixedModelRegressor("~ x0 + (1 | x1)"),
        MixedModelRegressor("~ x0"),
    ],
    ids=str,
)
def test_least_squares_stands_in_for_no_other_model(model: MixedModelRegressor) -> None:
    x = np.column_stack([np.arange(20.0), np.arange(20) % 4])
    with pytest.raises(um.DataError, match="is constant"):
        model.fit(x, np.full(20, 2.0))
    assert not hasattr(model, "result_")


def test_more_columns_than_rows_beside_groups_is_refused() -> None:
    x = np.column_stack([np.random.default_rng(0).normal(size=(8, 9)), np.arange(8) % 2])
    with pytest.raises(um.DataError, match="8 rows cannot determine"):
        MixedModelRegressor(groups=9).fit(x, np.arange(8.0) ** 2)


def test_new_groups(fit: um.FitResult) -> None:
    new = X.head(3).assign(Pig=["new", "4601", "other"])
    named = X.assign(Pig=X["Pig"].astype(str))
    model = MixedModelRegressor(FORMULA).fit(named, Y)
    population = model.predict(new, level="population")
    assert np.array_equal(model.predict(new)[[0, 2]], population[[0, 2]])
    assert model.predict(new)[1] != population[1]
    strict = clone(model).set_params(new_levels="error").fit(named, Y)
    with pytest.raises(um.DataError, match=r"levels that were not fitted \(Pig: new, other\)"):
        strict.predict(new)
    assert np.array_equal(strict.predict(new, level="population"), population)


def test_weights_are_those_of_um_fit() -> None:
    weights = 0.5 + np.arange(len(Y)) % 3
    same = um.fit("Weight " + FORMULA, PIGS, "pls", weights=weights)
    for given in (weights, weights.tolist(), pd.Series(weights, index=np.arange(len(Y))[::-1])):
        assert np.array_equal(MixedModelRegressor(FORMULA).fit(X, Y, given).predict(X), same.predict(PIGS))


def test_a_weight_of_zero_leaves_the_row_out() -> None:
    keep = (PIGS["Pig"] != PIGS["Pig"].iloc[0]).to_numpy() & (np.arange(len(PIGS)) % 3 > 0)
    same = MixedModelRegressor(FORMULA).fit(X[keep], Y[keep])
    model = MixedModelRegressor(FORMULA).fit(X, Y, sample_weight=keep.astype(int))
    assert np.array_equal(model.predict(X), same.predict(X))
    assert model.result_.n_obs == keep.sum()


def test_weights_are_copies_for_least_squares_alone() -> None:
    x, y, copies = X[["Time"]].to_numpy(), Y.to_numpy(), 1 + np.arange(len(Y)) % 3
    weighted = MixedModelRegressor().fit(x, y, copies)
    repeated = MixedModelRegressor().fit(x.repeat(copies, axis=0), y.repeat(copies))
    np.testing.assert_allclose(weighted.predict(x), repeated.predict(x), rtol=1e-12)
    repeated = MixedModelRegressor(FORMULA).fit(X.loc[X.index.repeat(copies)], y.repeat(copies))
    assert np.abs(MixedModelRegressor(FORMULA).fit(X, y, copies).predict(X) - repeated.predict(X)).max() > 0.01
