"""What is installed, what is broken, and the line that mends it.

``unimix.doctor()`` or ``python -m unimix.doctor``. Nothing heavy is imported here: versions are read from the packages'
metadata, and R and rpy2 are tried in processes of their own, so that a broken binary cannot take Python down.
"""

from __future__ import annotations

import html
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from unimix.known_versions import (
    BAMBI,
    CORE,
    MATPLOTLIB,
    NEEDS,
    PYMC,
    PYMER4,
    PYMER4_FORGETS,
    PYMER4_R,
    R_PACKAGES,
    RPY2_PARTS,
    RUST,
    Rule,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Diagnosis", "Item", "Status", "doctor"]

Status = Literal["ok", "missing", "broken"]


class Item(BaseModel):
    """One thing that was looked at.

    Attributes:
        name: What was looked at.
        version: Version found, or None.
        status: ``ok``, ``missing`` or ``broken``.
        message: What was found, and why it matters.
        fix: The line to paste, or an empty string.
        optional: Whether every backend also runs without it.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    version: str | None = None
    status: Status = "ok"
    message: str = ""
    fix: str = ""
    optional: bool = False


class Diagnosis(BaseModel):
    """Everything that `doctor` found; printing it gives a table and the lines to paste."""

    model_config = ConfigDict(frozen=True)

    items: tuple[Item, ...]

    def __getitem__(self, name: str) -> Item:
        for item in self.items:
            if item.name.lower() == name.lower():
                return item
        raise KeyError(name)

    @property
    def ready(self) -> dict[str, bool]:
        """For each built-in backend whether everything it needs is in order."""
        status = {item.name: item.status for item in self.items}
        return {name: all(status.get(part) == "ok" for part in parts) for name, parts in NEEDS.items()}

    @property
    def problems(self) -> tuple[Item, ...]:
        """The items that are not in order, what is broken first, what is optional last."""
        wrong = [item for item in self.items if item.status != "ok"]
        return tuple(sorted(wrong, key=lambda item: (item.optional, item.status != "broken")))

    def __str__(self) -> str:
        rows = [("", "version", "status", "")]
        rows += [(item.name, item.version or "-", item.status, item.message) for item in self.items]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row[:3], widths, strict=True)), row[3]]) for row in rows]
        blocks = ["\n".join(line.rstrip() for line in lines), self._verdict()]
        for heading, optional in (("To mend, paste:", False), ("Optional:", True)):
            fixes = [f"# {i.name}\n{i.fix}" for i in self.problems if i.fix and i.optional is optional]
            if fixes:
                blocks.append(f"{heading}\n\n" + "\n".join(fixes))
        return "\n\n".join(blocks)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in ("", "version", "status", "", "to mend"))
        body = "".join(
            "<tr>"
            + "".join(f"<td>{html.escape(c)}</td>" for c in (item.name, item.version or "-", item.status, item.message))
            + f"<td><code>{html.escape(item.fix)}</code></td></tr>"
            for item in self.items
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return f"{table}<p>{html.escape(self._verdict())}</p>"

    def _verdict(self) -> str:
        ready = [name for name, fine in self.ready.items() if fine]
        waiting = [name for name, fine in self.ready.items() if not fine]
        words = f"Backends that can run: {', '.join(ready) or 'none'}."
        return words + (f" Not yet: {', '.join(waiting)}." if waiting else "")


def doctor() -> Diagnosis:
    """Look at Python, R and all engines, and say what is broken and how to mend it.

    Takes two or three seconds, because R and rpy2 are really started, in processes of their own.

    Returns:
        A `Diagnosis`; print it, or ask ``diagnosis["rpy2"].status`` and ``diagnosis.ready["lme4"]``.
    """
    found = find_r()
    packages = _r_packages(found)
    items = (
        Item(name="Python", version=platform.python_version(), message=sys.executable),
        _unimix(),
        *(check(rule) for rule in CORE),
        _r(found),
        _rpy2(found),
        *packages,
        _pymer4(packages),
        *(check(rule) for rule in (*PYMC, *RUST, BAMBI)),
        check(MATPLOTLIB),
    )
    return Diagnosis(items=items)


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def check(rule: Rule) -> Item:
    """Compare the installed version of a Python package with its rule."""
    version = _installed(rule.name)
    wanted = f">={rule.at_least}" + (f",<{rule.below}" if rule.below else "")
    fix = f'pip install "{rule.name}{wanted}"'
    if version is None:
        fix = f'pip install "unimix[{rule.extra}]"' if rule.extra and not rule.optional else fix
        use = f"not installed: {'optional, ' * rule.optional}{rule.use}"
        return Item(name=rule.name, status="missing", message=use, fix=fix, optional=rule.optional)
    number = _numbers(version)
    if number >= _numbers(rule.at_least) and (rule.below is None or number < _numbers(rule.below)):
        return Item(name=rule.name, version=version, message=rule.use, optional=rule.optional)
    message = f"unimix needs {wanted}" + (f": {rule.why}" if rule.why else "")
    return Item(name=rule.name, version=version, status="broken", message=message, fix=fix, optional=rule.optional)


def _unimix() -> Item:
    version = _installed("unimix")
    if version is not None:
        return Item(name="unimix", version=version)
    message = "runs from a folder without being installed: its backends are found through the installation"
    return Item(name="unimix", status="missing", message=message, fix="pip install -e .")


class FoundR(NamedTuple):
    """The R that rpy2 will load; without a version it cannot be used, and ``problem`` may say why."""

    home: Path | None = None
    version: str | None = None
    problem: str = ""
    fix: str = ""


def _run(command: Sequence[str | Path], timeout: float) -> tuple[int, str, str]:
    try:
        done = subprocess.run(
            [str(part) for part in command],
            capture_output=True, text=True, errors="replace", timeout=timeout, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return -1, "", str(error)
    return done.returncode, done.stdout, done.stderr


def find_r() -> FoundR:
    """Find R as rpy2 does, by ``R_HOME`` and then by ``R RHOME``, without importing rpy2."""
    named = os.environ.get("R_HOME", "").strip()
    if named:
        home, fix = Path(named), "unset R_HOME"
    else:
        program = shutil.which("R")
        if program is None:
            return FoundR()
        fix = _install_r(["R"])
        code, out, err = _run([program, "RHOME"], 20)
        if code != 0 or not out.strip():
            return FoundR(problem=f"`R RHOME` failed: {_last_line(err)}", fix=fix)
        home = Path(_last_line(out))
    program = shutil.which("R", path=str(home / "bin"))
    if program is None:
        where = "R_HOME points to" if named else "R says it lives in"
        return FoundR(home, problem=f"{where} {home}, which holds no bin/R", fix=fix)
    code, out, err = _run([program, "--version"], 20)
    version = re.search(r"R version (\d+\.\d+\.\d+)", out + err)
    if code != 0 or version is None:
        return FoundR(home, problem=f"{program} does not start: {_last_line(err)}", fix=fix)
    return FoundR(home, version.group(1))


def _r(found: FoundR) -> Item:
    if found.version:
        return Item(name="R", version=found.version, message=str(found.home))
    if found.problem:
        return Item(name="R", status="broken", message=found.problem, fix=found.fix)
    message = "not found, neither by R_HOME nor on the PATH: needed by the lme4 and pymer4 backends"
    return Item(name="R", status="missing", message=message, fix=_install_r(("R", *R_PACKAGES)))


def _install_r(names: Sequence[str], home: Path | None = None) -> str:
    """Return the line that installs R ("R") and R packages with whatever this machine installs things with."""
    conda = os.environ.get("CONDA_PREFIX")
    if conda and (home is None or str(home).startswith(conda)):
        return "conda install -c conda-forge " + " ".join("r-base" if n == "R" else f"r-{n.lower()}" for n in names)
    if shutil.which("apt-get") and (home is None or str(home).startswith("/usr/lib")):
        root = "" if hasattr(os, "geteuid") and os.geteuid() == 0 else "sudo "
        debian = " ".join("r-base-core r-base-dev" if n == "R" else f"r-cran-{n.lower()}" for n in names)
        return f"{root}apt-get install {debian}"
    quoted = ", ".join(f'"{n}"' for n in names if n != "R")
    line = f"Rscript -e 'chooseCRANmirror(ind = 1); install.packages(c({quoted}))'" if quoted else ""
    return "\n".join(["# install R from your system's packages or conda-forge"] * ("R" in names) + [line] * bool(line))


def _r_packages(found: FoundR) -> list[Item]:
    versions, fault = _ask_r(found, [*R_PACKAGES, "report"]) if found.version else ({}, "")
    faults = {"lme4": fault}  # the one that is asked to fit
    items = [_r_package(name, versions, found, faults.get(name, "")) for name in R_PACKAGES]
    there = versions.get("report")
    message = "harmless when absent: unimix imports pymer4 without it, only pymer4's own .report() needs it"
    status: Status = "ok" if there else "missing"
    return [*items, Item(name="report", version=there, status=status, message=message, optional=True)]


def _r_package(name: str, versions: dict[str, str], found: FoundR, fault: str) -> Item:
    if found.version is None:
        return Item(name=name, status="missing", message="R package: R comes first")
    if name not in versions:
        message = f"R package, not installed: {R_PACKAGES[name]}"
        return Item(name=name, status="missing", message=message, fix=_install_r([name], found.home))
    if fault:
        message = f"installed, but cannot fit: {fault}. Often Matrix was updated after lme4 was built: rebuild both"
        fix = """Rscript -e 'chooseCRANmirror(ind = 1); install.packages(c("Matrix", "lme4"), type = "source")'"""
        return Item(name=name, version=versions[name], status="broken", message=message, fix=fix)
    return Item(name=name, version=versions[name], message=f"R package: {R_PACKAGES[name]}")


_ASK_R = """
for (p in commandArgs(TRUE)) {
  v <- tryCatch(as.character(packageVersion(p)), error = function(e) NULL)
  if (!is.null(v)) cat("\\nunimix:", p, v, "\\n")
}
d <- data.frame(y = c(1, 2, 4, 3, 5, 7, 2, 4, 5), g = gl(3, 3))
tryCatch(invisible(suppressWarnings(suppressMessages(lme4::lmer(y ~ 1 + (1 | g), d)))),
         error = function(e) cat("\\nunimix-fault:", gsub("\\n", " ", conditionMessage(e)), "\\n"))
"""


def _ask_r(found: FoundR, names: Sequence[str]) -> tuple[dict[str, str], str]:
    """Ask R once for the versions of the packages it has, and why lme4 cannot fit nine rows (empty if it can)."""
    program = shutil.which("Rscript", path=str((found.home or Path()) / "bin"))
    if program is None:  # another R on the PATH would answer for other packages
        return {}, ""
    _, out, _ = _run([program, "-e", _ASK_R, *names], 120)
    fault = re.search(r"^unimix-fault: (.*)", out, flags=re.MULTILINE)
    return dict(re.findall(r"^unimix: (\S+) (\S+)", out, flags=re.MULTILINE)), fault.group(1).strip() if fault else ""


_PROBE = """
import rpy2.rinterface as r
r.initr()
print("unimix:", r.evalr('paste(R.version$major, R.version$minor, sep = ".")')[0])
"""


def rpy2_line(r_version: str) -> str:
    """Return the line that installs the rpy2 that fits this R: rpy2-rinterface 3.6.6 uses C functions of R 4.5."""
    if _numbers(r_version) < (4, 5):
        return "pip install rpy2==3.6.4 rpy2-robjects==3.6.5 rpy2-rinterface==3.6.5"
    return 'pip install --upgrade "rpy2>=3.6.4,<3.7" "rpy2-robjects>=3.6.5,<3.7" "rpy2-rinterface>=3.6.6,<3.7"'


def _rpy2(found: FoundR) -> Item:
    versions = {name: _installed(name) for name in RPY2_PARTS}
    if versions["rpy2"] is None:
        message = "not installed: connects Python with R for the lme4 and pymer4 backends"
        if found.version is None:
            return Item(
                name="rpy2", status="missing", message=f"{message}. Install R first: it decides which rpy2 fits"
            )
        return Item(name="rpy2", status="missing", message=message, fix=rpy2_line(found.version))
    interface = versions["rpy2-rinterface"]
    shown = versions["rpy2"] + (f" ({interface})" if interface else "")

    def broken(message: str, fix: str) -> Item:
        return Item(name="rpy2", version=shown, status="broken", message=message, fix=fix)

    if found.version is None:
        return broken("installed, but there is no R to load: mend R first", "")
    if _numbers(versions["rpy2"]) >= (3, 6) and None in versions.values():
        absent = " and ".join(name for name, version in versions.items() if version is None)
        return broken(f"half installed: {absent} is missing", rpy2_line(found.version))
    if interface and _numbers(interface) >= (3, 6, 6) and _numbers(found.version) < (4, 5):
        needs = f"rpy2-rinterface {interface} needs R 4.5 or newer, this is R {found.version}"
        return broken(needs, rpy2_line(found.version))
    code, out, err = _run([sys.executable, "-c", _PROBE], 60)
    loaded = re.search(r"^unimix: (\S+)", out, flags=re.MULTILINE)
    rebuild = rpy2_line(found.version).replace("pip install", "pip install --force-reinstall --no-cache-dir --no-deps")
    if code != 0 or loaded is None:
        return broken(f"does not load R {found.version}: {_last_line(err) or f'exit code {code}'}", rebuild)
    if loaded.group(1) != found.version:
        return broken(f"loads R {loaded.group(1)} although R {found.version} was found: built for another R", rebuild)
    return Item(name="rpy2", version=shown, message=f"loads R {found.version}")


def _pymer4(packages: Sequence[Item]) -> Item:
    item = check(PYMER4)
    forgotten = [name for name in PYMER4_FORGETS if _installed(name) is None]
    absent = [package.name for package in packages if package.name in PYMER4_R and package.status != "ok"]
    if item.status != "ok" or not (forgotten or absent):
        return item
    if forgotten:
        message = f"its wheel declares no dependencies; missing: {', '.join(forgotten)}"
        fix = 'pip install "unimix[pymer4]"'
    else:
        what = "R" if len(absent) == len(PYMER4_R) else "R packages"
        message, fix = f"does not import without {what}: mend that first", ""
    return item.model_copy(update={"status": "broken", "message": message, "fix": fix})


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2].strip()[:300]


class _CallableModule(ModuleType):
    """``unimix.doctor()`` works whether or not somebody has imported the module of the same name."""

    def __call__(self) -> Diagnosis:
        return doctor()


sys.modules[__name__].__class__ = _CallableModule

if __name__ == "__main__":
    print(doctor())
