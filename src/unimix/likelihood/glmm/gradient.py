"""Gradient of Laplace's approximation with respect to covariance factors, fixed effects and all other parameters.

The others are dispersion parameters and the coefficients of the zero inflation and of the dispersion.

With u the conditional modes and A = I + U'WU, the approximation is l = sum log f - u'u/2 - log|A|/2. A parameter
changes l through the predictor at fixed u, through the modes (by the implicit function theorem), and through W. The
derivatives of W with respect to the predictor and the other parameters are central differences of each row's exact
second derivative; all other derivatives are exact. The formulas are those of Skaug & Fournier (2006), Comput. Stat.
Data Anal. 51:699-709, section 3, without automatic differentiation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design, RandomBlock
from unimix.distributions.links import LINKS
from unimix.likelihood.glmm.effects_system import EffectsSystem, layout_of
from unimix.likelihood.glmm.laplace import LaplaceSolution, fixed_predictor, laplace
from unimix.likelihood.glmm.row_model import RowModel, by_row_and_direction, sum_by_direction

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
STEP = 1e-4


@dataclass(frozen=True)
class Slope:
    """Laplace's approximation and its gradient at one point.

    Attributes:
        value: Log likelihood; -inf where it does not exist.
        spherical: Modes of the spherical effects, shape (m,), at which the next search may start.
        by_factors: Derivatives with respect to the elements of the lower triangular factors, block by block and row
            by row.
        by_beta: Derivatives with respect to the fixed effects, shape (p,).
        by_parameters: Derivatives with respect to each dispersion parameter on its free scale, and then to the
            coefficients of the zero inflation and of the dispersion, shape (k,).
    """

    value: float
    spherical: FloatArray
    by_factors: FloatArray
    by_beta: FloatArray
    by_parameters: FloatArray

    @property
    def gradient(self) -> FloatArray:
        """All derivatives in the order of packed parameters, shape (d,)."""
        return np.concatenate([self.by_factors, self.by_beta, self.by_parameters])


NO_PARTS: Mapping[str, FloatArray] = {}


def slope_of_laplace(
    design: Design,
    beta: FloatArray,
    factors: Sequence[FloatArray],
    parameters: FloatArray,
    start: FloatArray | None = None,
    *,
    whole: bool = False,
    parts: Mapping[str, FloatArray] = NO_PARTS,
) -> Slope:
    """Compute Laplace's approximation at given parameters, and its gradient.

    Args:
        design: Design of a generalised model.
        beta: Fixed effects, shape (p,).
        factors: Lower triangular L_k with covariance L_k L_k', shapes (q, q).
        parameters: Dispersion parameters, shape (k,); none if the dispersion has a formula.
        start: Spherical modes from which the inner search starts, shape (m,).
        whole: Whether the factors are arbitrary square roots, so that ``by_factors`` covers all of their elements,
            row by row.
        parts: Coefficients of the zero inflation and of the dispersion, by name of the part.
    """
    fixed, layout = fixed_predictor(design, beta), layout_of(design)
    model = RowModel.of(design, parameters, parts)
    solution = laplace(model.at, fixed, layout, factors, start=start)
    if solution.system is None:
        size = sum(len(_elements(b, whole=whole)) for b in design.blocks)
        others = len(parameters) + sum(part.x.shape[1] for part in design.parts.values())
        nothing = np.full(size + len(beta) + others, np.nan)
        return Slope(-np.inf, solution.spherical, nothing[:size], nothing[: len(beta)], nothing[:others])
    rows = _row_slopes(model, fixed, solution, solution.system)
    by_factors, first = [], 0
    for block, factor in zip(design.blocks, factors, strict=True):
        q = len(factor)
        moments = block.z.T @ rows.by_entry[:, first : first + q]
        by_factors += [sum(moments[i, j] for i, j in element) for element in _elements(block, whole=whole)]
        first += q
    return Slope(
        solution.log_likelihood,
        rows.spherical,
        np.array(by_factors),
        design.x.T @ rows.by_eta,
        sum_by_direction(design, rows.by_direction),
    )


@dataclass(frozen=True)
class _RowSlopes:
    """What each of the n rows contributes to the derivatives of Laplace's approximation.

    Attributes:
        spherical: Modes of the spherical effects, shape (m,).
        by_eta: Derivatives with respect to the fixed part of the predictor, shape (n,).
        by_entry: Derivatives with respect to the entries of the rows of U, divided by z, shape (n, K).
        by_direction: Derivatives with respect to each dispersion parameter on its free scale, by its index, and to the
            predictors of the other parts, by name; shapes (n,).
    """

    spherical: FloatArray
    by_eta: FloatArray
    by_entry: FloatArray
    by_direction: Mapping[str | int, FloatArray] = field(default_factory=dict)


def scores_of_laplace(
    design: Design, beta: FloatArray, factors: Sequence[FloatArray], parameters: FloatArray, codes: IntArray
) -> FloatArray:
    """Derivatives of each cluster's part of Laplace's approximation, shape (J, p + elements of the factors + k).

    The parameters are the fixed effects, the elements of the lower triangular factors, block by block and row by row,
    and the dispersion parameters on their free scales (``parameter_scales``). The approximation is a sum over clusters
    if no level of a grouping factor has rows in two of them.

    Args:
        design: Design of a generalised model.
        beta: Fixed effects, shape (p,).
        factors: Lower triangular L_k with covariance L_k L_k', shapes (q, q).
        parameters: Dispersion parameters, shape (k,).
        codes: Cluster of each row, from 0 to J - 1, shape (n,).

    Raises:
        FloatingPointError: If the likelihood does not exist there.
    """
    fixed, layout, model = fixed_predictor(design, beta), layout_of(design), RowModel.of(design, parameters, NO_PARTS)
    solution = laplace(model.at, fixed, layout, factors)
    if solution.system is None:
        raise FloatingPointError("Laplace's approximation does not exist at these parameters")
    rows = _row_slopes(model, fixed, solution, solution.system)
    columns, first = [design.x * rows.by_eta[:, None]], 0
    for block, factor in zip(design.blocks, factors, strict=True):
        columns += [
            np.sum([block.z[:, i] * rows.by_entry[:, first + j] for i, j in element], axis=0)[:, None]
            for element in _elements(block, whole=False)
        ]
        first += len(factor)
    each = np.hstack([*columns, by_row_and_direction(design, rows.by_direction)])
    return np.stack([np.bincount(codes, column) for column in each.T], axis=1)


def _row_slopes(model: RowModel, fixed: FloatArray, solution: LaplaceSolution, system: EffectsSystem) -> _RowSlopes:
    """The rows' parts of the derivatives, with the modes of ``solution`` improved by two more Newton steps."""
    layout = solution.layout
    eta, u, rows, entries = solution.eta, solution.spherical, solution.rows, solution.entries
    step = STEP * np.maximum(1.0, np.abs(eta)) if not _has_end(model.design) else STEP * np.abs(eta)
    bend = (model.at(eta + step).observed - model.at(eta - step).observed) / (2 * step)
    # An error of the modes enters the gradient at first order, but the value only at second: two more Newton steps.
    for _ in range(2):
        u = u + system.solve(layout.transposed_times(entries, rows.score) - u)
        eta = fixed + layout.times(entries, u)
        rows = model.at(eta)
    through = system.rows_of_inverse(entries)
    leverage = np.einsum("nk,nk->n", through, entries)  # diagonal of U A^-1 U'
    c = 0.5 * leverage * bend
    t = system.solve(layout.transposed_times(entries, c))
    pull = layout.times(entries, t)
    # dl / d eta at fixed u is s - c, from the density and from W; the modes contribute W U t.
    by_eta = rows.score - c + rows.observed * pull
    by_direction: dict[str | int, FloatArray] = {}
    for direction in model.directions:
        high, low = model.moved(direction, STEP).at(eta), model.moved(direction, -STEP).at(eta)
        moved = (high.observed - low.observed) / (2 * STEP)
        turned = (high.score - low.score) / (2 * STEP)
        # from the density, from W, and through the modes, which move by A^-1 U' ds / d direction
        by_direction[direction] = model.slope(direction, rows) - 0.5 * leverage * moved - pull * turned
    # L_ij changes the predictor by z_i u_j, and the entry of a row of U at u_j by z_i.
    by_entry = (
        by_eta[:, None] * u[layout.columns] - rows.observed[:, None] * through - rows.score[:, None] * t[layout.columns]
    )
    return _RowSlopes(u, by_eta, by_entry, by_direction)


def _has_end(design: Design) -> bool:
    return LINKS[design.family.link].positive


def has_one_sd(block: RandomBlock) -> bool:
    """Whether the covariance of a block is a variance times the identity."""
    return block.structure == "homdiag"


def _elements(block: RandomBlock, *, whole: bool) -> list[list[tuple[int, int]]]:
    """Cells of a block's factor that hold each of its parameters."""
    if has_one_sd(block) and not whole:
        return [[(i, i) for i in range(block.q)]]
    return [[(i, j)] for i in range(block.q) for j in range(block.q if whole else i + 1)]
