"""Reference grids: combinations of predictors and the linear functions of the fixed effects that they stand for."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.errors import OptionError, did_you_mean, listing
from unimix.model.data import FactorColumn, as_numbers
from unimix.model.newdata import design_rows, predictor_names

if TYPE_CHECKING:
    from unimix.results.result import FitResult

FloatArray = npt.NDArray[np.float64]

MOST_ROWS = 200_000


@dataclass(frozen=True)
class Grid:
    """Combinations of predictor values.

    Attributes:
        frame: One row per combination.
        x: Fixed-effects columns, shape (n, p).
        offset: Shape (n,).
        weight: Share of each combination of factor levels in the data, shape (n,), up to a constant.
    """

    frame: pd.DataFrame
    x: FloatArray
    offset: FloatArray
    weight: FloatArray


def reference_grid(fit: FitResult, at: Mapping[str, Any] | None = None, data: Any = None) -> Grid:
    """All combinations of the factors' levels, with numeric predictors at their means.

    Args:
        fit: The result.
        at: Values of predictors, one or a list of them, instead.
        data: The data that were fitted, for a result that was loaded.

    Raises:
        OptionError: For unknown predictors, or levels that were not fitted.
    """
    design = fit.design(data)
    names = [n for n in predictor_names(fit.model.recipe) if n in design.columns]
    strange = [n for n in at or {} if n not in names]
    if strange:
        raise OptionError(
            f"at={{{strange[0]!r}: ...}} is not a predictor of this model.{did_you_mean(strange[0], names)} "
            f"Predictors: {listing(names) or 'none'}."
        )
    values: dict[str, list[Any]] = {}
    for name in names:
        column = design.columns[name]
        given = (at or {}).get(name)
        if given is not None:
            values[name] = [given] if np.isscalar(given) else list(given)
        elif isinstance(column, FactorColumn):
            values[name] = list(column.levels)
        else:
            values[name] = [float(as_numbers(column).mean())]
    size = int(np.prod([len(v) for v in values.values()]))
    if size > MOST_ROWS:
        raise OptionError(f"The grid would have {size} rows. Fix some predictors: at={{...}}.")
    rows = list(itertools.product(*values.values()))
    frame = pd.DataFrame(rows, columns=names) if names else pd.DataFrame(index=[0])
    new = {n: [row[j] for row in rows] for j, n in enumerate(names)}
    factors = [n for n in names if isinstance(design.columns[n], FactorColumn)]
    made = design_rows(fit.model.recipe, new if names else pd.DataFrame({"unimix": [0]}), with_groups=False)
    return Grid(frame, made.x, made.offset, _shares(design.columns, factors, frame))


def _shares(columns: Mapping[str, Any], factors: Sequence[str], frame: pd.DataFrame) -> FloatArray:
    """How often each combination of levels occurs, marginal frequencies multiplied."""
    weight = np.ones(len(frame))
    for name in factors:
        column = columns[name]
        counts = np.bincount(column.codes, minlength=len(column.levels)) / len(column.codes)
        share = {str(level): float(c) for level, c in zip(column.levels, counts, strict=True)}
        weight = weight * np.array([share.get(str(v), 0.0) for v in frame[name]])
    return weight


def checked_names(frame: pd.DataFrame, names: Sequence[str], what: str) -> list[str]:
    """Predictors that exist in the grid.

    Raises:
        OptionError: For others.
    """
    known = [str(c) for c in frame.columns]
    strange = [n for n in names if n not in known]
    if strange:
        raise OptionError(
            f"{what}={strange[0]!r} is not a predictor of this model.{did_you_mean(strange[0], known)} Predictors: "
            f"{listing(known) or 'none'}."
        )
    return list(names)
