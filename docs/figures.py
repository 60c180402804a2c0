"""Pictures of executed pages."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("agg")
from matplotlib import pyplot as plt


def show(axes: Any, words: str) -> str:
    """The figure that the Axes belong to as an element of the page.

    Args:
        axes: What a plot returned.
        words: What the picture shows: its caption and its alternative text.

    Returns:
        HTML.
    """
    figure = np.ravel(axes)[0].figure
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=110)
    plt.close(figure)
    picture = base64.b64encode(held.getvalue()).decode()
    said = escape(words)
    image = f'<img class="picture" alt="{said}" src="data:image/png;base64,{picture}">'
    return f"<figure>{image}<figcaption>{said}</figcaption></figure>"
