"""Structured covariances of random effects: matrices, derivatives, searches and what follows from them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.design.covariance_structures import Structure
from unimix.design.design import build_design
from unimix.formula.interpreter import parse
from unimix.likelihood.lmm import parameters, reduced_data
from unimix.likelihood.lmm.conditioning import condition
from unimix.likelihood.lmm.derivatives import curvature, gradient, moments
from unimix.likelihood.lmm.penalised_least_squares import profile
from unimix.testing import dense, simulate_rich

TIMES = (0.0, 1.0, 2.5, 4.0)


@pytest.fixture(scope="module")
def rich() -> pd.DataFrame:
    data = simulate_rich()
    number = data["t"].str[1:].astype(int)
    return data.assign(when=number**1.5, pair=np.where(number < 3, "stage1", "stage2"))


def matrices() -> list[tuple[Structure, np.ndarray]]:
    """Structures with a matrix of theirs, written down from the definition."""
    lag = np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
    apart = np.abs(np.subtract.outer(TIMES, TIMES))
    sd = np.array([1.0, 2.0, 0.5, 3.0])
    correlations = {
        "diag": np.eye(4),
        "cs": np.where(lag == 0, 1.0, -0.2),
        "ar1": (-0.6) ** lag,
        "toep": np.array([1.0, 0.5, -0.1, 0.2])[lag],
        "car1": 0.7**apart,
        "exp": np.exp(-apart / 2.0),
        "gau": np.exp(-((apart / 1.5) ** 2)),
    }
    made = []
    for form, r in correlations.items():
        for name in dict.fromkeys((f"hom{form}", form, f"het{form}")):
            if name in ("homar1", "hetcs", "hettoep", "hetdiag", "diag", "homcar1", "homexp", "homgau"):
                continue
            one = Structure(name, 4).n_sd == 1
            made.append((Structure(name, 4, TIMES), 2.25 * r if one else np.outer(sd, sd) * r))
    return made


@pytest.mark.parametrize(("structure", "matrix"), matrices(), ids=lambda v: getattr(v, "name", ""))
def test_a_matrix_comes_back_from_its_parameters(structure: Structure, matrix: np.ndarray) -> None:
    theta = structure.parameters(matrix)
    assert len(theta) == structure.n_parameters == len(structure.names([*"abcd"], "g"))
    np.testing.assert_allclose(structure.matrix(theta), matrix, atol=1e-12)
    assert structure.difference(matrix) < 1e-12
    other = matrix.copy()
    other[0, 3] = other[3, 0] = 0.3 * np.sqrt(matrix[0, 0] * matrix[3, 3])  # no form has this correlation here
    assert structure.difference(other) > (0.0 if structure.form == "toep" else 1e-2)


@pytest.mark.parametrize("structure", [s for s, _ in matrices()], ids=lambda s: s.name)
def test_every_value_of_the_parameters_gives_a_covariance_matrix(structure: Structure) -> None:
    """Negative standard deviations and angles beyond a turn fold back; derivatives against central differences."""
    rng = np.random.default_rng(1)
    for theta in rng.normal(size=(20, structure.n_parameters)) * 3:
        matrix = structure.matrix(theta)
        assert np.linalg.eigvalsh(matrix).min() > -1e-10 * np.diag(matrix).max()
        folded = structure.parameters(matrix)
        np.testing.assert_allclose(structure.matrix(folded), matrix, atol=1e-9)
        moves = 1e-6 * np.eye(len(theta))
        slopes = [(structure.matrix(theta + m) - structure.matrix(theta - m)) / 2e-6 for m in moves]
        np.testing.assert_allclose(structure.derivatives(theta)[0], slopes, atol=1e-6 * np.diag(matrix).max())


FORMULAS = [
    "cs(0 + t | g)",
    "cs(0 + t | g, hom=TRUE)",
    "diag(0 + t | g, hom=TRUE)",
    "ar1(0 + t | g)",
    "ar1(0 + t | g, hom=FALSE)",
    "toep(0 + t | g)",
    "toep(0 + t | g, hom=T)",
    "car1(0 + C(when) | g)",
    "gau(0 + C(when) | g)",
    "exp(0 + C(when) | g, hom=F)",
    "cs(0 + t | g) + (1 | h)",
    "(1 + x | h) + ar1(0 + t | g)",
    "cs(0 + x + u + v | g) + ar1(0 + t | h)",
]


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("reml", [True, False])
def test_value_gradient_and_hessian(rich: pd.DataFrame, formula: str, reml: bool) -> None:
    """The value against the n x n density (rounding), derivatives against central differences (step 1e-5)."""
    design = condition(build_design(parse(f"series ~ x + {formula}"), rich[rich["g"] < "g08"]))[0]
    reduced = reduced_data.form(design)
    inside = parameters.inside(reduced, [np.eye(q) for q, _ in reduced.sizes])
    count = len(parameters.parameters_of(reduced, inside))
    factors = parameters.factors_of(reduced, np.abs(np.random.default_rng(1).normal(size=count)) * 0.5 + 0.2)
    theta = parameters.parameters_of(reduced, factors)
    at = profile(reduced, factors, reml=reml)
    covariances = tuple(at.sigma**2 * f @ f.T for f in factors)
    assert at.value == pytest.approx(dense.log_likelihood(design, covariances, at.sigma, reml=reml), abs=1e-9)

    def value(x: np.ndarray) -> float:
        return profile(reduced, parameters.factors_of(reduced, x), reml=reml).value

    def slope(x: np.ndarray) -> np.ndarray:
        own = parameters.factors_of(reduced, x)
        slopes = gradient(reduced, profile(reduced, own, reml=reml), reml=reml)
        return parameters.by_parameter(slopes, reduced, own)

    along = curvature(at, moments(reduced, at.state, parameters.directions_at(reduced, factors)), reml=reml)
    slopes = gradient(reduced, at, reml=reml)
    g, h = parameters.in_parameters(along.gradient, along.hessian, reduced, factors, slopes)
    moves = 1e-5 * np.eye(count)
    np.testing.assert_allclose(g, slope(theta), atol=1e-10)
    np.testing.assert_allclose(g, [(value(theta + m) - value(theta - m)) / 2e-5 for m in moves], atol=2e-6)
    np.testing.assert_allclose(h, [(slope(theta + m) - slope(theta - m)) / 2e-5 for m in moves], atol=2e-5)


SAME = [
    ("cs(0 + t | g, hom=TRUE)", "(1 | g/t)"),  # one variance and correlation: of the level and of the time within it
    ("diag(0 + t | g, hom=TRUE)", "(1 | g:t)"),
    ("cs(0 + pair | g)", "(0 + pair | g)"),  # two columns have one correlation
    ("toep(0 + pair | g)", "(0 + pair | g)"),
    ("exp(0 + C(when) | g)", "car1(0 + C(when) | g)"),
    ("car1(0 + t | g)", "ar1(0 + t | g)"),
    ("ar1(0 + t | g, hom=FALSE)", "hetar1(0 + t | g)"),
]


@pytest.mark.parametrize(("structured", "other"), SAME)
@pytest.mark.parametrize("df_method", ["satterthwaite", "kenward-roger"])
def test_two_ways_to_write_one_model(rich: pd.DataFrame, structured: str, other: str, df_method: str) -> None:
    """Estimates, standard errors, degrees of freedom and intervals do not depend on the parameters of the search."""
    method = "REML" if df_method == "kenward-roger" else "ML"
    a, b = (um.fit(f"series ~ x + {r}", rich, "pls", method=method, df_method=df_method) for r in (structured, other))
    assert a.log_likelihood == pytest.approx(b.log_likelihood, abs=1e-8)
    assert a.criteria.n_parameters == b.criteria.n_parameters
    # A gain of 1e-9, with which searches end, leaves 5e-5 standard errors of a variance.
    np.testing.assert_allclose(a.fixed.estimate, b.fixed.estimate, atol=1e-5 * a.fixed.std_error.max())
    np.testing.assert_allclose(a.fixed.std_error, b.fixed.std_error, rtol=1e-5)
    np.testing.assert_allclose(a.fixed.df, b.fixed.df, rtol=1e-4)
    np.testing.assert_allclose(a.fitted, b.fitted, atol=1e-5)
    assert a.certificate().verdict == b.certificate().verdict == "certified"
    if len(a.random) == len(b.random) and a.random[0].sd.shape == b.random[0].sd.shape:
        own, theirs = (fit.confint(parameters="random").table for fit in (a, b))
        np.testing.assert_allclose(own, theirs, rtol=1e-3)  # theirs by differences of the gradient


@pytest.mark.r
@pytest.mark.parametrize("formula", [f for f in FORMULAS if "hom=" not in f][:-1])
@pytest.mark.parametrize("method", ["REML", "ML"])
def test_glmmtmb_finds_the_same(rich: pd.DataFrame, formula: str, method: str) -> None:
    """Log-likelihoods to 1e-6; on the boundary glmmTMB stops up to 1e-3 below, because it works with logarithms."""
    ours, theirs = (um.fit(f"series ~ x + {formula}", rich, b, method=method) for b in ("pls", "glmmtmb"))
    certificates = [ours.certificate(), theirs.certificate()]
    assert ours.certificate().certified
    assert certificates[1].certified
    assert not theirs.log_likelihood > ours.log_likelihood + 1e-6
    if not ours.singular:
        assert theirs.log_likelihood == pytest.approx(ours.log_likelihood, abs=1e-6)
        np.testing.assert_allclose(theirs.fixed.estimate, ours.fixed.estimate, atol=1e-4 * ours.fixed.std_error.max())
        np.testing.assert_allclose(theirs.fixed.df, ours.fixed.df, rtol=1e-2)
        assert "covariance structure" in {c.name for c in certificates[1].checks}


def test_standard_deviations_of_zero(rich: pd.DataFrame) -> None:
    """The maximum lies where two of three standard deviations are zero, with a slope of the likelihood there."""
    full = um.fit("series ~ x + cs(0 + x + u + v | g) + ar1(0 + t | h)", rich, "pls")
    assert full.converged
    assert full.singular
    assert full.certificate().verdict == "certified at the boundary"
    for column in "xuv":
        part = um.fit(f"series ~ x + (0 + {column} | g) + ar1(0 + t | h)", rich, "pls")
        assert full.log_likelihood >= part.log_likelihood - 1e-8


def test_the_certificate_knows_the_structure(rich: pd.DataFrame) -> None:
    """A covariance matrix that another structure allows is not this model's."""
    ar1, us = (um.fit(f"series ~ x + {s}(0 + pair | g)", rich, "pls", method="ML") for s in ("homcs", "us"))
    planted = dataclasses.replace(us, model=ar1.model)
    planted = dataclasses.replace(planted, _unsaved=ar1._unsaved)
    certificate = planted.certificate()
    assert certificate.verdict == "a different model"
    assert "does not have this structure" in certificate.check("covariance structure").said


def test_confounded_variances_are_not_identified(rich: pd.DataFrame) -> None:
    """With one row per level and time, the variance of the time within the level is that of the residual."""
    once = rich.groupby(["g", "t"], as_index=False).first()
    fit = um.fit("series ~ x + cs(0 + t | g, hom=TRUE)", once, "pls")
    assert fit.status.state == "not_identified"
    assert "the standard deviation of" in fit.status.messages[0]
    assert um.fit("series ~ x + ar1(0 + t | g)", once, "pls").status.state != "not_identified"


def test_a_saved_fit_keeps_its_structure(rich: pd.DataFrame) -> None:
    fit = um.fit("series ~ x + car1(0 + C(when) | g)", rich, "pls")
    loaded = um.FitResult.from_json(fit.to_json()).with_data(rich)
    assert loaded.design().fingerprint() == fit.design().fingerprint()
    assert loaded.certificate().verdict == "certified"
    assert fit.design().blocks[0].coordinates == tuple(sorted(rich["when"].unique()))


def test_nested_structures_are_compared(rich: pd.DataFrame) -> None:
    names = ("homdiag", "homcs", "homtoep", "us")
    fits = {f: um.fit(f"series ~ x + {f}(0 + t | g)", rich, "pls", method="ML") for f in names}
    table = um.anova(*fits.values()).table
    np.testing.assert_allclose(table["df"].to_numpy()[1:], [1, 4, 15])
    car1 = um.fit("series ~ x + car1(0 + t | g)", rich, "pls", method="ML")
    assert "boundary of its decay" in " ".join(um.anova(fits["homdiag"], car1).notes)
    with pytest.raises(um.DataError, match="cannot be shown to be nested"):
        um.anova(um.fit("series ~ x + ar1(0 + t | g)", rich, "pls", method="ML"), fits["homtoep"], car1)


def test_what_a_structure_cannot_do_is_refused(rich: pd.DataFrame) -> None:
    with pytest.raises(um.FormulaError, match="hom= belongs to the other structures"):
        um.fit("series ~ x + us(0 + t | g, hom=TRUE)", rich)
    with pytest.raises(um.FormulaError, match=r"hom=TRUE .one variance. or hom=FALSE"):
        um.fit("series ~ x + cs(0 + t | g, hom=2)", rich)
    with pytest.raises(um.DataError, match="needs a number, a date or a month for each level of f"):
        um.fit("series ~ x + car1(0 + f | g)", rich)
    with pytest.raises(um.DataError, match=r"toep.*needs equally spaced times"):
        um.fit("series ~ x + toep(0 + C(when) | g)", rich)
    with pytest.raises(um.DataError, match="takes one factor of places or times"):
        um.fit("series ~ x + gau(0 + x + u | g)", rich)
    with pytest.raises(um.UnsupportedModelError, match="pls has them for linear models"):
        um.fit("count ~ x + ar1(0 + t | g)", rich, "pls", family="poisson")
    fit = um.fit("series ~ x + ar1(0 + t | g)", rich, "pls")
    with pytest.raises(um.UnsupportedModelError, match="unstructured covariances only"):
        fit.confint(method="profile")
    with pytest.raises(um.UnsupportedModelError, match="unstructured covariances only"):
        um.ranova(fit)


@pytest.mark.parametrize("name", ["hetar1", "hetcar1", "hetgau", "cs"])
def test_a_correlation_is_found_beside_columns_without_variance(name: str) -> None:
    structure = Structure(name, 4, TIMES)
    theta = np.array([0.5, 0.0, 2.0, 0.0, 0.4])
    matrix = structure.matrix(theta)
    assert matrix[0, 2] > 0.0
    np.testing.assert_allclose(structure.matrix(structure.parameters(matrix)), matrix, atol=1e-12)
