"""A second, far higher maximum is found, and the end of a search is judged by what is left to gain."""

from __future__ import annotations

import numpy as np
import pytest

import unimix as um
from unimix.design.arrays import Design
from unimix.design.design import build_design
from unimix.formula.interpreter import parse
from unimix.likelihood.lmm import gls
from unimix.likelihood.lmm.conditioning import condition, relative_factors
from unimix.likelihood.lmm.newton_decrement import left_to_gain
from unimix.likelihood.lmm.starts import likely_starts

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
    starts = likely_starts(design.y, design.x, design.blocks, reml=True)
    values = [gls.profile(design.y, design.x, design.blocks, tuple(f @ f.T for f in s), reml=True)[0] for s in starts]
    assert values == sorted(values, reverse=True)
    zero = tuple(np.zeros((b.q, b.q)) for b in design.blocks)
    assert values[0] > gls.profile(design.y, design.x, design.blocks, zero, reml=True)[0] + 50


@pytest.mark.parametrize("backend", ["lme4", "pymer4", "statsmodels"])
def test_engines_find_the_higher_maximum(backend: str) -> None:
    fit = um.fit(FORMULA, cancelling(), backend=backend, df_method="normal")
    # One search of lme4 from its own start ends on the boundary at -459.647 and calls that converged.
    assert fit.log_likelihood > -380.2
    assert fit.status.state == "converged"


@pytest.mark.r
def test_nothing_is_left_to_gain_at_an_optimum_and_the_right_amount_beside_it() -> None:
    data = um.load_dataset("sleepstudy")
    formula = "Reaction ~ Days + (1 + Days | Subject)"
    fit = um.fit(formula, data, backend="lme4")
    design = build_design(parse(formula), data)
    factors = relative_factors((np.array(fit.random[0].covariance),), fit.sigma)
    assert left_to_gain(design.y, design.x, design.blocks, factors, reml=True) < 1e-6
    moved = (factors[0] * 1.05,)
    value = gls.profile(design.y, design.x, design.blocks, (moved[0] @ moved[0].T,), reml=True)[0]
    promised = left_to_gain(design.y, design.x, design.blocks, moved, reml=True)
    # The criterion is a parabola near its maximum: what the Newton step promises is the distance, within a tenth.
    assert promised == pytest.approx(fit.log_likelihood - value, rel=0.1)
