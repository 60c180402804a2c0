"""Reduction of the data of a linear mixed model to the quantities that its likelihood needs.

The blocks of the grouping factor with most effects come first, stacked to q columns per level. Let Z_l be the rows of
level l, with Z_l'Z_l = C_l C_l' and Z_l = Q_l C_l', where Q_l has orthonormal columns (and zero columns if Z_l lacks
rank). Then y, X and the columns Z_2 of all other factors enter through their coordinates Q_l'[X y] and Q_l'Z_2 and
through the cross-products of the residuals. V_1 = I + Z_1 D Z_1' has the inverse
V_1^-1 = I - QQ' + Q (I + C'DC)^-1 Q', a sum of positive terms in which nothing cancels, whatever the size of D. The
cost of an evaluation depends on the number of levels, not of rows. The blocks follow MixedModels.jl (documentation,
"Details of the parameter estimation").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from unimix.design.arrays import Design, RandomBlock
from unimix.design.covariance_structures import Structure
from unimix.errors import UnsupportedModelError
from unimix.likelihood.posterior.marginal import split_blocks

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Matrix: TypeAlias = Any
"""Matrix of floats, dense or sparse (csr)."""

SMALL = 100
"""Number of effects of the other factors up to which a single dense matrix is faster than pieces."""
DENSE = 0.15
"""Share of non-zero entries above which a sparse matrix is slower than a dense one."""
NOTHING = 1e-12
"""Relative size below which the residual sum of squares of a column is rounding error."""


@dataclass(frozen=True)
class Products:
    """Reduced data of a linear mixed model, whose rows are scaled by the square roots of their weights.

    Attributes:
        n: Number of rows.
        p: Number of fixed effects.
        log_weights: Constant sum(log w) / 2.
        sizes: Numbers of columns and levels, (q, L), of every block, in the design's order.
        first: Indices of the blocks that are stacked.
        rest: Indices of the other blocks, whose m effects are ordered by block, level and column.
        c: Factors C of all levels, shape (q, q, L).
        u: Coordinates Q'[X y], shape (q, L, p + 1).
        within: Cross-products [X y]'(I - QQ')[X y], shape (p + 1, p + 1).
        u2: Coordinates Q'Z_2, shape (q * L, m), row ``i * L + l`` for coordinate i of level l.
        within2: Cross-products Z_2'(I - QQ')Z_2, shape (m, m).
        within_right: Cross-products Z_2'(I - QQ')[X y], shape (m, p + 1).
        pieces: Indices of the effects in each independent set of levels, one array per set; None for a single set.
        structures: Covariance structure of every block, in the design's order; None for an unstructured one.
        grouped: The rows by group where residuals are correlated, whose covariance matrix is then the last block; the
            fields from ``c`` on are empty.
        sigma: Known residual standard deviation; None if it is a parameter.
        relationships: Root R of every block's relationship matrix, shape (L, L), in the design's order, or None. The
            effects of such a block are u in b = (R x I) u, whose levels are independent.
    """

    n: int
    p: int
    log_weights: float
    sizes: tuple[tuple[int, int], ...]
    first: tuple[int, ...]
    rest: tuple[int, ...]
    c: FloatArray
    u: FloatArray
    within: FloatArray
    u2: Matrix
    within2: Matrix
    within_right: FloatArray
    pieces: tuple[IntArray, ...] | None
    structures: tuple[Structure | None, ...]
    grouped: Any = None
    sigma: float | None = None
    relationships: tuple[FloatArray | None, ...] = ()

    @property
    def m(self) -> int:
        """Number of effects of the other factors."""
        return len(self.within_right)

    def parts_of_rest(self) -> Iterator[tuple[int, slice]]:
        """Index of each block outside the stacked ones, and the places of its effects among the m."""
        start = 0
        for k in self.rest:
            stop = start + self.sizes[k][0] * self.sizes[k][1]
            yield k, slice(start, stop)
            start = stop

    @property
    def n_cells(self) -> int:
        """Number of cells of the covariances, which are the parameters of unstructured blocks."""
        return sum(q * (q + 1) // 2 for q, _ in self.sizes)


def form(design: Design) -> Products:
    """Reduce the data of a linear mixed model.

    Args:
        design: Gaussian design without an offset (subtract it first), with X of full rank and at least one block.
    """
    design.require_one_residual()
    if design.has_modelled_variances:
        raise UnsupportedModelError(
            "This is computed for residuals with one variance, and the variances of this model have a formula "
            "(dispformula=)."
        )
    root = None if design.weights is None else np.sqrt(design.weights)
    right = np.column_stack([design.x, design.y])
    right = right if root is None else root[:, None] * right
    first, rest = split_blocks(design.blocks)
    if first:
        z = np.concatenate([design.blocks[k].z for k in first], axis=1)
        codes, levels = design.blocks[first[0]].codes, design.blocks[first[0]].n_levels
    else:  # the levels of all factors are related: an empty column of one level stands for the first factor
        z, codes, levels = np.zeros((design.n, 1)), np.zeros(design.n, dtype=np.int64), 1
    z = z if root is None else root[:, None] * z
    order = None if (np.diff(codes) >= 0).all() else np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes if order is None else codes[order], np.arange(levels))

    def per_level(values: FloatArray) -> FloatArray:
        """Sums of rows (n, ...) over levels, shape (L, ...)."""
        return np.add.reduceat(values if order is None else values[order], starts, axis=0)

    c, inverse = _roots(_grams(z, per_level))
    basis = np.einsum("nj,njk->nk", z, np.moveaxis(inverse, 2, 0)[codes])
    q = z.shape[1]
    u = np.stack([per_level(basis[:, [i]] * right) for i in range(q)])
    residuals = right - np.einsum("ni,nir->nr", basis, np.moveaxis(u, 1, 0)[codes])
    u2, within2, within_right, pieces = _other_factors(design, rest, basis, codes, levels, residuals, root)
    return Products(
        n=design.n_obs,
        p=design.p,
        log_weights=design.log_weights,
        sizes=tuple((b.q, b.n_levels) for b in design.blocks),
        first=first,
        rest=rest,
        c=c,
        u=u,
        within=residuals.T @ residuals,
        u2=u2,
        within2=within2,
        within_right=within_right,
        pieces=pieces if pieces is None else tuple(pieces),
        structures=tuple(b.covariance_structure for b in design.blocks),
        sigma=design.sigma,
        relationships=tuple(b.relationship for b in design.blocks),
    )


def n_dense_effects(design: Design) -> int:
    """Number of rows of the largest dense matrix of effects."""
    if not design.blocks:
        return 0
    m, pieces = _other_effects(design, split_blocks(design.blocks)[1])
    return m if pieces is None else max(len(p) for p in pieces)


def independent_pieces(design: Design) -> list[IntArray] | None:
    """Independent sets of effects outside the largest factor; None for one set, which is a dense matrix."""
    return _other_effects(design, split_blocks(design.blocks)[1])[1]


def _grams(z: FloatArray, per_level: Callable[[FloatArray], FloatArray]) -> FloatArray:
    q = z.shape[1]
    columns = np.stack([z[:, a] * z[:, b] for a in range(q) for b in range(a + 1)], axis=1)
    sums = per_level(columns)
    grams = np.empty((q, q, len(sums)))
    pairs = [(a, b) for a in range(q) for b in range(a + 1)]
    for column, (a, b) in zip(sums.T, pairs, strict=True):
        grams[a, b] = grams[b, a] = column
    return grams


def _roots(grams: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Matrices C with CC' = Z'Z per level, and C^+' with Z C^+' = Q, shapes (q, q, L)."""
    if len(grams) == 1:
        c = np.sqrt(grams)
        return c, np.divide(1.0, c, out=np.zeros_like(c), where=c > 0)
    values, vectors = np.linalg.eigh(np.moveaxis(grams, 2, 0))
    values = np.where(values > 1e-14 * values[:, -1:], values, 0.0)
    size = np.sqrt(values)
    inverse = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
    c = np.ascontiguousarray(np.moveaxis(vectors * size[:, None, :], 0, 2))
    return c, np.ascontiguousarray(np.moveaxis(vectors * inverse[:, None, :], 0, 2))


def _other_factors(
    design: Design,
    rest: Sequence[int],
    basis: FloatArray,
    codes: IntArray,
    levels: int,
    residuals: FloatArray,
    root: FloatArray | None,
) -> tuple[Matrix, Matrix, FloatArray, list[IntArray] | None]:
    n, q = basis.shape
    m, pieces = _other_effects(design, rest)
    if not rest:
        return np.zeros((q * levels, 0)), np.zeros((0, 0)), np.zeros((0, residuals.shape[1])), None
    z2 = sparse.hstack([_spread(design.blocks[k], root) for k in rest], format="csr")
    rows = np.tile(np.arange(n), q)
    frame = sparse.csr_array(
        (basis.T.ravel(), (rows, (np.arange(q)[:, None] * levels + codes).ravel())), (n, q * levels)
    )
    u2 = sparse.csr_array(frame.T @ z2)
    gram = sparse.csr_array(z2.T @ z2)
    within = sparse.csr_array(gram - u2.T @ u2)
    size = np.sqrt(gram.diagonal())
    entries = within.tocoo()
    kept = np.abs(entries.data) > NOTHING * size[entries.row] * size[entries.col]
    within = sparse.csr_array((entries.data[kept], (entries.row[kept], entries.col[kept])), shape=(m, m))
    dense_u2 = u2.nnz > DENSE * u2.shape[0] * m or (m <= SMALL and u2.shape[0] * m < 1_000_000)
    return (
        u2.toarray() if dense_u2 else u2,
        within.toarray() if pieces is None else within,
        np.asarray(z2.T @ residuals),
        pieces,
    )


def _spread(block: RandomBlock, root: FloatArray | None) -> sparse.csr_array:
    """Matrix Z of one block, shape (n, L * q), with column ``level * q + j``."""
    z = block.z if root is None else root[:, None] * block.z
    n, q = z.shape
    columns = block.codes[:, None] * q + np.arange(q)
    plain = sparse.csr_array((z.ravel(), columns.ravel(), np.arange(n + 1) * q), shape=(n, block.n_levels * q))
    if block.relationship is None:
        return plain
    return sparse.csr_array(plain @ sparse.kron(sparse.csr_array(block.relationship), sparse.eye_array(q)))  # Z (R x I)


def _other_effects(design: Design, rest: Sequence[int]) -> tuple[int, list[IntArray] | None]:
    """Number of effects of the other factors, and their independent sets; None for a single set."""
    m = sum(design.blocks[k].q * design.blocks[k].n_levels for k in rest)
    if m <= SMALL or design.related:
        return m, None
    count, sets = design.tied
    if count == 1:
        return m, None
    label = np.concatenate([np.repeat(sets[k], design.blocks[k].q) for k in rest])
    order = np.argsort(label, kind="stable")
    return m, [part for part in np.split(order, np.cumsum(np.bincount(label, minlength=count))[:-1]) if len(part)]
