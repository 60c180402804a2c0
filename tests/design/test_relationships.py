"""Relationship matrices: how they are read, pedigrees, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import unimix as um
from unimix.design.relationships import root_of


def animals() -> pd.DataFrame:
    return pd.DataFrame({"y": [1.0, 2.5, 0.5, 3.0, 2.0, 1.5], "id": ["a", "b", "c", "a", "b", "c"]})


NAMES = ["a", "b", "c"]
A = np.array([[1.0, 0.5, 0.25], [0.5, 1.0, 0.5], [0.25, 0.5, 1.0]])


def fit(matrix: object, **more: object) -> um.FitResult:
    return um.fit("y ~ 1 + (1 | id)", animals(), relationship={"id": matrix}, **more)  # type: ignore[arg-type]


def test_a_frame_a_sparse_matrix_and_an_inverse_are_one_matrix() -> None:
    order = [2, 0, 1]
    turned = pd.DataFrame(A[np.ix_(order, order)], index=["c", "a", "b"], columns=["c", "a", "b"])
    given = [
        pd.DataFrame(A, index=NAMES, columns=NAMES),
        turned,
        um.Relationship(sparse.csr_array(A), NAMES),
        um.inverse(np.linalg.inv(A), NAMES),
        um.inverse(pd.DataFrame(np.linalg.inv(A), index=NAMES, columns=NAMES)),
    ]
    likelihoods = [fit(matrix).log_likelihood for matrix in given]
    assert likelihoods == pytest.approx([likelihoods[0]] * 5, rel=1e-10)


def test_ancestors_without_rows_are_integrated_out() -> None:
    """A larger matrix gives the same fit; its inverse must be inverted before rows are left out."""
    larger = np.array([[1, 0.5, 0.25, 0.5], [0.5, 1, 0.5, 0.2], [0.25, 0.5, 1, 0.1], [0.5, 0.2, 0.1, 1]])
    names = [*NAMES, "ancestor"]
    expected = fit(um.Relationship(A, NAMES)).log_likelihood
    assert fit(um.Relationship(larger, names)).log_likelihood == pytest.approx(expected)
    assert fit(um.inverse(np.linalg.inv(larger), names)).log_likelihood == pytest.approx(expected)


def test_unrelated_levels_are_those_without_a_matrix() -> None:
    plain = um.fit("y ~ 1 + (1 | id)", animals())
    assert fit(um.Relationship(np.eye(3), NAMES)).log_likelihood == pytest.approx(plain.log_likelihood)


def test_clones_have_a_singular_matrix_that_is_taken() -> None:
    clones = np.array([[1.0, 1.0, 0.5], [1.0, 1.0, 0.5], [0.5, 0.5, 1.0]])
    root = root_of(clones)
    assert root @ root.T == pytest.approx(clones, abs=1e-12)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (A, "no labels"),
        (um.Relationship(A[:2, :2], ["a", "b"]), "no row for 1 of the levels in the data: c"),
        (um.Relationship(A + np.triu(np.ones((3, 3)), 1), NAMES), "not symmetric"),
        (um.Relationship(A - 1.2 * np.eye(3), NAMES), "negative variance"),
        (um.Relationship(np.array([[1, 2, 0], [2, 1, 0], [0, 0, 1.0]]), NAMES), "smallest eigenvalue is -1"),
        (um.Relationship(A, ["a", "b"]), "one label per row"),
        (um.Relationship(A, ["a", "b", "b"]), "more than once: b"),
        (um.Relationship(A * np.nan, NAMES), "missing or infinite"),
        (um.inverse(np.diag([1.0, 1.0, 1e-30]), NAMES), "singular"),
        (pd.DataFrame(A, index=NAMES, columns=["c", "b", "a"]), "different labels"),
    ],
)
def test_what_is_no_relationship_matrix_is_refused(matrix: object, message: str) -> None:
    with pytest.raises(um.UnimixError, match=message):
        fit(matrix)


def test_names_and_engines_that_do_not_suit_are_refused() -> None:
    matrix = um.Relationship(A, NAMES)
    with pytest.raises(um.OptionError, match="Known: id"):
        um.fit("y ~ 1 + (1 | id)", animals(), relationship={"ID": matrix})
    with pytest.raises(um.OptionError, match="takes a dict"):
        um.fit("y ~ 1 + (1 | id)", animals(), relationship=matrix)  # type: ignore[arg-type]
    with pytest.raises(um.UnsupportedModelError, match="backend='pls'"):
        fit(matrix, backend="statsmodels")
    counts = animals().assign(y=[1, 2, 0, 3, 2, 1])
    with pytest.raises(um.UnsupportedModelError, match="generalised"):
        um.fit("y ~ 1 + (1 | id)", counts, family="poisson", relationship={"id": matrix})


def test_pedigree_is_that_of_a_textbook() -> None:
    """Mrode (2014), Linear Models for the Prediction of Animal Breeding Values, example 2.1, with its printed A."""
    family = pd.DataFrame({"animal": [3, 4, 5, 6], "sire": [1, 1, 4, 5], "dam": [2, None, 3, 2]})
    found = um.pedigree(family.sample(frac=1, random_state=1)).loc[range(1, 7), range(1, 7)]
    printed = [
        [1.0, 0.0, 0.5, 0.5, 0.5, 0.25],
        [0.0, 1.0, 0.5, 0.0, 0.25, 0.625],
        [0.5, 0.5, 1.0, 0.25, 0.625, 0.563],
        [0.5, 0.0, 0.25, 1.0, 0.625, 0.313],
        [0.5, 0.25, 0.625, 0.625, 1.125, 0.688],
        [0.25, 0.625, 0.563, 0.313, 0.688, 1.125],
    ]
    assert found.to_numpy() == pytest.approx(np.array(printed), abs=6e-4)  # three decimals are printed


def test_pedigrees_that_are_none_are_refused() -> None:
    with pytest.raises(um.DataError, match="own ancestors"):
        um.pedigree(pd.DataFrame({"animal": ["a", "b"], "sire": ["b", "a"], "dam": [None, None]}))
    with pytest.raises(um.DataError, match="two rows for 'a'"):
        um.pedigree(pd.DataFrame({"animal": ["a", "a"], "sire": ["b", "c"], "dam": [None, None]}))
    with pytest.raises(um.DataError, match="no column 'dam'"):
        um.pedigree(pd.DataFrame({"animal": ["a"], "sire": ["b"]}))
