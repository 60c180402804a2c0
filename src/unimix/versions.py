"""The packages that unimix's own metadata asks for, what is installed of them, and the lines that install them.

unimix is on no package index yet, so no message says ``pip install "unimix[pymc]"``: it names the packages of that
extra themselves, with the bounds of ``pyproject.toml`` as the installed metadata has them.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["bounded", "bounds", "fault", "install_line", "installed_version", "pip_line", "requirements"]

_CHECKOUT = 'pip install -e "."    # in the folder of unimix: its metadata are not installed'


def installed_version(name: str) -> str | None:
    """Version of a distribution, or None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def requirements(extra: str = "", distribution: str = "unimix") -> tuple[Requirement, ...]:
    """What a distribution needs at its base, or what one of its extras adds.

    Args:
        extra: Name of the extra; extras that it names in turn are followed.
        distribution: Whose metadata are read.

    Returns:
        The requirements that apply to this Python, without markers, in the order of the metadata.

    Raises:
        importlib.metadata.PackageNotFoundError: If the distribution is not installed.

    Example:
        >>> [r.name for r in requirements("mixedlm")]
        ['mixedlm']
    """
    found: dict[str, Requirement] = {}
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
            if name in found:  # two extras bound one package: both bounds hold
                both.specifier &= found[name].specifier
            found[name] = both
    return tuple(found.values())


def fault(needed: Requirement) -> str:
    """What is wrong with the installed version of a package, or an empty text.

    Returns:
        ``"not installed"``, ``"unimix needs >=5.28,<6"``, or nothing.
    """
    version = installed_version(needed.name)
    if version is None:
        return "not installed"
    if needed.specifier.contains(version, prereleases=True):
        return ""
    return f"unimix needs {bounds(needed)}"


def bounds(needed: Requirement) -> str:
    """The bounds of a requirement, the lower one first."""
    return ",".join(sorted((str(s) for s in needed.specifier), key=lambda text: (text[0] != ">", text)))


def bounded(needed: Requirement) -> str:
    """A package with its bounds, as pip takes it."""
    return f"{needed.name}{bounds(needed)}"


def pip_line(extra: str = "", distribution: str = "unimix") -> str:
    """The line that installs what an extra needs and this Python lacks.

    Packages that are installed in a version that serves are left out; where all of them serve, all are named.

    Args:
        extra: Name of the extra, such as ``"pymc"`` or ``"plot"``; without one, the packages of the base.
        distribution: Whose extra it is.

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
    """The line that installs some packages within their bounds; what a shell would misread stands in quotes."""
    words = (bounded(r) for r in needed)
    return " ".join(["pip install", *(word if shlex.quote(word) == word else f'"{word}"' for word in words)])
