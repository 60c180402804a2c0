"""Where a factor keeps all its levels: the rule itself, and formulaic as the judge of names and numbers."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pandas as pd
import pytest
from formulaic import model_matrix

from unimix.design.design import build_design
from unimix.design.evaluate import Environment
from unimix.design.model_matrix import built_columns
from unimix.formula.contrasts import Contrast
from unimix.formula.interpreter import parse
from unimix.formula.marginality import coded_products

RNG = np.random.default_rng(4)
N = 60
FRAME = pd.DataFrame(
    {
        "y": RNG.normal(size=N),
        "x": RNG.normal(size=N),
        "z": RNG.uniform(1, 3, N),
        "f": RNG.choice(list("abc"), N),
        "h": RNG.choice(list("uv"), N),
        "k": RNG.choice(list("pqrs"), N),
    }
)
FACTORS = ("f", "h", "k")


def shown(terms: list[str], *, intercept: bool = True) -> list[list[str]]:
    found = coded_products([t.split(":") for t in terms], FACTORS, intercept=intercept)
    return [[":".join(text + "-" * contrasts for text, contrasts in product) for product in term] for term in found]


@pytest.mark.parametrize(
    ("terms", "intercept", "expected"),
    [
        (["f"], True, [["f-"]]),
        (["f"], False, [["f"]]),
        (["f", "h"], False, [["f"], ["h-"]]),
        (["x", "f"], False, [["x"], ["f"]]),
        (["f", "h", "f:h"], True, [["f-"], ["h-"], ["f-:h-"]]),
        (["f", "f:h"], True, [["f-"], ["f:h-"]]),
        (["f:h"], True, [["h-", "f-:h"]]),
        (["f:h"], False, [["f:h"]]),
        (["x:f"], True, [["x:f"]]),
        (["x", "x:f"], True, [["x"], ["x:f-"]]),
        (["f:h", "f"], True, [["h-", "f-:h"], []]),
    ],
)
def test_a_factor_keeps_its_levels_where_nothing_before_spans_them(
    terms: list[str], intercept: bool, expected: list[list[str]]
) -> None:
    assert shown(terms, intercept=intercept) == expected


def test_the_columns_span_each_product_once() -> None:
    """Whatever the order, the columns of all terms together are as many as they have dimensions."""
    levels = {"f": 3, "h": 2, "k": 4}
    for order in itertools.permutations(["f", "h", "x", "f:h", "x:f", "f:h:k"], 4):
        pieces = [p for term in coded_products([t.split(":") for t in order], FACTORS, intercept=True) for p in term]
        width = 1 + sum(int(np.prod([levels.get(t, 1) - c for t, c in product])) for product in pieces)
        full = {frozenset(c) for t in order for c in _margins(t.split(":"))} | {frozenset()}
        assert width == sum(int(np.prod([levels.get(t, 2) - 1 for t in space])) for space in full), order


def _margins(product: list[str]) -> list[tuple[str, ...]]:
    choices = [((t,), ()) if t in FACTORS else ((t,),) for t in product]
    return [tuple(itertools.chain(*c)) for c in itertools.product(*choices)]


def formulas(count: int) -> list[str]:
    rng = np.random.default_rng(7)
    made = []
    for _ in range(count):
        picked = list(rng.choice(["x", "z", *FACTORS], rng.integers(1, 4), replace=False))
        text = picked[0]
        for name in picked[1:]:
            text += str(rng.choice([" + ", " * ", ":"], p=[0.4, 0.4, 0.2])) + name
        made.append(("0 + " if rng.random() < 0.4 else "") + text)
    return made


@pytest.mark.parametrize("coding", ["treatment", "sum", "helmert", "poly", "diff", "SAS"])
def test_names_and_numbers_are_those_of_formulaic(coding: str) -> None:
    env = Environment(build_design(parse("y ~ x + z + f + h + k"), FRAME).columns)
    contrasts = {name: Contrast(coding.lower()) for name in FACTORS}
    for formula in formulas(60):
        judge = model_matrix(re.sub(r"\b([fhk])\b", rf"C(\1, contr.{coding})", formula), FRAME)
        x, names, owners = built_columns(parse(f"y ~ {formula}").fixed, env, contrasts, N)
        theirs = [name.replace(f", contr.{coding})", ")") for name in judge.columns]
        assert theirs == [name if name == "Intercept" else _as_call(name) for name in names], formula
        np.testing.assert_allclose(x, judge.to_numpy(dtype=float), atol=1e-14, err_msg=formula)
        assert list(owners) == sorted(owners)


def _as_call(name: str) -> str:
    """``f[T.b]:x`` as formulaic calls it for ``C(f)``."""
    parts = name.split(":")
    return ":".join(f"C({p[0]}){p[1:]}" if p[0] in FACTORS else p for p in parts)
