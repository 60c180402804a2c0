"""Whole calls of pls on the reference cases against bare lme4: `python -m benchmarks.small_models` (needs R and lme4).

One process holds both: ``um.fit(..., backend="pls")`` with its tables and Satterthwaite's degrees of freedom, and
``summary(lmer(...))`` or ``summary(glmer(...))`` on a data frame that R holds already. They run in turn; the medians of
the ratios are printed, in CPU seconds (of all threads) and in wall time, with as many BLAS threads as the process has.
Set OPENBLAS_NUM_THREADS for another number.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

import unimix as um

FOLDER = Path(__file__).parents[1] / "tests" / "data" / "gold"


def mixed_cases() -> list[dict[str, Any]]:
    """Definitions of the mixed reference cases."""
    cases = json.loads((FOLDER / "cases.json").read_text(encoding="utf-8"))["cases"]
    return [c for c in cases if c["model_type"] in ("lmm", "glmm")]


def of_unimix(case: dict[str, Any], data: pd.DataFrame) -> Callable[[], object]:
    """The whole call."""
    given: dict[str, Any] = {"family": case["family"]}
    given |= {role: case[role]["column"] for role in ("weights", "offset") if case[role]}
    if case["family"] == "gaussian":
        given["method"] = "ML" if case["reml"] is False else "REML"

    def run() -> object:
        fit = um.fit(case["formula"], data, "pls", **given)
        return fit.fixed_effects, fit.variance_components

    return run


def of_r(case: dict[str, Any], data: pd.DataFrame) -> Callable[[], object]:
    """``summary`` of the bare fit, on R's own data frame."""
    from rpy2 import rinterface

    from unimix.backends.r.bridge import quiet_console

    factors = "".join(f"d${f['name']} <- factor(d${f['name']}); " for f in case["factors"])
    groups = {r["group"] for r in case["reference"]["random"]} & set(data.columns)
    factors += "".join(f"d${g} <- factor(d${g}); " for g in groups)
    more = "".join(f", {role} = {case[role]['column']}" for role in ("weights", "offset") if case[role])
    if case["family"] == "gaussian":
        call = f"lme4::lmer({case['formula']}, d, REML = {'FALSE' if case['reml'] is False else 'TRUE'}{more})"
    else:
        call = f"lme4::glmer({case['formula']}, d, family = {case['family']}{more})"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.csv"
        data.to_csv(path, index=False)
        made = rinterface.evalr(
            f"function(path) {{ d <- read.csv(path); {factors} "
            f"function() suppressWarnings(suppressMessages({{ m <- {call}; summary(m) }})) }}"
        )
        function: Any = made(rinterface.StrSexpVector([str(path)]))

    def run() -> object:
        with quiet_console():
            return function()

    return run


def seconds(call: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds of one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.small_models", description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", action="append", help="a case by its id; may be repeated")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"), backend="lme4")  # starts R
    ratios = []
    print("| case | pls, CPU ms | R, CPU ms | CPU ratio | wall ratio |\n|---|---:|---:|---:|---:|")
    for case in mixed_cases():
        if asked.only and case["id"] not in asked.only:
            continue
        if not (FOLDER / case["data_file"]).is_file():  # fetched by the tests only
            continue
        data = pd.read_csv(FOLDER / case["data_file"])
        data = data.astype({f["name"]: str for f in case["factors"]})
        ours, bare = of_unimix(case, data), of_r(case, data)
        try:
            bare()
        except Exception as error:  # noqa: BLE001  R says why, and the next case goes on
            print(f"| {case['id']} | R: {str(error).strip().splitlines()[-1][:60]} | | | |")
            continue
        ours()
        pairs = [(seconds(ours), seconds(bare)) for _ in range(asked.repeats)]
        cpu = statistics.median(a[0] / b[0] for a, b in pairs)
        wall = statistics.median(a[1] / b[1] for a, b in pairs)
        ratios.append(cpu)
        own, other = (1e3 * statistics.median(p[i][0] for p in pairs) for i in (0, 1))
        print(f"| {case['id']} | {own:.1f} | {other:.1f} | {cpu:.2f} | {wall:.2f} |", flush=True)
    if ratios:
        print(f"\nCPU ratio: median {statistics.median(ratios):.2f}, largest {max(ratios):.2f}")


if __name__ == "__main__":
    main()
