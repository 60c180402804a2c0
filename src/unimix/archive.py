"""Files of several members: texts and arrays in a zip archive, each with its checksum, without pickles.

The arrays are ``.npy`` files (format 1.0 to 3.0 of NumPy), so that any reader of zip and NumPy's format can take them.
Nothing is compressed, because draws hardly get smaller, and so that a small file cannot unfold into a huge one.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
import tempfile
import tokenize
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unimix.argument_types import file_at
from unimix.errors import DataError

KINDS = "biufU"
"""Kinds of arrays that are written: booleans, whole and real numbers, texts."""
_MOMENT = (1980, 1, 1, 0, 0, 0)
_DAMAGED = (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, NotImplementedError, struct.error)


def write_archive(path: str | Path, members: Mapping[str, str | npt.NDArray[Any]]) -> Path:
    """Write texts and arrays to a file, which is there only when it is whole; equal contents give equal bytes.

    Args:
        path: The file to write.
        members: Texts and arrays by their names in the file.

    Raises:
        OptionError: If ``path`` is not a path.
        DataError: If the file cannot be written.
    """
    file, part = file_at(path), ""
    try:
        with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name[:50]}-", delete=False) as temporary:
            part = temporary.name
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
                for name, content in members.items():
                    with archive.open(zipfile.ZipInfo(name, _MOMENT), "w", force_zip64=True) as target:
                        if isinstance(content, str):
                            target.write(content.encode())
                        else:
                            np.lib.format.write_array(target, np.ascontiguousarray(content), allow_pickle=False)
        Path(part).chmod(0o666 & ~_umask())
        Path(part).replace(file)
    except (OSError, UnicodeError) as error:
        with contextlib.suppress(OSError):
            Path(part).unlink()
        raise DataError(f"{str(path)!r:.200} cannot be written: {error!s:.200}.") from error
    return file


def _umask() -> int:
    """The permissions that new files of this process do not get; they can be read only by setting them."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_archive(path: str | Path, what: str) -> dict[str, bytes]:
    """Contents of the members of a file, by name; checksums are compared.

    Args:
        path: The file.
        what: What it should be, for messages, such as ``saved FitResult``.

    Raises:
        OptionError: If ``path`` is not a path.
        DataError: If there is no such file, or it is damaged or of another kind.
    """
    file = file_at(path)
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            names = [m.filename for m in members]
            if len(set(names)) < len(names):
                raise ValueError("a member is there twice")
            if any(m.compress_type != zipfile.ZIP_STORED or m.file_size != m.compress_size for m in members):
                raise ValueError("its members are compressed")
            return {name: archive.read(name) for name in names}
    except FileNotFoundError as error:
        raise DataError(f"There is no file {str(path)!r:.200}.") from error
    except _DAMAGED as error:
        raise DataError(f"{str(path)!r:.200} is not a {what}, or is damaged: {error!s:.200}.") from error


def array_from(content: bytes) -> npt.NDArray[Any]:
    """The array in the content of an ``.npy`` member; nothing is unpickled.

    Raises:
        ValueError: If it is damaged, or not of a kind that is written.
    """
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except (SyntaxError, TypeError, tokenize.TokenError, RecursionError, UnicodeError) as error:
        raise ValueError(f"the head of an array cannot be read ({error!s:.100})") from error
    rest = content[stream.tell() :]
    if fortran or dtype.kind not in KINDS or any(n < 0 for n in shape):
        raise ValueError(f"an array is of a kind that is not written ({dtype!s:.40})")
    count = 1
    for n in shape:
        count *= n
    if count * dtype.itemsize != len(rest):
        raise ValueError(f"an array of the shape {shape!r:.60} does not fill its {len(rest)} bytes")
    if not dtype.itemsize:
        return np.zeros(shape, dtype=dtype) if count < 10**6 else np.zeros(0, dtype=dtype)
    return np.frombuffer(rest, dtype=dtype).reshape(shape)
