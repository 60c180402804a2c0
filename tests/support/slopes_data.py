"""Rows of groups with intercepts and slopes that differ, and a second, crossed factor."""

from __future__ import annotations

import numpy as np
import pandas as pd


def simulate(seed=0, groups=14, rows=8, slope_sd=0.5):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), rows)
    x = rng.normal(size=len(g)) + 2
    b = rng.normal(size=(groups, 2)) * [1.2, slope_sd]
    y = 3 + 0.7 * x + b[g, 0] + b[g, 1] * x + rng.normal(size=len(g))
    return pd.DataFrame({"y": y, "x": x, "g": [f"g{i:02d}" for i in g], "h": [f"h{i % 5}" for i in range(len(g))]})
