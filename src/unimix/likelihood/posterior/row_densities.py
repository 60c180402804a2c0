"""Log densities of all rows at many linear predictors at once, without the derivatives that a search needs.

The arrays have the rows on their first axis and any further axes, such as draws and nodes. Four common families have
short formulas in the linear predictor eta, all log-concave; the others use :mod:`unimix.distributions.log_density`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from unimix.design.arrays import Design
from unimix.distributions.distribution import VALUES
from unimix.distributions.links import LINKS
from unimix.distributions.log_density import Pointwise, pointwise

FloatArray = npt.NDArray[np.float64]

_LARGEST = 500.0
"""Largest linear predictor under a log link; exp of it is far beyond all data, and its square still finite."""
_LEAST_INFORMATION = 0.05
_SHORT = ("poisson(log)", "binomial(logit)", "negative_binomial(log)", "gamma(log)")


class RowDensities:
    """Log densities of the rows of a design.

    Args:
        design: Design of a generalised model.
        order: Order in which the rows are taken, shape (n,); None for the design's.
    """

    def __init__(self, design: Design, order: npt.NDArray[np.intp] | None = None) -> None:
        rows = slice(None) if order is None else order
        kind = f"{design.family.label}({design.family.link})"
        self.family = design.family
        self.short = kind if kind in _SHORT else ""
        self.y = design.y[rows]
        self.weights = None if design.weights is None else design.weights[rows]
        self.trials = None if design.trials is None else design.trials[rows]
        w = np.ones_like(self.y) if self.weights is None else self.weights
        if self.short == "binomial(logit)":
            trials = np.ones_like(self.y) if self.trials is None else self.trials
            self._w, self._count = trials, np.round(self.y * trials)
            self._constant = (
                special.gammaln(trials + 1)
                - special.gammaln(self._count + 1)
                - special.gammaln(trials - self._count + 1)
            )
        else:
            self._w, self._count = w, self.y
            self._constant = -w * special.gammaln(self.y + 1) if self.family.response == "count" else np.zeros_like(w)

    def _along(self, eta: FloatArray, *columns: FloatArray) -> list[FloatArray]:
        """Columns (n,) with as many axes as eta."""
        return [c.reshape(-1, *(1,) * (eta.ndim - 1)) for c in columns]

    def values(self, parameters: FloatArray, eta: FloatArray) -> FloatArray:
        """Log densities, with all constants, in the shape of eta.

        Args:
            parameters: Dispersion parameters, shape (k, ...), each of a shape that extends to that of eta.
            eta: Linear predictors with offset, shape (n, ...).
        """
        if not self.short:
            return self._without_derivatives(parameters, eta)
        w, y, constant = self._along(eta, self._w, self._count, self._constant)
        match self.short:
            case "binomial(logit)":
                # k eta - N log(1 + e^eta)
                return np.asarray(y * eta - w * _softplus(eta) + constant)
            case "poisson(log)":
                return np.asarray(w * (y * eta - np.exp(np.minimum(eta, _LARGEST))) + constant)
            case "gamma(log)":
                shape = 1.0 / parameters[0]
                return np.asarray(
                    w * (_gamma_constant(shape, y) - shape * (eta + y * np.exp(-np.maximum(eta, -_LARGEST))))
                )
        theta, bounded = parameters[0], np.minimum(eta, _LARGEST)
        mu = np.exp(bounded)
        # y log(mu / (theta + mu)) - theta log(1 + mu / theta) + log Gamma(theta + y) / Gamma(theta)
        value = y * (bounded - np.log(theta + mu)) - theta * np.log1p(mu / theta)
        return np.asarray(w * (value + _rising(theta, y)) + constant)

    def _without_derivatives(self, parameters: FloatArray, eta: FloatArray) -> FloatArray:
        """Log densities of the other families; trigamma functions would take most of the time of two of them."""
        value, link = VALUES.get(self.family.label), LINKS[self.family.link]
        if value is None or link.positive or self.family.link == "identity":
            return self._pointwise(parameters, eta).value
        y, w = self._along(eta, self.y, np.ones_like(self.y) if self.weights is None else self.weights)
        return np.asarray(w * value(y, link.inverse(eta), parameters))

    def derivatives(self, parameters: FloatArray, eta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Log densities, their first derivatives in eta, and positive weights, all in the shape of eta.

        The weights are the observed information where it is sufficiently positive, else the expected information. The
        arguments are those of :meth:`values`.
        """
        if not self.short:
            found = self._pointwise(parameters, eta)
            return found.value, np.where(np.isfinite(found.score), found.score, 0.0), working_weights(found)
        w, y = self._along(eta, self._w, self._count)
        value = self.values(parameters, eta)
        match self.short:
            case "binomial(logit)":
                mu = special.expit(eta)
                return value, y - w * mu, np.maximum(w * mu * (1.0 - mu), 1e-10)
            case "poisson(log)":
                mu = np.exp(np.minimum(eta, _LARGEST))
                return value, w * (y - mu), np.maximum(w * mu, 1e-10)
            case "gamma(log)":
                ratio = y * np.exp(-np.maximum(eta, -_LARGEST))
                return value, w / parameters[0] * (ratio - 1.0), np.maximum(w / parameters[0] * ratio, 1e-10)
        theta = parameters[0]
        share = special.expit(eta - np.log(theta))  # mu / (theta + mu)
        return value, w * (y - (theta + y) * share), np.maximum(w * (theta + y) * share * (1.0 - share), 1e-10)

    def _pointwise(self, parameters: FloatArray, eta: FloatArray) -> Pointwise:
        (y,) = self._along(eta, self.y)
        weights = None if self.weights is None else self._along(eta, self.weights)[0]
        trials = None if self.trials is None else self._along(eta, self.trials)[0]
        return pointwise(self.family, parameters, y, eta, weights, trials)


def working_weights(found: Pointwise) -> FloatArray:
    """Positive weights of the rows: observed information where it is sufficiently positive, else the expected one."""
    expected = np.where(np.isfinite(found.expected) & (found.expected > 0), found.expected, 1e-8)
    usable = np.isfinite(found.observed) & (found.observed > _LEAST_INFORMATION * expected)
    return np.maximum(np.where(usable, found.observed, expected), 1e-10)


def _softplus(eta: FloatArray) -> FloatArray:
    """Compute log(1 + exp(eta)), to an absolute error of rounding, without overflow."""
    if eta.max(initial=0.0) < _LARGEST:
        # in place, because this line takes most of the time of a binomial model
        found = np.exp(eta)
        found += 1.0
        return np.asarray(np.log(found, out=found))
    return np.asarray(np.maximum(eta, 0.0) + np.log1p(np.exp(-np.abs(eta))))


def _gamma_constant(shape: FloatArray, y: FloatArray) -> FloatArray:
    return np.asarray(shape * np.log(shape) + (shape - 1.0) * np.log(y) - special.gammaln(shape))


def _rising(theta: FloatArray, y: FloatArray) -> FloatArray:
    """Log Gamma(theta + y) - log Gamma(theta), without cancellation for large theta."""
    positive = np.maximum(y, 1.0)
    return np.asarray(np.where(y > 0, special.gammaln(positive) - special.betaln(theta, positive), 0.0))
