"""The log density of the rows given the linear predictor of their mean, and everything else that it depends on.

Beside the mean a row may have a probability of a structural zero and a dispersion of its own, each with a linear
predictor: logit pi = G gamma and log phi = D delta. Dispersion parameters without a formula are the same in all rows.
All of these enter the likelihood in the same way, as a direction in which the log density of a row can be moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design
from unimix.distributions.log_density import Pointwise
from unimix.distributions.parameter_scales import from_free, slopes, to_free
from unimix.likelihood.response import row_log_likelihood

FloatArray = npt.NDArray[np.float64]
FAR = 30.0
"""Largest distance from zero of a logarithm of a dispersion; exp of it is far beyond all data."""


@dataclass(frozen=True)
class RowModel:
    """The log density of the rows of a design as a function of the linear predictor of the mean.

    Attributes:
        design: The model and its data.
        parameters: Dispersion parameters that are the same in all rows, shape (k,); none if the dispersion has a
            formula.
        predictors: Linear predictors of the other parts of the model, shapes (n,): ``zero`` is the logit of the
            probability of a structural zero, ``dispersion`` the logarithm of the dispersion parameter.
    """

    design: Design
    parameters: FloatArray
    predictors: Mapping[str, FloatArray] = field(default_factory=dict)

    @classmethod
    def of(cls, design: Design, parameters: FloatArray, parts: Mapping[str, FloatArray]) -> RowModel:
        """Make the model from the coefficients of its parts.

        Args:
            design: The model and its data.
            parameters: Dispersion parameters that are the same in all rows, shape (k,).
            parts: Coefficients of ``zero`` and ``dispersion``, shapes (k,), as far as the design has these parts.
        """
        return cls(design, parameters, {name: part.x @ parts[name] for name, part in design.parts.items()})

    @property
    def dispersion(self) -> FloatArray:
        """Dispersion parameters, shape (k,), or shape (1, n) if they have a formula."""
        if "dispersion" not in self.predictors:
            return self.parameters
        return np.exp(np.clip(self.predictors["dispersion"], -FAR, FAR))[None, :]

    def at(self, eta: FloatArray) -> Pointwise:
        """Log density of each row, and its derivatives, at the linear predictor eta of the mean, shape (n,)."""
        return row_log_likelihood(self.design, self.dispersion, eta, self.predictors.get("zero"))

    @property
    def directions(self) -> tuple[str | int, ...]:
        """Directions in which the log density can be moved: indices of dispersion parameters, and names of parts."""
        return (*range(len(self.parameters)), *self.predictors)

    def moved(self, direction: str | int, step: float) -> RowModel:
        """Return the model with one dispersion parameter on its free scale, or one predictor of all rows, moved."""
        if isinstance(direction, str):
            predictors = {**self.predictors, direction: self.predictors[direction] + step}
            return replace(self, predictors=predictors)
        free = to_free(self.design.family, self.parameters)
        free[direction] += step
        return replace(self, parameters=from_free(self.design.family, free))

    def slope(self, direction: str | int, rows: Pointwise) -> FloatArray:
        """Derivative of each row's log density with respect to a direction at fixed eta, shape (n,).

        Args:
            direction: One of :attr:`directions`.
            rows: Result of :meth:`at`.
        """
        if direction == "zero":
            return np.zeros_like(rows.value) if rows.by_zero is None else rows.by_zero
        if isinstance(direction, str):  # d phi / d log phi = phi
            return np.asarray(self.dispersion[0] * rows.by_parameters[0])
        return np.asarray(slopes(self.design.family, self.parameters)[direction] * rows.by_parameters[direction])


def sum_by_direction(design: Design, by_direction: Mapping[str | int, FloatArray]) -> FloatArray:
    """Derivatives with respect to dispersion parameters and coefficients of the parts, from those of the rows.

    Args:
        design: The model and its data.
        by_direction: Derivatives of each row's part of the likelihood with respect to its value of a direction,
            shapes (n,).

    Returns:
        One derivative per dispersion parameter, and then one per coefficient, part by part: D'v for rows v.
    """
    pieces = [design.parts[d].x.T @ v if isinstance(d, str) else np.array([v.sum()]) for d, v in by_direction.items()]
    return np.concatenate([*pieces, np.empty(0)])


def by_row_and_direction(design: Design, by_direction: Mapping[str | int, FloatArray]) -> FloatArray:
    """The rows' terms of the sums of :func:`sum_by_direction`, shape (n, number of derivatives)."""
    columns = [design.parts[d].x * v[:, None] if isinstance(d, str) else v[:, None] for d, v in by_direction.items()]
    return np.hstack([np.empty((design.n, 0)), *columns])
