"""A refit of a bootstrap, a power simulation and a profile against lme4: ``python -m benchmarks.refits``.

CPU seconds of a replicate, in one process, in turn; run with one BLAS thread. lme4 draws and refits with ``bootMer``;
for the crossed generalised model a refit is compared with ``glmer`` on the same response.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import unimix as um
from benchmarks.cases import Case, case
from benchmarks.sides import r_call

CROSSED = "y ~ x + (1 | g) + (1 | h)"
BOOT = "lme4::bootMer(m, function(m) c(lme4::fixef(m), m@theta), 60)"
QUIET: dict[str, Any] = {"seed": 1, "n_jobs": 1, "progress": False}
REPEATS = 3


def crossed() -> Case:
    """A binary response of 16 x 16 crossed levels."""
    rng = np.random.default_rng(5)
    g, h = np.divmod(np.arange(256), 16)
    x = rng.normal(size=256)
    eta = 0.5 * x + 0.8 * rng.normal(size=16)[g] + 0.6 * rng.normal(size=16)[h]
    data = pd.DataFrame({"y": rng.binomial(1, 1 / (1 + np.exp(-eta))), "x": x, "g": g, "h": h})
    return Case("crossed binomial, 256 rows", CROSSED, "y ~ x", "x", ("g", "h"), data)


def cpu(call: Callable[[], Any]) -> float:
    """CPU seconds of a call."""
    started = time.process_time()
    call()
    return time.process_time() - started


def main() -> None:
    """Print the ratios."""
    sleep, binary = case("sleepstudy"), crossed()
    fit = um.fit(sleep.formula, sleep.data, "pls")
    glmm = um.fit(CROSSED, binary.data, "pls", family="binomial")
    lmer = f"m <- lme4::lmer({sleep.formula}, data); function()"
    glmer = f"lme4::glmer({CROSSED}, data, family = binomial)"
    rows: list[tuple[str, Callable[[], Any], int, Callable[[], Any], int]] = [
        (
            "bootstrap, sleepstudy: bootMer",
            lambda: fit.bootstrap(200, **QUIET),
            200,
            r_call(sleep, f"{lmer} {BOOT}"),
            60,
        ),
        (
            "power, sleepstudy: bootMer",
            lambda: um.power(fit, "Days", n_sim=60, **QUIET),
            60,
            r_call(sleep, f"{lmer} {BOOT}"),
            60,
        ),
        (
            "bootstrap, crossed binomial of 256 rows: glmer",
            lambda: glmm.bootstrap(40, **QUIET),
            40,
            r_call(binary, f"function() {glmer}"),
            1,
        ),
        (
            "power, crossed binomial of 256 rows: glmer",
            lambda: um.power(glmm, "x", n_sim=20, **QUIET),
            20,
            r_call(binary, f"function() {glmer}"),
            1,
        ),
        (
            "profile intervals, sleepstudy: confint",
            lambda: um.fit(sleep.formula, sleep.data, "pls").confint("profile", n_jobs=1),
            1,
            r_call(sleep, f"{lmer} confint(m, method = 'profile', quiet = TRUE)"),
            1,
        ),
    ]
    print("| a replicate of | unimix, ms | lme4, ms | ratio |\n|---|---:|---:|---:|")
    for name, ours, n, theirs, m in rows:
        ours(), theirs()
        pairs = [(cpu(ours) / n, cpu(theirs) / m) for _ in range(REPEATS)]
        a, b = (1000 * statistics.median(side) for side in zip(*pairs, strict=True))
        print(f"| {name} | {a:.1f} | {b:.1f} | {statistics.median(x / y for x, y in pairs):.2f} |", flush=True)


if __name__ == "__main__":
    main()
