"""A table of models as plain data: its columns, rows and cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["estimate", "std_error", "interval", "p_value", "value"]


Layout = Literal["below", "beside"]


@dataclass(frozen=True)
class Cell:
    """One value of one model.

    Attributes:
        kind: estimate, std_error, interval or p_value of a coefficient; value of everything else.
        value: As a number; a pair of an interval; text (a method, say); None where there is none.
        text: As printed, without brackets and stars.
        stars: Behind an estimate.
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
        label: As printed.
        cells: Per column its cells; no cells where the model has no such thing.
    """

    section: str
    label: str
    cells: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Column:
    """One model.

    Attributes:
        name: Its head.
        group: The head above it that it shares with its neighbours; empty without one.
        response: Response and family, where the models differ in them; else empty.
        backend: Who fitted it.
        mark: Of the note on its convergence; empty where it simply converged.
    """

    name: str
    group: str
    response: str
    backend: str
    mark: str

    @property
    def label(self) -> str:
        """Group and name."""
        return f"{self.group}: {self.name}" if self.group else self.name


@dataclass(frozen=True)
class Note:
    """A line below the table.

    Attributes:
        text: Of it.
        mark: Before it, the same as at a head; or empty.
        code: A formula behind it.
    """

    text: str
    mark: str = ""
    code: str = ""

    def __str__(self) -> str:
        return " ".join(p for p in (self.mark, self.text, self.code) if p)


class TableData(Protocol):
    """What every format of a table is made from; :class:`unimix.ModelTable` has it."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """One per model."""

    @property
    def rows(self) -> tuple[Row, ...]:
        """In the order printed."""

    @property
    def notes(self) -> tuple[Note, ...]:
        """Lines below the table."""

    @property
    def layout(self) -> Layout:
        """Whether errors, intervals and p values stand below or beside the estimates."""

    @property
    def caption(self) -> str:
        """Caption of the table, or an empty text."""
