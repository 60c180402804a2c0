"""Covariance structures: matrices S R S of standard deviations S and a correlation matrix R with few parameters.

A structure has either one standard deviation for all columns (homogeneous) or one for each (heterogeneous), and the
correlations of one of these forms, for columns j at coordinates t_j:

    diag          none
    cs            r between any two columns (compound symmetry)
    ar1           r^|j - k| (first-order autoregression)
    toep          r_|j - k|, one for each distance
    car1, exp     r^(|t_j - t_k| / u) (exponential decay; an autoregression in continuous time)
    gau           r^((t_j - t_k)^2 / u^2) (Gaussian decay)

with u the smallest distance between two coordinates. The names and defaults are those of glmmTMB and, for ``hom=``, of
lme4 2. Searches run over free parameters: standard deviations of either sign, and angles a with
r = (low + high) / 2 + (high - low) / 2 sin a, so that the ends of the range of a correlation are ordinary points.
The Toeplitz matrices are positive definite if and only if their partial autocorrelations lie between -1 and 1
(Barndorff-Nielsen & Schou 1973, J. Multivar. Anal. 3:408-419), which are the parameters of the search.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unimix.formula.covariance_names import HOMOGENEOUS, form_of

FloatArray = npt.NDArray[np.float64]
Correlations = tuple[FloatArray, FloatArray, FloatArray]

IN_TIME = ("ar1", "toep", "car1", "exp", "gau")
"""Forms of correlations for which the columns are times or places."""
BY_DISTANCE = {"car1": 1.0, "exp": 1.0, "gau": 2.0}
"""Power of the distance in each form of decay."""
ON_EDGE = 1e-4
"""Cosine of a search angle below which a correlation lies at the end of its range."""
NO_EFFECT = 1e-6
"""Standard deviation, relative to the residual's, below which it counts as zero."""


@dataclass(frozen=True)
class Structure:
    """A covariance structure of q columns.

    Attributes:
        name: Name such as ``cs`` or ``ar1``; ``hom`` or ``het`` in front of it where it is not the default.
        q: Number of columns.
        coordinates: Coordinates of the columns, shape (q,); empty if only their order matters.
        unit: Whether the first standard deviation is one, as in residuals relative to sigma.

    Example:
        >>> ar1 = Structure("ar1", 3)
        >>> ar1.n_parameters
        2
        >>> ar1.matrix(ar1.parameters(np.array([[4, 2, 1], [2, 4, 2], [1, 2, 4.0]]))).round(6).tolist()
        [[4.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 4.0]]
    """

    name: str
    q: int
    coordinates: tuple[float, ...] = ()
    unit: bool = False

    @property
    def form(self) -> str:
        """Form of the correlations: diag, cs, ar1, toep, car1, exp or gau."""
        return form_of(self.name)

    @property
    def n_sd(self) -> int:
        """Number of standard deviations that are parameters."""
        return (1 if self.name in HOMOGENEOUS else self.q) - self.unit

    @property
    def n_correlations(self) -> int:
        """Number of parameters of the correlations."""
        return 0 if self.form == "diag" or self.q < 2 else self.q - 1 if self.form == "toep" else 1

    @property
    def n_parameters(self) -> int:
        """Number of parameters."""
        return self.n_sd + self.n_correlations

    def names(self, terms: Sequence[str], group: str) -> list[str]:
        """Names of the parameters, for columns of these names over a grouping factor."""
        own = [f"the standard deviation of {t} | {group}" for t in terms]
        sds = [f"the standard deviation of {terms[0]}, ... | {group}"] if self._common else own
        sds = sds[1:] if self.unit else sds
        lags = [f"the partial autocorrelation at lag {k + 1} | {group}" for k in range(self.n_correlations)]
        return sds + (lags if self.form == "toep" else [f"the correlation of {self.name} | {group}"])[: len(lags)]

    @property
    def _common(self) -> bool:
        """Whether all columns have one standard deviation."""
        return self.name in HOMOGENEOUS

    @property
    def _range(self) -> tuple[float, float]:
        """Smallest and largest value of a parameter of the correlations."""
        if self.form == "cs":
            return -1.0 / (self.q - 1), 1.0
        return (0.0 if self.form in BY_DISTANCE else -1.0), 1.0

    def matrix(self, theta: FloatArray) -> FloatArray:
        """Covariance matrix (q, q) at free parameters (d,)."""
        sd = self._sds(theta)
        return np.asarray(np.outer(sd, sd) * self._correlations(self._bounded(theta)[0])[0])

    def derivatives(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """First (d, q, q) and second (d, d, q, q) derivatives of the covariance matrix in the free parameters (d,)."""
        m, q = self.n_sd, self.q
        sd, sign = self._sds(theta), np.where(theta[:m] < 0, -1.0, 1.0)
        by_sd = (np.ones((1, q)) if self._common else np.eye(q))[int(self.unit) :] * sign[:, None]  # ds_j / dtheta_a
        value, slope, bend = self._bounded(theta)
        r, by_r, by_rr = self._correlations(value)
        by_r, by_rr = _chained(by_r, by_rr, slope, bend)
        outer = by_sd[:, :, None] * sd[None, None, :]
        first = np.concatenate([(outer + outer.transpose(0, 2, 1)) * r, np.outer(sd, sd) * by_r])
        second = np.zeros((self.n_parameters, self.n_parameters, q, q))
        pairs = by_sd[:, None, :, None] * by_sd[None, :, None, :]
        second[:m, :m] = (pairs + pairs.transpose(0, 1, 3, 2)) * r
        second[:m, m:] = (outer + outer.transpose(0, 2, 1))[:, None] * by_r[None]
        second[m:, :m] = second[:m, m:].transpose(1, 0, 2, 3)
        second[m:, m:] = np.outer(sd, sd) * by_rr
        return first, second

    def weights(self, theta: FloatArray) -> FloatArray:
        """Numbers w (d,) with D = sum_a w_a dD / dtheta_a: D is quadratic in the standard deviations (Euler).

        They are zero in relative units, where the matrix is part of V at sigma = 1 whatever its parameters are.
        """
        if self.unit:
            return np.zeros(self.n_parameters)
        return np.concatenate([0.5 * theta[: self.n_sd], np.zeros(self.n_correlations)])

    def parameters(self, matrix: FloatArray) -> FloatArray:
        """Free parameters (d,) of a covariance matrix (q, q), or of the structure's matrix near it."""
        variances = np.maximum(np.diag(matrix), 0.0)
        sds = np.sqrt([variances.mean()] if self._common else variances)
        sds = sds[1:] / sds[0] if self.unit else sds
        if not self.n_correlations:
            return np.asarray(sds)
        scale = np.sqrt(np.outer(variances, variances))
        # Effects without variance have no correlations.
        r = np.divide(matrix, scale, out=np.full_like(scale, np.nan), where=scale > 0)
        low, high = self._range
        sine = (self._parameters_of(r) - (low + high) / 2) / ((high - low) / 2)
        return np.concatenate([sds, np.arcsin(np.clip(sine, -1.0, 1.0))])

    def difference(self, matrix: FloatArray) -> float:
        """Largest difference of a covariance matrix (q, q) from the structure's nearest, relative to its variances."""
        size = np.maximum(np.diag(matrix), 1e-8 * float(np.diag(matrix).max(initial=0.0)))
        off = np.abs(matrix - self.matrix(self.parameters(matrix))) / np.sqrt(np.outer(size, size))
        return float(off.max(initial=0.0)) if size.any() else 0.0

    def held(self, theta: FloatArray) -> npt.NDArray[np.bool_]:
        """Which free parameters (d,) lie on the edge, where the derivatives in them say nothing."""
        zero = np.abs(theta[: self.n_sd]) < NO_EFFECT
        alone = not self.unit and (~zero).sum() < min(2, self.n_sd)  # correlations with effects that are zero
        return np.concatenate([zero, (np.abs(np.cos(theta[self.n_sd :])) < ON_EDGE) | alone])

    def starts(self, size: float) -> list[FloatArray]:
        """Free parameters (d,) of matrices with the same standard deviation and with weak and strong correlations."""
        sds = np.full(self.n_sd, 1.0 if self.unit else size)
        if not self.n_correlations:
            return [sds]
        low, high = self._range
        begun = []
        likely: list[tuple[float, ...]] = [(r,) for r in (0.1, 0.8, 0.98 if low == 0 else 0.6 * low)]
        if self.form == "toep" and self.q > 2:
            likely += [(r, s) for r in (0.4, -0.4) for s in (0.6, -0.6)]
        for first in likely:
            value = np.full(self.n_correlations, max(low, 0.0))
            value[: len(first)] = first
            begun.append(np.concatenate([sds, np.arcsin((value - (low + high) / 2) / ((high - low) / 2))]))
        return begun

    def inward(self, theta: FloatArray) -> list[FloatArray]:
        """Free parameters (d,) near given ones that are off the edge in one parameter or another."""
        near = []
        for a in np.flatnonzero(self.held(theta)):
            steps = (1e-3, 1e-2, 0.1, 0.5) if a < self.n_sd else (-1.0, -0.3, -0.05, 0.05, 0.3, 1.0)
            for step in steps:
                moved = theta.copy()
                moved[a] += step
                near.append(moved)
        if self.n_sd and not theta[: self.n_sd].any():
            near += [start for size in (1e-2, 0.1, 0.5) for start in self.starts(size)]
        return near

    # -- parts ----------------------------------------------------------------------------------

    def _sds(self, theta: FloatArray) -> FloatArray:
        sds = np.abs(theta[: self.n_sd])
        sds = np.append(1.0, sds) if self.unit else sds
        return np.repeat(sds, self.q) if self._common else sds

    def _bounded(self, theta: FloatArray) -> Correlations:
        """Parameters of the correlations (m,) and their first and second derivatives in the angles."""
        low, high = self._range if self.n_correlations else (-1.0, 1.0)
        angle, half = theta[self.n_sd :], (high - low) / 2
        return (low + high) / 2 + half * np.sin(angle), half * np.cos(angle), -half * np.sin(angle)

    def _correlations(self, r: FloatArray) -> Correlations:
        """Correlation matrix (q, q) and its derivatives (m, q, q) and (m, m, q, q) in the parameters r (m,)."""
        q, m = self.q, self.n_correlations
        if not m:
            return np.eye(q), np.zeros((0, q, q)), np.zeros((0, 0, q, q))
        lag = np.abs(np.subtract.outer(np.arange(q), np.arange(q)))
        if self.form == "cs":
            off = (lag > 0).astype(np.float64)
            return np.eye(q) + r[0] * off, off[None], np.zeros((1, 1, q, q))
        if self.form == "toep":
            by_lag, first, second = _from_partial(r)
            return by_lag[lag], first[:, lag], second[:, :, lag]
        power = lag.astype(np.float64) if self.form == "ar1" else self._exponents
        return _powers(float(r[0]), power)

    @functools.cached_property
    def _exponents(self) -> FloatArray:
        """Power of the correlation at the smallest distance for each pair of columns, shape (q, q)."""
        distance = np.abs(np.subtract.outer(self.coordinates, self.coordinates))
        unit = distance[distance > 0].min(initial=np.inf)
        return np.asarray((distance / unit) ** BY_DISTANCE[self.form])

    def _parameters_of(self, r: FloatArray) -> FloatArray:
        """Parameters (m,) of a correlation matrix (q, q)."""
        q = self.q
        if self.form == "cs":
            return np.array([_mean(r[np.tril_indices(q, -1)])])
        if self.form == "toep":
            return _to_partial(np.array([1.0, *(_mean(np.diagonal(r, k)) for k in range(1, q))]))
        power = np.abs(np.subtract.outer(np.arange(q), np.arange(q))) if self.form == "ar1" else self._exponents
        known = power[np.isfinite(r) & (power > 0)]
        if not len(known):
            return np.zeros(1)
        # The nearest columns that have a variance.
        value = _mean(r[power == known.min()])
        return np.array([np.sign(value) * np.abs(value) ** (1.0 / known.min())])


@dataclass(frozen=True)
class UnitUnstructured(Structure):
    """Any covariance matrix whose first variance is one; the free parameters are the other elements of its factor L."""

    @property
    def n_sd(self) -> int:
        """Number of standard deviations that are parameters."""
        return self.q - 1

    @property
    def n_correlations(self) -> int:
        """Number of correlations."""
        return self.q * (self.q - 1) // 2

    def names(self, terms: Sequence[str], group: str) -> list[str]:
        """Names of the parameters, for columns of these names over a grouping factor."""
        pairs = [(i, j) for i in range(self.q) for j in range(i + 1)][1:]
        return [f"the covariance of {terms[j]} and {terms[i]} | {group}" for i, j in pairs]

    def matrix(self, theta: FloatArray) -> FloatArray:
        """Covariance matrix (q, q) at free parameters (d,)."""
        lower = self._factor(theta)
        return np.asarray(lower @ lower.T)

    def derivatives(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """First (d, q, q) and second (d, d, q, q) derivatives of the covariance matrix in the free parameters (d,)."""
        units = np.zeros((self.n_parameters, self.q, self.q))
        rows, columns = (index[1:] for index in np.tril_indices(self.q))
        units[np.arange(self.n_parameters), rows, columns] = 1.0
        first = units @ self._factor(theta).T
        pairs = np.einsum("aik,bjk->abij", units, units)
        return first + first.transpose(0, 2, 1), pairs + pairs.transpose(0, 1, 3, 2)

    def parameters(self, matrix: FloatArray) -> FloatArray:
        """Free parameters (d,) of a covariance matrix (q, q), up to its scale."""
        lower = np.linalg.cholesky(matrix / matrix[0, 0])
        return np.asarray(lower[np.tril_indices(self.q)][1:])

    def difference(self, matrix: FloatArray) -> float:  # noqa: ARG002  every matrix has this structure
        """Zero, because every covariance matrix has this structure up to its scale."""
        return 0.0

    def held(self, theta: FloatArray) -> npt.NDArray[np.bool_]:
        """No free parameter (d,) lies on an edge."""
        return np.zeros(len(theta), dtype=bool)

    def starts(self, size: float) -> list[FloatArray]:  # noqa: ARG002  the matrix is relative to sigma
        """Free parameters (d,) of a weak and of a strong compound symmetry."""
        ones = np.ones((self.q, self.q))
        return [self.parameters((1 - r) * np.eye(self.q) + r * ones) for r in (0.1, 0.8)]

    def inward(self, theta: FloatArray) -> list[FloatArray]:  # noqa: ARG002  there is no edge
        """Nothing, because no parameter lies on an edge."""
        return []

    def _factor(self, theta: FloatArray) -> FloatArray:
        lower = np.zeros((self.q, self.q))
        lower[np.tril_indices(self.q)] = np.append(1.0, theta)
        return lower


def structure_of(name: str, q: int, coordinates: Sequence[float] = ()) -> Structure | None:
    """The structure of a block of q columns; None for an unstructured covariance matrix.

    Args:
        name: Name of the structure, ``us`` for an unstructured matrix.
        q: Number of columns.
        coordinates: Coordinates of the columns, if the structure needs them.
    """
    return None if name == "us" else Structure(name, q, tuple(coordinates))


def _mean(values: FloatArray) -> float:
    """Mean of the values that exist; 0 if there are none."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else 0.0


def _chained(first: FloatArray, second: FloatArray, slope: FloatArray, bend: FloatArray) -> tuple[FloatArray, ...]:
    """First and second derivatives in the angles, from those in the correlations' parameters."""
    second = second * slope[:, None, None, None] * slope[None, :, None, None]
    index = np.arange(len(slope))
    second[index, index] += bend[:, None, None] * first
    return first * slope[:, None, None], second


def _powers(r: float, power: FloatArray) -> Correlations:
    """Compute r^power, elementwise, and its first two derivatives in r; 0^0 = 1."""
    q = len(power)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        value = np.where(power == 0, 1.0, np.float64(r) ** power)
        first = np.where(power == 0, 0.0, power * np.float64(r) ** (power - 1))
        second = np.where((power == 0) | (power == 1), 0.0, power * (power - 1) * np.float64(r) ** (power - 2))
    # At r = 0 a power between one and two has no second derivative; the angle's slope there is zero.
    second = np.where(np.isfinite(second), second, 0.0)
    return value, first.reshape(1, q, q), second.reshape(1, 1, q, q)


def _from_partial(partial: FloatArray) -> Correlations:
    """Autocorrelations at lags 0, 1, ... from partial ones (m,), with derivatives (m, m + 1) and (m, m, m + 1).

    Durbin and Levinson's recursion: with a_1 ... a_{k-1} the coefficients and v the innovation variance of order k - 1,
    r_k = p_k v + sum_j a_j r_{k-j}, then a_j <- a_j - p_k a_{k-j}, a_k = p_k and v <- v (1 - p_k^2).
    """
    m = len(partial)
    one = _Jet(1.0, np.zeros(m), np.zeros((m, m)))
    r, a, v = [one], list[_Jet](), one
    for k in range(m):
        p = _Jet(float(partial[k]), np.eye(m)[k], np.zeros((m, m)))
        new = p * v
        for j in range(k):
            new = new + a[j] * r[k - j]
        r.append(new)
        a = [a[j] + (p * a[k - 1 - j]).negative() for j in range(k)] + [p]
        v = v * (one + (p * p).negative())
    return (
        np.array([jet.value for jet in r]),
        np.stack([jet.first for jet in r], axis=1),
        np.stack([jet.second for jet in r], axis=2),
    )


def _to_partial(r: FloatArray) -> FloatArray:
    """Partial autocorrelations (m,) of autocorrelations at lags 0 to m; those that are none end at the edge."""
    partial, a, v = np.zeros(len(r) - 1), np.empty(0), 1.0
    for k in range(len(partial)):
        left = r[k + 1] - a @ r[k:0:-1]
        p = float(np.clip(left / v, -1.0, 1.0)) if v > 1e-12 else 0.0
        partial[k], a, v = p, np.append(a - p * a[::-1], p), v * (1 - p**2)
    return partial


@dataclass(frozen=True)
class _Jet:
    """A value with its first derivatives, shape (m,), and second derivatives, shape (m, m)."""

    value: float
    first: FloatArray
    second: FloatArray

    def __add__(self, other: _Jet) -> _Jet:
        return _Jet(self.value + other.value, self.first + other.first, self.second + other.second)

    def __mul__(self, other: _Jet) -> _Jet:
        cross = np.outer(self.first, other.first)
        second = self.value * other.second + other.value * self.second + cross + cross.T
        return _Jet(self.value * other.value, self.value * other.first + other.value * self.first, second)

    def negative(self) -> _Jet:
        """Return the value with the opposite sign."""
        return _Jet(-self.value, -self.first, -self.second)


__all__ = ["Structure", "UnitUnstructured", "structure_of"]
