"""A table of models as plain data, and its output to text and files."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from unimix.argument_types import file_at
from unimix.display import Block, Printed, without_math
from unimix.errors import EngineNotInstalledError, OptionError, did_you_mean, listing
from unimix.fitted.saving import written
from unimix.foreign_names import suggests_names
from unimix.workflows.tables import docx, html, latex, text
from unimix.workflows.tables.cells import Column, Layout, Note, Row
from unimix.workflows.tables.layout import Grid, laid_out


@suggests_names(path=None)
@dataclass(frozen=True, repr=False)
class ModelTable(Printed):
    """The answer of :func:`unimix.table`: models side by side.

    Attributes:
        columns: One column head per model.
        rows: Rows in the order of the table.
        notes: Notes below the table: meaning of the numbers, models that did not converge, formulas, software.
        layout: Position of errors, intervals and p values: below the estimates or beside them.
        caption: Caption of the table, or an empty text.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
        >>> um.table(fit, sections="fixed").frame.xs("estimate", level="quantity")
                                        pls
        section       row
        Fixed effects Intercept  251.405105
                      Days        10.467286
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[Note, ...]
    layout: Layout
    caption: str

    @property
    def frame(self) -> pd.DataFrame:
        """The unrounded numbers, with the index section, row, quantity, and one column per model; None for no value."""
        values_by_row: dict[tuple[str, str, str], list[Any]] = {}
        for row in self.rows:
            for j, cells in enumerate(row.cells):
                for cell in cells:
                    values = {cell.kind: cell.value} if cell.kind != "interval" else _ends(cell.value)
                    for quantity, value in values.items():
                        key = (row.section, row.label, quantity)
                        values_by_row.setdefault(key, [None] * len(self.columns))[j] = value
        index = pd.MultiIndex.from_tuples(list(values_by_row), names=["section", "row", "quantity"])
        return pd.DataFrame(
            list(values_by_row.values()), index=index, columns=[c.label for c in self.columns], dtype=object
        )

    @property
    def grid(self) -> Grid:
        """Heads and lines of the printed table."""
        return laid_out(self)

    def to_markdown(self) -> str:
        """The table as a pipe table of Markdown, with the notes below."""
        return text.markdown(self.grid)

    def to_latex(self) -> str:
        r"""The table as a ``table`` environment of LaTeX, which only needs ``\usepackage{booktabs}``."""
        return latex.latex(self.grid)

    def great_table(self) -> Any:
        """The table as a ``great_tables.GT``, which can be styled further.

        Raises:
            EngineNotInstalledError: If great_tables is missing.
        """
        return html.great_table(self.grid)

    def to_html(self) -> str:
        """The table as an HTML fragment with its style, by great_tables. It can be pasted into Word.

        Raises:
            EngineNotInstalledError: If great_tables is missing.
        """
        return str(self.great_table().as_raw_html())

    def to_docx(self, path: str | Path) -> Path:
        """Write the table to a Word document, where it can be edited; its heads repeat on every page.

        Args:
            path: Path of the file.

        Raises:
            EngineNotInstalledError: If python-docx is missing.
        """
        return docx.write(self.grid, file_at(path))

    def save(self, path: str | Path) -> Path:
        """Write the table to a file, in the format that the ending of its name says.

        Args:
            path: Path with the ending .html, .tex, .md, .docx or .csv (the numbers of :attr:`frame`; a name that a
                spreadsheet would run as a formula, such as ``=x``, has an apostrophe in front).

        Raises:
            OptionError: If the ending is another one.
            EngineNotInstalledError: For HTML, if great_tables is missing; for Word, if python-docx is.
        """
        path = file_at(path)
        match path.suffix.lower():
            case ".docx":
                return self.to_docx(path)
            case ".html":
                content = str(self.great_table().as_raw_html(make_page=True))
            case ".tex":
                content = self.to_latex()
            case ".md":
                content = self.to_markdown()
            case ".csv":
                content = _for_spreadsheets(self.frame).to_csv(lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
            case other:
                known = (".html", ".tex", ".md", ".docx", ".csv")
                hint = did_you_mean(other, known) if other else ""
                raise OptionError(f"{str(path)!r} ends in {other!r}: choose {listing(known)}.{hint}")
        written(content, path)
        return path

    def _view(self) -> Iterable[Block]:
        return text.plain(self.grid).splitlines()

    def _repr_html_(self) -> str | None:
        try:
            return without_math(self.to_html())
        except EngineNotInstalledError:
            return None  # notebooks then show the plain text


def _for_spreadsheets(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with an apostrophe before every text that a spreadsheet would run as a formula."""

    def harmless(cell: Any) -> Any:
        return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell

    index = frame.index.map(lambda key: tuple(map(harmless, key)))
    return (
        frame.map(harmless).set_axis(index.set_names(frame.index.names)).set_axis(frame.columns.map(harmless), axis=1)
    )


def _ends(value: object) -> dict[str, Any]:
    lower, upper = value if isinstance(value, tuple) else (None, None)
    return {"lower": lower, "upper": upper}


__all__ = ["ModelTable"]
