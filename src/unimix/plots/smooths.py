"""Pictures of smooth curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unimix.plots.style import BLUE, GREY, headline, panels, plain, plain_names, title_of

if TYPE_CHECKING:
    import pandas as pd


@plain_names
def draw_smooths(data: pd.DataFrame, *, columns: int, title: str, note: str) -> Any:
    """Draw what ``fit.plot.smooths(draw=False)`` returns.

    Args:
        data: One row per point of a curve.
        columns: Number of panels per row.
        title: Title of the figure.
        note: What the bands are.

    Returns:
        The matplotlib Axes, shape (smooths,).
    """
    terms = list(dict.fromkeys(data["term"]))
    figure, axes = panels(len(terms), columns, 4.6, 3.2)
    for ax, term in zip(axes, terms, strict=True):
        curve = data[data["term"] == term]
        ax.fill_between(curve["x"], curve["lower"], curve["upper"], color=BLUE, alpha=0.2, linewidth=0)
        ax.plot(curve["x"], curve["estimate"], color=BLUE, linewidth=2.2)
        ax.axhline(0.0, color=GREY, linewidth=0.8, linestyle="--", zorder=0)
        ax.set_xlabel(data.attrs["x"][term])
        ax.set_ylabel(term)
        title_of(ax, f"{data.attrs['edf'][term]:.2f} effective degrees of freedom")
        plain(ax)
    headline(figure, title)
    figure.supxlabel(note, fontsize=9)
    return axes


__all__ = ["draw_smooths"]
