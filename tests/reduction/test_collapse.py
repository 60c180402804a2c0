"""Collapsed rows have the likelihood of all rows but for a constant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import unimix as um


def make(n: int = 3000) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"g": rng.integers(0, 12, n), "f": rng.choice(["a", "b"], n), "x": rng.integers(0, 3, n)})
    eta = -0.3 + 0.4 * (data["f"] == "b") + 0.2 * data["x"] + 0.5 * rng.normal(size=12)[data["g"]]
    data["right"] = rng.uniform(size=n) < 1 / (1 + np.exp(-eta))
    data["k"], data["of"] = rng.binomial(4, 1 / (1 + np.exp(-eta))), 4
    data["hours"] = rng.choice([1.0, 2.0], n)
    data["n"] = rng.poisson(data["hours"] * np.exp(eta))
    data.loc[3, "x"] = np.nan
    return data


DATA = make()
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "yes or no": ("right ~ f + x + (1 | g)", {"family": "binomial"}),
    "successes and failures": ("cbind(k, of - k) ~ f + x + (1 | g)", {"family": "binomial"}),
    "counts": ("n ~ f + x + offset(log(hours)) + (1 | g)", {"family": "poisson"}),
}


@pytest.mark.parametrize("name", list(MODELS))
def test_a_collapsed_model_is_the_model(name: str, tmp_path: Path) -> None:
    formula, arguments = MODELS[name]
    for i in range(3):
        DATA.iloc[i::3].to_parquet(tmp_path / f"{i}.parquet")
    collapsed = um.collapse(str(tmp_path), formula, **arguments)
    assert collapsed.n_obs == 2999
    assert collapsed.missing == {"x": 1}
    assert len(collapsed.data) <= 144
    rows, fewer = um.fit(formula, DATA, **arguments), um.fit(collapsed.formula, collapsed.data, **arguments)
    # the searches end where a step no longer changes the likelihood, 1e-5 of it here
    apart = np.abs(rows.fixed.estimate - fewer.fixed.estimate) / rows.fixed.std_error
    assert apart.max() < 1e-3
    np.testing.assert_allclose(fewer.fixed.std_error, rows.fixed.std_error, rtol=1e-3)
    assert fewer.log_likelihood - collapsed.constant == pytest.approx(rows.log_likelihood, abs=1e-5)


def test_a_file_with_one_outcome_is_collapsed(tmp_path: Path) -> None:
    for i, part in DATA.dropna().groupby("right"):
        part.to_parquet(tmp_path / f"{i}.parquet")
    apart = um.collapse(str(tmp_path), "right ~ f + (1 | g)", family="binomial").data
    pd.testing.assert_frame_equal(apart, um.collapse(DATA.dropna(), "right ~ f + (1 | g)", family="binomial").data)


@pytest.mark.parametrize(
    ("formula", "family", "message"),
    [
        ("n ~ x + (1 | g)", "negative_binomial", "cannot be collapsed"),
        ("n ~ x + (1 | g)", um.families.Poisson(link="sqrt"), "cannot be collapsed"),
        ("n ~ scale(x) + (1 | g)", "poisson", "depends on how often each row occurs"),
        ("n ~ rows + (1 | g)", "poisson", "called 'rows'"),
    ],
)
def test_what_cannot_be_collapsed_is_refused(formula: str, family: Any, message: str) -> None:
    with pytest.raises(um.UnimixError, match=message):
        um.collapse(DATA.assign(rows=1), formula, family=family)
