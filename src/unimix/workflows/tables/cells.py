"""A table of models as plain data: its columns, rows and cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["estimate", "std_error", "interval", "p_value", "p_direction", "value"]


Layout = Literal["below", "beside"]


@dataclass(frozen=True)
class Cell:
    """One value of one model.

    Attributes:
        kind: estimate, std_error, interval, p_value or p_direction for a coefficient; value for all other rows.
        value: The number; the pair of ends of an interval; a text such as the name of a method; None for no value.
        text: The printed text, without brackets and stars.
        stars: Stars after an estimate.
    """

    kind: Kind
    value: float | int | str | tuple[float, float] | None
    text: str
    stars: str = ""


@dataclass(frozen=True)
class Row:
    """One coefficient, variance component or criterion.

    Attributes:
        section: Fixed effects, Zero inflation, Dispersion, Random part or Fit.
        label: Printed label.
        cells: Cells of each column; empty if the model has no such row.
    """

    section: str
    label: str
    cells: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Column:
    """One model.

    Attributes:
        name: Head of the column.
        group: Head above it that neighbouring columns share, or an empty text.
        response: Response and family, if the models differ in them; otherwise an empty text.
        backend: Name of the engine.
        mark: Mark of the note on the convergence of the model; empty if it converged.
    """

    name: str
    group: str
    response: str
    backend: str
    mark: str

    @property
    def label(self) -> str:
        """Group and name of the column."""
        return f"{self.group}: {self.name}" if self.group else self.name


@dataclass(frozen=True)
class Note:
    """A line below the table.

    Attributes:
        text: Text of the note.
        mark: Mark before the text, the same as at a head, or an empty text.
        code: A formula after the text.
    """

    text: str
    mark: str = ""
    code: str = ""

    def __str__(self) -> str:
        return " ".join(p for p in (self.mark, self.text, self.code) if p)


class TableData(Protocol):
    """The content of a table, from which every format is made; :class:`unimix.ModelTable` provides it."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """One column head per model."""

    @property
    def rows(self) -> tuple[Row, ...]:
        """Rows in the order of the table."""

    @property
    def notes(self) -> tuple[Note, ...]:
        """Lines below the table."""

    @property
    def layout(self) -> Layout:
        """Whether errors, intervals and p values stand below or beside the estimates."""

    @property
    def caption(self) -> str:
        """Caption of the table, or an empty text."""
