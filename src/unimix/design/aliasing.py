"""Linear dependence of columns, decided once for every engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


FloatArray = npt.NDArray[np.float64]

# A column that is a combination of others leaves a residual of about 1e-15 of its length; a genuine one
# with a large mean (a year, a timestamp) leaves its coefficient of variation.
TOLERANCE = 1e-10
CELLS = 100_000
"""Numbers of one block of rows (0.8 MB): what a processor keeps at hand, and no copy of a large matrix."""


def row_blocks(n: int, width: int) -> Iterator[slice]:
    """Slices of rows, of about :data:`CELLS` numbers each.

    Args:
        n: Number of rows.
        width: Numbers in a row.
    """
    size = max(CELLS // max(width, 1), width, 1)
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def triangular_factor(rows: Callable[[slice], FloatArray], n: int, width: int) -> FloatArray:
    """R of the QR decomposition of a tall matrix, block by block of its rows.

    The sequential TSQR of Demmel, Grigori, Hoemmen & Langou (2012), SIAM J. Sci. Comput. 34:A206, section 3; as
    stable as Householder's, and the matrix is never copied whole.

    Args:
        rows: Gives the rows of a slice, shape (m, width).
        n: Number of rows.
        width: Number of columns.

    Returns:
        Upper triangular, shape (min(n, width), width).
    """
    r = np.empty((0, width))
    for part in row_blocks(n, width):
        r = np.asarray(np.linalg.qr(np.concatenate([r, rows(part)]) if len(r) else rows(part), mode="r"))
    return r


def largest_entries(x: FloatArray) -> FloatArray:
    """Largest absolute value of each column, 1 for a column of zeros, shape (p,)."""
    found = np.maximum(x.max(axis=0, initial=0.0), -x.min(axis=0, initial=0.0))
    return np.where(found > 0, found, 1.0)


def independent_columns(x: FloatArray, tolerance: float = TOLERANCE) -> tuple[int, ...]:
    """Pick columns from left to right that do not depend on those already picked.

    This is the limited pivoting of R's ``qr`` (LINPACK ``dqrdc2``): the later of two dependent columns goes.

    Args:
        x: Columns, shape (n, p).
        tolerance: Least residual, relative to the column's length.

    Returns:
        Indices of the columns kept, increasing.
    """
    n, p = x.shape
    largest = largest_entries(x)  # squares of very large or small numbers leave the range
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
        for _ in range(2):  # Gram-Schmidt twice is orthogonal to rounding error
            column = column - basis @ (basis.T @ column)
        left = np.linalg.norm(column)
        if left > tolerance:
            basis = np.column_stack([basis, column / left])
            kept.append(j)
    return tuple(kept)


def residual_scale(y: FloatArray, x: FloatArray, weights: FloatArray | None, offset: FloatArray | None) -> float:
    """Root mean square of the (weighted) least-squares residuals, 0.0 where it is only rounding error."""
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
    # large terms that cancel (a year's slope against the intercept) leave their own rounding error
    lengths = np.linalg.norm(r[:, :p], axis=0)
    coefficients = np.linalg.lstsq(r[:p, :p] / np.where(lengths > 0, lengths, 1.0), r[:p, p], rcond=None)[0]
    terms = float(np.sqrt(squares)) + float(np.abs(coefficients).sum())
    size = abs(float(r[p, p])) if n > p else 0.0
    limit = max(64 * float(np.finfo(np.float64).eps) * terms, 1e-11 * spread)
    return 0.0 if size <= limit else unit * float(np.sqrt(heaviest / n)) * size
