"""The whitelist of functions that a formula may call, and the check of what an expression contains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unimix.errors import DataError, Fault, OptionError, did_you_mean, listing
from unimix.foreign_names import suggests_names
from unimix.formula.contrasts import contrast_from_node
from unimix.formula.expand import expand, remaining_atoms
from unimix.formula.functions import ELEMENTWISE, STATEFUL
from unimix.formula.level_means import (
    LEVEL_MEANS,
    group_positions,
    hidden_positions,
    level_mean_calls,
    level_mean_faults,
    mean_name,
)
from unimix.formula.parser import CONSTANTS, Bar, Binary, Call, Name, Node, walk

if TYPE_CHECKING:
    from collections.abc import Callable

    from unimix.formula.terms import FixedPart

FACTOR_CALLS = ("C", "factor", "as.factor")
REGISTERED: dict[str, Callable[..., Any]] = {}


@suggests_names
def register_function(name: str, function: Callable[..., Any]) -> None:
    """Let formulas call a pure function of one or more columns.

    Args:
        name: Name of the function in formulas.
        function: Function that takes float arrays of shape (n,) and numbers and returns a float array of shape (n,).

    Raises:
        OptionError: If the name belongs to a built-in function or is not a plain ASCII identifier, or if ``function``
            cannot be called.

    Example:
        >>> import unimix as um
        >>> um.register_function("centred", lambda x: x - x.mean())
        >>> fit = um.fit("Reaction ~ centred(Days) + (1 | Subject)", um.load_dataset("sleepstudy"))
        >>> fit.fixed_effects["estimate"].round(2)
        term
        Intercept        298.51
        centred(Days)     10.47
        Name: estimate, dtype: float64
    """
    if name in functions() and name not in REGISTERED:
        raise OptionError(f"{name!r} is already a function of the formula language; choose another name.")
    if not name.isidentifier() or not name.isascii():
        raise OptionError(f"{name!r} cannot be called in a formula; use ASCII letters, digits and underscores.")
    if not callable(function):
        raise OptionError(f"register_function({name!r}, ...) needs a function, not {type(function).__name__}.")
    REGISTERED[name] = function


def functions() -> tuple[str, ...]:
    """Names of all functions that a formula may call."""
    return (*ELEMENTWISE, *STATEFUL, *LEVEL_MEANS, "I", *FACTOR_CALLS, "offset", "cbind", *REGISTERED)


def check_expression(node: Node, role: str) -> list[Fault]:
    """List the faults of an expression: everything in it that does not belong there.

    Args:
        node: Syntax tree of a call, a response or an offset.
        role: Name of the expression in messages, such as ``the response``.
    """
    faults: list[Fault] = []
    known = functions()
    elsewhere = _contrast_positions(node).union(*map(group_positions, level_mean_calls(node)))
    for current in walk(node):
        if current.position in elsewhere:
            continue
        match current:
            case Bar():
                faults.append(Fault(f"A random term cannot stand inside {role}.", current.position))
            case Binary(":" | "%in%" as operator):
                faults.append(Fault(f"'{operator}' joins terms and cannot stand inside {role}.", current.position))
            case Call(function) if function not in known:
                message = (
                    f"{function}() is not a function that formulas may call.{did_you_mean(function, known)} "
                    f"Allowed: {listing(known, 40)}. Your own: unimix.register_function({function!r}, f), "
                    "or compute a column of the data first."
                )
                faults.append(Fault(message, current.position, len(function)))
            case Call(function, arguments) if not arguments:
                faults.append(
                    Fault(f"{function}() needs a column as its first argument.", current.position, len(function))
                )
            case Call(function) if function in FACTOR_CALLS:
                faults += _coding_faults(current)
            case Call(function) if function in LEVEL_MEANS:
                faults += level_mean_faults(current, role)
            case Call("offset") if current is not node:
                faults.append(Fault("offset() stands on its own in the sum.", current.position, 6))
            case Call("cbind") if current is not node or role != "the response":
                faults.append(Fault("cbind() stands only as the whole response.", current.position, 5))
            case Name(".", quoted=False):
                faults.append(Fault(f"'.' cannot stand inside {role}.", current.position))
            case _:
                pass
    return faults


def coding_nodes(call: Call) -> list[Node]:
    """Arguments of ``C()`` after the first: they name contrasts, not columns."""
    return [*call.arguments[1:], *(v for _, v in call.keywords)]


def _contrast_positions(node: Node) -> set[int]:
    calls = [n for n in walk(node) if isinstance(n, Call) and n.function in FACTOR_CALLS]
    return {n.position for call in calls for extra in coding_nodes(call) for n in walk(extra)}


def _coding_faults(call: Call) -> list[Fault]:
    codings = coding_nodes(call)
    if len(codings) > 1 or any(k not in ("contrasts", "contr") for k, _ in call.keywords):
        usage = "Write C(f), C(f, contr.sum), C(f, contr.treatment(base='a')), contr.helmert, poly, diff or sas."
        return [Fault(f"{call.function}() takes a factor and one contrast. {usage}", call.position, len(call.function))]
    for coding in codings:
        try:
            contrast_from_node(coding)
        except DataError as error:
            return [Fault(str(error), coding.position)]
    return []


def expression_columns(node: Node) -> dict[str, int]:
    """Columns named in an expression, with their positions; names of contrasts inside ``C()`` are not columns."""
    return _columns_outside(node, _contrast_positions(node))


def expression_variables(node: Node) -> dict[str, int]:
    """Columns of the design on which the value of an expression depends, with their positions.

    They are the columns named in it, except that ``between(x, g)`` depends on the column of its own name, the mean of
    x in each row's level of g, and ``within(x, g)`` depends on x and on that mean.
    """
    calls = level_mean_calls(node)
    skipped = _contrast_positions(node).union(*map(hidden_positions, calls))
    return _columns_outside(node, skipped) | {mean_name(call): call.position for call in calls}


def part_variables(part: FixedPart) -> list[str]:
    """Columns of the design on which the terms of a part depend, in the order of the terms; some stand twice."""
    return [n for node in remaining_atoms(expand(part)).values() for n in expression_variables(node)]


def _columns_outside(node: Node, skipped: set[int]) -> dict[str, int]:
    columns: dict[str, int] = {}
    for current in walk(node):
        if not isinstance(current, Name) or current.position in skipped:
            continue
        if current.quoted or current.name not in (".", *CONSTANTS):
            columns.setdefault(current.name, current.position)
    return columns


def plain_factor(node: Node) -> str | None:
    """Name of the column in ``f``, ``C(f)`` or ``factor(f)``; None for any other expression."""
    while isinstance(node, Call) and node.function in FACTOR_CALLS and len(node.arguments) == 1 and not node.keywords:
        node = node.arguments[0]
    return node.name if isinstance(node, Name) else None
