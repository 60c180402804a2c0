"""The backend keeps unimix's contract."""

from __future__ import annotations

from typing import ClassVar

from unimix.testing import BackendContract


class TestDensePLS(BackendContract):
    backend = "densepls"
    starved: ClassVar = {"max_iterations": 1}
