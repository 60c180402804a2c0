"""The log density of generalised models: its gradient, and PyMC's own density of the same model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from generalised_data import FAMILIES, design_of
from written_density import nothing_compiled

import unimix as um
from unimix.backends.capabilities import Yes
from unimix.backends.registry import resolve
from unimix.backends.sampling.generalised_density import GeneralisedPosterior
from unimix.backends.sampling.priors import resolve_priors
from unimix.design.design import build_design
from unimix.design.features import Feature
from unimix.distributions.family import Family, as_family
from unimix.formula.interpreter import parse
from unimix.testing.examples import EXAMPLES
from unimix.testing.simulated import simulate_rich

BY_BAYES, BY_PYMC = (
    [f for f in FAMILIES if isinstance(resolve(name, {}).families.answer(f, mixed=True), Yes)]
    for name in ("bayes", "pymc")
)
pytestmark = [
    pytest.mark.mcmc,
    pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS"),
]


@pytest.fixture(autouse=True, scope="module")
def _nothing_compiled() -> Iterator[None]:
    with nothing_compiled():
        yield


def target(family: Family, formula: str, *, priors=None, extras: bool = True):
    design = design_of(family, formula, extras=extras)
    table = resolve_priors(design, priors)
    function = GeneralisedPosterior(design, table)
    mode = function.settle().mode
    return design, table, function, mode


def numeric_gradient(function, theta, h=1e-6):
    return np.array([(function(theta + h * e)[0] - function(theta - h * e)[0]) / (2 * h) for e in np.eye(len(theta))])


@pytest.mark.parametrize("formula", ["y ~ x", "y ~ x + (1 + x | g) + (1 | h)"])
@pytest.mark.parametrize("family", BY_BAYES, ids=str)
def test_gradient_equals_finite_differences(family: Family, formula: str) -> None:
    _, _, function, mode = target(family, formula)
    theta = mode + 0.02 * np.random.default_rng(3).normal(size=function.size)
    value, gradient = function(theta)
    assert np.isfinite(value)
    scale = np.abs(gradient).max()
    np.testing.assert_allclose(gradient, numeric_gradient(function, theta), atol=2e-6 * max(1.0, scale))


@pytest.mark.parametrize(
    ("formula", "priors"),
    [
        ("y ~ x + (1 + x || g)", {"sd(g)": um.priors.Uniform(0.01, 5)}),
        ("y ~ x + (1 + x | g)", {"cor(g)": um.priors.LKJ(3), "sd(g: x)": um.priors.Gamma(2, 1)}),
        ("y ~ x + (1 + x + I(x^2) | g)", {"theta": um.priors.Gamma(2, 0.5)}),
        ("y ~ x + (1 | g) + (1 | g:h) + (1 | h)", {"theta": um.priors.Uniform(0.1, 50)}),
    ],
)
def test_gradient_with_other_blocks_and_priors(formula, priors) -> None:
    _, _, function, mode = target(as_family("negative_binomial"), formula, priors=priors)
    theta = mode + 0.05 * np.random.default_rng(3).normal(size=function.size)
    gradient = function(theta)[1]
    np.testing.assert_allclose(gradient, numeric_gradient(function, theta), atol=2e-6 * np.abs(gradient).max())


def users_parameters(function, theta):
    """Fixed effects, log SDs, correlations, log dispersion parameters and effects, as one vector and apart."""
    found = function.draws(np.stack([theta, theta]))
    low = [r[0][np.tril_indices(r.shape[1], -1)] for r in found.correlations]
    parts = [
        found.beta[0],
        *(s[0] for s in found.sds),
        *low,
        found.dispersion[0],
        *(e[0].ravel() for e in found.effects),
    ]
    return found, np.concatenate(parts)


def log_density_of_model(design, table):
    """Log density of the PyMC model as a function of the user's parameters, without Jacobians.

    The covariance factor of correlated effects is a variable of the model: its density as a function of standard
    deviations and correlations needs the derivative of the one in the others, |d L / d (sd, R)|.
    """
    import pytensor

    from unimix.backends.sampling.pymc_model import Recipe, build_model, dispersion_variables, fixed_variables, is_joint

    recipe = Recipe(design, table, (True,) * len(design.blocks))
    model = build_model(recipe)
    density = model.compile_logp(jacobian=False)
    given, turned = [v.type() for v in model.free_RVs], []
    for variable, value in zip(model.free_RVs, given, strict=True):
        transform = model.rvs_to_transforms[variable]
        turned.append(value if transform is None else transform.forward(value, *variable.owner.inputs))
    forward = pytensor.function(given, turned, on_unused_input="ignore")

    def at(found) -> float:
        values = dict(zip(fixed_variables(recipe), recipe.functionals @ found.beta[0], strict=True))
        values |= dict(zip(dispersion_variables(design), found.dispersion[0], strict=True))
        more = 0.0
        for k, (block, label) in enumerate(zip(design.blocks, recipe.labels, strict=True)):
            sds, correlation = found.sds[k][0], found.correlations[k][0]
            if block.q == 1:
                values[f"sd({label})"] = sds
            elif is_joint(table.sds[k]):
                root = np.linalg.cholesky(correlation)
                values[f"covariance({label})"] = (sds[:, None] * root)[np.tril_indices(block.q)]
                more += log_derivative(sds, correlation)
            else:
                values |= dict(zip((f"sd({label}: {t})" for t in block.terms), sds, strict=True))
                values[f"correlations({label})"] = correlation[np.triu_indices(block.q, 1)]
            around = [0.0 if i is None else found.beta[0][i] for i in recipe.around[k]]
            values[f"effects({label})"] = found.effects[k][0]
            values[f"coefficients({label})"] = found.effects[k][0] + around
        point = forward(*(np.asarray(values[v.name], dtype=float) for v in model.free_RVs))
        names = [model.rvs_to_values[v].name for v in model.free_RVs]
        return float(density(dict(zip(names, point, strict=True)))) + more

    return at


def log_derivative(sds, correlation, h=1e-6):
    """log |d L / d (sd, R)| of the covariance factor L, by its entries on and below the diagonal."""
    q, below = len(sds), np.tril_indices(len(sds), -1)

    def factor(v):
        r = np.eye(q)
        r[below] = v[q:]
        r = r + np.tril(r, -1).T
        return (v[:q, None] * np.linalg.cholesky(r))[np.tril_indices(q)]

    here = np.concatenate([sds, correlation[below]])
    steps = [(factor(here + h * e) - factor(here - h * e)) / (2 * h) for e in np.eye(len(here))]
    return float(np.linalg.slogdet(np.array(steps))[1])


def spread_of_differences(design, table, function, mode) -> float:
    """How far the density differs from the PyMC model's times the Jacobian by more than a constant."""
    rng, h, found = np.random.default_rng(5), 1e-6, []
    written = log_density_of_model(design, table)
    for _ in range(3):
        theta = mode + 0.05 * rng.normal(size=function.size)
        draws, _ = users_parameters(function, theta)
        steps = [
            (users_parameters(function, theta + h * e)[1] - users_parameters(function, theta - h * e)[1]) / (2 * h)
            for e in np.eye(function.size)
        ]
        jacobian = np.linalg.slogdet(np.array(steps))[1]
        found.append(function(theta)[0] - written(draws) - jacobian)
    return float(np.ptp(found))


@pytest.mark.parametrize("formula", ["y ~ x", "y ~ x + (1 | g)"], ids=["plain", "mixed"])
@pytest.mark.parametrize("family", BY_PYMC, ids=str)
def test_density_is_that_of_the_pymc_model(family: Family, formula: str) -> None:
    assert spread_of_differences(*target(family, formula)) < 2e-4


@pytest.mark.parametrize("formula", ["y ~ x + (1 + x | g) + (1 | h)", "y ~ 0 + h + (1 | g) + (1 | g:h)"])
def test_density_of_other_models_is_that_of_the_pymc_model(formula: str) -> None:
    assert spread_of_differences(*target(as_family("poisson"), formula, extras=False)) < 2e-4
    assert spread_of_differences(*target(as_family("student_t"), formula)) < 2e-4


CLAIMED = [
    f
    for f in EXAMPLES
    if isinstance(resolve("pymc", {}).capabilities[f], Yes) and f not in (Feature.POSTERIOR, Feature.PRIORS)
]


@pytest.mark.parametrize("feature", CLAIMED, ids=lambda f: f.name)
def test_claimed_features_have_the_density_of_their_model(feature: Feature) -> None:
    """Linear models of every kind; the contract samples a few of them."""
    formula, arguments = EXAMPLES[feature]
    kept = {k: v for k, v in arguments.items() if k in ("offset", "weights")}
    design = build_design(parse(formula), simulate_rich(n_groups=5), **kept)
    table = resolve_priors(design, None)
    function = GeneralisedPosterior(design, table)
    assert spread_of_differences(design, table, function, function.settle().mode) < 2e-4


def test_agrees_with_a_model_written_by_hand() -> None:
    import pymc as pm

    family = as_family("binomial")
    priors = {"Intercept": um.priors.Normal(0, 2), "x": um.priors.Normal(0, 1), "sd(g)": um.priors.HalfNormal(1)}
    design, _, function, mode = target(family, "y ~ x + (1 | g)", priors=priors)
    with pm.Model() as model:
        intercept, slope = pm.Normal("a", 0, 2), pm.Normal("b", 0, 1)
        sd = pm.HalfNormal("s", 1)
        effects = pm.Normal("u", 0, sd, shape=5)
        eta = intercept + slope * design.x[:, 1] + effects[design.blocks[0].codes] + design.offset
        pm.Binomial("k", design.trials, logit_p=eta, observed=np.round(design.y * design.trials))
    logp = model.compile_logp(jacobian=False)
    rng, found = np.random.default_rng(7), []
    for _ in range(4):
        theta = mode + 0.2 * rng.normal(size=function.size)
        draws, _ = users_parameters(function, theta)
        h = 1e-6
        steps = [
            (users_parameters(function, theta + h * e)[1] - users_parameters(function, theta - h * e)[1]) / (2 * h)
            for e in np.eye(function.size)
        ]
        a, b = draws.beta[0]
        point = {"a": a, "b": b, "s_log__": np.log(draws.sds[0][0, 0]), "u": draws.effects[0][0, :, 0]}
        found.append(function(theta)[0] - float(logp(point)) - np.linalg.slogdet(np.array(steps))[1])
    assert np.ptp(found) < 1e-5


def test_coordinates_do_not_change_the_density() -> None:
    """Another reference point: other coordinates, the same posterior."""
    design, table, function, mode = target(as_family("poisson"), "y ~ x + (1 + x | g) + (1 | h)", extras=False)
    moved = function.move_reference(mode, np.zeros(design.n))
    assert spread_of_differences(design, table, function, moved) < 2e-4
