"""A second, far higher maximum is found, and the end of a search is judged by its remaining improvement."""

from __future__ import annotations

import numpy as np
import pytest
from dense_effects import dense_effects
from scipy.optimize import minimize_scalar

import unimix as um
from unimix.backends import likely_starts
from unimix.design.arrays import Design
from unimix.design.design import build_design
from unimix.formula.interpreter import parse
from unimix.likelihood.lmm.conditioning import condition
from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.likelihood.lmm.evaluation import Evaluation
from unimix.likelihood.lmm.newton_decrement import differences, newton_gain
from unimix.likelihood.lmm.penalised_least_squares import profile
from unimix.likelihood.lmm.starts import em
from unimix.testing import dense

FORMULA = "y ~ x + (1 | a:b) + (0 + x | a)"


def cancelling(seed: int = 4) -> dict[str, object]:
    """Slopes differ, x is far from zero, and no intercept varies over a: large effects that cancel fit best."""
    rng = np.random.default_rng(seed)
    a, b = np.repeat(np.arange(6), 15), np.tile(np.repeat(np.arange(5), 3), 6)
    z = rng.normal(size=90)
    y = z + 5 * rng.normal(size=30)[a * 5 + b] + 40 * rng.normal(size=6)[a] * z + rng.normal(size=90)
    return {"y": y, "x": z + 30, "a": [f"a{i}" for i in a], "b": [f"b{i}" for i in b]}


def conditioned(formula: str, data: object) -> Design:
    return condition(build_design(parse(formula), data))[0]


def test_starts_reach_both_maxima() -> None:
    design = conditioned(FORMULA, cancelling())
    criterion = LinearCriterion.of(design)
    starts = likely_starts(design, reml=True)
    values = [criterion.profiled([f @ f.T for f in s], reml=True)[0] for s in starts]
    assert values == sorted(values, reverse=True)
    zero = [np.zeros((b.q, b.q)) for b in design.blocks]
    assert values[0] > criterion.profiled(zero, reml=True)[0] + 50


def test_em_steps_are_those_of_laird_and_ware() -> None:
    """One step from unit factors, with the conditional moments of the joint normal written down in full."""
    design = conditioned("y ~ x + (1 + x | a) + (1 | b)", cancelling())
    data = LinearCriterion.of(design).data
    start = [np.eye(b.q) for b in design.blocks]
    sigma = profile(data, start, reml=True).sigma
    covariances = tuple(sigma**2 * f @ f.T for f in start)
    beta, _ = dense.gls(design, covariances, sigma)
    modes, mode_covs, _ = dense_effects(design, beta, [sigma * f for f in start], sigma)
    residual, freedom = design.y - design.x @ beta, 0.0
    for block, c, m, v in zip(design.blocks, covariances, modes, mode_covs, strict=True):
        residual = residual - np.einsum("nq,nq->n", block.z, m[block.codes])
        freedom += m.size - np.trace(np.linalg.solve(c, v.sum(axis=0)))
    variance = (residual @ residual + sigma**2 * freedom) / design.n
    made = em(data, start, 1)
    for f, m, v in zip(made, modes, mode_covs, strict=True):
        np.testing.assert_allclose(f @ f.T, (m.T @ m / len(m) + v.mean(axis=0)) / variance, rtol=1e-9)


@pytest.mark.parametrize("backend", ["lme4", "pymer4", "statsmodels"])
def test_engines_find_the_higher_maximum(backend: str) -> None:
    fit = um.fit(FORMULA, cancelling(), backend=backend, df_method="normal")
    # One search of lme4 from its own start ends on the boundary at -459.647 and calls that converged.
    assert fit.log_likelihood > -380.2
    assert fit.status.state == "converged"


@pytest.mark.r
def test_nothing_is_left_to_gain_at_an_optimum_and_the_right_amount_beside_it() -> None:
    data = um.load_dataset("sleepstudy")
    fit = um.fit("Reaction ~ Days + (1 + Days | Subject)", data, backend="lme4")
    criterion = LinearCriterion.of(fit.design())
    covariance = np.array(fit.random[0].covariance)
    assert criterion.at([covariance], fit.sigma, reml=True).newton_decrement < 1e-6
    beside = criterion.at([1.1 * covariance], fit.sigma, reml=True)
    value = criterion.profiled([1.1 * covariance / fit.sigma**2], reml=True)[0]
    # The criterion is a parabola near its maximum: what the Newton step promises is the distance, within a tenth.
    assert beside.newton_decrement == pytest.approx(fit.log_likelihood - value, rel=0.1)


@pytest.mark.parametrize("formula", ["y ~ x + (1 + x | a)", "y ~ x + (1 | a) + (1 | b)", FORMULA])
@pytest.mark.parametrize("reml", [True, False])
def test_the_newton_decrement_is_that_of_central_differences(formula: str, reml: bool) -> None:
    """By differences (steps of 1e-3 of each element) of the n x n density; a zero element of the factor stays zero."""
    rng = np.random.default_rng(8)
    frame = {**cancelling(), "y": rng.normal(size=90) + rng.normal(size=6)[np.repeat(np.arange(6), 15)]}
    design = conditioned(formula, frame)
    best = LinearCriterion.of(design).optimum(reml=reml)
    factors = [np.where(np.abs(f) < 1e-3, 0.0, 1.05 * f) for f in best.factors]
    cells = [(k, i, j) for k, f in enumerate(factors) for i, j in np.argwhere(f)]

    def value(moves: dict[int, float]) -> float:
        moved = [f.copy() for f in factors]
        for c, times in moves.items():
            moved[cells[c][0]][cells[c][1:]] *= 1 + 1e-3 * times

        def at(sigma: float) -> float:
            return -dense.log_likelihood(design, tuple(sigma**2 * f @ f.T for f in moved), sigma, reml=reml)

        return -float(minimize_scalar(at, bounds=(0.2, 5.0), options={"xatol": 1e-9}, method="bounded").fun)

    wanted = newton_gain(*differences(value, len(cells)))
    found = Evaluation(LinearCriterion.of(design).data, tuple(factors), 1.0, reml).newton_decrement
    assert found == pytest.approx(wanted, rel=1e-3, abs=1e-6)
