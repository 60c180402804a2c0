"""The stamp that set-up leaves in an environment: what was installed and seen, so that a second run is a blink."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from environments import interpreter

NAME = "unimix-setup"
_SETTINGS = ("R_HOME", "R_LIBS", "R_LIBS_USER", "R_LIBS_SITE")


@dataclass(frozen=True)
class Stamp:
    """What the last run that succeeded left.

    Attributes:
        fingerprint: A hash of everything that decides what is installed; empty where a run has not ended.
        extras: Extras that were asked for beside those of the engines and the tools.
        libraries: Folders in which R looks for packages.
        seen: A hash of where R, its packages and the environment lay, and when each was changed last.
    """

    fingerprint: str = ""
    extras: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    seen: str = ""


def read_stamp(folder: Path) -> Stamp:
    """The stamp of an environment; an empty one where there is none that can be read."""
    try:
        fields = json.loads((folder / NAME).read_text(encoding="utf-8"))
        lists = {name: tuple(map(str, fields[name])) for name in ("extras", "libraries")}
        return Stamp(fingerprint=str(fields["fingerprint"]), seen=str(fields["seen"]), **lists)
    except (OSError, ValueError, KeyError, TypeError):
        return Stamp()


def write_stamp(folder: Path, stamp: Stamp) -> None:
    """Mark a folder as set-up's own.

    Raises:
        OSError: Where it cannot be written.
    """
    (folder / NAME).write_text(json.dumps(asdict(stamp)) + "\n", encoding="utf-8")


def state(folder: Path, libraries: Iterable[str]) -> str:
    """A hash of where R, its libraries and an environment's programs lie, and when each was changed last.

    It starts no program. Installing, removing or updating R, one of its packages, a Python package or the interpreter
    changes the time of one of these files or folders.
    """
    python = interpreter(folder)
    packages = sorted(folder.glob("lib/python*/site-packages")) or [folder / "Lib" / "site-packages"]
    programs = [shutil.which(name) or "" for name in ("R", "dot", "cc")]
    places = [*programs, *libraries, str(python), str(python.with_name("pip")), *map(str, packages)]
    settings = [f"{name}={os.environ.get(name, '')}" for name in _SETTINGS]
    return hashlib.sha256("\n".join([*settings, *(f"{p} {_changed(p)}" for p in places)]).encode()).hexdigest()


def _changed(path: str) -> int | None:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return None
