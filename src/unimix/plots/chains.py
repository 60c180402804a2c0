"""Pictures of draws and of the model itself: ArviZ's trace and rank plots, PyMC's graph."""

from __future__ import annotations

import io
import warnings
from typing import Any

from unimix.errors import EngineNotInstalledError
from unimix.plots.style import PALETTE, headline, own_axes, plain_names, title_of


@plain_names
def draw_trace(posterior: Any, names: list[str], *, title: str = "", **options: Any) -> Any:
    """Draw ArviZ's trace plot of the named variables; returns Axes, shape (parameters, 2)."""
    import arviz as az

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mine = {"compact": False, "legend": False, "chain_prop": {"color": _colours(posterior)}}
        axes = az.plot_trace(posterior, var_names=names, **{**mine, **options})
    figure = axes.ravel()[0].figure
    headline(figure, title)
    figure.set_layout_engine("constrained")
    return axes


def _colours(posterior: Any) -> list[str]:
    """One colour per chain."""
    return [PALETTE[i % len(PALETTE)] for i in range(posterior.posterior.sizes["chain"])]


@plain_names
def draw_rank(posterior: Any, names: list[str], *, title: str = "", **options: Any) -> Any:
    """Draw ArviZ's rank plot of the named variables, whose bars are level when the chains agree; returns Axes."""
    import arviz as az

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = az.plot_rank(posterior, var_names=names, **{"kind": "bars", "colors": _colours(posterior), **options})
    figure = axes.ravel()[0].figure if hasattr(axes, "ravel") else axes.figure
    headline(figure, title)
    figure.set_layout_engine("constrained")
    return axes


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
