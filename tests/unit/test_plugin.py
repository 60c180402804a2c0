"""The pytest plug-in, as a user's own test suite meets it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TEST = """
import pytest, unimix as um
from unimix.testing import assert_agree

@pytest.fixture(scope="module")
def reference():
    return um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"), backend="lme4")

def test_slope_is_ten_ms_a_day(backend, reference):
    fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"), backend=backend, seed=1)
    assert_agree(reference, fit)
    assert 9 < fit.fixed_effects.loc["Days", "estimate"] < 12

@pytest.mark.parametrize("backend", ["own"])
def test_own_parameters_are_left_alone(backend):
    assert backend == "own"
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_mine.py").write_text(TEST, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_runs_over_the_engines_that_are_asked_for(tmp_path: Path) -> None:
    done = run(tmp_path, "--unimix-backends=lme4,statsmodels")
    assert "3 passed" in done.stdout, done.stdout
    assert "test_slope_is_ten_ms_a_day[lme4]" in done.stdout
    assert "test_slope_is_ten_ms_a_day[statsmodels]" in done.stdout


def test_without_the_option_all_installed_engines(tmp_path: Path) -> None:
    done = run(tmp_path, "--collect-only")
    for name in ("statsmodels", "lme4", "pymer4", "pymc"):
        assert f"test_slope_is_ten_ms_a_day[{name}]" in done.stdout


def test_unknown_names_are_told(tmp_path: Path) -> None:
    done = run(tmp_path, "--unimix-backends=lme5")
    assert done.returncode != 0
    assert "known backends are" in done.stdout + done.stderr
