"""Means of a predictor per level of a grouping factor, for ``between(x, g)`` and ``within(x, g)`` in formulas.

The means are learnt from the rows that are fitted, each row counting once, and kept with the encoding. In new data the
mean of a row is that of its level in the fit, or the number in a column called as the term, ``between(x, g)``. A level
that was not fitted has no mean: the mean over its new rows would be another quantity, and is never taken silently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from unimix.design.evaluate import Environment, one_number
from unimix.design.grouping_factors import combine, level_codes, name_levels
from unimix.design.typed_columns import Column, FactorColumn, NumericColumn, as_factor, column_labels, read_columns
from unimix.errors import DataError, listing
from unimix.formula.expand import all_atoms
from unimix.formula.level_means import group_factors, mean_names
from unimix.formula.parser import Name, render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unimix.formula.parser import Call, Node
    from unimix.formula.terms import ModelSpec

FloatArray = npt.NDArray[np.float64]


class LevelMeans(BaseModel):
    """Means of an expression over the fitted rows of each level of a grouping factor.

    Attributes:
        factors: Columns whose combination is the grouping factor.
        levels: Labels of the levels.
        means: Mean of each level, in units of the expression.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    factors: tuple[str, ...]
    levels: tuple[StrictBool | StrictInt | StrictFloat | StrictStr, ...]
    means: tuple[Annotated[float, Field(allow_inf_nan=False)], ...]

    @model_validator(mode="after")
    def _one_mean_per_level(self) -> Self:
        if not self.factors or len(self.levels) != len(self.means):
            raise ValueError("there is one mean per level of a grouping factor")
        return self

    def of_rows(self, factors: Sequence[FactorColumn], name: str, x: Node, *, strict: bool) -> FloatArray:
        """Mean of the level of each row, shape (n,); NaN where a factor is missing.

        Args:
            factors: The columns of the grouping factor.
            name: Name of the column of the means, for messages.
            x: The expression, for messages.
            strict: Whether a level without a mean is refused; if not, its rows have NaN.

        Raises:
            DataError: If ``strict``, and rows have a level that was not fitted.
        """
        means = np.full(len(factors[0].codes), np.nan)
        present = np.flatnonzero(~np.any([f.missing for f in factors], axis=0))
        codes, combined = combine([f.take(present) for f in factors])
        labels = name_levels(combined)
        known = level_codes(self.levels, labels)[codes]
        if strict and (known < 0).any():
            strange = sorted({str(labels[k]) for k in np.unique(codes[known < 0])})
            group = " x ".join(self.factors)
            raise DataError(
                f"{name} has no mean for levels of {group} that were not fitted: {listing(strange)}. Give the mean "
                f"of {render(x)} in a column {name!r} of the new data, which then replaces the stored means in all of "
                "its rows. If the new rows are all rows of their levels, type:\n"
                f"    {self._line(name, x)}"
            )
        means[present] = np.where(known >= 0, np.asarray(self.means)[known], np.nan)
        return means

    def _line(self, name: str, x: Node) -> str:
        """The line to type that takes the means over the rows of a frame called new."""
        if isinstance(x, Name):
            by = self.factors[0] if len(self.factors) == 1 else list(self.factors)
            return f"new[{name!r}] = new.groupby({by!r})[{x.name!r}].transform('mean')"
        by_columns = ", ".join(f"new[{f!r}]" for f in self.factors)
        return f"new[{name!r}] = values.groupby([{by_columns}]).transform('mean')    # values: {render(x)} of each row"


def mean_calls(spec: ModelSpec) -> dict[str, Call]:
    """A call of ``between`` or ``within`` for every column of means that a formula needs, by name of the column."""
    return mean_names([*all_atoms(spec), *spec.offsets])


def learn_level_means(
    spec: ModelSpec, columns: Mapping[str, Column], data: Any
) -> tuple[dict[str, Column], dict[str, LevelMeans], dict[str, dict[str, Any]]]:
    """Compute the level means that a formula needs.

    Args:
        spec: Parsed formula with its ``.`` expanded.
        columns: Columns in use, with the rows that are fitted.
        data: The data, whose columns may not be called as a term.

    Returns:
        The columns, with one of shape (n,) more for each kind of mean; the means per level; and states learnt by
        functions inside, such as ``between(scale(x), g)``.

    Raises:
        DataError: If a column of the data is called as a term, or the expression is not numeric.
    """
    extended, learnt, states = dict(columns), dict[str, LevelMeans](), dict[str, dict[str, Any]]()
    env = Environment(columns, states)
    for name, call in mean_calls(spec).items():
        _refuse_called(name, column_labels(data), fitted=True)
        values = one_number(call.arguments[0], env)
        factors = group_factors(call)
        codes, combined = combine([as_factor(columns[f], f) for f in factors])
        count = np.bincount(codes, minlength=len(combined))
        used = np.flatnonzero(count)
        # The mean of the deviations from one value keeps the digits of numbers that are far from zero.
        start = np.zeros(len(combined))
        start[codes] = values
        means = start + np.bincount(codes, values - start[codes], len(combined)) / np.maximum(count, 1)
        labels = name_levels(combined)
        learnt[name] = LevelMeans(
            factors=factors, levels=tuple(labels[k] for k in used), means=tuple(float(means[k]) for k in used)
        )
        extended[name] = NumericColumn(means[codes])
    return extended, learnt, states


def _refuse_called(name: str, labels: Sequence[str], *, fitted: bool) -> None:
    """Refuse columns that are called almost as a column of means, or as the deviations from it.

    Args:
        name: Name of the column of the means, ``between(x, g)``.
        labels: Columns of the data.
        fitted: Whether the data are those to fit, in which the mean itself is computed, too.
    """
    deviations = "within" + name.removeprefix("between")
    for label in labels:
        squeezed = "".join(label.split())
        if squeezed == "".join(deviations.split()):
            what = "leave the column out" if fitted else f"give the mean of the level in a column {name!r} instead"
            raise DataError(f"The data have a column {label!r}, and the model computes it: {what}.")
        if squeezed == "".join(name.split()) and (fitted or label != name):
            what = "leave the column out or rename it" if fitted else f"call it {name!r}, with this spacing"
            raise DataError(f"The data have a column {label!r}, which is how a term of the model is written: {what}.")


def needed_columns(names: Sequence[str], means: Mapping[str, LevelMeans], labels: Sequence[str]) -> list[str]:
    """Columns to read from new data: a column of means that is absent is computed from its grouping factor.

    Args:
        names: Columns of the design.
        means: Level means by name of their column.
        labels: Columns of the new data.
    """
    needed = ((n,) if n in labels or n not in means else means[n].factors for n in names)
    return list(dict.fromkeys(n for group in needed for n in group))


def mean_hint(names: Sequence[str], means: Mapping[str, LevelMeans], absent: Sequence[str]) -> str:
    """How new data can do without the columns of a grouping factor that they lack; empty if they cannot."""
    hints = [
        f" {n} needs the level of {':'.join(means[n].factors)}, or the mean itself in a column {n!r}."
        for n in names
        if n in means and {*means[n].factors} & {*absent}
    ]
    return "".join(hints)


def are_means_of(means: Mapping[str, LevelMeans], spec: ModelSpec) -> bool:
    """Whether saved means are those that a formula needs."""
    return {k: group_factors(c) for k, c in mean_calls(spec).items()} == {k: m.factors for k, m in means.items()}


def read_with_means(
    data: Any, names: Sequence[str], means: Mapping[str, LevelMeans], spec: ModelSpec, *, strict: bool
) -> tuple[dict[str, Column], dict[str, Column]]:
    """Read columns of the design from new data, and compute the means of levels that the data do not hold.

    Args:
        data: New rows, in any form that ``fit`` takes.
        names: Columns of the design that are wanted.
        means: Level means by name of their column.
        spec: Parsed formula.
        strict: Whether a level without a mean is refused; if not, its rows have NaN.

    Returns:
        The columns that were read, and the means that were computed.

    Raises:
        DataError: If ``strict`` and a level has no mean, or columns are absent or called almost as the means.
    """
    if not means:
        return read_columns(data, names), {}
    labels, calls = column_labels(data), mean_calls(spec)
    for name in (n for n in names if n in means):
        _refuse_called(name, labels, fitted=False)
    read = read_columns(data, needed_columns(names, means, labels))
    made: dict[str, Column] = {}
    for name in (n for n in names if n in means and n not in labels):
        factors = [as_factor(read[f], f) for f in means[name].factors]
        x = calls[name].arguments[0]
        made[name] = NumericColumn(means[name].of_rows(factors, name, x, strict=strict))
    return read, made


__all__ = [
    "LevelMeans",
    "are_means_of",
    "learn_level_means",
    "mean_calls",
    "mean_hint",
    "needed_columns",
    "read_with_means",
]
