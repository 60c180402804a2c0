"""Detection of separated data, in which the likelihood increases without end along a direction of the coefficients.

Separation was defined by Albert & Anderson (1984), Biometrika 71:1-10; the linear program follows Konis (2007), thesis,
Oxford, and for counts with a log link Correia, Guimaraes & Zylkin (2019), arXiv:1903.01633. Group effects do not
prevent separation: whatever their values, the likelihood of the rows increases along the same direction.

Along these directions the separated rows lose all information, and the likelihood of the other rows is what remains
(Geyer 2009, Electron. J. Stat. 3:259-289). A linear function of the coefficients has a finite estimate and variance if
and only if it is a combination of those other rows.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy
from scipy import sparse

from unimix.design.arrays import Design
from unimix.likelihood.lmm.batched_linalg import null_space

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_TOLERANCE = 1e-6
LARGEST = 20_000
"""Largest number of distinct rows for which the linear program is solved."""


def separated_terms(design: Design) -> tuple[str, ...]:
    """Names of the fixed effects without a finite maximum-likelihood estimate; empty if all estimates are finite.

    Args:
        design: Design of a model; only binomial models and counts with a log link can be separated.
    """
    names = {"fixed": design.fixed_names}
    if design.zero is not None:
        names["zero"] = tuple(f"{name} (zero inflation)" for name in design.zero.names)
    return tuple(
        names[part][j]
        for part, directions in separated_directions(design).items()
        for j in np.flatnonzero(np.any(directions, axis=0))
    )


def separated_directions(design: Design, same: Design | None = None) -> dict[str, FloatArray]:
    """Directions d of the coefficients that the overlapping rows do not determine, shapes (m, k), by part.

    Args:
        design: Design of a model.
        same: The same model in other columns, whose coefficients are meant; None for ``design`` itself.
    """
    fitted = design if same is None else same
    columns = {"fixed": fitted.x} if fitted.zero is None else {"fixed": fitted.x, "zero": fitted.zero.x}
    return {part: null_space(columns[part][rows]) for part, rows in overlapping_rows(design).items()}


def overlapping_rows(design: Design) -> dict[str, BoolArray]:
    """Masks of the rows, shapes (n,), that determine the estimates of a part whose data are separated.

    Args:
        design: Design of a model.

    Returns:
        A mask under ``fixed`` or ``zero`` (the part of the structural zeros), for the parts that are separated.
    """
    family, signs = design.family, {}
    if family.response == "binomial":
        signs["fixed"] = (design.x, np.where(design.y == 1, 1.0, np.where(design.y == 0, -1.0, 0.0)))
    elif family.response == "count" and family.link == "log":
        signs["fixed"] = (design.x, np.where(design.y == 0, -1.0, 0.0))
    if signs and design.zero is not None:
        # Rows with a positive count are not structural zeros; the others may be.
        signs["zero"] = (design.zero.x, np.where(design.y > 0, -1.0, 0.0))
    masks = {part: _overlapping(columns, sign) for part, (columns, sign) in signs.items()}
    return {part: mask for part, mask in masks.items() if not mask.all()}


def _overlapping(columns: FloatArray, sign: FloatArray) -> BoolArray:
    """Mask of the rows x with x'd = 0 for every d along which the likelihood never decreases, shape (n,).

    Such d have sign * x'd >= 0 for all rows, and x'd = 0 where the sign is 0.
    """
    if not columns.shape[1] or not sign.any():
        return np.ones(len(sign), dtype=bool)
    size = np.abs(columns).max(axis=0)
    rows, which = np.unique(np.column_stack([sign, columns / size]), axis=0, return_inverse=True)
    if len(rows) > LARGEST:
        return np.ones(len(sign), dtype=bool)
    sign, x = rows[:, 0], rows[:, 1:]
    signed, tied = sign[sign != 0, None] * x[sign != 0], x[sign == 0]
    equal = {"A_eq": tied, "b_eq": np.zeros(len(tied))} if len(tied) else {}
    # max sum of signed @ d with 0 <= signed @ d <= 1 and tied @ d = 0; positive if and only if data are separated
    solution = scipy.optimize.linprog(
        -signed.sum(axis=0),
        A_ub=np.vstack([-signed, signed]),
        b_ub=np.concatenate([np.zeros(len(signed)), np.ones(len(signed))]),
        **equal,
        bounds=(None, None),
        method="highs",
    )
    overlaps = np.ones(len(sign), dtype=bool)
    if solution.x is not None and -solution.fun >= _TOLERANCE:
        overlaps[sign != 0] = ~_separable(signed, tied)
    return overlaps[which.ravel()]


def _separable(signed: FloatArray, tied: FloatArray) -> BoolArray:
    """Rows r of ``signed`` (m, p) with r'd > 0 for a d with signed @ d >= 0 and tied @ d = 0, shape (m,).

    max sum of s with s <= signed @ d, 0 <= s <= 1: the sum of all such d, far enough out, gives every such row s = 1.
    """
    m, p = signed.shape
    fixed = sparse.hstack([sparse.csr_matrix(tied), sparse.csr_matrix((len(tied), m))])
    solution = scipy.optimize.linprog(
        np.concatenate([np.zeros(p), -np.ones(m)]),
        A_ub=sparse.hstack([sparse.csr_matrix(-signed), sparse.eye(m)]),
        b_ub=np.zeros(m),
        A_eq=fixed if len(tied) else None,
        b_eq=np.zeros(len(tied)) if len(tied) else None,
        bounds=[(None, None)] * p + [(0.0, 1.0)] * m,
        method="highs",
    )
    return np.asarray(solution.x[p:] > 0.5)
