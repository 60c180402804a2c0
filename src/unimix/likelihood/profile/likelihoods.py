"""Likelihoods of (generalised) linear mixed models as functions of square roots of covariances and other parameters.

Models are in well-scaled coordinates (:mod:`unimix.likelihood.lmm.conditioning`), and parameters in the user's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design
from unimix.design.modelled_variances import ModelledVariances
from unimix.distributions.parameter_scales import value_at
from unimix.likelihood.glmm.criterion import LaplaceCriterion
from unimix.likelihood.glmm.gradient import NO_PARTS, slope_of_laplace
from unimix.likelihood.glmm.optimise import COARSE, DIFFERENCE, Point, by_differences, by_nodes, unpack
from unimix.likelihood.lmm.batched_linalg import matrix_root
from unimix.likelihood.lmm.conditioning import Conditioning, in_conditioned, relative_factors
from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.likelihood.lmm.derivatives import gradient
from unimix.likelihood.lmm.optimise import lower_triangular
from unimix.likelihood.lmm.penalised_least_squares import at_sigma, profile
from unimix.likelihood.lmm.reduced_data import Products

FloatArray = npt.NDArray[np.float64]
Slopes = tuple[float, list[FloatArray], FloatArray]
Criterion = Callable[[list[FloatArray], FloatArray], Slopes]


@dataclass(frozen=True)
class State:
    """Parameters of a model.

    Attributes:
        roots: Square roots of the covariances in the user's units, shapes (q, q).
        beta: Fixed effects in conditioned coordinates, shape (p,); empty if they are profiled out.
        scales: Logarithm of sigma in the user's units, or dispersion parameters on their free scales, shape (k,).
    """

    roots: tuple[FloatArray, ...]
    beta: FloatArray
    scales: FloatArray


class Model(Protocol):
    """Likelihood whose parameters can be held fixed.

    Attributes:
        best: Parameters at the maximum of the likelihood.
        beta: Fixed effects at the maximum, in the user's units, shape (p,).
        value: Log likelihood at the maximum.
        way_back: Transformation to the user's units.
        sizes: Number of effects per level of each block.
        step: Step size for differences of the gradient.
    """

    best: State
    beta: FloatArray
    value: float
    way_back: Conditioning
    sizes: tuple[int, ...]
    step: float

    @property
    def log_unit(self) -> float:
        """Logarithm of the user's unit of the scale parameters."""

    def scale(self, index: int, free: float) -> float:
        """Value of sigma or of a dispersion parameter, in the user's units, from its value in :class:`State`."""

    def criterion(self, row: FloatArray | None, held: float) -> Criterion:
        """Make the function that returns the likelihood and its derivatives.

        Args:
            row: Contrast whose value row'beta is held fixed, shape (p,); None to hold no fixed effect.
            held: Value of row'beta.

        Returns:
            Function of the roots and of [fixed effects, scales] that returns the log likelihood and its derivatives.
        """


def rest_of(state: State, row: FloatArray | None, log_unit: float) -> FloatArray:
    """Parameters other than the roots, in the model's coordinates, without the direction that is held."""
    beta = state.beta if row is None or not len(state.beta) else others(row).T @ state.beta
    return np.concatenate([beta, state.scales - log_unit])


def others(row: FloatArray) -> FloatArray:
    """Orthonormal columns orthogonal to a row, shape (p, p - 1)."""
    q = np.linalg.qr(row[:, None], mode="complete")[0]
    return np.asarray(q[:, 1:])


class LinearModel:
    """Linear mixed model by (restricted) maximum likelihood, with fixed effects profiled out.

    Args:
        design: Gaussian design with blocks of unstructured covariance.
        covariances: Covariances of a fit, shapes (q, q), in the user's units; the search starts at them too.
        sigma: Residual standard deviation of that fit.
        reml: Whether to use the restricted likelihood.
    """

    step = DIFFERENCE

    def __init__(self, design: Design, covariances: Sequence[FloatArray], sigma: float, *, reml: bool = False) -> None:
        criterion = LinearCriterion.of(design)
        self.reml, self.products, self.way_back = reml, criterion.data, criterion.way_back
        optimum = criterion.optimum([criterion.at(covariances, sigma, reml=reml)], reml=reml)
        sigma_c = optimum.profile.sigma
        turns = [self.way_back.scale * t for t in self.way_back.blocks]
        roots = tuple(sigma_c * t @ f for t, f in zip(turns, optimum.factors, strict=True))
        scales = np.array([np.log(sigma_c) + self.log_unit]) if self.products.sigma is None else np.empty(0)
        self.best = State(roots, np.empty(0), scales)
        self.beta = self.way_back.shift + self.way_back.coefficients @ optimum.profile.beta
        self.value, self.sizes = optimum.profile.value, tuple(q for q, _ in self.products.sizes)

    @property
    def log_unit(self) -> float:
        """Logarithm of the ratio of the user's sigma to the conditioned sigma."""
        return float(np.log(self.way_back.residual))

    def scale(self, _index: int, free: float) -> float:
        """Sigma from its logarithm."""
        return float(np.exp(free))

    def criterion(self, row: FloatArray | None, held: float) -> Criterion:
        """Make the function that returns the likelihood and its derivatives, with row'beta held if there is a row."""
        products = self.products if row is None else hold_fixed(self.products, row, held)

        def at(roots: list[FloatArray], rest: FloatArray) -> Slopes:
            known = products.sigma
            sigma = float(np.exp(rest[-1])) if known is None else known
            relative = [r / sigma for r in roots]
            profiled = profile(products, relative, reml=self.reml)
            value = at_sigma(products, profiled, sigma, reml=self.reml)
            slopes = gradient(products, replace(profiled, sigma=sigma), reml=self.reml)
            by_roots = [2.0 * g @ r / sigma for g, r in zip(slopes, relative, strict=True)]
            if known is not None:
                return value, by_roots, np.empty(0)
            by_sigma = profiled.quadratic / sigma**2 - profiled.freedom
            by_sigma -= 2.0 * sum(float(np.vdot(g, r @ r.T)) for g, r in zip(slopes, relative, strict=True))
            return value, by_roots, np.array([by_sigma])

        return at


def hold_fixed(products: Products, row: FloatArray, held: float) -> Products:
    """Reduced data under row'beta = held: X keeps the columns orthogonal to the row, and the held part leaves y."""
    keep, pull = others(row), row * held / float(row @ row)
    turn = np.zeros((products.p + 1, products.p))
    turn[:-1, :-1], turn[:-1, -1], turn[-1, -1] = keep, -pull, 1.0
    if products.grouped is not None:
        return replace(products, p=products.p - 1, grouped=products.grouped.turned(turn))
    return replace(
        products,
        p=products.p - 1,
        u=products.u @ turn,
        within=turn.T @ products.within @ turn,
        within_right=products.within_right @ turn,
    )


class ModelledModel:
    """Linear model whose residual standard deviations have a formula, with fixed effects profiled out.

    The scales are the coefficients of the formula, in the user's units.

    Args:
        design: Gaussian design with a formula of the dispersion, independent residuals and unstructured covariances.
        covariances: Covariances of a fit in the user's units: of the blocks, shapes (q, q), and of the cells of
            residuals, shape (K, K); the search starts at them too.
        sigma: Residual standard deviation of the first cell.
        reml: Whether to use the restricted likelihood.
    """

    step = DIFFERENCE

    def __init__(self, design: Design, covariances: Sequence[FloatArray], sigma: float, *, reml: bool = False) -> None:
        criterion = LinearCriterion.of(design)
        self.reml, self.products, self.way_back = reml, criterion.data, criterion.way_back
        structure = self.products.structures[-1]
        assert isinstance(structure, ModelledVariances)  # noqa: S101  the design has a formula of the dispersion
        self.structure = structure
        optimum = criterion.optimum([criterion.at(covariances, sigma, reml=reml)], reml=reml)
        reached = criterion.at_optimum(optimum, reml=reml)
        turns = criterion.turns[:-1]
        roots = tuple(reached.sigma * t @ f for t, f in zip(turns, optimum.factors[:-1], strict=True))
        self.best = State(roots, np.empty(0), criterion.dispersion(reached)[0])
        self.beta, self.value = criterion.beta(reached), optimum.profile.value
        self.sizes = tuple(q for q, _ in self.products.sizes[:-1])
        # (log sigma, gamma of the structure) = inverse (coefficients - moved), in well-scaled coordinates
        self._inverse = np.linalg.inv(self.way_back.parts["dispersion"] @ structure.coefficients)
        self._moved = np.zeros(len(self._inverse)) if self.way_back.moved is None else self.way_back.moved

    @property
    def log_unit(self) -> float:
        """Zero, because the coefficients are in the user's units."""
        return 0.0

    def scale(self, _index: int, free: float) -> float:
        """A coefficient of the formula itself."""
        return free

    def criterion(self, row: FloatArray | None, held: float) -> Criterion:
        """Make the function that returns the likelihood and its derivatives, with row'beta held if there is a row."""
        products = self.products if row is None else hold_fixed(self.products, row, held)
        structure, inverse = self.structure, self._inverse

        def at(roots: list[FloatArray], rest: FloatArray) -> Slopes:
            own = inverse @ (rest - self._moved)
            sigma, theta = float(np.exp(own[0])), own[1:]
            relative = [r / sigma for r in roots]
            cells = relative_factors((structure.matrix(theta),), 1.0)[0]
            profiled = profile(products, [*relative, cells], reml=self.reml)
            value = at_sigma(products, profiled, sigma, reml=self.reml)
            slopes = gradient(products, replace(profiled, sigma=sigma), reml=self.reml)
            by_roots = [2.0 * g @ r / sigma for g, r in zip(slopes[:-1], relative, strict=True)]
            by_sigma = profiled.quadratic / sigma**2 - profiled.freedom
            by_sigma -= 2.0 * sum(float(np.vdot(g, r @ r.T)) for g, r in zip(slopes[:-1], relative, strict=True))
            by_theta = np.tensordot(structure.derivatives(theta)[0], slopes[-1], axes=2)
            return value, by_roots, inverse.T @ np.append(by_sigma, by_theta)

        return at


class LaplaceModel:
    """Generalised (mixed) model by Laplace's approximation or by quadrature.

    Args:
        design: Design with blocks of unstructured covariance, or without blocks.
        covariances: Covariances of a fit, shapes (q, q), in the user's units; the search starts at them too.
        beta: Fixed effects of that fit, in the user's units, shape (p,).
        parameters: Dispersion parameters of that fit, shape (k,); none if the dispersion has a formula.
        nodes: Number of quadrature nodes; 1 is Laplace's approximation.
        parts: Coefficients of the zero inflation and of the dispersion of that fit, by name of the part. They follow
            the dispersion parameters among the scales, in well-scaled coordinates, and are never targets.
    """

    def __init__(
        self,
        design: Design,
        covariances: Sequence[FloatArray],
        beta: FloatArray,
        parameters: FloatArray,
        nodes: int = 1,
        parts: Mapping[str, FloatArray] = NO_PARTS,
    ) -> None:
        criterion = LaplaceCriterion.of(design)
        self.design, self.way_back = criterion.rows, criterion.way_back
        self.nodes = nodes
        self.step = DIFFERENCE if nodes == 1 else COARSE
        roots = [np.linalg.inv(t) @ matrix_root(c) for t, c in zip(self.way_back.blocks, covariances, strict=True)]
        at = np.asarray(np.linalg.solve(self.way_back.inverse, beta), dtype=np.float64)
        inside = {name: in_conditioned(self.way_back, name, parts[name]) for name in design.parts}
        start = Point(tuple(lower_triangular(roots)), at, parameters, design.family, inside)
        optimum = criterion.optimum(nodes, [start])
        factors = tuple(t @ f for t, f in zip(self.way_back.blocks, optimum.point.factors, strict=True))
        cells = sum(len(f) * (len(f) + 1) // 2 for f in factors)
        self.best = State(factors, optimum.point.beta, optimum.point.pack()[cells + design.p :])
        self.beta = self.way_back.inverse @ optimum.point.beta
        self.value, self.sizes = optimum.value, tuple(b.q for b in design.blocks)
        self._warm: FloatArray | None = None
        self._cells = cells

    @property
    def log_unit(self) -> float:
        """Zero, because dispersion parameters keep the units of the family."""
        return 0.0

    def scale(self, index: int, free: float) -> float:
        """A dispersion parameter from its value on its free scale."""
        return value_at(self.design.family, index, free)

    def criterion(self, row: FloatArray | None, held: float) -> Criterion:
        """Make the function that returns the likelihood and its derivatives, with row'beta held if there is a row."""
        design = self.design
        if row is not None:
            offset = np.zeros(design.n) if design.offset is None else design.offset
            pull = design.x @ (row * held / float(row @ row))
            design = replace(design, x=design.x @ others(row), offset=offset + pull)
        p = design.x.shape[1]

        def at(roots: list[FloatArray], rest: FloatArray) -> Slopes:
            if self.nodes > 1:
                return self._by_quadrature(design, roots, rest)
            point = unpack(design, np.concatenate([np.zeros(self._cells), rest]))
            slope = slope_of_laplace(
                design, rest[:p], roots, point.parameters, self._warm, whole=True, parts=point.parts
            )
            if np.isfinite(slope.value):
                self._warm = slope.spherical
            cells, start = [], 0
            for q in self.sizes:
                cells.append(slope.by_factors[start : start + q * q].reshape(q, q))
                start += q * q
            return slope.value, cells, np.concatenate([slope.by_beta, slope.by_parameters])

        return at

    def _by_quadrature(self, design: Design, roots: list[FloatArray], rest: FloatArray) -> Slopes:
        x = np.concatenate([roots[0].ravel(), rest])
        value = by_nodes(design, x, self.nodes)
        slope = by_differences(lambda z: by_nodes(design, z, self.nodes), x)[0]
        return value, [slope[:1].reshape(1, 1)], slope[1:]
