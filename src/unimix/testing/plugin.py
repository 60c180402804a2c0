"""The pytest plug-in: a ``backend`` fixture over the engines that are installed here."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from unimix.backends.registry import others, registered
from unimix.errors import UnsupportedModelError, brief


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--unimix-backends=lme4,statsmodels``."""
    parser.getgroup("unimix").addoption(
        "--unimix-backends",
        default=None,
        metavar="NAMES",
        help="comma-separated backends for the `backend` fixture; all installed ones that fit the model, if left out",
    )


def chosen(config: pytest.Config) -> list[str]:
    """Names of the backends that the ``backend`` fixture runs over.

    Raises:
        pytest.UsageError: For an unknown name, or a backend that is asked for but not installed.
    """
    asked: str | None = config.getoption("--unimix-backends")
    able = [name for name, backend in others().items() if backend.available()]
    if asked is None:
        return able
    names = [n.strip() for n in asked.split(",") if n.strip()]
    unknown = [n for n in names if n not in registered()]
    if unknown or not names:
        raise pytest.UsageError(f"--unimix-backends={asked}: known backends are {', '.join(registered())}.")
    absent = [n for n in names if n not in able]
    if absent:
        raise pytest.UsageError(
            f"--unimix-backends={asked}: {', '.join(absent)} is not installed here; `python -m unimix.doctor` says how."
        )
    return names


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that ask for ``backend`` once per engine."""
    if "backend" in metafunc.fixturenames and not _own(metafunc.definition):
        metafunc.parametrize("backend", chosen(metafunc.config))


def _own(item: pytest.Item) -> bool:
    """Whether a test gives values to ``backend`` itself."""
    return any("backend" in str(m.args[0]) for m in item.iter_markers("parametrize") if m.args)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Skip where a fixture's model is refused; see :func:`pytest_runtest_call`."""
    return (yield from _skipped_if_refused(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Skip, with the reason, where an engine that nobody named cannot express the test's model."""
    return (yield from _skipped_if_refused(item))


def _skipped_if_refused(item: pytest.Item) -> Generator[None, object, object]:
    try:
        return (yield)
    except UnsupportedModelError as error:
        spec = getattr(item, "callspec", None)
        mine = spec is not None and error.backend and spec.params.get("backend") == error.backend
        if not mine or _own(item) or item.config.getoption("--unimix-backends") is not None:
            raise
        pytest.skip(f"{error.backend} does not fit this model: {brief(error)}")
