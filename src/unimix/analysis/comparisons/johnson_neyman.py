"""Johnson-Neyman regions: the values of a moderator at which the slope of a predictor differs from zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.means.emmeans import emmeans, slopes
from unimix.analysis.means.marginal_means import MarginalMeans
from unimix.design.typed_columns import NumericColumn
from unimix.errors import DataError, OptionError, did_you_mean
from unimix.fitted.model import interval_level
from unimix.fitted.schema import DfMethod
from unimix.fitted.table_result import TableResult

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]

POINTS = 101
"""Number of values of the moderator on the curve."""
REFINED, ROUNDS = 33, 5
"""Number of values within a bracket in each round of the search for a boundary: the last is 32**-5 of a step wide."""
WORDS = {1: "positive", -1: "negative", 0: "not different from zero"}


@dataclass(frozen=True, repr=False, eq=False)
class JohnsonNeyman(TableResult):
    """The answer of :func:`johnson_neyman`.

    Attributes:
        table: One row per region of the moderator: columns lower, upper (its ends), slope (positive, negative, or not
            different from zero), rows (number of rows of the data in it).
        curve: Slope at 101 values of the moderator: columns of the moderator, estimate, lower, upper, slope.
        simple_slopes: Slopes at the mean of the moderator and one SD below and above, as ``fit.slopes`` gives them.
        x: Name of the predictor.
        by: Name of the moderator.
        notes: Kind of the intervals, and what they do not hold for.
    """

    table: pd.DataFrame
    curve: pd.DataFrame
    simple_slopes: MarginalMeans
    x: str
    by: str
    notes: tuple[str, ...]
    _lines: Callable[[], MarginalMeans]
    _formula: str

    @property
    def boundaries(self) -> tuple[float, ...]:
        """Values of the moderator between two regions."""
        return tuple(float(v) for v in self.table["upper"].iloc[:-1])

    @property
    def _heading(self) -> str:
        return f"Slope of {self.x} by {self.by}: regions of {self.by}"

    def plot(self, *, ax: Any = None) -> Any:
        """Draw the slope against the moderator with its interval, and the regions where it differs from zero.

        Args:
            ax: Axes to draw into; None makes new ones.

        Returns:
            The matplotlib Axes.

        Raises:
            EngineNotInstalledError: If matplotlib is missing.
        """
        from unimix.plots.johnson_neyman import draw_regions

        return draw_regions(self.curve, self.boundaries, self.x, self.by, title=self._formula, ax=ax)

    def plot_lines(self, *, ax: Any = None, draw: bool = True) -> Any:
        """Draw the expected response over the predictor at three values of the moderator (simple slopes).

        Args:
            ax: Axes to draw into; None makes new ones.
            draw: Whether to draw; if not, the data are returned.

        Returns:
            The matplotlib Axes. With ``draw=False`` columns of the predictor and the moderator, estimate, lower, upper.

        Raises:
            EngineNotInstalledError: If matplotlib is missing.
        """
        lines = self._lines().table[[self.x, self.by, "estimate", "lower", "upper"]]
        if not draw:
            return lines
        from unimix.plots.johnson_neyman import draw_lines

        return draw_lines(lines, self.x, self.by, title=self._formula, ax=ax)


def johnson_neyman(
    fit: FittedModel,
    x: str,
    by: str,
    *,
    between: tuple[float, float] | None = None,
    at: Mapping[str, Any] | None = None,
    ci_level: float | None = None,
    df_method: DfMethod | None = None,
) -> JohnsonNeyman:
    """Find the values of a moderator at which the slope of a predictor differs from zero.

    The regions are those in which the interval of the slope excludes zero (Johnson & Neyman 1936, Stat. Res. Mem.
    1:57-93; Bauer & Curran 2005, Multivar. Behav. Res. 40:373-400, for mixed models). They are searched over the values
    of the moderator that occur, because a region beyond them rests on the straight line alone. Slopes are those of
    ``fit.slopes``, on the scale of the link.

    Args:
        x: Name of a numeric predictor.
        by: Name of the moderator, a numeric predictor.
        between: Values of the moderator between which regions are searched; None takes its smallest and largest value.
        at: Values of other predictors, as in :meth:`slopes`.
        ci_level: Probability of the intervals; None takes that of the fit.
        df_method: Degrees of freedom, as in :meth:`slopes`.

    Returns:
        ``.table`` with one row per region; ``.boundaries``; ``.simple_slopes``; ``.plot()`` and ``.plot_lines()``.

    Raises:
        OptionError: If a predictor is unknown or not numeric, or the values of ``between`` are no range.
        DataError: If the slope does not depend on the moderator, or the result was loaded without its data.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("distance ~ age * Start + (1 | Subject)", um.load_dataset("orthodont").assign(
        ...     Start=lambda d: d.groupby("Subject", observed=True)["distance"].transform("first")))
        >>> fit.johnson_neyman("age", by="Start", between=(10, 40)).table.round(1)
                lower  upper                    slope  rows
        region
        1        10.0   29.7                 positive   108
        2        29.7   40.0  not different from zero     0
    """
    values = _moderator(fit, x, by)
    low, high = _range(values, between)
    level = interval_level(fit, ci_level)
    given = dict(at or {})

    def found_at(points: FloatArray) -> pd.DataFrame:
        means = slopes(fit, x, by=by, at={**given, by: points.tolist()}, ci_level=level, df_method=df_method)
        return means.table[[by, "estimate", "lower", "upper"]].reset_index(drop=True)

    grid = np.linspace(low, high, POINTS)
    curve = found_at(grid)
    estimates = curve["estimate"].to_numpy()
    if np.ptp(estimates) <= 1e-12 * np.abs(estimates).max():
        raise DataError(f"The slope of {x} does not depend on {by}: the model needs their interaction, {x}:{by}.")
    signs = _signs(curve)
    boundaries = [_boundary(found_at, grid[i], grid[i + 1]) for i in np.flatnonzero(np.diff(signs))]
    curve["slope"] = [WORDS[s] for s in signs]
    ends = [low, *boundaries, high]
    rows = []
    for k, (a, b) in enumerate(pairwise(ends)):
        last = k == len(ends) - 2
        inside = (values >= a) & ((values <= b) if last else (values < b))
        sign = int(signs[0]) if k == 0 else int(_signs(found_at(np.array([(a + b) / 2, b])))[0])
        rows.append({"lower": a, "upper": b, "slope": WORDS[sign], "rows": int(inside.sum())})
    centre, sd = float(values.mean()), float(values.std(ddof=1))
    three = [centre - sd, centre, centre + sd]
    simple = slopes(fit, x, by=by, at={**given, by: three}, ci_level=level, df_method=df_method)
    own = _numbers(fit, x)

    def lines() -> MarginalMeans:
        at_points = {**given, x: np.linspace(own.min(), own.max(), 30).tolist(), by: three}
        return emmeans(fit, [x, by], at=at_points, ci_level=level, df_method=df_method)

    table = pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="region"))
    notes = (
        f"{100 * level:g}% intervals of the slope at one value of {by}; they do not hold for all values together.",
        f"Regions between {low:.5g} and {high:.5g}" + (", the range of the data." if between is None else "."),
        # by= is the moderator here
        *(f"{w.partition(': by=')[0]}: at= separates them." if ": by=" in w else w for w in simple.warned),
    )
    return JohnsonNeyman(table, curve, simple, x, by, notes, lines, fit.model.formula)


def _numbers(fit: FittedModel, name: str) -> FloatArray:
    column = fit.design().columns[name]
    assert isinstance(column, NumericColumn)  # noqa: S101  checked by _moderator
    return np.asarray(column.values, dtype=np.float64)


def _moderator(fit: FittedModel, x: str, by: str) -> FloatArray:
    """Values of the moderator in the rows that were fitted, shape (n,).

    Raises:
        OptionError: With all faults of the two names.
    """
    columns, predictors = fit.design().columns, fit.model.encoding.predictors
    faults = []
    for argument, name in (("x", x), ("by", by)):
        if name not in predictors:
            known = ", ".join(predictors) or "none"
            hint = did_you_mean(str(name), predictors)
            faults.append(f"{argument}={name!r} is not a predictor of the fixed part.{hint} Known: {known}.")
        elif not isinstance(columns[name], NumericColumn):
            faults.append(
                f"{argument}={name!r} is a factor: fit.slopes('x', by={name!r}) has the slopes in its levels."
            )
    if not faults and x == by:
        faults.append(f"x and by are both {x!r}: name a moderator.")
    if faults:
        raise OptionError("\n".join(faults))
    return _numbers(fit, by)


def _range(values: FloatArray, between: tuple[float, float] | None) -> tuple[float, float]:
    if between is None:
        return float(values.min()), float(values.max())
    try:
        low, high = (float(v) for v in between)
    except (TypeError, ValueError):
        low = high = float("nan")
    if not (np.isfinite([low, high]).all() and low < high):
        raise OptionError(f"between={between!r}: give two numbers in order, such as between=(-2, 2).")
    return low, high


def _signs(curve: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Sign of the slope where its interval excludes zero, and 0 elsewhere, shape (m,)."""
    lower, upper = curve["lower"].to_numpy(), curve["upper"].to_numpy()
    return np.where(lower > 0, 1, np.where(upper < 0, -1, 0)).astype(np.int64)


def _boundary(found_at: Callable[[FloatArray], pd.DataFrame], low: float, high: float) -> float:
    """The value between two others at which the interval of the slope begins or ceases to exclude zero."""
    for _ in range(ROUNDS):
        points = np.linspace(low, high, REFINED)
        first = int(np.flatnonzero(np.diff(_signs(found_at(points))))[0])
        low, high = float(points[first]), float(points[first + 1])
    return (low + high) / 2


__all__ = ["JohnsonNeyman", "johnson_neyman"]
