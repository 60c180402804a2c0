"""The stamp of set-up: a second run sees that nothing changed, without starting R or the environment's Python."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import setup as script  # noqa: E402  the scripts are no package
from stamp import NAME, Stamp, read_stamp, state, write_stamp  # noqa: E402


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """An environment as set-up leaves it, by its files."""
    folder = tmp_path / "my env"
    (folder / "bin").mkdir(parents=True)
    (folder / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / "bin" / "pip").write_text(f"#!{folder}/bin/python\n")
    return folder


def later(path: Path) -> None:
    """Give a file or folder a later time, as a change does."""
    seconds = path.stat().st_mtime + 5
    os.utime(path, (seconds, seconds))


def test_a_stamp_is_read_as_it_was_written(environment: Path) -> None:
    stamp = Stamp("abc", ("docs",), ("/a library/with blanks",), "def")
    write_stamp(environment, stamp)
    assert read_stamp(environment) == stamp


@pytest.mark.parametrize("text", ["", "abc docs", "[]", '{"fingerprint": "a"}', '{"extras": 3}', "\0"])
def test_a_damaged_stamp_counts_as_none(environment: Path, text: str) -> None:
    (environment / NAME).write_text(text)
    assert read_stamp(environment) == Stamp()


def test_the_state_changes_with_each_thing_that_matters(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = environment.parent / "R library"
    library.mkdir()
    before = state(environment, [str(library)])
    assert state(environment, [str(library)]) == before
    for changed in (library, environment / "lib/python3.11/site-packages", environment / "bin/pip"):
        later(changed)
        after = state(environment, [str(library)])
        assert after != before, changed
        before = after
    monkeypatch.setenv("R_LIBS_USER", "/elsewhere")
    assert state(environment, [str(library)]) != before


def test_a_second_run_starts_no_program(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **named: object) -> None:
        raise AssertionError(f"a program was started: {args}")

    write_stamp(environment, Stamp(script.fingerprint(environment), ("docs",), (), state(environment, ())))
    (environment / "pyvenv.cfg").write_text("version = {}.{}.0\n".format(*sys.version_info[:2]))
    monkeypatch.setattr("subprocess.run", refuse)
    monkeypatch.setattr("subprocess.Popen", refuse)
    script.set_up(environment, {"docs"})
    with pytest.raises(AssertionError, match="a program was started"):
        script.set_up(environment, {"docs", "another extra"})
