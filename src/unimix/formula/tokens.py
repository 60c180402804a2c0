"""Tokens of lme4's formula language and their positions in the text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from unimix.errors import Fault, FormulaError

MAX_LENGTH = 20_000


@dataclass(frozen=True)
class Token:
    """A token of the formula: its kind, its text and the index of its first character."""

    kind: str
    text: str
    position: int


_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?L?)
  | (?P<name>(?:[^\W\d]|\.(?=[^\W\d]|\.))[\w.]*)
  | (?P<dot>\.)
  | (?P<backtick>`[^`]*`)
  | (?P<string>"[^"\\]*"|'[^'\\]*')
  | (?P<op>%in%|\*\*|\|\||<=|>=|==|!=|[~|+\-*/:^(),=<>\[\]])
    """,
    re.VERBOSE,
)


def tokenize(formula: str) -> list[Token]:
    """Split a formula into tokens.

    Raises:
        FormulaError: If a character is not part of the language, or the formula is longer than ``MAX_LENGTH``.
    """
    if len(formula) > MAX_LENGTH:
        raise FormulaError(formula[:80], [Fault(f"The formula has {len(formula)} characters; at most {MAX_LENGTH}.")])
    tokens: list[Token] = []
    position = 0
    while position < len(formula):
        match = _TOKEN.match(formula, position)
        if match is None:
            raise FormulaError(formula, [Fault(_strange(formula[position]), position)])
        kind = str(match.lastgroup)
        if kind != "space":
            tokens.append(Token(kind, match.group(), position))
        position = match.end()
    tokens.append(Token("end", "", len(formula)))
    return tokens


def _strange(character: str) -> str:
    if character in "\"'":
        return "A quoted text does not end (backslashes are not allowed in it)."
    if character == "`":
        return "A backticked name does not end."
    if character in "{}$@;\\!&?":
        return (
            f"{character!r} is not part of the formula language. "
            "Write column names, + - * / : ^ ( ), and whitelisted functions."
        )
    return (
        f"{character!r} (U+{ord(character):04X}) is not part of the formula language. "
        "A column with an unusual name goes between backticks: `my column`."
    )


def blank_in_name(formula: str, tokens: Sequence[Token], index: int) -> str:
    """Hint for adjacent names, which may be one column whose name contains blanks; an empty text otherwise.

    Args:
        formula: Text of the formula.
        tokens: All tokens of the formula.
        index: Index of the unexpected token in ``tokens``.
    """

    def joined(i: int) -> bool:
        """Whether only blanks separate a word from the preceding word."""
        if i < 1 or any(t.kind not in ("name", "number") for t in tokens[i - 1 : i + 1]):
            return False
        return formula[tokens[i - 1].position + len(tokens[i - 1].text) : tokens[i].position].isspace()

    first = last = index
    while joined(first):
        first -= 1
    while last + 1 < len(tokens) and joined(last + 1):
        last += 1
    after = tokens[min(last + 1, len(tokens) - 1)]
    if first == last or tokens[first].kind != "name" or after.text == "(" or after.kind in ("name", "number"):
        return ""
    name = formula[tokens[first].position : tokens[last].position + len(tokens[last].text)]
    return f" A column whose name has blanks goes between backticks: `{name}`."


__all__ = ["MAX_LENGTH", "Token", "blank_in_name", "tokenize"]
