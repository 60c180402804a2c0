r"""How results are displayed: a list of lines and text tables, rendered as text, HTML, Markdown or LaTeX.

The content is described once, so that a notebook shows what a terminal shows, and users' names (columns, levels, notes)
are escaped in one place for each format. This module needs only the standard library.
"""

from __future__ import annotations

import html
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

GAP = "  "


@dataclass(frozen=True)
class TextTable:
    """A table whose cells are text.

    Attributes:
        heads: Column headings, one per column; all empty for a table without headings.
        rows: Rows of cells, each with one cell per column.
        align: Alignment of the columns, one letter each: l for left, r for right.
        stub: Number of leading columns that name the row.
        indent: Number of blanks before each line of text.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    align: str
    stub: int = 0
    indent: int = 0


@dataclass(frozen=True)
class Code:
    """Lines of code: what to type, or the call that an engine received."""

    text: str
    indent: int = 2


Block = str | TextTable | Code
"""A sentence (an empty one is a gap), a table, or code."""


class Printed(ABC):
    """Base of objects that print themselves, in terminals and notebooks, from one list of blocks."""

    @abstractmethod
    def _view(self) -> Iterable[Block]:
        """The lines and tables that are shown."""

    def __str__(self) -> str:
        return as_text(self._view())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str | None:
        return as_html(self._view())


# -- text ---------------------------------------------------------------------------------------


def as_text(blocks: Iterable[Block]) -> str:
    """Blocks for a terminal."""
    return "\n".join(line for block in blocks for line in _lines(block))


def _lines(block: Block) -> list[str]:
    match block:
        case TextTable():
            heads = [block.heads] if any(block.heads) else []
            rows = [tuple(_one_line(cell) for cell in row) for row in (*heads, *block.rows)]
            widths = [max(len(row[j]) for row in rows) for j in range(len(block.heads))] if rows else []
            return [" " * block.indent + _padded(row, widths, block.align) for row in rows]
        case Code():
            return [" " * block.indent + line for line in block.text.splitlines()]
        case _:
            return [block]


def _padded(row: Sequence[str], widths: Sequence[int], align: str) -> str:
    cells = [c.ljust(w) if a == "l" else c.rjust(w) for c, w, a in zip(row, widths, align, strict=True)]
    return GAP.join(cells).rstrip()


def _one_line(text: str) -> str:
    return " ".join(text.splitlines()) if "\n" in text else text


# -- HTML ---------------------------------------------------------------------------------------


def as_html(blocks: Iterable[Block]) -> str:
    """Blocks for a notebook."""
    return without_math("\n".join(_html(block) for block in blocks))


def without_math(content: str) -> str:
    """HTML in which a notebook does not render text between dollar signs as mathematics."""
    return f'<div class="tex2jax_ignore mathjax_ignore">{content}</div>'


def escape_html(text: str) -> str:
    """Text escaped for HTML, so that nothing in it is markup."""
    return html.escape(text)


def _html(block: Block) -> str:
    match block:
        case TextTable():
            heads = "".join(_cell("th", h, a) for h, a in zip(block.heads, block.align, strict=True))
            rows = "".join(
                "<tr>"
                + "".join(_cell("th" if j < block.stub else "td", cell, block.align[j]) for j, cell in enumerate(row))
                + "</tr>"
                for row in block.rows
            )
            head = f"<thead><tr>{heads}</tr></thead>" if any(block.heads) else ""
            return f'<table class="dataframe">{head}<tbody>{rows}</tbody></table>'
        case Code():
            return f"<pre>{escape_html(block.text)}</pre>"
        case _:
            lines = ' style="white-space: pre-line"' if "\n" in block else ""
            return f"<p{lines}>{escape_html(block)}</p>"


def _cell(tag: str, text: str, align: str) -> str:
    side = "left" if align == "l" else "right"
    return f'<{tag} style="text-align: {side}">{escape_html(text)}</{tag}>'


# -- Markdown -----------------------------------------------------------------------------------

_MARKDOWN = re.compile(
    r"([\\`*|<>\[\]$]|(?<![^\W_])_|_(?![^\W_]))"
)  # Markdown does not treat an underscore inside a word as markup


def escape_markdown(text: str) -> str:
    """Text escaped for Markdown, pipe tables included, so that nothing in it is markup."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def as_markdown(blocks: Iterable[Block]) -> str:
    """Blocks in Markdown, tables as pipe tables."""
    return "\n\n".join(_markdown(block) for block in blocks if block != "")


def _markdown(block: Block) -> str:
    match block:
        case TextTable():
            rule = [":---" if a == "l" else "---:" for a in block.align]
            body = [[escape_markdown(c) for c in row] for row in (block.heads, *block.rows)]
            return "\n".join(f"| {' | '.join(row)} |" for row in (body[0], rule, *body[1:]))
        case Code():
            return "\n".join(f"    {line}" for line in block.text.splitlines())
        case _:
            return escape_markdown(block)


# -- LaTeX --------------------------------------------------------------------------------------

LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "&": r"\&",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": "$|$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "†": r"\textsuperscript{\textdagger}",
    "‡": r"\textsuperscript{\textdaggerdbl}",
}
_LATEX = re.compile("[" + re.escape("".join(LATEX)) + "]")
_MINUS = re.compile(r"(?<![\w.)\]])-(?=[\d.]|Inf)")
_POWER = re.compile(r"(-?)(\d\.\d+)e([+-])0*(\d+)")


def escape_latex(text: str) -> str:
    """Text escaped for LaTeX, so that nothing in it is a command and hyphens stay hyphens."""
    return re.sub(r"-(?=-)", "-{}", _LATEX.sub(lambda m: LATEX[m.group()], " ".join(text.split())))


def latex_number(text: str) -> str:
    """A table cell with a number in LaTeX, with real minus signs and powers of ten."""
    powered = _POWER.sub(
        lambda m: f"${m[1]}{m[2]} \\times 10^{{{'-' if m[3] == '-' else ''}{m[4]}}}$", escape_latex(text)
    )  # the minus signs are inside
    return powered if "\\times" in powered else _MINUS.sub("$-$", powered)


def html_number(text: str) -> str:
    """A table cell with a number in HTML, with a real minus sign."""
    return _MINUS.sub("\N{MINUS SIGN}", text)


def as_latex(blocks: Iterable[Block], *, caption: str = "", label: str = "") -> str:
    r"""Blocks as a LaTeX ``table`` environment, with sentences as notes in small print.

    The result needs no package other than booktabs: ``\usepackage{booktabs}``.

    Args:
        blocks: Tables and sentences.
        caption: Caption of the table; an empty text gives none.
        label: Label for ``\ref``; an empty text gives none.
    """
    lines = [r"% needs \usepackage{booktabs}", r"\begin{table}[htbp]", r"\centering"]
    lines += [rf"\caption{{{escape_latex(caption)}}}"] if caption else []
    lines += [rf"\label{{{label}}}"] if label else []
    for is_table, group in groupby((b for b in blocks if b != ""), lambda b: isinstance(b, TextTable)):
        lines += [r"\par\smallskip"] if lines[-1].startswith(r"\end") else []
        if is_table:
            lines += [line for table in group if isinstance(table, TextTable) for line in _tabular(table)]
        else:
            texts = [b.text if isinstance(b, Code) else b for b in group if not isinstance(b, TextTable)]
            lines.append(r"\begin{minipage}{\linewidth}\footnotesize\raggedright")
            lines += [rf"{escape_latex(text)}\par" for text in texts]
            lines.append(r"\end{minipage}")
    return "\n".join([*lines, r"\end{table}", ""])


def _tabular(table: TextTable) -> list[str]:
    lines = [rf"\begin{{tabular}}{{{table.align}}}", r"\toprule"]
    lines += [" & ".join(map(escape_latex, table.heads)) + r" \\", r"\midrule"] if any(table.heads) else []
    for row in table.rows:
        cells = zip(row, table.align, strict=True)
        lines.append(" & ".join(latex_number(c) if a == "r" else escape_latex(c) for c, a in cells) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}"]


__all__ = [
    "Block",
    "Code",
    "Printed",
    "TextTable",
    "as_html",
    "as_latex",
    "as_markdown",
    "as_text",
    "escape_html",
    "escape_latex",
    "escape_markdown",
    "html_number",
    "latex_number",
    "without_math",
]
