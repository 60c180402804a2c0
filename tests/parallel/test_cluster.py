"""Jobs on a real Dask cluster whose workers are killed, and in joblib's processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import pytest
from fragile import CountedR, Fragile, Loader, make
from joblib.externals.loky import get_reusable_executor

import unimix as um
from unimix.parallel.jobs import run_jobs
from unimix.parallel.progress import rate

FORMULAS = {"intercept": "y ~ x + (1 | g)", "slope": "y ~ x + (1 + x | g)", "wrong": "y ~ x + z + (1 | g)"}


@contextlib.contextmanager
def workers() -> Iterator[Any]:
    import dask
    import distributed

    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    tolerance = dask.config.set({"distributed.scheduler.allowed-failures": 1})  # 3 would take longer to see
    with tolerance, distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture
def on_dask() -> Iterator[Any]:
    """A cluster of the test's own: Dask's nanny does not always bring back a worker that an earlier test killed."""
    with workers() as client, joblib.parallel_config(backend="dask"):
        client.wait_for_workers(2, timeout=120)
        yield client


def numbers(many: um.ManyFits) -> dict[Any, str]:
    """Everything but times, as text."""
    return {k: replace(f, engine=f.engine.model_copy(update={"seconds": {}})).to_json() for k, f in many.items()}


@pytest.mark.cluster
def test_fit_many_survives_a_killed_worker(on_dask: Any, tmp_path: Path) -> None:
    data = {str(i): make(i) for i in range(12)}
    pids = list(on_dask.run(os.getpid).values())
    path = tmp_path / "fits.jsonl"
    killed = []

    def kill() -> None:
        while not path.exists() or path.read_bytes().count(b"\n") < 15:
            time.sleep(0.005)
        os.kill(pids[0], signal.SIGKILL)
        killed.append(path.read_bytes().count(b"\n"))

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    found = um.fit_many(FORMULAS, data, ["pls", "bayes"], seed=1, path=path)
    killer.join(60)
    assert killed
    assert killed[0] < 70
    serial = um.fit_many(FORMULAS, data, ["pls", "bayes"], seed=1, n_jobs=1)
    assert list(found) == list(serial)
    assert len(found) == 72
    assert len(found.failed) == 24
    assert numbers(found) == numbers(serial)


@pytest.mark.cluster
def test_a_bootstrap_survives_a_killed_worker(on_dask: Any, tmp_path: Path) -> None:
    fit = um.fit(FORMULAS["intercept"], make(1), Fragile(folder=str(tmp_path), after=10))
    found = fit.bootstrap(60, seed=3)
    assert (tmp_path / "killed-0").exists()
    assert len((tmp_path / f"fits-{os.getpid()}").read_text()) == 1  # the fit itself: all others ran elsewhere
    pd.testing.assert_frame_equal(found.replicates, fit.bootstrap(60, seed=3, n_jobs=1).replicates)


@pytest.mark.cluster
def test_cross_validation_survives_a_killed_worker(on_dask: Any, tmp_path: Path) -> None:
    engine = Fragile(folder=str(tmp_path), after=4)
    found = um.cross_validate(FORMULAS["slope"], make(2), engine, folds=8, seed=2)
    assert (tmp_path / "killed-0").exists()
    serial = um.cross_validate(FORMULAS["slope"], make(2), engine, folds=8, seed=2, n_jobs=1)
    pd.testing.assert_frame_equal(found.rows, serial.rows)
    pd.testing.assert_frame_equal(found.table, serial.table)


def die(_: int = 0) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.cluster
def test_an_error_on_a_worker_is_the_same_error_here(on_dask: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        run_jobs(reciprocal, [1, 0], n_jobs=None, progress=None, title="")


def reciprocal(x: int) -> float:
    return 1 / x


@pytest.mark.cluster
def test_what_kills_every_worker_is_a_row_and_takes_no_other_with_it() -> None:
    data = {**{str(i): make(i) for i in range(6)}, "deadly": die}
    with workers(), joblib.parallel_config(backend="dask"):
        found = um.fit_many(FORMULAS["slope"], data, "pls")
    assert list(found.failed["data"]) == ["deadly"]
    assert set(found.failed["error_type"]) == {"WorkerError"}
    assert "Every worker process that ran this job ended" in found.failed["error"][0]


@pytest.mark.cluster
def test_work_that_kills_every_worker_is_an_error() -> None:
    work = "Every worker process that ran this job ended"
    with workers(), joblib.parallel_config(backend="dask"), pytest.raises(um.WorkerError, match=work):
        run_jobs(die, [0], n_jobs=None, progress=None, title="")


def process(_: int) -> int:
    time.sleep(0.02)
    return os.getpid()


def test_none_follows_the_context_and_one_stays_here() -> None:
    def where(n_jobs: int | None) -> set[int]:
        return set(run_jobs(process, range(8), n_jobs=n_jobs, progress=None, title=""))

    assert where(None) == {os.getpid()}
    with joblib.parallel_config(backend="loky", n_jobs=2):
        assert os.getpid() not in where(None)
        assert where(1) == {os.getpid()}
    with joblib.parallel_config(backend="threading", n_jobs=2):
        assert where(None) == {os.getpid()}
    with joblib.parallel_config(backend="multiprocessing", n_jobs=2):  # answers only when all is done
        assert os.getpid() not in where(None)


GROWING = """
import time, warnings
import numpy as np
from unimix.parallel.jobs import run_jobs

def grow(number, kept=[]):  # 320 MB for good, for longer than loky waits between two looks at a process's memory
    kept.append(np.ones(40_000_000))
    time.sleep(1.1)
    return number

warnings.simplefilter("error")
print(*run_jobs(grow, range(6), n_jobs=2, progress=False, title=""))
"""


def test_a_process_that_has_grown_is_replaced_where_warnings_are_errors() -> None:
    # the warning of loky would end the thread that receives the answers, and the call would never return
    done = subprocess.run([sys.executable, "-c", GROWING], capture_output=True, text=True, check=False, timeout=240)
    assert done.stdout.split() == ["0", "1", "2", "3", "4", "5"], done.stderr


def test_joblib_is_not_imported_where_it_is_not_needed() -> None:
    code = (
        "import sys, unimix as um; d = um.load_dataset('sleepstudy')\n"
        "for n in (None, 1): um.fit_many('Reaction ~ Days + (1 | Subject)', d, 'pls', n_jobs=n)\n"
        "print({'joblib', 'dask'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "set()", done.stderr


def test_work_is_sent_to_every_process_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    loaders = {str(i): Loader(i, str(log)) for i in range(3)}
    found = um.fit_many([*FORMULAS.values()], loaders, ["pls", "bayes"], seed=1, n_jobs=2)
    lines = log.read_text().split("\n")[:-1]
    assert len(lines) == len(set(lines))  # never twice in one process
    assert not any(line.endswith(f" {os.getpid()}") for line in lines)
    frames = {str(i): make(i) for i in range(3)}
    assert numbers(found) == numbers(um.fit_many([*FORMULAS.values()], frames, ["pls", "bayes"], seed=1))


@pytest.mark.r
def test_r_starts_once_in_every_process(tmp_path: Path) -> None:
    pytest.importorskip("rpy2")
    get_reusable_executor().shutdown(wait=True)  # processes of an earlier test have their R already
    log = tmp_path / "log"
    engines = ["pls", CountedR(log=str(log)), "bayes"]
    um.fit_many(FORMULAS["slope"], [make(i) for i in range(15)], engines, seed=1, n_jobs=2)
    lines = log.read_text().split("\n")[:-1]
    fits = [line for line in lines if line.startswith("fit")]
    starts = [line for line in lines if line.startswith("start")]
    assert len(fits) == 15
    assert len(starts) == len(set(starts)) == len(set(fits)) <= 2


@pytest.mark.cluster
@pytest.mark.r
@pytest.mark.slow
def test_r_runs_beside_the_main_thread_of_a_worker(on_dask: Any) -> None:
    if not um.backends.Pymer4().available():
        pytest.skip("pymer4 is not installed")
    found = um.fit_many(FORMULAS["slope"], [make(i) for i in range(5)], ["lme4", "pymer4"])
    assert found.failed.empty, found  # pymer4's converters were lost after the first fit of every worker
    assert all(found.compare(data=str(i)).agree for i in range(1, 6))


def test_the_rate_is_in_words() -> None:
    assert rate(None, "fits") == ""
    assert rate(12.34, "fits") == "12.3 fits/s"
    assert rate(0.05, "fits") == "3.0 fits/min"
