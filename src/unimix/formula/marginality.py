"""Marginality: in which terms a factor keeps all its levels, and in which it is coded by contrasts.

A factor with k levels spans k columns, of which one is the sum of all, the intercept. Where the terms before it span
that already, k - 1 contrasts are left. For products the same holds of each factor: beside ``a`` and ``b``, ``a:b`` is a
product of contrasts; beside ``a`` alone it is a product of all levels of ``a`` with contrasts of ``b``. This is the
algorithm of patsy (https://patsy.readthedocs.io/en/latest/formulas.html#redundancy) and formulaic.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

Piece = tuple[str, bool]
"""A column or call of a product by its text, and whether it is coded by contrasts."""
Space = frozenset[Piece]
"""A product of such pieces; the empty one is the intercept."""


def coded_products(
    products: Iterable[Sequence[str]], factors: Collection[str], *, intercept: bool
) -> list[list[tuple[Piece, ...]]]:
    """Per product the products of columns that it adds to those before it.

    Args:
        products: Terms of a formula, each as the texts that it multiplies.
        factors: Which of the texts are categorical.
        intercept: Whether a column of ones stands before the terms.

    Returns:
        One list per term, empty where the terms before it span all of it.
    """
    spanned: set[Space] = {frozenset()} if intercept else set()
    found: list[list[tuple[Piece, ...]]] = []
    for product in products:
        choices = [((text, True), None) if text in factors else ((text, False),) for text in product]
        spaces = [frozenset(p for p in choice if p is not None) for choice in itertools.product(*choices)]
        added = [space for space in spaces if space not in spanned]
        spanned.update(added)
        found.append([tuple((t, c) for t in product for c in (True, False) if (t, c) in s) for s in _joined(added)])
    return found


def _joined(spaces: Iterable[Space]) -> list[Space]:
    """The same columns in fewer spaces: a space without a factor and the one with its contrasts have all levels."""
    kept: list[Space] = []
    for space in sorted(spaces, key=len):
        for smaller in kept:
            more = space - smaller
            if len(more) == 1 and len(space) == len(smaller) + 1:
                ((text, contrasts),) = more
                if contrasts:
                    kept = _joined([*(s for s in kept if s != smaller), space - more | {(text, False)}])
                    break
        else:
            kept.append(space)
    return kept


__all__ = ["Piece", "coded_products"]
