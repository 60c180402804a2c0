"""scripts/dist.py: what must not go out in a release is found. `make dist` itself builds and tries it out."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import dist  # noqa: E402  the scripts are no package
import steps  # noqa: E402

PACKAGE = {"unimix/__init__.py": b"", "unimix/py.typed": b"", "unimix/backends/lme4.R": b"f <- 1"}
INFORMATION = {"unimix-1.dist-info/METADATA": b"Version: 1", "unimix-1.dist-info/licenses/LICENSE": b"MIT"}
SOURCE = {"LICENSE": b"MIT", "PKG-INFO": b"", **{f"src/{name}": content for name, content in PACKAGE.items()}}


def test_a_good_wheel_has_no_faults():
    assert dist.wheel_faults(PACKAGE | INFORMATION, 1, SOURCE) == []


@pytest.mark.parametrize("lost", [*PACKAGE, "unimix-1.dist-info/licenses/LICENSE"])
def test_what_the_wheel_lacks_is_named(lost):
    files = {name: content for name, content in (PACKAGE | INFORMATION).items() if name != lost}
    faults = dist.wheel_faults(files, 1, SOURCE)
    assert any(lost in fault or lost.rpartition("/")[2] in fault for fault in faults)


def test_what_is_too_much_in_the_wheel_is_named():
    faults = dist.wheel_faults(PACKAGE | INFORMATION | {"tests/test_api.py": b""}, 1, SOURCE)
    assert faults == ["tests/test_api.py is in the wheel but not in src."]
    faults = dist.wheel_faults(PACKAGE | INFORMATION | {"unimix/__init__.py": b"x"}, 1, SOURCE)
    assert faults == ["unimix/__init__.py is another file in the wheel than in the sdist."]


@pytest.mark.parametrize(
    "name",
    [
        "src/unimix/__pycache__/api.cpython-311.pyc",
        "benchmarks/results/table.json",
        ".mypy_cache/3.11/cache.db",
        "tests/.pytest_cache/README.md",
        "site/index.html",
        ".venv/bin/python",
        "demo_output/groups.png",
    ],
)
def test_caches_and_results_are_unwanted(tmp_path, name):
    assert dist.sdist_faults(SOURCE | {name: b""}, 1, tmp_path) == [f"{name} does not belong into the sdist."]


def test_the_folder_of_results_in_the_package_is_none_of_a_benchmark(tmp_path):
    assert dist.sdist_faults(SOURCE | {"src/unimix/results/result.py": b""}, 1, tmp_path) == []


def test_sizes_are_limited_per_file_and_in_sum():
    limit = dist.Limit(file=2048, unpacked=3072, packed=1024)
    assert dist.common_faults("it", {"a": b"0" * 2048}, 1024, limit) == []
    assert dist.common_faults("it", {"a": b"0" * 3072}, 1, limit) == [
        "a in it has 3 KiB; the limit for a file is 2 KiB."
    ]
    assert dist.common_faults("it", dict.fromkeys("ab", b"0" * 2048), 2048, limit) == [
        "The files of it have 4 KiB together; the limit is 3 KiB.",
        "The archive of it has 2 KiB; the limit is 1 KiB.",
    ]


def test_the_sdist_is_compared_with_what_git_tracks(tmp_path):
    for name in ("LICENSE", "src/unimix/__init__.py", "docs/index.md", ".github/workflows/ci.yml", "stray.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for command in (["init", "--quiet"], ["add", "LICENSE", "src", "docs", ".github"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    files = {"LICENSE": b"", "PKG-INFO": b"", "src/unimix/__init__.py": b"", "stray.txt": b""}
    untracked, missing = dist.sdist_faults(files, 1, tmp_path)
    assert untracked.startswith("stray.txt is in the sdist but not tracked")
    assert missing.startswith("docs/index.md is tracked but not in the sdist")


def test_archives_are_read_and_links_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("unimix/py.typed", b"")
        archive.mkdir("unimix/data") if hasattr(archive, "mkdir") else archive.writestr("unimix/data/", b"")
    assert dist.read_wheel(tmp_path / "a.whl") == {"unimix/py.typed": b""}
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        plain = tarfile.TarInfo("unimix-1/README.md")
        plain.size = 2
        archive.addfile(plain, io.BytesIO(b"hi"))
    assert dist.read_sdist(tmp_path / "a.tar.gz") == {"README.md": b"hi"}
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as archive:
        link = tarfile.TarInfo("unimix-1/evil")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(link)
    with pytest.raises(steps.Stop, match=r"unimix-1/evil in b\.tar\.gz is a link"):
        dist.read_sdist(tmp_path / "b.tar.gz")


def test_the_quick_start_is_the_first_block_below_its_heading():
    no, yes = "```python\nno\n```\n\n", "```sh\npip\n```\n\n```python\nyes\n\n1\n```\n\n"
    assert dist.quick_start(f"# A\n\n## Use\n\n{no}## Quick start\n\n{yes}{no}") == "yes\n\n1\n"
    with pytest.raises(steps.Stop, match="no block of Python below '## Quick start'") as caught:
        dist.quick_start("# A\n\n## Quick start\n\nwords\n\n## Next\n\n```python\nno\n```\n")
    assert str(caught.value).endswith("\nType:\n    grep -n '^## ' README.md")


def test_the_quick_start_of_the_readme_runs_as_it_stands(capsys):
    """Here with every engine there is; `make dist` runs it on the package alone."""
    code = dist.quick_start((ROOT / "README.md").read_text(encoding="utf-8"))
    assert "lme4" not in code
    exec(compile(code, "README.md", "exec"), {})
    assert "fitted by pls (REML) to 861 rows" in capsys.readouterr().out


def test_a_command_that_fails_shows_its_words_and_a_line_to_type(tmp_path):
    command = [sys.executable, "-c", "print('so it was'); raise SystemExit(3)"]
    with pytest.raises(steps.Stop, match=r"(?s)so it was.*This ended with 3") as caught:
        dist.run(command, "make dist", folder=tmp_path)
    assert str(caught.value).endswith("\nType:\n    make dist")


def test_commands_do_not_see_the_checkout(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("VIRTUAL_ENV", "elsewhere")
    told = dist.run([sys.executable, "-c", "import os; print(sorted(os.environ))"], "make dist", folder=tmp_path)
    assert "PYTHONPATH" not in told
    assert "VIRTUAL_ENV" not in told


def test_an_interrupted_command_does_not_go_on(tmp_path, monkeypatch):
    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(steps, "HEARTBEAT", 0.5)
    monkeypatch.setattr(steps, "say", interrupted)
    code = "import pathlib, time; time.sleep(3); pathlib.Path('done').touch()"
    with pytest.raises(KeyboardInterrupt):
        dist.run([sys.executable, "-c", code], "make dist", folder=tmp_path)
    time.sleep(4)
    assert list(tmp_path.iterdir()) == []
