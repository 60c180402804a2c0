"""The shape of the house: a light import, one door to R, no adapter imported by name, files of readable size."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import unimix as um
from unimix.backends import BackendInfo
from unimix.backends.registry import DEFAULT_BACKEND, backend_class, built_in

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


BACKENDS = {*built_in()}
ROOMS_OF_ENGINES = ("r", "statsmodels", "sampling")


def belongs_to_an_engine(path: Path) -> bool:
    parts = path.relative_to(SOURCE / "backends").parts if path.is_relative_to(SOURCE / "backends") else ("",)
    return parts[0] in ROOMS_OF_ENGINES or any(parts[0].startswith(name) for name in BACKENDS)


def test_nobody_asks_which_backend_it_is() -> None:
    """Outside an engine's own files its name is in no comparison, no table, no key and no default.

    The exceptions are the constant that names the default engine, and "ordinal", another name of a family.
    """
    assert len(BACKENDS) > 10
    named = [
        f"{path.relative_to(SOURCE).as_posix()}: {node.value}"
        for path in FILES
        if not belongs_to_an_engine(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in BACKENDS
    ]
    another = [f"distributions/family_names.py: {name}" for name in ("ordinal", "ordinal")]
    assert named == [f"backends/registry.py: {DEFAULT_BACKEND}", *another]


def test_the_project_names_every_engine_in_its_rules() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    points = project["project"]["entry-points"]["unimix.backends"]
    assert points.keys() == BACKENDS
    contracts = {c["id"]: c for c in project["tool"]["importlinter"]["contracts"]}
    assert set(contracts["engines-apart"]["modules"]) == {value.partition(":")[0] for value in points.values()}


def test_engines_say_for_themselves_what_speaks_for_them() -> None:
    infos = {name: backend_class(name).info for name in BACKENDS}
    assert all(info.strengths for info in infos.values())
    for sampler in (False, True):
        ranks = [i.rank for i in infos.values() if i.samples is sampler]
        assert len(set(ranks)) == len(ranks)
        assert max(ranks) < BackendInfo("own", "own", "own", (), (), "").rank


def test_files_stay_readable() -> None:
    long = {
        str(p.relative_to(SOURCE)): n for p in FILES if (n := len(p.read_text(encoding="utf-8").splitlines())) > 450
    }
    assert long == {}
