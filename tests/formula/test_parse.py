"""The grammar: canonical readings, and errors with their positions."""

from __future__ import annotations

import contextlib
import pickle

import pytest

from unimix.errors import FormulaError
from unimix.formula.interpreter import column_names, parse, used_columns

READINGS = {
    "y ~ x": "y ~ 1 + x",
    "y~x+(1|g)": "y ~ 1 + x + (1 | g)",
    "y ~ 1": "y ~ 1",
    "y ~ 0": "y ~ 0",
    "y ~ -1": "y ~ 0",
    "y ~ 0 + x": "y ~ 0 + x",
    "y ~ x - 1": "y ~ 0 + x",
    "y ~ x + 0 + 1": "y ~ 1 + x",
    "y ~ a * b": "y ~ 1 + a * b",
    "y ~ a:b": "y ~ 1 + a:b",
    "y ~ a / b": "y ~ 1 + a / b",
    "y ~ a %in% b": "y ~ 1 + a %in% b",
    "y ~ (a + b)^2": "y ~ 1 + (a + b) ** 2",
    "y ~ (a + b)**2 - a:b": "y ~ 1 + (a + b) ** 2 - a:b",
    "y ~ a*b - a + a": "y ~ 1 + a * b + a",
    "y ~ a*b - a*b + a:b": "y ~ 1 + a * b + a:b - a - b",
    "y ~ a - (b + c)": "y ~ 1 + a - (b + c)",
    "y ~ ((a))": "y ~ 1 + a",
    "y ~ I(x^2) + I(x**2)": "y ~ 1 + I(x ** 2) + I(x ** 2)",
    "y ~ I(-x^2)": "y ~ 1 + I(-x ** 2)",
    "y ~ I((-x)^2)": "y ~ 1 + I((-x) ** 2)",
    "y ~ I(a - (b - c))": "y ~ 1 + I(a - (b - c))",
    "y ~ I(a - b - c)": "y ~ 1 + I(a - b - c)",
    "y ~ I(a / (b * c))": "y ~ 1 + I(a / (b * c))",
    "y ~ I(2^3^x)": "y ~ 1 + I(2 ** 3 ** x)",
    "y ~ I((2^3)^x)": "y ~ 1 + I((2 ** 3) ** x)",
    "y ~ I((x > 1) == TRUE)": "y ~ 1 + I((x > 1) == TRUE)",
    "log(y) ~ poly( x , 2,raw = TRUE )": "log(y) ~ 1 + poly(x, 2, raw=TRUE)",
    "y ~ `my column` + `x`": "y ~ 1 + `my column` + x",
    "y ~ `TRUE`": "y ~ 1 + `TRUE`",
    "y ~ `.`": "y ~ 1 + `.`",
    "y ~ .": "y ~ 1 + .",
    "y ~ . - g": "y ~ 1 + . - g",
    "y ~ x.1 + .z + _u + größe": "y ~ 1 + x.1 + .z + _u + größe",
    "y ~ C(f, contr.treatment(base='b'))": 'y ~ 1 + C(f, contr.treatment(base="b"))',
    "y ~ bs(x, knots=c(1, 2.50))": "y ~ 1 + bs(x, knots=[1, 2.5])",
    "y ~ offset(log(t)) + x": "y ~ 1 + x + offset(log(t))",
    "y ~ (x | g)": "y ~ 1 + (1 + x | g)",
    "y ~ (1 + x | g)": "y ~ 1 + (1 + x | g)",
    "y ~ (0 + x | g)": "y ~ 1 + (0 + x | g)",
    "y ~ (x - 1 | g)": "y ~ 1 + (0 + x | g)",
    "y ~ (x || g)": "y ~ 1 + (1 + x || g)",
    "y ~ (1 | a/b)": "y ~ 1 + (1 | a) + (1 | b:a)",
    "y ~ (1 | a/b/c)": "y ~ 1 + (1 | a) + (1 | b:a) + (1 | c:b:a)",
    "y ~ (1 | a:b)": "y ~ 1 + (1 | a:b)",
    "y ~ (1 | a:b/c)": "y ~ 1 + (1 | a:b) + (1 | c:a:b)",
    "y ~ (1 | a) + (1 | b)": "y ~ 1 + (1 | a) + (1 | b)",
    "y ~ (poly(x, 2) | g)": "y ~ 1 + (1 + poly(x, 2) | g)",
    "y ~ (log(x) * f | g)": "y ~ 1 + (1 + log(x) * f | g)",
    "y ~ (1 | factor(g))": "y ~ 1 + (1 | g)",
    "y ~ (1 | `my group`)": "y ~ 1 + (1 | `my group`)",
    "y ~\n  x +\n\t(1 | g)": "y ~ 1 + x + (1 | g)",
}


@pytest.mark.parametrize(("formula", "reading"), READINGS.items())
def test_the_canonical_reading(formula, reading):
    assert parse(formula).text() == reading


@pytest.mark.parametrize("formula", READINGS)
def test_a_reading_reads_as_itself(formula):
    reading = parse(formula).text()
    assert parse(reading).text() == reading


FAULTS = [
    ("", "The formula is empty", None),
    ("   ", "The formula is empty", None),
    ("~ x", "The response is missing", 0),
    ("y", "A '~' between", 1),
    ("y ~", "ends too early", 3),
    ("y ~ x +", "ends too early", 7),
    ("y ~ x z", "'z' was not expected here", 6),
    ("y ~ x ~ z", "one '~'", 6),
    ("y ~ x) + z", "')' was not expected", 5),
    ("y ~ (x", "closing parenthesis is missing", 6),
    ("y ~ x | g", "stands in parentheses", 6),
    ("y ~ (1 | g | h)", "one bar", 11),
    ("y ~ (1 | g)(1 | h)", "was not expected", 11),
    ("y ~ x + $z", "'$' is not part", 8),
    ("y ~ x + z[1]", "'[' was not expected", 9),
    ("y ~ 1e-3*x", "0.001 is not a term", 4),
    ("y ~ 2x", "cannot begin with a digit", 4),
    ("y ~ `x", "backticked name does not end", 4),
    ("y ~ ``", "backticked name is empty", 4),
    ("y ~ 'x", "quoted text does not end", 4),
    ("y ~ 'x'", "A quoted text is not a term", 4),
    ("y ~ x^z", "whole number k", 6),
    ("y ~ x^11", "whole number k", 6),
    ("y ~ x^1.5", "whole number k", 6),
    ("y ~ x > 2", "comparisons go into I()", 6),
    ("y ~ I(1 < x < 2)", "cannot be chained", 12),
    ("y ~ foo(x)", "foo() is not a function that formulas may call", 4),
    ("y ~ lgo(x)", "Did you mean 'log'?", 4),
    ("y ~ log()", "needs a column as its first argument", 4),
    ("y ~ poly(x, degree=2, degree=3)", "given twice", 22),
    ("y ~ poly(degree=2, x)", "stands after named ones", 19),
    ("y ~ log(x", "')' or ',' is missing", 9),
    ("y ~ I(x:z)", "joins terms", 7),
    ("y ~ I(.)", "'.' cannot stand inside", 6),
    ("y ~ .*x", "stands on its own in the sum", 4),
    ("y ~ x - .", "stands on its own in the sum", 8),
    ("y ~ (. | g)", "stands on its own in the sum", 5),
    ("y ~ (1 | .)", "'.' cannot be a grouping factor", 9),
    ("y ~ (0 | g)", "has no columns", 5),
    ("y ~ (1 | g + h)", "write (1 | a) + (1 | b)", 11),
    ("y ~ (1 | g * h)", "a * b is not a grouping factor", 11),
    ("y ~ (1 | log(g))", "log(g) is not a grouping factor", 9),
    ("y ~ (1 | 3)", "3 is not a grouping factor", 9),
    ("y ~ (1 | a:a)", "'a' stands twice", 11),
    ("y ~ (1 | a/a)", "'a' stands twice", 9),
    ("y ~ x * (1 | g)", "A random term is added", 8),
    ("y ~ x - (1 | g)", "cannot be taken away", 8),
    ("(1 | g) ~ x", "A random term cannot stand inside the response", 0),
    ("y ~ x * (z - 1)", "An intercept (0 or 1)", 13),
    ("y ~ x - offset(z)", "offset() is added", 8),
    ("y ~ x * offset(z)", "offset() stands on its own", 8),
    ("y ~ offset(a, b)", "takes one expression", 4),
    ("y ~ cbind(a, b)", "only as the whole response", 4),
    ("y ~ C(f, contr.foo)", "'contr.foo' is not a contrast", 9),
    ("y ~ C(f, contr.sum, contr.poly)", "one contrast", 4),
    ("y ~ C(f, contr.sum(base='a'))", "Only treatment coding has a reference level", 9),
    ("y ~ 1e999 * x", "is too large", 4),
    ("y ~ x + - (1 | g)", "cannot be taken away", 10),
    ("y ~ x == 1 == 2", "cannot be chained", 11),
]


@pytest.mark.parametrize(("formula", "text", "position"), FAULTS)
def test_faults_are_in_words_and_in_place(formula, text, position):
    with pytest.raises(FormulaError) as raised:
        parse(formula)
    matching = [fault for fault in raised.value.faults if text in fault.message]
    assert matching, str(raised.value)
    assert position in {fault.position for fault in matching}


def test_all_faults_are_told_at_once_and_underlined():
    with pytest.raises(FormulaError) as raised:
        parse("y ~ foo(x) + bar(z) + (1 | g + h)")
    assert len(raised.value.faults) == 3
    shown = str(raised.value).splitlines()
    assert shown[1] == "    y ~ foo(x) + bar(z) + (1 | g + h)"
    assert shown[2] == "        ^^^"


def test_something_that_is_no_text():
    with pytest.raises(FormulaError, match="A formula is a string"):
        parse(3)


def test_a_formula_error_survives_pickling():
    with pytest.raises(FormulaError) as raised:
        parse("y ~ x +")
    again = pickle.loads(pickle.dumps(raised.value))
    assert str(again) == str(raised.value)
    assert again.faults == raised.value.faults


@pytest.mark.parametrize("deep", ["(", "[", "log(", "-", "I(", "(1 | ", "x^"])
def test_depth_is_limited_in_words(deep):
    with pytest.raises(FormulaError, match=r"nested more than|was expected|intercept|closing"):
        parse("y ~ " + deep * 3000)


@pytest.mark.parametrize("n", [10, 30, 59, 60, 61, 200])
def test_the_deepest_formulas_are_read_or_refused(n):
    for opening in ("(", "I(log(", "-"):
        closing = ")" * opening.count("(") * n
        with contextlib.suppress(FormulaError):
            spec = parse("y ~ I(" + opening * n + "x" + closing + ")")
            assert parse(spec.text()).text() == spec.text()


@pytest.mark.parametrize("operator", [" + ", " * ", ":", " / ", " - ", " %in% "])
def test_long_sums_and_products_are_read(operator):
    spec = parse("y ~ x0 + " + operator.join(f"x{i}" for i in range(500)))
    assert len(column_names(spec)) == 501
    assert parse(spec.text()).text() == spec.text()


@pytest.mark.parametrize("template", ["y ~ I({})", "{} ~ x", "y ~ offset({})", "y ~ (I({}) | g)"])
def test_long_arithmetic_is_read(template):
    formula = template.format(" + ".join(f"x{i}" for i in range(500)))
    assert len(column_names(parse(formula))) >= 500


def test_a_very_long_formula_is_refused():
    with pytest.raises(FormulaError, match="at most 20000"):
        parse("y ~ " + "x + " * 10_000 + "x")


def test_a_very_long_grouping_factor_is_refused():
    for operator in ":/":
        with pytest.raises(FormulaError, match="at most 10 columns"):
            parse(f"y ~ (1 | {operator.join(f'g{i}' for i in range(3000))})")


def test_columns_that_are_only_taken_away_are_known_but_not_used():
    spec = parse("y ~ . + x*z - date - x + C(f, contr.sum) + (1 | g)")
    assert set(column_names(spec)) == {"y", "x", "z", "date", "f", "g"}
    assert set(used_columns(spec)) == {"y", "x", "z", "f", "g"}
    assert column_names(spec)["z"] == 10


@pytest.mark.parametrize(
    ("formula", "name"),
    [
        ("y ~ x + (1|first flower)", "first flower"),
        ("y ~ leaf area index + (1 | g)", "leaf area index"),
        ("y ~ x + log(leaf area) + (1 | g)", "leaf area"),
        ("body mass ~ x", "body mass"),
        ("y ~ (1 + time of day | g)", "time of day"),
        ("y ~ day 2 + x", "day 2"),
    ],
)
def test_a_name_with_blanks_gets_its_backticks(formula: str, name: str) -> None:
    with pytest.raises(FormulaError, match=f"A column whose name has blanks goes between backticks: `{name}`"):
        parse(formula)
    parse(formula.replace(name, f"`{name}`"))


@pytest.mark.parametrize("formula", ["y ~ x log(z)", "y ~ x 2x", "y ~ 2 x", "y ~ x + (1 | g", "y ~ x (1 | g)"])
def test_other_faults_get_no_backticks(formula: str) -> None:
    with pytest.raises(FormulaError) as error:
        parse(formula)
    assert "has blanks" not in str(error.value)
