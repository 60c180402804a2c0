"""Pictures of draws by chain, the same with every version of ArviZ, and PyMC's graph of the model."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import scipy

from unimix.errors import EngineNotInstalledError
from unimix.plots.style import BLACK, GREY, PALETTE, headline, own_axes, panels, plain, plain_names, title_of

RANK_BARS = 20


@plain_names
def draw_trace(draws: pd.DataFrame, densities: pd.DataFrame, *, title: str = "", **options: Any) -> Any:
    """Draw densities and traces of the draws by chain, with ticks below where transitions diverged.

    Args:
        draws: Columns chain, draw, one per parameter; ``draws.attrs["diverging"]`` is a mask of the rows.
        densities: Columns name, chain, x, density.
        title: Title of the figure.
        options: Properties of the lines, such as ``linewidth``.

    Returns:
        The matplotlib Axes, shape (parameters, 2).
    """
    names = list(draws.columns[2:])
    figure, axes = panels(2 * len(names), 2, 4.6, 1.7)
    grid = np.reshape(axes, (len(names), 2))
    diverging = np.asarray(draws.attrs["diverging"], dtype=bool)
    for (left, right), name in zip(grid, names, strict=True):
        for chain, own in densities[densities["name"] == name].groupby("chain"):
            line = {"color": _colour(chain), "linewidth": 1.2, **options}
            left.plot(own["x"], own["density"], **line)
        for chain, own in draws.groupby("chain"):
            line = {"color": _colour(chain), "linewidth": 0.5, "alpha": 0.8, **options}
            right.plot(own["draw"], own[name], **line)
        lost = draws[diverging]
        for ax, at in ((left, lost[name]), (right, lost["draw"])):
            ax.plot(at, np.zeros(len(lost)), "|", color=BLACK, markersize=9, transform=ax.get_xaxis_transform())
            plain(ax)
        left.set_ylim(bottom=0)
        left.set_yticks([])
        title_of(left, name)
    for ax, label in zip(grid[-1], ("value", "draw"), strict=True):
        ax.set_xlabel(label)
    headline(figure, title)
    return grid


@plain_names
def draw_rank(draws: pd.DataFrame, *, title: str = "", **options: Any) -> Any:
    """Draw how the ranks of each chain's draws among all draws are distributed.

    If the chains agree, all bars reach to the line, apart from noise. Vehtari, Gelman, Simpson, Carpenter
    & Buerkner (2021), Bayesian Analysis 16:667-718.

    Args:
        draws: Columns chain, draw, one per parameter.
        title: Title of the figure.
        options: Properties of the bars, such as ``alpha``.

    Returns:
        The matplotlib Axes, one per parameter.
    """
    names = list(draws.columns[2:])
    chains = draws["chain"].to_numpy()
    numbers = np.unique(chains)
    figure, axes = panels(len(names), 3, 3.6, 0.4 * len(numbers) + 1.4)
    edges = np.linspace(0.5, len(draws) + 0.5, RANK_BARS + 1)
    level = len(draws) / len(numbers) / RANK_BARS
    for ax, name in zip(axes, names, strict=True):
        ranks = scipy.stats.rankdata(draws[name])
        for place, chain in enumerate(numbers):
            count, _ = np.histogram(ranks[chains == chain], edges)
            floor = len(numbers) - 1 - place
            bar = {"color": _colour(chain), "alpha": 0.75, "edgecolor": "white", "linewidth": 0.6, **options}
            # half of the distance to the next chain is the level that all bars should reach
            ax.bar(edges[:-1], 0.5 * count / level, np.diff(edges), bottom=floor, align="edge", **bar)
            ax.axhline(floor + 0.5, color=GREY, linestyle="--", linewidth=0.8)
        ax.set_yticks(range(len(numbers)), [str(c) for c in reversed(numbers)])
        ax.set_ylim(0, None)
        ax.set_xlabel("rank among all draws")
        ax.set_ylabel("chain")
        title_of(ax, name)
        plain(ax)
    headline(figure, title)
    return axes


def _colour(chain: Any) -> str:
    return PALETTE[int(chain) % len(PALETTE)]


@plain_names
def draw_graph(graph: Any, *, ax: Any = None, title: str = "") -> Any:
    """Draw a graphviz graph.

    Args:
        graph: The ``graphviz.Digraph``.
        ax: Axes to draw into; None makes new ones.
        title: Title of the picture.

    Returns:
        The matplotlib Axes.

    Raises:
        EngineNotInstalledError: If graphviz's program ``dot`` is missing.
    """
    from matplotlib import image

    try:
        from graphviz import ExecutableNotFound

        graph.graph_attr.update(dpi="150")
        picture = image.imread(io.BytesIO(graph.pipe(format="png")), format="png")
    except (ImportError, ExecutableNotFound) as error:
        raise EngineNotInstalledError(
            "The graph of a model is drawn by graphviz's program `dot`, which is not installed. Type:\n"
            "    sudo apt-get install graphviz     (or: conda install graphviz)\n"
            "and, if Python lacks it,\n    pip install graphviz"
        ) from error
    height, width = picture.shape[:2]
    ax = own_axes(ax, max(width / 150, 3.0), max(height / 150, 2.0) + 0.3)
    ax.imshow(picture)
    ax.set_axis_off()
    title_of(ax, title)
    return ax
