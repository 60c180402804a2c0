"""The engines in Rust: what unimix keeps out, what it adds, and each fault of theirs in their own code.

A test of a fault that fails says that it has been mended upstream, and that the capability sheet may be widened.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gold import FOLDER

import unimix as um
from unimix.backends import factors_of, laplace_at_estimates, linear_at, split_effects, theta_of
from unimix.testing import dense
from unimix.testing.simulated import simulate_rich

mixedlm = pytest.importorskip("mixedlm")
OHIO = "resp ~ age * smoke + (1 | id)"


@pytest.fixture(scope="module")
def ohio() -> pd.DataFrame:
    """Four binary responses of 537 children, most of them without a single success."""
    return pd.read_csv(FOLDER / "ohio.csv")


@pytest.fixture(scope="module")
def counts() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(30), 20), rng.normal(size=600)
    mu = np.exp(1 + 0.3 * x + 0.5 * rng.normal(size=30)[g])
    negative = rng.negative_binomial(2.5, 2.5 / (2.5 + mu)).astype(float)
    return pd.DataFrame({"x": x, "g": g.astype(str), "count": negative, "size": rng.gamma(5, mu / 5)})


@pytest.fixture
def bare() -> Iterator[Any]:
    """mixedlm as it stands, with its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield mixedlm


# --- what unimix adds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["mixedlm", "mixedlm_rs"])
def test_names_that_a_formula_parser_would_stumble_over(engine: str) -> None:
    data = simulate_rich()
    plain = um.fit("y ~ x * f + (1 + x | g)", data, engine)
    odd = data.rename(columns={"x": "x | y", "f": "(f)", "g": "g + 1"})
    fit = um.fit("y ~ `x | y` * `(f)` + (1 + `x | y` | `g + 1`)", odd, engine)
    np.testing.assert_array_equal(fit.fixed.estimate, plain.fixed.estimate)
    assert fit.converged


def test_an_interaction_without_its_main_effect_keeps_all_columns() -> None:
    data = simulate_rich()
    fit, own = (um.fit("y ~ x:f + (1 | g)", data, b) for b in ("mixedlm", "pls"))
    assert fit.fixed.terms == own.fixed.terms
    assert fit.log_likelihood == pytest.approx(own.log_likelihood, abs=1e-6)


@pytest.mark.r
def test_standard_errors_of_a_generalised_model_are_of_all_parameters(bare: Any) -> None:
    """lme4's are, too, by differences of its criterion: 2e-3. mixedlm's own are 2 % smaller for the intercept."""
    herds = um.load_dataset("cbpp")
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    fit = um.fit(formula, herds, "mixedlm", family="binomial")
    theirs = um.fit(formula, herds, "lme4", family="binomial")
    np.testing.assert_allclose(fit.fixed.std_error, theirs.fixed.std_error, rtol=2e-3)
    assert "by unimix" in fit.provenance["std_error"]
    frame = herds.assign(period=herds["period"].astype(str), herd=herds["herd"].astype(str))
    own = bare.glmer("incidence / size ~ period + (1 | herd)", frame, family=bare.families.Binomial())
    assert np.sqrt(own.vcov()[0, 0]) < 0.985 * fit.fixed.std_error[0]


@pytest.mark.slow
def test_where_the_compiled_inner_loop_fails_it_is_searched_again(ohio: pd.DataFrame) -> None:
    fit = um.fit(OHIO, ohio, "mixedlm", family="binomial")
    own = um.fit(OHIO, ohio, "pls", family="binomial")
    assert fit.converged
    assert fit.log_likelihood == pytest.approx(own.log_likelihood, abs=1e-5)
    assert "in Python" in fit.provenance["optimum"]
    short = um.fit(OHIO, ohio, "mixedlm", family="binomial", options={"max_in_python": 0})
    assert not short.converged
    assert "would raise the log-likelihood" in short.status.messages[0]
    assert own.log_likelihood - short.log_likelihood > 0.1


def test_a_variance_of_next_to_nothing_is_zero() -> None:
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(20), 10)
    y = np.array([0, 1] * 100)  # every group has the same share
    frame = pd.DataFrame({"y": y, "x": rng.normal(size=200), "g": g.astype(str)})
    fit = um.fit("y ~ x + (1 | g)", frame, "mixedlm", family="binomial")
    assert fit.converged
    assert fit.singular
    assert float(fit.random[0].sd[0]) == 0.0
    plain = um.fit("y ~ x", frame, "pls", family="binomial")
    np.testing.assert_allclose(fit.fixed.std_error, plain.fixed.std_error, rtol=1e-3)


def false_boundary() -> pd.DataFrame:
    """Binary data where the search slides to a covariance of rank one, from which a triangular factor cannot turn."""
    rng = np.random.default_rng(67)
    n = int(rng.integers(40, 300))
    levels = int(rng.integers(4, 30))
    x = rng.normal(size=n) * 10.0 ** rng.integers(-3, 4) + rng.choice([0, 0, 50.0])
    u, g = rng.normal(size=n), rng.integers(0, levels, n)
    h = rng.integers(0, int(rng.integers(3, 12)), n)
    rng.uniform(0.3, 3, n), rng.normal(size=n)
    sd, z = rng.choice([0, 0.05, 0.5, 2.0], 3), (x - x.mean()) / x.std()
    groups, others = (np.unique(v.astype(str), return_inverse=True)[1] for v in (g, h))
    eta = 0.3 + 0.4 * z + sd[0] * rng.normal(size=groups.max() + 1)[groups]
    eta = eta + sd[1] * rng.normal(size=groups.max() + 1)[groups] * u
    eta = eta + sd[2] * rng.normal(size=others.max() + 1)[others]
    rng.choice(["binomial", "poisson"]), rng.choice(["a", "b", "c", "d"]), rng.random()
    return pd.DataFrame({"y": rng.binomial(1, 1 / (1 + np.exp(-eta))), "x": x, "u": u, "g": g.astype(str)})


def test_a_false_boundary_is_left() -> None:
    data = false_boundary()
    fit, own = (um.fit("y ~ x + (1 + u | g)", data, b, family="binomial") for b in ("mixedlm", "pls"))
    assert fit.converged
    assert not fit.singular
    assert fit.log_likelihood == pytest.approx(own.log_likelihood, abs=1e-5)
    stuck = um.fit(
        "y ~ x + (1 + u | g)", data, "mixedlm", family="binomial", options={"restarts": 0, "max_in_python": 0}
    )
    assert not stuck.converged
    assert "would raise the log-likelihood" in stuck.status.messages[0]
    assert stuck.log_likelihood < own.log_likelihood - 0.1


def test_quadrature() -> None:
    """Both take 25 nodes; placed alike, they differ by what the searches leave."""
    rng = np.random.default_rng(5)
    g, x = np.repeat(np.arange(25), 8), rng.normal(size=200)
    p = 1 / (1 + np.exp(-(0.3 + x + 1.5 * rng.normal(size=25)[g])))
    frame = pd.DataFrame({"y": rng.binomial(1, p), "x": x, "g": g.astype(str)})
    fit, own = (um.fit("y ~ x + (1 | g)", frame, b, family="binomial", method="AGQ") for b in ("mixedlm", "pls"))
    assert fit.criteria.criterion == own.criteria.criterion == "AGQ(25)"
    assert fit.log_likelihood == pytest.approx(own.log_likelihood, abs=1e-5)
    np.testing.assert_allclose(fit.fixed.std_error, own.fixed.std_error, rtol=1e-3)
    with pytest.raises(um.UnsupportedModelError, match="one scalar random term"):
        um.fit("y ~ x + (1 + x | g)", frame, "mixedlm", family="binomial", method="AGQ")


def test_links_that_are_evaluated_in_python_are_for_few_effects() -> None:
    frame = pd.DataFrame({"y": [0, 1] * 600, "g": np.repeat(np.arange(600), 2)})
    backend = um.backends.Mixedlm(max_in_python=500)
    with pytest.raises(um.UnsupportedModelError, match=r"600 group effects with the probit link.*max_in_python"):
        um.fit("y ~ 1 + (1 | g)", frame, backend, family="binomial(probit)")


def test_mixedlm_rs_leaves_statsmodels_alone() -> None:
    um.fit("y ~ x + (1 + x | g)", simulate_rich(), "mixedlm_rs")
    from statsmodels.regression.mixed_linear_model import MixedLM

    assert MixedLM.__module__.startswith("statsmodels.")
    assert not sys.modules["mixedlm_rs"].is_installed()


# --- what adapters may ask of unimix ----------------------------------------------------------------------------------


def test_a_linear_model_at_given_parameters() -> None:
    fit = um.fit("y ~ x + (1 + x | g) + (1 | h)", simulate_rich(), "pls")
    design, covariances = fit.design(), [np.array(b.covariance) for b in fit.random]
    at = linear_at(design, covariances, fit.sigma, reml=True)
    assert at.gain < 1e-6
    assert at.complaint == ""
    own = dense.log_likelihood(design, tuple(covariances), fit.sigma, reml=True)
    assert at.log_likelihood == pytest.approx(own, abs=1e-6)
    np.testing.assert_allclose(at.beta_cov, dense.gls(design, tuple(covariances), fit.sigma)[1], rtol=1e-8)
    away = linear_at(design, [1.5 * c for c in covariances], fit.sigma, reml=True)
    assert "would raise the log-likelihood" in away.complaint
    assert linear_at(design, [0 * c for c in covariances], fit.sigma, reml=True).singular


def test_a_generalised_model_at_given_parameters(counts: pd.DataFrame) -> None:
    fit = um.fit("count ~ x + (1 | g)", counts, "pls", family="poisson")
    covariances = [np.array(b.covariance) for b in fit.random]
    beta = np.array(fit.fixed.estimate)
    at = laplace_at_estimates(fit.design(), beta, covariances, np.empty(0))
    assert at.complaint == ""
    assert at.beta_cov is not None
    np.testing.assert_allclose(np.sqrt(np.diag(at.beta_cov)), fit.fixed.std_error, rtol=1e-4)
    np.testing.assert_allclose(at.modes[0], fit.random[0].modes, atol=1e-8)
    assert (
        "would raise the log-likelihood"
        in laplace_at_estimates(fit.design(), beta + 0.1, covariances, np.empty(0)).complaint
    )


@pytest.mark.parametrize(("seed", "worthwhile"), [(54, False), (137, True)])
def test_a_flat_ridge_beside_the_boundary_is_as_high_as_it_is(seed: int, worthwhile: bool) -> None:
    """At a variance of next to nothing, what is left to gain is the distance to the maximum, 7e-5 and 1e-3."""
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(10), 10), rng.normal(size=100)
    data = pd.DataFrame({"x": x, "g": g.astype(str), "y": rng.poisson(np.exp(0.5 + 0.3 * x))})
    best, plain = (um.fit(f, data, "pls", family="poisson") for f in ("y ~ x + (1 | g)", "y ~ x"))
    assert not best.singular
    beta = np.array(plain.fixed.estimate)
    at = laplace_at_estimates(best.design(), beta, [np.array([[1e-10]])], np.empty(0))
    assert at.singular
    assert at.gain == pytest.approx(best.log_likelihood - plain.log_likelihood, rel=1e-2)
    assert bool(at.complaint) == worthwhile


def test_theta_and_effects_go_there_and_back() -> None:
    design = um.fit("y ~ x + (1 + x | g) + (1 | h)", simulate_rich(), "pls").design()
    theta = np.arange(1.0, 5.0)
    np.testing.assert_array_equal(theta_of(factors_of(theta, design)), theta)
    np.testing.assert_array_equal(factors_of(theta, design)[0], [[1, 0], [2, 3]])
    effects = np.arange(float(sum(b.n_levels * b.q for b in design.blocks)))
    parts = split_effects(effects, design)
    assert [p.shape for p in parts] == [(b.n_levels, b.q) for b in design.blocks]
    np.testing.assert_array_equal(np.concatenate([p.ravel() for p in parts]), effects)


# --- faults of mixedlm 1.3, in its own code ---------------------------------------------------------------------------


def test_fault_a_wall_in_the_likelihood_is_called_converged(bare: Any, ohio: pd.DataFrame) -> None:
    """The compiled inner loop diverges with standard deviations above 2, and the search ends at that wall."""
    own = bare.glmer(OHIO, ohio, family=bare.families.Binomial())
    assert own.converged
    assert own.logLik().value < -794.6566 - 1


def test_fault_an_interaction_loses_a_column(bare: Any) -> None:
    own = bare.lmer("y ~ x:f + (1 | g)", simulate_rich())
    assert len(own.fixef()) < 1 + 3


def test_fault_kenward_roger_is_satterthwaite(bare: Any) -> None:
    data = um.load_dataset("sleepstudy").iloc[5:].astype({"Subject": str})
    own = bare.lmer("Reaction ~ Days + (Days | Subject)", data)
    np.testing.assert_array_equal(bare.kenward_roger_df(own).df, bare.satterthwaite_df(own).df)
    theirs = um.fit("Reaction ~ Days + (Days | Subject)", data, "mixedlm", df_method="kenward-roger")
    assert np.abs(theirs.fixed.df - bare.satterthwaite_df(own).df).max() > 0.1


def test_fault_dispersions_are_not_estimated(bare: Any, counts: pd.DataFrame) -> None:
    families = bare.families
    assert bare.glmer_nb("count ~ x + (1 | g)", counts).family.theta == 1.0
    for family in (families.Gamma("log"), families.InverseGaussian("log"), families.Gaussian("log")):
        assert bare.glmer("size ~ x + (1 | g)", counts, family=family).sigma == 1.0
    gamma = bare.glmer("size ~ x + (1 | g)", counts, family=families.Gamma("log"))
    assert gamma.logLik().value < um.fit("size ~ x + (1 | g)", counts, "pls", family="gamma(log)").log_likelihood - 100
