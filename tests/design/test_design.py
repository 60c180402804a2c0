"""A formula and data to plain arrays."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from unimix.design.arrays import Design
from unimix.design.design import build_design
from unimix.design.model_matrix import MAX_CELLS
from unimix.errors import DataError, FormulaError, OptionError, UnimixError
from unimix.formula.interpreter import parse

RNG = np.random.default_rng(11)
N = 48
FRAME = pd.DataFrame(
    {
        "y": RNG.normal(size=N),
        "x": RNG.normal(size=N),
        "z": RNG.uniform(1, 5, N),
        "f": RNG.permutation(list("abc") * (N // 3)),
        "h": RNG.permutation(list("uv") * (N // 2)),
        "b": RNG.permutation([True, False] * (N // 2)),
        "k": RNG.permutation([1, 2, 3, 4] * (N // 4)),
        "g": np.repeat(list("ABCDEF"), N // 6),
        "s": list("pq") * (N // 2),
    }
)


def design(formula: str, data: object = FRAME, **options: object) -> Design:
    return build_design(parse(formula), data, **options)


COLUMNS = {
    "1": ("Intercept",),
    "0 + x": ("x",),
    "x + z": ("Intercept", "x", "z"),
    "z + x": ("Intercept", "z", "x"),
    "x + x": ("Intercept", "x"),
    "x:z + x": ("Intercept", "x", "x:z"),
    "x * z": ("Intercept", "x", "z", "x:z"),
    "f": ("Intercept", "f[T.b]", "f[T.c]"),
    "0 + f": ("f[a]", "f[b]", "f[c]"),
    "x:f": ("Intercept", "x:f[a]", "x:f[b]", "x:f[c]"),
    "0 + x:f": ("x:f[a]", "x:f[b]", "x:f[c]"),
    "x * f": ("Intercept", "x", "f[T.b]", "f[T.c]", "x:f[T.b]", "x:f[T.c]"),
    "x * f - x": ("Intercept", "f[T.b]", "f[T.c]", "x:f[a]", "x:f[b]", "x:f[c]"),
    "f / x": ("Intercept", "f[T.b]", "f[T.c]", "f[a]:x", "f[b]:x", "f[c]:x"),
    "f + f:h": ("Intercept", "f[T.b]", "f[T.c]", "f[a]:h[T.v]", "f[b]:h[T.v]", "f[c]:h[T.v]"),
    "b": ("Intercept", "b[T.True]"),
    "0 + b": ("b[False]", "b[True]"),
    "0 + f + b": ("f[a]", "f[b]", "f[c]", "b[T.True]"),
    "(f + h + x)^2 - f:h": (("Intercept", "f[T.b]", "f[T.c]", "h[T.v]", "x", "f[T.b]:x", "f[T.c]:x", "h[T.v]:x")),
    "poly(x, 2):f": (
        "Intercept",
        *(f"poly(x, 2)[{d}]:f[{level}]" for level in "abc" for d in (1, 2)),
    ),
    "k + C(k)": ("Intercept", "k", "C(k)[T.2]", "C(k)[T.3]"),
}


@pytest.mark.parametrize("terms", COLUMNS)
def test_columns_and_their_order(terms):
    built = design(f"y ~ {terms}")
    assert built.fixed_names == COLUMNS[terms]
    assert built.x.shape == (N, len(COLUMNS[terms]))
    assert built.x.dtype == np.float64
    assert built.x.flags.c_contiguous


def test_values_of_an_interaction_without_its_main_effects():
    built = design("y ~ x:f + (1 | g)")
    for j, level in enumerate("abc"):
        np.testing.assert_array_equal(built.x[:, j + 1], FRAME.x * (FRAME.f == level))


def test_a_design_has_what_every_engine_needs():
    built = design("log(z) ~ x + (1 + x | g) + (1 | s)")
    np.testing.assert_array_equal(built.y, np.log(FRAME.z))
    assert (built.n, built.p, built.n_rows) == (N, 2, N)
    assert built.groups == {"g": 6, "s": 2}
    assert built.rows.tolist() == list(range(N))
    assert (built.dropped, built.aliased, built.notes, built.weights, built.offset) == ({}, (), (), None, None)
    first, second = built.blocks
    assert (first.group, first.terms, first.levels, first.q, first.n_levels) == (
        "g",
        ("Intercept", "x"),
        tuple("ABCDEF"),
        2,
        6,
    )
    np.testing.assert_array_equal(first.z, np.column_stack([np.ones(N), FRAME.x]))
    assert [first.levels[c] for c in first.codes] == FRAME.g.tolist()
    assert second.levels == ("p", "q")


def test_no_random_part_is_legal():
    assert design("y ~ x").blocks == ()


@pytest.mark.parametrize(
    ("term", "blocks"),
    [
        ("(1 | g/s)", [("g", ("g",), ("Intercept",), 6), ("s:g", ("s", "g"), ("Intercept",), 12)]),
        ("(1 | g:s)", [("g:s", ("g", "s"), ("Intercept",), 12)]),
        ("(1 | g) + (1 | s)", [("g", ("g",), ("Intercept",), 6), ("s", ("s",), ("Intercept",), 2)]),
        ("(x || g)", [("g", ("g",), ("Intercept",), 6), ("g", ("g",), ("x",), 6)]),
        ("(0 + x || g)", [("g", ("g",), ("x",), 6)]),
        ("(f || g)", [("g", ("g",), (t,), 6) for t in ("Intercept", "f[T.b]", "f[T.c]")]),
        ("(0 + f || g)", [("g", ("g",), (t,), 6) for t in ("f[a]", "f[b]", "f[c]")]),
        ("(f | g)", [("g", ("g",), ("Intercept", "f[T.b]", "f[T.c]"), 6)]),
        ("(x:f | g)", [("g", ("g",), ("Intercept", "x:f[a]", "x:f[b]", "x:f[c]"), 6)]),
        ("(1 | g) + (0 + x | g)", [("g", ("g",), ("Intercept",), 6), ("g", ("g",), ("x",), 6)]),
        ("(1 | k)", [("k", ("k",), ("Intercept",), 4)]),
        ("(1 | b)", [("b", ("b",), ("Intercept",), 2)]),
    ],
)
def test_random_blocks(term, blocks):
    built = design(f"y ~ 1 + {term}")
    assert [(b.group, b.factors, b.terms, b.n_levels) for b in built.blocks] == blocks


def test_levels_of_crossed_factors_are_in_r_order():
    built = design("y ~ 1 + (1 | g:s)")
    assert built.blocks[0].levels[:3] == ("A:p", "A:q", "B:p")
    nested = design("y ~ 1 + (1 | g/s)").blocks[1]
    assert nested.levels[:2] == ("p:A", "p:B")
    assert [nested.levels[c] for c in nested.codes] == [f"{s}:{g}" for s, g in zip(FRAME.s, FRAME.g, strict=True)]


def test_levels_with_colons_are_not_confused():
    data = FRAME.assign(g=["a", "a:b"] * 24, s=["b:c", "b:c", "c", "c"] * 12)
    assert design("y ~ 1 + (1 | g:s)", data).blocks[0].n_levels == 4


def test_long_identifiers_are_not_merged():
    data = FRAME.assign(g=2**60 + np.repeat(np.arange(6), 8))
    assert design("y ~ x + (1 | g)", data).blocks[0].levels == tuple(2**60 + i for i in range(6))


def test_missing_rows_drop_once_and_are_counted_per_column():
    data = FRAME.astype({"g": object})
    data.loc[0, "y"] = np.nan
    data.loc[[0, 1], "x"] = np.nan
    data.loc[2, "f"] = None
    data.loc[3, "g"] = None
    data.loc[4, "z"] = np.nan
    w = np.ones(N)
    w[5] = np.nan
    built = design("y ~ x * f + (1 | g)", data, weights=w)
    assert built.rows.tolist() == [4, *range(6, N)]
    assert built.n == N - 5
    assert built.dropped == {"y": 1, "x": 2, "f": 1, "g": 1, "weights=": 1}
    assert built.notes[0].startswith("5 of 48 rows dropped for missing values (y 1, x 2, f 1, g 1, weights= 1)")
    assert len(built.weights) == built.n
    with pytest.raises(DataError, match="missing='raise': y 1, x 2"):
        design("y ~ x", data, missing="raise")
    assert design("y ~ b", FRAME, missing="raise").n == N


def test_columns_that_are_only_taken_away_do_not_drop_rows():
    data = FRAME.assign(date=pd.Timestamp("2020-01-01"), note=None)
    built = design("y ~ . - date - note - g - s - h", data)
    assert built.n == N
    assert built.fixed_names == ("Intercept", "x", "z", "f[T.b]", "f[T.c]", "b[T.True]", "k")


def test_the_dot_is_every_other_column():
    built = design("y ~ . + (1 | g)", FRAME[["k", "x", "y", "g"]])
    assert built.fixed_names == ("Intercept", "k", "x")
    assert built.encoding.dot_columns == ("k", "x")
    weighted = design("y ~ . + (1 | g)", FRAME[["k", "x", "y", "g", "z"]], weights="z")
    assert weighted.fixed_names == ("Intercept", "k", "x")


def test_unused_levels_drop_with_a_note():
    data = FRAME.assign(
        f=pd.Categorical(FRAME.f, categories=["c", "unused", "a", "b"]),
        g=pd.Categorical(FRAME.g, categories=list("FEDCBAX")),
    )
    built = design("y ~ f + (1 | g)", data)
    assert built.fixed_names == ("Intercept", "f[T.a]", "f[T.b]")
    assert built.blocks[0].levels == tuple("FEDCBA")
    assert built.notes == ("Levels of f without rows left out: unused.", "Levels of g without rows left out: X.")


@pytest.mark.parametrize(
    ("terms", "kept", "aliased"),
    [
        ("x + I(2 * x) + z", ("Intercept", "x", "z"), ("I(2 * x)",)),
        ("f + C(f)", ("Intercept", "f[T.b]", "f[T.c]"), ("C(f)[T.b]", "C(f)[T.c]")),
        ("x + I(0 * x)", ("Intercept", "x"), ("I(0 * x)",)),
        ("one + x", ("Intercept", "x"), ("one",)),
        ("x + I(x + 1)", ("Intercept", "x"), ("I(x + 1)",)),
        ("year + I(year - 2000)", ("Intercept", "year"), ("I(year - 2000)",)),
        ("I(x * 1e200) + I(z * 1e-200)", ("Intercept", "I(x * 1e+200)", "I(z * 1e-200)"), ()),
    ],
)
def test_dependent_columns_are_left_out(terms, kept, aliased):
    data = FRAME.assign(one=1.0, year=2000 + FRAME.k)
    built = design(f"y ~ {terms}", data)
    assert (built.fixed_names, built.aliased) == (kept, aliased)
    assert built.x.shape[1] == len(kept)
    assert bool(built.notes) == bool(aliased)


def test_weights_and_offset_by_name_by_array_and_in_the_formula():
    w = FRAME.z.to_numpy()
    by_name = design("y ~ f", weights="z", offset="x")
    by_array = design("y ~ f", weights=w, offset=FRAME.x)
    in_formula = design("y ~ f + offset(x)", weights=w.tolist())
    twice = design("y ~ f + offset(x) + offset(log(z))", offset="k")
    for built in (by_name, by_array, in_formula):
        np.testing.assert_array_equal(built.weights, w)
        np.testing.assert_array_equal(built.offset, FRAME.x)
    np.testing.assert_allclose(twice.offset, FRAME.x + np.log(FRAME.z) + FRAME.k)
    assert by_name.fingerprint() == by_array.fingerprint() == in_formula.fingerprint()
    assert not np.shares_memory(design("y ~ f", weights=w).weights, w)


def test_an_array_and_a_column_of_the_same_name_are_not_confused():
    data = FRAME.assign(weights=FRAME.x)
    data["<weights>"] = FRAME.z
    data.loc[0, "weights"] = np.nan
    built = design("y ~ weights + `<weights>`", data, weights=np.full(N, 2.0))
    assert built.n == N - 1
    assert built.fixed_names == ("Intercept", "weights", "<weights>")
    np.testing.assert_array_equal(built.x[:, 2], FRAME.z[1:])
    assert set(built.weights) == {2.0}


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"weights": "nope"}, DataError, "'nope' is not a column"),
        ({"weights": "f"}, DataError, "weights='f' is categorical"),
        ({"weights": np.ones(3)}, DataError, "weights= has 3 values, the data have 48 rows"),
        ({"weights": np.zeros(N)}, DataError, "weights must be positive: 48 are not"),
        ({"weights": -np.ones(N)}, DataError, "weights must be positive"),
        ({"weights": np.full(N, np.inf)}, DataError, "'weights=' holds 48 infinite values"),
        ({"weights": np.ones((N, 1))}, OptionError, "has 2 dimensions"),
        ({"weights": ["a"] * N}, OptionError, "array of numbers, not of 'a'"),
        ({"weights": np.ones(N) * 1j}, OptionError, "complex"),
        ({"weights": 3}, OptionError, "takes the name of a column or an array"),
        ({"weights": {"a": 1}}, OptionError, "takes the name of a column or an array"),
        ({"offset": np.ones(3)}, DataError, "offset= has 3 values"),
        ({"offset": object()}, OptionError, "takes the name of a column or an array"),
        ({"missing": "ignore"}, OptionError, "choose 'drop' or 'raise'"),
    ],
)
def test_bad_arguments(options, error, text):
    with pytest.raises(error, match=text):
        design("y ~ x + (1 | g)", **options)


@pytest.mark.parametrize("data", [FRAME[:0], {"y": [], "x": []}, pl.DataFrame({"y": [], "x": []})])
def test_no_rows(data):
    with pytest.raises(DataError, match="The data have no rows"):
        design("y ~ x", data)


def test_too_few_rows():
    with pytest.raises(DataError, match="3 rows cannot determine 3 fixed effects"):
        design("y ~ x + z", FRAME[:3])


def test_unknown_names_are_told_together_with_their_places():
    with pytest.raises(FormulaError) as raised:
        design("yy ~ x + log(Z) + (1 | gg)")
    assert [f.position for f in raised.value.faults] == [0, 13, 23]
    assert "Did you mean 'y'?" in str(raised.value)
    assert "Did you mean 'z'?" in str(raised.value)
    assert "Columns: y, x, z" in str(raised.value)


def test_too_many_columns_are_refused_before_they_are_made():
    levels = 3000
    n = MAX_CELLS // levels + 1
    data = {
        "y": np.arange(n) % 7.0,
        "id": pd.Categorical.from_codes(np.arange(n) % levels, [f"i{i}" for i in range(levels)]),
    }
    with pytest.raises(DataError, match="A factor with many levels is a grouping factor"):
        design("y ~ id", data)


def test_too_many_terms_are_refused():
    names = [f"x{i}" for i in range(20)]
    data = {name: RNG.normal(size=30) for name in ["y", *names]}
    with pytest.raises(DataError, match="more than 5000 terms"):
        design(f"y ~ {' * '.join(names)}", data)
    assert (
        design(
            f"y ~ ({' + '.join(names)})^2 - {' - '.join(names[1:])}",
            {k: np.tile(v, 10) + RNG.normal(size=300) for k, v in data.items()},
        ).p
        == 192
    )


@pytest.mark.parametrize(
    "template",
    [
        "y ~ {}",
        "y ~ 0 + {} + (1 | g)",
        "y ~ ({}):h + (1 | g)",
        "y ~ I({})",
        "{} ~ x0",
        "y ~ x0 + offset({})",
        "y ~ (I({}) | g)",
    ],
)
def test_sums_of_five_hundred(template):
    data = {f"x{i}": RNG.normal(size=1100) for i in range(500)}
    data |= {"y": RNG.normal(size=1100), "g": np.arange(1100) % 10, "h": np.arange(1100) % 2 == 0}
    built = design(template.format(" + ".join(f"x{i}" for i in range(500))), data)
    assert built.n == 1100
    if "I(" in template:
        column = built.x[:, 1] if template == "y ~ I({})" else built.blocks[0].z[:, 1]
        np.testing.assert_allclose(column, sum(data[f"x{i}"] for i in range(500)))


def forms() -> dict[str, object]:
    frame = FRAME.assign(f=pd.Categorical(FRAME.f, categories=["b", "a", "c"]))
    frame.loc[3, "x"] = np.nan
    nullable = frame.convert_dtypes()
    nullable["f"] = frame.f
    polars = pl.from_pandas(frame).with_columns(pl.col("f").cast(pl.Enum(["b", "a", "c"])))
    arrays = {name: frame[name] if name == "f" else frame[name].to_numpy() for name in frame}
    return {
        "pandas": frame,
        "index": frame.set_index(pd.Index([0] * N)),
        "nullable": nullable,
        "object": frame.astype({"g": object, "b": object, "x": object}),
        "polars": polars,
        "lazy": polars.lazy(),
        "pyarrow": pa.Table.from_pandas(frame),
        "dict": arrays,
        "lists": {**{name: list(v) for name, v in arrays.items()}, "f": frame.f},
        "permuted columns": frame[sorted(frame, reverse=True)],
    }


@pytest.mark.parametrize("kind", forms())
@pytest.mark.parametrize("formula", ["y ~ x * f + b + (1 + x | g)", "y ~ poly(z, 2) + (f || g) + (1 | s)"])
def test_fingerprints_are_equal_for_every_form_of_the_data(kind, formula):
    data = forms()
    before = copy.deepcopy(data[kind])
    built = design(formula, data[kind])
    expected = design(formula, data["pandas"])
    assert built.fingerprint() == expected.fingerprint()
    assert built.encoding == expected.encoding
    if isinstance(before, pd.DataFrame):
        pd.testing.assert_frame_equal(data[kind], before)


@pytest.mark.parametrize(
    "other",
    ["y ~ x + z", "y ~ x + (1 | g)", "y ~ z", "z ~ x", "y ~ 0 + x", "y ~ x + offset(z)"],
)
def test_fingerprints_of_other_models_differ(other):
    assert design(other).fingerprint() != design("y ~ x").fingerprint()


def test_a_design_can_be_pickled():
    built = design("y ~ x * f + (x | g)")
    assert pickle.loads(pickle.dumps(built)).fingerprint() == built.fingerprint()


@pytest.mark.slow
def test_a_million_rows_have_a_design():
    n = 1_000_000
    data = pd.DataFrame(
        {
            "y": RNG.normal(size=n),
            "x": RNG.normal(size=n),
            "f": RNG.choice(list("abc"), n),
            "g": RNG.integers(0, 50_000, n).astype(str),
        }
    ).astype({"g": object})
    built = design("y ~ x * f + (x | g)", data)
    assert built.blocks[0].n_levels == 50_000
    assert len(built.y) == n


def test_every_refusal_is_an_error_of_unimix():
    assert issubclass(DataError, UnimixError)
    assert issubclass(DataError, ValueError)
