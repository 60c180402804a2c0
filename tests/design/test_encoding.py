"""Rows of a fitted design for new data."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import unimix as um
from unimix.design.arrays import Design
from unimix.design.design import build_design
from unimix.design.encoding import Encoding
from unimix.design.grouping_factors import RowLevels
from unimix.design.new_data import NewRows
from unimix.errors import DataError
from unimix.formula.interpreter import parse

RNG = np.random.default_rng(5)
N = 60
FRAME = pd.DataFrame(
    {
        "y": RNG.normal(size=N),
        "x": RNG.normal(size=N),
        "z": RNG.uniform(1, 5, N),
        "f": pd.Categorical(RNG.permutation(list("abc") * (N // 3)), categories=["c", "unused", "a", "b"]),
        "h": RNG.permutation(list("uv") * (N // 2)),
        "b": RNG.permutation([True, False] * (N // 2)),
        "k": RNG.permutation([1, 2, 3, 4] * (N // 4)),
        "g": np.repeat(list("ABCDEF"), N // 6),
        "s": np.tile([1, 2], N // 2),
        "big": 2**60 + np.repeat(np.arange(6), N // 6),
    }
)


def labels(levels: RowLevels) -> tuple[Any, ...]:
    """The label of each row."""
    return tuple(levels.names[code] for code in levels.codes)


FORMULAS = [
    "y ~ 1",
    "y ~ 0 + x",
    "y ~ x * f + (1 + x | g)",
    "y ~ x:f + b + (1 | g)",
    "y ~ 0 + f + h:x + (f | g)",
    "y ~ x + (f || g) + (1 | s)",
    "y ~ x + (1 | g/s)",
    "y ~ x + (1 | big)",
    "y ~ poly(x, 2) * f + ns(z, df=3) + (poly(x, 2) | g)",
    "y ~ bs(z, df=4) + scale(x) + center(z) + log(z)",
    "log(z) ~ C(k, contr.sum) + C(f, contr.helmert) + (1 | g)",
    "y ~ x + I(2 * x) + f + C(f) + (1 | g)",
    "y ~ x + offset(log(z)) + (1 | g)",
    "y ~ I(x > 0) + I(f == 'a') + factor(k)",
    "y ~ . - h - s - big + (1 | g)",
    "y ~ f * h - f",
]


def rows(design: Design, data: object, *, with_groups: bool = True) -> NewRows:
    encoding = Encoding.model_validate_json(design.encoding.model_dump_json())
    assert encoding == design.encoding
    assert encoding.model_dump_json() == design.encoding.model_dump_json()
    return encoding.transform(data, with_groups=with_groups)


def fit(formula: str, **options: object) -> Design:
    return build_design(parse(formula), FRAME, **options)


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("picked", [slice(None), slice(3, 9), [7], [5, 5, 2]], ids=["all", "some", "one", "repeated"])
def test_the_same_rows_give_the_same_columns(formula, picked):
    design = fit(formula)
    new = FRAME.drop(columns="y").iloc[picked]
    before = new.copy(deep=True)
    got = rows(design, new)
    index = np.arange(N)[picked]
    assert got.complete.all()
    np.testing.assert_allclose(got.x, design.x[index], atol=1e-12)
    np.testing.assert_allclose(got.offset, 0 if design.offset is None else design.offset[index])
    assert len(got.z) == len(got.levels) == len(design.blocks)
    for block, z, levels in zip(design.blocks, got.z, got.levels, strict=True):
        np.testing.assert_allclose(z, block.z[index], atol=1e-12)
        assert labels(levels) == tuple(block.levels[c] for c in block.codes[index])
    pd.testing.assert_frame_equal(new, before)


@pytest.mark.parametrize("kind", ["polars", "lazy", "pyarrow", "dict", "lists", "object", "string"])
def test_any_form_of_new_data(kind):
    design = fit("y ~ x * f + b + (1 + x | g)")
    new = FRAME.iloc[4:12]
    forms = {
        "polars": pl.from_pandas(new),
        "lazy": pl.from_pandas(new).lazy(),
        "pyarrow": pa.Table.from_pandas(new),
        "dict": {c: new[c].to_numpy() for c in new},
        "lists": {c: new[c].tolist() for c in new},
        "object": new.astype(object),
        "string": new.astype({"f": "string", "x": "Float64", "b": "boolean"}),
    }
    before = copy.deepcopy(forms[kind])
    got = rows(design, forms[kind])
    np.testing.assert_array_equal(got.x, design.x[4:12])
    assert labels(got.levels[0]) == tuple(FRAME.g[4:12])
    if isinstance(before, dict):
        assert all(list(before[c]) == list(forms[kind][c]) for c in before)


def test_groups_are_optional():
    design = fit("y ~ x + (z | g)")
    got = rows(design, {"x": [1.0]}, with_groups=False)
    assert got.x.tolist() == [[1, 1]]
    assert (got.z, got.levels) == ((), ())


def test_new_groups_are_labelled():
    got = rows(fit("y ~ x + (1 | g/s)"), {"x": [1.0, 2.0], "g": ["new", "A"], "s": [9, 1]})
    assert tuple(map(labels, got.levels)) == (("new", "A"), ("9:new", "1:A"))
    long = rows(fit("y ~ x + (1 | big)"), {"x": [1.0, 2.0], "big": [2**60 + 1, 2**60 + 77]})
    assert labels(long.levels[0]) == (2**60 + 1, 2**60 + 77)


def test_missing_rows_are_marked():
    design = fit("y ~ x + f + (z | g)")
    new = FRAME.iloc[:6].astype({"g": object}).reset_index(drop=True)
    new.loc[0, "x"] = np.nan
    new.loc[1, "f"] = None
    new.loc[2, "g"] = None
    new.loc[3, "z"] = np.nan
    new.loc[4, "y"] = np.nan
    assert rows(design, new).complete.tolist() == [False, False, False, False, True, True]
    assert rows(design, new, with_groups=False).complete.tolist() == [False, False, True, True, True, True]
    got = rows(design, new)
    assert got.x.shape == (2, 4)
    assert got.z[0].shape == (2, 2)


@pytest.mark.parametrize("formula", FORMULAS[1:])
def test_no_rows_and_only_missing_rows(formula):
    design = fit(formula)
    for new in (FRAME[:0], FRAME.drop(columns=["y"])[:2].assign(x=np.nan, z=np.nan, f=None, h=None, k=None, b=None)):
        got = rows(design, new)
        assert got.x.shape == (0, design.p)
        assert got.complete.sum() == 0
        assert [z.shape for z in got.z] == [(0, block.q) for block in design.blocks]


@pytest.mark.parametrize(
    ("new", "text"),
    [
        ({}, "The new data lack x, f"),
        ({"X": [1.0], "f": ["a"]}, "lack x. Did you mean 'X'\\? The model uses: x, f"),
        ({"x": [1.0], "f": ["q"]}, "'f' has levels .* not fitted to: q. Known: c, a, b"),
        ({"x": [1.0], "f": ["unused"]}, "not fitted to: unused"),
        ({"x": ["a"], "f": ["a"]}, "'x' was numeric .* is categorical"),
        ({"x": [1.0], "f": [3]}, "'f' was categorical .* is numeric"),
        ({"x": [np.inf], "f": ["a"]}, "'x' holds infinite values"),
        ({"x": [True], "f": ["a"]}, "'x' was numeric .* is categorical"),
        ({"x": [1.0], "f": ["a", "b"]}, "differ in length"),
        ({"x": 1.0, "f": ["a"]}, "is a float and not an array"),
        ({"x": [1j], "f": ["a"]}, "complex"),
        (pd.DataFrame([[1.0, 2.0, "a"]], columns=["x", "x", "f"]), "2 columns called 'x'"),
        (3, "data is a int"),
    ],
)
def test_new_data_that_do_not_fit_are_refused_in_words(new, text):
    with pytest.raises(DataError, match=text):
        rows(fit("y ~ x + f"), new)


def test_a_new_value_of_a_numeric_factor_is_refused():
    with pytest.raises(DataError, match="does not know: 7"):
        rows(fit("y ~ factor(k)"), {"k": [7]})


def test_bool_levels_come_back():
    design = fit("y ~ b")
    assert rows(design, {"b": [True, False, None]}).x.tolist() == [[1, 1], [1, 0]]
    with pytest.raises(DataError, match="not fitted to: 2"):
        rows(design, {"b": [2]})


def test_an_offset_by_name_is_read_and_by_array_is_refused():
    named = build_design(parse("y ~ x + offset(k)"), FRAME, offset="z")
    assert rows(named, {"x": [1.0], "z": [0.5], "k": [3]}).offset.tolist() == [3.5]
    with pytest.raises(DataError, match="lack z"):
        rows(named, {"x": [1.0], "k": [3]})
    given = build_design(parse("y ~ x"), FRAME, offset=np.ones(N))
    with pytest.raises(DataError, match="fitted with offset= as an array"):
        rows(given, {"x": [1.0]})


def test_weights_are_not_needed():
    design = build_design(parse("y ~ x"), FRAME, weights="z")
    assert rows(design, {"x": [2.0]}).x.tolist() == [[1, 2]]


def test_a_model_without_predictors_takes_the_length_of_the_data():
    assert rows(fit("y ~ 1"), {"anything": [1, 2, 3]}).x.tolist() == [[1], [1], [1]]
    assert rows(fit("y ~ 1"), pl.LazyFrame({"anything": [1, 2, 3]})).x.tolist() == [[1], [1], [1]]
    assert rows(fit("y ~ 1"), pa.table({"anything": [1, 2]})).x.tolist() == [[1], [1]]
    with pytest.raises(DataError):
        rows(fit("y ~ 1"), {"anything": 3})


def test_odd_names_survive_the_round_trip():
    data = FRAME[["y", "x", "f"]].rename(columns={"x": "a b", "f": "<f`>"}).assign(**{"": FRAME.z, "TRUE": FRAME.k})
    design = build_design(parse("y ~ ."), data)
    assert design.fixed_names == ("Intercept", "a b", "<f`>[T.a]", "<f`>[T.b]", "", "TRUE")
    np.testing.assert_array_equal(rows(design, data[3:6]).x, design.x[3:6])


def test_true_and_one_are_one_level() -> None:
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"g": np.tile([True, False], 20), "h": np.repeat(np.arange(8), 5), "x": rng.normal(size=40)})
    data["y"] = data["x"] + 2 * data["g"] + rng.normal(size=40) + rng.normal(size=8)[data["h"]]
    fits = [um.fit("y ~ x + (1 | g) + (1 | h)", d, "pls") for d in (data, data.assign(g=data["g"].astype(int)))]
    found = [fit.predict({"x": 0, "g": g, "h": 1})[0] for fit in fits for g in (True, 1)]
    np.testing.assert_allclose(found, found[0], rtol=1e-9)
    assert abs(fits[0].predict({"x": 0, "g": False, "h": 1})[0] - found[0]) > 0.5


def test_rows_that_left_out_columns_decide_are_not_predicted() -> None:
    data = um.load_dataset("sleepstudy")
    data["f"] = np.array(list("cab"))[data["Subject"].astype(int) % 3]
    data.loc[data["f"] == "c", "Days"] = 2
    fit = um.fit("Reaction ~ Days * f + (1 | Subject)", data, "pls")
    assert fit.model.aliased
    assert np.isfinite(fit.predict({"Days": 9, "f": "a"}, level="population")[0])
    assert np.isfinite(fit.predict({"Days": 2, "f": "c"}, level="population")[0])
    for interval in (None, "confidence"):
        with pytest.raises(DataError, match="1 of 1 rows cannot be predicted"):
            fit.predict({"Days": 9, "f": "c"}, level="population", interval=interval)


@pytest.mark.r
def test_a_loaded_result_knows_the_data_of_its_zero_inflation() -> None:
    ticks = um.load_dataset("grouseticks")
    fit = um.fit("TICKS ~ YEAR + (1 | BROOD)", ticks, "glmmtmb", family="poisson", ziformula="~ cHEIGHT")
    loaded = type(fit).from_json(fit.to_json())
    again = um.refit(loaded, ticks)
    assert again.log_likelihood == pytest.approx(fit.log_likelihood, abs=1e-4)
    with pytest.raises(DataError, match="cHEIGHT differs"):
        um.refit(loaded, ticks.assign(cHEIGHT=ticks["cHEIGHT"].to_numpy()[::-1]))
