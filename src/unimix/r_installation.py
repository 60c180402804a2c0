"""R on this machine: its folder, the R packages that unimix uses, and the lines that install what is missing.

This file uses only the standard library and imports nothing from unimix, because ``scripts/setup.py`` loads it before
anything is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "RInstallation",
    "RPackage",
    "compiler_line",
    "cran_line",
    "debian_names",
    "find_r",
    "gather_r_packages",
    "install_lines",
    "known_to_apt",
    "last_line",
    "missing_r_packages",
    "numbers",
    "posit_line",
    "rpy2_fits",
    "rpy2_requirements",
    "run",
]


class RPackage(NamedTuple):
    """An R package that unimix uses.

    Attributes:
        name: Name of the package in R.
        required_by: Backends that cannot fit without it.
        missed_by: Functions that need it, in words, by backends that fit without it.
    """

    name: str
    required_by: tuple[str, ...] = ()
    missed_by: Mapping[str, str] = {}

    @property
    def optional(self) -> bool:
        """Whether every backend fits without it."""
        return not self.required_by

    @property
    def use(self) -> str:
        """The use of the package, in words."""
        required = " and ".join(f"backend={name!r}" for name in self.required_by)
        missed = "; ".join(f"{what} ({backend})" for backend, what in self.missed_by.items())
        if not required:
            return f"optional, used only by {missed}"
        return f"required by {required}" + (f"; also used by {missed}" if missed else "")


def gather_r_packages(
    required: Mapping[str, Sequence[str]], optional: Mapping[str, Mapping[str, str]]
) -> tuple[RPackage, ...]:
    """The R packages of several backends, required ones first.

    Args:
        required: R packages that a backend cannot fit without, by backend.
        optional: R packages that a backend uses if they are installed, with the function that needs each of them in
            words, by backend.
    """
    names = dict.fromkeys(
        [*(n for packages in required.values() for n in packages), *(n for uses in optional.values() for n in uses)]
    )
    packages = [
        RPackage(
            name,
            tuple(backend for backend, needed in required.items() if name in needed),
            {backend: uses[name] for backend, uses in optional.items() if name in uses},
        )
        for name in names
    ]
    return tuple(sorted(packages, key=lambda package: package.optional))


APT_LISTS = Path("/var/lib/apt/lists")
_INTERFACE_OF_R_4_5 = (3, 6, 6)
"""First version of rpy2-rinterface that uses C functions which R has only since version 4.5."""


def rpy2_requirements(r_version: str) -> tuple[str, ...]:
    """The versions of rpy2 that work with a version of R, which the requirements of a Python package cannot express.

    Args:
        r_version: Version of R, such as ``"4.2.2"``.

    Returns:
        Requirements in the form that pip takes.
    """
    if numbers(r_version) < (4, 5):
        return ("rpy2==3.6.4", "rpy2-robjects==3.6.5", "rpy2-rinterface==3.6.5")
    return ("rpy2>=3.6.4,<3.7", "rpy2-robjects>=3.6.5,<3.7", "rpy2-rinterface>=3.6.6,<3.7")


def rpy2_fits(interface: str, r_version: str) -> bool:
    """Whether a version of rpy2-rinterface can load a version of R."""
    return numbers(interface) < _INTERFACE_OF_R_4_5 or numbers(r_version) >= (4, 5)


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, for comparisons."""
    leading = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in leading.group().split(".")) if leading else ()


# --- the R installation -----------------------------------------------------------------------------------------------


class RInstallation(NamedTuple):
    """The R that rpy2 will load.

    Attributes:
        home: Home folder of R, or None if R was not found.
        version: Version of R, or None if R cannot be used.
        problem: Reason why R cannot be used, or an empty text.
        fix: The line that solves the problem, or an empty text.
    """

    home: Path | None = None
    version: str | None = None
    problem: str = ""
    fix: str = ""

    @property
    def rscript(self) -> str | None:
        """Path of the Rscript of this R. Another Rscript on the PATH would report the packages of another R."""
        return shutil.which("Rscript", path=str(self.home / "bin")) if self.home else None


def run(command: Sequence[str | Path], timeout: float) -> tuple[int, str, str]:
    """Run a command and return its exit code, output and errors.

    The exit code is -1, and the errors give the reason, if the command does not start or takes too long.

    Args:
        command: Program and arguments.
        timeout: Seconds after which the command is stopped.
    """
    try:
        done = subprocess.run(
            [str(part) for part in command],
            capture_output=True, text=True, errors="replace", timeout=timeout, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return -1, "", str(error)
    return done.returncode, done.stdout, done.stderr


def find_r() -> RInstallation:
    """Find R as rpy2 does, through ``R_HOME`` and then through ``R RHOME``, without importing rpy2."""
    named = os.environ.get("R_HOME", "").strip()
    if named:
        home, fix = Path(named), "unset R_HOME"
    else:
        program = shutil.which("R")
        if program is None:
            return RInstallation()
        fix = install_lines(["R"])
        code, out, err = run([program, "RHOME"], 20)
        if code != 0 or not out.strip():
            return RInstallation(problem=f"`R RHOME` failed: {last_line(err)}", fix=fix)
        home = Path(last_line(out))
    program = shutil.which("R", path=str(home / "bin"))
    if program is None:
        where = "R_HOME points to" if named else "R says it lives in"
        return RInstallation(home, problem=f"{where} {home}, which holds no bin/R", fix=fix)
    code, out, err = run([program, "--version"], 20)
    version = re.search(r"R version (\d+\.\d+\.\d+)", out + err)
    if code != 0 or version is None:
        return RInstallation(home, problem=f"{program} does not start: {last_line(err)}", fix=fix)
    return RInstallation(home, version.group(1))


def missing_r_packages(names: Sequence[str], installation: RInstallation, *, load: bool = False) -> list[str]:
    """The names of the R packages that are not installed; all names if there is no R.

    Args:
        names: Names of R packages.
        installation: The R installation.
        load: Whether to load the packages, so that an installed package that does not load counts as missing. This
            takes seconds.
    """
    program = installation.rscript if installation.version else None
    if program is None:
        return list(names)
    # system.file() looks a package up without loading it, which is quick
    there = "suppressMessages(requireNamespace(p, quietly = TRUE))" if load else "nzchar(system.file(package = p))"
    code, out, _ = run(
        [program, "-e", f"for (p in commandArgs(TRUE)) if ({there}) cat('\\n=>', p, '\\n')", *names], 120
    )
    if code:
        return list(names)
    present = re.findall(r"^=> (\S+)", out, flags=re.MULTILINE)  # an Rprofile may print other lines
    return [name for name in names if name not in present]


def r_libraries(installation: RInstallation) -> tuple[str, ...]:
    """The folders in which R looks for packages; empty if there is no R."""
    program = installation.rscript if installation.version else None
    if program is None:
        return ()
    _, out, _ = run([program, "-e", "cat(paste0('\\n=>', .libPaths()), sep = '')"], 60)
    return tuple(re.findall(r"^=>(.+)$", out, flags=re.MULTILINE))


def last_line(text: str) -> str:
    """The last line of a program's output, cut to 300 characters."""
    return text.strip().rpartition("\n")[2].strip()[:300]


# --- what to type -----------------------------------------------------------------------------------------------------


def install_lines(names: Sequence[str], home: Path | None = None) -> str:
    """The lines that install R and R packages with the package manager of this machine.

    Args:
        names: Names of R packages; ``"R"`` stands for R itself.
        home: Home folder of the R that the packages are for, if there is one.

    Returns:
        Lines for a shell. An R from conda gets the packages of conda-forge. An R from Debian or Ubuntu gets the
        packages that apt has, and a line that takes the others from Posit's binaries of CRAN. Any other R gets the
        packages of CRAN.
    """
    conda = os.environ.get("CONDA_PREFIX")
    if conda and (home is None or str(home).startswith(conda)):
        tool = next((t for t in ("mamba", "micromamba", "conda") if shutil.which(t)), "conda")
        return f"{tool} install -c conda-forge " + " ".join(
            "r-base" if name == "R" else f"r-{name.lower()}" for name in names
        )
    if shutil.which("apt-get") and (home is None or str(home).startswith("/usr/lib")):
        return "\n".join(_debian_lines(names))
    packages = [name for name in names if name != "R"]
    lines = ["# first install R, by your system's packages or from conda-forge"] * ("R" in names)
    return "\n".join([*lines, *([cran_line(packages)] if packages else [])])


def compiler_line() -> str:
    """The line that installs what is needed to compile rpy2: a C compiler and the headers of R and Python."""
    if os.environ.get("CONDA_PREFIX"):
        return "conda install -c conda-forge c-compiler"
    if shutil.which("apt-get"):
        return f"{_root()}apt-get install r-base-dev python3-dev"
    return "# install a C compiler and the headers of R and Python, by your system's packages"


def cran_line(names: Sequence[str], *, source: bool = False) -> str:
    """The line that installs R packages from CRAN, from their sources if ``source`` is true."""
    how = ', type = "source"' if source else ""
    return f"Rscript -e 'chooseCRANmirror(ind = 1); install.packages({_vector(names)}{how})'"


def posit_line(names: Sequence[str]) -> str:
    """The line that installs R packages as Posit's binaries of CRAN for this Linux, without compiling."""
    return (
        'Rscript -e \'chooseCRANmirror(ind = 1); install.packages("pak"); '
        f'pak::repo_add(CRAN = "PPM@latest"); pak::pkg_install({_vector(names)})\''
    )


def _vector(names: Sequence[str]) -> str:
    return "c(" + ", ".join(f'"{name}"' for name in names) + ")"


def debian_names(name: str) -> tuple[str, ...]:
    """Names of the Debian packages of R (``"R"``) or of an R package."""
    return ("r-base-core", "r-base-dev") if name == "R" else (f"r-cran-{name.lower()}",)


def known_to_apt(names: Sequence[str]) -> set[str] | None:
    """The Debian packages among these names that apt can install; None if apt has no lists of packages."""
    if not shutil.which("apt-cache") or not any(APT_LISTS.glob("*_Packages*")):
        return None
    _, out, _ = run(["apt-cache", "policy", *names], 60)
    candidates = re.findall(r"^(\S+):\n(?:.*\n)*?\s+Candidate: (.*)$", out, flags=re.MULTILINE)
    return {name for name, version in candidates if version.strip() != "(none)"}


def _root() -> str:
    return "" if hasattr(os, "geteuid") and os.geteuid() == 0 else "sudo "


def _debian_lines(names: Sequence[str]) -> list[str]:
    root = _root()
    debian = {name: debian_names(name) for name in names}
    known = known_to_apt([d for group in debian.values() for d in group])
    if known is None:  # one by one, because apt-get installs nothing if it does not know one of the names
        each = " ".join(d for group in debian.values() for d in group)
        return [f"{root}apt-get update", f"for package in {each}; do {root}apt-get install -y $package; done"]
    able = [d for group in debian.values() for d in group if d in known]
    others = [name for name, group in debian.items() if name != "R" and not set(group) <= known]
    lines = [f"{root}apt-get install {' '.join(able)}"] if able else []
    return [*lines, *([posit_line(others)] if others else [])]
