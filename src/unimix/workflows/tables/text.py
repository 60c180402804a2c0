"""Tables as plain text and as Markdown."""

from __future__ import annotations

from unimix.display import escape_markdown
from unimix.workflows.tables.cells import Note
from unimix.workflows.tables.layout import Grid


def plain(grid: Grid) -> str:
    """The table as plain text for a terminal, with heads above their columns and notes below."""
    labels = ["", *(f"  {line.label}" if line.label else "" for line in grid.lines), *(s for s, _ in grid.sections)]
    stub = max(len(label) for label in labels)
    columns = range(grid.width)
    widths = [max(len(str(grid.heads[-1][j])), *(len(line.cells[j]) for line in grid.lines), 1) for j in columns]
    for row in grid.heads[:-1]:  # a head that is wider than its columns widens the last of them
        at = 0
        for head in row:
            room = sum(widths[at : at + head.span]) + 2 * (head.span - 1)
            widths[at + head.span - 1] += max(0, len(str(head)) - room)
            at += head.span
    total = stub + sum(widths) + 2 * grid.width
    lines = [grid.caption, ""] if grid.caption else []
    lines.append("-" * total)
    for row in grid.heads:
        at, text = 0, " " * stub
        for head in row:
            text += "  " + str(head).center(sum(widths[at : at + head.span]) + 2 * (head.span - 1))
            at += head.span
        lines.append(text.rstrip())
    lines.append("-" * total)
    for section, body in grid.sections:
        lines.append(section)
        for line in body:
            label = f"  {line.label}" if line.label else ""
            cells = "".join(f"  {cell.center(w)}" for cell, w in zip(line.cells, widths, strict=True))
            lines.append(f"{label.ljust(stub)}{cells}".rstrip())
    lines.append("-" * total)
    return "\n".join([*lines, *(str(note) for note in grid.notes)])


def markdown(grid: Grid) -> str:
    """The table as a pipe table. Rows of heads are joined, because Markdown has only one row of heads."""
    heads = [""] * grid.width
    for row in grid.heads:
        at = 0
        for head in row:
            for j in range(at, at + head.span):
                heads[j] = "<br>".join(t for t in (heads[j], escape_markdown(str(head))) if t)
            at += head.span
    lines = [f"**{escape_markdown(grid.caption)}**", ""] if grid.caption else []
    lines += [f"| | {' | '.join(heads)} |", f"|:---|{':---:|' * grid.width}"]
    for section, body in grid.sections:
        lines.append(f"| **{escape_markdown(section)}** |{' |' * grid.width}")
        lines += [
            f"| {escape_markdown(line.label)} | {' | '.join(escape_markdown(c) for c in line.cells)} |" for line in body
        ]
    lines.append("")
    for note in grid.notes:
        lines += [_note(note), ""]
    return "\n".join(lines)


def _note(note: Note) -> str:
    code = " ".join(note.code.split())
    fence = "``" if "`" in code else "`"
    parts = (note.mark, escape_markdown(note.text), f"{fence}{code}{fence}" if code else "")
    return " ".join(p for p in parts if p)


__all__ = ["markdown", "plain"]
