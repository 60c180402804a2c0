"""Measures of collinearity of predictors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

LOST = 1e-10
"""Smallest share of a variance that remains without some coefficients and exceeds rounding error."""


def generalised_vif(
    covariance: FloatArray, terms: Sequence[Sequence[int]], others: Sequence[Sequence[int]] | None = None
) -> FloatArray:
    """Generalised variance inflation factors, shape (t,).

    The factor of term t is det(R_tt) det(R_-t,-t) / det(R), where R is the correlation matrix of the coefficients
    without the intercept (Fox & Monette 1992, J. Am. Stat. Assoc. 87:178-183).

    Args:
        covariance: Covariance matrix of the coefficients without the intercept, shape (p, p).
        terms: Indices of the columns of each term.
        others: Indices of the columns with which each term is compared, as in a model with these columns and the
            intercept alone; None for all others.

    Returns:
        Factors, shape (t,); NaN for a term without other columns, or where rounding error is too large.
    """
    sd = np.sqrt(np.diag(covariance))
    r = covariance / np.outer(sd, sd)
    everything = set(range(len(r)))
    compared = (
        [sorted(everything - set(columns)) for columns in terms] if others is None else [sorted(o) for o in others]
    )
    factors = []
    for columns, rest in zip(terms, compared, strict=True):
        if others is not None and not rest:
            factors.append(np.nan)
            continue
        both = [*columns, *rest]
        held = _without(r, both, sorted(everything - set(both)))
        if np.diag(held).min() < LOST:
            factors.append(np.nan)
            continue
        q = len(columns)
        parts = [np.linalg.slogdet(block)[1] for block in (held[:q, :q], held[q:, q:])]
        factors.append(np.exp(sum(parts) - np.linalg.slogdet(held)[1]))
    return np.asarray(factors)


def _without(r: FloatArray, kept: Sequence[int], dropped: Sequence[int]) -> FloatArray:
    """Covariance of the kept coefficients given that the dropped ones are zero, as in the model without them."""
    part = r[np.ix_(kept, kept)]
    if not dropped:
        return part
    across = r[np.ix_(kept, dropped)]
    return np.asarray(part - across @ np.linalg.solve(r[np.ix_(dropped, dropped)], across.T))


def condition_number(x: FloatArray, terms: Sequence[Sequence[int]], weights: FloatArray | None = None) -> float:
    """Ratio of the largest to the smallest singular value of centred columns, orthonormal within each term.

    This is the condition number of Belsley, Kuh & Welsch (1980, chapter 3) without the intercept, so that neither the
    origin of a predictor nor the coding of a factor matters. It is 1 for uncorrelated terms.

    Args:
        x: Columns, shape (n, p).
        terms: Indices of the columns of each term.
        weights: Weights of the rows, shape (n,), or None.
    """
    if not terms:
        return 1.0
    w = np.full(len(x), 1 / len(x)) if weights is None else weights / weights.sum()
    centred = np.sqrt(w)[:, None] * (x - w @ x)
    bases = [np.linalg.qr(centred[:, list(columns)])[0] for columns in terms]
    values = np.linalg.svd(np.hstack(bases), compute_uv=False)
    return float(values[0] / values[-1]) if values[-1] > 0 else float("inf")
