"""One posterior in a fresh process: ``python -m benchmarks.posterior_run SAMPLER CASE SEED``; prints JSON.

The first call builds, compiles and samples; the second finds in memory what can be kept. Imports are not counted.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import unimix as um
from benchmarks.cases import Case, case

Found = tuple[float, float]
"""Smallest bulk effective sample size of fixed effects, variances and correlations; seconds of sampling alone."""


def unimix(backend: str) -> Callable[[Case, int], Found]:
    """``um.fit`` at its defaults."""

    def run(c: Case, seed: int) -> Found:
        formula = c.formula.replace(" | ", " || ") if backend == "bambi" else c.formula
        fit = um.fit(formula, c.data, backend=backend, seed=seed, progress=False)
        return float(fit.status.ess_bulk or np.nan), float(fit.posterior.posterior.attrs["sampling_time"])

    return run


def bambi(sampler: str) -> Callable[[Case, int], Found]:
    """Bambi at its defaults, priors and all; its random effects are independent."""

    def run(c: Case, seed: int) -> Found:
        import bambi as bmb

        more = {"inference_method": sampler} if sampler != "pymc" else {}
        trace = bmb.Model(c.formula, c.data).fit(random_seed=seed, progressbar=False, **more)
        names = [n for n in trace.posterior.data_vars if "|" not in n or n.endswith("_sigma")]
        return _least(trace, names)

    return run


def written(sampler: str) -> Callable[[Case, int], Found]:
    """The model as articles write it in PyMC: LKJ prior, effects scaled from standard normal ones, defaults."""

    def run(c: Case, seed: int) -> Found:
        import pymc as pm

        codes, levels = c.data[c.group].factorize()
        x = c.data[c.slope].to_numpy(dtype=float)
        y = c.data[c.fixed.split(" ~ ")[0]].to_numpy(dtype=float)
        with pm.Model():
            beta = pm.Normal("beta", [y.mean(), 0.0], 2.5 * y.std() * np.array([1.0, 1.0 / x.std()]), shape=2)
            chol, _, _ = pm.LKJCholeskyCov("cov", n=2, eta=2.0, sd_dist=pm.Exponential.dist(1.0 / y.std(), size=2))
            z = pm.Normal("z", 0.0, 1.0, shape=(2, len(levels)))
            b = (chol @ z).T
            sigma = pm.Exponential("sigma", 1.0 / y.std())
            pm.Normal("y", beta[0] + b[codes, 0] + (beta[1] + b[codes, 1]) * x, sigma, observed=y)
            trace = pm.sample(random_seed=seed, progressbar=False, nuts_sampler=sampler)
        trace.posterior["correlation"] = trace.posterior["cov_corr"][:, :, 0, 1]
        return _least(trace, ["beta", "cov_stds", "correlation", "sigma"])

    return run


def _least(trace: Any, names: list[str]) -> Found:
    import arviz as az

    sizes = az.ess(trace, var_names=names)
    return min(float(sizes[n].min()) for n in names), float(trace.posterior.attrs.get("sampling_time", np.nan))


SAMPLERS: dict[str, Callable[[Case, int], Found]] = {
    "pymc": unimix("pymc"),
    "bayes": unimix("bayes"),
    "bambi by unimix": unimix("bambi"),
    "bambi": bambi("pymc"),
    "bambi with nutpie": bambi("nutpie"),
    "written by hand": written("pymc"),
    "by hand with nutpie": written("nutpie"),
}


def main() -> None:
    """Two calls, the first with compilation."""
    sampler, key, seed = sys.argv[1:]
    logging.disable(logging.WARNING)
    c, run = case(key), SAMPLERS[sampler]
    import arviz  # noqa: F401
    import pymc  # noqa: F401

    if sampler.startswith("bambi"):
        import bambi  # noqa: F401
    if "nutpie" in sampler:
        import nutpie  # noqa: F401
    started = time.perf_counter()
    size, sampling = run(c, int(seed))
    first = time.perf_counter() - started
    again = None
    if sampler in ("pymc", "bayes"):
        started = time.perf_counter()
        run(c, int(seed) + 1000)
        again = time.perf_counter() - started
    print(json.dumps({"ess": size, "whole": first, "again": again, "sampling": sampling}))


if __name__ == "__main__":
    main()
