"""Machines on which something is missing or has another version."""

from __future__ import annotations

from importlib import metadata

import pytest

from unimix.doctor import doctor


@pytest.fixture(scope="module")
def healthy():
    """What the doctor says of this machine as it is."""
    return doctor()


@pytest.fixture
def versions(monkeypatch):
    """Pretend that packages have other versions; None means not installed."""
    pretended: dict[str, str | None] = {}
    real = metadata.version

    def version(name):
        if name not in pretended:
            return real(name)
        if pretended[name] is None:
            raise metadata.PackageNotFoundError(name)
        return pretended[name]

    monkeypatch.setattr(metadata, "version", version)
    return pretended


@pytest.fixture
def no_r(monkeypatch, tmp_path):
    """A machine without R."""
    monkeypatch.delenv("R_HOME", raising=False)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def other_r(monkeypatch, tmp_path):
    """A machine with an R of another version, which answers `--version` and nothing else."""

    def make(version):
        home = tmp_path / "R"
        (home / "bin").mkdir(parents=True)
        program = home / "bin" / "R"
        program.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "R version {version} (2025-01-01)"\n')
        program.chmod(0o755)
        monkeypatch.setenv("R_HOME", str(home))

    return make
