"""Small multiples: every level's data with the lines of complete, no and partial pooling."""

from __future__ import annotations

from textwrap import shorten
from typing import Any

import numpy as np
import pandas as pd

from unimix.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PALETTE,
    headline,
    own_axes,
    panels,
    places,
    plain,
    plain_names,
    title_of,
)

_LINES = {
    "complete": ("complete pooling", GREEN, "--", 1.8),
    "no": ("no pooling", ORANGE, "-.", 1.8),
    "partial": ("partial pooling", BLUE, "-", 2.4),
}
_OTHERS = ((0, (1, 1)), (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 3)))


@plain_names
def draw_groups(data: pd.DataFrame, *, columns: int = 4, title: str = "") -> Any:
    """Draw what ``fit.plot.groups(draw=False)`` returns.

    Args:
        data: One row per point.
        columns: Number of panels per row.
        title: Title of the figure.

    Returns:
        The matplotlib Axes, shape (levels,).
    """
    data = _placed(data)
    levels = list(dict.fromkeys(data["level"]))
    figure, axes = panels(len(levels), columns, 3.0, 2.4, share=True)
    seen: dict[str, Any] = {}
    named = dict(_LINES)
    if set(data["kind"]) - {"data", "draw", *_LINES}:
        named["partial"] = (f"partial pooling ({data.attrs.get('engine')})", *_LINES["partial"][1:])
    others = [k for k in dict.fromkeys(data["kind"]) if k not in {"data", "draw", *_LINES}]
    for ax, level in zip(axes, levels, strict=True):
        own = data[data["level"] == level]
        points = own[own["kind"] == "data"]
        ax.plot(points["x"], points["y"], "o", color=GREY, markersize=3.5, alpha=0.65, zorder=2)
        for _, line in own[own["kind"] == "draw"].groupby("draw"):
            seen["draw"] = ax.plot(line["x"], line["y"], color=BLUE, linewidth=0.6, alpha=0.15, zorder=1)[0]
        for kind, (label, colour, dashes, width) in named.items():
            line = own[own["kind"] == kind]
            if len(line):
                seen[label] = ax.plot(line["x"], line["y"], color=colour, linestyle=dashes, linewidth=width, zorder=3)[
                    0
                ]
        for i, kind in enumerate(others):
            line = own[own["kind"] == kind]
            colour, style = ((BLACK, *PALETTE[3:6])[i % 4], _OTHERS[i % len(_OTHERS)])
            seen[kind] = ax.plot(line["x"], line["y"], color=colour, linestyle=style, linewidth=1.4, zorder=4)[0]
        alone = "" if (own["kind"] == "no").any() else ", no line of its own"
        ax.set_title(f"{shorten(str(level), 22, placeholder='…')}  (n = {len(points)}{alone})", fontsize=9, loc="left")
        _name_categories(ax, data)
        plain(ax)
    _limits(axes, data)
    if "draw" in seen:
        seen["its uncertainty"] = seen.pop("draw")
        seen["its uncertainty"] = _thicker(seen["its uncertainty"])
    figure.legend(
        list(seen.values()),
        list(seen),
        loc="outside lower center",
        ncols=max(2, min(len(seen), int(figure.get_size_inches()[0] / 2))),
        frameon=False,
        fontsize=10,
    )
    for ax in axes[-min(columns, len(levels)) :]:
        ax.set_xlabel(str(data.attrs.get("x", "x")), fontsize=10)
    figure.supylabel(str(data.attrs.get("response", "y")), fontsize=11)
    total = data.attrs.get("n_levels", len(levels))
    some = f": {len(levels)} of {total} levels of {data.attrs.get('group')}" if total > len(levels) else ""
    headline(figure, f"{title}{some}")
    return axes


@plain_names
def draw_population(data: pd.DataFrame, *, ax: Any = None, title: str = "") -> Any:
    """Draw what ``fit.plot.population(draw=False)`` returns.

    Args:
        data: One row per point.
        ax: Axes to draw into; None makes new ones.
        title: Title of the picture.

    Returns:
        The matplotlib Axes.
    """
    data = _placed(data)
    ax = own_axes(ax, 6.6, 4.4)
    points = data[data["kind"] == "data"]
    ax.plot(points["x"], points["y"], "o", color=GREY, markersize=4, alpha=0.5, zorder=2)
    for i, (_, line) in enumerate(data[data["kind"] == "draw"].groupby("draw")):
        label = "its uncertainty" if i == 0 else None
        ax.plot(line["x"], line["y"], color=BLUE, linewidth=0.6, alpha=0.15, zorder=1, label=label)
    line = data[data["kind"] == "population"]
    ax.plot(line["x"], line["y"], color=BLUE, linewidth=2.4, zorder=3, label="fixed effects")
    line = data[data["kind"] == "complete"]
    if len(line):
        ax.plot(line["x"], line["y"], color=GREEN, linestyle="--", linewidth=1.8, zorder=3, label="complete pooling")
    legend = ax.legend(frameon=False, fontsize=9, loc="upper left")
    for handle in legend.legend_handles:
        handle.set_alpha(1.0)
    ax.set_xlabel(str(data.attrs.get("x", "x")))
    ax.set_ylabel(str(data.attrs.get("response", "y")))
    _name_categories(ax, data)
    title_of(ax, title)
    plain(ax)
    return ax


def _placed(data: pd.DataFrame) -> pd.DataFrame:
    """The data with categories of the predictor replaced by positions on the axis."""
    categories = data.attrs.get("categories")
    return data if categories is None else data.assign(x=places(data["x"], categories))


def _name_categories(ax: Any, data: pd.DataFrame) -> None:
    categories = data.attrs.get("categories")
    if categories is not None:
        ax.set_xticks(range(len(categories)), categories)
        ax.set_xlim(-0.4, len(categories) - 0.6)


def _thicker(line: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=line.get_color(), linewidth=2, alpha=0.35)


def _limits(axes: Any, data: pd.DataFrame) -> None:
    """Set the limits by the data and the partially pooled lines near them; other lines may run far beyond."""
    near = [data[data["kind"] == "data"]["y"].to_numpy(dtype=float)]
    for _, own in data[data["kind"].isin(["data", "partial"])].groupby("level", observed=True):
        points, line = own[own["kind"] == "data"]["x"], own[own["kind"] == "partial"]
        near.append(line[line["x"].between(points.min(), points.max())]["y"].to_numpy(dtype=float))
    values = np.concatenate(near)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    reach = 0.08 * (high - low or 1.0)
    axes[0].set_ylim(low - reach, high + reach)


__all__ = ["draw_groups", "draw_population"]
