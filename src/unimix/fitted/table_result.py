"""TableResult: the result of every analysis whose answer is a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Never

import pandas as pd

from unimix.display import Block, Printed, as_html, as_latex, as_markdown
from unimix.fitted.formatting import text_table
from unimix.foreign_names import suggests_names


@suggests_names(path=None)
class TableResult(Printed):
    """A table with notes: the data frame is ``.table``, and ``.notes`` holds what a reader of it must know.

    Both are printed, as text and as HTML. Columns and methods of the frame are reached through the answer, too:
    ``answer["p_value"]``, ``answer.p_value``, ``answer.loc["x"]``, ``answer.sort_values("p_value")``, ``len(answer)``.
    Functions that take data frames take ``.table``: ``pd.concat([a.table, b.table])``.

    Args:
        table: The data frame.
        notes: Sentences printed below the table.
        heading: Line printed above the table; an empty text prints none.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
        >>> answer = fit.anova()
        >>> answer.table.columns.tolist()
        ['sum_sq', 'mean_sq', 'num_df', 'den_df', 'F', 'p_value']
        >>> float(answer.loc["Days", "F"].round(1))
        169.4
    """

    if TYPE_CHECKING:  # a property or a field of a subclass, a value in the instance of this class

        @property
        def table(self) -> pd.DataFrame:
            """The data frame."""

        @property
        def notes(self) -> tuple[str, ...]:
            """Sentences below the table."""

    def __init__(self, table: pd.DataFrame, notes: Sequence[str] = (), heading: str = "") -> None:
        self.__dict__.update(table=table, notes=tuple(notes), _above=heading)

    @property
    def _heading(self) -> str:
        """The line above the table; empty for none."""
        return str(self.__dict__.get("_above", ""))

    @property
    def _labels(self) -> Sequence[str]:
        """Names of the columns that label the rows."""
        return ()

    def _shown(self) -> pd.DataFrame:
        """The data frame that is printed."""
        return self.table

    def _below(self) -> Sequence[str]:
        """The sentences that are printed below the table."""
        return self.notes

    def _view(self) -> Iterable[Block]:
        head = [self._heading] if self._heading else []
        return [*head, text_table(self._shown(), labels=self._labels), *self._below()]

    # -- other forms --------------------------------------------------------------------------------

    def to_frame(self) -> pd.DataFrame:
        """A copy of the data frame, which can be changed freely."""
        return self.table.copy()

    def to_html(self) -> str:
        """The table with its notes in HTML, as a notebook shows it."""
        return as_html(self._view())

    def to_markdown(self) -> str:
        """The table with its notes in Markdown."""
        return as_markdown(self._view())

    def to_latex(self, *, caption: str | None = None, label: str = "") -> str:
        r"""The table with its notes in LaTeX; the only package it needs is booktabs.

        Args:
            caption: Caption of the table; None takes the line above the table.
            label: Label for ``\ref``; an empty text gives none.
        """
        blocks = list(self._view())[1:] if self._heading else self._view()
        return as_latex(blocks, caption=self._heading if caption is None else caption, label=label)

    # -- reading as a frame -------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        return self.table[key]

    def __contains__(self, key: object) -> bool:
        return key in self.table

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(self._not_a_frame)

    def __array__(self, *_arguments: Any, **_options: Any) -> Never:
        raise TypeError(self._not_a_frame)

    @property
    def _not_a_frame(self) -> str:
        return f"A {type(self).__name__} is neither a data frame nor an array; its data frame is answer.table."

    @property
    def loc(self) -> Any:
        """``.table.loc``."""
        return self.table.loc

    @property
    def iloc(self) -> Any:
        """``.table.iloc``."""
        return self.table.iloc

    @property
    def index(self) -> pd.Index[Any]:
        """``.table.index``."""
        return self.table.index

    @property
    def columns(self) -> pd.Index[Any]:
        """``.table.columns``."""
        return self.table.columns

    @property
    def shape(self) -> tuple[int, int]:
        """``.table.shape``."""
        return self.table.shape

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Columns and methods of the frame, ``answer.estimate`` or ``answer.round(3)``, but not its pictures."""
            if name.startswith("_") or name in ("table", "plot", "hist", "boxplot") or not hasattr(self.table, name):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
            return getattr(self.table, name)


__all__ = ["TableResult"]
