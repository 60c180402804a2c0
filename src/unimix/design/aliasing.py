"""Linear dependence of columns, determined once for every engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


FloatArray = npt.NDArray[np.float64]

# A column that is a combination of others has a residual of about 1e-15 of its length; an independent column
# with a large mean (a year, a timestamp) has a residual as large as its coefficient of variation.
TOLERANCE = 1e-10
CELLS = 100_000
"""Numbers in one block of rows (0.8 MB): the block fits into a processor's cache."""


def row_blocks(n: int, width: int) -> Iterator[slice]:
    """Split rows into slices of about :data:`CELLS` numbers each.

    Args:
        n: Number of rows.
        width: Number of columns.
    """
    size = max(CELLS // max(width, 1), width, 1)
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def triangular_factor(rows: Callable[[slice], FloatArray], n: int, width: int) -> FloatArray:
    """R of the QR decomposition of a tall matrix, computed from blocks of its rows.

    This is the sequential TSQR of Demmel, Grigori, Hoemmen & Langou (2012), SIAM J. Sci. Comput. 34:A206, section 3.
    It is as stable as Householder's method and never copies the whole matrix.

    Args:
        rows: Function that returns the rows of a slice, shape (m, width).
        n: Number of rows.
        width: Number of columns.

    Returns:
        Upper triangular matrix, shape (min(n, width), width).
    """
    r = np.empty((0, width))
    for part in row_blocks(n, width):
        r = np.asarray(np.linalg.qr(np.concatenate([r, rows(part)]) if len(r) else rows(part), mode="r"))
    return r


def largest_entries(x: FloatArray) -> FloatArray:
    """Largest absolute value of each column, shape (p,); 1 for a column of zeros."""
    largest = np.maximum(x.max(axis=0, initial=0.0), -x.min(axis=0, initial=0.0))
    return np.where(largest > 0, largest, 1.0)


def independent_columns(x: FloatArray, tolerance: float = TOLERANCE) -> tuple[int, ...]:
    """Select columns from left to right that do not depend linearly on those already selected.

    This is the limited pivoting of R's ``qr`` (LINPACK ``dqrdc2``), which drops the later of two dependent columns.

    Args:
        x: Columns, shape (n, p).
        tolerance: Smallest residual of an independent column, relative to the column's length.

    Returns:
        Indices of the columns kept, in increasing order.
    """
    n, p = x.shape
    largest = largest_entries(x)  # the squares of very large or small numbers overflow or underflow
    lengths = np.sqrt(sum((((x[part] / largest) ** 2).sum(axis=0) for part in row_blocks(n, p)), np.zeros(p)))
    unit = largest * np.where(lengths > 0, lengths, 1.0)
    r = triangular_factor(lambda part: x[part] / unit, n, p)
    if n >= p and (np.abs(np.diag(r)) > tolerance).all():
        return tuple(range(p))
    x = x / largest
    basis = np.empty((x.shape[0], 0))
    kept: list[int] = []
    for j in range(x.shape[1]):
        if lengths[j] == 0 or len(kept) == x.shape[0]:
            continue
        column = x[:, j] / lengths[j]
        for _ in range(2):  # two passes of Gram-Schmidt are orthogonal up to rounding error
            column = column - basis @ (basis.T @ column)
        residual = np.linalg.norm(column)
        if residual > tolerance:
            basis = np.column_stack([basis, column / residual])
            kept.append(j)
    return tuple(kept)


def residual_scale(y: FloatArray, x: FloatArray, weights: FloatArray | None, offset: FloatArray | None) -> float:
    """Root mean square of the (weighted) least-squares residuals; 0.0 if it is no larger than rounding error."""
    n, p = x.shape
    heaviest = 1.0 if weights is None else float(weights.max())
    unit = max(float(np.abs(a).max(initial=0.0)) for a in (y, offset) if a is not None)
    if unit == 0:
        return 0.0
    target = y / unit if offset is None else y / unit - offset / unit
    root = np.ones(1)
    if weights is not None:
        root = np.sqrt(weights / heaviest)
        target = root * target
    every = np.broadcast_to(root, n)
    squares = float(every @ every)
    spread = float(np.linalg.norm(target - every * ((every @ target) / squares)))
    largest = largest_entries(x)

    def rows(part: slice) -> FloatArray:
        return np.column_stack([every[part, None] * (x[part] / largest), target[part]])

    r = triangular_factor(rows, n, p + 1)
    # large terms that cancel (the slope of a year against the intercept) contribute their own rounding error
    lengths = np.linalg.norm(r[:, :p], axis=0)
    coefficients = np.linalg.lstsq(r[:p, :p] / np.where(lengths > 0, lengths, 1.0), r[:p, p], rcond=None)[0]
    terms = float(np.sqrt(squares)) + float(np.abs(coefficients).sum())
    size = abs(float(r[p, p])) if n > p else 0.0
    limit = max(64 * float(np.finfo(np.float64).eps) * terms, 1e-11 * spread)
    return 0.0 if size <= limit else unit * float(np.sqrt(heaviest / n)) * size


def unlike(dropped: FloatArray, kept: FloatArray, weights: FloatArray, sizes: FloatArray) -> npt.NDArray[np.bool_]:
    """Rows in which a dropped column is not the combination of the kept columns that it was in the fitted data.

    Args:
        dropped: Columns that were left out, shape (n, d).
        kept: Columns that were kept, shape (n, p).
        weights: The combinations, shape (p, d).
        sizes: Largest absolute value of each dropped column in the fitted data, shape (d,).

    Returns:
        Mask of the rows, shape (n,).
    """
    # Rounding errors grow with the terms of a row's own sum, and with the values that the weights were learnt from.
    terms = np.abs(kept) @ np.abs(weights) + np.abs(dropped)
    return np.asarray((np.abs(dropped - kept @ weights) > 1e-8 * terms + 1e-7 * sizes).any(axis=1))
