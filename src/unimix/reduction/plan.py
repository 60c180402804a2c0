"""The plan of a reduction: which columns are made of a row. It is known after the first pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from unimix.design.encoding import Encoding
from unimix.design.evaluate import Environment, evaluate
from unimix.design.model_matrix import build_columns
from unimix.design.new_data import match_levels, match_number
from unimix.design.response import read_response
from unimix.design.typed_columns import Column, FactorColumn, NumericColumn
from unimix.distributions.family import Gaussian
from unimix.errors import DataError
from unimix.formula.allowed import FACTOR_CALLS, expression_columns, part_variables
from unimix.formula.expand import expand, remaining_atoms
from unimix.formula.interpreter import parse
from unimix.formula.parser import Call, Name, render
from unimix.formula.terms import ModelSpec
from unimix.reduction.levels import LevelSet

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
RESPONSE = "response"
"""Name of the last column of a reduction."""


@dataclass(frozen=True)
class Plan:
    """What is made of the rows of a source.

    Attributes:
        encoding: Levels, codings and states of the largest formula, without the columns that will be kept.
        groups: Levels of the columns of the grouping factors.
        made: Levels of the numeric predictors that occur as ``C(x)`` only.
        rows: Number of rows of one batch.
    """

    encoding: Encoding
    groups: Mapping[str, LevelSet]
    made: Mapping[str, LevelSet]
    rows: int

    def __post_init__(self) -> None:
        # an encoding parses its formula only if it knows all columns; those of grouping factors are here
        self.encoding.with_parsed(parse(self.encoding.formula).with_dot(self.encoding.dot_columns))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """State after pickling, which an encoding survives without its parsed formula."""
        self.__dict__.update(state)
        self.__post_init__()

    @property
    def spec(self) -> ModelSpec:
        """The largest formula."""
        return self.encoding.spec

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Columns of the source that are read."""
        encoding = self.encoding
        used = [*expression_columns(self.spec.response), *encoding.variables]
        extra = [n for n in (encoding.offset_column, encoding.weights_column) if n is not None]
        return tuple(dict.fromkeys([*used, *extra]))

    @cached_property
    def predictors(self) -> tuple[str, ...]:
        """Columns of the fixed part, of the offset and of the effects that vary."""
        slopes = [n for t in self.spec.random for n in part_variables(t.left)]
        return tuple(dict.fromkeys([*self.encoding.predictors, *slopes]))

    @cached_property
    def factors(self) -> tuple[str, ...]:
        """Predictors of the fixed part with levels, numeric ones that occur as ``C(x)`` included."""
        fixed = dict.fromkeys(part_variables(self.spec.fixed))
        return tuple(n for n in fixed if n in self.encoding.levels or n in self.made)

    def typed(self, columns: Mapping[str, Column]) -> dict[str, Column]:
        """Columns of a batch with the types and levels of all rows.

        Raises:
            DataError: If a column has another type, or a level that was not there in the first pass.
        """
        typed: dict[str, Column] = {}
        for name, column in columns.items():
            if name in self.encoding.levels:
                typed[name] = match_levels(name, column, self.encoding.levels[name])
            elif name in self.encoding.numeric:
                typed[name] = match_number(name, column)
            else:
                typed[name] = column
        return typed

    def environment(self, columns: Mapping[str, Column]) -> Environment:
        """Environment that evaluates the formula on typed columns."""
        return self.encoding.environment(columns)

    def rows_of(self, columns: Mapping[str, Column], n: int) -> tuple[FloatArray, tuple[str, ...], FloatArray | None]:
        """Numbers of the rows of a batch: all columns of the model once, and the response without its offset.

        Args:
            columns: Typed columns without missing values.
            n: Number of rows.

        Returns:
            Columns, shape (n, k), their names (the last one is that of the response), and weights, shape (n,), or None.

        Raises:
            DataError: If a value does not suit the model.
        """
        env, coding = self.environment(columns), self.encoding.contrasts
        named: dict[str, FloatArray] = {}
        for part in [self.spec.fixed, *(t.left for t in self.spec.random)]:
            matrix, names = build_columns(part, env, coding, n)
            for j, name in enumerate(names):
                if not np.array_equal(named.setdefault(name, matrix[:, j]), matrix[:, j]):
                    raise DataError(
                        f"Two columns of the model are called {name!r} and differ. Rename a column or a level of the "
                        "source."
                    )
        y = read_response(self.spec.response, env, Gaussian(), None).y
        for node in self.spec.offsets:
            value = evaluate(node, env)
            if not isinstance(value, np.ndarray):
                raise DataError(f"offset({render(node)}) must be one numeric column.")
            y = y - value
        offset = self.encoding.offset_column
        if offset is not None:
            y = y - _numbers("offset", offset, columns)
        weights = None
        if self.encoding.weights_column is not None:
            weights = _numbers("weights", self.encoding.weights_column, columns)
            if not (weights > 0).all():
                raise DataError(
                    f"weights must be positive: {int((weights <= 0).sum())} are not. They are precisions (variance "
                    "sigma^2 / w); leave a row out by dropping it."
                )
        return np.column_stack([*named.values(), y]), (*named, RESPONSE), weights


def _numbers(role: str, name: str, columns: Mapping[str, Column]) -> FloatArray:
    column = columns[name]
    if not isinstance(column, NumericColumn):
        raise DataError(f"{role}={name!r} is categorical; it must be numeric.")
    return column.values


def made_factors(spec: ModelSpec) -> frozenset[str]:
    """Columns that the fixed part uses as ``C(x)`` only, so that their numbers are levels."""
    inside: set[str] = set()
    otherwise: set[str] = set()
    for node in remaining_atoms(expand(spec.fixed)).values():
        made = isinstance(node, Call) and node.function in FACTOR_CALLS and isinstance(node.arguments[0], Name)
        (inside if made else otherwise).update(expression_columns(node))
    return frozenset(inside - otherwise)


def stacked(columns: Sequence[Mapping[str, Column]]) -> dict[str, Column]:
    """Columns of several batches below each other; factors have the same levels in all of them."""
    joined: dict[str, Column] = {}
    for name, first in columns[0].items():
        each: list[Any] = [c[name] for c in columns]
        if isinstance(first, FactorColumn):
            joined[name] = FactorColumn(np.concatenate([c.codes for c in each]), first.levels, first.origin)
        else:
            joined[name] = NumericColumn(np.concatenate([c.values for c in each]))
    return joined


__all__ = ["RESPONSE", "Plan", "made_factors", "stacked"]
