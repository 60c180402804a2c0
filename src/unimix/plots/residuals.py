"""Picture of simulated residuals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from unimix.plots.style import BLACK, BLUE, GREY, ORANGE, headline, panels, plain, plain_names

ROWS_PER_BIN = 30
"""Smallest number of rows of a bin in which quartiles are computed."""


@plain_names
def draw_residuals(data: pd.DataFrame, *, label: str, title: str = "") -> Any:
    """Draw what ``fit.simulated_residuals().plot(draw=False)`` returns.

    Args:
        data: Columns residual, quantile, x.
        label: Label of the axis of ``x``.
        title: Title of the figure.

    Returns:
        The matplotlib Axes, shape (2,): a Q-Q plot, and residuals against ``x``.
    """
    figure, axes = panels(2, 2, 4.4, 3.8)
    dots = {"markersize": 3, "alpha": 0.5 if len(data) < 3000 else 0.15, "color": BLUE}
    ordered = data.sort_values("quantile")
    axes[0].plot([0, 1], [0, 1], "--", color=GREY, linewidth=1)
    axes[0].plot(ordered["quantile"], ordered["residual"], "o", **dots)
    axes[0].set_xlabel("expected quantile")
    axes[0].set_ylabel("residual")
    for height in (0.25, 0.5, 0.75):
        axes[1].axhline(height, color=GREY, linestyle="--", linewidth=1)
    if pd.api.types.is_numeric_dtype(data["x"]):
        axes[1].plot(data["x"], data["residual"], "o", **dots)
        _quartiles(axes[1], data)
    else:
        levels = list(dict.fromkeys(data["x"]))
        boxes = [data.loc[data["x"] == level, "residual"].to_numpy() for level in levels]
        axes[1].boxplot(boxes, medianprops={"color": ORANGE}, flierprops={"markersize": 3, "markeredgecolor": BLACK})
        axes[1].set_xticks(range(1, len(levels) + 1), [str(level) for level in levels])
    axes[1].set_xlabel(label)
    for ax in axes:
        ax.set_ylim(-0.02, 1.02)
        plain(ax)
    headline(figure, title)
    return axes


def _quartiles(ax: Any, data: pd.DataFrame) -> None:
    """Draw the quartiles of the residuals in bins of equally many rows, from 10 bins down to what the rows allow."""
    count = min(10, len(data) // ROWS_PER_BIN)
    if count < 2:
        return
    bins = np.array_split(data.sort_values("x", kind="stable")[["x", "residual"]].to_numpy(dtype=float), count)
    middle = [np.median(b[:, 0]) for b in bins]
    for share in (0.25, 0.5, 0.75):
        ax.plot(middle, [np.quantile(b[:, 1], share) for b in bins], color=ORANGE, linewidth=1.5)


__all__ = ["draw_residuals"]
