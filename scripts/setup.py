#!/usr/bin/env python3
"""Make .venv with unimix, every engine this machine can run, and the development tools.

Usage: python3 scripts/setup.py [extra ...]

Only the standard library is used. The rpy2 is chosen by the R that is found; without R everything else is installed. A
stamp in .venv makes a second run return at once as long as nothing that matters has changed. Extras named on the
command line (such as ``docs``) are installed in addition.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "unimix-setup"
WITH_R = ("all", "dev")
WITHOUT_R = ("pymc", "mixedlm", "mixedlm-rs", "plot", "dev")
OLDEST_PYTHON = (3, 11)

# rpy2-rinterface 3.6.6 uses C functions that R has only since 4.5; unimix.doctor.rpy2_line names the same pairs.
RPY2_BEFORE_R_4_5 = ("rpy2==3.6.4", "rpy2-robjects==3.6.5", "rpy2-rinterface==3.6.5")
RPY2_FROM_R_4_5 = ("rpy2>=3.6.4,<3.7", "rpy2-robjects>=3.6.5,<3.7", "rpy2-rinterface>=3.6.6,<3.7")


def main() -> int:
    """Make or complete the environment; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("extra", nargs="*", help="extras to install besides those of the engines and the tools")
    wanted = parser.parse_args().extra
    if sys.version_info < OLDEST_PYTHON:
        return fail(
            f"This is Python {sys.version.split()[0]}; unimix needs 3.11 or newer. Name a newer one:\n"
            "    make setup PYTHON=python3.12"
        )
    r_version = find_r()
    stamp = fingerprint(r_version)
    done = STAMP.read_text().split() if STAMP.is_file() else []
    if done[:1] == [stamp] and set(wanted) <= set(done[1:]) and works():
        return 0
    start = time.monotonic()
    if not works():
        make_venv()
    STAMP.unlink(missing_ok=True)
    if not install(r_version, wanted):
        return 1
    if r_version is None or has_rpy2():  # otherwise the next run shall try again
        earlier = done[1:] if done[:1] == [stamp] else []
        STAMP.write_text("\n".join([stamp, *sorted({*wanted, *earlier})]) + "\n")
    print(f"The environment .venv is ready after {time.monotonic() - start:.0f} s.")
    return 0


def find_r() -> str | None:
    """Return the version of the R that rpy2 will load (R_HOME first, then the PATH), or None."""
    home = os.environ.get("R_HOME")
    program = shutil.which("R", path=str(Path(home) / "bin")) if home else shutil.which("R")
    if program is None:
        return None
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"R version (\d+\.\d+\.\d+)", done.stdout + done.stderr)
    return found.group(1) if found else None


def rpy2_pins(r_version: str) -> tuple[str, ...]:
    """Return the requirements of the rpy2 that fits this R."""
    major, minor = (int(part) for part in r_version.split(".")[:2])
    return RPY2_BEFORE_R_4_5 if (major, minor) < (4, 5) else RPY2_FROM_R_4_5


def fingerprint(r_version: str | None) -> str:
    """Return a hash of everything that decides what is installed."""
    parts = [
        (ROOT / "pyproject.toml").read_bytes(),
        (ROOT / "constraints.txt").read_bytes(),
        Path(__file__).read_bytes(),
        f"{r_version} {sys.version_info[:2]} {ROOT}".encode(),
    ]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def venv_python() -> Path:
    """Return the interpreter of .venv."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def works() -> bool:
    """Tell whether .venv runs, has pip, is of this Python and was made here rather than moved or copied."""
    python = venv_python()
    pip = python.with_name("pip.exe" if os.name == "nt" else "pip")
    if not python.exists() or not pip.is_file() or str(VENV).encode() not in pip.read_bytes():
        return False
    check = "import importlib.util, sys; print(sys.version_info[:2], importlib.util.find_spec('pip') is not None)"
    try:
        done = subprocess.run([str(python), "-c", check], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.strip() == f"{sys.version_info[:2]} True"


def has_rpy2() -> bool:
    """Tell whether .venv holds rpy2."""
    command = [str(venv_python()), "-c", "import importlib.metadata as m; m.version('rpy2')"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def make_venv() -> None:
    """Make .venv from nothing."""
    print("Making .venv ...", flush=True)
    try:
        venv.EnvBuilder(with_pip=True, clear=True, symlinks=os.name != "nt").create(VENV)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(
            f"Python could not make the environment .venv: {error}\n"
            "On Debian and Ubuntu the package python3-venv is missing then:\n    sudo apt-get install python3-venv"
        )


def install(r_version: str | None, wanted: list[str]) -> bool:
    """Install unimix with its extras, if need be without the backends that go through R."""
    if r_version is None:
        print(
            "R was not found: installing statsmodels and PyMC, without the backends lme4 and pymer4.\n"
            "To have them, install R as said above and type `make setup` again."
        )
    else:
        pins = rpy2_pins(r_version)
        print(f"R {r_version} was found. Installing every engine, with {' '.join(pins)} ...", flush=True)
        if pip_install([*WITH_R, *wanted], pins):
            return True
        print(
            "That failed; trying without the backends lme4 and pymer4. Should this work, then it was rpy2, which is\n"
            "compiled against R. On Debian and Ubuntu that needs\n"
            "    sudo apt-get install r-base-dev python3-dev\n"
            "and then `make setup` again.",
            flush=True,
        )
    if pip_install([*WITHOUT_R, *wanted]):
        return True
    fail("pip could not install the environment: its own words stand above. Mend that and type `make setup` again.")
    return False


def pip_install(extras: list[str], more: tuple[str, ...] = ()) -> bool:
    """Install unimix in place with these extras and further requirements, within constraints.txt."""
    command = [
        *(str(venv_python()), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--constraint", str(ROOT / "constraints.txt"), "--editable", f"{ROOT}[{','.join(extras)}]"),
        *more,
    ]
    return subprocess.run(command, check=False).returncode == 0


def fail(message: str) -> int:
    """Say what went wrong and return the exit code for it."""
    print(message, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
