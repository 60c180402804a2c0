"""The capability sheets as a table."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

import pandas as pd

from unimix.backends.capabilities import Yes
from unimix.backends.registry import registered, sound
from unimix.model.features import Feature


@dataclass(frozen=True)
class BackendTable:
    """What each backend can do.

    Attributes:
        installed: Whether the Python packages of each backend are present.
        marks: Feature x backend: yes, no, not yet.
        reasons: Feature x backend: how it is done, or why not.
    """

    installed: dict[str, bool]
    marks: pd.DataFrame
    reasons: pd.DataFrame

    def __str__(self) -> str:
        head = "installed: " + ", ".join(f"{n} {'yes' if ok else 'no'}" for n, ok in self.installed.items())
        lines = [self.marks.to_string(), "", head]
        told = [
            f"  {name}, {feature}: {why}"
            for feature, row in self.reasons.iterrows()
            for name, why in row.items()
            if why
        ]
        return "\n".join([*lines, "", "Notes", *told])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.marks.to_html()

    def to_markdown(self) -> str:
        """The table of marks in Markdown."""
        names = list(self.marks.columns)
        rows = [f"| {' | '.join(['', *names])} |", f"|{'---|' * (len(names) + 1)}"]
        for feature, row in self.marks.iterrows():
            text = str(feature).replace("|", "\\|")
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
    return BackendTable(installed, pd.DataFrame(marks, index=features), pd.DataFrame(reasons, index=features))
