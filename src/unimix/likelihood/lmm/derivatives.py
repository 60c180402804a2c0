"""Analytic first and second derivatives of the likelihood of a linear mixed model, at any point.

All derivatives are functions of four kinds of moments of V^-1, with R = [X y] and V_a = dV / da along a direction
of the covariances D (:mod:`unimix.likelihood.lmm.parameters`): tr V^-1 V_a,
tr V^-1 V_a V^-1 V_b, R'V^-1 V_a V^-1 R and R'V^-1 V_a V^-1 V_b V^-1 R. The same moments give Satterthwaite's and
Kenward and Roger's degrees of freedom.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from unimix.likelihood.lmm.batched_linalg import per_level
from unimix.likelihood.lmm.parameters import Directions
from unimix.likelihood.lmm.penalised_least_squares import (
    Profile,
    State,
    gram_of,
    matmul,
    over_levels,
    times_levels,
    total,
)
from unimix.likelihood.lmm.reduced_data import Matrix, Products

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Projected:
    """Z'V^-1 R and other products that both orders of derivatives need.

    Attributes:
        h: Z_1'V^-1 R, shape (q, L, r).
        h2: Z_2'V^-1 R, shape (m, r).
        w: R C' per level, so that Z_l'V_1^-1 Z_l = w'w, shape (q, q, L).
        n: Z_1'V_1^-1 Z_2, shape (q * L, m).
    """

    h: FloatArray
    h2: FloatArray
    w: FloatArray
    n: Matrix


def project(products: Products, state: State) -> Projected:
    """Compute Z'V^-1 [X y] at a state."""
    q, levels = len(products.c), products.c.shape[2]
    reduced = state.right
    if products.rest:
        reduced = reduced - np.asarray(state.between @ state.ks).reshape(reduced.shape)
    half = per_level(state.root, reduced, transpose=True)
    # Z_1'V^-1 R = C R'(R u - R u2 K s2r), with K = L_2 (I + L_2'S L_2)^-1 L_2'
    h = np.stack([np.einsum("jl,jlr->lr", products.c[i], half) for i in range(q)])
    w = matmul(state.root, products.c.transpose(1, 0, 2))
    if not products.rest:
        return Projected(h, np.zeros((0, h.shape[2])), w, np.zeros((q * levels, 0)))
    n = times_levels(np.ascontiguousarray(w.transpose(1, 0, 2)), state.between)
    return Projected(h, state.s2r - np.asarray(state.s22 @ state.ks), w, n)


def gradient(products: Products, at: Profile, *, reml: bool, projected: Projected | None = None) -> list[FloatArray]:
    """Derivatives of the profiled criterion with respect to D_k: symmetric G_k (q, q) with dl = sum_k tr G_k dD_k.

    G_k = -1/2 sum over levels of (Z_l'P Z_l - h_l h_l' / sigma^2), with h_l = Z_l'V^-1 (y - X beta), and V^-1 instead
    of P under ML; sigma^2 is that of the profile, y'Py / f with f degrees of freedom unless it is known. These
    derivatives decide about a maximum on the boundary: over positive semi-definite D it requires D_k G_k = 0 and no G_k
    with a positive eigenvalue.
    """
    if products.grouped is not None:
        slopes: list[FloatArray] = products.grouped.gradient(at, reml=reml)
        return slopes
    projection = project(products, at.state) if projected is None else projected
    p, levels = products.p, products.c.shape[2]
    e = np.append(-at.beta, 1.0)  # R e = y - X beta
    ratio = 1.0 / at.sigma**2
    h = projection.h @ e  # Z_1'V^-1 (y - X beta)
    trace = _level_sums(projection.w, projection.w)  # sum over levels of Z_l'V_1^-1 Z_l = w'w
    outer = h @ h.T
    if reml:
        # P = V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1
        trace -= _weighted(projection.h[:, :, :p], at.cov_unscaled)
    if products.rest:
        # Z_1'V^-1 Z_1 = Z_1'V_1^-1 Z_1 - N K N' with N = Z_1'V_1^-1 Z_2
        parts = [projection.n[i * levels : (i + 1) * levels] for i in range(len(trace))]
        for i, j in itertools.combinations_with_replacement(range(len(trace)), 2):
            taken = total(at.state.k, gram_of(parts[i], parts[j]))
            trace[i, j] -= taken
            trace[j, i] -= taken * (i != j)
    by_first = -0.5 * (trace - ratio * outer)
    result: list[FloatArray] = [np.empty(0)] * len(products.sizes)
    start = 0
    for k in products.first:
        stop = start + products.sizes[k][0]
        result[k] = by_first[start:stop, start:stop]
        start = stop
    if not products.rest:
        return result
    # Z_2'V^-1 Z_2 = S - S K S with S = Z_2'V_1^-1 Z_2
    ks = at.state.k @ at.state.s22
    turned = sparse.csr_array(ks.T) if sparse.issparse(ks) else np.asarray(ks).T
    h2 = projection.h2 @ e
    start = 0
    for k in products.rest:
        q, levels = products.sizes[k]
        places = start + np.arange(levels)[:, None] * q + np.arange(q)
        trace, outer = np.empty((q, q)), h2[places].T @ h2[places]
        for i, j in itertools.product(range(q), range(q)):
            here = _rows(at.state.s22, places[:, i])
            trace[i, j] = _entries(at.state.s22, places[:, i], places[:, j]) - total(here, _rows(turned, places[:, j]))
        trace = (trace + trace.T) / 2
        if reml:
            x2 = projection.h2[places][:, :, :p]
            trace -= np.einsum("lip,pr,ljr->ij", x2, at.cov_unscaled, x2, optimize=True)
        result[k] = -0.5 * (trace - ratio * outer)
        start += q * levels
    return result


def _rows(a: Matrix, rows: npt.NDArray[np.int64]) -> Matrix:
    return a[rows]


def _entries(a: Matrix, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]) -> float:
    return float(np.asarray(a[rows, columns]).sum())


def _level_sums(a: FloatArray, b: FloatArray) -> FloatArray:
    """Sum of a'b over levels, for arrays of shape (q, q, L)."""
    q = a.shape[1]
    return np.array([[np.vdot(a[:, i], b[:, j]) for j in range(q)] for i in range(q)])


def _weighted(h: FloatArray, cov: FloatArray) -> FloatArray:
    """Sum over levels of h cov h', for h of shape (q, L, p) and cov of shape (p, p)."""
    q = len(h)
    turned = h @ cov
    return np.array([[np.vdot(turned[i], h[j]) for j in range(q)] for i in range(q)])


@dataclass(frozen=True)
class Moments:
    """Moments of V^-1 for c directions a, b of D; r = p + 1, and the last column of R = [X y] is y.

    Attributes:
        weights: Numbers w with D = sum_a w_a E_a, shape (c,).
        t: tr V^-1 V_a, shape (c,).
        tt: tr V^-1 V_a V^-1 V_b, shape (c, c).
        a: R'V^-1 V_a V^-1 R, shape (c, r, r).
        aa: R'V^-1 V_a V^-1 V_b V^-1 R, shape (c, c, r, r).
    """

    weights: FloatArray
    t: FloatArray
    tt: FloatArray
    a: FloatArray
    aa: FloatArray

    def only(self, kept: npt.NDArray[np.int64]) -> Moments:
        """The moments along some of the directions."""
        pairs = np.ix_(kept, kept)
        return Moments(self.weights[kept], self.t[kept], self.tt[pairs], self.a[kept], self.aa[pairs])


def moments(products: Products, state: State, along: Directions, projected: Projected | None = None) -> Moments:
    """Compute all moments at a state along directions of D, at the cost of a few gradients."""
    if products.grouped is not None:
        of_groups: Moments = products.grouped.moments(state, along)
        return of_groups
    projection = project(products, state) if projected is None else projected
    units = along.units
    c, r = len(units), projection.h.shape[2]
    q, levels = projection.h.shape[:2]
    m = products.m
    start1, start2 = _starts(products)
    firsts = [a for a, k in enumerate(along.blocks) if k in products.first]
    a_moment = np.empty((c, r, r))
    joint, other = np.zeros((q, levels, c, r)), np.zeros((m, c, r))
    wide: dict[int, FloatArray] = {}
    for a, k in enumerate(along.blocks):
        size, n_levels = products.sizes[k]
        if k in products.first:
            place = slice(start1[k], start1[k] + size)
            wide[a] = np.zeros((q, q))
            wide[a][place, place] = units[a]
            turned = np.tensordot(wide[a], projection.h, axes=1)
            # R'V^-1 V_a V^-1 R = sum_l h_l'E_a h_l, with h = Z'V^-1 R
            a_moment[a] = projection.h.reshape(q * levels, r).T @ turned.reshape(q * levels, r)
            for row in range(q):
                joint[row, :, a] = np.einsum("il,ilr->lr", projection.w[row], turned)
        else:
            own_rows = slice(start2[k], start2[k] + size * n_levels)
            here = projection.h2[own_rows].reshape(n_levels, size, r)
            turned = np.einsum("ij,ljr->lir", units[a], here)
            a_moment[a] = np.einsum("lir,lis->rs", here, turned)
            other[own_rows, a] = turned.reshape(-1, r)
    # R'V^-1 V_a V^-1 V_b V^-1 R = (E_a h)'(Z'V^-1 Z)(E_b h); within the first factor Z_l'V_1^-1 Z_l = w'w
    flat = joint.reshape(q * levels, c * r)
    aa = flat.T @ flat
    g = matmul(projection.w.transpose(1, 0, 2), projection.w)
    t, tt = _traces_of_first(g, wide, firsts, c)
    if products.rest:
        # Z'V^-1 Z = Z'V_1^-1 Z - Z'V_1^-1 Z_2 K Z_2'V_1^-1 Z, applied to both parts of E_a h
        beside = np.asarray(state.between.T @ flat)
        f2 = other.reshape(m, c * r)
        s_f2 = np.asarray(state.s22 @ f2)
        phi = beside + s_f2
        cross = beside.T @ f2
        aa = aa + cross + cross.T + f2.T @ s_f2 - phi.T @ np.asarray(state.k @ phi)
        _add_rest(products, state, along, projection, g, wide, firsts, t, tt)
    return Moments(along.weights, t, tt, a_moment, aa.reshape(c, r, c, r).transpose(0, 2, 1, 3))


def _starts(products: Products) -> tuple[dict[int, int], dict[int, int]]:
    one, two, at = {}, {}, 0
    for k in products.first:
        one[k] = at
        at += products.sizes[k][0]
    at = 0
    for k in products.rest:
        two[k] = at
        at += products.sizes[k][0] * products.sizes[k][1]
    return one, two


def _traces_of_first(
    g: FloatArray, wide: dict[int, FloatArray], firsts: list[int], c: int
) -> tuple[FloatArray, FloatArray]:
    t, tt = np.zeros(c), np.zeros((c, c))
    if not firsts:
        return t, tt
    once = g.sum(axis=2)
    q = len(g)
    flat = g.reshape(q * q, -1)
    twice = (flat @ flat.T).reshape(q, q, q, q)
    cells_of = np.stack([wide[a].ravel() for a in firsts])
    t[firsts] = cells_of @ once.ravel()
    tt[np.ix_(firsts, firsts)] = cells_of @ twice.transpose(3, 0, 1, 2).reshape(q * q, q * q) @ cells_of.T
    return t, tt


def _add_rest(
    products: Products,
    state: State,
    along: Directions,
    projection: Projected,
    g: FloatArray,
    wide: dict[int, FloatArray],
    firsts: list[int],
    t: FloatArray,
    tt: FloatArray,
) -> None:
    """Add the contributions of the other factors to the traces, in place."""
    k_s = state.k @ state.s22
    y = _identity_less(k_s)
    g22 = state.s22 @ y  # Z_2'V^-1 Z_2 = S (I - K S)
    by_cell: dict[int, Matrix] = {}
    for b, k in enumerate(along.blocks):
        if b not in firsts:
            nothing = [np.zeros((q, q)) for q, _ in products.sizes]
            nothing[k] = along.units[b]
            by_cell[b] = over_levels(products, nothing)
            t[b] = total(by_cell[b], g22)
    spread = {a: times_levels(_everywhere(wide[a], g.shape[2]), projection.n) for a in firsts}
    inner = {a: gram_of(projection.n, spread[a]) for a in firsts}
    k_inner = {a: state.k @ inner[a] for a in firsts}
    for a in firsts:
        t[a] -= total(state.k, inner[a])
        for b in firsts:
            middle = np.einsum("ij,jkl,kn->inl", wide[a], g, wide[b], optimize=True)
            once = total(state.k, gram_of(projection.n, times_levels(middle, projection.n)))
            tt[a, b] += total(k_inner[a], k_inner[b].T) - 2.0 * once
        turned = y.T @ (inner[a] @ y)
        for b, unit in by_cell.items():
            tt[a, b] = tt[b, a] = total(unit, turned)
    by_unit = {b: unit @ g22 for b, unit in by_cell.items()}
    for a, b in itertools.product(by_unit, by_unit):
        tt[a, b] = total(by_unit[a], by_unit[b].T)


def _identity_less(a: Matrix) -> Matrix:
    if sparse.issparse(a):
        return sparse.csr_array(sparse.eye_array(a.shape[0], format="csr") - a)
    return np.asarray(np.eye(len(a)) - a)


def _everywhere(a: FloatArray, levels: int) -> FloatArray:
    return np.repeat(a[:, :, None], levels, axis=2)


@dataclass(frozen=True)
class Curvature:
    """Gradient and Hessian of the profiled criterion along directions of D.

    Attributes:
        gradient: Derivatives along the directions, shape (c,); an off-diagonal cell stands for both of its elements.
        hessian: Second derivatives along pairs of directions, shape (c, c).
    """

    gradient: FloatArray
    hessian: FloatArray


def curvature(at: Profile, moments: Moments, *, reml: bool) -> Curvature:
    """Compute the gradient and Hessian of the profiled criterion along the directions of the moments.

    With q_a = y'P V_a P y, Q_ab = y'P V_a P V_b P y and f the degrees of freedom:
    l_a = -t_a / 2 + f q_a / (2 y'Py), l_ab = tr(P V_a P V_b) / 2 - f Q_ab / y'Py + f q_a q_b / (2 (y'Py)^2);
    under ML the traces are of V^-1 instead of P. If sigma is known, 1 / sigma^2 stands for f / y'Py, and the last term,
    which comes from the profiled sigma, is absent.
    """
    t, tt, q, quad = traces_and_forms(at, moments, reml=reml)
    ratio = 1.0 / at.sigma**2
    hessian = 0.5 * tt - ratio * quad
    if not at.known:
        hessian += 0.5 * ratio / at.quadratic * np.outer(q, q)
    return Curvature(-0.5 * t + 0.5 * ratio * q, (hessian + hessian.T) / 2)


def traces_and_forms(
    at: Profile, moments: Moments, *, reml: bool
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Traces tr P V_a (c,) and tr P V_a P V_b (c, c), q_a (c,) and Q_ab (c, c); under ML the traces are of V^-1."""
    p = len(at.beta)
    e = np.append(-at.beta, 1.0)
    cov = at.cov_unscaled
    ax, axx = moments.a @ e, moments.a[:, :p, :p]
    q = ax @ e  # q_a = (y - X beta)'V^-1 V_a V^-1 (y - X beta)
    xy = ax[:, :p]
    # Q_ab = e'A_ab e - (e'A_a)_x (X'V^-1 X)^-1 (A_b e)_x, with A_a and A_ab the moments and _x their X columns
    quad = moments.aa @ e @ e - xy @ cov @ xy.T
    t, tt = moments.t, moments.tt
    if reml:
        # tr P V_a = tr V^-1 V_a - tr A_a,xx (X'V^-1 X)^-1
        turned = axx @ cov
        t = t - np.trace(turned, axis1=1, axis2=2)
        # tr P V_a P V_b = tr V^-1 V_a V^-1 V_b - 2 tr A_ab,xx C + tr A_a,xx C A_b,xx C, with C = (X'V^-1 X)^-1
        tt = tt - 2.0 * np.tensordot(moments.aa[:, :, :p, :p], cov, axes=([2, 3], [1, 0]))
        tt = tt + np.tensordot(turned, turned, axes=([1, 2], [2, 1]))
    return t, tt, q, quad
