"""Where ``s(x)`` may stand in a formula, and what it may hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unimix.errors import Fault
from unimix.formula.parser import Call, Node, render, walk
from unimix.formula.smooths import SMOOTH, USAGE

if TYPE_CHECKING:
    from unimix.formula.terms import FixedPart

_OF_MGCV = {
    "by": "a curve for each level of a factor",
    "fx": "a curve without a penalty, which is bs(x) or ns(x)",
    "sp": "a fixed amount of smoothing",
    "m": "another penalty",
    "id": "several curves with one amount of smoothing",
    "xt": "further settings of the basis",
    "pc": "a point where the curve is zero",
}
"""Arguments of mgcv's ``s()`` that are refused, by name, with what they ask for."""
ALONE = (
    "is added to the rest of the mean's formula, + s(x): a smooth cannot be part of a product, a random term, another "
    "call, the response, ziformula or dispformula, and cannot be taken away."
)


def smooth_calls(part: FixedPart) -> list[Call]:
    """The smooths of a fixed part, in order; each is a summand of its own."""
    smooths = [n for n in part.added if isinstance(n, Call) and n.function == SMOOTH]
    return list({render(call): call for call in smooths}.values())


def misplaced(node: Node) -> list[Fault]:
    """Faults of all smooths inside an expression, none of which may be there; the expression itself may be one."""
    inside = [n for n in walk(node) if isinstance(n, Call) and n.function == SMOOTH and n is not node]
    return [Fault(f"{render(n)} {ALONE}", n.position, len(SMOOTH)) for n in inside]


def smooth_faults(call: Call) -> list[Fault]:
    """Faults of one smooth that stands on its own in the sum."""
    if len(call.arguments) > 1:
        message = (
            f"{render(call)} is a surface over several columns, which is not fitted: write one curve for each column, "
            f"s(x) + s(z). {USAGE}"
        )
        return [Fault(message, call.position, len(SMOOTH))]
    return [
        Fault(f"{name}= in s() asks for {_OF_MGCV[name]}, which is not fitted. {USAGE}", call.position, len(SMOOTH))
        for name, _ in call.keywords
        if name in _OF_MGCV
    ]


def repeated(part: FixedPart) -> list[Fault]:
    """Faults of smooths of one column that are different: the data cannot tell their curves apart."""
    first: dict[str, Call] = {}
    faults = []
    for call in smooth_calls(part):
        before = first.setdefault(render(call.arguments[0]), call) if call.arguments else call
        if before is not call:
            message = f"{render(before)} and {render(call)} are two curves of one column: leave one of them out."
            faults.append(Fault(message, call.position, len(SMOOTH)))
    return faults


__all__ = ["ALONE", "misplaced", "repeated", "smooth_calls", "smooth_faults"]
