"""The pytest plug-in, as a user's own test suite meets it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from unimix.backends.registry import others, registered

TEST = """
import pytest, unimix as um
from unimix.testing import assert_agree

@pytest.fixture(scope="module")
def reference():
    return um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"), backend="pls")

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
    done = run(tmp_path, "--unimix-backends=pls,statsmodels")
    assert "3 passed" in done.stdout, done.stdout
    assert "test_slope_is_ten_ms_a_day[pls]" in done.stdout
    assert "test_slope_is_ten_ms_a_day[statsmodels]" in done.stdout


def test_without_the_option_all_installed_engines(tmp_path: Path) -> None:
    done = run(tmp_path, "--collect-only")
    able = {name for name, engine in others().items() if engine.available()}
    assert able >= {"pls", "statsmodels", "bayes", "mixedlm", "mixedlm_rs"}
    for name in registered():
        assert (f"test_slope_is_ten_ms_a_day[{name}]" in done.stdout) == (name in able)


REFUSED = """
import pytest, unimix as um

def test_it(backend):
    um.fit("Reaction ~ Days + (1 + Days | Subject) + (1 | Days)", um.load_dataset("sleepstudy"), backend=backend)

@pytest.fixture
def fit(backend):
    return um.fit("Reaction ~ Days + (1 + Days | Subject) + (1 | Days)", um.load_dataset("sleepstudy"), backend)

def test_fixture(fit):
    assert fit.converged

@pytest.mark.parametrize("backend", ["mixedlm_rs"])
def test_own(backend):
    um.fit("Reaction ~ Days + (1 + Days | Subject) + (1 | Days)", um.load_dataset("sleepstudy"), backend=backend)
"""


def test_a_refusal_skips_with_its_reason_unless_the_engine_was_named(tmp_path: Path) -> None:
    (tmp_path / "test_refused.py").write_text(REFUSED, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rA",
        "-p",
        "no:cacheprovider",
        "test_refused.py",
        "-k",
        "mixedlm_rs",
    ]
    unnamed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 failed, 2 skipped" in unnamed.stdout, unnamed.stdout
    assert "mixedlm_rs does not fit this model: " in unnamed.stdout
    named = subprocess.run(
        [*command, "--unimix-backends=mixedlm_rs"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "2 failed, 1 error" in named.stdout, named.stdout


def test_unknown_names_are_told(tmp_path: Path) -> None:
    done = run(tmp_path, "--unimix-backends=lme5")
    assert done.returncode != 0
    assert "known backends are" in done.stdout + done.stderr
