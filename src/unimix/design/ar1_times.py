"""Check that the levels of a factor are equally spaced times, as autoregressive covariances require."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from unimix.design.evaluate import expression_columns
from unimix.design.typed_columns import Column, FactorColumn, NumericColumn
from unimix.errors import DataError, listing
from unimix.formula.parser import Name

if TYPE_CHECKING:
    from unimix.formula.terms import ModelSpec


def check_times(spec: ModelSpec, given: Mapping[str, Column], used: Mapping[str, Column]) -> None:
    """Refuse ar1() over levels that may be out of order in time, or are not equally spaced.

    Args:
        spec: Interpretation of the formula.
        given: Columns with all their levels, by name.
        used: The same columns without unused levels.

    Raises:
        DataError: If a term needs it; the message lists every fault.
    """
    faults = []
    for term in spec.random:
        if term.structure != "ar1":
            continue
        where = f"ar1(... | {':'.join(term.factors)})"
        # A bare numeric column is not a factor; check_estimable reports that fault.
        factors = [
            node
            for node in term.left.added
            if not (isinstance(node, Name) and isinstance(used[node.name], NumericColumn))
        ]
        for name in dict.fromkeys(n for node in factors for n in expression_columns(node)):
            fault = _fault(name, given[name], used[name])
            if fault:
                faults.append(f"{where} {fault}")
    if faults:
        raise DataError("\n".join(faults))


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
