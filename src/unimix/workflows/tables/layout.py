"""The layout of a table: heads with spans, lines of text, notes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unimix.workflows.tables.cells import Cell, Kind, Note, TableData

if TYPE_CHECKING:
    from collections.abc import Mapping


HEADS: dict[Kind, str] = {
    "estimate": "Estimate",
    "std_error": "SE",
    "interval": "CI",
    "p_value": "p",
    "p_direction": "pd",
}
OTHERWISE = ".to_markdown() and .to_latex() need nothing."
"""What works without the packages that make HTML and Word tables."""
BRACKETS: dict[Kind, str] = {"std_error": "({})", "interval": "[{}]"}


@dataclass(frozen=True)
class Head:
    """One head.

    Attributes:
        text: Text of the head.
        span: Number of columns below the head.
        mark: Mark of a note, or an empty text.
    """

    text: str
    span: int = 1
    mark: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.mark}" if self.mark else self.text


@dataclass(frozen=True)
class Line:
    """One line of the body.

    Attributes:
        section: Section of the line.
        label: Label at the left; empty in the second line of a coefficient.
        cells: Texts of the cells.
    """

    section: str
    label: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """A table as all output formats write it.

    Attributes:
        caption: Caption, or an empty text.
        heads: Rows of heads. Each row covers all columns, and the last row has one head per column.
        lines: Lines of the body.
        notes: Notes below the table.
    """

    caption: str
    heads: tuple[tuple[Head, ...], ...]
    lines: tuple[Line, ...]
    notes: tuple[Note, ...]

    @property
    def width(self) -> int:
        """Number of columns without the labels."""
        return len(self.heads[-1])

    @property
    def sections(self) -> list[tuple[str, list[Line]]]:
        """Lines by section."""
        return [(s, list(lines)) for s, lines in itertools.groupby(self.lines, lambda line: line.section)]


def laid_out(table: TableData) -> Grid:
    """Heads and lines in the table's layout."""
    present = {cell.kind for row in table.rows for cells in row.cells for cell in cells}
    kinds = [k for k in HEADS if k in present or k == "estimate"]
    each = len(kinds) if table.layout == "beside" else 1
    groups = [
        Head(name, each * len(list(c))) for name, c in itertools.groupby(table.columns, lambda column: column.group)
    ]
    heads = [tuple(groups)] if any(h.text for h in groups) else []
    heads.append(tuple(Head(c.name, each, c.mark) for c in table.columns))
    if any(c.response for c in table.columns):
        heads.append(tuple(Head(c.response, each) for c in table.columns))
    if each > 1:
        heads.append(tuple(Head(HEADS[k]) for _ in table.columns for k in kinds))
    lines = []
    for row in table.rows:
        by_kind = [{cell.kind: cell for cell in cells} for cells in row.cells]
        if each > 1:
            row_texts = [_plain(cells.get(k) or _first(cells, k)) for cells in by_kind for k in kinds]
            lines.append(Line(row.section, row.label, tuple(row_texts)))
            continue
        order: tuple[Kind, ...] = (*kinds, "value")
        shown = [k for k in order if any(k in cells for cells in by_kind)]
        for i, kind in enumerate(shown):
            texts = tuple(_bracketed(cells.get(kind)) for cells in by_kind)
            if not i or any(texts):
                lines.append(Line(row.section, "" if i else row.label, texts))
    return Grid(table.caption, tuple(heads), tuple(lines), table.notes)


def _first(cells: Mapping[Kind, Cell], kind: Kind) -> Cell | None:
    """The value of a row without estimate, error and interval, such as a criterion, in the column of estimates."""
    return cells.get("value") if kind == "estimate" else None


def _plain(cell: Cell | None) -> str:
    return f"{cell.text}{cell.stars}" if cell is not None else ""


def _bracketed(cell: Cell | None) -> str:
    if cell is None or not cell.text:
        return ""
    if cell.kind in ("p_value", "p_direction"):
        equals = "" if cell.text.startswith(("<", ">")) else "= "
        return f"{HEADS[cell.kind]} {equals}{cell.text}"
    return BRACKETS.get(cell.kind, "{}").format(_plain(cell))


__all__ = ["Grid", "Head", "Line", "Note", "laid_out"]
