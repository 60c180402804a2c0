"""New data in the shape of a fitted design, with columns of the same types and levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from unimix.design.grouping_factors import RowLevels
from unimix.design.typed_columns import Column, FactorColumn, Level, NumericColumn, as_factor
from unimix.errors import DataError, listing

if TYPE_CHECKING:
    from collections.abc import Sequence

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class NewRows:
    """New data in the shape of a fitted design.

    Attributes:
        complete: Mask of the rows without missing values in the columns used, shape (n,).
        x: Fixed-effects columns of the complete rows, shape (m, p).
        offset: Offset of the complete rows, shape (m,).
        z: Random-effects columns of each block, shape (m, q); empty if group levels were not requested.
        levels: For each block, the level of each complete row.
        names: Names of the fixed-effects columns before any was left out, and of those of each block.
        zero: Columns of the zero inflation, shape (m, k), or None.
        lacking: Mask, shape (m,), of the rows that the estimates do not determine because they need a column that was
            dropped as a combination of others.
    """

    complete: npt.NDArray[np.bool_]
    x: FloatArray
    offset: FloatArray
    z: tuple[FloatArray, ...]
    levels: tuple[RowLevels, ...]
    names: tuple[tuple[str, ...], ...]
    zero: FloatArray | None = None
    lacking: npt.NDArray[np.bool_] | None = None

    def check_estimable(self, aliased: Sequence[str]) -> None:
        """Raise a DataError if the estimates do not determine some rows.

        Args:
            aliased: Names of the columns that were left out.

        Raises:
            DataError: If there are such rows; the message gives their number.
        """
        if self.lacking is not None and self.lacking.any():
            raise DataError(
                f"{int(self.lacking.sum())} of {len(self.lacking)} rows cannot be predicted: in the data that were "
                f"fitted columns depend on others and were left out ({listing(aliased)}), and these rows do not "
                "depend like that. Leave out the terms, or the combinations of levels, that have no data of their own."
            )


def match_number(name: str, column: Column) -> NumericColumn:
    """Check that a new column is numeric, as it was when the model was fitted.

    Raises:
        DataError: If the new column is categorical.
    """
    if isinstance(column, NumericColumn):
        return column
    if not (column.codes >= 0).any():
        return NumericColumn(np.full(len(column.codes), np.nan))
    raise DataError(f"{name!r} was numeric when the model was fitted and is categorical in the new data.")


def match_levels(name: str, column: Column, known: tuple[Level, ...]) -> FactorColumn:
    """Code a new categorical column by the levels that it had when the model was fitted.

    Raises:
        DataError: If the new column is numeric or has other levels.
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
