"""Times or places of the columns of a structured covariance, and whether they suit the structure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from unimix.design.covariance_structures import BY_DISTANCE, IN_TIME
from unimix.design.evaluate import expression_columns
from unimix.design.typed_columns import Column, FactorColumn, NumericColumn
from unimix.errors import DataError, listing
from unimix.formula.covariance_names import form_of
from unimix.formula.parser import Name

if TYPE_CHECKING:
    from unimix.formula.terms import ModelSpec, RandomTerm


EQUALLY_SPACED = ("ar1", "toep")
"""Forms of correlations that take the columns as equally spaced in time."""


def check_times(spec: ModelSpec, given: Mapping[str, Column], used: Mapping[str, Column]) -> None:
    """Refuse structures over levels that may be out of order in time, are not equally spaced, or have no coordinates.

    Args:
        spec: Interpretation of the formula.
        given: Columns with all their levels, by name.
        used: The same columns without unused levels.

    Raises:
        DataError: If a term needs it; the message lists every fault.
    """
    faults = []
    for term in spec.random:
        form = form_of(term.structure)
        if form not in IN_TIME:
            continue
        where = f"{term.structure}(... | {':'.join(term.factors)})"
        for name in _factors(term, used):
            if form in EQUALLY_SPACED:
                fault = _fault(name, given[name], used[name])
            else:
                fault = "" if places(used[name]) else _without_places(name, used[name])
            if fault:
                faults.append(f"{where} {fault}")
    if faults:
        raise DataError("\n".join(faults))


def spacing_fault(form: str, name: str, given: Column, used: Column) -> str:
    """Message that the levels of a column do not suit a form of correlations; empty if they do.

    Args:
        form: Form of the correlations, one of those in time or by distance.
        name: Name of the column.
        given: The column with all its levels.
        used: The column without unused levels.
    """
    if form in EQUALLY_SPACED:
        return _fault(name, given, used)
    return "" if places(used) else _without_places(name, used)


def coordinates_of(term: RandomTerm, used: Mapping[str, Column]) -> tuple[float, ...]:
    """Coordinates of the columns of a term whose structure needs them; else empty.

    Args:
        term: The random term.
        used: Columns without unused levels, by name.
    """
    names = _factors(term, used) if form_of(term.structure) in BY_DISTANCE else []
    return tuple(places(used[names[0]]) or ()) if len(names) == 1 else ()


def _factors(term: RandomTerm, used: Mapping[str, Column]) -> list[str]:
    """Names of the factors on the left of a bar."""
    # A bare numeric column is not a factor; check_estimable reports that fault.
    nodes = [n for n in term.left.added if not (isinstance(n, Name) and isinstance(used[n.name], NumericColumn))]
    return list(dict.fromkeys(n for node in nodes for n in expression_columns(node)))


def places(used: Column) -> list[float] | None:
    """Coordinates of the levels of a column, in their order; None if they have none."""
    if isinstance(used, NumericColumn):
        return sorted({float(v) for v in used.values[~used.missing]})
    places = _times([str(level) for level in used.levels])
    return places if places is not None and len(set(places)) == len(places) else None


def _without_places(name: str, used: Column) -> str:
    assert isinstance(used, FactorColumn)  # noqa: S101  numbers have places
    labels = listing([str(level) for level in used.levels], 12)
    return (
        f"needs a number, a date or a month for each level of {name}, and finds none in {labels}: write C(x) with a "
        "numeric column x."
    )


def _fault(name: str, given: Column, used: Column) -> str:
    if isinstance(used, NumericColumn):
        return _spacing(sorted({float(v) for v in used.values[~used.missing]}), name)
    labels = [str(level) for level in used.levels]
    times = _times(labels)
    if times is not None:
        order = (
            f"takes its times in the order {listing(labels, 12)}, as text sorts. Put them in order: pandas.Categorical("
            f"data[{name!r}], categories=[...], ordered=True), or numbers in C({name})."
        )
        return order if (np.diff(times) <= 0).any() else _spacing(times, name)
    if used.origin == "text":
        return (
            f"cannot know the order of the times {listing(labels, 12)}: they are text. Put them in order: "
            f"pandas.Categorical(data[{name!r}], categories=[...], ordered=True)."
        )
    assert isinstance(given, FactorColumn)  # noqa: S101  a categorical stays one
    present = [level in set(used.levels) for level in given.levels]
    first, last = present.index(True), len(present) - present[::-1].index(True)
    absent = [str(level) for level, here in zip(given.levels[first:last], present[first:last], strict=True) if not here]
    if absent:
        return (
            f"needs equally spaced times, and no row has {listing(absent)}: their neighbours would be taken as one "
            "step apart. Use another covariance, us() or cs(), or numbers that are equally spaced."
        )
    return ""


def _spacing(times: list[float], name: str) -> str:
    steps = np.diff(times)
    if len(steps) < 2 or np.allclose(steps, steps[0], rtol=1e-6):
        return ""
    shown = listing([f"{t:g}" for t in times], 12)
    return (
        f"needs equally spaced times, and those of {name} are not ({shown}): "
        "neighbours would be taken as one step apart."
    )


def _times(labels: list[str]) -> list[float] | None:
    """Times of the labels: numbers, days, months or the number at the end of each label; None if they have none."""
    dates = [re.fullmatch(r"(\d{4})-(\d{2})-(\d{2})", label) for label in labels]
    if all(dates):
        days = [date.fromisoformat(label) for label in labels]
        if len({d.day for d in days}) == 1:  # monthly dates
            return [12.0 * d.year + d.month for d in days]
        return [float(d.toordinal()) for d in days]
    try:
        return [float(label) for label in labels]
    except ValueError:
        pass
    ends = [re.fullmatch(r"\D*?(\d+)", label) for label in labels]
    return [float(e.group(1)) for e in ends if e] if all(ends) else None
