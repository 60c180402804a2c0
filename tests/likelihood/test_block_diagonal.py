"""Correlated residuals: the likelihood by groups of rows against the n x n density."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from unimix.design.arrays import Design
from unimix.design.covariance_structures import Structure, UnitUnstructured
from unimix.design.design import build_design
from unimix.formula.interpreter import parse
from unimix.likelihood.lmm import parameters
from unimix.likelihood.lmm.block_diagonal import Residuals, form_grouped
from unimix.likelihood.lmm.conditioning import condition
from unimix.likelihood.lmm.denominator_df import df_of_contrasts
from unimix.likelihood.lmm.derivatives import curvature, gradient, moments
from unimix.likelihood.lmm.evaluation import Evaluation
from unimix.likelihood.lmm.penalised_least_squares import profile
from unimix.likelihood.lmm.reduced_data import Products, form
from unimix.likelihood.lmm.search import search
from unimix.testing import dense, simulate_rich

TIMES = (0.0, 1.0, 2.5, 3.0, 5.0, 8.0)
STRUCTURES = [
    Structure("ar1", 6, unit=True),
    Structure("hetar1", 6, unit=True),
    Structure("homcs", 6, unit=True),
    Structure("homtoep", 6, unit=True),
    Structure("car1", 6, TIMES, unit=True),
    UnitUnstructured("us", 6, unit=True),
    Structure("diag", 6, unit=True),
]


@pytest.fixture(scope="module")
def once() -> pd.DataFrame:
    """One row per g and time, a seventh of them missing, so that several patterns of times occur."""
    data = simulate_rich(n_groups=20).groupby(["g", "t"], as_index=False).first()
    data = data[np.random.default_rng(3).uniform(size=len(data)) < 0.85]
    when = data["t"].str[1:].astype(int)
    return data.assign(when=when, half=np.where(when < 3, "a", "b"))


def grouped(design: Design, data: pd.DataFrame, structure: Structure) -> Products:
    codes = np.unique(data["g"], return_inverse=True)[1]
    residuals = Residuals(codes, data["when"].to_numpy(), 6, independent=structure.form == "diag")
    return form_grouped(design, residuals, structure)


def heteroscedastic(design: Design, products: Products, c: np.ndarray, data: pd.DataFrame) -> np.ndarray:
    """W^-1/2 C W^-1/2 between the rows of a group, shape (n, n)."""
    when, codes = data["when"].to_numpy(), data["g"].to_numpy()
    same = np.eye(design.n) if products.grouped.residuals.independent else codes[:, None] == codes
    weights = np.ones(design.n) if design.weights is None else design.weights
    return np.asarray(c[np.ix_(when, when)] * same / np.sqrt(np.outer(weights, weights)))


@pytest.mark.parametrize("random", ["", " + (1 + x | g)", " + (1 | g/half)"])
@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda s: s.name)
def test_value_gradient_and_hessian(once: pd.DataFrame, structure: Structure, random: str) -> None:
    """The value against the n x n density (rounding), derivatives against central differences (step 1e-5)."""
    design = condition(build_design(parse(f"series ~ x + f{random}"), once, weights="w"))[0]
    products = grouped(design, once, structure)
    inside = parameters.inside(products, [np.eye(q) for q, _ in products.sizes])
    theta = parameters.parameters_of(products, inside)
    theta = theta + np.random.default_rng(1).normal(size=len(theta)) * 0.1 - 0.3 * (structure.name == "car1")
    factors = parameters.factors_of(products, theta)
    theta = parameters.parameters_of(products, factors)
    for reml in (True, False):
        at = profile(products, factors, reml=reml)
        v = at.sigma**2 * heteroscedastic(design, products, factors[-1] @ factors[-1].T, once)
        for block, f in zip(design.blocks, factors, strict=False):
            v = v + at.sigma**2 * (block.codes[:, None] == block.codes) * (block.z @ f @ f.T @ block.z.T)
        assert at.value == pytest.approx(dense_value(v, design, reml=reml), abs=1e-9)

        def value(x: np.ndarray, reml: bool = reml) -> float:
            return profile(products, parameters.factors_of(products, x), reml=reml).value

        def slope(x: np.ndarray, reml: bool = reml) -> np.ndarray:
            own = parameters.factors_of(products, x)
            slopes = gradient(products, profile(products, own, reml=reml), reml=reml)
            return parameters.by_parameter(slopes, products, own)

        along = curvature(at, moments(products, at.state, parameters.directions_at(products, factors)), reml=reml)
        slopes = gradient(products, at, reml=reml)
        g, h = parameters.in_parameters(along.gradient, along.hessian, products, factors, slopes)
        moves = 1e-5 * np.eye(len(theta))
        np.testing.assert_allclose(g, slope(theta), atol=1e-9)
        np.testing.assert_allclose(g, [(value(theta + m) - value(theta - m)) / 2e-5 for m in moves], atol=2e-6)
        np.testing.assert_allclose(h, [(slope(theta + m) - slope(theta - m)) / 2e-5 for m in moves], atol=2e-5)


def dense_value(v: np.ndarray, design: Design, *, reml: bool) -> float:
    """The (restricted) log-likelihood of a covariance matrix V, shape (n, n), by rotating the rows to independence."""
    root = np.linalg.cholesky(v)
    y, x = np.linalg.solve(root, design.y), np.linalg.solve(root, design.x)
    turned = replace(design, y=y, x=x, blocks=(), weights=None)
    return dense.log_likelihood(turned, (), 1.0, reml=reml) - float(np.log(np.diag(root)).sum())


def test_a_random_intercept_is_compound_symmetry_of_the_residuals(once: pd.DataFrame) -> None:
    """Estimates, conditional modes and degrees of freedom do not depend on which of the two is written."""
    plain = condition(build_design(parse("series ~ x + f"), once))[0]
    mixed = condition(build_design(parse("series ~ x + f + (1 | g)"), once))[0]
    ours = grouped(plain, once, Structure("homcs", 6, unit=True))
    theirs = form(mixed)
    both = grouped(mixed, once, Structure("homdiag", 6, unit=True))  # independent residuals, by groups of rows
    ends = [Evaluation.of_optimum(p, search(p, reml=True), reml=True) for p in (ours, theirs, both)]
    for end in (ends[0], ends[2]):
        assert end.profile.value == pytest.approx(ends[1].profile.value, abs=1e-8)
        np.testing.assert_allclose(end.profile.beta, ends[1].profile.beta, atol=1e-6)
        for method in ("satterthwaite", "kenward-roger"):
            df = [df_of_contrasts(e.uncertainty(method), np.eye(plain.p)) for e in (end, ends[1])]
            np.testing.assert_allclose(df[0], df[1], rtol=1e-4)  # at optima that differ by 1e-6
        adjusted = [e.kenward_roger.adjusted for e in (end, ends[1])]
        np.testing.assert_allclose(adjusted[0], adjusted[1], rtol=1e-5, atol=1e-8)
    for own, known in zip(ends[2].effects, ends[1].effects, strict=True):
        np.testing.assert_allclose(own[0], known[0], atol=1e-5)
