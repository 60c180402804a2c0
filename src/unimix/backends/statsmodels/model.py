"""Conversion of a design to statsmodels' MixedLM: groups of rows, and blocks as ``exog_re`` or ``exog_vc``."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from unimix.design.arrays import Design, RandomBlock

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

FLOOR = 1e-9
"""Constant added to relative variances, which statsmodels inverts (values below 1e-10 count as infinite there)."""

CHEAP_CELLS = 20_000
"""Largest product of rows and levels, in one group of all rows, for which the score is worth its cost."""

DENSE_LEVELS = 80
"""Levels per group up to which indicator matrices are dense; above, sparse likelihoods are several times faster."""


@dataclass(frozen=True)
class Layout:
    """Place of each block of random effects in MixedLM.

    Attributes:
        groups: Index of the independent set of rows to which each row belongs, shape (n,).
        n_groups: Number of independent sets.
        slope: Index of the block that is ``exog_re`` (its levels are the groups), or None.
        components: Indices of the one-column blocks that are variance components.
        units: SDs of effects that contribute one residual SD, 1 / root mean square of the columns, for each block,
            shapes (q,); ones for conditioned columns.
    """

    groups: IntArray
    n_groups: int
    slope: int | None
    components: tuple[int, ...]
    units: tuple[FloatArray, ...]

    @property
    def largest(self) -> int:
        """Number of rows of the largest group."""
        return int(np.bincount(self.groups).max())

    def is_costly(self, blocks: tuple[RandomBlock, ...]) -> bool:
        """Whether the score costs as much as many likelihoods, as in one group of all rows with many levels."""
        levels = sum(blocks[k].n_levels for k in self.components)
        return self.n_groups == 1 and levels * len(self.groups) > CHEAP_CELLS


def lay_out(design: Design) -> Layout:
    """Split the rows into as many groups as the factors allow, and find the block that varies over these groups."""
    (count, sets), blocks = design.tied, design.blocks
    outer = [k for k, b in enumerate(blocks) if b.n_levels == count]
    slope = max(outer, key=lambda k: blocks[k].q, default=None)
    components = tuple(k for k in range(len(blocks)) if k != slope)
    units = tuple(1 / np.sqrt(np.mean(b.z**2, axis=0)) for b in blocks)
    return Layout(sets[0][blocks[0].codes], count, slope, components, units)


def build_model(engine: ModuleType, design: Design, layout: Layout, *, reml: bool) -> Any:
    """Make the ``MixedLM`` without fitting it.

    Args:
        engine: The module ``statsmodels.regression.mixed_linear_model``.
        design: Design without weights or offset.
        layout: Result of :func:`lay_out`.
        reml: Whether to use the restricted likelihood.
    """
    slope = None if layout.slope is None else design.blocks[layout.slope].z
    order = np.argsort(layout.groups, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(layout.groups, minlength=layout.n_groups))[:-1])
    variances = None
    if layout.components:
        mats = [_columns(design.blocks[k], rows) for k in layout.components]
        names = [[[f"v{k}_{j}" for j in range(m.shape[1])] for m in per] for k, per in enumerate(mats)]
        variances = engine.VCSpec([f"v{k}" for k in range(len(mats))], names, mats)
    model = engine.MixedLM(design.y, design.x, groups=layout.groups, exog_re=slope, exog_vc=variances)
    # MixedLM.fit sets these before it evaluates its likelihood; index arrays instead of lists halve the time.
    model.reml, model.cov_pen, model.fe_pen, model._freepat, model._cov_sing = reml, None, None, None, 0
    model.row_indices = dict(zip(model.group_labels, rows, strict=True))
    return model


def _columns(block: RandomBlock, rows: list[IntArray]) -> list[Any]:
    """One column per level in a group: the block's z in the rows of the level, and 0 in other rows."""
    matrices: list[Any] = []
    for picked in rows:
        levels, local = np.unique(block.codes[picked], return_inverse=True)
        cells = (block.z[picked, 0], (np.arange(len(picked)), local))
        columns = sparse.csr_array(cells, shape=(len(picked), len(levels)))
        matrices.append(columns if len(levels) > DENSE_LEVELS else columns.toarray())
    return matrices


@dataclass(frozen=True)
class Point:
    """Values of the covariance parameters, relative to the residual variance and in the units of the layout.

    Attributes:
        root: Lower triangular factor of ``exog_re``'s covariance, shape (q, q).
        spread: Standard deviations of the variance components, shape (c,).
    """

    root: FloatArray
    spread: FloatArray

    def pack(self) -> FloatArray:
        """Lower triangle of ``root`` row by row, then ``spread``."""
        return np.concatenate([self.root[np.tril_indices(len(self.root))], self.spread])

    @classmethod
    def unpack(cls, values: FloatArray, q: int) -> Point:
        """Inverse of :meth:`pack`."""
        root = np.zeros((q, q))
        size = q * (q + 1) // 2
        root[np.tril_indices(q)] = values[:size]
        return cls(root, np.asarray(values[size:], dtype=np.float64))

    @property
    def covariance(self) -> FloatArray:
        """Covariance matrix, root times its transpose, shape (q, q)."""
        return self.root @ self.root.T


def blocks_of(point: Point, layout: Layout) -> tuple[FloatArray, ...]:
    """Relative covariance matrix of every block, in the design's order and the columns' units."""
    covariances: dict[int, FloatArray] = {
        k: np.array([[(v * layout.units[k][0]) ** 2]]) for k, v in zip(layout.components, point.spread, strict=True)
    }
    if layout.slope is not None:
        root = layout.units[layout.slope][:, None] * point.root
        covariances[layout.slope] = root @ root.T
    return tuple(covariances[k] for k in sorted(covariances))


class Likelihood:
    """statsmodels' own likelihood and score as functions of a :class:`Point`, with a count of evaluations.

    Attributes:
        model: Model of type ``MixedLM``.
        n: Number of rows.
        q: Number of columns of ``exog_re``.
        evaluations: Number of likelihoods computed so far.
    """

    def __init__(self, engine: ModuleType, model: Any, layout: Layout) -> None:
        self.model = model
        self.n = int(model.nobs)
        self.q = int(model.k_re)
        self.c = int(model.k_vc)
        self.evaluations = 0
        self._re_units = np.empty(0) if layout.slope is None else layout.units[layout.slope]
        self._vc_units = np.array([layout.units[k][0] for k in layout.components])
        self._make = engine.MixedLMParams.from_components
        self._at = b""
        self._parameters: Any = None
        self._scored: tuple[float, FloatArray, FloatArray] | None = None

    @property
    def size(self) -> int:
        """Number of covariance parameters."""
        return self.q * (self.q + 1) // 2 + self.c

    def parameters(self, point: Point) -> Any:
        """Parameter object of statsmodels, with the fixed effects profiled out."""
        key = point.pack().tobytes()
        if key != self._at:
            root = self._re_units[:, None] * point.root
            covariance = root @ root.T + FLOOR * np.eye(self.q)
            variances = (self._vc_units * point.spread) ** 2 + FLOOR
            beta, _ = self.model.get_fe_params(covariance, variances)
            self._parameters = self._make(fe_params=beta, cov_re=covariance, vcomp=variances)
            self._at, self._scored = key, None
        return self._parameters

    def value(self, point: Point) -> float:
        """(Restricted) log likelihood with scale and fixed effects profiled out; -inf where it does not exist."""
        self.evaluations += 1
        log_likelihood = float(self.model.loglike(self.parameters(point), profile_fe=False))
        return log_likelihood if np.isfinite(log_likelihood) else -np.inf

    def value_and_score(self, point: Point) -> tuple[float, FloatArray, FloatArray]:
        """Log likelihood, and its derivatives in the covariance matrix (q, q) and in the variances (c,)."""
        parameters = self.parameters(point)
        if self._scored is not None:
            return self._scored
        value = self.value(point)
        _, packed, variances = self.model.score_full(parameters, calc_fe=False)
        half = np.zeros((self.q, self.q))
        half[np.tril_indices(self.q)] = packed
        # A derivative with respect to an off-diagonal element changes both halves of the matrix.
        by_covariance = np.outer(self._re_units, self._re_units) * (half + half.T) / 2
        self._scored = value, by_covariance, self._vc_units**2 * np.asarray(variances, dtype=np.float64)
        return self._scored

    def gradient(self, point: Point, by_covariance: FloatArray, by_variances: FloatArray) -> FloatArray:
        """Gradient in the packed parameters by the chain rule, shape (size,)."""
        root = 2 * by_covariance @ point.root
        return np.concatenate([root[np.tril_indices(self.q)], 2 * point.spread * by_variances])
