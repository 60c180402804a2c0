"""The interpreted formula, which is the same for every engine."""

from __future__ import annotations

from dataclasses import dataclass, replace

from unimix.formula.parser import Binary, Name, Node, Unary, quote, render


@dataclass(frozen=True)
class FixedPart:
    """A sum of terms with or without an intercept.

    Attributes:
        intercept: Whether the sum has an intercept, a column of ones.
        added: Terms in formula syntax, in the order written.
        removed: Terms removed by ``-``.
    """

    intercept: bool
    added: tuple[Node, ...]
    removed: tuple[Node, ...] = ()

    def text(self) -> str:
        """Canonical text, with the intercept written out."""
        parts = ["1" if self.intercept else "0"]
        parts += [f"+ {_term(t)}" for t in self.added]
        parts += [f"- {_term(t)}" for t in self.removed]
        return " ".join(parts)


def _term(node: Node) -> str:
    text = render(node)
    return f"({text})" if isinstance(node, Unary) or (isinstance(node, Binary) and node.operator in "+-") else text


@dataclass(frozen=True)
class RandomTerm:
    """Effects that vary over the levels of one grouping factor.

    Attributes:
        left: Columns whose effects vary.
        factors: Columns whose combination is the grouping factor (one column, or several for ``a:b``).
        independent: True for ``||``: every column has its own variance, and the correlations are zero.
        positions: Index of the first character of each factor's name in the formula.
        structure: Name of the covariance structure, us (unstructured) or one of
            :mod:`unimix.formula.covariance_names`.
    """

    left: FixedPart
    factors: tuple[str, ...]
    independent: bool
    positions: tuple[int, ...] = ()
    structure: str = "us"

    @property
    def group(self) -> str:
        """Name of the grouping factor; a nested ``a/b`` is called ``b:a``, as in lme4."""
        return ":".join(self.factors)

    def text(self) -> str:
        """Canonical text, with parentheses."""
        bar = "||" if self.independent else "|"
        head = "" if self.structure == "us" else self.structure
        return f"{head}({self.left.text()} {bar} {':'.join(quote(f) for f in self.factors)})"


@dataclass(frozen=True)
class ResidualTerm:
    """Covariance of the residuals of a linear model: ``ar1(time | id)``.

    Attributes:
        given: The text as it was written.
        structure: Name of the covariance structure, us (unstructured) or one of
            :mod:`unimix.formula.covariance_names`.
        column: The column whose values are the times (visits, places) within a group; None for ``1``.
        factors: Columns whose combination is the group within which residuals are correlated.
        positions: Index of the first character of each of these names in the text: the times', then the factors'.
    """

    given: str
    structure: str
    column: str | None
    factors: tuple[str, ...]
    positions: tuple[int, ...] = ()

    @property
    def columns(self) -> dict[str, int]:
        """Position in the text of every column in use, by name."""
        names = ([] if self.column is None else [self.column]) + list(self.factors)
        return dict(reversed(list(zip(names, self.positions, strict=True))))

    def text(self) -> str:
        """Canonical text."""
        left = "1" if self.column is None else quote(self.column)
        return f"{self.structure}({left} | {':'.join(quote(f) for f in self.factors)})"


@dataclass(frozen=True)
class ModelSpec:
    """The interpretation of a whole formula.

    Attributes:
        formula: Text of the formula as given.
        response: Expression on the left of ``~``.
        fixed: The fixed part.
        random: Random terms in the order written; ``a/b`` is expanded to ``a`` and ``b:a``.
        offsets: Arguments of ``offset()``.
        zero: Terms of the probability of a structural zero, or None.
        dispersion: Terms of the dispersion, or None for a constant dispersion.
        texts: Texts of ``ziformula`` and ``dispformula``: pairs of a name, ``zero`` or ``dispersion``, and a text.
        residual: Covariance of the residuals, or None for independent ones with one variance.
    """

    formula: str
    response: Node
    fixed: FixedPart
    random: tuple[RandomTerm, ...]
    offsets: tuple[Node, ...]
    zero: FixedPart | None = None
    dispersion: FixedPart | None = None
    texts: tuple[tuple[str, str], ...] = ()
    residual: ResidualTerm | None = None

    @property
    def parts(self) -> dict[str, FixedPart]:
        """Fixed parts of the model other than the mean, by name: ``zero`` and ``dispersion``."""
        given = {"zero": self.zero, "dispersion": self.dispersion}
        return {name: part for name, part in given.items() if part is not None}

    def text(self) -> str:
        """Canonical text of the formula, in one line."""
        parts = [self.fixed.text()]
        parts += [f"offset({render(o)})" for o in self.offsets]
        parts += [term.text() for term in self.random]
        more = "" if self.residual is None else f", residual ~ {self.residual.text()}"
        more += "".join(f", {name} ~ {part.text()}" for name, part in self.parts.items())
        return f"{render(self.response)} ~ {' + '.join(parts)}{more}"

    def has_dot(self) -> bool:
        """Whether the fixed part contains ``.``, which means all other columns."""
        return any(isinstance(t, Name) and t.name == "." and not t.quoted for t in self.fixed.added)

    def without_dispersion(self) -> ModelSpec:
        """Return the formula with a constant dispersion."""
        return replace(self, dispersion=None, texts=tuple(t for t in self.texts if t[0] != "dispersion"))

    def with_dot(self, columns: tuple[str, ...]) -> ModelSpec:
        """Replace ``.`` by these columns."""
        added = [
            new
            for term in self.fixed.added
            for new in (
                [Name(c, term.position, quoted=True) for c in columns]
                if isinstance(term, Name) and term.name == "." and not term.quoted
                else [term]
            )
        ]
        return replace(self, fixed=FixedPart(self.fixed.intercept, tuple(added), self.fixed.removed))
