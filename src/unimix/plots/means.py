"""Pictures of marginal means and slopes with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.plots.style import GREY, MARKERS, PALETTE, headline, panels, plain, plain_names, title_of

FloatArray = npt.NDArray[np.float64]

DODGE = 0.6
"""Width, in categories of the axis, within which the colours of one category are spread side by side."""
JITTER = 0.35
"""Largest sideways shift of a point within a category, as a share of the width of its colour."""
SMALL = {"markersize": 3.5, "markeredgewidth": 0.0}


@plain_names
def draw_means(
    table: pd.DataFrame,
    names: Sequence[str],
    *,
    columns: int = 3,
    title: str = "",
    label: str = "",
    note: str = "",
    points: pd.DataFrame | None = None,
    seed: int = 0,
) -> Any:
    """Draw points with intervals: the first factor along the axis, the second in colours, the others in panels.

    Args:
        table: Columns ``names``, estimate, lower, upper; rows without an estimate are left out.
        names: Names of the factors; empty for a single mean.
        columns: Number of panels per row.
        title: Title of the figure.
        label: Label of the vertical axis.
        note: Text below the figure.
        points: Columns ``names`` and y of the data to draw under the means.
        seed: Seed of the sideways shifts of points in a category.

    Returns:
        The matplotlib Axes, shape (panels,).
    """
    first = names[0] if names else None
    colour = names[1] if len(names) > 1 else None
    if colour and table[colour].nunique() > len(PALETTE):
        colour = None
    within = [n for n in names[1:] if n != colour]
    keys = list(table[within].drop_duplicates().itertuples(index=False, name=None)) if within else [()]
    values = list(dict.fromkeys(table[first])) if first else [""]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    numeric = numbers and (len(values) > 1 or points is not None)
    shades = list(dict.fromkeys(table[colour])) if colour else [None]
    width = float(np.clip(0.5 * len(values) * max(len(shades), 2) / 2 + 1.5, 3.4, 9.0))
    figure, axes = panels(len(keys), columns, width, 3.4, share=True)
    rng, under = np.random.default_rng(seed), points is not None and len(points) > 0
    for ax, key in zip(axes, keys, strict=True):
        chosen = _in_panel(table, within, key)
        for i, shade in enumerate(shades):
            own = table[chosen]
            own = own[own[colour] == shade] if colour else own
            at = own[first].tolist() if first else [""]
            near = float(np.diff(np.sort(np.array(values, dtype=float))).min()) if numeric and len(values) > 1 else 1.0
            spread = (0.15 if numeric else DODGE) * near
            beside = spread * ((i + 0.5) / len(shades) - 0.5)
            x = (np.array(at, dtype=float) if numeric else _places(at, values)) + beside
            paint, marker = PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]
            if points is not None:
                rows = points[_in_panel(points, within, key)]
                rows = rows[rows[colour] == shade] if colour else rows
                across = rows[first].tolist() if first else [""] * len(rows)
                place = np.array(across, dtype=float) if numeric else _places(across, values)
                shift = beside + spread / len(shades) * JITTER * rng.uniform(-1.0, 1.0, len(rows))
                # numbers between those that have a mean stay where they are
                place = place + np.where(np.isin(place, values), shift, 0.0) if numeric else place + shift
                ax.plot(place, rows["y"], "o", color=paint if colour else GREY, alpha=0.4, zorder=1, **SMALL)
            if numeric:
                ax.plot(x, own["estimate"], color=paint, linewidth=1, alpha=0.5)
            ax.vlines(x, own["lower"], own["upper"], color=paint, linewidth=2)
            edge = {"markeredgecolor": "white", "markeredgewidth": 0.8} if under else {}
            named = None if shade is None else str(shade)
            ax.plot(x, own["estimate"], marker, color=paint, markersize=7 if under else 6, label=named, **edge)
        if within:
            title_of(ax, ", ".join(f"{n} = {v}" for n, v in zip(within, key, strict=True)))
        if first:
            ax.set_xlabel(first)
        plain(ax)
        _axis(ax, values, numeric=numeric)
    figure.supxlabel(
        "\n".join(fill(line, int(figure.get_size_inches()[0] * 14)) for line in note.split("\n")), fontsize=8
    )
    figure.supylabel(label, fontsize=10)
    if colour:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, title=colour, frameon=False, fontsize=9, title_fontsize=9, loc="outside right upper"
        )
    headline(figure, title)
    return axes


def _in_panel(table: pd.DataFrame, within: Sequence[str], key: Sequence[Any]) -> Any:
    """Rows of one panel, as a mask or slice."""
    return np.all([table[n] == v for n, v in zip(within, key, strict=True)], axis=0) if within else slice(None)


def _places(at: Sequence[Any], values: Sequence[Any]) -> FloatArray:
    """Positions of categories on the axis, shape (len(at),)."""
    place = {v: float(i) for i, v in enumerate(values)}
    return np.array([place[v] for v in at], dtype=np.float64)


def _axis(ax: Any, values: Sequence[Any], *, numeric: bool) -> None:
    if not numeric:
        ax.set_xticks(range(len(values)), [fill(str(v), 14) for v in values])
        ax.set_xlim(-0.6, len(values) - 0.4)
        ax.grid(visible=False, axis="x")


__all__ = ["draw_means"]
