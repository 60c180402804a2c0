"""Expansion of the operators of a formula to a list of terms, as in R's ``terms.formula``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unimix.errors import DataError
from unimix.formula.parser import Binary, Name, Node, Number, render

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from unimix.formula.terms import FixedPart, ModelSpec

MAX_TERMS = 5_000

Product = tuple[Node, ...]
Terms = dict[frozenset[str], Product]


def expand(part: FixedPart) -> list[Product]:
    """List the terms of a part; each term is the tuple of columns and calls whose product it is.

    Args:
        part: A sum in which ``.`` has already been replaced by columns.

    Returns:
        Terms without repetition, ordered by their number of factors and then as written.

    Raises:
        DataError: If the operators give more than ``MAX_TERMS`` terms.
    """
    terms: Terms = {}
    for node in part.added:
        _add(terms, expand_node(node))
    for node in part.removed:
        for key in expand_node(node):
            terms.pop(key, None)
    return sorted(terms.values(), key=len)


def expand_node(node: Node) -> Terms:
    """Expand one summand; for instance ``a * b`` becomes ``a``, ``b`` and ``a:b``."""
    spine: list[Binary] = []
    while isinstance(node, Binary) and node.operator != "**":
        spine.append(node)
        node = node.left
    if isinstance(node, Binary):
        terms = _power(expand_node(node.left), node.right)
    elif isinstance(node, Name) and node.name == "." and not node.quoted:
        terms = {}
    else:
        terms = {frozenset([render(node)]): (node,)}
    for binary in reversed(spine):
        terms = _combine(binary.operator, terms, expand_node(binary.right))
    return terms


def _combine(operator: str, left: Terms, right: Terms) -> Terms:
    match operator:
        case "+":
            return _add(dict(left), right)
        case "-":
            return {key: term for key, term in left.items() if key not in right}
        case "*":
            return _add(_add(dict(left), right), _cross(left, right))
        case "/":
            whole: Product = ()
            for term in left.values():
                whole = _join(whole, term)
            return _add(dict(left), _cross({frozenset(map(render, whole)): whole}, right))
        case _:  # R reads `a %in% b` as the term a:b
            return _cross(left, right)


def _power(base: Terms, exponent: Node) -> Terms:
    k = int(exponent.value) if isinstance(exponent, Number) else 1
    result = base
    for _ in range(k - 1):
        more = _add(dict(result), _cross(result, base))
        if len(more) == len(result):
            break
        result = more
    return result


def _add(terms: Terms, more: Terms) -> Terms:
    for key, term in more.items():
        terms.setdefault(key, term)
    _limit(len(terms))
    return terms


def _cross(left: Terms, right: Terms) -> Terms:
    crossed: Terms = {}
    for a, first in left.items():
        for b, second in right.items():
            crossed.setdefault(a | b, _join(first, second))
        _limit(len(crossed))
    return crossed


def _join(first: Product, second: Product) -> Product:
    known = {render(node) for node in first}
    return (*first, *(node for node in second if render(node) not in known))


def _limit(count: int) -> None:
    if count > MAX_TERMS:
        raise DataError(
            f"The operators *, / and ^ of the formula give more than {MAX_TERMS} terms; name the terms that you need."
        )


def remaining_atoms(terms: Iterable[Sequence[Node]]) -> dict[str, Node]:
    """Columns and calls that occur in the terms, by canonical text, in order of first appearance."""
    atoms: dict[str, Node] = {}
    for term in terms:
        for node in term:
            atoms.setdefault(render(node), node)
    return atoms


def all_atoms(spec: ModelSpec) -> list[Node]:
    """Columns and calls that occur in the terms of any part of a model, without the response and the groups."""
    parts = (spec.fixed, *(term.left for term in spec.random), *spec.parts.values())
    return [node for part in parts for node in remaining_atoms(expand(part)).values()]
