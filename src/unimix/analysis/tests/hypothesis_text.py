"""The text of hypotheses: reading it, and the estimates that its names stand for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unimix.errors import FormulaError, OptionError, did_you_mean, listing
from unimix.formula.parser import Binary, Call, Name, Node, Number, Reader, Unary, walk
from unimix.stats.dual_numbers import FUNCTIONS, OPERATORS


@dataclass(frozen=True)
class Hypothesis:
    """One hypothesis.

    Attributes:
        text: The hypothesis as the user wrote it.
        node: Parsed left side minus right side.
        places: Position of the estimate that each name stands for.
    """

    text: str
    node: Node
    places: dict[str, int]


def read(tests: Any, names: tuple[str, ...], k: int) -> tuple[list[Hypothesis], list[str]]:
    """The hypotheses that can be read, and the faults of the others.

    Args:
        tests: Texts as the user gave them.
        names: Names of the estimates; empty if they have only positions.
        k: Number of estimates, the first ones, that are also called b0, b1, ...
    """
    given = [tests] if isinstance(tests, str) else tests
    if not isinstance(given, Sequence) or not given or not all(isinstance(t, str) for t in given):
        return [], [f"hypotheses are strings such as 'x = 0' or ['x = z', 'w = 1'], not {tests!r}."]
    texts = [part.strip() for text in given for part in _split(text)]
    hypotheses, faults = [], []
    for text in texts:
        try:
            hypotheses.append(_hypothesis(text, names, k))
        except FormulaError as error:
            reasons = " ".join(f.message for f in error.faults)
            faults.append(f"The hypothesis {text!r} cannot be read. {reasons} {_known(names, k)}")
        except OptionError as error:
            faults.append(f"The hypothesis {text!r}: {error}")
    return hypotheses, faults


def _split(text: str) -> list[str]:
    """Split a text at commas outside brackets and backticks."""
    parts, depth, quoted = [""], 0, False
    for character in text:
        quoted ^= character == "`"
        depth += 0 if quoted else (character in "([") - (character in ")]")
        if character == "," and not quoted and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _hypothesis(text: str, names: tuple[str, ...], k: int) -> Hypothesis:
    reader = Reader(_marked(text, names))
    if reader.token.kind == "end":
        raise OptionError("it is empty; write 'x = 0'.")
    node = reader.expression(1)
    if reader.accept("=", "=="):
        right = reader.expression(1)
        node = node if isinstance(right, Number) and right.value == 0 else Binary("-", node, right, 0)
    if reader.token.text in ("<", ">", "<=", ">=", "!="):
        raise OptionError("write it with '=' and give the side as alternative='greater' or 'less'.")
    reader.finish()
    return Hypothesis(text, node, _places(node, names, k))


def _marked(text: str, names: tuple[str, ...]) -> str:
    """The text with names that are not plain words replaced by marks such as ``#3`` in backticks."""
    unusual = [(i, n) for i, n in enumerate(names) if not re.fullmatch(r"[^\W\d][\w.]*", n)]
    odd = {re.sub(r"\s", "", n).replace("^", "**"): i for i, n in unusual}
    if "Intercept" in names:
        odd["(Intercept)"] = names.index("Intercept")

    def pattern(name: str) -> str:
        spaced = r"\s*".join(re.escape(c) for c in name.replace("**", "^"))
        return spaced.replace(r"\^", r"(?:\*\*|\^)")

    def marked(match: re.Match[str]) -> str:
        inner = re.sub(r"\s", "", match.group()).replace("^", "**")
        bare = inner.strip("`")
        place = odd.get(inner, odd.get(bare))
        if place is None:
            return match.group()
        if inner == bare and _is_expression(inner, names):
            raise OptionError(
                f"{inner} is a coefficient, and also a function of another one. Write the coefficient in backticks, "
                f"`{inner}`, or the function of b{names.index(_inner_name(inner))}."
            )
        return f"`#{place}`"

    ordered = sorted(odd, key=len, reverse=True)
    choices = [rf"(?<![\w.`:]){pattern(n)}(?![\w.`:(\[])" for n in ordered]
    quoted = [f"`{pattern(n)}`" for n in ordered]
    return re.sub("|".join([*quoted, "`[^`]*`", *choices]), marked, text) if odd else text


def _inner_name(text: str) -> str:
    return text[text.index("(") + 1 : -1]


def _is_expression(text: str, names: tuple[str, ...]) -> bool:
    """Whether a coefficient's name, such as ``log(x)``, also reads as a function of a coefficient."""
    function, _, rest = text.partition("(")
    return function in FUNCTIONS and rest.removesuffix(")") in names


def _places(node: Node, names: tuple[str, ...], k: int) -> dict[str, int]:
    places: dict[str, int] = {}
    faults: list[str] = []
    for current in walk(node):
        match current:
            case Name(name):
                place = _place(current, names, k)
                if isinstance(place, int):
                    places[name] = place
                else:
                    faults.append(place)
            case Number() | Unary():
                pass
            case Binary(operator) if operator in OPERATORS:
                pass
            case Call(function, arguments, keywords) if function in FUNCTIONS:
                if len(arguments) != 1 or keywords:
                    faults.append(f"{function}() takes one quantity.")
            case Call(function):
                known = [*FUNCTIONS, *names]
                faults.append(
                    f"{function}() is not a function here.{did_you_mean(function, known)} Allowed: "
                    f"{listing(FUNCTIONS)}."
                )
            case _:
                faults.append(
                    "only + - * / ^, numbers, functions and coefficients are allowed. "
                    f"Write a coefficient with an unusual name in backticks. {_known(names, k)}"
                )
    if faults:
        raise OptionError(" ".join(dict.fromkeys(faults)))
    if not places:
        raise OptionError("it names no coefficient.")
    return places


def _place(name: Name, names: tuple[str, ...], k: int) -> int | str:
    """Position of the estimate that a name stands for, or the fault of the name."""
    mark = name.name.removeprefix("#")
    if name.quoted and mark in map(str, range(len(names))) and name.name.startswith("#"):
        return int(mark)
    position = re.fullmatch(r"b(\d{1,9})", name.name)
    coefficient = names.index(name.name) if name.name in names else None
    if position and not name.quoted:
        place = int(position.group(1))
        if coefficient is not None and coefficient != place:
            return f"{name.name} is a coefficient's name and a position: write `{name.name}` for the coefficient."
        if place >= k:
            return f"{name.name} does not exist: there are {k}, from b0 to b{k - 1}."
        return place
    if coefficient is None:
        return f"{name.name!r} is not one of the estimates.{did_you_mean(name.name, names)} {_known(names, k)}"
    return coefficient


def _known(names: tuple[str, ...], k: int) -> str:
    if not names:
        return f"They are named by position, b0 to b{k - 1}."
    return "Known: " + listing([f"b{i} = {n}" for i, n in enumerate(names[:k])] + list(names[k:])) + "."


def is_linear(node: Node) -> bool:
    """Whether an expression is linear in its names."""
    match node:
        case Unary(_, operand):
            return is_linear(operand)
        case Binary("+" | "-", left, right):
            return is_linear(left) and is_linear(right)
        case Binary("*", left, right):
            return is_linear(left) and is_linear(right) and not (_has_names(left) and _has_names(right))
        case Binary("/", left, right):
            return is_linear(left) and not _has_names(right)
        case Number() | Name():
            return True
        case _:
            return not _has_names(node)


def _has_names(node: Node) -> bool:
    return any(isinstance(n, Name) for n in walk(node))
