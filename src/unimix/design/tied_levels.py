"""Sets of levels of several grouping factors that are connected by rows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


class TiedLevels(NamedTuple):
    """Sets of levels such that no row has levels of two sets; for nested factors, one set per level of the outer one.

    Attributes:
        n_sets: Number of independent sets.
        sets: For each block, the index of the set of each of its levels, shapes (L,).
    """

    n_sets: int
    sets: tuple[IntArray, ...]


def tied_levels(factors: Sequence[tuple[IntArray, int]]) -> TiedLevels:
    """Find the independent sets of levels.

    Args:
        factors: Level index per row, shape (n,), and number of levels of each factor.
    """
    if not factors:
        return TiedLevels(0, ())
    if all(codes is factors[0][0] for codes, _ in factors):
        identity = np.arange(factors[0][1])
        return TiedLevels(len(identity), tuple(identity for _ in factors))
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    starts = np.cumsum([0, *(levels for _, levels in factors)])
    rows = [starts[0] + factors[0][0]] * (len(factors) - 1)
    columns = [start + codes for start, (codes, _) in zip(starts[1:-1], factors[1:], strict=True)]
    i, j = np.concatenate(rows), np.concatenate(columns)
    graph = sparse.coo_array((np.ones(len(i)), (i, j)), shape=(starts[-1], starts[-1]))
    count, labels = connected_components(graph, directed=False)
    return TiedLevels(int(count), tuple(labels[a:b].astype(np.int64) for a, b in itertools.pairwise(starts)))
