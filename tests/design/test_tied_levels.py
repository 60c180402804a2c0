"""Which levels of several factors rows tie together."""

from __future__ import annotations

import numpy as np
import pytest

from unimix.design.tied_levels import tied_levels

RNG = np.random.default_rng(4)
OUTER = np.sort(np.r_[np.arange(7), RNG.integers(7, size=53)])
INNER = np.unique(OUTER * 3 + RNG.integers(3, size=60), return_inverse=True)[1]
OTHER = np.r_[np.arange(5), RNG.integers(5, size=55)]
FACTORS = {
    "one": [OUTER],
    "the same twice": [OUTER, OUTER],
    "equal codes": [OUTER, OUTER.copy()],
    "nested": [OUTER, INNER],
    "inner first": [INNER, OUTER],
    "crossed": [OUTER, OTHER, INNER],
}


@pytest.mark.parametrize("kind", list(FACTORS))
def test_sets_are_the_finest_that_no_row_joins(kind: str) -> None:
    codes = FACTORS[kind]
    count, sets = tied_levels([(c, int(c.max()) + 1) for c in codes])
    assert count == (1 if kind == "crossed" else 7)
    assert [len(s) for s in sets] == [c.max() + 1 for c in codes]
    rows = [s[c] for s, c in zip(sets, codes, strict=True)]
    assert all((r == rows[0]).all() for r in rows)
    assert len(np.unique(rows[0])) == count


def test_no_factor() -> None:
    assert tied_levels([]) == (0, ())
