"""One million rows, 50,000 groups of 20, by every engine in a fresh process: ``python -m benchmarks.million``."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np

from unimix.backends.registry import built_in

ENGINES = [name for name in built_in() if name not in ("bambi", "ordinal")]


def fit(engine: str, kind: str, patience: float) -> dict[str, object]:
    """Fit a random intercept and slope to a frame of one library; peak memory of the process, and seconds.

    Args:
        engine: The backend.
        kind: pandas or polars.
        patience: The ``time_limit``.
    """
    import unimix as um

    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(50_000), 20)
    x = rng.normal(size=len(g))
    y = 1 + 0.5 * x + rng.normal(size=50_000)[g] + 0.3 * rng.normal(size=50_000)[g] * x + rng.normal(size=len(g))
    frame = __import__(kind).DataFrame({"y": y, "x": x, "g": g})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    started, told, parts = time.perf_counter(), "", {}
    try:
        made = um.fit("y ~ x + (1 + x | g)", frame, engine, seed=1, progress=False, time_limit=patience)
        told = f"{made.status.state}, x = {made.fixed_effects.loc['x', 'estimate']:.6f}"
        parts = {k: round(v, 1) for k, v in made.engine.seconds.items()}
    except um.UnimixError as error:
        told = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return {
        "seconds": time.perf_counter() - started,
        "before": before,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "told": told,
        "parts": parts,
    }


def main() -> int:
    """Fit and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.million", description=__doc__)
    parser.add_argument("--only", action="append", choices=ENGINES)
    parser.add_argument("--frame", default="pandas", choices=["pandas", "polars"])
    parser.add_argument("--patience", type=float, default=300.0, help="time_limit of each fit")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(fit(chosen.one, chosen.frame, chosen.patience)))
        return 0
    print(
        "| engine | frame | seconds | peak, GB | of which before, GB | parts, s | |\n|---|---|---:|---:|---:|---|---|"
    )
    for engine in chosen.only or ENGINES:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.million", "--one", engine]
        command += ["--frame", chosen.frame, "--patience", str(chosen.patience)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"| {engine} | {chosen.frame} | | | | | {done.stderr.strip().splitlines()[-1:]} |", flush=True)
            continue
        f = json.loads(done.stdout.splitlines()[-1])
        print(
            f"| {engine} | {chosen.frame} | {f['seconds']:.0f} | {f['peak']:.2f} | {f['before']:.2f} | {f['parts']} "
            f"| {f['told']} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
