"""Packages of third parties whose backends are broken: they end in an error that names them, and disturb no others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BROKEN = {
    "raises": ("raise RuntimeError('boom')", "does not import: RuntimeError: boom"),
    "exits": ("raise SystemExit('bye')", "does not import: SystemExit: bye"),
    "no_class": ("Mine = 3", "is not a subclass of unimix.backends.Backend"),
    "no_info": (
        "from unimix.backends import Backend\nclass Mine(Backend):\n    def _fit(self, e, p): pass",
        "has no info, a BackendInfo",
    ),
    "wrong_info": (
        "from unimix.backends.pls import Pls\nclass Mine(Pls):\n    info = 3",
        "has no info, a BackendInfo",
    ),
    "raises_when_made": (
        "from unimix.backends.pls import Pls\nclass Mine(Pls):\n    def __init__(self, **k): raise KeyError('x')",
        "Mine() of raises_when_made fails: KeyError: 'x'",
    ),
    "must_be_configured": (
        "from unimix.backends.pls import Pls\nclass Mine(Pls):\n    must: int",
        "must={}: Field required",
    ),
}

ASK = """
import sys, unimix as um
data, formula = um.load_dataset("sleepstudy"), "Reaction ~ Days + (1 | Subject)"
um.fit(formula, data), str(um.explain(formula, data)), str(um.recommend(formula, data)), str(um.backends())
for name in sys.argv[1:]:
    try: um.fit(formula, data, name)
    except um.UnimixError as error: print(name, "|", " ".join(str(error).split()))
try: um.backends.Mine
except um.UnimixError as error: print("attribute |", " ".join(str(error).split()))
try: um.fit(formula, data, "pls", dispformula="~ 0 + Days")
except um.UnsupportedModelError as error: print("refused |", " ".join(str(error).split()))
"""


def install(folder: Path, name: str, code: str, backend: str) -> None:
    """Write a package with an entry point, as pip would install it."""
    (folder / f"{name}.py").write_text(code)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[unimix.backends]\n{backend} = {name}:Mine\n")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a session says in which all these packages are installed, and two packages with one name."""
    folder = tmp_path_factory.mktemp("packages")
    for name, (code, _) in BROKEN.items():
        install(folder, name, code, name)
    for name in ("first", "second"):
        install(folder, name, "from unimix.backends.pls import Pls as Mine", "twice")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *(p for p in sys.path if p)])}
    command = [sys.executable, "-c", ASK, *BROKEN, "twice"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return dict(line.split(" | ", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_package_is_named(told: dict[str, str], name: str) -> None:
    assert BROKEN[name][1] in told[name]


def test_the_class_of_a_broken_package_is_told_by_its_error(told: dict[str, str]) -> None:
    assert "The backend 'raises' (raises:Mine) does not import" in told["attribute"]


def test_two_packages_with_one_name_are_told_when_the_name_is_used(told: dict[str, str]) -> None:
    assert "Two packages provide the backend 'twice'" in told["twice"]
    assert "Uninstall one." in told["twice"]


def test_other_backends_still_recommend_each_other(told: dict[str, str]) -> None:
    assert "glmmtmb" in told["refused"]
