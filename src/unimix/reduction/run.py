"""The two passes over a source."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from unimix.design.complete_rows import codings
from unimix.design.design import expand_dot
from unimix.design.encoding import Encoding
from unimix.design.estimability import check_many_levels, check_names, numbers_as_text
from unimix.design.typed_columns import Column, NumericColumn
from unimix.errors import DataError, LimitError, OptionError, UnsupportedModelError
from unimix.formula.allowed import part_variables, plain_factor
from unimix.formula.expand import all_atoms
from unimix.formula.interpreter import column_names, parse, used_columns
from unimix.formula.parser import Call
from unimix.formula.terms import ModelSpec
from unimix.parallel.jobs import run_jobs
from unimix.parallel.progress import shown
from unimix.reduction.learnt import learning_calls
from unimix.reduction.pieces import Piece, added, reduce_part
from unimix.reduction.plan import Plan, made_factors
from unimix.reduction.sources import DelayedPart, Part, Source, check_schemas
from unimix.reduction.survey import Survey, Wanted, merged, survey

FAN = 8
"""Number of results that are put together at a time on a cluster."""


@dataclass(frozen=True)
class Passes:
    """How the rows are read.

    Attributes:
        batch_rows: Largest number of rows of one batch.
        n_jobs: Number of processes; None for this process.
        progress: Whether to show a progress bar.
        deadline: Time of the clock (seconds since 1970) at which reading is given up, or None.
        memory: Largest number of bytes that the compressed rows may take, or None.
    """

    batch_rows: int = 131_072
    n_jobs: int | None = None
    progress: bool | None = None
    deadline: float | None = None
    memory: int | None = None


@dataclass(frozen=True)
class Request:
    """The model of a reduction.

    Attributes:
        formula: The largest formula.
        weights: Column of weights, or None.
        offset: Column of an offset, or None.
        contrasts: Codings of factors.
        missing: What happens to rows with missing values, ``drop`` or ``raise``.
    """

    formula: str
    weights: str | None = None
    offset: str | None = None
    contrasts: Mapping[str, object] | None = None
    missing: str = "drop"


def read(source: Source, request: Request, passes: Passes, like: Plan | None) -> tuple[Plan, Piece, Survey, list[str]]:
    """Read a source twice and reduce it.

    Args:
        source: The source.
        request: The model.
        passes: How the rows are read.
        like: Plan of another reduction whose levels and states are taken, so that the two can be added.

    Returns:
        The plan, the reduced rows, what the first pass found, and notes.

    Raises:
        DataError: If the rows cannot be read or do not allow the model.
        FormulaError: If the formula names columns that the source lacks.
    """
    stand_in = dict.fromkeys(source.columns, ())
    spec, dots = expand_dot(parse(request.formula), stand_in, exclude=(request.weights, request.offset))
    check_names(spec.formula, column_names(spec), stand_in)
    names = _wanted_names(spec, request)
    absent = [n for n in names if n not in source.columns]
    if absent:
        raise DataError(f"{absent[0]!r} is not a column of the source.")
    check_schemas(source, names)
    calls = learning_calls(spec)
    made = made_factors(spec)
    groups = tuple(dict.fromkeys(f for t in spec.random for f in t.factors))
    wanted = Wanted(names, frozenset({*groups, *made}), tuple(calls), passes.batch_rows)
    found = _all(
        source, partial(survey, wanted=wanted), _merge_surveys, passes, "first pass: levels and missing values"
    )
    if found is None or found.n_rows == 0:
        raise DataError("The source has no rows.")
    found = replace(found, missing={n: found.missing[n] for n in names if n in found.missing})
    _check_complete(found, request.missing)
    plan, notes = _plan(spec, dots, request, found, groups, made, calls, passes, like)
    piece = _all(source, partial(reduce_part, plan=plan), _merge_pieces(passes), passes, "second pass: cross-products")
    if piece is None or piece.n != found.n:
        raise DataError(
            f"The source changed while it was read: {found.n} rows without missing values in the first pass, "
            f"{0 if piece is None else piece.n} in the second. Reduce it again when nothing writes to it."
        )
    return plan, piece, found, [*found.notes(), *notes]


def _wanted_names(spec: ModelSpec, request: Request) -> tuple[str, ...]:
    extra = [n for n in (request.weights, request.offset) if n is not None]
    return tuple(dict.fromkeys([*used_columns(spec), *extra]))


def _check_complete(found: Survey, missing: str) -> None:
    counted = ", ".join(f"{k} {v}" for k, v in found.missing.items())
    if found.missing and missing == "raise":
        raise DataError(
            f"Missing values, and missing='raise': {counted}; the first are in {found.first_missing}. Use "
            "missing='drop', or fill them."
        )
    if found.n == 0:
        raise DataError(f"Every one of the {found.n_rows} rows has a missing value: {counted}.")


def _plan(
    spec: ModelSpec,
    dots: tuple[str, ...],
    request: Request,
    found: Survey,
    groups: Sequence[str],
    made: frozenset[str],
    calls: Sequence[Call],
    passes: Passes,
    like: Plan | None,
) -> tuple[Plan, list[str]]:
    """The plan that the first pass allows, and notes about the columns."""
    unsuitable = [t.text() for t in spec.random if t.structure != "us"]
    if unsuitable:
        raise UnsupportedModelError(
            f"{unsuitable[0]} has a structured covariance; no engine that fits reduced rows has one."
        )
    typed: dict[str, Column] = {}
    for name, kind in found.kinds.items():
        if kind == "levels":
            typed[name] = found.levels[name].column(np.arange(len(found.levels[name].levels)))
        else:
            of = found.moments[name]
            numbers = found.levels[name].numbers if name in found.levels else np.array([of.low, of.high])
            typed[name] = NumericColumn(np.asarray(numbers, dtype=np.float64))
    check_many_levels(spec, typed)
    made_names = [plain_factor(node) for node in all_atoms(spec) if isinstance(node, Call)]
    coding = codings(request.contrasts, typed, made_names)
    notes = numbers_as_text(spec, typed, coding)
    of_groups_only = set(groups) - {
        n for part in (spec.fixed, *(t.left for t in spec.random)) for n in part_variables(part)
    }
    encoding = Encoding(
        formula=spec.formula,
        dot_columns=dots,
        numeric=tuple(k for k, kind in found.kinds.items() if kind == "numeric"),
        levels={k: found.levels[k].levels for k, v in found.kinds.items() if v == "levels" and k not in of_groups_only},
        contrasts=coding,
        states=found.learnt.states(list(calls)),
        offset_column=request.offset,
        weights_column=request.weights,
    ).with_parsed(spec)
    plan = Plan(
        encoding,
        {g: found.levels[g] for g in groups},
        {m: found.levels[m] for m in made if m in found.levels},
        passes.batch_rows,
    )
    return (plan if like is None else _like(plan, like)), notes


def _like(plan: Plan, like: Plan) -> Plan:
    """The plan with the levels and states of another one.

    Raises:
        DataError: If the rows have levels of a predictor that the other plan lacks.
    """
    if plan.encoding.formula != like.encoding.formula:
        raise OptionError(
            f"like= is a reduction by {like.encoding.formula!r}, and this is one by {plan.encoding.formula!r}: use the "
            "same formula, and fit smaller ones to the sum."
        )
    for name, levels in plan.encoding.levels.items():
        strange = [str(v) for v in levels if v not in like.encoding.levels.get(name, ())]
        if strange:
            raise DataError(
                f"{name!r} has levels that the reduction given as like= does not know ({', '.join(strange[:5])}), so "
                "that its columns differ. Reduce all rows together."
            )
    encoding = plan.encoding.model_copy(
        update={"levels": like.encoding.levels, "states": like.encoding.states, "contrasts": like.encoding.contrasts}
    ).with_parsed(plan.spec)
    for name in like.made:
        like.made[name].codes(NumericColumn(np.asarray(plan.made[name].numbers)), "the rows")
    return Plan(encoding, plan.groups, like.made, plan.rows)


# --- the passes -------------------------------------------------------------------------------------------------------


def _merge_surveys(results: Sequence[Survey | None]) -> Survey | None:
    whole: Survey | None = None
    for found in results:
        if found is not None:
            whole = found if whole is None else merged(whole, found, "a later part")
    return whole


def _merge_pieces(passes: Passes) -> Callable[[Sequence[Piece | None]], Piece | None]:
    def merge(results: Sequence[Piece | None]) -> Piece | None:
        pieces = [p for p in results if p is not None]
        if not pieces:
            return None
        whole = added(pieces)
        check_memory(whole, passes.memory)
        return whole

    return merge


def check_memory(piece: Piece, memory: int | None) -> None:
    """Refuse reduced rows that take more memory than they may.

    Raises:
        LimitError: If they do.
    """
    if memory is not None and piece.rows.nbytes > memory:
        raise LimitError(
            f"The reduced rows take {piece.rows.nbytes / 1e9:.2g} GB ({len(piece.rows.values):,} rows of "
            f"{piece.rows.values.shape[1]} numbers are left of {piece.n:,}), more than memory_limit= allows. They grow "
            "with the number of different combinations of levels of the grouping factors: leave a crossed factor out, "
            "or fit a part of the rows.",
            "memory",
        )


def _all(
    source: Source, work: Callable[[Any], Any], merge: Callable[[Sequence[Any]], Any], passes: Passes, title: str
) -> Any:
    """Do the work on every part and put the results together."""
    do = work if passes.deadline is None else partial(_until, work, passes.deadline)
    if source.parts and isinstance(source.parts[0], DelayedPart):
        return _on_dask(source, do, merge)
    if passes.n_jobs is not None and passes.n_jobs != 1 and len(source.parts) > 1:
        answers = run_jobs(do, source.parts, n_jobs=passes.n_jobs, progress=passes.progress, title=title, unit="parts")
        return merge(answers)
    whole, waiting = None, []
    for part in shown(source.parts, len(source.parts), title, "parts", progress=passes.progress):
        waiting.append(do(part))
        # the results of many small parts wait until they are as large as what they are added to
        if sum(map(_size, waiting)) > _size(whole):
            whole, waiting = merge([whole, *waiting]), []
    return merge([whole, *waiting]) if waiting else whole


def _until(work: Callable[[Any], Any], deadline: float, part: Part) -> Any:
    """The work on a part, which is given up at a point in time."""
    return work(_TimedPart(part, deadline))


def _size(result: object) -> int:
    return len(result.rows.values) if isinstance(result, Piece) else 0 if result is None else 1


class _TimedPart(Part):
    """A part that is not read beyond a point in time."""

    def __init__(self, part: Part, deadline: float) -> None:
        self._part, self._deadline, self.label = part, deadline, part.label

    def frames(self, names: Sequence[str], rows: int) -> Iterator[Any]:
        for table in self._part.frames(names, rows):
            if time.time() > self._deadline:
                raise LimitError(f"The rows were not read within time_limit=: it ended in {self.label}.", "time")
            yield table


def _on_dask(source: Source, work: Callable[[Any], Any], merge: Callable[[Sequence[Any]], Any]) -> Any:
    """Do the work where the partitions of a Dask frame lie, and put the results together like a tree.

    Dask's own scheduler runs it: tasks of a killed worker are done again by another one.
    """
    import dask

    level = [dask.delayed(_work_on, pure=False)(work, part.partition, part.label) for part in source.parts]  # type: ignore[attr-defined]
    while len(level) > 1:
        level = [dask.delayed(merge, pure=False)(level[i : i + FAN]) for i in range(0, len(level), FAN)]
    (answer,) = dask.compute(level[0])
    return answer


def _work_on(work: Callable[[Any], Any], partition: Any, label: str) -> Any:
    """The work on a partition that has been computed."""
    return work(DelayedPart(partition, label))


__all__ = ["Passes", "Request", "check_memory", "read"]
