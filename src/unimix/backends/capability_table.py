"""Table of the capability sheets of all backends."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from unimix.backends.base import Backend
from unimix.backends.capabilities import Yes
from unimix.backends.family_support import all_families
from unimix.backends.registry import registered, sound
from unimix.design.features import Feature
from unimix.display import Block, Printed, as_markdown
from unimix.distributions.family import Family
from unimix.fitted.formatting import text_table


@dataclass(frozen=True, repr=False, eq=False)
class BackendTable(Printed):
    """Capabilities of each backend.

    Attributes:
        installed: Whether the Python packages of each backend are installed.
        marks: Table of features x backends, with the entries yes, no and not yet.
        reasons: Table of features x backends: how a feature is supported, or why it is not.
        families: Table of families with links x backends: yes, only without group effects, no, or not yet.
        family_reasons: Table of families with links x backends: reason why group effects are not supported.
    """

    installed: dict[str, bool]
    marks: pd.DataFrame
    reasons: pd.DataFrame
    families: pd.DataFrame
    family_reasons: pd.DataFrame

    def _view(self) -> Iterable[Block]:
        head = "installed: " + ", ".join(f"{n} {'yes' if ok else 'no'}" for n, ok in self.installed.items())
        notes = [
            f"  {name}, {feature}: {why}"
            for feature, row in self.reasons.iterrows()
            for name, why in row.items()
            if why
        ]
        return [text_table(self.marks), "", text_table(self.families), "", head, "", "Notes", *notes]

    def to_markdown(self) -> str:
        """Table of features in Markdown."""
        return as_markdown([text_table(self.marks)])

    def families_to_markdown(self) -> str:
        """Table of families in Markdown."""
        return as_markdown([text_table(self.families)])


def backend_table() -> BackendTable:
    """Read the sheets of all registered backends; no engine is loaded."""
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
    why = {n: [_why_not(c, f) for f in families] for n, c in classes.items()}
    labels = [f"{f.label}({f.link})" for f in families]
    return BackendTable(
        installed,
        pd.DataFrame(marks, index=features),
        pd.DataFrame(reasons, index=features),
        pd.DataFrame(cells, index=labels),
        pd.DataFrame(why, index=labels),
    )


def _mark(cls: type[Backend], family: Family) -> str:
    mixed, plain = (cls.families.answer(family, mixed=m) for m in (True, False))
    if isinstance(mixed, Yes) or not isinstance(plain, Yes):
        return mixed.mark
    return "without groups"


def _why_not(cls: type[Backend], family: Family) -> str:
    answer = cls.families.answer(family, mixed=True)
    return answer.how if isinstance(answer, Yes) else answer.reason
