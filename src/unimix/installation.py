"""The packages that the metadata of unimix require, their installed versions, and the lines that install them.

unimix is on no package index yet, so no message says ``pip install "unimix[pymc]"``. Messages name the packages of an
extra instead, with the version bounds of ``pyproject.toml`` as they stand in the installed metadata.
"""

from __future__ import annotations

import functools
import importlib
import shlex
from collections.abc import Iterable
from importlib import metadata
from types import ModuleType

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from unimix.errors import EngineNotInstalledError, to_type

__all__ = [
    "bounded",
    "bounds",
    "fault",
    "import_for",
    "install_line",
    "installed_version",
    "pip_line",
    "requirements",
    "unmet",
]

UNDECLARED = ((Requirement("arviz<1"), Requirement("arviz-plots<1"), Requirement("matplotlib>=3.9,<3.11")),)
"""Packages that do not work together although their metadata admit it: the first and second one need the third.

ArviZ 0.x imports ArviZ's plots 0.8 where they are installed, and bambi 0.17 installs them. They use
``matplotlib.style.core``, which matplotlib 3.11 no longer has, so that ``import arviz`` and ``import pymc`` fail.
"""
_CHECKOUT = 'pip install -e "."    # in the folder of unimix: its metadata are not installed'


def installed_version(name: str) -> str | None:
    """Version of a distribution, or None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def requirements(extra: str = "", distribution: str = "unimix") -> tuple[Requirement, ...]:
    """The requirements of a distribution, or those that one of its extras adds.

    Args:
        extra: Name of the extra; extras that it includes are followed. An empty text asks for the base.
        distribution: Name of the distribution whose metadata are read.

    Returns:
        The requirements that apply to this Python, without markers, in the order of the metadata.

    Raises:
        importlib.metadata.PackageNotFoundError: If the distribution is not installed.

    Example:
        >>> from unimix.installation import requirements
        >>> [r.name for r in requirements("mixedlm")]
        ['mixedlm']
    """
    by_name: dict[str, Requirement] = {}
    for text in metadata.requires(distribution) or ():
        needed = Requirement(text)
        wanted = needed.marker is None or needed.marker.evaluate({"extra": extra})
        always = needed.marker is None or needed.marker.evaluate({"extra": ""})
        if not wanted or (extra and always):
            continue
        needed.marker = None
        if canonicalize_name(needed.name) == canonicalize_name(distribution):
            inner = [r for name in sorted(needed.extras) for r in requirements(name, distribution)]
        else:
            inner = [needed]
        for one in inner:
            name = canonicalize_name(one.name)
            both = Requirement(str(one))
            if name in by_name:  # two extras bound one package: both bounds hold
                both.specifier &= by_name[name].specifier
            by_name[name] = both
    return tuple(by_name.values())


def fault(needed: Requirement) -> str:
    """Fault of the installed version of a package, or an empty text.

    Returns:
        A text such as ``"not installed"`` or ``"unimix needs >=5.28,<6"``; empty where nothing is wrong.
    """
    version = installed_version(needed.name)
    if version is None:
        return "not installed"
    if needed.specifier.contains(version, prereleases=True):
        return ""
    return f"unimix needs {bounds(needed)}"


def unmet(distribution: str) -> list[Requirement]:
    """What an installed package needs and does not find, as in ``pip check``, or what it does not work with.

    Args:
        distribution: Name of the package.

    Returns:
        Requirements of its metadata that are missing or have another version, and those of :data:`UNDECLARED`.
    """
    try:
        found = [needed for needed in requirements("", distribution) if fault(needed)]
    except metadata.PackageNotFoundError:
        return []
    for first, second, needed in UNDECLARED:
        there = first.name == canonicalize_name(distribution) and not fault(first) and not fault(second)
        if there and installed_version(needed.name) is not None and fault(needed):
            found.append(needed)
    return found


def bounds(needed: Requirement) -> str:
    """The version bounds of a requirement, lower bound first, such as ``">=5.28,<6"``."""
    return ",".join(sorted((str(s) for s in needed.specifier), key=lambda text: (text[0] != ">", text)))


def bounded(needed: Requirement) -> str:
    """Name and version bounds of a requirement as pip reads them, such as ``"pymc>=5.28,<6"``."""
    return f"{needed.name}{bounds(needed)}"


def pip_line(extra: str = "", distribution: str = "unimix") -> str:
    """The line that installs the packages of an extra that are missing here.

    Packages that are installed in an accepted version are left out; if nothing is missing, all packages are named.

    Args:
        extra: Name of the extra, such as ``"pymc"`` or ``"plot"``; an empty text means the base.
        distribution: Name of the distribution that has the extra.

    Returns:
        A line for the shell, such as ``pip install "nutpie>=0.16,<0.17" "pymc>=5.28,<6"``.
    """
    try:
        needed = requirements(extra, distribution)
    except metadata.PackageNotFoundError:
        return _CHECKOUT
    absent = [r for r in needed if fault(r)]
    return install_line(absent or needed)


def install_line(needed: Iterable[Requirement]) -> str:
    """The line that installs packages within their bounds, with quotes where a shell needs them."""
    words = (bounded(r) for r in needed)
    return " ".join(["pip install", *(word if shlex.quote(word) == word else f'"{word}"' for word in words)])


def import_for(need: str, *modules: str, extra: str, otherwise: str = "") -> ModuleType:
    """Import a package of an extra, when something is first asked for that needs it.

    Args:
        need: Sentence that says what needs the package.
        modules: Modules that must be importable; the last one is returned.
        extra: The extra that installs them.
        otherwise: Line about what works without the package.

    Raises:
        EngineNotInstalledError: If one of them is missing; the message holds the line that installs it.
    """
    try:
        return [importlib.import_module(module) for module in modules][-1]
    except ImportError as error:
        lines = [f"{need} {to_type(pip_line(extra))}", otherwise]
        raise EngineNotInstalledError("\n".join(filter(None, lines))) from error
