"""Random data and random formulas: a sound design or an error of unimix, and nothing else."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unimix.design.arrays import Design
from unimix.design.design import build_design
from unimix.design.encoding import Encoding
from unimix.errors import UnimixError
from unimix.formula.interpreter import parse

BOUNDED = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
NAMES = ["y", "x", "z", "f", "h", "g", "my col", "class", "TRUE", "", "y", "x`", "größe", "<weights>"]
TEXTS = st.sampled_from(["a", "b", "c", "A", "", " ", "nan", "]:x", "__k", "1", "é", "{0}"])
FLOATS = st.one_of(
    st.floats(-1e3, 1e3),
    st.sampled_from([0.0, -0.0, 1.0, np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, 1e-200, 2.0**53]),
)


KINDS = {
    "normal": lambda n, rng: pd.Series(rng.normal(size=n)),
    "float32": lambda n, rng: pd.Series(rng.normal(size=n).astype("float32")),
    "small": lambda n, rng: pd.Series(rng.integers(0, 3, n).astype("int8")),
    "text": lambda n, rng: pd.Series(rng.choice(list("abc"), n), dtype=object),
    "category": lambda n, rng: pd.Series(pd.Categorical(rng.choice(list("ab"), n), categories=["b", "q", "a"])),
    "ordered": lambda n, rng: pd.Series(pd.Categorical(rng.choice(list("ab"), n), categories=["b", "a"], ordered=True)),
    "bool": lambda n, rng: pd.Series(rng.random(n) > 0.5),
    "some missing": lambda n, rng: pd.Series(np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n))),
    "one level": lambda n, rng: pd.Series(["only"] * n, dtype=object),
    "none": lambda n, rng: pd.Series([None] * n, dtype=object),
    "date": lambda n, rng: pd.Series(pd.date_range("2020", periods=n)),
    "complex": lambda n, rng: pd.Series(np.ones(n) * 1j),
}
DRAWN = {
    "float": (FLOATS, float),
    "int": (st.integers(-5, 5), "int64"),
    "big": (st.sampled_from([2**53, 2**53 + 1, 2**62]), "int64"),
    "Int64": (st.one_of(st.none(), st.integers(0, 3)), "Int64"),
    "str": (st.one_of(st.none(), TEXTS), "string"),
    "boolean": (st.sampled_from([True, False, None]), "boolean"),
    "object": (st.one_of(st.none(), TEXTS, st.integers(0, 2), st.booleans()), object),
}


@st.composite
def column(draw: st.DrawFn, n: int) -> pd.Series:
    kind = draw(st.sampled_from([*KINDS, *DRAWN, "constant"]))
    if kind in KINDS:
        return KINDS[kind](n, np.random.default_rng(draw(st.integers(0, 1000))))
    if kind == "constant":
        return pd.Series(np.full(n, draw(FLOATS)))
    values, dtype = DRAWN[kind]
    return pd.Series(draw(st.lists(values, min_size=n, max_size=n)), dtype=dtype)


def sane(n: int, rng: np.random.Generator) -> dict[str, pd.Series]:
    return {
        "y": pd.Series(rng.normal(size=n)),
        "x": pd.Series(rng.normal(size=n)),
        "z": pd.Series(rng.uniform(1, 5, n)),
        "f": pd.Series(rng.choice(list("abc"), n), dtype=object),
        "h": pd.Series(rng.choice(list("ab"), n)),
        "g": pd.Series(rng.integers(0, 5, n)),
        "my col": pd.Series(rng.integers(0, 9, n)),
    }


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    """Mostly a data set that can be fitted with one or two columns spoilt, sometimes anything at all."""
    if draw(st.integers(0, 4)):
        n = draw(st.sampled_from([3, 12, 40, 60, 60, 60]))
        columns = sane(n, np.random.default_rng(draw(st.integers(0, 1000))))
        for name in draw(st.lists(st.sampled_from(list(columns)), max_size=2)):
            columns[name] = draw(column(n))
        names, values = list(columns), list(columns.values())
        extra = draw(st.lists(st.sampled_from(NAMES), max_size=1))
    else:
        n = draw(st.sampled_from([0, 1, 2, 3, 4, 8, 20]))
        names, values = [], []
        extra = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=8))
    names += extra
    values += [draw(column(n)) for _ in extra]
    if draw(st.integers(0, 5)) == 0:
        values[-1] = values[0]
    data = pd.concat(values, axis=1)
    data.columns = names
    indices = {
        "range": data.index,
        "same": [0] * n,
        "text": [f"r{i % 2}" for i in range(n)],
        "dates": pd.date_range("2020", periods=n),
        "several": pd.MultiIndex.from_arrays([np.arange(n) % 2, np.arange(n)]),
    }
    data.index = indices[draw(st.sampled_from(list(indices)))]
    return data


COLUMNS = ["x", "z", "f", "h", "`my col`"]
CALLS = [
    "poly(x, 2)",
    "scale(x)",
    "I(x^2)",
    "log(z)",
    "sqrt(abs(x))",
    "C(f)",
    "C(f, contr.sum)",
    "factor(h)",
    "I(x > 0)",
    "I(f == 'a')",
    "ns(x, df=2)",
    "C(f, contr.treatment(base='a'))",
    "bs(x, df=4)",
    "center(x)",
    "cr(x, df=3)",
    "cc(z, df=3)",
    "exp(x)",
    "I(x / z)",
    "factor(`my col`)",
]
ODD = [
    "class",
    "`TRUE`",
    "größe",
    "`<weights>`",
    ".",
    "0",
    "1",
    "I(f + x)",
    "y",
    "I(x * x * x * 1e200)",
    "log(x)",
    "C(f, contr.poly)",
]
ATOMS = st.one_of(
    st.sampled_from(COLUMNS), st.sampled_from(COLUMNS), st.sampled_from(CALLS), st.sampled_from(COLUMNS + ODD)
)
OPERATORS = st.sampled_from([" + ", " + ", " * ", ":", " / ", " - ", " %in% "])
GROUPS = st.sampled_from(["g", "g", "g", "f", "h", "g/h", "g:f", "`my col`", "x", "class"])


@st.composite
def formulas(draw: st.DrawFn) -> str:
    def side(largest: int) -> str:
        atoms = draw(st.lists(ATOMS, min_size=1, max_size=largest, unique=True))
        text = atoms[0]
        for atom in atoms[1:]:
            text += draw(OPERATORS) + atom
        return f"({text})^2" if draw(st.integers(0, 9)) == 0 else text

    response = draw(st.sampled_from(["y", "y", "y", "y", "y", "y", "log(z)", "f", "I(y * 1e200)", "scale(y)"]))
    random = [
        f"({draw(st.sampled_from(['1', '1', '0', side(2)]))} {draw(st.sampled_from(['|', '|', '||']))} {draw(GROUPS)})"
        for _ in range(draw(st.integers(0, 2)))
    ]
    offset = draw(st.sampled_from([[], [], [], ["offset(x)"]]))
    return f"{response} ~ {' + '.join([side(4), *offset, *random])}"


def check(design: Design) -> None:
    n, p = design.n, design.p
    assert n > p
    assert design.y.shape == (n,)
    assert design.x.shape == (n, p)
    assert len(design.fixed_names) == len(set(design.fixed_names)) == p
    assert np.linalg.matrix_rank(design.x / np.maximum(np.abs(design.x).max(axis=0), 1e-300)) == p or p == 0
    assert design.rows.shape == (n,)
    assert (np.diff(design.rows) > 0).all()
    assert design.n_rows - n == 0 or design.dropped
    arrays = [design.y, design.x, *(b.z for b in design.blocks)]
    arrays += [a for a in (design.weights, design.offset) if a is not None]
    for array in arrays:
        assert array.dtype == np.float64
        assert len(array) == n
        assert np.isfinite(array).all()
    for block in design.blocks:
        assert block.z.shape == (n, block.q)
        assert 2 <= block.n_levels < n
        assert set(block.codes.tolist()) == set(range(block.n_levels))
        assert len(set(map(str, block.levels))) == block.n_levels


def attempt(formula: str, data: object, **options: object) -> Design | None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            design = build_design(parse(formula), data, **options)
        except UnimixError as error:
            text = str(error)
        else:
            check(design)
            return design
    assert len(text) > 10
    return None


@BOUNDED
@given(data=frames(), formula=formulas(), weights=st.sampled_from([None, None, None, None, "z", "z", "x", "f", ""]))
def test_a_sound_design_or_an_error_in_words(data, formula, weights):
    before = data.copy(deep=True)
    design = attempt(formula, data, weights=weights)
    pd.testing.assert_frame_equal(data, before)
    if design is None:
        return
    assert parse(parse(formula).text()).text() == parse(formula).text()
    encoding = Encoding.model_validate_json(design.encoding.model_dump_json())
    again = encoding.transform(data.iloc[design.rows[:3]], with_groups=True)
    np.testing.assert_allclose(again.x, design.x[:3], rtol=1e-9, atol=1e-9)
    for block, z, levels in zip(design.blocks, again.z, again.levels, strict=True):
        np.testing.assert_allclose(z, block.z[:3], rtol=1e-9, atol=1e-9)
        assert [str(levels.names[c]) for c in levels.codes] == [str(block.levels[c]) for c in block.codes[:3]]


@settings(BOUNDED, max_examples=60)
@given(data=frames(), formula=formulas())
def test_polars_and_dicts_give_the_same_design(data, formula):
    data = data.loc[:, ~data.columns.duplicated()].reset_index(drop=True)
    first = attempt(formula, data)
    as_dict = {name: data[name] for name in data}
    second = attempt(formula, as_dict)
    assert (first is None) == (second is None)
    if first is not None and second is not None:
        assert first.fingerprint() == second.fingerprint()
        try:
            polars = pl.DataFrame(
                {
                    name: pl.Series(data[name].astype(object).tolist(), dtype=pl.Enum(data[name].cat.categories))
                    if isinstance(data[name].dtype, pd.CategoricalDtype)
                    else pl.from_pandas(data[[name]])[name]
                    for name in data
                }
            )
        except (TypeError, ValueError, NotImplementedError, pl.exceptions.PolarsError):
            return  # polars does not take this column
        third = attempt(formula, polars)
        assert third is not None
        assert third.fingerprint() == first.fingerprint()


ANYTHING = st.text(alphabet=st.sampled_from(list("yxfgz01 .~+-*/:^|()[]`'\",=<>!%in\\{}@$#\n\0eé_ICclog")), max_size=40)


@settings(BOUNDED, max_examples=400)
@given(text=st.one_of(ANYTHING, ANYTHING.map(lambda t: f"y ~ {t}"), ANYTHING.map(lambda t: f"y ~ x + (1 | g) + {t}")))
def test_any_text_is_read_or_refused(text):
    rng = np.random.default_rng(1)
    data = {"y": rng.normal(size=30), "x": rng.normal(size=30), "z": rng.normal(size=30), "f": ["a", "b", "c"] * 10}
    data |= {"g": ["p", "q", "r", "s", "t"] * 6}
    before = copy.deepcopy(data)
    attempt(text, data)
    np.testing.assert_equal(data, before)


SAFE = pd.DataFrame(
    {
        "y": np.random.default_rng(2).normal(size=90),
        "x": np.random.default_rng(3).normal(size=90),
        "z": np.random.default_rng(4).normal(size=90),
        "f": np.random.default_rng(5).permutation(["a", "b", "c"] * 30),
        "h": np.random.default_rng(6).permutation(["u", "v"] * 45),
        "k": np.random.default_rng(7).permutation(["1", "2", "3"] * 30),
    }
)


@st.composite
def products(draw: st.DrawFn) -> str:
    pieces = []
    for _ in range(draw(st.integers(1, 4))):
        names = draw(st.lists(st.sampled_from(list("xzfhk")), min_size=1, max_size=3, unique=True))
        operator = draw(st.sampled_from([":", " * ", " / "]))
        pieces.append(operator.join(names))
    text = " + ".join(pieces)
    if draw(st.integers(0, 3)) == 0:
        text = f"({' + '.join(draw(st.lists(st.sampled_from(list('xzfhk')), min_size=2, max_size=3, unique=True)))})**2"
    return text + draw(st.sampled_from(["", "", " - x", " - f", " - 1", " + 0"]))


@settings(BOUNDED, max_examples=120)
@given(text=products())
def test_columns_span_the_same_space_as_patsys(text):
    """Patsy codes factors by another algorithm; the space that the columns span must be the same."""
    patsy = pytest.importorskip("patsy")
    design = attempt(f"y ~ {text}", SAFE)
    if design is None:
        return
    theirs = np.asarray(patsy.dmatrix(text, SAFE))
    rank = np.linalg.matrix_rank(theirs) if theirs.shape[1] else 0
    assert design.p == rank
    if rank:
        q, _ = np.linalg.qr(design.x)
        np.testing.assert_allclose(q @ (q.T @ theirs), theirs, atol=1e-9)
