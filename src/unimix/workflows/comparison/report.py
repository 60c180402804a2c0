"""A comparison as a page of HTML that stands alone."""

from __future__ import annotations

import base64
import html
import importlib.util
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unimix.workflows.comparison.comparison import Comparison

_STYLE = (
    "body{font-family:system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .75rem;text-align:right}"
    "th{text-align:left}tr:nth-child(even){background:#f5f5f5}img{max-width:100%}"
)


def page(comparison: Comparison) -> str:
    """Render the tables, the verdicts, the picture and the versions.

    Args:
        comparison: What to show.
    """
    first = next(iter(comparison.results.values()), None)
    title = html.escape(first.model.formula) if first else "Comparison"
    parts = [f"<h1>{title}</h1>", comparison._html(), _picture(comparison)]
    parts.append("<h2>Versions and calls</h2><ul>")
    for label, fit in comparison.results.items():
        versions = ", ".join(f"{k} {v}" for k, v in fit.engine.versions.items())
        parts.append(
            f"<li><b>{html.escape(label)}</b>: {html.escape(versions)}<br>"
            f"<code>{html.escape(fit.engine.call)}</code></li>"
        )
    parts.append("</ul>")
    body = "\n".join(parts)
    head = f"<meta charset='utf-8'><title>{title}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{body}</body></html>"


def _picture(comparison: Comparison) -> str:
    if not comparison.results or importlib.util.find_spec("matplotlib") is None:
        return ""
    from unimix.plots.forest import forest

    axes = forest(list(comparison.results.items()))
    figure = axes[0].figure
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=110)
    from matplotlib import pyplot as plt

    plt.close(figure)
    return f"<img alt='Forest plot' src='data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}'>"
