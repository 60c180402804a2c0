"""Group effects integrated out by quadrature: against dense integrals, and draws against their distribution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from generalised_data import FAMILIES, design_of, parameters_of, predictor
from scipy import integrate, stats

from unimix.design.arrays import Design
from unimix.distributions.family import Family, as_family
from unimix.distributions.log_density import pointwise
from unimix.likelihood.posterior.group_integrals import GroupIntegrals, Parameters, hermite_grid
from unimix.likelihood.posterior.row_densities import RowDensities

ONE_COLUMN = ["binomial", "poisson", "gamma(log)", "negative_binomial", "beta", "student_t", "binomial(cloglog)"]


def parameters_at(design: Design, n: int = 2) -> Parameters:
    """Moderate parameters near the simulated truth."""
    rng = np.random.default_rng(4)
    q = sum(b.q for b in design.blocks)
    centre = np.full(design.n, predictor(design.family)[0])
    beta = np.linalg.lstsq(design.x, centre)[0] + 0.1 * rng.normal(size=(n, design.p))
    factor = np.tril(0.3 * rng.normal(size=(n, q, q))) + 0.5 * np.eye(q)
    dispersion = np.tile(parameters_of(design.family), (n, 1)).reshape(n, -1)
    return Parameters(beta, factor, dispersion)


def log_rows(design: Design, at: Parameters, s: int, level: int, b: np.ndarray) -> float:
    """Log density of the rows of one level at effects b (q,), one row at a time by the reference formulas."""
    rows = design.blocks[0].codes == level
    z = np.concatenate([block.z for block in design.blocks], axis=1)[rows]
    offset = 0.0 if design.offset is None else design.offset[rows]
    eta = design.x[rows] @ at.beta[s] + offset + z @ b
    weights = None if design.weights is None else design.weights[rows]
    trials = None if design.trials is None else design.trials[rows]
    return float(pointwise(design.family, at.dispersion[s], design.y[rows], eta, weights, trials).value.sum())


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_row_densities_are_those_of_the_families(family: Family) -> None:
    """Shapes (n, draws, nodes) and short formulas against the density of one linear predictor: rounding."""
    design = design_of(family, "y ~ x + (1 | g)")
    rng, rows = np.random.default_rng(1), RowDensities(design)
    centre = float(np.mean(design.x @ parameters_at(design).beta[0]))
    eta = np.abs(centre) + 0.5 + 0.3 * rng.random((design.n, 2, 3))
    parameters = np.array(parameters_of(family))[:, None] * np.array([1.0, 1.3])
    values = rows.values(parameters[:, None, :, None], eta)
    _, score, weight = rows.derivatives(parameters[:, None, :], eta[:, :, 0])
    for s in range(2):
        for k in range(3):
            found = pointwise(family, parameters[:, s], design.y, eta[:, s, k], design.weights, design.trials)
            np.testing.assert_allclose(values[:, s, k], found.value, rtol=1e-9, atol=1e-9)
        found = pointwise(family, parameters[:, s], design.y, eta[:, s, 0], design.weights, design.trials)
        np.testing.assert_allclose(score[:, s], found.score, rtol=1e-8, atol=1e-8)
        assert (weight > 0).all()


@pytest.mark.parametrize("family", ONE_COLUMN)
def test_likelihood_of_one_effect_is_that_of_an_adaptive_integral(family: str) -> None:
    """SciPy's adaptive integrals level by level: 1e-7 of the log likelihood, at 27 nodes."""
    design = design_of(as_family(family), "y ~ x + (1 | g)")
    integrals, at = GroupIntegrals(design), parameters_at(design)
    integrals.nodes = 27
    for s, value in enumerate(integrals.log_likelihood(at)):
        total = 0.0
        for level in range(design.blocks[0].n_levels):
            sd = float(at.factor[s, 0, 0])
            grid = [log_rows(design, at, s, level, np.array([b])) + stats.norm.logpdf(b, scale=sd) for b in
                    np.linspace(-8 * sd, 8 * sd, 400)]  # fmt: skip
            top, peak = max(grid), np.linspace(-8 * sd, 8 * sd, 400)[int(np.argmax(grid))]

            def density(b: float, s: int = s, level: int = level, top: float = top, sd: float = sd) -> float:
                return float(
                    np.exp(log_rows(design, at, s, level, np.array([b])) + stats.norm.logpdf(b, scale=sd) - top)
                )

            part, _ = integrate.quad(density, -12 * sd, 12 * sd, points=[peak], limit=200, epsabs=0, epsrel=1e-10)
            total += top + np.log(part)
        assert value == pytest.approx(total, rel=1e-7)


def test_likelihood_of_two_effects_is_that_of_a_fine_grid() -> None:
    """The trapezoidal rule on 113 x 113 points converges exponentially: 1e-6 of the log likelihood, at 13^2 nodes."""
    design = design_of(as_family("poisson"), "y ~ x + (1 + x | g)")
    integrals, at = GroupIntegrals(design), parameters_at(design, 1)
    integrals.nodes = 13
    axis = np.linspace(-7, 7, 113)
    u = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    total = 0.0
    for level in range(design.blocks[0].n_levels):
        logs = np.array([log_rows(design, at, 0, level, at.factor[0] @ x) for x in u]) - 0.5 * (u * u).sum(axis=1)
        total += logs.max() + np.log(np.exp(logs - logs.max()).sum() * 0.125**2 / (2 * np.pi))
    assert float(integrals.log_likelihood(at)[0]) == pytest.approx(total, rel=1e-6)


def test_far_from_the_mode_the_density_falls() -> None:
    """Linear predictors of any size: a count of one has no high density where its mean is e^1000."""
    design = design_of(as_family("negative_binomial"), "y ~ x + (1 | g)")
    rows, parameters = RowDensities(design), np.array([3.0])
    values = [float(rows.values(parameters, np.full(design.n, eta)).sum()) for eta in (2.0, 20.0, 200.0, 1e3, 1e9)]
    assert values == sorted(values, reverse=True)


def test_terms_of_one_factor_in_two_blocks_are_stacked() -> None:
    design = design_of(as_family("poisson"), "y ~ x + (1 + x | g)")
    apart = design_of(as_family("poisson"), "y ~ x + (1 + x || g)")
    at = parameters_at(design, 3)
    at = replace(at, factor=at.factor * np.eye(2))
    np.testing.assert_allclose(
        GroupIntegrals(design).log_likelihood(at), GroupIntegrals(apart).log_likelihood(at), rtol=1e-12
    )


def test_pieces_and_the_start_of_the_searches_do_not_matter() -> None:
    """Every draw alone, and from another start of Newton's method: the modes' tolerance, which quadrature forgives."""
    design = design_of(as_family("binomial"), "y ~ x + (1 | g)")
    integrals, at = GroupIntegrals(design), parameters_at(design, 40)
    integrals.nodes = 13
    whole = integrals.log_likelihood(at)
    alone = np.concatenate([integrals.log_likelihood(at[s : s + 1]) for s in range(40)])
    np.testing.assert_allclose(whole, alone, rtol=1e-7)
    integrals.move_reference(at[:1])
    np.testing.assert_allclose(integrals.log_likelihood(at), whole, rtol=1e-7)


@pytest.mark.parametrize(("family", "formula"), [("binomial", "y ~ x + (1 | g)"), ("poisson", "y ~ x + (1 + x | g)")])
def test_draws_of_effects_have_their_distribution(family: str, formula: str) -> None:
    """Ranks in the exact distribution of the first effect of each level are uniform (p > 1e-4 for each)."""
    design = design_of(as_family(family), formula)
    integrals, one = GroupIntegrals(design), parameters_at(design, 1)
    n = 3000
    at = Parameters(*(np.repeat(a, n, axis=0) for a in (one.beta, one.factor, one.dispersion)))
    drawn = integrals.draw(at, np.random.default_rng(5))
    q, axis = integrals.q, np.linspace(-6, 6, 121)
    u = np.stack(np.meshgrid(*[axis] * q, indexing="ij"), axis=-1).reshape(-1, q)
    for level in range(3):
        logs = np.array([log_rows(design, one, 0, level, one.factor[0] @ x) for x in u]) - 0.5 * (u * u).sum(axis=1)
        density = np.exp(logs - logs.max()).reshape([121] * q)
        margin = density if q == 1 else density.sum(axis=1)
        middle = 0.5 * (margin[1:] + margin[:-1])
        ranks = np.interp(drawn[:, level, 0], axis, np.concatenate([[0.0], np.cumsum(middle)]) / middle.sum())
        assert stats.kstest(ranks, "uniform").pvalue > 1e-4


def test_hermite_grid_integrates_polynomials_exactly() -> None:
    x, log_weights = hermite_grid(5, 2)
    w = np.exp(log_weights)
    assert w.sum() == pytest.approx(1.0)
    # E x^8 = 105, E x^4 y^6 = 3 * 15 for independent standard normal x and y
    assert float(w @ x[0] ** 8) == pytest.approx(105.0)
    assert float(w @ (x[0] ** 4 * x[1] ** 6)) == pytest.approx(45.0)
