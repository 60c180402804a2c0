"""Posteriors of generalised models in fresh processes, in CPU seconds: ``python -m benchmarks.posterior_generalised``.

With the arguments SAMPLER CASE SEED it is one of these processes, and prints JSON. Imports are not counted, compilation
is. The first call of a process and a second one are measured; ESS is the smallest bulk effective sample size of fixed
effects, standard deviations, correlations and dispersion parameters.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import unimix as um
from benchmarks.measure import fresh

FITS = {
    "bayes": ("bayes", {}),
    "pymc": ("pymc", {"sampler": "nutpie", "parametrization": "noncentered", "retry": False}),
    "glmer": ("lme4", {}),
}
SAMPLERS = ("bayes", "pymc", "bambi", "glmer")


def cbpp() -> dict[str, Any]:
    """Binomial with 15 herds."""
    data = um.load_dataset("cbpp").assign(y=lambda d: d["incidence"] / d["size"])
    bambi = ("p(incidence, size) ~ period + (1 | herd)", "binomial")
    return {"formula": "y ~ period + (1 | herd)", "data": data, "family": "binomial", "weights": "size", "bambi": bambi}


def grouseticks() -> dict[str, Any]:
    """Poisson with three factors, one of which has a level per row."""
    formula = "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)"
    data = um.load_dataset("grouseticks")
    return {"formula": formula, "data": data, "family": "poisson", "weights": None, "bambi": (formula, "poisson")}


def binary() -> dict[str, Any]:
    """1,000 groups of 10 binary responses."""
    rng = np.random.default_rng(1)
    g, x = np.repeat(np.arange(1000), 10), rng.normal(size=10_000)
    y = rng.binomial(1, 1 / (1 + np.exp(0.5 - x - rng.normal(size=1000)[g])))
    data = pd.DataFrame({"y": y, "x": x, "g": g})
    formula = "y ~ x + (1 | g)"
    return {"formula": formula, "data": data, "family": "binomial", "weights": None, "bambi": (formula, "bernoulli")}


CASES: dict[str, Callable[[], dict[str, Any]]] = {"cbpp": cbpp, "grouseticks": grouseticks, "binary": binary}


def fitted(sampler: str, case: dict[str, Any], seed: int) -> float:
    """Smallest effective sample size of one call; NaN for a likelihood fit."""
    if sampler == "bambi":
        return _bambi(case, seed)
    backend, options = FITS[sampler]
    arguments = {k: case[k] for k in ("family", "weights")}
    fit = um.fit(
        case["formula"], case["data"], backend=backend, options=options, seed=seed, progress=False, **arguments
    )
    return float(fit.status.ess_bulk or np.nan)


def _bambi(case: dict[str, Any], seed: int) -> float:
    import arviz as az
    import bambi as bmb

    formula, family = case["bambi"]
    trace = bmb.Model(formula, case["data"], family=family).fit(random_seed=seed, progressbar=False)
    names = [n for n in trace.posterior.data_vars if "|" not in n or n.endswith("_sigma")]
    sizes = az.ess(trace, var_names=[n for n in names if n not in ("p", "mu")])
    return min(float(sizes[n].min()) for n in sizes.data_vars)


def cpu() -> float:
    """CPU seconds of this process and its children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def one(sampler: str, key: str, seed: int) -> dict[str, float]:
    """CPU seconds of two calls, and the effective sample size of the second."""
    import arviz  # noqa: F401

    if sampler in ("pymc", "bambi"):
        import pymc  # noqa: F401
    if sampler == "glmer":
        um.fit("Reaction ~ 1 + (1 | Subject)", um.load_dataset("sleepstudy"), backend="lme4")
    case, seconds, ess = CASES[key](), [], 0.0
    for call in range(2):
        started = cpu()
        ess = fitted(sampler, case, seed + call)
        seconds.append(cpu() - started)
    return {"first": seconds[0], "second": seconds[1], "ess": ess, "ess per second": ess / seconds[1]}


def main() -> None:
    """One process, or all of them as a table."""
    logging.disable(logging.WARNING)
    if len(sys.argv) > 2:  # SAMPLER CASE SEED
        print(json.dumps(one(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
        return
    wanted = sys.argv[1:] or list(CASES)
    for key in wanted:
        for sampler in SAMPLERS:
            found = fresh("benchmarks.posterior_generalised", sampler, key, "1")
            print(key, sampler, {k: round(v, 2) for k, v in found.items()}, flush=True)


if __name__ == "__main__":
    main()
