"""The pytest plug-in: a ``backend`` fixture over the engines that are installed here."""

from __future__ import annotations

import pytest

from unimix.backends.registry import others, registered


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--unimix-backends=lme4,statsmodels``."""
    parser.getgroup("unimix").addoption(
        "--unimix-backends",
        default=None,
        metavar="NAMES",
        help="comma-separated backends for the `backend` fixture; all installed ones, if left out",
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
    marked = any("backend" in str(m.args[0]) for m in metafunc.definition.iter_markers("parametrize") if m.args)
    if "backend" in metafunc.fixturenames and not marked:
        metafunc.parametrize("backend", chosen(metafunc.config))
