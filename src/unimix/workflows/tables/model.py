"""The table as plain data, and its way into files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from unimix.display import Block, Printed, without_math
from unimix.errors import EngineNotInstalledError, OptionError, did_you_mean, listing
from unimix.workflows.tables import docx, html, latex, text
from unimix.workflows.tables.cells import Column, Layout, Note, Row
from unimix.workflows.tables.layout import Grid, laid_out


@dataclass(frozen=True, repr=False)
class ModelTable(Printed):
    """Models side by side: what :func:`unimix.table` makes.

    Attributes:
        columns: One per model.
        rows: In the order printed.
        notes: Below the table: what the numbers are, what did not converge, formulas, software.
        layout: below or beside: where errors, intervals and p values stand.
        caption: Of the table, or empty.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[Note, ...]
    layout: Layout
    caption: str

    @property
    def frame(self) -> pd.DataFrame:
        """Index section, row, quantity; one column per model, with numbers as they are (None where there is none)."""
        found: dict[tuple[str, str, str], list[Any]] = {}
        for row in self.rows:
            for j, cells in enumerate(row.cells):
                for cell in cells:
                    values = {cell.kind: cell.value} if cell.kind != "interval" else _ends(cell.value)
                    for quantity, value in values.items():
                        key = (row.section, row.label, quantity)
                        found.setdefault(key, [None] * len(self.columns))[j] = value
        index = pd.MultiIndex.from_tuples(list(found), names=["section", "row", "quantity"])
        return pd.DataFrame(list(found.values()), index=index, columns=[c.label for c in self.columns], dtype=object)

    @property
    def grid(self) -> Grid:
        """Heads and lines as they are printed."""
        return laid_out(self)

    def to_markdown(self) -> str:
        """A pipe table, with the notes below."""
        return text.markdown(self.grid)

    def to_latex(self) -> str:
        r"""A ``table`` environment; it needs ``\usepackage{booktabs}`` alone."""
        return latex.latex(self.grid)

    def great_table(self) -> Any:
        """The table as a ``great_tables.GT``, to be styled further.

        Raises:
            EngineNotInstalledError: If great_tables is missing.
        """
        return html.great_table(self.grid)

    def to_html(self) -> str:
        """An HTML fragment with its style, by great_tables; Word takes it, too.

        Raises:
            EngineNotInstalledError: If great_tables is missing.
        """
        return str(self.great_table().as_raw_html())

    def to_docx(self, path: str | Path) -> Path:
        """Write a Word document that holds the table, editable, with repeating heads.

        Args:
            path: Of the file.

        Raises:
            EngineNotInstalledError: If python-docx is missing.
        """
        return docx.write(self.grid, Path(path))

    def save(self, path: str | Path) -> Path:
        """Write a file of the kind that its name ends with.

        Args:
            path: Ending in .html, .tex, .md, .docx or .csv (the numbers of :attr:`frame`).

        Raises:
            OptionError: For another ending.
            EngineNotInstalledError: For HTML, if great_tables is missing; for Word, if python-docx is.
        """
        path = Path(path)
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
                content = self.frame.to_csv(lineterminator="\n")
            case other:
                known = (".html", ".tex", ".md", ".docx", ".csv")
                hint = did_you_mean(other, known) if other else ""
                raise OptionError(f"{str(path)!r} ends in {other!r}: choose {listing(known)}.{hint}")
        path.write_text(content, encoding="utf-8")
        return path

    def _view(self) -> Iterable[Block]:
        return text.plain(self.grid).splitlines()

    def _repr_html_(self) -> str | None:
        try:
            return without_math(self.to_html())
        except EngineNotInstalledError:
            return None  # notebooks show the plain text then


def _ends(value: object) -> dict[str, Any]:
    lower, upper = value if isinstance(value, tuple) else (None, None)
    return {"lower": lower, "upper": upper}


__all__ = ["ModelTable"]
