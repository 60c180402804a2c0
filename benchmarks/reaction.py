"""How quickly a limit ends a fit: ``python -m benchmarks.reaction``; each engine in a fresh process."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

import numpy as np

from unimix.backends.registry import built_in

ENGINES = [name for name in built_in() if name not in ("bambi", "ordinal")]
MODELS = {
    "slopes": ("y ~ x + (1 + x + z + u | g)", 100_000, 10_000, 2),
    "crossed": ("y ~ x + (1 | g) + (1 | h)", 20_000, 2000, 280),
}


def lateness(engine: str, model: str, limit: float) -> str:
    """Seconds from the limit to the error.

    Args:
        engine: The backend.
        model: Key of ``MODELS``.
        limit: The ``time_limit``.
    """
    import unimix as um
    from unimix.backends import registry
    from unimix.estimation.arguments import FitArguments
    from unimix.estimation.run import fit_problem

    formula, rows, levels, others = MODELS[model]
    rng = np.random.default_rng(0)
    data = {c: rng.normal(size=rows) for c in "xzu"}
    data |= {"g": rng.integers(0, levels, rows), "h": rng.integers(0, others, rows)}
    data["y"] = data["x"] + rng.normal(size=levels)[data["g"]] + rng.normal(size=rows)
    um.fit(
        "y ~ x + (1 | g)",
        {k: v[:300] for k, v in data.items()} | {"g": np.arange(300) % 9},
        engine,
        seed=1,
        time_limit=600,
    )
    options = {"max_tied_rows": 10**9} if engine == "statsmodels" else None
    arguments = FitArguments(df_method="normal", seed=1, progress=False, time_limit=limit, memory_limit="none")
    problem = arguments.problem(formula, data)
    started = time.perf_counter()
    try:
        fit_problem(registry.resolve(engine, options), problem)
    except um.LimitError:
        return f"{time.perf_counter() - started - limit:.2f}"
    return f"ended before, after {time.perf_counter() - started:.2f}"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reaction", description=__doc__)
    parser.add_argument("--only", action="append", choices=ENGINES)
    parser.add_argument("--limits", type=float, nargs="+", default=[0.3, 2.0])
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(lateness(chosen.one[0], chosen.one[1], float(chosen.one[2])))
        return 0
    heads = [f"{model}, {limit:g} s" for model in MODELS for limit in chosen.limits]
    print(f"| engine | {' | '.join(heads)} |\n|---|{'---:|' * len(heads)}")
    for engine in chosen.only or ENGINES:
        cells = []
        for model in MODELS:
            for limit in chosen.limits:
                command = [sys.executable, "-W", "ignore", "-m", "benchmarks.reaction", "--one"]
                done = subprocess.run(
                    [*command, engine, model, str(limit)], capture_output=True, text=True, check=False
                )
                cells.append((done.stdout.strip() or done.stderr.strip()).splitlines()[-1])
        print(f"| {engine} | {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
