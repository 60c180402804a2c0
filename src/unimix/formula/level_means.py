"""The calls ``between(x, g)`` and ``within(x, g)``: the mean of x in each level of g, and the deviation from it.

Both are functions of one quantity, the mean of the level to which a row belongs. It is a column of the design like any
other, named as ``between(x, g)`` is written, so that a reference grid, a slope or a picture may hold it or vary it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unimix.errors import Fault
from unimix.formula.parser import Binary, Call, Name, Node, render, walk

if TYPE_CHECKING:
    from collections.abc import Iterable

LEVEL_MEANS = ("between", "within")


def level_mean_calls(node: Node) -> list[Call]:
    """All calls of ``between`` and ``within`` in an expression."""
    return [n for n in walk(node) if isinstance(n, Call) and n.function in LEVEL_MEANS]


def mean_name(call: Call) -> str:
    """Name of the column that holds the mean of each row's level: the canonical text of ``between(x, g)``."""
    return render(Call("between", call.arguments, (), call.position))


def mean_names(nodes: Iterable[Node]) -> dict[str, Call]:
    """The calls in some expressions that need different means, by the name of the column of the mean."""
    return {mean_name(call): call for node in nodes for call in level_mean_calls(node)}


def group_factors(call: Call) -> tuple[str, ...]:
    """Columns whose combination is the grouping factor of a call without faults: one, or several for ``a:b``."""
    return tuple(n.name for n in _factors(call.arguments[1]) or ())


def group_positions(call: Call) -> set[int]:
    """Positions of all nodes of the grouping factor, which is no expression."""
    return {n.position for argument in call.arguments[1:] for n in walk(argument)}


def hidden_positions(call: Call) -> set[int]:
    """Positions of all nodes of a call on which its value does not depend once the mean is given."""
    inner = {n.position for n in walk(call.arguments[0])} if call.function == "between" else set()
    return inner | group_positions(call)


def level_mean_faults(call: Call, role: str) -> list[Fault]:
    """Faults of one call of ``between`` or ``within``.

    Args:
        call: The call; it has at least one argument.
        role: Name of the expression in messages, such as ``the response``.
    """
    name = call.function
    if role == "the response":
        message = (
            f"{name}() cannot stand in the response: the means of the levels are estimates, which the residual degrees "
            "of freedom would not count. Leave the response as it is: within(x, g) on the right already leaves out "
            "what differs between levels."
        )
        return [Fault(message, call.position, len(name))]
    if len(call.arguments) != 2 or call.keywords or _factors(call.arguments[1]) is None:
        message = (
            f"{name}() takes a numeric expression and a grouping factor, a column or a:b: {name}(x, g), "
            f"{name}(log(x), school:pupil)."
        )
        return [Fault(message, call.position, len(name))]
    if level_mean_calls(call.arguments[0]):
        message = (
            f"{render(call)}: the first argument holds between() or within() itself. Differences of means are written "
            "out: I(between(x, class) - between(x, school))."
        )
        return [Fault(message, call.position, len(name))]
    return []


def _factors(node: Node) -> list[Name] | None:
    """Columns of a grouping factor in order; None if the node is none."""
    match node:
        case Name(".", quoted=False):
            return None
        case Name():
            return [node]
        case Binary(":", left, right):
            first, second = _factors(left), _factors(right)
            return None if first is None or second is None else [*first, *second]
        case _:
            return None


__all__ = [
    "LEVEL_MEANS",
    "group_factors",
    "group_positions",
    "hidden_positions",
    "level_mean_calls",
    "level_mean_faults",
    "mean_name",
    "mean_names",
]
