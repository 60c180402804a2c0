"""Reference grids: combinations of predictors and the linear functions of the fixed effects that they stand for."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.errors import DataError, OptionError, did_you_mean, listing
from unimix.model.data import FactorColumn, as_numbers
from unimix.model.newdata import design_rows, frame_of, predictor_names
from unimix.model.whitelist import expression_columns
from unimix.numerics.delta import Linear, Span

if TYPE_CHECKING:
    from unimix.model.design import Design
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


def fitted_frame(design: Design) -> pd.DataFrame:
    """The predictors and grouping factors of the rows that were fitted."""
    response = set(expression_columns(design.spec.response)) - set(predictor_names(design.recipe))
    made = {n: v for n, v in frame_of(design).items() if n not in response}
    return pd.DataFrame(made) if made else pd.DataFrame({"unimix": np.zeros(design.n)})


class PopulationRows:
    """Rows of the fixed effects for changed predictors, where the estimates determine them.

    Args:
        fit: The result.
        design: Its design.
        offset: What is added to the formula's own offset, shape (n,), where the fit was given it as an array.
    """

    def __init__(self, fit: FitResult, design: Design, offset: FloatArray | None = None) -> None:
        self.recipe = fit.model.recipe
        self.offset = offset
        if offset is not None:
            self.recipe = self.recipe.model_copy(update={"offset_given": False})
        self.kept = list(self.recipe.kept)
        self.aliased = fit.model.aliased
        self.span: Span | None = None
        if self.aliased:
            columns = tuple(range(len(self.kept) + len(self.aliased)))
            self.recipe = self.recipe.model_copy(update={"kept": columns})
            plain = self.recipe.model_copy(update={"offset_given": False})
            self.span = Span.of(design_rows(plain, fitted_frame(design), with_groups=False).x)

    def full(self, frame: pd.DataFrame, what: str) -> Linear:
        """Rows with the columns that were left out, shape (n, k).

        Raises:
            DataError: For absent columns, missing values or unknown levels.
        """
        made = design_rows(self.recipe, frame, with_groups=False)
        if not made.complete.all():
            names = [n for n in predictor_names(self.recipe) if frame[n].isna().any()]
            raise DataError(
                f"{what} has missing values in {int((~made.complete).sum())} of {len(made.complete)} rows "
                f"({listing(names)}). Leave these rows out: frame.dropna(subset={names!r})."
            )
        return Linear(made.x, made.offset if self.offset is None else made.offset + self.offset)

    def fitted(self, rows: Linear, what: str) -> Linear:
        """The columns that were fitted, shape (n, p).

        Raises:
            DataError: If the estimates do not determine a row, because a column that it needs was left out.
        """
        if self.span is None:
            return rows
        lacking = self.span.lacks(rows.x)
        if lacking.any():
            raise DataError(
                f"{what}: {int(lacking.sum())} of {len(lacking)} rows cannot be estimated, because they need columns "
                f"that depend on others in the data that were fitted and were left out ({listing(self.aliased)}). "
                "Leave out the terms, or the combinations of levels, that have no data of their own."
            )
        return Linear(rows.x[:, self.kept], rows.offset)

    def lacks(self, x: FloatArray) -> npt.NDArray[np.bool_]:
        """Which rows (n, k) of all columns the estimates do not determine, shape (n,)."""
        return np.zeros(len(x), dtype=bool) if self.span is None else self.span.lacks(x)

    def __call__(self, frame: pd.DataFrame, what: str) -> Linear:
        """Linear predictors of a frame's rows."""
        return self.fitted(self.full(frame, what), what)


def given_offset(fit: FitResult, design: Design) -> FloatArray | None:
    """The part of the fitted rows' offset that was given as an array, shape (n,), or None."""
    if not fit.model.recipe.offset_given:
        return None
    plain = fit.model.recipe.model_copy(update={"offset_given": False})
    own = design_rows(plain, fitted_frame(design), with_groups=False).offset
    return np.asarray((0.0 if design.offset is None else design.offset) - own)


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
