"""Parameters of the covariances of a linear mixed model, and derivatives in them.

An unstructured block has the elements of its lower triangular factor L, D = LL', as parameters; a structured block has
those of its :class:`~unimix.design.covariance_structures.Structure`. The likelihood is differentiated along directions
E_a of D first (:mod:`unimix.likelihood.lmm.derivatives`): the cells of D of an unstructured block, in which V is
linear, and the derivatives dD / dtheta_a of a structured one. Block by block there are as many directions as
parameters, and derivatives in the parameters follow from those along the directions by the chain rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unimix.design.covariance_structures import Structure
from unimix.likelihood.lmm.conditioning import relative_factors
from unimix.likelihood.lmm.penalised_least_squares import pack, unpack
from unimix.likelihood.lmm.reduced_data import Products

FloatArray = npt.NDArray[np.float64]
SMALL = 0.05
"""Relative standard deviation below which a structure is tried without it."""


@dataclass(frozen=True)
class Directions:
    """Matrices E_a along which V changes: V_a = sum over levels of Z_l E_a Z_l'.

    Attributes:
        blocks: Block of each direction.
        units: Symmetric matrices E_a, shapes (q, q).
        weights: Numbers w_a with D = sum_a w_a E_a, shape (d,).
    """

    blocks: tuple[int, ...]
    units: tuple[FloatArray, ...]
    weights: FloatArray


def is_plain(products: Products) -> bool:
    """Whether all blocks are unstructured."""
    return not any(products.structures)


def parameters_of(products: Products, factors: Sequence[FloatArray]) -> FloatArray:
    """Parameters (d,) of relative factors (q, q), block by block."""
    if is_plain(products):
        return pack(factors)
    parts = [
        pack([f]) if s is None else s.parameters(f @ f.T) for f, s in zip(factors, products.structures, strict=True)
    ]
    return np.concatenate(parts)


def factors_of(products: Products, theta: FloatArray) -> list[FloatArray]:
    """Relative lower triangular factors (q, q) at parameters (d,)."""
    if is_plain(products):
        return unpack(products, theta)
    factors = []
    for k, (own, structure) in enumerate(zip(by_block(products, theta), products.structures, strict=True)):
        if structure is not None:
            factors.append(relative_factors((structure.matrix(own),), 1.0)[0])
            continue
        lower = np.zeros((products.sizes[k][0],) * 2)
        lower[np.tril_indices(len(lower))] = own
        factors.append(lower)
    return factors


def by_block(products: Products, theta: FloatArray) -> list[FloatArray]:
    """Parameters of each block."""
    counts = [q * (q + 1) // 2 if s is None else s.n_parameters for (q, _), s in _blocks(products)]
    return np.split(theta, np.cumsum(counts)[:-1])


def directions_at(products: Products, factors: Sequence[FloatArray], theta: FloatArray | None = None) -> Directions:
    """Directions at relative factors, shapes (q, q), of known parameters (d,); None computes the parameters."""
    plain = is_plain(products)
    known = [] if plain else by_block(products, parameters_of(products, factors) if theta is None else theta)
    blocks: list[int] = []
    units: list[FloatArray] = []
    weights: list[FloatArray] = []
    for k, (f, structure) in enumerate(zip(factors, products.structures, strict=True)):
        if structure is None:
            q, d = len(f), f @ f.T
            units += [_unit(q, i, j) for i in range(q) for j in range(i + 1)]
            weights.append(d[np.tril_indices(q)])
        else:
            units += list(structure.derivatives(known[k])[0])
            weights.append(structure.weights(known[k]))
        blocks += [k] * len(weights[-1])
    return Directions(tuple(blocks), tuple(units), np.concatenate([np.empty(0), *weights]))


def in_parameters(
    along: FloatArray,
    twice: FloatArray,
    products: Products,
    factors: Sequence[FloatArray],
    slopes: Sequence[FloatArray],
    theta: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Gradient (d,) and Hessian (d, d) in the parameters, from those along the directions.

    Args:
        along: Derivatives along the directions, shape (d,).
        twice: Second derivatives along pairs of directions, shape (d, d).
        products: Reduced data.
        factors: Relative factors, shapes (q, q).
        slopes: Symmetric derivatives G_k (q, q) with respect to D_k; used for structured blocks only.
        theta: Parameters (d,) of the factors; None computes them.
    """
    plain = is_plain(products)
    known = [] if plain else by_block(products, parameters_of(products, factors) if theta is None else theta)
    turn = jacobian(products, factors)
    # H_theta = J'H J + sum_k tr(G_k d2 D_k)
    bends = np.zeros((len(along), len(along)))
    start = 0
    for k, (f, structure) in enumerate(zip(factors, products.structures, strict=True)):
        if structure is None:
            place = [(i, j) for i in range(len(f)) for j in range(i + 1)]
            # dl / dD_ij counts both elements of an off-diagonal cell
            g = np.zeros_like(f)
            for a, (i, j) in enumerate(place):
                g[i, j] = g[j, i] = along[start + a] * (1.0 if i == j else 0.5)
            for a, (i, j) in enumerate(place):
                for b, (row, column) in enumerate(place):
                    if column == j:
                        bends[start + a, start + b] = 2.0 * g[i, row]  # D is quadratic in L
        else:
            second = structure.derivatives(known[k])[1]
            place = [(a, 0) for a in range(len(second))]
            bends[start : start + len(second), start : start + len(second)] = np.tensordot(second, slopes[k], axes=2)
        start += len(place)
    return turn.T @ along, turn.T @ twice @ turn + bends


def jacobian(products: Products, factors: Sequence[FloatArray]) -> FloatArray:
    """Derivatives of the weights of the directions (rows) in the parameters (columns), shape (d, d)."""
    total = sum(q * (q + 1) // 2 if s is None else s.n_parameters for (q, _), s in _blocks(products))
    matrix, start = np.zeros((total, total)), 0
    for f, structure in zip(factors, products.structures, strict=True):
        if structure is None:
            q = len(f)
            place = {(i, j): start + i * (i + 1) // 2 + j for i in range(q) for j in range(i + 1)}
            for (i, j), a in place.items():
                for row in range(q):
                    # L_ij changes row i of D: dD_ir / dL_ij = L_rj, and twice that for D_ii.
                    matrix[place[max(i, row), min(i, row)], a] += f[row, j] * (2.0 if row == i else 1.0)
            start += len(place)
        else:
            own = slice(start, start + structure.n_parameters)
            matrix[own, own] = np.eye(structure.n_parameters)
            start += structure.n_parameters
    return matrix


def by_parameter(gradients: Sequence[FloatArray], products: Products, factors: Sequence[FloatArray]) -> FloatArray:
    """Derivatives in the parameters (d,), from symmetric derivatives G_k (q, q) with respect to D_k."""
    parts = [np.empty(0)]
    for g, f, structure in zip(gradients, factors, products.structures, strict=True):
        if structure is None:
            full = 2.0 * g @ f  # dl / dL = 2 G L, because D = LL'
            parts.append(full[np.tril_indices(len(f))])
        else:
            parts.append(np.tensordot(structure.derivatives(structure.parameters(f @ f.T))[0], g, axes=2))
    return np.concatenate(parts)


def held(products: Products, factors: Sequence[FloatArray], zero: float) -> npt.NDArray[np.bool_]:
    """Which parameters (d,) lie on the edge, where their derivatives say nothing: elements of L below ``zero``."""
    if is_plain(products):
        return np.asarray(np.abs(pack(factors)) <= zero)
    theta = by_block(products, parameters_of(products, factors))
    parts = [
        np.abs(own) <= zero if structure is None else structure.held(own)
        for own, structure in zip(theta, products.structures, strict=True)
    ]
    return np.concatenate(parts)


def absent(products: Products, theta: FloatArray) -> npt.NDArray[np.bool_]:
    """Which parameters (d,) are standard deviations of zero in a structure with several."""
    none = np.zeros(len(theta), dtype=bool)
    return none if is_plain(products) else (theta == 0) & _separate(products)


def without_one(products: Products, theta: FloatArray) -> list[FloatArray]:
    """Parameters (d,) with zero for one or another small one among a structure's several standard deviations."""
    if is_plain(products):
        return []
    small = np.flatnonzero((np.abs(theta) < SMALL) & (theta != 0) & _separate(products))
    return [np.where(np.arange(len(theta)) == a, 0.0, theta) for a in small[np.argsort(np.abs(theta[small]))]]


def _separate(products: Products) -> npt.NDArray[np.bool_]:
    """Which parameters (d,) are among the several standard deviations of a structure."""
    parts = [
        np.zeros(q * (q + 1) // 2, dtype=bool)
        if s is None
        else np.arange(s.n_parameters) < (s.n_sd if s.n_sd > 1 else 0)
        for (q, _), s in _blocks(products)
    ]
    return np.concatenate([np.empty(0, dtype=bool), *parts])


def inward(products: Products, factors: Sequence[FloatArray]) -> list[list[FloatArray]]:
    """Factors near given ones, with a structured block off its edge; none if no such block lies on it."""
    near: list[list[FloatArray]] = []
    for k, structure in enumerate(products.structures):
        if structure is not None:
            for theta in structure.inward(structure.parameters(factors[k] @ factors[k].T)):
                new = relative_factors((structure.matrix(theta),), 1.0)[0]
                near.append([*factors[:k], new, *factors[k + 1 :]])
    return near


def inside(products: Products, factors: Sequence[FloatArray]) -> list[FloatArray]:
    """Factors (q, q) inside the range of every structured block, for statements that hold at all parameters."""
    return [
        f if s is None else relative_factors((s.matrix(s.starts(1.0)[-1]),), 1.0)[0]
        for f, s in zip(factors, products.structures, strict=True)
    ]


def _blocks(products: Products) -> zip[tuple[tuple[int, int], Structure | None]]:
    return zip(products.sizes, products.structures, strict=True)


def _unit(q: int, i: int, j: int) -> FloatArray:
    matrix = np.zeros((q, q))
    matrix[i, j] = matrix[j, i] = 1.0
    return matrix


__all__ = [
    "Directions",
    "absent",
    "by_block",
    "by_parameter",
    "directions_at",
    "factors_of",
    "held",
    "in_parameters",
    "inside",
    "inward",
    "is_plain",
    "jacobian",
    "parameters_of",
    "without_one",
]
