from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from dense_effects import dense_effects
from scipy import stats

from unimix.design.design import build_design
from unimix.formula.interpreter import parse
from unimix.likelihood.posterior.effect_draws import draw_all_effects
from unimix.likelihood.posterior.marginal import cross_products, log_density, n_dense
from unimix.likelihood.posterior.marginal_posterior import Reduced
from unimix.testing.dense import marginal_covariance

FORMULAS = [
    "y ~ x",
    "y ~ x + (1 | g)",
    "y ~ x + (1 + x | g)",
    "y ~ x + (1 + x || g)",
    "y ~ x + (1 + x + z | g)",
    "y ~ x + (1 + x + z + I(x^2) + I(z^2) | g)",
    "y ~ x + (1 + x | g) + (0 + z | g)",
    "y ~ x + (1 | g) + (1 | h)",
    "y ~ x + (1 + x | g) + (1 + z | h)",
    "y ~ x + (1 + x | g) + (1 + z | h) + (0 + x | h) + (1 | k)",
    "y ~ x + (1 + x | h/k)",
]


def make(formula, *, weighted):
    rng = np.random.default_rng(7)
    n = 40
    data = pd.DataFrame(
        {
            "y": rng.normal(size=n) + 3,
            "x": rng.normal(size=n),
            "z": rng.normal(size=n),
            "g": rng.integers(0, 7, n).astype(str),
            "h": rng.integers(0, 4, n).astype(str),
            "k": rng.integers(0, 3, n).astype(str),
            "w": rng.uniform(0.3, 3, n),
        }
    )
    design = build_design(parse(formula), data, weights="w" if weighted else None)
    beta = rng.normal(size=design.p)
    factors = [np.tril(rng.normal(size=(b.q, b.q))) for b in design.blocks]
    return design, beta, factors, 0.2


def dense(design, beta, factors, log_sigma):
    v = marginal_covariance(design, tuple(f @ f.T for f in factors), np.exp(log_sigma))
    return stats.multivariate_normal(design.x @ beta, v).logpdf(design.y)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("formula", FORMULAS)
def test_density_equals_the_dense_normal(formula, weighted):
    design, beta, factors, log_sigma = make(formula, weighted=weighted)
    value = log_density(cross_products(design), beta, factors, log_sigma)[0]
    assert value == pytest.approx(dense(design, beta, factors, log_sigma), rel=1e-11)


@pytest.mark.parametrize("formula", FORMULAS)
def test_gradient_equals_finite_differences(formula):
    design, beta, factors, log_sigma = make(formula, weighted=True)
    data, h = cross_products(design), 1e-6
    _, by_beta, by_factor, by_log_sigma = log_density(data, beta, factors, log_sigma)

    def difference(change):
        return (change(h) - change(-h)) / (2 * h)

    for j in range(design.p):
        step = np.eye(design.p)[j]
        assert by_beta[j] == pytest.approx(
            difference(lambda e, s=step: log_density(data, beta + e * s, factors, log_sigma)[0]), rel=1e-6, abs=1e-6
        )
    for k, factor in enumerate(factors):
        for i, j in np.ndindex(factor.shape):

            def moved(e, k=k, i=i, j=j):
                changed = [f.copy() for f in factors]
                changed[k][i, j] += e
                return log_density(data, beta, changed, log_sigma)[0]

            assert by_factor[k][i, j] == pytest.approx(difference(moved), rel=1e-6, abs=1e-6)
    assert by_log_sigma == pytest.approx(
        difference(lambda e: log_density(data, beta, factors, log_sigma + e)[0]), rel=1e-6, abs=1e-6
    )


@pytest.mark.parametrize("formula", FORMULAS[1:])
def test_zero_variance_is_inside_the_domain(formula):
    design, beta, factors, log_sigma = make(formula, weighted=False)
    zero = [np.zeros_like(f) for f in factors]
    data = cross_products(design)
    value, *gradients = log_density(data, beta, zero, log_sigma)
    assert value == pytest.approx(dense(design, beta, zero, log_sigma), rel=1e-11)
    assert all(np.isfinite(np.concatenate([np.ravel(g) for g in gradients[1]])))


def repeated(design, beta, factors, sigma, n):
    """The same parameters n times, as the draws want them."""
    return Reduced(design).products, np.tile(beta, (n, 1)), [np.tile(f, (n, 1, 1)) for f in factors], np.full(n, sigma)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("formula", FORMULAS[1:])
@pytest.mark.parametrize("shrunk", [1.0, 0.0])
def test_conditional_effects_equal_dense_algebra(formula, weighted, shrunk):
    design, beta, factors, log_sigma = make(formula, weighted=weighted)
    factors = [shrunk * f for f in factors]
    means, covariances, _ = dense_effects(design, beta, factors, np.exp(log_sigma))
    given = repeated(design, beta, factors, np.exp(log_sigma), 3)
    for keep in (True, False):
        found = draw_all_effects(*given, np.random.default_rng(1), keep=keep)
        for got, wanted in zip(found.means + found.covariances, means + covariances, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-8, atol=1e-10)
        assert [len(d) for d in found.draws] == [3 * keep] * len(means)


@pytest.mark.parametrize("formula", ["y ~ x + (1 + x | g)", "y ~ x + (1 + x | g) + (1 + z | h) + (1 | k)"])
def test_draws_have_the_conditional_moments(formula):
    design, beta, factors, log_sigma = make(formula, weighted=True)
    n = 6000
    given = repeated(design, beta, factors, np.exp(log_sigma), n)
    found = draw_all_effects(*given, np.random.default_rng(1), keep=True)
    means, _, covariance = dense_effects(design, beta, factors, np.exp(log_sigma))
    draws = np.concatenate([d.reshape(n, -1) for d in found.draws], axis=1)
    mean = np.concatenate([m.ravel() for m in means])
    scale = np.sqrt(np.diag(covariance))
    assert np.abs((draws.mean(axis=0) - mean) / scale).max() < 5 / np.sqrt(n)
    assert np.abs((np.cov(draws.T) - covariance) / np.outer(scale, scale)).max() < 6 / np.sqrt(n)


def test_moments_over_parameters_are_those_of_the_draws():
    design, beta, factors, log_sigma = make("y ~ x + (1 + x | g)", weighted=False)
    rng, n = np.random.default_rng(3), 4000
    found = draw_all_effects(
        Reduced(design).products,
        beta + 0.5 * rng.normal(size=(n, design.p)),
        [f * np.exp(0.2 * rng.normal(size=(n, 1, 1))) for f in factors],
        np.exp(log_sigma + 0.1 * rng.normal(size=n)),
        rng,
        keep=True,
    )
    draws = found.draws[0]
    spread = draws.std(axis=0)
    assert np.abs((draws.mean(axis=0) - found.means[0]) / spread).max() < 5 / np.sqrt(n)
    np.testing.assert_allclose(np.sqrt(np.einsum("lii->li", found.covariances[0])), spread, rtol=0.08)


def test_size_of_the_dense_part():
    design, *_ = make("y ~ x + (1 + x | g) + (1 + z | h)", weighted=False)
    assert n_dense(design.blocks) == 8
    assert n_dense(()) == 0
