"""Any data frame to typed columns: every dtype by every road."""

# ruff: noqa: PD011 (the values of our own columns)

from __future__ import annotations

import array
import copy
import datetime as dt
import decimal

import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import unimix as um
from unimix.design.typed_columns import (
    FactorColumn,
    NumericColumn,
    as_factor,
    column_labels,
    drop_unused,
    factor_from_numbers,
    read_columns,
)
from unimix.errors import DataError

BIG = 2**53
D = decimal.Decimal
NAN = float("nan")


def frame(values: object, **options: object) -> pd.DataFrame:
    return pd.DataFrame({"a": pd.Series(values, **options)})


def read(data: object) -> NumericColumn | FactorColumn:
    return read_columns(data, ["a"])["a"]


def series(values: object, dtype: object = None) -> pl.DataFrame:
    return pl.DataFrame({"a": pl.Series(values, dtype=dtype)})


NUMBERS = {
    "float": (frame([1.0, NAN]), [1, NAN]),
    "float32": (frame([1.5, 2], dtype="float32"), [1.5, 2]),
    "float16": (frame(np.array([1.5, 2], dtype="f2")), [1.5, 2]),
    "longdouble": (frame(np.array([1, 2], dtype=np.longdouble)), [1, 2]),
    "int8": (frame([1, 2], dtype="int8"), [1, 2]),
    "UInt8": (frame([1, 2], dtype="UInt8"), [1, 2]),
    "Int64": (frame([1, None, 3], dtype="Int64"), [1, NAN, 3]),
    "Float64": (frame([1.5, None], dtype="Float64"), [1.5, NAN]),
    "sparse": (frame(pd.arrays.SparseArray([0.0, 1.0])), [0, 1]),
    "arrow int": (frame([1, None], dtype="int64[pyarrow]"), [1, NAN]),
    "arrow double": (frame([1.5, None], dtype="double[pyarrow]"), [1.5, NAN]),
    "arrow decimal": (frame([D("1.5"), None], dtype=pd.ArrowDtype(pa.decimal128(5, 2))), [1.5, NAN]),
    "object ints": (frame([1, None, 3], dtype=object), [1, NAN, 3]),
    "object mixed numbers": (frame([1, 2.5, np.int8(3), D("4.5")], dtype=object), [1, 2.5, 3, 4.5]),
    "object NA": (frame([1, pd.NA, pd.NaT], dtype=object), [1, NAN, NAN]),
    "Decimal": (frame([D("1.5"), D("NaN"), None], dtype=object), [1.5, NAN, NAN]),
    "polars": (series([1, None]), [1, NAN]),
    "polars NaN": (series([1.0, NAN, None]), [1, NAN, NAN]),
    "polars float32": (series([1.5], pl.Float32), [1.5]),
    "polars Decimal": (series([D("1.5"), None]), [1.5, NAN]),
    "polars lazy": (series([1, None]).lazy(), [1, NAN]),
    "polars null": (series([None, None]), [NAN, NAN]),
    "pyarrow": (pa.table({"a": [1, None]}), [1, NAN]),
    "pyarrow decimal": (pa.table({"a": pa.array([D("1.5"), None])}), [1.5, NAN]),
    "pyarrow half": (pa.table({"a": pa.array([np.float16(1)])}), [1]),
    "pyarrow null": (pa.table({"a": [None]}), [NAN]),
    "narwhals": (nw.from_native(series([1, 2])), [1, 2]),
    "list": ({"a": [1, None]}, [1, NAN]),
    "tuple": ({"a": (1, 2.5)}, [1, 2.5]),
    "range": ({"a": range(2)}, [0, 1]),
    "array": ({"a": np.arange(2)}, [0, 1]),
    "big-endian array": ({"a": np.array([1, 2], dtype=">i4")}, [1, 2]),
    "masked array": ({"a": np.ma.array([1, 2], mask=[0, 1])}, [1, NAN]),
    "array module": ({"a": array.array("d", [1, 2])}, [1, 2]),
    "pandas series in a dict": ({"a": pd.Series([1, 2], index=[5, 9])}, [1, 2]),
    "pandas index in a dict": ({"a": pd.Index([1, 2])}, [1, 2]),
    "polars series in a dict": ({"a": pl.Series([1, None])}, [1, NAN]),
    "pyarrow array in a dict": ({"a": pa.array([1, None])}, [1, NAN]),
    "pyarrow chunks in a dict": ({"a": pa.chunked_array([[1], [None]])}, [1, NAN]),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers(kind):
    data, expected = NUMBERS[kind]
    column = read(data)
    assert isinstance(column, NumericColumn)
    assert column.values.dtype == np.float64
    assert column.whole is None
    np.testing.assert_array_equal(column.values, expected)
    np.testing.assert_array_equal(column.missing, np.isnan(expected))


CUT = pd.cut(pd.Series([1, 2, 3]), [0, 1, 3])
FACTORS = {
    "str": (frame(["b", None, "a", "B"]), [2, -1, 1, 0], ("B", "a", "b")),
    "string": (frame(["b", None, "a"], dtype="string"), [1, -1, 0], ("a", "b")),
    "arrow string": (frame(["b", None, "a"], dtype="string[pyarrow]"), [1, -1, 0], ("a", "b")),
    "object": (frame(["b", None, "a", NAN, pd.NA], dtype=object), [1, -1, 0, -1, -1], ("a", "b")),
    "object with a NaN of numpy": (frame(["b", np.float32("nan")], dtype=object), [0, -1], ("b",)),
    "numpy strings": (frame([np.str_("b"), "a"], dtype=object), [1, 0], ("a", "b")),
    "bool": (frame([True, False]), [1, 0], (False, True)),
    "one bool": (frame([True, True]), [1, 1], (False, True)),
    "boolean": (frame([True, None], dtype="boolean"), [1, -1], (False, True)),
    "arrow bool": (frame([True, None], dtype="bool[pyarrow]"), [1, -1], (False, True)),
    "object bool": (frame([np.True_, None, False], dtype=object), [1, -1, 0], (False, True)),
    "categorical": (frame(pd.Categorical(["b", "a", None], categories=["b", "z", "a"])), [0, 2, -1], ("b", "z", "a")),
    "ordered": (frame(pd.Categorical(["b", "a"], categories=["b", "a"], ordered=True)), [0, 1], ("b", "a")),
    "categorical ints": (frame(pd.Categorical([2, 1, 2])), [1, 0, 1], (1, 2)),
    "categorical floats": (frame(pd.Categorical([2.5, np.inf, 1.0])), [1, 2, 0], (1, 2.5, "inf")),
    "categorical bools": (frame(pd.Categorical([True, False])), [1, 0], (False, True)),
    "categorical intervals": (frame(CUT), [0, 1, 1], ("(0, 1]", "(1, 3]")),
    "datetime": (
        frame(pd.to_datetime(["2020-01-02T00:00", "2019-12-31T12:00", None])),
        [1, 0, -1],
        ("2019-12-31T12:00:00", "2020-01-02"),
    ),
    "datetime with zone": (
        frame(pd.to_datetime(["2020-01-01"]).tz_localize("UTC")),
        [0],
        ("2020-01-01T00:00:00+00:00",),
    ),
    "date objects": (
        frame([dt.date(2020, 1, 1), None, dt.date(987, 6, 5)], dtype=object),
        [1, -1, 0],
        ("0987-06-05", "2020-01-01"),
    ),
    "polars date": (series([dt.date(2020, 1, 2), None, dt.date(2020, 1, 1)]), [1, -1, 0], ("2020-01-01", "2020-01-02")),
    "numpy dates": ({"a": np.array(["2020-02", "2020-01"], dtype="M8[M]")}, [1, 0], ("2020-01-01", "2020-02-01")),
    "categorical dates": (frame(pd.Categorical([dt.date(2020, 1, 1)])), [0], ("2020-01-01",)),
    "polars string": (series(["b", None, "a"]), [1, -1, 0], ("a", "b")),
    "polars categorical": (series(["b", None, "a"], pl.Categorical), [1, -1, 0], ("a", "b")),
    "polars enum": (series(["b", None, "a"], pl.Enum(["z", "b", "a"])), [1, -1, 2], ("z", "b", "a")),
    "polars bool": (series([True, None]), [1, -1], (False, True)),
    "pyarrow string": (pa.table({"a": ["x", None]}), [0, -1], ("x",)),
    "pyarrow bool": (pa.table({"a": [True, None]}), [1, -1], (False, True)),
    "pyarrow dictionary": (pa.table({"a": pa.array(["b", "a", None]).dictionary_encode()}), [0, 1, -1], ("b", "a")),
    "pyarrow int dictionary": (pa.table({"a": pa.array([2, 1]).dictionary_encode()}), [0, 1], (2, 1)),
    "pyarrow null in the dictionary": (
        pa.table({"a": pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(["b", None]))}),
        [0, -1],
        ("b", ""),
    ),
    "pyarrow chunks": (
        pa.concat_tables([pa.table({"a": pa.array([v]).dictionary_encode()}) for v in "bab"]),
        [0, 1, 0],
        ("b", "a"),
    ),
    "list": ({"a": ["b", None, "a"]}, [1, -1, 0], ("a", "b")),
    "bool list": ({"a": [True, None]}, [1, -1], (False, True)),
    "numpy U": ({"a": np.array(["b", "a"])}, [1, 0], ("a", "b")),
    "numpy strings of any length": ({"a": np.array(["b", "a"], dtype=np.dtypes.StringDType())}, [1, 0], ("a", "b")),
    "categorical in a dict": ({"a": pd.Categorical(["b", "a"], categories=["b", "a"])}, [0, 1], ("b", "a")),
    "pyarrow dictionary in a dict": ({"a": pa.array(["b", "a"]).dictionary_encode()}, [0, 1], ("b", "a")),
}


@pytest.mark.parametrize("kind", FACTORS)
def test_factors(kind):
    data, codes, levels = FACTORS[kind]
    column = read(data)
    assert isinstance(column, FactorColumn)
    assert column.codes.dtype == np.int64
    assert column.codes.tolist() == codes
    assert column.levels == levels
    assert [type(a) for a in column.levels] == [type(a) for a in levels]
    assert column.missing.tolist() == [c < 0 for c in codes]


BIG_INTS = {
    "int64": (frame([BIG + 1, BIG, BIG + 1]), [1, 0, 1]),
    "Int64": (frame([BIG + 1, None, BIG], dtype="Int64"), [1, -1, 0]),
    "uint64": (frame(np.array([2**63 + 2, 2**63 + 1], dtype="u8")), [1, 0]),
    "negative": (frame([-BIG - 1, -BIG]), [0, 1]),
    "python ints": (frame([10**30 + 1, 10**30, None], dtype=object), [1, 0, -1]),
    "Decimal": (frame([D(BIG + 1), D(BIG)], dtype=object), [1, 0]),
    "list": ({"a": [BIG + 1, BIG]}, [1, 0]),
    "polars": (series([BIG + 1, BIG]), [1, 0]),
    "polars UInt64": (series([2**63 + 2, 2**63 + 1], pl.UInt64), [1, 0]),
    "polars Int128": (series([2**80 + 1, 2**80], pl.Int128), [1, 0]),
    "pyarrow": (pa.table({"a": [BIG + 1, None, BIG]}), [1, -1, 0]),
}


@pytest.mark.parametrize("kind", BIG_INTS)
def test_integers_beyond_floats_stay_apart_as_levels(kind):
    data, codes = BIG_INTS[kind]
    column = read(data)
    assert isinstance(column, NumericColumn)
    factor = as_factor(column, "a")
    assert factor.codes.tolist() == codes
    assert len(set(factor.levels)) == 2
    assert all(type(level) is int for level in factor.levels)
    taken = as_factor(column.take(np.array([1, 0])), "a")
    assert taken.codes.tolist() in ([codes[1], codes[0]], [-1, 0])


REFUSED = {
    "timedelta": (frame(pd.to_timedelta([1])), r"holds durations.*data\['a'\].dt.total_seconds"),
    "time objects": (frame([dt.time(1)], dtype=object), "holds times or durations"),
    "dates of two kinds": (
        frame([pd.Timestamp(2020, 1, 1), pd.Timestamp(2020, 1, 1, tz="UTC")], dtype=object),
        r"mixes dates with and without a time zone.*utc=True",
    ),
    "period": (frame(pd.period_range("2020", periods=2)), "holds Period"),
    "interval": (frame(pd.interval_range(0, 2)), "holds Interval"),
    "complex": (frame([1 + 2j]), "holds complex numbers"),
    "complex objects": (frame([1 + 2j, 2], dtype=object), "mixes complex numbers and numbers"),
    "complex array": ({"a": np.array([1j])}, "holds complex numbers"),
    "mixed": (frame([1, "a"], dtype=object), "mixes numbers and text"),
    "mixed bool": (frame([True, 2], dtype=object), "mixes booleans and numbers"),
    "lists": (frame([[1], [2]], dtype=object), "holds list"),
    "functions": (frame([print], dtype=object), "holds builtin_function_or_method"),
    "bytes": (frame([b"a"], dtype=object), "holds bytes"),
    "huge": (frame([10**400, float("inf")], dtype=object), "beyond the range of floats"),
    "levels alike": (frame(pd.Categorical([1, "1"])), "read the same: 1"),
    "polars time": (series([dt.time(1)]), "holds Time"),
    "polars list": (series([[1], [2]]), "holds List"),
    "polars struct": (series([{"x": 1}]), "holds Struct"),
    "polars binary": (series([b"x"]), "holds Binary"),
    "polars object": (series([object()], pl.Object), "holds object"),
    "two dimensions": ({"a": np.ones((2, 2))}, "has 2 dimensions"),
    "no dimension": ({"a": np.array(1)}, "has 0 dimensions"),
    "scalar": ({"a": 1}, "is a int and not an array"),
    "text": ({"a": "abc"}, "is a str and not an array"),
    "set": ({"a": {1, 2}}, "is a set and not an array"),
    "generator": ({"a": (i for i in [1])}, "is a generator and not an array"),
    "none": ({"a": None}, "is a NoneType and not an array"),
    "structured": ({"a": np.array([(1, 2)], dtype="i4,i4")}, "holds void"),
    "lengths": ({"a": [1], "b": [1, 2]}, "differ in length: a has 1, b has 2"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_column_is_refused_in_words(kind):
    data, text = REFUSED[kind]
    with pytest.raises(DataError, match=text):
        read_columns(data, list(column_labels(data)))


@pytest.mark.parametrize("data", [3, None, "abc", [1, 2], np.ones((2, 2)), pd.Series([1])])
def test_what_is_no_table_is_refused_in_words(data):
    with pytest.raises(DataError, match="data is a"):
        read_columns(data, ["a"])


def test_unknown_and_repeated_names_are_told_together():
    data = pd.DataFrame([[1, 2, 3]], columns=["weight", "x", "x"])
    with pytest.raises(DataError) as raised:
        read_columns(data, ["wieght", "y", "x"])
    text = str(raised.value)
    assert "'wieght' is not a column of the data. Did you mean 'weight'?" in text
    assert "'y' is not a column" in text
    assert "Columns: weight, x, x." in text
    assert "2 columns called 'x'" in text
    assert read_columns(data, ["weight"])["weight"].values.tolist() == [1]


def test_duplicates_by_text_are_found():
    data = pd.DataFrame([[1, 2]], columns=[1, "1"])
    with pytest.raises(DataError, match="2 columns called '1'"):
        read_columns(data, ["1"])


@pytest.mark.parametrize("label", [1, 2.5, True, None, ("a", "b"), NAN, dt.date(2020, 1, 1), "", "`", "a\nb", "\0"])
def test_column_names_of_any_type(label):
    data = pd.DataFrame({"other": [3.0, 4.0]})
    data[label] = [1.0, 2.0]
    name = str(data.columns[-1])
    assert read_columns(data, [name])[name].values.tolist() == [1, 2]


def test_several_rows_of_column_names_are_refused():
    with pytest.raises(DataError, match="several rows of column names"):
        column_labels(pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])))


@pytest.mark.parametrize(
    "index",
    [[7, 7, 7], [3, 1, 2], pd.MultiIndex.from_tuples([(1, 2), (1, 3), (2, 1)]), pd.date_range("2020", periods=3)],
)
def test_the_index_does_not_matter(index):
    data = pd.DataFrame({"a": [1.0, 2, 3], "b": ["u", "v", "u"]}, index=index)
    columns = read_columns(data, ["a", "b"])
    assert columns["a"].values.tolist() == [1, 2, 3]
    assert columns["b"].codes.tolist() == [0, 1, 0]


@pytest.mark.parametrize("kind", [*NUMBERS, *FACTORS])
def test_the_data_are_not_modified_and_not_shared(kind):
    data = {**NUMBERS, **FACTORS}[kind][0]
    before = copy.deepcopy(data)
    column = read(data)
    values = column.values if isinstance(column, NumericColumn) else column.codes
    values[:] = 77
    if isinstance(data, dict):
        assert list(map(str, data["a"])) == list(map(str, before["a"]))
    elif isinstance(data, pd.DataFrame):
        pd.testing.assert_frame_equal(data, before)
    elif isinstance(data, pl.LazyFrame):
        assert data.collect().equals(before.collect())
    elif isinstance(data, pl.DataFrame):
        assert data.equals(before)
    fresh = read(data)
    assert 77 not in (fresh.values if isinstance(fresh, NumericColumn) else fresh.codes)


def test_polars_categories_do_not_depend_on_what_was_read_before():
    series(["zz9", "b", "a"], pl.Categorical)
    first = read(series(["b", "a"], pl.Categorical))
    series(["a", "c"], pl.Categorical)
    second = read(series(["a", "b"], pl.Categorical))
    assert first.levels == second.levels == ("a", "b")


def test_a_signalling_nan_is_missing():
    assert np.isnan(read({"a": [D("sNaN"), D(1)]}).values).tolist() == [True, False]


def test_numbers_as_a_factor():
    codes, levels = factor_from_numbers(np.array([2.5, 1.0, NAN, 2.5]), None, "a")
    assert codes.tolist() == [1, 0, -1, 1]
    assert levels == (1, 2.5)
    codes, _ = factor_from_numbers(np.array([NAN, 1.0]), (1, 2.5), "a")
    assert codes.tolist() == [-1, 0]
    with pytest.raises(DataError, match="does not know: 7"):
        factor_from_numbers(np.array([7.0]), (1, 2.5), "a")


def test_unused_levels_drop():
    column, dropped = drop_unused(FactorColumn(np.array([2, -1, 0]), ("a", "b", "c")))
    assert (column.codes.tolist(), column.levels, dropped) == ([1, -1, 0], ("a", "c"), ("b",))


def test_labels_for_messages():
    assert NumericColumn(np.array([1.25])).label(0) == "1.25"
    assert FactorColumn(np.array([0, -1]), ("a",)).label(0) == "a"
    assert FactorColumn(np.array([0, -1]), ("a",)).label(1) == "missing"


def test_names_in_the_index_are_answered_with_reset_index() -> None:
    index = pd.MultiIndex.from_product([["n", "s"], ["a", "b", "c"], range(8)], names=["province", "city", "year"])
    rng = np.random.default_rng(5)
    panel = pd.DataFrame({"y": rng.normal(size=48), "x": rng.normal(size=48)}, index=index)
    told = r"The index of the data has province, city: data.reset_index\(\) makes it columns"
    with pytest.raises(um.errors.FormulaError, match=told):
        um.fit("y ~ x + (1 | province:city)", panel)
    with pytest.raises(um.DataError, match=r"index of the data has year: data.reset_index\(\)"):
        um.fit("y ~ x", panel, weights="year")
    fit = um.fit("y ~ x + (1 | city)", panel.reset_index())
    with pytest.raises(um.DataError, match=r"index of the data has city: data.reset_index\(\)"):
        fit.predict(panel)
