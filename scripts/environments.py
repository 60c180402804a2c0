"""Virtual environments of the scripts: their interpreter and version, what pip and pytest are run with in them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

WITHOUT_R_AND_SAMPLER = "not r and not mcmc and not cluster"
"""The tests for which the extra ``test`` suffices."""

OF_SAMPLERS = "mcmc and not r and not cluster"
"""The tests that also need PyMC or bambi, of the extra ``bambi``."""

MOST_WORKERS = 2
"""Processes of pytest: some tests need a gigabyte of memory each."""

_MIXING = ("PYTHON", "__PYVENV_LAUNCHER__", "VIRTUAL_ENV", "PYTEST_")
"""Beginnings of variables that would mix another environment's packages, or the caller's settings, into this one."""

_ELSEWHERE = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER")
"""Variables that would make pip install somewhere else than into the environment."""


def interpreter(folder: Path) -> Path:
    """The interpreter of an environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def minor_version(folder: Path) -> str | None:
    """Python's version of an environment, such as "3.11"; None where there is no environment, or it is not told."""
    try:
        text = (folder / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    told = re.search(r"^version(?:_info)?\s*=\s*(\d+\.\d+)", text, flags=re.MULTILINE)
    return told.group(1) if told else None


def clean_variables(**more: str) -> dict[str, str]:
    """This process's environment variables without those that lead out of a virtual environment.

    Args:
        more: Further variables.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_MIXING) and k not in _ELSEWHERE}
    return {**kept, **more}


def pytest_line(
    python: Path, tests: Sequence[Path | str], workers: int, markers: str = WITHOUT_R_AND_SAMPLER
) -> list[str]:
    """The command that runs tests, by default those that need neither R nor a sampler nor a cluster.

    Args:
        python: Interpreter of an environment with the extra ``test``.
        tests: Folders of tests, files, or single tests.
        workers: Number of processes.
        markers: Expression of markers that chooses tests.
    """
    spread = ["-n", str(workers), "--dist", "worksteal"] if workers > 1 else []
    chosen = ["-p", "no:cacheprovider", "-m", markers, *map(str, tests)]
    return [str(python), "-m", "pytest", "-q", *spread, *chosen]


def no_venv(minor: str = "3") -> str:
    """What to say where a Python cannot make environments.

    Args:
        minor: Version in the name of Debian's package, such as "3.12".
    """
    return (
        "This Python cannot make environments, because Debian and Ubuntu have that in a package of its own. Type\n"
        f"    sudo apt-get install python{minor}-venv"
    )
