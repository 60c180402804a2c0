"""A fit ends at its limits and on Ctrl-C, in words, and the session goes on as if nothing had happened."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from engines import LINEAR

import unimix as um
from unimix.backends import limits
from unimix.backends.cost import UNKNOWN, Cost
from unimix.backends.interface import FitRequest, Problem
from unimix.backends.interrupts import keep_interrupts, shield_interrupts
from unimix.backends.limits import Limits
from unimix.backends.pls import Pls
from unimix.design.arrays import Design
from unimix.design.estimates import Estimates
from unimix.fitted.model import own_refitter
from unimix.parallel.limited import end_idle

BIG = "y ~ x + z + u + (1 + x + z + u | g)"
SMALL = "y ~ x + (1 | g)"
ENGINES = [
    pytest.param(name, marks=pytest.mark.slow) if name in ("pymer4", "pymc") else name
    for name in LINEAR
    if name != "bambi"
]

QUICK = ("pls", "glmm", "mixedlm", "mixedlm_rs", "nlme")
"""Engines of which none is expected to take less than half of another's time; nlme has no estimate of its time."""


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
    options = {"sampler": "pymc", "cores": 1, "draws": 100, "tune": 100, "retry": False} if backend == "pymc" else None
    return numbers(um.fit(SMALL, small, backend, seed=1, options=options, progress=False))


def traces() -> tuple[Any, ...]:
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    return signal.getsignal(signal.SIGINT), wakeup, sys.stdout, sys.stderr, np.geterr(), Path.cwd()


def children() -> set[int]:
    """Processes that this one has started and that have not ended."""
    import psutil

    found = set()
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.ZombieProcess, psutil.NoSuchProcess):
            if "resource_tracker" not in " ".join(child.cmdline()):
                found.add(child.pid)
    return found


EARLIER: set[int] = set()
"""Workers that tests of other files keep."""


@pytest.fixture(autouse=True)
def _count_workers() -> None:
    EARLIER.update(children())


def no_strangers() -> bool:
    """No thread of a limit or of the bridge is left, and no new process, once the one that waits for work is ended."""
    end_idle()
    deadline = time.monotonic() + 20.0  # processes that were told to end take a while on a busy machine
    while (left := children() - EARLIER) and time.monotonic() < deadline:
        time.sleep(0.1)
    alive = {t.name for t in threading.enumerate()}
    return not left and not {n for n in alive if n.startswith("unimix-")}


@pytest.mark.parametrize("backend", ENGINES)
def test_a_limit_ends_a_fit_in_words_and_the_session_goes_on(backend: str, large: Any, small: Any) -> None:
    before, kept = fit_small(small, backend), traces()
    with pytest.raises(um.LimitError) as error:
        um.fit(BIG, large, backend, time_limit=0.2, seed=1, progress=False)
    told = str(error.value)
    assert error.value.kind == "time"
    assert told.startswith(
        f"{backend} was stopped at time_limit=0.2 (seconds): y ~ 1 + x + z + u + (1 + x + z + u | g), with "
    )
    assert "160,000 rows, " in told
    assert " levels of g, 15 parameters. Type:\n" in told
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
    with pytest.raises(um.OptionError, match=r"memory_limit=8: that is 8 bytes, too little for any engine"):
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


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_packages_are_loaded_whole() -> None:
    """Cut off in the middle, PyMC cannot be imported again in the same process."""
    heard: list[str] = []

    def press() -> None:
        with shield_interrupts():
            os.kill(os.getpid(), signal.SIGINT)
            spin(0.05)
            heard.append("whole")

    with pytest.raises(KeyboardInterrupt):
        press()
    assert heard == ["whole"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Dropping:
    """An object at whose end Python drops every exception."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        spin(0.05)


class Renamed(BaseException):
    """What Ctrl-C raises beside packages that catch KeyboardInterrupt."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_is_dropped_comes_again() -> None:
    reached: list[str] = []

    def press() -> None:
        with keep_interrupts() as raise_dropped:
            Dropping()
            reached.append("dropped")
            raise_dropped()
            reached.append("not here")

    with pytest.raises(KeyboardInterrupt):
        press()
    assert reached == ["dropped"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_has_another_name_in_the_block_only() -> None:
    names: list[str] = []

    def press() -> None:
        with keep_interrupts(Renamed):
            try:
                os.kill(os.getpid(), signal.SIGINT)
                spin(0.05)
            except BaseException as error:
                names.append(type(error).__name__)
                raise

    with pytest.raises(KeyboardInterrupt):
        press()
    assert names == ["Renamed"]


def test_a_handler_that_raises_nothing_is_left_alone() -> None:
    heard: list[int] = []
    former = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        with keep_interrupts():
            os.kill(os.getpid(), signal.SIGINT)
            spin(0.05)
    finally:
        signal.signal(signal.SIGINT, former)
    assert heard == [signal.SIGINT]


def test_compiled_code_is_ended(large: Any) -> None:
    """One factorisation of a dense matrix of 7,900 rows never looks up: no exception and no signal reaches it."""
    rng = np.random.default_rng(0)
    crossed = {"g": rng.integers(0, 60_000, 160_000), "h": rng.integers(0, 7_900, 160_000), "y": large["y"]}
    started = time.perf_counter()
    with pytest.raises(um.LimitError, match=r"^pls was stopped at time_limit=3 "):
        um.fit("y ~ 1 + (1 | g) + (1 | h)", crossed, "pls", time_limit=3, memory_limit="none")
    assert time.perf_counter() - started < 30
    assert no_strangers()


def test_memory_is_watched_while_compiled_code_runs() -> None:
    rng = np.random.default_rng(0)
    crossed = {
        "g": rng.integers(0, 60_000, 160_000),
        "h": rng.integers(0, 7_900, 160_000),
        "y": rng.normal(size=160_000),
    }

    class Careless(Pls):
        """An engine that does not know what it will need."""

        def cost(self, design: Design, request: FitRequest) -> Cost:
            return UNKNOWN

    with pytest.raises(um.LimitError, match=r"^pls was stopped at memory_limit='300 MB'") as error:
        um.fit("y ~ 1 + (1 | g) + (1 | h)", crossed, Careless, memory_limit="300 MB")
    assert error.value.kind == "memory"


def test_a_script_needs_no_guard_and_no_signal(tmp_path: Path) -> None:
    """The script itself is not run again, and SIGINT, which background jobs ignore, is not needed."""
    script = tmp_path / "script.py"
    script.write_text(
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "print('once', flush=True)\n"
        "import unimix as um\n"
        "from unimix.backends.pls import Pls\n"
        "class Mine(Pls): pass\n"
        "from test_limits import BIG, SMALL, data\n"
        "print(um.fit(SMALL, data(200, 9), Mine(), time_limit=60).converged)\n"
        "try: um.fit(BIG, data(), Mine(), time_limit=0.2)\n"
        "except um.LimitError as error: print(error.kind)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
    command = [sys.executable, "-W", "ignore", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.split() == ["once", "True", "time"], done.stderr
    assert not done.stderr


def test_ctrl_c_ends_a_fit_with_a_limit(large: Any) -> None:
    timer = threading.Timer(4, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        um.fit(BIG, large, "statsmodels", time_limit=600, df_method="normal")
    assert no_strangers()


@pytest.mark.parametrize("backend", ENGINES)
def test_a_fit_within_its_limits_is_the_same_fit(backend: str, small: Any) -> None:
    options = {"sampler": "pymc", "cores": 1, "draws": 100, "tune": 100, "retry": False} if backend == "pymc" else None
    plain, limited = (
        um.fit(SMALL, small, backend, seed=1, options=options, progress=False, **limits)
        for limits in ({}, {"time_limit": 600, "memory_limit": "4 GB"})
    )
    assert numbers(limited) == numbers(plain)
    assert limited.notes == plain.notes
    assert limited.engine.versions == plain.engine.versions
    assert limited.log_likelihood == plain.log_likelihood or backend in ("bayes", "pymc")
    np.testing.assert_array_equal(limited.predict(small), plain.predict(small))
    if backend in ("bayes", "pymc"):
        assert limited.posterior.posterior.equals(plain.posterior.posterior)
    if backend == "pymc":  # the model is written anew when it is asked for
        assert {v.name for v in limited.native.free_RVs} == {v.name for v in plain.native.free_RVs}
        assert limited.prior_predictive(3, seed=1).shape == (3, 200)
    else:
        with pytest.raises(um.UnimixError, match=r"time_limit= or memory_limit= .* Fit without limits to keep it"):
            _ = limited.native


def test_the_process_is_kept_for_the_next_fit(small: Any) -> None:
    end_idle()
    first = um.fit(SMALL, small, "pls", time_limit=60)
    waiting = children() - EARLIER
    second = um.fit(SMALL, small, "pls", time_limit=60)
    assert len(waiting) == 1
    assert children() - EARLIER == waiting
    assert second.engine.seconds["load"] < first.engine.seconds["load"] / 5
    os.kill(next(iter(waiting)), signal.SIGKILL)  # as if its time had come
    assert um.fit(SMALL, small, "pls", time_limit=60).converged
    assert no_strangers()


def test_errors_of_the_process_are_errors_here(small: Any) -> None:
    class Wrong(Pls):
        def _fit(self, engine: ModuleType, problem: Problem) -> Estimates:
            raise ZeroDivisionError("of its own")

    class Crash(Pls):
        def _fit(self, engine: ModuleType, problem: Problem) -> Estimates:
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

    class Foreign(Pls):
        held: Any = None

    with pytest.raises(um.FitError, match=r"^pls failed on .*ZeroDivisionError: of its own"):
        um.fit(SMALL, small, Wrong, time_limit=60)
    with pytest.raises(um.FitError, match=r"ended before the fit was done \(exit code -9\)"):
        um.fit(SMALL, small, Crash, time_limit=60)
    with pytest.raises(um.OptionError, match=r"cannot be sent to another process .* leave out time_limit="):
        um.fit(SMALL, small, Foreign(held=threading.Lock()), time_limit=60)
    assert no_strangers()


def test_compare_keeps_the_column_of_an_engine_that_was_stopped(large: Any) -> None:
    found = um.compare(BIG, large, backends=["pls", "statsmodels"], time_limit=0.2, df_method="normal")
    assert "LimitError" in str(found)


def _job(arguments: tuple[dict[str, Any], float]) -> float:
    return um.fit(SMALL, arguments[0], "pls", time_limit=arguments[1]).log_likelihood


def test_limits_go_with_everything_that_fits_again(small: Any) -> None:
    from unimix.parallel.jobs import run_jobs

    fit = um.fit(SMALL, small, "pls", time_limit=60, memory_limit="2 GB")
    assert own_refitter(fit).arguments.limits == Limits(None, 2e9)  # type: ignore[union-attr]
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


def test_a_process_that_ends_while_it_waits_leaves_nothing_open(small: Any) -> None:
    """Python would warn of an open pipe (ResourceWarning, an error here) when the process is collected."""
    end_idle()
    um.fit(SMALL, small, "pls", time_limit=60)
    waiting = children() - EARLIER
    for process in waiting:
        os.kill(process, signal.SIGKILL)
    listeners = [thread for thread in threading.enumerate() if thread.name == "unimix-limits"]
    for thread in listeners:
        thread.join(10)
    assert waiting
    assert listeners
    gc.collect()
    assert no_strangers()
