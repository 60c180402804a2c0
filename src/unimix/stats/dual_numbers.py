"""Values and exact derivatives of arithmetic expressions of named quantities, by forward differentiation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unimix.formula.parser import Binary, Call, Name, Node, Number, Unary

FloatArray = npt.NDArray[np.float64]
Function = Callable[[FloatArray], FloatArray]

_LOG2, _LOG10 = float(np.log(2.0)), float(np.log(10.0))
FUNCTIONS: dict[str, tuple[Function, Function]] = {
    "exp": (np.exp, np.exp),
    "expm1": (np.expm1, np.exp),
    "log": (np.log, lambda a: 1.0 / a),
    "log2": (np.log2, lambda a: 1.0 / (_LOG2 * a)),
    "log10": (np.log10, lambda a: 1.0 / (_LOG10 * a)),
    "log1p": (np.log1p, lambda a: 1.0 / (1.0 + a)),
    "sqrt": (np.sqrt, lambda a: 0.5 / np.sqrt(a)),
    "abs": (np.abs, np.sign),
    "sin": (np.sin, np.cos),
    "cos": (np.cos, lambda a: -np.sin(a)),
}
"""Functions of one quantity and their derivatives, by name."""
OPERATORS = ("+", "-", "*", "/", "**")


@dataclass(frozen=True)
class Dual:
    """A quantity, shape (...), and its derivatives with respect to k others, shape (..., k)."""

    value: FloatArray
    slope: FloatArray


def evaluate(node: Node, places: Mapping[str, int], at: FloatArray, *, slopes: bool = True) -> Dual:
    """Evaluate an expression and its derivatives.

    Args:
        node: Expression of names, numbers, signs, :data:`OPERATORS` and :data:`FUNCTIONS`.
        places: Position of each named quantity in ``at``.
        at: Values of the k quantities, shape (..., k).
        slopes: Whether to compute derivatives; otherwise they have shape (..., 0).

    Returns:
        Value and derivatives; they are not finite where the expression is not defined.
    """
    unit = np.eye(at.shape[-1]) if slopes else np.empty((at.shape[-1], 0))
    with np.errstate(all="ignore"):
        return _evaluate(node, places, at, unit)


def _evaluate(node: Node, places: Mapping[str, int], at: FloatArray, unit: FloatArray) -> Dual:
    match node:
        case Number(value):
            return Dual(np.full(at.shape[:-1], value), np.zeros((*at.shape[:-1], unit.shape[1])))
        case Name(name):
            k = places[name]
            return Dual(at[..., k], np.broadcast_to(unit[k], (*at.shape[:-1], unit.shape[1])))
        case Unary(operator, operand):
            inner = _evaluate(operand, places, at, unit)
            return Dual(-inner.value, -inner.slope) if operator == "-" else inner
        case Call(function, (argument,), ()) if function in FUNCTIONS:
            inner = _evaluate(argument, places, at, unit)
            apply, derivative = FUNCTIONS[function]
            return Dual(apply(inner.value), derivative(inner.value)[..., None] * inner.slope)
        case Binary(operator, left, right) if operator in OPERATORS:
            return _binary(operator, _evaluate(left, places, at, unit), _evaluate(right, places, at, unit))
        case _:
            raise TypeError(f"not arithmetic: {node!r}")


def _binary(operator: str, a: Dual, b: Dual) -> Dual:
    x, y = a.value[..., None], b.value[..., None]
    match operator:
        case "+":
            return Dual(a.value + b.value, a.slope + b.slope)
        case "-":
            return Dual(a.value - b.value, a.slope - b.slope)
        case "*":
            return Dual(a.value * b.value, a.slope * y + x * b.slope)
        case "/":
            return Dual(a.value / b.value, a.slope / y - b.slope * x / y**2)
        case _:
            value = np.power(a.value, b.value)
            # With a constant exponent the base may be negative, so that its logarithm must not be used.
            by_base = np.where(a.slope != 0, y * np.power(x, y - 1.0) * a.slope, 0.0)
            by_exponent = np.where(b.slope != 0, value[..., None] * np.log(x) * b.slope, 0.0)
            return Dual(value, by_base + by_exponent)


__all__ = ["FUNCTIONS", "OPERATORS", "Dual", "evaluate"]
