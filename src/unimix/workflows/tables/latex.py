r"""Tables in LaTeX, with booktabs."""

from __future__ import annotations

import re

from unimix.workflows.tables.cells import Note
from unimix.workflows.tables.layout import Grid, Head

SPECIAL = {
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
_SPECIAL = re.compile("[" + re.escape("".join(SPECIAL)) + "]")
_MINUS = re.compile(r"(?<![\w.)\]])-(?=[\d.]|Inf)")
_POWER = re.compile(r"(-?)(\d\.\d+)e([+-])0*(\d+)")
_STARS = re.compile(r"(?<=[\d.$])(\*+)")


def escaped(text: str) -> str:
    """Text in which nothing is LaTeX's; hyphens stay hyphens."""
    plain = " ".join(text.split())
    return re.sub(r"-(?=-)", "-{}", _SPECIAL.sub(lambda m: SPECIAL[m.group()], plain))


def numbers(text: str) -> str:
    """A cell: minus signs, powers of ten and raised stars."""
    found = escaped(text)
    found = _POWER.sub(
        lambda m: f"${m[1]}{m[2]} \\times 10^{{{'-' if m[3] == '-' else ''}{m[4]}}}$", found
    )  # the minus signs are inside
    found = _MINUS.sub("$-$", found) if "\\times" not in found else found
    return _STARS.sub(r"\\textsuperscript{\1}", found)


def latex(grid: Grid) -> str:
    """A ``table`` environment."""
    columns = grid.width + 1
    lines = [r"% needs \usepackage{booktabs}", r"\begin{table}[htbp]", r"\centering"]
    lines += [rf"\caption{{{escaped(grid.caption)}}}"] if grid.caption else []
    lines += [rf"\begin{{tabular}}{{l{'c' * grid.width}}}", r"\toprule"]
    for i, row in enumerate(grid.heads):
        lines.append(" & " + " & ".join(_head(h) for h in row) + r" \\")
        rules = _rules(row) if i < len(grid.heads) - 1 else []
        lines += ["".join(rules)] if rules else []
    lines.append(r"\midrule")
    for i, (section, body) in enumerate(grid.sections):
        lines += [r"\addlinespace"] if i else []
        lines.append(rf"\multicolumn{{{columns}}}{{l}}{{\textit{{{escaped(section)}}}}} \\")
        lines += [rf"\quad {escaped(r.label)} & " + " & ".join(numbers(c) for c in r.cells) + r" \\" for r in body]
    lines += [r"\bottomrule", r"\end{tabular}"]
    if grid.notes:
        lines += [r"\par\smallskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright"]
        lines += [f"{_note(note)}\\par" for note in grid.notes]
        lines.append(r"\end{minipage}")
    return "\n".join([*lines, r"\end{table}", ""])


def _head(head: Head) -> str:
    text = escaped(head.text) + escaped(head.mark)
    return rf"\multicolumn{{{head.span}}}{{c}}{{{text}}}" if head.span > 1 else text


def _rules(row: tuple[Head, ...]) -> list[str]:
    found, at = [], 2
    for head in row:
        if head.span > 1 and head.text:
            found.append(rf"\cmidrule(lr){{{at}-{at + head.span - 1}}}")
        at += head.span
    return found


def _note(note: Note) -> str:
    code = rf"\texttt{{{escaped(note.code)}}}" if note.code else ""
    return " ".join(p for p in (escaped(note.mark) + escaped(note.text), code) if p)


__all__ = ["latex"]
