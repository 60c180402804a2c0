"""A backend from somebody else's package comes in by the same door and keeps the same contract."""

from __future__ import annotations

import runpy
from pathlib import Path

RUN = runpy.run_path(str(Path(__file__).parents[1] / "plugin_package" / "run.py"))["run"]


def test_the_example_package_keeps_the_contract() -> None:
    done = RUN(["-q"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout
