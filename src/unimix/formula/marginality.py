"""Marginality: the terms in which a factor keeps all its levels, and those in which contrasts code it.

The indicators of a factor with k levels span k dimensions, and their sum is the intercept. If the preceding terms
span the intercept already, the factor adds k - 1 contrasts. The same rule holds for each factor of a product: beside
``a`` and ``b``, ``a:b`` is a product of contrasts; beside ``a`` alone it is a product of all levels of ``a`` with
contrasts of ``b``. This is the algorithm of patsy
(https://patsy.readthedocs.io/en/latest/formulas.html#redundancy) and formulaic.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

Piece = tuple[str, bool]
"""Text of a column or call in a product, and whether it is coded by contrasts."""
Space = frozenset[Piece]
"""Product of such pieces; the empty product is the intercept."""


def coded_products(
    products: Iterable[Sequence[str]], factors: Collection[str], *, intercept: bool
) -> list[list[tuple[Piece, ...]]]:
    """Find for each term the products of columns that it adds to the preceding terms.

    Args:
        products: Terms of a formula, each as the texts of its columns and calls.
        factors: Texts that are categorical.
        intercept: Whether a column of ones precedes the terms.

    Returns:
        One list per term; the list is empty if the preceding terms span the term.
    """
    spanned: set[Space] = {frozenset()} if intercept else set()
    coded: list[list[tuple[Piece, ...]]] = []
    for product in products:
        choices = [((text, True), None) if text in factors else ((text, False),) for text in product]
        spaces = [frozenset(p for p in choice if p is not None) for choice in itertools.product(*choices)]
        added = [space for space in spaces if space not in spanned]
        spanned.update(added)
        coded.append([tuple((t, c) for t in product for c in (True, False) if (t, c) in s) for s in _joined(added)])
    return coded


def _joined(spaces: Iterable[Space]) -> list[Space]:
    """Merge pairs of spaces: a space without a factor and the space with its contrasts give the one with all levels."""
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
