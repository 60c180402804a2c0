"""Tables in HTML, by great_tables."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pandas as pd

from unimix.display import html_number
from unimix.installation import import_for
from unimix.workflows.tables.layout import OTHERWISE, Grid


def load() -> ModuleType:
    """Import great_tables.

    Raises:
        EngineNotInstalledError: If it is missing.
    """
    return import_for("HTML tables are made by great_tables.", "great_tables", extra="tables", otherwise=OTHERWISE)


def great_table(grid: Grid) -> Any:
    """A ``great_tables.GT`` with heads as spanners, sections as row groups, and notes as source notes."""
    gt = load()
    columns = [f"column_{j}" for j in range(grid.width)]
    frame = pd.DataFrame([[*map(html_number, line.cells)] for line in grid.lines], columns=columns, dtype=str)
    frame.insert(0, "label", [line.label for line in grid.lines])
    frame.insert(0, "section", [line.section for line in grid.lines])
    table = gt.GT(frame, rowname_col="label", groupname_col="section")
    table = table.cols_label(**dict(zip(columns, (str(h) for h in grid.heads[-1]), strict=True)))
    for level, row in enumerate(reversed(grid.heads[:-1])):
        at = 0
        for k, head in enumerate(row):
            if head.text:
                covered = columns[at : at + head.span]
                table = table.tab_spanner(str(head), covered, level=level, id=f"head_{level}_{k}", gather=False)
            at += head.span
    table = table.cols_align("center", columns)
    if grid.caption:
        table = table.tab_header(grid.caption)
    for note in grid.notes:
        table = table.tab_source_note(str(note))
    return table


__all__ = ["great_table", "load"]
