from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from unimix.distributions.priors import (
    LKJ,
    Cauchy,
    Exponential,
    Gamma,
    HalfCauchy,
    HalfNormal,
    HalfStudentT,
    InverseGamma,
    LogNormal,
    Normal,
    Prior,
    StudentT,
    Uniform,
)
from unimix.errors import OptionError

PAIRS = [
    (Normal(1.5, 2.5), stats.norm(1.5, 2.5)),
    (StudentT(4, -1, 2), stats.t(4, -1, 2)),
    (Cauchy(0.5, 3), stats.cauchy(0.5, 3)),
    (HalfNormal(2), stats.halfnorm(scale=2)),
    (HalfStudentT(4, 3), None),
    (HalfCauchy(5), stats.halfcauchy(scale=5)),
    (Exponential(0.7), stats.expon(scale=1 / 0.7)),
    (Gamma(2.5, 0.7), stats.gamma(2.5, scale=1 / 0.7)),
    (InverseGamma(2.5, 0.7), stats.invgamma(2.5, scale=0.7)),
    (LogNormal(0.3, 0.8), stats.lognorm(0.8, scale=math.exp(0.3))),
    (Uniform(-1, 4), stats.uniform(-1, 5)),
    (Uniform(0, 4), stats.uniform(0, 4)),
]


@pytest.mark.parametrize(("prior", "reference"), PAIRS, ids=lambda p: str(p) if isinstance(p, Prior) else "")
def test_density_equals_scipy(prior, reference):
    x = np.array([-3.0, -0.5, 0.0, 0.01, 0.4, 1.0, 2.7, 3.9, 12.0])
    expected = (
        np.where(x >= 0, np.log(2) + stats.t(4, 0, 3).logpdf(x), -np.inf) if reference is None else reference.logpdf(x)
    )
    np.testing.assert_allclose(prior.log_density(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("prior", [p for p, _ in PAIRS], ids=str)
def test_gradient_equals_finite_differences(prior):
    x, h = np.array([0.3, 1.1, 2.9]), 1e-6
    numeric = (prior.log_density(x + h) - prior.log_density(x - h)) / (2 * h)
    np.testing.assert_allclose(prior.gradient(x), numeric, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("eta", [0.7, 1.0, 2.0])
def test_lkj_density_of_a_correlation_integrates_to_one(eta):
    # the substitution r = sin(t) removes the infinite ends of eta < 1
    t = np.linspace(-np.pi / 2, np.pi / 2, 20_003)[1:-1]
    matrices = np.ones((len(t), 2, 2))
    matrices[:, 0, 1] = matrices[:, 1, 0] = np.sin(t)
    with np.errstate(divide="ignore"):
        density = np.exp(LKJ(eta).log_density(matrices)) * np.cos(t)
    assert np.trapezoid(density, t) == pytest.approx(1, abs=2e-3)


def test_lkj_1_in_three_dimensions_is_one_over_the_volume():
    assert math.exp(float(LKJ(1).log_density(np.eye(3)))) == pytest.approx(2 / math.pi**2)


def test_lkj_refuses_indefinite_matrices_and_knows_its_gradient():
    r = np.array([[1, 0.3, -0.2], [0.3, 1, 0.5], [-0.2, 0.5, 1]])
    bad = np.array([[1, 0.9, -0.9], [0.9, 1, 0.9], [-0.9, 0.9, 1]])
    assert LKJ(2).log_density(np.stack([r, bad]))[1] == -np.inf
    h = np.zeros((3, 3))
    h[0, 1] = h[1, 0] = 1e-6
    numeric = (LKJ(3).log_density(r + h) - LKJ(3).log_density(r - h)) / 2e-6
    assert 2 * LKJ(3).gradient(r)[0, 1] == pytest.approx(float(numeric), rel=1e-6)


def test_text_keywords_and_equality():
    assert str(Normal(0, 2.5)) == "Normal(0, 2.5)"
    assert Normal(sigma=2.5, mu=0) == Normal(0, 2.5)
    assert hash(Normal(0, 1)) == hash(Normal(0.0, 1.0))
    assert str(LKJ(2)) == "LKJ(2)"


def test_supports():
    assert Normal(0, 1).support == "real"
    assert HalfCauchy(2).support == "positive"
    assert Uniform(0, 1).support == "positive"
    assert Uniform(-1, 1).support == "real"
    assert LKJ(2).support == "correlation"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Normal(0, -1), "sigma=-1 must be greater than 0"),
        (lambda: Normal("a", 0), r"mu='a' is not a number; sigma=0 must be greater"),
        (lambda: HalfNormal(float("nan")), "not finite"),
        (lambda: Uniform(2, 1), "lower=2 must be below upper=1"),
        (lambda: LKJ(0), "eta=0 must be greater"),
        (lambda: Gamma(True, 1), "alpha=True is not a number"),
    ],
)
def test_faults_are_said_in_words(make, words):
    with pytest.raises(OptionError, match=words):
        make()
