"""Contrast codings against R, and those that are refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from unimix.errors import DataError, OptionError
from unimix.model.design import build_design
from unimix.model.parse import parse

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
    labels = dict(zip(["uq0_", "b - a", "]:x"], np.transpose(matrix), strict=True))
    by_label = build_design(parse("y ~ f"), FRAME, contrasts={"f": labels})
    assert by_label.fixed_names == ("Intercept", "f[uq0_]", "f[b - a]", "f[]:x]")
    np.testing.assert_array_equal(by_label.x, by_matrix.x)
    np.testing.assert_array_equal(by_label.x[:4, 1:], matrix)
    without = build_design(parse("y ~ 0 + f"), FRAME, contrasts={"f": matrix})
    np.testing.assert_array_equal(without.x[:4], np.eye(4))


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
        ("contr.treatment(base='q')", "'q' is not a level"),
    ],
)
def test_contrasts_that_do_not_fit_the_levels(contrast, text):
    with pytest.raises(DataError, match=text):
        build_design(parse("y ~ f"), FRAME, contrasts={"f": contrast})
