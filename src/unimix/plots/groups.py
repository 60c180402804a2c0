"""Small multiples: every level's data with the lines of complete, no and partial pooling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from unimix.plots.style import BLACK, BLUE, GREEN, GREY, ORANGE, PALETTE, headline, own_axes, panels, plain

_LINES = {
    "complete": ("complete pooling", GREEN, "--", 1.8),
    "no": ("no pooling", ORANGE, "-.", 1.8),
    "partial": ("partial pooling", BLUE, "-", 2.4),
}
_OTHERS = ((0, (1, 1)), (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 3)))


def draw_groups(data: pd.DataFrame, *, columns: int = 4, title: str = "") -> Any:
    """Draw what :meth:`Plots.groups_data` returns.

    Args:
        data: One row per point.
        columns: Panels per row.
        title: Above the figure.

    Returns:
        The matplotlib Axes, shape (levels,).
    """
    levels = list(dict.fromkeys(data["level"]))
    figure, axes = panels(len(levels), columns, 3.0, 2.4, share=True)
    seen: dict[str, Any] = {}
    others = [k for k in dict.fromkeys(data["kind"]) if k not in {"data", "draw", *_LINES}]
    for ax, level in zip(axes, levels, strict=True):
        own = data[data["level"] == level]
        points = own[own["kind"] == "data"]
        ax.plot(points["x"], points["y"], "o", color=GREY, markersize=3.5, alpha=0.65, zorder=2)
        for _, line in own[own["kind"] == "draw"].groupby("draw"):
            seen["draw"] = ax.plot(line["x"], line["y"], color=BLUE, linewidth=0.6, alpha=0.15, zorder=1)[0]
        for kind, (label, colour, dashes, width) in _LINES.items():
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
        ax.set_title(f"{level}  (n = {len(points)}{alone})", fontsize=10, loc="left")
        plain(ax)
    _limits(axes, data)
    if "draw" in seen:
        seen["its uncertainty"] = seen.pop("draw")
        seen["its uncertainty"] = _thicker(seen["its uncertainty"])
    figure.legend(
        list(seen.values()), list(seen), loc="outside lower center", ncols=min(len(seen), 5), frameon=False, fontsize=10
    )
    for ax in axes[-min(columns, len(levels)) :]:
        ax.set_xlabel(str(data.attrs.get("x", "x")), fontsize=10)
    figure.supylabel(str(data.attrs.get("response", "y")), fontsize=11)
    total = data.attrs.get("n_levels", len(levels))
    some = f": {len(levels)} of {total} levels of {data.attrs.get('group')}" if total > len(levels) else ""
    headline(figure, f"{title}{some}")
    return axes


def draw_population(data: pd.DataFrame, *, ax: Any = None, title: str = "") -> Any:
    """Draw what :meth:`Plots.population_data` returns.

    Args:
        data: One row per point.
        ax: Axes to draw into.
        title: Above the picture.

    Returns:
        The matplotlib Axes.
    """
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
    legend = ax.legend(frameon=False, fontsize=9)
    for handle in legend.legend_handles:
        handle.set_alpha(1.0)
    ax.set_xlabel(str(data.attrs.get("x", "x")))
    ax.set_ylabel(str(data.attrs.get("response", "y")))
    ax.set_title(title, fontsize=11, loc="left")
    plain(ax)
    return ax


def _thicker(line: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=line.get_color(), linewidth=2, alpha=0.35)


def _limits(axes: Any, data: pd.DataFrame) -> None:
    """Lines of no pooling may run far beyond the data: they do not set the scale."""
    near = data[data["kind"].isin(["data", "partial"])]["y"].to_numpy(dtype=float)
    low, high = float(np.nanmin(near)), float(np.nanmax(near))
    reach = 0.08 * (high - low or 1.0)
    axes[0].set_ylim(low - reach, high + reach)


__all__ = ["draw_groups", "draw_population"]
