"""Contrasts of contrasts and polynomial contrasts, against R's emmeans."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.analysis.means.contrasts import contrast_weights


@pytest.fixture(scope="module")
def fit() -> um.FitResult:
    rng = np.random.default_rng(2)
    rows = [(f"s{i}", a, f"l{b}") for i in range(12) for a in "xyz" for b in "123"]
    data = pd.DataFrame(rows, columns=["id", "a", "b"])
    data["y"] = rng.normal(size=len(data)) + (data["a"] == "y") * (data["b"] == "l3") * 2
    return um.fit("y ~ a * b + (1 | id)", data, "pls")


def test_contrasts_of_contrasts_are_those_of_emmeans(fit: um.FitResult) -> None:
    """R 4.2.2, emmeans 1.8.4: contrast(emmeans(m, ~ a * b), interaction = c("pairwise", "consec")), three digits."""
    made = fit.contrasts("~ a * b", interaction=["pairwise", "consecutive"]).table
    names = ["x - y : l2 - l1", "x - z : l2 - l1", "y - z : l2 - l1"]
    assert made["contrast"].tolist() == [*names, *(n.replace("l2 - l1", "l3 - l2") for n in names)]
    assert made["estimate"].tolist() == pytest.approx([-0.530, -0.192, 0.338, -2.628, 0.351, 2.979], abs=6e-4)
    assert made["std_error"].tolist() == pytest.approx([0.547] * 6, abs=6e-4)
    assert made["p_value"].tolist() == pytest.approx([0.3349, 0.7267, 0.5378, 0, 0.5233, 0], abs=1e-4)
    assert set(made["adjust"]) == {"none"}
    mixed = fit.emmeans("~ a * b").contrasts(interaction=["reference", "poly"]).table
    assert mixed["contrast"].tolist() == [
        *("y - x : linear", "z - x : linear"),
        *("y - x : quadratic", "z - x : quadratic"),
    ]
    assert mixed["estimate"].tolist() == pytest.approx([3.159, -0.159, 2.098, -0.542], abs=6e-4)
    assert len(fit.contrasts("~ a * b", interaction="pairwise")) == 9


def test_what_interactions_cannot_be(fit: um.FitResult) -> None:
    with pytest.raises(um.OptionError, match="the means have 1 factor"):
        fit.contrasts("a", interaction="pairwise")
    with pytest.raises(um.OptionError, match="one method for all factors or one for each"):
        fit.contrasts("~ a * b", interaction=["pairwise"] * 3)
    with pytest.raises(um.OptionError, match="leave method= out"):
        fit.contrasts("~ a * b", "poly", interaction="pairwise")
    with pytest.raises(um.OptionError, match=r"emmeans' seq is 'consecutive'"):
        fit.contrasts("~ a * b", interaction="seq")
    with pytest.raises(um.OptionError, match="adjust='tukey' is for pairwise"):
        fit.contrasts("~ a * b", interaction="pairwise", adjust="tukey")


@pytest.mark.parametrize(
    ("m", "weights"),
    [
        (2, [[-1, 1]]),
        (4, [[-3, -1, 1, 3], [1, -1, -1, 1], [-1, 3, -3, 1]]),
        (
            6,
            [
                *([-5, -3, -1, 1, 3, 5], [5, -1, -4, -4, -1, 5], [-5, 7, 4, -4, -7, 5], [1, -3, 2, 2, -3, 1]),
                [-1, 5, -10, 10, -5, 1],
            ],
        ),
        (
            9,
            [
                [-4, -3, -2, -1, 0, 1, 2, 3, 4],
                [28, 7, -8, -17, -20, -17, -8, 7, 28],
                [-14, 7, 13, 9, 0, -9, -13, -7, 14],
                [14, -21, -11, 9, 18, 9, -11, -21, 14],
                [-4, 11, -4, -9, 0, 9, 4, -11, 4],
                [4, -17, 22, 1, -20, 1, 22, -17, 4],
            ],
        ),
    ],
)
def test_polynomials_are_emmeans_whole_numbers(m: int, weights: list[list[int]]) -> None:
    """R: emmeans:::poly.emmc(1:m)."""
    made = contrast_weights("poly", [str(i) for i in range(m)], None)
    assert [w.tolist() for w in made.values()] == weights


def test_scores_have_the_contrasts_of_contr_poly(fit: um.FitResult) -> None:
    """R: contr.poly(3, scores = c(0, 10, 50))."""
    right = {"linear": [-0.5345225, -0.2672612, 0.8017837], "quadratic": [0.6172134, -0.7715167, 0.1543033]}
    made = contrast_weights("poly", list("abc"), None, scores=[0, 10, 50])
    for name, weights in right.items():
        np.testing.assert_allclose(made[name], weights, atol=1e-7)
    means = fit.emmeans("b").table["estimate"].to_numpy()
    table = fit.contrasts("b", "poly", scores=[0, 10, 50]).table
    np.testing.assert_allclose(table["estimate"], [np.dot(w, means) for w in right.values()], rtol=1e-5)
    with pytest.raises(um.OptionError, match="3 different numbers"):
        fit.contrasts("b", "poly", scores=[0, 10])
