#!/usr/bin/env python3
"""Run the tests that need neither R nor PyMC nor Dask on every further Python, with the newest packages.

PyMC 5 with ArviZ 0.x is for Python 3.11, PyMC 6 with ArviZ 1 for later ones. So that both generations are tested, the
first further Python that has the generation which .venv has not also runs a choice of the tests of samplers.

Usage: python3 scripts/further_pythons.py [--workers N] [--beside FOLDER] [--list]

Every released CPython from 3.11 on the PATH and among pyenv's versions is taken, one of each minor version, except that
of .venv, on which everything is tested. Each has an environment of its own, .venvs/<minor version>, with the newest
versions that the bounds of pyproject.toml admit, so that a new NumPy or pandas is met here first. An environment is
made anew when pyproject.toml has changed, and brought up to date once a day. Only the standard library is used.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from environments import (
    MOST_WORKERS,
    OF_SAMPLERS,
    WITHOUT_R_AND_SAMPLER,
    clean_variables,
    interpreter,
    minor_version,
    no_venv,
    pytest_line,
)
from steps import Stop, say, step

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venvs"
OLDEST = (3, 11)
PYMC_6 = (3, 12)
"""First Python with PyMC 6, ArviZ 1 and bambi 0.18."""

FRESH = 24 * 3600.0  # seconds for which "the newest versions" are not looked up again

TOLD = ("numpy", "pandas", "scipy", "pydantic", "narwhals", "formulaic", "statsmodels", "arviz", "pymc", "bambi")
"""Packages whose versions are printed."""

NO_PACKAGE = ("UNIMIX_DATA", "POSIX")
"""Words of the reasons of skips that no package would undo: data without a licence, another operating system."""

DESCRIBE = (
    "import json, os, platform, sys; print(json.dumps({'version': sys.version_info[:3], 'path': sys.executable, "
    "'usable': platform.python_implementation() == 'CPython' and sys.version_info.releaselevel == 'final' "
    "and sys.prefix == sys.base_prefix}))"
)


@dataclass(frozen=True)
class Python:
    """An interpreter that was found."""

    path: str
    version: tuple[int, int, int]

    @property
    def minor(self) -> str:
        """Such as ``3.12``."""
        return ".".join(map(str, self.version[:2]))

    @property
    def text(self) -> str:
        """Such as ``Python 3.12.1``."""
        return f"Python {'.'.join(map(str, self.version))}"

    @property
    def has_pymc_6(self) -> bool:
        """Whether pip gives it PyMC 6 and ArviZ 1."""
        return self.version >= PYMC_6


@dataclass(frozen=True)
class Suite:
    """Tests, and what they need.

    Attributes:
        extras: Extras of unimix.
        markers: Expression that chooses tests by their markers.
        tests: Folders, files or single tests.
        suffix: End of the name of the environment.
    """

    extras: str
    markers: str
    tests: tuple[str, ...]
    suffix: str = ""


CORE = Suite("test", WITHOUT_R_AND_SAMPLER, ("tests",))

SAMPLERS = Suite(
    "test,bambi",
    OF_SAMPLERS,
    (
        "tests/contract/test_backends.py::TestPyMC::test_same_seed_same_answer",
        "tests/contract/test_backends.py::TestPyMC::test_order_of_rows_index_and_container_change_nothing",
        "tests/contract/test_backends.py::TestPyMC::test_modes_and_their_covariances_are_those_of_the_estimates",
        "tests/contract/test_backends.py::TestPyMC::test_meets_stored_references[sleepstudy_slope]",
        "tests/backends/test_pymc_model.py",
        "tests/backends/test_bambi.py",
        "tests/backends/test_bayes_generalised.py",
        "tests/installation/test_doctor.py",
        "tests/plots/test_plots.py",
    ),
    "-samplers",
)
"""What meets the generation of PyMC, ArviZ and bambi.

These are the names, shapes and coordinates of draws, PyMC's own functions on them, ArviZ's statistics and pictures, and
bambi's models and draws, and of ``bayes`` what is sampled by NUTS. The contract of ``bayes`` needs no PyMC, so it
is in CORE. Further tests of samplers are about unimix's own densities and arithmetic.
"""


@dataclass(frozen=True)
class Outcome:
    """What a run of pytest wrote about itself; an expected failure counts as passed."""

    passed: int
    failed: list[str]
    skipped: list[tuple[str, str]]

    @property
    def unexcused(self) -> list[tuple[str, str]]:
        """Skipped tests and their reasons, where installing something would have run them."""
        return [(test, why) for test, why in self.skipped if not any(word in why for word in NO_PACKAGE)]


def main() -> int:
    """Test each further Python; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--workers", type=int, default=min(MOST_WORKERS, os.cpu_count() or 1), help="processes of pytest"
    )
    parser.add_argument("--beside", default=".venv", type=Path, help="environment whose Python is left out (.venv)")
    parser.add_argument("--list", action="store_true", help="print the Pythons that were found, and end")
    arguments = parser.parse_args()
    found = further(candidates(), minor_version(ROOT / arguments.beside))
    if arguments.list:
        for python in found:
            say(f"{python.text}  {python.path}")
        return 0
    if not found:
        say("No further Python from 3.11 is on the PATH or among pyenv's versions: nothing more to test.")
    codes = [tested(python, CORE, arguments.workers) for python in found]
    other = of_the_other_generation(found, minor_version(ROOT / arguments.beside))
    if other:
        codes.append(tested(other, SAMPLERS, arguments.workers))
    return max([0, *codes])


# -- which Pythons ---------------------------------------------------------------------------------


def candidates() -> Iterator[Path]:
    """Programs that may be a Python: on the PATH, then among pyenv's versions."""
    name = re.compile(r"python(3(\.\d+)?)?(\.exe)?")
    for entry in os.environ.get("PATH", "").split(os.pathsep):
        folder = Path(entry)
        if entry and folder.is_dir():
            yield from sorted(p for p in folder.iterdir() if name.fullmatch(p.name))
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for version in sorted(root.glob("versions/*")):
        yield from (p for p in (version / "bin/python3", version / "python.exe") if p.exists())


def further(paths: Iterator[Path], first: str | None) -> list[Python]:
    """The newest patch of each minor version from 3.11, without that of the first Python."""
    newest: dict[str, Python] = {}
    for path in paths:
        python = described(path)
        if python is None or python.version < OLDEST or python.minor == first:
            continue
        if python.minor not in newest or python.version > newest[python.minor].version:
            newest[python.minor] = python
    return sorted(newest.values(), key=lambda p: p.version)


def of_the_other_generation(found: Sequence[Python], first: str | None) -> Python | None:
    """The first Python that gets the generation of PyMC which the first Python, such as "3.11", has not."""
    if first is None:
        return next(iter(found), None)
    newer = tuple(map(int, first.split("."))) >= PYMC_6
    return next((p for p in found if p.has_pymc_6 != newer), None)


def described(program: Path) -> Python | None:
    """What a program says of itself; None where it is no released CPython, or belongs to a virtual environment."""
    try:
        done = subprocess.run(
            [program, "-I", "-c", DESCRIBE],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env=clean_variables(),
        )
        said = json.loads(done.stdout)
        major, minor, micro = said["version"]
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return Python(said["path"], (major, minor, micro)) if said["usable"] else None


# -- what is done with each ------------------------------------------------------------------------


def tested(python: Python, suite: Suite, workers: int) -> int:
    """Make the environment, run the tests and print the line that tells it; return the exit code."""
    home = FOLDER / f"{python.minor}{suite.suffix}"
    line = pytest_line(interpreter(home), [ROOT / test for test in suite.tests], workers, suite.markers)
    started = time.monotonic()
    try:
        prepare(python, home, suite.extras)
        outcome = run_tests(python, home, line)
    except Stop as error:
        print(f"{python.text}: {error}", file=sys.stderr)
        return 1
    seconds = time.monotonic() - started
    versions = ", ".join(f"{name} {version}" for name, version in installed(home).items() if name in TOLD)
    bad = outcome.failed or outcome.unexcused
    say(
        f"{python.text}: {'FAILED' if bad else 'passed'} with {versions}: {outcome.passed} passed, "
        f"{len(outcome.failed)} failed, {len(outcome.skipped)} skipped, {seconds:.0f} s"
    )
    for test in outcome.failed:
        say(f"  failed: {test}")
    for test, why in outcome.skipped:
        say(f"  skipped: {test}: {why}")
    if outcome.unexcused:
        say(f'  A package is missing that the extras "{suite.extras}" in pyproject.toml should name.')
    if bad:
        say(f"  What pytest said stands in {home / 'tests.log'}; to try again:\n    {shlex.join(line)}")
    return 1 if bad else 0


def prepare(python: Python, home: Path, extras: str) -> None:
    """Make the environment with these extras of unimix, or bring it up to date, unless it is fresh."""
    stamp = home / "unimix-stamp"
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + f"{python}{home}{extras}".encode()).hexdigest()
    same = stamp.is_file() and stamp.read_text() == wanted
    if same and 0 <= time.time() - stamp.stat().st_mtime < FRESH:
        return
    if not same:
        with step(f"{python.text}: making {home.relative_to(ROOT)}"):
            shutil.rmtree(home, ignore_errors=True)
            log = home.with_name(f"{home.name}.log")
            if call([python.path, "-m", "venv", home], log):
                raise Stop(f"it could not make a virtual environment:\n{log.read_text()}\n{no_venv(python.minor)}")
    stamp.unlink(missing_ok=True)
    with step(f"{python.text}: installing the newest packages"):
        install = [*(interpreter(home), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")]
        newest = ["--upgrade", "--upgrade-strategy", "eager", "--editable", f"{ROOT}[{extras}]"]
        if call([*install, *newest], home / "pip.log"):
            raise Stop(f"pip could not install the packages:\n{(home / 'pip.log').read_text()}")
    stamp.write_text(wanted)


def run_tests(python: Python, home: Path, line: list[str]) -> Outcome:
    """Run pytest; its words go to ``tests.log`` in the environment."""
    report = home / "tests.xml"
    report.unlink(missing_ok=True)
    # small matrices: threads of the linear algebra cost more than they bring beside other processes
    with step(f"{python.text}: running the tests in {home.relative_to(ROOT)}"):
        code = call([*line, f"--junitxml={report}"], home / "tests.log", OPENBLAS_NUM_THREADS="1")
    if code not in (0, 1) or not report.is_file():
        said = (home / "tests.log").read_text().splitlines()[-30:]
        raise Stop("\n".join([f"pytest ended with code {code} and these words:", *said]))
    outcome = read_report(report)
    if code == 1 and not outcome.failed:
        raise Stop(f"pytest reports a failure, but no test failed; see {home / 'tests.log'}")
    return outcome


def read_report(report: Path) -> Outcome:
    """Read pytest's XML, in which a test that fails and whose fixture fails after it stands twice."""
    failed, skipped, passed = [], [], 0
    for case in ET.parse(report).iter("testcase"):  # noqa: S314  it was written by pytest a moment ago
        name = f"{case.get('classname')}::{case.get('name')}"
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(name)
        elif skip is not None and skip.get("type") == "pytest.skip":
            skipped.append((name, skip.get("message", "")))
        else:
            passed += 1
    return Outcome(passed, failed, skipped)


def installed(home: Path) -> dict[str, str]:
    """Versions of the packages of an environment."""
    ask = [*(interpreter(home), "-m", "pip", "list", "--format", "json", "--disable-pip-version-check")]
    done = subprocess.run(ask, capture_output=True, text=True, check=True, env=clean_variables())
    return {p["name"]: p["version"] for p in json.loads(done.stdout)}


def call(line: Sequence[str | Path], log: Path, **more: str) -> int:
    """Run a program in the checkout with its words in a file; return its exit code."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as words:
        environment = {**more, **clean_variables()}
        return subprocess.run(
            line, cwd=ROOT, stdout=words, stderr=subprocess.STDOUT, check=False, env=environment
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
