"""How far predictors explain each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def generalised_vif(covariance: FloatArray, terms: Sequence[Sequence[int]]) -> FloatArray:
    """Generalised variance inflation factors, shape (t,).

    det(R_tt) det(R_-t,-t) / det(R) of the correlation matrix R of the coefficients without the intercept (Fox &
    Monette 1992, J. Am. Stat. Assoc. 87:178-183).

    Args:
        covariance: Of the coefficients without the intercept, shape (p, p).
        terms: Columns of each term.
    """
    sd = np.sqrt(np.diag(covariance))
    r = covariance / np.outer(sd, sd)
    whole, everything = np.linalg.slogdet(r)[1], set(range(len(r)))
    found = []
    for own in terms:
        others = sorted(everything - set(own))
        parts = [np.linalg.slogdet(r[np.ix_(c, c)])[1] for c in (list(own), others)]
        found.append(np.exp(sum(parts) - whole))
    return np.asarray(found)


def condition_number(x: FloatArray) -> float:
    """Largest over smallest singular value of columns of length 1 (Belsley, Kuh & Welsch 1980, chapter 3).

    Args:
        x: Shape (n, p), with the intercept.
    """
    if not x.shape[1]:
        return 1.0
    largest = np.abs(x).max(axis=0)
    x = x / largest
    values = np.linalg.svd(x / np.linalg.norm(x, axis=0), compute_uv=False)
    return float(values[0] / values[-1])
