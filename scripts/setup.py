#!/usr/bin/env python3
"""Install R and its packages where they are missing, and make .venv with unimix, its engines and the tools.

Usage: python3 scripts/setup.py [--venv FOLDER] [--again] [extra ...]

Only the standard library is used. Each step is a line with its seconds. Nothing is changed outside the environment's
own folder, except that R's packages are installed by apt where that may be done. A stamp in the folder lets a second
run return at once. Extras named on the command line (such as ``docs``) are installed in addition.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import install_r
from environments import clean_variables, interpreter, minor_version, no_venv
from install_r import r_installation
from stamp import NAME, Stamp, read_stamp, state, write_stamp
from steps import Stop, run_program, say, step

ROOT = Path(__file__).resolve().parent.parent
WITH_R = ("all", "dev")
WITHOUT_R = ("pymc", "dev")
OLDEST_PYTHON = (3, 11)
NO_CONNECTION = (
    r"(?i)name resolution|connection (?:refused|timed out|broken|error)|newconnectionerror|max retries|proxyerror"
)
TIMESTAMP = r"^[\d-]+T[\d:,]+ +"
"""What stands before each line of pip's log."""
GIGABYTES = 2.0
"""What an environment with every engine takes, with room for what pip unpacks on the way."""


def main(arguments: list[str] | None = None) -> int:
    """Make or complete the environment.

    Args:
        arguments: Instead of the command line's.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("extra", nargs="*", help="extras to install besides those of the engines and the tools")
    parser.add_argument("--venv", default=".venv", type=Path, help="folder of the environment (.venv)")
    parser.add_argument("--again", action="store_true", help="ask apt again for R packages that it did not have")
    given = parser.parse_args(arguments)
    try:
        set_up(ROOT / given.venv, set(given.extra), again=given.again)
    except Stop as stop:
        print(f"\n{stop}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. Type the same again to go on.", file=sys.stderr)
        return 130
    return 0


def set_up(folder: Path, extras: set[str], *, again: bool = False) -> None:
    """Make or complete an environment.

    Args:
        folder: Where it is to be.
        extras: Extras beside those of the engines and the tools.
        again: Ask apt again for R packages that it did not have.

    Raises:
        Stop: If it cannot be done, with the line to type.
    """
    check_python()
    check_folder(folder)
    done = read_stamp(folder)
    wanted = fingerprint(folder)
    complete = done.fingerprint == wanted and extras <= set(done.extras)
    if complete and not again and done.seen == state(folder, done.libraries) and runs_here(folder):
        return
    started = time.monotonic()
    found = r_installation.find_r()
    absent = install_r.missing(found)
    if absent or not found.version or install_r.lacks_compiler() or lacks_venv():
        install_r.install(absent, tools=needed_tools())
        found = r_installation.find_r()
        absent = install_r.missing(found)
    if not works(folder):
        make_environment(folder)
    mark(folder, Stamp())
    if install(folder, found.version, extras):  # otherwise the next run tries again
        earlier = done.extras if done.fingerprint == wanted else ()
        libraries = r_installation.r_libraries(found)
        mark(folder, Stamp(wanted, tuple(sorted({*extras, *earlier})), libraries, state(folder, libraries)))
    install_r.tell_missing(absent, found)
    say(f"{shown(folder)} is ready after {time.monotonic() - started:.0f} s.")


def shown(folder: Path) -> str:
    """A folder as the user would name it."""
    return str(folder.relative_to(ROOT)) if folder.is_relative_to(ROOT) else str(folder)


# --- what is there ----------------------------------------------------------------------------------------------------


def check_python() -> None:
    """Refuse a Python that is too old, and name one that is not."""
    if sys.version_info >= OLDEST_PYTHON:
        return
    others = [f"python3.{minor}" for minor in range(20, 10, -1) if shutil.which(f"python3.{minor}")]
    line = f"make setup PYTHON={others[0]}" if others else "make setup PYTHON=/path/to/python3.12"
    raise Stop(f"This is Python {sys.version.split()[0]}; unimix needs 3.11 or newer. Name a newer one:\n    {line}")


def check_folder(folder: Path) -> None:
    """Refuse a folder that set-up did not make, or that it made for another Python.

    Raises:
        Stop: With what the folder is and the lines that lead on.
    """
    name = shown(folder)
    elsewhere = f"    make setup VENV={name}-unimix      # an environment of its own beside it\n"
    if folder.is_symlink():
        target = os.readlink(folder)  # noqa: PTH115  as it is written, also where it leads nowhere
        raise Stop(
            f"{name} is a link to {target}. Set-up works in a folder of its own only and has touched nothing. Type\n"
            f"    rm {name} && make setup      # the link goes, the folder that it points to stays\nor\n{elsewhere}"
        )
    if not folder.exists():
        return
    if not folder.is_dir():
        raise Stop(f"{name} is a file, where set-up makes a folder. Move it away, or type\n{elsewhere}")
    if not any(folder.iterdir()):
        return
    if not (folder / NAME).is_file():
        raise Stop(
            f"{name} was not made by `make setup`: it belongs to {_maker(folder)}, and set-up has touched nothing. "
            f"Type\n{elsewhere}or, if you no longer need it,\n    rm -r {name} && make setup\n"
        )
    version = minor_version(folder)
    ours = ".".join(map(str, sys.version_info[:2]))
    if version and version != ours:
        raise Stop(
            f"{name} belongs to Python {version}, and this is Python {ours}. Set-up has touched nothing. Type\n"
            f"    make setup VENV={name}-{ours} PYTHON=python{ours}      # a second environment\n"
            f"or\n    rm -r {name} && make setup PYTHON=python{ours}      # in its place\n"
        )


def _maker(folder: Path) -> str:
    """Which tool made an environment, as its pyvenv.cfg tells."""
    try:
        text = (folder / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "something else than Python's environments" if not (folder / "conda-meta").is_dir() else "conda"
    made = re.search(r"^(uv|virtualenv)\s*=", text, flags=re.MULTILINE)
    return made.group(1) if made else "you or another tool"


def mark(folder: Path, stamp: Stamp) -> None:
    """Mark the folder as set-up's own; by an empty stamp, as unfinished."""
    try:
        write_stamp(folder, stamp)
    except OSError as error:
        raise Stop(in_words(error, folder)) from error


def fingerprint(folder: Path) -> str:
    """A hash of the files and names that decide what is installed."""
    own = sorted((ROOT / "scripts").glob("*.py"))
    parts = [p.read_bytes() for p in (ROOT / "pyproject.toml", *sorted(ROOT.glob("constraints*.txt")), *own)]
    parts.append(f"{sys.version_info[:2]} {folder}".encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def runs_here(folder: Path) -> bool:
    """Whether an environment was made here rather than moved or copied, and its interpreter is there."""
    python = interpreter(folder)
    pip = python.with_name("pip.exe" if os.name == "nt" else "pip")
    return python.exists() and pip.is_file() and str(folder).encode() in pip.read_bytes()


def works(folder: Path) -> bool:
    """Whether an environment runs, has pip, is of this Python and was made here."""
    if not runs_here(folder):
        return False
    check = "import importlib.util, sys; print(sys.version_info[:2], importlib.util.find_spec('pip') is not None)"
    code, out, _ = r_installation.run([interpreter(folder), "-c", check], 60)
    return code == 0 and out.strip() == f"{sys.version_info[:2]} True"


def lacks_venv() -> bool:
    """Whether this Python cannot make environments: Debian has that in a package of its own."""
    code, _, _ = r_installation.run([sys.executable, "-c", "import ensurepip, venv"], 60)
    return code != 0


def needed_tools() -> tuple[str, ...]:
    """Debian's packages that set-up itself needs: to make environments and to compile rpy2 for Debian's Python."""
    if not sys.executable.startswith("/usr/bin/"):
        return ()
    return ("python3-venv", "python3-dev")


# --- making it --------------------------------------------------------------------------------------------------------


def make_environment(folder: Path) -> None:
    """Make an environment from nothing; where that fails, nothing of it stays."""
    fresh = not folder.exists()
    free = shutil.disk_usage(folder.parent).free / 1e9
    if free < GIGABYTES:
        raise Stop(
            f"{free:.1f} GB are free where {shown(folder)} is to be, and it takes about {GIGABYTES:.0f} GB. Make room "
            "and type the same again, or name a folder on another disk:\n    make setup VENV=/path/to/folder"
        )
    with step(f"Making {shown(folder)} for Python {sys.version.split()[0]}"):
        try:
            venv.EnvBuilder(with_pip=True, clear=True, symlinks=os.name != "nt").create(folder)
        except (OSError, subprocess.CalledProcessError) as error:
            if fresh:
                shutil.rmtree(folder, ignore_errors=True)
            if lacks_venv():
                raise Stop(f"{no_venv()}\nand then `make setup` again.") from error
            raise Stop(in_words(error, folder)) from error


def install(folder: Path, r_version: str | None, extras: set[str]) -> bool:
    """Install unimix with its extras, if need be without the backends that run in R.

    Returns:
        Whether everything that this machine can have is there.
    """
    if r_version is None:
        pip_install(folder, "unimix and the engines that need no R", (*WITHOUT_R, *sorted(extras)))
        return True
    pins = r_installation.rpy2_requirements(r_version)
    try:
        pip_install(folder, f"unimix and every engine, for R {r_version}", (*WITH_R, *sorted(extras)), pins)
    except Stop as stop:
        if not stop.about_rpy2:
            raise
        say(f"{stop}\nGoing on without the backends lme4, glmmtmb, nlme, ordinal and pymer4.")
        pip_install(folder, "unimix and the engines that need no R", (*WITHOUT_R, *sorted(extras)))
        return False
    return True


def pip_install(folder: Path, what: str, extras: tuple[str, ...], more: tuple[str, ...] = ()) -> None:
    """Install unimix in place with extras and further requirements, within our constraints.

    Raises:
        Stop: In words, with pip's own last lines.
    """
    target = f"{ROOT}[{','.join(extras)}]"
    environment = clean_variables(PYTHONNOUSERSITE="1")
    with tempfile.TemporaryDirectory(prefix="unimix-setup-") as scratch:
        log = Path(scratch) / "pip.log"
        command = [
            *(str(interpreter(folder)), "-m", "pip", "install", "--disable-pip-version-check", "--log", str(log)),
            *("--constraint", str(ROOT / "constraints.txt"), "--editable", target, *more),
        ]
        with step(f"Installing {what}"):
            code, out = run_program(
                command, environment, counted=r"^(?:Collecting|Requirement already) ", unit="packages"
            )
            if code:
                raise pip_fault(f"{out}\n{_read(log)}", folder)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def pip_fault(said: str, folder: Path) -> Stop:
    """What went wrong, from what pip said, and the line that leads on."""
    lines = [line for line in said.splitlines() if re.search(r"\bERROR\b|error:", line)]
    own = "\n".join(f"    {re.sub(TIMESTAMP, '', line).strip()[:200]}" for line in lines[-4:])
    again = "Then type the same again; what is installed stays."
    if re.search(r"No space left on device|Errno 28|Disk quota exceeded", said):
        free = shutil.disk_usage(folder).free / 1e9
        return Stop(
            f"The disk is full: {free:.1f} GB are free in {shown(folder)}, and everything takes about "
            f"{GIGABYTES:.0f} GB. pip's temporary files lie in {tempfile.gettempdir()}; TMPDIR=/path/to/folder puts "
            f"them elsewhere. Make room. {again}"
        )
    if re.search(r"(?i)read-only file system|permission denied", own):
        return Stop(f"pip may not write:\n{own}\nMake {shown(folder)} and its folder writable. {again}")
    if re.search(r"(?i)(building wheel for|failed to build|build).*rpy2|rpy2[\w-]*.*(?:failed|error)", own):
        line = r_installation.compiler_line()
        return Stop(
            f"rpy2, which connects Python with R, could not be compiled:\n{own}\nIt needs a C compiler and the headers "
            f"of Python and R. Type\n    {line}\nand then `make setup` again.",
            about_rpy2=True,
        )
    if re.search(
        r"(?i)name resolution|connection (?:refused|timed out|broken|error)|newconnectionerror|max retries|proxyerror",
        said,
    ):
        return Stop(f"pip reached no package index:\n{own}\nConnect, or name an index by PIP_INDEX_URL. {again}")
    none = re.search(r"requirement ([\w.-]+).* \(from versions: none\)", said)
    if none:
        return Stop(
            f"pip found no release of {none.group(1)} at all: the index that it asks does not have it, or it may not "
            "ask one (`pip config list`, and variables whose names begin with PIP_, say which). Name an index by "
            f"PIP_INDEX_URL. {again}"
        )
    if re.search(r"ResolutionImpossible|conflicting|No matching distribution", said):
        told = os.environ.get("PIP_CONSTRAINT") or "`pip config list` shows whether it has one"
        return Stop(
            f"pip found no set of versions:\n{own}\nThe versions are those of constraints.txt. A constraint file of "
            f"your own pip may contradict them ({told}); without it:\n    PIP_CONSTRAINT= make setup"
        )
    return Stop(f"pip could not install the environment:\n{own or said[-600:]}\nMend that. {again}")


def in_words(error: Exception, folder: Path) -> str:
    """What an error of the file system means for the environment."""
    where = shown(folder)
    match getattr(error, "errno", None):
        case 30 | 13 | 1:
            return (
                f"{where} cannot be made or changed here ({error.strerror}): the folder of unimix is read-only. "  # type: ignore[attr-defined]
                "Nothing was changed. Name a folder that may be written:\n    make setup VENV=/path/to/folder"
            )
        case 28 | 122:
            return f"The disk is full: {where} could not be written. Make room, then type the same again."
    return f"Python could not make the environment {where}: {error}. Mend that, then type the same again."


if __name__ == "__main__":
    sys.exit(main())
