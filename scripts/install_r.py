#!/usr/bin/env python3
"""Install R, the R packages that unimix uses and graphviz, where they are missing and where apt may be used.

Usage: python3 scripts/install_r.py

Every package is installed by itself, because one that a release does not have would stop all the others. It never
fails: without R everything else goes on, and what is missing is named with what misses it and the lines to type.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from steps import say, step

if TYPE_CHECKING:
    from unimix.r_installation import RInstallation

ROOT = Path(__file__).resolve().parent.parent
_APT = (
    *("apt-get", "-y", "-qq"),
    *("-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=30", "-o", "DPkg::Lock::Timeout=120"),
)


def _load(name: str, path: Path) -> Any:
    """A file of unimix's own knowledge of R, without the package, which nothing has installed yet."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


r_installation = _load("r_installation", ROOT / "src" / "unimix" / "r_installation.py")
_engines = _load("r_packages", ROOT / "src" / "unimix" / "backends" / "r" / "packages.py")
R_PACKAGES = r_installation.gather_r_packages(_engines.REQUIRED, _engines.OPTIONAL)


def missing(installation: RInstallation) -> list[str]:
    """Names of the R packages that this R lacks; all of them where there is no R."""
    names = [p.name for p in R_PACKAGES]
    absent: list[str] = r_installation.missing_r_packages(names, installation)
    return absent


def lacks_compiler() -> bool:
    """Whether there is no C compiler, which rpy2 needs."""
    return not any(shutil.which(name) for name in ("cc", "gcc", "clang"))


def install(absent: list[str], tools: tuple[str, ...] = ()) -> None:
    """Install what apt has of R, some R packages and graphviz; the rest is left to `tell_missing`.

    Args:
        absent: R packages that are missing.
        tools: Debian's packages that are needed beside R.
    """
    root = _root()
    if root is None:
        return
    wanted = {"R": ("r-base-core", "r-base-dev")} | {name: r_installation.debian_names(name) for name in absent}
    if tools:
        wanted = {"Python's tools": tools} | wanted
    if not shutil.which("dot"):
        wanted["graphviz"] = ("graphviz",)
    wanted = {name: tuple(p for p in group if not _is_installed(p)) for name, group in wanted.items()}
    wanted = {name: group for name, group in wanted.items() if group}
    if not wanted:
        return
    every = [p for group in wanted.values() for p in group]
    known = r_installation.known_to_apt(every)
    if known is None or not set(every) <= known:
        with step("Reading apt's lists of packages"):
            _, said = _apt(root, "update")
            known = r_installation.known_to_apt(every)
        if known is None:
            say(f"  apt has no lists of packages: {_last(said)}")
            return
    for name, group in wanted.items():
        able = [p for p in group if p in known]
        if not able:
            say(f"apt does not have {' '.join(group)}")
            continue
        with step(f"Installing {name} by apt"):
            code, said = _apt(root, "install", "--no-install-recommends", *able)
            if code:
                say(f"  apt could not install {' '.join(able)}: {_last(said)}")


def tell_missing(absent: list[str], installation: RInstallation) -> None:
    """Name the R packages that are missing, what misses each of them, and the lines to type."""
    by_name = {p.name: p for p in R_PACKAGES}
    required = [name for name in absent if not by_name[name].optional]
    optional = [name for name in absent if by_name[name].optional]
    home, problem = installation.home, installation.problem
    if not installation.version:
        what = f"cannot be used: {problem}" if problem else "was not found"
        who = "lme4, glmmtmb, nlme, ordinal and pymer4"
        say(f"\nR {what}. The backends {who} need it; the others are there. To have them, type")
        say(_indented(r_installation.install_lines(["R", *required])))
        say("    make setup")
        return
    for names, what in ((required, "Required R packages are missing"), (optional, "Optional R packages are missing")):
        if not names:
            continue
        say(f"\n{what}:")
        say(_indented("\n".join(f"{name}: {by_name[name].use}" for name in names)))
        say("To have them, type")
        say(_indented(r_installation.install_lines(names, home)))
    if required:
        say("    make setup")
    there = [name for name in by_name if name not in absent]
    broken = r_installation.missing_r_packages(there, installation, load=True)
    if broken:
        say(f"\nThese R packages are installed but do not load: {' '.join(broken)}. The doctor says why:")
        say("    .venv/bin/python -m unimix.doctor")


def _indented(lines: str) -> str:
    return "\n".join(f"    {line}" for line in lines.splitlines())


def _last(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("E:", "W:", "Err:"))]
    return (told or lines or ["no reason was told"])[-1].strip()[:200]


def _root() -> list[str] | None:
    """What stands before apt-get; None where apt may not be used."""
    if not shutil.which("apt-get"):
        return None
    if os.geteuid() == 0:
        return []
    may = subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False) if shutil.which("sudo") else None
    return ["sudo", "-n"] if may is not None and may.returncode == 0 else None


def _is_installed(package: str) -> bool:
    code, out, _ = r_installation.run(["dpkg-query", "-W", "-f", "${Status}", package], 30)
    return code == 0 and out.strip().endswith("install ok installed")


def _apt(root: list[str], *arguments: str) -> tuple[int, str]:
    command = [*root, "env", "DEBIAN_FRONTEND=noninteractive", *_APT, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, stdin=subprocess.DEVNULL
    )
    return done.returncode, done.stdout + done.stderr


def main() -> int:
    """Install what is missing and say what is still missing afterwards."""
    install(missing(r_installation.find_r()))
    installation = r_installation.find_r()
    tell_missing(missing(installation), installation)
    return 0


if __name__ == "__main__":
    sys.exit(main())
