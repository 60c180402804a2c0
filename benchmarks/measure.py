"""Timing of two things in turn, so that both meet the same machine."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: The two things compared.
        data: Name of the case.
        ours: Median seconds of unimix.
        bare: Median seconds of the other.
        repeats: Of each.
        note: What else differs between the two.
    """

    what: str
    data: str
    ours: float
    bare: float
    repeats: int
    note: str = ""

    @property
    def ratio(self) -> float:
        """Ours over bare: below one, unimix is faster."""
        return self.ours / self.bare

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**asdict(self), "ratio": self.ratio}


def side_by_side(ours: Callable[[], object], bare: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median seconds of each; both run once before, and then in turn.

    Args:
        ours: Call of unimix.
        bare: Call of the engine.
        repeats: Of each.
    """
    ours()
    bare()
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for call, times in zip((ours, bare), seconds, strict=True):
            gc.collect()
            started = time.perf_counter()
            call()
            times.append(time.perf_counter() - started)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def markdown(rows: list[Row]) -> str:
    """The table."""
    lines = ["| unimix against | data | unimix, s | bare, s | ratio | |", "|---|---|---:|---:|---:|---|"]
    lines += [f"| {r.what} | {r.data} | {r.ours:.3f} | {r.bare:.3f} | {r.ratio:.2f} | {r.note} |" for r in rows]
    return "\n".join(lines)
