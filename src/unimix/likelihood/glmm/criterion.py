"""Laplace's approximation of one generalised model, whose optima are computed once per design and shared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design
from unimix.likelihood.glmm.gradient import NO_PARTS
from unimix.likelihood.glmm.optimise import LaplaceOptimum, Point, one_sd_of, search_laplace
from unimix.likelihood.lmm.conditioning import Conditioning, in_conditioned, relative_factors, well_scaled
from unimix.likelihood.lmm.optimise import lower_triangular

FloatArray = npt.NDArray[np.float64]


@dataclass
class _Known:
    """Known optima by number of nodes (from the likely starts alone, and the best overall), and the points tried."""

    searched: dict[int, LaplaceOptimum] = field(default_factory=dict)
    best: dict[int, LaplaceOptimum] = field(default_factory=dict)
    climbed: set[tuple[int, bytes]] = field(default_factory=set)


@dataclass(frozen=True)
class LaplaceCriterion:
    """The likelihood of a generalised (mixed) model, by Laplace's approximation or by quadrature.

    Attributes:
        rows: The design with well-scaled columns.
        way_back: Transformation from well-scaled coordinates to those of the design.
    """

    rows: Design
    way_back: Conditioning
    _known: _Known = field(repr=False, compare=False)

    @classmethod
    def of(cls, design: Design) -> LaplaceCriterion:
        """Return the criterion of a design; it is kept with the design, together with its optima.

        Args:
            design: Design of a generalised model, with or without blocks.
        """
        scaled = well_scaled(design)
        return cls(scaled.rows, scaled.way_back, scaled.share("Laplace optima", _Known))

    def point(
        self,
        covariances: Sequence[FloatArray],
        beta: FloatArray,
        parameters: FloatArray,
        parts: Mapping[str, FloatArray] = NO_PARTS,
    ) -> Point:
        """Convert parameters to well-scaled coordinates.

        Args:
            covariances: Covariance matrix of each block's effects, shapes (q, q), in the design's units.
            beta: Fixed effects in the design's units, shape (p,).
            parameters: Dispersion parameters, shape (k,); none if the dispersion has a formula.
            parts: Coefficients of the zero inflation and of the dispersion in the design's units, by name of the part.
        """
        factors = relative_factors(self.way_back.conditioned(covariances), 1.0)
        at = np.asarray(np.linalg.solve(self.way_back.inverse, beta), dtype=np.float64)
        inside = {name: in_conditioned(self.way_back, name, parts[name]) for name in self.rows.parts}
        return Point(tuple(lower_triangular(factors)), at, parameters, self.rows.family, inside, one_sd_of(self.rows))

    def search(self, n_nodes: int = 1) -> LaplaceOptimum:
        """Find the highest maximum from the likely starts.

        Args:
            n_nodes: Number of nodes of adaptive Gauss-Hermite quadrature, for one scalar block; 1 is Laplace's
                approximation.

        Raises:
            FloatingPointError: If the likelihood is not finite at any start.
        """
        known = self._known
        if n_nodes not in known.searched:
            # Quadrature is expensive and has no exact gradient: it starts at the maximum of Laplace's approximation.
            starts = None if n_nodes == 1 else [self.search().point]
            known.searched[n_nodes] = search_laplace(self.rows, n_nodes, starts=starts)
            self._better(n_nodes, known.searched[n_nodes])
        return known.searched[n_nodes]

    def search_near(self, other: LaplaceCriterion, n_nodes: int = 1) -> LaplaceOptimum:
        """Find the maximum that lies above the maximum of a similar design; it replaces :meth:`search`.

        Args:
            other: Criterion of a design of the same model, such as the one from which this response was simulated.
            n_nodes: Number of nodes of adaptive Gauss-Hermite quadrature; 1 is Laplace's approximation.

        Raises:
            FloatingPointError: If the likelihood is not finite at the start.
        """
        near = other.search(n_nodes)
        turns = [turn @ f for turn, f in zip(other.way_back.blocks, near.point.factors, strict=True)]
        start = self.point(
            [t @ t.T for t in turns],
            other.way_back.inverse @ near.point.beta,
            near.point.parameters,
            {name: other.way_back.parts[name] @ own for name, own in near.point.parts.items()},
        ).off_the_boundary()
        optimum = search_laplace(self.rows, n_nodes, starts=[start], hessian=near.hessian)
        self._known.searched[n_nodes] = optimum
        self._better(n_nodes, optimum)
        return optimum

    def optimum(self, n_nodes: int = 1, points: Sequence[Point] = ()) -> LaplaceOptimum:
        """Return the best known maximum, from the likely starts, from ``points`` and from all points given earlier.

        Args:
            n_nodes: Number of nodes of adaptive Gauss-Hermite quadrature; 1 is Laplace's approximation.
            points: Further points to climb from, in well-scaled coordinates.

        Raises:
            FloatingPointError: If the likelihood is not finite at any start.
        """
        known, reason = self._known, None
        try:
            self.search(n_nodes)
        except FloatingPointError as error:
            reason = error
        for point in points:
            key = (n_nodes, point.pack().tobytes())
            if key in known.climbed:
                continue
            known.climbed.add(key)
            try:
                self._better(n_nodes, search_laplace(self.rows, n_nodes, starts=[point]))
            except FloatingPointError:  # the likelihood is not finite there
                continue
        if n_nodes not in known.best:
            raise FloatingPointError(str(reason))
        return known.best[n_nodes]

    def _better(self, n_nodes: int, optimum: LaplaceOptimum) -> None:
        best = self._known.best.get(n_nodes)
        if best is None or optimum.value > best.value + 1e-10:
            self._known.best[n_nodes] = optimum
