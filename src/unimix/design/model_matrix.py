"""Columns of a fixed part, for the fitted data and for new data alike.

:mod:`unimix.design.evaluate` evaluates columns and calls, :mod:`unimix.formula.marginality` determines the terms in
which a factor keeps all its levels, and :mod:`unimix.formula.contrasts` codes it in the others. This module multiplies
them.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from unimix.design.aliasing import row_blocks
from unimix.design.evaluate import Environment, FactorValue, MatrixValue, Value, evaluate, plain_factor
from unimix.errors import DataError, listing
from unimix.formula.contrasts import KINDS, Contrast, coding_matrix, indicated_levels
from unimix.formula.expand import Product, expand, remaining_atoms
from unimix.formula.marginality import Piece, coded_products
from unimix.formula.parser import Node, name_of, render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unimix.formula.terms import FixedPart

FloatArray = npt.NDArray[np.float64]

# Largest size of one matrix in numbers (4 GB); a factor with that many levels is meant as a grouping factor.
MAX_CELLS = 500_000_000
TREATMENT = Contrast("treatment")


@dataclass(frozen=True)
class Coded:
    """Coded columns of one column of the data, or of one call, in a product.

    Attributes:
        names: Names of the k columns.
        values: Numbers, shape (n,) or (n, k); for a factor the level index per row, shape (n,).
        indicated: The k levels that have an indicator column, for a factor coded by indicators; otherwise None.
        coding: Rows of the coding matrix per level, shape (levels, k), for a factor coded otherwise; otherwise None.
    """

    names: tuple[str, ...]
    values: npt.NDArray[np.generic]
    indicated: Sequence[int] | None = None
    coding: FloatArray | None = None

    def rows(self, part: slice) -> list[FloatArray]:
        """The k columns in a slice of the rows."""
        values = self.values[part]
        if self.indicated is not None:
            return [np.asarray(values == level, dtype=np.float64) for level in self.indicated]
        if self.coding is not None:
            return [column[values] for column in self.coding.T]
        return [np.asarray(v, dtype=np.float64) for v in (values.T if values.ndim == 2 else values[None])]


def build_columns(
    part: FixedPart, env: Environment, contrasts: Mapping[str, Contrast], n_rows: int
) -> tuple[FloatArray, tuple[str, ...]]:
    """Build the columns of a fixed part, or of the left side of a random term.

    Args:
        part: Terms in which ``.`` has already been replaced by columns.
        env: Columns without missing values, and learnt states.
        contrasts: Coding of each factor column; factors not named here have treatment coding.
        n_rows: Number of rows.

    Returns:
        Columns, shape (n, p), and their p names, in the order of the terms.

    Raises:
        DataError: If a term cannot be evaluated, names of columns are not unique, or the matrix would be too large.
    """
    matrix, names, _ = built_columns(part, env, contrasts, n_rows)
    return matrix, names


def built_columns(
    part: FixedPart, env: Environment, contrasts: Mapping[str, Contrast] | Contrast, n_rows: int
) -> tuple[FloatArray, tuple[str, ...], tuple[int, ...]]:
    """Build the columns as :func:`build_columns` does, with the index of each column's term; -1 for the intercept.

    A single contrast codes every factor, whatever the formula says.
    """
    terms = expand(part)
    atoms = remaining_atoms(terms)
    values = {text: evaluate(node, env) for text, node in atoms.items()}
    factors = {text: value for text, value in values.items() if isinstance(value, FactorValue)}
    _check_size(terms, values, n_rows)
    products = [[render(node) for node in term] for term in terms]
    owned = [
        (owner, product)
        for owner, products_of in enumerate(coded_products(products, factors, intercept=part.intercept))
        for product in products_of
    ]
    pieces = dict.fromkeys(piece for _, product in owned for piece in product)
    coded = {piece: _coded(piece, atoms[piece[0]], values[piece[0]], contrasts) for piece in pieces}
    names, owners = ["Intercept"] * part.intercept, [-1] * part.intercept
    for owner, product in owned:
        added = [":".join(reversed(c)) for c in itertools.product(*(coded[p].names for p in reversed(product)))]
        names += added
        owners += [owner] * len(added)
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(
            f"Several columns of the model would be called {listing(map(repr, twice))}. Rename the column or the level "
            "that is called like another term."
        )
    matrix = np.ones((n_rows, len(names)))
    for rows in row_blocks(n_rows, 1):
        _fill(matrix[rows, int(part.intercept) :], [p for _, p in owned], {p: c.rows(rows) for p, c in coded.items()})
    return _finite(matrix, names), tuple(names), tuple(owners)


def column_terms(part: FixedPart, names: Sequence[str], owners: Sequence[int]) -> dict[str, str]:
    """Name of the term to which each column belongs, by name of the column; the intercept is left out.

    Args:
        part: Terms of the columns.
        names: Names of the columns.
        owners: Index of each column's term, as :func:`built_columns` returns it.
    """
    terms = [":".join(map(name_of, product)) for product in expand(part)]
    return {name: terms[owner] for name, owner in zip(names, owners, strict=True) if owner >= 0}


def _fill(matrix: FloatArray, products: Sequence[Sequence[Piece]], columns: Mapping[Piece, list[FloatArray]]) -> None:
    """Multiply the columns of each product; those of its first factor vary fastest."""
    j = 0
    with np.errstate(all="ignore"):
        for product in products:
            single = [columns[p][0] for p in product if len(columns[p]) == 1]
            common = [functools.reduce(np.multiply, single)] if single else []
            several = [columns[p] for p in reversed(product) if len(columns[p]) != 1]
            for chosen in itertools.product(*several):
                matrix[:, j] = functools.reduce(np.multiply, [*reversed(chosen), *common])
                j += 1


def _coded(piece: Piece, node: Node, value: Value, contrasts: Mapping[str, Contrast] | Contrast) -> Coded:
    """Code one factor, number or call; raise a DataError if a coding does not fit the levels of its factor."""
    text, by_contrasts = piece
    shown = name_of(node)
    if isinstance(value, np.ndarray):
        return Coded((shown,), value)
    if isinstance(value, MatrixValue):
        return Coded(tuple(f"{shown}[{label}]" for label in value.labels), value.values)
    if len(value.levels) < 2:
        only = f"only the level {value.levels[0]!s}" if value.levels else "no level"
        raise DataError(f"The factor {text} has {only} in the rows used; leave it out, or check the data.")
    if isinstance(contrasts, Contrast):
        contrast = contrasts
    else:
        contrast = value.contrast or contrasts.get(plain_factor(node) or "") or TREATMENT
    indicated = indicated_levels(contrast, value.levels, text)
    coding, fields = (None, None) if indicated is not None else coding_matrix(contrast, value.levels, text)
    if not by_contrasts:
        indicated, coding, fields = list(range(len(value.levels))), None, tuple(map(str, value.levels))
    elif indicated is not None:
        fields = tuple(f"{KINDS[contrast.kind]}.{value.levels[k]!s}" for k in indicated)
    return Coded(tuple(f"{shown}[{field}]" for field in fields or ()), value.codes, indicated, coding)


def _finite(matrix: FloatArray, names: Sequence[str]) -> FloatArray:
    """Return the matrix; raise a DataError if some of its numbers are not finite."""
    finite = np.isfinite(matrix.sum()) or np.isfinite(matrix).all(axis=0)
    bad = [name for name, fine in zip(names, np.broadcast_to(finite, len(names)), strict=True) if not fine]
    if bad:
        raise DataError(
            f"The products {listing(bad)} exceed the range of numbers; divide the columns by a constant first."
        )
    return matrix


def _check_size(terms: Sequence[Product], values: Mapping[str, Value], n_rows: int) -> None:
    """Raise a DataError for factors with so many levels that their columns would fill the memory."""
    if all(isinstance(v, np.ndarray) for v in values.values()):
        return

    def width(text: str) -> int:
        match values[text]:
            case FactorValue(_, levels):
                return len(levels)
            case MatrixValue(_, labels):
                return len(labels)
            case _:
                return 1

    widths = {":".join(map(name_of, term)): math.prod(width(render(node)) for node in term) for term in terms}
    if sum(widths.values()) * n_rows > MAX_CELLS:
        widest = max(widths, key=widths.__getitem__)
        raise DataError(
            f"{widest} has {widths[widest]} columns for {n_rows} rows, too large for a fixed effect or a slope. "
            "A factor with many levels is a grouping factor: (1 | factor)."
        )
