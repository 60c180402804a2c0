"""Marginal means as weighted averages over a reference grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.means.equivalence import COLUMNS as EQUIVALENCE
from unimix.analysis.means.reference_grid import Grid
from unimix.errors import DataError, OptionError, did_you_mean, listing

FloatArray = npt.NDArray[np.float64]

WEIGHTS = ("equal", "proportional", "outer", "cells")
TAKEN = (
    *("estimate", "std_error", "df", "lower", "upper", "contrast", "statistic", "p_value", "adjust"),
    *("ratio", "odds_ratio", "p_direction"),
    *EQUIVALENCE,
)
"""Names of the tables' own columns, which no predictor in them may have."""


@dataclass(frozen=True)
class Average:
    """Averages of a grid's rows.

    Attributes:
        levels: Levels of the averages, one row each.
        turn: Weights of the grid's rows in each average, shape (m, n).
        empty: Whether an average has no weights, because no row of the data has its combination of levels, shape (m,).
        over: Factors that were averaged over.
        weights: Kind of the weights: equal, proportional, outer or cells.
    """

    levels: pd.DataFrame
    turn: FloatArray
    empty: npt.NDArray[np.bool_]
    over: tuple[str, ...]
    weights: str


def average(grid: Grid, names: Sequence[str], weights: str) -> Average:
    """Average a grid over its other predictors, as R's emmeans 1.8.4 does.

    A level of a nested factor counts only together with the level that it belongs to.

    Args:
        grid: The reference grid.
        names: Predictors with an average for each combination of their levels; empty for a single average.
        weights: Weights of the combinations of the other factors: equal; proportional to the frequency of each
            combination; outer, the product of the frequencies of the levels; cells, the frequencies within each
            combination of ``names``.

    Raises:
        DataError: If no row of the data has a combination that the weights need.
    """
    frame = grid.frame
    over = [str(c) for c in frame if c not in names and len(dict.fromkeys(frame[c])) > 1]
    share = _shares(grid, over, weights)
    keys = list(frame[list(names)].itertuples(index=False, name=None)) if names else [()] * len(frame)
    # The first name varies fastest, as in emmeans.
    ranks = [list(dict.fromkeys(frame[n])) for n in names]
    order = sorted(dict.fromkeys(keys), key=lambda k: [r.index(v) for r, v in zip(ranks, k, strict=True)][::-1])
    place = {key: i for i, key in enumerate(order)}
    turn = np.zeros((len(order), len(keys)))
    turn[[place[k] for k in keys], np.arange(len(keys))] = np.where(grid.exists, share, 0.0)
    real = np.bincount([place[k] for k in keys], grid.exists, minlength=len(order)) > 0
    order, turn = [key for key, there in zip(order, real, strict=True) if there], turn[real]
    total = turn.sum(axis=1, keepdims=True)
    if not (total > 0).any():
        raise DataError(
            f"weights={weights!r}: no row of the data has these levels, so that {listing(over)} have no frequencies. "
            "Use weights='equal'."
        )
    levels = pd.DataFrame(order, columns=list(names)) if names else pd.DataFrame(index=[0])
    return Average(levels, turn / np.where(total > 0, total, 1.0), ~(total[:, 0] > 0), tuple(over), weights)


def _shares(grid: Grid, over: Sequence[str], weights: str) -> FloatArray:
    if not over or weights == "equal":
        return np.ones(len(grid.frame))
    if weights == "cells":
        return grid.weight

    def frequency(names: Sequence[str]) -> FloatArray:
        keys = list(grid.frame[list(names)].itertuples(index=False, name=None))
        sums: dict[Any, float] = {}
        for key, weight in zip(keys, grid.weight, strict=True):
            sums[key] = sums.get(key, 0.0) + float(weight)
        return np.array([sums[key] for key in keys])

    if weights == "proportional":
        return frequency(over)
    return np.asarray(np.prod([frequency([name]) / max(grid.weight.sum(), 1e-300) for name in over], axis=0))


def checked_weights(weights: str) -> None:
    """Check the argument ``weights``.

    Raises:
        OptionError: If it is not one of :data:`WEIGHTS`.
    """
    if weights not in WEIGHTS:
        raise OptionError(f"weights={weights!r}: choose {listing(WEIGHTS)}.{did_you_mean(str(weights), WEIGHTS)}")


def checked_labels(names: Sequence[str]) -> None:
    """Check that no predictor has the name of one of the table's own columns.

    Raises:
        OptionError: If one does.
    """
    taken = [n for n in names if n in TAKEN]
    if taken:
        raise OptionError(f"The table has a column {taken[0]!r} of its own. Rename the predictor and fit again.")


def grid_in_words(average_: Average, grid: Grid, at: Mapping[str, Any] | None) -> str:
    """The values at which the other predictors are held, and the factors that are averaged over, in words."""
    values = []
    for name in grid.frame.columns:
        if name in average_.levels or name in average_.over or name == "unimix":
            continue
        value = grid.frame[name].iloc[0]
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        values.append(f"{name} = {shown}{'' if name in (at or {}) else ' (mean)'}")
    parts = [f"at {listing(values)}"] if values else []
    if average_.over:
        parts.append(f"averaged over {listing(average_.over)} with {SHARES[average_.weights]}")
    inside = [f"{name} within {listing(outer)}" for name, outer in grid.nested.items()]
    parts += [f"nested: {listing(inside)}"] if inside else []
    text = "; ".join(parts)
    return text[:1].upper() + text[1:]


SHARES = {
    "equal": "equal weights",
    "proportional": "weights by the frequency of their combinations",
    "outer": "weights by the product of their frequencies",
    "cells": "weights by their frequency within each mean",
}


def interaction_note(average_: Average, partners: set[str], at: Mapping[str, Any] | None) -> str:
    """A warning that means hide an interaction, in words; empty if they do not."""
    hidden = [n for n in average_.over if n in partners]
    named = [*average_.levels, *average_.over, *(at or {})]
    still = [n for n in partners if n not in named]
    if not hidden and not still:
        return ""
    said = [f"{listing(hidden)} (averaged over)"] if hidden else []
    said += [f"{listing(sorted(still))} (at one value)"] if still else []
    return (
        f"Results may be misleading, because of interactions with {' and '.join(said)}: "
        f"by={(hidden + sorted(still))[0]!r} or at= separates them."
    )
