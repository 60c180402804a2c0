"""These tests belong to the package beside them: without it installed there is nothing to collect."""

from __future__ import annotations

from unimix.backends import registered

collect_ignore = [] if "densepls" in registered() else ["test_densepls.py"]
