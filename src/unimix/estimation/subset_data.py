"""Data that carry their weights and offset with them, so that rows can be chosen and fitted again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from unimix.design.arrays import Design
from unimix.design.complete_rows import read_extra
from unimix.design.design import build_design
from unimix.design.frames import to_pandas
from unimix.design.typed_columns import as_numbers
from unimix.errors import DataError
from unimix.formula.interpreter import parse

COLUMNS = {"weights": "unimix_weights", "offset": "unimix_offset"}
"""Names of the columns that hold what was given as arrays."""


@dataclass(frozen=True)
class Carried:
    """A call's data, ready to be fitted in parts.

    Attributes:
        formula: As given.
        frame: All rows, index 0, 1, 2 ...; weights and offset that were arrays are columns.
        design: Of all rows.
        arguments: Of ``fit``, with names of columns for weights and offset.
    """

    formula: str
    frame: pd.DataFrame
    design: Design
    arguments: dict[str, Any]

    @property
    def used(self) -> pd.DataFrame:
        """The rows without missing values."""
        return self.frame.iloc[self.design.rows]

    @property
    def without_groups(self) -> str:
        """The formula without its random part; ``.`` stands for the columns that it stood for beside the groups."""
        return replace(self.design.encoding.spec, random=(), zero=None).text()


def carry(formula: str, data: Any, arguments: Mapping[str, Any]) -> Carried:
    """Put weights and offset into the data and build the design.

    Args:
        formula: As for ``fit``.
        data: As for ``fit``.
        arguments: Of ``fit``.

    Raises:
        DataError: If the data do not allow the model, or have columns of the names needed.
        OptionError: For wrong arguments.
    """
    own = dict(arguments)
    extras = {name: read_extra(own.get(name), name, data)[0] for name in COLUMNS}
    frame = to_pandas(data).reset_index(drop=True)
    for name, extra in extras.items():
        if extra is None:
            continue
        column = COLUMNS[name]
        if column in frame.columns:
            raise DataError(f"The data have a column {column!r}, a name that is needed here: rename it.")
        if len(as_numbers(extra)) != len(frame):
            raise DataError(f"{name}= has {len(as_numbers(extra))} values, the data have {len(frame)} rows.")
        frame[column] = as_numbers(extra)
        own[name] = column
    spec = parse(formula, own.get("ziformula"), own.get("dispformula"))
    kept = {k: own[k] for k in ("weights", "offset", "contrasts", "missing", "family") if k in own}
    return Carried(formula, frame, build_design(spec, frame, **kept), own)


def fixed_priors(priors: Mapping[str, Any]) -> dict[str, Any]:
    """The priors that a model without group effects has."""
    return {k: v for k, v in priors.items() if not k.startswith(("sd(", "cor("))}
