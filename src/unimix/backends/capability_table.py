"""The capability sheets as a table."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

import pandas as pd

from unimix.backends.base import Backend
from unimix.backends.capabilities import Yes
from unimix.backends.family_support import all_families
from unimix.backends.registry import registered, sound
from unimix.design.features import Feature
from unimix.distributions.family import Family


@dataclass(frozen=True)
class BackendTable:
    """What each backend can do.

    Attributes:
        installed: Whether the Python packages of each backend are present.
        marks: Feature x backend: yes, no, not yet.
        reasons: Feature x backend: how it is done, or why not.
        families: Family and link x backend: yes, only without group effects, no, not yet.
        family_reasons: Family and link x backend: why not with group effects.
    """

    installed: dict[str, bool]
    marks: pd.DataFrame
    reasons: pd.DataFrame
    families: pd.DataFrame
    family_reasons: pd.DataFrame

    def __str__(self) -> str:
        head = "installed: " + ", ".join(f"{n} {'yes' if ok else 'no'}" for n, ok in self.installed.items())
        lines = [self.marks.to_string(), "", self.families.to_string(), "", head]
        told = [
            f"  {name}, {feature}: {why}"
            for feature, row in self.reasons.iterrows()
            for name, why in row.items()
            if why
        ]
        return "\n".join([*lines, "", "Notes", *told])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.marks.to_html() + self.families.to_html()

    def to_markdown(self) -> str:
        """The table of marks in Markdown."""
        return _markdown(self.marks)

    def families_to_markdown(self) -> str:
        """The table of families in Markdown."""
        return _markdown(self.families)


def _markdown(table: pd.DataFrame) -> str:
    names = list(table.columns)
    rows = [f"| {' | '.join(['', *names])} |", f"|{'---|' * (len(names) + 1)}"]
    for label, row in table.iterrows():
        text = str(label).replace("|", "\\|")
        rows.append(f"| {' | '.join([text, *row])} |")
    return "\n".join(rows)


def backend_table() -> BackendTable:
    """Read every registered backend's sheet; no engine is loaded."""
    classes = sound()
    features = [f.value for f in Feature]
    marks = {n: [c.capabilities[f].mark for f in Feature] for n, c in classes.items()}
    reasons = {}
    for name, cls in classes.items():
        answers = [cls.capabilities[f] for f in Feature]
        reasons[name] = [a.how if isinstance(a, Yes) else a.reason for a in answers]
    installed = {n: all(importlib.util.find_spec(p) is not None for p in c.info.packages) for n, c in classes.items()}
    installed |= {name: False for name in registered() if name not in classes}
    families = all_families()
    cells = {n: [_mark(c, f) for f in families] for n, c in classes.items()}
    told = {n: [_why_not(c, f) for f in families] for n, c in classes.items()}
    labels = [f"{f.label}({f.link})" for f in families]
    return BackendTable(
        installed,
        pd.DataFrame(marks, index=features),
        pd.DataFrame(reasons, index=features),
        pd.DataFrame(cells, index=labels),
        pd.DataFrame(told, index=labels),
    )


def _mark(cls: type[Backend], family: Family) -> str:
    mixed, plain = (cls.families.answer(family, mixed=m) for m in (True, False))
    if isinstance(mixed, Yes) or not isinstance(plain, Yes):
        return mixed.mark
    return "without groups"


def _why_not(cls: type[Backend], family: Family) -> str:
    answer = cls.families.answer(family, mixed=True)
    return answer.how if isinstance(answer, Yes) else answer.reason
