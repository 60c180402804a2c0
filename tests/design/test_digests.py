"""Digests of the fitted columns: the same after a text file, other after any change that counts."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest

from unimix.design.digests import DataDigest, weighted_sums
from unimix.design.typed_columns import FactorColumn, NumericColumn

N = 5000
RNG = np.random.default_rng(11)
KINDS = {
    "normal": RNG.normal(size=N),
    "far from zero": 2000 + 1e-3 * RNG.normal(size=N),
    "heavy tails": RNG.standard_cauchy(size=N) ** 3,
    "mostly zero": np.where(RNG.random(N) < 0.9, 0.0, RNG.normal(size=N)),
    "tiny": 1e-200 * RNG.normal(size=N),
    "huge": 1e150 * RNG.normal(size=N),
    "whole": RNG.integers(0, 9, N).astype(float),
    "two values": np.repeat([0.0, 1.0], N // 2),
    "zero": np.zeros(N),
}


def differing(a: np.ndarray, b: np.ndarray) -> list[str]:
    digests = [DataDigest.of({"x": NumericColumn(v)}, {}) for v in (a, b)]
    assert digests[0] == DataDigest.model_validate_json(digests[0].model_dump_json())
    return digests[0].differing(digests[1], len(a))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("digits", [15, 17])
def test_numbers_written_to_a_text_file_are_the_same(kind: str, digits: int) -> None:
    text = io.StringIO()
    pd.DataFrame({"x": KINDS[kind]}).to_csv(text, float_format=f"%.{digits}g", index=False)
    text.seek(0)
    assert differing(KINDS[kind], pd.read_csv(text)["x"].to_numpy(dtype=float)) == []


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "zero"])
def test_other_numbers_are_seen(kind: str) -> None:
    values = KINDS[kind]
    scale = float(np.median(np.abs(values))) or 1.0
    one = values.copy()
    one[N // 3] += 1e-4 * (abs(one[N // 3]) + scale)
    first, second = 3, int(np.flatnonzero(values != values[3])[-1])
    swapped = values.copy()
    swapped[[first, second]] = swapped[[second, first]]
    others = {
        "one value": one,
        "two rows swapped": swapped,
        "shuffled": np.random.default_rng(1).permutation(values),
        "reversed": values[::-1],
        "sign": -values,
        "times 2": 2 * values,
        "shifted": values + scale,
    }
    assert [what for what, other in others.items() if differing(values, other) != ["x"]] == []


def test_zeros_and_an_empty_column() -> None:
    assert weighted_sums(np.zeros(4)) == (0.0, 0.0, 0.0)
    assert weighted_sums(np.empty(0)) == (0.0, 0.0, 0.0)
    assert differing(np.zeros(4), np.array([0.0, 0.0, 1e-300, 0.0])) == ["x"]


def test_levels_and_groups() -> None:
    codes = np.array([0, 1, 2, 0])
    own = DataDigest.of({"f": FactorColumn(codes, ("a", "b", "c"))}, {"g": codes})
    other = DataDigest.of({"f": FactorColumn(codes[::-1], ("a", "b", "c"))}, {"g": codes[::-1]})
    assert own.differing(own, 4) == []
    assert own.differing(other, 4) == ["f", "g"]
    assert own.differing(DataDigest.of({}, {"g": codes}), 4) == []
