"""The markers that say what a test needs are set by the engine that a test names, and watched on all others."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

TESTS = """
import pytest, unimix as um
from unimix.testing import BackendContract

def fit(backend): return um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"), backend)

def test_unmarked(): fit("lme4")

@pytest.fixture(scope="module")
def fitted(): return fit("lme4")

def test_by_fixture(fitted): pass

@pytest.mark.r
def test_marked(): fit("lme4")

@pytest.mark.parametrize("backend", ["pls", "lme4", um.backends.GlmmTMB, um.backends.PyMC(draws=10), "bambi"])
def test_named(backend): fit(backend)

class TestHere(BackendContract):
    backend = "pymer4"
"""


def run(folder: Path, *arguments: str) -> str:
    """Run pytest on the tests above, with this project's conftest.py beside them."""
    shutil.copy(ROOT / "tests" / "conftest.py", folder)
    (folder / "test_it.py").write_text(TESTS)
    shutil.copy(ROOT / "pyproject.toml", folder)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def collected(folder: Path, selection: str) -> list[str]:
    said = run(folder, "--collect-only", "-m", selection)
    return [line.removeprefix("test_it.py::") for line in said.splitlines() if line.startswith("test_it.py::")]


def test_a_test_that_names_an_engine_is_marked_by_it(tmp_path: Path) -> None:
    assert collected(tmp_path, "not r and not mcmc") == ["test_unmarked", "test_by_fixture", "test_named[pls]"]
    assert collected(tmp_path, "mcmc") == ["test_named[backend3]", "test_named[bambi]"]
    found = collected(tmp_path, "r")
    assert found[:3] == ["test_marked", "test_named[lme4]", "test_named[GlmmTMB]"]
    assert all(name.startswith("TestHere::") for name in found[3:])
    assert len(found) > 50


@pytest.mark.parametrize(
    "group",
    [
        pytest.param("r", marks=pytest.mark.r, id="r"),
        pytest.param("mcmc", marks=pytest.mark.mcmc, id="mcmc"),
        pytest.param("r", marks=[pytest.mark.mcmc, pytest.mark.r], id="both"),
        pytest.param(None, marks=[pytest.mark.cluster, pytest.mark.r], id="cluster"),
        pytest.param(None, id="plain"),
    ],
)
def test_one_process_starts_r_and_files_stay_together(request: pytest.FixtureRequest, group: str) -> None:
    file = request.node.nodeid.partition("::")[0]
    assert request.node.get_closest_marker("xdist_group").args == (group or file,)


@pytest.mark.r
def test_groups_reach_the_processes(tmp_path: Path) -> None:
    """pytest-xdist tells the group of a test behind its name; a pytest that it does not know would drop it."""
    said = run(tmp_path, "-vv", "-n", "1", "--dist", "loadgroup", "-k", "test_named and (pls or lme4)")
    assert "test_it.py::test_named[pls]@test_it.py" in said
    assert "test_it.py::test_named[lme4]@r" in said


@pytest.mark.r
def test_a_test_that_uses_r_without_its_marker_fails_in_words(tmp_path: Path) -> None:
    said = run(tmp_path, "-k", "unmarked or by_fixture or marked or named and (pls or lme4)")
    assert "test_it.py::test_unmarked uses rpy2 without the marker 'r'" in said
    assert "test_it.py::test_by_fixture uses rpy2 without the marker 'r'" in said
    assert "    @pytest.mark.r" in said
    assert re.search(r"1 failed, 3 passed, \d+ deselected, 1 error", said)
