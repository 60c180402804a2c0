"""Confidence intervals of expected responses under zero inflation hold the errors of both parts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import unimix as um

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
