"""Saved results as text, in files or as they are."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TypeVar, overload

from pydantic import BaseModel, ValidationError

from unimix.argument_types import file_at
from unimix.errors import DataError

Saved = TypeVar("Saved", bound=BaseModel)
MOST_FAULTS = 5
"""Number of faults of a damaged text that are named."""


@overload
def written(content: str, path: None) -> str: ...
@overload
def written(content: str | bytes, path: str | Path) -> Path: ...
@overload
def written(content: str, path: str | Path | None) -> str | Path: ...
def written(content: str | bytes, path: str | Path | None) -> str | bytes | Path:
    """The text itself, or the path of the file it was written to, so that a notebook shows one line and not a page.

    Args:
        content: The content.
        path: The file to write; None writes none.

    Raises:
        OptionError: If ``path`` is not a path.
        DataError: If the file cannot be written.
    """
    if path is None:
        return content
    file = file_at(path)
    try:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    except (OSError, UnicodeError) as error:
        raise DataError(f"{str(path)!r:.200} cannot be written: {error!s:.200}.") from error
    return file


def load(saved: type[Saved], source: str | Path, what: str) -> Saved:
    """Read what was saved as JSON; types, shapes and counts are checked, and nothing is converted.

    Args:
        saved: The schema.
        source: The text itself, or the path of a file.
        what: What it should be, for messages, such as ``saved FitResult``.

    Raises:
        DataError: If the source is neither a file nor a text of this schema; the message names the faults.
    """
    try:
        text = source
        if not isinstance(source, str) or not source.lstrip().startswith("{"):
            file = file_at(source)
            if file.is_file() and zipfile.is_zipfile(file):
                raise ValueError(f"{str(source)!r:.200} is a file of fit.save(): um.FitResult.load(...) reads it")
            text = file.read_text(encoding="utf-8")
        return saved.model_validate_json(str(text).strip(), strict=True)
    except FileNotFoundError as error:
        raise DataError(f"There is no file {str(source)!r:.200}, and it is not a {what} as text either.") from error
    except ValidationError as error:
        raise DataError(f"This is not a {what}: {faults_in_words(error)}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"This is not a {what}: {error}") from error


def faults_in_words(error: ValidationError) -> str:
    """The faults of a text in words; another version of the schema is the only fault that counts."""
    problems = {".".join(map(str, e["loc"])): e["msg"].removeprefix("Value error, ") for e in error.errors()}
    versions = [message for place, message in problems.items() if place.endswith("schema_version")]
    messages = versions or [f"{place}: {message}" if place else message for place, message in problems.items()]
    more = f"; {len(messages) - MOST_FAULTS} further faults" if len(messages) > MOST_FAULTS else ""
    return "; ".join(messages[:MOST_FAULTS]) + more
