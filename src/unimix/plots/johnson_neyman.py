"""Pictures of a slope that depends on a moderator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from unimix.plots.style import BLUE, GREY, MARKERS, PALETTE, finished, own_axes, plain_names


@plain_names
def draw_regions(
    curve: pd.DataFrame, boundaries: Sequence[float], x: str, by: str, *, title: str = "", ax: Any = None
) -> Any:
    """Draw a slope with its interval against a moderator.

    Args:
        curve: Columns of the moderator, estimate, lower, upper, slope.
        boundaries: Values of the moderator between two regions.
        x: Name of the predictor.
        by: Name of the moderator.
        title: Title of the picture.
        ax: Axes to draw into; None makes new ones.

    Returns:
        The matplotlib Axes.
    """
    ax = own_axes(ax, 6.4, 4.2)
    sure = (curve["slope"] != "not different from zero").to_numpy()
    ax.axhline(0, color=GREY, linewidth=1)
    for mask, colour, label in ((sure, BLUE, "differs from zero"), (~sure, GREY, "does not")):
        if mask.any():
            shown = np.convolve(mask, [1, 1, 1], "same") > 0  # up to the neighbours, so that no gap is left
            ax.fill_between(
                curve[by],
                curve["lower"],
                curve["upper"],
                where=shown,
                color=colour,
                alpha=0.25,
                linewidth=0,
                label=label,
            )
    ax.plot(curve[by], curve["estimate"], color=BLUE)
    for value in boundaries:
        ax.axvline(value, color=GREY, linestyle="--", linewidth=1)
    return finished(ax, by, f"slope of {x}", title)


@plain_names
def draw_lines(lines: pd.DataFrame, x: str, by: str, *, title: str = "", ax: Any = None) -> Any:
    """Draw expected responses over a predictor, one line per value of the moderator.

    Args:
        lines: Columns of the predictor and the moderator, estimate, lower, upper.
        x: Name of the predictor.
        by: Name of the moderator.
        title: Title of the picture.
        ax: Axes to draw into; None makes new ones.

    Returns:
        The matplotlib Axes.
    """
    ax = own_axes(ax, 6.4, 4.2)
    for k, (value, own) in enumerate(lines.groupby(by, sort=True)):
        colour, marker = PALETTE[k % len(PALETTE)], MARKERS[k % len(MARKERS)]
        ax.fill_between(own[x], own["lower"], own["upper"], color=colour, alpha=0.18, linewidth=0)
        ax.plot(own[x], own["estimate"], color=colour, marker=marker, markevery=10, label=f"{by} = {value:.4g}")
    return finished(ax, x, "expected response", title)


__all__ = ["draw_lines", "draw_regions"]
