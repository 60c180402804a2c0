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
from unimix.workflows.many.store import Names, StoredFit, scan

NAMES = ("formula", "data", "backend")
WORDS = ("formula", "data set", "backend")
SHOWN = 20
"""Rows of a long table that are printed."""


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
    _fits: tuple[StoredFit, ...] = field(repr=False)

    @cached_property
    def _by_key(self) -> dict[tuple[str, ...], StoredFit]:
        return {f.names: f for f in self._fits}

    @cached_property
    def _known(self) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(dict.fromkeys(f.names[i] for f in self._fits)) for i in range(len(NAMES)))

    @property
    def formulas(self) -> dict[str, str]:
        """Texts of the formulas by name."""
        return {f.names[0]: f.formula for f in self._fits}

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
            [[*f.names, *(f.summary.get(c) for c in columns)] for f in self._fits], columns=[*NAMES, *columns]
        )
        kinds = dict.fromkeys(("log_likelihood", "aic", "bic", "seconds"), "float64")
        return frame.astype({**kinds, "n_obs": "Int64"})

    @property
    def failed(self) -> pd.DataFrame:
        """The rows of ``table`` without a result: formula, data, backend, error_type, error."""
        table = self.table
        return table.loc[table["error_type"] != "", [*NAMES, "error_type", "error"]].reset_index(drop=True)

    def __len__(self) -> int:
        return len(self._fits)

    def __iter__(self) -> Iterator[Names]:
        return (f.names for f in self._fits)

    def __contains__(self, key: object) -> bool:
        return key in self._by_key

    def items(self) -> Iterator[tuple[Names, FitResult]]:
        """Names and result of every fit that has one, read one at a time."""
        return ((f.names, f.load()) for f in self._fits if not f.summary["error_type"])

    def __getitem__(self, key: str | tuple[Any, ...]) -> FitResult:
        return self._stored(key).load()

    def _stored(self, key: object) -> StoredFit:
        given = tuple(map(str, key)) if isinstance(key, tuple) else (str(key),)
        if stored := self._by_key.get(given):
            return stored
        fitting = [f for f in self._fits if given in combinations(f.names, len(given))]
        if len(fitting) == 1:
            return fitting[0]
        told = ", ".join(map(repr, given))
        every = [name for known in self._known for name in known]
        faults = [
            f"{name!r} is no formula, data set or backend here.{did_you_mean(name, every)}"
            for name in given
            if name not in every
        ] or [
            f"{told} does not name one fit: type many[formula, data, backend]; a part that has a single value may be "
            "left out."
            if fitting
            else f"{told} was not fitted."
        ]
        known = [f"{word}s: {listing(map(repr, names))}" for word, names in zip(WORDS, self._known, strict=True)]
        raise OptionError("\n".join([*faults, *known]))

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
        faults = []
        for word, argument, name, known in zip(WORDS, NAMES, (formula, data), self._known[:2], strict=False):
            if name is None and len(known) > 1:
                faults.append(f"There are several: {argument}=. Known: {listing(map(repr, known))}.")
            elif name is not None and str(name) not in known:
                hint = did_you_mean(str(name), known)
                faults.append(f"{name!r} is no {word} here.{hint} Known: {listing(map(repr, known))}.")
        if faults:
            raise OptionError("\n".join(faults))
        wanted = [None if name is None else str(name) for name in (formula, data)]
        mine = [f for f in self._fits if all(w in (None, n) for w, n in zip(wanted, f.names, strict=False))]
        fits = [f.load() for f in mine if not f.summary["error_type"]]
        lost = [
            Failure(_plain(f), f.summary["error_type"], f.summary["error"]) for f in mine if f.summary["error_type"]
        ]
        if len(mine) < 2:
            raise OptionError("One engine only was asked: fit_many(..., backends=['pls', 'lme4']) has two to compare.")
        return build_comparison(fits, lost, order=[_plain(f) for f in mine])

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


def _plain(stored: StoredFit) -> str:
    """The backend's own name, which a comparison numbers itself."""
    return stored.names[2].split(" (", maxsplit=1)[0]


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
    older = found.older
    told = (f"{older} older {plural('line', older)} under the same names {'is' if older == 1 else 'are'} ignored.",)
    return ManyFits(file, (*found.notes, *(told if older else ())), tuple(found.fits.values()))


__all__ = ["ManyFits", "plural", "read_many"]
