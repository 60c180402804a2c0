"""The log density of generalised models: its gradient, and PyMC's own density of the same model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from generalised_data import FAMILIES, design_of, simulate
from written_density import Draw, assert_same_up_to_a_constant, log_density, nothing_compiled

import unimix as um
from unimix.design.design import build_design
from unimix.distributions.family import Family, as_family
from unimix.formula.interpreter import parse

pytestmark = [
    pytest.mark.mcmc,
    pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS"),
]


@pytest.fixture(autouse=True, scope="module")
def _nothing_compiled() -> Iterator[None]:
    with nothing_compiled():
        yield


def target(family: Family, formula: str, *, priors=None, extras: bool = True):
    from unimix.backends.sampling.generalised_density import GeneralisedPosterior
    from unimix.backends.sampling.priors import resolve_priors

    design = design_of(family, formula, extras=extras)
    table = resolve_priors(design, priors)
    function = GeneralisedPosterior(design, table)
    mode = function.settle().mode
    return design, table, function, mode


def numeric_gradient(function, theta, h=1e-6):
    return np.array([(function(theta + h * e)[0] - function(theta - h * e)[0]) / (2 * h) for e in np.eye(len(theta))])


@pytest.mark.parametrize("formula", ["y ~ x", "y ~ x + (1 + x | g) + (1 | h)"])
@pytest.mark.parametrize("family", FAMILIES, ids=str)
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
    """Log density of the PyMC model as a function of the user's parameters, without Jacobians."""
    import pytensor

    from unimix.backends.sampling.pymc_model import build_model, dispersion_variables, fixed_variables, variables_of_sds
    from unimix.design.grouping_factors import block_labels

    model = build_model(design, table, centered=True)
    density = model.compile_logp(jacobian=False)
    given, turned = [v.type() for v in model.free_RVs], []
    for variable, value in zip(model.free_RVs, given, strict=True):
        transform = model.rvs_to_transforms[variable]
        turned.append(value if transform is None else transform.forward(value, *variable.owner.inputs))
    forward = pytensor.function(given, turned)

    def at(found) -> float:
        values = dict(zip(fixed_variables(design), table.functionals @ found.beta[0], strict=True))
        values |= dict(zip(dispersion_variables(design), found.dispersion[0], strict=True))
        for k, (block, label) in enumerate(zip(design.blocks, block_labels(design.blocks), strict=True)):
            values |= dict(zip(variables_of_sds(block, label), found.sds[k][0], strict=True))
            values[f"effects({label})"] = found.effects[k][0]
            if block.q == 2:
                values[f"cor({label})"] = found.correlations[k][0][[0], [1]]
        point = forward(*(np.asarray(values[v.name], dtype=float) for v in model.free_RVs))
        return float(density({model.rvs_to_values[v].name: p for v, p in zip(model.free_RVs, point, strict=True)}))

    return at


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
@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_density_is_that_of_the_pymc_model(family: Family, formula: str) -> None:
    assert spread_of_differences(*target(family, formula)) < 2e-4


@pytest.mark.parametrize("formula", ["y ~ x + (1 + x | g) + (1 | h)", "y ~ 0 + h + (1 | g) + (1 | g:h)"])
def test_density_of_other_models_is_that_of_the_pymc_model(formula: str) -> None:
    assert spread_of_differences(*target(as_family("poisson"), formula, extras=False)) < 2e-4
    assert spread_of_differences(*target(as_family("student_t"), formula)) < 2e-4


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


@pytest.mark.parametrize("parametrization", ["noncentered", "centered"])
@pytest.mark.parametrize(
    ("family", "formula"), [("gaussian", "y ~ x + (1 + x | g)"), ("negative_binomial", "y ~ 0 + h + (1 | g)")]
)
def test_the_model_as_written_is_sampled_as_it_is_written(family: str, formula: str, parametrization: str) -> None:
    """At ten steps of PyMC's sampler, its log density is that of the rows, the effects and the reported priors."""
    data = simulate(as_family(family), groups=6, rows=8)
    options = {"sampler": "pymc", "parametrization": parametrization, "draws": 5, "tune": 5, "chains": 1}
    options |= {"cores": 1, "retry": False}
    result = um.fit(formula, data, "pymc", family=family, options=options, seed=1)
    design, found = build_design(parse(formula), data, family=family), result.draws(5)
    ours = []
    for s, beta in enumerate(found.beta):
        draw = Draw(beta, [c[s] for c in found.covariances], [e[s] for e in found.effects], found.parameters[s])
        told = result.engine.priors
        ours.append(log_density(design, draw, told, noncentered=parametrization == "noncentered"))
    assert_same_up_to_a_constant(result.posterior.sample_stats["lp"].to_numpy().ravel(), ours)
