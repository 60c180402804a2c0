"""Compact letter displays: means that share a letter do not differ significantly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def compact_letters(differ: npt.NDArray[np.bool_], order: Sequence[int]) -> list[str]:
    """Letters of m means: two means share a letter if and only if they do not differ significantly.

    Insert and absorb (Piepho 2004, J. Comput. Graph. Stat. 13:456-466): a column of all means is split at every
    significant pair, and columns that lie within others are dropped.

    Args:
        differ: Whether each pair of means differs significantly, symmetric, shape (m, m).
        order: The means in the order in which letters are given; the first has a.

    Returns:
        Letters of each mean; capitals follow z.
    """
    m = len(differ)
    columns = [frozenset(range(m))]
    for i, j in zip(*np.nonzero(np.triu(differ, 1)), strict=True):
        split = []
        for column in columns:
            split += [column - {int(i)}, column - {int(j)}] if {int(i), int(j)} <= column else [column]
        unique = list(dict.fromkeys(split))
        columns = [c for c in unique if not any(c < other for other in unique)]
    place = {mean: k for k, mean in enumerate(order)}
    columns.sort(key=lambda c: sorted(place[k] for k in c))
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    names = [letters[k] if k < len(letters) else f"({k + 1})" for k in range(len(columns))]
    return ["".join(name for name, column in zip(names, columns, strict=True) if i in column) for i in range(m)]


__all__ = ["compact_letters"]
