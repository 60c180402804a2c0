"""What functions of a formula learn from all rows (a mean, an SD, bounds, levels), put together from batches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from unimix.design.evaluate import Environment, FactorValue, evaluate, plain_value
from unimix.design.typed_columns import NumericColumn
from unimix.errors import DataError
from unimix.formula.allowed import FACTOR_CALLS, REGISTERED
from unimix.formula.expand import all_atoms
from unimix.formula.functions import STATEFUL, encode_state
from unimix.formula.level_means import LEVEL_MEANS
from unimix.formula.parser import Call, render, walk
from unimix.formula.terms import ModelSpec
from unimix.reduction.levels import LevelSet

FloatArray = npt.NDArray[np.float64]
_LEARNS = ("scale", "center", "bs", "ns")


@dataclass(frozen=True)
class Moments:
    """Number, mean, sum of squares about the mean, and bounds of numbers; two of them are put together exactly.

    The update is that of Chan, Golub and LeVeque (1983), The American Statistician 37:242.

    Attributes:
        n: Number of values.
        mean: Their mean.
        squares: Sum of squares about the mean.
        low: Smallest value.
        high: Largest value.
    """

    n: int
    mean: float
    squares: float
    low: float
    high: float

    @classmethod
    def of(cls, values: FloatArray) -> Moments | None:
        """Moments of values (n,); None if there are none."""
        if not len(values):
            return None
        mean = float(values.mean())
        mean += float((values - mean).mean())
        return cls(len(values), mean, float(((values - mean) ** 2).sum()), float(values.min()), float(values.max()))

    def with_more(self, other: Moments | None) -> Moments:
        """Moments of both."""
        if other is None:
            return self
        n, apart = self.n + other.n, other.mean - self.mean
        return Moments(
            n,
            self.mean + apart * other.n / n,
            self.squares + other.squares + apart**2 * self.n * other.n / n,
            min(self.low, other.low),
            max(self.high, other.high),
        )


@dataclass(frozen=True)
class Learnt:
    """What the calls of a formula learn, by canonical text of the call.

    Attributes:
        moments: Moments of the arguments of ``scale``, ``center``, ``bs`` and ``ns``.
        levels: Values of the arguments of ``C()`` that are numbers.
    """

    moments: dict[str, Moments]
    levels: dict[str, LevelSet]

    @classmethod
    def of(cls, calls: list[Call], env: Environment) -> Learnt:
        """What the rows of one batch teach."""
        moments: dict[str, Moments] = {}
        levels: dict[str, LevelSet] = {}
        for call in calls:
            key, inner = render(call), call.arguments[0]
            value = evaluate(inner, env)
            if call.function in FACTOR_CALLS:
                if not isinstance(value, FactorValue) and (found := LevelSet.of(key, NumericColumn(np.asarray(value)))):
                    levels[key] = found
            elif isinstance(value, np.ndarray) and (of := Moments.of(value)):
                moments[key] = of
        return cls(moments, levels)

    def with_more(self, other: Learnt, where: str) -> Learnt:
        """What both teach."""
        moments, levels = dict(self.moments), dict(self.levels)
        for key, of in other.moments.items():
            moments[key] = of.with_more(moments.get(key))
        for key, found in other.levels.items():
            levels[key] = levels[key].with_more(found, where) if key in levels else found
        return replace(self, moments=moments, levels=levels)

    def states(self, calls: list[Call]) -> dict[str, Any]:
        """States of the calls in the form of an encoding.

        Raises:
            DataError: If a call cannot be computed.
        """
        states: dict[str, Any] = {}
        for call in calls:
            key = render(call)
            if key in self.levels:
                states[key] = {"levels": list(self.levels[key].levels)}
            elif key in self.moments:
                env = Environment({}, {})
                state: dict[str, Any] = {}
                options = {
                    **dict(zip(STATEFUL[call.function].positional, call.arguments[1:], strict=False)),
                    **dict(call.keywords),
                }
                values = {k: plain_value(node, env) for k, node in options.items()}
                try:
                    STATEFUL[call.function].apply(_stand_in(call, self.moments[key]), state, values)
                except (TypeError, ValueError, ArithmeticError, LookupError) as error:
                    raise DataError(f"{key} cannot be computed: {error} {STATEFUL[call.function].usage}") from error
                states[key] = state
        return {k: encode_state(s) for k, s in states.items()}


def _stand_in(call: Call, of: Moments) -> FloatArray:
    """Two numbers from which a call learns what it would learn from all rows."""
    if call.function in ("scale", "center"):
        apart = (
            float(np.sqrt(of.squares / (of.n - 1) / 2)) if of.n > 1 else 0.0
        )  # an SD of two numbers m -+ d: d sqrt 2
        return np.array([of.mean - apart, of.mean + apart])
    return np.array([of.low, of.high])


def learning_calls(spec: ModelSpec) -> list[Call]:
    """Calls of a formula that learn from the rows: each once.

    Raises:
        DataError: If a call needs all rows at once.
    """
    atoms = [*all_atoms(spec), spec.response, *spec.offsets]
    calls: dict[str, Call] = {}
    faults: list[str] = []
    for atom in atoms:
        for node in walk(atom):
            if not isinstance(node, Call):
                continue
            if node.function in STATEFUL:
                if fault := _needs_all(node):
                    faults.append(fault)
                calls.setdefault(render(node), node)
            elif node.function in FACTOR_CALLS:
                calls.setdefault(render(node), node)
            elif node.function in LEVEL_MEANS:
                faults.append(
                    f"{render(node)}: the mean of a level needs all of its rows at once. Store it as a column of the "
                    "source: between x is the mean of x over the rows of the level that have no missing value, and "
                    "within x is x minus that mean."
                )
            elif node.function in REGISTERED:
                faults.append(
                    f"{render(node)}: a function of your own sees one batch of rows at a time here, and may give other "
                    "numbers than for all rows at once. Store its values as a column of the source."
                )
    if faults:
        raise DataError("\n".join(dict.fromkeys(faults)))
    return list(calls.values())


def _needs_all(call: Call) -> str:
    """Why a call needs all rows at once; empty if it does not."""
    text, given = render(call), {k for k, _ in call.keywords}
    positional = STATEFUL[call.function].positional
    given |= set(positional[: len(call.arguments) - 1])
    if any(isinstance(n, Call) and n.function in STATEFUL for a in call.arguments for n in walk(a)):
        return (
            f"{text}: what is inside would have to be learnt from all rows first. Store it as a column of the source."
        )
    if call.function == "poly":
        raw = dict(call.keywords).get("raw")
        if (raw is not None and render(raw) in ("TRUE", "True")) or len(call.arguments) > 2:
            return ""
        return (
            f"{text}: orthogonal polynomials are computed from all rows at once. Write poly(x, 2, raw=TRUE), or "
            "center(x) + I(center(x)**2) with a column that is centred in the source, which span the same columns."
        )
    if call.function in ("scale", "center") and given:
        return f"{text}: of reduced rows, scale() and center() take a column and nothing else."
    if call.function in ("bs", "ns") and "df" in given and "knots" not in given:
        return (
            f"{text}: the knots would be quantiles, which need all rows at once. Give them: "
            f"{call.function}(x, knots=c(...))."
        )
    if call.function not in ("scale", "center", "bs", "ns"):
        return f"{text}: its basis is computed from all rows at once. Use ns(x, knots=c(...)) or bs(x, knots=c(...))."
    return ""


__all__ = ["Learnt", "Moments", "learning_calls"]
