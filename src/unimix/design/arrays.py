"""The one Design that every engine is given, as plain arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from unimix.design.encoding import Encoding
from unimix.design.row_labels import RowLabels
from unimix.design.tied_levels import TiedLevels, tied_levels
from unimix.design.typed_columns import Column, FactorColumn, Level, as_exact
from unimix.distributions.family import Family, Gaussian
from unimix.formula.terms import ModelSpec

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Kept = TypeVar("Kept")
SMALL_CELLS, SMALL_EFFECTS = 1_000_000, 1000
"""Cells of the columns and group effects of a small design."""
TIED_LEVELS = "tied levels"
"""What a design keeps its sets of tied levels as."""


@dataclass(frozen=True)
class RandomBlock:
    """Effects of one random term: a row ``z`` per observation, an effect vector per level.

    Attributes:
        group: Name of the grouping factor.
        factors: Columns it is made of.
        terms: Names of the q columns.
        z: Columns, shape (n, q).
        codes: Level index per row, shape (n,).
        levels: The L levels in order.
        structure: Form of the covariance matrix: us (unstructured), cs (compound symmetry) or ar1.
    """

    group: str
    factors: tuple[str, ...]
    terms: tuple[str, ...]
    z: FloatArray
    codes: IntArray
    levels: tuple[Level, ...]
    structure: str = "us"

    @property
    def n_levels(self) -> int:
        """Number of levels."""
        return len(self.levels)

    @property
    def q(self) -> int:
        """Number of columns."""
        return len(self.terms)


@dataclass(frozen=True)
class AuxiliaryDesign:
    """Columns of something that is modelled beside the mean.

    Attributes:
        x: Columns of full rank, shape (n, k).
        names: Names of the k columns.
        kept: Which of the formula's columns they are.
    """

    x: FloatArray
    names: tuple[str, ...]
    kept: tuple[int, ...]


@dataclass(frozen=True)
class Design:
    """What is fitted, as plain arrays; the same object goes to every engine.

    Attributes:
        spec: The reading of the formula.
        y: Response, shape (n,); the proportion of successes for a binomial family.
        x: Fixed-effects columns of full rank, shape (n, p).
        fixed_names: Names of the p columns.
        blocks: One per correlated set of random effects; ``||`` gives one per column.
        weights: Precision weights (variance sigma^2 / w; a row's log-likelihood counts w times where the family is
            not Gaussian), shape (n,), or None.
        offset: Added to the linear predictor, shape (n,), or None.
        rows: Index of each used row in the data as given, shape (n,).
        n_rows: Rows of the data as given.
        dropped: Missing values per column among the dropped rows.
        aliased: Fixed-effects columns left out because they depend on others.
        notes: What was done to the data, in words.
        encoding: What was learnt from the data, and how to make the same columns of other data.
        family: Distribution of the response, with its link.
        trials: Number of trials per row, shape (n,), for a binomial family; else None.
        zero: Columns of the logit of the probability of a structural zero, or None.
        dispersion: Columns of the logarithm of the dispersion, or None where it is constant.
        labels: Index of the rows used, where the data are pandas with labels of their own; else None.
        columns: The columns that the formula uses, rows used only, by name.
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
    _kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def keep(self, name: str, make: Callable[[], Kept]) -> Kept:
        """Something that follows from the design: made at the first call, then kept as long as the design.

        A design never changes, so that this is safe; it is not pickled, and a changed copy starts with nothing.

        Args:
            name: Of the thing.
            make: Makes it.
        """
        if name not in self._kept:
            self._kept[name] = make()
        found: Kept = self._kept[name]
        return found

    def hand_over(self, name: str, other: Design) -> None:
        """Give a changed copy what is known of this design and holds for it, too."""
        if name in self._kept:
            other._kept.setdefault(name, self._kept[name])

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: all but what follows from it."""
        return {**self.__dict__, "_kept": {}}

    @property
    def tied(self) -> TiedLevels:
        """Which levels of the grouping factors rows tie together."""
        return self.keep(TIED_LEVELS, lambda: tied_levels([(b.codes, b.n_levels) for b in self.blocks]))

    @property
    def n(self) -> int:
        """Number of rows used."""
        return len(self.y)

    @property
    def p(self) -> int:
        """Number of fixed effects."""
        return len(self.fixed_names)

    @property
    def is_small(self) -> bool:
        """Whether its matrices are so small that threads of linear algebra would only wait for each other."""
        columns = self.p + sum(b.q for b in self.blocks)
        return self.n * columns <= SMALL_CELLS and sum(b.q * b.n_levels for b in self.blocks) <= SMALL_EFFECTS

    @property
    def is_linear(self) -> bool:
        """Whether this is the linear mixed model with one residual variance."""
        return self.family.is_linear and self.dispersion is None

    @property
    def groups(self) -> dict[str, int]:
        """Number of levels per grouping factor."""
        return {b.group: b.n_levels for b in self.blocks}

    def frame(self) -> dict[str, Any]:
        """The columns that were fitted, as a mapping of lists, whole numbers without loss."""
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
        ]
        for array in arrays:
            digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
        blocks = ((b.group, b.terms, tuple(map(str, b.levels)), b.structure) for b in self.blocks)
        parts = [p for p in (self.zero, self.dispersion) if p is not None]
        for part in parts:
            digest.update(np.ascontiguousarray(part.x).tobytes())
        names = [self.fixed_names, *blocks, str(self.family), *self.spec.parts]
        digest.update(repr(names).encode())
        return digest.hexdigest()[:16]
