"""The picture of differences between engines: one row per number, one mark per engine, on a logarithmic scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from unimix.plots.style import PALETTE

LEAST, MOST = 1e-12, 10.0
"""Ends of the scale; smaller and larger differences are drawn at its ends."""
MOST_ROWS = 15
"""Number of rows of one kind that are drawn, those with the largest differences."""
SIGNS = (
    "\N{BLACK CIRCLE}\N{BLACK SQUARE}\N{BLACK DIAMOND}\N{BLACK UP-POINTING TRIANGLE}"
    "\N{BLACK DOWN-POINTING TRIANGLE}\N{HEAVY GREEK CROSS}\N{HEAVY MULTIPLICATION X}\N{BLACK STAR}"
    "\N{WHITE CIRCLE}\N{WHITE SQUARE}\N{WHITE DIAMOND}"
)
COLOURS = PALETTE[:-1]  # black would vanish on a dark page
TICKS = {1e-12: "\N{LESS-THAN OR EQUAL TO}1e-12", 1e-9: "1e-9", 1e-6: "1e-6", 1e-3: "0.001", 1.0: "1"}


@dataclass(frozen=True)
class Strip:
    """Differences of one kind.

    Attributes:
        heading: The kind and the unit, such as "Fixed effects, in standard errors".
        tolerance: Difference up to which engines agree; None if there is no such limit.
        sizes: Absolute differences, one row per number of the model and one column per engine.
    """

    heading: str
    tolerance: float | None
    sizes: pd.DataFrame


def place(size: float) -> float:
    """Position of a difference on the scale, in per cent of its length.

    Example:
        >>> place(1e-12), place(10.0)
        (0.0, 100.0)
    """
    length = np.log10(MOST) - np.log10(LEAST)
    return round(100 * float(np.log10(np.clip(size, LEAST, MOST)) - np.log10(LEAST)) / float(length), 2)


def picture(strips: Sequence[Strip]) -> dict[str, Any]:
    """Values of the picture for the template.

    Args:
        strips: Differences by kind; all have the same columns.
    """
    labels = list(strips[0].sizes.columns)
    marks = {
        label: {"label": label, "colour": COLOURS[i % len(COLOURS)], "sign": SIGNS[i % len(SIGNS)]}
        for i, label in enumerate(labels)
    }
    return {
        "legend": list(marks.values()),
        "parts": [_part(strip, marks) for strip in strips if strip.sizes.notna().any(axis=None)],
        "ticks": [{"place": place(size), "text": text} for size, text in TICKS.items()],
    }


def _part(strip: Strip, marks: dict[str, dict[str, str]]) -> dict[str, Any]:
    largest = strip.sizes.max(axis=1).nlargest(MOST_ROWS, keep="first").index
    shown = strip.sizes[strip.sizes.index.isin(largest)].iloc[:MOST_ROWS]
    rows = []
    for name, sizes in shown.iterrows():
        known = sizes.dropna()
        words = {label: f"{label} {size:.2g}" for label, size in known.items()}
        rows.append(
            {
                "name": str(name),
                "words": f"{name}: {', '.join(words.values())}",
                "marks": [{**marks[str(k)], "place": place(float(v)), "words": words[k]} for k, v in known.items()],
            }
        )
    band = None if strip.tolerance is None else place(strip.tolerance)
    return {"heading": strip.heading, "band": band, "rows": rows, "left_out": len(strip.sizes) - len(shown)}


__all__ = ["Strip", "picture", "place"]
