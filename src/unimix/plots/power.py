"""Picture of power against the size of the design."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from unimix.plots.style import GREY, MARKERS, PALETTE, own_axes, plain, plain_names, title_of


@plain_names
def draw_power(table: pd.DataFrame, varied: Sequence[str], group: str | None, title: str, ax: Any = None) -> Any:
    """Draw power with its Monte Carlo intervals; if both sizes vary, there is one line per value of the second.

    Args:
        table: Columns n_groups, n_rows, power, lower, upper.
        varied: Names of the sizes that vary: n_groups, n_rows or both.
        group: Name of the grouping factor, or None.
        title: Title of the picture.
        ax: Axes to draw into; None makes new ones.

    Returns:
        The matplotlib Axes.
    """
    ax = own_axes(ax, 6.4, 4.2)
    several = [c for c in varied if len(table[c].unique()) > 1]
    x = "n_groups" if "n_groups" in several or (group and not several) else "n_rows"
    other = "n_rows" if x == "n_groups" else "n_groups"
    whole: list[tuple[Any, pd.DataFrame]] = [(0.0, table)]
    lines = list(table.groupby(other, sort=True, dropna=False)) if other in several else whole
    for i, (size, rows) in enumerate(lines):
        own = rows.sort_values(x)
        colour, label = PALETTE[i % len(PALETTE)], f"{size:g} {'rows per level' if other == 'n_rows' else 'levels'}"
        ax.fill_between(own[x], own["lower"], own["upper"], color=colour, alpha=0.18, linewidth=0)
        ax.plot(own[x], own["power"], MARKERS[i % len(MARKERS)] + "-", color=colour, label=label)
    ax.axhline(0.8, color=GREY, linestyle="--", linewidth=1)
    ax.set_ylim(0, 1.02)
    ax.set_xlabel(f"levels of {group}" if x == "n_groups" else f"rows per level of {group}" if group else "rows")
    ax.set_ylabel("power")
    if len(lines) > 1:
        ax.legend(frameon=False, loc="lower right")
    title_of(ax, title)
    plain(ax)
    return ax
