"""What a release says of itself: one version, and every file that the package reads."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

import unimix as um

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "unimix"


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def project_file() -> dict[str, Any]:
    return tomllib.loads(read("pyproject.toml"))


def test_the_version_is_said_once() -> None:
    said = [
        path.relative_to(ROOT).as_posix()
        for path in SOURCE.rglob("*.py")
        if re.search(r"^\s*__version__\s*(:\s*\w+\s*)?=", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert said == ["src/unimix/_version.py"]
    found = project_file()
    assert "version" not in found["project"]
    assert found["project"]["dynamic"] == ["version"]
    assert found["tool"]["hatch"]["version"] == {"path": "src/unimix/_version.py"}


def test_citation_and_changelog_name_the_version_and_its_date() -> None:
    newest = re.search(r"^## (?P<version>\S+) - (?P<date>.+)$", read("CHANGELOG.md"), re.MULTILINE)
    assert newest is not None
    assert newest["version"] == um.__version__
    cited = dict(re.findall(r"^(version|date-released): (.+)$", read("CITATION.cff"), re.MULTILINE))
    dated = {} if newest["date"] == "unreleased" else {"date-released": newest["date"]}
    assert cited == {"version": um.__version__, **dated}


def data_files() -> list[str]:
    """All but Python in the package, as it lies in this folder: what its code reads, and py.typed."""
    return sorted(
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    )


def test_every_data_file_is_in_the_installed_package() -> None:
    """Telling where the package was installed from a wheel: `make dist` runs this test there."""
    installed = Path(um.__file__).parent
    assert {"py.typed", "backends/r/bridge.R", "datasets/index.json", "testing/references.json"} <= set(data_files())
    for name in data_files():
        assert (installed / name).read_bytes() == (SOURCE / name).read_bytes(), name


def test_no_setting_keeps_a_file_of_the_package_out_of_the_wheel() -> None:
    targets = project_file()["tool"]["hatch"]["build"]["targets"]
    assert targets["wheel"] == {"packages": ["src/unimix"]}
    assert "/src" in targets["sdist"]["include"]
    assert "exclude" not in targets["sdist"]
    for name in data_files():  # the build leaves out what git ignores
        assert not ignored(PurePosixPath("src/unimix") / name), name


def ignored(path: PurePosixPath) -> bool:
    """Whether a pattern of .gitignore matches the path or one of its folders."""
    patterns = [line for line in read(".gitignore").splitlines() if line and not line.startswith("#")]
    assert not any(p.startswith("!") or "**" in p for p in patterns), "teach this function what these mean"
    for pattern in patterns:
        plain = pattern.rstrip("/")
        anchored = "/" in plain
        for place in (path, *path.parents):
            if fnmatch(place.as_posix() if anchored else place.name, plain.lstrip("/")):
                return True
    return False


def test_what_git_ignores_is_recognised() -> None:
    assert ignored(PurePosixPath("benchmarks/results/table.json"))
    assert ignored(PurePosixPath("src/unimix/__pycache__/api.cpython-311.pyc"))
    assert not ignored(PurePosixPath("src/unimix/results/result.py"))
