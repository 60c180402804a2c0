"""Influence of sets of rows on the fixed effects, at fixed covariance parameters and without refits.

With V = W^-1 + UU' the covariance of the (working) response y, M = (X'V^-1 X)^-1 and r = V^-1 (y - X beta_hat), the
estimates without the rows of a set I solve

    (M^-1 - S_I) (beta_(I) - beta_hat) = -G_I (V^-1)_II^-1 r_I,   G_I = (X'V^-1)_I,   S_I = G_I (V^-1)_II^-1 G_I',

and their covariance is (M^-1 - S_I)^-1, as in the mean-shift model with a column for every row of I. Sources: Haslett
(1999), J. R. Stat. Soc. B 61:603-609; Demidenko & Stukel (2005), Stat. Med. 24:893-909; for rows of a linear model Cook
& Weisberg (1982), Residuals and Influence in Regression, section 3.4. V^-1 is never formed: its blocks come from the
factors of I + U'WU in :mod:`unimix.stats.joint_error`. For a generalised model, y is the working response and W the
expected information at the estimates, which is the one-step approximation of Pregibon (1981), Ann. Stat. 9:705-724.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from unimix.design.arrays import Design
from unimix.likelihood.lmm.conditioning import relative_factors
from unimix.likelihood.response import row_log_likelihood
from unimix.stats.joint_error import Conditional, fixed_information, formed, solve

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

CHUNK = 4_000_000
"""Largest size of an array, in numbers, that is in memory at once."""
LARGE = 1500
"""Number of rows of a set above which the model of the other rows is solved directly."""
NOTHING = 1e-9
"""Remaining share of the information about a direction of the fixed effects below which it counts as none."""


@dataclass(frozen=True)
class Linearised:
    """Linear mixed model of a working response.

    Attributes:
        design: Design in coordinates in which the weighted X is orthonormal.
        back: Matrix from coefficients in these coordinates to the user's, shape (p, p).
        response: Working response less offset, shape (n,).
        factors: Factors L_k with Cov_k = L_k L_k', shapes (q, q).
        at: Factors of I + U'WU; ``at.beta_cov`` is M.
        beta: Generalised least-squares estimates, shape (p,).
    """

    design: Design
    back: FloatArray
    response: FloatArray
    factors: tuple[FloatArray, ...]
    at: Conditional
    beta: FloatArray


@dataclass(frozen=True)
class Deletions:
    """Effects of leaving out each of m sets of rows; NaN if the other rows do not identify the fixed effects.

    Attributes:
        change: Estimates without the set minus those with it, shape (m, p).
        distance: Cook's distance, change' M^-1 change / p, shape (m,).
        covratio: Ratio of the determinants of the covariance matrices without and with the set, shape (m,).
        lost: Contribution of the set to (y - X beta_hat)'V^-1 (y - X beta_hat), shape (m,).
        surprise: Statistic change' (M_(I) - M)^- change, which is chi-squared under the model, shape (m,).
        rank: Degrees of freedom of ``surprise``, shape (m,).
    """

    change: FloatArray
    distance: FloatArray
    covratio: FloatArray
    lost: FloatArray
    surprise: FloatArray
    rank: FloatArray


def linearise(
    design: Design, eta: FloatArray, covariances: tuple[FloatArray, ...], parameters: FloatArray
) -> Linearised:
    """Form the working model at the estimates; for a linear model it is the model itself.

    Args:
        design: Fitted design, without zero inflation and with a constant dispersion.
        eta: Linear predictor with offset, shape (n,).
        covariances: Covariance matrix of each block, shapes (q, q); may be singular.
        parameters: Dispersion parameters, shape (k,).
    """
    rows = row_log_likelihood(design, parameters, eta)
    weight = np.maximum(rows.expected, 1e-12 * float(rows.expected.max()))
    response = eta + rows.score / weight
    if design.offset is not None:
        response = response - design.offset
    r = np.linalg.qr(np.sqrt(weight)[:, None] * design.x, mode="r")
    back = linalg.solve_triangular(r, np.eye(design.p))
    well_scaled = replace(design, x=np.ascontiguousarray(design.x @ back))
    factors = relative_factors(covariances, 1.0)
    at, beta = _solved(well_scaled, factors, weight, response)
    return Linearised(well_scaled, back, response, factors, at, beta)


def _solved(
    design: Design, factors: tuple[FloatArray, ...], weight: FloatArray, response: FloatArray
) -> tuple[Conditional, FloatArray]:
    at = formed(design, factors, weight, np.empty((0, 0)))
    at = replace(at, beta_cov=np.asarray(np.linalg.inv(fixed_information(at, design.x))))
    return at, at.beta_cov @ (design.x.T @ _inverse_times(at, response))


def _inverse_times(at: Conditional, right: FloatArray) -> FloatArray:
    """Multiply ``right`` by V^-1, shape (n,)."""
    weighted = at.weight * right
    return np.asarray(weighted - at.weight * (at.u @ solve(at, np.asarray(at.u.T @ weighted)[:, None])[:, 0]))


def deletions(model: Linearised, codes: IntArray, n_sets: int) -> Deletions:
    """Compute the effects of leaving out each set in turn.

    Args:
        model: Working model that :func:`linearise` returned.
        codes: Index of the set of each row, shape (n,).
        n_sets: Number m of sets, each with at least one row.
    """
    p, at = model.design.p, model.at
    vx = at.weight[:, None] * (model.design.x - np.asarray(at.u @ at.follow))
    vr = _inverse_times(at, model.response - model.design.x @ model.beta)
    right = np.column_stack([vx, vr])
    root = np.asarray(np.linalg.cholesky(at.beta_cov), dtype=np.float64)
    results = Deletions(*(np.full((n_sets, *shape), np.nan) for shape in ((p,), (), (), (), (), ())))
    for sets, rows in _batches(codes, n_sets, p + at.half_rest.shape[0]):
        if rows.shape[1] > LARGE:
            for index, deleted in zip(sets, rows, strict=True):
                _solve_again(model, results, int(index), deleted, right)
            continue
        _downdate(model, results, sets, _blocks(model, rows), right[rows], root)
    return results


def _batches(codes: IntArray, n_sets: int, width: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Batches of sets of the same size s: indices of the sets (b,) and of their rows (b, s)."""
    sizes = np.bincount(codes, minlength=n_sets)
    order, starts = np.argsort(codes, kind="stable"), np.cumsum(sizes) - sizes
    for size in np.unique(sizes[sizes > 0]):
        members = np.flatnonzero(sizes == size)
        step = max(1, CHUNK // int(size * (size + width)))
        for begin in range(0, len(members), step):
            sets = members[begin : begin + step]
            yield sets, order[starts[sets][:, None] + np.arange(size)]


def _blocks(model: Linearised, rows: IntArray) -> FloatArray:
    """Compute the blocks (b, s, s) of V^-1 for rows (b, s)."""
    at, blocks = model.at, model.design.blocks
    weight = at.weight[rows]
    inverse = weight[:, :, None] * np.eye(rows.shape[1])
    if not at.first and not at.rest:
        return np.asarray(inverse)
    gram = np.zeros_like(inverse)
    if at.first:
        q = len(at.stacked)
        z = np.concatenate([blocks[k].z for k in at.first], axis=1)[rows.ravel()]
        codes = blocks[at.first[0]].codes[rows]
        halves = np.einsum("nq,nrq->nr", z @ at.stacked, at.halves[codes.ravel()]).reshape(*rows.shape, q)
        gram = np.einsum("bir,bjr->bij", halves, halves) * (codes[:, :, None] == codes[:, None, :])
    if at.rest:
        u = at.u[rows.ravel()]
        others = (u[:, at.m1 :] - u[:, : at.m1] @ at.across.T) @ at.half_rest.T
        dense = others.toarray() if sparse.issparse(others) else np.asarray(others)
        dense = dense.reshape(*rows.shape, -1)
        gram += dense @ dense.transpose(0, 2, 1)
    return np.asarray(inverse - weight[:, :, None] * gram * weight[:, None, :])


def _downdate(
    model: Linearised, results: Deletions, sets: IntArray, inverse: FloatArray, right: FloatArray, root: FloatArray
) -> None:
    """Fill in the results for sets of the same size.

    Args:
        model: Working model.
        results: Results, which are changed in place.
        sets: Indices of the sets, shape (b,).
        inverse: (V^-1)_II, shape (b, s, s).
        right: Rows of V^-1 [X, y - X beta_hat] in the sets, shape (b, s, p + 1).
        root: Matrix R with RR' = M, shape (p, p).
    """
    p = model.design.p
    products = right.transpose(0, 2, 1) @ np.linalg.solve(inverse, right)
    left = np.eye(p) - root.T @ products[:, :p, :p] @ root
    values, vectors = np.linalg.eigh((left + left.transpose(0, 2, 1)) / 2)
    known = values[:, 0] > NOTHING
    sets, values, vectors, products = sets[known], values[known], vectors[known], products[known]
    turned = root @ vectors  # these columns, divided by the square roots of the values, are a root of M_(I)
    along = np.einsum("bij,bi->bj", turned, products[:, :p, p])
    change = -np.einsum("bij,bj->bi", turned, along / values)
    results.change[sets] = change @ model.back.T
    results.distance[sets] = np.sum((along / values) ** 2, axis=1) / p
    results.covratio[sets] = 1 / np.prod(values, axis=1)
    results.lost[sets] = products[:, p, p] + np.sum(along**2 / values, axis=1)
    informative = values < 1 - NOTHING
    results.surprise[sets] = np.sum(
        np.where(informative, along**2 / (values * np.where(informative, 1 - values, 1.0)), 0.0), axis=1
    )
    results.rank[sets] = informative.sum(axis=1)


def _solve_again(model: Linearised, results: Deletions, index: int, rows: IntArray, right: FloatArray) -> None:
    """Fill in the result for one set of very many rows, by solving the model of the other rows."""
    kept = np.ones(model.design.n, dtype=bool)
    kept[rows] = False
    blocks = tuple(replace(b, z=b.z[kept], codes=b.codes[kept]) for b in model.design.blocks)
    y, x = model.response[kept], model.design.x[kept]
    weight, p = model.at.weight[kept], model.design.p
    others = replace(model.design, y=y, x=x, blocks=blocks, rows=model.design.rows[kept])
    if len(y) < p or np.linalg.eigvalsh(x.T @ (weight[:, None] * x))[0] < NOTHING:
        return
    at, beta = _solved(others, model.factors, weight, y)
    change, inverse = beta - model.beta, np.linalg.inv(model.at.beta_cov)
    rest = y - x @ beta
    everything = model.response - model.design.x @ model.beta
    results.change[index] = model.back @ change
    results.distance[index] = change @ inverse @ change / p
    results.covratio[index] = np.linalg.det(at.beta_cov) * np.linalg.det(inverse)
    size, axes = np.linalg.eigh(at.beta_cov - model.at.beta_cov)
    informative = size > NOTHING * size.max()
    results.surprise[index] = float(np.sum((axes[:, informative].T @ change) ** 2 / size[informative]))
    results.rank[index] = float(informative.sum())
    results.lost[index] = everything @ right[:, p] - rest @ _inverse_times(at, rest)
