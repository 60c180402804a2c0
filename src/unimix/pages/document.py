"""HTML pages from templates: everything that comes from a user or an engine is escaped, and nothing is loaded."""

from __future__ import annotations

import base64
import functools
import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from unimix.display import TextTable, html_number

if TYPE_CHECKING:
    from jinja2 import Environment

LIGHTS = {"good": "\N{HEAVY CHECK MARK}", "look": "~", "bad": "\N{HEAVY BALLOT X}"}
"""The sign of each light, so that its meaning does not rest on colour alone."""


@dataclass(frozen=True)
class PageTable:
    """A table of a page.

    Attributes:
        label: What the table holds, for readers who do not see it.
        heads: Headings, one per column; all empty for a table without headings.
        rows: Rows of cells as text.
        align: Alignment of the columns, one letter each: l or r.
        stub: Number of leading columns that name the row.
    """

    label: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    align: str
    stub: int

    @classmethod
    def of(cls, table: TextTable, label: str) -> PageTable:
        """Make the table of a page from a table of text; numbers get real minus signs."""
        rows = tuple(
            tuple(html_number(c) if a == "r" else c for c, a in zip(row, table.align, strict=True))
            for row in table.rows
        )
        return cls(label, table.heads, rows, table.align, table.stub)

    def filled_down(self) -> PageTable:
        """The table with the first cell of every row written out, so that rows can be sorted."""
        rows, first = [], ""
        for row in self.rows:
            first = row[0] or first
            rows.append((first, *row[1:]))
        return replace(self, rows=tuple(rows))


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("unimix.pages"), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )


def render(template: str, **content: Any) -> str:
    """Fill in a template of this folder.

    Args:
        template: Name of the template, such as ``"fit.html"``.
        content: Values by the names that the template uses; every text is escaped.
    """
    return _environment().get_template(template).render(**content)


def png(figure: Any) -> str:
    """A matplotlib figure as base64 text; the figure is closed."""
    from matplotlib import pyplot as plt

    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    plt.close(figure)
    return base64.b64encode(image.getvalue()).decode()


__all__ = ["LIGHTS", "PageTable", "png", "render"]
