"""What unimix computes in lme4's place, against lme4 and lmerTest; and R's memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import unimix as um
from unimix.backends import Lme4, Pymer4
from unimix.backends.r.bridge import connect

pytestmark = pytest.mark.r
CASES = {
    "sleepstudy": ("Reaction ~ Days + (1 + Days | Subject)", None),
    "penicillin": ("diameter ~ 1 + (1 | plate) + (1 | sample)", None),
    "pastes": ("strength ~ 1 + (1 | batch / cask)", None),
    "dietox": ("Weight ~ Time + (1 + Time || Pig)", None),
    "orthodont": ("distance ~ age * Sex + (1 + age | Subject)", "w"),
}


def data_of(name: str):
    data = um.load_dataset(name)
    return data.assign(w=np.random.default_rng(1).uniform(0.5, 2, len(data)))


@pytest.mark.parametrize("name", CASES)
def test_conditional_covariances_are_those_of_ranef(name: str) -> None:
    """1e-8 relative: the same closed form by another factorisation."""
    formula, weights = CASES[name]
    fit = um.fit(formula, data_of(name), Lme4(conditioning=False), weights=weights)
    bridge = connect("lme4", "")
    answer = bridge.call("extract_model", fit.native, len(fit.random), np.zeros((0, 0)), "normal", True)
    for part, theirs in zip(fit.random, answer["mode_covs"], strict=True):
        q, levels = len(part.terms), len(part.levels)
        own = np.moveaxis(theirs.reshape(q, q, levels, order="F"), 2, 0)
        np.testing.assert_allclose(part.mode_covariance, own, rtol=1e-6, atol=1e-8 * np.abs(own).max())


@pytest.mark.parametrize("backend", [Lme4, Pymer4])
@pytest.mark.parametrize("name", ["sleepstudy", "orthodont", "penicillin"])
def test_degrees_of_freedom_are_those_of_lmertest(name: str, backend: type[Lme4 | Pymer4]) -> None:
    """1e-4: lmerTest takes derivatives by differences."""
    formula, weights = CASES[name]
    own = um.fit(formula, data_of(name), backend(), weights=weights)
    other = um.fit(formula, data_of(name), backend(satterthwaite="lmerTest"), weights=weights)
    assert "exact derivatives" in own.provenance["df"]
    assert other.provenance["df"] == "satterthwaite by lmerTest"
    assert "lmerTest" in other.engine.versions
    np.testing.assert_allclose(own.fixed.df, other.fixed.df, rtol=1e-4)
    np.testing.assert_allclose(own.fixed.p_value, other.fixed.p_value, rtol=1e-3)


HELD = """
import gc, psutil
import unimix as um
from unimix.backends.r import bridge
from unimix.testing import simulate_slopes

data = simulate_slopes(n_groups=200, n_per_group=20)

def held(fits):
    for _ in range(fits):
        um.fit("y ~ x + (1 + x | g)", data, backend="lme4")
    gc.collect()
    bridge.connect("lme4", str).call("prepare", ["lme4"])
    return psutil.Process().memory_info().rss / 2**20

before = held(40)
print(held(200) - before)
"""


def test_two_hundred_fits_leave_nothing_behind() -> None:
    """Memory after 200 more fits of 4,000 rows: 20 MB is noise of allocators, the fits' own arrays are 200 MB.

    In a process of its own, because one that has run a thousand other tests gives memory back when it likes.
    """
    done = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 20
