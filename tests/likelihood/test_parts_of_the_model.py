"""Zero inflation, hurdle models and dispersion formulas in the criterion of generalised models, and in pls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import unimix as um
from unimix.design.design import build_design
from unimix.distributions.family import as_family
from unimix.distributions.parameter_scales import from_free, to_free
from unimix.formula.interpreter import parse
from unimix.likelihood.glmm.glm import fisher_scoring, moderate_dispersion, moderate_parts
from unimix.likelihood.glmm.gradient import slope_of_laplace
from unimix.likelihood.lmm.conditioning import condition
from unimix.result import FitResult

GROUPS, SIZE = 30, 12
TRUTH = {"mean": (0.8, 0.4), "sd": 0.7, "zero": (-0.6, 0.7), "size": (0.5, 0.5)}


def simulated(seed: int, groups: int = GROUPS, size: int = SIZE) -> pd.DataFrame:
    """Counts with structural zeros, and responses whose dispersion depends on x (nb, gamma, beta)."""
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(groups), size), rng.normal(size=groups * size)
    u = TRUTH["sd"] * rng.normal(size=groups)
    mu = np.exp(TRUTH["mean"][0] + TRUTH["mean"][1] * x + u[g])
    theta = np.exp(TRUTH["size"][0] + TRUTH["size"][1] * x)
    structural = rng.random(len(x)) < special.expit(TRUTH["zero"][0] + TRUTH["zero"][1] * x)
    share, precision = special.expit(0.2 + 0.4 * x + u[g]), np.exp(2 + 0.4 * x)
    above = stats.poisson.ppf(np.exp(-mu) + (1 - np.exp(-mu)) * rng.random(len(x)), mu)
    return pd.DataFrame(
        {
            "x": x,
            "g": [f"g{i:02d}" for i in g],
            "zip": np.where(structural, 0, rng.poisson(mu)),
            "zinb": np.where(structural, 0, rng.poisson(rng.gamma(2.0, mu / 2.0))),
            "hurdle": np.where(structural, 0, np.maximum(above, 1.0)),
            "nb": rng.poisson(rng.gamma(theta, mu / theta)),
            "gamma": rng.gamma(theta, mu / theta),
            "beta": np.clip(rng.beta(share * precision, (1 - share) * precision), 1e-6, 1 - 1e-6),
        }
    )


CASES: dict[str, tuple[str, dict[str, str]]] = {
    "zip": ("zip", {"family": "poisson", "ziformula": "~ x"}),
    "zinb": ("zinb", {"family": "negative_binomial", "ziformula": "~ 1"}),
    "zinb1": ("zinb", {"family": "nbinom1", "ziformula": "~ x"}),
    "hurdle poisson": ("hurdle", {"family": "truncated_poisson", "ziformula": "~ x"}),
    "hurdle nb": ("zinb", {"family": "truncated_nbinom2", "ziformula": "~ x"}),
    "nb": ("nb", {"family": "negative_binomial", "dispformula": "~ x"}),
    "nb1": ("nb", {"family": "nbinom1", "dispformula": "~ x"}),
    "gamma": ("gamma", {"family": "gamma(log)", "dispformula": "~ x"}),
    "beta": ("beta", {"family": "beta", "dispformula": "~ x"}),
    "both": ("zinb", {"family": "negative_binomial", "ziformula": "~ x", "dispformula": "~ x"}),
}


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    return simulated(5)


@pytest.fixture(scope="module")
def fits(data: pd.DataFrame) -> Mapping[str, FitResult]:
    return {name: um.fit(f"{y} ~ x + (1 | g)", data, "pls", **more) for name, (y, more) in CASES.items()}


@pytest.mark.parametrize("name", CASES)
def test_gradient(name: str, data: pd.DataFrame) -> None:
    """Against central differences of the value, relative to the gradient's size: 1e-4 for two layers of differences."""
    y, more = CASES[name]
    family = as_family(more["family"])
    spec = parse(f"{y} ~ x + (1 + x | g)", more.get("ziformula"), more.get("dispformula"))
    design, _ = condition(build_design(spec, data.iloc[:150], family=family))
    beta, parts = fisher_scoring(design) + 0.05, moderate_parts(design)
    free = to_free(family, moderate_dispersion(design)) if design.parameters else np.empty(0)
    factor = np.array([[0.3, 0.0], [0.1, 0.2]])
    widths = [len(v) for v in parts.values()]
    k = len(free)

    def slope(z: np.ndarray) -> Any:
        f = np.zeros((2, 2))
        f[np.tril_indices(2)] = z[:3]
        own = dict(zip(parts, np.split(z[5 + k :], np.cumsum(widths)[:-1]), strict=True))
        parameters = from_free(family, z[5 : 5 + k]) if k else np.empty(0)
        return slope_of_laplace(design, z[3:5], (f,), parameters, parts=own)

    at = np.concatenate([factor[np.tril_indices(2)], beta, free, *parts.values()])
    at[5 + k :] += 0.1  # away from a constant probability and a constant dispersion
    moves = 1e-5 * np.eye(len(at))
    differences = np.array([(slope(at + m).value - slope(at - m).value) / 2e-5 for m in moves])
    found = slope(at)
    assert np.isfinite(found.value)
    np.testing.assert_allclose(found.gradient, differences, atol=1e-4 * max(1.0, np.abs(differences).max()))


def density(name: str, fit: FitResult, y: np.ndarray, eta: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Density of each row by SciPy's distributions."""
    mu, p = np.exp(eta), fit.criteria.parameters
    part = {k: sum(b * c for b, c in zip(v.estimate, (np.ones_like(x), x), strict=False)) for k, v in fit.parts.items()}
    pi = special.expit(part["zero"]) if "zero" in part else 0.0
    theta = p.get("theta", np.exp(part["dispersion"]) if "dispersion" in part else None)
    if name == "gamma":
        shape = np.exp(-part["dispersion"])
        return stats.gamma.pdf(y, shape, scale=mu / shape)
    plain = stats.poisson(mu) if theta is None else stats.nbinom(theta, theta / (theta + mu))
    if name.startswith("hurdle"):
        return np.where(y == 0, pi, (1 - pi) * plain.pmf(y) / (1 - plain.pmf(0)))
    return np.where(y == 0, pi, 0.0) + (1 - pi) * plain.pmf(y)


@pytest.mark.parametrize("name", ["zip", "zinb", "hurdle poisson", "hurdle nb", "nb", "gamma", "both"])
def test_likelihood_without_groups_is_that_of_scipy(name: str, data: pd.DataFrame) -> None:
    y, more = CASES[name]
    fit = um.fit(f"{y} ~ x", data, "pls", **more)
    x = data["x"].to_numpy()
    values = density(name, fit, data[y].to_numpy(), fit.fixed.estimate[0] + fit.fixed.estimate[1] * x, x)
    assert fit.log_likelihood == pytest.approx(np.log(values).sum(), abs=1e-9)
    assert fit.certificate().verdict == "certified"


@pytest.mark.parametrize("name", ["zip", "both"])
def test_quadrature_against_integrals(name: str, data: pd.DataFrame) -> None:
    """The density times the normal on 2,001 points for each group, at pls's estimates (25 nodes)."""
    y, more = CASES[name]
    part = data.iloc[: 6 * SIZE]
    fit = um.fit(f"{y} ~ x + (1 | g)", part, "pls", method="AGQ", **more)
    assert fit.criteria.criterion == "AGQ(25)"
    sd, x = float(fit.random[0].sd[0]), part["x"].to_numpy()
    u = np.linspace(-9 * sd, 9 * sd, 2001)
    eta = (fit.fixed.estimate[0] + fit.fixed.estimate[1] * x)[:, None] + u
    rows = np.log(density(name, fit, part[y].to_numpy()[:, None], eta, x[:, None]))
    codes = pd.factorize(part["g"])[0]
    joint = np.stack([rows[codes == k].sum(axis=0) for k in range(6)]) + stats.norm.logpdf(u, scale=sd)
    # the trapezoidal rule is exact to rounding for a smooth function that vanishes at both ends
    total = special.logsumexp(joint, axis=1).sum() + 6 * np.log(u[1] - u[0])
    assert fit.log_likelihood == pytest.approx(total, abs=1e-5)


@pytest.mark.r
@pytest.mark.parametrize("name", CASES)
def test_glmmtmb(name: str, data: pd.DataFrame, fits: Mapping[str, FitResult]) -> None:
    """Both maximise Laplace's approximation: 1e-5 in log-likelihood, 1e-3 SE (glmmTMB stops at a relative change of
    1e-12 of the likelihood), standard errors and the covariance of the two parts to 1e-4 of their size."""
    y, more = CASES[name]
    ours, theirs = fits[name], um.fit(f"{y} ~ x + (1 | g)", data, "glmmtmb", **more)
    assert ours.log_likelihood == pytest.approx(theirs.log_likelihood, abs=1e-5)
    for mine, other in ((ours.fixed, theirs.fixed), *((ours.parts[k], theirs.parts[k]) for k in theirs.parts)):
        assert mine.terms == other.terms
        assert np.abs((mine.estimate - other.estimate) / other.std_error).max() < 1e-3
        np.testing.assert_allclose(mine.std_error, other.std_error, rtol=1e-4)
        if mine.cross_covariance.size:
            assert np.abs(mine.cross_covariance - other.cross_covariance).max() < 1e-4 * mine.std_error.max() ** 2
    assert ours.random[0].sd[0] == pytest.approx(theirs.random[0].sd[0], rel=1e-4)
    np.testing.assert_allclose(ours.random[0].modes, theirs.random[0].modes, atol=1e-4)
    assert ours.criteria.n_parameters == theirs.criteria.n_parameters
    certificate = theirs.certificate()
    assert certificate.verdict == "certified", certificate.sentence


@pytest.mark.parametrize("name", CASES)
def test_certified(name: str, fits: Mapping[str, FitResult]) -> None:
    found = fits[name].certificate()
    assert found.verdict == "certified", found.sentence
    for part, words in (("zero", "zero inflation"), ("dispersion", "dispersion")):
        names = [c.name for c in found.checks]
        assert (f"standard errors of the {words}" in names) == (part in fits[name].parts)
