"""Rows compressed by cell have the cross-products of all rows, whatever their order, partition and scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unimix.likelihood.lmm.compressed_rows import CellRows, compressed, factor

FloatArray = Any


def rows(n: int, k: int, levels: tuple[int, ...], seed: int = 1) -> CellRows:
    rng = np.random.default_rng(seed)
    cells = np.column_stack([rng.integers(0, c, n) for c in levels]) if levels else np.empty((n, 0), dtype=np.int64)
    return CellRows(rng.normal(size=(n, k)), cells)


def by_cell(of: CellRows) -> dict[tuple[int, ...], FloatArray]:
    sums: dict[tuple[int, ...], FloatArray] = {}
    for cell in np.unique(of.cells, axis=0) if of.cells.shape[1] else [()]:
        chosen = (of.cells == cell).all(axis=1) if len(cell) else slice(None)
        sums[tuple(map(int, cell))] = of.values[chosen].T @ of.values[chosen]
    return sums


@pytest.mark.parametrize("levels", [(), (1,), (7,), (900,), (5, 40)])
@pytest.mark.parametrize("k", [1, 3, 20])
def test_every_cell_keeps_its_cross_products(levels: tuple[int, ...], k: int) -> None:
    all_rows = rows(1500, k, levels)
    fewer = compressed([all_rows])
    expected, found = by_cell(all_rows), by_cell(fewer)
    assert expected.keys() == found.keys()
    for cell, products in expected.items():
        # the backward error of a QR decomposition is some roundoffs times the length of each column
        size = np.sqrt(np.outer(np.diag(products), np.diag(products)))
        assert (np.abs(found[cell] - products) <= 1e-13 * size).all()
    most = np.unique(fewer.cells, axis=0, return_counts=True)[1].max() if levels else len(fewer.values)
    assert most <= k


def test_a_single_cell_of_many_rows_is_one_triangle() -> None:
    all_rows = rows(5000, 4, (1,))
    found = compressed([all_rows]).values
    # the Cholesky factor is computed from the cross-products, and so by another road
    np.testing.assert_allclose(found, np.linalg.cholesky(all_rows.values.T @ all_rows.values).T, atol=1e-11)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    cuts=st.lists(st.integers(1, 399), max_size=6),
    levels=st.sampled_from([(3,), (60,), (4, 6)]),
)
def test_order_and_partition_do_not_matter(seed: int, cuts: list[int], levels: tuple[int, ...]) -> None:
    all_rows = rows(400, 3, levels, seed)
    order = np.random.default_rng(seed).permutation(400)
    parts = [compressed([CellRows(all_rows.values[p], all_rows.cells[p])]) for p in np.split(order, sorted({*cuts}))]
    once, expected = by_cell(compressed(parts)), by_cell(all_rows)
    assert once.keys() == expected.keys()
    for cell, products in expected.items():
        np.testing.assert_allclose(once[cell], products, atol=1e-12 * np.abs(products).max())


def test_columns_in_awkward_units_lose_no_more_than_their_own_rounding() -> None:
    rng = np.random.default_rng(2)
    x = 1e6 + rng.normal(size=4000)  # a mean of a million standard deviations
    values = np.column_stack([np.ones(4000), x, 1e-9 * rng.normal(size=4000)])
    r = compressed([CellRows(values, np.zeros((4000, 1), dtype=np.int64))]).values
    # the spread of x about its mean is the second diagonal element; cross-products would keep 4 of its 16 digits
    assert r[1, 1] == pytest.approx(np.sqrt(np.sum((x - x.mean()) ** 2)), rel=1e-9)
    assert abs(r[2, 2]) == pytest.approx(
        np.linalg.norm(values[:, 2] - np.linalg.lstsq(values[:, :2], values[:, 2])[0] @ values[:, :2].T), rel=1e-9
    )


def test_a_column_of_zeros_stays_zero() -> None:
    values = rows(300, 3, (2,)).values
    values[:, 1] = 0.0
    assert (compressed([CellRows(values, np.zeros((300, 1), dtype=np.int64))]).values[:, 1] == 0).all()


def test_a_factor_grows_by_rows() -> None:
    values = rows(200, 4, ()).values
    r = factor(factor(np.empty((0, 4)), values[:90]), values[90:])
    np.testing.assert_allclose(r.T @ r, values.T @ values, atol=1e-11)
