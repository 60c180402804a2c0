"""Draws as texts and arrays: every group of an ArviZ object with its variables, dimensions and coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, StrictBool, StrictFloat, StrictInt, StrictStr

from unimix.archive import KINDS, array_from
from unimix.design.grouping_factors import block_labels
from unimix.errors import DataError
from unimix.stats.correlation_pairs import pair_names
from unimix.stats.draw_diagnostics import from_datasets, to_datasets

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

Plain = StrictBool | StrictInt | StrictFloat | StrictStr | None
AGREE = 1e-6
"""Largest difference between an estimate and the mean of its draws, in standard deviations: rounding only."""


class _Saved(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SavedVariable(_Saved):
    """One array: the names of its dimensions, and the member that holds its values."""

    dims: tuple[str, ...]
    values: str


class SavedGroup(_Saved):
    """One group: variables and coordinates by name, and attributes."""

    variables: dict[str, SavedVariable]
    coordinates: dict[str, SavedVariable]
    attributes: dict[str, Plain | tuple[Plain, ...]]


class SavedDraws(_Saved):
    """All groups of an ArviZ object.

    Attributes:
        format: Version of this layout.
        groups: The groups by name.
        attributes: Attributes of the whole object.
    """

    format: Literal[1] = 1
    groups: dict[str, SavedGroup]
    attributes: dict[str, Plain | tuple[Plain, ...]]


def pack_draws(draws: Any) -> tuple[SavedDraws, dict[str, npt.NDArray[Any]]]:
    """Describe an ArviZ object, and give its arrays by the names of their members.

    Raises:
        DataError: If a variable holds objects that are neither numbers nor texts.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}

    def packed(name: str, array: Any) -> SavedVariable:
        values = np.asarray(array.values)
        if values.dtype.kind == "O" and all(isinstance(v, str) for v in values.ravel()):
            values = values.astype(np.str_)
        if values.dtype.kind not in KINDS:
            raise DataError(f"{name!r} of the draws holds {values.dtype}, which cannot be saved.")
        member = f"draws/{len(arrays)}.npy"
        arrays[member] = values
        return SavedVariable(dims=tuple(map(str, array.dims)), values=member)

    groups, attributes = to_datasets(draws)
    described = {
        name: SavedGroup(
            variables={str(n): packed(str(n), v) for n, v in data.data_vars.items()},
            coordinates={str(n): packed(str(n), v) for n, v in data.coords.items()},
            attributes=_plain(data.attrs),
        )
        for name, data in groups.items()
    }
    return SavedDraws(groups=described, attributes=_plain(attributes)), arrays


def _plain(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """Attributes as JSON holds them: texts, numbers and lists of these; anything else as a text."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, list | tuple | np.ndarray):
            return tuple(plain(v) for v in np.asarray(value).ravel().tolist())
        if isinstance(value, float) and not np.isfinite(value):
            return str(value)
        return value if value is None or isinstance(value, bool | int | float | str) else str(value)

    return {str(name): plain(value) for name, value in attributes.items()}


def unpack_draws(saved: SavedDraws, members: Mapping[str, bytes]) -> Any:
    """The ArviZ object, of the generation that is installed.

    Raises:
        ValueError: If members are absent, or arrays do not have their dimensions.
    """
    import xarray as xr

    def array(variable: SavedVariable) -> tuple[tuple[str, ...], npt.NDArray[Any]]:
        if variable.values not in members:
            raise ValueError(f"{variable.values} is not there")
        values = array_from(members[variable.values])
        if values.ndim != len(variable.dims):
            raise ValueError(f"{variable.values} has {values.ndim} dimensions, not {len(variable.dims)}")
        return variable.dims, values

    groups = {
        name: xr.Dataset(
            {n: array(v) for n, v in group.variables.items()},
            coords={n: array(v) for n, v in group.coordinates.items()},
            attrs=dict(group.attributes),
        )
        for name, group in saved.groups.items()
    }
    return from_datasets(groups, dict(saved.attributes))


def check_draws(fit: FittedModel, draws: Any) -> None:
    """Refuse draws that are not those of a result: other parameters, numbers or means.

    Args:
        fit: The result.
        draws: ArviZ object.

    Raises:
        ValueError: If they are not.
    """
    status = fit.status
    if not hasattr(draws, "posterior") or not hasattr(draws, "sample_stats"):
        raise ValueError("the draws have no posterior or no statistics")
    group = draws.posterior
    sizes = {name: int(group.sizes.get(name, 0)) for name in ("chain", "draw")}
    if sizes["chain"] != status.n_chains or sizes["chain"] * sizes["draw"] != status.n_draws:
        raise ValueError(f"there are {sizes['chain']} x {sizes['draw']} draws, and the result has {status.n_draws}")
    named: dict[str, tuple[list[str], ...]] = {"fixed": (list(fit.fixed.terms),)} if fit.fixed.terms else {}
    optional = []
    for block, label in zip(fit.random, block_labels(fit.random), strict=True):
        named[f"sd({label})"] = (list(block.terms),)
        if len(block.terms) > 1:
            named[f"cor({label})"] = (pair_names(block.terms),)
        named[f"effects({label})"] = ([str(v) for v in block.levels], list(block.terms))
        optional.append(f"effects({label})")
    named |= dict.fromkeys(fit.family.parameters, ())
    for name, labels in named.items():
        if name not in group:
            if name in optional:  # too many to keep
                continue
            raise ValueError(f"the draws have no {name}")
        array = group[name].transpose("chain", "draw", ...)
        found = tuple([str(v) for v in array.coords[d].values] if d in array.coords else [] for d in array.dims[2:])
        if found != labels or array.dtype.kind != "f":
            raise ValueError(f"{name} of the draws has other labels than the result")
    if "diverging" not in draws.sample_stats:
        raise ValueError("the statistics do not say which transitions diverged")
    if fit.fixed.terms:
        means = np.asarray(group["fixed"].mean(("chain", "draw")).values, dtype=np.float64)
        off = np.abs(means - fit.fixed.estimate) > AGREE * fit.fixed.std_error + 1e-300
        if not np.isfinite(means).all() or off.any():
            raise ValueError(f"the draws of {fit.fixed.terms[int(np.argmax(off))]} are not those of the result")


__all__ = ["SavedDraws", "check_draws", "pack_draws", "unpack_draws"]
