"""The set-up script on ground that is not what it expects: what was there before is still there, and it says why."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import install_r  # noqa: E402  the scripts are no package
import setup as script  # noqa: E402
import steps  # noqa: E402
from stamp import NAME  # noqa: E402

OURS = ".".join(map(str, sys.version_info[:2]))


def run_setup(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "setup.py"), "--venv", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A folder that somebody else cares for."""
    folder = tmp_path / "precious"
    (folder / "deep").mkdir(parents=True)
    (folder / "thesis.txt").write_text("years of work")
    (folder / "deep" / "data.csv").write_text("1,2,3")
    return folder


def test_a_link_is_refused_and_its_folder_untouched(precious: Path, tmp_path: Path) -> None:
    before = contents(precious)
    link = tmp_path / "linked venv"
    link.symlink_to(precious)
    done = run_setup(link)
    assert done.returncode == 1
    assert f"is a link to {precious}" in done.stderr
    assert "make setup VENV=" in done.stderr
    assert contents(precious) == before
    assert link.is_symlink()


@pytest.mark.parametrize(
    ("config", "owner"),
    [
        ("home = /usr/bin\nuv = 0.9.1\nversion_info = 3.12.1\n", "it belongs to uv"),
        ("home = /usr/bin\nvirtualenv = 20.1\n", "it belongs to virtualenv"),
        (f"home = /usr/bin\nversion = {OURS}.1\n", "you or another tool"),
        (None, "something else than Python's environments"),
    ],
)
def test_what_another_tool_made_is_refused(precious: Path, config: str | None, owner: str) -> None:
    if config:
        (precious / "pyvenv.cfg").write_text(config)
    before = contents(precious)
    done = run_setup(precious)
    assert done.returncode == 1
    assert owner in done.stderr
    assert contents(precious) == before


def test_the_environment_of_another_python_is_refused(precious: Path) -> None:
    (precious / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.4.1\n")
    (precious / NAME).write_text("\n")
    before = contents(precious)
    done = run_setup(precious)
    assert done.returncode == 1
    assert f"belongs to Python 3.4, and this is Python {OURS}" in done.stderr
    assert f"PYTHON=python{OURS}" in done.stderr
    assert contents(precious) == before


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "venv").write_text("not a folder")
    done = run_setup(tmp_path / "venv")
    assert done.returncode == 1
    assert "is a file, where set-up makes a folder" in done.stderr
    assert (tmp_path / "venv").read_text() == "not a folder"


def test_an_old_python_is_told_which_to_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "OLDEST_PYTHON", (9, 0))
    with pytest.raises(steps.Stop, match=r"unimix needs 3\.11 or newer. Name a newer one:\n    make setup PYTHON="):
        script.check_python()


def test_too_small_a_disk_is_refused_before_anything_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(script, "GIGABYTES", 1e9)
    with pytest.raises(steps.Stop, match="GB are free where"):
        script.make_environment(tmp_path / "venv")
    assert not (tmp_path / "venv").exists()


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that refuses new folders")
def test_where_nothing_can_be_made_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "GIGABYTES", -1.0)
    with pytest.raises(steps.Stop, match=r"could not make the environment|cannot be made or changed"):
        script.make_environment(Path("/proc/unimix-venv"))


def test_errors_of_the_disk_are_told_in_words(tmp_path: Path) -> None:
    told = script.in_words(OSError(30, "Read-only file system"), tmp_path)
    assert "the folder of unimix is read-only. Nothing was changed" in told
    assert "make setup VENV=" in told
    assert "The disk is full" in script.in_words(OSError(28, "No space left on device"), tmp_path)


@pytest.mark.parametrize(
    ("said", "told", "about_rpy2"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "disk is full",
            False,
        ),
        ("ERROR: Failed building wheel for rpy2-rinterface", "could not be compiled", True),
        ("  error: command 'gcc' failed: No such file\nERROR: Failed to build rpy2-rinterface", "C compiler", True),
        (
            "Failed to establish a new connection: Temporary failure in name resolution\nERROR: x",
            "no package index",
            False,
        ),
        (
            "ERROR: Could not find a version of requirement hatchling<2 (from versions: none)",
            "no release of hatchling at all",
            False,
        ),
        ("WARNING: connection error: Connection refused\nERROR: (from versions: none)", "no package index", False),
        ("ERROR: Cannot install unimix and numpy==1\nERROR: ResolutionImpossible: help", "PIP_CONSTRAINT= make", False),
        ("ERROR: Could not install: [Errno 13] Permission denied: '/x'", "pip may not write", False),
        ("ERROR: something new", "pip could not install the environment", False),
    ],
)
def test_what_pip_says_becomes_a_line_to_type(said: str, told: str, about_rpy2: bool, tmp_path: Path) -> None:
    stop = script.pip_fault(said, tmp_path)
    assert told in str(stop)
    assert stop.about_rpy2 is about_rpy2


def test_a_program_that_fails_is_reported_with_its_words() -> None:
    code, said = steps.run_program([sys.executable, "-c", "print('hello'); raise SystemExit(3)"])
    assert (code, said) == (3, "hello\n")


def test_a_long_program_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(steps, "HEARTBEAT", 0.2)
    code = "import time\nfor i in range(4): print('Collecting', i, flush=True); time.sleep(.3)"
    steps.run_program([sys.executable, "-c", code], counted="Collecting", unit="packages")
    assert "packages; now: Collecting" in capsys.readouterr().out


def test_a_step_tells_its_seconds_and_its_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with steps.step("Making tea"):
        pass
    with pytest.raises(ValueError, match="no water"), steps.step("Making tea"):
        raise ValueError("no water")
    said = capsys.readouterr().out
    assert "Making tea ...\ndone, 0 s\n" in said
    assert "Making tea: failed after 0 s" in said


def test_what_is_missing_in_r_is_named_with_what_misses_it(capsys: pytest.CaptureFixture[str]) -> None:
    found = install_r.r_installation.RInstallation(Path("/usr/lib/R"), "4.5.0")
    install_r.tell_missing(["glmmTMB", "performance"], found)
    said = capsys.readouterr().out
    required, optional = said.split("Optional R packages are missing")
    assert "glmmTMB: required by backend='glmmtmb'" in required
    assert "performance: optional, used only by the columns of the table result_fit_stats" in optional
    assert "glmmTMB" not in optional.partition("These R packages")[0]


def test_without_r_the_lines_for_r_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    found = install_r.r_installation.RInstallation()
    absent = install_r.missing(found)
    assert {"lme4", "glmmTMB", "lmerTest"} <= set(absent)
    install_r.tell_missing(absent, found)
    said = capsys.readouterr().out
    assert (
        "R was not found. The backends lme4, glmmtmb, nlme, ordinal and pymer4 need it; the others are there." in said
    )
    assert said.rstrip().endswith("make setup")


def test_pip_installs_into_the_environment_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Variables that send pip's files elsewhere are not handed on."""
    probe = tmp_path / "bin"
    probe.mkdir()
    python = probe / "python"
    python.write_text(f'#!/bin/sh\nenv > "{tmp_path}/seen"\n')
    python.chmod(0o755)
    for name in ("PIP_TARGET", "PIP_PREFIX", "PYTHONPATH", "PYTHONHOME"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    monkeypatch.setenv("PIP_INDEX_URL", "file:///somewhere")
    script.pip_install(tmp_path, "nothing", ("dev",))
    seen = dict(line.partition("=")[::2] for line in (tmp_path / "seen").read_text().splitlines())
    assert "elsewhere" not in "".join(seen.values())
    assert seen["PIP_INDEX_URL"] == "file:///somewhere"
    assert not os.path.lexists(tmp_path / "elsewhere")
