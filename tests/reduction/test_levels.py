"""Distinct values and codes of numeric grouping factors, against NumPy's sorting functions."""

from __future__ import annotations

import numpy as np
import pytest

from unimix.design.typed_columns import NumericColumn
from unimix.errors import DataError
from unimix.likelihood.lmm.compressed_rows import CellRows, compressed
from unimix.reduction.levels import LevelSet

RNG = np.random.default_rng(0)
VALUES = {
    "dense": RNG.integers(-40, 400, 1000).astype(float),
    "with gaps": RNG.choice([3.0, 7.0, 90_000.0], 1000),
    "sparse": RNG.integers(0, 10**15, 1000).astype(float),
    "fractions": RNG.choice([0.5, 1.0, 1.5], 1000),
    "one": np.full(10, -2.0),
    "zero of either sign": np.array([0.0, -0.0, 1.0]),
}


@pytest.mark.parametrize("kind", VALUES)
def test_codes_are_those_of_sorting(kind: str) -> None:
    values = VALUES[kind]
    levels = LevelSet.of("g", NumericColumn(values))
    assert levels is not None
    np.testing.assert_array_equal(levels.numbers, np.unique(values))
    np.testing.assert_array_equal(
        levels.codes(NumericColumn(values), "here"), np.unique(values, return_inverse=True)[1]
    )


@pytest.mark.parametrize("strange", [-41.0, 400.0, 3.5, 1e300, -1e300])
def test_a_value_that_is_no_level_is_refused(strange: float) -> None:
    levels = LevelSet.of("g", NumericColumn(VALUES["dense"]))
    assert levels is not None
    with pytest.raises(DataError, match="has levels in part 2 that were not there"):
        levels.codes(NumericColumn(np.array([1.0, strange])), "part 2")


def test_missing_values_have_no_code() -> None:
    levels = LevelSet.of("g", NumericColumn(np.array([2.0, np.nan, 5.0])))
    assert levels is not None
    np.testing.assert_array_equal(levels.codes(NumericColumn(np.array([5.0, np.nan, 2.0])), "here"), [1, -1, 0])


@pytest.mark.parametrize("top", [3, 70_000, 2**40])
def test_rows_of_a_cell_keep_their_order(top: int) -> None:
    """Few rows per cell are only sorted, stably: NumPy's stable sort is the reference."""
    cells = RNG.integers(0, top, 500)
    values = np.arange(500.0)[:, None] * np.ones(600)
    found = compressed([CellRows(values, cells[:, None])])
    order = np.argsort(cells, kind="stable")
    np.testing.assert_array_equal(found.cells[:, 0], cells[order])
    np.testing.assert_array_equal(found.values[:, 0], order)
