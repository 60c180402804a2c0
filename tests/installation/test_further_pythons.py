"""The script that tests further Pythons: which it finds, and what it calls a failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import further_pythons as script  # noqa: E402  the scripts are no package


def python_that_says(folder: Path, name: str, version: str, usable: str = "true") -> None:
    """A program that describes itself as a Python of some version."""
    folder.mkdir(parents=True, exist_ok=True)
    said = f'{{"version": [{version.replace(".", ", ")}], "path": "{folder / name}", "usable": {usable}}}'
    (folder / name).write_text(f"#!/bin/sh\necho '{said}'\n")
    (folder / name).chmod(0o755)


def test_one_python_of_each_minor_version_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one, two, pyenv = tmp_path / "one", tmp_path / "two", tmp_path / "pyenv"
    python_that_says(one, "python3", "3.13.2")
    python_that_says(one, "python3.10", "3.10.9")
    python_that_says(one, "python3-config", "3.14.0")
    python_that_says(one, "python3.15", "3.15.0", "false")
    (one / "python3.16").write_text("#!/bin/sh\necho 'version not chosen' >&2; exit 127\n")
    (one / "python3.16").chmod(0o755)
    python_that_says(two, "python3.13", "3.13.10")
    python_that_says(pyenv / "versions" / "3.11.9" / "bin", "python3", "3.11.9")
    python_that_says(pyenv / "versions" / "3.12.1" / "bin", "python3", "3.12.1")
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, [one, tmp_path / "absent", two])))
    monkeypatch.setenv("PYENV_ROOT", str(pyenv))
    found = script.further(script.candidates(), "3.11")
    assert [p.text for p in found] == ["Python 3.12.1", "Python 3.13.10"]
    assert found[1].path == str(two / "python3.13")
    assert [p.minor for p in script.further(script.candidates(), None)] == ["3.11", "3.12", "3.13"]


@pytest.mark.parametrize(
    ("first", "minors", "taken"),
    [
        ("3.11", (12, 13), "3.12"),
        ("3.13", (11, 12), "3.11"),
        ("3.13", (12,), None),
        (None, (11, 12), "3.11"),
        ("3.11", (), None),
    ],
)
def test_samplers_run_on_a_python_of_the_other_generation(
    first: str | None, minors: tuple[int, ...], taken: str | None
) -> None:
    """Python 3.11 gets PyMC 5, and later ones get PyMC 6."""
    found = [script.Python(f"python3.{minor}", (3, minor, 1)) for minor in minors]
    other = script.of_the_other_generation(found, first)
    assert (other.minor if other else None) == taken


def test_the_tests_of_samplers_exist() -> None:
    for test in script.SAMPLERS.tests:
        file, *names = test.partition("[")[0].split("::")
        kept = "src/unimix/testing/contract.py"
        text = "".join((ROOT / f).read_text(encoding="utf-8") for f in (file, kept))
        assert all(name in text for name in names)


def test_a_python_describes_itself_and_an_environment_is_no_further_one() -> None:
    base = Path(sys.base_prefix) / ("python.exe" if os.name == "nt" else "bin/python3")
    found = script.described(base)
    assert found is not None
    assert found.version == sys.version_info[:3]
    if sys.prefix != sys.base_prefix:
        assert script.described(Path(sys.executable)) is None
        assert script.minor_version(Path(sys.prefix)) == found.minor
    assert script.minor_version(ROOT / "src") is None


TESTS = """
import os, pytest

def test_good(): pass
def test_bad(): assert 1 == 2
def test_package(): pytest.importorskip("no_such_package")
@pytest.mark.skipif(True, reason="UNIMIX_DATA names no folder")
def test_data(): pass
@pytest.mark.xfail(strict=True)
def test_known(): assert 1 == 2
@pytest.fixture
def broken(): raise ValueError
def test_fixture(broken): pass
"""


def test_failures_and_skips_for_want_of_a_package_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=report.xml", "test_it.py"]
    subprocess.run(line, cwd=tmp_path, check=False, capture_output=True)
    outcome = script.read_report(tmp_path / "report.xml")
    assert outcome.passed == 2  # an expected failure is as it should be
    assert outcome.failed == ["test_it::test_bad", "test_it::test_fixture"]
    assert [test for test, _ in outcome.skipped] == ["test_it::test_package", "test_it::test_data"]
    ((test, why),) = outcome.unexcused
    assert test == "test_it::test_package"
    assert "no_such_package" in why
