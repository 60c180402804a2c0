"""What is installed, what is broken, and the line that repairs it.

Call ``unimix.doctor()`` or run ``python -m unimix.doctor``. The requirements of each engine are read from its backend
and from the metadata of the package that provides it. No engine is imported: versions come from metadata, and R and
rpy2 are started in separate processes, so that a broken binary cannot crash the session.
"""

from __future__ import annotations

import platform
import re
import sys
from importlib import metadata
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import BaseModel, ConfigDict

from unimix.display import Block, Code, Printed, TextTable
from unimix.installation import bounded, fault, install_line, installed_version, requirements, unmet
from unimix.r_installation import (
    RInstallation,
    RPackage,
    cran_line,
    find_r,
    gather_r_packages,
    install_lines,
    last_line,
    rpy2_fits,
    rpy2_requirements,
    run,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from unimix.backends.base import Backend
    from unimix.backends.interface import BackendInfo

__all__ = ["Diagnosis", "Item", "Status", "doctor"]

Status = Literal["ok", "missing", "broken"]
RPY2_PARTS = ("rpy2", "rpy2-robjects", "rpy2-rinterface")


class Item(BaseModel):
    """One part of the installation: Python, R, or a package.

    Attributes:
        name: Name of the part.
        version: Installed version, or None.
        status: ``ok``, ``missing`` or ``broken``.
        message: Description of the state, and which backends need the part.
        fix: The line that installs or repairs it, or an empty string.
        optional: Whether every backend also runs without it.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    version: str | None = None
    status: Status = "ok"
    message: str = ""
    fix: str = ""
    optional: bool = False


class Diagnosis(Printed, BaseModel):
    """The report of :func:`doctor`; printing it gives a table and the lines to paste.

    Attributes:
        items: The parts of the installation, in the order of the table.
        needs: Names of the items that each backend cannot run without, by backend.
    """

    model_config = ConfigDict(frozen=True)

    items: tuple[Item, ...]
    needs: dict[str, tuple[str, ...]] = {}

    def __getitem__(self, name: str) -> Item:
        for item in self.items:
            if item.name.lower() == name.lower():
                return item
        raise KeyError(name)

    @property
    def ready(self) -> dict[str, bool]:
        """Whether each registered backend can run: whether all items that it needs are in order."""
        status = {item.name: item.status for item in self.items}
        return {name: all(status.get(part) == "ok" for part in parts) for name, parts in self.needs.items()}

    @property
    def problems(self) -> tuple[Item, ...]:
        """The items that are not in order: broken ones first, optional ones last."""
        wrong = [item for item in self.items if item.status != "ok"]
        return tuple(sorted(wrong, key=lambda item: (item.optional, item.status != "broken")))

    def _view(self) -> Iterable[Block]:
        rows = tuple((item.name, item.version or "-", item.status, item.message) for item in self.items)
        table = TextTable(("", "version", "status", ""), rows, "llll")
        blocks: list[Block] = [table, "", self._verdict()]
        for heading, optional in (("To repair, paste:", False), ("Optional:", True)):
            fixes: dict[str, list[str]] = {}
            for item in self.problems:
                if item.fix and item.optional is optional:
                    fixes.setdefault(item.fix, []).append(item.name)
            if fixes:
                lines = [f"# {', '.join(names)}\n{fix}" for fix, names in fixes.items()]
                blocks += ["", heading, "", Code("\n".join(lines), indent=0)]
        return blocks

    def _verdict(self) -> str:
        ready = [name for name, fine in self.ready.items() if fine]
        waiting = [name for name, fine in self.ready.items() if not fine]
        words = f"Backends that can run: {', '.join(ready) or 'none'}."
        return words + (f" Not yet: {', '.join(waiting)}." if waiting else "")


def doctor() -> Diagnosis:
    """Examine Python, R and all engines, and say what is broken and how to repair it.

    Engines of third parties are examined like unimix's own. The call takes two or three seconds, because R and rpy2 are
    started, in separate processes.

    Returns:
        The diagnosis. Print it, or look at single answers: ``diagnosis["rpy2"].status``, ``diagnosis.ready["lme4"]``.

    Example:
        >>> import unimix as um
        >>> um.doctor()["Python"].status
        'ok'
    """
    engines, broken = _engines()
    installation = find_r()
    in_r = gather_r_packages(
        {name: cls.info.r_packages for name, cls in engines.items()},
        {name: cls.info.r_optional for name, cls in engines.items()},
    )
    wanted = {name: _wanted(cls) for name, cls in engines.items()}
    core = _core()
    users: dict[str, list[str]] = {}
    optional: set[str] = set()
    for name, parts in wanted.items():
        for part in parts:
            users.setdefault(part.name, []).append(name)
            optional |= {part.name} & set(engines[name].info.optional)
    seen = {item.name for item in core} | set(RPY2_PARTS)
    packages = {p.name: p for parts in wanted.values() for p in parts if p.name not in seen}
    bounded = [*core, *(_package(p, users[p.name], optional=p.name in optional) for p in packages.values())]
    plots = [_package(p, [], use="pictures") for p in _requirements("plot") if p.name not in packages]
    items = (
        Item(name="Python", version=platform.python_version(), message=sys.executable),
        _unimix(),
        *bounded,
        *plots,
        _r(installation, in_r),
        _rpy2(installation),
        *_r_packages(installation, in_r, [cls.info for cls in engines.values() if cls.info.r_trial]),
        *broken,
    )
    everyone = ("unimix", *(item.name for item in core))
    needs = {name: (*everyone, *_needs(cls, wanted[name])) for name, cls in engines.items()}
    return Diagnosis(items=items, needs=needs | {item.name: (item.name,) for item in broken})


# --- Python packages --------------------------------------------------------------------------------------------------


def _engines() -> tuple[dict[str, type[Backend]], list[Item]]:
    """The registered backends, and an item for every backend whose adapter does not import."""
    try:
        from unimix.backends.registry import backend_class, registered
        from unimix.errors import EngineBrokenError
    except ImportError:  # NumPy or pydantic is missing, as other items of the table show
        return {}, []
    engines, broken = {}, []
    for name in registered():
        try:
            engines[name] = backend_class(name)
        except EngineBrokenError as error:
            broken.append(Item(name=name, status="broken", message=str(error)))
    return engines, broken


def _requirements(extra: str, distribution: str = "unimix") -> tuple[Requirement, ...]:
    try:
        return requirements(extra, distribution)
    except metadata.PackageNotFoundError:
        return ()


def _wanted(engine: type[Backend]) -> tuple[Requirement, ...]:
    """The requirements of an engine: those of its extra, and packages that its backend names beyond them."""
    info = engine.info
    by_extra = _requirements(info.extra, info.distribution) if info.extra else ()
    known = {canonicalize_name(r.name) for r in (*by_extra, *_requirements(""))} | {"unimix"}
    return (*by_extra, *(Requirement(d) for d in info.distributions if canonicalize_name(d) not in known))


def _needs(engine: type[Backend], wanted: Sequence[Requirement]) -> tuple[str, ...]:
    """Names of the items that an engine cannot run without, beyond those that every backend needs."""
    parts = [r.name for r in wanted if r.name not in engine.info.optional and r.name not in RPY2_PARTS]
    in_r = engine.info.r_packages
    return (*(("R", "rpy2", *in_r) if in_r else ()), *parts)


def _core() -> list[Item]:
    return [_package(needed, [], use="every backend needs it") for needed in _requirements("")]


def _package(needed: Requirement, users: Sequence[str], *, optional: bool = False, use: str = "") -> Item:
    """Compare the installed version of a Python package with the version bounds of unimix."""
    version = installed_version(needed.name)
    wrong = fault(needed)
    use = use or f"{'optional for' if optional else 'needed by'} {', '.join(f'backend={name!r}' for name in users)}"
    fix = install_line([needed])
    if version is None:
        return Item(
            name=needed.name, status="missing", message=f"not installed: {use}", fix=fix, optional=optional or not users
        )
    if wrong:
        return Item(name=needed.name, version=version, status="broken", message=wrong, fix=fix, optional=optional)
    lacking = unmet(needed.name)
    if lacking:
        message = f"{needed.name} {version} needs {', '.join(map(bounded, lacking))}"
        fix = install_line(lacking)
        return Item(name=needed.name, version=version, status="broken", message=message, fix=fix, optional=optional)
    return Item(name=needed.name, version=version, message=use, optional=optional)


def _unimix() -> Item:
    version = installed_version("unimix")
    if version is not None:
        return Item(name="unimix", version=version)
    message = "runs from a folder without being installed, but its backends are only known to an installed package"
    return Item(name="unimix", status="missing", message=message, fix="pip install -e .")


# --- R and its packages -----------------------------------------------------------------------------------------------


def _r(installation: RInstallation, packages: Sequence[RPackage]) -> Item:
    if installation.version:
        return Item(name="R", version=installation.version, message=str(installation.home))
    if installation.problem:
        return Item(name="R", status="broken", message=installation.problem, fix=installation.fix)
    message = "not found through R_HOME or on the PATH; the backends that run in R need it"
    required = [p.name for p in packages if not p.optional]
    return Item(name="R", status="missing", message=message, fix=install_lines(["R", *required]))


def _r_packages(installation: RInstallation, packages: Sequence[RPackage], tried: Sequence[BackendInfo]) -> list[Item]:
    """An item for each R package that a backend requires, or that some function of a backend uses."""
    trials = {info.r_packages[0]: info.r_trial for info in tried}
    versions, faults = _ask_r(installation, [p.name for p in packages], trials) if installation.version else ({}, {})
    required = [p.name for p in packages if not p.optional and p.name not in versions]
    optional = [p.name for p in packages if p.optional and p.name not in versions]
    fixes: dict[str, str] = {}
    if installation.version:  # one line installs all missing packages with their dependencies
        for absent in (required, optional):
            fixes |= dict.fromkeys(absent, install_lines(absent, installation.home) if absent else "")
    beneath = {info.r_packages[0]: info.r_packages[1:] for info in tried}
    return [
        _r_package(p, versions.get(p.name), fixes.get(p.name, ""), faults.get(p.name, ""), beneath.get(p.name, ()))
        for p in packages
    ]


def _r_package(package: RPackage, version: str | None, fix: str, broken: str, beneath: Sequence[str]) -> Item:
    name, optional = package.name, package.optional
    if version is None:
        why = f"not installed: {package.use}" if fix else "install R first"
        return Item(name=name, status="missing", message=f"R package, {why}", fix=fix, optional=optional)
    if broken:
        older = f"{' or '.join(beneath) or 'R'} was updated after {name} was built"
        message = f"installed, but cannot fit: {broken}. The usual cause is that {older}: build them again"
        fix = cran_line([*beneath, name], source=True)
        return Item(name=name, version=version, status="broken", message=message, fix=fix)
    return Item(name=name, version=version, message=f"R package, {package.use}", optional=optional)


_ASK_R = """
for (p in commandArgs(TRUE)) {
  v <- tryCatch(as.character(packageVersion(p)), error = function(e) NULL)
  if (!is.null(v)) cat("\\nunimix:", p, v, "\\n")
}
d <- data.frame(y = c(1, 2, 4, 3, 5, 7, 2, 4, 5), g = gl(3, 3))
try_fit <- function(package, fit) {
  tryCatch(invisible(suppressWarnings(suppressMessages(fit))),
           error = function(e) cat("\\nunimix-fault:", package, gsub("\\n", " ", conditionMessage(e)), "\\n"))
}
"""


def _ask_r(
    installation: RInstallation, names: Sequence[str], trials: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Start R once for the versions of its packages, and for the errors of those that fail to fit nine rows.

    Args:
        installation: The R installation.
        names: Names of R packages.
        trials: R code that fits a small model, by R package.

    Returns:
        Versions of the installed packages by name, and error messages of failed trials by name.
    """
    program = installation.rscript
    if program is None:
        return {}, {}
    tried = "".join(f'try_fit("{package}", {code})\n' for package, code in trials.items())
    _, out, _ = run([program, "-e", _ASK_R + tried, *names], 120)
    versions = dict(re.findall(r"^unimix: (\S+) (\S+)", out, flags=re.MULTILINE))
    broken = re.findall(r"^unimix-fault: (\S+) (.*)", out, flags=re.MULTILINE)
    return versions, {package: fault.strip() for package, fault in broken}


_PROBE = """
import rpy2.rinterface as r
r.initr()
print("unimix:", r.evalr('paste(R.version$major, R.version$minor, sep = ".")')[0])
"""


def rpy2_line(r_version: str) -> str:
    """The line that installs the version of rpy2 that works with a version of R."""
    return install_line(map(Requirement, rpy2_requirements(r_version)))


def _rpy2(installation: RInstallation) -> Item:
    versions = {name: installed_version(name) for name in RPY2_PARTS}
    if versions["rpy2"] is None:
        message = "not installed: it connects Python with R, for the backends that run in R"
        if installation.version is None:
            return Item(
                name="rpy2",
                status="missing",
                message=f"{message}. Install R first: its version decides which rpy2 works",
            )
        return Item(name="rpy2", status="missing", message=message, fix=rpy2_line(installation.version))
    interface = versions["rpy2-rinterface"]
    shown = versions["rpy2"] + (f" ({interface})" if interface else "")

    def broken(message: str, fix: str) -> Item:
        return Item(name="rpy2", version=shown, status="broken", message=message, fix=fix)

    if installation.version is None:
        return broken("installed, but there is no R to load: repair R first", "")
    absent = [name for name, version in versions.items() if version is None]
    if absent:
        return broken(f"half installed: {' and '.join(absent)} is missing", rpy2_line(installation.version))
    if interface and not rpy2_fits(interface, installation.version):
        needs = f"rpy2-rinterface {interface} needs R 4.5 or newer, this is R {installation.version}"
        return broken(needs, rpy2_line(installation.version))
    code, out, err = run([sys.executable, "-c", _PROBE], 60)
    loaded = re.search(r"^unimix: (\S+)", out, flags=re.MULTILINE)
    rebuild = rpy2_line(installation.version).replace(
        "pip install", "pip install --force-reinstall --no-cache-dir --no-deps"
    )
    if code != 0 or loaded is None:
        return broken(f"does not load R {installation.version}: {last_line(err) or f'exit code {code}'}", rebuild)
    if loaded.group(1) != installation.version:
        return broken(
            f"loads R {loaded.group(1)} although R {installation.version} was found: built for another R", rebuild
        )
    return Item(name="rpy2", version=shown, message=f"loads R {installation.version}")


class _CallableModule(ModuleType):
    """A module that can be called: ``unimix.doctor()`` works even after ``import unimix.doctor``."""

    def __call__(self) -> Diagnosis:
        return doctor()


sys.modules[__name__].__class__ = _CallableModule

if __name__ == "__main__":
    print(doctor())
