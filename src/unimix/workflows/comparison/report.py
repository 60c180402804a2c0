"""A comparison as a self-contained HTML page."""

from __future__ import annotations

import base64
import importlib.util
import io
from collections.abc import Mapping

from unimix.display import escape_html
from unimix.result import FitResult

_STYLE = (
    "body{font-family:system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .75rem;text-align:right}"
    "th{text-align:left}tr:nth-child(even){background:#f5f5f5}img{max-width:100%}"
)


def page(results: Mapping[str, FitResult], tables: str) -> str:
    """The HTML page of a comparison: tables, verdicts, forest plot, versions and calls of the engines.

    Args:
        results: The compared results by label.
        tables: Tables and verdicts of the comparison as HTML.
    """
    first = next(iter(results.values()), None)
    title = escape_html(first.model.formula) if first else "Comparison"
    parts = [f"<h1>{title}</h1>", tables, _picture(results)]
    parts.append("<h2>Versions and calls</h2><ul>")
    for label, fit in results.items():
        versions = ", ".join(f"{k} {v}" for k, v in fit.engine.versions.items())
        parts.append(
            f"<li><b>{escape_html(label)}</b>: {escape_html(versions)}<br>"
            f"<code>{escape_html(fit.engine.call)}</code></li>"
        )
    parts.append("</ul>")
    body = "\n".join(parts)
    head = f"<meta charset='utf-8'><title>{title}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{body}</body></html>"


def _picture(results: Mapping[str, FitResult]) -> str:
    if not results or importlib.util.find_spec("matplotlib") is None:
        return ""
    from unimix.plots.forest import draw_forest, forest_data

    axes = draw_forest(forest_data(list(results.items())))
    figure = axes[0].figure
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    from matplotlib import pyplot as plt

    plt.close(figure)
    return f"<img alt='Forest plot' src='data:image/png;base64,{base64.b64encode(image.getvalue()).decode()}'>"
