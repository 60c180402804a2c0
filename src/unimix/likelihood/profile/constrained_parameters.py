"""Covariance matrices with one standard deviation or correlation held at a value, in unbounded coordinates.

The first row of a Cholesky factor F determines the first standard deviation, and the first two rows determine their
correlation. With the effects in that order, F_11 = s holds a standard deviation, (F_21, F_22) = c (r, sqrt(1 - r^2))
holds a correlation, and all other elements are free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unimix.likelihood.lmm.optimise import lower_triangular

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Target:
    """Parameter that is held fixed.

    Attributes:
        kind: Kind of parameter: fixed (a fixed effect), sd, cor, or scale (sigma or another dispersion parameter).
        index: Index of the fixed effect or dispersion parameter; for an SD or a correlation, index of the block.
        first: Index of the effect in its block, for an SD or a correlation.
        second: Index of the other effect of a correlation.
    """

    kind: str
    index: int = 0
    first: int = 0
    second: int = 0

    def order(self, block: int, q: int) -> list[int]:
        """Order of the q effects of a block, with the effects of the held parameter first."""
        own = self.kind in ("sd", "cor") and self.index == block
        front = [] if not own else [self.first] if self.kind == "sd" else [self.first, self.second]
        return [*front, *(i for i in range(q) if i not in front)]


@dataclass(frozen=True)
class Coordinates:
    """Map from a vector z of free coordinates to square roots of the covariances and to other parameters.

    Attributes:
        target: Parameter that is held.
        orders: Order of the effects of each block.
        units: Units of the effects of each block in that order, shape (q,): factors are diag(unit) E, and z holds the
            elements of E.
        turns: Matrix of each block, shape (q, q), that maps E to a root in the model's coordinates.
        n_rest: Number of other parameters.
        held_rest: Index of the other parameter that is held, or -1.
    """

    target: Target
    orders: tuple[list[int], ...]
    units: tuple[FloatArray, ...]
    turns: tuple[FloatArray, ...]
    n_rest: int
    held_rest: int

    def factors(self, z: FloatArray, value: float) -> tuple[list[FloatArray], FloatArray]:
        """Compute E of each block, shapes (q, q), and the other parameters, with the target at a value."""
        blocks, at = [], 0
        for k, unit in enumerate(self.units):
            e = np.zeros((len(unit), len(unit)))
            for i, j in self._free(k):
                e[i, j] = z[at]
                at += 1
            if self._holds(k):
                if self.target.kind == "sd":
                    e[0, 0] = value / unit[0]
                else:
                    e[1, 1], e[1, 0] = e[1, 1] * np.sqrt(1 - value**2), e[1, 1] * value
            blocks.append(e)
        rest = z[at:]
        if self.held_rest >= 0:
            rest = np.insert(rest, self.held_rest, value)
        return blocks, rest

    def roots(self, z: FloatArray, value: float) -> tuple[list[FloatArray], FloatArray]:
        """Compute square roots in the model's coordinates, shapes (q, q), and the other parameters."""
        factors, rest = self.factors(z, value)
        return [t @ e for t, e in zip(self.turns, factors, strict=True)], rest

    def gradient(self, slopes: Sequence[FloatArray], by_rest: FloatArray, value: float) -> FloatArray:
        """Convert derivatives with respect to roots, shapes (q, q), and other parameters to derivatives in z."""
        by_cells = []
        for k, (turn, slope) in enumerate(zip(self.turns, slopes, strict=True)):
            by_e = turn.T @ slope
            if self._holds(k) and self.target.kind == "cor":
                by_e[1, 1] = value * by_e[1, 0] + np.sqrt(1 - value**2) * by_e[1, 1]
            by_cells += [by_e[i, j] for i, j in self._free(k)]
        rest = by_rest if self.held_rest < 0 else np.delete(by_rest, self.held_rest)
        return np.concatenate([np.array(by_cells), rest])

    def place(self, roots: Sequence[FloatArray], rest: FloatArray) -> FloatArray:
        """Coordinates z of given square roots in the user's coordinates; the target's value there is ignored."""
        entries = []
        for k, (order, unit, root) in enumerate(zip(self.orders, self.units, roots, strict=True)):
            e = lower_triangular([root[order] / unit[:, None]])[0]
            if self._holds(k) and self.target.kind == "cor":
                e[1, 1] = np.hypot(e[1, 0], e[1, 1])
            entries += [e[i, j] for i, j in self._free(k)]
        return np.concatenate([np.array(entries), rest if self.held_rest < 0 else np.delete(rest, self.held_rest)])

    def in_user_units(self, z: FloatArray, value: float) -> tuple[list[FloatArray], FloatArray]:
        """Compute square roots in the user's coordinates, shapes (q, q), and the other parameters."""
        factors, rest = self.factors(z, value)
        roots = []
        for order, unit, e in zip(self.orders, self.units, factors, strict=True):
            root = np.empty_like(e)
            root[order] = unit[:, None] * e
            roots.append(root)
        return roots, rest

    def off_boundary(self, z: FloatArray) -> FloatArray | None:
        """Replace diagonal elements that are nearly zero by a tenth of a unit; None if there are none."""
        moved, at, changed = z.copy(), 0, False
        for k in range(len(self.units)):
            for i, j in self._free(k):
                if i == j and abs(z[at]) < 1e-2:
                    moved[at], changed = 0.1, True
                at += 1
        return moved if changed else None

    def _holds(self, block: int) -> bool:
        return self.target.kind in ("sd", "cor") and self.target.index == block

    def _free(self, block: int) -> list[tuple[int, int]]:
        q = len(self.units[block])
        cells = [(i, j) for i in range(q) for j in range(i + 1)]
        if self._holds(block):
            cells.remove((0, 0) if self.target.kind == "sd" else (1, 0))
        return cells


__all__ = ["Coordinates", "Target"]
