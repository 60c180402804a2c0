"""Columns of a fixed part, for the data and for new data alike, coded by formulaic.

formulaic sees aliases only, never the user's text: it expands the terms, decides where a factor needs all
its levels (marginality), and codes contrasts. Values come from :mod:`unimix.design.evaluate`.
"""

from __future__ import annotations

import gc
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.design.aliasing import row_blocks
from unimix.design.evaluate import Environment, FactorValue, MatrixValue, Value, evaluate, plain_factor
from unimix.errors import DataError, listing
from unimix.formula.contrasts import Contrast, formulaic_contrast
from unimix.formula.expand import Product, expand, remaining_atoms
from unimix.formula.parser import Name, Node, render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unimix.formula.terms import FixedPart

FloatArray = npt.NDArray[np.float64]

# Numbers in one matrix (4 GB): beyond that a factor with very many levels is meant as a grouping factor.
MAX_CELLS = 500_000_000

# uq3_ is the fourth column or call, uq3_[T.uql0_] its first level, uq3_[uqc0_] the first label of its custom contrast.
_ALIAS = re.compile(r"uq(\d+)_(?:\[([^\[\]:]*)uq([lc])(\d+)_\])?")


def build_columns(
    part: FixedPart, env: Environment, contrasts: Mapping[str, Contrast], n_rows: int
) -> tuple[FloatArray, tuple[str, ...]]:
    """Evaluate a fixed part (or the left side of a random term).

    Args:
        part: Terms; ``.`` must be expanded already.
        env: Columns without missing values, and remembered states.
        contrasts: Coding per factor column; treatment coding elsewhere.
        n_rows: Number of rows.

    Returns:
        Columns (n, p) and their names, in formulaic's order.

    Raises:
        DataError: If a term cannot be evaluated.
    """
    matrix, names, _ = built_columns(part, env, contrasts, n_rows)
    return matrix, names


def built_columns(
    part: FixedPart, env: Environment, contrasts: Mapping[str, Contrast], n_rows: int
) -> tuple[FloatArray, tuple[str, ...], tuple[int, ...]]:
    """As :func:`build_columns`, and for each column its term's place in ``expand(part)``; -1 for the intercept."""
    terms = expand(part)
    if not terms:
        ones = np.ones((n_rows, 1)) if part.intercept else np.empty((n_rows, 0))
        return ones, ("Intercept",) * int(part.intercept), (-1,) * int(part.intercept)
    atoms = remaining_atoms(terms)
    values = {text: evaluate(node, env) for text, node in atoms.items()}
    if all(isinstance(v, np.ndarray) for v in values.values()):
        matrix, names = _numeric_products(part.intercept, terms, values, n_rows)
        owners = (*(-1,) * int(part.intercept), *range(len(terms)))
    else:
        _check_size(terms, values, n_rows)
        matrix, names, owners = _by_formulaic(
            part.intercept, terms, values, atoms=atoms, contrasts=contrasts, n_rows=n_rows
        )
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(
            f"Several columns of the model would be called {listing(map(repr, twice))}. Rename the column or the level "
            "that is called like another term."
        )
    return matrix, names, owners


def _numeric_products(
    intercept: bool, terms: Sequence[Product], values: Mapping[str, Value], n_rows: int
) -> tuple[FloatArray, tuple[str, ...]]:
    """Only numeric columns and their products: nothing to code."""
    columns = [np.ones(n_rows)] * int(intercept)
    for term in terms:
        texts = [render(node) for node in term]
        with np.errstate(all="ignore"):
            column = np.asarray(values[texts[0]])
            for text in texts[1:]:
                column = column * np.asarray(values[text])
        columns.append(column)
    names = tuple(":".join(_shown(node) for node in term) for term in terms)
    return _finite(np.column_stack(columns), ("Intercept",) * int(intercept) + names)


def _finite(matrix: FloatArray, names: tuple[str, ...]) -> tuple[FloatArray, tuple[str, ...]]:
    bad = [] if np.isfinite(matrix.sum()) else [names[j] for j in np.flatnonzero(~np.isfinite(matrix).all(axis=0))]
    if bad:
        raise DataError(
            f"The products {listing(bad)} exceed the range of numbers; divide the columns by a constant first."
        )
    return matrix, names


def _shown(node: Node) -> str:
    """How a column or a call is called in results: without backticks."""
    return node.name if isinstance(node, Name) else render(node)


def _check_size(terms: Sequence[Product], values: Mapping[str, Value], n_rows: int) -> None:
    def width(text: str) -> int:
        match values[text]:
            case FactorValue(_, levels):
                return len(levels)
            case MatrixValue(_, labels):
                return len(labels)
            case _:
                return 1

    widths = {":".join(map(_shown, term)): math.prod(width(render(node)) for node in term) for term in terms}
    if sum(widths.values()) * n_rows > MAX_CELLS:
        widest = max(widths, key=widths.__getitem__)
        raise DataError(
            f"{widest} has {widths[widest]} columns for {n_rows} rows, too large for a fixed effect or a slope. "
            "A factor with many levels is a grouping factor: (1 | factor)."
        )


def _by_formulaic(
    intercept: bool,
    terms: Sequence[Product],
    values: Mapping[str, Value],
    *,
    atoms: Mapping[str, Node],
    contrasts: Mapping[str, Contrast],
    n_rows: int,
) -> tuple[FloatArray, tuple[str, ...], tuple[int, ...]]:
    from formulaic import Formula, model_matrix
    from formulaic.parser.types import Factor, Term

    coded: dict[str, Contrast | None] = {
        text: (value.contrast or contrasts.get(plain_factor(atoms[text]) or ""))
        if isinstance(value, FactorValue)
        else None
        for text, value in values.items()
    }
    alias = {text: f"uq{i}_" for i, text in enumerate(values)}
    # Terms and not text: nothing is parsed, and every factor is looked up by its alias, never evaluated.
    ones = [Term([Factor("1", eval_method="literal")])] * int(intercept)
    products = [Term([Factor(alias[render(node)], eval_method="lookup") for node in term]) for term in terms]

    def block(part: slice) -> Any:
        frame: dict[str, Any] = {"uqrows_": np.zeros(part.stop - part.start)}
        context: dict[str, Any] = {}
        for text, value in values.items():
            if isinstance(value, np.ndarray):
                frame[alias[text]] = value[part]
            else:
                context[alias[text]] = _coded(value, coded[text], text, part)
        with np.errstate(all="ignore"):
            return model_matrix(
                Formula([*ones, *products]), pd.DataFrame(frame), context=context, na_action="ignore", output="numpy"
            )

    parts = list(row_blocks(n_rows, 1)) or [slice(0, 0)]
    matrix = block(parts[0])
    shown = [_shown(node) for node in atoms.values()]
    found = list(values.values())
    contrast_of = list(coded.values())

    def original(match: re.Match[str]) -> str:
        atom, before, kind, place = match.groups()
        if kind is None:
            return shown[int(atom)]
        value, contrast = found[int(atom)], contrast_of[int(atom)]
        if kind == "c" and contrast:
            return f"{shown[int(atom)]}[{before}{contrast.label(int(place))}]"
        levels = value.levels if isinstance(value, FactorValue) else ()
        return f"{shown[int(atom)]}[{before}{levels[int(place)]}]"

    names = tuple(_ALIAS.sub(original, str(c)) for c in matrix.model_spec.column_names)
    array = np.empty((n_rows, len(names)))
    array[parts[0]] = np.asarray(matrix, dtype=np.float64).reshape(-1, len(names))
    for part in parts[1:]:
        gc.collect(1)  # formulaic's objects refer to each other in circles: what a block needed stays until then
        array[part] = block(part)
    owners = [-1] * len(names)
    for index, product in enumerate(products):
        for j in matrix.model_spec.term_indices[product]:
            owners[j] = index
    return *_finite(array, names), tuple(owners)


def _coded(value: FactorValue | MatrixValue, contrast: Contrast | None, text: str, part: slice) -> Any:
    from formulaic.materializers.types import FactorValues
    from formulaic.transforms import C

    if isinstance(value, MatrixValue):
        columns = dict(zip(value.labels, np.transpose(value.values)[:, part], strict=True))
        return FactorValues(columns, kind="numerical", spans_intercept=False)
    if len(value.levels) < 2:
        only = f"only the level {value.levels[0]!s}" if value.levels else "no level"
        raise DataError(f"The factor {text} has {only} in the rows used; leave it out, or check the data.")
    # Levels go by number: formulaic leaves out columns whose names begin with two underscores.
    levels = pd.Index([f"uql{i}_" for i in range(len(value.levels))])
    series = pd.Series(pd.Categorical.from_codes(value.codes[part], categories=levels))
    return C(series, formulaic_contrast(contrast, value.levels, text)) if contrast else C(series)
