"""Residual covariances of linear models whose standard deviations follow a formula: ``dispformula="~ arm"``.

log sd_i = w_i'gamma for row i, as in glmmTMB; a factor gives each level its own standard deviation, as nlme's varIdent.
With ``residual=`` the residuals of a group have the covariances sd_i sd_j C[t_i, t_j], where C belongs to the times and
is one at the first time. Rows with the same time and the same columns w form a cell, and the covariance matrix over the
cells is a :class:`~unimix.design.covariance_structures.Structure` like any other, with
log sigma = w'gamma of the first cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design
from unimix.design.covariance_structures import Structure
from unimix.design.estimates import Estimates
from unimix.errors import DataError, listing

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelledVariances(Structure):
    """Covariances sd_i sd_j C[t_i, t_j] of q cells relative to sigma^2, with log-linear standard deviations.

    The free parameters are those of the standard deviations, log(sd / sigma) = ``columns`` @ gamma, and those of C.

    Attributes:
        columns: Well-scaled columns of the log standard deviations, shape (q, d); zero in the first cell.
        times: Index of the time of each cell, shape (q,).
        inner: Structure of C, whose first variance is one.
        independent: Whether the residuals of different rows are independent.
        coefficients: Matrix (d + 1, d + 1) that gives the coefficients of the formula from log sigma and gamma.
    """

    columns: FloatArray
    times: IntArray
    inner: Structure
    independent: bool
    coefficients: FloatArray

    @property
    def n_sd(self) -> int:
        """Zero, because no standard deviation is a parameter that could be zero."""
        return 0

    @property
    def n_modelled(self) -> int:
        """Number d of parameters of the standard deviations."""
        return int(self.columns.shape[1])

    @property
    def n_correlations(self) -> int:
        """Number of free parameters."""
        return self.n_modelled + self.inner.n_parameters

    def matrix(self, theta: FloatArray) -> FloatArray:
        """Covariance matrix (q, q) at free parameters (d,)."""
        sd = np.exp(self.columns @ theta[: self.n_modelled])
        return np.asarray(np.outer(sd, sd) * self.of_cells(self.of_times(theta)))

    def of_times(self, theta: FloatArray) -> FloatArray:
        """Matrix C (T, T) at free parameters (d,)."""
        return self.inner.matrix(theta[self.n_modelled :])

    def of_cells(self, matrix: FloatArray) -> FloatArray:
        """Elements (..., q, q) of matrices (..., T, T) for all pairs of cells; zero off the diagonal if independent."""
        cells = matrix[..., self.times[:, None], self.times]
        return np.asarray(cells * np.eye(self.q) if self.independent else cells)

    def derivatives(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """First (d, q, q) and second (d, d, q, q) derivatives of the covariance matrix in the free parameters (d,)."""
        m, d = self.n_modelled, self.n_parameters
        sd = np.exp(self.columns @ theta[:m])
        outer, whole = np.outer(sd, sd), self.matrix(theta)
        rates = self.columns.T[:, :, None] + self.columns.T[:, None, :]  # d log(sd_i sd_j) / d gamma_a
        by_inner, by_inner_twice = self.inner.derivatives(theta[m:])
        inner, twice = outer * self.of_cells(by_inner), outer * self.of_cells(by_inner_twice)
        second = np.empty((d, d, self.q, self.q))
        second[:m, :m] = rates[:, None] * rates[None] * whole
        second[:m, m:] = rates[:, None] * inner[None]
        second[m:, :m] = second[:m, m:].transpose(1, 0, 2, 3)
        second[m:, m:] = twice
        return np.concatenate([rates * whole, inner]), second

    def parameters(self, matrix: FloatArray) -> FloatArray:
        """Free parameters (d,) of a covariance matrix (q, q) relative to sigma^2, or of the nearest of this form."""
        log_sd = 0.5 * np.log(np.diag(matrix))
        by_time = np.eye(int(self.times.max(initial=0)) + 1)[self.times][:, 1:]
        if self.inner.n_sd == 0:  # one variance at all times
            by_time = by_time[:, :0]
        found = np.linalg.lstsq(np.hstack([self.columns, by_time]), log_sd)[0]
        own, first = found[: self.n_modelled], np.unique(self.times, return_index=True)[1]
        sd = np.exp(self.columns @ own)
        return np.concatenate([own, self.inner.parameters((matrix / np.outer(sd, sd))[np.ix_(first, first)])])

    def held(self, theta: FloatArray) -> npt.NDArray[np.bool_]:
        """Which free parameters (d,) lie on an edge: none of the standard deviations."""
        of_inner = self.inner.held(theta[self.n_modelled :])
        return np.concatenate([np.zeros(self.n_modelled, dtype=bool), of_inner])

    def starts(self, size: float) -> list[FloatArray]:
        """Free parameters (d,) with equal standard deviations, and with larger or smaller ones along each column."""
        begun = self.inner.starts(size)
        none = np.zeros(self.n_modelled)
        unequal = [sign * unit for unit in np.eye(self.n_modelled)[:MOST_UNEQUAL] for sign in (0.7, -0.7)]
        return [np.concatenate([none, own]) for own in begun] + [np.concatenate([own, begun[0]]) for own in unequal]

    def inward(self, theta: FloatArray) -> list[FloatArray]:
        """Free parameters (d,) near given ones that are off the edge in one parameter or another."""
        own, inner = np.split(theta, [self.n_modelled])
        return [np.concatenate([own, near]) for near in self.inner.inward(inner)]


MOST_UNEQUAL = 3
"""Number of columns along which a search also starts from unequal standard deviations."""


@dataclass(frozen=True, eq=False)
class ResidualCells:
    """Cells of a linear model whose residual standard deviations have a formula.

    Attributes:
        groups: Set of rows, tied by correlated residuals or by group effects, to which each row belongs, shape (n,).
        cells: Cell of each row, shape (n,), numbered in the order of their first rows.
        structure: Covariance structure of the cells, relative to sigma^2.
        rows: Columns of the log standard deviations of the cells, shape (q, k).
    """

    groups: IntArray
    cells: IntArray
    structure: ModelledVariances
    rows: FloatArray

    def covariance(self, gamma: FloatArray, of_times: FloatArray | None) -> tuple[FloatArray, float]:
        """Covariance matrix of the residuals over the cells, shape (q, q), and sigma.

        Args:
            gamma: Coefficients of the log standard deviations, shape (k,).
            of_times: Matrix C of the times, shape (T, T), which is one at the first time; None without ``residual=``.
        """
        log_sd = self.rows @ gamma
        c = np.ones((1, 1)) if of_times is None else of_times
        sd = np.exp(log_sd)
        return np.outer(sd, sd) * self.structure.of_cells(c), float(np.exp(log_sd[0]))

    def coefficients(self, matrix: FloatArray, sigma: float) -> FloatArray:
        """Coefficients of the log standard deviations, shape (k,), of a covariance matrix over the cells and sigma."""
        theta = self.structure.parameters(matrix / sigma**2)
        return np.asarray(self.structure.coefficients @ np.append(np.log(sigma), theta[: self.structure.n_modelled]))


def constant_of(part_x: FloatArray) -> FloatArray | None:
    """Coefficients, shape (k,), with which columns (n, k) sum to one in every row; None if there are none."""
    constant: FloatArray = np.linalg.lstsq(part_x, np.ones(len(part_x)))[0].astype(np.float64)
    return constant if np.abs(part_x @ constant - 1).max(initial=0.0) < 1e-8 else None


def residual_cells(design: Design) -> ResidualCells | None:
    """Cells of a linear model whose dispersion has a formula with a constant; None for other models."""
    part = design.dispersion
    if part is None or not design.has_modelled_variances or constant_of(part.x) is None:
        return None
    return design.keep_of_columns("residual cells", lambda: _cells(design))


def has_criterion(design: Design) -> bool:
    """Whether a design has the likelihood of a linear model that unimix computes in closed form."""
    return design.is_linear or (design.has_modelled_variances and not faults(design))


MOST_CELLS, MOST_TIED = 1000, 1e9
"""Largest number of cells, and largest sum of the third powers of the numbers of rows that are tied together."""


def faults(design: Design) -> list[str]:
    """Reasons why the likelihood with modelled variances cannot be computed, or has no maximum."""
    cells = residual_cells(design)
    if cells is None:
        return ["dispformula= without an intercept fixes the residual variance where its terms are zero: add '1 +'"]
    return list(design.keep_of_columns("faults of the variances", lambda: _faults(design, cells)))


def _faults(design: Design, cells: ResidualCells) -> list[str]:
    reasons = []
    if design.sigma is not None:
        reasons.append("dispformula= with sigma=: the residual variances are either known or modelled")
    if design.related:
        reasons.append("dispformula= with relationship=: the likelihood is computed for independent levels")
    if design.compression is not None:
        reasons.append("dispformula= with reduced rows: give the rows themselves")
    if cells.structure.q > MOST_CELLS:
        reasons.append(
            f"dispformula= has {cells.structure.q:,} different rows, and matrices of more than {MOST_CELLS:,} take "
            "long. Round its variables"
        )
    counts = np.bincount(cells.groups).astype(np.float64)
    if np.sum(counts**3) > MOST_TIED:
        reasons.append(
            f"dispformula= with up to {int(counts.max()):,} rows that group effects or residuals tie together: the "
            "likelihood is computed with a matrix of these rows, which takes long"
        )
    return reasons


def check_variances(design: Design) -> None:
    """Refuse a formula of the residual standard deviations about which the rows say nothing.

    Raises:
        DataError: If the formula and ``residual=`` say the same, or rows have a variance of their own that the fixed
            effects fit exactly.
    """
    cells = residual_cells(design)
    if cells is None:
        return
    structure = cells.structure
    by_time = np.eye(int(structure.times.max(initial=0)) + 1)[structure.times][:, 1:]
    if structure.inner.n_sd and np.linalg.matrix_rank(np.hstack([structure.columns, by_time])) < (
        structure.n_modelled + by_time.shape[1]
    ):
        raise DataError("dispformula= and residual= both give the same rows variances of their own: leave one out.")
    if structure.inner.n_sd:
        return
    # Rows with a variance of their own that the fixed effects fit exactly leave it open: it would go to zero.
    whole = np.column_stack([np.ones(structure.q), structure.columns])
    own = np.abs(np.diag(whole @ np.linalg.pinv(whole)) - 1) < 1e-8
    for cell in np.flatnonzero(own):
        rows = np.flatnonzero(cells.cells == cell)
        if len(rows) <= design.p and np.linalg.matrix_rank(design.x[rows]) == len(rows):
            which = listing([str(design.rows[k]) for k in rows], 4)
            raise DataError(
                f"dispformula= gives {len(rows)} row{'s' * (len(rows) > 1)} (number {which}, counted from 0) a "
                "residual variance of their own, and the fixed effects can fit them exactly: nothing is left to "
                "estimate it from. Join levels of its variables, or leave the rows out."
            )


def covariance_parameters(design: Design, estimates: Estimates) -> tuple[tuple[FloatArray, ...], float]:
    """Covariance parameters of a linear model as its criterion takes them.

    Returns:
        The covariance matrix of each block, shapes (q, q), and last that of the residuals if they have several
        variances or are correlated: over the times, shape (T, T), or over the cells; and sigma.
    """
    cells = residual_cells(design)
    if cells is None:
        return estimates.all_covariances, estimates.sigma
    matrix, sigma = cells.covariance(estimates.parts["dispersion"][0], estimates.residual)
    return (*estimates.covariances, matrix), sigma


def _cells(design: Design) -> ResidualCells:
    part, block = design.dispersion, design.residual
    assert part is not None  # noqa: S101  the caller's condition
    times = np.zeros(design.n, dtype=np.int64) if block is None else block.times
    cells = in_order(times * (int(part.cells.max(initial=0)) + 1) + part.cells)
    first = np.unique(cells, return_index=True)[1]
    rows = part.x[first]
    # theta = T gamma with well-scaled columns: (w - w_1)'gamma = u'theta
    counts = np.bincount(cells)
    apart = rows - rows[0]
    _, sizes, turn = np.linalg.svd(np.sqrt(counts)[:, None] * apart, full_matrices=False)
    d = part.x.shape[1] - 1
    if len(sizes) < d or (d and sizes[d - 1] <= 1e-12 * sizes[0]):
        raise DataError(
            "The rows do not determine the coefficients of dispformula=: its columns have too few different values. "
            "Leave a term out."
        )
    scale = sizes[:d] / np.sqrt(design.n)
    columns = apart @ turn[:d].T / scale
    by_gamma = np.vstack([rows[:1], scale[:, None] * turn[:d]])
    inner = Structure("homdiag", 1, unit=True) if block is None else block.structure.relative
    independent = block is None or block.independent
    structure = ModelledVariances(
        name="us",
        q=len(rows),
        unit=True,
        columns=columns,
        times=times[first],
        inner=inner,
        independent=independent,
        coefficients=np.linalg.inv(by_gamma),
    )
    return ResidualCells(_groups(design), cells, structure, rows)


def _groups(design: Design) -> IntArray:
    if design.residual is not None:
        return design.residual.codes
    if not design.blocks:
        return np.arange(design.n)
    return np.asarray(design.tied.sets[0][design.blocks[0].codes], dtype=np.int64)


def in_order(codes: IntArray) -> IntArray:
    """Codes (n,) numbered anew from 0, in the order of their first rows."""
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    number = np.empty(len(first), dtype=np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    return number[inverse]


__all__ = [
    "ModelledVariances",
    "ResidualCells",
    "check_variances",
    "constant_of",
    "covariance_parameters",
    "faults",
    "has_criterion",
    "residual_cells",
]
