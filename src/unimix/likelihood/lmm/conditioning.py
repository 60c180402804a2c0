"""Transformation of a design to well-scaled columns for every engine, and the exact transformation back.

An optimizer that starts at a unit covariance misses the optimum when columns are badly scaled. Engines therefore
receive the model in other coordinates, and their estimates are transformed back in closed form:

    y_c = (y - X b) / s,   X_c = X R^-1,   Z_c = Z T^-1   (per block)

with ``b`` the (weighted) least-squares coefficients, ``s`` the residual scale, and ``R``, ``T`` from thin QR
decompositions, so that the columns become orthonormal times sqrt(n). Any invertible transform gives the same
model: beta = b + s R^-1 beta_c, effects = s T^-1 effects_c, Cov = s^2 T^-1 Cov_c T^-T. The log-likelihood of y
is lower by n log s (ML) or (n - p) log s + sum log |R_jj| (REML, whose term -log|X'V^-1 X| / 2 depends on the
coding). The response of a generalised model does not change (b = 0, s = 1). Structured covariances restrict the
transformation of Z: heterogeneous compound symmetry allows one scale for each column, homogeneous one for all, and
structures in time or space none, because their columns are indicators.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular

from unimix.design.arrays import AuxiliaryDesign, Design, RandomBlock, keep_in
from unimix.design.estimates import Estimates
from unimix.design.modelled_variances import constant_of, residual_cells

FloatArray = npt.NDArray[np.float64]
Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Conditioning:
    """Transformation from conditioned (well-scaled) coordinates back to the user's.

    Attributes:
        shift: Least-squares coefficients b, shape (p,).
        inverse: Matrix R^-1, shape (p, p).
        scale: Residual scale s.
        blocks: Matrices T^-1 of the blocks, shapes (q, q), and of the covariance of correlated residuals, (T, T).
        log_det: Sum of log |R_jj|.
        n: Number of rows.
        moved: Change of the coefficients of the log dispersion by the unit of the response, or None.
        parts: Matrices R^-1 of the parts of the model other than the mean, by name.
        weight: Mean m of the weights, which are divided by m: sigma^2 / w = (sigma^2 / m) / (w / m).
    """

    shift: FloatArray
    inverse: FloatArray
    scale: float
    blocks: tuple[FloatArray, ...]
    log_det: float
    n: int
    weight: float = 1.0
    parts: Mapping[str, FloatArray] = field(default_factory=dict)
    moved: FloatArray | None = None

    @property
    def coefficients(self) -> FloatArray:
        """Matrix that converts differences of conditioned fixed effects to the user's coordinates, shape (p, p)."""
        return self.scale * self.inverse

    def conditioned(self, covariances: Sequence[FloatArray]) -> tuple[FloatArray, ...]:
        """Convert covariances, shapes (q, q), from the user's to conditioned coordinates."""
        turns = [np.linalg.inv(t) / self.scale for t in self.blocks]
        return tuple(t @ np.asarray(c) @ t.T for t, c in zip(turns, covariances, strict=True))

    def relative(self, covariances: Sequence[FloatArray], sigma: float) -> tuple[FloatArray, ...]:
        """Relative lower triangular factors in conditioned coordinates, shapes (q, q), of covariances in the user's."""
        return relative_factors(self.conditioned(covariances), sigma / self.residual)

    def lost(self, *, reml: bool) -> float:
        """Difference between the conditioned (restricted) log likelihood and the user's."""
        scale = float(np.log(self.scale))
        return (self.n - len(self.shift)) * scale + self.log_det if reml else self.n * scale

    @property
    def residual(self) -> float:
        """Ratio of the user's sigma to the conditioned sigma."""
        return self.scale * float(np.sqrt(self.weight))


def _triangular(columns: FloatArray, root: FloatArray, n: int) -> tuple[FloatArray, FloatArray]:
    """Return R^-1 and diag(R) with sqrt(w) * columns = Q R, Q'Q = n I."""
    r = np.linalg.qr(root[:, None] * columns, mode="r") / np.sqrt(n)
    r = np.where(np.diag(r) < 0, -1.0, 1.0)[:, None] * r
    return np.asarray(solve_triangular(r, np.eye(r.shape[0]))), np.diag(r)


def condition(design: Design) -> tuple[Design, Conditioning]:
    """Transform a design to well-scaled coordinates.

    Args:
        design: Design of full rank without an offset (subtract it first).

    Returns:
        The same model in well-scaled coordinates, and the transformation back.
    """
    constant = None if design.dispersion is None else constant_of(design.dispersion.x)
    if not design.family.is_linear or (design.dispersion is not None and constant is None):
        return _condition_columns(design)
    weight = 1.0 if design.weights is None else float(design.weights.mean())
    weights = None if design.weights is None else design.weights / weight
    root = np.ones(design.n) if weights is None else np.sqrt(weights)
    columns = _scaled_columns(design)
    inverse, x = columns.inverse, columns.x
    if design.p:
        # The second pass removes the rounding error that a large mean causes in the first.
        first = x.T @ (root**2 * design.y) / design.n_obs
        residual = design.y - x @ first
        second = x.T @ (root**2 * residual) / design.n_obs
        residual = residual - x @ second
        shift = inverse @ (first + second)
    else:
        shift, residual = np.empty(0), design.y
    scale = float(np.sqrt(np.sum((root * residual) ** 2) / design.n_obs))
    turned = (*columns.turned, *_residual_turn(design, weight))
    way_back = Conditioning(shift, inverse, scale, turned, columns.log_det, design.n_obs, weight)
    dispersion = design.dispersion
    if dispersion is not None and constant is not None:
        dispersion, turn = _turned_part(dispersion)
        # log sigma = log s + fitted value: the constant absorbs the units of the response and of the weights
        moved = np.log(way_back.residual) * constant
        way_back = replace(way_back, parts={"dispersion": turn}, moved=moved)
    sigma = None if design.sigma is None else design.sigma / way_back.residual
    conditioned = replace(
        design,
        y=residual / scale,
        x=x,
        blocks=columns.blocks,
        weights=weights,
        sigma=sigma,
        dispersion=dispersion,
    )
    return conditioned, way_back


def _turned_part(part: AuxiliaryDesign) -> tuple[AuxiliaryDesign, FloatArray]:
    """A part of the model other than the mean with well-scaled columns, and R^-1."""
    turn = _triangular(part.x, np.ones(len(part.x)), len(part.x))[0]
    return replace(part, x=np.ascontiguousarray(part.x @ turn), same=part.cells), turn


def _residual_turn(design: Design, weight: float) -> tuple[FloatArray, ...]:
    """T^-1 of the covariance of the residuals: its ratio to sigma^2 does not depend on the unit of the weights."""
    cells = residual_cells(design)
    if cells is not None:
        size = len(cells.rows)
    elif design.residual is not None:
        size = design.residual.structure.n_times
    else:
        return ()
    return (float(np.sqrt(weight)) * np.eye(size),)


@dataclass(frozen=True)
class _ScaledColumns:
    """Well-scaled columns of a linear model, which do not depend on its response.

    Attributes:
        inverse: Matrix R^-1, shape (p, p).
        log_det: Sum of log |R_jj|.
        x: Fixed-effects columns X R^-1, shape (n, p).
        turned: Matrices T^-1 of the blocks, shapes (q, q).
        blocks: Blocks with the columns Z T^-1.
    """

    inverse: FloatArray
    log_det: float
    x: FloatArray
    turned: tuple[FloatArray, ...]
    blocks: tuple[RandomBlock, ...]


def _scaled_columns(design: Design) -> _ScaledColumns:
    """Well-scaled columns, which a small design keeps for further responses."""
    if design.is_small:
        return design.keep_of_columns("well-scaled columns", lambda: _scale_columns(design))
    return _scale_columns(design)


def _scale_columns(design: Design) -> _ScaledColumns:
    root = np.ones(design.n) if design.weights is None else np.sqrt(design.weights / design.weights.mean())
    inverse, diagonal = _triangular(design.x, root, design.n_obs) if design.p else (np.empty((0, 0)), np.empty(0))
    x = np.ascontiguousarray(design.x @ inverse) if design.p else design.x
    turned, blocks = _turn_blocks(design)
    return _ScaledColumns(inverse, float(np.log(np.abs(diagonal)).sum()), x, tuple(turned), blocks)


def _turn_blocks(design: Design) -> tuple[list[FloatArray], tuple[RandomBlock, ...]]:
    """Well-scaled columns of every block, and T^-1 of each."""
    turned: list[FloatArray] = []
    rows = design if design.compression is None else design.compression.moments
    for block in rows.blocks:
        if block.structure == "us":
            turned.append(_triangular(block.z, np.ones(rows.n), rows.n)[0])
            continue
        turned.append(_structured_scale(block))
    return turned, tuple(
        replace(b, z=np.ascontiguousarray(b.z @ t)) for b, t in zip(design.blocks, turned, strict=True)
    )


def _structured_scale(block: RandomBlock) -> FloatArray:
    """Matrix T^-1 that a structure allows, shape (q, q): a scale per column, one for all, or none for indicators."""
    if block.structure == "cs":
        return np.diag(1.0 / np.sqrt(np.mean(block.z**2, axis=0)))
    return np.eye(block.q) / (np.sqrt(np.mean(block.z**2)) if block.structure in ("homcs", "homdiag") else 1.0)


class WellScaled:
    """A design in well-scaled coordinates, to which :func:`condition` is applied once.

    The rows are as large as the design itself and are kept only while they are in use; the transformation back is
    always kept.

    Attributes:
        common: Quantities in these coordinates that the design and its well-scaled rows share, by name.
    """

    def __init__(self, design: Design, way_back: Conditioning | None = None) -> None:
        self._design, self._rows, self._way_back = weakref.ref(design), weakref.ref(design), way_back
        self.common: dict[str, Any] = {}
        self._is_own = way_back is not None

    @property
    def rows(self) -> Design:
        """The design with well-scaled columns."""
        design, rows = self._design(), self._rows()
        assert design is not None  # noqa: S101  it holds this object
        if self._is_own or (self._way_back is not None and rows is not None):
            return design if self._is_own or rows is None else rows
        conditioned, self._way_back = condition(design)
        self._rows = weakref.ref(conditioned)
        unchanged = conditioned.keep(_NAME, lambda: WellScaled(conditioned, _no_change(conditioned)))
        unchanged.common = self.common
        design.hand_over_tied(conditioned)
        return conditioned

    @property
    def way_back(self) -> Conditioning:
        """Transformation from well-scaled coordinates to those of the design."""
        if self._way_back is None:
            _ = self.rows
        assert self._way_back is not None  # noqa: S101  set by the rows
        return self._way_back

    def share(self, name: str, make: Callable[[], Kept]) -> Kept:
        """Return a quantity in well-scaled coordinates; it is made at the first call for the design or its rows."""
        return keep_in(self.common, name, make)


_NAME = "well-scaled columns"


def well_scaled(design: Design) -> WellScaled:
    """Transform a design to well-scaled coordinates, after subtracting the offset of a linear model.

    Rows that are already well scaled are returned unchanged.
    """
    plain = without_offset(design)
    return plain.keep(_NAME, lambda: WellScaled(plain))


@contextmanager
def rows_kept(design: Design) -> Iterator[None]:
    """Keep the well-scaled rows of a design in memory inside the ``with`` block."""
    rows = well_scaled(design).rows
    yield
    del rows


def without_offset(design: Design) -> Design:
    """Subtract the offset of a linear model from its response (done once); return other models unchanged."""
    offset = design.offset
    if offset is None or not design.family.is_linear:
        return design
    return design.keep("without offset", lambda: replace(design, y=design.y - offset, offset=None))


def _no_change(design: Design) -> Conditioning:
    """Identity transformation, for columns that are already well scaled."""
    blocks = (*(np.eye(b.q) for b in design.blocks), *_residual_turn(design, 1.0))
    parts = {
        name: np.eye(part.x.shape[1])
        for name, part in (("zero", design.zero), ("dispersion", design.dispersion))
        if part is not None
    }
    return Conditioning(np.zeros(design.p), np.eye(design.p), 1.0, blocks, 0.0, design.n_obs, parts=parts)


def _condition_columns(design: Design) -> tuple[Design, Conditioning]:
    """Transform the columns of a generalised model; its response keeps its unit."""
    inverse, diagonal, x = np.empty((0, 0)), np.empty(0), design.x
    if design.p:
        inverse, diagonal = _triangular(design.x, np.ones(design.n), design.n)
        x = np.ascontiguousarray(design.x @ inverse)
    turned, blocks = _turn_blocks(design)
    parts: dict[str, FloatArray] = {}
    scaled_parts: dict[str, AuxiliaryDesign] = {}
    for name, part in (("zero", design.zero), ("dispersion", design.dispersion)):
        if part is not None:
            scaled_parts[name], parts[name] = _turned_part(part)
    log_det = float(np.log(np.abs(diagonal)).sum())
    way_back = Conditioning(np.zeros(design.p), inverse, 1.0, tuple(turned), log_det, design.n, parts=parts)
    turned_design = replace(
        design,
        x=x,
        blocks=blocks,
        zero=scaled_parts.get("zero"),
        dispersion=scaled_parts.get("dispersion"),
    )
    return turned_design, way_back


def _with_unit(way_back: Conditioning, name: str, coefficients: FloatArray) -> FloatArray:
    return coefficients if name != "dispersion" or way_back.moved is None else coefficients + way_back.moved


def in_conditioned(way_back: Conditioning, name: str, coefficients: FloatArray) -> FloatArray:
    """Coefficients of a part of the model other than the mean, shape (k,), in conditioned coordinates.

    Args:
        way_back: Transformation of a generalised model that :func:`condition` returned.
        name: Name of the part, ``zero`` or ``dispersion``.
        coefficients: Its coefficients in the user's coordinates, shape (k,).
    """
    return np.asarray(np.linalg.solve(way_back.parts[name], coefficients), dtype=np.float64)


def restore(estimates: Estimates, way_back: Conditioning, *, reml: bool) -> Estimates:
    """Transform estimates from conditioned coordinates to the user's.

    Args:
        estimates: Estimates in conditioned coordinates.
        way_back: Transformation that :func:`condition` returned.
        reml: Whether the log likelihood is the restricted one.
    """
    s, matrix = way_back.scale, way_back.coefficients
    turned = {name: way_back.parts.get(name, np.eye(len(b))) for name, (b, _) in estimates.parts.items()}
    log_likelihood = estimates.log_likelihood
    if log_likelihood is not None:
        log_likelihood = float(log_likelihood - way_back.lost(reml=reml))
    turns = [s * t for t in way_back.blocks[: len(estimates.covariances)]]
    return replace(
        estimates,
        beta=way_back.shift + matrix @ estimates.beta,
        beta_cov=matrix @ estimates.beta_cov @ matrix.T,
        covariances=tuple(t @ c @ t.T for t, c in zip(turns, estimates.covariances, strict=True)),
        sigma=way_back.residual * estimates.sigma,
        residual=_residual_in_unit(estimates, way_back),
        modes=tuple(m @ t.T for t, m in zip(turns, estimates.modes, strict=True)),
        mode_covs=tuple(t @ c @ t.T for t, c in zip(turns, estimates.mode_covs, strict=True)),
        log_likelihood=log_likelihood,
        parts={
            name: (_with_unit(way_back, name, turned[name] @ b), turned[name] @ v @ turned[name].T)
            for name, (b, v) in estimates.parts.items()
        },
        zero_cross=None if estimates.zero_cross is None else matrix @ estimates.zero_cross @ way_back.parts["zero"].T,
        threshold_cross=None if estimates.threshold_cross is None else matrix @ estimates.threshold_cross,
        unbounded={
            name: rows @ (matrix if name == "fixed" else way_back.parts[name]).T
            for name, rows in estimates.unbounded.items()
        },
    )


def _residual_in_unit(estimates: Estimates, way_back: Conditioning) -> FloatArray | None:
    """Covariance of the residuals (T, T); relative to standard deviations that have a formula it has no unit."""
    if estimates.residual is None or "dispersion" in estimates.parts:
        return estimates.residual
    return np.asarray(way_back.residual**2 * estimates.residual)


def relative_factors(covariances: tuple[FloatArray, ...], sigma: float) -> tuple[FloatArray, ...]:
    """Relative covariance factors L with Cov = sigma^2 L L', shapes (q, q); zero columns where Cov is singular.

    The lower triangular factor is computed row by row, so that it exists on the boundary too.
    """
    factors = []
    for covariance in covariances:
        q = len(covariance)
        target, factor = covariance / sigma**2, np.zeros((q, q))
        if q > 1 and not (covariance - np.diag(np.diag(covariance))).any():
            factors.append(np.diag(np.sqrt(np.maximum(np.diag(target), 0.0))))
            continue
        for i in range(q):
            for j in range(i):
                rest = target[i, j] - factor[i, :j] @ factor[j, :j]
                factor[i, j] = rest / factor[j, j] if factor[j, j] > 0 else 0.0
            remaining = target[i, i] - factor[i, :i] @ factor[i, :i]
            factor[i, i] = np.sqrt(remaining) if remaining > 1e-14 * abs(target[i, i]) else 0.0
        factors.append(factor)
    return tuple(factors)


def nearest_singular(covariance: FloatArray) -> FloatArray | None:
    """Set the smallest eigenvalue of a covariance (q, q) to zero; None if that would change the matrix visibly.

    An optimizer that works with logarithms of variances stops near a zero variance, but never reaches it.
    """
    values, vectors = np.linalg.eigh(covariance)
    if values[0] > 0.02 * max(1.0, float(values[-1])):
        return None
    return np.asarray((vectors[:, 1:] * values[1:]) @ vectors[:, 1:].T)


SINGULAR_TOLERANCE = 1e-4
"""Diagonal element of a relative covariance factor below which a fit is singular (lme4's ``isSingular``)."""


def is_singular(covariances: tuple[FloatArray, ...], sigma: float) -> bool:
    """Whether a covariance matrix is singular, in conditioned coordinates.

    Args:
        covariances: Covariance matrices of the blocks, shapes (q, q).
        sigma: Residual standard deviation.
    """
    return any((np.diag(f) < SINGULAR_TOLERANCE).any() for f in relative_factors(covariances, sigma))


def column_scale(z: FloatArray, n: int | None = None) -> FloatArray:
    """Root mean square of columns (n, q), shape (q,).

    Args:
        z: Columns.
        n: Number of rows that they stand for, if they are compressed.
    """
    return np.asarray(np.sqrt(np.mean(z**2, axis=0) if n is None else np.sum(z**2, axis=0) / n))
