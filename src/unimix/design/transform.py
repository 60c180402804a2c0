"""Rows of a fitted design for new data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unimix.design.design import with_dot
from unimix.design.evaluate import Environment, FactorValue, evaluate, expression_columns
from unimix.design.grouping_factors import combine, name_levels
from unimix.design.model_matrix import build_columns
from unimix.design.typed_columns import (
    Column,
    FactorColumn,
    Level,
    NumericColumn,
    as_factor,
    as_numbers,
    column_labels,
    n_rows,
    read_columns,
)
from unimix.errors import DataError, did_you_mean, listing
from unimix.formula.contrasts import Contrast
from unimix.formula.expand import expand, remaining_atoms
from unimix.formula.interpreter import column_names, parse
from unimix.formula.parser import Call
from unimix.formula.transforms import decode_state

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unimix.design.arrays import Design
    from unimix.design.encoding import DesignRecipe
    from unimix.formula.parser import Node
    from unimix.formula.terms import FixedPart, ModelSpec

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class NewRows:
    """New data in the shape of a fitted design.

    Attributes:
        complete: Which rows have no missing value among the columns used, shape (n,).
        x: Fixed-effects columns of the complete rows, shape (m, p).
        offset: Shape (m,).
        z: Per block, shape (m, q); empty where the group level was not asked for.
        labels: Per block, the level label of each complete row.
        zero: Columns of the zero inflation, shape (m, k), or None.
        lacking: Rows that the estimates do not determine, because they need a column that was left out as a combination
            of others, shape (m,).
    """

    complete: npt.NDArray[np.bool_]
    x: FloatArray
    offset: FloatArray
    z: tuple[FloatArray, ...]
    labels: tuple[tuple[Level, ...], ...]
    zero: FloatArray | None = None
    lacking: npt.NDArray[np.bool_] | None = None

    def check_estimable(self, aliased: Sequence[str]) -> None:
        """Refuse rows that the estimates do not determine.

        Args:
            aliased: Names of the columns that were left out.

        Raises:
            DataError: With how many.
        """
        if self.lacking is not None and self.lacking.any():
            raise DataError(
                f"{int(self.lacking.sum())} of {len(self.lacking)} rows cannot be predicted: in the data that were "
                f"fitted columns depend on others and were left out ({listing(aliased)}), and these rows do not "
                "depend like that. Leave out the terms, or the combinations of levels, that have no data of their own."
            )


def design_rows(recipe: DesignRecipe, data: Any, *, with_groups: bool) -> NewRows:
    """Make the columns of a fitted model from new data.

    Args:
        recipe: From the fitted design.
        data: New rows, in any form that ``fit`` takes; the response is not needed.
        with_groups: Also make the random-effects columns and the level labels.

    Raises:
        DataError: For absent columns, unknown levels of a predictor, columns of another type.
    """
    spec = with_dot(parse(recipe.formula, recipe.ziformula), recipe.dot_columns)
    if recipe.offset_given:
        raise DataError(
            "The model was fitted with offset= as an array, whose values for the new rows are unknown. Fit with "
            "offset='column' or offset(column) in the formula, then new data can carry it."
        )
    used = _used_names(spec, recipe, with_groups=with_groups)
    absent = [n for n in used if n not in column_labels(data)]
    if absent:
        hint = did_you_mean(absent[0], column_labels(data))
        raise DataError(f"The new data lack {listing(absent)}.{hint} The model uses: {listing(used)}.")
    columns = read_columns(data, used)
    n = len(next(iter(columns.values())).missing) if columns else n_rows(data)
    predictors = set(_used_names(spec, recipe, with_groups=False))
    atoms = [node for t in spec.random for node in remaining_atoms(expand(t.left)).values()] if with_groups else []
    slopes = {n for node in atoms for n in expression_columns(node)}
    matched: dict[str, Column] = {}
    for name, column in columns.items():
        grouping_only = name not in predictors | slopes
        matched[name] = column if grouping_only else _match(name, column, recipe)
    complete = np.ones(n, dtype=bool)
    for column in matched.values():
        complete &= ~column.missing
    for name, column in matched.items():
        if isinstance(column, NumericColumn) and np.isinf(column.values).any():
            raise DataError(f"{name!r} holds infinite values.")
    rows = np.flatnonzero(complete)
    matched = {k: c.take(rows) for k, c in matched.items()}
    states = {k: decode_state(s) for k, s in recipe.states.items()}
    env = Environment(matched, states, learning=False)
    coding = {k: Contrast.from_json(v) for k, v in recipe.contrasts.items()}
    x, _ = build_columns(spec.fixed, env, coding, len(rows))
    zero = None
    if spec.zero is not None:
        zero = build_columns(spec.zero, env, coding, len(rows))[0][:, list(recipe.zero_kept)]
    offset = np.zeros(len(rows))
    for node in spec.offsets:
        offset = offset + np.asarray(evaluate(node, env), dtype=np.float64)
    if recipe.offset_column is not None:
        extra = matched[recipe.offset_column]
        offset = offset + (extra.values if isinstance(extra, NumericColumn) else np.nan)
    z: list[FloatArray] = []
    labels: list[tuple[Level, ...]] = []
    if with_groups:
        cache: dict[int, tuple[FloatArray, tuple[Level, ...]]] = {}
        for block in recipe.blocks:
            if block.term not in cache:
                cache[block.term] = _random_rows(spec, block.term, env, coding=coding, columns=columns, rows=rows)
            values, names = cache[block.term]
            z.append(values[:, list(block.columns)])
            labels.append(names)
    own = x[:, list(recipe.kept)]
    return NewRows(complete, own, offset, tuple(z), tuple(labels), zero, _lacking(recipe, x, own))


def _lacking(recipe: DesignRecipe, x: FloatArray, own: FloatArray) -> npt.NDArray[np.bool_] | None:
    left = [j for j in range(x.shape[1]) if j not in set(recipe.kept)]
    if not recipe.aliases or len(left) != len(recipe.aliases):
        return None
    expected = own @ np.array(recipe.aliases).T
    size = np.maximum(np.abs(x[:, left]).max(axis=0, initial=0.0), np.abs(expected).max(axis=0, initial=0.0))
    return np.asarray((np.abs(x[:, left] - expected) > 1e-6 * size).any(axis=1))


def predictor_names(recipe: DesignRecipe) -> list[str]:
    """Columns that the fixed part uses, in the order of the formula."""
    return _used_names(with_dot(parse(recipe.formula, recipe.ziformula), recipe.dot_columns), recipe, with_groups=False)


def slope_names(recipe: DesignRecipe, group: str) -> list[str]:
    """Columns whose effects vary over a grouping factor."""
    terms = [t for t in parse(recipe.formula).random if t.group == group]
    nodes = [node for t in terms for node in remaining_atoms(expand(t.left)).values()]
    return list(dict.fromkeys(n for node in nodes for n in expression_columns(node)))


def used_columns(recipe: DesignRecipe, data: Any, rows: npt.NDArray[np.int64]) -> dict[str, Column]:
    """The columns of a fitted model in these rows of the data that were fitted, by name."""
    spec = with_dot(parse(recipe.formula, recipe.ziformula), recipe.dot_columns)
    predictors = set(_used_names(spec, recipe, with_groups=False))
    found = read_columns(data, _used_names(spec, recipe, with_groups=True))
    return {n: (_match(n, c, recipe) if n in predictors else c).take(rows) for n, c in found.items()}


def response_values(recipe: DesignRecipe, data: Any) -> FloatArray | None:
    """The response in new data, shape (n,); NaN where it is missing, None where a column of it is absent.

    Args:
        recipe: From the fitted design.
        data: New rows, in any form that ``fit`` takes.
    """
    node = parse(recipe.formula).response
    names = list(expression_columns(node))
    if any(n not in column_labels(data) for n in names):
        return None
    columns = {n: _match(n, c, recipe) for n, c in read_columns(data, names).items()}
    missing = np.any([c.missing for c in columns.values()], axis=0)
    rows = np.flatnonzero(~missing)
    states = {k: decode_state(s) for k, s in recipe.states.items()}
    env = Environment({k: c.take(rows) for k, c in columns.items()}, states, learning=False)
    parts = node.arguments if isinstance(node, Call) and node.function == "cbind" else (node,)
    values = [evaluate(part, env) for part in parts]
    plain = [v.codes.astype(np.float64) if isinstance(v, FactorValue) else np.asarray(v) for v in values]
    found = np.full(len(missing), np.nan)
    found[rows] = plain[0] if len(plain) == 1 else plain[0] / (plain[0] + plain[1])
    return found


def trial_numbers(recipe: DesignRecipe, data: Any) -> FloatArray | None:
    """Trials of a response ``cbind(successes, failures)``, shape (n,); None where new data do not have them."""
    node = parse(recipe.formula).response
    if not (isinstance(node, Call) and node.function == "cbind"):
        return None
    names = list(expression_columns(node))
    if any(n not in column_labels(data) for n in names):
        return None
    columns = {n: _match(n, c, recipe) for n, c in read_columns(data, names).items()}
    env = Environment(columns, {k: decode_state(s) for k, s in recipe.states.items()}, learning=False)
    return np.asarray(sum(np.asarray(evaluate(part, env), dtype=np.float64) for part in node.arguments))


def new_weights(recipe: DesignRecipe, data: Any) -> FloatArray | None:
    """The column of new data that ``weights=`` named, shape (n,); None where nothing was named.

    Raises:
        DataError: If it is absent, missing or not positive.
    """
    name = recipe.weights_column
    if name is None:
        return None
    if name not in column_labels(data):
        raise DataError(
            f"The model was fitted with weights={name!r}, and a new response has the weight or the trials of its row: "
            f"add a column {name!r} to the new data; 1 is one trial, or a response of weight 1."
        )
    column = read_columns(data, [name])[name]
    found = as_numbers(column) if isinstance(column, NumericColumn) else None
    if found is None or column.missing.any() or not (found > 0).all():
        raise DataError(f"The column {name!r} of the new data has weights: positive numbers, none of them missing.")
    return found


def _random_rows(
    spec: ModelSpec,
    index: int,
    env: Environment,
    *,
    coding: Mapping[str, Contrast],
    columns: Mapping[str, Column],
    rows: Any,
) -> tuple[FloatArray, tuple[Level, ...]]:
    term = spec.random[index]
    values, _ = build_columns(term.left, env, coding, len(rows))
    codes, levels = combine([as_factor(columns[f].take(rows), f) for f in term.factors])
    names = name_levels(levels)
    return values, tuple(names[c] for c in codes)


def _used_names(spec: ModelSpec, recipe: DesignRecipe, *, with_groups: bool) -> list[str]:
    def in_part(part: FixedPart) -> list[str]:
        return [n for node in remaining_atoms(expand(part)).values() for n in expression_columns(node)]

    nodes: list[Node] = list(spec.offsets)
    names = in_part(spec.fixed) + [n for part in spec.parts.values() for n in in_part(part)]
    names += [n for node in nodes for n in expression_columns(node)]
    names += [recipe.offset_column] if recipe.offset_column else []
    if with_groups:
        names += [n for term in spec.random for n in (*in_part(term.left), *term.factors)]
    return list(dict.fromkeys(names))


def _match(name: str, column: Column, recipe: DesignRecipe) -> Column:
    """Give a new column the type and the levels it had when the model was fitted."""
    if name in recipe.numeric:
        if isinstance(column, FactorColumn):
            if not (column.codes >= 0).any():
                return NumericColumn(np.full(len(column.codes), np.nan))
            raise DataError(f"{name!r} was numeric when the model was fitted and is categorical in the new data.")
        return column
    known = recipe.levels[name]
    if (
        isinstance(column, NumericColumn)
        and not np.isnan(column.values).all()
        and all(isinstance(v, str) for v in known)
    ):
        raise DataError(f"{name!r} was categorical when the model was fitted and is numeric in the new data.")
    factor = as_factor(column, name)
    index = {str(level): i for i, level in enumerate(known)}
    present = {int(c) for c in np.unique(factor.codes) if c >= 0}
    strange = [str(level) for i, level in enumerate(factor.levels) if i in present and str(level) not in index]
    if strange:
        raise DataError(
            f"{name!r} has levels in the new data that the model was not fitted to: {listing(strange)}. "
            f"Known: {listing(map(str, known))}."
        )
    table = np.array([index.get(str(level), -1) for level in factor.levels] + [-1], dtype=np.int64)
    return FactorColumn(table[factor.codes], known)


def frame_of(design: Design) -> dict[str, Any]:
    """The columns that were fitted, as a mapping of lists."""
    return {
        name: [c.levels[k] for k in c.codes] if isinstance(c, FactorColumn) else as_exact(c)
        for name, c in design.columns.items()
    }


def as_exact(column: NumericColumn) -> Any:
    """Its numbers, whole ones without loss."""
    return as_numbers(column) if column.whole is None else column.whole


__all__ = ["NewRows", "as_exact", "column_names", "design_rows", "frame_of", "response_values"]
