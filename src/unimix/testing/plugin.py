"""The pytest plug-in: a ``backend`` fixture that runs over the installed engines."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from unimix.backends.registry import others, registered
from unimix.errors import UnsupportedModelError, brief


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option ``--unimix-backends=lme4,statsmodels`` to pytest."""
    parser.getgroup("unimix").addoption(
        "--unimix-backends",
        default=None,
        metavar="NAMES",
        help="comma-separated backends of the `backend` fixture; if left out, all installed ones that fit the model",
    )


def chosen(config: pytest.Config) -> list[str]:
    """Names of the backends that the ``backend`` fixture runs over.

    Raises:
        pytest.UsageError: If a name is unknown, or a named backend is not installed.
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
    """Run each test that takes ``backend`` once per engine."""
    if "backend" in metafunc.fixturenames and not _sets_backend(metafunc.definition):
        metafunc.parametrize("backend", chosen(metafunc.config))


def _sets_backend(item: pytest.Item) -> bool:
    """Whether a test sets the values of ``backend`` itself, by ``parametrize``."""
    return any("backend" in str(m.args[0]) for m in item.iter_markers("parametrize") if m.args)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Skip a test if the engine refuses the model of a fixture; see :func:`pytest_runtest_call`."""
    return (yield from _skipped_if_refused(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Skip a test, with the reason, if its engine cannot express the model and was not named by the user."""
    return (yield from _skipped_if_refused(item))


def _skipped_if_refused(item: pytest.Item) -> Generator[None, object, object]:
    try:
        return (yield)
    except UnsupportedModelError as error:
        spec = getattr(item, "callspec", None)
        mine = spec is not None and error.backend and spec.params.get("backend") == error.backend
        if not mine or _sets_backend(item) or item.config.getoption("--unimix-backends") is not None:
            raise
        pytest.skip(f"{error.backend} does not fit this model: {brief(error)}")
