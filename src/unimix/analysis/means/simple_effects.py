"""Simple effects: contrasts of one factor within the levels of all others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from unimix.analysis.means.contrast_result import Contrasts, free_name
from unimix.errors import OptionError, listing

Of = Callable[[str, tuple[str, ...]], Contrasts]
"""Function that returns the contrasts of a factor within the levels of other factors."""


def simple_effects(
    names: Sequence[str], by: Sequence[str], simple: str, contrasts: Of, *, interaction: object
) -> Contrasts:
    """Contrasts of one factor within the levels of all others, or of each factor in turn.

    Args:
        names: The factors of the means.
        by: Factors within whose levels the means are contrasted already.
        simple: Name of the factor, or each.
        contrasts: Function that makes the contrasts of one factor.
        interaction: Value that the user gave for ``interaction=``, which is refused beside ``simple=``.

    Raises:
        OptionError: If there is one factor only, or none of this name.
    """
    faults = ["interaction= and simple= ask for different contrasts: leave one out."] if interaction else []
    if len(names) < 2:
        faults.append("simple= needs means of several factors: fit.emmeans(['a', 'b']).")
    elif simple != "each" and simple not in names:
        faults.append(f"simple={simple!r}: choose 'each' or {listing(map(repr, names))}.")
    if faults:
        raise OptionError("\n".join(faults))
    if simple != "each":
        return contrasts(simple, tuple(n for n in (*names, *by) if n != simple))
    tables, notes, heading = [], list[str](), ""
    of = free_name([*names, *by])
    for name in names:
        answer = contrasts(name, tuple(n for n in (*names, *by) if n != name))
        frame = answer.table.copy()
        frame.insert(0, of, name)
        tables.append(frame)
        notes += answer.notes
        heading = answer._heading
    whole = pd.concat(tables, ignore_index=True)
    ordered = [of, *(n for n in (*names, *by) if n in whole)]
    whole = whole[[*ordered, *(c for c in whole if c not in ordered)]]
    whole[ordered] = whole[ordered].astype(object).where(whole[ordered].notna(), ".")
    return Contrasts(whole, list(dict.fromkeys(notes)), heading)


__all__ = ["simple_effects"]
