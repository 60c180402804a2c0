"""Tables of models as HTML, Markdown, LaTeX and Word, whatever the names in them hold."""

from __future__ import annotations

import csv
import html as entities
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.display import escape_latex

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"


HOSTILE = "<script>alert(1)</script> a_b & 5% | $x^2$ #1 {y} ~ \\z *s* `c` [k]"


@pytest.fixture(scope="module")
def hostile(fits: dict[str, um.FitResult]) -> um.ModelTable:
    return um.table(
        [fits["small"], fits["pls"]],
        [HOSTILE, "b--c"],
        coef_names={"Days": HOSTILE},
        show="both",
        stars=True,
        caption=HOSTILE,
    )


class Cells(HTMLParser):
    """Texts of all table cells, with their spans; balance of tags."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[tuple[str, int]]] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag in ("meta", "br"):
            return
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append(("", int(dict(attrs).get("colspan") or 1)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            text, span = self.rows[-1][-1]
            self.rows[-1][-1] = (text + data.strip(), span)


def test_html_is_whole_and_escaped(hostile: um.ModelTable, tmp_path: Path) -> None:
    for content in (hostile.to_html(), hostile.save(tmp_path / "t.html").read_text(encoding="utf-8")):
        reader = Cells()
        reader.feed(content)
        assert reader.open == []
        assert "script" not in reader.tags
        texts = [text for row in reader.rows for text, _ in row]
        assert HOSTILE in texts
        for line in hostile.grid.lines:
            for cell in line.cells:
                assert cell.replace("-", "\N{MINUS SIGN}") in texts or cell in texts
    assert hostile._repr_html_() is not None
    assert entities.escape(HOSTILE, quote=False) in hostile.to_html()


def test_markdown_has_as_many_cells_in_every_row(hostile: um.ModelTable) -> None:
    rows = [line for line in hostile.to_markdown().splitlines() if line.startswith("|")]
    assert {len(re.split(r"(?<!\\)\|", row)) for row in rows} == {hostile.grid.width + 3}
    assert r"\*\*\*" in hostile.to_markdown()
    assert not re.search(r"(?<!\\)[*_]s", hostile.to_markdown())
    assert "`Reaction ~ Days + (1 | Subject)`" in hostile.to_markdown()


def latex_cells(line: str) -> int:
    spans = [int(s) for s in re.findall(r"\\multicolumn\{(\d+)\}", line)]
    return len(re.findall(r"(?<!\\)&", line)) + 1 + sum(spans) - len(spans)


@pytest.mark.parametrize("layout", ["below", "beside"])
def test_latex_is_balanced(fits: dict[str, um.FitResult], layout: Any, hostile: um.ModelTable) -> None:
    beside = um.table([fits["small"], fits["pls"]], layout=layout, show="both", p_values=True)
    for table in (hostile, beside):
        text = table.to_latex()
        body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert {latex_cells(line) for line in rows} == {table.grid.width + 1}
        assert len(rows) == len(table.grid.heads) + len(table.grid.lines) + len(table.grid.sections)
        plain = re.sub(r"\\[\\{}%$#&_]", "", text)
        assert plain.count("{") == plain.count("}")
        assert plain.count("$") % 2 == 0
        outside = re.sub(r"\$[^$]*\$", "", plain.split("\n", 1)[1])
        assert not re.search(r"[%#^_~|<>]", outside)
        assert re.findall(r"\\begin\{(\w+)\}", text) == ["table", "tabular", "minipage"]
        assert re.findall(r"\\end\{(\w+)\}", text) == ["tabular", "minipage", "table"]
        # a row that began with * or [ would be read as an argument of the \\ before it
        assert not any(re.match(r"\s*[\[*]", line) for line in body.splitlines())


def test_latex_escapes() -> None:
    assert escape_latex("a_b & 5% #1 $x$ {y}") == r"a\_b \& 5\% \#1 \$x\$ \{y\}"
    assert escape_latex("SD (Days | Subject)") == "SD (Days $|$ Subject)"
    assert escape_latex("^2 ~ \\z") == r"\textasciicircum{}2 \textasciitilde{} \textbackslash{}z"
    assert escape_latex("a--b<c") == r"a-{}-b\textless{}c"


def test_word_gets_a_table(hostile: um.ModelTable, tmp_path: Path) -> None:
    docx = pytest.importorskip("docx")
    grid = hostile.grid
    document = docx.Document(str(hostile.save(tmp_path / "t.docx")))
    (table,) = document.tables
    texts = []
    for row in table.rows:
        cells = row._tr.tc_lst
        assert sum(c.grid_span for c in cells) == grid.width + 1
        texts += ["".join(t.text or "" for t in c.iter(f"{W}t")) for c in cells]
    assert len(table.rows) == len(grid.heads) + len(grid.lines) + len(grid.sections)
    assert HOSTILE in texts
    assert "\N{MINUS SIGN}871.81" in texts
    assert sum(row._tr.find(f"{W}trPr/{W}tblHeader") is not None for row in table.rows) == len(grid.heads)
    assert all(row._tr.find(f"{W}trPr/{W}cantSplit") is not None for row in table.rows)
    marks = [
        run.text
        for row in table.rows
        for c in row.cells
        for p in c.paragraphs
        for run in p.runs
        if run.font.superscript
    ]
    assert set(marks) == {h.mark for heads in grid.heads for h in heads if h.mark}
    assert [p.text for p in document.paragraphs] == [*([grid.caption] if grid.caption else []), *map(str, grid.notes)]
    page = document.sections[0]
    assert (page.page_width > page.page_height) == (grid.width > 4)


def test_what_no_xml_can_hold_is_replaced(tmp_path: Path) -> None:
    docx = pytest.importorskip("docx")
    fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"), "pls")
    path = um.table([fit], coef_names={"Days": "Da\x00ys"}, caption="a\x0bb").to_docx(tmp_path / "t.docx")
    document = docx.Document(str(path))
    assert document.paragraphs[0].text == "a\N{REPLACEMENT CHARACTER}b"
    assert "Da\N{REPLACEMENT CHARACTER}ys" in [row.cells[0].text for row in document.tables[0].rows]


def test_files_by_their_ending(hostile: um.ModelTable, tmp_path: Path) -> None:
    assert hostile.save(tmp_path / "t.tex").read_text(encoding="utf-8") == hostile.to_latex()
    assert hostile.save(str(tmp_path / "t.MD")).read_text(encoding="utf-8") == hostile.to_markdown()
    read = pd.read_csv(hostile.save(tmp_path / "t.csv"), index_col=[0, 1, 2])
    assert float(read.loc[("Fit", "AIC", "value")].iloc[1]) == hostile.frame.loc[("Fit", "AIC", "value")].iloc[1]
    with pytest.raises(um.OptionError, match=r"ends in '.doc': choose .html, .tex, .md, .docx, .csv. Did you mean"):
        hostile.save(tmp_path / "t.doc")


def test_without_great_tables_or_python_docx_the_line_to_type_is_told(
    hostile: um.ModelTable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from unimix.installation import pip_line

    monkeypatch.setitem(sys.modules, "great_tables", None)
    monkeypatch.setitem(sys.modules, "docx", None)
    with pytest.raises(um.EngineNotInstalledError, match="HTML tables are made by great_tables") as html:
        hostile.to_html()
    with pytest.raises(um.EngineNotInstalledError, match="Word tables are made by python-docx") as word:
        hostile.to_docx(tmp_path / "t.docx")
    assert pip_line("tables") in str(html.value)
    assert pip_line("tables") in str(word.value)
    assert hostile._repr_html_() is None
    assert hostile.to_latex()


FIRST = ("=", "+", "-", "@", "\t", "\r")
"""First characters of cells that spreadsheets run as formulas (OWASP, "CSV Injection")."""


@pytest.mark.parametrize("first", FIRST)
def test_no_text_in_a_csv_file_is_run_by_a_spreadsheet(tmp_path: Path, first: str) -> None:
    rng = np.random.default_rng(0)
    name = f"{first}cmd|'/C calc'!A0"
    data = pd.DataFrame({"y": rng.normal(size=60), name: rng.normal(size=60), "g": np.arange(60) % 6})
    fit = um.fit(f"y ~ `{name}` + (1 | g)", data)
    table = um.table({name: fit})
    with table.save(tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    texts = [cell for cell in cells if cell and not cell.replace(".", "").replace("e-", "").lstrip("-").isdigit()]
    assert [text for text in texts if text.startswith(FIRST)] == []
    assert cells.count(f"'{name}") == 3  # the head, the estimate and its error
    assert f"{fit.fixed.estimate[1]}" in cells


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
    (tmp_path / "folder.csv").mkdir()
    for write in (um.table(fit).save, fit.to_json):
        with pytest.raises(um.DataError, match=r"'.*folder\.csv' cannot be written: \[Errno"):
            write(tmp_path / "folder.csv")
        with pytest.raises(um.DataError, match="cannot be written"):
            write(tmp_path / "nowhere" / "t.csv")
        with pytest.raises(um.OptionError, match="is not the path of a file"):
            write("a\0b.csv")
