"""The comparisons: each yields rows of the table."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.cases import case
from benchmarks.measure import Row, Timing, peak, row, side_by_side
from benchmarks.posterior import bambi, posterior
from benchmarks.sides import SIDES


def _repeats(key: str, *, quick: bool) -> int:
    n = len(case(key).data)
    return (5 if quick else 15) if n < 5_000 else 1 if n > 500_000 else 3


def lme4(*, quick: bool) -> Iterator[Row]:
    """A whole call of backend="lme4" against lmer and summary in the same R, on a data frame that is there already."""
    for key in ("sleepstudy", "dietox", *(() if quick else ("rows-10k", "rows-50k", "groups-10k", "rows-1m"))):
        n = len(case(key).data)
        reach = 1.15 if n >= 50_000 else None
        found = row(
            "R: lmer + summary",
            "lme4",
            "R: lmer + summary",
            key,
            repeats=_repeats(key, quick=quick),
            reach=reach,
            memory=n >= 50_000,
            note="no df in either",
        )
        more = 1000 * (statistics.median(found.timing.ours) - statistics.median(found.timing.bare))
        yield replace(found, note=f"{found.note}; {more:+.0f} ms") if n < 5_000 else found
        if n < 500_000:
            yield row(
                "R: lmerTest::lmer + summary",
                "lme4 with df",
                "R: lmerTest + summary",
                key,
                repeats=_repeats(key, quick=quick),
                note="Satterthwaite df in both",
            )


def pls(*, quick: bool) -> Iterator[Row]:
    """A whole call of backend="pls" against lmer alone, in R, on a data frame that is there already."""
    for key in ("sleepstudy", "dietox", "groups-10k", *(() if quick else ("crossed", "rows-1m"))):
        yield row(
            "R: lmer, by `pls`",
            "pls",
            "R: lmer",
            key,
            repeats=1 if key == "crossed" else _repeats(key, quick=quick),
            memory=not quick and len(case(key).data) >= 50_000,
            note="no df in either; unimix with modes and their covariances",
        )


def rust(*, quick: bool) -> Iterator[Row]:
    """Whole calls of the backends glmm, mixedlm and mixedlm_rs against lmer alone, in R, as for `pls`."""
    for key in ("sleepstudy", "dietox", "groups-10k", *(() if quick else ("crossed", "rows-1m"))):
        for side in ("glmm", "mixedlm", *(("mixedlm_rs",) if key != "crossed" else ())):
            yield row(
                f"R: lmer, by `{side}`",
                side,
                "R: lmer",
                key,
                repeats=1 if key == "crossed" else _repeats(key, quick=quick),
                memory=not quick and len(case(key).data) >= 50_000,
                note="no df in either; unimix with modes and their covariances",
            )


def bayes(*, quick: bool) -> Iterator[Row]:
    """A full posterior by backend="bayes" against lmer alone."""
    for key in ("sleepstudy", "dietox", *(() if quick else ("groups-10k",))):
        note = "4,000 draws of all parameters against one estimate"
        reach = 20.0 if key == "groups-10k" else None
        yield row("R: lmer, by `bayes`", "bayes", "R: lmer", key, repeats=3, reach=reach, memory=not quick, note=note)


def pymer4(*, quick: bool) -> Iterator[Row]:
    """Both roads of unimix to lme4 against pymer4's own lmer(...).fit()."""
    for key in ("sleepstudy", "dietox", *(() if quick else ("rows-50k",))):
        n = len(case(key).data)
        repeats = (3 if quick else 7) if n < 5_000 else 2
        for side, reach in (("lme4 with df", 0.2 if n >= 50_000 else 0.1), ("pymer4", 1.1)):
            note = f'unimix: backend="{side.split()[0]}", with modes and Satterthwaite df'
            yield row("pymer4: lmer(...).fit()", side, "pymer4: fit", key, repeats=repeats, reach=reach, note=note)


def statsmodels(*, quick: bool) -> Iterator[Row]:
    """A whole call of backend="statsmodels" against mixedlm(...).fit(), with the log-likelihoods that both reach."""
    for key in ("sleepstudy", "dietox", *(() if quick else ("rows-10k", "groups-10k"))):
        reach = 0.8 if key == "groups-10k" else 1.0 if len(case(key).data) > 1_000 else None
        repeats = 2 if key == "groups-10k" else _repeats(key, quick=quick)
        found = row(
            "statsmodels: mixedlm(...).fit()", "statsmodels", "statsmodels: mixedlm", key, repeats=repeats, reach=reach
        )
        ours = SIDES["statsmodels"](case(key))().log_likelihood
        theirs = float(SIDES["statsmodels: mixedlm"](case(key))().llf)
        told = f"log-likelihood {ours:.3f} against {theirs:.3f}"
        if not math.isclose(ours, theirs, abs_tol=1e-3):
            told += f": the bare call stops {ours - theirs:.2g} short"
        yield replace(found, note=told)


def compare(*, quick: bool) -> Iterator[Row]:
    """um.compare of four engines, certificates included, against the slowest of them alone."""
    for key in ("dietox",) if quick else ("sleepstudy", "dietox"):
        note = "statsmodels, lme4, pymer4 and PyMC, with all certificates"
        yield row('unimix: backend="pymc" alone', "compare", "pymc", key, repeats=3, reach=1.2, note=note)


def design(*, quick: bool) -> Iterator[Row]:
    """Columns of a million rows with factors, their interaction, a polynomial and 50,000 levels; the data's size."""
    if quick:
        return
    c = case("terms-1m")
    call = SIDES["design"](c)
    call()
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    size = float(c.data.memory_usage(deep=True).sum()) / 2**20
    held = peak("design", "terms-1m")
    note = f"seconds against 3 s; memory against the size of the data, {0 if held is None else held / size:.1f} times"
    yield Row(
        "design with factors, interaction and polynomial: 3 s",
        c.name,
        Timing(tuple(seconds), (3.0,) * 3),
        1.0,
        held,
        size,
        note,
    )


def imports(*, quick: bool) -> Iterator[Row]:
    """Importing unimix against importing pandas, and the first fit of a process, each in fresh processes."""
    repeats = 3 if quick else 9
    start = side_by_side(_process("pass"), _process("pass"), repeats)
    empty = statistics.median(start.ours)
    for code, told in (
        ("import unimix", ""),
        ("import unimix; unimix.fit", "what the first fit needs beside an engine"),
    ):
        found = side_by_side(_process(code), _process("import pandas"), repeats)
        less = Timing(tuple(t - empty for t in found.ours), tuple(t - empty for t in found.bare))
        more = statistics.median(less.ours) - statistics.median(less.bare)
        note = " ".join(filter(None, [told, f"{more:+.2f} s (starting Python, {empty:.3f} s, is subtracted)"]))
        yield Row(f"Python: import pandas (`{code}`)", "-", less, note=note)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sleepstudy.csv"
        case("sleepstudy").data.to_csv(path, index=False)
        formula = "Reaction ~ Days + (1 + Days | Subject)"
        # pymer4 imports an R package that only its method .report() uses, and Debian does not have
        bare = f"""
from unimix.backends.r.bridge import placeholder
with placeholder("report"):
    from pymer4.models import lmer
import polars as pl
lmer({formula!r}, pl.read_csv({str(path)!r})).fit()"""
        for backend in ("lme4", "pls"):
            fit = f"unimix.fit({formula!r}, pd.read_csv({str(path)!r}), backend={backend!r})"
            own = f"import pandas as pd; import unimix; {fit}"
            found = side_by_side(_process(own), _process(bare), 2 if quick else 3)
            note = f'whole processes, imports included; unimix: backend="{backend}"'
            yield Row("pymer4: first fit of a process", "sleepstudy, 180 rows", found, 0.2, note=note)


SUITES: dict[str, Callable[..., Iterator[Row]]] = {
    "imports": imports,
    "design": design,
    "statsmodels": statsmodels,
    "lme4": lme4,
    "pls": pls,
    "rust": rust,
    "pymer4": pymer4,
    "bayes": bayes,
    "posterior": posterior,
    "bambi": bambi,
    "compare": compare,
}


def _process(code: str) -> Callable[[], object]:
    def call() -> object:
        return subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True)

    return call
