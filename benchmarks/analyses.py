"""What is asked of a fit, against the bare arithmetic: ``python -m benchmarks.analyses``.

Ratios of CPU seconds in one run, in turn, each the smallest of five; run with one BLAS thread. Predictions of 100,000
rows are compared with NumPy's ``X beta + Z b``, the multivariate t with SciPy's integral, a design of a million rows
with the codes of its levels by pandas, and case influence of 10,000 rows with the fit itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

import unimix as um
from unimix.design.design import build_design
from unimix.formula.interpreter import parse
from unimix.stats.multiplicity import adjusted_p_values, critical_value

REPEATS = 5


def cpu(call: Callable[[], Any], repeats: int = REPEATS) -> float:
    """CPU seconds of a call, the smallest of some."""
    found = []
    for _ in range(repeats):
        started = time.process_time()
        call()
        found.append(time.process_time() - started)
    return min(found)


def report(what: str, ours: Callable[[], Any], bare: Callable[[], Any], repeats: int = REPEATS) -> None:
    """Print one line of the table."""
    a, b = cpu(ours, repeats), cpu(bare, repeats)
    print(f"| {what} | {1000 * a:.2f} | {1000 * b:.2f} | {a / b:.2f} |", flush=True)


def predictions() -> None:
    """100,000 rows in 5,000 groups with random slopes."""
    rng = np.random.default_rng(1)
    n, levels = 100_000, 5_000
    g, x = rng.integers(0, levels, n), rng.normal(size=n)
    b = rng.normal(size=(levels, 2))
    data = pd.DataFrame({"x": x, "g": g, "y": x + b[g, 0] + 0.5 * b[g, 1] * x + rng.normal(size=n)})
    fit = um.fit("y ~ x + (1 + x | g)", data, "pls")
    new = data.sample(n, random_state=2)
    beta, modes = fit.fixed_effects["estimate"].to_numpy(), fit.group_effects["g"].to_numpy()
    code, value = new["g"].to_numpy(), new["x"].to_numpy()

    def bare() -> Any:
        columns = np.column_stack([np.ones(n), value])
        return columns @ beta + np.einsum("nq,nq->n", columns, modes[code])

    report("predict", lambda: fit.predict(new), bare)
    report("predict(interval='prediction')", lambda: fit.predict(new, interval="prediction"), bare)
    report("residuals", fit.residuals, bare)
    report("augment", fit.augment, bare)


def multiplicity() -> None:
    """Adjusted p values and a critical value of four contrasts, against two of SciPy's integrals."""
    correlation = np.full((4, 4), 0.41) + 0.59 * np.eye(4)

    def ours() -> None:
        adjusted_p_values("mvt", np.array([1.0, 1.8, 2.5, 3.0]), np.array([55.0, 56.0, 57.0, 60.0]), correlation, 4)
        critical_value("mvt", 0.95, 55.0, correlation, 4)

    report(
        "multivariate t: four p values and a critical value (other: one integral of SciPy)",
        ours,
        lambda: stats.multivariate_t(shape=correlation, df=55).cdf(np.full(4, 2.5), lower_limit=np.full(4, -2.5)),
    )


def designs() -> None:
    """A small design, and one of a million rows."""
    rng = np.random.default_rng(2)
    n = 1_000_000
    columns = {"y": rng.normal(size=n), "x": rng.normal(size=n), "f": rng.choice(list("abc"), n)}
    large = pd.DataFrame({**columns, "g": rng.integers(0, 50_000, n).astype(str).astype(object)})
    model = parse("y ~ x * f + (x | g)")
    report(
        "design of 1,000,000 rows (other: pandas.factorize of its two text columns)",
        lambda: build_design(model, large),
        lambda: (pd.factorize(large["g"], sort=True), pd.factorize(large["f"], sort=True)),
        2,
    )


def influence() -> None:
    """10,000 rows in 1,000 and 500 crossed levels, against one fit."""
    rng = np.random.default_rng(4)
    n = 10_000
    data = pd.DataFrame({"x": rng.normal(size=n), "g": rng.integers(0, 1000, n), "h": rng.integers(0, 500, n)})
    data["y"] = data["x"] + rng.normal(size=1000)[data["g"]] + rng.normal(size=500)[data["h"]] + rng.normal(size=n)

    def fitted() -> um.FitResult:
        return um.fit("y ~ x + (1 | g) + (1 | h)", data.astype({"g": str, "h": str}), "pls", df_method="normal")

    fit = fitted()
    for by in (None, "g", "h"):
        report(f"influence({by!r})", lambda by=by: fit.influence(by), fitted, 1)


def main() -> None:
    """Print the table."""
    print("| what | unimix, ms | other, ms | ratio |\n|---|---:|---:|---:|")
    predictions()
    multiplicity()
    designs()
    influence()


if __name__ == "__main__":
    main()
