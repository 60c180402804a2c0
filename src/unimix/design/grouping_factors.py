"""Grouping factors, made of one column or of the combinations of several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unimix.design.typed_columns import FactorColumn, Level

IntArray = npt.NDArray[np.int64]


class Named(Protocol):
    """A block of group effects that has a group and terms."""

    @property
    def group(self) -> str:
        """Name of the grouping factor."""

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the effects."""


def block_labels(blocks: Sequence[Named]) -> list[str]:
    """One label per block: its factor, followed by its terms if the factor has several blocks.

    Labels are names of variables and dimensions, which nutpie separates at commas: they have none.
    """
    groups = [b.group for b in blocks]
    labels = [b.group if groups.count(b.group) == 1 else f"{b.group}: {' + '.join(b.terms)}" for b in blocks]
    return [label.replace(",", ";") for label in labels]


@dataclass(frozen=True, eq=False)
class RowLevels:
    """Levels of a grouping factor in n rows of new data.

    Attributes:
        names: Labels of the levels.
        codes: Index of each row's label, shape (n,).
    """

    names: tuple[Level, ...]
    codes: IntArray

    def among(self, levels: Sequence[Level]) -> IntArray:
        """Index of each row's level among other levels, shape (n,); -1 for unknown labels."""
        return level_codes(levels, self.names)[self.codes]

    def labels(self, rows: npt.NDArray[Any]) -> list[str]:
        """Distinct labels in some rows, as sorted texts.

        Args:
            rows: Indices or mask of the rows.
        """
        return sorted({str(self.names[k]) for k in np.unique(self.codes[rows])})


def level_codes(levels: Sequence[Level], labels: Sequence[Level]) -> IntArray:
    """Index of each label among the levels, shape (n,); -1 for unknown labels. True equals 1 and False equals 0."""
    if levels == labels:
        return np.arange(len(levels))
    index = {str(level): i for i, level in enumerate(levels)}
    for i, level in enumerate(levels):
        if isinstance(level, bool | np.bool_):
            index.setdefault(str(int(level)), i)

    def code(label: Level) -> int:
        position = index.get(str(label), -1)
        return index.get(str(int(label)), -1) if position < 0 and isinstance(label, bool | np.bool_) else position

    return np.array([code(label) for label in labels], dtype=np.int64)


def combine(factors: Sequence[FactorColumn]) -> tuple[IntArray, tuple[tuple[Level, ...], ...]]:
    """Number the combinations of levels that occur; the last factor varies fastest, as in R's ``a:b``.

    Args:
        factors: Columns of equal length without missing values.

    Returns:
        Level index per row (n,), and one tuple of labels per level.
    """
    codes = factors[0].codes
    labels: list[tuple[Level, ...]] = [(level,) for level in factors[0].levels]
    for factor in factors[1:]:
        joint = codes * len(factor.levels) + factor.codes
        present, codes = np.unique(joint, return_inverse=True)
        labels = [(*labels[k // len(factor.levels)], factor.levels[k % len(factor.levels)]) for k in present.tolist()]
    return np.asarray(codes, dtype=np.int64), tuple(labels)


def name_levels(levels: Sequence[tuple[Level, ...]]) -> tuple[Level, ...]:
    """One label per level: the level itself, or ``"a:A"`` for combinations; parts that contain a colon are quoted."""
    return tuple(level[0] if len(level) == 1 else ":".join(map(_part, level)) for level in levels)


def _part(level: Level) -> str:
    text = str(level)
    if ":" not in text and '"' not in text:
        return text
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


def is_nested(inner: IntArray, outer: IntArray) -> bool:
    """Whether every level of ``inner`` occurs within one level of ``outer``; both are codes of shape (n,)."""
    owner = np.empty(int(inner.max(initial=-1)) + 1, dtype=np.int64)
    owner[inner] = outer
    return bool((owner[inner] == outer).all())
