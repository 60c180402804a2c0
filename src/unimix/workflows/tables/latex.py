r"""Tables in LaTeX, with booktabs."""

from __future__ import annotations

import re

from unimix.display import escape_latex, latex_number
from unimix.workflows.tables.cells import Note
from unimix.workflows.tables.layout import Grid, Head

_STARS = re.compile(r"(?<=[\d.$])(\*+)")


def numbers(text: str) -> str:
    """The text of a cell in LaTeX: a number with raised stars."""
    return _STARS.sub(r"\\textsuperscript{\1}", latex_number(text))


def latex(grid: Grid) -> str:
    """The table as a ``table`` environment."""
    columns = grid.width + 1
    lines = [r"% needs \usepackage{booktabs}", r"\begin{table}[htbp]", r"\centering"]
    lines += [rf"\caption{{{escape_latex(grid.caption)}}}"] if grid.caption else []
    lines += [rf"\begin{{tabular}}{{l{'c' * grid.width}}}", r"\toprule"]
    for i, row in enumerate(grid.heads):
        lines.append(" & " + " & ".join(_head(h) for h in row) + r" \\")
        rules = _rules(row) if i < len(grid.heads) - 1 else []
        lines += ["".join(rules)] if rules else []
    lines.append(r"\midrule")
    for i, (section, body) in enumerate(grid.sections):
        lines += [r"\addlinespace"] if i else []
        lines.append(rf"\multicolumn{{{columns}}}{{l}}{{\textit{{{escape_latex(section)}}}}} \\")
        lines += [rf"\quad {escape_latex(r.label)} & " + " & ".join(numbers(c) for c in r.cells) + r" \\" for r in body]
    lines += [r"\bottomrule", r"\end{tabular}"]
    if grid.notes:
        lines += [r"\par\smallskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright"]
        lines += [f"{_note(note)}\\par" for note in grid.notes]
        lines.append(r"\end{minipage}")
    return "\n".join([*lines, r"\end{table}", ""])


def _head(head: Head) -> str:
    text = escape_latex(head.text) + escape_latex(head.mark)
    return rf"\multicolumn{{{head.span}}}{{c}}{{{text}}}" if head.span > 1 else text


def _rules(row: tuple[Head, ...]) -> list[str]:
    rules, at = [], 2
    for head in row:
        if head.span > 1 and head.text:
            rules.append(rf"\cmidrule(lr){{{at}-{at + head.span - 1}}}")
        at += head.span
    return rules


def _note(note: Note) -> str:
    code = rf"\texttt{{{escape_latex(note.code)}}}" if note.code else ""
    return " ".join(p for p in (escape_latex(note.mark) + escape_latex(note.text), code) if p)


__all__ = ["latex"]
