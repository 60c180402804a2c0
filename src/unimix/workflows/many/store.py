"""The file of fits: a header line, then one line of JSON per fit. Of several lines of one name, the last one counts."""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from unimix._version import __version__
from unimix.errors import DataError, UnimixError
from unimix.fitted.schema import SCHEMA_VERSION
from unimix.result import FitResult

FORMAT = 1
_START = '{"unimix_fits": '
_FIT, _RESULT, _CHECK = b'{"fit": ', b', "result": ', b', "crc32": '
_END = b'"schema_version":%d}' % SCHEMA_VERSION
_LONGEST_HEADER = 1000
Names = tuple[str, str, str]


class _Summary(BaseModel):
    model_config = ConfigDict(extra="forbid")

    state: str
    n_obs: int | None
    log_likelihood: float | None
    aic: float | None
    bic: float | None
    seconds: float | None
    error_type: str
    error: str


class _Head(BaseModel):
    """A line without its result."""

    model_config = ConfigDict(extra="forbid")

    key: str
    formula_name: str
    data: str
    backend: str
    formula: str
    position: tuple[int, int, int]
    summary: _Summary


@dataclass(frozen=True, slots=True)
class StoredFit:
    """One fit, in memory or in a file.

    Attributes:
        names: Names of the formula, the data set and the backend.
        formula: Text of the formula.
        summary: Columns of the table, from state to error, by name.
        key: Digest of formula, data, engine, arguments and seed, or an empty text.
        position: Positions among the formulas, the data sets and the backends.
        result: The result, if it is in memory.
        place: The file, and the positions at which the JSON of the result begins and ends; None if the fit failed.
    """

    names: Names
    formula: str
    summary: dict[str, Any]
    key: str
    position: tuple[int, int, int]
    result: FitResult | None = None
    place: tuple[Path, int, int] | None = None

    def load(self) -> FitResult:
        """The result, from memory or from the file.

        Raises:
            UnimixError: If the fit failed.
            DataError: If the file has changed, or its result is not a saved one.
        """
        if self.result is not None:
            return self.result
        text = self.text()
        if text is None or self.place is None:
            formula, data, backend = self.names
            error = f"{self.summary['error_type']}: {self.summary['error']}"
            raise UnimixError(f"The fit of {formula!r} to {data!r} by {backend} failed. {error}")
        if not text.endswith(_END):
            raise _changed(self.place[0])
        return FitResult.from_json(text.decode(errors="replace"))

    def text(self) -> bytes | None:
        """The JSON of the result, as it stands in the file; None if the fit failed.

        Raises:
            DataError: If the file has changed.
        """
        if self.place is None:
            return None
        path, begin, end = self.place
        try:
            with path.open("rb") as file:
                file.seek(begin)
                return file.read(end - begin)
        except OSError as error:
            raise _changed(path) from error


def _changed(path: Path) -> DataError:
    return DataError(f"{path} has changed since it was opened: um.read_many({str(path)!r}).")


@dataclass(frozen=True)
class FileScan:
    """The content of a file of fits.

    Attributes:
        fits: The last fit of every name, in the order of positions.
        known: Fits by key; of several fits with one key, one that succeeded if there is one.
        older: Number of lines that later lines of the same names replace.
        end: Length of the file in bytes, up to the end of the last complete line.
        notes: Notes on damaged lines and on other versions of unimix.
    """

    fits: dict[Names, StoredFit]
    known: dict[str, StoredFit]
    older: int
    end: int
    notes: tuple[str, ...]


def scan(path: Path) -> FileScan:
    """Read the heads of all lines. Results stay on disk.

    Raises:
        DataError: If the file is not a file of fits.
    """
    fits: dict[Names, StoredFit] = {}
    known: dict[str, StoredFit] = {}
    older = 0
    with _reading(path) as file:
        end, notes = _header_of(file, path)
        for number, line in enumerate(file, start=2):
            if not line.endswith(b"\n"):
                notes.append("The last line was cut short when its run was killed, and is dropped.")
                break
            fit = _fit_of(line, path.absolute(), end)
            if isinstance(fit, str):
                notes.append(f"Line {number} {fit} and is ignored.")
            else:
                older += fit.names in fits
                fits[fit.names] = fit
                if fit.place is not None or fit.key not in known:
                    known[fit.key] = fit
            end += len(line)
    ordered = dict(sorted(fits.items(), key=lambda item: item[1].position))
    return FileScan(ordered, known, older, end, tuple(notes))


def header_fault(path: Path) -> str:
    """The reason why fits cannot be added to an existing file, or an empty text."""
    try:
        with _reading(path) as file:
            _header_of(file, path)
    except DataError as error:
        return str(error)
    return ""


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}.") from error


def _header() -> bytes:
    return f'{_START}{FORMAT}, "unimix": "{__version__}"}}\n'.encode()


def _header_of(file: BinaryIO, path: Path) -> tuple[int, list[str]]:
    """Length of the header in bytes, and notes. The length is 0 if the file is empty or its header incomplete."""
    line = file.readline(_LONGEST_HEADER)
    if not line.endswith(b"\n") and _header().startswith(line):
        return 0, []
    try:
        header = json.loads(line) if line.startswith(_START.encode()) else {}
    except ValueError:
        header = {}
    if "unimix_fits" not in header:
        raise DataError(f"{path} is not a file of fits of um.fit_many, and is left unchanged. Name another path.")
    written = header.get("unimix")
    if header["unimix_fits"] != FORMAT:
        raise DataError(
            f"{path} has format {header['unimix_fits']} of unimix {written}; this unimix ({__version__}) reads format "
            f"{FORMAT}. Update unimix, or name another path."
        )
    notes = [f"The file was begun by unimix {written}; this is {__version__}."] if written != __version__ else []
    return len(line), notes


def _line_of(fit: StoredFit, result: bytes | None) -> bytes:
    """The line of a fit with its checksum."""
    formula, data, backend = fit.names
    head = {
        "key": fit.key,
        "formula_name": formula,
        "data": data,
        "backend": backend,
        "formula": fit.formula,
        "position": fit.position,
        "summary": fit.summary,
    }
    body = _FIT + json.dumps(head).encode() + _RESULT + (b"null" if result is None else result)
    return b"%s%s%d}\n" % (body, _CHECK, zlib.crc32(body))


def _fit_of(line: bytes, path: Path, start: int) -> StoredFit | str:
    """The fit of a line, or the fault of the line. Only the head is parsed, because results can be large."""
    body, _, check = line.rpartition(_CHECK)
    if check != b"%d}\n" % zlib.crc32(body):
        return "is damaged"
    before, _, result = body.partition(_RESULT)
    if result != b"null" and not result.endswith(_END):
        return "holds a result of another version of the schema"
    try:
        head = _Head.model_validate_json(before[len(_FIT) :])
    except ValidationError:
        return "is damaged"
    begin = start + len(before) + len(_RESULT)
    return StoredFit(
        (head.formula_name, head.data, head.backend),
        head.formula,
        head.summary.model_dump(),
        head.key,
        head.position,
        place=None if result == b"null" else (path, begin, begin + len(result)),
    )


class Journal:
    """A file of fits that is open for new fits, in one process at a time.

    Attributes:
        path: Path of the file.
        content: Content of the file when it was opened.

    Raises:
        DataError: If the file is not a file of fits, cannot be written, or is being written by another run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("ab", buffering=0)  # unbuffered: closing writes nothing
        except OSError as error:
            raise DataError(f"{path} cannot be written: {error}.") from error
        try:
            self._lock()
            self.content = scan(path)
            self._file.truncate(self.content.end)
            if not self.content.end:
                self._write(_header())
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        """Lock the file against other runs, on systems that have file locks."""
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

    def add(self, fit: StoredFit, result: bytes | None) -> StoredFit:
        """Append a fit. It has been handed to the operating system when this method returns.

        Args:
            fit: The fit.
            result: JSON of the result in one line; None if the fit failed.

        Returns:
            The fit with its place in the file.

        Raises:
            DataError: If the line cannot be written, for instance because the disk is full.
        """
        line = _line_of(fit, result)
        start = self._write(line)
        stored = _fit_of(line, self.path.absolute(), start)
        assert isinstance(stored, StoredFit)  # noqa: S101  it was just written
        return stored

    def _write(self, content: bytes) -> int:
        start = self._file.seek(0, os.SEEK_END)
        unwritten = memoryview(content)
        try:
            while unwritten:
                unwritten = unwritten[self._file.write(unwritten) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(start)  # remove the incomplete line
            raise DataError(f"{self.path} cannot be written: {error}. What it holds is kept.") from error
        return start

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


__all__ = ["FileScan", "Journal", "StoredFit", "header_fault", "scan"]
