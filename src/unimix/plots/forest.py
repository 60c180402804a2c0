"""Forest plot: estimates and intervals of several fits side by side."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from unimix.fitted.describe import of_smooths
from unimix.fitted.tables import with_sds
from unimix.plots.style import MARKERS, PALETTE, headline, panels, plain_names

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel


def forest_data(fits: Sequence[tuple[str, FittedModel]]) -> pd.DataFrame:
    """Data of the forest plot: columns part, name, engine, estimate, lower, upper, interval.

    SDs have no interval: lower and upper are NaN.

    Args:
        fits: Pairs of a label and a result.
    """
    rows: list[dict[str, Any]] = []
    for label, fit in fits:
        f = fit.fixed
        for term, estimate, lower, upper in zip(f.terms, f.estimate, f.lower, f.upper, strict=True):
            if term in of_smooths(fit):
                continue
            rows.append(
                {
                    "part": "fixed",
                    "name": term,
                    "engine": label,
                    "estimate": float(estimate),
                    "lower": float(lower),
                    "upper": float(upper),
                    "interval": f"{100 * f.level:g}% {f.interval} intervals",
                }
            )
        sds = [
            (f"SD({t} | {b.group})", float(s))
            for b in with_sds(fit.random, fit.smooths)
            for t, s in zip(b.terms, b.sd, strict=True)
        ]
        residual = [("SD(Residual)", fit.sigma)] if "sigma" in fit.criteria.parameters else []
        for name, sd in [*sds, *residual]:
            rows.append(
                {
                    "part": "sd",
                    "name": name,
                    "engine": label,
                    "estimate": sd,
                    "lower": np.nan,
                    "upper": np.nan,
                    "interval": "",
                }
            )
    return pd.DataFrame(rows)


@plain_names
def draw_forest(data: pd.DataFrame, *, columns: int = 3, title: str = "") -> Any:
    """Draw one small panel per quantity, each with its own scale; colours and markers show the engines.

    Args:
        data: Data frame from :func:`forest_data`.
        columns: Number of panels per row.
        title: Title of the figure.

    Returns:
        The matplotlib Axes in use, shape (panels,).

    Raises:
        EngineNotInstalledError: If matplotlib is missing.
    """
    names = list(dict.fromkeys(zip(data["part"], data["name"], strict=True)))
    labels = list(dict.fromkeys(data["engine"]))
    figure, axes = panels(len(names), columns, 4.2, 1.25 + 0.3 * len(labels))
    for ax, (part, name) in zip(axes, names, strict=True):
        shown = data[(data["part"] == part) & (data["name"] == name)].set_index("engine")
        for i, label in enumerate(labels):
            if label not in shown.index:
                continue  # a model without this term
            row = shown.loc[label]
            colour, marker = PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]
            if np.isfinite(row["lower"]):
                ax.plot([row["lower"], row["upper"]], [i, i], color=colour, linewidth=2, solid_capstyle="round")
            ax.plot(row["estimate"], i, marker=marker, color=colour, markersize=7, linestyle="none")
        ax.set_yticks(range(len(labels)), labels)
        ax.set_ylim(len(labels) - 0.5, -0.5)
        ax.set_title(fill(name, 36), fontsize=11 if len(name) < 36 else 8, loc="left")
        ax.ticklabel_format(axis="x", useOffset=False)
        ax.locator_params(axis="x", nbins=5)
        if part == "sd":
            low, high = shown["estimate"].min(), shown["estimate"].max()
            ax.set_xlim(max(0.0, low - 0.5 * (high - low) - 0.05 * high), high + 0.5 * (high - low) + 0.05 * high)
        ax.grid(axis="x", alpha=0.3)
        for side in ("top", "right", "left"):
            ax.spines[side].set_visible(False)
        ax.tick_params(axis="y", length=0)
    intervals = data[data["interval"] != ""].groupby("interval", sort=False)["engine"].unique()
    kinds = (
        intervals.index[0] if len(intervals) == 1 else "; ".join(f"{k}: {', '.join(v)}" for k, v in intervals.items())
    )
    headline(figure, title)
    figure.supxlabel(f"Lines are {kinds}" if kinds else "", fontsize=9)
    return axes
