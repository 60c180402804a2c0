"""Known relationship matrices of the levels of a grouping factor: pedigrees, phylogenies, kinship from markers.

Effects b of the L levels with q columns each have Cov(b_l, b_m) = A_lm Sigma with a known matrix A. With A = R R' they
are b = (R x I) u, where the u of different levels are independent and Cov(u_l) = Sigma.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import RandomBlock
from unimix.errors import DataError, OptionError, did_you_mean, listing

FloatArray = npt.NDArray[np.float64]
ASYMMETRY = 1e-8
"""Difference of two elements that should be equal, relative to the largest element, that counts as rounding."""
NEGATIVE = 1e-8
"""Negative eigenvalue, relative to the largest, that counts as rounding."""


@dataclass(frozen=True, eq=False)
class Relationship:
    """A known matrix with the names of its rows.

    Attributes:
        matrix: Square matrix, dense or sparse, shape (m, m).
        labels: Names of the m rows and columns.
        inverse: Whether the matrix is the inverse of the relationship matrix.

    Example:
        >>> import unimix as um
        >>> um.Relationship([[1, 0.5], [0.5, 1]], labels=["mother", "child"]).labels
        ('mother', 'child')
    """

    matrix: Any
    labels: Sequence[Hashable]
    inverse: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))

    def among(self, levels: Sequence[Hashable], where: str) -> FloatArray:
        """Relationship matrix A of some levels, in their order, shape (L, L).

        Args:
            levels: The levels; labels that are not among them are ancestors without rows, and are left out of A.
            where: The argument that gave the matrix, for messages.

        Raises:
            DataError: If the matrix is not a relationship matrix, or levels are not among its labels.
        """
        dense = self.matrix.toarray() if hasattr(self.matrix, "toarray") else self.matrix
        matrix = np.asarray(dense, dtype=np.float64)
        count = len(self.labels)
        if matrix.shape != (count, count):
            raise DataError(f"{where} is a matrix of shape {matrix.shape} with {count} labels: give one label per row.")
        if not np.isfinite(matrix).all():
            raise DataError(f"{where} has values that are missing or infinite.")
        doubled = [str(k) for k, n in Counter(self.labels).items() if n > 1]
        if doubled:
            raise DataError(f"{where} has labels that occur more than once: {listing(doubled)}.")
        off = np.abs(matrix - matrix.T)
        if off.max(initial=0.0) > ASYMMETRY * np.abs(matrix).max(initial=0.0):
            i, j = map(int, np.unravel_index(int(off.argmax()), off.shape))
            raise DataError(
                f"{where} is not symmetric: the elements of {self.labels[i]} and {self.labels[j]} are "
                f"{matrix[i, j]:g} and {matrix[j, i]:g}."
            )
        matrix = (matrix + matrix.T) / 2
        values = np.linalg.eigvalsh(matrix)
        least = float(values.min()) if count else 0.0
        if least < -NEGATIVE * max(float(values.max(initial=0.0)), 1e-300) or not (np.diag(matrix) > 0).all():
            raise DataError(
                f"{where} is not a covariance matrix: its smallest eigenvalue is {least:.3g}, so that some combination "
                "of effects would have a negative variance."
            )
        if self.inverse:
            if least < 1e-12 * float(values.max()):
                raise DataError(f"{where} is an inverse that is singular, so that there is no relationship matrix.")
            matrix = np.asarray(np.linalg.inv(matrix), dtype=np.float64)
        place = {label: k for k, label in enumerate(self.labels)}
        missing = [str(level) for level in levels if level not in place]
        if missing:
            raise DataError(
                f"{where} has no row for {len(missing)} of the levels in the data: {listing(missing)}. Its labels are "
                f"{listing(map(repr, self.labels), 5)}."
            )
        rows = [place[level] for level in levels]
        return np.ascontiguousarray(matrix[np.ix_(rows, rows)])


def inverse(matrix: Any, labels: Sequence[Hashable] | None = None) -> Relationship:
    """The inverse of a relationship matrix, as programs for pedigrees write it, for ``relationship=``.

    Args:
        matrix: Inverse matrix, shape (m, m): a data frame with the same labels on both sides, or dense or sparse.
        labels: Names of the rows; not needed for a data frame.

    Example:
        >>> import pandas as pd
        >>> import unimix as um
        >>> um.inverse(pd.DataFrame([[2.0, 0.0], [0.0, 1.0]], index=["a", "b"], columns=["a", "b"])).labels
        ('a', 'b')
    """
    return replace(_read(matrix, labels, "um.inverse()"), inverse=True)


def _read(matrix: Any, labels: Sequence[Hashable] | None, where: str) -> Relationship:
    if isinstance(matrix, Relationship):
        return matrix
    if labels is None and hasattr(matrix, "index") and hasattr(matrix, "columns"):
        if list(matrix.index) != list(matrix.columns):
            raise DataError(f"{where} is a data frame whose rows and columns have different labels, or another order.")
        return Relationship(matrix.to_numpy(), tuple(matrix.index))
    if labels is None:
        raise OptionError(
            f"{where} has no labels, and which row belongs to which level is unknown: give "
            "pd.DataFrame(A, index=names, columns=names) or um.Relationship(A, labels=names)."
        )
    return Relationship(matrix, tuple(labels))


def related(blocks: Sequence[RandomBlock], given: Mapping[str, Any] | None) -> tuple[RandomBlock, ...]:
    """Blocks with the roots R of the relationship matrices of their levels, where these were given.

    Args:
        blocks: Blocks of the design.
        given: Relationship matrix by name of the grouping factor.

    Raises:
        OptionError: If a name is not a grouping factor of the model.
        DataError: If a matrix does not suit the levels.
    """
    groups = {b.group: b for b in blocks}
    strange = [name for name in given or {} if name not in groups]
    if strange:
        raise OptionError(
            f"relationship= names {strange[0]!r}, which is not a grouping factor of the model."
            f"{did_you_mean(str(strange[0]), groups)} Known: {listing(groups) or 'none'}."
        )
    roots: dict[str, FloatArray] = {}
    for name, matrix in (given or {}).items():
        where = f"relationship[{name!r}]"
        roots[name] = root_of(_read(matrix, None, where).among(groups[name].levels, where))
    return tuple(replace(b, relationship=roots.get(b.group)) for b in blocks)


def root_of(matrix: FloatArray) -> FloatArray:
    """Matrix R (L, L) with R R' = A: lower triangular, or from eigenvectors where A is singular."""
    try:
        return np.asarray(np.linalg.cholesky(matrix))
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(matrix)
        return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def pedigree(data: Any, animal: str = "animal", sire: str = "sire", dam: str = "dam") -> Any:
    """Additive relationship matrix of a pedigree, by the tabular method.

    The relationship of two animals is twice the probability that alleles drawn at one locus of each are identical by
    descent; an animal's own is 1 plus its inbreeding coefficient. With animals ordered so that parents come first,
    A_ij = (A_j,sire(i) + A_j,dam(i)) / 2 for j before i, and A_ii = 1 + A_sire(i),dam(i) / 2, with zero for an unknown
    parent (Henderson 1976, Biometrics 32:69-83; Mrode 2014, Linear Models for the Prediction of Animal Breeding Values,
    3rd ed., section 2.2).

    Args:
        data: Data frame with one row per animal.
        animal: Name of the column of animals.
        sire: Name of the column of fathers; missing where unknown. Parents without a row of their own are founders.
        dam: Name of the column of mothers.

    Returns:
        Data frame with the animals as index and columns, parents before their offspring.

    Raises:
        DataError: If columns are absent, an animal has two rows, or is its own ancestor.

    Example:
        >>> import pandas as pd
        >>> import unimix as um
        >>> family = pd.DataFrame({"animal": ["c", "d"], "sire": ["a", "a"], "dam": ["b", "c"]})
        >>> float(um.pedigree(family).loc["d", "d"])
        1.25
    """
    import pandas as pd

    frame = pd.DataFrame(data)
    absent = [name for name in (animal, sire, dam) if name not in frame.columns]
    if absent:
        raise DataError(f"The pedigree has no column {listing(map(repr, absent))}: {listing(map(str, frame.columns))}.")
    parents: dict[Any, tuple[Any, Any]] = {}
    for own, father, mother in zip(frame[animal], frame[sire], frame[dam], strict=True):
        if own in parents:
            raise DataError(f"The pedigree has two rows for {own!r}.")
        parents[own] = (None if pd.isna(father) else father, None if pd.isna(mother) else mother)
    founders = dict.fromkeys(p for pair in parents.values() for p in pair if p is not None and p not in parents)
    order = _parents_first({**dict.fromkeys(founders, (None, None)), **parents})
    place = {own: k for k, own in enumerate(order)}
    a = np.zeros((len(order), len(order)))
    for i, own in enumerate(order):
        known = [place[p] for p in parents.get(own, (None, None)) if p is not None]
        row = 0.5 * a[known, :i].sum(axis=0)
        a[i, :i] = a[:i, i] = row
        a[i, i] = 1.0 + (0.5 * a[known[0], known[1]] if len(known) == 2 else 0.0)
    return pd.DataFrame(a, index=order, columns=order)


def _parents_first(parents: Mapping[Any, tuple[Any, Any]]) -> list[Any]:
    """All animals, each after its parents."""
    order: dict[Any, None] = {}
    waiting = dict(parents)
    while waiting:
        ready = [own for own, pair in waiting.items() if not any(p in waiting for p in pair if p is not None)]
        if not ready:
            raise DataError(f"The pedigree makes animals their own ancestors: {listing(map(str, waiting), 5)}.")
        for own in ready:
            order[own] = None
            del waiting[own]
    return list(order)


__all__ = ["Relationship", "inverse", "pedigree", "related", "root_of"]
