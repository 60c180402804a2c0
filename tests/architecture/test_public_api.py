"""What users can type is stored; whoever changes it says so in the same commit: ``make api``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import public_api


def test_public_names_and_signatures_are_those_that_are_stored() -> None:
    """In a process of its own: where a test has imported ``unimix.doctor``, ``um.doctor`` is the module."""
    done = subprocess.run([sys.executable, public_api.__file__], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"If this is meant, `make api` and a line in CHANGELOG.md:\n{done.stdout}{done.stderr}"


def test_the_list_sees_a_changed_signature() -> None:
    def verb(self: object, x: int = 1, *rows: str, level: float | None = None, **more: object) -> str:
        raise NotImplementedError

    assert public_api._line("fit.verb", verb) == (
        "fit.verb(self: object, x: int = 1, *rows: str, level: float | None = None, **more: object) -> str"
    )
