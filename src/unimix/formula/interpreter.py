"""Interpretation of a formula in lme4's language as a :class:`~unimix.formula.terms.ModelSpec`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from unimix.errors import Fault, FormulaError
from unimix.formula.allowed import check_expression, expression_columns
from unimix.formula.expand import expand, expand_node, remaining_atoms
from unimix.formula.parser import Bar, Binary, Call, Name, Node, Number, Reader, Text, Unary, render, walk
from unimix.formula.smooth_terms import ALONE, misplaced, repeated, smooth_faults
from unimix.formula.smooths import SMOOTH
from unimix.formula.terms import FixedPart, ModelSpec, RandomTerm, ResidualTerm

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_POWER = 10
MAX_FACTORS = 10


def parse(
    formula: str, ziformula: str | None = None, dispformula: str | None = None, residual: str | None = None
) -> ModelSpec:
    """Read a formula in lme4's grammar.

    Args:
        formula: Formula of the mean, for instance ``"y ~ x * f + (1 + x | g)"``.
        ziformula: One-sided formula of the probability of a structural zero, such as ``"~ x"``; None or ``"~ 0"`` for a
            model without structural zeros.
        dispformula: One-sided formula of the dispersion; None or ``"~ 1"`` for a constant dispersion.
        residual: Covariance of the residuals, such as ``"ar1(time | id)"``; None for independent residuals.

    Raises:
        FormulaError: If a formula is not valid; the message shows the position of every fault.
    """
    if not isinstance(formula, str):
        shown = repr(formula) if isinstance(formula, int | float | None) else f"a {type(formula).__name__}"
        raise FormulaError(shown, [Fault(f"A formula is a string such as 'y ~ x + (1 | g)', not {shown}.")])
    reader = Reader(formula)
    if reader.token.kind == "end":
        raise FormulaError(formula, [Fault("The formula is empty; write for instance 'y ~ x + (1 | g)'.")])
    if reader.accept("~"):
        raise FormulaError(formula, [Fault("The response is missing to the left of '~'.", 0)])
    response = reader.expression()
    reader.expect("~", "A '~' between the response and the predictors is missing: 'y ~ x + (1 | g)'.")
    right = reader.expression()
    if reader.token.text in ("|", "||"):
        raise reader.fail("A random term stands in parentheses: write + (1 | g).")
    if reader.token.text == "~":
        raise reader.fail("A formula has one '~'.")
    reader.finish()
    spec = _Interpreter(formula).spec(response, right)
    zero, dispersion = _part(ziformula, "ziformula"), _part(dispformula, "dispformula")
    if zero is not None and not zero.intercept and not zero.added:
        zero = None
    if dispersion is not None and not dispersion.added:
        if not dispersion.intercept:
            message = "dispformula without a term leaves no dispersion: write '~ 1' for a constant one."
            raise FormulaError(str(dispformula), [Fault(message)])
        dispersion = None
    texts = {"zero": ziformula if zero else None, "dispersion": dispformula if dispersion else None}
    texts_given = tuple((k, t) for k, t in texts.items() if t)
    return replace(spec, zero=zero, dispersion=dispersion, texts=texts_given, residual=_residual(residual))


def _residual(text: str | None) -> ResidualTerm | None:
    """Read the covariance of the residuals, such as ``ar1(time | id)``."""
    if text is None:
        return None
    how = "residual= is one structure over the times of a group, such as 'ar1(time | id)' or 'us(visit | id)'"
    if not isinstance(text, str) or not text.strip():
        raise FormulaError(str(text), [Fault(f"{how}, not {text!r}.")])
    reader = Reader(text)
    if reader.token.text == "~":
        raise reader.fail(f"{how}; it has no '~'.")
    node = reader.expression()
    reader.finish()
    interpreter = _Interpreter(text)
    if not isinstance(node, Bar):
        raise FormulaError(text, [Fault(f"{how}.", node.position)])
    if text.lstrip().startswith("("):
        interpreter.fault(f"{how}: write the name of the structure before the parenthesis.", node)
    if node.structure == "homdiag":
        interpreter.fault(
            "homdiag is independent residuals with one variance, the model without residual=: leave it out.", node
        )
    match node.left:
        case Name(".", quoted=False):
            interpreter.fault(f"{how}; '.' is not a column.", node.left)
            times: tuple[Name, ...] = ()
        case Name():
            times = (node.left,)
        case Call("factor" | "as.factor" | "C", (Name() as inner,), ()):
            times = (inner,)
        case Number(1.0):
            times = ()
            if node.structure not in ("cs", "homcs"):
                interpreter.fault(
                    f"{node.structure}(1 | ...) has no times: name the column of the times, "
                    f"{node.structure}(time | ...). Only cs(1 | ...), one correlation between all rows of a group, "
                    "needs none.",
                    node.left,
                )
        case _:
            times = ()
            interpreter.fault(f"{render(node.left)} is not a column of times; {how}.", node.left)
    groups = interpreter.grouping(node.right)
    if len(groups) > 1:
        interpreter.fault("The residuals have one group: name a column or a:b, not a/b.", node.right)
    if interpreter.faults:
        raise FormulaError(text, sorted(interpreter.faults, key=lambda f: f.position or 0))
    structure = "homcs" if not times else node.structure
    positions = tuple(n.position for n in (*times, *groups[0]))
    return ResidualTerm(text, structure, times[0].name if times else None, tuple(n.name for n in groups[0]), positions)


def _part(text: str | None, name: str) -> FixedPart | None:
    """Read a one-sided formula without random terms."""
    if text is None:
        return None
    if not isinstance(text, str) or not text.strip():
        raise FormulaError(str(text), [Fault(f"{name} is a one-sided formula such as '~ x', not {text!r}.")])
    reader = Reader(text)
    if not reader.accept("~"):
        rule = "has nothing to the left of its '~'" if "~" in text else "starts with '~'"
        raise FormulaError(text, [Fault(f"{name} {rule}: write '~ {text.rpartition('~')[2].strip()}'.", 0)])
    right = reader.expression()
    if reader.token.text in ("|", "||"):
        raise reader.fail(f"Random terms in {name} are not supported; write fixed terms.")
    reader.finish()
    interpreter, summands = _Interpreter(text), _summands(right)
    for _, node in summands:
        if isinstance(node, Bar):
            interpreter.fault(f"Random terms in {name} are not supported; write fixed terms.", node)
        elif _is_offset(node):
            interpreter.fault(f"An offset in {name} is not supported; in the formula it belongs to the mean.", node)
    fixed = [(sign, node) for sign, node in summands if not isinstance(node, Bar) and not _is_offset(node)]
    part = interpreter.fixed_part(fixed, dot_allowed=False)
    if interpreter.faults:
        raise FormulaError(text, sorted(interpreter.faults, key=lambda f: f.position or 0))
    return part


def _is_offset(node: Node) -> bool:
    return isinstance(node, Call) and node.function == "offset"


class _Interpreter:
    def __init__(self, formula: str) -> None:
        self.formula = formula
        self.faults: list[Fault] = []

    def fault(self, message: str, node: Node) -> None:
        self.faults.append(Fault(message, node.position))

    def spec(self, response: Node, right: Node) -> ModelSpec:
        self.expression(response, "the response")
        random: list[RandomTerm] = []
        offsets: list[Node] = []
        fixed: list[tuple[str, Node]] = []
        for sign, node in _summands(right):
            if isinstance(node, Bar):
                if sign == "-":
                    self.fault("A random term cannot be taken away; leave it out.", node)
                random += self.random_terms(node)
            elif isinstance(node, Call) and node.function == "offset":
                if sign == "-" or len(node.arguments) != 1 or node.keywords:
                    self.fault("offset() is added and takes one expression: + offset(log(time)).", node)
                else:
                    self.expression(node.arguments[0], "the offset")
                    offsets.append(node.arguments[0])
            else:
                fixed.append((sign, node))
        part = self.fixed_part(fixed, dot_allowed=True)
        self.faults += [] if self.faults else repeated(part)
        if self.faults:
            raise FormulaError(self.formula, sorted(self.faults, key=lambda f: f.position or 0))
        return ModelSpec(self.formula, response, part, tuple(random), tuple(offsets))

    def fixed_part(self, summands: Iterable[tuple[str, Node]], *, dot_allowed: bool) -> FixedPart:
        intercept = True
        added: list[Node] = []
        removed: list[Node] = []
        for sign, node in summands:
            if isinstance(node, Number) and node.value in (0, 1):
                intercept = (node.value == 1) == (sign == "+")
                continue
            self.terms(node, dot_allowed=dot_allowed and sign == "+")
            if sign == "-":
                removed.append(node)
                continue
            added.append(node)
            if removed and not self.faults:  # a term that is added again after its removal stays, as in R
                removed = _without(removed, node)
        return FixedPart(intercept, tuple(added), tuple(removed))

    def terms(self, node: Node, *, dot_allowed: bool) -> None:
        """Check a summand; iteration instead of recursion, because a long product is a tree as deep as it is long."""
        waiting = [node]
        while waiting:
            current = waiting.pop()
            waiting += reversed(self.term(current, dot_allowed=dot_allowed and current is node))

    def term(self, node: Node, *, dot_allowed: bool) -> list[Node]:
        """Check one node of a summand and return the nodes below it that must be terms too."""
        match node:
            case Name(".", quoted=False):
                if not dot_allowed:
                    self.fault(
                        "'.' (all other columns) stands on its own in the sum, not in a product, "
                        "after '-', in a random term, in ziformula or in dispformula.",
                        node,
                    )
            case Name():
                pass
            case Call(function) if function == "offset":
                self.fault("offset() stands on its own in the sum: y ~ x + offset(z).", node)
            case Call(function) if function == SMOOTH and not dot_allowed:
                self.fault(f"{render(node)} {ALONE}", node)
            case Call():
                self.expression(node, "a term")
            case Bar():
                self.fault("A random term is added to the rest: + (1 | g); it cannot be part of a product.", node)
            case Binary("**", base, exponent):
                if not (isinstance(exponent, Number) and exponent.value in range(1, MAX_POWER + 1)):
                    self.fault(
                        f"(a + b)^k needs a whole number k from 1 to {MAX_POWER}; a power of a column is I(x^2).",
                        exponent,
                    )
                return [base]
            case Binary(operator, left, right) if operator in ("+", "-", "*", "/", ":", "%in%"):
                below: list[Node] = []
                for side in (left, right):
                    if isinstance(side, Number) and operator in ("+", "-") and side.value in (0, 1):
                        self.fault(
                            "An intercept (0 or 1) stands in the sum itself, not inside a product or after '-'.", side
                        )
                    else:
                        below.append(side)
                return below
            case Number():
                self.fault(
                    f"{render(node)} is not a term; 0 or 1 switch the intercept, arithmetic goes into I(): I(2 * x).",
                    node,
                )
            case Text():
                self.fault(f"A quoted text is not a term; a column is written without quotes, or `{node.value}`.", node)
            case Unary():
                self.fault("A sign cannot stand here; arithmetic goes into I(): I(-x).", node)
            case _:
                self.fault("This is not a term; arithmetic and comparisons go into I(): I(x > 2).", node)
        return []

    def expression(self, node: Node, role: str) -> None:
        alone = role == "a term" and isinstance(node, Call) and node.function == SMOOTH
        self.faults += check_expression(node, role) or (smooth_faults(node) if alone else [])  # type: ignore[arg-type]
        self.faults += misplaced(node) if role == "a term" else misplaced(Unary("+", node, node.position))

    def random_terms(self, bar: Bar) -> list[RandomTerm]:
        part = self.fixed_part(_summands(bar.left), dot_allowed=False)
        if not part.intercept and not part.added:
            self.fault("This random term has no columns; (1 | g) is a random intercept.", bar.left)
        below = walk(bar.right)
        if sum(isinstance(n, Name) for n in below) > MAX_FACTORS or len(below) > 4 * MAX_FACTORS:
            self.fault(f"A grouping factor is made of at most {MAX_FACTORS} columns.", bar.right)
            return []
        groups = self.grouping(bar.right)
        for names in groups:
            repeated = [n for i, n in enumerate(names) if n.name in [m.name for m in names[:i]]]
            if repeated:
                self.fault(f"{repeated[0].name!r} stands twice in one grouping factor.", repeated[0])
                break
        return [
            RandomTerm(
                part,
                tuple(n.name for n in names),
                bar.double,
                tuple(n.position for n in names),
                "us" if bar.structure == "diag" else bar.structure,
            )
            for names in groups
        ]

    def grouping(self, node: Node) -> list[tuple[Name, ...]]:
        match node:
            case Name(".", quoted=False):
                self.fault("'.' cannot be a grouping factor.", node)
                return []
            case Name():
                return [(node,)]
            case Call("factor" | "as.factor" | "C", (Name() as inner,), ()):
                return [(inner,)]
            case Binary(":", left, right):
                return [(*a, *b) for a in self.grouping(left) for b in self.grouping(right)]
            case Binary("/", left, right):
                outer = self.grouping(left)
                deepest = outer[-1] if outer else ()
                return [*outer, *((*inner, *deepest) for inner in self.grouping(right))]
            case Binary("+"):
                self.fault("One random term has one grouping factor; for two write (1 | a) + (1 | b).", node)
            case Binary("*"):
                self.fault("a * b is not a grouping factor; write (1 | a) + (1 | b) + (1 | a:b).", node)
            case _:
                self.fault(
                    f"{render(node)} is not a grouping factor; name a column, a:b or a/b. "
                    "Anything computed goes into a column of the data first.",
                    node,
                )
        return []


def _without(removed: list[Node], added: Node) -> list[Node]:
    """Removed terms, except those that ``added`` brings back."""
    back = expand_node(added)
    kept: list[Node] = []
    for node in removed:
        terms = expand_node(node)
        if back.keys().isdisjoint(terms):
            kept.append(node)
            continue
        for key, (first, *others) in terms.items():
            if key not in back:
                for other in others:
                    first = Binary(":", first, other, node.position)  # noqa: PLW2901
                kept.append(first)
    return kept


def _summands(node: Node) -> list[tuple[str, Node]]:
    """Flatten a sum into (sign, term) pairs, left to right; the operand of a minus stays whole, as in R."""
    summands: list[tuple[str, Node]] = []
    waiting: list[tuple[str, Node]] = [("+", node)]
    while waiting:
        sign, current = waiting.pop()
        match current:
            case Binary("+" | "-" as operator, left, right) if sign == "+":
                waiting += [(operator, right), ("+", left)]
            case Unary(operator, operand) if sign == "+":
                waiting.append((operator, operand))
            case _:
                summands.append((sign, current))
    return summands


def used_columns(spec: ModelSpec) -> dict[str, int]:
    """Map every column in use to its first position; columns only in terms removed by ``-`` are not in use."""
    columns: dict[str, int] = {}
    nodes: list[Node] = [spec.response, *spec.offsets]
    for part in (spec.fixed, *(term.left for term in spec.random), *spec.parts.values()):
        nodes += remaining_atoms(expand(part)).values() if part.removed else part.added
    for node in nodes:
        for name, position in expression_columns(node).items():
            columns.setdefault(name, position)
    for term in spec.random:
        for name, position in zip(term.factors, term.positions, strict=True):
            columns.setdefault(name, position)
    for name, position in ({} if spec.residual is None else spec.residual.columns).items():
        columns.setdefault(name, position)
    return columns


def part_columns(part: FixedPart) -> dict[str, int]:
    """Map every column of ``ziformula`` or ``dispformula`` to its first position in the text of that formula."""
    columns: dict[str, int] = {}
    for node in (*part.added, *part.removed):
        for name, position in expression_columns(node).items():
            columns.setdefault(name, position)
    return columns


def column_names(spec: ModelSpec) -> dict[str, int]:
    """Map every column that the formula names (``.`` excepted) to its first position in the text."""
    columns: dict[str, int] = {}
    nodes: list[Node] = [spec.response, *spec.offsets, *spec.fixed.added, *spec.fixed.removed]
    for term in spec.random:
        nodes += [*term.left.added, *term.left.removed]
    for node in nodes:
        for name, position in expression_columns(node).items():
            columns.setdefault(name, position)
    for term in spec.random:
        for name, position in zip(term.factors, term.positions, strict=True):
            columns.setdefault(name, position)
    return columns
