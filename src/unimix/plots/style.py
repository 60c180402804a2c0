"""Style of all pictures: colours, panels, titles, and the import of matplotlib."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable
from typing import Any, ParamSpec

import numpy as np

from unimix.errors import OptionError
from unimix.installation import import_for

# Okabe and Ito's palette: distinguishable with every kind of colour vision.
BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, BLACK = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000",
)  # fmt: skip
PALETTE = (BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, BLACK)
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
GREY = "#6e6e6e"
Arguments = ParamSpec("Arguments")


def pyplot() -> Any:
    """The module ``matplotlib.pyplot``.

    Raises:
        EngineNotInstalledError: If matplotlib is missing.
    """
    return import_for("Plots need matplotlib.", "matplotlib.pyplot", extra="plot")


def plain_names(draw: Callable[Arguments, Any]) -> Callable[Arguments, Any]:
    """Decorate a drawing function so that dollar signs in names of columns and levels are not read as mathematics."""

    @functools.wraps(draw)
    def drawn(*arguments: Arguments.args, **options: Arguments.kwargs) -> Any:
        plt = pyplot()
        with plt.rc_context({"text.parse_math": False}):
            axes = draw(*arguments, **options)
        from matplotlib.text import Text

        # The user's own Axes may hold texts already: these are left as they are.
        for text in (t for ax in np.ravel(axes) for t in ax.findobj(Text) if "$" in t.get_text()):
            text.set_parse_math(False)
        return axes

    return drawn


def panels(
    count: int, columns: int, width: float, height: float, *, share: bool = False, share_y: bool = False
) -> tuple[Any, Any]:
    """Make a figure with ``count`` Axes in rows of ``columns``; returns the figure and the Axes, shape (count,)."""
    columns = max(1, min(columns, count))
    rows = -(-count // columns)
    figure, grid = pyplot().subplots(
        rows,
        columns,
        figsize=(max(width * columns, 5.5), height * rows + 0.9),
        squeeze=False,
        layout="constrained",
        sharex=share,
        sharey=share or share_y,
    )
    axes = grid.ravel()
    for ax in axes[count:]:
        ax.set_visible(False)
    if share:
        for ax in axes[:count]:  # the lowest visible panel of each column carries the numbers
            ax.xaxis.set_tick_params(labelbottom=True)
    return figure, axes[:count]


def plain(ax: Any) -> None:
    """Remove the frame and draw a light grid behind the data."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.grid(alpha=0.25)
    ax.set_axisbelow(True)


def headline(figure: Any, text: str) -> None:
    """Write a title above the whole figure, wrapped to its width."""
    figure.suptitle(textwrap.fill(text, max(30, int(figure.get_size_inches()[0] * 11.5))), fontsize=12)


def title_of(ax: Any, text: str) -> None:
    """Write a title above one panel, wrapped to the panel's share of the figure's width."""
    width = ax.figure.get_size_inches()[0] * ax.get_position().width
    ax.set_title(textwrap.fill(text, max(24, int(width * 11))), fontsize=11, loc="left")


def finished(ax: Any, x: str, y: str, title: str) -> Any:
    """The Axes with labels, a legend of what was drawn, a title and a plain frame."""
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.legend(frameon=False, fontsize=9)
    title_of(ax, title)
    plain(ax)
    return ax


def places(x: Any, categories: Any) -> Any:
    """Positions of values on an axis: numbers as they are, categories by their order."""
    if categories is None:
        return x
    order = {c: i for i, c in enumerate(categories)}
    return [order[str(v)] for v in x]


def own_axes(ax: Any, width: float, height: float) -> Any:
    """The given Axes, or new ones of this width and height in inches."""
    if ax is not None:
        if not isinstance(ax, import_for("Plots need matplotlib.", "matplotlib.axes", extra="plot").Axes):
            raise OptionError(f"ax={ax!r:.60} is no matplotlib Axes: leave it out, or give ax=plt.subplots()[1].")
        return ax
    return pyplot().subplots(figsize=(width, height), layout="constrained")[1]
