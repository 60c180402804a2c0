"""Encoding: what was learnt from the data while a design was built, and its application to new data.

The encoding corresponds to formulaic's ``ModelSpec``: :func:`unimix.design.design.build_design` learns it, and
:meth:`Encoding.transform` applies it, without the engine and without the fitted data. The formula is parsed once; a
saved encoding holds the text of the formula and parses it when it is first needed.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from unimix.design.aliasing import unlike
from unimix.design.digests import DataDigest
from unimix.design.encoded_dispersion import EncodedDispersion
from unimix.design.evaluate import Environment, FactorValue, evaluate
from unimix.design.frames import index_hint
from unimix.design.grouping_factors import RowLevels, combine, name_levels
from unimix.design.level_means import LevelMeans, are_means_of, mean_hint, needed_columns, read_with_means
from unimix.design.model_matrix import build_columns, built_columns, column_terms
from unimix.design.new_data import NewRows, match_levels, match_number
from unimix.design.ordered_response import codes_of
from unimix.design.typed_columns import (
    Column,
    NumericColumn,
    as_factor,
    as_numbers,
    column_labels,
    n_rows,
    read_columns,
)
from unimix.errors import DataError, did_you_mean, listing
from unimix.formula.allowed import expression_columns, expression_variables, part_variables
from unimix.formula.contrasts import Contrast
from unimix.formula.expand import expand, remaining_atoms
from unimix.formula.functions import decode_state, fitted_range
from unimix.formula.interpreter import parse, used_columns
from unimix.formula.parser import Call, render, walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from unimix.formula.terms import ModelSpec

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
JsonLevel = StrictBool | StrictInt | StrictFloat | StrictStr
Index = Annotated[int, Field(ge=0, lt=2**31)]
CHANGED = "The saved result is damaged or was changed: {}. Fit the model again, or take an unchanged copy."


class EncodedBlock(BaseModel):
    """Random term and columns of one block."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    term: Index
    columns: tuple[Index, ...]


def _decodable(state: dict[str, Any]) -> dict[str, Any]:
    decode_state(state)
    return state


class Encoding(BaseModel):
    """Everything that was learnt from the data while the design was built.

    Attributes:
        formula: The formula as given.
        dot_columns: Columns that replaced ``.``.
        numeric: Names of the numeric columns in use.
        levels: Levels of each categorical column, in order.
        contrasts: Coding of each factor column.
        states: States learnt by ``poly``, ``scale`` and splines, by canonical text of the call.
        level_means: Means per level for ``between(x, g)`` and ``within(x, g)``, by the text ``between(x, g)``.
        kept: Indices of the fixed-effects columns that were kept, which have full rank.
        aliases: The columns left out as combinations of those kept: one tuple of weights per column left out.
        alias_sizes: Largest absolute value of each of them in the data that were fitted.
        blocks: Columns of every random block.
        offset_column: Column named by ``offset=``, if any.
        offset_given: Whether ``offset=`` was given as an array.
        weights_column: Column named by ``weights=``, if any.
        ziformula: Formula of the probability of a structural zero, if any.
        categories: Categories of an ordered response, in order; then thresholds take the place of the intercept, the
            first column, which is not among ``kept``.
        zero_kept: Indices of the columns of ``ziformula`` that were kept.
        dispersion: Formula of the dispersion, if any.
        residual: Covariance of the residuals, if any, as it was written.
        data: Digests of the columns, by which the fitted data are recognised.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    formula: str
    dot_columns: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    levels: dict[str, tuple[JsonLevel, ...]] = {}
    contrasts: dict[str, Contrast] = {}
    states: dict[str, Annotated[dict[str, Any], AfterValidator(_decodable)]] = {}
    level_means: dict[str, LevelMeans] = {}
    kept: tuple[Index, ...] = ()
    aliases: tuple[tuple[float, ...], ...] = ()
    alias_sizes: tuple[float, ...] = ()
    blocks: tuple[EncodedBlock, ...] = ()
    offset_column: str | None = None
    offset_given: bool = False
    weights_column: str | None = None
    ziformula: str | None = None
    zero_kept: tuple[Index, ...] = ()
    dispersion: EncodedDispersion | None = None
    residual: str | None = None
    categories: tuple[JsonLevel, ...] = ()
    data: DataDigest = DataDigest()

    def __getstate__(self) -> dict[Any, Any]:
        """State for pickling: the fields without cached values, because the parsed formula may be very deep."""
        state = super().__getstate__()
        return {**state, "__dict__": {k: v for k, v in state["__dict__"].items() if k in type(self).model_fields}}

    def with_parsed(self, spec: ModelSpec) -> Self:
        """Copy of the encoding that holds the parsed formula.

        Args:
            spec: Parsed formula with its ``.`` expanded; an encoding ignores its formula of the dispersion.
        """
        self.__dict__["spec"] = spec.without_dispersion()
        return self

    def with_digests(self, columns: Mapping[str, Column], groups: Mapping[str, IntArray]) -> Self:
        """Copy of the encoding with the digests of the fitted data.

        Args:
            columns: All columns of the design, with the rows used only.
            groups: Level index per row of each grouping factor, shape (n,).
        """
        data = {n: c for n, c in columns.items() if n not in self.groupings}
        return self.changed(data=DataDigest.of(data, groups))

    # -- the formula ----------------------------------------------------------------------------

    @cached_property
    def spec(self) -> ModelSpec:
        """Parsed formula, with columns in place of ``.`` and without a formula of the dispersion.

        Raises:
            DataError: If the encoding was saved, and what it holds is not what the formula uses.
        """
        spec = parse(self.formula, self.ziformula, residual=self.residual).with_dot(self.dot_columns)
        coded = {*self.numeric, *self.levels}
        absent = [n for n in dict.fromkeys(used_columns(spec)) if n not in coded]
        if absent or any(block.term >= len(spec.random) for block in self.blocks):
            raise DataError(CHANGED.format(f"it does not know {listing(absent) or 'the random terms'} of its formula"))
        if not are_means_of(self.level_means, spec):
            raise DataError(CHANGED.format("its means of levels are not those of its formula"))
        return spec

    @cached_property
    def predictors(self) -> tuple[str, ...]:
        """Columns of the fixed part, the zero inflation and the offset, in the order of the formula.

        ``between(x, g)`` and ``within(x, g)`` need the column of means called ``between(x, g)``, and not g.
        """
        parts = (self.spec.fixed, *self.spec.parts.values())
        names = [n for part in parts for n in part_variables(part)]
        names += [n for node in self.spec.offsets for n in expression_variables(node)]
        return tuple(dict.fromkeys([*names, *([self.offset_column] if self.offset_column else [])]))

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """The predictors and the columns of the random terms."""
        return self._variables(range(len(self.spec.random)))

    def _variables(self, terms: Iterable[int]) -> tuple[str, ...]:
        """The predictors and the columns of the random terms with these indices."""
        random = [self.spec.random[i] for i in sorted(terms)]
        names = [n for term in random for n in (*part_variables(term.left), *term.factors)]
        return tuple(dict.fromkeys([*self.predictors, *names]))

    @cached_property
    def groupings(self) -> frozenset[str]:
        """Columns that occur only in grouping factors."""
        slopes = {n for term in self.spec.random for n in part_variables(term.left)}
        return frozenset(self.variables) - set(self.predictors) - slopes

    def slopes(self, group: str) -> list[str]:
        """Columns whose effects vary over a grouping factor."""
        terms = [t for t in self.spec.random if t.group == group]
        return list(dict.fromkeys(n for term in terms for n in part_variables(term.left)))

    def environment(self, columns: Mapping[str, Column]) -> Environment:
        """Environment that evaluates the formula on these columns with the learnt states."""
        return Environment(columns, {k: decode_state(s) for k, s in self.states.items()}, learning=False)

    def without_given_offset(self) -> Self:
        """Copy of the encoding without an offset that was given as an array."""
        return self.changed(offset_given=False) if self.offset_given else self

    def changed(self, **fields: Any) -> Self:
        """Copy with new ``kept``, ``blocks``, ``offset_given`` or ``data``, which shares the parsed formula."""
        return self.model_copy(update=fields).with_parsed(self.spec)

    # -- new data -------------------------------------------------------------------------------

    def needed(self, names: Iterable[str], data: Any) -> list[str]:
        """Columns that new data must have for columns of the design; absent means of levels need their groups."""
        return needed_columns(tuple(names), self.level_means, column_labels(data))

    def transform(self, data: Any, *, with_groups: bool | Sequence[bool], strict: bool = True) -> NewRows:
        """Make the columns of the design for new data.

        Args:
            data: New rows, in any form that ``fit`` takes; the response is not needed.
            with_groups: Whether to make the random-effects columns and the level labels too, for all blocks or for
                each; a block that is not made has zeros and empty labels, and needs no columns of the data.
            strict: Whether rows of a level without a mean of ``between(x, g)`` are refused, or else not complete.

        Raises:
            DataError: If columns are absent or of another type, or a predictor has unknown levels.
        """
        if self.offset_given:
            raise DataError(
                "The model was fitted with offset= as an array, whose values for the new rows are unknown. Fit with "
                "offset='column' or offset(column) in the formula, then new data can carry it."
            )
        wanted = [with_groups] * len(self.blocks) if isinstance(with_groups, bool) else list(with_groups)
        used = {block.term for block, wish in zip(self.blocks, wanted, strict=True) if wish}
        columns, complete = self._complete_columns(data, self._variables(used), strict=strict)
        rows = np.flatnonzero(complete)
        env, coding, n = self.environment({k: c.take(rows) for k, c in columns.items()}), self.contrasts, len(rows)
        x, names = build_columns(self.spec.fixed, env, coding, n)
        zero = None
        if self.spec.zero is not None:
            zero, _ = _select(build_columns(self.spec.zero, env, coding, n), self.zero_kept)
        z: list[FloatArray] = []
        z_names: list[tuple[str, ...]] = []
        row_levels: list[RowLevels] = []
        blocks: dict[int, tuple[tuple[FloatArray, tuple[str, ...]], RowLevels]] = {}
        for block, needed in zip(self.blocks, wanted, strict=True) if used else ():
            if not needed:
                z.append(np.zeros((n, len(block.columns))))
                row_levels.append(RowLevels(("",), np.zeros(n, dtype=np.int64)))
                z_names.append(())
                continue
            if block.term not in blocks:
                term = self.spec.random[block.term]
                codes, levels = combine([as_factor(env.columns[f], f) for f in term.factors])
                blocks[block.term] = build_columns(term.left, env, coding, n), RowLevels(name_levels(levels), codes)
            built, block_levels = blocks[block.term]
            values, of_block = _select(built, block.columns)
            z.append(values)
            z_names.append(of_block)
            row_levels.append(block_levels)
        kept, _ = _select((x, names), self.kept)
        return NewRows(
            complete=complete,
            x=kept,
            offset=self._offset(env, n),
            z=tuple(z),
            levels=tuple(row_levels),
            names=(tuple(names), *z_names),
            zero=zero,
            lacking=self._lacking(x, kept),
        )

    def columns(self, data: Any, rows: IntArray) -> dict[str, Column]:
        """Variables of the model in the given rows of the fitted data, by name."""
        return {n: c.take(rows) for n, c in self._read(data, self.variables, strict=False).items()}

    def residual_columns(self, data: Any, rows: IntArray) -> dict[str, Column]:
        """Columns of the residuals' groups and times in the given rows of the fitted data, by name."""
        return self.named(data, rows, () if self.spec.residual is None else tuple(self.spec.residual.columns))

    def named(self, data: Any, rows: IntArray, names: Sequence[str]) -> dict[str, Column]:
        """Columns of these names in the given rows of the fitted data, which the design has beside its variables."""
        return {n: self._match(n, c).take(rows) for n, c in read_columns(data, names).items()} if names else {}

    def column_terms(self, columns: Mapping[str, Column]) -> dict[str, str]:
        """Name of the term of each fixed-effects column, by name of the column; one row of the variables is used."""
        first = self.environment({n: c.take(np.arange(1)) for n, c in columns.items()})
        _, names, owners = built_columns(self.spec.fixed, first, self.contrasts, 1)
        return column_terms(self.spec.fixed, names, owners)

    def digest(self, data: Any, rows: IntArray, groups: Mapping[str, IntArray]) -> DataDigest:
        """Digests of other data, for comparison with those of the fitted data.

        Args:
            data: Data in any form that ``fit`` takes; response and weights may be absent.
            rows: Index of each row used, shape (n,).
            groups: Level index per row of each grouping factor, shape (n,).
        """
        present = set(column_labels(data))
        names = [n for n in (*self.numeric, *self.levels) if n in present and n not in self.groupings]
        read = read_columns(data, names)
        return DataDigest.of({n: self._match(n, c).take(rows) for n, c in read.items()}, groups)

    def response(self, data: Any) -> FloatArray | None:
        """Response in new data, shape (n,), NaN for missing values; None if a column of the response is absent.

        An ordered response is the index of the category, from 0, and NaN for a category that was not fitted.

        Args:
            data: New rows, in any form that ``fit`` takes.
        """
        columns = self._response_columns(data)
        if columns is None:
            return None
        missing = np.any([c.missing for c in columns.values()], axis=0)
        rows = np.flatnonzero(~missing)
        env = self.environment({k: c.take(rows) for k, c in columns.items()})
        node = self.spec.response
        parts = node.arguments if isinstance(node, Call) and node.function == "cbind" else (node,)
        values = [evaluate(part, env) for part in parts]
        if self.categories:
            observed = np.full(len(missing), np.nan)
            observed[rows] = codes_of(values[0], self.categories)
            return observed
        plain = [v.codes.astype(np.float64) if isinstance(v, FactorValue) else np.asarray(v) for v in values]
        observed = np.full(len(missing), np.nan)
        observed[rows] = plain[0] if len(plain) == 1 else plain[0] / (plain[0] + plain[1])
        return observed

    def trials(self, data: Any) -> FloatArray | None:
        """Trials of a response ``cbind(successes, failures)``, shape (n,); None if the new data lack its columns."""
        node = self.spec.response
        if not (isinstance(node, Call) and node.function == "cbind"):
            return None
        columns = self._response_columns(data)
        if columns is None:
            return None
        env = self.environment(columns)
        return np.asarray(sum(np.asarray(evaluate(part, env), dtype=np.float64) for part in node.arguments))

    def weights(self, data: Any) -> FloatArray | None:
        """Weights in new data, the column named by ``weights=``, shape (n,); None if the model has no such column.

        Raises:
            DataError: If the column is absent, or has missing or non-positive values.
        """
        name = self.weights_column
        if name is None:
            return None
        if name not in column_labels(data):
            raise DataError(
                f"The model was fitted with weights={name!r}, and a new response has the weight or the trials of its "
                f"row: add a column {name!r} to the new data; 1 is one trial, or a response of weight 1."
            )
        column = read_columns(data, [name])[name]
        numbers = as_numbers(column) if isinstance(column, NumericColumn) else None
        if numbers is None or column.missing.any() or not (numbers > 0).all():
            raise DataError(f"The column {name!r} of the new data has weights: positive numbers, none of them missing.")
        return numbers

    def beyond_splines(self, data: Any) -> list[str]:
        """Notes on rows of new data where a spline is extrapolated, because they lie outside the fitted range.

        Args:
            data: New rows, whose columns have been transformed before.
        """
        notes = []
        columns, _ = self._complete_columns(data, self.predictors)
        env = self.environment(columns)
        atoms = remaining_atoms(expand(self.spec.fixed)).values()
        for node in dict.fromkeys(n for atom in atoms for n in walk(atom) if isinstance(n, Call)):
            state = env.states.get(render(node), {})
            bounds = fitted_range(node.function, state)
            if bounds is None:
                continue
            low, high, how = bounds
            values = np.asarray(evaluate(node.arguments[0], env))
            outside = int(((values < low) | (values > high)).sum())
            if outside:
                notes.append(
                    f"{outside} of {len(values)} rows lie outside the range of {render(node.arguments[0])} that was "
                    f"fitted, {low:g} to {high:g}: {render(node)} is extrapolated there{how}."
                )
        return notes

    # -- helpers --------------------------------------------------------------------------------

    def _match(self, name: str, column: Column) -> Column:
        """Convert a new column to the type and levels of the fitted one; grouping factors may have new levels."""
        if name in self.groupings:
            return column
        return match_number(name, column) if name in self.numeric else match_levels(name, column, self.levels[name])

    def _read(self, data: Any, used: Sequence[str], *, strict: bool) -> dict[str, Column]:
        """Named columns of the design for new data, with the means of their levels."""
        read, made = read_with_means(data, used, self.level_means, self.spec, strict=strict)
        return {n: made[n] if n in made else self._match(n, read[n]) for n in used}

    def _complete_columns(
        self, data: Any, used: tuple[str, ...], *, strict: bool = True
    ) -> tuple[dict[str, Column], npt.NDArray[np.bool_]]:
        """Named columns of new data, and a mask of the rows without missing values in them."""
        labels, needed = column_labels(data), self.needed(used, data)
        absent = [n for n in needed if n not in labels]
        if absent:
            hint = index_hint(data, absent) or did_you_mean(absent[0], labels)
            hint += mean_hint(used, self.level_means, absent)
            raise DataError(f"The new data lack {listing(absent)}.{hint} The model uses: {listing(needed)}.")
        columns = self._read(data, used, strict=strict)
        complete = np.ones(len(next(iter(columns.values())).missing) if columns else n_rows(data), dtype=bool)
        for column in columns.values():
            complete &= ~column.missing
        for name, column in columns.items():
            if isinstance(column, NumericColumn) and np.isinf(column.values).any():
                raise DataError(f"{name!r} holds infinite values.")
        return columns, complete

    def _response_columns(self, data: Any) -> dict[str, Column] | None:
        names = list(expression_columns(self.spec.response))
        if any(n not in column_labels(data) for n in names):
            return None
        return {n: self._match(n, c) for n, c in read_columns(data, names).items()}

    def _offset(self, env: Environment, n: int) -> FloatArray:
        offset = np.zeros(n)
        for node in self.spec.offsets:
            offset = offset + np.asarray(evaluate(node, env), dtype=np.float64)
        if self.offset_column is not None:
            extra = env.columns[self.offset_column]
            offset = offset + (extra.values if isinstance(extra, NumericColumn) else np.nan)
        return offset

    def _lacking(self, x: FloatArray, kept: FloatArray) -> npt.NDArray[np.bool_] | None:
        """Mask, shape (n,), of rows in which a dropped column is not the fitted combination of the kept columns."""
        spanned = {*self.kept, 0} if self.categories else set(self.kept)
        dependent = [j for j in range(x.shape[1]) if j not in spanned]
        if self.categories:
            kept = np.column_stack([np.ones(len(x)), kept])
        if not self.aliases or len(dependent) != len(self.aliases):
            return None
        fitted = np.array(self.alias_sizes) if self.alias_sizes else np.zeros(len(dependent))
        return unlike(x[:, dependent], kept, np.array(self.aliases).T, fitted)


def _select(built: tuple[FloatArray, tuple[str, ...]], kept: Sequence[int]) -> tuple[FloatArray, tuple[str, ...]]:
    """Some of the columns and their names."""
    columns, names = built
    if max(kept, default=-1) >= len(names):
        raise DataError(CHANGED.format(f"its formula has {len(names)} columns, and it keeps number {max(kept) + 1}"))
    return columns[:, list(kept)], tuple(names[j] for j in kept)


__all__ = ["CHANGED", "EncodedBlock", "Encoding", "JsonLevel"]
