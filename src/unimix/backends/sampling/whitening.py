"""Whitening of a log density at its mode, for samplers that move best in a standard normal distribution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

FloatArray = npt.NDArray[np.float64]
LogDensity = Callable[[FloatArray], tuple[float, FloatArray]]

_WIDEST = 4.0


@dataclass(frozen=True)
class Whitening:
    """Affine map theta = mode + root x under which the posterior is approximately standard normal.

    Attributes:
        mode: Mode of the density, shape (size,).
        root: Root of the inverse Hessian, shape (low, low); coordinates after the first ``low`` are only shifted.
    """

    mode: FloatArray
    root: FloatArray

    def turn(self, x: FloatArray) -> FloatArray:
        """Compute root x, shape (..., size)."""
        low = len(self.root)
        if low == x.shape[-1]:
            return x @ self.root.T
        return np.concatenate([x[..., :low] @ self.root.T, x[..., low:]], axis=-1)

    def density(self, function: LogDensity) -> LogDensity:
        """Log density as a function of x; minus infinity where it cannot be computed."""
        mode, root, nothing = self.mode, self.root, np.zeros_like(self.mode)
        low = len(root)

        def whitened(x: FloatArray) -> tuple[float, FloatArray]:
            with np.errstate(all="ignore"):
                try:
                    value, gradient = function(mode + self.turn(x))
                except np.linalg.LinAlgError:
                    return -np.inf, nothing
                gradient = np.concatenate([gradient[:low] @ root, gradient[low:]])
            return (value, gradient) if np.isfinite(value) and np.isfinite(gradient).all() else (-np.inf, nothing)

        return whitened

    def points(self, x: FloatArray) -> FloatArray:
        """Map draws of x to theta, shape (..., size)."""
        return self.mode + self.turn(x)


def whiten(function: LogDensity, start: FloatArray) -> Whitening:
    """Find the mode, and a root of the inverse Hessian at the mode.

    Directions in which the density is flat get a standard deviation of at most 4.

    Args:
        function: Function that returns the log density and its gradient.
        start: Starting point, shape (size,).
    """
    negative = guarded(function)
    best = minimize(negative, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000, "maxcor": 20}).x
    for _ in range(20):
        values, vectors = np.linalg.eigh(_hessian(negative, best))
        here, gradient = negative(best)
        step = -vectors @ ((vectors.T @ gradient) / np.maximum(np.abs(values), _WIDEST**-2))
        step *= min(1.0, 5.0 / float(np.linalg.norm(step) + 1e-300))
        if negative(best + step)[0] > here - 1e-8:
            break
        best = best + step
    return Whitening(best, vectors / np.sqrt(np.maximum(values, _WIDEST**-2)))


def guarded(function: LogDensity) -> LogDensity:
    """Negative log density and its gradient; a very large number where it cannot be computed."""

    def negative(theta: FloatArray) -> tuple[float, FloatArray]:
        with np.errstate(all="ignore"):
            try:
                value, gradient = function(theta)
            except np.linalg.LinAlgError:
                value, gradient = -np.inf, np.zeros_like(theta)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            return 1e300, np.zeros_like(theta)
        return -value, -gradient

    return negative


def whiten_leading(function: LogDensity, mode: FloatArray, low: int) -> Whitening:
    """Root of the inverse Hessian of the leading coordinates, with the others held fixed.

    Args:
        function: Function that returns the log density and its gradient.
        mode: Mode of the density, shape (size,).
        low: Number of leading coordinates.
    """
    negative, rest = guarded(function), mode[low:]

    def leading(theta: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = negative(np.concatenate([theta, rest]))
        return value, gradient[:low]

    values, vectors = np.linalg.eigh(_hessian(leading, mode[:low]))
    return Whitening(mode, vectors / np.sqrt(np.maximum(values, _WIDEST**-2)))


def _hessian(negative: LogDensity, at: FloatArray) -> FloatArray:
    size = len(at)
    step = 1e-4
    rows = np.empty((size, size))
    for j in range(size):
        move = np.zeros(size)
        move[j] = step
        rows[j] = (negative(at + move)[1] - negative(at - move)[1]) / (2 * step)
    return 0.5 * (rows + rows.T)
