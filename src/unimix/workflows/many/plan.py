"""The plan of ``fit_many``: names of all fits, and checks of the arguments before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unimix.argument_types import file_at
from unimix.backends import registry
from unimix.backends.base import Backend
from unimix.design.frames import column_labels
from unimix.errors import OptionError, UnimixError, did_you_mean, listing
from unimix.formula.interpreter import parse
from unimix.workflows.many.digests import digest_value
from unimix.workflows.many.store import Names, header_fault

Formulas = str | Sequence[str] | Mapping[str, str]


@dataclass(frozen=True)
class Fit:
    """One fit of the plan.

    Attributes:
        names: Names of the formula, the data set and the backend.
        position: Positions among the formulas, the data sets and the backends.
        formula: Text of the formula.
        engine: The engine with its options.
        seed: Seed of the random numbers of this fit.
    """

    names: Names
    position: tuple[int, int, int]
    formula: str
    engine: Backend
    seed: int | None

    def key(self, identity: str, arguments: str) -> str:
        """The digest by which the fit is recognised in a file.

        Args:
            identity: Text that identifies the data.
            arguments: Digest of the arguments that all fits share.
        """
        engine = self.engine.info.name, self.engine.model_dump_json()
        return digest_value([self.formula, identity, *engine, arguments, self.seed])


def fits_of(
    formulas: Mapping[str, str], datasets: Iterable[str], engines: Mapping[str, Backend], seed: int | None
) -> list[Fit]:
    """All fits, ordered by data set and then by formula."""
    return [
        Fit((f, d, e), (i, j, k), formula, engine, _own_seed(seed, (i, j, k)))
        for j, d in enumerate(datasets)
        for i, (f, formula) in enumerate(formulas.items())
        for k, (e, engine) in enumerate(engines.items())
    ]


def _own_seed(seed: int | None, position: tuple[int, int, int]) -> int | None:
    if seed is None:
        return None
    return int(np.random.SeedSequence(seed, spawn_key=position).generate_state(1)[0] % 2**31)


def formulas_of(given: Any, ziformula: str | None, dispformula: str | None, faults: list[str]) -> dict[str, str]:
    """The formulas by name; faults are added to the list."""
    if isinstance(given, Mapping):
        named = _once([(str(k), v) for k, v in given.items()], "formulas", faults)
    elif isinstance(given, str):
        named = {given: given}
    elif isinstance(given, Iterable):
        named = _once([(str(f), f) for f in given], "formulas", faults)
    else:
        faults.append(f"formulas={given!r}: give a formula, a list of formulas, or a dict of formulas by name.")
        return {}
    if not named:
        faults.append("formulas: give at least one.")
    for name, text in named.items():
        try:
            if not isinstance(text, str):
                raise OptionError(f"a formula is a string, not {type(text).__name__}.")
            parse(text, ziformula, dispformula)
        except UnimixError as error:
            faults.append(f"{'formula' if name == text else f'formula {name!r}'}: {error}")
    return named


def _once(pairs: Sequence[tuple[str, Any]], what: str, faults: list[str]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = dict.fromkeys(n for n in names if names.count(n) > 1) if len(set(names)) < len(names) else {}
    faults += [f"{what}: {name!r} is given twice; names must differ." for name in twice]
    return dict(pairs)


def datasets_of(given: Any, faults: list[str]) -> dict[str, Any]:
    """The data sets, or functions that load them, by name; faults are added to the list."""
    if isinstance(given, Mapping) and any(callable(v) or _is_frame(v) for v in given.values()):
        named = _once([(str(k), v) for k, v in given.items()], "data", faults)
    elif isinstance(given, list | tuple):
        named = {str(i): v for i, v in enumerate(given, start=1)}
    else:
        named = {"data": given}
    if not named or (isinstance(given, Mapping) and not given):
        faults.append("data: give at least one data set.")
        return {}
    for name, value in named.items():
        if not callable(value) and not _is_frame(value):
            kind = type(value).__name__
            faults.append(
                f"data set {name!r} is a {kind}: give a pandas, polars or pyarrow table, a dict of equally long "
                "arrays, or a function without arguments that loads one, such as lambda: pandas.read_csv('a.csv')."
            )
    return named


def _is_frame(value: Any) -> bool:
    try:
        column_labels(value)
    except UnimixError:
        return False
    return True


def engines_of(given: Any, options: Mapping[str, Any] | None, faults: list[str]) -> dict[str, Backend]:
    """The engines with their options, by name; faults are added to the list."""
    if given is None:
        return {n: b for n, b in registry.others().items() if b.available()}
    engines, errors = registry.resolve_all(given, options)
    faults += map(str, errors)
    faults += [] if engines or errors else ["backends: name at least one engine."]
    labels = registry.numbered([e.info.name for e in engines])
    faults += [
        f"backends: {e.info.name} is given twice with the same options."
        for i, e in enumerate(engines)
        if e in engines[:i]
    ]
    return dict(zip(labels, engines, strict=True))


def versions_of(
    given: Mapping[str, str] | str | None, datasets: Mapping[str, Any], faults: list[str]
) -> dict[str, str]:
    """The versions of the data sets by name; faults are added to the list."""
    if given is None:
        return {}
    if isinstance(given, str):
        return dict.fromkeys(datasets, given)
    if not isinstance(given, Mapping):
        faults.append(f"versions={given!r}: give a string, or a dict of strings by the names of data sets.")
        return {}
    faults += [
        f"versions: {name!r} is not a data set.{did_you_mean(str(name), datasets)} Known: {listing(datasets)}."
        for name in given
        if str(name) not in datasets
    ]
    return {str(k): str(v) for k, v in given.items()}


def path_of(given: str | Path | None, faults: list[str]) -> Path | None:
    """The path of the file of fits, or None; faults are added to the list."""
    if given is None:
        return None
    try:
        path = file_at(given)
    except OptionError as error:
        faults.append(f"path=: {error}")
        return None
    if path.is_dir():
        faults.append(f"path={str(given)!r} is a folder: name a file in it, such as {str(path / 'fits.jsonl')!r}.")
    elif not path.parent.is_dir():
        faults.append(f"path={str(given)!r}: there is no folder {str(path.parent)!r}; make it first.")
    elif path.exists() and (fault := header_fault(path)):
        faults.append(fault)
    return path


__all__ = ["Fit", "Formulas", "datasets_of", "engines_of", "fits_of", "formulas_of", "path_of", "versions_of"]
