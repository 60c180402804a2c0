"""Coordinates of sampled group effects that depend little on the parameters.

Sampling the effects b themselves (centred) fails if the data say little about a level, and sampling u = b / sd
(non-centred) fails if they say much (Papaspiliopoulos, Roberts & Skoeld 2007, Stat. Sci. 22:59-73). For the coordinates
only, the likelihood of the rows is replaced by its normal approximation at a reference point: eta ~ N(z, W^-1). Given
the parameters, the effects of a level are then normal with precision F^-T (I + F'GF) F^-1, G = Z'V^-1 Z, and

    u = A^-1 F'r + A^-1/2 v,   A = I + F'GF,   r = Z'V^-1 (z - X beta - other effects),   b = F u,

makes v standard normal and independent of the parameters, as far as the approximation holds. This is close to the
centred form for levels with much data, to the non-centred form for levels with little, and it adapts to the fixed
effects too. Several blocks are processed in turn, those with few levels first: V is the variance of the rows given the
earlier blocks, with the later blocks integrated out at the reference point. V, z and W are constants, so that any
values give the same posterior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.linalg import splu

from unimix.design.arrays import RandomBlock
from unimix.likelihood.lmm.sparse_effects import spread

FloatArray = npt.NDArray[np.float64]

_MOST_DENSE = 5_000_000
_MOST_COUPLINGS = 20


@dataclass(frozen=True)
class BlockReference:
    """Constants that define the coordinates of one block's effects.

    Attributes:
        index: Index of the block in the design.
        g: Matrices G = Z'V^-1 Z of all levels, shape (L, q, q).
        rz: Vector Z'V^-1 z, shape (L * q,).
        rx: Matrix Z'V^-1 X, shape (L * q, p).
        couplings: Sparse matrices Z'V^-1 Z_j for the earlier blocks j, shape (L * q, L_j * q_j), and their transposes,
            by index of the block.
    """

    index: int
    g: FloatArray
    rz: FloatArray
    rx: FloatArray
    couplings: tuple[tuple[int, sparse.csr_array, sparse.csr_array], ...]


def references(
    blocks: Sequence[RandomBlock], x: FloatArray, z: FloatArray, w: FloatArray, factors: Sequence[FloatArray]
) -> tuple[BlockReference, ...]:
    """Make the coordinates of all blocks, in the order in which they are computed.

    Args:
        blocks: Blocks in the fitted columns.
        x: Fixed-effects columns, shape (n, p).
        z: Working response without offset, shape (n,).
        w: Working weights, positive, shape (n,).
        factors: Covariance factors F at the reference point, shapes (q, q).
    """
    n = len(z)
    order = sorted(range(len(blocks)), key=lambda k: blocks[k].n_levels)
    plain = [spread([b], [np.eye(b.q)], n) for b in blocks]
    right = np.column_stack([x, z])
    found = []
    for place, k in enumerate(order):
        block = blocks[k]
        weighted = _projected(plain[k], [plain[j] @ _lift(blocks[j], factors[j]) for j in order[place + 1 :]], w)
        own = sparse.csr_array(weighted @ plain[k])
        columns = weighted @ right
        couplings = []
        for j in order[:place]:
            between = sparse.csr_array(weighted @ plain[j])
            between.data[np.abs(between.data) < 1e-12 * np.abs(between.data).max(initial=0.0)] = 0.0
            between.eliminate_zeros()
            if between.nnz <= _MOST_COUPLINGS * n:
                couplings.append((j, between, sparse.csr_array(between.T)))
        found.append(
            BlockReference(
                k,
                _diagonal_blocks(own, block.n_levels, block.q),
                np.ascontiguousarray(columns[:, -1]),
                np.ascontiguousarray(columns[:, :-1]),
                tuple(couplings),
            )
        )
    return tuple(found)


def _lift(block: RandomBlock, factor: FloatArray) -> sparse.csr_array:
    return sparse.csr_array(sparse.kron(sparse.eye_array(block.n_levels), sparse.csr_array(factor)))


def _projected(columns: sparse.csr_array, after: list[sparse.csr_array], w: FloatArray) -> sparse.csr_array:
    """Compute Z'V^-1 with V = W^-1 + UU', sparse (m, n); Z'W if that would be too large."""
    weighted = sparse.csr_array(columns.T @ sparse.diags_array(w))
    width = sum(u.shape[1] for u in after)
    if not after or width * columns.shape[1] > _MOST_DENSE:
        return weighted
    u = sparse.csr_array(sparse.hstack(after))
    wu = sparse.csr_array(sparse.diags_array(w) @ u)
    inner = sparse.csc_array(u.T @ wu + sparse.eye_array(width))
    turned = splu(inner).solve(np.asarray((wu.T @ columns).todense()))
    return sparse.csr_array(weighted - sparse.csr_array(turned.T) @ wu.T)


def _diagonal_blocks(matrix: sparse.csr_array, levels: int, q: int) -> FloatArray:
    entries = matrix.tocoo()
    here = entries.row // q == entries.col // q
    row, column = entries.row[here], entries.col[here]
    found = np.zeros((levels, q, q))
    found[row // q, row % q, column % q] = entries.data[here]
    # rounding error of differences of large numbers must not make eigenvalues negative
    values, vectors = np.linalg.eigh(0.5 * (found + found.swapaxes(1, 2)))
    return np.asarray((vectors * np.maximum(values, 0.0)[:, None, :]) @ vectors.swapaxes(1, 2))


@dataclass(frozen=True)
class Turned:
    """Effects of one block at one point, with the quantities that :func:`backward` needs.

    Attributes:
        b: Effects, shape (L, q).
        u: Standardised effects, shape (L, q).
        value: Log prior of the effects with the Jacobian, up to a constant.
        kept: Intermediate arrays.
    """

    b: FloatArray
    u: FloatArray
    value: float
    kept: tuple[npt.NDArray[Any], ...]


def forward(g: FloatArray, factor: FloatArray, r: FloatArray, v: FloatArray) -> Turned:
    """Compute effects from their coordinates.

    Args:
        g: Matrices G of all levels, shape (L, q, q).
        factor: Covariance factor F, shape (q, q).
        r: Vectors r of all levels, shape (L, q).
        v: Coordinates, shape (L, q).
    """
    if v.shape[1] == 1:
        f, gl = factor[0, 0], g[:, 0, 0]
        a = 1.0 + f * f * gl
        root = 1.0 / np.sqrt(a)
        c = f * r[:, 0]
        u = (c * root + v[:, 0]) * root
        value = -0.5 * float(u @ u) - 0.5 * float(np.log(a).sum())
        return Turned((f * u)[:, None], u[:, None], value, (gl, a, root, c))
    gf = g @ factor
    lower = np.linalg.cholesky(np.eye(len(factor)) + factor.T @ gf)
    inverse = np.linalg.inv(lower)
    w = (inverse @ (r @ factor)[:, :, None])[:, :, 0]
    u = np.matvec(inverse.swapaxes(1, 2), w + v)
    diagonal = np.diagonal(lower, axis1=1, axis2=2)
    value = -0.5 * float(np.vdot(u, u)) - float(np.log(diagonal).sum())
    return Turned(u @ factor.T, u, value, (gf, lower, inverse, w, diagonal))


def backward(
    found: Turned, factor: FloatArray, r: FloatArray, v: FloatArray, by_b: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Derivatives of the log density with respect to F (q, q), r (L, q) and v (L, q).

    Args:
        found: Result of :func:`forward`.
        factor: Covariance factor F, shape (q, q).
        r: Vectors r of all levels, shape (L, q).
        v: Coordinates, shape (L, q).
        by_b: Derivatives of the other terms of the log density with respect to the effects, shape (L, q).
    """
    u = found.u
    if u.shape[1] == 1:
        gl, a, root, c = found.kept
        f, by, uu = factor[0, 0], by_b[:, 0], u[:, 0]
        by_u = f * by - uu
        by_c = by_u / a
        # d u / d a = -(c / a + v / (2 sqrt(a))) / a
        by_a = -by_c * (c / a + 0.5 * v[:, 0] * root) - 0.5 / a
        by_f = float(by @ uu) + float(by_c @ r[:, 0]) + 2.0 * f * float(by_a @ gl)
        return np.array([[by_f]]), (f * by_c)[:, None], (by_u * root)[:, None]
    gf, lower, inverse, w, diagonal = found.kept
    by_u = by_b @ factor - u
    by_v = np.matvec(inverse, by_u)
    by_c = np.matvec(inverse.swapaxes(1, 2), by_v)
    by_lower = -u[:, :, None] * by_v[:, None, :] - by_c[:, :, None] * w[:, None, :]
    q = len(factor)
    by_lower.reshape(len(u), q * q)[:, :: q + 1] -= 1.0 / diagonal
    inner = np.tril(lower.swapaxes(1, 2) @ by_lower)
    inner.reshape(len(u), q * q)[:, :: q + 1] *= 0.5
    by_a = inverse.swapaxes(1, 2) @ inner @ inverse
    by_a = by_a + by_a.swapaxes(1, 2)
    by_factor = by_b.T @ u + r.T @ by_c + (gf @ by_a).sum(axis=0)
    return by_factor, by_c @ factor.T, by_v
