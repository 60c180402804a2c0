"""Public names for authors and users of backends.

``unimix.backends()`` prints the capability table; ``unimix.backends.Lme4(optimizer="bobyqa")`` is a
configured backend. Built-in classes load on first use; no engine does.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from unimix.backends.base import Backend, BackendInfo, FitRequest, Outcome, Problem
from unimix.backends.capabilities import Answer, Capabilities, Never, NotYet, Upstream, Yes
from unimix.backends.registry import backend_class, registered, resolve
from unimix.backends.table import BackendTable, backend_table
from unimix.model.design import Design, RandomBlock
from unimix.model.estimates import Estimates, Sampling
from unimix.model.features import Feature

__all__ = [
    "Answer",
    "Backend",
    "BackendInfo",
    "BackendTable",
    "Capabilities",
    "Design",
    "Estimates",
    "Feature",
    "FitRequest",
    "Never",
    "NotYet",
    "Outcome",
    "Problem",
    "RandomBlock",
    "Sampling",
    "Upstream",
    "Yes",
    "backend_class",
    "backend_table",
    "registered",
    "resolve",
]


class _CallableModule(ModuleType):
    def __call__(self) -> BackendTable:
        return backend_table()

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            for point in registered().values():
                if point.attr == name:
                    return point.load()
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(p.attr for p in registered().values())})


sys.modules[__name__].__class__ = _CallableModule
