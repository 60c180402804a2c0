"""Probabilities of ordered categories against scipy, their derivatives against differences, and thresholds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import unimix as um
from unimix.distributions.cumulative import (
    THRESHOLDS,
    category_probabilities,
    draw_categories,
    threshold_matrix,
    threshold_parameters,
)
from unimix.distributions.family import Cumulative, as_family
from unimix.distributions.links import LINKS
from unimix.distributions.log_density import pointwise, variance
from unimix.distributions.parameter_scales import from_free, inside, slopes, to_free
from unimix.distributions.random_responses import mean_of
from unimix.errors import OptionError, UnsupportedModelError

CELLS = [(link, kind) for link in Cumulative.links for kind in THRESHOLDS]
LATENT = {
    "logit": stats.logistic,
    "probit": stats.norm,
    "cloglog": stats.gumbel_l,
    "loglog": stats.gumbel_r,
    "cauchit": stats.cauchy,
}
"""Distribution of the latent variable: F(x) = 1 - exp(-exp(x)) is that of the smallest of many values."""


def example(link: str, kind: str) -> tuple[Cumulative, np.ndarray, np.ndarray, np.ndarray]:
    family = Cumulative(link, kind, ("a", "b", "c", "d", "e"))
    rng = np.random.default_rng(4)
    p = np.append(-1.2, rng.uniform(0.4, 1.0, len(family.parameters) - 1))
    return family, p, rng.integers(0, 5, 300).astype(float), rng.normal(0, 1.5, 300)


@pytest.mark.parametrize(("link", "kind"), CELLS)
def test_log_density_by_scipy(link: str, kind: str) -> None:
    """To 1e-10: scipy's distribution functions, subtracted in the tail in which they lose no digits."""
    family, p, y, eta = example(link, kind)
    ends = np.concatenate([[-np.inf], family.matrix @ p, [np.inf]])
    upper, lower = ends[y.astype(int) + 1] - eta, ends[y.astype(int)] - eta
    made = LATENT[link]
    in_upper_tail = made.cdf(lower) > 0.5
    below, above = made.cdf(upper) - made.cdf(lower), made.sf(lower) - made.sf(upper)
    exact = np.log(np.where(in_upper_tail, above, below))
    np.testing.assert_allclose(pointwise(family, p, y, eta).value, exact, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("link", "kind"), CELLS)
def test_derivatives_by_differences(link: str, kind: str) -> None:
    """Central differences of step 1e-5 have an error of about 1e-10 times the third derivative; weights multiply."""
    family, p, y, eta = example(link, kind)
    w, h = np.linspace(0.5, 2, len(y)), 1e-5
    rows = pointwise(family, p, y, eta, w)
    up, down = pointwise(family, p, y, eta + h, w), pointwise(family, p, y, eta - h, w)
    size = 1 + np.abs(rows.observed)
    assert (np.abs((up.value - down.value) / (2 * h) - rows.score) < 1e-7 * size).all()
    assert (np.abs((down.score - up.score) / (2 * h) - rows.observed) < 1e-6 * size * (1 + np.abs(rows.score))).all()
    for k, one in enumerate(np.eye(len(p)) * h):
        moved = (pointwise(family, p + one, y, eta, w).value - pointwise(family, p - one, y, eta, w).value) / (2 * h)
        assert (np.abs(moved - rows.by_parameters[k]) < 1e-6 * size).all()


@pytest.mark.parametrize("link", Cumulative.links)
def test_expected_information_is_the_mean_of_the_observed_one(link: str) -> None:
    family, p, _, eta = example(link, "flexible")
    shares = category_probabilities(link, family.matrix @ p, eta)
    np.testing.assert_allclose(shares.sum(axis=0), 1.0, rtol=1e-12)
    each = [pointwise(family, p, np.full(len(eta), float(j)), eta) for j in range(5)]
    mean = sum(share * rows.observed for share, rows in zip(shares, each, strict=True))
    np.testing.assert_allclose(each[0].expected, mean, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog", "loglog", "cauchit"])
def test_far_tails_are_finite(link: str) -> None:
    family = Cumulative(link, "flexible", (1, 2, 3))
    rows = pointwise(family, np.array([-1.0, 2.0]), np.array([0.0, 1.0, 2.0, 0.0]), np.array([-30.0, 5.0, 30.0, 5.0]))
    assert np.isfinite([rows.value, rows.score, rows.observed]).all()
    assert np.abs(rows.value[[0, 2]]).max() < 0.02  # almost certain categories


def test_loglog_is_the_mirror_image_of_cloglog() -> None:
    x = np.linspace(-3, 3, 13)
    np.testing.assert_allclose(LINKS["loglog"].inverse(x), stats.gumbel_r.cdf(x), rtol=1e-13)
    np.testing.assert_allclose(LINKS["loglog"].forward(LINKS["loglog"].inverse(x)), x, atol=1e-12)
    h = 1e-6
    slope = (LINKS["loglog"].inverse(x + h) - LINKS["loglog"].inverse(x - h)) / (2 * h)
    np.testing.assert_allclose(LINKS["loglog"].slope(x), slope, atol=1e-9)
    bend = (LINKS["loglog"].slope(x + h) - LINKS["loglog"].slope(x - h)) / (2 * h)
    np.testing.assert_allclose(LINKS["loglog"].curvature(x), bend, atol=1e-9)


@pytest.mark.parametrize("kind", THRESHOLDS)
@pytest.mark.parametrize("n", [3, 4, 7])
def test_thresholds_increase_and_return(kind: str, n: int) -> None:
    family = Cumulative("logit", kind, tuple(range(n)))
    p = np.append(0.3, np.linspace(0.2, 1.0, len(family.parameters) - 1))
    theta = threshold_matrix(kind, n) @ p
    assert (np.diff(theta) > 0).all()
    np.testing.assert_allclose(threshold_parameters(kind, theta), p, rtol=1e-10)
    np.testing.assert_allclose(from_free(family, to_free(family, p)), p, rtol=1e-12)
    moved = (from_free(family, to_free(family, p) + 1e-6) - p) / 1e-6
    np.testing.assert_allclose(slopes(family, p), moved, rtol=1e-5)
    assert inside(family, p)
    assert not inside(family, -p)
    if kind == "symmetric":
        np.testing.assert_allclose(np.diff(theta), np.diff(theta)[::-1], rtol=1e-12)
    if kind == "equidistant":
        np.testing.assert_allclose(np.diff(theta), p[1], rtol=1e-12)


def test_draws_have_the_probabilities() -> None:
    """40,000 draws: frequencies within 5 standard errors."""
    theta = np.array([-1.0, 0.5, 2.0])
    drawn = draw_categories("logit", theta, np.full(40_000, 0.3), np.random.default_rng(1))
    shares = category_probabilities("logit", theta, np.array([0.3]))[:, 0]
    found = np.bincount(drawn.astype(int), minlength=4) / 40_000
    assert (np.abs(found - shares) < 5 * np.sqrt(shares * (1 - shares) / 40_000)).all()


@pytest.mark.parametrize("name", ["ordinal", "clmm", "cumulative", "polr", "ordered", "clm"])
def test_names(name: str) -> None:
    assert as_family(name) == um.families.Cumulative()


def test_names_with_a_link() -> None:
    assert as_family("ologit").link == "logit"
    assert as_family("oprobit").link == "probit"
    assert as_family("cumulative(cloglog)").link == "cloglog"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"threshold": "equal"}, "choose 'flexible', 'symmetric', 'equidistant'"),
        ({"categories": "abc"}, "give the categories in order"),
        ({"categories": ["a", "a", "b"]}, "named twice"),
        ({"link": "log"}, "is not a link of the cumulative family"),
    ],
)
def test_wrong_options(options: dict[str, object], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        um.families.cumulative(**options)


def test_categories_have_neither_mean_nor_variance() -> None:
    family = Cumulative("logit", "flexible", (1, 2, 3))
    with pytest.raises(UnsupportedModelError, match="is a category"):
        mean_of(family, np.zeros(1), np.array([0.0, 1.0]))
    with pytest.raises(UnsupportedModelError, match="is a category"):
        variance(family, np.array([0.0, 1.0]), np.zeros(1))
