"""Reductions are added, saved and loaded, and their results refuse what they cannot know."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import unimix as um

FORMULA = "y ~ x + f + (x | g)"


def make() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    g = rng.integers(0, 25, 600)
    data = pd.DataFrame({"g": [f"s{k:02}" for k in g], "x": rng.normal(size=600), "f": rng.choice(["u", "v"], 600)})
    return data.assign(y=data["x"] + rng.normal(size=25)[g] + rng.normal(size=600), w=rng.uniform(1, 2, 600))


DATA = make()


@pytest.fixture(scope="module")
def reduced() -> um.Reduced:
    return um.reduce(DATA, FORMULA)


@pytest.fixture(scope="module")
def fit(reduced: um.Reduced) -> um.FitResult:
    return um.fit(FORMULA, reduced)


def test_a_new_month_is_added_to_the_old_ones(tmp_path: Path, fit: um.FitResult) -> None:
    old, new = DATA[DATA["g"] < "s15"], DATA[DATA["g"] >= "s10"]
    new = new[new["g"] >= "s15"]  # groups of its own
    before = um.reduce(old, FORMULA)
    path = before.save(tmp_path / "old.unimix")
    both = um.load_reduced(path) + um.reduce(new, FORMULA, like=before)
    assert (both.n_obs, both.n_rows) == (600, 600)
    again = um.fit(FORMULA, both)
    np.testing.assert_allclose(again.fixed.estimate, fit.fixed.estimate, rtol=1e-10)
    assert again.random[0].levels == fit.random[0].levels


def test_a_saved_reduction_is_the_same(tmp_path: Path, reduced: um.Reduced, fit: um.FitResult) -> None:
    loaded = um.load_reduced(reduced.save(tmp_path / "r.unimix"))
    assert um.fit(FORMULA, loaded).to_json().split('"seconds"')[0] == fit.to_json().split('"seconds"')[0]
    assert repr(loaded) == repr(reduced)
    assert [p.name for p in tmp_path.iterdir()] == ["r.unimix"]


def test_damaged_files_are_refused(tmp_path: Path, reduced: um.Reduced) -> None:
    path = reduced.save(tmp_path / "r.unimix")
    whole = path.read_bytes()
    for damaged in (whole[:500], b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(um.DataError, match="not a saved reduction, or is damaged"):
            um.load_reduced(path)
    with pytest.raises(um.DataError, match="There is no file"):
        um.load_reduced(tmp_path / "none")


def test_reductions_that_differ_are_not_added(reduced: um.Reduced) -> None:
    with pytest.raises(um.DataError, match="different formulas"):
        _ = reduced + um.reduce(DATA, "y ~ x + (1 | g)")
    with pytest.raises(um.DataError, match="different weights"):
        _ = reduced + um.reduce(DATA, FORMULA, weights="w")
    more = DATA.assign(f=DATA["f"].replace("u", "a"))
    with pytest.raises(um.DataError, match="different levels of the predictors"):
        _ = reduced + um.reduce(more, FORMULA)
    with pytest.raises(um.DataError, match=r"levels that the reduction given as like= does not know \(a\)"):
        um.reduce(more, FORMULA, like=reduced)
    with pytest.raises(TypeError):
        _ = reduced + 1


def test_a_part_with_fewer_levels_is_added(reduced: um.Reduced, fit: um.FitResult) -> None:
    one = um.reduce(DATA[DATA["f"] == "v"], FORMULA, like=reduced)
    other = um.reduce(DATA[DATA["f"] == "u"], FORMULA, like=reduced)
    np.testing.assert_allclose(um.fit(FORMULA, one + other).fixed.estimate, fit.fixed.estimate, rtol=1e-10)


@pytest.mark.parametrize(
    ("formula", "arguments", "message"),
    [
        ("y ~ z + (1 | g)", {}, "does not hold 'z'"),
        ("y ~ x:f + (1 | g)", {}, "does not hold the columns"),
        ("log(y) ~ x + (1 | g)", {}, r"has the response y, and the formula log\(y\)"),
        ("y ~ x + (1 | f)", {}, "'f' was not a grouping factor"),
        (FORMULA, {"weights": "w"}, "reduced with weights=None"),
        (FORMULA, {"contrasts": {"f": "sum"}}, "contrasts= belongs to um.reduce"),
    ],
)
def test_other_models_are_refused(formula: str, arguments: Any, message: str, reduced: um.Reduced) -> None:
    with pytest.raises(um.UnimixError, match=message):
        um.fit(formula, reduced, **arguments)


@pytest.mark.parametrize(
    "verb", ["fitted", "residuals", "simulate", "augment", "influence", "bootstrap", "predict", "draws", "design"]
)
def test_what_needs_rows_is_refused(verb: str, fit: um.FitResult) -> None:
    def ask() -> Any:
        value = getattr(fit, verb)
        return value()

    with pytest.raises(um.DataError, match="the rows themselves were not kept"):
        ask()


def test_a_result_is_saved_and_loaded(fit: um.FitResult, reduced: um.Reduced) -> None:
    loaded = um.FitResult.from_json(fit.to_json())
    assert loaded == fit
    assert loaded.summary() == fit.summary()
    assert pickle.loads(pickle.dumps(fit)) == fit
    assert copy.copy(fit) == fit
    with pytest.raises(um.DataError, match="holds no data"):
        loaded.anova()
    np.testing.assert_allclose(loaded.with_data(reduced).anova().table, fit.anova().table, rtol=1e-9)
    with pytest.raises(um.DataError, match="not the data that were fitted"):
        loaded.with_data(um.reduce(DATA.iloc[:500], FORMULA))
    with pytest.raises(um.DataError, match="give the result their reduction"):
        loaded.with_data(DATA)
    with pytest.raises(um.DataError, match="fitted to rows, not to a reduction"):
        um.fit(FORMULA, DATA).with_data(reduced)


def test_a_response_that_its_groups_explain_is_refused() -> None:
    data = DATA.assign(y=DATA["g"].str[1:].astype(float))
    with pytest.raises(um.DataError, match="levels of g explain the response exactly"):
        um.fit("y ~ 1 + (1 | g)", um.reduce(data, "y ~ 1 + (1 | g)"))


def test_models_of_two_reductions_are_not_compared(fit: um.FitResult) -> None:
    other = um.fit("y ~ x + (x | g)", um.reduce(DATA.iloc[:500], FORMULA))
    with pytest.raises(um.DataError, match="fitted to one reduction"):
        um.anova(fit, other)
