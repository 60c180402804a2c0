"""Tables of numbers for reading."""

from __future__ import annotations

import html
from collections.abc import Sequence

import pandas as pd


def written(table: pd.DataFrame, notes: Sequence[str] = (), *, index: bool = True) -> str:
    """A table, and sentences below it."""
    return "\n".join([table.to_string(index=index, float_format="{:.4g}".format, na_rep="-"), *notes])


def in_html(table: pd.DataFrame, notes: Sequence[str] = (), *, index: bool = True) -> str:
    """The same for a notebook."""
    shown = table.to_html(index=index, na_rep="-", float_format="{:.4g}".format, border=0)
    return shown + "".join(f"<p>{html.escape(note)}</p>" for note in notes)
