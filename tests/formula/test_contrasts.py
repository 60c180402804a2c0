"""Contrast codings against R, and those that are refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.design.design import build_design
from unimix.errors import DataError, OptionError, UnimixError
from unimix.formula.interpreter import parse

# each by the R line above it (R 4.2.2)
# contr.sum(4)
SUM = [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
    [-1, -1, -1],
]
# contr.helmert(4)
HELM = [
    [-1, -1, -1],
    [1, -1, -1],
    [0, 2, -1],
    [0, 0, 3],
]
# contr.poly(4)
POLYC = [
    [-0.6708203932499, 0.5, -0.22360679775],
    [-0.22360679775, -0.5, 0.6708203932499],
    [0.22360679775, -0.5, -0.6708203932499],
    [0.6708203932499, 0.5, 0.22360679775],
]
# MASS::contr.sdif(4)
SDIF = [
    [-0.75, -0.5, -0.25],
    [0.25, -0.5, -0.25],
    [0.25, 0.5, -0.25],
    [0.25, 0.5, 0.75],
]
# contr.SAS(4)
SAS = [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
    [0, 0, 0],
]
# contr.treatment(4, base = 2)
TRT = [
    [1, 0, 0],
    [0, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
]
X = np.arange(10.0)
FRAME = pd.DataFrame({"y": np.sin(X * 7), "x": X, "f": list("abcdabcdab")})


@pytest.mark.parametrize(
    ("coding", "expected"),
    [
        ("contr.sum", SUM),
        ("Sum", SUM),
        ("'sum'", SUM),
        ("contr.helmert", HELM),
        ("contr.poly", POLYC),
        ("contr.sdif", SDIF),
        ("contr.diff", SDIF),
        ("contr.sas", SAS),
        ("contr.treatment(base=2)", TRT),
        ("contr.treatment(base='b')", TRT),
        ("Treatment(reference='b')", TRT),
        ("contrasts=contr.sum", SUM),
    ],
)
@pytest.mark.parametrize("road", ["formula", "argument"])
def test_contrasts_are_those_of_r(coding, expected, road):
    if road == "formula":
        design = build_design(parse(f"y ~ C(f, {coding})"), FRAME)
    else:
        design = build_design(parse("y ~ f"), FRAME, contrasts={"f": coding.removeprefix("contrasts=").strip("'")})
    np.testing.assert_allclose(design.x[:, 1:], np.array(expected)[[0, 1, 2, 3, 0, 1, 2, 3, 0, 1]], atol=1e-12)


def test_custom_contrasts_by_matrix_and_by_label():
    matrix = [[1, 0, 0], [0, 2, 0], [0, 0, 3], [-1, -1, -1]]
    by_matrix = build_design(parse("y ~ f"), FRAME, contrasts={"f": matrix})
    assert by_matrix.fixed_names == ("Intercept", "f[1]", "f[2]", "f[3]")
    frame = pd.DataFrame(matrix, columns=["uq0_", "b - a", "]:x"])
    by_label = build_design(parse("y ~ f"), FRAME, contrasts={"f": frame})
    assert by_label.fixed_names == ("Intercept", "f[uq0_]", "f[b - a]", "f[]:x]")
    np.testing.assert_array_equal(by_label.x, by_matrix.x)
    np.testing.assert_array_equal(by_label.x[:4, 1:], matrix)
    plain = build_design(parse("y ~ f"), FRAME, contrasts={"f": pd.DataFrame(matrix)})
    assert plain.fixed_names == by_matrix.fixed_names
    without = build_design(parse("y ~ 0 + f"), FRAME, contrasts={"f": matrix})
    np.testing.assert_array_equal(without.x[:4], np.eye(4))


HYPOTHESES = {
    "treatment": {"b-a": [-1, 1, 0, 0], "c-a": [-1, 0, 1, 0], "d-a": [-1, 0, 0, 1]},
    "neighbours": {"b-a": [-1, 1, 0, 0], "c-b": [0, -1, 1, 0], "d-c": [0, 0, -1, 1]},
    "mixed": {"rest - a": [-1, 1 / 3, 1 / 3, 1 / 3], "d - b": [0, -2, 0, 2]},
    "one": {"b-a": [-1, 1, 0, 0]},
}


@pytest.mark.parametrize("which", HYPOTHESES)
def test_coefficients_of_hypotheses_are_weighted_sums_of_level_means(which: str) -> None:
    """By least squares, with unequal numbers of rows per level."""
    hypotheses = HYPOTHESES[which]
    design = build_design(parse("y ~ f"), FRAME, contrasts={"f": hypotheses})
    coefficients = dict(zip(design.fixed_names, np.linalg.lstsq(design.x, design.y)[0], strict=True))
    means = FRAME.groupby("f")["y"].mean().to_numpy()
    assert coefficients["Intercept"] == pytest.approx(means.mean())
    for label, weights in hypotheses.items():
        assert coefficients[f"f[{label}]"] == pytest.approx(means @ weights)
    rest = [n for n in design.fixed_names if "[rest " in n and n.removeprefix("f[").removesuffix("]") not in hypotheses]
    assert rest == [f"f[rest {j + 1}]" for j in range(3 - len(hypotheses))]
    pseudo_inverse = np.linalg.pinv(np.array(list(hypotheses.values())))
    np.testing.assert_allclose(design.x[:4, 1 : 1 + len(hypotheses)], pseudo_inverse, atol=1e-12)


def test_hypotheses_of_a_fit_survive_json_and_predict() -> None:
    data = um.load_dataset("dietox")
    fit = um.fit("Weight ~ Evit + Time + (1 | Pig)", data, contrasts={"Evit": {"200-0": [-1, 0, 1]}})
    plain = um.fit("Weight ~ Evit + Time + (1 | Pig)", data)
    assert fit.log_likelihood == pytest.approx(plain.log_likelihood + 0.5 * np.log(2), abs=1)
    wanted = plain.fixed_effects.loc["Evit[T.Evit200]", "estimate"]
    assert fit.fixed_effects.loc["Evit[200-0]", "estimate"] == pytest.approx(wanted, rel=1e-5)
    np.testing.assert_allclose(um.FitResult.from_json(fit.to_json()).predict(data), fit.fitted)


@pytest.mark.parametrize("term", ["f", "C(f)", "factor(f)", "as.factor(f)", "C(factor(f))"])
def test_the_contrasts_argument_reaches_a_factor_inside_c(term):
    design = build_design(parse(f"y ~ {term}"), FRAME, contrasts={"f": "sum"})
    np.testing.assert_array_equal(design.x[:4, 1:], SUM)


def test_a_contrast_in_the_formula_goes_before_the_argument():
    design = build_design(parse("y ~ C(f, contr.helmert)"), FRAME, contrasts={"f": "sum"})
    np.testing.assert_array_equal(design.x[:4, 1:], HELM)


@pytest.mark.parametrize(
    ("contrasts", "text"),
    [
        ({"f": "summ"}, "Did you mean 'sum'"),
        ({"f": ""}, "ends too early"),
        ({"f": 3}, "is a name"),
        ({"f": [[1, 2], [3]]}, "is a name"),
        ({"f": [["a"]]}, "is a name"),
        ({"f": {}}, "map each label"),
        ({"f": {"a": ["x"]}}, "map each label"),
        ({"f": {"a": [1, 2, 3, 4], "b": [1, 2]}}, "map each label"),
        ({"f": [[np.nan], [1], [2], [3]]}, "not finite"),
        ({"f": {1: [1, 2, 3, 4], "1": [1, 2, 3, 5]}}, "read the same"),
        ({"f": {"b": [0, 1, 0, 0]}}, r"sum to zero.*'b' sums to 1\. If these are columns.*np.column_stack"),
        ({"f": {"b": [0, 0, 0, 0]}}, "all weights of 'b' are zero"),
        ({"f": pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"])}, "columns of the same name"),
        ({"F": "sum"}, "Did you mean 'f'"),
        ({3: "sum"}, "which the formula does not use"),
        ({"x": "sum"}, "which is numeric"),
        ("sum", "maps factors to codings"),
    ],
)
def test_bad_contrasts_are_refused_in_words(contrasts, text):
    with pytest.raises(OptionError, match=text):
        build_design(parse("y ~ f + x"), FRAME, contrasts=contrasts)


@pytest.mark.parametrize(
    ("contrast", "text"),
    [
        ([[1, 2], [3, 4]], "2 rows, but the factor has 4 levels"),
        ([[1], [1], [1], [1]], "not of full rank"),
        ({"b-a": [-1, 1]}, "each label has 2 weights, but the factor has 4 levels: a, b, c, d"),
        ({"b-a": [-1, 1, 0, 0], "a-b": [1, -1, 0, 0]}, "follow from each other"),
        ("contr.treatment(base='q')", "'q' is not a level"),
    ],
)
def test_contrasts_that_do_not_fit_the_levels(contrast, text):
    with pytest.raises(DataError, match=text):
        build_design(parse("y ~ f"), FRAME, contrasts={"f": contrast})


# R 4.2.2: contr.poly(3, scores = c(0, 10, 50)), contr.treatment(3, base = 2)
POLY_OF_SCORES = [[-0.5345225, 0.6172134], [-0.2672612, -0.7715167], [0.8017837, 0.1543033]]
SECOND = [[1, 0], [0, 0], [0, 1]]


@pytest.mark.parametrize(
    ("coding", "matrix"),
    [
        ("contr.poly(scores=c(0, 10, 50))", POLY_OF_SCORES),
        ("contr.poly(3, c(0, 10, 50))", POLY_OF_SCORES),
        ("contr.poly(3, scores=c(0, 10, 50))", POLY_OF_SCORES),
        ("contr.treatment(3, base=2)", SECOND),
        ("contr.treatment(3, 2)", SECOND),
        ("contr.treatment(base=2)", SECOND),  # a position, although a level is called 2
        ("contr.treatment(c(0, 1, 2), base=2)", SECOND),
        ("contr.treatment(base='1')", SECOND),
        ("Treatment(reference=1)", SECOND),  # patsy's: a level
        ("contr.treatment(3)", [[0, 0], [1, 0], [0, 1]]),
        ("contr.sum(3)", [[1, 0], [0, 1], [-1, -1]]),
        ("contr.SAS(3)", [[1, 0], [0, 1], [0, 0]]),
    ],
)
def test_arguments_of_rs_functions_mean_what_they_mean_in_r(coding: str, matrix: list[list[float]]) -> None:
    frame = pd.DataFrame({"f": ["0", "1", "2"] * 3, "y": np.arange(9.0) % 4})
    design = build_design(parse(f"y ~ C(f, {coding})"), frame)
    np.testing.assert_allclose(design.x[:3, 1:], matrix, atol=1e-6)
    new = design.encoding.transform(pd.DataFrame({"f": ["2", "0"]}), with_groups=False)
    np.testing.assert_allclose(new.x[:, 1:], np.array(matrix)[[2, 0]], atol=1e-6)
    given = build_design(parse("y ~ f"), frame, contrasts={"f": coding})
    np.testing.assert_allclose(given.x[:3, 1:], matrix, atol=1e-6)
    again = type(given.encoding).model_validate_json(given.encoding.model_dump_json())
    np.testing.assert_allclose(again.transform(frame, with_groups=False).x, given.x, atol=1e-12)


@pytest.mark.parametrize(
    ("coding", "message"),
    [
        ("contr.sum(4)", "for 4 levels; the data have 3"),
        ("contr.treatment(2)", "for 2 levels; the data have 3"),
        ("contr.treatment(base=4)", "the position of a level of .*, from 1 to 3, as in R"),
        ("contr.sum(c('a', 'b', 'c'))", "states the levels a, b, c"),
        ("contr.poly(scores=c(1, 1, 2))", "all different"),
        ("contr.poly(scores=c(1, 2))", "for 2 levels; the data have 3"),
        ("contr.helmert(3, 2)", "has other arguments"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(coding: str, message: str) -> None:
    frame = pd.DataFrame({"f": ["0", "1", "2"] * 3, "y": np.arange(9.0) % 4})
    with pytest.raises(UnimixError, match=message):
        build_design(parse(f"y ~ C(f, {coding})"), frame)
