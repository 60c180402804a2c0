"""Detection of separated data, in which the likelihood increases without end along a direction of the coefficients.

Separation was defined by Albert & Anderson (1984), Biometrika 71:1-10; the linear program follows Konis (2007), thesis,
Oxford, and for counts with a log link Correia, Guimaraes & Zylkin (2019), arXiv:1903.01633. Group effects do not
prevent separation: whatever their values, the likelihood of the rows increases along the same direction.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy

from unimix.design.arrays import Design

FloatArray = npt.NDArray[np.float64]

_TOLERANCE = 1e-6
LARGEST = 20_000
"""Largest number of distinct rows for which the linear program is solved."""


def separated_terms(design: Design) -> tuple[str, ...]:
    """Names of the fixed effects without a finite maximum-likelihood estimate; empty if all estimates are finite.

    Args:
        design: Design of a model; only binomial models and counts with a log link can be separated.
    """
    return design.keep("separated terms", lambda: _separated_terms(design))


def _separated_terms(design: Design) -> tuple[str, ...]:
    family = design.family
    if family.response == "binomial":
        sign = np.where(design.y == 1, 1.0, np.where(design.y == 0, -1.0, 0.0))
    elif family.response == "count" and family.link == "log":
        sign = np.where(design.y == 0, -1.0, 0.0)
    else:
        return ()
    found = _endless(design.x, design.fixed_names, sign)
    if design.zero is not None:
        # Rows with a positive count are not structural zeros; the others may be.
        names = tuple(f"{name} (zero inflation)" for name in design.zero.names)
        found += _endless(design.zero.x, names, np.where(design.y > 0, -1.0, 0.0))
    return found


def _endless(columns: FloatArray, names: tuple[str, ...], sign: FloatArray) -> tuple[str, ...]:
    """Names of columns with d_j != 0, for d with sign * columns @ d >= 0, not all zero, and = 0 where sign is 0."""
    if not columns.shape[1] or not sign.any():
        return ()
    size = np.abs(columns).max(axis=0)
    rows = np.unique(np.column_stack([sign, columns / size]), axis=0)
    if len(rows) > LARGEST:
        return ()
    sign, x = rows[:, 0], rows[:, 1:]
    signed, tied = sign[sign != 0, None] * x[sign != 0], x[sign == 0]
    # max sum of signed @ d with 0 <= signed @ d <= 1 and tied @ d = 0; positive if and only if data are separated
    found = scipy.optimize.linprog(
        -signed.sum(axis=0),
        A_ub=np.vstack([-signed, signed]),
        b_ub=np.concatenate([np.zeros(len(signed)), np.ones(len(signed))]),
        A_eq=tied if len(tied) else None,
        b_eq=np.zeros(len(tied)) if len(tied) else None,
        bounds=(None, None),
        method="highs",
    )
    if found.x is None or -found.fun < _TOLERANCE:
        return ()
    moved = np.abs(found.x) > _TOLERANCE * max(1.0, float(np.abs(found.x).max()))
    return tuple(name for name, hit in zip(names, moved, strict=True) if hit)
