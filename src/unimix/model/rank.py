"""Linear dependence of columns, decided once for every engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from unimix.model.design import Design

FloatArray = npt.NDArray[np.float64]

# A column that is a combination of others leaves a residual of about 1e-15 of its length; a genuine one
# with a large mean (a year, a timestamp) leaves its coefficient of variation.
TOLERANCE = 1e-10
LARGEST_DENSE = 2000


def independent_columns(x: FloatArray, tolerance: float = TOLERANCE) -> tuple[int, ...]:
    """Pick columns from left to right that do not depend on those already picked.

    This is the limited pivoting of R's ``qr`` (LINPACK ``dqrdc2``): the later of two dependent columns goes.

    Args:
        x: Columns, shape (n, p).
        tolerance: Least residual, relative to the column's length.

    Returns:
        Indices of the columns kept, increasing.
    """
    largest = np.abs(x).max(axis=0, initial=0.0)
    x = x / np.where(largest > 0, largest, 1.0)  # squares of very large or small numbers leave the range
    lengths = np.linalg.norm(x, axis=0)
    r = np.linalg.qr(x / np.where(lengths > 0, lengths, 1.0), mode="r")
    if x.shape[0] >= x.shape[1] and (np.abs(np.diag(r)) > tolerance).all():
        return tuple(range(x.shape[1]))
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


def likelihood_is_unbounded(design: Design) -> bool:
    """Whether X and Z together span all rows while Z alone does not.

    Then V = sigma^2 I + Z Cov Z' becomes singular as sigma goes to zero, with a zero residual: the likelihood has no
    maximum. (The restricted one keeps its bound.) Looked at up to a few thousand rows.
    """
    width = sum(b.n_levels * b.q for b in design.blocks)
    if not design.blocks or design.p + width < design.n or design.n > LARGEST_DENSE:
        return False
    parts = []
    for block in design.blocks:
        spread = np.zeros((design.n, block.n_levels, block.q))
        spread[np.arange(design.n), block.codes] = block.z / np.abs(block.z).max(axis=0)
        parts.append(spread.reshape(design.n, -1))
    z = np.concatenate(parts, axis=1)
    x = design.x / np.abs(design.x).max(axis=0, initial=1e-300)
    rank = int(np.linalg.matrix_rank(z))
    return rank < design.n and int(np.linalg.matrix_rank(np.column_stack([x, z]))) == design.n


def residual_scale(y: FloatArray, x: FloatArray, weights: FloatArray | None, offset: FloatArray | None) -> float:
    """Root mean square of the (weighted) least-squares residuals, 0.0 where it is only rounding error."""
    heaviest = 1.0 if weights is None else float(weights.max())
    root = np.ones_like(y) if weights is None else np.sqrt(weights / heaviest)
    unit = max(float(np.abs(a).max(initial=0.0)) for a in (y, offset) if a is not None)
    if unit == 0:
        return 0.0
    target = root * (y / unit if offset is None else y / unit - offset / unit)
    spread = float(np.linalg.norm(target - root * (root @ target) / (root @ root)))
    terms = float(np.linalg.norm(root))
    residual = target
    if x.shape[1]:
        largest = np.abs(x).max(axis=0)
        scaled = root[:, None] * (x / np.where(largest > 0, largest, 1.0))
        lengths = np.linalg.norm(scaled, axis=0)
        q, r = np.linalg.qr(scaled / np.where(lengths > 0, lengths, 1.0))
        residual = target - q @ (q.T @ target)
        residual -= q @ (q.T @ residual)
        # large terms that cancel (a year's slope against the intercept) leave their own rounding error
        coefficients, *_ = np.linalg.lstsq(r, q.T @ target, rcond=None)
        terms += float(np.abs(coefficients).sum())
    size = float(np.linalg.norm(residual))
    limit = max(64 * float(np.finfo(np.float64).eps) * terms, 1e-11 * spread)
    return 0.0 if size <= limit else unit * float(np.sqrt(heaviest / len(y))) * size
