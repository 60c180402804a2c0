"""Solutions, determinants and parts of the inverse against NumPy's dense matrix."""

from __future__ import annotations

import numpy as np
import pytest

from unimix.design.arrays import RandomBlock
from unimix.design.tied_levels import tied_levels
from unimix.likelihood.glmm import effects_system
from unimix.likelihood.glmm.effects_system import EffectsLayout
from unimix.likelihood.lmm.sparse_effects import spread

N = 240


def blocks_of(shape: str) -> list[RandomBlock]:
    """One factor, nested factors with sets of several sizes, crossed factors, and both."""
    rng = np.random.default_rng(4)
    outer = np.sort(rng.integers(0, 9, N) ** 2 // 8)  # unequal sets
    inner = np.unique(outer * 10 + rng.integers(0, 5, N), return_inverse=True)[1]
    crossed = rng.integers(0, 6, N)
    factors = {
        "one": [(inner, 2)],
        "none": [],
        "two terms of one factor": [(inner, 1), (inner, 2)],
        "nested": [(outer, 2), (inner, 2)],
        "rows in nested factors": [(np.arange(N), 1), (inner, 1), (outer, 2)],
        "crossed": [(inner, 2), (crossed, 2)],
        "nested and crossed": [(crossed, 1), (inner, 2), (outer, 1)],
    }[shape]
    made = []
    for labels, q in factors:
        codes = np.unique(labels, return_inverse=True)[1]
        z = np.column_stack([np.ones(N), rng.normal(size=(N, 1))])[:, :q]
        made.append(RandomBlock("g", ("g",), tuple("ab"[:q]), z, codes, tuple(str(k) for k in range(codes.max() + 1))))
    return made


@pytest.mark.parametrize("dense", [False, True], ids=["by indices", "by dense products"])
@pytest.mark.parametrize(
    "shape",
    ["one", "none", "two terms of one factor", "nested", "rows in nested factors", "crossed", "nested and crossed"],
)
def test_every_part_of_the_system(shape: str, dense: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding only: the condition of A is below 1e4."""
    monkeypatch.setattr(effects_system, "DENSE", 1e9 if dense else 0)
    rng = np.random.default_rng(5)
    blocks = blocks_of(shape)
    layout = EffectsLayout(blocks, N, tied_levels([(b.codes, b.n_levels) for b in blocks]))
    factors = [np.tril(rng.normal(size=(b.q, b.q))) for b in blocks]
    weights = rng.uniform(0.2, 3.0, N)
    u = spread(blocks, factors, N).toarray()
    a = np.eye(layout.m) + u.T @ (weights[:, None] * u)
    inverse = np.linalg.inv(a)

    entries = layout.entries(factors)
    system = layout.factorise(entries, weights)
    effects, rows = rng.normal(size=layout.m), rng.normal(size=N)
    np.testing.assert_allclose(layout.times(entries, effects), u @ effects, atol=1e-12)
    np.testing.assert_allclose(layout.transposed_times(entries, rows), u.T @ rows, atol=1e-11)
    np.testing.assert_allclose(system.solve(effects), inverse @ effects, atol=1e-11)
    assert system.log_det == pytest.approx(np.linalg.slogdet(a)[1], abs=1e-10)
    through = np.take_along_axis(u @ inverse, layout.columns, axis=1)
    np.testing.assert_allclose(system.rows_of_inverse(entries), through, atol=1e-11)
    for k, (block, found) in enumerate(zip(blocks, system.diagonal_blocks(), strict=True)):
        at = layout.starts[k] + np.arange(block.n_levels)[:, None] * block.q + np.arange(block.q)
        np.testing.assert_allclose(np.tril(found), np.tril(inverse[at[:, :, None], at[:, None, :]]), atol=1e-11)
        np.testing.assert_allclose(found, found.transpose(0, 2, 1), atol=1e-11)


def test_an_indefinite_matrix_is_refused() -> None:
    for shape in ("one", "crossed"):
        blocks = blocks_of(shape)
        layout = EffectsLayout(blocks, N, tied_levels([(b.codes, b.n_levels) for b in blocks]))
        with pytest.raises(np.linalg.LinAlgError):
            layout.factorise(layout.entries([np.eye(b.q) for b in blocks]), np.full(N, -1.0))
