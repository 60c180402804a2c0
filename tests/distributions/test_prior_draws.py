"""Draws from priors, against their own densities and closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

import unimix as um
from unimix.distributions.prior_draws import draw_correlations, draw_prior
from unimix.distributions.priors import Prior

PRIORS = [
    um.priors.Normal(1, 2),
    um.priors.StudentT(3, 1, 2),
    um.priors.Cauchy(1, 2),
    um.priors.HalfNormal(2),
    um.priors.HalfStudentT(3, 2),
    um.priors.HalfCauchy(2),
    um.priors.Exponential(0.5),
    um.priors.Gamma(2, 3),
    um.priors.InverseGamma(3, 2),
    um.priors.LogNormal(0.5, 0.7),
    um.priors.Uniform(1, 3),
]


@pytest.mark.parametrize("prior", PRIORS, ids=str)
def test_draws_have_the_density_of_the_prior(prior: Prior) -> None:
    """The probability of each quarter of the draws by integration; 20,000 draws: five standard errors."""
    draws = draw_prior(prior, 20_000, np.random.default_rng(1))
    ends = np.quantile(draws, [0.1, 0.3, 0.5, 0.7, 0.9])
    for low, high in itertools.pairwise(ends):
        share = integrate.quad(lambda x: float(np.exp(prior.log_density(x))), low, high)[0]
        assert share == pytest.approx(0.2, abs=5 * np.sqrt(0.2 * 0.8 / 20_000))


@pytest.mark.parametrize(("eta", "q"), [(1.0, 2), (2.0, 2), (2.0, 3), (1.5, 4)])
def test_correlations_have_the_marginals_of_lkj(eta: float, q: int) -> None:
    """(r + 1) / 2 of each pair is beta with both parameters eta + (q - 2) / 2; a Kolmogorov test at 1e-4."""
    drawn = draw_correlations(eta, q, 5_000, np.random.default_rng(2))
    assert (np.linalg.eigvalsh(drawn) > 0).all()
    shape = eta + (q - 2) / 2
    for i in range(q):
        assert drawn[:, i, i] == pytest.approx(1.0)
        for j in range(i):
            assert stats.kstest((drawn[:, i, j] + 1) / 2, stats.beta(shape, shape).cdf).pvalue > 1e-4


def test_prior_predictions_of_bayes_have_the_moments_of_the_prior() -> None:
    """Closed forms: means of the cells, and the variance and covariance of rows of one group."""
    data = pd.DataFrame({"g": np.repeat([f"s{k}" for k in range(10)], 4), "x": np.tile([0.0, 1.0], 20)})
    data["y"], data["t"] = np.random.default_rng(1).normal(500, 10, 40), 7.0
    p = um.priors
    priors = {
        "Intercept": p.Normal(100, 1),
        "x": p.Normal(50, 1),
        "sd(g)": p.HalfNormal(3.0),
        "sigma": p.HalfNormal(2.0),
    }
    options = {"draws": 100, "chains": 2}
    fit = um.fit("y ~ x + offset(t) + (1 | g)", data, "bayes", priors=priors, seed=1, options=options)
    y = fit.prior_predictive(4_000, seed=1)
    assert y.shape == (4_000, 40)
    assert [y[:, data["x"] == k].mean() for k in (0, 1)] == pytest.approx([107, 157], abs=0.15)
    # E sd^2 of a half-normal is its scale squared
    assert np.var(y[:, 0]) == pytest.approx(1 + 9 + 4, rel=0.1)
    assert np.cov(y[:, 0], y[:, 2])[0, 1] == pytest.approx(1 + 9, rel=0.12)
    assert np.cov(y[:, 0], y[:, 4])[0, 1] == pytest.approx(1, abs=0.7)
    assert np.array_equal(y, fit.prior_predictive(4_000, seed=1))
    with pytest.raises(um.errors.UnimixError, match="bayes writes no graph"):
        fit.plot.model_graph()
    loaded = um.FitResult.from_json(fit.to_json())
    with pytest.raises(um.errors.UnimixError, match="was loaded"):
        loaded.prior_predictive(10)
