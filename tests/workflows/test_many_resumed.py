"""fit_many with a file: finished fits are kept, interrupted runs go on, damaged files are mended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fragile import FORMULAS, INTERCEPT, Fragile, Loader, lines, make

import unimix as um
from unimix.backends.pls import Pls
from unimix.errors import DataError, OptionError, WorkerError

# -- files -------------------------------------------------------------------------------------


def test_finished_fits_are_not_fitted_again(tmp_path: Path) -> None:
    path = tmp_path / "fits.jsonl"
    first = um.fit_many(FORMULAS, [make(1), make(2)], ["pls", "bayes"], seed=1, path=path)
    assert json.loads(lines(path)[0]) == {"unimix_fits": 1, "unimix": um.__version__}
    assert len(lines(path)) == 1 + 12
    before = path.read_bytes()
    again = um.fit_many(FORMULAS, [make(1), make(2)], ["pls", "bayes"], seed=1, path=path, retry_failed=False)
    assert path.read_bytes() == before
    pd.testing.assert_frame_equal(again.table, first.table)  # seconds too: nothing was measured again
    assert again.notes == ("12 of 12 fits were in the file already.",)
    tried = um.fit_many(FORMULAS, [make(1), make(2)], ["pls", "bayes"], seed=1, path=path)
    assert len(lines(path)) == 13 + 4  # the failed ones
    assert tried.notes == ("8 of 12 fits were in the file already.",)
    assert all(f.result is None for f in tried._fits)  # results stay on disk
    assert tried["slope", "2", "pls"] == first["slope", "2", "pls"]
    memory = um.fit_many(FORMULAS, [make(1), make(2)], ["pls", "bayes"], seed=1)
    np.testing.assert_array_equal(
        memory["slope", "2", "bayes"].fixed.estimate, tried["slope", "2", "bayes"].fixed.estimate
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"data": {"a": make(1).assign(x=lambda d: d["x"] + 1e-9)}},
        {"data": {"a": make(1).assign(g=lambda d: pd.Categorical(d["g"], d["g"].unique()[::-1]))}},
        {"formulas": "y ~ x + I(x^2) + (1 | g)"},
        {"backends": Pls(conditioning=False)},
        {"method": "ML"},
        {"ci_level": 0.9},
        {"weights": np.linspace(1, 2, 120)},
        {"contrasts": {"g": "sum"}},
        {"seed": 2},
        {"restart": True},
    ],
)
def test_other_fits_have_other_keys(tmp_path: Path, changed: dict[str, object]) -> None:
    path = tmp_path / "fits.jsonl"
    plain = {"formulas": INTERCEPT, "data": {"a": make(1)}, "backends": "pls", "seed": 1}
    um.fit_many(**plain, path=path)  # type: ignore[arg-type]
    found = um.fit_many(**{**plain, **changed}, path=path)  # type: ignore[arg-type]
    assert len(lines(path)) == 3
    assert any("The file also holds 1 fit of other data, formulas or arguments" in n for n in found.notes)
    renamed = um.fit_many({"m": INTERCEPT}, {"north": make(1)}, "pls", seed=1, path=path)
    first, _, copy = map(json.loads, lines(path)[1:])  # names are no part of a fit
    assert copy["result"] == first["result"]
    assert list(renamed) == [("m", "north", "pls")]
    assert um.read_many(path)["m", "north", "pls"] == renamed["m"]


def test_functions_are_known_by_what_they_load_or_by_their_version(tmp_path: Path) -> None:
    path, log = tmp_path / "fits.jsonl", tmp_path / "log"
    um.fit_many(INTERCEPT, {"a": Loader(1, str(log))}, "pls", path=path)
    um.fit_many(INTERCEPT, {"a": Loader(1, str(log))}, "pls", path=path)
    assert (len(lines(path)), len(lines(log))) == (2, 3)  # read twice for a digest, once for a fit
    um.fit_many(INTERCEPT, {"a": make(1)}, "pls", path=path)
    assert len(lines(path)) == 2  # the same content
    um.fit_many(INTERCEPT, {"a": Loader(1, str(log))}, "pls", path=path, versions="may")
    um.fit_many(INTERCEPT, {"a": Loader(1, str(log))}, "pls", path=path, versions={"a": "may"})
    assert (len(lines(path)), len(lines(log))) == (3, 4)
    um.fit_many(INTERCEPT, {"a": Loader(1, str(log))}, "pls", path=path, versions={"a": "june"})
    assert (len(lines(path)), len(lines(log))) == (4, 5)


def test_a_line_cut_short_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "fits.jsonl"
    um.fit_many(INTERCEPT, [make(i) for i in range(4)], "pls", path=path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000])
    assert len(um.read_many(path)) == 3
    assert "cut short" in um.read_many(path).notes[0]
    found = um.fit_many(INTERCEPT, [make(i) for i in range(4)], "pls", path=path)
    assert "3 of 4 fits were in the file already." in found.notes
    assert len(lines(path)) == 5
    assert found["4"].converged
    path.write_bytes(whole[:10])
    assert len(um.fit_many(INTERCEPT, [make(i) for i in range(4)], "pls", path=path)) == 4
    middle = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*middle[:2], b"\0" * 50 + b"\n", *middle[2:]]))
    assert um.read_many(path).notes == ("Line 3 is damaged and is ignored.",)
    assert um.read_many(path)["4"].converged


@pytest.mark.parametrize("part", [b'"summary"', b'"aic"', b'"result"', b'"estimate"'])
def test_a_damaged_line_is_fitted_again(tmp_path: Path, part: bytes) -> None:
    path = tmp_path / "fits.jsonl"
    wanted = um.fit_many(FORMULAS, make(1), "pls", path=path).tidy()
    raw = path.read_bytes()
    at = raw.index(part) + len(part) + 4
    path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])  # one bit of the first fit
    assert um.read_many(path).notes == ("Line 2 is damaged and is ignored.",)
    mended = um.fit_many(FORMULAS, make(1), "pls", path=path, retry_failed=False)
    assert mended.notes == ("Line 2 is damaged and is ignored.", "2 of 3 fits were in the file already.")
    pd.testing.assert_frame_equal(mended.tidy(), wanted)
    pd.testing.assert_frame_equal(um.read_many(path).tidy(), wanted)


FULL = """
import resource, signal, sys, unimix as um
from fragile import make
formulas = {"i": "y ~ x + (1 | g)", "s": "y ~ x + (1 + x | g)", "t": "y ~ 1 + (1 | g)"}
path, size = sys.argv[1], int(sys.argv[2])
um.fit(formulas['i'], make(1), 'pls')  # what else is written is written before
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
try: um.fit_many(formulas, make(1), "pls", path=path)
except um.DataError as error: print(error)
"""


@pytest.mark.skipif(os.name == "nt", reason="limits the size of files as POSIX does")
@pytest.mark.parametrize("share", [0.001, 0.1, 0.4, 0.99])
def test_a_full_disk_is_told_and_keeps_what_is_there(tmp_path: Path, share: float) -> None:
    whole, path = tmp_path / "whole.jsonl", tmp_path / "fits.jsonl"
    formulas = {"i": INTERCEPT, "s": FORMULAS["slope"], "t": "y ~ 1 + (1 | g)"}
    wanted = um.fit_many(formulas, make(1), "pls", path=whole).tidy()
    size = int(share * whole.stat().st_size)
    command = [sys.executable, "-c", FULL, str(path), str(size)]
    environment = {"PYTHONPATH": ":".join(p for p in sys.path if p), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert f"{path} cannot be written: [Errno 27] File too large. What it holds is kept." in done.stdout, done.stderr
    content = path.read_bytes()
    assert not content or content.endswith(b"\n")
    found = um.fit_many(formulas, make(1), "pls", path=path)
    assert len(lines(path)) == 4
    pd.testing.assert_frame_equal(found.tidy(), wanted)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b\n1,2\n", "is not a file of fits"),
        ("no newline", "is not a file of fits"),
        ('{"unimix_fits": 9, "unimix": "7.0"}\n', "has format 9 of unimix 7.0"),
    ],
)
def test_other_files_are_left_alone(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(content)
    with pytest.raises(OptionError, match=words):
        um.fit_many(INTERCEPT, make(1), "pls", path=path)
    with pytest.raises(DataError, match=words):
        um.read_many(path)
    assert path.read_text() == content
    with pytest.raises(OptionError, match="is a folder"):
        um.fit_many(INTERCEPT, make(1), "pls", path=tmp_path)
    with pytest.raises(DataError, match="There is no file"):
        um.read_many(tmp_path / "absent.jsonl")


def test_read_many_gives_the_last_of_every_name(tmp_path: Path) -> None:
    path = tmp_path / "fits.jsonl"
    um.fit_many(FORMULAS, {"a": make(1)}, ["pls"], path=path)
    last = um.fit_many(FORMULAS, {"a": make(2)}, ["pls"], path=path)
    found = um.read_many(path)
    assert list(found) == list(last)
    pd.testing.assert_frame_equal(found.table, last.table)
    assert found.formulas == FORMULAS
    assert found.notes == ("3 older lines under the same names are ignored.",)
    path.write_text("")
    with pytest.raises(DataError, match="has changed since"):
        found["slope"]


def test_two_runs_do_not_write_one_file(tmp_path: Path) -> None:
    from unimix.workflows.many.store import Journal

    path = tmp_path / "fits.jsonl"
    with Journal(path), pytest.raises(DataError, match="Another run is writing"):
        um.fit_many(INTERCEPT, make(1), "pls", path=path)
    assert len(um.fit_many(INTERCEPT, make(1), "pls", path=path)) == 1


def test_arguments_without_content_are_refused(tmp_path: Path) -> None:
    class Odd:
        pass

    with pytest.raises(OptionError, match="leave path= out"):
        um.fit_many(INTERCEPT, make(1), "pls", path=tmp_path / "f", contrasts={"g": Odd()})


# -- ends before the end -----------------------------------------------------------------------

SCRIPT = """
import sys, unimix as um
from fragile import make
n_jobs = int(sys.argv[2])
formulas = {"i": "y ~ x + (1 | g)", "s": "y ~ x + (1 + x | g)", "w": "y ~ x + z + (1 | g)"}
if __name__ == "__main__":
    data, backends = [make(i) for i in range(12)], ["pls", "bayes", "statsmodels"]
    um.fit_many(formulas, data, backends, seed=1, path=sys.argv[1], n_jobs=n_jobs)
"""


@pytest.mark.parametrize(("how", "n_jobs"), [(signal.SIGKILL, 1), (signal.SIGKILL, 2), (signal.SIGINT, 2)])
def test_a_run_that_is_stopped_goes_on(tmp_path: Path, how: signal.Signals, n_jobs: int) -> None:
    path, script = tmp_path / "fits.jsonl", tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(path), str(n_jobs)]
    environment = {"PYTHONPATH": ":".join(p for p in sys.path if p)}
    with (tmp_path / "told").open("w") as file:
        run = subprocess.Popen(command, stderr=file, env=environment)
    while run.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < 30):
        time.sleep(0.005)
    run.send_signal(how)
    assert run.wait(60) == -how
    told = (tmp_path / "told").read_text()
    had = path.read_bytes().count(b"\n") - 1
    assert 29 <= had < 95
    if how == signal.SIGINT:
        assert f"{had} of 108 fits were done in this run and are in {path}: the same call continues from there." in told
    partial = um.read_many(path)
    assert len(partial) == had
    succeeded = had - len(partial.failed)
    formulas = {"i": INTERCEPT, "s": FORMULAS["slope"], "w": FORMULAS["wrong"]}
    found = um.fit_many(formulas, [make(i) for i in range(12)], ["pls", "bayes", "statsmodels"], seed=1, path=path)
    assert f"{succeeded} of 108 fits were in the file already." in found.notes
    assert len(found) == 108
    assert len(found.failed) == 36
    keys = [json.loads(line)["fit"]["key"] for line in lines(path)[1:] if '"result": null' not in line]
    assert len(keys) == len(set(keys)) == 72  # nothing was fitted twice
    bare = um.fit_many(formulas, make(3), "bayes", seed=1)
    assert bare["s"].fixed.terms == found["s", "4", "bayes"].fixed.terms


def test_ctrl_c_while_a_fit_is_written_counts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unimix.workflows.many.store import Journal

    add = Journal.add

    def interrupted(self: Journal, *arguments: Any) -> Any:
        stored = add(self, *arguments)
        if stored.names[1] == "2":
            os.kill(os.getpid(), signal.SIGINT)
        return stored

    monkeypatch.setattr(Journal, "add", interrupted)
    path = tmp_path / "fits.jsonl"
    with pytest.raises(KeyboardInterrupt) as caught:
        um.fit_many(INTERCEPT, [make(i) for i in range(4)], "pls", path=path, n_jobs=1)
    had = len(lines(path)) - 1
    assert had == len(um.read_many(path)) > 0
    assert caught.value.__notes__[0].startswith(f"{had} of 4 fits were done in this run")


def test_a_killed_process_is_told_in_words_and_the_same_call_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "fits.jsonl"
    engine = Fragile(folder=str(tmp_path), after=10)
    data = [make(i) for i in range(40)]
    with pytest.raises(
        WorkerError, match=r"of 40 fits were done in this run and are in .*the same call continues"
    ) as caught:
        um.fit_many(INTERCEPT, data, engine, path=path, n_jobs=2)
    assert (tmp_path / "killed-0").exists()
    assert f"Running: {INTERCEPT} | " in str(caught.value)
    had = len(lines(path)) - 1
    assert 9 <= had < 40
    found = um.fit_many(INTERCEPT, data, engine, path=path, n_jobs=2)
    assert f"{had} of 40 fits were in the file already." in found.notes
    assert found.failed.empty
    assert len(found) == 40
    with pytest.raises(WorkerError, match=r"are lost: path='fits.jsonl' keeps every fit"):
        um.fit_many(INTERCEPT, data, Fragile(folder=str(tmp_path), after=1, times=9), n_jobs=2)
