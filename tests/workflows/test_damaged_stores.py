"""Files of fits that are damaged, forged, too large or of an older schema, and what is no path of a file."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import pytest
from fragile import make

import unimix as um
from unimix.errors import DataError, OptionError

INTERCEPT = "y ~ x + (1 | g)"
FORMULAS = {"intercept": INTERCEPT, "slope": "y ~ x + (1 + x | g)", "none": "y ~ x"}


def test_a_result_of_another_schema_is_fitted_again(tmp_path: Path) -> None:
    path = tmp_path / "fits.jsonl"
    um.fit_many(FORMULAS, make(1), "pls", path=path)
    first, old, *rest = path.read_bytes().splitlines(keepends=True)
    body = old.rpartition(b', "crc32": ')[0].replace(b'"schema_version":3}', b'"schema_version":2}')
    path.write_bytes(b"".join([first, body + b', "crc32": %d}\n' % zlib.crc32(body), *rest]))
    note = "Line 2 holds a result of another version of the schema and is ignored."
    assert um.read_many(path).notes == (note,)
    mended = um.fit_many(FORMULAS, make(1), "pls", path=path)
    assert mended.notes == (note, "2 of 3 fits were in the file already.")
    assert len(mended.tidy()) == sum(len(f.fixed.terms) for _, f in mended.items())


@pytest.mark.parametrize(
    "head",
    [b'{"fit": {}, "result": null', b'{"fit": [1], "result": null', b'{"fit": ' + b"[" * 9999 + b', "result": null'],
)
def test_a_line_with_a_right_checksum_and_a_wrong_content_is_ignored(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "fits.jsonl"
    um.fit_many(INTERCEPT, make(1), "pls", path=path)
    path.write_bytes(path.read_bytes() + head + b', "crc32": %d}\n' % zlib.crc32(head))
    assert um.read_many(path).notes == ("Line 3 is damaged and is ignored.",)


def test_a_large_file_of_something_else_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(2**40)  # a terabyte of zeros, without a line
    with pytest.raises(DataError, match="is not a file of fits"):
        um.read_many(path)


@pytest.mark.parametrize("path", ["a\0b", "\ud800", "x" * 5000, "", 3])
def test_what_is_no_path_is_told(path: Any) -> None:
    with pytest.raises(OptionError, match="is not the path of a file"):
        um.fit_many(INTERCEPT, make(1), "pls", path=path)
    with pytest.raises(OptionError, match="is not the path of a file"):
        um.read_many(path)
