"""Ordered responses: the order of the categories, and the index of each row's category."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from unimix.design.evaluate import Environment, FactorValue, MatrixValue, Value, evaluate
from unimix.design.typed_columns import FactorColumn, Level
from unimix.distributions.family import Cumulative
from unimix.errors import DataError, listing
from unimix.formula.parser import Name, Node, render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unimix.design.typed_columns import Column
    from unimix.formula.terms import ModelSpec

FloatArray = npt.NDArray[np.float64]
MOST = 60
"""Largest number of categories; more values are a measurement."""


@dataclass(frozen=True)
class OrderedResponse:
    """An ordered response in the form that engines receive.

    Attributes:
        y: Index of each row's category, from 0, shape (n,).
        family: The family with its categories.
        notes: Decisions about the response, in words.
    """

    y: FloatArray
    family: Cumulative
    notes: tuple[str, ...]


def read_ordered(node: Node, env: Environment, family: Cumulative, given: Mapping[str, Column]) -> OrderedResponse:
    """Evaluate an ordered response and find the order of its categories.

    Args:
        node: Left side of the formula.
        env: Columns without unused levels, with which the response is evaluated.
        family: The family, with categories if the user gave them.
        given: Columns with the levels that the user's data declare.

    Raises:
        DataError: If the categories have no order, or are too few or too many.
    """
    text = render(node)
    value = evaluate(node, env)
    if isinstance(value, MatrixValue):
        raise DataError(f"The response {text} has several columns; it needs one.")
    levels, codes = _levels(value)
    column = given.get(node.name) if isinstance(node, Name) else None
    if family.categories:
        order: Sequence[Level] = _given_order(text, levels, family.categories)
    elif isinstance(value, FactorValue):
        if not (isinstance(column, FactorColumn) and column.ordered):
            raise DataError(_without_order(text, levels, column))
        order = levels
    else:
        broken = [v for v in levels if not isinstance(v, int)]
        if broken:
            raise DataError(
                f"The response {text} does not suit family={family.name!r}: {len(broken)} of its {len(levels)} values "
                f"are not whole numbers ({listing(map(str, broken), 3)}). Categories are whole numbers, or texts with "
                "an order."
            )
        order = levels
    _check_number(text, len(order), family)
    declared = family.categories or (column.levels if isinstance(column, FactorColumn) else _between(order))
    absent = [c for c in declared if c not in set(order)]
    notes = []
    if absent and family.threshold != "flexible":
        raise DataError(
            f"No row of {text} has the category {listing(map(str, absent), 5)}, and {family.threshold} thresholds "
            "depend on it. Use threshold='flexible', or say which categories there are: "
            f"unimix.families.cumulative(threshold={family.threshold!r}, categories=[...])."
        )
    if absent and not all(isinstance(c, int) for c in declared):
        notes.append(
            f"{text}: no row has the category {listing(map(str, absent), 5)}; mean categories count the others, from "
            f"1 to {len(order)}."
        )
    rank = {level: k for k, level in enumerate(order)}
    table = np.array([rank[level] for level in levels], dtype=np.float64)
    notes.append(f"{text}: categories in the order {' < '.join(map(str, order))}.")
    return OrderedResponse(table[codes], replace(family, categories=tuple(order)), tuple(notes))


def codes_of(value: Value, categories: Sequence[Level]) -> FloatArray:
    """Index of each value among the categories of a fitted model, shape (n,); NaN for values that were not fitted."""
    levels, codes = _levels(value)
    rank = {str(category): float(k) for k, category in enumerate(categories)}
    return np.array([rank.get(str(level), np.nan) for level in levels])[codes]


def check_intercept(spec: ModelSpec, family: Cumulative) -> None:
    """Raise a DataError if a formula leaves the intercept out, because thresholds stand in its place."""
    if not spec.fixed.intercept:
        raise DataError(
            f"The formula leaves the intercept out, and the {family.name} family has none to leave out: its thresholds "
            "stand in that place. Remove 0 or -1 from the formula."
        )


def _levels(value: Value) -> tuple[tuple[Level, ...], npt.NDArray[np.int64]]:
    """Distinct values in increasing order or in that of the levels, and the index of each row among them."""
    if isinstance(value, FactorValue):
        used = np.unique(value.codes)
        position = np.zeros(len(value.levels), dtype=np.int64)
        position[used] = np.arange(len(used))
        return tuple(value.levels[k] for k in used), position[value.codes]
    numbers, codes = np.unique(np.asarray(value), return_inverse=True)
    return tuple(int(v) if float(v).is_integer() else float(v) for v in numbers), codes.astype(np.int64)


def _given_order(text: str, levels: Sequence[Level], categories: Sequence[Level]) -> tuple[Level, ...]:
    strange = [level for level in levels if level not in set(categories)]
    if strange:
        raise DataError(
            f"The response {text} has the values {listing(map(repr, strange), 5)}, which are not among categories= "
            f"({listing(map(repr, categories), 8)})."
        )
    return tuple(c for c in categories if c in set(levels))


def _without_order(text: str, levels: Sequence[Level], column: Column | None) -> str:
    listed = f"[{', '.join(map(repr, levels[:6]))}{', ...' if len(levels) > 6 else ''}]"
    how = f"family=unimix.families.cumulative(categories={listed})"
    if isinstance(column, FactorColumn) and not column.origin and all(isinstance(v, str) for v in column.levels):
        return (
            f"The response {text} is categorical without an order. If {listed} is the order from the lowest to the "
            f"highest, type data[{text!r}] = data[{text!r}].cat.as_ordered(); otherwise name the categories in their "
            f"order: {how}."
        )
    return (
        f"The response {text} is text, whose values have no order of their own. Name the categories from the lowest to "
        f"the highest, in their order (this list is alphabetical): {how}."
    )


def _check_number(text: str, count: int, family: Cumulative) -> None:
    if count < 3:
        word = "one category" if count == 1 else "two categories"
        hint = " Two categories are family='binomial'." if count == 2 else ""
        raise DataError(f"The response {text} has {word}, and family={family.name!r} needs at least three.{hint}")
    if count > MOST:
        raise DataError(
            f"The response {text} has {count} different values, more than the {MOST} categories that "
            f"family={family.name!r} takes. A measurement with so many values is family='gaussian' or another family "
            "of numbers."
        )


def _between(order: Sequence[Level]) -> tuple[Level, ...]:
    """All whole numbers from the lowest category to the highest."""
    low, high = order[0], order[-1]
    return tuple(range(int(low), int(high) + 1)) if int(high) - int(low) < 10 * MOST else tuple(order)


__all__ = ["OrderedResponse", "check_intercept", "codes_of", "read_ordered"]
