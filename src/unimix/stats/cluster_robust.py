"""Cluster-robust covariance matrices of fixed effects, with degrees of freedom for small numbers of clusters.

With V_j the model's covariance matrix of the responses of cluster j, W_j = V_j^-1, M = (sum X_j' W_j X_j)^-1, and e_j
the residuals about X_j beta,

    V_CR = M [ sum_j X_j' W_j A_j e_j e_j' A_j' W_j X_j ] M

where A_j = I for CR0, sqrt(J / (J - 1)) I for CR1 with J clusters, and (I - X_j M X_j' W_j)^-1 for CR3, the jackknife.
CR2 is unbiased if the model is right: A_j is the symmetric matrix with A_j (V_j - X_j M X_j') A_j' = V_j,

    A_j = D_j' B_j^(-1/2) D_j,   V_j = D_j' D_j,   B_j = D_j (V_j - X_j M X_j') D_j'.

Source: Pustejovsky & Tipton (2018), J. Bus. Econ. Stat. 36:672-683, with V_j as the working model; the degrees of
freedom are those of its sections 3.1 (Satterthwaite) and 3.2 (approximate Hotelling's T squared, "AHT" or "HTZ").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy

FloatArray = npt.NDArray[np.float64]
Kind = Literal["CR0", "CR1", "CR2", "CR3"]
KINDS: tuple[Kind, ...] = ("CR0", "CR1", "CR2", "CR3")
RANK = 1e-10
"""Smallest eigenvalue, relative to the largest one, that counts as more than a rounding error."""


@dataclass(frozen=True)
class Cluster:
    """The rows of one cluster: columns x (n, p), residuals about x beta (n,), and covariance matrix v (n, n)."""

    x: FloatArray
    residual: FloatArray
    v: FloatArray


@dataclass(frozen=True)
class Sandwich:
    """A cluster-robust covariance matrix, and what its degrees of freedom need.

    The contribution of cluster j to beta_hat is E_j e_j with E_j = M X_j' W_j A_j. Under the model, contributions i and
    j have the covariance matrix [i = j] E_i V_i E_i' - (E_i X_i) M (E_j X_j)'.

    Attributes:
        covariance: The cluster-robust covariance matrix of the fixed effects, shape (p, p).
        own: Matrices E_j V_j E_j', shape (J, p, p).
        cross: Matrices E_j X_j L with M = L L', shape (J, p, p).
    """

    covariance: FloatArray
    own: FloatArray
    cross: FloatArray

    def df(self, weights: FloatArray) -> FloatArray:
        """Satterthwaite's degrees of freedom of linear functions c'beta, for rows c of shape (m, p); shape (m,)."""
        own = np.einsum("mp,jpq,mq->mj", weights, self.own, weights)
        cross = np.einsum("mp,jpq->mjq", weights, self.cross)
        squares = np.einsum("mjq,mjq->mj", cross, cross)
        # E(c'V_CR c) = sum_j U_jj and var(c'V_CR c) = 2 sum_ij U_ij^2, with U_ij = [i = j] own_i - cross_i'cross_j
        mean = (own - squares).sum(axis=1)
        gram = np.einsum("mjq,mjr->mqr", cross, cross)
        spread = (own**2 - 2 * own * squares).sum(axis=1) + np.einsum("mqr,mqr->m", gram, gram)
        with np.errstate(divide="ignore", invalid="ignore"):
            df = mean**2 / spread
        return np.asarray(np.where(np.isfinite(df), df, np.nan), dtype=np.float64)

    def hotelling(self, weights: FloatArray, beta: FloatArray) -> tuple[float, float, float, float]:
        """Test L beta = 0 for rows L of shape (m, p): F, numerator and denominator df, p value.

        With q rows, Q = (L beta)'(L V_CR L')^-1 (L beta) and eta degrees of freedom of the Wishart distribution that
        approximates that of L V_CR L', F = (eta - q + 1) / (eta q) Q has q and eta - q + 1 degrees of freedom. The p
        value is NaN if there are too few clusters, eta <= q - 1.
        """
        values, vectors = np.linalg.eigh(weights @ self.covariance @ weights.T)
        kept = values > RANK * max(float(values.max(initial=0.0)), 1e-300)
        rows, q = vectors[:, kept].T @ weights, int(kept.sum())
        if not q:
            return np.nan, 0.0, np.nan, np.nan
        turned = rows @ beta
        wald = float(np.sum(turned**2 / values[kept]))
        own = np.einsum("sp,jpq,tq->jst", rows, self.own, rows)
        cross = np.einsum("sp,jpr->jsr", rows, self.cross)
        expected, axes = np.linalg.eigh((own - cross @ cross.swapaxes(1, 2)).sum(axis=0))
        if expected.min() <= RANK * expected.max():
            return np.nan, float(q), np.nan, np.nan
        turn = (axes / np.sqrt(expected)).T  # L V_CR L' has the expectation I in these coordinates
        own, cross = turn @ own @ turn.T, turn @ cross
        squares = cross @ cross.swapaxes(1, 2)
        # sum_st var(D_st) with cov(t_is, t_jt) = U_st,ij = [i = j] own_i,st - cross_is'cross_jt for D = sum_j t_j t_j':
        # var(D_st) = sum_ij U_ss,ij U_tt,ij + U_st,ij U_ts,ij
        trace, total = np.einsum("jss->j", own), np.einsum("jss->j", squares)
        whole = cross.reshape(len(cross), -1)
        straight = (trace**2 - 2 * trace * total).sum() + np.sum((whole.T @ whole) ** 2)
        gram = np.einsum("jsr,jtk->strk", cross, cross)
        mixed = np.einsum("jst,jts->", own, own - 2 * squares) + np.einsum("strk,tsrk->", gram, gram)
        eta = q * (q + 1) / float(straight + mixed)
        denominator = eta - q + 1
        if not denominator > 0:
            return np.nan, float(q), float(denominator), np.nan
        statistic = denominator / (eta * q) * wald
        return statistic, float(q), float(denominator), float(scipy.stats.f.sf(statistic, q, denominator))


def sandwich(clusters: Iterable[Cluster], kind: Kind) -> Sandwich:
    """Compute the cluster-robust covariance matrix of the fixed effects of a linear (mixed) model.

    Args:
        clusters: The clusters, whose responses are independent of each other under the model.
        kind: Adjustment of the residuals: CR0, CR1, CR2 or CR3.

    Raises:
        np.linalg.LinAlgError: If CR3 does not exist, because without a cluster some coefficients have no estimate.
    """
    parts = list(clusters)
    # X = Q R: all is computed with the orthonormal columns of Q, so that the units of the predictors do not matter
    root = np.linalg.qr(np.vstack([c.x for c in parts]), mode="r")
    turn = np.linalg.inv(root)
    columns = [c.x @ turn for c in parts]
    weighted = [np.asarray(np.linalg.solve(c.v, x), dtype=np.float64) for c, x in zip(parts, columns, strict=True)]
    information = np.sum([x.T @ wx for x, wx in zip(columns, weighted, strict=True)], axis=0)
    bread = np.asarray(np.linalg.inv((information + information.T) / 2), dtype=np.float64)
    lower = np.linalg.cholesky((bread + bread.T) / 2)
    count = len(parts)
    p = len(bread)
    covariance, own, cross = np.zeros((p, p)), np.empty((count, p, p)), np.empty((count, p, p))
    for j, (part, x, wx) in enumerate(zip(parts, columns, weighted, strict=True)):
        # E_j = M X_j' W_j A_j
        estimator = turn @ bread @ _adjusted(x, wx, part.v, bread, kind, count)
        moved = estimator @ part.residual
        covariance += np.outer(moved, moved)
        own[j] = estimator @ part.v @ estimator.T
        cross[j] = estimator @ x @ lower
    return Sandwich(covariance, own, cross)


def _adjusted(x: FloatArray, wx: FloatArray, v: FloatArray, bread: FloatArray, kind: Kind, count: int) -> FloatArray:
    """X_j' W_j A_j, shape (p, n)."""
    match kind:
        case "CR0":
            return wx.T
        case "CR1":
            return np.asarray(np.sqrt(count / (count - 1)) * wx.T)
        case "CR2":
            d = np.linalg.cholesky(v).T
            values, vectors = np.linalg.eigh(d @ (v - x @ bread @ x.T) @ d.T)
            kept = values > RANK * values.max()
            half = (vectors[:, kept] / np.sqrt(values[kept])) @ vectors[:, kept].T
            return np.asarray(wx.T @ d.T @ half @ d)
        case "CR3":
            # X'W (I - X M X'W)^-1 = (I - X'W X M)^-1 X'W, of size p instead of n
            left = np.eye(len(bread)) - (x.T @ wx) @ bread
            if np.linalg.svd(left, compute_uv=False).min() < RANK:
                raise np.linalg.LinAlgError("the columns of a cluster are nowhere else")
            return np.asarray(np.linalg.solve(left, wx.T))


def of_scores(scores: FloatArray, inverse: FloatArray, p: int, kind: Kind) -> FloatArray:
    """The cluster-robust covariance matrix of the first p parameters of any likelihood, shape (p, p).

    With s_j the derivatives of the log likelihood of cluster j at the maximum, and H the observed information,

        V_CR = H^-1 [ sum_j s_j s_j' ] H^-1,   times J / (J - 1) for CR1.

    Source: White (1982), Econometrica 50:1-25, with clusters as the independent units.

    Args:
        scores: Derivatives s_j with respect to k parameters, shape (J, k).
        inverse: Inverse of the information, shape (k, k).
        p: Number of parameters whose covariance matrix is returned.
        kind: CR0 or CR1.
    """
    moved = scores @ inverse[:, :p]
    count = len(scores)
    return np.asarray(moved.T @ moved * (count / (count - 1) if kind == "CR1" else 1.0))


__all__ = ["KINDS", "Cluster", "Kind", "Sandwich", "of_scores", "sandwich"]
