"""The comparisons: each yields rows of the table."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import unimix as um
from benchmarks.cases import Case, cases, large_cases
from benchmarks.measure import Row, side_by_side
from unimix.api import DfMethod

RIVALS: tuple[tuple[str, DfMethod], ...] = (("lme4", "normal"), ("lmerTest", "satterthwaite"))


def lme4(*, quick: bool) -> Iterator[Row]:
    """A whole call of backend="lme4" against lmer and summary in the same R, on a data frame that is there already."""
    repeats = 5 if quick else 15
    for c in cases(quick=quick):
        for package, df_method in RIVALS:

            def ours(c: Case = c, df_method: DfMethod = df_method) -> object:
                return um.fit(c.formula, c.data, backend="lme4", df_method=df_method)

            ours()  # starts R
            bare = _r_call(c, f"function() summary({package}::lmer({c.formula}, data))")
            mine, other = side_by_side(ours, bare, repeats)
            told = "Satterthwaite df in both" if package == "lmerTest" else "no df in either"
            yield Row(f"R: {package}::lmer + summary", c.name, mine, other, repeats, told)


def pls(*, quick: bool) -> Iterator[Row]:
    """A whole call of backend="pls" against lmer alone, in R, on a data frame that is there already."""
    small = cases(quick=True)
    um.fit(small[0].formula, small[0].data, backend="lme4")  # starts R
    for c in [*small, *large_cases(quick=quick)]:
        repeats = 7 if len(c.data) < 1000 else 3 if len(c.data) < 70_000 else 1

        def ours(c: Case = c) -> object:
            return um.fit(c.formula, c.data, backend="pls", df_method="normal")

        bare = _r_call(c, f"function() lme4::lmer({c.formula}, data)")
        mine, other = side_by_side(ours, bare, repeats)
        yield Row(
            "R: lme4::lmer", c.name, mine, other, repeats, "no df in either; unimix with modes and their covariances"
        )


def pymer4(*, quick: bool) -> Iterator[Row]:
    """Both roads of unimix to lme4 against pymer4's own lmer(...).fit()."""
    import polars as pl

    repeats = 3 if quick else 5
    for c in cases(quick=quick):
        frame = pl.from_pandas(c.data.assign(**{c.group: c.data[c.group].astype(str)}))
        for backend in ("lme4", "pymer4"):

            def ours(c: Case = c, backend: str = backend) -> object:
                return um.fit(c.formula, c.data, backend=backend)

            if backend == "lme4":
                um.fit(c.formula, c.data, backend="pymer4")  # imports pymer4
            from pymer4.models import lmer

            def bare(c: Case = c, frame: Any = frame, lmer: Any = lmer) -> object:
                return lmer(c.formula, frame).fit()

            mine, other = side_by_side(ours, bare, repeats)
            yield Row("pymer4: lmer(...).fit()", c.name, mine, other, repeats, f'unimix: backend="{backend}"')


def statsmodels(*, quick: bool) -> Iterator[Row]:
    """A whole call of backend="statsmodels" against mixedlm(...).fit(), with the log-likelihoods that both reach."""
    import statsmodels.formula.api as smf

    repeats = 3 if quick else 5
    for c in cases(quick=quick):

        def ours(c: Case = c) -> um.FitResult:
            return um.fit(c.formula, c.data, backend="statsmodels")

        def bare(c: Case = c) -> Any:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return smf.mixedlm(c.fixed, c.data, groups=c.group, re_formula=f"~{c.slope}").fit()

        mine, other = side_by_side(ours, bare, repeats)
        reached, theirs = ours().log_likelihood, float(bare().llf)
        told = f"log-likelihood {reached:.3f} against {theirs:.3f}"
        if not math.isclose(reached, theirs, abs_tol=1e-3):
            told += f": the bare call stops {reached - theirs:.2g} short"
        yield Row("statsmodels: mixedlm(...).fit()", c.name, mine, other, repeats, told)


def posterior(*, quick: bool) -> Iterator[Row]:
    """Seconds per thousand effective draws (the smallest of all parameters) of whole calls: bayes against PyMC."""
    repeats = 1 if quick else 3
    for c in cases(quick=True):

        def per_thousand(backend: str, c: Case = c) -> tuple[float, float]:
            times, sizes = [], []
            for seed in range(1, repeats + 2):  # the first also imports and compiles
                start = time.perf_counter()
                fit = um.fit(c.formula, c.data, backend=backend, seed=seed, progress=False)
                times.append(time.perf_counter() - start)
                sizes.append(float(fit.status.ess_bulk or np.nan))
            rate = [1000 * t / e for t, e in zip(times[1:], sizes[1:], strict=True)]
            return float(np.median(rate)), float(np.median(sizes[1:]))

        (mine, own), (other, theirs) = per_thousand("bayes"), per_thousand("pymc")
        note = f"seconds per 1,000 effective draws; smallest ESS {own:.0f} and {theirs:.0f}, second call of a process"
        yield Row('unimix: backend="pymc", by backend="bayes"', c.name, mine, other, repeats, note)


def imports(*, quick: bool) -> Iterator[Row]:
    """Importing unimix, and reaching its fit, against importing pandas, each in a fresh process."""
    repeats = 5 if quick else 11
    start = _process("pass")
    for code, told in (
        ("import unimix", ""),
        ("import unimix; unimix.fit", "what the first fit needs beside an engine"),
    ):
        mine, other = side_by_side(_process(code), _process("import pandas"), repeats)
        empty, _ = side_by_side(start, start, 3)
        note = " ".join(filter(None, [told, f"(starting Python, {empty:.3f} s, is subtracted)"]))
        yield Row(f"Python: import pandas (`{code}`)", "-", mine - empty, other - empty, repeats, note)


SUITES: dict[str, Callable[..., Iterator[Row]]] = {
    "imports": imports,
    "statsmodels": statsmodels,
    "lme4": lme4,
    "pls": pls,
    "pymer4": pymer4,
    "posterior": posterior,
}


def _process(code: str) -> Callable[[], object]:
    def call() -> object:
        return subprocess.run([sys.executable, "-c", code], check=True)

    return call


def _r_call(c: Case, code: str) -> Callable[[], object]:
    """An R function without arguments, with the case's frame as ``data``; run with R's console silenced."""
    from rpy2 import rinterface

    from unimix.backends.rbridge import quiet_console

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.csv"
        c.data.to_csv(path, index=False)
        make = rinterface.evalr(
            f"function(path) {{ data <- read.csv(path); data${c.group} <- factor(data${c.group}); {code} }}"
        )
        function: Any = make(rinterface.StrSexpVector([str(path)]))

    def call() -> object:
        with quiet_console():
            return function()

    return call
