"""Distinct values of a column, collected from batches of its rows in any order."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from unimix.design.typed_columns import Column, FactorColumn, Level, NumericColumn, as_exact
from unimix.errors import DataError, listing

IntArray = npt.NDArray[np.int64]
KINDS = {"number": "numbers", "text": "text", "dates": "dates", "": "categories", "boolean": "booleans"}


@dataclass(frozen=True)
class LevelSet:
    """Distinct values that occur in a column, in the order of its levels.

    Numbers and text are in increasing order whatever the order of the batches; categories keep the order of their type.

    Attributes:
        name: Name of the column.
        kind: ``number``, ``text``, ``dates``, ``boolean``, or empty for categories.
        numbers: Distinct numbers in increasing order, for a numeric column; else None.
        labels: Levels of any other column.
        order: All categories of the type, with and without rows, for a column of categories.
    """

    name: str
    kind: str
    numbers: npt.NDArray[Any] | None = None
    labels: tuple[Level, ...] = ()
    order: tuple[Level, ...] = ()

    @classmethod
    def of(cls, name: str, column: Column) -> LevelSet | None:
        """The distinct values of the rows of one batch; None if no row has a value."""
        if isinstance(column, NumericColumn):
            values = as_exact(column)[~column.missing]
            return cls(name, "number", _distinct(values)) if len(values) else None
        present = np.unique(column.codes[column.codes >= 0])
        if not len(present):
            return None
        labels = tuple(column.levels[k] for k in present.tolist())
        kind = column.origin or ("boolean" if column.levels == (False, True) else "")
        return cls(name, kind, None, labels, column.levels if kind == "" else ())

    def with_more(self, other: LevelSet | None, where: str) -> LevelSet:
        """The union with the values of other rows.

        Args:
            other: The other values.
            where: Name of the part that holds them, for messages.

        Raises:
            DataError: If the columns hold different types, or their categories differ in order.
        """
        if other is None:
            return self
        if other.kind != self.kind:
            raise DataError(f"{self.name!r} holds {KINDS[other.kind]} in {where} and {KINDS[self.kind]} before it.")
        if self.numbers is not None and other.numbers is not None:
            if self.numbers.dtype != np.float64 or other.numbers.dtype != np.float64:  # long whole numbers
                both = {*self.numbers.tolist(), *other.numbers.tolist()}
                return replace(self, numbers=np.array(sorted(map(int, both)), dtype=object))
            places = self._places(other.numbers)
            if (self.numbers[places] == other.numbers).all():
                return self
            return replace(self, numbers=np.union1d(self.numbers, other.numbers))
        if self.kind:
            new = [label for label in other.labels if label not in self._index]
            return replace(self, labels=tuple(sorted({*self.labels, *new}))) if new else self
        order = _joined(self.order, other.order)
        if order is None:
            raise DataError(
                f"The categories of {self.name!r} have another order in {where} than before it "
                f"({listing(map(str, other.order), 5)} and {listing(map(str, self.order), 5)}): their order decides "
                "which level is the first. Store the column as text, whose levels are in alphabetical order."
            )
        seen = {*self.labels, *other.labels}
        return replace(self, labels=tuple(v for v in order if v in seen), order=order)

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """The levels as a design holds them."""
        if self.numbers is None:
            return self.labels
        if self.numbers.dtype != np.float64:
            return tuple(int(v) for v in self.numbers)
        return tuple(int(v) if v.is_integer() and abs(v) < 2**53 else v for v in self.numbers.tolist())

    @cached_property
    def _index(self) -> dict[Level, int]:
        return {level: i for i, level in enumerate(self.labels)}

    @cached_property
    def _table(self) -> tuple[float, IntArray] | None:
        """The smallest number, and the index of each whole number from it on; None if they are not whole, or sparse."""
        numbers = self.numbers
        if numbers is None or not _fit_a_table(numbers, numbers[0], numbers[-1]):
            return None
        table = np.zeros(int(numbers[-1] - numbers[0]) + 1, dtype=np.int64)
        table[(numbers - numbers[0]).astype(np.int64)] = np.arange(len(numbers))
        return float(numbers[0]), table

    def _places(self, values: npt.NDArray[Any]) -> IntArray:
        """Index of each value among the distinct numbers, shape (n,); any index for a value that is none of them."""
        assert self.numbers is not None  # noqa: S101  asked of numeric columns only
        if self._table is None or values.dtype != np.float64:
            return np.minimum(np.searchsorted(self.numbers, values), len(self.numbers) - 1)
        low, table = self._table
        return table[np.nan_to_num(np.clip(values - low, 0, len(table) - 1)).astype(np.int64)]

    def codes(self, column: Column, where: str) -> IntArray:
        """Index of each row's level, shape (n,); -1 for missing values.

        Args:
            column: Rows of the column.
            where: Name of the part that holds them, for messages.

        Raises:
            DataError: If a row has a level that is not among them.
        """
        if isinstance(column, NumericColumn):
            if self.numbers is None:
                raise DataError(f"{self.name!r} holds numbers in {where} and {KINDS[self.kind]} elsewhere.")
            values, missing = as_exact(column), column.missing
            if self.numbers.dtype != np.float64 and values.dtype == np.float64:
                values = np.array([0 if m else int(v) for v, m in zip(values, missing, strict=True)], dtype=object)
            places = self._places(values)
            self._refuse([str(v) for v in values[(self.numbers[places] != values) & ~missing][:5]], where)
            return np.where(missing, -1, places).astype(np.int64)
        table = np.array([*(self._index.get(level, -2) for level in column.levels), -1], dtype=np.int64)
        codes = table[column.codes]
        if (codes == -2).any():
            self._refuse([str(column.levels[k]) for k in np.unique(column.codes[codes == -2])[:5]], where)
        return codes

    def _refuse(self, strange: Sequence[str], where: str) -> None:
        if strange:
            raise DataError(
                f"{self.name!r} has levels in {where} that were not there when the levels were read: "
                f"{listing(strange)}. Were the rows changed meanwhile? Reduce them again."
            )

    def column(self, codes: IntArray) -> FactorColumn:
        """A factor with these levels.

        Args:
            codes: Index of each row's level, shape (n,).
        """
        origin = self.kind if self.kind in ("text", "dates") else ""
        return FactorColumn(codes, self.levels, origin)  # type: ignore[arg-type]


def _fit_a_table(values: npt.NDArray[Any], low: float, high: float) -> bool:
    """Whether values are whole, and a table of all whole numbers between two is not much longer than their list."""
    if values.dtype != np.float64 or not high - low < 8 * len(values) + 100_000:
        return False
    return bool((values == np.floor(values)).all())


def _distinct(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Distinct values in increasing order: by marks in a table where they are whole and dense, else by sorting."""
    low, high = values.min(), values.max()
    if not _fit_a_table(values, low, high):
        return np.unique(values)
    marks = np.zeros(int(high - low) + 1, dtype=bool)
    marks[(values - low).astype(np.int64)] = True
    return np.asarray(low + np.flatnonzero(marks))


def _joined(first: tuple[Level, ...], second: tuple[Level, ...]) -> tuple[Level, ...] | None:
    """Categories of both in their common order, those of the second only at the end; None if the orders differ."""
    if first == second or not second:
        return first
    place = {level: i for i, level in enumerate(first)}
    common = [place[level] for level in second if level in place]
    if any(b < a for a, b in itertools.pairwise(common)):
        return None
    return (*first, *(level for level in second if level not in place))


__all__ = ["LevelSet"]
