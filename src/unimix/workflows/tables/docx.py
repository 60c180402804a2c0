"""Tables in Word's own format (ECMA-376, WordprocessingML), written without other packages."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from xml.sax.saxutils import escape

from unimix.display import html_number
from unimix.workflows.tables.layout import Grid, Head

_SPACE = "http://schemas.openxmlformats.org"
_WORD = f"{_SPACE}/wordprocessingml/2006/main"
_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_TYPE = "application/vnd.openxmlformats-"
PARTS = {
    "[Content_Types].xml": (
        f'{_HEAD}<Types xmlns="{_SPACE}/package/2006/content-types">'
        f'<Default Extension="rels" ContentType="{_TYPE}package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/>'
        '<Override PartName="/word/document.xml" '
        f'ContentType="{_TYPE}officedocument.wordprocessingml.document.main+xml"/></Types>'
    ),
    "_rels/.rels": (
        f'{_HEAD}<Relationships xmlns="{_SPACE}/package/2006/relationships">'
        f'<Relationship Id="rId1" Type="{_SPACE}/officeDocument/2006/relationships/officeDocument" '
        'Target="word/document.xml"/></Relationships>'
    ),
}
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
STUB, COLUMN = 2600, 1500
"""Widths of the labels' and of the other columns, in twentieths of a point; Word fits them to the text."""


def write(grid: Grid, path: Path) -> Path:
    """Write a document with the table between its caption and its notes.

    Args:
        grid: The table.
        path: Of the file.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**PARTS, "word/document.xml": _document(grid)}.items():
            archive.writestr(name, content)
    return path


def _document(grid: Grid) -> str:
    wide = STUB + COLUMN * grid.width > 9600
    size = '<w:pgSz w:w="16838" w:h="11906" w:orient="landscape"/>' if wide else '<w:pgSz w:w="11906" w:h="16838"/>'
    margins = (
        '<w:pgMar w:top="1134" w:right="1134" w:bottom="1134" w:left="1134" w:header="0" w:footer="0" w:gutter="0"/>'
    )
    caption = _paragraph(_run(grid.caption, bold=True), "left") if grid.caption else ""
    notes = "".join(_paragraph(_run(str(note), size=18), "left") for note in grid.notes)
    body = f"{caption}{_table(grid)}{notes or _paragraph('', 'left')}<w:sectPr>{size}{margins}</w:sectPr>"
    return f'{_HEAD}<w:document xmlns:w="{_WORD}"><w:body>{body}</w:body></w:document>'


def _table(grid: Grid) -> str:
    columns = "".join(f'<w:gridCol w:w="{w}"/>' for w in (STUB, *[COLUMN] * grid.width))
    rows = [_head_row(row, first=not i, last=i == len(grid.heads) - 1) for i, row in enumerate(grid.heads)]
    for section, body in grid.sections:
        rows.append(_row(_cell(_paragraph(_run(section, italic=True), "left"), span=grid.width + 1)))
        for line in body:
            cells = [_cell(_paragraph(_run(line.label), "left", indent=bool(line.label)))]
            cells += [_cell(_paragraph(_run(html_number(text)), "center")) for text in line.cells]
            rows.append(_row("".join(cells)))
    rule = '<w:{} w:val="single" w:sz="8" w:space="0" w:color="000000"/>'
    borders = f"<w:tblBorders>{rule.format('top')}{rule.format('bottom')}</w:tblBorders>"
    shape = f'<w:tblPr><w:tblW w:w="0" w:type="auto"/>{borders}<w:tblLayout w:type="autofit"/></w:tblPr>'
    return f"<w:tbl>{shape}<w:tblGrid>{columns}</w:tblGrid>{''.join(rows)}</w:tbl>"


def _head_row(row: tuple[Head, ...], *, first: bool, last: bool) -> str:
    cells = [_cell(_paragraph("", "left"), top=first, bottom=last)]
    for head in row:
        ruled = last or (head.span > 1 and bool(head.text))
        run = _run(head.text) + (_run(head.mark, raised=True) if head.mark else "")
        cells.append(_cell(_paragraph(run, "center"), span=head.span, top=first, bottom=ruled))
    return _row("".join(cells), head=True)


def _row(cells: str, *, head: bool = False) -> str:
    return f"<w:tr><w:trPr><w:cantSplit/>{'<w:tblHeader/>' if head else ''}</w:trPr>{cells}</w:tr>"


def _cell(content: str, *, span: int = 1, top: bool = False, bottom: bool = False) -> str:
    rule = '<w:{} w:val="single" w:sz="{}" w:space="0" w:color="000000"/>'
    ruled = (rule.format("top", 8) if top else "") + (rule.format("bottom", 4) if bottom else "")
    shape = '<w:tcW w:w="0" w:type="auto"/>' + (f'<w:gridSpan w:val="{span}"/>' if span > 1 else "")
    shape += f"<w:tcBorders>{ruled}</w:tcBorders>" if ruled else ""
    return f"<w:tc><w:tcPr>{shape}</w:tcPr>{content}</w:tc>"


def _paragraph(runs: str, align: str, *, indent: bool = False) -> str:
    inside = '<w:ind w:left="200"/>' if indent else ""
    return f'<w:p><w:pPr><w:spacing w:before="0" w:after="20"/>{inside}<w:jc w:val="{align}"/></w:pPr>{runs}</w:p>'


def _run(text: str, *, bold: bool = False, italic: bool = False, raised: bool = False, size: int = 20) -> str:
    if not text:
        return ""
    style = '<w:rFonts w:ascii="Times New Roman" w:hAnsi="Times New Roman" w:cs="Times New Roman"/>'
    style += ("<w:b/>" if bold else "") + ("<w:i/>" if italic else "") + f'<w:sz w:val="{size}"/>'
    style += '<w:vertAlign w:val="superscript"/>' if raised else ""
    shown = escape(_UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", text))
    return f'<w:r><w:rPr>{style}</w:rPr><w:t xml:space="preserve">{shown}</w:t></w:r>'


__all__ = ["write"]
