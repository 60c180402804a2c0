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
from unimix.backends.capability_table import BackendTable, backend_table
from unimix.backends.cost import Cost, Pace, most, sizes_of
from unimix.backends.evaluation import AtEstimates, better_start, laplace_at_estimates, likely_starts, linear_at
from unimix.backends.family_support import FamilySheet, only_gaussian
from unimix.backends.r.lme4_layout import effects_matrix, factors_of, split_effects, theta_of
from unimix.backends.registry import backend_class, registered, resolve
from unimix.backends.sampling.draws import Posterior, RawDraws, Sampled, estimates_of_draws
from unimix.design.arrays import Design, RandomBlock
from unimix.design.estimates import Deferred, Estimates, Sampling
from unimix.design.features import Feature
from unimix.likelihood.lmm.conditioning import relative_factors

__all__ = [
    "Answer",
    "AtEstimates",
    "Backend",
    "BackendInfo",
    "BackendTable",
    "Capabilities",
    "Cost",
    "Deferred",
    "Design",
    "Estimates",
    "FamilySheet",
    "Feature",
    "FitRequest",
    "Never",
    "NotYet",
    "Outcome",
    "Pace",
    "Posterior",
    "Problem",
    "RandomBlock",
    "RawDraws",
    "Sampled",
    "Sampling",
    "Upstream",
    "Yes",
    "backend_class",
    "backend_table",
    "better_start",
    "effects_matrix",
    "estimates_of_draws",
    "factors_of",
    "laplace_at_estimates",
    "likely_starts",
    "linear_at",
    "most",
    "only_gaussian",
    "registered",
    "relative_factors",
    "resolve",
    "sizes_of",
    "split_effects",
    "theta_of",
]


class _CallableModule(ModuleType):
    def __call__(self) -> BackendTable:
        return backend_table()

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            for point in registered().values():
                if point.attr == name:
                    return backend_class(point.name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(p.attr for p in registered().values())})


sys.modules[__name__].__class__ = _CallableModule
