"""The markers ``r`` and ``mcmc`` are true: a test that is parametrised by an engine gets them, any other is watched.

``pytest -m "not r and not mcmc and not cluster"`` runs without R, PyMC and Dask, as ``make pythons`` does. A test that
fits with an engine of R or of PyMC without its marker fails here; one that does so in another process is found by
``make pythons``, where these engines are missing.

With ``--dist loadgroup`` the same markers decide who runs a test: R starts in one process only, PyMC in another, and
again for the contract of the samplers, which is half of their time. These three begin, and the many small groups of the
other tests, one for each file, fill what is left of both processes.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from unimix.backends.base import Backend
from unimix.backends.registry import backend_class, registered

# Models are compiled for seconds of sampling: optimising them would take longer than they run (30 to 50 s, not 18).
os.environ.setdefault("NUMBA_OPT", "0")
os.environ.setdefault("PYTENSOR_FLAGS", "gcc__cxxflags=-O0")

MARKERS = {"rpy2": "r", "pymc": "mcmc", "bambi": "mcmc"}
"""Package that an engine needs: the marker of the tests that need it."""

NAMES = ("backend", "engine", "fits")
"""Names of parameters, of fixtures and tests, whose values are engines."""

_used: set[str] = set()
_fit = Backend.fit


@functools.wraps(_fit)
def _recorded(self: Backend, *arguments: Any, **more: Any) -> Any:
    if self.available():
        _used.update(MARKERS.keys() & set(self.info.packages))
    return _fit(self, *arguments, **more)


Backend.fit = _recorded  # type: ignore[method-assign]


def markers_of(engine: object) -> set[str]:
    """The markers of an engine that is given by name, class or instance; none for anything else."""
    if isinstance(engine, str):
        if engine not in registered():
            return set()
        engine = backend_class(engine)
    packages: tuple[str, ...] = engine.info.packages if hasattr(engine, "info") else ()
    return {MARKERS[p] for p in packages if p in MARKERS}


def engines_of(item: pytest.Item) -> Iterator[object]:
    """The engines that parametrise a test, and the one that a subclass of BackendContract names."""
    yield getattr(getattr(item, "cls", None), "backend", None)
    spec = getattr(item, "callspec", None)
    yield from (value for name, value in (spec.params if spec else {}).items() if name in NAMES)


def group_of(item: pytest.Item) -> str:
    """Name of the tests that one process runs: those of R, those of PyMC without R in two parts, or those of a file."""
    markers, file = {marker.name for marker in item.iter_markers()}, item.nodeid.partition("::")[0]
    if "cluster" in markers or not markers & {"r", "mcmc"}:
        return file
    if "r" in markers:
        return "r"
    return "mcmc-contract" if file.startswith("tests/contract/") else "mcmc"


LONGEST_FIRST = ("mcmc", "mcmc-contract", "r")
"""Groups of tests that take minutes each. xdist would begin with the groups of most tests, and end with one process."""


def pytest_configure(config: pytest.Config) -> None:
    """Let Ctrl-C through, which tests send to themselves: a shell starts background jobs with it ignored."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # the order of the tests is that of pytest_collection_modifyitems
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark before pytest selects by markers."""
    for item in items:
        for engine in engines_of(item):
            for marker in markers_of(engine):
                item.add_marker(marker)
    if config.pluginmanager.hasplugin("xdist"):
        groups = [group_of(item) for item in items]
        size = Counter(groups)
        rank = {group: (group not in LONGEST_FIRST, -size[group]) for group in size}
        for item, group in zip(items, groups, strict=True):
            item.add_marker(pytest.mark.xdist_group(group))
        places = sorted(range(len(items)), key=lambda i: (*rank[groups[i]], groups[i]))
        items[:] = [items[i] for i in places]


def watched(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test that used an engine whose marker it has not."""
    _used.clear()
    before = MARKERS.keys() & sys.modules.keys()
    found = yield
    used = _used | ((MARKERS.keys() & sys.modules.keys()) - before)
    wanted = {MARKERS[package]: package for package in sorted(used)}
    for marker, package in wanted.items():
        if item.get_closest_marker(marker) is None:
            pytest.fail(
                f"{item.nodeid} uses {package} without the marker {marker!r}, so that it would fail where {package} is "
                f"not installed. Write above it:\n    @pytest.mark.{marker}",
                pytrace=False,
            )
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Watch the fixtures."""
    return (yield from watched(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Watch the test."""
    return (yield from watched(item))
