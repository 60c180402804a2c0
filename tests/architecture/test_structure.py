"""The shape of the house: a light import, one door to R, no adapter imported by name, files of readable size."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import unimix as um

SOURCE = Path(um.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_unimix_loads_nothing_heavy() -> None:
    heavy = (
        "{'scipy', 'statsmodels', 'rpy2', 'pymer4', 'pymc', 'arviz', 'matplotlib', 'formulaic', 'pydantic', 'pandas'}"
    )
    assert run(f"import sys, unimix; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_every_public_name_leads_somewhere_and_is_documented() -> None:
    for name in um.__all__:
        thing = getattr(um, name)
        assert thing.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        _ = um.fitt  # type: ignore[attr-defined]
    assert set(um.__all__) <= set(dir(um))


def imports_of(path: Path) -> set[str]:
    """The modules of the package that a file imports anywhere, for types too."""
    known = {module_of(p) for p in FILES}
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {n if (n := f"{node.module}.{a.name}") in known else node.module for a in node.names}
    return found & known - {module_of(path)}


def module_of(path: Path) -> str:
    return ".".join(("unimix", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


def test_no_files_import_each_other_in_a_circle() -> None:
    """Type imports count; the package's own lazy table of names does not."""
    arrows = {module_of(p): imports_of(p) for p in FILES if p != SOURCE / "__init__.py"}
    while arrows:
        free = {module for module, targets in arrows.items() if not targets & arrows.keys()}
        assert free, f"these files are in a circle or lead into one: {sorted(arrows)}"
        arrows = {module: targets for module, targets in arrows.items() if module not in free}


def test_only_the_bridge_imports_rpy2() -> None:
    for path in FILES:
        if path.relative_to(SOURCE).as_posix() == "backends/r/bridge.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(n.split(".")[0] == "rpy2" for n in names), path


def test_nobody_asks_which_backend_it_is() -> None:
    """Outside an adapter's own file no decision hangs on a backend's name."""
    names = {"statsmodels", "lme4", "pymer4", "pymc", "mixedlm", "mixedlm_rs"}
    for path in FILES:
        if "backends" in path.parts or path.name == "demo.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                compared = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
                assert not compared & names, f"{path}:{node.lineno}"


def test_files_stay_readable() -> None:
    long = {
        str(p.relative_to(SOURCE)): n for p in FILES if (n := len(p.read_text(encoding="utf-8").splitlines())) > 450
    }
    assert long == {}
