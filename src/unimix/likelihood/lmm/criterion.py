"""The (restricted) likelihood of one linear mixed model, built once per design and shared by all its users.

The data are conditioned and reduced when the criterion is made, in time proportional to the number of rows; the cost of
everything after that depends on the number of levels. Quantities at a point are computed when they are first needed and
kept, and so is the optimum: a fit, its degrees of freedom, its certificate, tests, profiles and the other engines of a
comparison share one object.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design
from unimix.design.modelled_variances import ModelledVariances, residual_cells
from unimix.likelihood.lmm.block_diagonal import Residuals, form_grouped
from unimix.likelihood.lmm.conditioning import Conditioning, relative_factors, well_scaled, without_offset
from unimix.likelihood.lmm.denominator_df import free_parameters
from unimix.likelihood.lmm.evaluation import Evaluation
from unimix.likelihood.lmm.identification import Undetermined, undetermined
from unimix.likelihood.lmm.optimise import Optimum
from unimix.likelihood.lmm.parameters import parameters_of
from unimix.likelihood.lmm.penalised_least_squares import profile
from unimix.likelihood.lmm.reduced_data import Products, form
from unimix.likelihood.lmm.search import search, search_responses
from unimix.likelihood.lmm.small_model import is_stackable
from unimix.likelihood.lmm.starts import em_starts
from unimix.likelihood.lmm.weights import weighted_rows

FloatArray = npt.NDArray[np.float64]
KEPT, LARGE = 8, 4_000_000
"""Number of evaluations that are kept, and the size of a model's matrices above which only the last one is kept."""


@dataclass
class _Known:
    """Known evaluations, by the bytes of their parameters, and known optima, by the kind of search."""

    evaluations: OrderedDict[bytes, Evaluation] = field(default_factory=OrderedDict)
    optima: dict[tuple[bool, int, bool], Optimum] = field(default_factory=dict)
    best: dict[bool, Optimum] = field(default_factory=dict)


@dataclass(frozen=True)
class LinearCriterion:
    """The likelihood of a design; methods take and return parameters in the design's own coordinates.

    Attributes:
        way_back: Transformation from well-scaled coordinates, in which all computations run, to the design's.
        data: The reduced data, in well-scaled coordinates.
    """

    way_back: Conditioning
    data: Products
    _known: _Known = field(default_factory=_Known, repr=False, compare=False)
    _places: OrderedDict[bytes, Evaluation] = field(default_factory=OrderedDict, repr=False, compare=False)

    @classmethod
    def of(cls, design: Design) -> LinearCriterion:
        """Return the criterion of a design; it is made at the first call and kept with the design.

        Args:
            design: Gaussian design with group effects, or with residuals that are correlated or have several variances.

        Example:
            >>> import unimix as um
            >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
            >>> criterion = LinearCriterion.of(fit.design())
            >>> at = criterion.at([fit.random[0].covariance], fit.sigma, reml=True)
            >>> round(criterion.value(at), 4)
            -893.2325
        """
        plain = without_offset(design)
        return plain.keep("linear criterion", lambda: cls._build(plain))

    @classmethod
    def _build(cls, design: Design) -> LinearCriterion:
        # Rows scaled by the square roots of their weights have the same likelihood up to a constant.
        weighted = weighted_rows(design)
        if weighted is not None and weighted.weights is not None:
            criterion = cls.of(weighted)
            constant = 0.5 * float(np.log(weighted.weights).sum())
            return cls(criterion.way_back, replace(criterion.data, log_weights=criterion.data.log_weights - constant))
        scaled = well_scaled(design)
        data: Products = scaled.share("reduced data", lambda: _reduced(scaled.rows))
        return cls(scaled.way_back, data, scaled.share("linear criterion", _Known))

    # -- points ---------------------------------------------------------------------------------

    def at(self, covariances: Sequence[FloatArray], sigma: float, *, reml: bool) -> Evaluation:
        """Evaluate the likelihood at given parameters.

        Args:
            covariances: Covariance matrix of each block's effects, shapes (q, q); may be singular. Where residuals are
                correlated, the last one is their covariance matrix, shape (T, T); where their standard deviations have
                a formula, it is that over the cells of :mod:`unimix.design.modelled_variances`.
            sigma: Residual standard deviation; that at the first time, or in the first cell, if there are several.
            reml: Whether to use the restricted likelihood.
        """
        key = _key(covariances, sigma, reml=reml)
        if key not in self._places:
            factors = self.way_back.relative(covariances, sigma)
            self._keep(self._places, key, self.at_factors(factors, sigma / self.way_back.residual, reml=reml))
        return self._places[key]

    def at_factors(self, factors: Sequence[FloatArray], sigma: float, *, reml: bool) -> Evaluation:
        """Evaluate the likelihood at relative lower triangular factors, shapes (q, q), in well-scaled coordinates."""
        key = _key(factors, sigma, reml=reml)
        known = self._known.evaluations
        if key not in known:
            self._keep(known, key, Evaluation(self.data, tuple(factors), sigma, reml))
        return known[key]

    def at_optimum(self, optimum: Optimum, *, reml: bool) -> Evaluation:
        """Evaluation at the end of a search, which reuses the quantities that the search computed."""
        at = Evaluation.of_optimum(self.data, optimum, reml=reml)
        self._keep(self._known.evaluations, _key(at.factors, at.sigma, reml=reml), at)
        return at

    def recognise(self, covariances: Sequence[FloatArray], sigma: float, evaluation: Evaluation) -> None:
        """Record that parameters in the design's coordinates belong to an evaluation, to avoid computing it again."""
        self._keep(self._places, _key(covariances, sigma, reml=evaluation.reml), evaluation)

    def _keep(self, known: OrderedDict[bytes, Evaluation], key: bytes, evaluation: Evaluation) -> None:
        known[key] = evaluation
        size = self.data.u.size + self.data.m**2 + len(self.data.c) * self.data.c.shape[2] * self.data.m
        while len(known) > (KEPT if size < LARGE else 1):
            known.popitem(last=False)

    # -- the design's coordinates ---------------------------------------------------------------

    def value(self, at: Evaluation) -> float:
        """(Restricted) log likelihood at the covariances and sigma of an evaluation, with all constants."""
        return at.log_likelihood() - self.way_back.lost(reml=at.reml)

    def beta(self, at: Evaluation) -> FloatArray:
        """Generalised least-squares estimates, shape (p,)."""
        return self.way_back.shift + self.way_back.coefficients @ at.profile.beta

    def coefficients_cov(self, matrix: FloatArray) -> FloatArray:
        """Convert a covariance matrix of fixed effects (p, p) from well-scaled coordinates to the design's."""
        turn = self.way_back.coefficients
        return np.asarray(turn @ matrix @ turn.T)

    def beta_cov(self, at: Evaluation) -> FloatArray:
        """(X'V^-1 X)^-1 at given covariances and sigma, shape (p, p)."""
        return self.coefficients_cov(at.sigma**2 * at.profile.cov_unscaled)

    def effects(self, at: Evaluation) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]]:
        """Conditional modes, shapes (L, q), and covariances, shapes (L, q, q), of the group effects."""
        modes, covariances = at.effects
        turns = self.turns[: len(modes)]
        return (
            tuple(m @ t.T for m, t in zip(modes, turns, strict=True)),
            tuple(t @ v @ t.T for v, t in zip(covariances, turns, strict=True)),
        )

    def dispersion(self, at: Evaluation) -> tuple[FloatArray, FloatArray]:
        """Coefficients (k,) of the log residual standard deviations, and their covariance matrix (k, k).

        The covariance matrix is that of the observed information of all covariance parameters.
        """
        structure = self.data.structures[-1]
        assert isinstance(structure, ModelledVariances)  # noqa: S101  the design has a formula of the dispersion
        theta = structure.parameters(at.factors[-1] @ at.factors[-1].T)
        turn = self.way_back.parts["dispersion"] @ structure.coefficients
        values = turn @ np.append(np.log(at.sigma), theta[: structure.n_modelled])
        free = free_parameters(self.data, at.factors)
        first = len(parameters_of(self.data, at.factors)) - structure.n_parameters
        wanted = [first + structure.n_parameters, *(first + np.arange(structure.n_modelled))]
        place = np.searchsorted(free, wanted)
        spread = at.satterthwaite.variances()[np.ix_(place, place)]
        moved = self.way_back.moved
        return values if moved is None else values + moved, turn @ spread @ turn.T

    def of_times(self, at: Evaluation) -> FloatArray:
        """Covariance matrix (T, T) of the residuals at all times, relative to standard deviations with a formula."""
        structure = self.data.structures[-1]
        assert isinstance(structure, ModelledVariances)  # noqa: S101  the design has a formula of the dispersion
        return structure.of_times(structure.parameters(at.factors[-1] @ at.factors[-1].T))

    def undetermined(self, at: Evaluation, design: Design) -> Undetermined | None:
        """What the data leave open of a design's parameters; None if its criterion determines all of them."""
        last = self.data.structures[-1] if self.data.structures else None
        return undetermined(at.flat, design, self.way_back, last if isinstance(last, ModelledVariances) else None)

    @property
    def turns(self) -> tuple[FloatArray, ...]:
        """Matrices (q, q) that convert effects, or residuals, of each block to the design's coordinates."""
        return tuple(self.way_back.scale * t for t in self.way_back.blocks)

    def covariances(self, factors: Sequence[FloatArray], sigma: float) -> tuple[tuple[FloatArray, ...], float]:
        """Covariances (q, q) and sigma of the design, from relative factors and sigma in well-scaled coordinates.

        Where residuals are correlated, the last covariance is theirs.
        """
        turned = [sigma * t @ f for t, f in zip(self.turns, factors, strict=True)]
        return tuple(f @ f.T for f in turned), self.way_back.residual * sigma

    def relative(self, factors: Sequence[FloatArray]) -> tuple[FloatArray, ...]:
        """Convert relative lower triangular factors (q, q) from well-scaled coordinates to the design's."""
        covariances, sigma = self.covariances(factors, 1.0)
        return relative_factors(covariances, sigma)

    # -- searches -------------------------------------------------------------------------------

    def profiled(self, relative: Sequence[FloatArray], *, reml: bool) -> tuple[float, float]:
        """Log likelihood with fixed effects and residual variance profiled out; the evaluation is not kept.

        Args:
            relative: Relative covariances Cov / sigma^2 of the blocks, shapes (q, q).
            reml: Whether to use the restricted likelihood.

        Returns:
            The log likelihood, and the residual standard deviation that maximises it.
        """
        at = profile(self.data, self.way_back.relative(relative, 1.0), reml=reml, whole=False)
        return at.value - self.way_back.lost(reml=reml), at.sigma * self.way_back.residual

    def likely_starts(self, *, reml: bool, steps: int = 12) -> list[tuple[FloatArray, ...]]:
        """Relative lower triangular factors (q, q) at which a search should start, best first.

        Args:
            reml: Whether to use the restricted likelihood.
            steps: Number of EM steps from each maximum along a line from small to large variances.
        """
        return [self.relative(factors) for factors in em_starts(self.data, reml=reml, steps=steps)]

    def search(
        self, points: Sequence[Evaluation] = (), *, reml: bool, max_steps: int = 200, thorough: bool = True
    ) -> Optimum:
        """Find the highest maximum from every likely start and from given points; the result without points is kept.

        Args:
            points: Evaluations of the same criterion to climb from.
            reml: Whether to use the restricted likelihood.
            max_steps: Maximum number of Newton steps from each start.
            thorough: Whether a small model is also searched from the best of many points off the line of variances.
        """
        kind = (reml, max_steps, thorough)
        known = self._known
        if kind not in known.optima:
            known.optima[kind] = search(self.data, reml=reml, max_steps=max_steps, thorough=thorough)
        optimum = known.optima[kind]
        if points:
            optimum = max([optimum, *(p.uphill for p in points)], key=lambda f: f.profile.value)
        best = known.best.get(reml)
        if best is None or optimum.profile.value > best.profile.value:
            known.best[reml] = optimum
        return optimum

    @classmethod
    def search_together(
        cls, designs: Sequence[Design], *, reml: bool, max_steps: int = 200, thorough: bool = True
    ) -> None:
        """Search the maxima of several responses of one small model at once; their criteria keep the results.

        Args:
            designs: Designs that differ in their responses only.
            reml: Whether to use the restricted likelihood.
            max_steps: Maximum number of Newton steps from one start.
            thorough: Whether to search from the best of many further points too.
        """
        kind = (reml, max_steps, thorough)
        waiting = [c for c in map(cls.of, designs) if kind not in c._known.optima]
        if len(waiting) < 2 or not is_stackable(waiting[0].data):
            return
        with contextlib.suppress(np.linalg.LinAlgError):  # each is then searched alone
            optima = search_responses([c.data for c in waiting], reml=reml, max_steps=max_steps, thorough=thorough)
            for criterion, optimum in zip(waiting, optima, strict=True):
                criterion._known.optima[kind] = optimum

    def optimum(self, points: Sequence[Evaluation] = (), *, reml: bool) -> Optimum:
        """Return the best known maximum, the highest result of this and all earlier searches."""
        self.search(points, reml=reml)
        return self._known.best[reml]


def _reduced(design: Design) -> Products:
    """Reduce the data of a design in well-scaled coordinates."""
    block, cells = design.residual, residual_cells(design)
    if cells is not None:
        structure = cells.structure
        residuals = Residuals(cells.groups, cells.cells, structure.q, structure.independent)
        return form_grouped(design, residuals, structure)
    if block is None:
        return form(design)
    residuals = Residuals(block.codes, block.times, block.structure.n_times, block.independent)
    return form_grouped(design, residuals, block.structure.relative)


def _key(matrices: Sequence[FloatArray], sigma: float, *, reml: bool) -> bytes:
    parts = [np.ascontiguousarray(m, dtype=np.float64).tobytes() for m in matrices]
    return b"".join([*parts, np.float64(sigma).tobytes(), bytes([reml])])


__all__ = ["LinearCriterion"]
