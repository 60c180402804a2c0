"""Row labels: results go back to the rows they came from, arrays with an index to the rows they belong to."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

import unimix as um
from unimix.testing import simulate_slopes

FORMULA = "y ~ x + (1 | g)"


@pytest.fixture(scope="module")
def late() -> pd.DataFrame:
    """Filtered data: labels are not positions; two rows are incomplete."""
    data = simulate_slopes(n_groups=12).iloc[20:].copy()
    data.loc[25, "x"] = np.nan
    data.loc[31, "y"] = np.nan
    return data


@pytest.fixture(scope="module")
def fit(late: pd.DataFrame) -> um.FitResult:
    return um.fit(FORMULA, late)


def test_augment_joins_the_frame_that_was_fitted(fit: um.FitResult, late: pd.DataFrame) -> None:
    joined = late.drop(columns="y").join(fit.augment())
    complete = late.dropna()
    np.testing.assert_array_equal(joined.loc[complete.index, "y"], complete["y"])
    np.testing.assert_allclose(joined.loc[complete.index, ".fitted"], fit.predict(complete))
    assert joined.loc[[25, 31], ".fitted"].isna().all()


def test_labels_survive_json(fit: um.FitResult) -> None:
    loaded = um.FitResult.from_json(fit.to_json())
    assert loaded.to_json() == fit.to_json()
    pd.testing.assert_frame_equal(loaded.augment(), fit.augment())


@pytest.mark.parametrize(
    "index",
    [
        pd.Index([f"row {i}" for i in range(60)], name="who"),
        pd.date_range("2024-01-01", periods=60, name="day"),
        pd.date_range("2024-03-01", periods=60, freq="h", tz="Europe/Berlin"),
        pd.MultiIndex.from_product([list("abcdef"), range(10)], names=["site", None]),
        pd.Index(np.arange(60) / 4),
        pd.timedelta_range("1h", periods=60),
        pd.CategoricalIndex(list("ab") * 30),
        pd.Index([None, *range(59)], dtype=object),
    ],
)
def test_labels_of_every_kind(index: pd.Index) -> None:
    data = simulate_slopes(n_groups=10).iloc[:60].set_index(index)
    data.iloc[3, data.columns.get_loc("x")] = np.nan
    fit = um.fit(FORMULA, data)
    kept = data.index[data["x"].notna()]
    for found in (fit, um.FitResult.from_json(fit.to_json())):
        got = found.augment().index
        assert got.names == kept.names
        assert [str(v) for v in got] == [str(v) for v in kept]
    if index.dtype != "category" and None not in index.tolist():
        assert fit.augment().index.equals(kept)


def test_rows_without_labels_have_positions() -> None:
    data = simulate_slopes(n_groups=10)
    assert um.fit(FORMULA, data).rows.labels is None
    assert um.fit(FORMULA, pl.from_pandas(data)).augment().index.name == "row"


def test_augment_stands_beside_the_data(fit: um.FitResult, late: pd.DataFrame) -> None:
    table = fit.augment(late)
    assert list(table.columns) == [*late.columns, ".fitted", ".resid", ".fixed"]
    assert table.index.equals(late.index)
    assert ".fitted" not in late
    assert table.loc[[25, 31], [".fitted", ".resid", ".fixed"]].isna().all(axis=None)
    np.testing.assert_array_equal(table[".fitted"].dropna(), fit.fitted)
    np.testing.assert_array_equal(table[".resid"].dropna(), fit.residuals())
    beside = fit.augment(pl.from_pandas(late.reset_index(drop=True)))
    np.testing.assert_array_equal(beside[".fitted"], table[".fitted"])


def test_augment_predicts_new_rows(fit: um.FitResult, late: pd.DataFrame) -> None:
    new = pd.DataFrame({"x": [0.5, np.nan], "g": late["g"].iloc[:2].tolist()})
    table = fit.augment(new)
    assert table[".fitted"][0] == pytest.approx(fit.predict(new)[0])
    assert table[".fitted"].isna().tolist() == [False, True]
    assert table[".resid"].isna().all()
    known = fit.augment({"x": [0.5], "y": [3.0], "g": late["g"].iloc[:1].tolist()})
    assert known[".resid"][0] == pytest.approx(3.0 - known[".fitted"][0])
    with pytest.raises(um.DataError, match="new_levels='population'"):
        fit.augment(new.assign(g="nobody"))
    strange = fit.augment(new.assign(g="nobody"), new_levels="population")
    assert strange[".fitted"][0] == strange[".fixed"][0]


def test_augment_is_not_fooled_by_equal_responses(fit: um.FitResult, late: pd.DataFrame) -> None:
    """What would have been: the same rows with another predictor."""
    moved = fit.augment(late.assign(x=late["x"] + 1))
    slope = fit.fixed_effects.loc["x", "estimate"]
    np.testing.assert_allclose((moved[".fitted"] - fit.augment(late)[".fitted"]).dropna(), slope)


@pytest.mark.r
def test_augment_of_counts_of_successes() -> None:
    data = um.load_dataset("cbpp")
    fit = um.fit("cbind(incidence, size - incidence) ~ period", data, "lme4", family="binomial")
    table = fit.augment(data)
    np.testing.assert_allclose(table[".resid"], data["incidence"] / data["size"] - fit.fitted)


@pytest.mark.parametrize("role", ["weights", "offset"])
def test_a_series_is_aligned_by_its_labels(role: str) -> None:
    data = simulate_slopes(n_groups=10).assign(w=np.linspace(1, 3, 120))
    by_name = um.fit(FORMULA, data, **{role: "w"})
    shuffled = data["w"].sample(frac=1, random_state=1)
    for values in (data["w"], shuffled):
        assert um.fit(FORMULA, data, **{role: values}).model.fingerprint == by_name.model.fingerprint
    early = data.iloc[:100]
    for values, told in (
        (data["w"], r"has 120 values for 100 rows.*values.loc\[data.index\]"),
        (data["w"].iloc[20:], "no value for 20 of the 100 rows"),
        (pd.Series(np.ones(100), index=[0] * 100), "no value for 99 of the 100 rows"),
    ):
        with pytest.raises(um.DataError, match=told) as error:
            um.fit(FORMULA, early, **{role: values})
        assert f"{role}='column'" in str(error.value)
        assert ".to_numpy()" in str(error.value)
    filtered = data.iloc[20:]
    with pytest.raises(um.DataError, match="no value for 20 of the 100 rows"):
        um.fit(FORMULA, filtered, **{role: pd.Series(np.ones(100))})
    assert um.fit(FORMULA, filtered, **{role: np.ones(100)}).n_obs == 100
    twice = early.set_index(pd.Index([0] * 100))
    assert um.fit(FORMULA, twice, **{role: twice["w"]}).n_obs == 100
