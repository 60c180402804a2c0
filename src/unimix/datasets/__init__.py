"""Small data sets for examples and tests, each with its source and licence.

The script ``export.R`` wrote the CSV files of this folder from R packages; ``index.json`` holds the types of the
columns, the order of factor levels, the sources and the licences. The school data ``imm10`` state no licence, so they
are fetched on demand, not bundled.
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

    Factors are unordered categoricals with their levels in the order that they have in R; whole numbers are int64, all
    other numbers float64.

    Args:
        name: Name of the data set, such as ``"dietox"``; upper and lower case do not matter. :func:`list_datasets`
            shows all names.

    Returns:
        A new data frame; its columns are named as in R.

    Raises:
        DataError: If there is no data set of this name, or if ``imm10`` can neither be found nor fetched.

    Example:
        >>> import unimix as um
        >>> um.load_dataset("sleepstudy").head(3)
           Reaction  Days Subject
        0  249.5600     0     308
        1  258.7047     1     308
        2  250.8006     2     308
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
    """List the data sets that :func:`load_dataset` can load.

    Returns:
        One row per data set, with the columns name, rows, description, source and licence.

    Example:
        >>> import unimix as um
        >>> um.list_datasets()[["name", "rows"]].head(3)
                  name  rows
        0         cbpp    56
        1       dietox   861
        2  grouseticks   403
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
    """Turn columns of text into factors, integers and floating-point numbers.

    Args:
        text: A frame of strings; an empty string is a missing value.
        columns: Description of each column by name: its ``type`` (factor, integer or number) and, for a factor, its
            ``levels``.
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
