"""Models that no engine could fit are refused in words; odd ones that can be fitted are not."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.design.arrays import Design
from unimix.design.design import build_design
from unimix.errors import DataError
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


REFUSALS = [
    ("y ~ one", {"one": ["a"] * N}, "The factor one has only the level a"),
    ("y ~ x + (1 | one)", {"one": ["a"] * N}, "The grouping factor one has one level \\(a\\)"),
    ("c ~ x", {"c": 3.0}, "The response c is constant \\(3\\)"),
    ("c ~ x", {"c": 1e308}, "'c' reaches 1e\\+308, and its squares cannot be computed"),
    ("y ~ t", {"t": RNG.normal(size=N) * 1e-130}, "another unit"),
    ("y ~ g + (1 | g)", {}, "a coefficient for each of its 6 levels"),
    ("y ~ g * x + (1 + x || g)", {}, "The column x of \\(x \\| g\\): the fixed effects have a coefficient"),
    ("w ~ x + (1 | g)", {"w": np.repeat(np.arange(6.0), N // 6)}, "The levels of g explain the response exactly"),
    ("c ~ 0 + x + (1 | g)", {"c": 0.0}, "is constant"),
    ("y ~ x + y", {}, "explain the response exactly"),
    ("e ~ x + z", {"e": 2 + 3 * FRAME.x - FRAME.z / 7}, "explain the response exactly"),
    ("e ~ year", {"year": 1e9 + FRAME.k, "e": 3 * (1e9 + FRAME.k)}, "explain the response exactly"),
    ("e ~ f", {"e": FRAME.f.map({"a": 1.5, "b": 2.25, "c": 7})}, "explain the response exactly"),
    ("e ~ x", {"e": 1e-90 * FRAME.x}, "explain the response exactly"),
    ("e ~ x", {"e": 1e90 * FRAME.x}, "explain the response exactly"),
    ("m ~ x", {"m": 1e-250 * FRAME.y}, "squares cannot be computed"),
    ("m ~ x", {"m": 1e250 * FRAME.y}, "squares cannot be computed"),
    ("y ~ x + (1 | id)", {"id": np.arange(N)}, "has 48 levels in 48 rows"),
    ("y ~ x + (x + z | id)", {"id": np.arange(N) // 3}, "has 48 random effects in 48 rows"),
    ("y ~ id", {"id": [f"i{i}" for i in range(N)]}, "48 rows cannot determine 48 fixed effects"),
    ("y ~ (1 | g) + (1 | g)", {}, "Intercept varies over g in two random terms"),
    ("y ~ (x | g) + (0 + x | g)", {}, "x varies over g in two random terms"),
    ("y ~ (1 | g) + (1 | twin)", {"twin": FRAME.g.str.lower()}, "vary over g and twin in the same way"),
    ("y ~ (0 + x | g) + (0 + I(-2 * x) | g)", {}, "vary over g in the same way"),
    ("y ~ (x + I(2 * x) || g)", {}, "vary over g in the same way"),
    ("y ~ (x + I(2 * x) | g)", {}, "are linearly dependent"),
    ("y ~ (one | g)", {"one": 1.0}, "are linearly dependent"),
    ("f ~ x", {}, "The response f is categorical"),
    ("b ~ x", {}, "The response b is categorical"),
    ("poly(y, 2) ~ x", {}, "has several columns"),
    ("cbind(y, z) ~ x", {}, "binomial"),
    ("y ~ i", {"i": np.r_[np.inf, np.ones(N - 1)]}, "'i' holds 1 infinite values"),
    ("y ~ big:also:more:most", dict.fromkeys(["big", "also", "more", "most"], 1e90 * FRAME.x), "exceed the range"),
    ("y ~ x:big", {"big": 1e308}, "squares cannot be computed"),
    ("y ~ x", {"x": None}, "Every one of the 48 rows has a missing value: x 48"),
    ("y ~ Intercept", {"Intercept": FRAME.x}, "would be called 'Intercept'"),
    ("y ~ x:z + `x:z`", {"x:z": FRAME.y**2}, "would be called 'x:z'"),
    ("y ~ (Intercept | g)", {"Intercept": FRAME.x}, "would be called 'Intercept'"),
    ("y ~ offset(f)", {}, "must be one numeric column"),
]


@pytest.mark.parametrize(("formula", "changes", "text"), REFUSALS)
def test_models_that_no_engine_could_fit_are_refused(formula, changes, text):
    with pytest.raises(DataError, match=text):
        design(formula, FRAME.assign(**changes))


def test_an_effect_per_row_is_refused_only_beside_a_residual_variance():
    data = FRAME.assign(count=np.arange(N) % 5, row=np.arange(N))
    assert design("count ~ x + (1 | row)", data, family="poisson").blocks[0].n_levels == N
    with pytest.raises(DataError, match="one row per level"):
        design("count ~ x + (1 | row)", data)


@pytest.mark.parametrize(
    ("formula", "changes"),
    [
        ("m ~ x", {"m": 1e12 + FRAME.y}),
        ("m ~ year", {"year": 1e9 + FRAME.k, "m": 3e9 + FRAME.k + FRAME.y}),
        ("m ~ x", {"m": 1e-90 * FRAME.y}),
        ("m ~ x", {"m": 1e90 * FRAME.y}),
        ("y ~ 0 + (1 | g)", {}),
        ("y ~ x + (f | g) + (1 | s)", {}),
    ],
)
def test_models_that_look_odd_but_can_be_fitted(formula, changes):
    assert np.isfinite(design(formula, FRAME.assign(**changes)).y).all()


def test_more_variances_than_independent_values_are_refused():
    few = {"y": [1.0, 2.5, 0.3], "x": [0.1, 0.7, 0.4], "g": ["a", "b", "a"]}
    with pytest.raises(DataError, match="leave 1 independent values for 2 variances"):
        design("y ~ x + (1 | g)", few)
    assert design("y ~ x", few).n == 3


NUMBERS = ["6 ", "12", "3.5", "-1e3", "7", "8", "9", "10"]


@pytest.mark.parametrize(
    ("formula", "values", "told"),
    [
        ("y ~ x", NUMBERS, "x is text and is treated as categorical, with 8 levels, but all of them read as numbers"),
        ("y ~ 1 + (x | g)", NUMBERS, r"pd.to_numeric\(data\['x'\]\)"),
        ("y ~ g:x", [*NUMBERS[:7], "n/k"], r"all but 'n/k' read as numbers.*\(data\['x'\], errors='coerce'\)"),
        ("y ~ x", [v.replace(".", ",") for v in NUMBERS], r"pd.to_numeric\(data\['x'\].str.replace\(',', '.'\)\)"),
    ],
)
def test_numbers_stored_as_text_are_noted(formula: str, values: list[str], told: str) -> None:
    design = build_design(parse(formula), text_frame(values))
    assert re.search(told, "\n".join(design.notes))


@pytest.mark.parametrize(
    ("formula", "values", "contrasts"),
    [
        ("y ~ C(x)", NUMBERS, None),
        ("y ~ x", NUMBERS, {"x": "sum"}),
        ("y ~ 1 + (1 | x)", NUMBERS, None),
        ("y ~ x", pd.Categorical(NUMBERS), None),
        ("y ~ x", ["a", "b", "c", "d", "1", "2", "3", "4"], None),
        ("y ~ x", ["1", "2"] * 4, None),
        ("y ~ x", ["nan", "inf", "a", "b"] * 2, None),
    ],
)
def test_factors_that_are_meant_are_not_noted(formula: str, values: object, contrasts: dict | None) -> None:
    assert build_design(parse(formula), text_frame(values), contrasts=contrasts).notes == ()


def text_frame(values: object) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    x = pd.concat([pd.Series(values)] * 10, ignore_index=True)
    return pd.DataFrame({"y": rng.normal(size=80), "x": x, "g": np.repeat(list("abcde"), 16)})


@pytest.mark.parametrize("how", ["formula", "column"])
def test_a_raw_exposure_as_offset_is_answered_with_its_logarithm(how: str, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"n": rng.poisson(0.2, 400), "g": rng.choice(list("abcdef"), 400)})
    frame["time"] = rng.exponential(150, 400)
    formula, given = (
        ("n ~ 1 + offset(time) + (1 | g)", {}) if how == "formula" else ("n ~ 1 + (1 | g)", {"offset": "time"})
    )
    with pytest.raises(um.DataError, match=r"factor of e\^889.6.*logarithm: offset\(log\(time\)\)"):
        um.fit(formula, frame, family="poisson", **given)
    fit = um.fit(formula, frame.assign(time=frame["time"] / 20), family="poisson", **given)
    assert any("offset(log(time))" in note for note in fit.notes)
    right = um.fit("n ~ 1 + offset(log(time)) + (1 | g)", frame, family="poisson")
    assert not any("exposure" in note for note in right.notes)
    assert capfd.readouterr() == ("", "")


def test_a_factor_within_groups_as_slope_is_answered_with_nesting() -> None:
    """80 peptides of 16 proteins: each column has one effect, and its variance nothing to be estimated from."""
    rows = [(f"P{a:02d}", f"p{a:02d}_{s}") for a in range(16) for s in range(5) for _ in range(4)]
    frame = pd.DataFrame(rows, columns=["protein", "peptide"])
    frame["y"] = np.random.default_rng(6).normal(size=len(frame))
    for bar in ("|", "||"):
        with pytest.raises(
            DataError, match=r"one of the 16 levels of protein only.*Is \(1 \| protein/peptide\) meant"
        ) as told:
            um.fit(f"y ~ 1 + (peptide {bar} protein)", frame)
        assert len(str(told.value)) < 700
    design = build_design(parse("y ~ 1 + (1 | protein/peptide)"), frame)
    assert design.groups == {"protein": 16, "peptide:protein": 80}


def test_many_variances_are_noted() -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"g": np.repeat(list("abcdefgh"), 60), "f": np.tile([f"v{k:02d}" for k in range(15)], 32)})
    frame["y"] = rng.normal(size=480)
    design = build_design(parse("y ~ 1 + (f || g)"), frame)
    assert any("14 levels of f have a variance over g each" in n and "(1 | g/f)" in n for n in design.notes)
    few = build_design(parse("y ~ 1 + (1 | g/f)"), frame)
    assert not few.notes


@pytest.mark.parametrize("where", ["level", "group", "column"])
def test_half_a_character_is_told_before_anything_is_fitted(where: str) -> None:
    """``open(path, errors="surrogateescape")`` leaves such text; no JSON and no table of Arrow can hold it."""
    half = b"Jos\xe9".decode(errors="surrogateescape")
    data = {"y": np.arange(12.0), "x": np.arange(12.0) ** 2, "f": ["a", "b"] * 6, "g": list("aaaabbbbcccc")}
    name = {"level": "f", "group": "g", "column": half}[where]
    if where == "column":
        data[half] = data.pop("x")
    else:
        data[name][0] = half
    told = re.escape(f"Column {name!r} holds text with half a character ({half[-1]!r})")
    with pytest.raises(DataError, match=told):
        build_design(parse(f"y ~ `{half if where == 'column' else 'x'}` + f + (1 | g)"), data)
