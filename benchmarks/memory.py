"""Peak memory of fits in fresh processes beside the engines' estimates: ``python -m benchmarks.memory``."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.peak import held, reset

MB = 1e6


@dataclass(frozen=True)
class Case:
    """A kind of model and the engines that it is measured with.

    Attributes:
        formula: Of the model.
        sizes: Rows and levels of g and of h.
        engines: Names of backends.
        family: Of the response.
        options: Per backend.
    """

    formula: str
    sizes: tuple[tuple[int, int, int], ...]
    engines: tuple[str, ...]
    family: str = "gaussian"
    options: dict[str, dict[str, Any]] = field(default_factory=dict)


_SLOPES = "y ~ x + (1 + x | g)"
_CROSSED = "y ~ x + (1 | g) + (1 | h)"
_COUNTS = "y ~ x + (1 | g)"
CASES = {
    "slopes": Case(
        _SLOPES,
        ((20_000, 1000, 2), (100_000, 5000, 2), (400_000, 20_000, 2)),
        ("statsmodels", "lme4", "glmmtmb", "pymer4", "pls", "bayes", "glmm", "mixedlm", "mixedlm_rs"),
    ),
    "slopes, sampled": Case(_SLOPES, ((10_000, 1000, 2), (50_000, 5000, 2), (100_000, 12_000, 2)), ("pymc",)),
    "crossed": Case(
        _CROSSED,
        ((20_000, 1000, 200), (60_000, 6000, 3000), (120_000, 9000, 6000)),
        ("lme4", "glmmtmb", "pymer4", "pls", "glmm", "mixedlm"),
    ),
    "crossed, few": Case(
        _CROSSED,
        ((10_000, 500, 50), (40_000, 2000, 150), (100_000, 10_000, 280)),
        ("bayes", "pymc"),
    ),
    "crossed, tied": Case(
        _CROSSED,
        ((4_000, 300, 60), (8_000, 1000, 300), (16_000, 2000, 800)),
        ("statsmodels",),
        options={"statsmodels": {"max_tied_rows": 10**9}},
    ),
    "counts": Case(
        _COUNTS,
        ((20_000, 1000, 2), (100_000, 5000, 2), (400_000, 20_000, 2)),
        ("lme4", "glmmtmb", "pls", "glmm", "mixedlm"),
        "poisson",
    ),
    "counts, sampled": Case(_COUNTS, ((5_000, 300, 2), (20_000, 1000, 2), (50_000, 2500, 2)), ("pymc",), "poisson"),
}


def simulate(rows: int, levels: int, others: int, family: str) -> dict[str, np.ndarray]:
    """A data set of the given size, with effects of both factors and a random slope.

    Args:
        rows: Number of rows.
        levels: Levels of g.
        others: Levels of h.
        family: gaussian or poisson.
    """
    rng = np.random.default_rng(rows)
    g = rng.permutation(np.arange(rows) % levels)
    h = rng.permutation(np.arange(rows) % others)
    x = rng.normal(size=rows)
    eta = 0.3 * x + 0.5 * rng.normal(size=levels)[g] + 0.4 * rng.normal(size=others)[h]
    if family == "poisson":
        return {"y": rng.poisson(np.exp(eta)), "x": x, "g": g, "h": h}
    return {"y": eta + 0.3 * rng.normal(size=levels)[g] * x + rng.normal(size=rows), "x": x, "g": g, "h": h}


def measure(name: str, engine: str, size: tuple[int, int, int]) -> None:
    """Fit once small, so that everything is loaded, and once in full; print what was held before, and the peak.

    Args:
        name: Of the case.
        engine: The backend.
        size: Rows and levels.
    """
    import unimix as um
    from unimix.backends import registry
    from unimix.estimation.arguments import FitArguments
    from unimix.estimation.run import fit_problem

    case = CASES[name]
    options = case.options.get(engine)
    small = simulate(400, 20, 8, case.family)
    um.fit(case.formula, small, engine, family=case.family, options=options, seed=1, progress=False)
    data = simulate(*size, case.family)
    backend = registry.resolve(engine, options)
    arguments = FitArguments(family=case.family, seed=1, progress=False, memory_limit="none")
    problem = arguments.problem(case.formula, data)
    estimate = backend.cost(problem.design, problem.request(backend))
    before = reset()
    print(json.dumps({"before": before, "estimate": estimate.bytes, "expected": estimate.seconds}), flush=True)
    fit_problem(backend, problem)
    print(json.dumps(held("VmHWM")))


def main() -> int:
    """Measure what is asked for and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--only", action="append", metavar="ENGINE")
    parser.add_argument("--case", action="append", choices=[*CASES])
    parser.add_argument("--sizes", type=int, default=3, help="how many of the three sizes, from the smallest")
    parser.add_argument("--one", nargs=3, metavar=("CASE", "ENGINE", "SIZE"), help=argparse.SUPPRESS)
    parser.add_argument("--patience", type=float, default=120.0, help="seconds after which a fit is stopped")
    chosen = parser.parse_args()
    if chosen.one:
        name, engine, k = chosen.one
        measure(name, engine, CASES[name].sizes[int(k)])
        return 0
    print("| model | engine | rows, levels | measured, MB | estimate, MB | ratio | seconds | expected |")
    print("|---|---|---|---:|---:|---:|---:|---:|")
    for name, case in CASES.items():
        for engine in case.engines:
            for k in range(chosen.sizes):
                if (chosen.only and engine not in chosen.only) or (chosen.case and name not in chosen.case):
                    continue
                print(_row(name, engine, k, chosen.patience), flush=True)
    return 0


def _row(name: str, engine: str, k: int, patience: float) -> str:
    """Measure one case in a fresh process; after ``patience`` seconds its peak so far is taken."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.memory", "--one", name, engine, str(k)]
    size = ", ".join(f"{v:,}" for v in CASES[name].sizes[k])
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first, started, finished = process.stdout.readline(), time.perf_counter(), True
        try:
            process.wait(patience)
            last = process.stdout.read()
        except subprocess.TimeoutExpired:
            last, finished = json.dumps(held("VmHWM", process.pid)), False
            process.kill()
        seconds = time.perf_counter() - started
        if not (first and last):
            return f"| {name} | {engine} | {size} | {process.stderr.read().strip().splitlines()[-1]} | | | | |"
    found = json.loads(first)
    measured, estimate = 2**20 * (json.loads(last) - found["before"]), found["estimate"] or float("nan")
    expected = found["expected"] or float("nan")
    return (
        f"| {name} | {engine} | {size} | {measured / MB:.0f} | {estimate / MB:.0f} | {estimate / measured:.2f} "
        f"| {'' if finished else 'stopped at '}{seconds:.1f} | {expected:.1f} |"
    )


if __name__ == "__main__":
    sys.exit(main())
