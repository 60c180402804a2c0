"""unimix's own posterior: against dense densities, exact moments, its prior (calibration), and PyMC."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from dense_effects import dense_effects
from scipy import stats

import unimix as um
from unimix.backends.sampling.marginal import CollapsedPosterior
from unimix.backends.sampling.priors import resolve_priors
from unimix.design.arrays import Design
from unimix.design.design import build_design
from unimix.formula.interpreter import parse
from unimix.likelihood.posterior.effect_draws import draw_all_effects
from unimix.likelihood.posterior.independence_sampler import sample
from unimix.likelihood.posterior.nested import nest_of

MODELS = {
    "sleepstudy": "Reaction ~ Days + (1 + Days | Subject)",
    "penicillin": "diameter ~ 1 + (1 | plate) + (1 | sample)",
    "pastes": "strength ~ 1 + (1 | batch / cask)",
    "orthodont": "distance ~ age * Sex + (1 + age || Subject)",
    "nested": "y ~ x + (1 + x | a / b)",
    "nested, independent": "y ~ x + (1 + x || a) + (1 | a:b)",
}


def nested_data() -> pd.DataFrame:
    """Levels of b in a random order within levels of a, with slopes."""
    rng = np.random.default_rng(6)
    a, b, x = rng.integers(0, 5, 90), rng.integers(0, 3, 90), rng.normal(size=90)
    y = 1 + x + rng.normal(size=5)[a] + 0.5 * x * rng.normal(size=(5, 3))[a, b] + rng.normal(size=90)
    return pd.DataFrame({"y": y, "x": x, "a": a, "b": b})


def data_of(name: str) -> pd.DataFrame:
    return nested_data() if name.startswith("nested") else um.load_dataset(name)


def target_of(name: str, priors: dict[str, object] | None = None) -> tuple[Design, CollapsedPosterior]:
    design = build_design(parse(MODELS[name]), data_of(name))
    return design, CollapsedPosterior(design, resolve_priors(design, priors))


def points_of(target: CollapsedPosterior, n: int = 4) -> np.ndarray:
    rng = np.random.default_rng(0)
    return target.start() + 0.4 * rng.normal(size=(n, target.size))


@pytest.mark.parametrize("name", MODELS)
def test_the_density_of_many_is_that_of_each(name: str) -> None:
    """Against the one-at-a-time prior, and a dense normal density with X integrated out: y ~ N(X m, V + X S X')."""
    _, target = target_of(name)
    points = points_of(target)
    factors, extras, prior = target.scales.many(points)
    zeros = [np.zeros((q, q)) for q in target.scales.qs]
    alone = [target.scales.density(target.scales.at(p), zeros, np.zeros(1))[0] for p in points]
    np.testing.assert_allclose(prior, alone, rtol=1e-12)
    own, normal = target.columns.design, target.normal
    assert normal is not None
    sigma = extras[:, 0] / target.columns.residual
    cov_beta = np.linalg.inv(normal.precision)
    for s, value in enumerate(target.log_density(points) - prior):
        v = sigma[s] ** 2 * np.eye(own.n) + own.x @ cov_beta @ own.x.T
        for block, factor in zip(own.blocks, factors, strict=True):
            z = np.zeros((own.n, block.n_levels * block.q))
            for j in range(block.q):
                z[np.arange(own.n), block.codes * block.q + j] = block.z[:, j]
            v += z @ np.kron(np.eye(block.n_levels), factor[s] @ factor[s].T) @ z.T
        dense = stats.multivariate_normal(own.x @ cov_beta @ normal.linear, v).logpdf(own.y)
        assert value == pytest.approx(dense, rel=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_moments_of_effects_are_those_of_dense_matrices(name: str) -> None:
    """Averages of conditional means, and of conditional covariances with the spread of the means: rounding."""
    _, target = target_of(name)
    points = points_of(target, 5)
    factors, extras, _ = target.scales.many(points)
    sigma = extras[:, 0] / target.columns.residual
    assert target.normal is not None
    beta = target.normal.draw(target.reduced.moments(factors, sigma), sigma, np.random.default_rng(1))
    found = draw_all_effects(target.reduced.products, beta, factors, sigma, np.random.default_rng(1), keep=True)
    each = [
        dense_effects(target.columns.design, beta[s], [f[s] for f in factors], float(sigma[s]))
        for s in range(len(beta))
    ]
    for k, (mean, covariance) in enumerate(zip(found.means, found.covariances, strict=True)):
        means = np.array([e[0][k] for e in each])
        off = means - means.mean(axis=0)
        wanted = np.mean([e[1][k] for e in each], axis=0) + np.einsum("sla,slb->lab", off, off) / (len(each) - 1)
        np.testing.assert_allclose(mean, means.mean(axis=0), atol=1e-9 * np.abs(means).max())
        np.testing.assert_allclose(covariance, wanted, atol=1e-9 * np.abs(wanted).max())


def test_nested_factors_are_found() -> None:
    """By their data, not by how the formula is written; crossed factors and one factor are none."""
    nests = {name: nest_of(target_of(name)[1].reduced.products) for name in MODELS}
    assert {name for name, nest in nests.items() if nest is not None} == {"pastes", "nested", "nested, independent"}
    own = nests["nested"]
    assert own is not None
    assert own.q2 == 2
    assert own.columns.shape == (2, 2, len(own.parents))


@pytest.mark.parametrize("name", ["penicillin", "nested"])
def test_draws_of_effects_have_their_moments(name: str) -> None:
    _, target = target_of(name)
    points = np.repeat(points_of(target, 1), 4000, axis=0)
    factors, extras, _ = target.scales.many(points)
    sigma = extras[:, 0] / target.columns.residual
    beta = np.zeros((4000, target.reduced.p))
    found = draw_all_effects(target.reduced.products, beta, factors, sigma, np.random.default_rng(2), keep=True)
    for draws, means, covariances in zip(found.draws, found.means, found.covariances, strict=True):
        sd = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
        assert (np.abs(draws.mean(axis=0) - means) < 5 * sd / np.sqrt(4000)).all()
        np.testing.assert_allclose(draws.std(axis=0), sd, rtol=5 / np.sqrt(2 * 4000))


def test_the_sampler_knows_a_skewed_density() -> None:
    """A log-gamma and a correlated t distribution: quantiles within five Monte Carlo errors."""

    def log_density(x: np.ndarray) -> np.ndarray:
        return stats.loggamma(2.0).logpdf(x[:, 0]) + stats.t(5).logpdf((x[:, 1] - x[:, 0]) / 3)

    found = sample(log_density, np.zeros(2), chains=4, draws=2000, rng=np.random.default_rng(1))
    first = found.points[..., 0].ravel()
    for p in (0.05, 0.5, 0.95):
        share = np.mean(first < stats.loggamma(2.0).ppf(p))
        assert abs(share - p) < 5 * np.sqrt(p * (1 - p) / (8000 * found.efficiency * 0.5))
    assert found.accepted > 0.5


def test_it_is_calibrated() -> None:
    """Parameters drawn from the prior, data from them: the truth's rank among the draws is uniform.

    Talts, Betancourt, Simpson, Vehtari & Gelman (2018), arXiv:1804.06788; 60 data sets, chi-squared over five bins at
    one in ten thousand for each of eight quantities. ``python -m benchmarks.calibration`` takes hundreds, of every
    family.
    """
    rng = np.random.default_rng(11)
    g, n = np.repeat(np.arange(8), 5), 40
    x = rng.normal(size=n)
    data = pd.DataFrame({"g": g, "x": x})
    priors = {
        "Intercept": um.priors.Normal(0, 2), "x": um.priors.Normal(1, 1), "sd(g: Intercept)": um.priors.HalfNormal(1.5),
        "sd(g: x)": um.priors.Exponential(1), "cor(g)": um.priors.LKJ(2), "sigma": um.priors.HalfStudentT(4, 1),
    }  # fmt: skip
    sampler = um.backends.Bayes(draws=250, chains=4)
    ranks = []
    for _ in range(60):
        b0, b1 = rng.normal(0, 2), rng.normal(1, 1)
        s0, s1 = abs(rng.normal(0, 1.5)), rng.exponential(1)
        r, sigma = 2 * rng.beta(2, 2) - 1, abs(stats.t(4).rvs(random_state=rng))
        cov = np.array([[s0**2, r * s0 * s1], [r * s0 * s1, s1**2]])
        u = rng.multivariate_normal([0, 0], cov, size=8)
        y = b0 + u[g, 0] + (b1 + u[g, 1]) * x + sigma * rng.normal(size=n)
        fit = um.fit("y ~ x + (1 + x | g)", data.assign(y=y), sampler, priors=priors, seed=int(rng.integers(2**31)))
        draws = fit.draws(1000)
        c = draws.covariances[0]
        sd = np.sqrt(np.diagonal(c, axis1=1, axis2=2))
        quantities = [
            (draws.beta[:, 0], b0), (draws.beta[:, 1], b1), (sd[:, 0], s0), (sd[:, 1], s1),
            (c[:, 0, 1] / (sd[:, 0] * sd[:, 1]), r), (draws.parameters[:, 0], sigma),
            (draws.effects[0][:, 0, 0], u[0, 0]), (draws.effects[0][:, 3, 1], u[3, 1]),
        ]  # fmt: skip
        ranks.append([np.mean(values[::10] < truth) for values, truth in quantities])
    bins = np.minimum((np.array(ranks) * 5).astype(int), 4)
    for j in range(bins.shape[1]):
        counts = np.bincount(bins[:, j], minlength=5)
        assert stats.chisquare(counts).pvalue > 1e-4, (j, counts)


@pytest.mark.mcmc
def test_it_is_the_posterior_of_pymc() -> None:
    """Means within four Monte Carlo errors of both, SDs within 8 %, with a prior that is not normal.

    Half of PyMC's usual chains are run: about 2,000 effective draws. The contract holds both at the default priors
    against the same references.
    """
    data, priors = um.load_dataset("sleepstudy"), {"Days": um.priors.StudentT(3, 8, 2)}
    own = um.fit(MODELS["sleepstudy"], data, "bayes", seed=1, priors=priors)
    sampler = um.backends.PyMC(sampler="pymc", cores=1, chains=2, tune=600, retry=False)
    theirs = um.fit(MODELS["sleepstudy"], data, sampler, seed=1, priors=priors)
    assert own.converged
    assert own.engine.priors == theirs.engine.priors
    assert set(own.posterior.posterior.data_vars) <= set(theirs.posterior.posterior.data_vars)
    error = 4 * np.sqrt(1 / own.status.ess_bulk + 1 / theirs.status.ess_bulk)
    a, b = own.draws(4000), theirs.draws(4000)
    pairs = [(a.beta, b.beta), (a.parameters, b.parameters)]
    pairs += [(v.reshape(len(v), -1), w.reshape(len(w), -1)) for v, w in zip(a.covariances, b.covariances, strict=True)]
    pairs += [(v.reshape(len(v), -1), w.reshape(len(w), -1)) for v, w in zip(a.effects, b.effects, strict=True)]
    for ours, other in pairs:
        assert (np.abs(ours.mean(axis=0) - other.mean(axis=0)) < error * other.std(axis=0)).all()
    np.testing.assert_allclose(own.fixed.std_error, theirs.fixed.std_error, rtol=0.08)


def test_it_is_quick_and_says_what_it_did() -> None:
    data = um.load_dataset("sleepstudy")
    one, two = (um.fit(MODELS["sleepstudy"], data, "bayes", seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.fixed.estimate, two.fixed.estimate)
    assert one.status.ess_bulk is not None
    assert one.status.ess_bulk > 1000
    assert "adapted independence sampler" in one.engine.call
    stats_ = one.posterior.sample_stats
    assert float(stats_["pareto_k"].max()) < 0.7
    assert float(stats_["acceptance_rate"].mean()) > 0.5
    assert um.fit("Reaction ~ Days", data, "bayes", seed=1).fixed.interval == "credible"
    weighted = um.fit("Reaction ~ Days + (1 | Subject)", data, "bayes", seed=1, weights=np.full(180, 4.0))
    plain = um.fit("Reaction ~ Days + (1 | Subject)", data, "bayes", seed=1)
    # weights of four: sigma is twice as large, and all else the same
    assert weighted.sigma == pytest.approx(2 * plain.sigma, rel=1e-6)
    np.testing.assert_allclose(weighted.fixed.estimate, plain.fixed.estimate, rtol=1e-6)


def test_what_it_cannot_do_is_refused() -> None:
    data = um.load_dataset("sleepstudy")
    with pytest.raises(um.UnsupportedModelError, match="maximises no likelihood"):
        um.fit(MODELS["sleepstudy"], data, "bayes", method="REML")
