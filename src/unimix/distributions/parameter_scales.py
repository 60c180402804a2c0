"""Dispersion parameters on scales without ends: the logarithm of a positive one, the logit between two ends.

A parameter that may be any number, such as the first threshold of an ordered response, is its own free scale.

A search over these scales cannot leave the range of a parameter. With both ends a and b, x = log((v - a) / (b - v)) and
v = a + (b - a) / (1 + exp(-x)).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from unimix.distributions.family import Family

FloatArray = npt.NDArray[np.float64]
_FAR = 30.0
"""Largest distance from zero of a logarithm or a logit; exp of it is far beyond all data."""


def _ends(family: Family) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    low, high = np.array(family.ranges, dtype=np.float64).reshape(-1, 2).T
    return low, high, np.isfinite(high)


def to_free(family: Family, values: FloatArray) -> FloatArray:
    """Dispersion parameters on scales without ends, shape (k,), from their values, shape (k,).

    Example:
        >>> import numpy as np
        >>> from unimix.distributions.family import as_family
        >>> to_free(as_family("tweedie"), np.array([1.0, 1.5]))
        array([0., 0.])
    """
    low, high, closed = _ends(family)
    with np.errstate(divide="ignore", invalid="ignore"):
        bent = np.where(closed, np.log(values - low) - np.log(np.where(closed, high, 0.0) - values), np.log(values))
    return np.where(np.isinf(low), values, bent)


def from_free(family: Family, free: FloatArray) -> FloatArray:
    """Inverse of :func:`to_free`, shape (k,); far values are bounded, so that a search stays finite."""
    low, _, _ = _ends(family)
    return _values(family, np.where(np.isinf(low), free, np.clip(free, -_FAR, _FAR)))


def _values(family: Family, free: FloatArray) -> FloatArray:
    low, high, closed = _ends(family)
    with np.errstate(over="ignore", invalid="ignore"):
        width = np.where(closed, high, 1.0) - low
        bent = np.where(closed, low + width * special.expit(free), np.exp(free))
    return np.where(np.isinf(low), free, bent)


def value_at(family: Family, index: int, free: float) -> float:
    """One dispersion parameter at a value of its free scale, which may be infinite."""
    return float(_values(family, np.full(len(family.parameters), free))[index])


def slopes(family: Family, values: FloatArray) -> FloatArray:
    """Derivative of each dispersion parameter with respect to its free scale, shape (k,)."""
    low, high, closed = _ends(family)
    top = np.where(closed, high, values)
    with np.errstate(invalid="ignore"):
        bent = np.where(closed, (values - low) * (top - values) / np.where(closed, top - low, 1.0), values)
    return np.where(np.isinf(low), 1.0, bent)


def inside(family: Family, values: FloatArray) -> bool:
    """Whether all dispersion parameters, shape (k,), are finite and within their ranges."""
    low, high, _ = _ends(family)
    return bool(np.isfinite(values).all() and (values > low).all() and (values < high).all())
