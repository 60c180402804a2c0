"""Pictures that check a model: predictive distributions, residuals, modes, leverage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from unimix.plots.style import BLACK, BLUE, GREY, ORANGE, headline, own_axes, panels, plain, plain_names, title_of


@plain_names
def draw_predictive(data: pd.DataFrame, *, ax: Any = None, title: str = "", xlabel: str = "", label: str = "") -> Any:
    """Draw what ``fit.plot.posterior_predictive(draw=False)`` returns, or ``prior_predictive``.

    Args:
        data: Columns draw (-1 for the observed data), x, density (or share of rows if the values are discrete).
        ax: Axes to draw into; None makes new ones.
        title: Title of the picture.
        xlabel: Label of the horizontal axis.
        label: Name of the draws in the legend.

    Returns:
        The matplotlib Axes.
    """
    ax = own_axes(ax, 6.6, 4.2)
    discrete = bool(data.attrs.get("discrete", False))
    drawn = data[data["draw"] >= 0]
    if discrete:
        table = drawn.pivot_table(index="x", columns="draw", values="density", fill_value=0.0)
        at = table.index.to_numpy(dtype=float)
        low, middle, high = np.quantile(table.to_numpy(), [0.025, 0.5, 0.975], axis=1)
        ax.vlines(at, low, high, color=BLUE, alpha=0.35, linewidth=5, label=f"{label}, 95 %")
        ax.plot(at, middle, "_", color=BLUE, markersize=9, label=f"{label}, median")
    else:
        for i, (_, line) in enumerate(drawn.groupby("draw")):
            ax.plot(line["x"], line["density"], color=BLUE, linewidth=0.7, alpha=0.25, label=label if i == 0 else None)
    observed = data[data["draw"] < 0]
    if len(observed):
        style = "o" if discrete else "-"
        ax.plot(observed["x"], observed["density"], style, color=BLACK, linewidth=2.2, markersize=4, label="observed")
    legend = ax.legend(frameon=False, fontsize=9, loc="upper right")
    for handle in legend.legend_handles:
        handle.set_alpha(1.0)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(f"share of rows{' (binned)' if data.attrs.get('binned') else ''}" if discrete else "density")
    ax.set_ylim(bottom=0)
    title_of(ax, title)
    plain(ax)
    return ax


@plain_names
def draw_diagnostics(data: pd.DataFrame, modes: pd.DataFrame, *, title: str = "") -> Any:
    """Draw what ``fit.plot.diagnostics(draw=False)`` returns.

    Args:
        data: Columns fitted, residual (standardized), leverage, residual_quantile.
        modes: Columns label, mode, quantile.
        title: Title of the figure.

    Returns:
        The matplotlib Axes: residuals against fitted values, Q-Q plot of residuals, scale-location plot, leverage, and
        one Q-Q plot for each term of the group effects.
    """
    labels = list(dict.fromkeys(modes["label"]))
    figure, axes = panels(4 + len(labels), 3, 4.0, 3.1)
    fitted, residual = data["fitted"].to_numpy(), data["residual"].to_numpy()
    dots = {"markersize": 3, "alpha": 0.5 if len(data) < 3000 else 0.15, "color": BLUE}
    axes[0].axhline(0, color=GREY, linewidth=1, linestyle="--")
    axes[0].plot(fitted, residual, "o", **dots)
    _smooth(axes[0], fitted, residual)
    _named(axes[0], "Residuals and fitted values", "fitted", "standardized residual")
    _quantiles(axes[1], data["residual_quantile"], residual, dots)
    _named(axes[1], "Q-Q of the residuals", "normal quantile", "standardized residual")
    axes[2].plot(fitted, np.sqrt(np.abs(residual)), "o", **dots)
    _smooth(axes[2], fitted, np.sqrt(np.abs(residual)))
    _named(axes[2], "Scale and location", "fitted", "root of |standardized residual|")
    axes[3].plot(data["leverage"], residual, "o", **dots)
    axes[3].axhline(0, color=GREY, linewidth=1, linestyle="--")
    _named(axes[3], "Leverage", "leverage", "standardized residual")
    for ax, label in zip(axes[4:], labels, strict=True):
        own = modes[modes["label"] == label]
        _quantiles(ax, own["quantile"], own["mode"].to_numpy(), {**dots, "alpha": 0.8, "markersize": 4})
        _named(ax, f"Q-Q of {label}", "normal quantile", "conditional mode")
    headline(figure, title)
    return axes


def _named(ax: Any, title: str, x: str, y: str) -> None:
    ax.set_title(title, fontsize=10, loc="left")
    ax.set_xlabel(x, fontsize=9)
    ax.set_ylabel(y, fontsize=9)
    plain(ax)


def _quantiles(ax: Any, quantile: pd.Series[Any], values: Any, dots: dict[str, Any]) -> None:
    q = quantile.to_numpy(dtype=float)
    ax.plot(q, values, "o", **dots)
    # The line passes through the quartiles, as in R's qqline.
    x, y = np.quantile(q, [0.25, 0.75]), np.quantile(values, [0.25, 0.75])
    slope = (y[1] - y[0]) / (x[1] - x[0]) if x[1] > x[0] else 0.0
    ends = np.array([q.min(), q.max()])
    ax.plot(ends, y[0] + slope * (ends - x[0]), color=ORANGE, linewidth=1.6)


def _smooth(ax: Any, x: Any, y: Any) -> None:
    """Draw a running median over tenths of the rows."""
    if len(x) < 100 or np.ptp(x) == 0 or len(np.unique(y)) < 20:
        return
    order = np.argsort(x, kind="stable")
    pieces = np.array_split(order, 10)
    ax.plot([np.median(x[p]) for p in pieces], [np.median(y[p]) for p in pieces], color=ORANGE, linewidth=1.8)
