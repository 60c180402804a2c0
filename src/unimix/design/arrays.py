"""The Design that every engine receives, as plain arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from unimix.design.covariance_structures import Structure, structure_of
from unimix.design.encoding import Encoding
from unimix.design.residual_block import ResidualBlock
from unimix.design.row_labels import RowLabels
from unimix.design.tied_levels import TiedLevels, tied_levels
from unimix.design.typed_columns import Column, FactorColumn, Level, as_exact
from unimix.distributions.family import Family, Gaussian
from unimix.errors import UnsupportedModelError
from unimix.formula.terms import ModelSpec

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Kept = TypeVar("Kept")
SMALL_CELLS, SMALL_EFFECTS = 1_000_000, 1000
"""Largest number of cells in the columns and group effects of a small design."""
TIED_LEVELS = "tied levels"
"""Name under which a design keeps its sets of tied levels."""


def keep_in(kept: dict[str, Any], name: str, make: Callable[[], Kept]) -> Kept:
    """Return a derived quantity by its name; it is made at the first call and kept in ``kept``."""
    if name not in kept:
        kept[name] = make()
    value: Kept = kept[name]
    return value


@dataclass(frozen=True)
class RandomBlock:
    """Effects of one random term: a row of ``z`` per observation and an effect vector per level.

    Attributes:
        group: Name of the grouping factor.
        factors: Columns whose combination is the grouping factor.
        terms: Names of the q columns.
        z: Columns, shape (n, q).
        codes: Level index per row, shape (n,).
        levels: The L levels in order.
        structure: Name of the covariance structure: us (unstructured), or one of
            :mod:`unimix.design.covariance_structures`.
        coordinates: Times or places of the columns, shape (q,), if the structure needs them; else empty.
        relationship: Root R of the known relationship matrix A = R R' of the levels, shape (L, L); None for
            independent levels.
        is_smooth: Whether the effects are the coefficients of a smooth's curve, and the only level is all rows.
    """

    group: str
    factors: tuple[str, ...]
    terms: tuple[str, ...]
    z: FloatArray
    codes: IntArray
    levels: tuple[Level, ...]
    structure: str = "us"
    coordinates: tuple[float, ...] = ()
    relationship: FloatArray | None = None
    is_smooth: bool = False

    @property
    def own_variances(self) -> FloatArray:
        """Diagonal of the relationship matrix, shape (L,): variances of the levels' effects in units of Sigma."""
        return np.ones(self.n_levels) if self.relationship is None else np.sum(self.relationship**2, axis=1)

    @property
    def covariance_structure(self) -> Structure | None:
        """The covariance structure; None for an unstructured covariance matrix."""
        return structure_of(self.structure, self.q, self.coordinates)

    @property
    def n_parameters(self) -> int:
        """Number of covariance parameters."""
        structure = self.covariance_structure
        return self.q * (self.q + 1) // 2 if structure is None else structure.n_parameters

    @property
    def n_levels(self) -> int:
        """Number of levels."""
        return len(self.levels)

    @property
    def q(self) -> int:
        """Number of columns."""
        return len(self.terms)

    @property
    def text(self) -> str:
        """The term as it would be written, with at most four of its columns."""
        shown = self.terms if self.q <= 4 else (*self.terms[:2], "...", self.terms[-1])
        return f"({' + '.join(shown)} | {self.group})"


@dataclass(frozen=True)
class Smooth:
    """Columns of a smooth ``s(x)`` among the fixed effects of a design (:mod:`unimix.design.smooths`).

    Attributes:
        term: Name of the term.
        basis: Kind of basis: tp, cr or ps.
        range: Smallest and largest value that was fitted; the curve is a straight line beyond.
        line: Index of the column of the straight line; None if it is a combination of other columns and was left out.
        curved: Indices of the columns whose coefficients are penalised, and have one variance.
    """

    term: str
    basis: str
    range: tuple[float, float]
    line: int | None
    curved: tuple[int, ...]

    def among(self, kept: Sequence[int]) -> Smooth:
        """The smooth in a design that keeps the columns with these indices, its curve's among them."""
        place = {j: i for i, j in enumerate(kept)}
        line = None if self.line is None else place.get(self.line)
        return replace(self, line=line, curved=tuple(place[j] for j in self.curved))

    @property
    def columns(self) -> tuple[int, ...]:
        """Indices of all columns."""
        return (*(() if self.line is None else (self.line,)), *self.curved)


@dataclass(frozen=True)
class AuxiliaryDesign:
    """Columns of a part of the model other than the mean, such as zero inflation or dispersion.

    Attributes:
        x: Columns of full rank, shape (n, k).
        names: Names of the k columns.
        kept: Indices of these columns among all columns of the part's formula.
        same: Number of the distinct row of columns that each row has, shape (n,), in the order of their first rows;
            None to compare the columns. Columns that were multiplied by a matrix differ by rounding.
    """

    x: FloatArray
    names: tuple[str, ...]
    kept: tuple[int, ...]
    same: IntArray | None = None

    @cached_property
    def cells(self) -> IntArray:
        """Number of the distinct row of columns that each row has, shape (n,), in the order of their first rows."""
        if self.same is not None:
            return self.same
        _, first, inverse = np.unique(self.x, axis=0, return_index=True, return_inverse=True)
        number = np.empty(len(first), dtype=np.int64)
        number[np.argsort(first)] = np.arange(len(first))
        return number[np.ravel(inverse)]


@dataclass(frozen=True)
class Compression:
    """What is known of rows that a design holds in compressed form only.

    The rows of such a design have the same cross-products within every level as the rows they stand for, and nothing
    else in common with them: they are weighted, and turned by orthogonal matrices.

    Attributes:
        n: Number of rows that were compressed.
        log_weights: Half the sum of the logarithms of their weights, divided by the mean weight; 0 without weights. The
            compressed rows have the mean weight each.
        support: Some of the rows as they were, whose columns are as independent as those of all rows, and in which
            every combination of factor levels occurs.
        moments: A few rows whose columns have the means and (population) covariances of all rows, without weights.
        means: Mean of each numeric predictor.
        combinations: Levels of the factors in every combination that occurs: level index per combination, by name.
        frequencies: Sum of the weights of the rows of each combination; their number without weights.
    """

    n: int
    log_weights: float
    support: Design
    moments: Design
    means: Mapping[str, float]
    combinations: Mapping[str, FactorColumn]
    frequencies: FloatArray


@dataclass(frozen=True)
class Design:
    """The model and its data as plain arrays; every engine receives the same object.

    Attributes:
        spec: Interpretation of the formula.
        y: Response, shape (n,); the proportion of successes for a binomial family.
        x: Fixed-effects columns of full rank, shape (n, p).
        fixed_names: Names of the p columns.
        blocks: One block per set of correlated random effects; ``||`` gives one block per column.
        weights: Precision weights (variance sigma^2 / w; a row's log-likelihood counts w times where the family is
            not Gaussian), shape (n,), or None.
        offset: Offset of the linear predictor, shape (n,), or None.
        rows: Index of each used row in the data as given, shape (n,).
        n_rows: Number of rows of the data as given.
        dropped: Number of missing values per column among the dropped rows.
        aliased: Fixed-effects columns left out because they depend on others.
        notes: Changes made to the data, in words.
        encoding: What was learnt from the data, from which the same columns can be made for new data.
        family: Distribution of the response, with its link.
        trials: Number of trials per row, shape (n,), for a binomial family; None for others.
        zero: Columns of the logit of the probability of a structural zero, or None.
        dispersion: Columns of the logarithm of the dispersion, or None where it is constant.
        labels: Index of the rows used if the data are a pandas frame with labels of its own; otherwise None.
        columns: Columns that the formula uses, by name, with the rows used only.
        column_terms: Term of the formula to which each fixed-effects column belongs, by name of the column; the
            intercept belongs to none.
        residual: Covariance of the residuals, or None for independent residuals with one variance (or a dispersion).
        compression: What is known of the rows, if ``y``, ``x`` and the blocks hold them in compressed form; else None.
        sigma: Known residual standard deviation of a row with weight 1; None if it is a parameter.
        smooths: Smooths among the fixed effects; none in the mixed model that estimates them.
    """

    spec: ModelSpec
    y: FloatArray
    x: FloatArray
    fixed_names: tuple[str, ...]
    blocks: tuple[RandomBlock, ...]
    weights: FloatArray | None
    offset: FloatArray | None
    rows: IntArray
    n_rows: int
    dropped: dict[str, int]
    aliased: tuple[str, ...]
    notes: tuple[str, ...]
    encoding: Encoding
    family: Family = field(default_factory=Gaussian)
    trials: FloatArray | None = None
    zero: AuxiliaryDesign | None = None
    dispersion: AuxiliaryDesign | None = None
    labels: RowLabels | None = None
    columns: Mapping[str, Column] = field(default_factory=dict)
    column_terms: Mapping[str, str] = field(default_factory=dict)
    compression: Compression | None = None
    residual: ResidualBlock | None = None
    sigma: float | None = None
    smooths: tuple[Smooth, ...] = ()
    _kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _of_columns: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def keep(self, name: str, make: Callable[[], Kept]) -> Kept:
        """Return a quantity derived from the design; it is made at the first call and kept with the design.

        This is safe because a design never changes. Kept quantities are not pickled, and a changed copy starts without.

        Args:
            name: Name under which the quantity is kept.
            make: Function that computes the quantity.
        """
        return keep_in(self._kept, name, make)

    def with_response(self, y: FloatArray) -> Design:
        """Return a copy with another response, shape (n,), which shares what :meth:`keep_of_columns` keeps."""
        design = replace(self, y=y)
        object.__setattr__(design, "_of_columns", self._of_columns)
        return design

    def changed(self, change: Callable[[Design], Design]) -> Design:
        """Return a copy with other columns, and with the same change of what is known of compressed rows.

        Args:
            change: Function that makes the copy of a design, by linear combinations of its columns.
        """
        design, of = change(self), self.compression
        if of is None:
            return design
        return replace(design, compression=replace(of, support=change(of.support), moments=change(of.moments)))

    def keep_of_columns(self, name: str, make: Callable[[], Kept]) -> Kept:
        """Return a quantity that does not depend on the response, as :meth:`keep` does."""
        return keep_in(self._of_columns, name, make)

    def hand_over_tied(self, other: Design) -> None:
        """Pass the sets of tied levels on to a design with the same levels, if they are known."""
        if TIED_LEVELS in self._of_columns:
            other._of_columns.setdefault(TIED_LEVELS, self._of_columns[TIED_LEVELS])

    def __getstate__(self) -> dict[str, Any]:
        """State for pickling: the fields, without the quantities derived from them."""
        return {**self.__dict__, "_kept": {}, "_of_columns": {}}

    @property
    def tied(self) -> TiedLevels:
        """Sets of levels of the grouping factors that are connected by rows."""
        return self.keep_of_columns(TIED_LEVELS, lambda: tied_levels([(b.codes, b.n_levels) for b in self.blocks]))

    @property
    def n(self) -> int:
        """Number of rows of the arrays: the rows used, unless they are compressed."""
        return len(self.y)

    @property
    def n_obs(self) -> int:
        """Number of rows used, compressed or not."""
        return self.n if self.compression is None else self.compression.n

    @property
    def log_weights(self) -> float:
        """Half the sum of the logarithms of the weights, a term of the log likelihood of a Gaussian model."""
        if self.weights is None:
            return 0.0
        if self.compression is not None:
            return self.compression.log_weights + 0.5 * self.n_obs * float(np.log(self.weights[0]))
        return float(0.5 * np.log(self.weights).sum())

    @property
    def p(self) -> int:
        """Number of fixed effects."""
        return len(self.fixed_names)

    @property
    def parts(self) -> dict[str, AuxiliaryDesign]:
        """Parts of the model other than the mean, by name: ``zero`` and ``dispersion``, as far as there are any."""
        return {n: p for n, p in (("zero", self.zero), ("dispersion", self.dispersion)) if p is not None}

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the dispersion parameters that are the same in all rows: none if the dispersion has a formula."""
        return self.family.parameters if self.dispersion is None else ()

    @property
    def is_small(self) -> bool:
        """Whether the matrices are so small that several threads of linear algebra would not save time."""
        columns = self.p + sum(b.q for b in self.blocks)
        return self.n * columns <= SMALL_CELLS and sum(b.q * b.n_levels for b in self.blocks) <= SMALL_EFFECTS

    @property
    def is_structured(self) -> bool:
        """Whether a block has a covariance structure."""
        return any(b.structure != "us" for b in self.blocks)

    @property
    def related(self) -> tuple[str, ...]:
        """Grouping factors whose levels have a known relationship matrix."""
        return tuple(dict.fromkeys(b.group for b in self.blocks if b.relationship is not None))

    @property
    def is_linear(self) -> bool:
        """Whether this is the linear mixed model without a formula of the dispersion."""
        return self.family.is_linear and self.dispersion is None

    @property
    def has_covariances(self) -> bool:
        """Whether the model has covariance parameters: group effects, or residuals of more than one variance."""
        return bool(self.blocks) or self.residual is not None or self.has_modelled_variances

    @property
    def has_modelled_variances(self) -> bool:
        """Whether this is a linear model whose residual standard deviations have a formula."""
        return self.family.is_linear and self.dispersion is not None

    def require_one_residual(self) -> None:
        """Refuse correlated residuals and residuals of several variances, for computations that know only one variance.

        Raises:
            UnsupportedModelError: If the design has a covariance of the residuals.
        """
        if self.residual is not None:
            raise UnsupportedModelError(
                "This is computed for independent residuals with one variance, and the model has "
                f"residual={self.residual.text!r}."
            )

    @property
    def has_one_residual(self) -> bool:
        """Whether residuals are independent and have one variance (up to weights), in a linear model."""
        return self.is_linear and self.residual is None

    @property
    def groups(self) -> dict[str, int]:
        """Number of levels per grouping factor."""
        return {b.group: b.n_levels for b in self.blocks}

    def frame(self) -> dict[str, Any]:
        """The columns that were fitted, as a mapping from names to lists; whole numbers are exact."""
        return {
            name: [c.levels[k] for k in c.codes] if isinstance(c, FactorColumn) else as_exact(c)
            for name, c in self.columns.items()
        }

    def fingerprint(self) -> str:
        """Digest of the numbers and names that define the model; equal for equal designs."""
        digest = hashlib.sha256()
        arrays = [
            self.y,
            self.x,
            self.weights,
            self.offset,
            self.trials,
            *(a for b in self.blocks for a in (b.z, b.codes)),
            *(b.relationship for b in self.blocks if b.relationship is not None),
        ]
        for array in arrays:
            digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
        blocks = ((b.group, b.terms, tuple(map(str, b.levels)), b.structure, *b.coordinates) for b in self.blocks)
        for part in self.parts.values():
            digest.update(np.ascontiguousarray(part.x).tobytes())
        known = () if self.sigma is None else (self.sigma,)
        names = [self.fixed_names, *blocks, str(self.family), *self.spec.parts, *known, *self.smooths]
        digest.update(repr(names).encode())
        if self.residual is not None:
            for index in (self.residual.codes, self.residual.times):
                digest.update(np.ascontiguousarray(index).tobytes())
            digest.update(repr(self.residual.structure).encode())
        return digest.hexdigest()[:16]
