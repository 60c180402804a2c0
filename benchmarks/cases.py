"""What is fitted: data by name, so that a fresh process can make them again."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

import unimix as um


@dataclass(frozen=True)
class Case:
    """One model and its data.

    Attributes:
        name: For the table.
        formula: In lme4's language.
        fixed: The fixed part, for engines with a syntax of their own.
        slope: The column that varies over the group.
        groups: The grouping factors.
        data: Its rows.
    """

    name: str
    formula: str
    fixed: str
    slope: str
    groups: tuple[str, ...]
    data: pd.DataFrame

    @property
    def group(self) -> str:
        """The first grouping factor."""
        return self.groups[0]


def slopes_of(name: str, data: pd.DataFrame, response: str, slope: str, group: str) -> Case:
    """A random intercept and slope over one factor."""
    fixed = f"{response} ~ {slope}"
    return Case(name, f"{fixed} + (1 + {slope} | {group})", fixed, slope, (group,), data[[response, slope, group]])


def simulated(groups: int, rows: int) -> Case:
    """Groups of the same size with correlated intercepts and slopes."""
    rng = np.random.default_rng(1)
    g, x = np.repeat(np.arange(groups), rows), rng.normal(size=groups * rows)
    b = rng.multivariate_normal([0, 0], [[1.0, 0.3], [0.3, 0.5]], groups)
    y = 1 + 0.5 * x + b[g, 0] + b[g, 1] * x + rng.normal(size=groups * rows)
    return slopes_of(f"{groups:,} groups x {rows}", pd.DataFrame({"y": y, "x": x, "g": g}), "y", "x", "g")


def crossed() -> Case:
    """Three crossed factors in the shape of InstEval."""
    rng = np.random.default_rng(1)
    n, sizes = 73_421, {"s": 2972, "d": 1128, "k": 14}
    codes = {name: rng.integers(0, levels, n) for name, levels in sizes.items()}
    sd = {"s": 0.32, "d": 0.51, "k": 0.1}
    effects = sum(sd[name] * rng.normal(size=levels)[codes[name]] for name, levels in sizes.items())
    x = rng.integers(0, 2, n)
    data = pd.DataFrame({**codes, "x": x, "y": 3.2 - 0.06 * x + effects + 1.18 * rng.normal(size=n)})
    formula = "y ~ x + (1 | s) + (1 | d) + (1 | k)"
    return Case("crossed, 73,421 rows, 2972 x 1128 x 14", formula, "y ~ x", "x", ("s", "d", "k"), data)


def terms() -> Case:
    """A million rows in 50,000 levels with factors, their interaction and a polynomial; nothing is fitted."""
    rng, n = np.random.default_rng(1), 1_000_000
    data = pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(size=n),
            "z": rng.normal(size=n),
            "f": pd.Categorical.from_codes(rng.integers(0, 5, n), categories=list("abcde")),
            "s": np.array(["north", "south", "west"])[rng.integers(0, 3, n)],
            "g": rng.integers(0, 50_000, n),
        }
    )
    formula = "y ~ f * x + poly(z, 3) + s + (1 + x | g)"
    return Case("1,000,000 rows, 50,000 levels", formula, "y ~ f * x + poly(z, 3) + s", "x", ("g",), data)


def schools() -> Case:
    """The ten schools of the tutorial, whose data state no licence: fetched, or read from UNIMIX_DATA."""
    return slopes_of("school, 260 rows", um.load_dataset("imm10"), "math", "homework", "schid")


MAKERS: dict[str, Callable[[], Case]] = {
    "sleepstudy": lambda: slopes_of(
        "sleepstudy, 180 rows", um.load_dataset("sleepstudy"), "Reaction", "Days", "Subject"
    ),
    "dietox": lambda: slopes_of("dietox, 861 rows", um.load_dataset("dietox"), "Weight", "Time", "Pig"),
    "school": schools,
    "rows-10k": lambda: simulated(500, 20),
    "rows-50k": lambda: simulated(2_500, 20),
    "groups-10k": lambda: simulated(10_000, 5),
    "crossed": crossed,
    "rows-1m": lambda: simulated(50_000, 20),
    "terms-1m": terms,
}


@functools.cache
def case(key: str) -> Case:
    """The case of this name, or ``GROUPSxROWS`` of a simulated one."""
    if key in MAKERS:
        return MAKERS[key]()
    groups, rows = key.split("x")
    return simulated(int(groups), int(rows))
