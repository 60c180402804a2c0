"""Base class of prior distributions: parameters, support, log density and gradient."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import astuple, dataclass, fields
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from unimix.errors import OptionError

FloatArray = npt.NDArray[np.float64]
Parameter = float | FloatArray
Support = Literal["real", "positive", "correlation"]


@dataclass(frozen=True)
class Prior(ABC):
    """Prior distribution of one parameter."""

    positive: ClassVar[frozenset[str]] = frozenset()
    """Parameters that must be greater than zero."""

    def __post_init__(self) -> None:
        faults = []
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
                faults.append(f"{item.name}={value!r} is not a number")
                continue
            object.__setattr__(self, item.name, float(value))
            if not math.isfinite(value):
                faults.append(f"{item.name}={value!r} is not finite")
            elif item.name in self.positive and value <= 0:
                faults.append(f"{item.name}={value:g} must be greater than 0")
        faults += [] if faults else self._faults()
        if faults:
            raise OptionError(f"{type(self).__name__}: {'; '.join(faults)}.")

    def _faults(self) -> list[str]:
        return []

    def __str__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{v:.6g}' for v in astuple(self))})"

    line: ClassVar[Support] = "real"

    @property
    def support(self) -> Support:
        """Support of the distribution: the real line, the positive half line or correlation matrices."""
        return self.line

    @staticmethod
    @abstractmethod
    def kernel(x: FloatArray, *parameters: Parameter) -> tuple[FloatArray, FloatArray]:
        """Log density without its constant, and its derivative, inside the support; vectorised in all arguments."""

    @abstractmethod
    def constant(self) -> float:
        """Constant of the log density, which :meth:`kernel` omits."""

    def inside(self, x: FloatArray) -> npt.NDArray[np.bool_]:
        """Mask of the values inside the support, same shape as ``x``."""
        return x >= 0 if self.support == "positive" else np.ones(np.shape(x), dtype=bool)

    def log_density(self, x: npt.ArrayLike) -> FloatArray:
        """Log density with all constants, same shape as ``x``; minus infinity outside the support."""
        return self._inside(x, 0, -np.inf)

    def gradient(self, x: npt.ArrayLike) -> FloatArray:
        """Derivative of the log density, same shape as ``x``; zero outside the support."""
        return self._inside(x, 1, 0.0)

    def _inside(self, x: npt.ArrayLike, which: Literal[0, 1], outside: float) -> FloatArray:
        values = np.asarray(x, dtype=np.float64)
        within = self.inside(values)
        with np.errstate(divide="ignore", invalid="ignore"):
            values_inside = self.kernel(np.where(within, values, 1.0), *astuple(self))[which]
        values_inside = values_inside + self.constant() if which == 0 else values_inside
        # at the edge of the support a log density of minus infinity may be computed as inf - inf
        return np.where(within & ~np.isnan(values_inside), values_inside, outside)
