"""What is fitted."""

from __future__ import annotations

from dataclasses import dataclass

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
