"""The inverse of a transformed response, such as exp for ``log(y)``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from unimix.formula.parser import Binary, Call, Name, Node, Number, Unary

FloatArray = npt.NDArray[np.float64]
Function = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Inverse:
    """The inverse h of a transformation of one column: y = h(t).

    Attributes:
        column: Name of the column y.
        value: The inverse h, NaN outside its domain.
        slope: Its derivative h'.
        ratio: What exp of a difference of t is, in units of y: ``ratio`` for a logarithm of a multiple of y,
            ``odds_ratio`` for its logit, else empty.
        one_branch: Whether h gives back positive y only, as for an even power of y.
        unit: Factor that turns a difference of t into one of natural logarithms, for ratios.
    """

    column: str
    value: Function
    slope: Function
    ratio: str = ""
    unit: float = 1.0
    one_branch: bool = False


def _expit(t: FloatArray) -> FloatArray:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * t)))


def _power(t: FloatArray, power: float) -> FloatArray:
    """t^power of positive t; of negative t if the power is odd, 0 if it is even, NaN for others."""
    whole = float(power).is_integer() and power > 0
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if whole:
            return np.asarray(t**power if power % 2 else np.maximum(t, 0.0) ** power)
        return np.asarray(np.where(t > 0, t, np.nan) ** power)


def _power_slope(t: FloatArray, power: float) -> FloatArray:
    whole = float(power).is_integer() and power > 0
    slope = power * np.abs(t) ** (power - 1.0) if whole else power * _power(t, power - 1.0)
    return np.asarray(np.where(t > 0, slope, 0.0) if whole and not power % 2 else slope)


_LOGARITHMS = {"log": 1.0, "log10": float(np.log(10.0)), "log2": float(np.log(2.0))}
# function of the formula: the inverse, and its derivative
_CALLS: dict[str, tuple[Function, Function]] = {
    **{
        name: (lambda t, u=unit: np.exp(u * t), lambda t, u=unit: u * np.exp(u * t))  # type: ignore[misc]
        for name, unit in _LOGARITHMS.items()
    },
    "log1p": (np.expm1, np.exp),
    "sqrt": (lambda t: _power(t, 2.0), lambda t: _power_slope(t, 2.0)),
    "logit": (_expit, lambda t: _expit(t) * _expit(-t)),
    "exp": (lambda t: np.log(np.where(t > 0, t, np.nan)), lambda t: 1.0 / np.where(t > 0, t, np.nan)),
    "I": (lambda t: t, np.ones_like),
}


def inverse_of(node: Node) -> Inverse | None:
    """The inverse of an expression in one column; None if it has none that is known.

    Known are log, log10, log2, log1p, sqrt, logit and exp, powers, and sums, differences, products and quotients with
    numbers, in any combination.

    Args:
        node: The parsed response.
    """
    match node:
        case Name(name):
            return Inverse(name, lambda t: t, np.ones_like)
        case Call("log", (Binary("/", Name(name), Binary("-", one, Name(other))),), ()) if name == other:
            # log(y / (1 - y))
            found = inverse_of(Call("logit", (Name(name, 0),), (), 0))
            return found if _number(one) == 1.0 else None
        case Call(function, (inner,), ()) if function in _CALLS:
            found = _after(inverse_of(inner), *_CALLS[function])
            if found is not None and function in _LOGARITHMS and _is_multiple(inner):
                return replace(found, ratio="ratio", unit=_LOGARITHMS[function])
            if found is not None and function == "logit" and isinstance(inner, Name):
                return replace(found, ratio="odds_ratio")
            return found
        case Unary("-", inner):
            return _after(inverse_of(inner), lambda t: -t, lambda t: -np.ones_like(t))
        case Unary("+", inner):
            return inverse_of(inner)
        case Binary(operator, inner, right) if (number := _number(right)) is not None:
            return _by_number(operator, inner, number)
        case Binary(("+" | "-" | "*" | "/") as operator, left, inner) if (number := _number(left)) is not None:
            return _by_number({"-": "number -", "/": "number /"}.get(operator, operator), inner, number)
    return None


def _number(node: Node) -> float | None:
    match node:
        case Number(value):
            return float(value)
        case Unary("-", inner):
            positive = _number(inner)
            return None if positive is None else -positive
        case Call("I", (inner,), ()):
            return _number(inner)
        case Binary(operator, left, right):
            a, b = _number(left), _number(right)
            if a is None or b is None or (operator == "/" and b == 0):
                return None
            return {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else 0.0}.get(operator)
    return None


def _by_number(operator: str, inner: Node, c: float) -> Inverse | None:
    """The inverse of an expression beside a number."""
    before = inverse_of(inner)
    match operator:
        case "+":
            return _after(before, lambda t: t - c, np.ones_like)
        case "-":
            return _after(before, lambda t: t + c, np.ones_like)
        case "number -":
            return _after(before, lambda t: c - t, lambda t: -np.ones_like(t))
        case "*" if c:
            return _after(before, lambda t: t / c, lambda t: np.full_like(t, 1.0 / c))
        case "/" if c:
            return _after(before, lambda t: t * c, lambda t: np.full_like(t, c))
        case "number /" if c:
            # of positive quotients: t and c have the same sign
            return _after(before, lambda t: _power(t / c, -1.0), lambda t: -_power(t / c, -2.0) / c)
        case "**" | "^" if c:
            power = round(1.0 / c, 12) if abs(1.0 / c - round(1.0 / c)) < 1e-12 else 1.0 / c
            found = _after(before, lambda t: _power(t, power), lambda t: _power_slope(t, power))
            return found if found is None else replace(found, one_branch=found.one_branch or c % 2 == 0)
    return None


def _after(before: Inverse | None, value: Function, slope: Function) -> Inverse | None:
    """The inverse of an outer step, followed by that of the expression inside."""
    if before is None:
        return None

    def whole(t: FloatArray) -> FloatArray:
        return before.value(value(t))

    def by_t(t: FloatArray) -> FloatArray:
        return np.asarray(before.slope(value(t)) * slope(t))

    return replace(before, value=whole, slope=by_t, ratio="", unit=1.0)


def _is_multiple(node: Node) -> bool:
    """Whether an expression is a column times positive numbers."""
    match node:
        case Name():
            return True
        case Call("I", (inner,), ()):
            return _is_multiple(inner)
        case Binary("*" | "/", inner, right) if (number := _number(right)) is not None:
            return number > 0 and _is_multiple(inner)
        case Binary("*", left, inner) if (number := _number(left)) is not None:
            return number > 0 and _is_multiple(inner)
    return False


__all__ = ["Inverse", "inverse_of"]
