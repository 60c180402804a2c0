"""How far predictors explain each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

LOST = 1e-10
"""Share of a variance that is left without some coefficients, below which rounding has taken its digits."""


def generalised_vif(
    covariance: FloatArray, terms: Sequence[Sequence[int]], others: Sequence[Sequence[int]] | None = None
) -> FloatArray:
    """Generalised variance inflation factors, shape (t,).

    det(R_tt) det(R_-t,-t) / det(R) of the correlation matrix R of the coefficients without the intercept (Fox &
    Monette 1992, J. Am. Stat. Assoc. 87:178-183).

    Args:
        covariance: Of the coefficients without the intercept, shape (p, p).
        terms: Columns of each term.
        others: Columns with which each is compared, as in a model of these alone and the intercept; None for all. NaN
            where there are none, or where rounding leaves nothing to compare.
    """
    sd = np.sqrt(np.diag(covariance))
    r = covariance / np.outer(sd, sd)
    everything = set(range(len(r)))
    compared = [sorted(everything - set(own)) for own in terms] if others is None else [sorted(o) for o in others]
    found = []
    for own, rest in zip(terms, compared, strict=True):
        if others is not None and not rest:
            found.append(np.nan)
            continue
        both = [*own, *rest]
        held = _without(r, both, sorted(everything - set(both)))
        if np.diag(held).min() < LOST:
            found.append(np.nan)
            continue
        q = len(own)
        parts = [np.linalg.slogdet(block)[1] for block in (held[:q, :q], held[q:, q:])]
        found.append(np.exp(sum(parts) - np.linalg.slogdet(held)[1]))
    return np.asarray(found)


def _without(r: FloatArray, kept: Sequence[int], dropped: Sequence[int]) -> FloatArray:
    """Covariance of the kept coefficients in the model without the dropped ones: given that these are zero."""
    own = r[np.ix_(kept, kept)]
    if not dropped:
        return own
    across = r[np.ix_(kept, dropped)]
    return np.asarray(own - across @ np.linalg.solve(r[np.ix_(dropped, dropped)], across.T))


def condition_number(x: FloatArray, terms: Sequence[Sequence[int]], weights: FloatArray | None = None) -> float:
    """Largest over smallest singular value of columns about their means, orthonormal within each term.

    That of Belsley, Kuh & Welsch (1980, chapter 3) without the intercept, so that neither the origin of a predictor nor
    the coding of a factor matters; 1 for terms that do not explain each other.

    Args:
        x: Shape (n, p).
        terms: Columns of each term.
        weights: Of rows, shape (n,), or None.
    """
    if not terms:
        return 1.0
    w = np.full(len(x), 1 / len(x)) if weights is None else weights / weights.sum()
    centred = np.sqrt(w)[:, None] * (x - w @ x)
    bases = [np.linalg.qr(centred[:, list(own)])[0] for own in terms]
    values = np.linalg.svd(np.hstack(bases), compute_uv=False)
    return float(values[0] / values[-1]) if values[-1] > 0 else float("inf")
