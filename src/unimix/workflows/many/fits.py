"""The answer of ``fit_many``: many fits by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from unimix.argument_types import file_at
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
"""Number of rows of a long table that are printed."""


@suggests_names(path=None)
@dataclass(frozen=True, repr=False, eq=False)
class ManyFits(TableResult):
    """The answer of :func:`unimix.fit_many` and :func:`unimix.read_many`.

    Iterating gives the names (formula, data, backend) of all fits, failed ones included. ``many["formula", "data",
    "backend"]`` gives a result; parts that have a single value may be left out. Results in a file are read when they
    are used.

    Attributes:
        path: The file that holds the results; None if they are in memory.
        notes: Notes on the run and on the file.

    Example:
        >>> import unimix as um
        >>> small, large = "Reaction ~ Days + (1 | Subject)", "Reaction ~ Days + (Days | Subject)"
        >>> many = um.fit_many({"intercepts": small, "slopes": large}, um.load_dataset("sleepstudy"), progress=False)
        >>> round(many["slopes"].sigma, 2)
        25.59
        >>> many.tidy()[["formula", "term", "estimate"]].round(2)
              formula       term  estimate
        0  intercepts  Intercept    251.41
        1  intercepts       Days     10.47
        2      slopes  Intercept    251.41
        3      slopes       Days     10.47
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
        """Names and results of all fits that succeeded; results are read one at a time."""
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
        shown = ", ".join(map(repr, given))
        every = [name for known in self._known for name in known]
        faults = [
            f"{name!r} is not the name of a formula, data set or backend here.{did_you_mean(name, every)}"
            for name in given
            if name not in every
        ] or [
            f"{shown} does not name one fit: type many[formula, data, backend]; a part that has a single value may be "
            "left out."
            if fitting
            else f"{shown} was not fitted."
        ]
        known = [f"{word}s: {listing(map(repr, names))}" for word, names in zip(WORDS, self._known, strict=True)]
        raise OptionError("\n".join([*faults, *known]))

    def tidy(self, effects: Effects | Sequence[Effects] = "fixed", *, exponentiate: bool = False) -> pd.DataFrame:
        """The tidy tables of all results in one table, with the columns formula, data and backend in front.

        Args:
            effects: The kinds of effects, as in :meth:`unimix.FitResult.tidy`.
            exponentiate: Whether to give ratios, as in :meth:`unimix.FitResult.tidy`.
        """
        parts = []
        for names, fit in self.items():
            part = fit.tidy(effects, exponentiate=exponentiate)
            for place, (column, name) in enumerate(zip(NAMES, names, strict=True)):
                part.insert(place, column, name)
            parts.append(part)
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(NAMES))

    def compare(self, formula: str | None = None, data: str | None = None) -> Comparison:
        """Compare the engines that fitted one formula to one data set.

        Args:
            formula: Name of the formula; may be left out if there is only one.
            data: Name of the data set; may be left out if there is only one.

        Returns:
            The comparison, as from :func:`unimix.compare`. An engine that failed keeps its column, with its error.

        Raises:
            OptionError: If a name is unknown or missing, or there is only one engine.
        """
        faults = []
        for word, argument, name, known in zip(WORDS, NAMES, (formula, data), self._known[:2], strict=False):
            if name is None and len(known) > 1:
                faults.append(f"There are several: {argument}=. Known: {listing(map(repr, known))}.")
            elif name is not None and str(name) not in known:
                hint = did_you_mean(str(name), known)
                faults.append(f"{name!r} is not the name of a {word} here.{hint} Known: {listing(map(repr, known))}.")
        if faults:
            raise OptionError("\n".join(faults))
        wanted = [None if name is None else str(name) for name in (formula, data)]
        chosen = [f for f in self._fits if all(w in (None, n) for w, n in zip(wanted, f.names, strict=False))]
        fits = [f.load() for f in chosen if not f.summary["error_type"]]
        lost = [
            Failure(_plain(f), f.summary["error_type"], f.summary["error"]) for f in chosen if f.summary["error_type"]
        ]
        if len(chosen) < 2:
            raise OptionError("Only one engine was used: fit_many(..., backends=['pls', 'lme4']) has two to compare.")
        return build_comparison(fits, lost, order=[_plain(f) for f in chosen])

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
        shown = ", ".join(f"{n} {state.replace('_', ' ')}" for state, n in states.most_common())
        return f"{len(self)} {plural('fit', len(self))}: {', '.join(counts)}{f'; {shown}' if shown else ''}"

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
    """The singular or plural of a word for a number of things."""
    return word if n == 1 else f"{word}s"


def _plain(stored: StoredFit) -> str:
    """The name of the backend without its number, which a comparison adds itself."""
    return stored.names[2].split(" (", maxsplit=1)[0]


@suggests_names
def read_many(path: str | Path) -> ManyFits:
    """Open a file of fits that :func:`unimix.fit_many` has written, or is still writing.

    Args:
        path: Path of the file.

    Returns:
        All fits in the file; of several fits of the same names, the last one.

    Raises:
        DataError: If there is no such file, or it is not a file of fits.

    Example:
        >>> import tempfile
        >>> import unimix as um
        >>> sleep = um.load_dataset("sleepstudy")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = f"{folder}/fits.jsonl"
        ...     _ = um.fit_many("Reaction ~ Days + (1 | Subject)", sleep, path=path, progress=False)
        ...     um.read_many(path).table["state"].tolist()
        ['converged']
    """
    file = file_at(path)
    if not file.is_file():
        raise DataError(f"There is no file {str(path)!r}. um.fit_many(..., path={str(path)!r}) writes one.")
    content = scan(file)
    older = content.older
    note = (f"{older} older {plural('line', older)} under the same names {'is' if older == 1 else 'are'} ignored.",)
    return ManyFits(file, (*content.notes, *(note if older else ())), tuple(content.fits.values()))


__all__ = ["ManyFits", "plural", "read_many"]
