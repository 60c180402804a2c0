"""Search for the maximum of statsmodels' likelihood, with a check of the first-order conditions.

statsmodels' own chain of optimizers stops early in unfavourable units, reports a log likelihood of +inf at a zero
variance as converged, and stays on saddles. unimix runs BFGS on deviance / n with statsmodels' likelihood and score
(COBYQA without the score if it is expensive), finishes with L-BFGS-B, and checks the first-order conditions of the
constrained problem: with S the score with respect to the covariance matrix C = L L', a maximum has S L = 0 and no
positive direction of S in the null space of C.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, minimize

from unimix.backends.statsmodels.model import Likelihood, Point

FloatArray = npt.NDArray[np.float64]

SNAP = 0.03
"""Relative standard deviation below which exactly zero is tried."""

EAGER = 0.15
"""Relative standard deviation below which zero is tried during the search; the score at the end shows mistakes."""

EARLY = 8
"""Number of iterations after which a search checks for variances that go to zero."""

NEGLIGIBLE = 1e-6
"""Smallest improvement of the log likelihood for which a variance is not set to zero."""

WORTHWHILE = 1e-4
"""Remaining improvement of the deviance that a search must not exceed, and largest difference of two searches."""


@dataclass(frozen=True)
class Settings:
    """Settings of the search.

    Attributes:
        optimizer: Optimizer, ``bfgs`` or ``cobyqa``.
        max_iterations: Maximum number of iterations per search.
        restarts: Number of further searches after one that ended on the boundary.
    """

    optimizer: str
    max_iterations: int
    restarts: int


@dataclass(frozen=True)
class Optimum:
    """Result of the search.

    Attributes:
        point: Parameters, which are zero on the boundary.
        value: statsmodels' log likelihood at the point.
        gradient: Largest derivative of deviance / n with respect to a packed parameter.
        gain: Estimate of the remaining improvement of the deviance.
        searches: Number of starts.
        confirmed: Whether the first-order conditions hold and no other start gave a better result.
        complaints: Reasons why the result is not confirmed.
    """

    point: Point
    value: float
    gradient: float
    gain: float
    searches: int
    confirmed: bool
    complaints: tuple[str, ...]


Exact = Callable[[Point], float]
"""Log likelihood of a point without statsmodels' lower bound of the variances (it cannot evaluate zeros)."""


def search(
    likelihood: Likelihood, exact: Exact, settings: Settings, starts: Sequence[Point], curvature: FloatArray | None
) -> Optimum:
    """Find the maximum from given starts, and from further ones if it lies on the boundary.

    Args:
        likelihood: statsmodels' own likelihood.
        exact: Exact log likelihood, for variances that are exactly zero.
        settings: Settings of the search.
        starts: Starts, all of which are tried; more follow if the best result is on the boundary.
        curvature: Inverse Hessian of deviance / n at the first start, if known.
    """
    best: Optimum | None = None
    searches = 0
    for start in (*starts, *_starts(likelihood)):
        optimum = _climb(likelihood, exact, start, settings, curvature if searches == 0 else None)
        searches += 1
        if best is None or optimum.value > best.value + WORTHWHILE / 2 or (optimum.confirmed and not best.confirmed):
            best = optimum if best is None or optimum.value > best.value - WORTHWHILE / 2 else best
        enough = best.confirmed and not _on_boundary(best.point)
        if searches >= len(starts) and (enough or searches >= max(len(starts), 1) + settings.restarts):
            break
    assert best is not None  # noqa: S101  there is at least one start
    return Optimum(best.point, best.value, best.gradient, best.gain, searches, best.confirmed, best.complaints)


def _starts(likelihood: Likelihood) -> Iterator[Point]:
    for size in (0.5, 8.0, 2.0, 0.1):
        yield Point(size * np.eye(likelihood.q), np.full(likelihood.c, size))


def _on_boundary(point: Point) -> bool:
    return bool((point.spread == 0).any() or (np.diag(point.root) == 0).any())


def _climb(
    likelihood: Likelihood, exact: Exact, start: Point, settings: Settings, curvature: FloatArray | None
) -> Optimum:
    """Search from one start, set negligible variances to zero, leave saddles, and check the result."""
    tolerance = 1e-3 * np.sqrt(likelihood.n / 1000) / likelihood.n
    point = start
    if settings.optimizer == "cobyqa":
        point = _cobyqa(likelihood, point, settings)
    else:
        # A variance that tends to zero is set to zero at once instead of by hundreds of shrinking steps.
        point = _snap(point, exact, EAGER)
        point = _snap(_descend(likelihood, point, settings, tolerance, "BFGS", curvature, EARLY), exact, EAGER)
        if settings.max_iterations > EARLY:
            point = _descend(likelihood, point, settings, tolerance, "BFGS")
    for _ in range(4):
        point = _snap(point, exact)
        value, by_covariance, by_variances = likelihood.value_and_score(point)
        gradient = -2 / likelihood.n * likelihood.gradient(point, by_covariance, by_variances)
        size = float(np.abs(gradient).max(initial=0.0))
        if size > tolerance and settings.max_iterations > EARLY:
            polished = _descend(likelihood, point, settings, tolerance, "L-BFGS-B")
            point = _snap(polished, exact)
            value, by_covariance, by_variances = likelihood.value_and_score(point)
            gradient = -2 / likelihood.n * likelihood.gradient(point, by_covariance, by_variances)
            size = float(np.abs(gradient).max(initial=0.0))
        way_up = _way_up(point, by_covariance, by_variances, likelihood, value)
        if way_up is None:
            break
        point = _descend(likelihood, way_up, settings, tolerance, "BFGS")
    gain = 0.0 if size <= tolerance else _gain(likelihood, point, gradient)
    complaints = []
    if way_up is not None:
        complaints.append("the search ended on a saddle: a zero variance wants to grow")
    if not gain <= WORTHWHILE:
        step = f"a Newton step would raise it by about {gain / 2:.2g}"
        reason = step if np.isfinite(gain) else "no maximum is near"
        complaints.append(f"the gradient of the log-likelihood is not zero at the end ({reason})")
    if not np.isfinite(value):
        complaints.append("statsmodels has no log-likelihood at the end of the search")
    return Optimum(point, value, size, gain, 1, not complaints, tuple(complaints))


def _descend(
    likelihood: Likelihood,
    start: Point,
    settings: Settings,
    tolerance: float,
    method: str,
    curvature: FloatArray | None = None,
    limit: int | None = None,
) -> Point:
    """Minimise deviance / n with the score."""

    def objective(values: FloatArray) -> tuple[float, FloatArray]:
        point = Point.unpack(values, likelihood.q)
        value, by_covariance, by_variances = likelihood.value_and_score(point)
        if not np.isfinite(value):
            return 1e10, np.zeros_like(values)
        slope = likelihood.gradient(point, by_covariance, by_variances)
        return -2 * value / likelihood.n, -2 * slope / likelihood.n

    options: dict[str, Any] = {"maxiter": min(settings.max_iterations, limit or np.inf), "gtol": tolerance}
    if curvature is not None:
        options["hess_inv0"] = curvature
    if method == "L-BFGS-B":
        options |= {"ftol": 1e-15}
    optimum = minimize(objective, start.pack(), jac=True, method=method, options=options)
    return Point.unpack(optimum.x, likelihood.q)


def _cobyqa(likelihood: Likelihood, start: Point, settings: Settings) -> Point:
    """Minimise the deviance over standard deviations without the score."""

    def objective(values: FloatArray) -> float:
        value = likelihood.value(Point.unpack(values, likelihood.q))
        return -2 * value if np.isfinite(value) else 1e10

    options = {"maxfev": 20 * settings.max_iterations, "initial_tr_radius": 0.25, "final_tr_radius": 1e-5}
    if settings.max_iterations == 1:
        options["maxfev"] = 2 * likelihood.size + 2
    bounds = Bounds(np.zeros(likelihood.size), np.full(likelihood.size, np.inf))
    optimum = minimize(objective, start.pack(), method="COBYQA", bounds=bounds, options=options)
    return Point.unpack(optimum.x, likelihood.q)


def _snap(point: Point, exact: Exact, size: float = SNAP) -> Point:
    """Set variances (and directions of the covariance matrix) to exactly zero if that does not lower the likelihood."""
    spread = np.abs(point.spread)
    values, directions = np.linalg.eigh(point.covariance)
    small = np.flatnonzero((values > 0) & (values < size**2))
    few = np.flatnonzero((spread > 0) & (spread < size))
    if not len(small) and not len(few):
        return Point(point.root, spread)
    here = exact(point)
    for k in few:
        trial = spread.copy()
        trial[k] = 0.0
        if exact(Point(point.root, trial)) >= here - NEGLIGIBLE:
            spread = trial
    root = point.root
    for k in small:
        kept = np.delete(np.arange(len(values)), np.arange(k + 1))
        trial = triangular_root(directions[:, kept] * np.sqrt(values[kept]))
        if exact(Point(trial, spread)) >= here - NEGLIGIBLE:
            root = trial
    return Point(root, spread)


def triangular_root(factor: FloatArray) -> FloatArray:
    """Lower triangular L (q, q) with L L' = F F' for a factor F (q, r), r <= q; zero columns if rank is lacking.

    A row whose part outside the earlier columns is rounding error (1e-7 of the row) gets a zero diagonal.
    """
    q = len(factor)
    covariance = factor @ factor.T
    root = np.zeros((q, q))
    for i in range(q):
        for j in range(i):
            if root[j, j] > 0:
                root[i, j] = (covariance[i, j] - root[i, :j] @ root[j, :j]) / root[j, j]
        remaining = covariance[i, i] - root[i, :i] @ root[i, :i]
        root[i, i] = np.sqrt(remaining) if remaining > 1e-14 * covariance[i, i] else 0.0
    return root


def _wider(point: Point, direction: FloatArray, t: float) -> Point:
    """Add t times a direction to the variances of the components."""
    return Point(point.root, point.spread + np.sqrt(t) * direction)


def _longer(point: Point, direction: FloatArray, t: float) -> Point:
    """Add t times the outer product of a direction to the covariance matrix."""
    return Point(triangular_root(np.column_stack([point.root, np.sqrt(t) * direction])), point.spread)


def _way_up(
    point: Point, by_covariance: FloatArray, by_variances: FloatArray, likelihood: Likelihood, value: float
) -> Point | None:
    """Better point in a direction with zero variance, if score and likelihood both show an improvement."""
    candidates: list[Callable[[float], Point]] = []
    for k in np.flatnonzero((point.spread == 0) & (by_variances > 0)):
        one = np.eye(likelihood.c)[k]
        candidates.append(partial(_wider, point, one))
    values, directions = np.linalg.eigh(point.covariance)
    null = directions[:, values <= 1e-10 * max(1.0, values.max(initial=0.0))]
    slopes, turns = np.linalg.eigh(null.T @ by_covariance @ null)
    for k in np.flatnonzero(slopes > 0):
        d = null @ turns[:, k]
        candidates.append(partial(_longer, point, d))
    best, higher = None, value + WORTHWHILE / 2
    for candidate in candidates:
        for t in (1e-4, 1e-3, 1e-2, 0.1, 1.0):
            trial = candidate(t)
            reached = likelihood.value(trial)
            if reached > higher:
                best, higher = trial, reached
    return best


def _gain(likelihood: Likelihood, point: Point, gradient: FloatArray) -> float:
    """Remaining improvement of the deviance, g'H^-1 g / 2, with H from differences of the score."""
    free = np.flatnonzero(point.pack() != 0)
    g = likelihood.n * gradient[free]
    here = point.pack()
    hessian = np.zeros((len(free), len(free)))
    for row, k in enumerate(free):
        step = 1e-4 * max(abs(here[k]), 0.01)
        moved = here.copy()
        moved[k] += step
        other = Point.unpack(moved, likelihood.q)
        _, by_covariance, by_variances = likelihood.value_and_score(other)
        slope = -2 * likelihood.gradient(other, by_covariance, by_variances)
        hessian[row] = (slope[free] - g) / step
    values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    if len(values) and values.min() <= 0:
        return np.inf
    return float(0.5 * np.sum((vectors.T @ g) ** 2 / values))
