"""Rows a second of a reduction against a bare scan, and memory against rows: ``python -m benchmarks.reduction``.

Every measurement runs in a fresh process. The scan reads the same columns of the same files by pyarrow in the same
batches, as often as the reduction does, and adds them up.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FORMULA, COLUMNS = "y ~ x + (x | g)", ["y", "x", "g"]
BATCH, FILE = 131_072, 1_000_000


def write(folder: Path, rows: int, levels: int) -> None:
    """Write files of a million rows at most."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    effects = np.random.default_rng(0).normal(size=(levels, 2))
    for i, start in enumerate(range(0, rows, FILE)):
        rng, n = np.random.default_rng([1, i]), min(FILE, rows - start)
        g, x = rng.integers(0, levels, n), rng.normal(size=n)
        y = effects[g, 0] + (1 + 0.3 * effects[g, 1]) * x + rng.normal(size=n)
        pq.write_table(pa.table({"y": y, "x": x, "g": g, "unused": rng.normal(size=n)}), folder / f"{i:03}.parquet")


def scan(folder: str) -> dict[str, float]:
    """Seconds and peak memory of two bare scans."""
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    started, rows = _clocks(), 0
    for _ in range(2):
        for batch in ds.dataset(folder).to_batches(columns=COLUMNS, batch_size=BATCH, use_threads=False):
            rows += batch.num_rows
            for column in batch.columns:
                pc.sum(column)
    return _measured(started, rows / 2)


def reduce(folder: str) -> dict[str, float]:
    """Seconds and peak memory of a reduction, and seconds of its fit."""
    import unimix as um

    started = _clocks()
    reduced = um.reduce(folder, FORMULA, batch_rows=BATCH, progress=False)
    measured = _measured(started, reduced.n_obs)
    begun = time.process_time()
    fit = um.fit(FORMULA, reduced)
    assert fit.converged
    whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return measured | {"kept": reduced.n_kept, "fit_cpu": time.process_time() - begun, "peak_with_fit_mb": whole}


def _clocks() -> tuple[float, float]:
    """Seconds on the wall and of this process: on a busy machine only the latter say what the work costs."""
    return time.perf_counter(), time.process_time()


def _measured(started: tuple[float, float], rows: float) -> dict[str, float]:
    wall, cpu = (now - before for now, before in zip(_clocks(), started, strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"rows": rows, "seconds": wall, "cpu": cpu, "rows_a_cpu_second": rows / cpu, "peak_mb": peak}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--levels", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        what, folder = arguments.measure
        print(json.dumps(scan(folder) if what == "scan" else reduce(folder)))
        return
    for rows in arguments.rows:
        for levels in arguments.levels:
            with tempfile.TemporaryDirectory() as folder:
                write(Path(folder), rows, levels)
                found = {what: _in_a_process(what, folder) for what in ("scan", "reduce")}
            ratio = found["reduce"]["cpu"] / found["scan"]["cpu"]
            print(f"{rows:,} rows, {levels:,} levels: {ratio:.1f} times the CPU time of two scans")
            for what, numbers in found.items():
                print("  ", what, {k: float(f"{v:.3g}") for k, v in numbers.items()})


def _in_a_process(what: str, folder: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.reduction", "--measure", what, folder]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


if __name__ == "__main__":
    main()
