"""New data in the shape of a fitted design: its rows, and columns read as they were when the model was fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from unimix.design.typed_columns import Column, FactorColumn, Level, NumericColumn, as_factor
from unimix.errors import DataError, listing

if TYPE_CHECKING:
    from collections.abc import Sequence

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class NewRows:
    """New data in the shape of a fitted design.

    Attributes:
        complete: Which rows have no missing value among the columns used, shape (n,).
        x: Fixed-effects columns of the complete rows, shape (m, p).
        offset: Shape (m,).
        z: Per block, shape (m, q); empty where the group level was not asked for.
        labels: Per block, the level label of each complete row.
        zero: Columns of the zero inflation, shape (m, k), or None.
        lacking: Rows that the estimates do not determine, because they need a column that was left out as a combination
            of others, shape (m,).
    """

    complete: npt.NDArray[np.bool_]
    x: FloatArray
    offset: FloatArray
    z: tuple[FloatArray, ...]
    labels: tuple[tuple[Level, ...], ...]
    zero: FloatArray | None = None
    lacking: npt.NDArray[np.bool_] | None = None

    def check_estimable(self, aliased: Sequence[str]) -> None:
        """Refuse rows that the estimates do not determine.

        Args:
            aliased: Names of the columns that were left out.

        Raises:
            DataError: With how many.
        """
        if self.lacking is not None and self.lacking.any():
            raise DataError(
                f"{int(self.lacking.sum())} of {len(self.lacking)} rows cannot be predicted: in the data that were "
                f"fitted columns depend on others and were left out ({listing(aliased)}), and these rows do not "
                "depend like that. Leave out the terms, or the combinations of levels, that have no data of their own."
            )


def match_number(name: str, column: Column) -> NumericColumn:
    """A new column that was numeric when the model was fitted.

    Raises:
        DataError: If it is categorical now.
    """
    if isinstance(column, NumericColumn):
        return column
    if not (column.codes >= 0).any():
        return NumericColumn(np.full(len(column.codes), np.nan))
    raise DataError(f"{name!r} was numeric when the model was fitted and is categorical in the new data.")


def match_levels(name: str, column: Column, known: tuple[Level, ...]) -> FactorColumn:
    """A new column that was categorical when the model was fitted, with the levels that it had then.

    Raises:
        DataError: If it is numeric now, or has other levels.
    """
    if (
        isinstance(column, NumericColumn)
        and not np.isnan(column.values).all()
        and all(isinstance(v, str) for v in known)
    ):
        raise DataError(f"{name!r} was categorical when the model was fitted and is numeric in the new data.")
    factor = as_factor(column, name)
    index = {str(level): i for i, level in enumerate(known)}
    present = {int(c) for c in np.unique(factor.codes) if c >= 0}
    strange = [str(level) for i, level in enumerate(factor.levels) if i in present and str(level) not in index]
    if strange:
        raise DataError(
            f"{name!r} has levels in the new data that the model was not fitted to: {listing(strange)}. "
            f"Known: {listing(map(str, known))}."
        )
    table = np.array([index.get(str(level), -1) for level in factor.levels] + [-1], dtype=np.int64)
    return FactorColumn(table[factor.codes], known)


__all__ = ["NewRows", "match_levels", "match_number"]
