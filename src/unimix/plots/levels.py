"""Pictures of the levels of a grouping factor: caterpillar, shrinkage, ridge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from unimix.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    finished,
    headline,
    own_axes,
    panels,
    plain,
    plain_names,
    title_of,
)


@plain_names
def draw_caterpillar(data: pd.DataFrame, *, columns: int = 3, title: str = "", note: str = "") -> Any:
    """Draw what ``fit.plot.caterpillar(draw=False)`` returns: sorted group effects with intervals.

    Args:
        data: Columns term, level, estimate, lower, upper, position.
        columns: Number of panels per row.
        title: Title of the figure.
        note: Text below the figure, which says what the intervals are.

    Returns:
        The matplotlib Axes, one per term.
    """
    terms = list(dict.fromkeys(data["term"]))
    most = max(int((data["term"] == t).sum()) for t in terms)
    named = most <= 60
    figure, axes = panels(len(terms), columns, 4.2, float(np.clip(0.19 * most, 2.6, 11.0)))
    for ax, term in zip(axes, terms, strict=True):
        own = data[data["term"] == term]
        away = (own["lower"] > 0) | (own["upper"] < 0)
        if not np.ptp(own[["lower", "upper"]].to_numpy()):
            ax.set_xlim(-1, 1)
            ax.text(0.5, 0.5, "no variance", transform=ax.transAxes, ha="center", color=GREY)
        ax.axvline(0, color=GREY, linewidth=1, linestyle="--")
        for which, colour in ((away, BLUE), (~away, GREY)):
            part = own[which]
            ax.hlines(part["position"], part["lower"], part["upper"], color=colour, linewidth=1.6 if named else 0.8)
            ax.plot(part["estimate"], part["position"], "o", color=colour, markersize=4 if named else 2)
        if named:
            ax.set_yticks(own["position"], [str(v) for v in own["level"]], fontsize=8 if most <= 30 else 6)
        else:
            ax.set_yticks([])
            ax.set_ylabel(f"{most} levels, sorted")
        ax.set_ylim(-0.8, len(own) - 0.2)
        ax.set_title(term, fontsize=11, loc="left")
        plain(ax)
        ax.grid(visible=False, axis="y")
    headline(figure, title)
    figure.supxlabel(note, fontsize=9)
    return axes


@plain_names
def draw_shrinkage(data: pd.DataFrame, *, ax: Any = None, title: str = "") -> Any:
    """Draw what ``fit.plot.shrinkage(draw=False)`` returns: how far partial pooling moves each level's estimate.

    Args:
        data: Index level, columns (kind, term).
        ax: Axes to draw into; None makes new ones.
        title: Title of the picture.

    Returns:
        The matplotlib Axes.
    """
    terms = list(dict.fromkeys(data["partial"].columns))
    return _arrows(data, terms, ax, title) if len(terms) > 1 else _dumbbells(data, terms[0], ax, title)


def _arrows(data: pd.DataFrame, terms: list[str], ax: Any, title: str) -> Any:
    ax = own_axes(ax, 7.0, 5.6)
    no, partial = data["no"][terms].to_numpy(), data["partial"][terms].to_numpy()
    centre, complete = data["centre"][terms].to_numpy(), data["complete"][terms].to_numpy()
    known = np.isfinite(no).all(axis=1)
    for start, end in zip(no[known], partial[known], strict=True):
        ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": GREY, "linewidth": 1})
    ax.plot(*no[known].T, "o", color=ORANGE, markersize=6, markerfacecolor="white", label="no pooling")
    ax.plot(*partial.T, "o", color=BLUE, markersize=6, label="partial pooling")
    for values, marker, colour, label in (
        (centre, "D", BLACK, "fixed effects"),
        (complete, "s", GREEN, "complete pooling"),
    ):
        once = np.unique(values.round(12), axis=0)  # one point, unless a predictor is constant within levels
        ax.plot(*once.T, marker, color=colour, markersize=8 if len(once) < 6 else 3, label=label)
    if len(data) <= 30:
        for label, at in zip(data.index, partial, strict=True):
            ax.annotate(str(label), at, (5, 4), textcoords="offset points", fontsize=8, color=GREY)
    return finished(ax, terms[0], terms[1], title)


def _dumbbells(data: pd.DataFrame, term: str, ax: Any, title: str) -> Any:
    order = np.argsort(data["partial"][term].to_numpy(), kind="stable")
    data = data.iloc[order]
    ax = own_axes(ax, 6.4, float(np.clip(0.2 * len(data) + 1.2, 3.0, 11.0)))
    at = np.arange(len(data))
    no, partial = data["no"][term].to_numpy(), data["partial"][term].to_numpy()
    ax.hlines(at, no, partial, color=GREY, linewidth=1)
    ax.plot(no, at, "o", color=ORANGE, markersize=5, markerfacecolor="white", label="no pooling")
    ax.plot(partial, at, "o", color=BLUE, markersize=5, label="partial pooling")
    ax.plot(data["centre"][term], at, "|", color=BLACK, markersize=9, label="fixed effects")
    ax.plot(data["complete"][term], at, "|", color=GREEN, markersize=9, label="complete pooling")
    if len(data) <= 60:
        ax.set_yticks(at, [str(v) for v in data.index], fontsize=8 if len(data) <= 30 else 6)
    else:
        ax.set_yticks([])
    ax.set_xlabel(term)
    ax.legend(frameon=False, fontsize=9)
    title_of(ax, title)
    plain(ax)
    ax.grid(visible=False, axis="y")
    return ax


@plain_names
def draw_ridge(data: pd.DataFrame, *, ax: Any = None, title: str = "", xlabel: str = "") -> Any:
    """Draw what ``fit.plot.ridge(draw=False)`` returns: a density per level, one above the other.

    Args:
        data: Columns level, x, density, mean; levels in the order from bottom to top.
        ax: Axes to draw into; None makes new ones.
        title: Title of the picture.
        xlabel: Label of the horizontal axis.

    Returns:
        The matplotlib Axes.
    """
    levels = list(dict.fromkeys(data["level"]))
    ax = own_axes(ax, 6.6, float(np.clip(0.38 * len(levels) + 1.2, 3.0, 12.0)))
    height = 1.8 / float(data["density"].max())
    for i, level in enumerate(levels):
        own = data[data["level"] == level]
        order = len(levels) - i
        top = i + height * own["density"]
        ax.fill_between(own["x"], i, top, color=BLUE, alpha=0.55, zorder=order, linewidth=0)
        ax.plot(own["x"], top, color="white", linewidth=0.8, zorder=order)
        ax.plot(own["mean"].iloc[0], i, "|", color=BLACK, markersize=9, zorder=order + 0.5)
    ax.axvline(float(data.attrs.get("centre", np.nan)), color=GREY, linestyle="--", linewidth=1, zorder=0)
    ax.set_yticks(range(len(levels)), [str(v) for v in levels], fontsize=9 if len(levels) <= 30 else 6)
    ax.set_ylim(-0.3, len(levels) + 1.0)
    ax.set_xlabel(xlabel)
    title_of(ax, title)
    plain(ax)
    return ax
