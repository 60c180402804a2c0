"""The multivariate t distribution: closed forms, integrals, Dunnett's tables and mvtnorm."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import integrate, special, stats

from unimix.stats.multiplicity import adjusted_p_values, critical_value

FloatArray = npt.NDArray[np.float64]
SIZES = np.array([0.4, 1.3, 2.1, 2.9, 4.2])


def equal(m: int, r: float) -> FloatArray:
    return np.full((m, m), r) + (1 - r) * np.eye(m)


def p_values(size: FloatArray, df: float, correlation: FloatArray) -> FloatArray:
    """One size at a time is compared with m statistics of which it is the first."""
    return np.array([adjusted_p_values("mvt", np.array([t]), np.array([df]), correlation, 2)[0] for t in size])


def by_integration(size: float, df: float, m: int, r: float) -> float:
    """P(max |T_i| > size) with equal correlations r: T_i = (sqrt(r) U + sqrt(1 - r) E_i) / S, summed over a grid."""
    u = np.linspace(-8, 8, 641)
    scale = stats.chi(df, scale=1 / np.sqrt(df)) if np.isfinite(df) else None
    s = np.array([1.0]) if scale is None else np.linspace(scale.ppf(1e-9), scale.isf(1e-9), 401)
    inside = special.ndtr((size * s[:, None] - np.sqrt(r) * u) / np.sqrt(1 - r))
    inside -= special.ndtr((-size * s[:, None] - np.sqrt(r) * u) / np.sqrt(1 - r))
    given = (1 - inside**m) @ stats.norm.pdf(u) * (u[1] - u[0])
    return float(given[0] if scale is None else given @ scale.pdf(s) * (s[1] - s[0]))


@pytest.mark.parametrize("m", [2, 4, 8])
def test_independent_z_tests_are_sidaks(m: int) -> None:
    """1e-4 for up to four tests; the docstring promises a thousandth of large p values."""
    sidak = -np.expm1(m * np.log1p(-2 * stats.norm.sf(SIZES)))
    np.testing.assert_allclose(p_values(SIZES, np.inf, np.eye(m)), sidak, atol=1e-4, rtol=1e-3 if m > 4 else 0)
    exact = critical_value("sidak", 0.95, np.inf, np.eye(m), m)
    assert critical_value("mvt", 0.95, np.inf, np.eye(m), m) == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize(("m", "r", "df"), [(2, 0.3, 5.0), (4, 0.5, np.inf), (4, 0.5, 20.0), (6, 0.8, 12.0)])
def test_equal_correlations_are_their_integral(m: int, r: float, df: float) -> None:
    sizes = SIZES[::2]
    expected = [by_integration(t, df, m, r) for t in sizes]
    np.testing.assert_allclose(p_values(sizes, df, equal(m, r)), expected, atol=1e-4, rtol=1e-3 if m > 4 else 0)


@pytest.mark.parametrize(
    ("m", "df", "printed"),
    [(2, 10, 2.57), (4, 10, 2.89), (2, 20, 2.38), (3, 20, 2.54), (4, 20, 2.65), (5, 20, 2.73), (4, np.inf, 2.44)],
)
def test_critical_values_are_dunnetts(m: int, df: float, printed: float) -> None:
    """Dunnett (1964, Biometrics 20:482), table II: two-sided, joint probability 0.95, two printed decimals."""
    assert critical_value("mvt", 0.95, float(df), equal(m, 0.5), m) == pytest.approx(printed, abs=0.0051)


def test_p_values_lie_between_plain_ones_and_bonferronis() -> None:
    """Far in the tail they are nearly Bonferroni's, which errs by the joint probabilities of pairs of tests at most."""
    pairs = np.array([[1, -1, 0, 0], [1, 0, -1, 0], [1, 0, 0, -1], [0, 1, -1, 0], [0, 1, 0, -1], [0, 0, 1, -1]])
    for correlation in (equal(4, 0.5), pairs @ pairs.T / 2, equal(3, 0.999)):
        m = len(correlation)
        statistic = np.array([2.0, 6.0, 10.0, 20.0, 37.0])
        for df in (2.5, 30.0, 1e4, np.inf):
            plain = 2 * (stats.norm.sf(statistic) if np.isinf(df) else stats.t.sf(statistic, df))
            for method, known in (("mvt", correlation), ("tukey", np.eye(m))):
                found = adjusted_p_values(method, statistic, np.full(5, df), known, 3)
                bound = plain * (m if method == "mvt" else 3)
                assert (found >= plain).all()
                assert (found <= bound * (1 + 1e-12)).all()
                assert (np.diff(found) < 0).all()
    far = adjusted_p_values("mvt", np.array([10.0, 20.0]), np.full(2, np.inf), equal(4, 0.5), 4)
    np.testing.assert_allclose(far, 4 * 2 * stats.norm.sf([10.0, 20.0]), rtol=1e-4)
    # two tests with heavy tails: 2 P(|T| > t) - P(both), the latter by integration over the first statistic
    t, df, r = 200.0, 3.0, 0.5
    both, _ = integrate.quad(
        lambda x: (
            stats.t.pdf(x, df)
            * (
                stats.t.sf((t - r * x) / np.sqrt((1 - r**2) * (df + x**2) / (df + 1)), df + 1)
                + stats.t.cdf((-t - r * x) / np.sqrt((1 - r**2) * (df + x**2) / (df + 1)), df + 1)
            )
        ),
        t,
        np.inf,
        epsabs=0,
    )
    found = adjusted_p_values("mvt", np.array([t]), np.array([df]), equal(2, r), 2)[0]
    assert found == pytest.approx(2 * (2 * stats.t.sf(t, df) - both), rel=1e-4)


def test_intervals_and_p_values_agree() -> None:
    """At the critical value the p value is 1 - level, to the sampling error that both state."""
    rng = np.random.default_rng(4)
    for m, df in ((3, 7.0), (5, 40.0), (9, np.inf)):
        root = rng.normal(size=(m, m + 1))
        covariance = root @ root.T
        correlation = covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
        for level in (0.5, 0.95, 0.999, 1 - 1e-11):
            size = critical_value("mvt", level, df, correlation, m)
            found = adjusted_p_values("mvt", np.array([size]), np.array([df]), correlation, m)[0]
            assert found == pytest.approx(1 - level, abs=2e-4, rel=2e-3)
        single = stats.norm.isf(5e-12) if np.isinf(df) else stats.t.isf(5e-12, df)
        assert size > single * 1.001


def test_degenerate_tests() -> None:
    """Tests that are the same count once, a contrast without variance not at all; one alone has its plain p value."""
    statistic, df = np.array([2.2, 2.2, 1.0]), np.full(3, 18.0)
    same = np.array([[1, -1, 0.4], [-1, 1, -0.4], [0.4, -0.4, 1]])
    two = adjusted_p_values("mvt", statistic[1:], df[1:], equal(2, 0.4), 2)
    np.testing.assert_allclose(adjusted_p_values("mvt", statistic, df, same, 3)[1:], two, rtol=1e-12)
    constant = np.pad(equal(2, 0.4), ((0, 1), (0, 1)))
    found = adjusted_p_values("mvt", np.array([2.2, 1.0, np.nan]), df, constant, 3)
    np.testing.assert_allclose(found[:2], two, rtol=1e-12)
    assert np.isnan(found[2])
    alone = adjusted_p_values("mvt", np.array([2.2]), df[:1], np.eye(1), 1)
    assert alone[0] == pytest.approx(2 * stats.t.sf(2.2, 18.0), rel=1e-12)
    assert critical_value("mvt", 0.9, 18.0, equal(2, -1.0), 2) == pytest.approx(stats.t.isf(0.05, 18.0), rel=1e-10)
