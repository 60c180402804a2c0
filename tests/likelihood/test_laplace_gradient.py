"""The gradient of Laplace's approximation by differences, and the searches that use it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from gold import generalised_cases
from scipy import integrate, stats

import unimix as um
from unimix.backends.family_support import all_families
from unimix.design.design import build_design
from unimix.distributions.family import Family
from unimix.distributions.parameter_scales import from_free, to_free
from unimix.formula.interpreter import parse
from unimix.likelihood.glmm import optimise
from unimix.likelihood.glmm.glm import fisher_scoring, moderate_dispersion
from unimix.likelihood.glmm.gradient import slope_of_laplace
from unimix.likelihood.lmm.conditioning import condition
from unimix.testing.generalised import simulate_family

FAMILIES = [family for family in all_families() if family.response != "ordered"]


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_gradient(family: Family) -> None:
    """Against central differences of the value (relative 1e-4 of the gradient's size: two layers of differences)."""
    frame = simulate_family(family, mixed=True, seed=2, n_groups=12, n_per_group=8)
    weights = {"weights": "trials"} if family.response == "binomial" else {}
    design, _ = condition(build_design(parse("y ~ x + (1 + x | g)"), frame, family=family, **weights))
    beta = fisher_scoring(design)
    factors = (np.array([[0.05, 0.0], [0.02, 0.04]]),)
    parameters = moderate_dispersion(design)
    found = slope_of_laplace(design, beta, factors, parameters)
    assert np.isfinite(found.value)

    def value(x: np.ndarray) -> float:
        f = np.zeros((2, 2))
        f[np.tril_indices(2)] = x[:3]
        return slope_of_laplace(design, x[3:5], (f,), from_free(family, x[5:])).value

    at = np.concatenate([factors[0][np.tril_indices(2)], beta, to_free(family, parameters)])
    moves = 1e-5 * np.eye(len(at))
    differences = np.array([(value(at + m) - value(at - m)) / 2e-5 for m in moves])
    exact = np.concatenate([found.by_factors, found.by_beta, found.by_parameters])
    np.testing.assert_allclose(exact, differences, atol=1e-4 * max(1.0, np.abs(differences).max()))


@pytest.mark.parametrize("case", [c for c in generalised_cases() if c.mixed], ids=lambda c: c.id)
def test_reference_cases(case: Any) -> None:
    """pls at the references' Laplace optimum: 1e-7 in log-likelihood, 1e-3 SE, standard errors of the exact Hessian."""
    fit = case.fit("pls")
    reference = case.reference
    assert fit.converged
    assert fit.log_likelihood == pytest.approx(reference["loglik"], abs=1e-7)
    table = reference["fixef"]
    off = np.abs(fit.fixed.estimate - np.array(table["estimate"])) / np.array(table["std_error"])
    assert off.max() < 1e-3
    np.testing.assert_allclose(fit.fixed.std_error, table["std_error"], rtol=1e-3)


def test_quadrature_against_integrals() -> None:
    """One group at a time by adaptive integration of the density times the normal, at pls's estimates."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(25), 4)
    x = rng.normal(size=100)
    y = rng.binomial(1, 1 / (1 + np.exp(-(0.2 + x + 1.5 * rng.normal(size=25)[g]))))
    frame = pd.DataFrame({"y": y, "x": x, "g": g.astype(str)})
    fit = um.fit("y ~ x + (1 | g)", frame, "pls", family="binomial", method="AGQ")
    assert fit.criteria.criterion == "AGQ(25)"
    eta = fit.fixed.estimate[0] + fit.fixed.estimate[1] * x
    sd = float(fit.random[0].sd[0])

    def density(u: float, k: int) -> float:
        p = 1 / (1 + np.exp(-(eta[g == k] + u)))
        return float(np.prod(np.where(y[g == k] == 1, p, 1 - p)) * stats.norm.pdf(u, scale=sd))

    exact = sum(np.log(integrate.quad(density, -12, 12, args=(k,), epsabs=1e-12)[0]) for k in range(25))
    assert fit.log_likelihood == pytest.approx(exact, abs=1e-5)  # 25 nodes


def test_a_variance_of_zero_is_singular() -> None:
    rng = np.random.default_rng(8)
    frame = pd.DataFrame({"x": rng.normal(size=300), "g": np.tile(np.arange(30), 10).astype(str)})
    frame["y"] = rng.poisson(np.exp(0.3 * frame["x"]))
    exact = um.fit("y ~ x", frame, "statsmodels", family="poisson")
    for seed in range(20):
        mixed = frame.assign(g=np.random.default_rng(seed).permutation(frame["g"]))
        fit = um.fit("y ~ x + (1 | g)", mixed, "pls", family="poisson")
        assert fit.converged
        assert fit.log_likelihood >= exact.log_likelihood - 1e-8
        if fit.singular:
            assert fit.log_likelihood == pytest.approx(exact.log_likelihood, abs=1e-6)
            np.testing.assert_allclose(fit.fixed.std_error, exact.fixed.std_error, rtol=1e-3)
            return
    raise AssertionError("none of 20 random groupings has a zero variance")


def test_a_search_repeats_no_hessian(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two starts that end at one maximum need its Hessian once (it was three times); the result is the same."""
    counted: list[int] = []
    own = optimise.hessian_of

    def counting(*arguments: Any) -> Any:
        counted.append(1)
        return own(*arguments)

    monkeypatch.setattr(optimise, "hessian_of", counting)
    data = um.load_dataset("cbpp")
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    quick = um.fit(formula, data, "pls", family="binomial")
    assert len(counted) == 1
    monkeypatch.setattr(optimise, "_on_the_same_hill", lambda *_: False)
    whole = um.fit(formula, data, "pls", family="binomial")
    assert len(counted) > 2
    assert quick.log_likelihood == pytest.approx(whole.log_likelihood, abs=1e-9)
    np.testing.assert_allclose(quick.fixed_effects["estimate"], whole.fixed_effects["estimate"], rtol=1e-6)
