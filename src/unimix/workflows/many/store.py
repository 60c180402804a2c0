"""Fits on disk: a header line, then one line per fit, appended as it comes."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from unimix._version import __version__
from unimix.errors import DataError, UnimixError
from unimix.result import FitResult

FORMAT = 1
_START = '{"unimix_fits": '
_FIT, _RESULT, _END = '{"fit": ', ', "result": ', "}\n"
_AGAIN = '{"again": '


@dataclass(frozen=True, slots=True)
class Entry:
    """One fit.

    Attributes:
        names: Of formula, data set and backend.
        formula: Its text.
        summary: Columns of the table, from state on.
        key: Digest of all that makes it this fit, or an empty text.
        position: Among formulas, data sets and backends.
        result: The result, where it is in memory.
        place: First and last byte of the result's JSON in the file; None where the fit failed.
    """

    names: tuple[str, str, str]
    formula: str
    summary: dict[str, Any]
    key: str
    position: tuple[int, int, int]
    result: FitResult | None = None
    place: tuple[int, int] | None = None

    def load(self, path: Path | None) -> FitResult:
        """The result, from memory or from the file.

        Raises:
            UnimixError: If the fit failed.
            DataError: If the file has changed.
        """
        if self.result is not None:
            return self.result
        if self.place is None or path is None:
            formula, data, backend = self.names
            error = f"{self.summary['error_type']}: {self.summary['error']}"
            raise UnimixError(f"The fit of {formula!r} to {data!r} by {backend} failed. {error}")
        try:
            with path.open("rb") as file:
                file.seek(self.place[0])
                text = file.read(self.place[1] - self.place[0])
            return FitResult.from_json(text.decode())
        except (OSError, UnicodeDecodeError, DataError) as error:
            raise DataError(f"{path} has changed since it was opened: um.read_many({str(path)!r}).") from error


@dataclass(frozen=True)
class Scan:
    """What a file holds.

    Attributes:
        entries: In the order of the file.
        end: Bytes up to the end of the last whole line.
        notes: What was found wrong, or is of another version.
    """

    entries: tuple[Entry, ...]
    end: int
    notes: tuple[str, ...] = ()


def scan(path: Path) -> Scan:
    """Read the heads of all lines; results stay on disk.

    Raises:
        DataError: If it is no file of fits.
    """
    entries: list[Entry] = []
    notes: list[str] = []
    end = 0
    try:
        with path.open("rb") as file:
            first = file.readline()
            if _cut_short(first):
                return Scan((), 0)
            notes += _of_header(first, path)
            end = len(first)
            for number, line in enumerate(file, start=2):
                if not line.endswith(b"\n"):
                    notes.append("The last line was cut short when its run was killed, and is dropped.")
                    break
                entry = _again(line, entries) if line.startswith(_AGAIN.encode()) else _entry(line, end)
                if entry is None:
                    notes.append(f"Line {number} cannot be read, and is ignored.")
                else:
                    entries.append(entry)
                end += len(line)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
    return Scan(tuple(entries), end, tuple(notes))


def header_fault(path: Path) -> str:
    """Why nothing may be written to a file that is there, or an empty text."""
    try:
        with path.open("rb") as file:
            first = file.readline()
        if not _cut_short(first):
            _of_header(first, path)
    except OSError as error:
        return f"{path} cannot be read: {error}."
    except DataError as error:
        return str(error)
    return ""


def _header() -> str:
    return f'{_START}{FORMAT}, "unimix": "{__version__}"}}\n'


def _cut_short(first: bytes) -> bool:
    """Whether a file is empty, or of a run that was killed in its first line."""
    return not first.endswith(b"\n") and _header().encode().startswith(first)


def _of_header(line: bytes, path: Path) -> list[str]:
    try:
        header = json.loads(line) if line.startswith(_START.encode()) else {}
    except ValueError:
        header = {}
    if "unimix_fits" not in header:
        raise DataError(f"{path} is no file of fits (um.fit_many writes such): it is left as it is. Name another path.")
    if header["unimix_fits"] != FORMAT:
        raise DataError(
            f"{path} has format {header['unimix_fits']} of unimix {header.get('unimix')}; this unimix "
            f"({__version__}) reads format {FORMAT}. Update unimix, or name another path."
        )
    if header.get("unimix") != __version__:
        return [f"The file was begun by unimix {header.get('unimix')}; this is {__version__}."]
    return []


def _entry(line: bytes, start: int) -> Entry | None:
    """A line's fit; its head is read alone, for the result may be large."""
    cut = line.find(_RESULT.encode())
    try:
        head = json.loads(line[len(_FIT) : cut])
        names = (str(head["formula_name"]), str(head["data"]), str(head["backend"]))
        i, j, k = map(int, head["position"])
        summary, formula, key = dict(head["summary"]), str(head["formula"]), str(head["key"])
    except (ValueError, KeyError, TypeError):
        return None
    begin, stop = cut + len(_RESULT), len(line) - len(_END)
    if not line.startswith(_FIT.encode()) or line[stop:] != _END.encode():
        return None
    place = None if line[begin:stop] == b"null" else (start + begin, start + stop)
    return Entry(names, formula, summary, key, (i, j, k), place=place)


def _again(line: bytes, entries: list[Entry]) -> Entry | None:
    """A fit that a later run asked for again, under names and at a position of its own."""
    try:
        head = json.loads(line)["again"]
        key, place = str(head["key"]), head["place"]
        first, second, third = map(str, head["names"])
        i, j, k = map(int, head["position"])
    except (ValueError, KeyError, TypeError):
        return None
    wanted = None if place is None else tuple(place)
    old = next((e for e in reversed(entries) if e.key == key and e.place == wanted), None)
    return None if old is None else replace(old, names=(first, second, third), position=(i, j, k))


class Journal:
    """A file of fits that is open for new ones, in one process at a time.

    Raises:
        DataError: If it is no such file, cannot be written, or another run writes it now.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("ab")
        except OSError as error:
            raise DataError(f"{path} cannot be written: {error}.") from error
        try:
            self._lock()
            self.found = scan(path)
            if self.found.end < path.stat().st_size:
                self._file.truncate(self.found.end)
            if not self.found.end:
                self._write(_header())
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        """Let nobody else write here; where files have no locks, nobody is kept out."""
        with contextlib.suppress(ImportError):
            import fcntl

            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise DataError(
                    f"Another run is writing {self.path} now: wait for it, or name another path."
                ) from error
            except OSError:
                return

    def add(self, entry: Entry, result: str | None) -> Entry:
        """Append a fit; it is with the system before this returns.

        Args:
            entry: The fit.
            result: Its JSON, in one line.

        Returns:
            The entry with its place in the file.
        """
        formula, data, backend = entry.names
        head = {
            "key": entry.key,
            "formula_name": formula,
            "data": data,
            "backend": backend,
            "formula": entry.formula,
            "position": entry.position,
            "summary": entry.summary,
        }
        before = f"{_FIT}{json.dumps(head)}{_RESULT}".encode()
        body = b"null" if result is None else result.encode()
        start = self._file.seek(0, os.SEEK_END) + len(before)
        self._write(before + body + _END.encode())
        place = None if result is None else (start, start + len(body))
        return Entry(entry.names, entry.formula, entry.summary, entry.key, entry.position, place=place)

    def repeat(self, entry: Entry) -> None:
        """Note that a fit which the file holds is also that of other names, or again that of its own."""
        told = {"key": entry.key, "names": entry.names, "position": entry.position, "place": entry.place}
        self._file.seek(0, os.SEEK_END)
        self._write(f"{_AGAIN}{json.dumps(told)}}}\n")

    def _write(self, text: str | bytes) -> None:
        try:
            self._file.write(text.encode() if isinstance(text, str) else text)
            self._file.flush()
        except OSError as error:
            raise DataError(f"{self.path} cannot be written: {error}. What it holds is kept.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def latest(entries: tuple[Entry, ...]) -> Iterator[Entry]:
    """The last fit under every three names, in the order of positions; one that succeeded before one that failed."""
    kept: dict[tuple[str, str, str], Entry] = {}
    for entry in entries:
        old = kept.get(entry.names)
        if old is None or entry.place is not None or old.place is None or old.key != entry.key:
            kept[entry.names] = entry
    yield from sorted(kept.values(), key=lambda e: e.position)


__all__ = ["Entry", "Journal", "Scan", "header_fault", "latest", "scan"]
