"""All fits of imputed data sets in one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from unimix.archive import read_archive, write_archive
from unimix.errors import DataError
from unimix.fitted.saving import faults_in_words
from unimix.fitted.whole_results import from_members, members_of
from unimix.result import FitResult

INDEX, WHAT = "imputations.json", "file of imputed.save()"


class SavedImputations(BaseModel):
    """What is saved beside the fits.

    Attributes:
        format: Version of this layout.
        labels: Names of the data sets.
        notes: Remarks on the data sets.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1
    labels: tuple[str, ...]
    notes: tuple[str, ...]


def save(
    fits: Sequence[FitResult], labels: tuple[str, ...], notes: tuple[str, ...], path: str | Path, *, data: bool
) -> Path:
    """Write the members of each fit's own file, in a folder of its number; see :meth:`unimix.ImputedFit.save`."""
    members: dict[str, str | npt.NDArray[Any]] = {INDEX: SavedImputations(labels=labels, notes=notes).model_dump_json()}
    for k, fit in enumerate(fits):
        members |= {f"{k}/{name}": content for name, content in members_of(fit, data=data).items()}
    return write_archive(path, members)


def load(path: str | Path) -> tuple[tuple[FitResult, ...], tuple[str, ...], tuple[str, ...]]:
    """The fits, their labels and notes.

    Raises:
        DataError: If the file is damaged, was changed, or holds something else.
    """
    members = read_archive(path, WHAT)
    if INDEX not in members:
        raise DataError(f"{str(path)!r:.200} is not a {WHAT}. um.FitResult.load reads the file of a single fit.")
    try:
        index = SavedImputations.model_validate_json(members.pop(INDEX))
    except ValidationError as error:
        raise DataError(f"{str(path)!r:.200} is damaged or was changed: {faults_in_words(error)}") from error
    folders: dict[str, dict[str, bytes]] = {str(k): {} for k in range(len(index.labels))}
    for name, content in members.items():
        folder, _, rest = name.partition("/")
        if folder not in folders:
            raise DataError(f"{str(path)!r:.200} is damaged or was changed: {name!r:.60} belongs to no data set.")
        folders[folder][rest] = content
    fits = tuple(from_members(FitResult, own, path) for own in folders.values())
    if len(fits) < 2 or len({fit.fixed.terms for fit in fits}) > 1 or len({fit.model.reading for fit in fits}) > 1:
        raise DataError(f"{str(path)!r:.200} is damaged or was changed: its fits are not those of one model.")
    return fits, index.labels, index.notes


__all__ = ["load", "save"]
