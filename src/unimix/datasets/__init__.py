"""Small data sets for examples and tests, each with its source and licence.

The CSV files beside this module were written by ``export.R`` from R packages; ``index.json`` holds column types, the
order of factor levels, sources and licences. The school data ``imm10`` state no licence: they are fetched, not bundled.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pandas as pd

from unimix.datasets import imm10
from unimix.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["list_datasets", "load_dataset"]


def load_dataset(name: str) -> pd.DataFrame:
    """Return one of the example data sets as a fresh data frame.

    Factors come as unordered categoricals with their levels in R's order; whole numbers as int64, others as float64.

    Args:
        name: Name of the data set in any case, such as ``"dietox"`` or ``"Penicillin"``; see `list_datasets`.

    Returns:
        A new data frame with the columns named as in R.

    Raises:
        DataError: If no data set goes by this name, or ``imm10`` cannot be had.
    """
    key = str(name).strip().lower()
    if key == imm10.NAME:
        return imm10.load()
    index = _index()
    if key not in index:
        known = sorted([*index, imm10.NAME])
        raise DataError(
            f"There is no data set called {name!r}.{did_you_mean(key, known)} Available: {', '.join(known)}. "
            "unimix.list_datasets() describes them."
        )
    entry = index[key]
    with files(__name__).joinpath(entry["file"]).open("rb") as file:
        return typed(pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8"), entry["columns"])


def list_datasets() -> pd.DataFrame:
    """List the data sets that `load_dataset` knows.

    Returns:
        One row per data set: name, rows, description, source and licence.
    """
    rows = [
        {
            "name": name,
            "rows": entry["rows"],
            "description": entry["description"],
            "source": "R package {package} {version}, {object}; {reference}".format(**entry["source"]),
            "licence": entry["licence"],
        }
        for name, entry in _index().items()
    ]
    rows.append(
        {
            "name": imm10.NAME,
            "rows": imm10.ROWS,
            "description": imm10.DESCRIPTION,
            "source": imm10.SOURCE,
            "licence": imm10.LICENCE,
        }
    )
    return pd.DataFrame(rows).sort_values("name", ignore_index=True)


def typed(text: pd.DataFrame, columns: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Turn columns of text into factors, whole numbers and numbers.

    Args:
        text: A frame of strings; an empty string is a missing value.
        columns: For each column its ``type`` (factor, integer or number) and, for factors, its ``levels``.
    """
    return pd.DataFrame({name: _column(text[name], kind) for name, kind in columns.items()})


def _column(text: pd.Series[str], kind: Mapping[str, Any]) -> pd.Series[Any]:
    if kind["type"] == "factor":
        return pd.Series(pd.Categorical(text.where(text != ""), categories=kind["levels"], ordered=False))
    if kind["type"] == "integer":
        return text.astype("int64")
    return pd.Series([float(value) if value else float("nan") for value in text], dtype="float64")


@cache
def _index() -> dict[str, dict[str, Any]]:
    index: dict[str, dict[str, Any]] = json.loads(files(__name__).joinpath("index.json").read_text(encoding="utf-8"))
    return index
