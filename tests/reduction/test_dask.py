"""Partitions of a Dask frame are reduced where they lie; a worker that is killed loses nothing."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import unimix as um

FORMULA = "y ~ x + f + (x | g)"


def make() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    g = rng.integers(0, 60, 4000)
    data = pd.DataFrame({"g": [f"s{k:02}" for k in g], "x": rng.normal(size=4000), "f": rng.choice(["u", "v"], 4000)})
    return data.assign(y=data["x"] * (1 + rng.normal(size=60)[g]) + rng.normal(size=60)[g] + rng.normal(size=4000))


def slowed(part: pd.DataFrame, started: str) -> pd.DataFrame:
    """The partition, after a moment in which its worker can be killed."""
    with Path(started).open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(0.2)
    return part


@pytest.mark.cluster
def test_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    import dask.dataframe as dd
    import distributed

    data, started = make(), tmp_path / "started"
    started.touch()
    rows = um.fit(FORMULA, data)
    frame = dd.from_pandas(data, npartitions=6).map_partitions(slowed, str(started), meta=data.iloc[:0])
    options: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        client.wait_for_workers(2, timeout=120)

        def kill() -> None:
            while len(done := started.read_text().split()) < 4:
                time.sleep(0.01)
            os.kill(int(done[-1]), signal.SIGKILL)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        reduced = um.reduce(frame, FORMULA)
        killer.join(60)
    read = len(started.read_text().split())
    assert read > 12  # two passes of six partitions, and those that were lost
    assert reduced.n_obs == 4000
    fit = um.fit(FORMULA, reduced)
    assert (np.abs(fit.fixed.estimate - rows.fixed.estimate) / rows.fixed.std_error).max() < 1e-10
    assert fit.log_likelihood == pytest.approx(rows.log_likelihood, abs=1e-8)


@pytest.mark.cluster
def test_a_dask_frame_without_a_cluster() -> None:
    import dask.dataframe as dd

    data = make()
    rows, fit = um.fit(FORMULA, data), um.fit(FORMULA, dd.from_pandas(data, npartitions=3))
    assert (np.abs(fit.fixed.estimate - rows.fixed.estimate) / rows.fixed.std_error).max() < 1e-10
    bad = data.assign(x=np.where(data.index == 3999, np.inf, data["x"]))
    with pytest.raises(um.DataError, match="In partition 2 of the Dask frame: 'x' holds 1 infinite"):
        um.fit(FORMULA, dd.from_pandas(bad, npartitions=3))
