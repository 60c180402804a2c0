"""Construction of the Design, the plain arrays that every engine receives, from a formula and data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from unimix.design.aliasing import independent_columns
from unimix.design.arrays import AuxiliaryDesign, Design, RandomBlock
from unimix.design.complete_rows import codings, complete_rows, dropped_note, numeric_extra, read_extra, used_levels
from unimix.design.encoded_dispersion import EncodedDispersion
from unimix.design.encoding import EncodedBlock, Encoding
from unimix.design.estimability import (
    check_estimable,
    check_infinite,
    check_magnitudes,
    check_many_levels,
    check_names,
    many_variances_note,
    numbers_as_text,
    offset_note,
)
from unimix.design.evaluate import Environment, evaluate
from unimix.design.grouping_factors import combine, name_levels
from unimix.design.level_means import learn_level_means, mean_calls
from unimix.design.model_matrix import build_columns, built_columns, column_terms
from unimix.design.modelled_variances import check_variances
from unimix.design.ordered_response import check_intercept
from unimix.design.relationships import related
from unimix.design.residual_block import residual_block
from unimix.design.response import read_response
from unimix.design.row_labels import row_labels
from unimix.design.smooths import smooths_of
from unimix.design.structured_times import check_times, coordinates_of
from unimix.design.typed_columns import (
    Column,
    FactorColumn,
    NumericColumn,
    as_factor,
    column_labels,
    drop_unused,
    read_columns,
)
from unimix.distributions.family import Cumulative, Family, FamilyLike, as_family
from unimix.errors import DataError, OptionError, listing
from unimix.formula.allowed import plain_factor
from unimix.formula.contrasts import Contrast
from unimix.formula.expand import all_atoms
from unimix.formula.functions import encode_state
from unimix.formula.interpreter import column_names, part_columns, used_columns
from unimix.formula.parser import Call, render
from unimix.formula.terms import FixedPart, ModelSpec

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
ColumnOrArray = str | npt.ArrayLike | None


def build_design(  # noqa: PLR0915  one step after the other
    spec: ModelSpec,
    data: Any,
    *,
    weights: ColumnOrArray = None,
    offset: ColumnOrArray = None,
    contrasts: Mapping[str, object] | None = None,
    missing: str = "drop",
    family: FamilyLike = "gaussian",
    sigma: float | None = None,
    relationship: Mapping[str, Any] | None = None,
) -> Design:
    """Build the arrays of a model.

    Args:
        spec: Formula as :func:`unimix.formula.interpreter.parse` returns it.
        data: Any data that :func:`unimix.design.typed_columns.read_columns` reads; they are never modified.
        weights: Precision weights, as a column name or an array of shape (n,).
        offset: Offset of the linear predictor, as a column name or an array of shape (n,).
        contrasts: Coding of each factor column, by name of the column.
        missing: Treatment of rows with missing values, ``"drop"`` or ``"raise"``.
        family: Distribution of the response, with its link.
        sigma: Known residual standard deviation; None if it is a parameter.
        relationship: Known relationship matrix of the levels, by name of the grouping factor.

    Raises:
        FormulaError: If names in the formula are not columns of the data; the message lists all of them.
        DataError: If the model cannot be fitted to the data.
        OptionError: If an argument is not valid.
    """
    if missing not in ("drop", "raise"):
        raise OptionError(f"missing={missing!r}: choose 'drop' or 'raise'.")
    family = as_family(family)
    extra_weights, weight_name = read_extra(weights, "weights", data)
    extra_offset, offset_name = read_extra(offset, "offset", data)
    spec, dot_columns = expand_dot(spec, data, exclude=(weight_name, offset_name))
    _check_all_names(spec, data)
    wanted = [*used_columns(spec), *(n for n in (weight_name, offset_name) if n is not None)]
    columns = read_columns(data, wanted)
    n_rows = len(next(iter(columns.values())).missing) if columns else 0
    if n_rows == 0:
        raise DataError("The data have no rows.")
    extras = {"weights=": extra_weights, "offset=": extra_offset}
    given = {k: c for k, c in extras.items() if c is not None}
    for name, column in given.items():
        if len(column.values) != n_rows:
            raise DataError(f"{name} has {len(column.values)} values, the data have {n_rows} rows.")
    everything = [*columns.items(), *given.items()]
    check_infinite(everything)
    check_magnitudes(everything)
    rows, dropped = complete_rows(everything, n_rows, missing)
    if len(rows) < n_rows:
        columns = {k: c.take(rows) for k, c in columns.items()}
        given = {k: c.take(rows) for k, c in given.items()}
    coding = codings(contrasts, columns, [plain_factor(node) for node in all_atoms(spec) if isinstance(node, Call)])
    notes = dropped_note(n_rows, len(rows), dropped) + numbers_as_text(spec, columns, coding)
    given_levels, columns = columns, used_levels(columns, notes)
    check_times(spec, given_levels, columns)

    columns, level_means, states = learn_level_means(spec, columns, data)
    env = Environment(columns, states)
    x, names, owners = built_columns(spec.fixed, env, coding, len(rows))
    w = numeric_extra(
        "weights", None if weight_name is None else columns[weight_name], given.get("weights="), weight_name
    )
    off = numeric_extra(
        "offset", None if offset_name is None else columns[offset_name], given.get("offset="), offset_name
    )
    if w is not None and not (w > 0).all():
        raise DataError(
            f"weights must be positive: {int((w <= 0).sum())} are not. {_weights_mean(family)}; leave a row out by "
            "dropping it."
        )
    response = read_response(spec.response, env, family, w, given_levels, zeros=spec.zero is not None)
    family = response.family or family
    notes += response.notes
    for node in spec.offsets:
        value = evaluate(node, env)
        if not isinstance(value, np.ndarray):
            raise DataError(f"offset({render(node)}) must be one numeric column.")
        off = value if off is None else off + value
    blocks = _blocks(spec, columns, env, coding, len(rows))
    parts = {name: _part(part, env, coding, len(rows)) for name, part in spec.parts.items()}
    spanned = independent_columns(x)
    kept = _estimated(spanned, spec, family)
    aliased = tuple(names[j] for j in range(len(names)) if j not in set(spanned))
    if aliased:
        notes.append(
            f"Fixed-effects columns left out because they are combinations of the others: {listing(aliased)}. "
            "The same columns are left out for every engine."
        )
    encoding = Encoding(
        formula=spec.formula,
        dot_columns=dot_columns,
        numeric=tuple(k for k, c in columns.items() if isinstance(c, NumericColumn)),
        levels={k: c.levels for k, c in columns.items() if isinstance(c, FactorColumn)},
        contrasts=coding,
        states={k: encode_state(s) for k, s in env.states.items()},
        level_means={k: level_means[k] for k in mean_calls(spec.without_dispersion())},
        kept=tuple(int(j) for j in kept),
        categories=family.categories if isinstance(family, Cumulative) else (),
        aliases=aliases_of(x, spanned),
        alias_sizes=tuple(float(np.abs(x[:, j]).max()) for j in range(x.shape[1]) if j not in set(spanned)),
        blocks=tuple(random for random, _ in blocks),
        offset_column=offset_name,
        offset_given=extra_offset is not None,
        weights_column=weight_name,
        ziformula=dict(spec.texts).get("zero"),
        zero_kept=parts["zero"].kept if "zero" in parts else (),
        dispersion=_encoded_dispersion(spec, parts.get("dispersion")),
        residual=None if spec.residual is None else spec.residual.given,
    ).with_parsed(spec)
    design = Design(
        spec=spec,
        y=response.y,
        x=selected(x, kept),
        fixed_names=tuple(names[j] for j in kept),
        blocks=related([block for _, block in blocks], relationship),
        weights=response.weights,
        offset=off,
        rows=rows,
        n_rows=n_rows,
        dropped=dropped,
        aliased=aliased,
        notes=tuple(notes),
        encoding=encoding.with_digests(columns, {b.group: b.codes for _, b in blocks}),
        family=family,
        trials=response.trials,
        zero=parts.get("zero"),
        dispersion=parts.get("dispersion"),
        labels=row_labels(data, rows),
        columns=columns,
        column_terms=column_terms(spec.fixed, names, owners),
        residual=None if spec.residual is None else residual_block(spec.residual, given_levels, columns),
        sigma=sigma,
        smooths=smooths_of(spec, names, kept, env.states),
    )
    check_estimable(design)
    check_variances(design)
    return replace(design, notes=(*design.notes, *offset_note(design), *many_variances_note(design)))


def _encoded_dispersion(spec: ModelSpec, part: AuxiliaryDesign | None) -> EncodedDispersion | None:
    """Formula of the dispersion and the columns that were kept."""
    return None if part is None else EncodedDispersion(text=dict(spec.texts)["dispersion"], kept=part.kept)


def _check_all_names(spec: ModelSpec, data: Any) -> None:
    """Refuse names that are not columns of the data, in the formula and in the texts of its other parts."""
    check_names(spec.formula, column_names(spec), data)
    for name, text in spec.texts:
        check_names(text, part_columns(spec.parts[name]), data)
    if spec.residual is not None:
        check_names(spec.residual.given, spec.residual.columns, data)


def aliases_of(x: FloatArray, kept: Sequence[int]) -> tuple[tuple[float, ...], ...]:
    """Coefficients of the dropped columns as combinations of the kept ones, one tuple per dropped column."""
    dependent = [j for j in range(x.shape[1]) if j not in set(kept)]
    if not dependent:
        return ()
    independent = x[:, list(kept)]
    scale = np.abs(independent).max(axis=0)
    coefficients = np.linalg.lstsq(independent / scale, x[:, dependent])[0]
    coefficients[np.abs(coefficients) < 1e-9 * np.abs(coefficients).max(axis=0)] = 0.0  # rounding
    coefficients = coefficients / scale[:, None]
    return tuple(tuple(float(v) for v in column) for column in coefficients.T)


def _estimated(spanned: tuple[int, ...], spec: ModelSpec, family: Family) -> tuple[int, ...]:
    """Independent columns that have a coefficient; thresholds take the place of the intercept, the first column."""
    if not isinstance(family, Cumulative):
        return spanned
    check_intercept(spec, family)
    return spanned[1:]


def _weights_mean(family: Family) -> str:
    if family.response == "binomial":
        return "They are numbers of trials"
    return "They are precisions (variance sigma^2 / w)" if family.name == "gaussian" else "They count copies of a row"


def _part(part: FixedPart, env: Environment, coding: Mapping[str, Contrast], n: int) -> AuxiliaryDesign:
    x, names = build_columns(part, env, coding, n)
    kept = independent_columns(x)
    return AuxiliaryDesign(selected(x, kept), tuple(names[j] for j in kept), tuple(int(j) for j in kept))


def selected(x: FloatArray, columns: Sequence[int]) -> FloatArray:
    """Selected columns as a matrix in row-major order; the matrix itself if all columns are selected."""
    return np.ascontiguousarray(x if tuple(columns) == tuple(range(x.shape[1])) else x[:, list(columns)])


def expand_dot(spec: ModelSpec, data: Any, exclude: tuple[str | None, ...] = ()) -> tuple[ModelSpec, tuple[str, ...]]:
    """Replace ``.`` by all columns that do not occur elsewhere in the formula; return them too."""
    if not spec.has_dot():
        return spec, ()
    used = {*column_names(spec), *exclude, *(() if spec.residual is None else spec.residual.columns)}
    others = tuple(c for c in column_labels(data) if c not in used)
    return spec.with_dot(others), others


def _blocks(
    spec: ModelSpec, columns: Mapping[str, Column], env: Environment, coding: Mapping[str, Contrast], n: int
) -> list[tuple[EncodedBlock, RandomBlock]]:
    check_many_levels(spec, columns)
    blocks: list[tuple[EncodedBlock, RandomBlock]] = []
    factors: dict[str, FactorColumn] = {}
    for index, term in enumerate(spec.random):
        for name in term.factors:
            if name not in factors:
                factors[name] = drop_unused(as_factor(columns[name], name))[0]
        codes, levels = combine([factors[f] for f in term.factors])
        z, names = build_columns(term.left, env, coding, n)
        coordinates = coordinates_of(term, columns)
        singles = [(j,) for j in range(len(names))] if term.independent else [tuple(range(len(names)))]
        for picked in singles:
            block = RandomBlock(
                group=term.group,
                factors=term.factors,
                terms=tuple(names[j] for j in picked),
                z=selected(z, picked),
                codes=codes,
                levels=name_levels(levels),
                structure=term.structure,
                coordinates=coordinates,
            )
            blocks.append((EncodedBlock(term=index, columns=picked), block))
    return blocks
