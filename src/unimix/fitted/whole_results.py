"""Whole results in one file: the result, its draws, and the columns that were fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from unimix.archive import array_from, read_archive, write_archive
from unimix.design.dispersion_columns import dispersion_variables
from unimix.design.encoding import JsonLevel
from unimix.design.typed_columns import FactorColumn, as_exact
from unimix.errors import DataError, UnimixError
from unimix.fitted.model import FittedModel
from unimix.fitted.rebuild_design import rebuild_design
from unimix.fitted.saved_draws import SavedDraws, check_draws, pack_draws, unpack_draws
from unimix.fitted.saving import faults_in_words

Model = TypeVar("Model", bound=FittedModel)
RESULT, DRAWS, DATA = "result.json", "draws.json", "data.json"
WHAT = "file of fit.save()"


class SavedColumn(BaseModel):
    """One column of the data: its numbers, or the codes of its levels."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    values: str
    levels: tuple[JsonLevel, ...] | None = None


class SavedData(BaseModel):
    """The columns that were fitted, with the rows used only.

    Attributes:
        format: Version of this layout.
        columns: The columns by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1
    columns: dict[str, SavedColumn]


def save(fit: FittedModel, path: str | Path, *, data: bool = True) -> Path:
    """Write the whole result to one file: the result, its posterior draws, and the columns that were fitted.

    The file is a zip archive: ``result.json`` is the text of :meth:`to_json`, ``draws.json`` and ``data.json`` describe
    the arrays beside them, which are NumPy's ``.npy`` files. It holds no code and no pickle. A loaded result answers as
    before, draws and data included; what needs the engine itself (``fit.native``, refits) is not saved.

    Args:
        path: File to write, such as ``"fit.zip"``.
        data: Whether to save the columns that were fitted, with the rows used. Without them, predictions from draws
            work, and :meth:`with_data` gives them back. The columns of a dispersion formula are not saved, nor those
            beside a relationship matrix, which a file does not hold.

    Returns:
        The path.

    Raises:
        OptionError: If ``path`` is not a path.
        DataError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"), "bayes", seed=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     loaded = um.FitResult.load(fit.save(f"{folder}/fit.zip"))
        >>> loaded == fit, loaded.posterior.posterior["fixed"].equals(fit.posterior.posterior["fixed"])
        (True, True)
    """
    return write_archive(path, members_of(fit, data=data))


def members_of(fit: FittedModel, *, data: bool) -> dict[str, str | npt.NDArray[Any]]:
    """The texts and arrays of a result's file by name; see :func:`save`."""
    members: dict[str, str | npt.NDArray[Any]] = {RESULT: fit.to_json()}
    if fit._unsaved.posterior is not None:
        described, arrays = pack_draws(fit._unsaved.posterior)
        members |= {DRAWS: described.model_dump_json(), **arrays}
    if data and fit._unsaved.design is not None and not fit.model.related:
        columns: dict[str, SavedColumn] = {}
        encoding, residual = fit.model.encoding, fit.spec.residual
        of_residuals = {} if residual is None else residual.columns
        names = dict.fromkeys([*encoding.variables, *of_residuals, *dispersion_variables(encoding)])
        for name in names:
            column = fit.design().columns[name]
            member = f"data/{len(columns)}.npy"
            if isinstance(column, FactorColumn):
                members[member] = column.codes
                columns[name] = SavedColumn(values=member, levels=column.levels)
            else:
                members[member] = as_exact(column)
                columns[name] = SavedColumn(values=member)
        members[DATA] = SavedData(columns=columns).model_dump_json()
    return members


def load(cls: type[Model], path: str | Path) -> Model:
    """Read a file of :func:`save`; see :meth:`unimix.FitResult.load`.

    Args:
        cls: Class of the result.
        path: The file.

    Raises:
        OptionError: If ``path`` is not a path.
        DataError: If there is no such file, or it is damaged, was changed, or has another version.
    """
    return from_members(cls, read_archive(path, WHAT), path)


def from_members(cls: type[Model], members: Mapping[str, bytes], path: str | Path) -> Model:
    """The result in the members of a file; see :func:`load`.

    Args:
        cls: Class of the result.
        members: Contents of the members by name.
        path: The file, for messages.

    Raises:
        DataError: If the members are damaged, were changed, or have another version.
    """
    try:
        if RESULT not in members:
            raise ValueError(f"it has no {RESULT}")
        fit = cls.from_json(members[RESULT].decode())
        used = {RESULT}
        unsaved = fit._unsaved
        if DRAWS in members:
            described = SavedDraws.model_validate_json(members[DRAWS])
            draws = unpack_draws(described, members)
            check_draws(fit, draws)
            unsaved = replace(unsaved, posterior=draws)
            groups = described.groups.values()
            used |= {DRAWS, *(v.values for g in groups for v in (*g.variables.values(), *g.coordinates.values()))}
        if DATA in members:
            table = SavedData.model_validate_json(members[DATA])
            unsaved = replace(unsaved, design=rebuild_design(fit, _columns(table, members), used_only=True))
            used |= {DATA, *(column.values for column in table.columns.values())}
        if strange := members.keys() - used:
            raise ValueError(f"it has a member that belongs to nothing, {min(strange)!r:.60}")
    except ValidationError as error:
        raise DataError(f"{str(path)!r:.200} is damaged or was changed: {faults_in_words(error)}") from error
    except (UnimixError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise DataError(f"{str(path)!r:.200} is damaged or was changed: {error}") from error
    return replace(fit, _unsaved=unsaved)


def _columns(table: SavedData, members: Mapping[str, bytes]) -> dict[str, Any]:
    """The columns as a mapping from names to values.

    Raises:
        ValueError: If members are absent, or codes have no level.
    """
    found: dict[str, Any] = {}
    for name, column in table.columns.items():
        if column.values not in members:
            raise ValueError(f"{column.values} is not there")
        values = array_from(members[column.values])
        if values.ndim != 1:
            raise ValueError(f"the column {name!r:.60} has {values.ndim} dimensions")
        if column.levels is None:
            found[name] = values
            continue
        if values.dtype.kind != "i" or not ((values >= 0) & (values < len(column.levels))).all():
            raise ValueError(f"the column {name!r:.60} has codes without a level")
        found[name] = [column.levels[k] for k in np.asarray(values).tolist()]
    return found


__all__ = ["from_members", "load", "members_of", "save"]
