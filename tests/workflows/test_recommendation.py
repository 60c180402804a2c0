"""um.recommend: from the model and the data, whatever is installed."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.backends import registry
from unimix.backends.interface import BackendInfo
from unimix.backends.pls import Pls
from unimix.testing import simulate_rich

RICH = simulate_rich()


@pytest.mark.parametrize(
    ("formula", "arguments", "backend", "check", "posterior"),
    [
        ("y ~ x + (1 + x | g)", {}, "pls", "glmm", "bayes"),
        ("y ~ x + (1 + x | g) + (1 | h)", {"weights": "w"}, "pls", "glmm", "bayes"),
        ("success ~ x + (1 | g)", {"family": "binomial"}, "pls", "glmm", "bayes"),
        ("count ~ x + (1 | g)", {"family": "poisson", "ziformula": "~ 1"}, "pls", "glmmtmb", ""),
        ("y ~ x + (1 | g)", {"method": "posterior"}, "bayes", "pymc", "bayes"),
        ("y ~ x + (1 | g)", {"priors": {"x": um.priors.Normal(0, 1)}}, "bayes", "pymc", "bayes"),
        ("success ~ x + (1 | g)", {"family": "binomial", "method": "posterior"}, "bayes", "pymc", "bayes"),
    ],
)
def test_engines_by_model(formula: str, arguments: dict[str, Any], backend: str, check: str, posterior: str) -> None:
    found = um.recommend(formula, RICH, **arguments)
    assert (found.backend, found.check, found.posterior) == (backend, check, posterior)
    assert found.able[0] == backend
    assert str(found).startswith(f"{backend}: ")


def test_every_engine_it_names_can_fit_and_the_line_runs() -> None:
    found = um.recommend("y ~ x + (1 | g)", RICH, weights="w")
    for name in found.able:
        assert name in um.explain("y ~ x + (1 | g)", RICH, weights="w").able or name == "pls"
    assert "weights='w'" in found.call
    fit = eval(found.call, {"um": um, "data": RICH})
    assert fit.converged


def test_it_does_not_depend_on_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    there = um.recommend("y ~ x + (1 | g)", RICH)
    monkeypatch.setattr(Pls, "available", lambda self: False)
    absent = um.recommend("y ~ x + (1 | g)", RICH)
    assert absent.backend == there.backend == "pls"
    assert there.install == ""
    assert absent.install == Pls.install_lines()
    assert "Install it first" in str(absent)


def test_large_crossed_factors_go_to_glmm() -> None:
    rng = np.random.default_rng(1)
    data = pd.DataFrame(
        {"y": rng.normal(size=9000), "g": rng.integers(0, 1500, 9000), "h": rng.integers(0, 1200, 9000)}
    )
    assert um.recommend("y ~ 1 + (1 | g) + (1 | h)", data).backend == "glmm"


def test_notes_are_about_the_data() -> None:
    few = um.recommend("y ~ x + (1 | h)", RICH)
    assert any("h (9)" in n and "kenward-roger" in n for n in few.notes)
    assert not um.recommend("y ~ x + (1 | g)", RICH).notes
    poor = um.recommend("success ~ x + (1 | g)", RICH.iloc[::5], family="binomial")
    assert any("AGQ" in n for n in poor.notes)
    with pytest.raises(um.UnsupportedModelError, match="No engine"):
        um.recommend("y ~ x + ar1(0 + t | g)", RICH, method="posterior")


def test_the_default_is_the_first_engine() -> None:
    assert um.fit("y ~ x + (1 | g)", RICH).engine.backend == um.recommend("y ~ x + (1 | g)", RICH).backend


def test_degrees_of_freedom_and_limits_are_part_of_what_is_asked() -> None:
    found = um.recommend("y ~ x + (1 | g)", RICH, df_method="kenward-roger", time_limit=60)
    assert {"pls", "lme4"} <= set(found.able)
    assert not {"bayes", "pymc", "bambi"} & set(found.able)
    assert found.call.endswith("backend='pls', df_method='kenward-roger', time_limit=60)")


class Quickest(Pls):
    """A third party's engine: it computes, and says better of itself than unimix's own do."""

    info: ClassVar[BackendInfo] = BackendInfo(
        name="quickest",
        engine="quickest",
        title="The quickest engine",
        packages=("numpy",),
        distributions=("unimix", "numpy"),
        install="pip install unimix-quickest",
        url="https://example.org",
        strengths="quicker than all others",
        rank=1,
        r_packages=("quickestR", "Matrix"),
    )


@pytest.fixture
def third_party(monkeypatch: pytest.MonkeyPatch) -> None:
    own = SimpleNamespace(name="quickest", value="unimix_quickest:Quickest", attr="Quickest", load=lambda: Quickest)
    known = {**registry.registered(), "quickest": own}
    monkeypatch.setattr(registry, "registered", lambda: known)


@pytest.mark.usefixtures("third_party")
def test_a_third_partys_engine_is_recommended_by_what_it_says_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    found = um.recommend("y ~ x + (1 | g)", RICH)
    assert (found.backend, found.why, found.check) == ("quickest", "quicker than all others", "pls")
    assert found.able[:2] == ("quickest", "pls")
    assert um.fit("y ~ x + (1 | g)", RICH, found.backend).engine.engine == "quickest"
    assert um.recommend("y ~ x + (1 | g)", RICH, method="posterior").backend == "bayes"
    monkeypatch.setattr(Quickest, "info", replace(Quickest.info, rank=BackendInfo.rank, strengths=""))
    able = um.recommend("y ~ x + (1 | g)", RICH).able
    assert able.index("quickest") == sum(
        not registry.backend_class(n).info.samples for n in able if n in registry.built_in()
    )


@pytest.mark.usefixtures("third_party")
def test_a_third_partys_engine_is_diagnosed_by_what_it_says_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Quickest, "info", replace(Quickest.info, distributions=("unimix-quickest",)))
    found = um.doctor()
    assert {"unimix", "R", "rpy2", "quickestR", "Matrix", "unimix-quickest"} <= set(found.needs["quickest"])
    assert found["quickestR"].status == "missing"
    assert found["unimix-quickest"].message == "not installed: needed by backend='quickest'"
    assert not found.ready["quickest"]
    assert "quickest" in str(found).split("Not yet: ")[1].split(".")[0]


def test_a_package_with_an_entry_point_is_recommended_and_diagnosed(tmp_path: Path) -> None:
    plugin = Path(__file__).parents[1] / "plugin_package" / "run.py"
    runpy.run_path(str(plugin))["install_into"](tmp_path)
    code = (
        "import unimix as um; data = um.load_dataset('sleepstudy'); "
        "print(um.recommend('Reaction ~ Days + (1 | Subject)', data).able); print(um.doctor().ready['densepls'])"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    able, ready = done.stdout.splitlines()
    assert "'densepls'" in able
    assert able.index("'pls'") < able.index("'mixedlm_rs'") < able.index("'densepls'") < able.index("'bayes'")
    assert ready == "True"
