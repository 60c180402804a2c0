"""Reference grids: combinations of predictor values, and their linear predictors as functions of the fixed effects."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.comparisons.predictors import Predictors, level_text
from unimix.design.typed_columns import as_factor, as_numbers, require_text
from unimix.errors import DataError, OptionError, did_you_mean, listing
from unimix.fitted.criterion import column_mean, support_arrays
from unimix.formula.allowed import expression_columns
from unimix.formula.parser import Call
from unimix.stats.delta import Linear, Span

if TYPE_CHECKING:
    from unimix.design.arrays import Design
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]

MOST_ROWS = 200_000


@dataclass(frozen=True)
class Grid:
    """Combinations of predictor values.

    Attributes:
        frame: Predictor values, one row per combination.
        x: Fixed-effects columns, shape (n, p).
        offset: Offset of each row, shape (n,).
        weight: Frequency of the combination of factor levels in the data, as a sum of prior weights, shape (n,).
        exists: Whether each level of a nested factor is combined with the level that it belongs to, shape (n,).
        nested: Factors that are nested in others, with these.
    """

    frame: pd.DataFrame
    x: FloatArray
    offset: FloatArray
    weight: FloatArray
    exists: npt.NDArray[np.bool_]
    nested: dict[str, list[str]]


def fitted_frame(design: Design) -> pd.DataFrame:
    """The predictors and grouping factors of the rows that were fitted."""
    response = set(expression_columns(design.spec.response)) - set(design.encoding.predictors)
    columns = {n: v for n, v in design.frame().items() if n not in response}
    return pd.DataFrame(columns) if columns else pd.DataFrame({"unimix": np.zeros(design.n)})


class PopulationRows:
    """Fixed-effects columns for new values of predictors, if the estimates determine their linear predictor.

    Args:
        fit: The result.
        design: The design that was fitted.
        offset: Offset given to the fit as an array, which is added to that of the formula, shape (n,); or None.
    """

    def __init__(self, fit: FittedModel, design: Design, offset: FloatArray | None = None) -> None:
        self.encoding = fit.model.encoding if offset is None else fit.model.encoding.without_given_offset()
        self.columns = design.columns
        self.offset = offset
        self.kept = list(self.encoding.kept)
        self.aliased = fit.model.aliased
        self.span: Span | None = None
        if self.aliased:
            columns = tuple(range(len(self.kept) + len(self.aliased)))
            self.encoding = self.encoding.changed(kept=columns)
            plain = self.encoding.without_given_offset()
            self.span = Span.of(plain.transform(fitted_frame(design), with_groups=False).x)

    def full(self, frame: pd.DataFrame, what: str) -> Linear:
        """All columns, including those that were left out, shape (n, k).

        Args:
            frame: Rows of predictors.
            what: Name of the rows in messages.

        Raises:
            DataError: If columns are absent, values are missing or levels are unknown.
        """
        rows = self.encoding.transform(frame, with_groups=False)
        if not rows.complete.all():
            names = [n for n in self.encoding.predictors if frame[n].isna().any()]
            raise DataError(
                f"{what} has missing values in {int((~rows.complete).sum())} of {len(rows.complete)} rows "
                f"({listing(names)}). Leave these rows out: frame.dropna(subset={names!r})."
            )
        return Linear(rows.x, rows.offset if self.offset is None else rows.offset + self.offset)

    def zero(self, frame: pd.DataFrame) -> FloatArray:
        """Columns of the zero inflation at the rows of a frame, shape (n, r); none if the model has no such part."""
        found = self.encoding.transform(frame, with_groups=False).zero
        return np.empty((len(frame), 0)) if found is None else found

    def without_given_offset(self) -> PopulationRows:
        """Return the rows without the offset that was given per row, so that any number of rows will do."""
        population = copy.copy(self)
        population.offset = None
        return population

    def range_of(self, name: str) -> tuple[float, float]:
        """Smallest and largest fitted value of a numeric predictor."""
        values = as_numbers(self.columns[name])
        return float(values.min()), float(values.max())

    def fitted(self, rows: Linear, what: str) -> Linear:
        """The columns that were fitted, shape (n, p).

        Args:
            rows: All columns, as :meth:`full` gives them.
            what: Name of the rows in messages.

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
        """Whether the estimates do not determine each of the rows (n, k) of all columns, shape (n,)."""
        return np.zeros(len(x), dtype=bool) if self.span is None else self.span.lacks(x)

    def outside(self, x: FloatArray) -> FloatArray:
        """Parts of rows (n, k) of all columns that the estimates do not determine, shape (n, d); zero if they do."""
        return np.zeros((len(x), 0)) if self.span is None else self.span.outside(x)

    def __call__(self, frame: pd.DataFrame, what: str) -> Linear:
        """Columns that were fitted and offset at the rows of a frame."""
        return self.fitted(self.full(frame, what), what)


def given_offset(fit: FittedModel, design: Design) -> FloatArray | None:
    """The part of the fitted rows' offset that was given as an array, shape (n,), or None."""
    if not fit.model.encoding.offset_given:
        return None
    plain = fit.model.encoding.without_given_offset()
    from_formula = plain.transform(fitted_frame(design), with_groups=False).offset
    return np.asarray((0.0 if design.offset is None else design.offset) - from_formula)


def reference_grid(fit: FittedModel, at: Mapping[str, Any] | None = None) -> Grid:
    """All combinations of the factors' levels, with numeric predictors at their means.

    Args:
        fit: The result.
        at: Values of predictors to use instead, one or a list for each name.

    Raises:
        OptionError: If predictors are unknown, levels were not fitted, or the grid is too large.
    """
    design = support_arrays(fit)
    names = [n for n in fit.model.encoding.predictors if n in design.columns]
    strange = [n for n in at or {} if n not in names]
    if strange:
        raise OptionError(
            f"at={{{strange[0]!r}: ...}} is not a predictor of this model.{did_you_mean(strange[0], names)} "
            f"Predictors: {listing(names) or 'none'}."
        )
    values: dict[str, list[Any]] = {}
    known = Predictors.of(fit, design).levels
    for name in names:
        if name in (at or {}):
            values[name] = _values_at(name, (at or {})[name])
        elif name in known:
            values[name] = list(known[name])
        else:
            values[name] = [column_mean(fit, name)]
    size = int(np.prod([len(v) for v in values.values()]))
    if size > MOST_ROWS:
        raise OptionError(f"The grid would have {size} rows. Fix some predictors: at={{...}}.")
    rows = list(itertools.product(*values.values()))
    frame = pd.DataFrame(rows, columns=names) if names else pd.DataFrame(index=[0])
    new = {n: [row[j] for row in rows] for j, n in enumerate(names)}
    coded = fit.model.encoding.transform(new if names else pd.DataFrame({"unimix": [0]}), with_groups=False)
    factors = [n for n in names if n in known]
    nested, exists = _nesting(design, factors, frame)
    return Grid(frame, coded.x, coded.offset, _frequencies(fit, design, factors, frame), exists, nested)


def _nesting(
    design: Design, factors: Sequence[str], frame: pd.DataFrame
) -> tuple[dict[str, list[str]], npt.NDArray[np.bool_]]:
    """Factors whose levels occur with a single level of another factor each, as in R's emmeans, and rows that exist.

    Args:
        design: The design that was fitted.
        factors: Factors of the fixed part.
        frame: Rows of the grid.
    """
    columns = {n: as_factor(design.columns[n], n) for n in factors}
    shown = {n: [level_text(level) for level in c.levels] for n, c in columns.items()}
    nested: dict[str, list[str]] = {}
    exists = np.ones(len(frame), dtype=bool)
    for inner, outer in itertools.permutations([n for n in factors if len(shown[n]) > 1], 2):
        pairs = np.unique(np.column_stack([columns[inner].codes, columns[outer].codes]), axis=0)
        if len(pairs) > len(shown[inner]):
            continue
        nested.setdefault(inner, []).append(outer)
        parent = {shown[inner][i]: shown[outer][o] for i, o in pairs}
        exists &= np.array(
            [parent[level_text(i)] == level_text(o) for i, o in zip(frame[inner], frame[outer], strict=True)],
            dtype=bool,
        )
    return nested, exists


def _values_at(name: str, value: Any) -> list[Any]:
    """Check one entry of ``at``, and return its values as a list."""
    given: list[Any] = [value] if pd.api.types.is_scalar(value) else list(value) if isinstance(value, Iterable) else []
    if not given or not all(pd.api.types.is_scalar(v) and pd.notna(v) for v in given):
        raise OptionError(f"at={{{name!r}: {value!r}}}: give one value or several, none of them missing.")
    require_text(name, given)
    return given


def _frequencies(fit: FittedModel, design: Design, factors: Sequence[str], frame: pd.DataFrame) -> FloatArray:
    """Sum of the prior weights of the fitted rows with each combination of levels, shape (n,)."""
    compression = fit._arrays().compression
    share = _prior_weights(fit, design) if compression is None else compression.frequencies
    if not factors:
        return np.full(len(frame), share.sum())
    of = design.columns if compression is None else compression.combinations
    columns = [as_factor(of[name], name) for name in factors]
    shown = [[level_text(level) for level in column.levels] for column in columns]
    rows = list(zip(*([t[c] for c in k.codes] for t, k in zip(shown, columns, strict=True)), strict=True))
    counts: dict[tuple[str, ...], float] = {}
    for key, weight in zip(rows, share, strict=True):
        counts[key] = counts.get(key, 0.0) + float(weight)
    keys = [tuple(level_text(v) for v in row) for row in frame[list(factors)].itertuples(index=False, name=None)]
    return np.array([counts.get(key, 0.0) for key in keys])


def _prior_weights(fit: FittedModel, design: Design) -> FloatArray:
    """Weight of each row from ``weights=``, numbers of trials included, shape (n,); ones if not given."""
    counted = isinstance(design.spec.response, Call)  # cbind(successes, failures) has its own trials
    weights = fit.rows.trials if fit.rows.weights is None and not counted else fit.rows.weights
    return np.ones(design.n) if weights is None else np.asarray(weights, dtype=np.float64)


def checked_names(frame: pd.DataFrame, names: Sequence[str], what: str) -> list[str]:
    """Check that predictors exist in the grid, and return their names.

    Raises:
        OptionError: If one does not.
    """
    known = [str(c) for c in frame.columns]
    strange = [n for n in names if n not in known]
    if strange:
        raise OptionError(
            f"{what}={strange[0]!r} is not a predictor of this model.{did_you_mean(strange[0], known)} Predictors: "
            f"{listing(known) or 'none'}."
        )
    return list(names)
