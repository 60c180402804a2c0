"""Systems of equations in the group effects: A = I + U'WU, factorised by levels and independent sets of levels.

With U the n x m matrix of all blocks' z_k L_k spread over their levels, no row belongs to two levels of a block. The
block with the most effects is eliminated first: its part of A is a q x q matrix D per level, and the Schur complement
S = E - C'D^-1 C remains for the other blocks, with one dense piece per set of levels that are connected by rows (one
level of the outer factor if factors are nested, all levels if they are crossed). C has a cell wherever a level and
another effect share a row. U is kept as the entries of its rows. No inverse of a covariance is formed, so that
variances may be zero. The form is that of Bates, Maechler, Bolker & Walker (2015), J. Stat. Softw. 67(1), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import linalg

from unimix.design.arrays import Design
from unimix.design.tied_levels import TiedLevels
from unimix.likelihood.lmm.sparse_effects import Block, effect_columns, effect_entries

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

STEPS, PADDED = 4, 64
"""Pieces share a batch if their sizes are equal when rounded up to this many steps per power of two; sizes above the
second number are not rounded."""
DENSE = 100
"""Multiplications of a dense matrix product that take as long as one product of two cells of C by their indices."""


class Pieces:
    """Square matrices with independent pieces on their diagonals, in batches of pieces of equal size.

    Pieces that are smaller than their batch are padded: an index that does not exist has a row and a column of the
    identity. Only lower triangles are used.

    Args:
        piece: Piece of each row of the matrix, shape (m,).
        count: Number of pieces.

    Attributes:
        batches: Number of pieces and their size, for each batch.
        position: Position of each row in the vector of all batches, shape (m,).
    """

    def __init__(self, piece: IntArray, count: int) -> None:
        sizes = np.bincount(piece, minlength=count)
        room = _rounded(sizes)
        self.batches = [(int((room == size).sum()), int(size)) for size in np.unique(room[room > 0])]
        by_size = np.argsort(room, kind="stable")
        first, first_cell = np.empty_like(room), np.empty_like(room)
        first[by_size] = np.cumsum(room[by_size]) - room[by_size]
        first_cell[by_size] = np.cumsum(room[by_size] ** 2) - room[by_size] ** 2
        order = np.argsort(piece, kind="stable")
        within = np.empty(len(piece), dtype=np.int64)
        within[order] = np.arange(len(piece)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        self.position = first[piece] + within
        self._within, self._first_cell, self._room = within, first_cell[piece], room[piece]

    def cells(self, one: IntArray, other: IntArray) -> IntArray:
        """Positions of cells of the lower triangles among all cells, for pairs of rows of one piece."""
        a, b = self._within[one], self._within[other]
        return np.asarray(self._first_cell[one] + np.maximum(a, b) * self._room[one] + np.minimum(a, b))

    def identity(self) -> FloatArray:
        """The identity matrix in batches, one after the other."""
        return np.concatenate([np.empty(0), *(np.tile(np.eye(size).ravel(), count) for count, size in self.batches)])

    def roots(self, a: FloatArray) -> tuple[FloatArray, ...]:
        """Lower triangular Cholesky factors of the pieces of a matrix in batches, shapes (count, size, size).

        Raises:
            numpy.linalg.LinAlgError: If the matrix is not positive definite.
        """
        factors, start = [], 0
        for count, size in self.batches:
            batch = a[start : start + count * size**2].reshape(count, size, size)
            one = count == 1  # LAPACK itself is quicker for a single large matrix
            root = linalg.cholesky(batch[0], lower=True, check_finite=False)[None] if one else np.linalg.cholesky(batch)
            factors.append(np.asarray(root))
            start += count * size**2
        return tuple(factors)


class EffectsLayout:
    """Positions of the effects of all blocks in U and in the parts of A, computed once for a design.

    Effect j of a level of block k is number ``starts[k] + level * q_k + j``.

    Args:
        blocks: Blocks of random effects; may be empty.
        n: Number of rows.
        tied: Sets of levels that are connected by rows.

    Attributes:
        widths: Number of effects per level of each block, q_k.
        starts: Number of the first effect of each block, and the number of effects m at the end.
        columns: Effects that act on each row, shape (n, K) with K the sum of the q_k.
        first: Index of the block that is eliminated.
        own: Columns of that block among the K, and ``others`` those of the other blocks.
        rest: Effects of the other blocks, which are the rows of S.
        pieces: Layout of S.
        one_piece: Whether all effects are connected by rows.
    """

    def __init__(self, blocks: Sequence[Block], n: int, tied: TiedLevels) -> None:
        self.blocks, self.n = blocks, n
        self.widths = [b.z.shape[1] for b in blocks]
        self.columns, self.starts = effect_columns(blocks, n)
        self.first = int(np.argmax(np.diff(self.starts))) if blocks else 0
        block_of_column = np.repeat(np.arange(len(blocks)), self.widths)
        self.own = np.flatnonzero(block_of_column == self.first)
        self.others = np.flatnonzero(block_of_column != self.first)
        kept = np.ones(self.m, dtype=bool)
        if blocks:
            kept[self.starts[self.first] : self.starts[self.first + 1]] = False
        self.rest = np.flatnonzero(kept)
        self._number = np.cumsum(kept) - 1
        pieces = [np.repeat(s, q) for s, q in zip(tied.sets, self.widths, strict=True)]
        piece = np.concatenate([np.empty(0, dtype=np.int64), *pieces])
        self.pieces, self.one_piece = Pieces(piece[self.rest], tied.n_sets), tied.n_sets == 1

    @property
    def m(self) -> int:
        """Number of effects."""
        return int(self.starts[-1])

    @property
    def eliminated(self) -> slice:
        """Effects of the block that is eliminated."""
        return slice(int(self.starts[self.first]), int(self.starts[self.first + 1])) if self.blocks else slice(0, 0)

    @property
    def codes(self) -> IntArray:
        """Level of each row in the block that is eliminated, shape (n,)."""
        return self.blocks[self.first].codes if self.blocks else np.zeros(self.n, dtype=np.int64)

    @property
    def n_levels(self) -> int:
        """Number of levels of the block that is eliminated."""
        return self.blocks[self.first].n_levels if self.blocks else 0

    @cached_property
    def row_links(self) -> IntArray:
        """Cells of C of each row and effect of the other blocks, shape (n, K - q), as indices into :attr:`links`."""
        return self._links[1].reshape(self.n, len(self.others))

    @cached_property
    def links(self) -> tuple[IntArray, IntArray]:
        """Cells of C: level of the eliminated block, and row of S; sorted by level."""
        level, effect = np.divmod(self._links[0], max(1, len(self.rest)))
        return level, effect

    @cached_property
    def _links(self) -> tuple[IntArray, IntArray]:
        key = self.codes[:, None] * len(self.rest) + self._number[self.columns[:, self.others]]
        values, index = np.unique(key, return_inverse=True)
        return values, np.asarray(index)

    @cached_property
    def pairs(self) -> tuple[IntArray, IntArray] | None:
        """Pairs i >= j of cells of C in one level; None if dense products are quicker."""
        level = self.links[0]
        per_level = np.bincount(level, minlength=self.n_levels)
        count = int((per_level * (per_level + 1) // 2).sum())
        if self.one_piece and self.n_levels * len(self.own) * float(len(self.rest)) ** 2 < DENSE * count:
            return None
        begin = np.cumsum(per_level) - per_level
        earlier = np.arange(len(level)) - begin[level] + 1
        i = np.repeat(np.arange(len(level)), earlier)
        j = np.arange(len(i)) - np.repeat(np.cumsum(earlier) - earlier, earlier) + begin[level[i]]
        return i, j

    @cached_property
    def pair_cells(self) -> IntArray:
        """Cell of S to which each of the :attr:`pairs` belongs."""
        (i, j), effect = self.pairs or (np.empty(0, dtype=np.int64),) * 2, self.links[1]
        return self.pieces.cells(effect[i], effect[j])

    @cached_property
    def row_cells(self) -> tuple[IntArray, IntArray, IntArray]:
        """Columns i and j of the other blocks, and the cells of S of their products in each row."""
        i, j = np.triu_indices(len(self.others))
        effects = self._number[self.columns[:, self.others]]
        return i, j, self.pieces.cells(effects[:, i], effects[:, j])

    def entries(self, factors: Sequence[FloatArray]) -> FloatArray:
        """Entries of the rows of U, z_k L_k, shape (n, K), from factors L_k, shapes (q, q)."""
        return effect_entries(self.blocks, factors, self.n)

    def times(self, entries: FloatArray, u: FloatArray) -> FloatArray:
        """U u, shape (n,)."""
        return np.asarray(np.einsum("nk,nk->n", entries, u[self.columns]))

    def transposed_times(self, entries: FloatArray, v: FloatArray) -> FloatArray:
        """U'v, shape (m,)."""
        return _sums(self.columns.ravel(), (entries * v[:, None]).ravel(), self.m)

    def factorise(self, entries: FloatArray, weights: FloatArray) -> EffectsSystem:
        """Factorise A = I + U'WU, with weights (n,).

        Raises:
            numpy.linalg.LinAlgError: If A is not positive definite.
        """
        one, other = entries[:, self.own], entries[:, self.others]
        q, weighted = one.shape[1], weights[:, None] * one
        d = np.empty((self.n_levels, q, q))
        for i in range(q):
            for j in range(i + 1):
                d[:, i, j] = d[:, j, i] = _sums(self.codes, weighted[:, i] * one[:, j], self.n_levels)
        d[:, np.arange(q), np.arange(q)] += 1.0
        root = np.asarray(np.sqrt(d) if q == 1 and d.min(initial=1.0) > 0 else np.linalg.cholesky(d))
        half = np.asarray(1.0 / root if q == 1 else np.linalg.inv(root))
        s = self.pieces.identity()
        links = np.empty((0, q))
        if len(self.rest):
            level = self.links[0]
            products = weighted[:, None, :] * other[:, :, None]
            c = np.column_stack([_sums(self.row_links.ravel(), products[..., k].ravel(), len(level)) for k in range(q)])
            links = np.einsum("lij,lj->li", half[level], c)
            left, right, cells = self.row_cells
            s += _sums(cells.ravel(), (other[:, left] * other[:, right] * weights[:, None]).ravel(), len(s))
            if self.pairs is None:
                t, (low, high) = self._dense(links), np.tril_indices(len(self.rest))
                s[self.pieces.cells(low, high)] -= (t.T @ t)[low, high]
            else:
                a, b = self.pairs
                s -= _sums(self.pair_cells, np.einsum("pk,pk->p", links[a], links[b]), len(s))
        log_det = 2.0 * float(np.log(np.einsum("lii->li", root)).sum())
        return EffectsSystem(self, half, links, self.pieces.roots(s), log_det)

    def _dense(self, links: FloatArray) -> FloatArray:
        """Spread cells (links, q) over the matrix of levels and effects, shape (L q, rows of S)."""
        level, effect = self.links
        wide = np.zeros((self.n_levels, links.shape[1], len(self.rest)))
        wide[level, :, effect] = links
        return wide.reshape(-1, len(self.rest))


@dataclass(frozen=True)
class EffectsSystem:
    """The factorised matrix A = I + U'WU.

    Attributes:
        layout: Positions of the effects.
        half: Inverses R^-1 of the Cholesky factors of D = RR', shape (L, q, q).
        links: Cells of R^-1 C, shape (number of links, q).
        roots: Cholesky factors of S, batch by batch.
        log_det_own: log|D|.
    """

    layout: EffectsLayout
    half: FloatArray
    links: FloatArray
    roots: tuple[FloatArray, ...]
    log_det_own: float

    @property
    def log_det(self) -> float:
        """log|A| = log|D| + log|S|."""
        return self.log_det_own + sum(2.0 * float(np.log(np.einsum("bii->bi", r)).sum()) for r in self.roots)

    def solve(self, right: FloatArray) -> FloatArray:
        """A^-1 v for a vector v, shape (m,)."""
        layout, solved = self.layout, np.empty_like(right)
        turned = np.einsum(
            "lij,lj->li", self.half, right[layout.eliminated].reshape(layout.n_levels, self.half.shape[1])
        )
        if len(layout.rest):
            level, effect = layout.links
            lowered = _sums(effect, np.einsum("ik,ik->i", self.links, turned[level]), len(layout.rest))
            x = self._solve_rest(right[layout.rest] - lowered)
            solved[layout.rest] = x
            q = turned.shape[1]
            pulled = [_sums(level, self.links[:, k] * x[effect], layout.n_levels) for k in range(q)]
            turned = turned - np.column_stack(pulled)
        solved[layout.eliminated] = np.einsum("lji,lj->li", self.half, turned).ravel()
        return solved

    @cached_property
    def _halves(self) -> list[FloatArray]:
        """H with S^-1 = H'H, batch by batch; the factor itself where there is one piece only."""
        return [root if len(root) == 1 else np.asarray(np.linalg.inv(root)) for root in self.roots]

    def _solve_rest(self, right: FloatArray) -> FloatArray:
        pieces = self.layout.pieces
        padded: FloatArray = np.zeros(sum(count * size for count, size in pieces.batches))
        padded[pieces.position] = right
        start = 0
        for (count, size), half in zip(pieces.batches, self._halves, strict=True):
            at = slice(start, start + count * size)
            if count == 1:
                padded[at] = linalg.cho_solve((half[0], True), padded[at], check_finite=False)
            else:
                turned = half @ padded[at].reshape(count, size, 1)
                padded[at] = (half.transpose(0, 2, 1) @ turned).ravel()
            start = at.stop
        return np.asarray(padded[pieces.position])

    @cached_property
    def _inverse(self) -> FloatArray:
        """Cells of S^-1, which is the part of A^-1 of the other blocks; only the lower triangles are meant."""
        inverses = (
            linalg.lapack.dpotri(half[0], lower=1)[0] if len(half) == 1 else half.transpose(0, 2, 1) @ half
            for half in self._halves
        )
        return np.concatenate([np.empty(0), *(inverse.ravel() for inverse in inverses)])

    @cached_property
    def _own_inverse(self) -> tuple[FloatArray, FloatArray]:
        """Parts of A^-1: the blocks of the eliminated levels (L, q, q), and the cells that C has (links, q).

        With T = R^-1 C they are R^-T (I + T S^-1 T') R^-1 and -R^-T T S^-1.
        """
        layout, half = self.layout, self.half
        if not len(layout.rest):
            return half.transpose(0, 2, 1) @ half, self.links
        (level, effect), q = layout.links, half.shape[1]
        if layout.pairs is None:
            size = len(layout.rest)
            a, b = np.tril_indices(size)
            full = np.zeros((size, size))
            full[a, b] = full[b, a] = self._inverse[layout.pieces.cells(a, b)]
            through = (layout._dense(self.links) @ full).reshape(layout.n_levels, q, size)[level, :, effect]
        else:
            (i, j), values = layout.pairs, self._inverse[layout.pair_cells]
            apart = i != j
            through = np.column_stack(
                [
                    _sums(i, self.links[j, k] * values, len(level))
                    + _sums(j[apart], self.links[i[apart], k] * values[apart], len(level))
                    for k in range(q)
                ]
            )
        middle = np.empty((layout.n_levels, q, q))
        for i_, j_ in np.ndindex(q, q):
            middle[:, i_, j_] = _sums(level, through[:, i_] * self.links[:, j_], layout.n_levels)
        middle[:, np.arange(q), np.arange(q)] += 1.0
        return half.transpose(0, 2, 1) @ middle @ half, -np.einsum("lji,lj->li", half[level], through)

    def rows_of_inverse(self, entries: FloatArray) -> FloatArray:
        """U A^-1 at the effects that act on each row, shape (n, K)."""
        layout, rows = self.layout, np.zeros_like(entries)
        if not layout.m:
            return rows
        blocks, cells = self._own_inverse
        one, other = entries[:, layout.own], entries[:, layout.others]
        rows[:, layout.own] = np.einsum("ni,nij->nj", one, blocks[layout.codes])
        if len(layout.rest):
            between = cells[layout.row_links]  # (n, K - q, q)
            rows[:, layout.own] += np.einsum("nk,nki->ni", other, between)
            rows[:, layout.others] = np.einsum("ni,nki->nk", one, between)
            for i, j, cell in zip(*layout.row_cells[:2], layout.row_cells[2].T, strict=True):
                value = self._inverse[cell]
                rows[:, layout.others[j]] += other[:, i] * value
                if i != j:
                    rows[:, layout.others[i]] += other[:, j] * value
        return rows

    def diagonal_blocks(self) -> list[FloatArray]:
        """Blocks of A^-1 for each level, per block (L, q, q)."""
        layout, blocks = self.layout, []
        for k, (block, q, start) in enumerate(zip(layout.blocks, layout.widths, layout.starts[:-1], strict=True)):
            if k == layout.first:
                blocks.append(self._own_inverse[0])
                continue
            at = layout._number[start] + np.arange(block.n_levels)[:, None] * q + np.arange(q)
            blocks.append(self._inverse[layout.pieces.cells(at[:, :, None], at[:, None, :])])
        return blocks


def layout_of(design: Design) -> EffectsLayout:
    """Return the layout of the effects of a design, which is made once."""
    return design.keep("effects layout", lambda: EffectsLayout(design.blocks, design.n, design.tied))


def _sums(index: IntArray, values: FloatArray, length: int) -> FloatArray:
    """Sums of values by index, shape (length,)."""
    return np.asarray(np.bincount(index, values, length), dtype=np.float64)


def _rounded(sizes: IntArray) -> IntArray:
    """Round sizes of pieces up, so that few batches hold all of them and little is padded."""
    octave = 2 ** np.floor(np.log2(np.maximum(sizes, 1))).astype(np.int64)
    step = np.where(sizes > PADDED, 1, np.maximum(1, octave // STEPS))
    return np.asarray(-(-sizes // step) * step)
