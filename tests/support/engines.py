"""Names of engines by what they fit."""

from __future__ import annotations

from unimix.backends.capabilities import Yes
from unimix.backends.registry import backend_class, built_in
from unimix.distributions.family import Gaussian

LINEAR = [n for n in built_in() if isinstance(backend_class(n).families.answer(Gaussian(), mixed=True), Yes)]
"""The built-in engines of linear mixed models."""

LIKELIHOOD = [name for name in LINEAR if not backend_class(name).info.samples and name != "pls"]
"""Those that maximise a likelihood, but for the default, with which they are compared."""
