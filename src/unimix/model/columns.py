"""Columns of a fixed part, for the data and for new data alike, coded by formulaic.

formulaic sees aliases only, never the user's text: it expands the terms, decides where a factor needs all
its levels (marginality), and codes contrasts. Values come from :mod:`unimix.model.expressions`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.errors import DataError
from unimix.model.contrasts import Contrast, formulaic_contrast
from unimix.model.expressions import Environment, FactorValue, MatrixValue, Value, evaluate
from unimix.model.syntax import Binary, Call, Name, Node, Number, render
from unimix.model.terms import FixedPart

FloatArray = npt.NDArray[np.float64]


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
    if not part.added:
        ones = np.ones((n_rows, 1)) if part.intercept else np.empty((n_rows, 0))
        return ones, ("Intercept",) * int(part.intercept)
    values: dict[str, Value] = {}
    for node in _atoms(part):
        text = render(node)
        if text not in values:
            values[text] = evaluate(node, env)
    if all(isinstance(t, Name) and isinstance(values[render(t)], np.ndarray) for t in part.added) and not part.removed:
        return _plain(part, values, n_rows)
    return _by_formulaic(part, values, contrasts, n_rows)


def _plain(part: FixedPart, values: Mapping[str, Value], n_rows: int) -> tuple[FloatArray, tuple[str, ...]]:
    """Only numeric columns: nothing to code."""
    names = list(dict.fromkeys(render(t) for t in part.added))
    columns = [np.ones(n_rows)] * int(part.intercept) + [np.asarray(values[n]) for n in names]
    shown = tuple(_unquoted(n) for n in names)
    return np.column_stack(columns), ("Intercept",) * int(part.intercept) + shown


def _unquoted(text: str) -> str:
    return text[1:-1] if text.startswith("`") else text


def _atoms(part: FixedPart) -> list[Node]:
    found: list[Node] = []
    waiting: list[Node] = [*reversed((*part.added, *part.removed))]
    while waiting:
        node = waiting.pop()
        match node:
            case Binary("**", base, _):
                waiting.append(base)
            case Binary(_, left, right):
                waiting += (right, left)
            case Name() | Call():
                found.append(node)
            case _:
                raise DataError(f"{render(node)} is not a term.")
    return found


def _by_formulaic(
    part: FixedPart, values: Mapping[str, Value], contrasts: Mapping[str, Contrast], n_rows: int
) -> tuple[FloatArray, tuple[str, ...]]:
    from formulaic import model_matrix

    prefix = _fresh_prefix(values)
    alias = {text: f"{prefix}{i}_" for i, text in enumerate(values)}
    frame: dict[str, Any] = {f"{prefix}rows_": np.zeros(n_rows)}
    context: dict[str, Any] = {}
    for text, value in values.items():
        if isinstance(value, np.ndarray):
            frame[alias[text]] = value
        else:
            context[alias[text]] = _coded(value, contrasts.get(_unquoted(text)), text)
    formula = " + ".join(["1" if part.intercept else "0", *(_aliased(t, alias) for t in part.added)])
    formula += "".join(f" - {_aliased(t, alias)}" for t in part.removed)
    matrix = model_matrix(formula, pd.DataFrame(frame), context=context, na_action="ignore", output="numpy")
    originals = {a: _unquoted(text) for text, a in alias.items()}
    names = tuple(re.sub(rf"{prefix}\d+_", lambda m: originals[m.group()], str(c)) for c in matrix.model_spec.column_names)
    array = np.asarray(matrix, dtype=np.float64)
    return array.reshape(n_rows, len(names)), names


def _fresh_prefix(values: Mapping[str, Value]) -> str:
    """A prefix that no level contains, so that names can be put back safely."""
    texts = [str(level) for v in values.values() if isinstance(v, FactorValue) for level in v.levels]
    prefix = "uq"
    while any(prefix in t for t in texts):
        prefix += "q"
    return prefix


def _coded(value: FactorValue | MatrixValue, contrast: Contrast | None, text: str) -> Any:
    from formulaic.materializers.types import FactorValues
    from formulaic.transforms import C

    if isinstance(value, MatrixValue):
        columns = {label: value.values[:, j] for j, label in enumerate(value.labels)}
        return FactorValues(columns, kind="numerical", spans_intercept=False)
    if len(value.levels) < 2:
        only = f"only the level {value.levels[0]!s}" if value.levels else "no level"
        raise DataError(f"The factor {text} has {only} in the rows used; leave it out, or check the data.")
    labels = [str(level) for level in value.levels]
    series = pd.Series(pd.Categorical.from_codes(value.codes, categories=labels))
    coding = value.contrast or contrast
    return C(series, formulaic_contrast(coding, value.levels, text)) if coding else C(series)


def _aliased(node: Node, alias: Mapping[str, str]) -> str:
    match node:
        case Binary("**", base, Number(k)):
            return f"({_aliased(base, alias)})**{int(k)}"
        case Binary(operator, left, right):
            joint = ":" if operator == "%in%" else operator  # R reads `a %in% b` as the term a:b
            return f"({_aliased(left, alias)} {joint} {_aliased(right, alias)})"
        case _:
            return alias[render(node)]
