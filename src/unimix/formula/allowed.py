"""The whitelist of functions that a formula may call, and the check of what an expression contains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unimix.errors import DataError, Fault, OptionError, did_you_mean, listing
from unimix.foreign_names import suggests_names
from unimix.formula.contrasts import contrast_from_node
from unimix.formula.functions import ELEMENTWISE, STATEFUL
from unimix.formula.parser import CONSTANTS, Bar, Binary, Call, Name, Node, walk

if TYPE_CHECKING:
    from collections.abc import Callable

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
    return (*ELEMENTWISE, *STATEFUL, "I", *FACTOR_CALLS, "offset", "cbind", *REGISTERED)


def check_expression(node: Node, role: str) -> list[Fault]:
    """List the faults of an expression: everything in it that does not belong there.

    Args:
        node: Syntax tree of a call, a response or an offset.
        role: Name of the expression in messages, such as ``the response``.
    """
    faults: list[Fault] = []
    known = functions()
    codings = _contrast_positions(node)
    for current in walk(node):
        if current.position in codings:
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
    columns: dict[str, int] = {}
    skipped = _contrast_positions(node)
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
