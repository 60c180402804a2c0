"""What is to be fitted: names, and every fault of the arguments before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from unimix.backends import registry
from unimix.backends.base import Backend
from unimix.design.frames import column_labels
from unimix.errors import OptionError, UnimixError, did_you_mean, listing
from unimix.formula.interpreter import parse
from unimix.workflows.many import fingerprint
from unimix.workflows.many.store import header_fault

Formulas = str | Sequence[str] | Mapping[str, str]


@dataclass(frozen=True)
class Fit:
    """One fit of the plan.

    Attributes:
        names: Of formula, data set and backend.
        position: Among them.
        seed: Seed of its own.
    """

    names: tuple[str, str, str]
    position: tuple[int, int, int]
    seed: int | None


@dataclass(frozen=True)
class Plan:
    """Everything by name.

    Attributes:
        formulas: Texts.
        datasets: Frames, or functions that load them.
        engines: With their options.
    """

    formulas: dict[str, str]
    datasets: dict[str, Any]
    engines: dict[str, Backend]

    def fits(self, seed: int | None) -> list[Fit]:
        """All fits; those of one data set in a row, and within it those of one formula."""
        return [
            Fit((f, d, e), (i, j, k), _own_seed(seed, (i, j, k)))
            for j, d in enumerate(self.datasets)
            for i, f in enumerate(self.formulas)
            for k, e in enumerate(self.engines)
        ]

    def key(self, fit: Fit, content: str, arguments: str) -> str:
        """Digest of all that makes a fit this fit.

        Args:
            fit: Which.
            content: Digest or version of its data.
            arguments: Digest of the arguments that all fits share.
        """
        formula, _, backend = fit.names
        engine = self.engines[backend]
        text = self.formulas[formula]
        parts = [
            text,
            fingerprint.of_functions(text),
            content,
            engine.info.name,
            engine.model_dump_json(),
            arguments,
            fit.seed,
        ]
        return fingerprint.of_value(parts)


def _own_seed(seed: int | None, position: tuple[int, int, int]) -> int | None:
    if seed is None:
        return None
    return int(np.random.SeedSequence(seed, spawn_key=position).generate_state(1)[0] % 2**31)


def make_plan(
    formulas: Any,
    data: Any,
    backends: Any,
    *,
    options: Mapping[str, Any] | None,
    ziformula: str | None,
    dispformula: str | None,
    faults: list[str],
) -> Plan:
    """Name formulas, data sets and engines, and add what is wrong with them to the faults."""
    texts = _formulas(formulas, ziformula, dispformula, faults)
    return Plan(texts, _datasets(data, faults), _engines(backends, options, faults))


def _formulas(given: Any, ziformula: str | None, dispformula: str | None, faults: list[str]) -> dict[str, str]:
    if isinstance(given, Mapping):
        found = _once([(str(k), v) for k, v in given.items()], "formulas", faults)
    elif isinstance(given, str):
        found = {given: given}
    elif isinstance(given, Iterable):
        found = _once([(str(f), f) for f in given], "formulas", faults)
    else:
        faults.append(f"formulas={given!r}: a formula, a list of formulas, or a dict of them by name.")
        return {}
    if not found:
        faults.append("formulas: give one at least.")
    for name, text in found.items():
        try:
            if not isinstance(text, str):
                raise OptionError(f"a formula is a text; got {type(text).__name__}.")
            parse(text, ziformula, dispformula)
        except UnimixError as error:
            faults.append(f"{'formula' if name == text else f'formula {name!r}'}: {error}")
    return found


def _once(pairs: Sequence[tuple[str, Any]], what: str, faults: list[str]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = dict.fromkeys(n for n in names if names.count(n) > 1) if len(set(names)) < len(names) else {}
    faults += [f"{what}: {name!r} is given twice; names must differ." for name in twice]
    return dict(pairs)


def _datasets(given: Any, faults: list[str]) -> dict[str, Any]:
    if isinstance(given, Mapping) and any(callable(v) or _is_frame(v) for v in given.values()):
        found = _once([(str(k), v) for k, v in given.items()], "data", faults)
    elif isinstance(given, list | tuple):
        found = {str(i): v for i, v in enumerate(given, start=1)}
    else:
        found = {"data": given}
    if not found or (isinstance(given, Mapping) and not given):
        faults.append("data: give one data set at least.")
        return {}
    for name, value in found.items():
        if not callable(value) and not _is_frame(value):
            kind = type(value).__name__
            faults.append(
                f"data set {name!r} is a {kind}: give a pandas, polars or pyarrow table, a dict of equally long "
                "arrays, or a function without arguments that loads one, such as lambda: pandas.read_csv('a.csv')."
            )
    return found


def _is_frame(value: Any) -> bool:
    try:
        column_labels(value)
    except UnimixError:
        return False
    return True


def _engines(given: Any, options: Mapping[str, Any] | None, faults: list[str]) -> dict[str, Backend]:
    if given is None:
        return {n: b for n, b in registry.others().items() if b.available()}
    engines, errors = registry.resolve_all(given, options)
    faults += map(str, errors)
    faults += [] if engines or errors else ["backends: name one engine at least."]
    labels = registry.numbered([e.info.name for e in engines])
    for i, engine in enumerate(engines):
        if any(_alike(engine, other) for other in engines[:i]):
            faults.append(f"backends: {engine.info.name} is given twice with the same options.")
    return dict(zip(labels, engines, strict=True))


def _alike(one: BaseModel, other: BaseModel) -> bool:
    return type(one) is type(other) and one.model_dump() == other.model_dump()


def versions_of(
    given: Mapping[str, str] | str | None, datasets: Mapping[str, Any], faults: list[str]
) -> dict[str, str]:
    """The versions of data sets by name."""
    if given is None:
        return {}
    if isinstance(given, str):
        return dict.fromkeys(datasets, given)
    if not isinstance(given, Mapping):
        faults.append(f"versions={given!r}: a text, or texts by the names of data sets.")
        return {}
    faults += [
        f"versions: {name!r} is no data set.{did_you_mean(str(name), datasets)} Known: {listing(datasets)}."
        for name in given
        if str(name) not in datasets
    ]
    return {str(k): str(v) for k, v in given.items()}


def path_of(given: str | Path | None, faults: list[str]) -> Path | None:
    """Where fits are kept."""
    if given is None:
        return None
    if not isinstance(given, str | Path) or not str(given):
        faults.append(f"path={given!r}: the name of a file, such as 'fits.jsonl'.")
        return None
    path = Path(given)
    if path.is_dir():
        faults.append(f"path={str(given)!r} is a folder: name a file in it, such as {str(path / 'fits.jsonl')!r}.")
    elif not path.parent.is_dir():
        faults.append(f"path={str(given)!r}: there is no folder {str(path.parent)!r}; make it first.")
    elif path.exists() and (fault := header_fault(path)):
        faults.append(fault)
    return path


__all__ = ["Fit", "Formulas", "Plan", "make_plan", "path_of", "versions_of"]
