"""The model for marginaleffects, in marginaleffects itself.

It needs polars below 2, which the environment of the tests has not: both are installed into folders of their own, which
stand before the environment on the path of another process.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unimix as um

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "support" / "through_marginaleffects.py"
FORMULA = "cbind(incidence, size - incidence) ~ period + (1 | group)"
ENGINES = ("statsmodels", "lme4", "glmmtmb", "pls", "mixedlm", "pymc")


def plain_environment() -> dict[str, str]:
    """Without the library path that R sets when it is loaded: another OpenSSL than Python's stands on it."""
    return {k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"}


def install(folder: Path, *what: str) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--target",
        str(folder),
    ]
    done = subprocess.run([*command, *what], capture_output=True, text=True, check=False, env=plain_environment())
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"{what[-1]} cannot be installed here: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr


def run(folders: Sequence[Path], *arguments: str) -> subprocess.CompletedProcess[str]:
    source = str(Path(um.__file__).parents[1])
    path = os.pathsep.join([*map(str, folders), source, *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {"OPENBLAS_NUM_THREADS": "1", **plain_environment(), "PYTHONPATH": path}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, env=env)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """marginaleffects alone, and the polars it needs: as the extra names them, without jax and the plots."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = {line.partition(">")[0]: line for line in extras["marginaleffects"]}
    package, polars = tmp_path_factory.mktemp("package"), tmp_path_factory.mktemp("polars")
    install(package, "--no-deps", wanted["marginaleffects"])
    install(polars, wanted["polars"])
    return package, polars


@pytest.fixture(scope="module")
def said(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    here, ours = tmp_path_factory.mktemp("results"), {}
    data = um.load_dataset("cbpp").rename(columns={"herd": "group"})
    for engine in ENGINES:
        quick = {"sampler": "pymc", "cores": 1, "draws": 400, "tune": 300, "chains": 2, "retry": False}
        options = quick if engine == "pymc" else {}
        fit = um.fit(FORMULA, data, engine, family="binomial", options=options, seed=1 if options else None)
        fit.to_json(here / f"{engine}.json")
        data.to_csv(here / f"{engine}.csv", index=False)
        ours[engine] = {"hypotheses": fit.hypotheses("b1 = b2"), "comparisons": fit.comparisons("period").table}
        ours[engine]["posterior"] = fit.fixed.interval == "credible"
    done = run(folders, str(SCRIPT), str(here))
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "ours": ours}


@pytest.mark.r
@pytest.mark.mcmc
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engines_result_goes_through_it(said: dict[str, Any], engine: str) -> None:
    """Its derivatives are finite differences: 1e-4 of the standard errors."""
    found = said["engines"][engine]
    np.testing.assert_allclose(found["predictions"]["estimate"], found["link"][0], rtol=1e-9)
    np.testing.assert_allclose(np.array(found["averages"]["estimate"])[[0, 3]], found["link"][0], rtol=1e-9)
    assert found["by_group"] == 15
    assert found["rows"] == 56 * 3
    if said["ours"][engine]["posterior"]:  # unimix's own are of draws, these of their mean and covariance matrix
        ours, theirs = said["ours"][engine]["comparisons"], found["comparisons"]
        assert (np.abs(ours["estimate"] - theirs["estimate"]) < 0.3 * ours["std_error"]).all()
        return
    for name in ("hypotheses", "comparisons"):
        ours, theirs = said["ours"][engine][name], found[name]
        np.testing.assert_allclose(theirs["estimate"], ours["estimate"], rtol=1e-8)
        np.testing.assert_allclose(theirs["std_error"], ours["std_error"], rtol=1e-4)


@pytest.mark.r
@pytest.mark.mcmc
def test_comparisons_are_those_of_marginaleffects(said: dict[str, Any]) -> None:
    """Estimates 1e-6, errors 1e-4: its derivatives and its slopes are finite differences."""
    *quiet, warned = said["kinds"].pop("warned")
    assert len(warned) == 1
    assert "can be far off" in warned[0]
    assert quiet == [[], []]
    assert len(said["kinds"]) == 2 * 5 + 2 * 4 + 3 + 2 * 3 + 4
    for name, (ours, theirs) in said["kinds"].items():
        np.testing.assert_allclose(ours["estimate"], theirs["estimate"], rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(ours["std_error"], theirs["std_error"], rtol=1e-4, err_msg=name)


def test_a_missing_package_and_the_wrong_polars_are_told(folders: tuple[Path, Path]) -> None:
    code = (
        "import unimix as um\n"
        "fit = um.fit('Reaction ~ Days', um.load_dataset('sleepstudy'), 'pls')\n"
        "try:\n    fit.to_marginaleffects()\n"
        "except um.UnimixError as error:\n    print(type(error).__name__, error)\n"
    )
    if importlib.util.find_spec("marginaleffects") is None:
        told = run([], "-c", code).stdout
        assert told.startswith("EngineNotInstalledError marginaleffects is not installed")
        assert '    pip install "marginaleffects>=' in told
    told = run(folders[:1], "-c", code).stdout
    there = {d.name: d.version for d in metadata.distributions(path=[str(folders[0])])}
    assert told.startswith(f"EngineBrokenError marginaleffects {there['marginaleffects']} and polars 2.")
    assert re.search(r'\n    pip install .*"polars>=1.42,<2"', told)
