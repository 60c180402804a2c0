"""Every function that a formula may call, against numpy and R; remembered states; registered functions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.design.design import build_design
from unimix.design.encoding import Encoding
from unimix.design.evaluate import functions, register_function
from unimix.errors import DataError, FormulaError, OptionError
from unimix.formula import allowed
from unimix.formula.interpreter import parse

X = [1.5, 2, 3.25, 4, 5.5, 7, 8.75, 10, 11, 13]
# each by the R line above it, with x as X (R 4.2.2)
# poly(x, 3)
POLY = [
    [-0.4264461499713, 0.4217243246681, -0.3964588874823],
    [-0.3846377038957, 0.2805192489059, -0.1243513534516],
    [-0.2801165887067, -0.0134900299009, 0.2853993132775],
    [-0.2174039195932, -0.1494361156316, 0.376849087618],
    [-0.09197858136637, -0.330294453598, 0.3103045011666],
    [0.0334467568605, -0.3897743469041, 0.0511066955183],
    [0.1797763181252, -0.3057586882048, -0.2707510968771],
    [0.2842974333142, -0.1445987995361, -0.3735415606673],
    [0.3679143254655, 0.04501833372893, -0.3048750435673],
    [0.535148109768, 0.5860905264725, 0.4463183444651],
]
# predict(poly(x, 3), c(2.5, 9))
POLY_NEW = [
    [-0.3428292578201, 0.1528006669948, 0.08281370169696],
    [0.200680541163, -0.2802699573966, -0.3039293931764],
]
# poly(x, 2, raw = TRUE)
RAW = [
    [1.5, 2.25],
    [2, 4],
    [3.25, 10.5625],
    [4, 16],
    [5.5, 30.25],
    [7, 49],
    [8.75, 76.5625],
    [10, 100],
    [11, 121],
    [13, 169],
]
# cbind(scale(x), scale(x, scale = FALSE), scale(x, center = FALSE))
SCALE = [
    [-1.279338449914, -5.1, 0.1870742086962],
    [-1.153913111687, -4.6, 0.2494322782616],
    [-0.84034976612, -3.35, 0.405327452175],
    [-0.6522117587797, -2.6, 0.4988645565231],
    [-0.2759357440991, -1.1, 0.6859387652193],
    [0.1003402705815, 0.4, 0.8730129739155],
    [0.5393289543755, 2.15, 1.091266217394],
    [0.8528922999427, 3.4, 1.247161391308],
    [1.103742976396, 4.4, 1.371877530439],
    [1.605444329304, 6.4, 1.6213098087],
]
# splines::bs(x, df = 5)
BS = [
    [0, 0, 0, 0, 0],
    [0.4503305588585, 0.03706974099157, 0.000599700149925, 0, 0],
    [0.6251640903686, 0.3221237657034, 0.02571214392804, 0, 0],
    [0.4292508917955, 0.4957865894639, 0.07496251874063, 0, 0],
    [0.1374929595094, 0.5870395110974, 0.2666955995686, 0.008771929824561, 0],
    [0.02146567369673, 0.4329650057004, 0.4753938820064, 0.07017543859649, 0],
    [0, 0.1745169082126, 0.5469337090714, 0.278549382716, 0],
    [0, 0.0613810741688, 0.3999799408254, 0.513196281973, 0.02544270303277],
    [0, 0.0181869849389, 0.2230877384581, 0.6103434325159, 0.1483818440871],
    [0, 0, 0, 0, 1],
]
# predict(bs(x, df = 5), c(2.5, 9))
BS_NEW = [
    [0.6481617122473, 0.1310406865533, 0.0047976011994, 0, 0],
    [0, 0.1454958795112, 0.5297999468803, 0.3245006319842, 0.0002035416242622],
]
# bs(x, knots = c(4, 8), degree = 2)
BSK = [
    [0, 0, 0, 0],
    [0.3446153846154, 0.01538461538462, 0, 0],
    [0.7215384615385, 0.1884615384615, 0, 0],
    [0.6153846153846, 0.3846153846154, 0, 0],
    [0.2403846153846, 0.6971153846154, 0.0625, 0],
    [0.03846153846154, 0.7115384615385, 0.25, 0],
    [0, 0.4013888888889, 0.5761111111111, 0.0225],
    [0, 0.2, 0.64, 0.16],
    [0, 0.08888888888889, 0.5511111111111, 0.36],
    [0, 0, 0, 1],
]
# bs(x, df = 6, intercept = TRUE)
BSI = [
    [1, 0, 0, 0, 0, 0],
    [0.512, 0.4503305588585, 0.03706974099157, 0.000599700149925, 0, 0],
    [0.027, 0.6251640903686, 0.3221237657034, 0.02571214392804, 0, 0],
    [0, 0.4292508917955, 0.4957865894639, 0.07496251874063, 0, 0],
    [0, 0.1374929595094, 0.5870395110974, 0.2666955995686, 0.008771929824561, 0],
    [0, 0.02146567369673, 0.4329650057004, 0.4753938820064, 0.07017543859649, 0],
    [0, 0, 0.1745169082126, 0.5469337090714, 0.278549382716, 0],
    [0, 0, 0.0613810741688, 0.3999799408254, 0.513196281973, 0.02544270303277],
    [0, 0, 0.0181869849389, 0.2230877384581, 0.6103434325159, 0.1483818440871],
    [0, 0, 0, 0, 0, 1],
]
# splines::ns(x, df = 3)
NS = [
    [0, 0, 0],
    [-0.03733398441713, 0.1182638401208, -0.08033015555376],
    [-0.0958238183771, 0.3789062354219, -0.2573702731168],
    [-0.08047524907125, 0.4846000996488, -0.3291623318369],
    [0.0963610931946, 0.5398148026377, -0.3607083664391],
    [0.3495903095393, 0.4623865762879, -0.2664075652244],
    [0.5247242257758, 0.3477907129905, -0.04703184697887],
    [0.4601125997753, 0.3257238746588, 0.1527824513971],
    [0.3083824584644, 0.344424599555, 0.3290059570417],
    [-0.1392808375057, 0.4342284934001, 0.7050523441056],
]
# predict(ns(x, df = 3), c(2.5, 9, 0, 15))
NS_NEW = [
    [-0.06935823518354, 0.2311917251939, -0.1570358888109],
    [0.5253209330771, 0.3384646161942, -0.009281428782555],
    [0.1146568200767, -0.3574594978863, 0.2428026778096],
    [-0.6253982703687, 0.5380063723259, 1.087391898043],
]
# ns(x, knots = c(4, 8))
NSK = [
    [0, 0, 0],
    [-0.04516762370322, 0.128342256068, -0.08250573604373],
    [-0.1172982214597, 0.4087360234315, -0.262758872206],
    [-0.1015304263207, 0.5183989060725, -0.333256439618],
    [0.0984241370564, 0.5595921821284, -0.3530414027968],
    [0.371923309105, 0.4614575438705, -0.243079849631],
    [0.5149176890751, 0.3516996734883, -0.01495673454408],
    [0.4284098853494, 0.3343653644999, 0.1850508371072],
    [0.2759428848423, 0.3485193427314, 0.3600788352282],
    [-0.1490066225166, 0.4172185430464, 0.7317880794702],
]
# ns(x, df = 4, intercept = TRUE)
NSI = [
    [-0.2015375504477, -0.201576303943, 0.6284437711164, -0.4268674671734],
    [-0.02204553277082, -0.1740579616042, 0.5445209454688, -0.3698632837146],
    [0.3709260335616, -0.08749663888657, 0.352945028775, -0.2397362459603],
    [0.525991938745, -0.009842217024142, 0.2643912350313, -0.1795864992666],
    [0.5857368251388, 0.2143890124209, 0.171845407403, -0.1107668904306],
    [0.4240120591027, 0.4440564029286, 0.1678746380742, -0.06636172039997],
    [0.1700431914542, 0.5636036818848, 0.2265782910037, 0.03530111889892],
    [0.05980757883835, 0.473787279229, 0.2830910504795, 0.1817405961227],
    [0.01772076410025, 0.3124342153396, 0.33179265165, 0.3375861480715],
    [0, -0.1392808375057, 0.4342284934001, 0.7050523441056],
]

FRAME = pd.DataFrame({"y": np.sin(np.arange(10) * 7), "x": X, "f": list("abcdabcdab"), "b": [True, False] * 5})


def columns(term: str, data: pd.DataFrame = FRAME, **options: object) -> np.ndarray:
    return build_design(parse(f"y ~ 0 + {term}"), data, **options).x


@pytest.mark.parametrize("name", ["log", "log2", "log10", "log1p", "exp", "expm1", "sqrt", "abs", "sin", "cos"])
def test_elementwise_functions_are_numpys(name):
    np.testing.assert_array_equal(columns(f"{name}(x)")[:, 0], getattr(np, name)(np.array(X)))


ARITHMETIC = {
    "I(x^2)": lambda x: x**2,
    "I(x**2)": lambda x: x**2,
    "I(-x^2)": lambda x: -(x**2),
    "I((-x)^2)": lambda x: x**2,
    "I(2^-x)": lambda x: 2.0**-x,
    "I(2^2^(x/13))": lambda x: 2.0 ** (2.0 ** (x / 13)),
    "I(x / 2 * 3)": lambda x: x / 2 * 3,
    "I(x - 1 - 2)": lambda x: x - 3,
    "I(x - (1 - 2))": lambda x: x + 1,
    "I(1 / x + 2L)": lambda x: 1 / x + 2,
    "I(+x)": lambda x: x,
    "I(2 * (x > 4) + (x <= 4))": lambda x: np.where(x > 4, 2.0, 1.0),
    "I((x == 4) + x)": lambda x: (x == 4) + x,
    "I((f == 'a') * x)": lambda x: np.array([level == "a" for level in FRAME.f]) * x,
    "I((b != TRUE) * x)": lambda x: np.array([not v for v in FRAME.b]) * x,
    "log(x + 1)": np.log1p,
    "sqrt(abs(sin(x)))": lambda x: np.sqrt(np.abs(np.sin(x))),
    "center(x)": lambda x: x - x.mean(),
}


@pytest.mark.parametrize("term", ARITHMETIC)
def test_arithmetic_is_that_of_r(term):
    np.testing.assert_allclose(columns(term)[:, 0], ARITHMETIC[term](np.array(X)), rtol=1e-14)


@pytest.mark.parametrize(("term", "expected"), [("I(x > 4)", 7), ("I(f == 'a')", 3), ("I(b == FALSE)", 5)])
def test_comparisons_are_two_level_factors(term, expected):
    design = build_design(parse(f"y ~ {term}"), FRAME)
    assert design.fixed_names[1].endswith("[T.True]")
    assert design.x[:, 1].sum() == expected - (term == "I(x > 4)")


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ("poly(x, 3)", POLY),
        ("poly(x, degree=3)", POLY),
        ("poly(x, 2, raw=TRUE)", RAW),
        ("scale(x)", [[row[0]] for row in SCALE]),
        ("scale(x, scale=FALSE)", [[row[1]] for row in SCALE]),
        ("scale(x, center=FALSE)", [[row[2]] for row in SCALE]),
        ("bs(x, df=5)", BS),
        ("bs(x, knots=c(4, 8), degree=2)", BSK),
        ("bs(x, df=6, intercept=TRUE)", BSI),
        ("ns(x, df=3)", NS),
        ("ns(x, 3)", NS),
        ("ns(x, knots=c(4, 8))", NSK),
        ("ns(x, df=4, intercept=TRUE)", NSI),
    ],
)
def test_bases_are_those_of_r(term, expected):
    np.testing.assert_allclose(columns(term), expected, atol=1e-11)


def rows(term: str, new: object) -> np.ndarray:
    encoding = build_design(parse(f"y ~ 0 + {term}"), FRAME).encoding
    again = Encoding.model_validate_json(encoding.model_dump_json())
    assert again == encoding
    return again.transform(new, with_groups=False).x


@pytest.mark.parametrize(
    ("term", "new", "expected"),
    [
        ("poly(x, 3)", [2.5, 9], POLY_NEW),
        ("bs(x, df=5)", [2.5, 9], BS_NEW),
        ("ns(x, df=3)", [2.5, 9, 0, 15], NS_NEW),
        ("scale(x)", [X[3]], [[SCALE[3][0]]]),
        ("center(x)", [0.0], [[-np.mean(X)]]),
        ("scale(log(x))", [X[0]], [[(np.log(X) - np.mean(np.log(X)))[0] / np.std(np.log(X), ddof=1)]]),
    ],
)
def test_learnt_states_are_used_for_new_data(term, new, expected):
    np.testing.assert_allclose(rows(term, {"x": new}), expected, atol=1e-11)


@pytest.mark.parametrize(
    "term", ["cr(x, df=4)", "cc(x, df=4)", "cr(x, df=4, constraints='center')", "C(x)", "I(x > 4)"]
)
def test_the_same_rows_give_the_same_columns_again(term):
    frame = FRAME.assign(x=[1.0, 2, 3, 4, 5, 1, 2, 3, 4, 5])
    design = build_design(parse(f"y ~ {term}"), frame)
    np.testing.assert_allclose(design.encoding.transform(frame[3:5], with_groups=False).x, design.x[3:5], atol=1e-12)


BAD_TERMS = [
    ("log(x - 5)", "is not a finite number in 4 of 10 rows, first where x = 1.5"),
    ("I(1 / (x - 4))", "is not a finite number in 1 of 10 rows, first where x = 4"),
    ("I(x * 1e308)", "is not a finite number"),
    ("exp(x * 100)", "is not a finite number"),
    ("log(f)", "f is categorical"),
    ("I(f + 1)", "f is categorical"),
    ("log(poly(x, 2))", "has several columns"),
    ("log(x, 2, 3)", "takes one column"),
    ("I(x, 2)", "cannot be computed"),
    ("I(1 == 1)", "does not depend on the data"),
    ("I(2)", "does not depend on the data"),
    ("I('a')", "does not depend on the data"),
    ("I(c(x, x))", "must be a plain number"),
    ("I(x + 'a')", "is not a number"),
    ("I(x + TRUE)", "is not a number"),
    ("I(f == 'q')", "'q' is not a level of f"),
    ("I(f == f)", "Compare f with one level"),
    ("poly(x, 2.5)", "degree must be a whole number"),
    ("poly(x, 'a')", "degree must be a whole number"),
    ("poly(x, c(1, 2))", "degree must be a whole number"),
    ("poly(x, 0)", "degree must be at least 1"),
    ("poly(x, 10)", "needs more than 10 different values"),
    ("poly(x, 2, TRUE, 3)", "too many arguments"),
    ("poly(x, deg=2)", "Did you mean 'degree'"),
    ("poly(x, x)", "must be a plain number"),
    ("poly(2, 2)", "needs a column"),
    ("scale(f)", "f is categorical"),
    ("scale(I(0 * x))", "the column is constant"),
    ("scale(x, ddof=100)", "not a finite number|cannot be computed"),
    ("scale(x, center=c(1, 2))", "cannot be computed"),
    ("bs(x, df=1)", "cannot be computed"),
    ("bs(x, knots=2)", "cannot be computed"),
    ("bs(x, extrapolation='foo')", "cannot be computed"),
    ("ns(x, df=0)", "df is too small"),
    ("ns(x, knots=c(40))", "must lie inside"),
    ("ns(x, boundary_knots=c('a', 'b'))", "cannot be computed"),
    ("cr(x, df=3, constraints='__import__')", "cannot be computed"),
    ("C(poly(x, 2))", "cannot be made a factor"),
]


@pytest.mark.parametrize(("term", "text"), BAD_TERMS)
def test_bad_terms_are_refused_in_words(term, text):
    with pytest.raises(DataError, match=text):
        columns(term)


def test_a_spline_goes_on_beyond_the_data_as_in_r():
    """R 4.2.2: x <- c(0.1339033, 2, 3.5, 4.2, 6, 7.7, 9.9190609); predict(bs(x, df = 5), c(-1, 12))."""
    x = [0.1339033, 2, 3.5, 4.2, 6, 7.7, 9.9190609]
    frame = pd.DataFrame({"x": x * 3, "y": np.arange(21.0) % 5})
    design = build_design(parse("y ~ bs(x, df=5)"), frame)
    made = design.encoding.transform({"x": [-1.0, 12.0]}, with_groups=False).x[:, 1:]
    right = [
        [-1.61909267, 0.2374091117, -0.00754543751, 0.0, 0.0],
        [0.0, -0.0366063796, 0.70020835227, -3.25205871, 3.58845674],
    ]
    np.testing.assert_allclose(made, right, rtol=1e-7, atol=1e-9)
    with pytest.raises(DataError, match=r"extrapolation= is 'extend' \(as R\), 'clip'"):
        rows("bs(x, df=5, extrapolation='raise')", {"x": [100.0]})
    np.testing.assert_allclose(rows("bs(x, df=5, extrapolation='clip')", {"x": [100.0]}), [[0, 0, 0, 0, 1]])


def test_predictions_say_where_a_spline_is_extrapolated():
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"x": rng.uniform(0, 10, 60), "y": rng.normal(size=60)})
    fit = um.fit("y ~ bs(x, df=5)", frame)
    new = pd.DataFrame({"x": [5.0, frame["x"].max() + 0.01]})
    assert np.isfinite(fit.predict(new)).all()
    notes = fit.predict(new, interval="confidence").notes
    assert any("1 of 2 rows lie outside the range of x" in note for note in notes)
    assert len(fit.predict(new.head(1), interval="confidence").notes) == 1


@pytest.fixture
def registered():
    before = dict(allowed.REGISTERED)
    yield register_function
    allowed.REGISTERED.clear()
    allowed.REGISTERED.update(before)


def test_a_registered_function_is_called_with_copies(registered):
    def spoil(x, power=1, label=None):
        assert label in {None, "a"}
        x **= power
        return x

    registered("spoil", spoil)
    assert "spoil" in functions()
    design = build_design(parse("y ~ 0 + spoil(x, power=2, label='a') + I(x) + (1 | f)"), FRAME)
    np.testing.assert_array_equal(design.x, np.column_stack([np.square(X), X]))
    again = design.encoding.transform({"x": [3.0], "f": ["a"]}, with_groups=True)
    np.testing.assert_array_equal(again.x, [[9, 3]])


@pytest.mark.parametrize(
    ("function", "term", "text"),
    [
        (lambda x: x[:2], "fun(x)", "one real number per row"),
        (lambda x: x.astype(str), "fun(x)", "one real number per row"),
        (lambda x: x + 1j, "fun(x)", "one real number per row"),
        (lambda x: 1 / 0, "fun(x)", "the registered function failed: ZeroDivisionError"),
        (lambda x: x, "fun(x, 3)", "the registered function failed: TypeError"),
        (lambda x: x, "fun(3)", "does not depend on the data"),
        (lambda x: x, "fun(f)", "f is categorical"),
        (lambda x: x * np.inf, "fun(x)", "is not a finite number"),
    ],
)
def test_a_registered_function_that_fails(registered, function, term, text):
    registered("fun", function)
    with pytest.raises(DataError, match=text):
        columns(term)


@pytest.mark.parametrize(
    ("name", "function", "text"),
    [
        ("log", abs, "already a function"),
        ("C", abs, "already a function"),
        ("my fun", abs, "cannot be called"),
        ("os.system", abs, "cannot be called"),
        ("ｆ", abs, "cannot be called"),
        ("fun", 3, "needs a function"),
    ],
)
def test_what_cannot_be_registered(registered, name, function, text):
    with pytest.raises(OptionError, match=text):
        registered(name, function)


def test_a_function_that_is_not_registered_is_a_formula_error():
    with pytest.raises(FormulaError, match=r"unimix\.register_function"):
        parse("y ~ never_registered(x)")


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("poly(x, 2, raw=T)", "poly(x, 2, raw=TRUE)"),
        ("poly(x, 2, T)", "poly(x, 2, raw=TRUE)"),
        ("scale(x, scale=F)", "center(x)"),
        ("scale(x, F, F)", "I(x)"),
        ("log(x, base=2)", "log2(x)"),
        ("log(x, 10)", "log10(x)"),
        ("log(x + 1, base = 10)", "log10(x + 1)"),
    ],
)
def test_rs_abbreviations_and_bases(text: str, same: str) -> None:
    """The columns are those of the other spelling."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"x": rng.uniform(1, 9, 40), "y": rng.normal(size=40)})
    made, right = (um.fit(f"y ~ {t}", frame, "pls") for t in (text, same))
    np.testing.assert_allclose(made.design().x, right.design().x, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(made.predict(frame.head(3)), right.predict(frame.head(3)), rtol=1e-9)


def test_columns_called_t_and_f_are_columns() -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"T": rng.uniform(1, 9, 40), "F": rng.uniform(1, 9, 40), "y": rng.normal(size=40)})
    fit = um.fit("y ~ poly(T, 2, raw=T) + log(F) + F", frame, "pls")
    assert list(fit.fixed.terms)[1:] == ["poly(T, 2, raw=TRUE)[1]", "poly(T, 2, raw=TRUE)[2]", "log(F)", "F"]
    with pytest.raises(DataError, match="positive number other than 1"):
        um.fit("y ~ log(F, base=1)", frame, "pls")
    with pytest.raises(DataError, match=r"one column and a base, log\(x, base=2\)"):
        um.fit("y ~ log(F, 2, 3)", frame, "pls")


@pytest.mark.parametrize("power", ["^", "**"])
def test_a_power_is_shown_as_it_was_written(power: str) -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"x": rng.normal(size=40), "f": list("ab") * 20, "y": rng.normal(size=40)})
    written = "I(x^2)" if power == "^" else "I(x ** 2)"
    fit = um.fit(f"y ~ x + I(x{power}2):f", frame, "pls")
    assert list(fit.fixed.terms) == ["Intercept", "x", f"{written}:f[a]", f"{written}:f[b]"]
    assert list(fit.anova().table.index) == ["x", f"{written}:f"]
    plain = um.fit(f"y ~ x + I(x{power}2)", frame, "pls")
    for text in ("I(x^2) = 0", "I(x ** 2) = 0", "`I(x^2)` = 0"):
        made = plain.hypotheses(text).table
        assert made["estimate"].iloc[0] == plain.fixed_effects.loc[written, "estimate"]
    assert "I(x^2)" in str(plain) if power == "^" else "I(x ** 2)" in str(plain)
    np.testing.assert_allclose(um.FitResult.from_json(plain.to_json()).predict(frame), plain.fitted)
