"""Contrasts of means, and contrasts of contrasts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.means.combinations import CONSTANT, Combinations
from unimix.analysis.means.contrasts import (
    adjustment,
    as_ratios,
    contrast_table,
    contrast_weights,
    interaction_weights,
)
from unimix.analysis.means.equivalence import adjustment_note, checked_bounds
from unimix.analysis.means.linear_functions import ENDLESS
from unimix.errors import DataError, OptionError, did_you_mean, listing
from unimix.fitted.table_result import TableResult
from unimix.foreign_names import suggests_names

FloatArray = npt.NDArray[np.float64]
NO_DATA = "the data lack combinations of levels"


@dataclass(frozen=True)
class ContrastRows:
    """Rows that are contrasted with each other: means, or contrasts of them.

    Attributes:
        levels: Labels of each row, columns ``names`` and ``by``.
        names: Columns that distinguish the rows within a group.
        by: Columns within whose combinations rows are contrasted.
        weights: Weights of the m means in each row, shape (k, m).
        earlier: Those of ``by`` that hold contrasts which are compared, instead of levels.
    """

    levels: pd.DataFrame
    names: tuple[str, ...]
    by: tuple[str, ...]
    weights: FloatArray
    earlier: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """The contrasts that are adjusted together, in words."""
        outer = [n for n in self.by if n not in self.earlier]
        same = ["of the same contrast"] if len(outer) < len(self.by) else []
        within = [*same, *([f"within a level of {listing(outer)}"] if outer else [])]
        return f"those {' '.join(within)}" if within else "all of them"

    def groups(self) -> Iterator[tuple[tuple[Any, ...], npt.NDArray[np.int64]]]:
        """Levels of ``by`` and positions of the rows of every group that has something to contrast."""
        groups = self.levels.groupby(list(self.by), sort=False, observed=True) if self.by else [((), self.levels)]
        for key, rows in groups:
            if len(rows) > 1:
                yield key if isinstance(key, tuple) else (key,), rows.index.to_numpy()

    def labels(self, at: npt.NDArray[np.int64]) -> list[str]:
        """Labels of some rows within their group."""
        shown = self.levels[list(self.names)].iloc[at]
        return [", ".join(str(v) for v in row) for row in shown.itertuples(index=False)]

    def crossed_levels(self, at: npt.NDArray[np.int64]) -> list[list[str]]:
        """Labels of each factor's levels, if all their combinations are there."""
        rows = self.levels.iloc[at]
        levels = [[str(v) for v in dict.fromkeys(rows[n])] for n in self.names]
        if math.prod(map(len, levels)) != len(rows):
            raise OptionError("interaction= needs every combination of the levels of its factors.")
        return levels


@dataclass(frozen=True)
class Asked:
    """What contrasts a call asks for; the attributes are those of ``MarginalMeans.contrasts``."""

    method: str | Mapping[str, Sequence[float]] = "pairwise"
    adjust: str | None = None
    reference: Any = None
    interaction: str | Sequence[str] | None = None
    scores: Sequence[float] | None = None
    joint: bool = False
    equivalence: tuple[float, float] | None = None

    def weights(self, rows: ContrastRows, at: npt.NDArray[np.int64], sign: str) -> dict[str, FloatArray]:
        """Weights of the rows of one group for each contrast by name, shapes (k,)."""
        if self.interaction is not None:
            crossed = [self.interaction] if isinstance(self.interaction, str) else self.interaction
            return interaction_weights(crossed, rows.crossed_levels(at), self.reference, sign, self.scores)
        return contrast_weights(self.method, rows.labels(at), self.reference, sign, self.scores)


@suggests_names(path=None)
class Contrasts(TableResult):
    """Contrasts of means, with their covariances, so that they can be contrasted in turn.

    Args:
        table: The data frame.
        notes: Sentences printed below the table.
        heading: Line printed above the table; an empty text prints none.
        rows: The contrasts, those that cannot be estimated included; None if they cannot be contrasted.
        means: The means of which they are contrasts.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("distance ~ Sex * factor(age) + (1 | Subject)", um.load_dataset("orthodont"))
        >>> growth = fit.contrasts("~ age | Sex", "consecutive", adjust="none")
        >>> growth.contrasts(by="contrast")  # is the growth of boys another than that of girls?
        of       contrast       estimate  std_error    df  statistic  p_value    lower   upper  adjust
        10 - 8   Male - Female   -0.1080     0.7784  75.0      -0.14    0.890  -1.6587  1.4428  tukey
        12 - 10  Male - Female    1.0426     0.7784  75.0       1.34    0.185  -0.5081  2.5934  tukey
        14 - 12  Male - Female    0.7500     0.7784  75.0       0.96    0.338  -0.8007  2.3007  tukey
        Differences on the scale of the response; 95% intervals, df satterthwaite; p values and intervals adjusted
        for those of the same contrast (tukey).
    """

    _rows: ContrastRows | None
    _means: Combinations | None

    def __init__(
        self,
        table: pd.DataFrame,
        notes: Sequence[str] = (),
        heading: str = "",
        *,
        rows: ContrastRows | None = None,
        means: Combinations | None = None,
    ) -> None:
        super().__init__(table, notes, heading)
        self.__dict__.update(_rows=rows, _means=means)

    def contrasts(
        self,
        method: str | Mapping[str, Sequence[float]] = "pairwise",
        *,
        by: str | Sequence[str] | None = None,
        adjust: str | None = None,
        reference: Any = None,
        scores: Sequence[float] | None = None,
        joint: bool = False,
        equivalence: tuple[float, float] | None = None,
    ) -> Contrasts:
        """Contrasts of these contrasts, as ``contrast(contrast(...))`` in R's emmeans.

        They are the same functions of the means, so that covariances, degrees of freedom and draws are exact. Ratios
        have ratios of ratios.

        Args:
            method: Contrasts to form, as in :meth:`MarginalMeans.contrasts`.
            by: Columns of the table within whose combinations contrasts are contrasted: ``by="contrast"`` compares the
                same contrast between groups, which is a difference of differences; ``by=[]`` compares all. None
                takes the groups of this table.
            adjust: Adjustment for the new contrasts of each group, which are one family.
            reference: Label of the contrast that ``method="reference"`` compares the others with.
            scores: Scores for poly.
            joint: Whether to test all new contrasts of each group together.
            equivalence: Bounds of a range, of ratios if contrasts are ratios.

        Returns:
            The new contrasts. Where ``by`` has the column contrast, it is called of: the contrast that is compared.

        Raises:
            OptionError: If columns or methods are unknown, or there is nothing to compare.
            DataError: If no contrast can be estimated.
        """
        if self._rows is None or self._means is None:
            raise OptionError(
                "This table has several kinds of contrasts, or joint tests: contrasts are formed of those of one "
                "method, .contrasts(method, simple='a') without joint=True."
            )
        asked = Asked(method, adjust, reference, None, scores, joint, equivalence)
        return contrasts_of(self._means, self._regrouped(self._rows, by), asked)

    def _regrouped(self, rows: ContrastRows, by: str | Sequence[str] | None) -> ContrastRows:
        """The rows in the groups asked for."""
        columns = [*rows.names, *rows.by]
        outer = list(rows.by) if by is None else [by] if isinstance(by, str) else list(by)
        strange = [n for n in outer if n not in columns]
        if strange:
            raise OptionError(
                f"by={strange[0]!r} is not a column of these contrasts: {listing(columns)}."
                f"{did_you_mean(str(strange[0]), columns)}"
            )
        inner = [n for n in columns if n not in outer]
        levels, earlier = rows.levels, tuple(n for n in rows.earlier if n in outer)
        sizes = levels.groupby(outer, sort=False, observed=True).size() if outer else [2]
        if len(levels) < 2 or not inner or max(sizes) < 2:
            other = "by='contrast'" if "contrast" not in outer and rows.by else "by=[]"
            raise OptionError(
                f"There is one contrast in each group ({listing(outer) or 'all of them'}), and nothing to compare it "
                f"with. {f'Type {other}.' if len(levels) > 1 else 'Form several contrasts first.'}"
            )
        if "contrast" in outer:  # the column of the new contrasts
            free = free_name(columns)
            levels = levels.rename(columns={"contrast": free})
            outer = [free if n == "contrast" else n for n in outer]
            earlier = (*earlier, free)
        return ContrastRows(levels, tuple(inner), tuple(outer), rows.weights, earlier)


def free_name(columns: Sequence[str]) -> str:
    """Name of the column that says of what a row's contrast is: of, or of1 and so on where a predictor has it."""
    return next(n for n in ("of", *(f"of{k}" for k in range(1, len(columns) + 2))) if n not in columns)


def contrasts_of(means: Combinations, rows: ContrastRows, asked: Asked) -> Contrasts:
    """Contrasts of rows within their groups.

    Args:
        means: The means of which the rows are combinations.
        rows: The rows.
        asked: The contrasts to form.

    Raises:
        OptionError: If a method or its options are unknown.
        DataError: If no contrast can be estimated.
    """
    if asked.joint and asked.equivalence is not None:
        raise OptionError("equivalence= belongs to single contrasts: leave it or joint=True out.")
    if asked.interaction is not None and asked.method != "pairwise":
        raise OptionError("interaction= names the contrasts of each factor: leave method= out.")
    named = asked.method if isinstance(asked.method, str) and asked.interaction is None else "weights"
    adjust, ratios = adjustment(asked.adjust, named), means.are_ratios
    bounds = checked_bounds(asked.equivalence, ratios=ratios)
    if bounds is not None and ratios:  # natural logarithms, where those of the response have another base
        bounds = (bounds[0] / means.scale.unit, bounds[1] / means.scale.unit)
    parts, labels, turns = [], [], []
    left_out, family = list[str](), 0
    endless = constant = False
    for key, at in rows.groups():
        weights = asked.weights(rows, at, "/" if ratios else "-")
        turn = np.array(list(weights.values())) @ rows.weights[at]
        kept, outer = means.can_be_estimated(turn), dict(zip(rows.by, key, strict=True))
        within = " ".join(map(str, key))
        shown = [repr(name) if "," in name else name for name in weights]
        left_out += [f"{within}: {n}" if within else n for n, k in zip(shown, kept, strict=True) if not k]
        labels += [{**outer, "contrast": name} for name in weights]
        turns.append(turn)
        if asked.joint:
            spanning = means.estimable_part(turn)
            constant |= bool(means.are_constant(spanning).all())
            spanning = spanning[~means.are_constant(spanning)]
            parts += [means.joint_row(spanning, outer)] if len(spanning) else []
        elif kept.any():
            names = [name for name, k in zip(weights, kept, strict=True) if k]
            frame = _frame(means, turn[kept], names, adjust, len(at), bounds)
            endless |= "p_value" in frame and bool(np.isinf(frame["std_error"]).any())
            constant |= bool(means.are_constant(turn[kept]).any())
            family = max(family, len(frame))
            for name, value in reversed(outer.items()):
                frame.insert(0, str(name), [value] * len(frame))
            parts.append(frame)
    if not parts and constant:
        raise DataError("There is nothing to test: the model has no term for these contrasts, which are constants.")
    if not parts:
        raise DataError(f"None of these contrasts can be estimated: {NO_DATA}.")
    table, lacking = pd.concat(parts, ignore_index=True), f"because {NO_DATA} that they need: {listing(left_out)}."
    if asked.joint:
        notes = [*means.warned, *([f"Tested as far as the data determine them, {lacking}"] if left_out else [])]
        heading = f"Joint tests of the contrasts, {means.inference.joint_words}"
        return Contrasts(table, notes, heading)
    notes = [*means.notes_of(adjust, rows.family), *([ENDLESS] if endless else []), *([CONSTANT] if constant else [])]
    if bounds is not None and means.inference.posterior is None and family > 1:
        notes += adjustment_note(adjust)
    notes += [f"Left out, {lacking}"] if left_out else []
    levels = pd.DataFrame(labels)[["contrast", *rows.by]]
    made = ContrastRows(levels, ("contrast",), rows.by, np.concatenate(turns), rows.earlier)
    return Contrasts(table, notes, rows=made, means=means)


def _frame(
    means: Combinations,
    turn: FloatArray,
    names: list[str],
    adjust: str,
    family: int,
    bounds: tuple[float, float] | None,
) -> pd.DataFrame:
    """The table of the contrasts of one group, whose weights are (k, m), out of a family of means of some size."""
    functions, shift = means.differences(turn)
    frame = contrast_table(functions, shift, adjust, family, means.ci_level, bounds)
    if means.are_ratios:
        draws = means.inference.posterior
        drawn = None if draws is None else draws @ functions.weights.T + shift
        frame = as_ratios(frame, means.scale.ratio, drawn, means.scale.unit)
    frame.insert(0, "contrast", names)
    if "p_value" in frame:
        frame["adjust"] = adjust
    return frame


__all__ = ["Asked", "ContrastRows", "Contrasts", "contrasts_of", "free_name"]
