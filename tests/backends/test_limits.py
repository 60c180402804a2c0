"""A fit ends at its limits and on Ctrl-C, in words, and the session goes on as if nothing had happened."""

from __future__ import annotations

import math
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unimix as um
from unimix.backends import limits
from unimix.backends.limits import Limits
from unimix.backends.time_limits import LimitReached, stopped_by, uncut, undisturbed, within
from unimix.fitted.model import own_refitter

BIG = "y ~ x + (1 + x + z + u | g)"
SMALL = "y ~ x + (1 | g)"
ENGINES = [
    "pls",
    "statsmodels",
    "bayes",
    "mixedlm",
    "mixedlm_rs",
    pytest.param("lme4", marks=pytest.mark.r),
    pytest.param("glmmtmb", marks=pytest.mark.r),
    pytest.param("pymer4", marks=[pytest.mark.r, pytest.mark.slow]),
    pytest.param("pymc", marks=[pytest.mark.mcmc, pytest.mark.slow]),
]

QUICK = ("pls", "mixedlm", "mixedlm_rs")
"""Engines of which none is expected to take less than half of another's time."""


def data(rows: int = 160_000, levels: int = 16_000) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    made = {c: rng.normal(size=rows) for c in "xzu"}
    made["g"] = rng.integers(0, levels, rows)
    made["y"] = made["x"] + rng.normal(size=levels)[made["g"]] + rng.normal(size=rows)
    return made


@pytest.fixture(scope="module")
def large() -> dict[str, Any]:
    """A model of these takes every engine far longer than the limits below."""
    return data()


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    return data(200, 9)


def numbers(fit: um.FitResult) -> list[float]:
    return [*fit.fixed_effects["estimate"], *fit.fixed_effects["std_error"], fit.sigma]


def fit_small(small: dict[str, Any], backend: str) -> list[float]:
    options = {"draws": 100, "tune": 100, "retry": False} if backend == "pymc" else None
    return numbers(um.fit(SMALL, small, backend, seed=1, options=options, progress=False))


def traces() -> tuple[Any, ...]:
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    return signal.getsignal(signal.SIGINT), wakeup, sys.stdout, sys.stderr, np.geterr(), Path.cwd()


def children() -> set[int]:
    """Processes that this one has started."""
    import psutil

    return {c.pid for c in psutil.Process().children() if "resource_tracker" not in " ".join(c.cmdline())}


EARLIER: set[int] = set()
"""Workers that tests of other files keep."""


@pytest.fixture(autouse=True)
def _count_workers() -> None:
    EARLIER.update(children())


def no_strangers() -> bool:
    """No thread of the watchdog or the bridge is left, and no new process."""
    alive = {t.name for t in threading.enumerate()}
    return not children() - EARLIER and not {n for n in alive if n.startswith("unimix-")}


@pytest.mark.parametrize("backend", ENGINES)
def test_a_limit_ends_a_fit_in_words_and_the_session_goes_on(backend: str, large: Any, small: Any) -> None:
    before, kept = fit_small(small, backend), traces()
    with pytest.raises(um.LimitError) as error:
        um.fit(BIG, large, backend, time_limit=0.2, seed=1, progress=False)
    told = str(error.value)
    assert error.value.kind == "time"
    assert told.startswith(f"{backend} was stopped at time_limit=0.2 (seconds): y ~ 1 + x + (1 + x + z + u | g), with ")
    assert "160,000 rows, " in told
    assert " levels of g, 13 parameters. Type:\n" in told
    assert f"um.fit(..., backend={backend!r}, time_limit=0.8)" in told
    assert ("um.fit(..., backend='pls')    # quicker: " in told) == (backend not in QUICK)
    assert traces() == kept
    assert fit_small(small, backend) == before
    assert no_strangers()


# rpy2 3.6 lets KeyboardInterrupt fall out of a callback, which Python reports and drops
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("backend", ENGINES)
def test_ctrl_c_goes_through_and_the_session_goes_on(backend: str, large: Any, small: Any) -> None:
    before, kept = fit_small(small, backend), traces()
    # The design takes some time to build; the engine is at work when the signal comes.
    started = threading.Event()

    def press() -> None:
        started.wait()
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    finger = threading.Thread(target=press)
    finger.start()
    from unimix.backends import registry
    from unimix.estimation.arguments import FitArguments
    from unimix.estimation.run import fit_problem

    problem = FitArguments(seed=1, progress=False).problem(BIG, large)
    engine = registry.resolve(backend)
    started.set()
    with pytest.raises(KeyboardInterrupt):
        fit_problem(engine, problem)
    finger.join()
    assert traces() == kept
    assert fit_small(small, backend) == before
    assert no_strangers()


@pytest.mark.parametrize("backend", ["pls", "bayes", pytest.param("lme4", marks=pytest.mark.r)])
def test_limits_hold_in_other_threads(backend: str, large: Any, small: Any) -> None:
    def run(limit: float) -> str:
        try:
            um.fit(BIG, large, backend, time_limit=limit, seed=1)
        except um.LimitError as error:
            return error.kind
        return ""

    before = fit_small(small, backend)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, [0.2, 0.3])) == ["time", "time"]
        assert pool.submit(fit_small, small, backend).result() == before
    assert no_strangers()


@pytest.mark.mcmc
@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["pymc", "nutpie"])
def test_samplers_leave_no_processes_behind_and_hide_no_interrupt(sampler: str) -> None:
    """PyMC itself takes Ctrl-C for "draws enough" and returns those it has."""
    options = {"sampler": sampler, "cores": 2, "chains": 2, "draws": 100_000, "tune": 200}
    with pytest.raises(um.LimitError, match=r"^pymc was stopped at time_limit=8 "):
        um.fit(SMALL, data(500, 20), "pymc", options=options, seed=1, time_limit=8, progress=False)
    timer = threading.Timer(8, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        um.fit(SMALL, data(500, 20), "pymc", options=options, seed=1, progress=False)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert no_strangers()


def test_wrong_limits_are_answered_with_the_other_faults() -> None:
    with pytest.raises(um.OptionError) as error:
        um.fit(SMALL, data(200, 9), time_limit=-1, memory_limit="8 apples", ci_level=2)  # type: ignore[arg-type]
    assert [line.split("=")[0] for line in str(error.value).splitlines()] == ["ci_level", "time_limit", "memory_limit"]
    assert "'8 GB'" in str(error.value)
    with pytest.raises(um.OptionError, match=r"memory_limit=8: that is 8 bytes, and no engine fits into them"):
        um.compare(SMALL, data(200, 9), memory_limit=8)


@pytest.mark.parametrize(
    ("text", "size"),
    [("8 GB", 8e9), ("1.5gib", 1.5 * 2**30), ("500M", 5e8), (2_000_000_000, 2e9), ("none", math.inf), (None, None)],
)
def test_sizes_are_read(text: Any, size: float | None) -> None:
    assert limits.read_memory(text) == (size, [])


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("30 s", 30), ("5min", 300), ("1.5 h", 5400), ("0:02:00", 120), (timedelta(minutes=2), 120), (0.5, 0.5)],
)
def test_times_are_read(value: Any, seconds: float) -> None:
    assert limits.read_time(value) == (seconds, [])


@pytest.mark.parametrize("value", [0, -3, math.inf, math.nan, "30", "-5 s", "soon", "NaT", True, timedelta(0)])
def test_times_that_are_none_are_refused(value: Any) -> None:
    seconds, faults = limits.read_time(value)
    assert seconds is None
    assert faults[0].startswith("time_limit=")


def spin(seconds: float) -> str:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return "done"


def trials(count: int) -> tuple[int, int]:
    """Limits about as long as the work itself: how often the work ended, and how often it was stopped."""
    rng, ended, stopped = random.Random(1), 0, 0
    for _ in range(count):
        try:
            assert within(Limits(0.002), lambda: spin(rng.uniform(0.0015, 0.0025))) == "done"
            ended += 1
        except LimitReached as reached:
            stopped += reached.kind == "time"
        spin(0.0003)  # an interruption that comes too late would land here
    return ended, stopped


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """A thread that waits for its turn gets it at once.

    Python's own interval of 5 ms is longer than the work of 2 ms: Python 3.13 hardly ever lets the watching thread in
    before the work has ended, Python 3.11 in 1 of 60 trials.
    """
    former = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(former)


@pytest.mark.usefixtures("eager_threads")
def test_no_interruption_comes_late() -> None:
    ended, stopped = trials(600)
    assert ended > 5
    assert stopped > 5
    with ThreadPoolExecutor(4) as pool:
        for ended, stopped in pool.map(trials, [100] * 4):
            assert ended + stopped == 100
    assert no_strangers()


def test_an_interruption_that_is_swallowed_is_sent_again() -> None:
    def stubborn() -> None:
        for _ in range(3):
            try:
                spin(5)
            except BaseException:  # noqa: BLE001  as engines do
                continue

    started = time.perf_counter()
    with pytest.raises(LimitReached):
        within(Limits(0.05), stubborn)
    assert time.perf_counter() - started < 4


def test_limits_within_limits() -> None:
    def inner(seconds: float) -> str:
        try:
            return within(Limits(seconds), lambda: spin(5))
        except LimitReached as reached:
            return f"inner {reached.kind}"

    assert within(Limits(4), lambda: inner(0.05)) == "inner time"
    with pytest.raises(LimitReached):
        within(Limits(0.05), lambda: inner(4))
    assert within(Limits(2), lambda: spin(0.01)) == "done"


def test_what_puts_things_back_is_not_cut_off() -> None:
    done = []

    def work() -> None:
        with undisturbed():
            spin(0.2)
            done.append("put back")
        done.append("never")

    with pytest.raises(LimitReached):
        within(Limits(0.05), work)
    assert done == ["put back"]


def test_a_hook_stops_what_python_cannot() -> None:
    ended = threading.Event()

    def hook() -> bool:
        ended.set()
        return True

    def work() -> None:
        with stopped_by(hook):
            ended.wait(20)  # no exception is raised in a thread that waits

    started = time.perf_counter()
    with pytest.raises(LimitReached):
        within(Limits(0.05), work)
    assert time.perf_counter() - started < 15


def test_memory_is_watched() -> None:
    def hoard() -> None:
        kept = []
        for _ in range(200):
            kept.append(np.ones(1_000_000))
            spin(0.01)

    with pytest.raises(LimitReached) as error:
        within(Limits(memory=100e6), hoard)
    assert error.value.kind == "memory"


def test_packages_are_loaded_whole() -> None:
    """Cut off in the middle, PyMC cannot be imported again in the same process."""
    heard: list[str] = []

    def press() -> None:
        with uncut():
            os.kill(os.getpid(), signal.SIGINT)
            spin(0.05)
            heard.append("whole")

    with pytest.raises(KeyboardInterrupt):
        press()
    assert heard == ["whole"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("ignored", [False, True])
def test_limits_need_no_signals(ignored: bool) -> None:
    """SIGINT is ignored in background jobs, and may be anybody's."""
    code = f"""
import signal, sys
sys.path.insert(0, "tests/backends")
if {ignored}: signal.signal(signal.SIGINT, signal.SIG_IGN)
from test_limits import BIG, data
import unimix as um
try: um.fit(BIG, data(), "pls", time_limit=0.2)
except um.LimitError as error: print(error.kind)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["time"], done.stderr


def test_compare_keeps_the_column_of_an_engine_that_was_stopped(large: Any) -> None:
    found = um.compare(BIG, large, backends=["pls", "statsmodels"], time_limit=0.2, df_method="normal")
    assert "LimitError" in str(found)


def _job(arguments: tuple[dict[str, Any], float]) -> float:
    return um.fit(SMALL, arguments[0], "pls", time_limit=arguments[1]).log_likelihood


def test_limits_go_with_everything_that_fits_again(small: Any) -> None:
    from unimix.parallel.jobs import run_jobs

    fit = um.fit(SMALL, small, "pls", time_limit=60, memory_limit="2 GB")
    assert own_refitter(fit).limits == Limits(None, 2e9)  # type: ignore[union-attr]
    assert fit.bootstrap(n=4, seed=1, progress=False)
    pytest.importorskip("joblib")
    there = run_jobs(_job, [(small, 60.0)] * 2, n_jobs=2, progress=False, title="")
    assert there == [fit.log_likelihood] * 2
    with pytest.raises(um.LimitError, match="time_limit"):
        run_jobs(_job, [(data(), 0.01)], n_jobs=2, progress=False, title="")


def test_the_error_travels() -> None:
    error = pickle.loads(pickle.dumps(um.LimitError("pls was stopped", "time")))
    assert (str(error), error.kind) == ("pls was stopped", "time")
    assert isinstance(error, um.FitError)
