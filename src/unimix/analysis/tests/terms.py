"""The terms of a fixed part: their columns, which of them contain others, and sum-to-zero coding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design
from unimix.design.model_matrix import built_columns
from unimix.formula.allowed import expression_variables
from unimix.formula.contrasts import Contrast
from unimix.formula.expand import expand
from unimix.formula.level_means import level_mean_calls, mean_name
from unimix.formula.parser import Node, name_of, render

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Terms:
    """The terms of a design's fixed part, without the intercept.

    Attributes:
        names: Names of the terms, such as ``Time``, ``Cu``, ``Time:Cu``.
        atoms: Factors of each term's product.
        variables: Columns of the design that each term uses; ``within(x, g)`` uses x, and not the mean that is taken
            away, so that it shares no column with ``between(x, g)``.
        columns: Columns of X that belong to each term.
        to_sums: Matrix from the design's coefficients to those under sum-to-zero coding of all factors, shape (k, p).
        sum_columns: Rows of ``to_sums`` that belong to each term.
        to_treatments: The same matrix for treatment coding; None if that spans other columns.
        treatment_columns: Rows of ``to_treatments`` that belong to each term.
        same_span: Whether sum-to-zero coding spans the same columns, so that its coefficients exist.
    """

    names: tuple[str, ...]
    atoms: tuple[frozenset[str], ...]
    variables: tuple[frozenset[str], ...]
    columns: tuple[tuple[int, ...], ...]
    to_sums: FloatArray
    sum_columns: tuple[tuple[int, ...], ...]
    to_treatments: FloatArray | None
    treatment_columns: tuple[tuple[int, ...], ...]
    same_span: bool

    def above(self, index: int) -> tuple[int, ...]:
        """Indices of the terms that contain the given term."""
        smaller = self.atoms[index]
        return tuple(i for i, atoms in enumerate(self.atoms) if smaller < atoms)


def _own_variables(node: Node) -> set[str]:
    calls = level_mean_calls(node)
    taken_away = {mean_name(c) for c in calls if c.function == "within"}
    return set(expression_variables(node)) - taken_away.difference(
        mean_name(c) for c in calls if c.function == "between"
    )


def terms_of(fit: FittedModel, design: Design) -> Terms:
    """The terms of a result's fixed part."""
    encoding, fixed = fit.model.encoding, fit.spec.fixed
    products = expand(fixed)
    env = encoding.environment(design.columns)
    _, _, owners = built_columns(fixed, env, encoding.contrasts, design.n)
    kept = [owners[j] for j in encoding.kept]

    def recoded(name: str) -> tuple[FloatArray, tuple[tuple[int, ...], ...], bool]:
        """Matrix to the coefficients under another coding, the columns of each term, and whether they exist."""
        x, _, owners = built_columns(fixed, env, Contrast(name), design.n)
        scale = np.maximum(np.abs(x).max(axis=0, initial=0.0), 1e-300)
        turned, _, rank, _ = np.linalg.lstsq(x / scale, design.x)
        residuals = np.abs(design.x - (x / scale) @ turned).max(axis=0, initial=0.0)
        same = bool(
            rank == design.p == x.shape[1] and (residuals <= 1e-8 * np.abs(design.x).max(axis=0, initial=0.0)).all()
        )
        columns = tuple(tuple(j for j, o in enumerate(owners) if o == i) for i in range(len(products)))
        return np.asarray(turned / scale[:, None]), columns, same

    to_sums, sum_columns, same = recoded("sum")
    to_treatments, treatment_columns, exist = recoded("treatment") if same else (to_sums, (), False)
    return Terms(
        names=tuple(":".join(map(name_of, product)) for product in products),
        atoms=tuple(frozenset(render(node) for node in product) for product in products),
        variables=tuple(frozenset(n for node in product for n in _own_variables(node)) for product in products),
        columns=tuple(tuple(j for j, o in enumerate(kept) if o == i) for i in range(len(products))),
        to_sums=to_sums,
        sum_columns=sum_columns,
        to_treatments=to_treatments if exist else None,
        treatment_columns=treatment_columns,
        same_span=same,
    )


def taking_its_place(fit: FittedModel, design: Design, index: int) -> list[str]:
    """Names of the terms whose columns were left out because they depend on those of the given term.

    Without the term they would be estimated, so that the model without it is not the model without its columns.
    """
    if not fit.model.aliased:
        return []
    encoding, fixed = fit.model.encoding, fit.spec.fixed
    env, kept = encoding.environment(design.columns), list(encoding.kept)
    x, _, owners = built_columns(fixed, env, encoding.contrasts, design.n)
    x = x / np.maximum(np.abs(x).max(axis=0, initial=0.0), 1e-300)
    rest = x[:, [j for j in kept if owners[j] != index]]
    lost = [j for j in range(x.shape[1]) if j not in kept and owners[j] not in (index, -1)]
    off = np.abs(x[:, lost] - rest @ np.linalg.lstsq(rest, x[:, lost])[0]).max(axis=0, initial=0.0)
    products = expand(fixed)
    needed = dict.fromkeys(owners[j] for j, distance in zip(lost, off, strict=True) if distance > 1e-8)
    return [":".join(map(name_of, products[o])) for o in needed]


def random_products(fit: FittedModel, design: Design) -> list[list[tuple[str, tuple[int, ...]]]]:
    """For each block, the terms that no other term of the block contains, with their columns; without the intercept.

    Args:
        fit: The result.
        design: The design that was fitted.
    """
    encoding = fit.model.encoding
    env, coding = encoding.environment(design.columns), encoding.contrasts
    products_of = []
    for block in encoding.blocks:
        effects = fit.spec.random[block.term].left
        products = expand(effects)
        atoms = [frozenset(render(node) for node in product) for product in products]
        _, _, owners = built_columns(effects, env, coding, design.n)
        kept = [owners[j] for j in block.columns]
        terms = []
        for i, product in enumerate(products):
            columns = tuple(j for j, o in enumerate(kept) if o == i)
            if columns and not any(atoms[i] < atoms[o] for o in set(kept) if o >= 0):
                name = ":".join(map(name_of, product))
                terms.append((name, columns))
        products_of.append(terms)
    return products_of


def picked(columns: tuple[int, ...], p: int) -> FloatArray:
    """Rows of the identity, shape (len(columns), p)."""
    return np.asarray(np.eye(p)[list(columns)])


__all__ = ["Terms", "picked", "random_products", "taking_its_place", "terms_of"]
