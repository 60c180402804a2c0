"""Parser of lme4's formula language, from tokens to a syntax tree.

One grammar serves formulas and the arithmetic inside calls; :mod:`unimix.formula.interpreter` and
:mod:`unimix.design.evaluate` give the operators their meaning. The precedence is that of R: ``^`` binds tightest, then
unary minus, ``:``, ``%in%``, ``* /``, ``+ -``, comparisons, ``|``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from unimix.errors import Fault, FormulaError
from unimix.formula.covariance_names import STRUCTURES, with_homogeneity
from unimix.formula.functions import STATEFUL
from unimix.formula.tokens import Token, blank_in_name, tokenize

MAX_DEPTH = 60

CONSTANTS: dict[str, bool | None] = {
    "TRUE": True,
    "FALSE": False,
    "True": True,
    "False": False,
    "NULL": None,
    "None": None,
}


@dataclass(frozen=True)
class Name:
    """A column, or the name of a contrast inside ``C()``."""

    name: str
    position: int
    quoted: bool = False


@dataclass(frozen=True)
class Number:
    """A numeric literal."""

    value: float
    position: int


@dataclass(frozen=True)
class Text:
    """A quoted string literal."""

    value: str
    position: int


@dataclass(frozen=True)
class Call:
    """A call such as ``function(arguments, key=value)``."""

    function: str
    arguments: tuple[Node, ...]
    keywords: tuple[tuple[str, Node], ...]
    position: int


@dataclass(frozen=True)
class Binary:
    """Two operands and the operator between them; a power may be written with a caret, which means the same."""

    operator: str
    left: Node
    right: Node
    position: int
    caret: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Unary:
    """A sign before an operand."""

    operator: str
    operand: Node
    position: int


@dataclass(frozen=True)
class Sequence_:  # noqa: N801 (Sequence is typing's)
    """A sequence inside a call, ``[1, 2]`` or ``c(1, 2)``."""

    items: tuple[Node, ...]
    position: int


@dataclass(frozen=True)
class Bar:
    """A random term ``(left | right)``, ``(left || right)`` or ``cs(left | right)``."""

    left: Node
    right: Node
    double: bool
    position: int
    structure: str = "us"


Node = Name | Number | Text | Call | Binary | Unary | Sequence_ | Bar


_RANK = {"<": 0, ">": 0, "<=": 0, ">=": 0, "==": 0, "!=": 0, "+": 1, "-": 1, "*": 2, "/": 2, "%in%": 3, ":": 4, "**": 6}
_BINARY = tuple(operator for operator in _RANK if operator != "**")


class Reader:
    """Recursive-descent reader of a token list."""

    def __init__(self, formula: str) -> None:
        self.formula = formula
        self.tokens = tokenize(formula)
        self.index = 0
        self.depth = 0

    @property
    def token(self) -> Token:
        """The next token."""
        return self.tokens[self.index]

    def fail(self, message: str, token: Token | None = None) -> FormulaError:
        """Make the error for a token, by default the next one."""
        at = token or self.token
        hint = blank_in_name(self.formula, self.tokens, self.tokens.index(at))
        return FormulaError(self.formula, [Fault(message + hint, at.position, max(1, len(at.text)))])

    def accept(self, *texts: str) -> Token | None:
        """Read the next token if it is one of these operators."""
        token = self.token
        if token.kind == "op" and token.text in texts:
            self.index += 1
            return token
        return None

    def expect(self, text: str, message: str) -> Token:
        """Read the operator ``text``, or raise a FormulaError with this message."""
        token = self.accept(text)
        if token is None:
            raise self.fail(message)
        return token

    def finish(self) -> None:
        """Raise a FormulaError unless all tokens have been read."""
        if self.token.kind != "end":
            raise self.fail(f"{self.token.text!r} was not expected here; is a '+' or ')' missing before it?")

    def expression(self, rank: int = 0) -> Node:
        """Read operators that bind at least as tightly as ``rank`` (precedence climbing)."""
        left = self.unary()
        while self.token.text in _BINARY and self.token.kind == "op" and _RANK[self.token.text] >= rank:
            token = self.token
            self.index += 1
            right = self.expression(_RANK[token.text] + 1)
            left = Binary(token.text, left, right, token.position)
            if _RANK[token.text] == 0 and self.token.kind == "op" and _RANK.get(self.token.text) == 0:
                raise self.fail("Comparisons cannot be chained; write one comparison per I().")
        return left

    def unary(self) -> Node:
        """Read an operand and the signs before it."""
        token = self.accept("-", "+")
        if token is None:
            return self.power()
        self._deeper(token)
        operand = self.unary()
        self.depth -= 1
        return Unary(token.text, operand, token.position)

    def power(self) -> Node:
        """Read an operand and its exponent."""
        base = self.atom()
        token = self.accept("^", "**")
        if token is None:
            return base
        self._deeper(token)
        exponent = self.unary()
        self.depth -= 1
        return Binary("**", base, exponent, token.position, token.text == "^")

    def _deeper(self, token: Token) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.fail(f"The formula is nested more than {MAX_DEPTH} deep.", token)

    def atom(self) -> Node:
        """Read a name, a number, a text, a call or something in brackets."""
        token = self.token
        if token.kind == "end":
            raise self.fail("The formula ends too early: a term is missing here.")
        self.index += 1
        if token.kind == "number":
            return self._number(token)
        if token.kind == "string":
            return Text(token.text[1:-1], token.position)
        if token.kind == "dot":
            return Name(".", token.position)
        if token.kind == "backtick":
            if len(token.text) == 2:
                raise self.fail("A backticked name is empty.", token)
            return Name(token.text[1:-1], token.position, quoted=True)
        if token.kind == "name":
            return self._call(token) if self.accept("(") else Name(token.text, token.position)
        if token.text == "(":
            return self._group(token)
        if token.text == "[":
            self._deeper(token)
            items = tuple(self._items("]"))
            self.depth -= 1
            return Sequence_(items, token.position)
        raise self.fail(f"A term was expected before {token.text!r}.", token)

    def _number(self, token: Token) -> Number:
        if self.token.kind == "name" and self.token.position == token.position + len(token.text):
            raise self.fail(
                f"A name cannot begin with a digit; write `{token.text}{self.token.text}` between backticks.", token
            )
        value = float(token.text.rstrip("L"))
        if value in (float("inf"), float("-inf")):
            raise self.fail(f"The number {token.text} is too large.", token)
        return Number(value, token.position)

    def _group(self, opening: Token) -> Node:
        self._deeper(opening)
        inner = self.expression()
        inner = self._bar(inner, opening) or inner
        self.expect(")", "A closing parenthesis is missing.")
        self.depth -= 1
        return inner

    def _bar(self, left: Node, opening: Token, structure: str = "us") -> Bar | None:
        bar = self.accept("|", "||")
        if bar is None:
            return None
        right = self.expression()
        if self.token.text in ("|", "||") or (opening.text != "(" and bar.text == "||"):
            raise self.fail("A random term has one bar: (terms | group).")
        structure = self._homogeneity(structure) if opening.text != "(" else structure
        return Bar(left, right, bar.text == "||" or structure == "diag", opening.position, structure)

    def _homogeneity(self, structure: str) -> str:
        """Read ``, hom=TRUE`` or ``, hom=FALSE`` after a structured random term, and return the structure's name."""
        comma = self.accept(",")
        if comma is None:
            return structure
        key = self.token
        self.index += 1
        given = self.expression() if key.text == "hom" and self.accept("=") else None
        value = CONSTANTS.get(_logical(given).name) if isinstance(given, Name) else None  # type: ignore[union-attr]
        name = None if value is None else with_homogeneity(structure, value)
        if structure == "us":
            raise self.fail("us( | ) has a variance for each column; hom= belongs to the other structures.", key)
        if name is None:
            raise self.fail("After a structured random term comes hom=TRUE (one variance) or hom=FALSE.", key)
        return name

    def _items(self, closing: str) -> list[Node]:
        items: list[Node] = []
        if self.accept(closing):
            return items
        while True:
            items.append(self.expression())
            if self.accept(closing):
                return items
            self.expect(",", f"{closing!r} or ',' is missing here.")

    def _call(self, name: Token) -> Node:
        self._deeper(name)
        arguments: list[Node] = []
        keywords: list[tuple[str, Node]] = []
        while not self.accept(")"):
            if arguments or keywords:
                self.expect(",", "')' or ',' is missing here.")
            following = self.tokens[self.index + 1] if self.index + 1 < len(self.tokens) else self.token
            if self.token.kind == "name" and following.kind == "op" and following.text == "=":
                key = self.token
                if key.text in dict(keywords):
                    raise self.fail(f"The argument {key.text!r} is given twice.")
                self.index += 2
                keywords.append((key.text, self.expression()))
            elif keywords:
                raise self.fail("An argument without a name stands after named ones; put it first.")
            else:
                arguments.append(self.expression())
                if len(arguments) == 1 and self.token.text in ("|", "||"):
                    if name.text not in STRUCTURES:
                        raise self.fail(
                            f"{name.text}( | ) is not a covariance structure: {', '.join(STRUCTURES)}.", name
                        )
                    bar = self._bar(arguments[0], name, name.text) or arguments[0]
                    self.expect(")", "A closing parenthesis is missing.")
                    self.depth -= 1
                    return bar
        self.depth -= 1
        if name.text == "c" and not keywords:
            return Sequence_(tuple(arguments), name.position)
        if name.text in STATEFUL:  # whose arguments after the first are not columns
            arguments[1:] = [_logical(a) for a in arguments[1:]]
            keywords = [(key, _logical(value)) for key, value in keywords]
        return Call(name.text, tuple(arguments), tuple(keywords), name.position)


def _logical(node: Node) -> Node:
    """R's abbreviations T and F as TRUE and FALSE; other nodes as they are."""
    if isinstance(node, Name) and not node.quoted and node.name in ("T", "F"):
        return Name("TRUE" if node.name == "T" else "FALSE", node.position)
    return node


def quote(name: str) -> str:
    """Return a column name as it is written in a formula."""
    plain = re.fullmatch(r"(?:[^\W\d]|\.(?=[^\W\d]))[\w.]*", name)
    return name if plain and name not in CONSTANTS else f"`{name}`"


def render(node: Node) -> str:
    """Write a tree as canonical text (spaces around operators, ``**`` for ``^``)."""
    match node:
        case Name(name):
            return name if not node.quoted and (name == "." or name in CONSTANTS) else quote(name)
        case Number(value):
            return repr(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
        case Text(value):
            return f"'{value}'" if '"' in value else f'"{value}"'
        case Sequence_(items):
            return "[" + ", ".join(render(i) for i in items) + "]"
        case Call(function, arguments, keywords):
            inner = [render(a) for a in arguments] + [f"{k}={render(v)}" for k, v in keywords]
            return f"{function}({', '.join(inner)})"
        case Unary(operator, operand):
            text = render(operand)
            return (
                f"{operator}({text})"
                if isinstance(operand, Binary) and operand.operator != "**"
                else f"{operator}{text}"
            )
        case Bar(left, right, double, _, structure):
            head = "" if structure in ("us", "diag") else structure
            return f"{head}({render(left)} {'||' if double else '|'} {render(right)})"
        case Binary(operator, left, right):
            return _render_binary(operator, left, right)


def name_of(node: Node) -> str:
    """Name of a column or a call in results: without backticks, and with carets where they were written."""
    if isinstance(node, Name):
        return node.name
    caret = any(isinstance(n, Binary) and n.caret for n in walk(node))
    return render(node).replace(" ** ", "^") if caret else render(node)


def _render_binary(operator: str, left: Node, right: Node) -> str:
    rank, right_associative = _RANK[operator], operator == "**"
    parts: list[str] = []
    # A sum of a thousand terms is a tree a thousand levels deep, so that recursion would exceed Python's limit.
    spine: Node = Binary(operator, left, right, 0)
    while isinstance(spine, Binary) and _RANK[spine.operator] == rank:
        joint = ":" if spine.operator == ":" else f" {spine.operator} "
        parts += [_wrapped(spine.right, rank, not right_associative), joint]
        spine = spine.left
        if right_associative or rank == 0:
            break
    parts.append(_wrapped(spine, rank, right_associative or rank == 0))
    return "".join(reversed(parts))


def _wrapped(child: Node, rank: int, tighter: bool) -> str:
    inner = _RANK[child.operator] if isinstance(child, Binary) else 5 if isinstance(child, Unary) else 9
    return f"({render(child)})" if inner < rank or (inner == rank and tighter) else render(child)


def walk(node: Node) -> list[Node]:
    """List a tree's nodes, parents before children, left to right."""
    nodes: list[Node] = []
    waiting: list[Node] = [node]
    while waiting:
        current = waiting.pop()
        nodes.append(current)
        match current:
            case Call(_, arguments, keywords):
                waiting += reversed((*arguments, *(v for _, v in keywords)))
            case Binary(_, left, right) | Bar(left, right):
                waiting += (right, left)
            case Unary(_, operand):
                waiting.append(operand)
            case Sequence_(items):
                waiting += reversed(items)
            case _:
                pass
    return nodes
