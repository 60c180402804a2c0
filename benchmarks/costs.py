"""Constants of the estimated times of linear mixed models, fitted to some models and tested on others.

``python -m benchmarks.costs measure FILE [--only ENGINE]`` appends CPU seconds of whole fits to a file of JSON lines;
``python -m benchmarks.costs fit FILE`` prints the constants of :class:`unimix.backends.cost.Pace` (seconds per unit of
:func:`unimix.backends.cost.work_of`) that fit the training models best, and the ratio of estimate and measurement for
models that were not used. Run with one BLAS thread.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

Model = tuple[str, int, int, int, int]
"""Random part (f has six levels and k sixty), rows, levels of g, levels of h, further fixed columns."""

_SLOPES = " + ".join(f"x{j}" for j in range(1, 5))
_MANY = " + ".join(f"x{j}" for j in range(1, 25))
TRAINING: list[Model] = [
    ("(1 | g)", 200, 20, 2, 1),
    ("(1 | g)", 3_000, 60, 2, 8),
    ("(1 | g)", 20_000, 4_000, 2, 2),
    ("(1 | g)", 100_000, 20_000, 2, 2),
    ("(1 | g)", 200_000, 500, 2, 12),
    ("(1 | g)", 3_000, 100, 2, 250),
    ("(1 + x1 | g)", 180, 18, 2, 1),
    ("(1 + x1 | g)", 10_000, 1_000, 2, 6),
    ("(1 + x1 | g)", 100_000, 10_000, 2, 2),
    ("(1 + x1 + x2 | g)", 2_000, 100, 2, 4),
    ("(1 + x1 + x2 | g)", 30_000, 3_000, 2, 4),
    (f"(1 + {_SLOPES} | g)", 3_000, 80, 2, 5),
    (f"(1 + {_SLOPES} | g)", 15_000, 800, 2, 5),
    (f"(1 + {_SLOPES} || g)", 5_000, 200, 2, 5),
    (f"(1 + {_MANY} || g)", 3_000, 40, 2, 25),
    ("(0 + k || g)", 3_000, 30, 2, 1),
    ("(1 + f | g)", 4_000, 100, 2, 2),
    ("(1 | g/h)", 5_000, 50, 10, 2),
    ("(1 | g/h)", 50_000, 300, 20, 2),
    ("(1 | g) + (1 | h)", 400, 20, 10, 2),
    ("(1 | g) + (1 | h)", 5_000, 150, 60, 2),
    ("(1 | g) + (1 | h)", 20_000, 1_000, 300, 4),
    ("(1 | g) + (1 | h)", 50_000, 2_000, 1_000, 2),
    ("(1 | g) + (1 | h)", 100_000, 10_000, 100, 2),
    ("(1 + x1 | g) + (1 + x1 | h)", 1_000, 40, 20, 2),
    ("(1 + x1 | g) + (1 + x1 | h)", 8_000, 200, 100, 2),
    ("(1 + x1 + x2 | g) + (1 + x1 | h)", 6_000, 150, 80, 4),
    ("(1 | g) + (1 | h) + (1 | f)", 2_000, 50, 30, 2),
    ("(1 + f | g) + (1 + x1 | h)", 5_000, 90, 25, 3),
    ("(1 + x1 + x2 | g) + (1 + x1 + x2 | h) + (1 | f)", 2_000, 40, 20, 3),
    ("(1 | g) + (1 | h) + (1 | f) + (0 + x1 | g) + (0 + x2 | h)", 10_000, 400, 200, 4),
]
TEST: list[Model] = [
    ("(1 | g)", 861, 72, 2, 1),
    ("(1 | g)", 50_000, 2_000, 2, 5),
    ("(1 | g)", 5_000, 200, 2, 120),
    ("(1 + x1 | g)", 900, 50, 2, 3),
    ("(1 + x1 | g)", 40_000, 8_000, 2, 2),
    ("(1 + x1 + x2 | g)", 8_000, 400, 2, 10),
    (f"(1 + {_SLOPES} | g)", 6_000, 300, 2, 5),
    (f"(1 + {_SLOPES} || g)", 20_000, 1_000, 2, 5),
    (f"(0 + {_MANY} || g)", 6_000, 100, 2, 25),
    ("(0 + k || g)", 6_000, 60, 2, 1),
    ("(0 + f || g)", 1_000, 40, 2, 2),
    ("(1 | g/h)", 15_000, 100, 12, 4),
    ("(1 | g) + (1 | h)", 1_500, 60, 30, 3),
    ("(1 | g) + (1 | h)", 30_000, 1_500, 500, 2),
    ("(1 + x1 | g) + (1 | h)", 4_000, 120, 60, 2),
    ("(1 + x1 | g) + (1 + x1 | h)", 20_000, 500, 150, 2),
    ("(1 + f | g) + (1 | h)", 3_000, 60, 40, 2),
    ("(1 | g) + (1 | h) + (1 | f)", 12_000, 300, 200, 3),
    ("(1 + f | g) + (1 + x1 | h)", 10_000, 200, 50, 3),
    ("(0 + f || g) + (1 + x1 | h)", 2_000, 50, 20, 3),
    ("(1 + x1 + x2 + x3 | h) + (1 + x1 | g)", 8_000, 300, 60, 4),
    ("(1 | g) + (1 | h)", 60_000, 300, 250, 8),
    ("(1 + x1 + x2 || g) + (1 | g:h)", 6_000, 100, 8, 4),
]
ENGINES = ("pls", "lme4", "statsmodels", "mixedlm", "mixedlm_rs", "glmm", "glmmtmb", "pymer4", "bayes")
PATIENCE = 150.0
"""Seconds of wall time after which a fit is given up."""


def simulate(model: Model) -> tuple[str, dict[str, Any]]:
    """Formula and data of a model; every random column has an effect.

    Args:
        model: The model.
    """
    random, n, levels, others, p = model
    rng = np.random.default_rng(n + levels)
    codes = {"g": rng.permutation(np.arange(n) % levels), "h": rng.integers(0, others, n)}
    codes |= {"f": rng.integers(0, 6, n), "k": rng.integers(0, 60, n)}
    columns = {f"x{j}": rng.normal(size=n) for j in range(1, max(p, 4 if "x4" in random else 2) + 1)}
    y = rng.normal(size=n) + 0.4 * rng.normal(size=(levels, others))[codes["g"], codes["h"]]
    y += 0.6 * rng.normal(size=levels)[codes["g"]] + 0.5 * rng.normal(size=others)[codes["h"]]
    for name, x in columns.items():
        y += 0.3 * x + 0.3 * (f"{name} " in random) * rng.normal(size=levels)[codes["g"]] * x
    for name in ("f", "k"):
        y += 0.4 * (f"{name} " in random) * rng.normal(size=(levels, 60))[codes["g"], codes[name]]
    factors = {name: np.array([f"{name}{code:02d}" for code in codes[name]]) for name in ("f", "k")}
    fixed = " + ".join(f"x{j}" for j in range(1, p + 1))
    return f"y ~ {fixed} + {random}", {"y": y, "g": codes["g"], "h": codes["h"], **factors, **columns}


def one(engine: str, model: Model) -> dict[str, Any]:
    """Work of a model, and CPU seconds of the second fit in this process; the first is of a small model.

    Args:
        engine: Name of a backend.
        model: The model.
    """
    import unimix as um
    from unimix.backends import registry
    from unimix.backends.cost import work_of
    from unimix.estimation.arguments import FitArguments

    formula, data = simulate(TRAINING[6])
    um.fit(formula, data, engine, seed=1, progress=False)
    formula, data = simulate(model)
    problem = FitArguments(seed=1, progress=False, memory_limit="none").problem(formula, data)
    backend = registry.resolve(engine, None)
    expected = backend.cost(problem.design, problem.request(backend)).seconds
    started = time.process_time()
    um.fit(formula, data, engine, seed=1, progress=False, memory_limit="none")
    seconds = time.process_time() - started
    return {"seconds": seconds, "expected": expected, "work": work_of(problem.design)}


def measure(file: Path, engines: list[str]) -> None:
    """Append what is not in the file yet, each fit in a process of its own."""
    known = {(r["engine"], tuple(r["model"])) for r in _read(file)} if file.exists() else set()
    for engine in engines:
        for role, models in (("training", TRAINING), ("test", TEST)):
            for model in models:
                if (engine, model) in known:
                    continue
                command = [sys.executable, "-W", "ignore", "-m", "benchmarks.costs", "one", engine, json.dumps(model)]
                try:
                    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
                    found = json.loads(done.stdout.splitlines()[-1])
                except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
                    stderr = str(getattr(error, "stderr", "") or "").strip().splitlines()
                    found = {"seconds": None, "error": stderr[-1] if stderr else type(error).__name__}
                line = {"engine": engine, "role": role, "model": model, **found}
                with file.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(line) + "\n")
                print(engine, model, found.get("seconds"), found.get("error", ""), file=sys.stderr, flush=True)


def fit(file: Path) -> None:
    """Print the constants of each engine, and how they do on the models that were not used."""
    from unimix.backends.cost import work_of
    from unimix.estimation.arguments import FitArguments

    rows = [r for r in _read(file) if r["seconds"] is not None]
    known: dict[Any, dict[str, float]] = {}
    for r in rows:
        model = tuple(r["model"])
        if model not in known:
            known[model] = work_of(FitArguments().problem(*simulate(model)).design)
        r["work"] = known[model]
    for engine in dict.fromkeys(r["engine"] for r in rows):
        own = [r for r in rows if r["engine"] == engine]
        names = list(own[0]["work"])
        parts = {}
        for role in ("training", "test"):
            here = [r for r in own if r["role"] == role]
            parts[role] = np.array([list(r["work"].values()) for r in here]), np.array([r["seconds"] for r in here])
        work, seconds = parts["training"]
        constants = constants_of(work, seconds)
        said = ", ".join(f"{n}={float(f'{c:.2g}'):g}" for n, c in zip(names, constants, strict=True) if c > 0)
        print(f"{engine}: Pace({said})")
        for role, (work, seconds) in parts.items():
            if not len(seconds):
                continue
            ratio = work @ constants / seconds
            outside = int((np.abs(np.log(ratio)) > np.log(5)).sum())
            print(f"    {role}: {ratio.min():.2f} to {ratio.max():.2f}; {outside} of {len(ratio)} beyond a factor of 5")
            for r, value in zip([r for r in own if r["role"] == role], ratio, strict=True):
                if abs(np.log(value)) > np.log(3):
                    print(f"        {value:.2f}  {r['model']}  {r['seconds']:.2f} s")


def constants_of(work: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Constants c >= 0 that minimise the sum of squares of log(work c / seconds); negligible ones are zero.

    Args:
        work: Units of work of the models, shape (n, k).
        seconds: Measurements, shape (n,).
    """
    from scipy.optimize import least_squares, nnls

    start = np.sqrt(nnls(work / seconds[:, None], np.ones(len(seconds)))[0])
    kept = (work > 0).any(axis=0)
    start = np.where(kept, np.maximum(start, 0.02 / np.sqrt(np.maximum(work.max(axis=0), 1e-12))), 0.0)
    for _ in range(2):
        own = work[:, kept]
        found = least_squares(lambda root, own=own: np.log(own @ root**2 + 1e-9) - np.log(seconds), start[kept])
        start[:] = 0.0
        start[kept] = found.x
        share = work * start**2 / (work @ start**2)[:, None]
        kept &= share.max(axis=0) > 0.1
        start = np.where(kept, start, 0.0)
    return start**2


def _read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def main() -> int:
    """Measure or fit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.costs", description=__doc__)
    parser.add_argument("what", choices=["measure", "fit", "one"])
    parser.add_argument("arguments", nargs="+")
    parser.add_argument("--only", action="append", metavar="ENGINE", default=None)
    chosen = parser.parse_args()
    if chosen.what == "one":
        random, *numbers = json.loads(chosen.arguments[1])
        print(json.dumps(one(chosen.arguments[0], (random, *numbers))))
    elif chosen.what == "measure":
        measure(Path(chosen.arguments[0]), chosen.only or list(ENGINES))
    else:
        fit(Path(chosen.arguments[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
