"""Odd data frames through ``fit``: a clear error or a number that the plain likelihood confirms; never a crash."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import unimix as um
from unimix.design.design import build_design
from unimix.formula.interpreter import parse
from unimix.testing import dense

ENGINES = ["lme4", "statsmodels", "glmm", "mixedlm", "mixedlm_rs"]
FORMULAS = [
    "y ~ x", "y ~ x + (1 | g)", "y ~ x + (1 + x | g)", "y ~ x + (1 + x || g)", "y ~ f + (1 | g)", "y ~ x * f + (1 | g)",
    "y ~ 0 + x + (0 + x | g)", "y ~ (1 | g) + (1 | h)", "y ~ x + (1 | h/g)", "y ~ x + (f | g)", "y ~ 1",
    "y ~ x + x2 + (1 | g)",
]  # fmt: skip


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    n = draw(st.integers(0, 40))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    groups = draw(st.sampled_from([1, 2, 3, 6, n or 1]))
    g = rng.integers(0, groups, n)
    y = rng.normal(size=n) + draw(st.sampled_from([0, 0, 2.0])) * rng.normal(size=groups)[g]
    x = rng.normal(size=n)
    data = pd.DataFrame({"y": y, "x": x, "x2": 3 * x + 1, "h": rng.integers(0, 3, n)})
    data["f"] = pd.Categorical(rng.choice(["a", "b", "c"], n), categories=["c", "b", "a", "unused"])
    kind = draw(st.sampled_from(["str", "int", "category", "float", "bool", "object", "string"]))
    labels = {
        "str": lambda: [f"level {v}" for v in g], "int": lambda: g, "float": lambda: g / 2,
        "category": lambda: pd.Categorical([f"é{v}" for v in g]), "bool": lambda: g > 0,
        "object": lambda: np.array([f"{v}" for v in g], dtype=object),
        "string": lambda: pd.array([f"{v}" for v in g], dtype="string"),
    }  # fmt: skip
    data["g"] = labels[kind]()
    change = draw(
        st.sampled_from(
            ["none", "none", "none", "scale", "shift", "nan", "inf", "constant", "int", "Int64", "float32", "huge"]
        )
    )
    if n:
        match change:
            case "scale":
                data["x"] *= draw(st.sampled_from([1e-9, 1e6]))
            case "shift":
                data["x"] += 1e5
            case "nan":
                for column in draw(st.sets(st.sampled_from(["y", "x", "f"]), min_size=1)):
                    data.loc[rng.integers(0, n), column] = None
            case "inf":
                data.loc[0, "x"] = np.inf
            case "constant":
                data["y"] = 1.5
            case "int":
                data["y"] = np.round(5 * data["y"]).astype(int)
            case "Int64":
                data["x"] = pd.array(np.round(data["x"] * 3), dtype="Int64")
            case "float32":
                data = data.astype({"y": "float32"})
            case "huge":
                data["y"] *= 1e160
    data.index = {
        "range": lambda: data.index, "same": lambda: [3] * n, "dates": lambda: pd.date_range("2020", periods=n),
        "pairs": lambda: pd.MultiIndex.from_arrays([np.arange(n), np.arange(n)[::-1]]),
    }[draw(st.sampled_from(["range", "same", "dates", "pairs"]))]()  # fmt: skip
    if draw(st.integers(0, 9)) == 0:
        data.columns = ["y", "x", "x", "h", "f", "g"]
    return data


@pytest.mark.parametrize("engine", ENGINES)
@settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(data=frames(), formula=st.sampled_from(FORMULAS), reml=st.booleans())
def test_an_error_in_words_or_the_right_number(engine: str, data: pd.DataFrame, formula: str, reml: bool) -> None:
    before = data.copy(deep=True)
    try:
        fit = um.fit(formula, data, backend=engine, method="REML" if reml else "ML", df_method="normal")
    except um.UnimixError:
        return
    finally:
        pd.testing.assert_frame_equal(data, before)
    if not fit.converged:
        assert fit.status.messages
        return
    design = build_design(parse(formula), data)
    covariances = tuple(np.array(b.covariance) for b in fit.random)
    beta, cov = dense.gls(design, covariances, fit.sigma)
    # 1e-3 SE: the rounding of a dense solve with badly scaled columns, and what optimizers leave.
    assert (np.abs(fit.fixed.estimate - beta) < 1e-3 * np.sqrt(np.diag(cov))).all()
    if not design.blocks:
        return
    own = dense.log_likelihood(design, covariances, fit.sigma, reml=reml)
    assert fit.log_likelihood == pytest.approx(own, abs=1e-3, rel=1e-6)
    for factor in (0.97, 1.03):
        assert dense.log_likelihood(design, covariances, fit.sigma * factor, reml=reml) < own + 1e-3
        for k in range(len(covariances)):
            moved = tuple(c * factor if i == k else c for i, c in enumerate(covariances))
            assert dense.log_likelihood(design, moved, fit.sigma, reml=reml) < own + 1e-3
