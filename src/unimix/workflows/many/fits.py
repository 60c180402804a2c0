"""What many fits found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from unimix.display import Block
from unimix.errors import DataError, OptionError, UnsupportedModelError, did_you_mean, listing
from unimix.fitted.formatting import text_table
from unimix.fitted.table_result import TableResult
from unimix.foreign_names import suggests_names
from unimix.result import Effects, FitResult
from unimix.workflows.comparison.build import build_comparison
from unimix.workflows.comparison.comparison import Comparison
from unimix.workflows.comparison.failure import Failure
from unimix.workflows.many.store import Entry, latest, scan

NAMES = ("formula", "data", "backend")
WORDS = ("formula", "data set", "backend")
SHOWN = 20
"""Rows of a long table that are printed."""
Key = tuple[str, str, str]


@dataclass(frozen=True, repr=False, eq=False)
class ManyFits(TableResult):
    """What :func:`unimix.fit_many` found, or :func:`unimix.read_many` read.

    Iterating gives the names (formula, data, backend) of all fits, failed ones too; ``many["formula", "data",
    "backend"]`` the result, where parts that have a single value may be left out. With a file, results are read from it
    when they are asked for.

    Attributes:
        path: The file that holds the results; None where they are in memory.
        notes: What there is to know beside.
    """

    path: Path | None
    notes: tuple[str, ...]
    _entries: tuple[Entry, ...] = field(repr=False)
    _home: Path = field(repr=False, default_factory=Path.cwd)

    @property
    def _file(self) -> Path | None:
        return None if self.path is None else self._home / self.path

    @cached_property
    def _by_key(self) -> dict[Key, Entry]:
        return {e.names: e for e in self._entries}

    @cached_property
    def _known(self) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(dict.fromkeys(e.names[i] for e in self._entries)) for i in range(len(NAMES)))

    @property
    def formulas(self) -> dict[str, str]:
        """Texts of the formulas by name."""
        return {e.names[0]: e.formula for e in self._entries}

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the data sets."""
        return self._known[1]

    @property
    def backends(self) -> tuple[str, ...]:
        """Names of the backends."""
        return self._known[2]

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per fit.

        Columns formula, data, backend, state, n_obs, log_likelihood, aic, bic, seconds, error_type, error.
        """
        columns = ["state", "n_obs", "log_likelihood", "aic", "bic", "seconds", "error_type", "error"]
        frame = pd.DataFrame(
            [[*e.names, *(e.summary.get(c) for c in columns)] for e in self._entries], columns=[*NAMES, *columns]
        )
        kinds = dict.fromkeys(("log_likelihood", "aic", "bic", "seconds"), "float64")
        return frame.astype({**kinds, "n_obs": "Int64"})

    @property
    def failed(self) -> pd.DataFrame:
        """The rows of ``table`` without a result: formula, data, backend, error_type, error."""
        table = self.table
        return table.loc[table["error_type"] != "", [*NAMES, "error_type", "error"]].reset_index(drop=True)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Key]:
        return (e.names for e in self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._by_key

    def items(self) -> Iterator[tuple[Key, FitResult]]:
        """Names and result of every fit that has one, read one at a time."""
        return ((e.names, e.load(self._file)) for e in self._entries if not e.summary["error_type"])

    def __getitem__(self, key: str | tuple[Any, ...]) -> FitResult:
        return self._entry(key).load(self._file)

    def _entry(self, key: object) -> Entry:
        given = tuple(map(str, key)) if isinstance(key, tuple) else (str(key),)
        needed = {i for i in range(len(NAMES)) if len(self._known[i]) > 1}
        fitting = [c for c in combinations(range(len(NAMES)), len(given)) if needed <= set(c)]
        for places in fitting:
            full = [names[0] if names else "" for names in self._known]
            for place, name in zip(places, given, strict=True):
                full[place] = name
            entry = self._by_key.get((full[0], full[1], full[2]))
            if entry is not None:
                return entry
        raise OptionError(self._unknown(given, max(fitting, key=lambda c: self._hits(c, given), default=())))

    def _hits(self, places: Sequence[int], given: tuple[str, ...]) -> int:
        return sum(name in self._known[place] for place, name in zip(places, given, strict=True))

    def _unknown(self, given: tuple[str, ...], places: Sequence[int]) -> str:
        faults = [
            f"{name!r} is no {WORDS[place]} here.{did_you_mean(name, self._known[place])}"
            for place, name in zip(places, given, strict=False)
            if name not in self._known[place]
        ]
        if not faults:
            faults = [
                f"{', '.join(map(repr, given))} was not fitted."
                if places
                else f"{', '.join(map(repr, given))} does not name one fit: type many[formula, data, backend]; a part "
                "that has a single value may be left out."
            ]
        known = [f"{WORDS[i]}s: {listing(map(repr, self._known[i]))}" for i in range(len(NAMES))]
        return "\n".join([*faults, *known])

    def tidy(self, effects: Effects | Sequence[Effects] = "fixed", *, exponentiate: bool = False) -> pd.DataFrame:
        """The tidy tables of all results, one below the other, with the columns formula, data and backend in front.

        Args:
            effects: As for :meth:`unimix.FitResult.tidy`.
            exponentiate: As for :meth:`unimix.FitResult.tidy`.
        """
        parts = []
        for names, fit in self.items():
            part = fit.tidy(effects, exponentiate=exponentiate)
            for place, (column, name) in enumerate(zip(NAMES, names, strict=True)):
                part.insert(place, column, name)
            parts.append(part)
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(NAMES))

    def compare(self, formula: str | None = None, data: str | None = None) -> Comparison:
        """The engines that fitted one formula to one data set, side by side.

        Args:
            formula: Name of the formula; may be left out where there is one.
            data: Name of the data set; may be left out where there is one.

        Returns:
            As of :func:`unimix.compare`: an engine that failed keeps its column, with its error.

        Raises:
            OptionError: If a name is unknown or missing, or there is one engine only.
        """
        chosen, faults = [], []
        for i, name in enumerate((formula, data)):
            known = self._known[i]
            chosen.append(str(name) if name is not None else known[0] if known else "")
            if (name is None and len(known) != 1) or (name is not None and str(name) not in known):
                hint = did_you_mean(str(name), known) if name is not None else ""
                told = (
                    f"{name!r} is no {WORDS[i]} here.{hint}" if name is not None else f"There are several: {NAMES[i]}=."
                )
                faults.append(f"{told} Known: {listing(map(repr, known))}.")
        if faults:
            raise OptionError("\n".join(faults))
        mine = [e for e in self._entries if e.names[:2] == tuple(chosen)]
        fits = [e.load(self._file) for e in mine if not e.summary["error_type"]]
        lost = [
            Failure(_plain(e), e.summary["error_type"], e.summary["error"]) for e in mine if e.summary["error_type"]
        ]
        if len(mine) < 2:
            raise OptionError("One engine only was asked: fit_many(..., backends=['pls', 'lme4']) has two to compare.")
        return build_comparison(fits, lost, order=[_plain(e) for e in mine])

    def _shown(self) -> pd.DataFrame:
        return self.table.drop(columns="error").head(SHOWN)

    def _below(self) -> Sequence[str]:
        return self._rest()

    @property
    def _heading(self) -> str:
        return self._head()

    def _view(self) -> Iterable[Block]:
        return [self._heading, "", text_table(self._shown()), *self._rest()]

    def _head(self) -> str:
        counts = [f"{len(known)} {plural(n, len(known))}" for n, known in zip(WORDS, self._known, strict=True)]
        states = Counter(self.table["state"])
        told = ", ".join(f"{n} {state.replace('_', ' ')}" for state, n in states.most_common())
        return f"{len(self)} {plural('fit', len(self))}: {', '.join(counts)}{f'; {told}' if told else ''}"

    def _rest(self) -> list[str]:
        lines = [f"... {len(self) - SHOWN} more rows: .table"] if len(self) > SHOWN else []
        failed = self.failed
        if len(failed):
            kinds = Counter(zip(failed["backend"], failed["error_type"], failed["error"], strict=True))
            lines += ["", *(_failure(*kind, n) for kind, n in kinds.most_common(5))]
            lines += [f"... {len(kinds) - 5} other errors: .failed"] if len(kinds) > 5 else []
        if self.path is not None:
            lines += ["", f"In {self.path}: um.read_many({str(self.path)!r})"]
        return [*lines, *self.notes]


def _failure(backend: str, kind: str, error: str, n: int) -> str:
    refused = kind == UnsupportedModelError.__name__
    return f"{n} {f'refused by {backend}' if refused else f'failed in {backend}: {kind}'}: {' '.join(error.split())}"


def plural(word: str, n: int) -> str:
    """The word for that many."""
    return word if n == 1 else f"{word}s"


def _plain(entry: Entry) -> str:
    """The backend's own name, which a comparison numbers itself."""
    return entry.names[2].split(" (", maxsplit=1)[0]


@suggests_names
def read_many(path: str | Path) -> ManyFits:
    """Open a file that :func:`unimix.fit_many` wrote: finished, interrupted, or still growing.

    Args:
        path: The file.

    Returns:
        All fits in it; where a fit stands there several times under the same names, the last one.

    Raises:
        DataError: If there is no such file, or it is no file of fits.
    """
    file = Path(path)
    if not file.is_file():
        raise DataError(f"There is no file {str(path)!r}. um.fit_many(..., path={str(path)!r}) writes one.")
    found = scan(file)
    kept = tuple(latest(found.entries))
    older = len(found.entries) - len(kept)
    told = (f"{older} older {plural('line', older)} under the same names {'is' if older == 1 else 'are'} ignored.",)
    return ManyFits(file, (*found.notes, *(told if older else ())), kept)


__all__ = ["ManyFits", "plural", "read_many"]
