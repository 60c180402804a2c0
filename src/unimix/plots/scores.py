"""Picture of the scores of a cross-validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from unimix.plots.style import GREY, MARKERS, PALETTE, headline, panels, plain, plain_names


@plain_names
def draw_scores(
    table: pd.DataFrame, metrics: Sequence[str], nominal: Mapping[str, float], *, columns: int = 3, title: str = ""
) -> Any:
    """Draw one panel per metric: each model's value with one standard error to either side.

    Args:
        table: Index model; for each metric a column with its name and one with the suffix ``_se``.
        metrics: Names of the metrics to draw.
        nominal: Values to mark by a line, by metric.
        columns: Number of panels per row.
        title: Title of the figure.

    Returns:
        The matplotlib Axes, one per metric.
    """
    shown = table[table[list(metrics)].notna().any(axis=1)]
    figure, axes = panels(len(metrics), columns, 3.8, 0.9 + 0.34 * len(shown), share_y=True)
    at = np.arange(len(shown))
    for ax, metric in zip(axes, metrics, strict=True):
        for i, (value, se) in enumerate(zip(shown[metric], shown[f"{metric}_se"], strict=True)):
            colour = PALETTE[i % len(PALETTE)]
            ax.hlines(i, value - se, value + se, color=colour, linewidth=2)
            ax.plot(value, i, MARKERS[i % len(MARKERS)], color=colour, markersize=7)
        if metric in nominal:
            ax.axvline(nominal[metric], color=GREY, linestyle="--", linewidth=1)
        ax.set_yticks(at, [str(m) for m in shown.index], fontsize=9)
        ax.set_ylim(len(shown) - 0.5, -0.5)
        ax.set_title(metric, fontsize=11, loc="left")
        ax.locator_params(axis="x", nbins=5)
        plain(ax)
    headline(figure, title)
    figure.supxlabel("points with one standard error to either side", fontsize=9)
    return axes
