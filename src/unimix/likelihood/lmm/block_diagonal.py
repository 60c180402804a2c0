"""Correlated residuals: V is block diagonal, and everything is a sum over groups of rows.

The rows of a group l have V_l = C[t, t] + sum_k Z_kl D_k Z_kl', relative to sigma^2, where C is the covariance matrix
of the residuals at all times, t are the times of the rows, and every random effect belongs to one group. Groups with
the same times are computed together, and where no random effect tells them apart they share one matrix. The moments of
V^-1 are those of :mod:`unimix.likelihood.lmm.derivatives`: with V = LL', W_a = L^-1 V_a L^-T and S = L^-1 [X y],

    tr V^-1 V_a = tr W_a,  tr V^-1 V_a V^-1 V_b = tr W_a W_b,  R'V^-1 V_a V^-1 R = S'W_a S,
    R'V^-1 V_a V^-1 V_b V^-1 R = (W_a S)'(W_b S).

Residuals with modelled variances (:mod:`unimix.design.modelled_variances`) have cells in the place of times.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design
from unimix.design.covariance_structures import Structure
from unimix.likelihood.lmm.derivatives import Moments
from unimix.likelihood.lmm.parameters import Directions
from unimix.likelihood.lmm.penalised_least_squares import Profile, State
from unimix.likelihood.lmm.reduced_data import Products

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Residuals:
    """Which rows have correlated residuals, and at which times.

    Attributes:
        codes: Group of each row, shape (n,).
        times: Index of the time of each row, shape (n,).
        n_times: Number of times.
        independent: Whether the residuals of different rows are independent, so that C gives their variances only.
    """

    codes: IntArray
    times: IntArray
    n_times: int
    independent: bool = False


@dataclass(frozen=True)
class _Pattern:
    """G groups of m rows at the same times, whose random effects have the same levels in the same rows.

    Attributes:
        right: [X y], shape (G, m, r).
        times: Index of the time of each row, shape (m,).
        z: Columns of every block, shapes (G, m, q).
        same: Which pairs of rows have the same level of every block, shapes (m, m).
        levels: Level of every block and row, shapes (G, m).
    """

    right: FloatArray
    times: IntArray
    z: tuple[FloatArray, ...]
    same: tuple[FloatArray, ...]
    levels: tuple[IntArray, ...]


@dataclass(frozen=True)
class GroupedState(State):
    """Parts of V^-1: L^-1, shape (G or 1, m, m), and S = L^-1 [X y], shape (G, m, r), of every pattern."""

    inverse_roots: tuple[FloatArray, ...] = ()
    halves: tuple[FloatArray, ...] = ()


@dataclass(frozen=True)
class GroupedRows:
    """Rows of a linear model with correlated residuals, by pattern.

    Attributes:
        patterns: The patterns.
        sizes: Numbers of columns and levels of every block of random effects, and of times and groups.
        residuals: Groups and times of the rows.
    """

    patterns: tuple[_Pattern, ...]
    sizes: tuple[tuple[int, int], ...]
    residuals: Residuals

    @classmethod
    def of(cls, design: Design, residuals: Residuals) -> GroupedRows:
        """Sort the rows of a design, scaled by the square roots of their weights.

        Args:
            design: Gaussian design without an offset, whose random effects belong to one group of residuals each.
            residuals: Groups and times of the rows.
        """
        root = np.ones(design.n) if design.weights is None else np.sqrt(design.weights)
        right = root[:, None] * np.column_stack([design.x, design.y])
        order = np.lexsort((residuals.times, residuals.codes))
        groups = np.split(order, np.flatnonzero(np.diff(residuals.codes[order])) + 1)
        alike: dict[tuple[bytes, ...], list[IntArray]] = defaultdict(list)
        for rows in groups:
            local = [np.unique(b.codes[rows], return_inverse=True)[1] for b in design.blocks]
            alike[residuals.times[rows].tobytes(), *(c.tobytes() for c in local)].append(rows)
        patterns = []
        for members in alike.values():
            rows = np.array(members)
            levels = tuple(b.codes[rows] for b in design.blocks)
            patterns.append(
                _Pattern(
                    right=right[rows],
                    times=residuals.times[rows[0]],
                    z=tuple(root[rows][..., None] * b.z[rows] for b in design.blocks),
                    same=tuple((c[0][:, None] == c[0]).astype(np.float64) for c in levels),
                    levels=levels,
                )
            )
        sizes = tuple((b.q, b.n_levels) for b in design.blocks)
        return cls(tuple(patterns), (*sizes, (residuals.n_times, len(groups))), residuals)

    def turned(self, turn: FloatArray) -> GroupedRows:
        """The rows with [X y] multiplied by a matrix, shape (r, s)."""
        return replace(self, patterns=tuple(replace(p, right=p.right @ turn) for p in self.patterns))

    def state(self, factors: Sequence[FloatArray]) -> GroupedState:
        """Compute V^-1 at factors of the D_k, shapes (q, q), and of C, shape (n_times, n_times).

        Raises:
            numpy.linalg.LinAlgError: If V is singular.
        """
        last = factors[-1]
        own = np.diag(np.sum(last**2, axis=1)) if self.residuals.independent else last @ last.T
        matrices = [*(f @ f.T for f in factors[:-1]), own]
        r = self.patterns[0].right.shape[2]
        gram, log_det = np.zeros((r, r)), 0.0
        inverse_roots, halves = [], []
        for pattern in self.patterns:
            v = self._along(pattern, len(matrices) - 1, matrices[-1])
            for k, d in enumerate(matrices[:-1]):
                v = v + self._along(pattern, k, d)
            lower = np.linalg.cholesky(v)
            inverse = np.linalg.inv(lower)
            half = inverse @ pattern.right
            logs = np.log(np.diagonal(lower, axis1=1, axis2=2)).sum()
            log_det += 2.0 * float(logs) * (len(half) / len(lower))
            flat = half.reshape(-1, r)
            gram += flat.T @ flat
            inverse_roots.append(inverse)
            halves.append(half)
        none, nothing = np.zeros((0, 0)), np.zeros((0, r))
        empty = np.zeros((0, 0, 0))
        return GroupedState(
            root=empty,
            right=empty,
            between=none,
            s22=none,
            s2r=nothing,
            k=none,
            ks=nothing,
            gram=gram,
            log_det=log_det,
            inverse_roots=tuple(inverse_roots),
            halves=tuple(halves),
        )

    def _along(self, pattern: _Pattern, block: int, e: FloatArray) -> FloatArray:
        """Part of V, or of its derivative, that a matrix of a block or of C gives, shape (G or 1, m, m)."""
        if block == len(self.sizes) - 1:
            part = e[np.ix_(pattern.times, pattern.times)]
            return (part * np.eye(len(part)) if self.residuals.independent else part)[None]
        z = pattern.z[block]
        return np.asarray((z @ e @ z.transpose(0, 2, 1)) * pattern.same[block])

    def gradient(self, at: Profile, *, reml: bool) -> list[FloatArray]:
        """Symmetric derivatives G_k (q, q) with dl = sum_k tr G_k dD_k, for C too; see ``derivatives.gradient``."""
        state = _state(at)
        e, ratio, p = np.append(-at.beta, 1.0), 1.0 / at.sigma**2, len(at.beta)
        slopes = [np.zeros((q, q)) for q, _ in self.sizes]
        for pattern, inverse, half in zip(self.patterns, state.inverse_roots, state.halves, strict=True):
            solved = inverse.transpose(0, 2, 1) @ half  # V^-1 [X y]
            h = solved @ e
            whole = inverse.transpose(0, 2, 1) @ inverse
            apart = len(self.sizes) > 1
            own = ratio * (h[:, :, None] * h[:, None, :] if apart else (h.T @ h)[None])
            if reml:
                turned = solved[..., :p] @ at.cov_unscaled
                if apart:
                    own = own + turned @ solved[..., :p].transpose(0, 2, 1)
                else:
                    own = own + np.einsum("gip,gjp->ij", turned, solved[..., :p], optimize=True)[None]
            g = -0.5 * ((whole if apart else whole * (len(h) / len(whole))) - own)
            for k, z in enumerate(pattern.z):
                slopes[k] += np.einsum("gia,gij,gjb->ab", z, g * pattern.same[k], z, optimize=True)
            total = g.sum(axis=0) * (len(h) / len(g) if apart else 1.0)
            total = total * np.eye(len(total)) if self.residuals.independent else total
            np.add.at(slopes[-1], np.ix_(pattern.times, pattern.times), total)
        return [(s + s.T) / 2 for s in slopes]

    def moments(self, state: State, along: Directions) -> Moments:
        """Moments of V^-1 along the directions."""
        here = _state(state)
        c, r = len(along.units), self.patterns[0].right.shape[2]
        t, tt, a, aa = np.zeros(c), np.zeros((c, c)), np.zeros((c, r, r)), np.zeros((c * r, c * r))
        for pattern, inverse, half in zip(self.patterns, here.inverse_roots, here.halves, strict=True):
            turned, moved = [], []
            for k, unit in zip(along.blocks, along.units, strict=True):
                w = inverse @ self._along(pattern, k, unit) @ inverse.transpose(0, 2, 1)
                turned.append(w)
                moved.append(w @ half)
            copies = [len(half) / len(w) for w in turned]
            for i, w in enumerate(turned):
                t[i] += copies[i] * float(np.trace(w, axis1=1, axis2=2).sum())
                a[i] += half.reshape(-1, r).T @ moved[i].reshape(-1, r)
                for j in range(i + 1):
                    times = len(half) / max(len(w), len(turned[j]))
                    tt[i, j] += times * float((w * turned[j]).sum())
            flat = np.stack(moved, axis=2).reshape(-1, c * r)  # (G, m, c, r)
            aa += flat.T @ flat
        tt = tt + np.tril(tt, -1).T
        return Moments(along.weights, t, tt, a, aa.reshape(c, r, c, r).transpose(0, 2, 1, 3))

    def effects(
        self, at: Profile, factors: Sequence[FloatArray]
    ) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]]:
        """Conditional modes (L, q) and covariances (L, q, q) of the random effects; see ``conditional_effects``."""
        state, e = _state(at), np.append(-at.beta, 1.0)
        modes = [np.zeros((levels, q)) for q, levels in self.sizes[:-1]]
        covs = [np.zeros((levels, q, q)) for q, levels in self.sizes[:-1]]
        for pattern, inverse, half in zip(self.patterns, state.inverse_roots, state.halves, strict=True):
            h = (inverse.transpose(0, 2, 1) @ half) @ e
            for k, z in enumerate(pattern.z):
                d = factors[k] @ factors[k].T
                for first in np.unique(np.argmax(pattern.same[k], axis=1)):
                    rows = np.flatnonzero(pattern.same[k][first])
                    level = pattern.levels[k][:, first]
                    modes[k][level] = np.einsum("gm,gmq->gq", h[:, rows], z[:, rows]) @ d
                    wide = inverse[:, :, rows] @ z[:, rows] @ d
                    covs[k][level] = at.sigma**2 * (d - wide.transpose(0, 2, 1) @ wide)
        return tuple(modes), tuple(covs)


def form_grouped(design: Design, residuals: Residuals, structure: Structure) -> Products:
    """Reduced data of a linear model with correlated residuals.

    Args:
        design: Gaussian design without an offset, whose random effects belong to one group of residuals each.
        residuals: Groups and times of the rows.
        structure: Structure of C, in units in which the first variance is one.
    """
    grouped = GroupedRows.of(design, residuals)
    empty, nothing, none = np.zeros((0, 0, 0)), np.zeros((0, design.p + 1)), np.zeros((0, 0))
    return Products(
        n=design.n,
        p=design.p,
        log_weights=0.0 if design.weights is None else float(0.5 * np.log(design.weights).sum()),
        sizes=grouped.sizes,
        first=(),
        rest=(),
        c=empty,
        u=empty,
        within=none,
        u2=none,
        within2=none,
        within_right=nothing,
        pieces=None,
        structures=(*(b.covariance_structure for b in design.blocks), structure),
        grouped=grouped,
    )


def _state(at: Profile | State) -> GroupedState:
    state = at.state if isinstance(at, Profile) else at
    assert isinstance(state, GroupedState)  # noqa: S101  made by these rows
    return state


__all__ = ["GroupedRows", "GroupedState", "Residuals", "form_grouped"]
