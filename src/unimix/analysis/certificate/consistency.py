"""Check that a result is consistent with itself and its design: everything that can be recomputed is compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from unimix.analysis.certificate.certificate import Check
from unimix.errors import listing
from unimix.fitted.derived_parts import assembled, estimates_of
from unimix.fitted.no_rows import has_no_rows
from unimix.fitted.rebuild_design import REBUILT
from unimix.fitted.schema import FixedPartResult, Part, Rows

if TYPE_CHECKING:
    from unimix.design.arrays import Design
    from unimix.design.estimates import Estimates
    from unimix.fitted.model import FittedModel

EXACT = 1e-6
"""Largest relative difference between a number and its recomputed value; only rounding separates them."""
BYTES = "model.fingerprint"
"""Digest of bytes, which a text file or another processor may round; the data of a loaded result are compared with
tolerances instead, when it is given them (:mod:`unimix.fitted.rebuild_design`)."""


def arithmetic(fit: FittedModel, design: Design) -> Check:
    """Check everything that follows from the data and the estimates: names, tables, tests, fitted values and criteria.

    All parts of the result are computed again from its data and its primary numbers (estimates, covariances, modes,
    log-likelihood) and compared field by field.
    """
    wrong = differing(fit, design, estimates_of(design, vars(fit)))
    if fit.fixed.interval == "confidence" and fit.engine.priors:
        wrong.append("engine.priors")
    if not wrong:
        return Check(
            name="arithmetic", passed=True, said="names, tables, fitted values and criteria follow from the estimates"
        )
    message = f"{listing(wrong)} {'does' if len(wrong) == 1 else 'do'} not follow from the data and the estimates"
    return Check(name="arithmetic", passed=False, said=message)


def differing(fit: FittedModel, design: Design, estimates: Estimates) -> list[str]:
    """Names of the fields of a result that are not what its design and these estimates give."""
    expected = assembled(design, estimates, method=fit.model.method, ci_level=fit.fixed.level)
    if has_no_rows(fit):
        del expected["rows"]
    wrong = [name for key, part in expected.items() for name in _differing(getattr(fit, key), part, key)]
    if BYTES in wrong and design.keep(REBUILT, lambda: False):
        wrong.remove(BYTES)
    return wrong


def _differing(given: Any, expected: Any, path: str) -> Iterator[str]:
    """Names of the fields that differ, of a part, or of the parts in a tuple or a dictionary."""
    if expected is None or given is None:
        if given is not expected:
            yield path
        return
    if isinstance(expected, Part):
        for name in type(expected).model_fields:
            if not _same(getattr(given, name), getattr(expected, name), _scale(expected, name)):
                yield f"{path}.{name}"
        return
    if len(given) != len(expected):
        yield path
        return
    pairs = (
        [(given.get(k), v) for k, v in expected.items()]
        if isinstance(expected, Mapping)
        else zip(given, expected, strict=True)
    )
    seen = [name for mine, other in pairs for name in (_differing(mine, other, path) if mine is not None else [path])]
    yield from dict.fromkeys(seen)


def _scale(part: Part, name: str) -> Any:
    """Unit in which a field must agree; None for the size of each number itself."""
    if isinstance(part, FixedPartResult) and name in ("lower", "upper"):
        return part.std_error
    if isinstance(part, Rows) and name.endswith("predictor"):
        size = max(float(np.abs(v).max(initial=0.0)) for v in (part.linear_predictor, part.population_predictor))
        return np.full(len(part.observed), size)
    return 1.0 if name == "correlation" else None


def _same(given: Any, expected: Any, scale: Any) -> bool:
    if given is None or expected is None:
        return given is expected
    if not isinstance(expected, np.ndarray | float):
        if isinstance(expected, dict) and isinstance(given, dict) and given.keys() == expected.keys():
            return all(_same(given[k], expected[k], None) for k in expected)
        return bool(given == expected)
    if np.shape(given) != np.shape(expected):
        return False
    left, right = np.asarray(given, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        close = np.abs(left - right) <= EXACT * (np.abs(right) if scale is None else np.asarray(scale)) + 1e-300
    return bool(np.all(close | (left == right) | (np.isnan(left) & np.isnan(right))))
