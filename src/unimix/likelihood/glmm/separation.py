"""Detection of separated data, in which the likelihood increases without end along a direction of the coefficients.

Separation was defined by Albert & Anderson (1984), Biometrika 71:1-10; the linear program follows Konis (2007), thesis,
Oxford, and is solved on a growing set of rows. For counts with a log link it is that of Correia, Guimaraes & Zylkin
(2019), arXiv:1903.01633. Group effects do not prevent separation: whatever their values, the likelihood of the rows
increases along the same direction.

Along these directions the separated rows lose all information, and the likelihood of the other rows is what remains
(Geyer 2009, Electron. J. Stat. 3:259-289). A linear function of the coefficients has a finite estimate and variance if
and only if it is a combination of those other rows.
"""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import scipy
from scipy import sparse

from unimix.design.arrays import Design
from unimix.distributions.family import Cumulative
from unimix.errors import listing
from unimix.likelihood.lmm.batched_linalg import null_space

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_TOLERANCE = 1e-6
AT_ONCE = 1_000
"""Number of rows with which the linear program begins, and by which it grows."""
SPARSE = 0.2
"""Share of numbers other than zero up to which rows are treated as sparse."""
LEAST = {"count": 0.0, "positive_count": 1.0, "nonnegative": 0.0}
"""Smallest response, by kind: its probability tends to one as the mean tends to its lower end."""
MOST_SECONDS = 20.0
"""Time after which the search for separation in one part of the model ends undecided."""


def separated_terms(design: Design) -> tuple[str, ...]:
    """Names of the fixed effects without a finite maximum-likelihood estimate; empty if all estimates are finite.

    Args:
        design: Design of a model; only binomial models, counts and Tweedie models with a log link can be separated.
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
    return {part: mask for part, (mask, _) in _parts(design).items() if not mask.all()}


def undecided_separation(design: Design) -> str:
    """Message if the search for separation ran out of time, so that there may be more of it; empty otherwise."""
    if all(decided for _, decided in _parts(design).values()) and _ordered(design)[1]:
        return ""
    return (
        f"whether a combination of predictors separates the responses was not decided within {MOST_SECONDS:g} s: if "
        "one does, its estimate is infinite, and its standard error means nothing. Fit with fewer columns, or priors "
        "(backend='pymc')"
    )


def separated_categories(design: Design) -> tuple[str, ...]:
    """Names of the fixed effects and thresholds of an ordered response that have no finite estimate.

    With h = J p - eta at the thresholds J p, a row of category j says that h_j is large and that h_(j-1) is small.
    These are the rows of a binary model in the coefficients and p, which are separated under the same conditions.

    Args:
        design: Design of a model; only that of an ordered response can have such names.
    """
    return _ordered(design)[0]


def separation_of_categories(design: Design) -> str:
    """Message that predictors separate the categories of an ordered response; empty if they do not."""
    if not (names := separated_categories(design)):
        return ""
    return (
        f"Separation: some combination of {listing(names)} predicts part of the categories perfectly, and has no "
        "finite estimate. Leave a predictor out, or merge categories."
    )


def undetermined_categories(engine: str, fault: str, design: Design) -> str:
    """Message of an engine that found no maximum of the likelihood of an ordered response.

    Args:
        engine: Name of the engine.
        fault: Reason why the end of its search is not a maximum, or an empty text.
        design: The model in the user's columns.
    """
    reason = separation_of_categories(design) or (
        "The data do not determine the thresholds: a category may be too rare. Leave predictors out, or merge "
        "categories."
    )
    return f"{engine} found no maximum{f': {fault}' if fault else ''}. {reason}"


def _ordered(design: Design) -> tuple[tuple[str, ...], bool]:
    """Result of :func:`separated_categories`, and whether the search was finished."""
    family = design.family
    if not isinstance(family, Cumulative):
        return (), True

    def searched() -> tuple[tuple[str, ...], bool]:
        above, last = design.y.astype(np.int64), len(family.categories) - 1
        upper, lower = np.flatnonzero(above < last), np.flatnonzero(above > 0)
        rows = np.concatenate([upper, lower])
        cuts = family.matrix[np.concatenate([above[upper], above[lower] - 1])]
        columns = np.hstack([design.x[rows], -cuts])
        sign = np.repeat([-1.0, 1.0], [len(upper), len(lower)])
        overlaps, decided = _separation(columns, sign)
        endless = null_space(columns[overlaps]) if not overlaps.all() else np.empty((0, columns.shape[1]))
        of_thresholds = endless[:, design.p :] @ family.matrix.T
        names = (*design.fixed_names, *family.threshold_names)
        moved = np.any(np.abs(np.hstack([endless[:, : design.p], of_thresholds])) > _TOLERANCE, axis=0)
        return tuple(names[j] for j in np.flatnonzero(moved)), decided

    return design.keep("separation of categories", searched)


def _parts(design: Design) -> dict[str, tuple[BoolArray, bool]]:
    """For each part that can be separated, the overlapping rows and whether the search was finished."""
    return design.keep("separation", lambda: _searched(design))


def _searched(design: Design) -> dict[str, tuple[BoolArray, bool]]:
    family, signs = design.family, {}
    if family.response == "binomial":
        signs["fixed"] = (design.x, np.where(design.y == 1, 1.0, np.where(design.y == 0, -1.0, 0.0)))
    elif family.response in LEAST and family.link == "log":
        signs["fixed"] = (design.x, np.where(design.y == LEAST[family.response], -1.0, 0.0))
    if signs and design.zero is not None:
        # Rows with a positive count are not structural zeros; the others may be, and in a hurdle model they are.
        signs["zero"] = (design.zero.x, np.where(design.y > 0, -1.0, 1.0 if family.is_truncated else 0.0))
    found = {part: _separation(columns, sign) for part, (columns, sign) in signs.items()}
    return found | {"fixed": _above_zero(design)} if design.zero is not None and family.is_truncated else found


def _above_zero(design: Design) -> tuple[BoolArray, bool]:
    """Overlapping rows of the mean of a hurdle model, which the counts above zero alone determine."""
    above = design.y > 0
    overlaps, decided = _separation(design.x[above], np.where(design.y[above] == 1, -1.0, 0.0))
    if overlaps.all() and not len(null_space(design.x[above])):
        return np.ones(design.n, dtype=bool), decided
    mask = np.zeros(design.n, dtype=bool)
    mask[above] = overlaps
    return mask, decided


def _separation(columns: FloatArray, sign: FloatArray) -> tuple[BoolArray, bool]:
    """Rows x with x'd = 0 for every d along which the likelihood never decreases, and whether that was decided.

    Such d have sign * x'd >= 0 for all rows, and x'd = 0 where the sign is 0. The rows that one d separates are put
    aside: for the others a second direction d' is looked for, because c d + d' with a large c fits the rows put aside,
    too. Every round lowers the rank of the rows that are left, so that there are at most as many rounds as columns.

    Args:
        columns: Columns of the part, shape (n, p).
        sign: 1 where the likelihood increases with x'd without end, -1 where it increases with -x'd, else 0; shape
            (n,).
    """
    overlaps, deadline = np.ones(len(sign), dtype=bool), time.monotonic() + MOST_SECONDS
    if not columns.shape[1] or not sign.any():
        return overlaps, True
    free = null_space(columns[sign == 0]) if (sign == 0).any() else np.eye(columns.shape[1])
    left = np.flatnonzero(sign)
    signed = (sign[left, None] * columns[left]) @ free.T
    while signed.shape[1] and len(left):
        coordinates = _coordinates(signed)
        if not coordinates.shape[1]:
            break
        direction = _separating(coordinates, deadline)
        if direction is None:
            return overlaps, False
        apart = coordinates @ direction > _TOLERANCE
        if not apart.any():
            break
        overlaps[left[apart]] = False
        left, signed = left[~apart], signed[~apart]
    return overlaps, True


def _coordinates(rows: FloatArray) -> FloatArray:
    """Rows (m, p) in coordinates along the r directions that they span, shape (m, r).

    Columns of mostly zeros, which indicate levels, stay as they are, without those that depend on others. Other columns
    are turned to uncorrelated ones of mean square one, so that their units and collinearity do not matter.
    """
    size = np.sqrt(np.mean(rows**2, axis=0))
    scaled = rows / np.where(size > 0, size, 1.0)
    products = scaled.T @ scaled / len(rows)
    if np.count_nonzero(rows) < SPARSE * rows.size:
        r, order = scipy.linalg.qr(products, mode="r", pivoting=True)
        independent = np.abs(np.diag(r)) > 1e-10 * np.abs(r[0, 0])
        return np.asarray(scaled[:, order[independent]])
    values, vectors = np.linalg.eigh(products)
    kept = values > 1e-12 * values.max(initial=0.0)
    return np.asarray(scaled @ (vectors[:, kept] / np.sqrt(values[kept])))


def _separating(rows: FloatArray, deadline: float) -> FloatArray | None:
    """A direction d with rows @ d >= 0, as large as possible in sum; zero if there is none, None if time ran out.

    The linear program is solved for a small set of the rows. If these are of full rank and have no such d, all rows
    have none. A d that other rows do not allow brings the worst of them into the set.

    Args:
        rows: Signed rows of full rank, shape (m, r).
        deadline: Time of :func:`time.monotonic` at which the search ends.
    """
    m, r = rows.shape
    chosen = np.unique(np.concatenate([_spread_over(m), rows.argmin(axis=0), rows.argmax(axis=0)]))
    while (seconds := deadline - time.monotonic()) > 0:
        some = rows[chosen]
        # max sum of rows @ d with rows @ d >= 0 and |d_j| <= 1
        found = scipy.optimize.linprog(
            -some.mean(axis=0),
            A_ub=sparse.csr_array(-some) if np.count_nonzero(some) < SPARSE * some.size else -some,
            b_ub=np.zeros(len(some)),
            bounds=(-1.0, 1.0),
            method="highs",
            options={"time_limit": seconds},
        )
        if found.x is None or found.status != 0:
            return None
        d = np.asarray(found.x)
        if not (some @ d > _TOLERANCE).any():
            if len(chosen) == m:
                return np.zeros(r)
            open_ = null_space(some)
            if not len(open_):
                return np.zeros(r)
            worst = np.abs(rows @ open_.T).max(axis=1)  # rows that these directions change
        else:
            worst = -(rows @ d)
        added = np.setdiff1d(np.flatnonzero(worst > _TOLERANCE), chosen)
        if not len(added):
            return d
        chosen = np.concatenate([chosen, added[np.argsort(-worst[added])[: max(AT_ONCE, len(chosen) // 2)]]])
    return None


def _spread_over(m: int) -> npt.NDArray[np.int64]:
    """Up to :data:`AT_ONCE` of m positions, at random but always the same, because rows are often sorted."""
    return np.arange(m) if m <= AT_ONCE else np.random.default_rng(0).choice(m, AT_ONCE, replace=False)
