"""Digests by which the fitted data are recognised without being stored."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from unimix.design.typed_columns import Column, FactorColumn

if TYPE_CHECKING:
    from collections.abc import Mapping

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

ROUNDING = 1e-12
"""Relative difference allowed between numbers before and after a text file."""


class DataDigest(BaseModel):
    """Digests of the fitted columns; equal data have equal digests.

    Attributes:
        numbers: Median of the absolute values and two weighted sums (:func:`weighted_sums`) of each numeric column.
        factors: Digest of the level per row of each categorical column.
        groups: Digest of the level per row of each grouping factor.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    numbers: dict[str, tuple[float, float, float]] = {}
    factors: dict[str, str] = {}
    groups: dict[str, str] = {}

    @classmethod
    def of(cls, columns: Mapping[str, Column], groups: Mapping[str, IntArray]) -> DataDigest:
        """Compute the digests.

        Args:
            columns: Predictors, response, weights and offset, with the rows used only.
            groups: Level index per row of each grouping factor, shape (n,).
        """
        factors = {k: c.codes for k, c in columns.items() if isinstance(c, FactorColumn)}
        return cls(
            numbers={k: weighted_sums(c.values) for k, c in columns.items() if not isinstance(c, FactorColumn)},
            factors={k: _digest(codes) for k, codes in factors.items()},
            groups={k: _digest(codes) for k, codes in groups.items()},
        )

    def differing(self, other: DataDigest, n: int) -> list[str]:
        """Names of the columns and grouping factors that differ, among those that occur in both.

        Args:
            other: Digests of other data.
            n: Number of rows.
        """
        names = [k for k, own in self.numbers.items() if k in other.numbers and not _same(own, other.numbers[k], n)]
        for own, others in ((self.factors, other.factors), (self.groups, other.groups)):
            names += [k for k, digest in own.items() if others.get(k, digest) != digest]
        return list(dict.fromkeys(names))


def weighted_sums(values: FloatArray) -> tuple[float, float, float]:
    """Sums by which numbers are recognised up to rounding; writing them to a text file would change a byte digest.

    Args:
        values: Numbers, shape (n,).

    Returns:
        The median s of their absolute values, and two sums over the rows of sign(x) log(1 + |x| / s) with weights
        between 0 and 1 that differ from row to row. The logarithm keeps the relative precision of small values next to
        large ones.
    """
    size = np.abs(values)
    scale = float(np.median(size) if len(size) else 0.0) or float(size.max(initial=0.0))
    seen = np.sign(values) * np.log1p(size / scale) if scale else values
    place = np.arange(1.0, len(values) + 1)
    first, second = (float(np.modf(place * np.sqrt(k))[0] @ seen) for k in (2.0, 3.0))
    return scale, first, second


def _same(a: tuple[float, float, float], b: tuple[float, float, float], n: int) -> bool:
    scales = abs(a[0] - b[0]) <= ROUNDING * max(abs(a[0]), abs(b[0]))
    return scales and max(abs(a[1] - b[1]), abs(a[2] - b[2])) <= ROUNDING * n


def _digest(codes: IntArray) -> str:
    return hashlib.sha256(np.ascontiguousarray(codes, dtype="<i8").tobytes()).hexdigest()[:16]


__all__ = ["DataDigest", "weighted_sums"]
