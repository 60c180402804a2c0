"""Formulas, column names and level names that try to run something. Nothing runs."""

from __future__ import annotations

import contextlib

import numpy as np
import pandas as pd
import pytest
from attacks import PYTHON, UNICODE, R, left_behind

from unimix.design.design import build_design
from unimix.design.encoding import Encoding
from unimix.errors import DataError, FormulaError, UnimixError
from unimix.formula.interpreter import parse

RNG = np.random.default_rng(3)
N = 24
BASE = {
    "y": RNG.normal(size=N),
    "x": RNG.normal(size=N),
    "f": np.array(["a", "b", "c"] * 8),
    "g": np.repeat(["A", "B", "C", "D"], 6),
}


@pytest.fixture(autouse=True)
def canary(tmp_path, monkeypatch):
    """Whatever runs leaves a file, a variable or a module behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNIMIX_CANARY", raising=False)
    with left_behind(tmp_path) as found:
        yield
    assert found == []


@pytest.mark.parametrize("attack", PYTHON + R + UNICODE)
def test_formulas_that_try_to_run_something(attack):
    for formula in (f"y ~ {attack}", f"y ~ x + {attack} + (1 | g)", f"{attack} ~ x", f"y ~ ({attack} | g)"):
        with pytest.raises((FormulaError, DataError)) as raised:
            build_design(parse(formula), pd.DataFrame(BASE))
        assert str(raised.value).strip()
        assert "\0" not in str(raised.value)


NAMES = [
    "__builtins__",
    "__import__",
    "__class__",
    "__name__",
    "eval",
    "exec",
    "open",
    "np",
    "os",
    "C",
    "I",
    "Q",
    "log",
    "poly",
    "c",
    "uq0_",
    "uq1_",
    "uqrows_",
    "uq",
    "Intercept ",
    "(Intercept)",
    "1",
    "0",
    "class",
    "def",
    "None",
    "True",
    "TRUE",
    "NULL",
    "NA",
    "lambda",
    "import",
    "if",
    "function",
    "T",
    "F",
    ".",
    "..",
    "...",
    ".x",
    "x y",
    "x:f",
    "x*f",
    "x + f",
    "a|b",
    "(1 | g)",
    "y ~ x",
    "log(y)",
    "]:x",
    "'",
    '"',
    "\\",
    "a\nb",
    "a\0b",
    "\t",
    " ",
    "{x}",
    "{0.__class__}",
    "%s",
    "$(touch canary)",
    "; touch canary",
    "`touch canary`",
    "system('touch canary')",
    "__import__('os').system('touch canary')",
    "\"); system('touch canary'); (\"",
    "ｅｖａｌ",
    "х",
    "é",
    "e\u0301",
    "🐖",
    "x" * 5000,
    "#",
    "@",
    "<weights>",
    "weights",
    "-1",
    "1e5",
    "",
]


@pytest.mark.parametrize("name", NAMES)
def test_columns_with_such_names_are_plain_columns(name):
    values = RNG.normal(size=N)
    data = pd.DataFrame({**BASE, name: values})
    quotable = name != "" and "`" not in name
    if quotable and len(name) < 4000:
        formulas = [f"y ~ x + `{name}`", f"y ~ `{name}` * f", f"y ~ log(exp(`{name}`)) + x"]
        expected = [values, values, values]
        for formula, column in zip(formulas, expected, strict=True):
            design = build_design(parse(formula), data)
            matching = np.isclose(design.x, column[:, None], atol=1e-12).all(axis=0)
            assert matching.sum() == 1
            again = Encoding.model_validate_json(design.encoding.model_dump_json())
            np.testing.assert_array_equal(again.transform(data[5:9], with_groups=False).x, design.x[5:9])
        assert name in build_design(parse(f"y ~ x + `{name}`"), data).fixed_names
        assert parse(parse(formulas[0]).text()).text() == parse(formulas[0]).text()
        grouped = build_design(parse(f"y ~ x + (1 | `{name}`)"), data.assign(**{name: np.arange(N) % 5}))
        assert grouped.blocks[0].group == name
    design = build_design(parse("y ~ . + (1 | g)"), data)
    np.testing.assert_array_equal(design.x[:, design.fixed_names.index(name)], values)


LEVELS = [
    "]:x",
    "a]:f[T.b",
    "T.a",
    "[",
    "uq0_",
    "uq1_[T.a]",
    "uquq",
    "uqq0_",
    "Intercept",
    "a:b",
    "a/b",
    "{x}",
    "{name}",
    "{0.__class__}",
    "%(name)s",
    "\\1",
    "\\g<0>",
    "",
    " ",
    "nan",
    "None",
    "NA",
    "-1",
    "1e5",
    "TRUE",
    "'",
    '"',
    "`",
    "a\nb",
    "a\0b",
    '"); system("touch canary',
    "__import__('os').system('touch canary')",
    "__kind__",
    "__spans_intercept__",
    "__",
    "uql0_",
    "$(touch canary)",
    "ａ",
    "🐖",
    "e\u0301",
    "x" * 5000,
]


@pytest.mark.parametrize("level", LEVELS)
def test_levels_with_such_names_are_plain_levels(level):
    values = np.where(np.arange(N) % 3 == 0, level, np.where(np.arange(N) % 3 == 1, "zz1", "zz2"))
    data = pd.DataFrame(BASE).assign(f=values.astype(object))
    is_level = values == level
    full = build_design(parse("y ~ 0 + f"), data)
    np.testing.assert_array_equal(full.x[:, full.fixed_names.index(f"f[{level}]")], is_level)
    for formula in ("y ~ f * x + (f | g)", "y ~ x:f", "y ~ f:x + C(f, contr.sum)", "y ~ poly(x, 2):f"):
        design = build_design(parse(formula), data)
        assert len(set(design.fixed_names)) == design.p
        again = Encoding.model_validate_json(design.encoding.model_dump_json())
        np.testing.assert_allclose(again.transform(data[4:9], with_groups=True).x, design.x[4:9], atol=1e-12)
    crossed = build_design(parse("y ~ x:f"), data)
    np.testing.assert_array_equal(crossed.x[:, crossed.fixed_names.index(f"x:f[{level}]")], BASE["x"] * is_level)
    block = build_design(parse("y ~ x + (1 | f)"), data).blocks[0]
    assert [block.levels[c] for c in block.codes] == values.tolist()
    based = build_design(parse("y ~ f"), data, contrasts={"f": "sum"})
    assert based.p == 3
    if '"' not in level and "\\" not in level:
        chosen = build_design(parse(f'y ~ C(f, contr.treatment(base="{level}"))'), data) if len(level) < 4000 else None
        assert chosen is None or not any(f"[T.{level}]" in name for name in chosen.fixed_names)


@pytest.mark.parametrize("level", LEVELS)
def test_column_names_like_levels_beside_levels_like_columns(level):
    """A column that is called like the coded column of a factor is distinguished or refused."""
    data = pd.DataFrame(BASE)
    data[f"f[T.{level}]"] = RNG.normal(size=N)
    data["f"] = np.where(np.arange(N) % 2 == 0, level, "\x01first")
    twice = level != "\x01first" and sorted([level, "\x01first"])[1] == level
    if twice:
        with pytest.raises(DataError, match="would be called"):
            build_design(parse("y ~ . + (1 | g)"), data)
    else:
        assert len(set(build_design(parse("y ~ . + (1 | g)"), data).fixed_names)) == 4


DEEP = [
    "(",
    "[",
    "{",
    "log(",
    "I(",
    "-",
    "+",
    "~",
    "(1 | ",
    "x^",
    "x:",
    "x*",
    "x/",
    "c(",
    "poly(x, ",
    "`",
    "'",
    "x+(",
    "((1|g)+",
    "0+",
    ".+",
    "x%in%",
]


@pytest.mark.parametrize("piece", DEEP)
@pytest.mark.parametrize("times", [50, 500, 4_000, 1_000_000])
def test_long_and_deep_formulas(piece, times):
    formula = "y ~ " + piece * times
    closing = {
        "(": ")",
        "[": "]",
        "{": "}",
        "log(": ")",
        "I(": ")",
        "(1 | ": ")",
        "c(": ")",
        "poly(x, ": ")",
        "x+(": ")",
    }
    for text in (formula, formula + "x" + closing.get(piece, "") * times):
        with contextlib.suppress(UnimixError):
            assert build_design(parse(text), pd.DataFrame(BASE)).n == N


def test_there_are_enough_attacks():
    assert len(PYTHON + R + UNICODE) + len(NAMES) + len(LEVELS) >= 60
