"""Peak memory of one call: ``python -m benchmarks.peak SIDE CASE``, run in a process of its own; prints JSON."""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path

from benchmarks.cases import case
from benchmarks.sides import SIDES

CLEAR = Path("/proc/self/clear_refs")


def main() -> None:
    """Warm the side up with sleepstudy, build its data, and watch one call."""
    side, key = sys.argv[1:]
    SIDES[side](case("sleepstudy"))()
    call = SIDES[side](case(key))
    gc.collect()
    before = reset()
    started = time.perf_counter()
    call()
    seconds = time.perf_counter() - started
    after = None if before is None else held("VmHWM") - before
    print(json.dumps({"mb": after, "seconds": seconds}))


def reset() -> float | None:
    """Forget the peak so far; the memory that is held, or None where the system does not tell."""
    try:
        CLEAR.write_text("5", encoding="ascii")
        return held("VmRSS")
    except OSError:
        return None


def held(name: str, process: int | str = "self") -> float:
    """A line of a process's status in MB: VmRSS, or VmHWM, the peak."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main()
