"""Rows of a linear mixed model in compressed form: a triangular factor per cell instead of all its rows.

A cell is a combination of levels of all grouping factors. Within a cell the likelihood depends on the rows
A = sqrt(w) [X Z y] through A'A only. With A = QR, the k rows of R have the same cross-products, so that R takes the
place of A, whatever the number of rows. Factors of parts of a cell are put together by another decomposition of the
stacked factors: the tall-skinny QR of Demmel, Grigori, Hoemmen and Langou (2012), SIAM J. Sci. Comput. 34:A206. No
cross-product is ever formed, so that a column loses no more digits than Householder's method loses on all rows at once,
whatever its unit or mean (Higham 2002, Accuracy and Stability of Numerical Algorithms, theorem 19.4: the backward error
of each column is a small multiple of the unit roundoff times the length of that column).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

AT_ONCE = 1_000_000
"""Numbers that are decomposed in one call, which bounds the memory of the padded stacks (8 MB)."""
TALLEST = 64
"""Rows (or four times the number of columns, if that is more) up to which a matrix stays in the nearest cache; the rows
of a larger cell are decomposed in pieces of that size, and then the factors of the pieces."""


@dataclass(frozen=True)
class CellRows:
    """Rows and their cells.

    Attributes:
        values: Rows scaled by the square roots of their weights, shape (m, k).
        cells: Level index of each grouping factor per row, shape (m, f); models without groups have f = 0.
    """

    values: FloatArray
    cells: IntArray

    @property
    def nbytes(self) -> int:
        """Bytes of both arrays."""
        return self.values.nbytes + self.cells.nbytes


def compressed(parts: Sequence[CellRows]) -> CellRows:
    """Put rows together and compress every cell that has more rows than columns.

    Args:
        parts: Rows with the same columns and the same grouping factors.

    Returns:
        At most k rows per cell, ordered by cell, with the same cross-products within every cell.

    Example:
        >>> rng = np.random.default_rng(1)
        >>> rows = CellRows(rng.normal(size=(1000, 3)), np.arange(1000)[:, None] % 4)
        >>> fewer = compressed([rows])
        >>> fewer.values.shape
        (12, 3)
        >>> bool(np.allclose(fewer.values.T @ fewer.values, rows.values.T @ rows.values))
        True
    """
    values = np.concatenate([p.values for p in parts])
    cells = np.concatenate([p.cells for p in parts])
    order = _order(cells)
    if order is not None:
        values, cells = values.take(order, axis=0), cells.take(order, axis=0)
    k = values.shape[1]
    while True:
        starts, sizes = _runs(cells)
        if not (sizes > k).any():
            return CellRows(values, cells)
        values, cells = _decomposed(values, cells, *_pieces(starts, sizes, max(TALLEST, 4 * k)))


def factor(r: FloatArray, rows: FloatArray) -> FloatArray:
    """Triangular factor of rows (n, k) below the rows that an earlier factor r (m, k) stands for, shape (<= k, k)."""
    return np.asarray(np.linalg.qr(np.concatenate([r, rows]), mode="r"))


def _order(cells: IntArray) -> IntArray | None:
    """Stable order of the rows by cell; None if they are in order."""
    if cells.shape[1] == 0:
        return None
    if cells.shape[1] == 1:
        only = cells[:, 0]
        return None if (only[1:] >= only[:-1]).all() else _order_of_codes(only)
    return np.lexsort(cells.T[::-1])


def _order_of_codes(codes: IntArray) -> IntArray:
    """Stable order of whole numbers, by the lower and then the upper 16 bits of their distance from the smallest.

    NumPy sorts integers of 16 bits by radix, in a third of the time of longer ones.
    """
    codes = codes - codes.min(initial=0)
    order = np.argsort((codes & 0xFFFF).astype(np.uint16), kind="stable")
    upper, shift = codes >> 16, 0
    while (rest := upper >> shift).any():
        order = order[np.argsort((rest & 0xFFFF).astype(np.uint16)[order], kind="stable")]
        shift += 16
    return order


def _runs(cells: IntArray) -> tuple[IntArray, IntArray]:
    """First row and number of rows of each cell, for rows in order."""
    new = np.ones(len(cells), dtype=bool)
    new[1:] = (cells[1:] != cells[:-1]).any(axis=1)
    starts = np.flatnonzero(new)
    return starts, np.diff(np.append(starts, len(cells)))


def _pieces(starts: IntArray, sizes: IntArray, tallest: int) -> tuple[IntArray, IntArray]:
    """First row and number of rows of the pieces into which the rows of each cell are cut."""
    counts = -(-sizes // tallest)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    offset = (np.arange(len(first)) - first) * tallest
    return np.repeat(starts, counts) + offset, np.minimum(np.repeat(sizes, counts) - offset, tallest)


def _decomposed(values: FloatArray, cells: IntArray, starts: IntArray, sizes: IntArray) -> tuple[FloatArray, IntArray]:
    """Replace every piece, a run of rows of one cell, by at most k rows."""
    k = values.shape[1]
    kept = np.minimum(sizes, k)
    ends = np.cumsum(kept)
    result = np.empty((int(ends[-1]), k))
    small = np.flatnonzero(sizes <= k)
    result[_places(ends[small] - kept[small], sizes[small])] = values[_places(starts[small], sizes[small])]
    large = np.flatnonzero(sizes > k)
    large = large[np.argsort(sizes[large], kind="stable")]
    heights = sizes[large]
    at = 0
    while at < len(large):
        # pieces of similar sizes are padded with rows of zeros, which change no factor, and decomposed together
        tallest = int(heights[at]) + max(int(heights[at]) // 8, 1)
        stop = int(np.searchsorted(heights, tallest, side="right"))
        stop = min(stop, at + max(AT_ONCE // (tallest * k), 1))
        chosen = large[at:stop]
        stack = np.zeros((len(chosen), int(heights[stop - 1]), k))
        inner = np.arange(stack.shape[1]) < sizes[chosen, None]
        stack[inner] = values[_places(starts[chosen], sizes[chosen])]
        r = np.asarray(np.linalg.qr(stack, mode="r"))
        # the factor with a non-negative diagonal is unique: it does not depend on the order of the rows
        r = r * np.where(np.diagonal(r, axis1=1, axis2=2) < 0, -1.0, 1.0)[:, :, None]
        result[_places(ends[chosen] - k, kept[chosen])] = r.reshape(-1, k)
        at = stop
    return result, np.repeat(cells[starts], kept, axis=0)


def _places(starts: IntArray, sizes: IntArray) -> IntArray:
    """Positions of runs of rows that begin at some rows, one run after the other."""
    total = np.cumsum(sizes)
    within = np.arange(int(total[-1]) if len(total) else 0) - np.repeat(total - sizes, sizes)
    return np.repeat(starts, sizes) + within


__all__ = ["CellRows", "compressed", "factor"]
