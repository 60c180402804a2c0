"""Saved results as text, in files or as they are."""

from __future__ import annotations

from pathlib import Path

from unimix.errors import DataError


def written(text: str, path: str | Path | None) -> str | Path:
    """The text itself, or the path of the file it was written to, so that a notebook shows one line and not a page.

    Args:
        text: The content.
        path: The file to write; None writes none.
    """
    if path is None:
        return text
    Path(path).write_text(text, encoding="utf-8")
    return Path(path)


def read(source: str | Path) -> str:
    """The JSON text of a saved fit.

    Args:
        source: The text itself, or the path of a file.

    Raises:
        DataError: If there is no such file, and the source is no JSON text either.
    """
    if isinstance(source, str) and source.lstrip().startswith("{"):
        return source.strip()
    if not Path(source).is_file():
        raise DataError(f"There is no file {str(source)!r}, and it is not a saved FitResult as text either.")
    return Path(source).read_text(encoding="utf-8")
