"""Smaller random parts of a formula: without correlations, or without one of the effects that vary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from unimix.formula.expand import expand
from unimix.formula.parser import quote, render
from unimix.formula.terms import ModelSpec


@dataclass(frozen=True)
class VaryingEffects:
    """The effects of one random term.

    Attributes:
        factors: Columns whose combination is the grouping factor.
        intercept: Whether the intercept varies.
        products: The other effects, each as the texts of the columns and calls whose product it is.
        independent: Whether there are no correlations (``||``).
    """

    factors: tuple[str, ...]
    intercept: bool
    products: tuple[tuple[str, ...], ...]
    independent: bool

    @property
    def group(self) -> str:
        """Name of the grouping factor."""
        return ":".join(self.factors)

    def text(self) -> str:
        """The term as it is written in a formula."""
        left = " + ".join(["1" if self.intercept else "0", *(":".join(p) for p in self.products)])
        return f"({left} {'||' if self.independent else '|'} {':'.join(quote(f) for f in self.factors)})"


@dataclass(frozen=True)
class Removal:
    """One step to a smaller random part.

    Attributes:
        position: Position of the random term that changes.
        effect: Name of the effect that is left out; None for the correlations.
        terms: All random terms afterwards.
    """

    position: int
    effect: str | None
    terms: tuple[VaryingEffects, ...]


def varying_effects(spec: ModelSpec) -> tuple[VaryingEffects, ...]:
    """The random terms of a formula."""
    return tuple(
        VaryingEffects(
            term.factors,
            term.left.intercept,
            tuple(tuple(render(node) for node in product) for product in expand(term.left)),
            term.independent,
        )
        for term in spec.random
    )


def formula_with(spec: ModelSpec, terms: tuple[VaryingEffects, ...]) -> str:
    """The formula with other random terms."""
    parts = [spec.fixed.text(), *(f"offset({render(o)})" for o in spec.offsets), *(t.text() for t in terms)]
    return f"{render(spec.response)} ~ {' + '.join(parts)}"


def removals(terms: tuple[VaryingEffects, ...]) -> Iterator[Removal]:
    """Every step to a smaller random part: the correlations of a term, or an effect that no other effect contains.

    An intercept is never left out: rows of one level depend on each other by the design.
    """
    for k, term in enumerate(terms):
        if not term.independent and len(term.products) + term.intercept > 1:
            yield Removal(k, None, (*terms[:k], replace(term, independent=True), *terms[k + 1 :]))
        for product in term.products:
            if any(set(product) < set(other) for other in term.products):
                continue
            rest = tuple(p for p in term.products if p != product)
            if not rest and not term.intercept:
                others = [t for j, t in enumerate(terms) if j != k and t.factors == term.factors]
                if not others:
                    continue  # the last effect of its grouping factor
                yield Removal(k, ":".join(product), (*terms[:k], *terms[k + 1 :]))
                continue
            # one effect alone has no correlations
            independent = term.independent and len(rest) + term.intercept > 1
            smaller = replace(term, products=rest, independent=independent)
            yield Removal(k, ":".join(product), (*terms[:k], smaller, *terms[k + 1 :]))


__all__ = ["Removal", "VaryingEffects", "formula_with", "removals", "varying_effects"]
