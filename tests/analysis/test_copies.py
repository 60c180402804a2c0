"""A weight of a count model stands for copies of its row: every answer is that of the data written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import unimix as um

Pair = tuple[um.FitResult, um.FitResult]


@pytest.fixture(scope="module")
def pairs() -> tuple[Pair, Pair]:
    """Two models of weighted rows, and of the same rows written out."""
    rng = np.random.default_rng(1)
    n = 90
    columns = {"x": rng.normal(2, 1, n), "f": rng.choice(list("abc"), n), "w": rng.integers(1, 5, n)}
    data = pd.DataFrame({**columns, "g": [f"g{i % 9}" for i in range(n)]})
    data["y"] = rng.poisson(np.exp(0.2 + 0.3 * data["x"] + rng.normal(0, 0.5, 9)[np.arange(n) % 9]))
    copies = data.loc[data.index.repeat(data["w"])].reset_index(drop=True)
    formulas = ("y ~ x + f + (1 + x | g)", "y ~ x + (1 | g)")
    weighted = tuple(um.fit(f, data, "pls", family="poisson", weights="w") for f in formulas)
    written = tuple(um.fit(f, copies, "pls", family="poisson") for f in formulas)
    return weighted, written  # type: ignore[return-value]


def criteria(fits: Pair) -> Any:
    table = um.compare_ic(*fits).table
    return table[["aic", "aicc", "bic", "weight"]]


def change(how: str) -> Callable[[Pair], Any]:
    new = pd.DataFrame({"x": [1.0], "f": ["a"], "g": ["g1"]})
    return lambda fits: fits[0].comparisons({"x": how}, newdata=new).table["estimate"]


@pytest.mark.parametrize(
    "answer",
    [
        criteria,
        lambda fits: fits[0].r2().table["value"],
        lambda fits: fits[0].icc().table,
        lambda fits: fits[0].effect_sizes().table,
        change("sd"),
        change("2sd"),
        change("iqr"),
        change("minmax"),
    ],
    ids=["information criteria", "r2", "icc", "effect sizes", "sd", "2sd", "iqr", "minmax"],
)
def test_answers_are_those_of_the_copies(pairs: tuple[Pair, Pair], answer: Callable[[Pair], Any]) -> None:
    """1e-4: both searches end within the tolerance of the optimizer."""
    weighted, written = (np.asarray(answer(p), dtype=float) for p in pairs)
    np.testing.assert_allclose(weighted, written, rtol=1e-4)
