"""Reading and writing of ``time_limit=`` and ``memory_limit=``, and the memory that is free."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from datetime import timedelta
from numbers import Real
from pathlib import Path

import pandas as pd

TimeLimit = float | str | timedelta | None
MemoryLimit = float | str | None

_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_BINARY = {"ki": 2.0**10, "mi": 2.0**20, "gi": 2.0**30, "ti": 2.0**40}
_TEXT = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([kmgt]?i?)b?\s*", re.IGNORECASE)
_LEAST = 1e6
"""Smallest plausible limit in bytes; a smaller number without a unit was probably meant otherwise."""
_GROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Limits:
    """Limits of one fit.

    Attributes:
        seconds: Time of the engine's work in seconds; None for no limit.
        memory: Additional memory of the fit in bytes. None sets no limit while the fit runs, but refuses a fit whose
            estimate exceeds the free memory; infinity sets no limit and refuses nothing.
    """

    seconds: float | None = None
    memory: float | None = None

    def after(self, seconds: float) -> Limits:
        """Remaining limits after a number of seconds."""
        return self if self.seconds is None else replace(self, seconds=max(self.seconds - seconds, 0.0))

    def __bool__(self) -> bool:
        return self.seconds is not None or (self.memory is not None and math.isfinite(self.memory))


NO_LIMITS = Limits()


def read_time(value: object) -> tuple[float | None, list[str]]:
    """Read a ``time_limit`` as seconds, with a list of its faults."""
    if value is None:
        return None, []
    seconds = _seconds_of(value) if isinstance(value, str) else value
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    if isinstance(seconds, bool) or not isinstance(seconds, Real) or not 0 < float(seconds) < math.inf:
        how = "give seconds above 0, such as 30, a string such as '30 s' or '5 min', or a datetime.timedelta."
        return None, [f"time_limit={value!r}: {how}"]
    return float(seconds), []


def _seconds_of(text: str) -> float | None:
    """Read a duration in pandas' notation; a number without a unit, which pandas takes as nanoseconds, gives None."""
    if not re.search("[a-zA-Z:]", text):
        return None
    try:
        return float(pd.Timedelta(text).total_seconds())
    except ValueError:
        return None


def read_memory(value: object) -> tuple[float | None, list[str]]:
    """Read a ``memory_limit`` as bytes, with a list of its faults."""
    if value is None:
        return None, []
    how = "give bytes or a string such as '8 GB' or '500 MB'; 'none' tries a model of any size."
    if isinstance(value, str):
        if value.strip().lower() == "none":
            return math.inf, []
        match = _TEXT.fullmatch(value)
        size = 0.0 if match is None else float(match[1]) * {**_UNITS, **_BINARY}.get(match[2].lower(), 0.0)
        if size < 1:
            return None, [f"memory_limit={value!r}: {how}"]
    elif isinstance(value, bool) or not isinstance(value, Real) or not float(value) > 0:
        return None, [f"memory_limit={value!r}: {how}"]
    else:
        size = float(value)
    if size < _LEAST:
        return None, [f"memory_limit={value!r}: that is {size:g} bytes, too little for any engine; {how}"]
    return size, []


def read_limits(time_limit: object, memory_limit: object) -> tuple[Limits, list[str]]:
    """Read both limits, with a list of all faults."""
    (seconds, first), (memory, second) = read_time(time_limit), read_memory(memory_limit)
    return Limits(seconds, memory), first + second


def in_words(size: float) -> str:
    """Bytes in words with a unit and two digits, such as ``1.2 GB``."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if size >= 0.995 * unit:
            return f"{float(f'{size / unit:.2g}'):,g} {name}"
    return "1 MB" if size > 0.5e6 else "less than 1 MB"


def memory_fault(name: str, count: int, each: int, what: str) -> str:
    """Fault of a number of things whose numbers do not fit into the free memory, or an empty text.

    Args:
        name: Name of the argument.
        count: Number of things.
        each: Numbers that each of them holds, of 8 bytes.
        what: The things.
    """
    needed, free = 8.0 * count * each, available()
    if needed <= free:
        return ""
    return (
        f"{name}={count}: {count:,} {what} of {each:,} numbers take {in_words(needed)}, and {in_words(free)} of memory "
        f"are free. Ask for fewer, several times with another seed= if need be."
    )


def seconds_in_words(seconds: float) -> str:
    """Duration in words, such as ``30 s`` or ``12 minutes``."""
    for unit, name in ((3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} s"


def available() -> float:
    """Bytes that this process can still use: the smaller of the machine's free memory and its control group's rest."""
    import psutil

    return float(min([psutil.virtual_memory().available, *_free_in_groups()]))


def _free_in_groups() -> list[float]:
    """Remaining bytes of every enclosing control group; cache that can be released does not count as used."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    sizes = []
    for line in lines:
        number, kinds, path = line.split(":", 2)
        if "memory" in kinds.split(","):
            names, root = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"), _GROUPS / "memory"
        elif number == "0":
            names, root = ("memory.max", "memory.current", "inactive_file"), _GROUPS
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                sizes += _free(folder, *names)
    return sizes


def _free(folder: Path, limit: str, usage: str, cache: str) -> list[float]:
    try:
        most, used = (folder / limit).read_text(encoding="ascii").strip(), (folder / usage).read_text(encoding="ascii")
        stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
        return [] if most == "max" else [max(float(most) - float(used) + float(stat.get(cache, 0)), 0.0)]
    except (OSError, ValueError):  # the file does not exist, or may not be read
        return []


__all__ = ["NO_LIMITS", "Limits", "MemoryLimit", "TimeLimit", "available", "in_words", "read_limits"]
