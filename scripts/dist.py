#!/usr/bin/env python3
"""Build the release, try it out as a stranger would, and put it into dist/. Nothing is uploaded.

Usage: python3 scripts/dist.py [--contents] [--keep]

The sdist is built from this folder and the wheel from the sdist. What they hold is compared with the tracked files and
with the limits below. The wheel is installed into an empty environment, where the quick start of README.md runs and
then the sdist's own tests, as far as they need neither R nor a sampler. Only then are both files copied into dist/.

Only the standard library is used. Everything else happens in a temporary folder, with environments of its own.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import venv
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from email.policy import compat32
from fnmatch import fnmatch
from pathlib import Path

from environments import MOST_WORKERS, WITHOUT_R_AND_SAMPLER, clean_variables, interpreter, no_venv, pytest_line
from steps import Stop, run_program, say, step

ROOT = Path(__file__).resolve().parent.parent
NAME = "unimix"
TOOLS = ("build>=1.2", "twine>=6.1", "readme-renderer[md]>=44")
SHOWN = 30
"""Lines of a failed command that are shown."""

NOT_SHIPPED = (".github/*", ".pre-commit-config.yaml")
"""Tracked files that serve a checkout only and stay out of the sdist."""

UNWANTED = (
    *("*/__pycache__/*", "*.py[cod]", "*/.*_cache/*", "*/.hypothesis/*", "*/.venv/*", "*/.git/*", "*.egg-info/*"),
    *("/benchmarks/results/*", "/demo_output/*", "/site/*", "/dist/*", "/build/*", "*/.DS_Store", "*.so", "*.log"),
)
"""Caches, results and built files: in no archive."""

KIB = 1024


@dataclass(frozen=True)
class Limit:
    """Greatest sizes in bytes.

    Attributes:
        file: Of one file.
        unpacked: Of all files together.
        packed: Of the archive.
    """

    file: int
    unpacked: int
    packed: int


# The largest file that the package needs are the data mathachieve.csv, 237 KiB; the largest that the docs need is
# conformance.json, 683 KiB with thirteen engines. The sums leave about a fifth to grow: who needs more raises them
# knowingly.
WHEEL_LIMIT = Limit(file=256 * KIB, unpacked=4608 * KIB, packed=1664 * KIB)
SDIST_LIMIT = Limit(file=800 * KIB, unpacked=9728 * KIB, packed=3072 * KIB)


def main() -> int:
    """Build, check, try out and put into dist/; return the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # tidy up then, too
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--contents", action="store_true", help="list every file of both archives with its size")
    parser.add_argument("--keep", action="store_true", help="leave the temporary folder where it is")
    chosen = parser.parse_args()
    start = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix=f"{NAME}-dist-"))
    try:
        made = release(work, list_contents=chosen.contents)
    except Stop as error:
        hint = "" if chosen.keep else "\nTo look at what was built:\n    python3 scripts/dist.py --keep"
        print(f"\n{error}{hint}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"\n{error}\nWith more room or rights elsewhere, type:\n    TMPDIR=/var/tmp make dist", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; dist/ is as it was. To start again, type:\n    make dist", file=sys.stderr)
        return 130
    finally:
        if chosen.keep:
            say(f"The temporary folder is {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    for text in remarks(ROOT):
        say(f"Remark: {text}")
    say(f"Ready after {time.monotonic() - start:.0f} s, not uploaded: {', '.join(made)}")
    return 0


def release(work: Path, *, list_contents: bool = False) -> list[str]:
    """Make both archives in ``work``, check them and try them out, and copy them into dist/.

    Args:
        work: An empty folder.
        list_contents: Print every file of both archives.

    Returns:
        What is in dist/ now: names of files with their folder.

    Raises:
        Stop: At the first step that fails.
    """
    with step("Making an environment with build and twine"):
        tools = environment(work / "tools")
        pip_install(tools, *TOOLS)
    built = work / "built"
    with step("Building the sdist, and the wheel from it") as tell:
        run([tools, "-m", "build", "--outdir", str(built), str(ROOT)], "make dist", folder=work)
        sdist, wheel = only(built, "*.tar.gz"), only(built, "*.whl")
        tell(f"{sdist.name} {kib(sdist.stat().st_size)}, {wheel.name} {kib(wheel.stat().st_size)}")
    with step("Checking the contents of the sdist") as tell:
        source = read_sdist(sdist)
        tell(summary(source))
        refuse(sdist_faults(source, sdist.stat().st_size, ROOT))
    with step("Checking the contents of the wheel") as tell:
        package = read_wheel(wheel)
        tell(summary(package))
        refuse(wheel_faults(package, wheel.stat().st_size, source))
    if list_contents:
        for title, files in ((sdist.name, source), (wheel.name, package)):
            print(title, *(f"  {len(files[name]):>8} {name}" for name in sorted(files)), sep="\n")
    with step("Running twine check --strict"):
        run([tools, "-m", "twine", "check", "--strict", str(sdist), str(wheel)], "make dist", folder=work)
    with step("Installing the wheel into an empty environment") as tell:
        python = environment(work / "empty")
        pip_install(python, str(wheel))
        tell(f"Python {sys.version.split()[0]}, {NAME} {installed_version(python, work, package)}")
    with step("Running the README's quick start"):
        (work / "quick_start.py").write_text(quick_start(source["README.md"].decode()), encoding="utf-8")
        run([python, "quick_start.py"], "make dist", folder=work)
    with step("Installing the wheel's extra test"):
        if "test" not in (metadata(package).get_all("Provides-Extra") or []):
            raise stop("The wheel has no extra called test.", "grep -n '^test' pyproject.toml")
        pip_install(python, f"{wheel}[test]")
    with step("Running the sdist's tests") as tell:
        tell(tests(python, sdist, work))
    with step("Copying both into dist/"):
        place = ROOT / "dist"
        place.mkdir(exist_ok=True)
        return [str(Path(shutil.copy2(path, place)).relative_to(ROOT)) for path in (sdist, wheel)]


# -- environments and commands --------------------------------------------------------------------


def environment(folder: Path) -> Path:
    """Make an empty environment and return its interpreter.

    Raises:
        Stop: If this Python cannot make one.
    """
    try:
        venv.EnvBuilder(with_pip=True, symlinks=os.name != "nt").create(folder)
    except subprocess.CalledProcessError as error:
        raise Stop(f"{error}\n{no_venv()}") from error
    return interpreter(folder)


def pip_install(python: Path, *requirements: str) -> None:
    """Install into an environment, with the user's own configuration of pip."""
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, *requirements], "make dist", folder=python.parent)


def run(command: Sequence[str | Path], line: str, *, folder: Path, **more: str) -> str:
    """Run a command apart from the caller's Python settings and return what it printed.

    Args:
        command: The program and its arguments.
        line: What to type should it fail.
        folder: Where it runs: never in the checkout, whose files could stand in for those of the release.
        more: Further environment variables.

    Raises:
        Stop: If it fails, with the end of what it printed.
    """
    words = [str(part) for part in command]
    code, told = run_program(words, clean_variables(**more), folder=folder, captured=True)
    if code:
        end = "\n".join(told.splitlines()[-SHOWN:])
        raise stop(f"{end}\n\nThis ended with {code}: {' '.join(words)}", line)
    return told


def stop(message: str, line: str) -> Stop:
    """Return the refusal that says what happened, why, and the line to type."""
    return Stop(f"{message}\nType:\n    {line}")


def only(folder: Path, pattern: str) -> Path:
    """Return the one file that matches.

    Raises:
        Stop: If there is none, or several.
    """
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise stop(f"The build made {len(found)} files {pattern} instead of one.", "make dist")
    return found[0]


# -- contents -------------------------------------------------------------------------------------


def read_sdist(path: Path) -> dict[str, bytes]:
    """Return the files of an sdist, named within its one folder.

    Raises:
        Stop: If something in it is neither file nor folder, such as a link.
    """
    files = {}
    with tarfile.open(path) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            if content is not None:
                files[member.name.partition("/")[2]] = content.read()
            elif not member.isdir():
                raise stop(f"{member.name} in {path.name} is a link or a device.", f"git rm {member.name}")
    return files


def read_wheel(path: Path) -> dict[str, bytes]:
    """Return the files of a wheel."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def sdist_faults(files: Mapping[str, bytes], packed: int, root: Path) -> list[str]:
    """Return what is wrong with the contents of an sdist.

    Args:
        files: Its files by name.
        packed: Size of the archive.
        root: The folder it was built from.
    """
    faults = common_faults("the sdist", files, packed, SDIST_LIMIT)
    if "LICENSE" not in files:
        faults.append("The sdist has no LICENSE.")
    wanted = tracked(root)
    if wanted is None:
        return faults
    shipped = {name for name in wanted if not any(fnmatch(name, pattern) for pattern in NOT_SHIPPED)}
    faults += [
        f"{name} is in the sdist but not tracked: `git add` it, or move it away."
        for name in sorted(set(files) - shipped - {"PKG-INFO"})
    ]
    faults += [
        f"{name} is tracked but not in the sdist: add it to [tool.hatch.build.targets.sdist], or to NOT_SHIPPED."
        for name in sorted(shipped - set(files))
    ]
    return faults


def wheel_faults(files: Mapping[str, bytes], packed: int, source: Mapping[str, bytes]) -> list[str]:
    """Return what is wrong with the contents of a wheel.

    Args:
        files: Its files by name.
        packed: Size of the archive.
        source: The files of the sdist: all of src/unimix must be in the wheel, byte by byte, and nothing else.
    """
    faults = common_faults("the wheel", files, packed, WHEEL_LIMIT)
    information = {name for name in files if name.partition("/")[0].endswith(".dist-info")}
    package = {name.removeprefix("src/"): content for name, content in source.items() if name.startswith("src/")}
    if f"{NAME}/py.typed" not in files:
        faults.append("The wheel has no py.typed: its types are lost.")
    if not any(name.endswith("/licenses/LICENSE") for name in information):
        faults.append("The wheel has no LICENSE.")
    faults += [f"{name} is in src but not in the wheel." for name in sorted(set(package) - set(files))]
    faults += [f"{name} is in the wheel but not in src." for name in sorted(set(files) - information - set(package))]
    faults += [
        f"{name} is another file in the wheel than in the sdist."
        for name, content in sorted(package.items())
        if files.get(name, content) != content
    ]
    return faults


def common_faults(title: str, files: Mapping[str, bytes], packed: int, limit: Limit) -> list[str]:
    """Return unwanted and large files of an archive."""
    faults = [
        f"{name} does not belong into {title}."
        for name in sorted(files)
        if any(fnmatch(f"/{name}", pattern) for pattern in UNWANTED)
    ]
    faults += [
        f"{name} in {title} has {kib(len(content))}; the limit for a file is {kib(limit.file)}."
        for name, content in sorted(files.items())
        if len(content) > limit.file
    ]
    total = sum(map(len, files.values()))
    if total > limit.unpacked:
        faults.append(f"The files of {title} have {kib(total)} together; the limit is {kib(limit.unpacked)}.")
    if packed > limit.packed:
        faults.append(f"The archive of {title} has {kib(packed)}; the limit is {kib(limit.packed)}.")
    return faults


def refuse(faults: list[str]) -> None:
    """Stop at faults of the contents.

    Raises:
        Stop: If there are any; the first of them are named.
    """
    if faults:
        more = [f"... and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        raise stop("\n".join([*faults[:SHOWN], *more]), "git status --short --ignored")


def tracked(root: Path) -> set[str] | None:
    """Return the files that git tracks here, or None where this is no checkout of its own."""
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    done = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=False, capture_output=True, text=True)
    return {name for name in done.stdout.split("\0") if name} if done.returncode == 0 else None


def summary(files: Mapping[str, bytes]) -> str:
    """Return number and sizes of files in words."""
    largest = max(files, key=lambda name: len(files[name]))
    total = sum(map(len, files.values()))
    return f"{len(files)} files, {kib(total)} unpacked, the largest {largest} {kib(len(files[largest]))}"


def kib(size: int) -> str:
    """Return a size in words."""
    return f"{size / KIB:,.0f} KiB"


# -- trying it out --------------------------------------------------------------------------------


def quick_start(readme: str) -> str:
    """Return the first block of Python below the heading "Quick start".

    Raises:
        Stop: If there is none.
    """
    section = readme.partition("\n## Quick start\n")[2].partition("\n## ")[0]
    block, closed, _ = section.partition("\n```python\n")[2].partition("\n```")
    if not closed:
        raise stop("README.md has no block of Python below '## Quick start'.", "grep -n '^## ' README.md")
    return f"{block}\n"


def metadata(wheel: Mapping[str, bytes]) -> Message:
    """Return the metadata of a wheel."""
    name = next(n for n in wheel if n.endswith(".dist-info/METADATA"))
    return BytesParser(policy=compat32).parsebytes(wheel[name])


def installed_version(python: Path, work: Path, wheel: Mapping[str, bytes]) -> str:
    """Return the version that the installed package says.

    Raises:
        Stop: If the package and the metadata of the wheel name different versions.
    """
    stated = metadata(wheel)["Version"]
    found = run([python, "-c", f"import {NAME}; print({NAME}.__version__)"], "make dist", folder=work).strip()
    if found != stated:
        raise stop(f"The wheel is of version {stated}, the package says {found}.", "cat src/unimix/_version.py")
    return found


def tests(python: Path, sdist: Path, work: Path) -> str:
    """Run the sdist's tests in its own unpacked folder, on the installed wheel.

    Returns:
        The last line of pytest.

    Raises:
        Stop: If one of them fails.
    """
    with tarfile.open(sdist) as archive:
        archive.extractall(work, filter="data")
    folder = work / sdist.name.removesuffix(".tar.gz")
    command = pytest_line(python, ["tests"], min(MOST_WORKERS, os.cpu_count() or 1))
    line = f'.venv/bin/python -m pytest -m "{WITHOUT_R_AND_SAMPLER}" tests'
    # small matrices: threads of the linear algebra cost more than they bring beside other processes
    told = run(command, line, folder=folder, OPENBLAS_NUM_THREADS="1")
    return told.strip().splitlines()[-1].strip("= ")


def remarks(root: Path) -> list[str]:
    """Return what a release should have, and what does not keep it from being built."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = []
    if not project.get("urls"):
        found.append("no project URLs yet; the relative links of README.md lead nowhere on an index.")
    if re.search(r"^## \S+ - unreleased$", (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE):
        found.append("CHANGELOG.md calls this version unreleased.")
    if tracked(root) is None:
        found.append("this is no checkout of git: the sdist was not compared with the tracked files.")
    elif subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=root, check=False).returncode:
        found.append("there are changes that are not committed; they are in the archives.")
    return found


if __name__ == "__main__":
    sys.exit(main())
