"""The density of linear models with group effects integrated out: its gradient and its Jacobian."""

from __future__ import annotations

import numpy as np
import pytest
from slopes_data import simulate

import unimix as um
from unimix.design.design import build_design
from unimix.formula.interpreter import parse
from unimix.likelihood.posterior.marginal import cross_products, log_density


def target(formula, priors=None, data=None):
    from unimix.backends.sampling.density import LogPosterior
    from unimix.backends.sampling.priors import resolve_priors

    design = build_design(parse(formula), simulate() if data is None else data)
    table = resolve_priors(design, priors)
    return design, table, LogPosterior(design, table)


DENSITIES = [
    ("y ~ x", None),
    ("y ~ x + (1 | g)", {"sd(g)": um.priors.Uniform(0.5, 9), "x": um.priors.StudentT(3, 0, 2)}),
    ("y ~ x + (1 | g)", {"sd(g)": um.priors.Gamma(2, 1), "sigma": um.priors.LogNormal(0, 1)}),
    ("y ~ x + (1 + x | g)", {"cor(g)": um.priors.LKJ(2.5), "sd(g)": um.priors.Exponential(1)}),
    ("y ~ x + (1 + x | g)", {"cor(g)": um.priors.LKJ(2.5), "sd(g: x)": um.priors.Uniform(0, 5)}),
    ("y ~ x + (1 + x + I(x^2) | g)", {"cor(g)": um.priors.LKJ(1.5)}),
    ("y ~ x + (1 + x || g) + (1 | h)", None),
]


@pytest.mark.parametrize(("formula", "priors"), DENSITIES)
def test_gradient_equals_finite_differences(formula, priors):
    _, _, function = target(formula, priors)
    theta, h = 0.4 * np.random.default_rng(2).normal(size=function.size), 1e-6
    gradient = function(theta)[1]
    numeric = [(function(theta + h * e)[0] - function(theta - h * e)[0]) / (2 * h) for e in np.eye(function.size)]
    np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-5 * np.abs(gradient).max())


@pytest.mark.parametrize(("formula", "priors"), DENSITIES)
def test_density_is_that_of_the_users_parameters_times_the_jacobian(formula, priors):
    design, table, function = target(formula, priors)

    def parameters(theta):
        draws = function.draws(theta[None])
        lower = [r[0][np.tril_indices(r.shape[1], -1)] for r in draws.correlations]
        return draws, np.concatenate([draws.beta[0], *(s[0] for s in draws.sds), draws.sigma, *lower])

    def expected(theta):
        draws, _ = parameters(theta)
        factors = [
            np.linalg.cholesky(s[0][:, None] * r[0] * s[0]) for s, r in zip(draws.sds, draws.correlations, strict=True)
        ]
        total = log_density(cross_products(design), draws.beta[0], factors, float(np.log(draws.sigma[0])))[0]
        for prior, value in zip(table.fixed, table.functionals @ draws.beta[0], strict=True):
            total += prior.log_density(value)
        for own, sd, lkj, r in zip(table.sds, draws.sds, table.correlations, draws.correlations, strict=True):
            total += sum(p.log_density(v) for p, v in zip(own, sd[0], strict=True))
            total += lkj.log_density(r[0]) if lkj is not None else 0
        h = 1e-6
        jacobian = [(parameters(theta + h * e)[1] - parameters(theta - h * e)[1]) / (2 * h) for e in np.eye(len(theta))]
        return total + table.sigma.log_density(draws.sigma[0]) + np.linalg.slogdet(np.array(jacobian))[1]

    rng = np.random.default_rng(5)
    points = 0.4 * rng.normal(size=(3, function.size)) + function.start()
    differences = [function(t)[0] - expected(t) for t in points]
    assert np.ptp(differences) < 1e-4
