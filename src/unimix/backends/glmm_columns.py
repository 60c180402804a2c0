"""Columns of a model as the formulas of glmm can name them.

These formulas have a random slope only beside a random intercept, and only of a column that is a fixed effect too. Any
invertible transformation of the columns gives the same model, and with

    X_g = X B,   Z_g = Z T   (per block)

the first column of Z_g is one and the others are columns of X_g, if there are such B and T. Then beta = B beta_g,
effects = T effects_g, Cov = T Cov_g T', and the REML criterion of X_g is lower by log |det B|.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design
from unimix.likelihood.lmm.conditioning import relative_factors

FloatArray = npt.NDArray[np.float64]

SAME = 1e-8
"""Relative distance of a column from a space of columns up to which it lies in the space."""
APART = 1e-3
"""Relative distance of a column from others above which it counts as independent of them."""


@dataclass(frozen=True)
class EngineColumns:
    """Columns of a model as glmm's formulas can name them.

    Attributes:
        x: Fixed-effects columns X B, shape (n, p).
        basis: The matrix B, shape (p, p).
        slopes: Indices of the columns of ``x`` that are the random slopes of each block.
        turns: Matrix T of each block, shapes (q, q): its first column makes the random intercept.
    """

    x: FloatArray
    basis: FloatArray
    slopes: tuple[tuple[int, ...], ...]
    turns: tuple[FloatArray, ...]

    @property
    def formula(self) -> str:
        """Formula of the model with generated names."""
        bars = [f"(1{''.join(f' + x{j}' for j in some)} | g{k})" for k, some in enumerate(self.slopes)]
        return f"y ~ {' + '.join(['0', *(f'x{j}' for j in range(len(self.basis))), *bars])}"

    @property
    def log_det(self) -> float:
        """Log |det B|, by which the REML criterion of ``x`` is lower."""
        return float(np.linalg.slogdet(self.basis)[1])

    def covariances(self, result: Any) -> tuple[FloatArray, ...]:
        """Covariance matrix of each block, from glmm's lower triangles column by column, shapes (q, q)."""
        blocks = []
        for turn, cells in zip(self.turns, result.varcorr, strict=True):
            whole = np.zeros_like(turn)
            whole.T[np.triu_indices(len(turn))] = cells
            whole = whole + np.tril(whole, -1).T
            blocks.append(turn @ whole @ turn.T)
        return tuple(blocks)

    def theta(self, factors: Sequence[FloatArray]) -> list[float]:
        """Start for glmm from relative factors (q, q): lower triangles of its own, column by column."""
        turned = [np.linalg.solve(t, f) for t, f in zip(self.turns, factors, strict=True)]
        relative = relative_factors(tuple(f @ f.T for f in turned), 1.0)
        return [float(v) for f in relative for v in f.T[np.triu_indices(len(f))]]

    def modes(self, result: Any) -> tuple[FloatArray, ...]:
        """Conditional modes of each block in the order of its levels, shapes (L, q)."""
        blocks = []
        for turn, block in zip(self.turns, result.ranef_blocks, strict=True):
            modes = np.empty((len(block["levels"]), len(turn)))
            modes[np.array(block["levels"], dtype=np.int64)] = np.asarray(block["values"]) @ turn.T
            blocks.append(modes)
        return tuple(blocks)


def columns_for(design: Design) -> EngineColumns | None:
    """Columns of the same model for glmm's formulas; None if there are none."""
    return design.keep("columns for glmm", lambda: _columns_for(design))


def _columns_for(design: Design) -> EngineColumns | None:
    p, blocks = design.p, design.blocks
    if all(b.q == 1 for b in blocks):
        if any(float(np.ptp(b.z)) > SAME * abs(b.z[0, 0]) for b in blocks):
            return None
        turns = tuple(np.array([[1.0 / b.z[0, 0]]]) for b in blocks)
        return EngineColumns(design.x, np.eye(p), ((),) * len(blocks), turns)
    # Only angles between columns matter here: R of their QR decomposition stands for them.
    every = np.column_stack([np.ones(design.n), design.x, *(b.z for b in blocks)])
    norms = np.linalg.norm(every, axis=0)
    one, x, *parts = np.split(np.linalg.qr(every / norms, mode="r"), np.cumsum([1, p, *(b.q for b in blocks)])[:-1], 1)
    x_space = np.linalg.qr(x)[0]
    with_constant = _distance(one[:, 0], x_space) < SAME
    pool: list[FloatArray] = []  # slopes of any block, of length one
    origin: list[int | None] = []  # which column of X each of them is, if it is one
    slopes: list[list[int]] = [[] for _ in blocks]
    for k in sorted(range(len(blocks)), key=lambda k: blocks[k].q):
        space, q = np.linalg.qr(parts[k])[0], blocks[k].q
        inside = _common(space, x_space)
        if with_constant:
            inside = _beside(one, inside)
        if _distance(one[:, 0], space) > SAME or inside.shape[1] != q - 1:
            return None
        chosen, known = [one[:, 0]], len(pool)
        for number, column in enumerate([*pool, *x.T, *inside.T]):
            if len(chosen) == q or _distance(column, space) > SAME or _is_near(column, chosen):
                continue
            if number >= known:
                if _is_near(column, [one[:, 0], *pool] if with_constant else pool):
                    continue
                pool.append(column)
                origin.append(number - known if number < known + p else None)
            chosen.append(column)
            slopes[k].append(number if number < known else len(pool) - 1)
        if len(chosen) < q:
            return None
    basis, places = np.eye(p), [j for j in origin if j is not None]
    if len(places) < len(pool):
        vectors = np.column_stack([*pool, _beside(np.linalg.qr(np.column_stack(pool))[0], x_space)])
        basis = np.sqrt(design.n) * np.linalg.lstsq(x, vectors)[0] / norms[1 : p + 1, None]
        places = list(range(len(pool)))
    moved = x @ (norms[1 : p + 1, None] * basis)
    bases: list[FloatArray] = []
    first = 1 + p
    for block, part, some in zip(blocks, parts, slopes, strict=True):
        wanted = np.column_stack([np.sqrt(design.n) * one, moved[:, [places[j] for j in some]]])
        bases.append(np.linalg.lstsq(part, wanted)[0] / norms[first : first + block.q, None])
        first += block.q
    engine_x = design.x if np.array_equal(basis, np.eye(p)) else design.x @ basis
    return EngineColumns(engine_x, basis, tuple(tuple(places[j] for j in some) for some in slopes), tuple(bases))


def _distance(column: FloatArray, space: FloatArray) -> float:
    """Distance of a column of length one, shape (m,), from the space of orthonormal columns, shape (m, k)."""
    return float(np.linalg.norm(column - space @ (space.T @ column)))


def _is_near(column: FloatArray, columns: Sequence[FloatArray]) -> bool:
    """Whether a column of length one is almost a combination of others."""
    return bool(columns) and _distance(column, np.linalg.qr(np.column_stack(columns))[0]) < APART


def _common(space: FloatArray, other: FloatArray) -> FloatArray:
    """Orthonormal basis of the intersection of two spaces with orthonormal bases (m, k) and (m, l)."""
    _, sines, directions = np.linalg.svd(space - other @ (other.T @ space), full_matrices=False)
    return np.asarray(space @ directions[sines < SAME].T)


def _beside(taken: FloatArray, space: FloatArray) -> FloatArray:
    """Orthonormal basis of the part of a space (m, k) that is orthogonal to a space (m, l) inside it."""
    directions, sines, _ = np.linalg.svd(space - taken @ (taken.T @ space), full_matrices=False)
    return np.asarray(directions[:, sines > 0.5])


__all__ = ["EngineColumns", "columns_for"]
