"""Two things in turn, so that both meet the same machine; and peak memory, each in a process of its own."""

from __future__ import annotations

import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.cases import case
from benchmarks.sides import SIDES


@dataclass(frozen=True)
class Timing:
    """Seconds of two things in turn.

    Attributes:
        ours: Of unimix, in order.
        bare: Of the other.
    """

    ours: tuple[float, ...]
    bare: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """Of each pair."""
        return sorted(a / b for a, b in zip(self.ours, self.bare, strict=True))


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: The two things compared.
        data: Name of the case.
        timing: Seconds of both.
        reach: Largest ratio that is wanted; None where nothing was said.
        ours_mb: Peak memory of unimix above what the process held before, in MB; None where it was not measured.
        bare_mb: Of the other.
        note: What else differs between the two.
    """

    what: str
    data: str
    timing: Timing
    reach: float | None = None
    ours_mb: float | None = None
    bare_mb: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float:
        """Median of the pairs' ratios, ours over bare: below one, unimix is faster."""
        return statistics.median(self.timing.ratios)

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**asdict(self), "ratio": self.ratio}

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Row:
        """From JSON."""
        own = {k: v for k, v in found.items() if k != "ratio"}
        return cls(**{**own, "timing": Timing(tuple(found["timing"]["ours"]), tuple(found["timing"]["bare"]))})


def side_by_side(ours: Callable[[], object], bare: Callable[[], object], repeats: int) -> Timing:
    """Seconds of each; both run once before, and then in turn.

    A single repeat is of calls that take so long that nothing is gained by a first one.

    Args:
        ours: Call of unimix.
        bare: Call of the engine.
        repeats: Of each.
    """
    if repeats > 1:
        ours()
        bare()
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for call, times in zip((ours, bare), seconds, strict=True):
            gc.collect()
            started = time.perf_counter()
            call()
            times.append(time.perf_counter() - started)
    return Timing(tuple(seconds[0]), tuple(seconds[1]))


def row(
    what: str,
    ours: str,
    bare: str,
    key: str,
    *,
    repeats: int,
    reach: float | None = None,
    memory: bool = False,
    note: str = "",
) -> Row:
    """Time two sides on a case.

    Args:
        what: For the table.
        ours: Name of a side.
        bare: Name of the other.
        key: Name of the case.
        repeats: Of each.
        reach: Largest ratio that is wanted.
        memory: Also measure peak memory.
        note: For the table.
    """
    c = case(key)
    timing = side_by_side(SIDES[ours](c), SIDES[bare](c), repeats)
    held = (peak(ours, key), peak(bare, key)) if memory else (None, None)
    return Row(what, c.name, timing, reach, *held, note)


def peak(side: str, key: str) -> float | None:
    """Memory in MB that a call takes at its peak above what its process held before; None where it cannot be read.

    The process is fresh, has its data and has fitted a small model with the same side before.
    """
    done = fresh("benchmarks.peak", side, key)
    return None if done["mb"] is None else float(done["mb"])


def fresh(module: str, *arguments: str) -> dict[str, float | None]:
    """Run a module in a process of its own; what it prints last is JSON."""
    command = [sys.executable, "-W", "ignore", "-m", module, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float | None] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def markdown(rows: list[Row]) -> str:
    """The table."""
    lines = [
        "| unimix against | data | unimix, s | the other, s | ratio | reach | MB, unimix / other | |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    for r in rows:
        ours, bare = (statistics.median(t) for t in (r.timing.ours, r.timing.bare))
        spread = "" if len(r.timing.ratios) < 3 else f" ({r.timing.ratios[0]:.2g} - {r.timing.ratios[-1]:.2g})"
        reach = "" if r.reach is None else f"{r.reach:g}" + ("" if r.ratio <= r.reach else ", **missed**")
        memory = "" if r.ours_mb is None or r.bare_mb is None else f"{r.ours_mb:.0f} / {r.bare_mb:.0f}"
        cells = [r.what, r.data, f"{ours:.3g}", f"{bare:.3g}", f"{r.ratio:.2g}{spread}", reach, memory, r.note]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
