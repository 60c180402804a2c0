"""Tables in Word documents, by python-docx."""

from __future__ import annotations

import io
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from unimix.display import html_number
from unimix.fitted.saving import written
from unimix.installation import import_for
from unimix.workflows.tables.layout import OTHERWISE, Grid

_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML does not allow."""
WIDEST = 4
"""Largest number of columns, without the labels, that fit on a page in portrait format."""


def load() -> ModuleType:
    """Import python-docx.

    Raises:
        EngineNotInstalledError: If it is missing.
    """
    return import_for("Word tables are made by python-docx.", "docx", extra="tables", otherwise=OTHERWISE)


def write(grid: Grid, path: Path) -> Path:
    """Write a document with the table between its caption and its notes.

    Args:
        grid: The table.
        path: Path of the file.

    Raises:
        EngineNotInstalledError: If python-docx is missing.
    """
    document = load().Document()
    _dress(document, wide=grid.width > WIDEST)
    if grid.caption:
        _put(document.add_paragraph(), grid.caption).bold = True
    table = document.add_table(rows=0, cols=grid.width + 1)
    table.autofit = True
    for i, heads in enumerate(grid.heads):
        row, last = table.add_row(), i == len(grid.heads) - 1
        _mark(row, "w:tblHeader")
        cells, at = row.cells, 1
        _rule(cells[0], top=not i, bottom=last)
        for head in heads:
            cell = cells[at].merge(cells[at + head.span - 1])
            _put(cell.paragraphs[0], head.text, centred=True)
            if head.mark:
                _put(cell.paragraphs[0], head.mark, centred=True).font.superscript = True
            _rule(cell, top=not i, bottom=last or (head.span > 1 and bool(head.text)))
            at += head.span
    for section, body in grid.sections:
        cells = table.add_row().cells
        _put(cells[0].merge(cells[-1]).paragraphs[0], section).italic = True
        for line in body:
            cells = table.add_row().cells
            _put(cells[0].paragraphs[0], line.label)
            cells[0].paragraphs[0].paragraph_format.left_indent = load().shared.Pt(10)
            for cell, text in zip(cells[1:], line.cells, strict=True):
                _put(cell.paragraphs[0], html_number(text), centred=True)
    for row in table.rows:
        _mark(row, "w:cantSplit")
    for cell in dict.fromkeys(table.rows[-1].cells):
        _rule(cell, top=False, bottom=True)
    for note in grid.notes:
        _put(document.add_paragraph(), str(note)).font.size = load().shared.Pt(9)
    content = io.BytesIO()
    document.save(content)
    return written(content.getvalue(), path)


def _dress(document: Any, *, wide: bool) -> None:
    """Set A4 pages (landscape for wide tables) and Times at 10 points, and remove the author of the template."""
    from docx.enum.section import WD_ORIENT
    from docx.shared import Cm, Pt

    normal, page = document.styles["Normal"], document.sections[0]
    normal.font.name, normal.font.size = "Times New Roman", Pt(10)
    normal.paragraph_format.space_before, normal.paragraph_format.space_after = Pt(0), Pt(1)
    page.page_width, page.page_height = (Cm(29.7), Cm(21)) if wide else (Cm(21), Cm(29.7))
    page.orientation = WD_ORIENT.LANDSCAPE if wide else WD_ORIENT.PORTRAIT
    page.left_margin = page.right_margin = page.top_margin = page.bottom_margin = Cm(2)
    document.core_properties.author, document.core_properties.comments = "", ""


def _put(paragraph: Any, text: str, *, centred: bool = False) -> Any:
    """Add text to a paragraph, and return its run."""
    from docx.enum.text import WD_ALIGN_PARAGRAPH

    if centred:
        paragraph.alignment = WD_ALIGN_PARAGRAPH.CENTER
    return paragraph.add_run(_UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", text))


def _mark(row: Any, name: str) -> None:
    """Set a property of a row for which python-docx has no method: to repeat on every page, or not to be split."""
    from docx.oxml import OxmlElement

    row._tr.get_or_add_trPr().append(OxmlElement(name))


def _rule(cell: Any, *, top: bool, bottom: bool) -> None:
    """Draw lines above and below a cell, for which python-docx has no method either."""
    from docx.oxml import OxmlElement
    from docx.oxml.ns import qn

    borders = OxmlElement("w:tcBorders")
    for side in [*(["w:top"] if top else []), *(["w:bottom"] if bottom else [])]:
        line = OxmlElement(side)
        line.set(qn("w:val"), "single")
        line.set(qn("w:sz"), "6")
        borders.append(line)
    cell._tc.get_or_add_tcPr().append(borders)


__all__ = ["write"]
