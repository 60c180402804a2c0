"""Generalised models in PyMC: densities against PyMC's own, simulated truth, exact posteriors, calibration."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import unimix as um
from unimix.backends.family_sheet import all_families
from unimix.errors import OptionError, UnsupportedModelError
from unimix.model.design import build_design
from unimix.model.family import Family, as_family
from unimix.model.parse import parse
from unimix.numerics.links import LINKS

pytestmark = [
    pytest.mark.mcmc,
    pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS"),
]

FAMILIES = all_families()
TRUTH = {"sigma": 0.5, "nu": 5.0, "theta": 3.0, "alpha": 0.8, "precision": 12.0, "dispersion": 0.1}
# eta = intercept + slope x + effect, so that the mean stays inside its range
PREDICTORS = {
    "identity": (6.0, 0.5, 0.5),
    "log": (1.0, 0.3, 0.4),
    "sqrt": (2.5, 0.3, 0.2),
    "inverse": (0.8, 0.08, 0.08),
    "inverse_squared": (0.8, 0.08, 0.08),
}


def predictor(family: Family) -> tuple[float, float, float]:
    return PREDICTORS.get(family.link, (0.3, 0.5, 0.6))


def parameters_of(family: Family) -> list[float]:
    wide = {"dispersion": 0.02} if family.name == "inverse_gaussian" else {}
    return [{**TRUTH, **wide}[n] for n in family.parameters]


def respond(family: Family, eta: np.ndarray, trials: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw responses; proportions for the binomial."""
    mu, p = LINKS[family.link].inverse(eta), parameters_of(family)
    match family.label:
        case "gaussian":
            return rng.normal(mu, p[0])
        case "student_t":
            return mu + p[0] * rng.standard_t(p[1], len(mu))
        case "binomial":
            return rng.binomial(trials, mu) / trials
        case "poisson":
            return rng.poisson(mu)
        case "gamma":
            return rng.gamma(1 / p[0], mu * p[0])
        case "inverse_gaussian":
            return rng.wald(mu, 1 / p[0])
        case "negative_binomial":
            return rng.negative_binomial(p[0], p[0] / (p[0] + mu))
        case "negative_binomial_1":
            return rng.negative_binomial(mu / p[0], 1 / (1 + p[0]))
        case _:
            return np.clip(rng.beta(mu * p[0], (1 - mu) * p[0]), 1e-6, 1 - 1e-6)


def simulate(family: Family, *, groups: int = 12, rows: int = 10, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), rows)
    x = rng.uniform(-1, 1, len(g))
    intercept, slope, sd = predictor(family)
    effects = stats.norm.ppf((np.arange(groups) + 0.5) / groups) * sd
    eta = intercept + slope * x + rng.permutation(effects)[g]
    trials = rng.integers(3, 9, len(g))
    return pd.DataFrame(
        {
            "y": respond(family, eta, trials, rng),
            "x": x,
            "g": [f"g{i:02d}" for i in g],
            "h": [f"h{i % 4}" for i in range(len(g))],
            "trials": trials,
            "w": rng.choice([1.0, 2.0], len(g)),
            "o": 0.05 * rng.uniform(-1, 1, len(g)),
        }
    )


def design_of(family: Family, formula: str, data: pd.DataFrame | None = None, *, extras: bool = True):
    """A design with an offset, and weights or trials."""
    data = simulate(family, groups=5, rows=6) if data is None else data
    weights = "trials" if family.name == "binomial" else "w" if extras else None
    offset = "o" if extras and not family.is_linear else None
    return build_design(parse(formula), data, family=family, weights=weights, offset=offset)


def target(family: Family, formula: str, *, priors=None, extras: bool = True):
    from unimix.backends._pymc_generalised import GeneralisedPosterior
    from unimix.backends._pymc_priors import resolve_priors

    design = design_of(family, formula, extras=extras)
    table = resolve_priors(design, priors)
    function = GeneralisedPosterior(design, table)
    mode = function.settle().mode
    return design, table, function, mode


def fit(formula, data, family, *, priors=None, seed=1, weights=None, offset=None, **options):
    return um.fit(
        formula,
        data,
        backend="pymc",
        family=family,
        priors=priors,
        seed=seed,
        weights=weights,
        offset=offset,
        options=options,
    )


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
        ("y ~ x + (1 + x || g)", {"sd(g)": um.Uniform(0.01, 5)}),
        ("y ~ x + (1 + x | g)", {"cor(g)": um.LKJ(3), "sd(g: x)": um.Gamma(2, 1)}),
        ("y ~ x + (1 + x + I(x^2) | g)", {"theta": um.Gamma(2, 0.5)}),
        ("y ~ x + (1 | g) + (1 | g:h) + (1 | h)", {"theta": um.Uniform(0.1, 50)}),
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


def log_density_of_model(design, table, found) -> float:
    """Log density of the PyMC model in the user's parameters, without Jacobians."""
    from unimix.backends._pymc_model import build_model, dispersion_variables, fixed_variables, variables_of_sds
    from unimix.backends._pymc_posterior import block_labels

    model = build_model(design, table, centered=True)
    values = dict(zip(fixed_variables(design), table.functionals @ found.beta[0], strict=True))
    values |= dict(zip(dispersion_variables(design), found.dispersion[0], strict=True))
    for k, (block, label) in enumerate(zip(design.blocks, block_labels(design), strict=True)):
        values |= dict(zip(variables_of_sds(block, label), found.sds[k][0], strict=True))
        values[f"effects({label})"] = found.effects[k][0]
        if block.q == 2:
            values[f"cor({label})"] = found.correlations[k][0][[0], [1]]
    point = {}
    for variable in model.free_RVs:
        value = np.asarray(values[variable.name], dtype=float)
        transform = model.rvs_to_transforms[variable]
        name = model.rvs_to_values[variable].name
        if transform is not None:
            value = np.asarray(transform.forward(value, *variable.owner.inputs).eval())
        point[name] = value
    return float(model.compile_logp(jacobian=False)(point))


def spread_of_differences(design, table, function, mode) -> float:
    """How far the density differs from the PyMC model's times the Jacobian by more than a constant."""
    rng, h, found = np.random.default_rng(5), 1e-6, []
    for _ in range(3):
        theta = mode + 0.05 * rng.normal(size=function.size)
        draws, _ = users_parameters(function, theta)
        steps = [
            (users_parameters(function, theta + h * e)[1] - users_parameters(function, theta - h * e)[1]) / (2 * h)
            for e in np.eye(function.size)
        ]
        jacobian = np.linalg.slogdet(np.array(steps))[1]
        found.append(function(theta)[0] - log_density_of_model(design, table, draws) - jacobian)
    return float(np.ptp(found))


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_density_is_that_of_the_pymc_model(family: Family) -> None:
    assert spread_of_differences(*target(family, "y ~ x + (1 | g)")) < 2e-4


@pytest.mark.parametrize("formula", ["y ~ x", "y ~ x + (1 + x | g) + (1 | h)", "y ~ 0 + h + (1 | g) + (1 | g:h)"])
def test_density_of_other_models_is_that_of_the_pymc_model(formula: str) -> None:
    assert spread_of_differences(*target(as_family("poisson"), formula, extras=False)) < 2e-4
    assert spread_of_differences(*target(as_family("student_t"), formula)) < 2e-4


def test_agrees_with_a_model_written_by_hand() -> None:
    import pymc as pm

    family = as_family("binomial")
    priors = {"Intercept": um.Normal(0, 2), "x": um.Normal(0, 1), "sd(g)": um.HalfNormal(1)}
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


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_simulated_truth(family: Family) -> None:
    data = simulate(family, groups=20, rows=12, seed=4)
    weights = "trials" if family.name == "binomial" else None
    result = fit("y ~ x + (1 | g)", data, family, weights=weights, draws=500, tune=400)
    assert result.status.divergences == 0, result.status
    assert result.status.rhat < 1.02
    intercept, slope, sd = predictor(family)
    off = (result.fixed_effects["estimate"] - [intercept, slope]) / result.fixed_effects["std_error"]
    assert off.abs().max() < 4
    draws = result.posterior.posterior
    assert abs(np.log(draws["sd(g)"].to_numpy() / sd).mean()) < 4 * np.log(draws["sd(g)"].to_numpy()).std()
    for name, value in zip(family.parameters, parameters_of(family), strict=True):
        logs = np.log(draws[name].to_numpy())
        assert abs(logs.mean() - np.log(value)) < 4 * logs.std()
    plain = fit("y ~ x", data, family, weights=weights, draws=400, tune=300)
    assert plain.status.divergences == 0
    assert abs(plain.fixed_effects.loc["x", "estimate"] - slope) < 5 * plain.fixed_effects.loc["x", "std_error"]


def test_poisson_rate_is_the_conjugate_answer() -> None:
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"y": rng.poisson(3.0, 25), "w": rng.choice([1.0, 3.0], 25), "t": rng.uniform(0.5, 2, 25)})
    data["log_t"] = np.log(data["t"])
    # exp(Intercept) has density rate^-1 exp(log density of the intercept): a wide prior is flat in the intercept
    result = fit("y ~ 1", data, "poisson", weights="w", offset="log_t", priors={"Intercept": um.Normal(0, 1000)})
    rate = np.exp(result.posterior.posterior["fixed"].to_numpy().ravel())
    exact = stats.gamma((data["w"] * data["y"]).sum(), scale=1 / (data["w"] * data["t"]).sum())
    assert abs(rate.mean() - exact.mean()) < 0.1 * exact.std()
    assert rate.std() == pytest.approx(exact.std(), rel=0.06)
    np.testing.assert_allclose(np.quantile(rate, [0.1, 0.5, 0.9]), exact.ppf([0.1, 0.5, 0.9]), rtol=0.01)


def test_one_level_binomial_model_is_the_quadrature_answer() -> None:
    """Intercept and SD of a random-intercept model on a grid, the effects integrated out by quadrature."""
    k, n = np.array([1, 4, 0, 6, 3, 2, 7, 5]), 8
    data = pd.DataFrame({"y": k / n, "n": n, "g": list("abcdefgh")})
    priors = {"Intercept": um.Normal(0, 1), "sd(g)": um.HalfNormal(1)}
    result = fit("y ~ 1 + (1 | g)", data, "binomial", weights="n", priors=priors)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    intercepts, sds = np.linspace(-3, 3, 121), np.linspace(0.005, 4, 160)
    eta = intercepts[:, None, None] + sds[None, :, None] * nodes
    rows = [(np.exp(stats.binom.logpmf(v, n, 1 / (1 + np.exp(-eta)))) * weights).sum(axis=2) for v in k]
    log_density = sum(np.log(r) for r in rows)
    log_density = log_density + stats.norm.logpdf(intercepts)[:, None] + stats.halfnorm.logpdf(sds)
    density = np.exp(log_density - log_density.max())
    density /= density.sum()
    for values, margin, draws in (
        (intercepts, density.sum(axis=1), result.posterior.posterior["fixed"].to_numpy().ravel()),
        (sds, density.sum(axis=0), result.posterior.posterior["sd(g)"].to_numpy().ravel()),
    ):
        mean = float(values @ margin)
        sd = float(np.sqrt((values - mean) ** 2 @ margin))
        assert abs(draws.mean() - mean) < 0.1 * sd
        assert draws.std() == pytest.approx(sd, rel=0.07)


def test_weights_repeat_rows_and_offsets_shift() -> None:
    data = simulate(as_family("poisson"), groups=8, rows=6)
    doubled = data.loc[np.repeat(data.index, data["w"].astype(int))].reset_index(drop=True)
    priors = {
        "Intercept": um.Normal(0, 2),
        "x": um.Normal(0, 2),
        "sd(g)": um.HalfNormal(1),
    }
    weighted = fit("y ~ x + (1 | g)", data, "poisson", weights="w", priors=priors)
    repeated = fit("y ~ x + (1 | g)", doubled, "poisson", priors=priors)
    off = (weighted.fixed_effects["estimate"] - repeated.fixed_effects["estimate"]) / repeated.fixed_effects[
        "std_error"
    ]
    assert off.abs().max() < 0.15
    np.testing.assert_allclose(weighted.fixed_effects["std_error"], repeated.fixed_effects["std_error"], rtol=0.1)
    shifted = fit("y ~ x + (1 | g)", data.assign(c=0.7), "poisson", weights="w", offset="c", priors=priors)
    moved = shifted.fixed_effects["estimate"] - weighted.fixed_effects["estimate"]
    assert moved["Intercept"] == pytest.approx(-0.7, abs=0.15)
    assert abs(moved["x"]) < 0.2 * weighted.fixed_effects.loc["x", "std_error"]


def test_trials_count() -> None:
    data = simulate(as_family("binomial"), groups=10, rows=5)
    few = fit("y ~ x", data, "binomial", weights="trials", draws=500)
    many = fit("y ~ x", data.assign(t=data["trials"] * 4), "binomial", weights="t", draws=500)
    np.testing.assert_allclose(few.fixed_effects["std_error"], 2 * many.fixed_effects["std_error"], rtol=0.1)
    data["k"] = np.round(data["y"] * data["trials"])
    data["rest"] = data["trials"] - data["k"]
    pair = fit("cbind(k, rest) ~ x", data, "binomial", draws=500)
    np.testing.assert_array_equal(pair.fixed_effects["estimate"], few.fixed_effects["estimate"])


def test_estimates_posterior_and_model_are_named() -> None:
    data = simulate(as_family("negative_binomial"))
    result = fit("y ~ x + (1 + x | g)", data, "negative_binomial", draws=300, tune=300, retry=False)
    assert {"Intercept", "x", "sd(g: Intercept)", "sd(g: x)", "cor(g)", "theta"} == set(result.engine.priors)
    posterior = result.posterior.posterior
    assert posterior["theta"].dims == ("chain", "draw")
    assert "sigma" not in posterior
    assert result.sigma == 1
    effects = posterior["effects(g)"].mean(("chain", "draw")).to_numpy()
    np.testing.assert_allclose(effects, result.group_effects["g"].to_numpy(), atol=1e-10)
    names = {v.name for v in result.native.free_RVs}
    assert {"Intercept", "x", "sd(g: Intercept)", "sd(g: x)", "theta"} <= names
    assert list(result.native.coords["g level"]) == sorted(set(data["g"]))
    gamma = fit("y ~ x", simulate(as_family("gamma")), "gamma", draws=300, tune=300, retry=False)
    dispersion = gamma.posterior.posterior["dispersion"].to_numpy()
    assert gamma.sigma == pytest.approx(np.sqrt(dispersion).mean())


def test_preview_names_family_and_link() -> None:
    design = design_of(as_family("binomial(probit)"), "y ~ x + (1 | g)")
    from unimix.backends.base import FitRequest
    from unimix.backends.pymc import PyMC

    text = PyMC().preview(design, FitRequest(method="posterior"))
    assert "Binomial(trials, mu)" in text
    assert "probit" in text
    assert "offset" in text
    assert "adapted" in text
    weighted = PyMC().preview(design_of(as_family("gamma(log)"), "y ~ x"), FitRequest(method="posterior"))
    assert "Gamma(mu, dispersion), each row's log density times w" in weighted


def test_wrong_priors_and_options_are_refused() -> None:
    data = simulate(as_family("student_t"))
    with pytest.raises(OptionError, match="Did you mean 'sigma'") as caught:
        fit("y ~ x + (1 | g)", data, "student_t", priors={"sigmaa": um.HalfNormal(1), "nu": um.Normal(0, 1)})
    assert "nu" in str(caught.value)
    assert "positive" in str(caught.value)
    with pytest.raises(OptionError, match="no parameter"):
        fit("y ~ x", simulate(as_family("poisson")), "poisson", priors={"sigma": um.HalfNormal(1)})
    with pytest.raises(UnsupportedModelError, match="linear model only"):
        fit("y ~ x + (1 | g)", data, "student_t", parametrization="marginal")


def test_priors_are_used() -> None:
    data = simulate(as_family("student_t"))
    priors = {"nu": um.LogNormal(np.log(30), 0.01), "x": um.Normal(-3, 0.001)}
    result = fit("y ~ x + (1 | g)", data, "student_t", priors=priors, draws=300, tune=300, retry=False)
    assert result.posterior.posterior["nu"].to_numpy().mean() == pytest.approx(30, rel=0.02)
    assert result.fixed_effects.loc["x", "estimate"] == pytest.approx(-3, abs=0.01)


def test_same_seed_same_draws() -> None:
    data = simulate(as_family("poisson"), groups=6, rows=4)
    a, b, c = (fit("y ~ x + (1 | g)", data, "poisson", seed=s, draws=100, tune=100, retry=False) for s in (3, 3, 4))
    for name in a.posterior.posterior.data_vars:
        np.testing.assert_array_equal(a.posterior.posterior[name].to_numpy(), b.posterior.posterior[name].to_numpy())
    assert not np.array_equal(a.fixed_effects["estimate"], c.fixed_effects["estimate"])


def test_linear_models_can_be_sampled_in_the_adapted_coordinates() -> None:
    data = simulate(as_family("gaussian"))
    marginal, adapted = (fit("y ~ x + (1 | g)", data, "gaussian", parametrization=p) for p in ("marginal", "adapted"))
    off = (marginal.fixed_effects["estimate"] - adapted.fixed_effects["estimate"]) / marginal.fixed_effects["std_error"]
    assert off.abs().max() < 0.15
    assert adapted.sigma == pytest.approx(marginal.sigma, rel=0.02)
    assert marginal.engine.call != adapted.engine.call


@pytest.mark.slow
@pytest.mark.parametrize("parametrization", ["noncentered", "centered"])
def test_the_model_as_written_has_the_same_posterior(parametrization) -> None:
    data = simulate(as_family("negative_binomial"))
    ours = fit("y ~ x + (1 | g)", data, "negative_binomial")
    written = fit("y ~ x + (1 | g)", data, "negative_binomial", parametrization=parametrization)
    off = (ours.fixed_effects["estimate"] - written.fixed_effects["estimate"]) / ours.fixed_effects["std_error"]
    assert off.abs().max() < 0.15
    for name in ("sd(g)", "theta"):
        a, b = (r.posterior.posterior[name].to_numpy() for r in (ours, written))
        assert abs(a.mean() - b.mean()) < 0.2 * a.std()
        assert a.std() == pytest.approx(b.std(), rel=0.25)
    spread = ours.group_effects_sd["g"].to_numpy()
    assert np.abs((written.group_effects["g"] - ours.group_effects["g"]).to_numpy() / spread).max() < 0.25


def test_pymc_sampler_agrees_with_nutpie() -> None:
    data = simulate(as_family("poisson"))
    a = fit("y ~ x + (1 | g)", data, "poisson")
    b = fit("y ~ x + (1 | g)", data, "poisson", sampler="pymc", cores=1, draws=500)
    off = (a.fixed_effects["estimate"] - b.fixed_effects["estimate"]) / a.fixed_effects["std_error"]
    assert off.abs().max() < 0.2


@pytest.mark.slow
def test_simulation_based_calibration() -> None:
    """Ranks of the true value among the draws are uniform (Talts et al. 2018, arXiv:1804.06788)."""
    rng = np.random.default_rng(12)
    priors = {"Intercept": um.Normal(0, 1), "x": um.Normal(0, 1), "sd(g)": um.HalfNormal(1)}
    g, x = np.repeat(np.arange(10), 4), rng.normal(size=40)
    ranks = []
    for k in range(40):
        beta, sd = rng.normal(size=2), abs(rng.normal())
        b = sd * rng.normal(size=10)
        chance = 1 / (1 + np.exp(-(beta[0] + beta[1] * x + b[g])))
        n = np.full(40, 3)
        data = pd.DataFrame({"y": rng.binomial(n, chance) / n, "n": n, "x": x, "g": g.astype(str)})
        found = fit(
            "y ~ x + (1 | g)", data, "binomial", weights="n", priors=priors, seed=k, draws=100, tune=300, retry=False
        ).posterior.posterior
        values = np.concatenate(
            [
                found["fixed"].to_numpy().reshape(400, 2),
                found["sd(g)"].to_numpy().reshape(400, 1),
                found["effects(g)"].to_numpy()[:, :, 3].reshape(400, 1),
            ],
            axis=1,
        )[::4]
        ranks.append((values < np.array([*beta, sd, b[3]])).mean(axis=0))
    p_values = [stats.kstest(r, "uniform").pvalue for r in np.array(ranks).T]
    assert min(p_values) > 0.001, p_values


def test_coordinates_do_not_change_the_density() -> None:
    """Another reference point: other coordinates, the same posterior."""
    design, table, function, mode = target(as_family("poisson"), "y ~ x + (1 + x | g) + (1 | h)", extras=False)
    moved = function.move_reference(mode, np.zeros(design.n))
    assert spread_of_differences(design, table, function, moved) < 2e-4
