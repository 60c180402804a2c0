"""What is fitted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

import unimix as um
from unimix.testing import simulate_slopes


@dataclass(frozen=True)
class Case:
    """One model and its data.

    Attributes:
        name: For the table.
        formula: In lme4's language.
        fixed: The fixed part, for engines with a syntax of their own.
        slope: The column that varies over the group.
        group: The grouping factor.
        data: Its rows.
    """

    name: str
    formula: str
    fixed: str
    slope: str
    group: str
    data: pd.DataFrame


def case(name: str, data: pd.DataFrame, response: str, slope: str, group: str) -> Case:
    """A random intercept and slope over one factor."""
    fixed = f"{response} ~ {slope}"
    return Case(name, f"{fixed} + (1 + {slope} | {group})", fixed, slope, group, data[[response, slope, group]])


def cases(*, quick: bool) -> list[Case]:
    """sleepstudy, dietox and, unless quick, 10,000 simulated rows in 500 groups."""
    found = [
        case("sleepstudy, 180 rows", um.load_dataset("sleepstudy"), "Reaction", "Days", "Subject"),
        case("dietox, 861 rows", um.load_dataset("dietox"), "Weight", "Time", "Pig"),
    ]
    if not quick:
        found.append(
            case("simulated, 10,000 rows", simulate_slopes(seed=1, n_groups=500, n_per_group=20), "y", "x", "g")
        )
    return found


def large_cases(*, quick: bool) -> list[Case]:
    """Many groups, crossed factors in the shape of InstEval, and a million rows."""
    rng = np.random.default_rng(1)
    found = [_slopes("10,000 groups x 5 rows", rng, 10_000, 5)]
    if quick:
        return found
    n, sizes = 73_421, {"s": 2972, "d": 1128, "k": 14}
    codes = {name: rng.integers(0, levels, n) for name, levels in sizes.items()}
    sd = {"s": 0.32, "d": 0.51, "k": 0.1}
    effects = sum(sd[name] * rng.normal(size=levels)[codes[name]] for name, levels in sizes.items())
    x = rng.integers(0, 2, n)
    data = pd.DataFrame({**codes, "x": x, "y": 3.2 - 0.06 * x + effects + 1.18 * rng.normal(size=n)})
    formula = "y ~ x + (1 | s) + (1 | d) + (1 | k)"
    found.append(Case("crossed, 73,421 rows, 2972 x 1128 x 14", formula, "y ~ x", "x", "s", data))
    return [*found, _slopes("50,000 groups x 20 rows", rng, 50_000, 20)]


def _slopes(name: str, rng: np.random.Generator, groups: int, rows: int) -> Case:
    g, x = np.repeat(np.arange(groups), rows), rng.normal(size=groups * rows)
    b = rng.multivariate_normal([0, 0], [[1.0, 0.3], [0.3, 0.5]], groups)
    y = 1 + 0.5 * x + b[g, 0] + b[g, 1] * x + rng.normal(size=groups * rows)
    return case(name, pd.DataFrame({"y": y, "x": x, "g": g}), "y", "x", "g")
