"""Confidence intervals of expected responses under zero inflation hold the errors of both parts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.analysis.prediction.draws import conditional_at, conditional_of_both_parts
from unimix.likelihood.glmm.laplace import laplace_at

pytestmark = pytest.mark.r


def test_standard_errors_are_those_of_both_parts() -> None:
    rng = np.random.default_rng(5)
    n = 300
    data = pd.DataFrame({"x": rng.normal(size=n), "g": [f"g{i % 10}" for i in range(n)]})
    u = rng.normal(0, 0.6, 10)
    data["y"] = np.where(rng.random(n) < 0.4, 0, rng.poisson(np.exp(0.3 + 0.3 * data["x"] + u[np.arange(n) % 10])))
    fit = um.fit("y ~ x + (1 | g)", data, "glmmtmb", family="poisson", ziformula="~ x")
    new = pd.DataFrame({"x": [0.0, 1, -1, 2], "g": ["g0", "g1", "g2", "g3"]})
    table = fit.predict(new, level="population", interval="confidence").table
    # R 4.2.2, glmmTMB 1.1.5: predict(m, newdata, type = "response", re.form = NA, se.fit = TRUE)
    assert table["estimate"].tolist() == pytest.approx([0.9587497, 1.2735647, 0.7210958, 1.6902277], rel=1e-5)
    assert table["std_error"].tolist() == pytest.approx([0.1971253, 0.2742872, 0.1604458, 0.4156231], rel=1e-4)
    assert (table["lower"] > 0).all()
    again = um.FitResult.from_json(fit.to_json()).with_data(data)
    pd.testing.assert_frame_equal(again.predict(new, level="population", interval="confidence").table, table)


def test_a_logit_that_runs_off_has_no_standard_error() -> None:
    data = pd.DataFrame({"y": np.random.default_rng(1).poisson(4.0, 200), "g": [f"g{i % 8}" for i in range(200)]})
    fit = um.fit("y ~ 1 + (1 | g)", data, "glmmtmb", family="poisson", ziformula="~ 1")
    assert np.isinf(fit.zero_inflation["std_error"]).all()
    assert fit.zero_inflation["p_value"].isna().all()
    assert np.isfinite(fit.fixed_effects["std_error"]).all()


def zero_inflated_counts(groups: int, size: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(groups), size), rng.normal(size=groups * size)
    counts = rng.poisson(np.exp(0.3 + 0.3 * x + 0.8 * rng.normal(size=groups)[g]))
    return pd.DataFrame({"x": x, "g": [f"g{i}" for i in g], "y": np.where(rng.random(len(g)) < 0.4, 0, counts)})


def test_standard_errors_with_group_effects_are_those_of_glmmtmb() -> None:
    """glmmTMB's also hold the error of the SD, which is below 1 % of them at 100 levels with 12 rows each."""
    from rpy2 import robjects

    fit = um.fit("y ~ x + (1 | g)", zero_inflated_counts(100, 12, 3), "glmmtmb", family="poisson", ziformula="~ x")
    predict = robjects.r("function(m, type) as.numeric(predict(m, type = type, se.fit = TRUE)$se.fit)")
    for kind in ("response", "link"):
        theirs = np.asarray(predict(fit.native, kind))
        ours = fit.predict(kind=kind, interval="confidence").table["std_error"].to_numpy()
        ratio = ours / theirs
        assert np.median(np.abs(ratio - 1)) < 0.01
        assert np.abs(ratio - 1).max() < 0.05


def test_modes_follow_the_zero_inflation() -> None:
    """The derivative of the conditional modes with respect to gamma equals differences of modes that are searched."""
    data = zero_inflated_counts(12, 8, 4)
    fit = um.fit("y ~ x + (1 | g)", data, "glmmtmb", family="poisson", ziformula="~ x")
    design = fit.design()
    at = conditional_of_both_parts(fit, design)
    gamma, columns = fit.parts["zero"].estimate, design.zero.x
    covariance = np.asarray(fit.random[0].covariance)

    def modes(coefficients: np.ndarray) -> np.ndarray:
        zeta = columns @ coefficients
        return laplace_at(design, fit.fixed.estimate, [covariance], np.empty(0), zero=zeta).modes[0][:, 0]

    for j, step in enumerate(1e-4 * np.eye(2)):
        exact = (modes(gamma + step) - modes(gamma - step)) / 2e-4
        own = -at.follow[:, design.p + j] * np.sqrt(covariance[0, 0])
        assert np.abs(exact).max() > 0.01
        assert own == pytest.approx(exact, abs=1e-5)  # the modes are searched to a relative change of 1e-9


def test_the_part_without_zero_inflation_is_as_before() -> None:
    data = zero_inflated_counts(12, 8, 4)
    fit = um.fit("y ~ x + (1 | g)", data, "glmmtmb", family="poisson")
    design = fit.design()
    assert conditional_of_both_parts(fit, design).follow.shape == conditional_at(fit, design).follow.shape


def test_intervals_of_group_means_hold_the_truth_as_often_as_they_say() -> None:
    """At 95 %, over 30 groups in each of six data sets; groups of one data set share fixed effects and gamma."""
    held = []
    for seed in range(6):
        rng = np.random.default_rng([seed, 1])
        g, x = np.repeat(np.arange(30), 8), rng.normal(size=240)
        u = 0.8 * rng.normal(size=30)
        counts = rng.poisson(np.exp(0.3 + 0.3 * x + u[g]))
        data = pd.DataFrame({"x": x, "g": [f"g{i:02d}" for i in g], "y": np.where(rng.random(240) < 0.4, 0, counts)})
        fit = um.fit("y ~ x + (1 | g)", data, "glmmtmb", family="poisson", ziformula="~ 1")
        new = pd.DataFrame({"x": np.zeros(30), "g": [f"g{i:02d}" for i in range(30)]})
        table, truth = fit.predict(new, interval="confidence").table, 0.6 * np.exp(0.3 + u)
        held.append(float(((table["lower"] < truth) & (truth < table["upper"])).mean()))
    # 180 intervals: a standard error of 0.016 if independent, and about twice that as they are
    assert np.mean(held) == pytest.approx(0.95, abs=0.05)
