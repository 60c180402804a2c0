"""The predictors of a result, the levels of its factors, and its interactions."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unimix.design.typed_columns import Column, FactorColumn, as_factor
from unimix.formula.allowed import FACTOR_CALLS, expression_variables
from unimix.formula.expand import expand, remaining_atoms
from unimix.formula.level_means import mean_name
from unimix.formula.parser import Call, Name, Node, render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unimix.design.arrays import Design
    from unimix.fitted.model import FittedModel


@dataclass(frozen=True)
class Predictors:
    """Predictors of the mean.

    Attributes:
        columns: Columns of the fitted data by name.
        levels: Levels of the factors by name, numbers that occur only as ``C(x)`` included; the predictors of the zero
            inflation are included, too.
        together: Sets of names that act together in one term, for every term with several predictors.
    """

    columns: dict[str, Column]
    levels: dict[str, list[Any]]
    together: tuple[frozenset[str], ...]

    @classmethod
    def of(cls, fit: FittedModel, design: Design) -> Predictors:
        """The predictors of a result.

        Args:
            fit: The result.
            design: The design that was fitted.
        """
        encoding, spec = fit.model.encoding, fit.spec
        products = expand(spec.fixed)
        nodes = [*remaining_atoms(products).values(), *spec.offsets]
        names = list(dict.fromkeys(n for node in nodes for n in expression_variables(node)))
        names += [encoding.offset_column] if encoding.offset_column and encoding.offset_column not in names else []
        nodes += [node for part in spec.parts.values() for node in remaining_atoms(expand(part)).values()]
        levels: dict[str, list[Any]] = {}
        for name in encoding.predictors:
            column = design.columns.get(name)
            if isinstance(column, FactorColumn):
                levels[name] = list(column.levels)
            elif (
                column is not None
                and name != encoding.offset_column
                and all(is_factor_of(node, name) for node in nodes if name in expression_variables(node))
            ):
                levels[name] = list(as_factor(column, name).levels)
        sets = [
            frozenset(n for names in chosen for n in names)
            for product in products
            for chosen in itertools.product(*map(_apart, product))
        ]
        return cls({n: design.columns[n] for n in names}, levels, tuple(s for s in sets if len(s) > 1))

    def partners(self, names: Sequence[str]) -> set[str]:
        """Names of predictors that interact with one of the given predictors."""
        return {n for term in self.together if term & set(names) for n in term} - set(names)


def _apart(node: Node) -> list[dict[str, int]]:
    """Columns that a factor of a term uses; those of ``within(x, g)``, a difference, do not act on each other."""
    if isinstance(node, Call) and node.function == "within":
        return [expression_variables(node.arguments[0]), {mean_name(node): node.position}]
    return [expression_variables(node)]


def level_text(value: Any) -> str:
    """A level as tables show it: whole numbers without a decimal point, so that 1 and 1.0 are the same level."""
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if whole else str(value)


def is_factor_of(node: Node, name: str) -> bool:
    """Whether a node is ``C(name)``, so that the numbers of the column are levels."""
    if not isinstance(node, Call) or node.function not in FACTOR_CALLS:
        return False
    inner = node.arguments[0]
    return isinstance(inner, Name) and inner.name == name


def response_note(fit: FittedModel, design: Design) -> str:
    """A note that the response is a function of a column, such as ``log(y)``; empty if it is not."""
    node = design.spec.response
    if isinstance(node, Name) or fit.family.response == "binomial":
        return ""
    text = render(node)
    return f"The response is {text}: estimates are on that scale."


__all__ = ["Predictors", "is_factor_of", "level_text", "response_note"]
