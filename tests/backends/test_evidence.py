"""The log evidence of bayes: against quadrature, and against the likelihood averaged over draws from the priors."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, special, stats

import unimix as um
from unimix.likelihood.posterior.independence_sampler import Proposal

P = um.priors


def within(fit: um.FitResult, wanted: float, error: float = 0.0) -> bool:
    """Whether the log evidence is within five Monte Carlo errors; a third of a percent for the quadrature."""
    return abs(fit.log_evidence - wanted) < 5 * np.hypot(fit.log_evidence_error, error) + 0.003


def rows(n: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    g, x = np.repeat(np.arange(n // 3), 3), 3 * rng.normal(2, 1, n)
    y = 5 + 2 * x + 2 * rng.normal(size=n // 3)[g] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "g": g, "w": rng.uniform(0.5, 3, n), "o": rng.normal(size=n)})


def test_of_a_regression_by_quadrature_over_sigma() -> None:
    """y | sigma is normal with the coefficients integrated out: N(X m, X S X' + sigma^2 W^-1)."""
    data = rows()
    priors = {"Intercept": P.Normal(5, 2), "x": P.Normal(2, 1), "sigma": P.HalfNormal(2)}
    fit = um.fit("y ~ x", data, "bayes", weights="w", offset="o", priors=priors, seed=1)
    x = np.column_stack([np.ones(12), data["x"]])
    around = x @ np.diag([4.0, 1.0]) @ x.T

    def density(sigma: float) -> float:
        cov = around + sigma**2 * np.diag(1 / data["w"])
        normal = stats.multivariate_normal(x @ [5, 2], cov)
        return float(normal.pdf(data["y"] - data["o"]) * stats.halfnorm.pdf(sigma, scale=2))

    assert within(fit, np.log(integrate.quad(density, 0, 20)[0]))
    assert fit.criteria.evidence is not None
    assert fit.criteria.evidence.default_priors == ()


def test_of_a_mixed_model_by_quadrature_over_both_sds() -> None:
    data = rows()
    priors = {"Intercept": P.Normal(5, 2), "x": P.Normal(2, 1), "sd(g)": P.HalfNormal(2), "sigma": P.Gamma(2, 1)}
    fit = um.fit("y ~ x + (1 | g)", data, "bayes", priors=priors, seed=1)
    x = np.column_stack([np.ones(12), data["x"]])
    same = (data["g"].to_numpy()[:, None] == data["g"].to_numpy()).astype(float)
    sds, sigmas = np.linspace(0, 10, 161), np.linspace(0.05, 12, 161)
    v = x @ np.diag([4.0, 1.0]) @ x.T + sds[:, None, None, None] ** 2 * same
    v = v + sigmas[None, :, None, None] ** 2 * np.eye(12)
    r = data["y"].to_numpy() - x @ [5, 2]
    half = np.linalg.solve(np.linalg.cholesky(v), r[:, None])[..., 0]
    log_y = -0.5 * (half**2).sum(axis=-1) - 0.5 * np.linalg.slogdet(v)[1] - 6 * np.log(2 * np.pi)
    density = np.exp(log_y) * stats.halfnorm.pdf(sds, scale=2)[:, None] * stats.gamma.pdf(sigmas, 2)
    assert within(fit, np.log(integrate.simpson(integrate.simpson(density, x=sigmas), x=sds)))


@pytest.mark.parametrize("kind", ["correlated", "bounded", "independent"])
def test_of_random_slopes_by_draws_from_the_priors(kind: str) -> None:
    """The mean likelihood of 100,000 draws from the priors, with its Monte Carlo error.

    The kinds have LKJ priors in turned columns, a uniform prior (whose columns are not turned) with other fixed
    priors than normal ones, and independent slopes.
    """
    data, rng, n = rows(), np.random.default_rng(1), 100_000
    bounded = kind == "bounded"
    priors = {
        "Intercept": P.StudentT(5, 5, 2) if bounded else P.Normal(5, 2), "x": P.Normal(2, 1),
        "sd(g: Intercept)": P.Uniform(0.1, 3) if bounded else P.HalfNormal(2), "sd(g: x)": P.Exponential(2),
        "sigma": P.HalfNormal(2), "cor": P.LKJ(3),
    }  # fmt: skip
    bar = "||" if kind == "independent" else "|"
    fit = um.fit(f"y ~ x + (1 + x {bar} g)", data, "bayes", priors=priors, seed=1, options={"draws": 4000})
    x = np.column_stack([np.ones(12), data["x"]])
    beta = np.column_stack([5 + 2 * (rng.standard_t(5, n) if bounded else rng.normal(size=n)), rng.normal(2, 1, n)])
    s0 = rng.uniform(0.1, 3, n) if bounded else np.abs(rng.normal(0, 2, n))
    s1, sigma = rng.exponential(0.5, n), np.abs(rng.normal(0, 2, n))
    r = 2 * rng.beta(3, 3, n) - 1 if kind != "independent" else np.zeros(n)
    likelihood = np.zeros(n)
    y = data["y"].to_numpy() - beta @ x.T
    for level in range(4):  # the levels are independent given the parameters
        own = data["g"].to_numpy() == level
        z = x[own]
        cov = np.array([[s0**2, r * s0 * s1], [r * s0 * s1, s1**2]])
        v = np.einsum("na,abs,mb->snm", z, cov, z) + sigma[:, None, None] ** 2 * np.eye(3)
        square = np.einsum("sn,sn->s", y[:, own], np.linalg.solve(v, y[:, own, None])[..., 0])
        likelihood += -0.5 * square - 0.5 * np.linalg.slogdet(v)[1] - 1.5 * np.log(2 * np.pi)
    wanted = float(special.logsumexp(likelihood) - np.log(n))
    assert within(fit, wanted, float(np.exp(likelihood - wanted).std() / np.sqrt(n)))


COUNTS = np.array([1, 4, 0, 6, 3, 2, 7, 5])


@functools.cache
def binomial_evidence() -> float:
    """Log evidence by Simpson's rule over the intercept and the SD, and 60 nodes for the effects; of 8 trials each."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    intercepts, sds = np.linspace(-5, 5, 101), np.linspace(0, 6, 101)
    p = special.expit(intercepts[:, None, None] + sds[None, :, None] * nodes)
    log_y = sum(np.log(stats.binom.pmf(v, 8, p) @ (weights / weights.sum())) for v in COUNTS)
    density = np.exp(log_y) * stats.norm.pdf(intercepts)[:, None] * stats.halfnorm.pdf(sds)
    return float(np.log(integrate.simpson(integrate.simpson(density, x=sds), x=intercepts)))


@pytest.mark.parametrize("draws", [100, 2000])
def test_of_a_binomial_mixed_model_by_quadrature(draws: int) -> None:
    """Few draws take few nodes per group, for which the evidence is corrected."""
    data = pd.DataFrame({"y": COUNTS / 8, "n": 8, "g": list("abcdefgh")})
    priors = {"Intercept": P.Normal(0, 1), "sd(g)": P.HalfNormal(1)}
    options = {"draws": draws, "sampler": "independence"}
    fit = um.fit(
        "y ~ 1 + (1 | g)", data, "bayes", family="binomial", weights="n", priors=priors, seed=1, options=options
    )
    assert within(fit, binomial_evidence())


def logistic(eta: np.ndarray) -> np.ndarray:
    return np.asarray(special.expit(eta))


DISPERSED = {
    "negative_binomial": (
        np.array([3, 0, 5, 1, 9, 2, 4]), "theta", P.LogNormal(1, 0.5), stats.lognorm(0.5, scale=np.e),
        lambda y, w, eta, theta: stats.nbinom.logpmf(y, theta, theta / (theta + np.exp(eta))),
    ),
    "gaussian(log)": (
        np.array([2.1, 3.3, 1.2, 4.4, 2.9, 3.1]), "sigma", P.HalfNormal(1), stats.halfnorm(),
        lambda y, w, eta, sigma: stats.norm.logpdf(y, np.exp(eta), sigma / np.sqrt(w)),
    ),
    "gamma(log)": (
        np.array([2.1, 3.3, 1.2, 4.4, 2.9, 3.1]), "dispersion", P.HalfNormal(1), stats.halfnorm(),
        lambda y, w, eta, phi: stats.gamma.logpdf(y, 1 / phi, scale=phi * np.exp(eta)),
    ),
    "beta": (
        np.array([0.35, 0.55, 0.2, 0.73, 0.48, 0.52]), "precision", P.HalfNormal(9), stats.halfnorm(scale=9),
        lambda y, w, eta, a: stats.beta.logpdf(y, logistic(eta) * a, (1 - logistic(eta)) * a),
    ),
}  # fmt: skip
"""Response, dispersion parameter with its prior, by unimix and by scipy, and log density of one row."""


@pytest.mark.parametrize("family", DISPERSED)
def test_of_families_with_a_dispersion_by_quadrature(family: str) -> None:
    """Over the intercept and the logarithm of the dispersion; precision weights count where they are precisions."""
    y, name, prior, density_of, log_density = DISPERSED[family]
    w = np.linspace(0.5, 3, len(y)) if family == "gaussian(log)" else np.ones(len(y))
    data, priors = pd.DataFrame({"y": y, "w": w}), {"Intercept": P.Normal(1, 1), name: prior}
    weights = "w" if family == "gaussian(log)" else None
    fit = um.fit("y ~ 1", data, "bayes", family=family, weights=weights, priors=priors, seed=1)
    intercepts, logs = np.linspace(-4, 6, 201), np.linspace(-6, 4.5, 241)
    log_y = sum(log_density(v, q, intercepts[:, None], np.exp(logs)) for v, q in zip(y, w, strict=True))
    density = np.exp(log_y) * stats.norm.pdf(intercepts, 1, 1)[:, None] * density_of.pdf(np.exp(logs)) * np.exp(logs)
    assert within(fit, np.log(integrate.simpson(integrate.simpson(density, x=logs), x=intercepts)))


def test_the_density_of_the_proposal_is_normalised() -> None:
    """With a folded coordinate near zero, and two coordinates that are correlated."""
    one = Proposal(np.array([0.3]), np.array([[0.5]]), (0,))
    assert integrate.quad(lambda v: np.exp(one.log_density(np.array([[v]]))[0]), 0, np.inf)[0] == pytest.approx(1)
    two = Proposal(np.array([1.0, 2.0]), np.array([[0.5, 0.0], [0.3, 0.8]]), ())
    grid = np.linspace(-60, 60, 1201)
    points = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2)
    total = np.exp(two.log_density(points)).sum() * 0.01
    assert total == pytest.approx(1, abs=1e-3)  # the tail beyond the square, of three degrees of freedom


@pytest.mark.mcmc
def test_where_there_is_none_it_says_why() -> None:
    data = rows()
    with pytest.raises(um.UnimixError, match=r"pls.*integrates no parameters(.|\n)*backend='bayes', priors=priors"):
        _ = um.fit("y ~ x + (1 | g)", data).log_evidence
    wide = {"Intercept": P.Normal(1, 1), "coefficients": P.Normal(0, 1)}
    counts = pd.DataFrame({"y": [3, 0, 5, 1], "x": [0.0, 1.0, 2.0, 4.0], "w": [1.0, 2.0, 1.5, 1.0]})
    fit = um.fit("y ~ x", counts, "bayes", family="poisson", weights="w", priors=wide, seed=1)
    with pytest.raises(um.UnimixError, match="not whole numbers"):
        _ = fit.log_evidence
    # whole numbers count copies of a row
    counts["w"] = [1, 2, 1, 1]
    weighted = um.fit("y ~ x", counts, "bayes", family="poisson", weights="w", priors=wide, seed=1)
    copies = counts.iloc[[0, 1, 1, 2, 3]]
    plain = um.fit("y ~ x", copies, "bayes", family="poisson", priors=wide, seed=1)
    assert weighted.log_evidence == pytest.approx(plain.log_evidence, abs=5 * np.sqrt(2) * plain.log_evidence_error)
    options = {"sampler": "nuts", "draws": 100, "tune": 100, "chains": 2, "retry": False}
    sampled = um.fit("y ~ x", data, "bayes", seed=1, options=options)
    with pytest.raises(um.UnimixError, match="NUTS sampled, which has no importance weights"):
        _ = sampled.log_evidence_error


def test_a_saved_result_keeps_it() -> None:
    fit = um.fit("y ~ x", rows(), "bayes", seed=1)
    assert fit.criteria.evidence is not None
    assert fit.criteria.evidence.default_priors == ("Intercept", "x", "sigma")
    loaded = um.FitResult.from_json(fit.to_json())
    assert loaded.criteria.evidence == fit.criteria.evidence
    assert loaded.log_evidence == fit.log_evidence
