"""Tools for the tests of users and of authors of backends.

``assert_agree`` compares fits, ``BackendContract`` is the test suite that every backend passes, and ``OrderedContract``
that of a backend of ordered responses only. The pytest plug-in provides a ``backend`` fixture that runs over the
installed engines (``pytest --unimix-backends=lme4,statsmodels``).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unimix.testing.agreement import assert_agree
    from unimix.testing.contract import BackendContract
    from unimix.testing.ordered_contract import OrderedContract
    from unimix.testing.references import ReferenceCase, reference_cases
    from unimix.testing.simulated import simulate_rich, simulate_slopes

_HOME_OF = {
    "assert_agree": "unimix.testing.agreement",
    "BackendContract": "unimix.testing.contract",
    "OrderedContract": "unimix.testing.ordered_contract",
    "ReferenceCase": "unimix.testing.references",
    "reference_cases": "unimix.testing.references",
    "simulate_rich": "unimix.testing.simulated",
    "simulate_slopes": "unimix.testing.simulated",
}

__all__ = [
    "BackendContract",
    "OrderedContract",
    "ReferenceCase",
    "assert_agree",
    "reference_cases",
    "simulate_rich",
    "simulate_slopes",
]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'unimix.testing' has no attribute {name!r}")
