"""Scores and random responses: against integrals, distributions and another package's sandwich."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import integrate, stats

from unimix.distributions.family import as_family
from unimix.distributions.log_density import pointwise, variance
from unimix.distributions.random_responses import draw_response, mean_of
from unimix.stats.scores import clustered_mean, normal_crps, normal_log_density, sample_crps


@pytest.mark.parametrize(("y", "mean", "sd"), [(0.3, 0.0, 1.0), (-4.0, 1.0, 0.5), (120.0, 100.0, 30.0)])
def test_the_normal_crps_is_its_integral(y: float, mean: float, sd: float) -> None:
    """CRPS = integral of (F(t) - 1{t >= y})^2; 1e-6 by numerical integration."""
    low, _ = integrate.quad(lambda t: stats.norm.cdf(t, mean, sd) ** 2, mean - 12 * sd, y)
    high, _ = integrate.quad(lambda t: stats.norm.sf(t, mean, sd) ** 2, y, mean + 12 * sd)
    assert normal_crps(np.array([y]), np.array([mean]), np.array([sd]))[0] == pytest.approx(low + high, rel=1e-6)
    expected = stats.norm.logpdf(y, mean, sd)
    assert normal_log_density(np.array([y]), np.array([mean]), np.array([sd]))[0] == pytest.approx(expected, rel=1e-12)


def test_the_crps_of_draws_is_the_distributions() -> None:
    """40,000 draws: within 2 %; ten draws, averaged over many sets, without bias."""
    rng = np.random.default_rng(1)
    y = np.array([-1.0, 0.5, 3.0])
    exact = normal_crps(y, np.zeros(3), np.ones(3))
    np.testing.assert_allclose(sample_crps(y, rng.standard_normal((40_000, 3))), exact, rtol=0.02)
    few = np.mean([sample_crps(y, rng.standard_normal((10, 3))) for _ in range(4000)], axis=0)
    np.testing.assert_allclose(few, exact, atol=0.02)


def test_the_clustered_error_is_statsmodels() -> None:
    rng = np.random.default_rng(2)
    clusters = rng.integers(0, 9, 80)
    values = rng.normal(size=80) + clusters
    mean, se = clustered_mean(values, clusters)
    other = sm.OLS(values, np.ones(80)).fit(cov_type="cluster", cov_kwds={"groups": clusters})
    # statsmodels multiplies by (n - 1) / (n - k), which is 1 here, and by J / (J - 1)
    assert (mean, se) == (pytest.approx(other.params[0]), pytest.approx(other.bse[0], rel=1e-10))
    assert np.isnan(clustered_mean(values, np.zeros(80, dtype=int))[1])


FAMILIES = [
    ("gaussian", [0.7]), ("binomial", []), ("poisson", []), ("gamma", [0.4]), ("inverse_gaussian", [0.2]),
    ("negative_binomial", [1.7]), ("negative_binomial_1", [0.8]), ("beta", [6.0]), ("student_t", [0.5, 7.0]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values"), FAMILIES)
def test_responses_have_the_mean_and_variance_of_their_family(name: str, values: list[float]) -> None:
    """Within 5 Monte Carlo errors of 60,000 draws; trials of 8 divide the binomial variance."""
    family, parameters = as_family(name), np.array(values)
    eta = np.array([-0.4, 0.3, 0.9]) if family.link != "inverse" else np.array([0.5, 1.0, 2.0])
    trials = np.full(3, 8.0) if family.name == "binomial" else None
    weights = np.array([1.0, 4.0, 0.5]) if family.name == "gaussian" else None
    rng = np.random.default_rng(7)
    drawn = draw_response(family, parameters, np.tile(eta, (60_000, 1)), rng, weights, trials)
    mu = mean_of(family, eta)
    spread = variance(family, parameters, mu) / (1 if trials is None else trials) / (1 if weights is None else weights)
    assert (np.abs(drawn.mean(axis=0) - mu) < 5 * np.sqrt(spread / len(drawn))).all()
    kurtosis = stats.kurtosis(drawn, axis=0, fisher=False)
    assert (np.abs(drawn.var(axis=0) / spread - 1) < 5 * np.sqrt((kurtosis - 1) / len(drawn))).all()


@pytest.mark.parametrize(("name", "values"), FAMILIES)
def test_responses_follow_the_density(name: str, values: list[float]) -> None:
    """The mean of a response's exp(log-density of a neighbour / density) ... by importance: E[q(y)/p(y)] = 1.

    q is the same family at a slightly other mean; Monte Carlo error about 0.01, 0.05 allowed.
    """
    family, parameters = as_family(name), np.array(values)
    eta = np.array([0.6])
    rng = np.random.default_rng(9)
    y = draw_response(
        family, parameters, np.tile(eta, (40_000, 1)), rng, None, np.array([5.0]) if name == "binomial" else None
    )
    trials = np.full(len(y), 5.0) if name == "binomial" else None
    here = pointwise(family, parameters, y[:, 0], np.full(len(y), 0.6), None, trials).value
    there = pointwise(family, parameters, y[:, 0], np.full(len(y), 0.7), None, trials).value
    assert np.mean(np.exp(there - here)) == pytest.approx(1.0, abs=0.05)


def test_parameters_may_differ_by_draw_and_zeros_may_be_structural() -> None:
    rng = np.random.default_rng(3)
    sigma = np.array([[0.1], [10.0]])
    drawn = draw_response(as_family("gaussian"), sigma, np.zeros((2, 4000)), rng)
    assert drawn[0].std() == pytest.approx(0.1, rel=0.1)
    assert drawn[1].std() == pytest.approx(10.0, rel=0.1)
    zeros = draw_response(as_family("poisson"), np.empty(0), np.full((2000, 2), 3.0), rng, share=np.array([0.25, 1.0]))
    assert (zeros[:, 0] == 0).mean() == pytest.approx(0.75, abs=0.05)
    assert (zeros[:, 1] == 0).mean() == 0.0


def test_a_predictor_outside_the_link_gives_no_response() -> None:
    found = draw_response(as_family("poisson(sqrt)"), np.empty(0), np.array([[-1.0, 2.0]]), np.random.default_rng(1))
    assert np.isnan(found[0, 0])
    assert np.isfinite(found[0, 1])
