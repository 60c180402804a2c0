"""The criterion of linear mixed models: against closed forms, dense densities, differences and lme4's own function."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from gold import gaussian_cases
from scipy import stats

import unimix as um
from unimix.backends.pls import Pls
from unimix.design.arrays import Design
from unimix.design.design import build_design
from unimix.formula.interpreter import parse
from unimix.likelihood.lmm import penalised_least_squares, reduced_data
from unimix.likelihood.lmm.conditional_modes import conditional_effects
from unimix.likelihood.lmm.conditioning import condition
from unimix.likelihood.lmm.derivatives import curvature, gradient, moments
from unimix.likelihood.lmm.optimise import climb, leave_boundary
from unimix.likelihood.lmm.parameters import by_parameter, directions_at, in_parameters
from unimix.likelihood.lmm.search import search
from unimix.testing import dense

FORMULAS = [
    "y ~ x + (1 | g)",
    "y ~ x + (1 + x | g)",
    "y ~ x + (1 + x | g) + (0 + z | g)",
    "y ~ x + (1 | g) + (1 + z | h)",
    "y ~ x + (1 + x + z | g) + (1 + z | h) + (1 | k)",
    "y ~ x + (1 + x | k/g)",
]


def data(seed: int = 0, n: int = 240) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    made = pd.DataFrame(
        {
            "g": rng.integers(0, 25, n).astype(str),
            "h": rng.integers(0, 11, n).astype(str),
            "k": rng.integers(0, 4, n).astype(str),
            "x": rng.normal(size=n),
            "z": rng.normal(size=n),
            "w": rng.uniform(0.5, 2, n),
        }
    )
    made["y"] = rng.normal(size=n) + made.x + rng.normal(size=25)[made.g.astype(int)]
    return made


def conditioned(formula: str, **more: Any) -> Design:
    return condition(build_design(parse(formula), data(), **more))[0]


@pytest.fixture(params=[True, False], ids=["dense", "pieces"])
def _small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nested factors also by their independent pieces, as large data have them."""
    if not request.param:
        monkeypatch.setattr(reduced_data, "SMALL", 0)


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("reml", [True, False])
def test_value_gradient_and_hessian(formula: str, reml: bool) -> None:
    """The value against the n x n density (rounding), derivatives against central differences (step 1e-5)."""
    design = conditioned(formula, weights="w")
    reduced = reduced_data.form(design)
    theta = np.random.default_rng(1).normal(size=reduced.n_cells) * 0.7
    factors = penalised_least_squares.unpack(reduced, theta)
    at = penalised_least_squares.profile(reduced, factors, reml=reml)
    covariances = tuple(at.sigma**2 * f @ f.T for f in factors)
    assert at.value == pytest.approx(dense.log_likelihood(design, covariances, at.sigma, reml=reml), abs=1e-9)
    beta, cov = dense.gls(design, covariances, at.sigma)
    np.testing.assert_allclose(at.beta, beta, atol=1e-10)
    np.testing.assert_allclose(at.sigma**2 * at.cov_unscaled, cov, atol=1e-12)

    def value(x: np.ndarray) -> float:
        return penalised_least_squares.profile(reduced, penalised_least_squares.unpack(reduced, x), reml=reml).value

    def slope(x: np.ndarray) -> np.ndarray:
        own = penalised_least_squares.unpack(reduced, x)
        slopes = gradient(reduced, penalised_least_squares.profile(reduced, own, reml=reml), reml=reml)
        return by_parameter(slopes, reduced, own)

    moves = 1e-5 * np.eye(len(theta))
    along = curvature(at, moments(reduced, at.state, directions_at(reduced, factors)), reml=reml)
    g, h = in_parameters(along.gradient, along.hessian, reduced, factors, ())
    np.testing.assert_allclose(g, slope(theta), atol=1e-10)
    np.testing.assert_allclose(g, [(value(theta + m) - value(theta - m)) / 2e-5 for m in moves], atol=2e-6)
    np.testing.assert_allclose(h, [(slope(theta + m) - slope(theta - m)) / 2e-5 for m in moves], atol=2e-5)


@pytest.mark.parametrize("formula", FORMULAS)
def test_unprofiled_value_at_any_sigma_and_beta(formula: str) -> None:
    design = conditioned(formula)
    reduced = reduced_data.form(design)
    factors = penalised_least_squares.unpack(reduced, np.full(reduced.n_cells, 0.4))
    covariances = tuple(0.8**2 * f @ f.T for f in factors)
    for reml in (True, False):
        ours = penalised_least_squares.log_likelihood(reduced, factors, 0.8, reml=reml)
        assert ours == pytest.approx(dense.log_likelihood(design, covariances, 0.8, reml=reml), abs=1e-9)
    beta = np.random.default_rng(0).normal(size=design.p)
    v = dense.marginal_covariance(design, covariances, 0.8)
    density = stats.multivariate_normal.logpdf(design.y, design.x @ beta, v)
    assert penalised_least_squares.log_likelihood(reduced, factors, 0.8, beta, reml=False) == pytest.approx(
        density, abs=1e-8
    )


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("formula", FORMULAS)
def test_effects_are_those_of_the_joint_normal(formula: str) -> None:
    """Mean and covariance of the effects given y, from Z D and V written down in full."""
    design = conditioned(formula)
    reduced = reduced_data.form(design)
    factors = penalised_least_squares.unpack(reduced, np.random.default_rng(2).normal(size=reduced.n_cells) * 0.5)
    at = penalised_least_squares.profile(reduced, factors, reml=True)
    modes, covs = conditional_effects(reduced, at, factors)
    covariances = tuple(at.sigma**2 * f @ f.T for f in factors)
    inverse = np.linalg.inv(dense.marginal_covariance(design, covariances, at.sigma))
    for block, c, own, own_covs in zip(design.blocks, covariances, modes, covs, strict=True):
        for level in (0, block.n_levels - 1):
            between = ((block.codes == level)[:, None] * block.z) @ c
            np.testing.assert_allclose(own[level], between.T @ inverse @ (design.y - design.x @ at.beta), atol=1e-9)
            np.testing.assert_allclose(own_covs[level], c - between.T @ inverse @ between, atol=1e-9)


def test_balanced_one_way_layout_has_a_closed_form() -> None:
    """Searle et al. (1992), section 3.8: sigma^2 = MSW, variance between = (MSB - MSW) / n.

    The search ends where a Newton step would raise the log likelihood by 1e-12, which moves a variance by up to 1e-6
    of itself.
    """
    rng = np.random.default_rng(3)
    m, n = 12, 7
    y = rng.normal(size=(m, n)) + 2 * rng.normal(size=(m, 1))
    frame = pd.DataFrame({"y": y.ravel(), "g": np.repeat(np.arange(m), n).astype(str)})
    fit = um.fit("y ~ 1 + (1 | g)", frame, "pls")
    within = ((y - y.mean(axis=1, keepdims=True)) ** 2).sum() / (m * (n - 1))
    between = n * y.mean(axis=1).var(ddof=1)
    assert fit.sigma**2 == pytest.approx(within, rel=1e-6)
    assert fit.random[0].sd[0] ** 2 == pytest.approx((between - within) / n, rel=1e-6)
    assert fit.fixed.df[0] == pytest.approx(m - 1, rel=1e-6)
    assert fit.fixed.std_error[0] == pytest.approx(np.sqrt(between / (m * n)), rel=1e-6)


def test_a_saddle_on_the_boundary_is_left() -> None:
    """At a zero variance the gradient by the factor vanishes whatever the data say."""
    design = conditioned("y ~ x + (1 + x | g)")
    reduced = reduced_data.form(design)
    zero = [np.zeros((2, 2))]
    moved, gain = leave_boundary(reduced, zero, reml=True)
    assert gain > 1.0
    assert climb(reduced, zero, reml=True).profile.value == pytest.approx(
        search(reduced, reml=True).profile.value, abs=1e-8
    )
    assert np.abs(moved[0]).max() > 0


@pytest.mark.parametrize("case", [c for c in gaussian_cases() if c.mixed], ids=lambda c: c.id)
def test_reference_cases(case: Any) -> None:
    """Within 1e-7 of the reference (which itself was polished by Newton steps), and singular where it is."""
    fit = case.fit("pls")
    assert fit.log_likelihood == pytest.approx(case.reference["loglik"], abs=1e-7)
    assert fit.singular == case.reference["singular"]
    ours, theirs = case.standard_deviations(fit)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.r
@pytest.mark.parametrize(
    "case",
    [c for c in gaussian_cases() if c.mixed and c.id in ("pastes", "sleepstudy_slope", "cake")],
    ids=lambda c: c.id,
)
def test_lme4_evaluates_the_same_function(case: Any) -> None:
    """lme4's own criterion at other parameters than the optimum's (devfun), on the generated columns: 1e-8."""
    from unimix.backends.r.backend import r_arguments
    from unimix.backends.r.bridge import connect

    fit = case.fit("lme4")
    design = fit.design()
    reduced = reduced_data.form(design)
    bridge = connect("lme4", "")
    bridge.require(("lme4",), "lme4")
    bridge.prepare(("lme4",))
    order = np.argsort([-b.n_levels for b in design.blocks], kind="stable")
    theta = np.concatenate([np.full(b.q * (b.q + 1) // 2, 0.3) for b in design.blocks])
    value = bridge.call("evaluate_lmer", *r_arguments(design), theta)["value"][0]
    factors = [0.3 * np.tril(np.ones((b.q, b.q))) for b in design.blocks]
    assert len(order) == len(factors)
    assert -2 * penalised_least_squares.profile(reduced, factors, reml=True).value == pytest.approx(
        float(value), abs=1e-8
    )


def test_fuzz_beats_or_equals_every_other_start() -> None:
    """Badly scaled columns, tiny and zero variances, crossed factors: no fit is below the best of 6 random starts."""
    rng = np.random.default_rng(11)
    for round_ in range(15):
        n = int(rng.integers(40, 300))
        g, h = rng.integers(0, rng.integers(3, 20), n), rng.integers(0, rng.integers(3, 12), n)
        x = rng.normal(size=n) * 10.0 ** rng.integers(-4, 5) + 10.0 ** rng.integers(0, 3)
        sd = rng.choice([0.0, 1e-3, 0.3, 2.0, 30.0], 3)
        y = sd[0] * rng.normal(size=n)[g] + sd[1] * rng.normal(size=n)[h] + rng.normal(size=n)
        y = y + sd[2] * (x - x.mean()) / x.std() * rng.normal(size=n)[g]
        frame = pd.DataFrame({"y": y, "x": x, "g": g.astype(str), "h": h.astype(str)})
        formula = ["y ~ x + (1 + x | g)", "y ~ x + (1 | g) + (1 | h)", "y ~ x + (1 + x | g) + (1 | h)"][round_ % 3]
        design = condition(build_design(parse(formula), frame))[0]
        reduced = reduced_data.form(design)
        fit = um.fit(formula, frame, "pls")
        assert fit.converged
        found = search(reduced, reml=True)
        for _ in range(6):
            start = penalised_least_squares.unpack(
                reduced, rng.normal(size=reduced.n_cells) * 10.0 ** rng.uniform(-2, 1.5)
            )
            assert climb(reduced, start, reml=True).profile.value <= found.profile.value + 1e-7


@pytest.mark.parametrize("reml", [True, False])
def test_columns_that_lack_rank_within_levels(reml: bool) -> None:
    """Levels with one row, and a slope that is constant within levels: C has zero columns there."""
    frame = data()
    frame["g"] = [str(i) if i < 30 else str(i % 12) for i in range(len(frame))]
    frame["x"] = frame.groupby("g")["x"].transform("mean")
    design = condition(build_design(parse("y ~ x + (1 + x | g)"), frame))[0]
    reduced = reduced_data.form(design)
    factors = [np.array([[0.8, 0.0], [-0.3, 0.5]])]
    at = penalised_least_squares.profile(reduced, factors, reml=reml)
    covariances = (at.sigma**2 * factors[0] @ factors[0].T,)
    assert at.value == pytest.approx(dense.log_likelihood(design, covariances, at.sigma, reml=reml), abs=1e-9)


def test_options_and_limits() -> None:
    frame = data()
    assert um.fit("y ~ x + (1 + x | g)", frame, um.backends.Pls(max_steps=1)).status.state == "not_converged"
    a, b = np.random.default_rng(0).integers(0, 150, (2, 900))
    large = pd.DataFrame({"a": a.astype(str), "b": b.astype(str), "y": np.arange(900.0) % 7})
    with pytest.raises(um.UnsupportedModelError, match="max_dense"):
        um.fit("y ~ 1 + (1 | a) + (1 | b)", large, um.backends.Pls(max_dense=50))
    once, again = (um.fit("y ~ x + (1 | g)", frame, "pls") for _ in range(2))
    assert once.fixed.estimate.tobytes() == again.fixed.estimate.tobytes()


@pytest.mark.parametrize(("seed", "best"), [(123, -4.3426), (60, -14.6421), (11, -7.2062)])
def test_maxima_off_the_line_of_variances_are_found(seed: int, best: float) -> None:
    """Twenty rows, four and seven levels: the line of equal variances leads to a lower maximum on the boundary.

    The higher ones are mixedlm's and glmmTMB's (four decimals), and dense evaluations of the likelihood confirm them.
    """
    rng = np.random.default_rng(seed)
    n = 20
    g, h, x = rng.integers(0, 4, n), rng.integers(0, 7, n), rng.normal(size=n)
    y = x + 0.3 * rng.normal(size=n) + 0.3 * rng.normal(size=4)[g] + 0.3 * rng.normal(size=7)[h]
    data = pd.DataFrame({"y": y, "x": x, "g": g, "h": h, "w": 10.0 ** rng.uniform(-1, 1, n)})
    fit = um.fit("y ~ x + (1 + x | g) + (1 | h)", data, "pls", weights="w")
    assert fit.log_likelihood == pytest.approx(best, abs=1e-3)
    short = um.fit("y ~ x + (1 + x | g) + (1 | h)", data, Pls(thorough=False), weights="w")
    assert short.log_likelihood < best - 0.1
    assert not short.certificate().certified
