"""Checks before any engine runs: unknown names, infinite values, and models that the data cannot estimate."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unimix.design.aliasing import independent_columns, largest_entries, residual_scale, triangular_factor
from unimix.design.covariance_structures import BY_DISTANCE, IN_TIME
from unimix.design.frames import index_hint
from unimix.design.smooths import mixed_design
from unimix.design.typed_columns import Column, FactorColumn, NumericColumn, column_labels
from unimix.errors import DataError, Fault, FormulaError, did_you_mean, listing
from unimix.formula.allowed import expression_variables
from unimix.formula.expand import all_atoms, expand, remaining_atoms
from unimix.formula.parser import Call, Name, quote, render

LARGEST_DENSE = 2000
MANY = 100
"""Number of levels from which a factor is refused on the left of a bar."""

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from unimix.design.arrays import Design, RandomBlock
    from unimix.formula.terms import ModelSpec

_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?")
LARGEST, SMALLEST = 1e100, 1e-100
MANY_VARIANCES = 12
"""Number of levels of a factor with a variance each above which one variance is suggested."""
WIDE_OFFSET, RAW_OFFSET = 25.0, 200.0
"""Ranges of an offset on the log scale: one that no exposures have, and one with which no model can be fitted."""


def check_names(formula: str, positions: Mapping[str, int], data: Any) -> None:
    """Raise a FormulaError that lists all names in a formula that are not columns of the data."""
    known = column_labels(data)
    faults = [
        Fault(f"{name!r} is not a column of the data.{did_you_mean(name, known)}", position, len(name))
        for name, position in sorted(positions.items(), key=lambda item: item[1])
        if name not in known
    ]
    if faults:
        last = faults[-1]
        hint = index_hint(data, [name for name in positions if name not in known])
        faults[-1] = Fault(f"{last.message} Columns: {listing(known)}.{hint}", last.position, last.length)
        raise FormulaError(formula, faults)


def check_infinite(columns: Sequence[tuple[str, Column]]) -> None:
    """Raise a DataError if columns hold infinite values; ``columns`` are pairs of a name for messages and a column."""
    faults = []
    for name, column in columns:
        if isinstance(column, NumericColumn) and (count := int(np.isinf(column.values).sum())):
            faults.append(f"{name!r} holds {count} infinite values; replace them or set them to missing.")
    if faults:
        raise DataError("\n".join(faults))


def numbers_as_text(spec: ModelSpec, columns: Mapping[str, Column], coded: Container[str]) -> list[str]:
    """Notes about predictors that are factors only because their numbers are stored as text.

    Args:
        spec: Interpretation of the formula; a column inside ``C()`` is meant as a factor.
        columns: Columns by name.
        coded: Names of factors whose coding the user gave.
    """
    names = dict.fromkeys(node.name for node in all_atoms(spec) if isinstance(node, Name) and node.name not in coded)
    notes = []
    for name in names:
        column = columns.get(name)
        if not isinstance(column, FactorColumn) or column.origin != "text":
            continue
        levels = [str(level) for level in column.levels]
        others = [level for level in levels if not _NUMBER.fullmatch(level.strip())]
        n_numbers = len(levels) - len(others)
        if n_numbers < 3 or len(others) > max(2, len(levels) // 20) or n_numbers < 4 * len(others):
            continue
        comma = any("," in level for level in levels if level not in others)
        series = f"data[{name!r}].str.replace(',', '.')" if comma else f"data[{name!r}]"
        coerce = ", errors='coerce'" if others else ""
        what = f"all but {listing(map(repr, others))}" if others else "all of them"
        notes.append(
            f"{name} is text and is treated as categorical, with {len(levels)} levels, but {what} read as numbers. If "
            f"it is numeric, type data[{name!r}] = pd.to_numeric({series}{coerce}); if it is categorical, write "
            f"C({quote(name)})."
        )
    return notes


def check_many_levels(spec: ModelSpec, columns: Mapping[str, Column]) -> None:
    """Raise a DataError about factors of so many levels on the left of a bar that they are probably nested groups.

    Args:
        spec: Interpretation of the formula; ``cs`` and ``ar1`` have few parameters for any number of levels.
        columns: Columns by name, with the levels that occur.
    """
    faults = []
    for term in spec.random:
        atoms = remaining_atoms(expand(term.left)).values() if term.structure == "us" else ()
        for node in atoms:
            name = node.name if isinstance(node, Name) else next(iter(expression_variables(node)), None)
            column = None if name is None else columns.get(name)
            count = len(column.levels) if isinstance(column, FactorColumn) else 0
            if isinstance(column, NumericColumn) and isinstance(node, Call) and node.function == "C":
                count = len(np.unique(column.values))
            if count < MANY or name is None:
                continue
            f, g = quote(name), ":".join(quote(factor) for factor in term.factors)
            several = f"{count * (count + 1) // 2:,} variances and covariances"
            faults.append(
                f"{term.text()} asks for {f'{count} variances' if term.independent else several}, because {name} is a "
                f"factor of {count} levels. Is (1 | {g}/{f}) meant? Type:\n"
                f"    (1 | {g}/{f})    # one variance of {g}, and one of the levels of {f} within {g}\n"
                f"    (1 | {g}) + (1 | {f})    # the levels of {f} have the same effect in every level of {g}"
            )
    if faults:
        raise DataError("\n".join(faults))


def check_estimable(design: Design) -> None:
    """Raise a DataError, with all faults, if no engine could estimate the model from these data."""
    faults: list[str] = []
    design = replace(mixed_design(design), blocks=design.blocks)  # the coefficients of curves need no rows of their own
    n, p = design.n_obs, design.p
    # In families without a residual scale an effect per row models overdispersion and may be fitted.
    # The same holds where the residual variance of each row is known, as in a meta-analysis.
    scaled = design.family.name in ("gaussian", "student_t") and design.sigma is None
    asked = "a residual variance" if scaled else "" if design.sigma else " and ".join(design.family.parameters)
    if n <= p if asked else n < p:
        faults.append(
            f"{n} rows cannot determine {p} fixed effects{f' and {asked}' if asked else ''}; there must be more rows."
        )
    elif (design.y == design.y[0]).all():
        faults.append(
            f"The response {render(design.spec.response)} is constant ({design.y[0]:g}); there is nothing to explain."
        )
    elif design.family.is_linear and residual_scale(design.y, design.x, design.weights, design.offset) == 0:
        faults.append("The fixed effects explain the response exactly; no variance is left to estimate.")
    faults += _raw_offset(design, RAW_OFFSET)
    seen: dict[tuple[str, str], int] = {}
    for block in design.blocks:
        if block.n_levels < 2:
            faults.append(
                f"The grouping factor {block.group} has one level ({block.levels[0]}); it needs at least two."
            )
        elif scaled and block.n_levels >= n and block.relationship is None:
            faults.append(
                f"The grouping factor {block.group} has {block.n_levels} levels in {n} rows: with one row per level "
                "its variance and the residual variance cannot be distinguished."
            )
        elif (
            scaled
            and block.n_levels * block.q >= n
            and block.q > 1
            and block.structure == "us"
            and block.relationship is None
        ):
            faults.append(
                f"{block.text} has {block.n_levels * block.q} random effects in {n} "
                "rows; their variances and the residual variance cannot be distinguished. Use fewer columns."
            )
        for name in block.terms:
            seen[block.group, name] = seen.get((block.group, name), 0) + 1
        if len(independent_columns(block.z)) < block.q:
            faults.append(
                f"The columns of {block.text} are linearly dependent; their variances cannot be distinguished."
            )
    faults += [fault for b in design.blocks for fault in _misplaced_structure(b)]
    faults += _seen_in_one_level(design)
    faults += _name_clashes(design.blocks)
    faults += [
        f"{name} varies over {group} in two random terms; write (0 + x | {group}) for the second, "
        f"or (1 + x || {group})."
        for (group, name), count in seen.items()
        if count > 1
    ]
    if not faults:
        faults += _twin_columns(design.blocks)
    if scaled and not faults:
        faults += [f for block in design.blocks for f in _hidden_by_others(design, block)]
    if scaled and not faults and design.blocks:
        df_residual, wanted = n - p, 1 + sum(b.n_parameters for b in design.blocks)
        if df_residual < wanted:
            faults.append(
                f"{n} rows less {p} fixed effects leave {df_residual} independent values for {wanted} variances and "
                "covariances; there must be as many at least."
            )
    if faults:
        raise DataError("\n".join(faults))


def offset_note(design: Design) -> list[str]:
    """A note on an offset that looks like an exposure where its logarithm is meant; empty if there is none."""
    return _raw_offset(design, WIDE_OFFSET)


def _raw_offset(design: Design, limit: float) -> list[str]:
    if design.offset is None or design.family.link not in ("log", "cloglog"):
        return []
    spread = float(np.ptp(design.offset))
    if spread <= limit:
        return []
    nodes = design.spec.offsets
    name = render(nodes[0]) if nodes else design.encoding.offset_column or "offset"
    logarithm = f"offset(log({name}))" if nodes or design.encoding.offset_column else f"offset=np.log({name})"
    text = (
        f"The offset {name} differs by up to {spread:.4g} between rows, and the {design.family.link} link takes it as "
        f"a logarithm: expected responses would differ by a factor of e^{spread:.4g}. An exposure enters as its "
        f"logarithm: {logarithm}."
    )
    return [text]


def _seen_in_one_level(design: Design) -> list[str]:
    """Faults of random columns that differ from zero in one level of their group only."""
    alone: dict[tuple[str, int], list[str]] = {}
    for block in design.blocks:
        for j, name in enumerate(block.terms if block.n_levels > 1 else ()):
            if len(np.unique(block.codes[block.z[:, j] != 0])) == 1:
                alone.setdefault((block.group, block.n_levels), []).append(name)
    faults = []
    for (group, count), names in alone.items():
        factors = dict.fromkeys(name.partition("[")[0] for name in names if "[" in name)
        meant = f" Is (1 | {group}/{next(iter(factors))}) meant?" if factors else ""
        faults.append(
            f"The random columns {listing(names, 3)} differ from zero in one of the {count} levels of {group} only, "
            f"and a single effect has no variance.{meant}"
        )
    return faults


def many_variances_note(design: Design) -> list[str]:
    """A note on a factor whose levels have a variance each, where one variance for all may be meant."""
    counts: dict[tuple[str, str], int] = {}
    for block in design.blocks:
        if block.q == 1 and "[" in block.terms[0]:
            key = (block.group, block.terms[0].partition("[")[0])
            counts[key] = counts.get(key, 0) + 1
    return [
        f"{count} levels of {factor} have a variance over {group} each. One variance for all of them is "
        f"(1 | {group}/{factor}), and takes far less time."
        for (group, factor), count in counts.items()
        if count > MANY_VARIANCES
    ]


def _misplaced_structure(block: RandomBlock) -> list[str]:
    """Faults of a structured covariance whose columns do not suit it."""
    structure = block.covariance_structure
    if structure is None:
        return []
    fault = ""
    where = f"{block.structure}(... | {block.group})"
    indicators = ((block.z == 0) | (block.z == 1)).all() and (block.z.sum(axis=1) == 1).all()
    by_distance = structure.form in BY_DISTANCE
    if block.q < 2:
        fault = (
            f"{where} needs several columns, and {block.terms[0]} is one: make the variable a factor, "
            f"{block.structure}(0 + C(time) | {block.group})."
        )
    elif structure.form in IN_TIME and not (indicators and (not by_distance or len(block.coordinates) == block.q)):
        times = "places or times" if by_distance else "equally spaced times"
        fault = (
            f"{where} takes one factor of {times}, each with a column of its own: {block.structure}(0 + time | "
            f"{block.group}); its columns are {', '.join(block.terms)}."
        )
    return [fault] if fault else []


def check_magnitudes(columns: Sequence[tuple[str, Column]]) -> None:
    """Raise a DataError if the squares of numbers exceed the range of floating point."""
    faults = []
    for name, column in columns:
        if not isinstance(column, NumericColumn):
            continue
        size = np.abs(column.values[~column.missing]).max(initial=0.0)
        if size > LARGEST or 0 < size < SMALLEST:
            faults.append(f"{name!r} reaches {size:.1g}, and its squares cannot be computed; use another unit.")
    if faults:
        raise DataError("\n".join(faults))


def _name_clashes(blocks: tuple[RandomBlock, ...]) -> list[str]:
    owners: dict[str, tuple[str, ...]] = {}
    clashes = dict.fromkeys(b.group for b in blocks if owners.setdefault(b.group, b.factors) != b.factors)
    return [f"A column and a combination of columns are both called {name}; rename the column." for name in clashes]


def _hidden_by_others(design: Design, block: RandomBlock) -> list[str]:
    """Faults of a block whose columns are already in the fixed effects or that explains the response exactly."""
    term = f"of {block.text}"
    if block.relationship is None and _explain_exactly(design, block):
        return [f"The levels of {block.group} explain the response exactly; no residual variance is left to estimate."]
    if block.n_levels > design.p:
        return []
    faults = []
    p, unit, levels = design.p, largest_entries(design.x), np.arange(block.n_levels)
    for j, name in enumerate(block.terms):
        column = block.z[:, j] / np.abs(block.z[:, j]).max()

        def rows(part: slice, column: npt.NDArray[np.float64] = column) -> npt.NDArray[np.float64]:
            spread = np.where(block.codes[part, None] == levels, column[part, None], 0.0)
            return np.column_stack([design.x[part] / unit, spread])

        left = triangular_factor(rows, design.n, p + block.n_levels)[p:, p:]
        if np.linalg.norm(left) < 1e-9 * np.linalg.norm(column):
            faults.append(
                f"The column {name} {term}: the fixed effects have a coefficient for each of its {block.n_levels} "
                "levels already, so that its variance cannot be estimated. Leave it out of one of the two."
            )
    return faults


def _explain_exactly(design: Design, block: RandomBlock) -> bool:
    """Whether the response is the same in all rows of a level, and the block has an intercept."""
    if design.compression is None:
        y = design.y if design.offset is None else design.y - design.offset
        first = np.full(block.n_levels, np.nan)
        first[block.codes[::-1]] = y[::-1]
        return bool((y == first[block.codes]).all() and (block.z == block.z[0]).all(axis=0).any())
    for rows in design.compression.support.blocks:
        if (rows.group, rows.terms) != (block.group, block.terms):
            continue
        for z in block.z[:, (rows.z == rows.z[0]).all(axis=0)].T:
            # in compressed rows the response is the multiple of the constant column that it is in all rows
            per_level = np.bincount(block.codes, z * design.y) / np.bincount(block.codes, z * z)
            left = np.abs(design.y - per_level[block.codes] * z).max()
            if left <= 1e-12 * np.abs(design.y).max():
                return True
    return False


def _twin_columns(blocks: tuple[RandomBlock, ...]) -> list[str]:
    """Faults of two blocks over the same partition of the rows whose columns are multiples of each other."""
    partitions: list[tuple[npt.NDArray[np.int64], list[RandomBlock]]] = []
    for block in blocks:
        canonical = _first_appearance(block.codes) if len(blocks) > 1 else block.codes
        same = next((twin for codes, twin in partitions if np.array_equal(codes, canonical)), None)
        if same is None:
            partitions.append((canonical, [block]))
        else:
            same.append(block)
    faults: list[str] = []
    for _, alike in partitions:
        if len(alike) < 2:
            continue
        owners = [(block, name) for block in alike for name in block.terms]
        z = np.column_stack([block.z for block in alike])
        z = z / np.abs(z).max(axis=0)
        z /= np.linalg.norm(z, axis=0)
        near = np.argwhere(np.triu(np.abs(z.T @ z) > 1 - 1e-12, k=1))
        for i, j in near.tolist():
            (first, one), (second, two) = owners[i], owners[j]
            if first is second or len(independent_columns(z[:, [i, j]])) == 2:
                continue
            where = first.group if first.group == second.group else f"{first.group} and {second.group}"
            faults.append(
                f"The random columns {one} and {two} vary over {where} in the same way; their variances cannot be "
                "distinguished. Leave one of them out."
            )
    return faults


def _first_appearance(codes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Number groups in order of first appearance, so that equal partitions give equal arrays."""
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def likelihood_is_unbounded(design: Design) -> bool:
    """Whether X and Z together span all rows while Z alone does not.

    In that case the residual is zero and V = sigma^2 I + Z Cov Z' becomes singular as sigma goes to zero, so that the
    likelihood has no maximum; the restricted likelihood stays bounded. Larger designs are not checked beyond a few
    thousand rows.
    """
    width = sum(b.n_levels * b.q for b in design.blocks)
    if design.sigma is not None or not design.blocks:
        return False
    if design.p + width < design.n_obs or design.n_obs > LARGEST_DENSE:
        return False
    parts = []
    for block in design.blocks:
        spread = np.zeros((design.n, block.n_levels, block.q))
        spread[np.arange(design.n), block.codes] = block.z / np.abs(block.z).max(axis=0)
        parts.append(spread.reshape(design.n, -1))
    z = np.concatenate(parts, axis=1)
    x = design.x / np.abs(design.x).max(axis=0, initial=1e-300)
    rank = int(np.linalg.matrix_rank(z))
    return rank < design.n_obs and int(np.linalg.matrix_rank(np.column_stack([x, z]))) == design.n_obs
