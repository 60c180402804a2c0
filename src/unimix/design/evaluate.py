"""Evaluation of the expressions of a formula, by an interpreter that never calls ``eval``.

The text of a formula is never passed to Python or R. This module evaluates the syntax tree of
:mod:`unimix.formula.parser`: a name must be a column, and a call must be one of
:func:`unimix.formula.allowed.functions`, which include those registered by the user.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unimix.design.dates import dates_refused
from unimix.design.typed_columns import Column, FactorColumn, Level, NumericColumn, factor_from_numbers
from unimix.errors import DataError, did_you_mean, listing
from unimix.formula.allowed import (
    FACTOR_CALLS,
    REGISTERED,
    check_expression,
    coding_nodes,
    expression_columns,
    expression_variables,
    functions,
    plain_factor,
    register_function,
)
from unimix.formula.contrasts import Contrast, contrast_from_node
from unimix.formula.functions import ELEMENTWISE, STATEFUL, State
from unimix.formula.level_means import LEVEL_MEANS, mean_name
from unimix.formula.parser import CONSTANTS, Binary, Call, Name, Node, Number, Sequence_, Text, Unary, render
from unimix.formula.smooths import SMOOTH

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_RENAMED = {"intercept": "include_intercept", "Boundary.knots": "boundary_knots"}


@dataclass(frozen=True)
class FactorValue:
    """A categorical value of a formula.

    Attributes:
        codes: Level index per row, shape (n,); -1 for missing values.
        levels: Levels in order.
        contrast: Coding given inside ``C()``, or None.
    """

    codes: npt.NDArray[np.int64]
    levels: tuple[Level, ...]
    contrast: Contrast | None = None


@dataclass(frozen=True)
class MatrixValue:
    """Columns of a call such as ``poly(x, 2)``: values of shape (n, k) and k labels."""

    values: FloatArray
    labels: tuple[str, ...]


Value = FloatArray | FactorValue | MatrixValue


@dataclass
class Environment:
    """Columns and learnt states with which an expression is evaluated.

    Attributes:
        columns: Typed columns by name; the means of levels that the formula needs are among them, called as
            ``between(x, g)``.
        states: States that stateful calls learnt from the data, by canonical text of the call.
        learning: True while the design is built, False for new data.
    """

    columns: Mapping[str, Column]
    states: dict[str, State] = field(default_factory=dict)
    learning: bool = True


def evaluate(node: Node, env: Environment) -> Value:
    """Evaluate one factor of a formula (a column or a call).

    Returns:
        A float array (n,), a :class:`FactorValue` or a :class:`MatrixValue`.

    Raises:
        DataError: If the values do not allow the operation, or the result is infinite or undefined.
    """
    value: Any
    with np.errstate(all="ignore"):  # overflow and undefined values are reported below, with their rows
        value = _value(node, env)
    if isinstance(value, np.ndarray) and value.ndim and value.dtype == np.bool_:
        return FactorValue(value.astype(np.int64), (False, True))
    if isinstance(value, FactorValue | MatrixValue):
        if isinstance(value, MatrixValue):
            _require_finite(value.values, node, env)
        return value
    if not isinstance(value, np.ndarray) or not value.ndim:
        raise DataError(f"{render(node)} does not depend on the data; leave it out.")
    if not isinstance(node, Name):
        _require_finite(value, node, env)
    return np.asarray(value, dtype=np.float64)


def _require_finite(values: FloatArray, node: Node, env: Environment) -> None:
    bad: npt.NDArray[Any] = np.logical_not(np.isfinite(values))
    if bad.ndim == 2:
        bad = np.asarray(bad.any(axis=1))
    for name in expression_variables(node):
        column = env.columns[name]
        bad &= np.isfinite(column.values) if isinstance(column, NumericColumn) else column.codes >= 0
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        shown = ", ".join(f"{n} = {env.columns[n].label(row)}" for n in expression_variables(node))
        raise DataError(
            f"{render(node)} is not a finite number in {int(bad.sum())} of {len(bad)} rows, first where {shown}. "
            "Change the expression or leave these rows out."
        )


def _value(node: Node, env: Environment) -> Any:
    match node:
        case Number(value):
            return value
        case Text(value):
            return value
        case Name(name, quoted=False) if name in CONSTANTS:
            return CONSTANTS[name]
        case Name(name):
            column = env.columns[name]
            if isinstance(column, FactorColumn) and column.origin == "dates":
                raise DataError(dates_refused(name))
            return column.values if isinstance(column, NumericColumn) else FactorValue(column.codes, column.levels)
        case Sequence_(items):
            return [plain_value(i, env) for i in items]
        case Unary(operator, operand):
            number = _numeric(operand, env)
            return -number if operator == "-" else number
        case Binary(("==" | "!=") as operator, left, right):
            return _equality(operator, left, right, env)
        case Binary():
            return _arithmetic(node, env)
        case Call("I", (inner,), ()):
            return _value(inner, env)
        case Call(function) if function in FACTOR_CALLS:
            return _factor(node, env)
        case Call("log", (inner, base), ()) | Call("log", (inner,), (("base", base),)):
            return np.log(_numeric(inner, env)) / np.log(_base_of(base, node, env))
        case Call(function) if function in ELEMENTWISE:
            _only_one_argument(node)
            return ELEMENTWISE[function](_numeric(node.arguments[0], env))
        case Call(function) if function in (*STATEFUL, *LEVEL_MEANS):
            return _level_mean(node, env) if function in LEVEL_MEANS else _stateful(node, env)
        case Call(function) if function in REGISTERED:
            return _call_registered(node, env)
        case _:
            raise DataError(f"{render(node)} cannot be computed here.")


def _arithmetic(node: Binary, env: Environment) -> Any:
    """Evaluate arithmetic; iteration instead of recursion, because a sum of a thousand columns is that deep."""
    spine: list[Binary] = []
    current: Node = node
    while isinstance(current, Binary) and current.operator in _ARITHMETIC:
        spine.append(current)
        current = current.left
    total = _numeric(current, env)
    for binary in reversed(spine):
        total = _ARITHMETIC[binary.operator](_number(total), _numeric(binary.right, env))
    return total


def _power(base: Any, exponent: Any) -> Any:
    return np.power(np.asarray(base, dtype=np.float64), exponent)


def _divide(left: Any, right: Any) -> Any:
    return np.asarray(left, dtype=np.float64) / np.asarray(right, dtype=np.float64)


def _number(value: Any) -> Any:
    return np.asarray(value, dtype=np.float64) if getattr(value, "dtype", None) == np.bool_ else value


_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": _divide,
    "**": _power,
    "<": np.less,
    ">": np.greater,
    "<=": np.less_equal,
    ">=": np.greater_equal,
}


def _numeric(node: Node, env: Environment) -> Any:
    value = _value(node, env)
    if isinstance(value, FactorValue):
        raise DataError(
            f"{render(node)} is categorical (levels {listing(map(str, value.levels), 5)}): arithmetic needs numbers. "
            f"Convert the column, or use it as a term of its own."
        )
    if isinstance(value, MatrixValue):
        raise DataError(f"{render(node)} has several columns and cannot be part of an arithmetic expression.")
    if isinstance(value, np.ndarray):
        return _number(value)
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float):
        raise DataError(f"{render(node)} is not a number.")
    return float(value)


def _equality(operator: str, left: Node, right: Node, env: Environment) -> BoolArray:
    a, b = _value(left, env), _value(right, env)
    if isinstance(b, FactorValue):
        a, b = b, a
    if isinstance(a, FactorValue):
        if isinstance(b, FactorValue) or not isinstance(b, str | int | float | bool):
            raise DataError(f"Compare {render(left)} with one level, such as {render(left)} == 'a'.")
        levels = [str(level) for level in a.levels]
        wanted = str(int(b)) if isinstance(b, float) and b == int(b) else str(b)
        if wanted not in levels:
            raise DataError(
                f"{wanted!r} is not a level of {render(left)}: {listing(levels)}.{did_you_mean(wanted, levels)}"
            )
        same = a.codes == levels.index(wanted)
    else:
        same = np.equal(_numeric(left, env), _numeric(right, env))
    return np.asarray(same if operator == "==" else np.logical_not(same))


def _factor(node: Call, env: Environment) -> FactorValue:
    inner = node.arguments[0]
    column = env.columns.get(inner.name) if isinstance(inner, Name) else None
    if isinstance(column, NumericColumn) and column.whole is not None:
        raise DataError(
            f"{render(node)}: the column holds whole numbers that floats cannot distinguish; make them text first."
        )
    value: Any
    value = FactorValue(column.codes, column.levels) if isinstance(column, FactorColumn) else _value(inner, env)
    if isinstance(value, np.ndarray):
        if value.dtype == np.bool_:
            value = FactorValue(value.astype(np.int64), (False, True))
        else:
            key = render(node)
            codes, levels = factor_from_numbers(
                value, known=env.states[key]["levels"] if not env.learning else None, name=key
            )
            if env.learning:
                env.states[key] = {"levels": list(levels)}
            value = FactorValue(codes, levels)
    if not isinstance(value, FactorValue):
        raise DataError(f"{render(inner)} cannot be made a factor.")
    codings = coding_nodes(node)
    return FactorValue(value.codes, value.levels, contrast_from_node(codings[0]) if codings else value.contrast)


def _only_one_argument(node: Call) -> None:
    if len(node.arguments) != 1 or node.keywords:
        base = " and a base, log(x, base=2)" if node.function == "log" else " and nothing else"
        raise DataError(f"{render(node)}: {node.function}() takes one column{base}.")


def _base_of(base: Node, node: Node, env: Environment) -> float:
    value = plain_value(base, env)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0 or value == 1:
        raise DataError(f"{render(node)}: the base of a logarithm is a positive number other than 1.")
    return float(value)


def plain_value(node: Node, env: Environment) -> Any:
    """Value of an argument that is no column: a number, text, TRUE or FALSE, or a list of these."""
    value = _value(node, env) if not expression_columns(node) else np.empty(0)
    if isinstance(value, np.ndarray | FactorValue | MatrixValue):
        raise DataError(f"{render(node)} must be a plain number, text, TRUE/FALSE or c(...).")
    return value


def _stateful(node: Call, env: Environment) -> Value:
    transform = STATEFUL[node.function]
    x = _numeric(node.arguments[0], env)
    if not isinstance(x, np.ndarray):
        raise DataError(f"{render(node)} needs a column as its first argument.")
    if len(node.arguments) > 1 + len(transform.positional):
        raise DataError(f"{render(node)}: too many arguments. {transform.usage}")
    options = {k: plain_value(a, env) for k, a in zip(transform.positional, node.arguments[1:], strict=False)}
    for given, argument in node.keywords:
        key = _RENAMED.get(given, given)
        if key not in transform.options:
            raise DataError(
                f"{render(node)}: {given!r} is not an argument of {node.function}()."
                f"{did_you_mean(given, transform.options)} {transform.usage}"
            )
        options[key] = plain_value(argument, env)
    key = render(node)
    if not env.learning and key not in env.states:
        raise DataError(f"{key} was not part of the fitted model.")
    state = env.states.setdefault(key, {})
    try:
        values = transform.apply(x, state, options)
    except (TypeError, ValueError, ArithmeticError, LookupError, np.linalg.LinAlgError) as error:
        raise DataError(f"{key} cannot be computed: {error} {transform.usage}") from error
    if values.ndim == 1:
        return values
    first = ("line",) if node.function == SMOOTH else ()
    return MatrixValue(values, (*first, *(str(j + 1) for j in range(values.shape[1] - len(first)))))


def _level_mean(node: Call, env: Environment) -> FloatArray:
    """The mean of each row's level, which is a column of the environment, or the deviation from it, shape (n,)."""
    means = _numeric(Name(mean_name(node), node.position, quoted=True), env)
    return np.asarray(means if node.function == "between" else one_number(node.arguments[0], env) - means)


def one_number(node: Node, env: Environment) -> FloatArray:
    """One number per row, shape (n,); a condition such as ``f == "a"``, or a column of booleans, is 1 or 0.

    Raises:
        DataError: If the expression is categorical, has several columns, or does not depend on the data.
    """
    value = evaluate(node, env)
    if isinstance(value, FactorValue) and set(value.levels) <= {False, True}:
        return np.asarray(np.array(value.levels, dtype=np.float64)[value.codes])
    return np.asarray(_numeric(node, env), dtype=np.float64)


def _call_registered(node: Call, env: Environment) -> FloatArray:
    arguments = [_argument(a, env) for a in node.arguments]
    keywords = {k: _argument(v, env) for k, v in node.keywords}
    lengths = {len(a) for a in (*arguments, *keywords.values()) if isinstance(a, np.ndarray)}
    if not lengths:
        raise DataError(f"{render(node)} does not depend on the data; leave it out.")
    try:
        result = np.asarray(REGISTERED[node.function](*arguments, **keywords))
    except Exception as error:  # the user's own function may raise anything
        raise DataError(f"{render(node)}: the registered function failed: {type(error).__name__}: {error}") from error
    if result.dtype.kind not in "biuf" or result.shape != (lengths.pop(),):
        raise DataError(f"{render(node)}: the registered function must return one real number per row.")
    return result.astype(np.float64)


def _argument(node: Node, env: Environment) -> Any:
    """Argument of a registered function; an array is copied, so that the function may change it."""
    value = _value(node, env)
    return value if isinstance(value, str | bool | list | None) else np.copy(_numeric(node, env))[()]


__all__ = [
    "Environment",
    "FactorColumn",
    "FactorValue",
    "MatrixValue",
    "check_expression",
    "evaluate",
    "expression_columns",
    "functions",
    "one_number",
    "plain_factor",
    "plain_value",
    "register_function",
]
