"""Tables of numbers for reading."""

from __future__ import annotations

import html
from collections.abc import Sequence

import pandas as pd

NOTHING = 1e-10
"""Size, in units in which 1 is much, below which a number is shown as zero."""


def p_told(p_value: float) -> str:
    """A p value in a sentence."""
    return "p < 0.001" if p_value < 0.001 else f"p {p_value:.2g}"


def without_noise(table: pd.DataFrame, size: pd.Series | None = None) -> pd.DataFrame:
    """A table to show, with 0 for what is not zero by rounding alone.

    Args:
        table: To be shown.
        size: What is compared with ``NOTHING``: the numbers themselves, or one per row.
    """
    shown = table.copy()
    for name in shown.select_dtypes("number"):
        own = shown[name] if size is None else size
        shown[name] = shown[name].mask(own.abs() < NOTHING, 0.0)
    return shown


def written(table: pd.DataFrame, notes: Sequence[str] = (), *, index: bool = True) -> str:
    """A table, and sentences below it."""
    return "\n".join([table.to_string(index=index, float_format="{:.4g}".format, na_rep="-"), *notes])


def in_html(table: pd.DataFrame, notes: Sequence[str] = (), *, index: bool = True) -> str:
    """The same for a notebook."""
    shown = table.to_html(index=index, na_rep="-", float_format="{:.4g}".format, border=0)
    return shown + "".join(f"<p>{html.escape(note)}</p>" for note in notes)
