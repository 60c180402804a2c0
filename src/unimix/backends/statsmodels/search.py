"""The search for the maximum of statsmodels' likelihood, and the proof that it is one.

statsmodels' own chain of optimizers stops short in unlucky units, returns log-likelihoods of +inf as converged at a
zero variance, and stays on saddles. Here BFGS runs on deviance / n with its likelihood and score (COBYQA without the
score where that is dear), L-BFGS-B finishes, and the first-order conditions of the constrained problem decide:
with S the score by the covariance matrix C = L L', a maximum has S L = 0 and no positive direction of S in the null
space of C.
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
"""Relative standard deviations below this are tried at exactly zero."""

EAGER = 0.15
"""The same in the midst of the search; a mistake is found by the score at the end."""

EARLY = 8
"""Iterations after which a search looks for variances that go to zero."""

NEGLIGIBLE = 1e-6
"""Log-likelihood that a variance must be worth to be kept from zero."""

WORTHWHILE = 1e-4
"""Gain in deviance that the search must not leave behind, and by which two searches may differ."""


@dataclass(frozen=True)
class Settings:
    """How to search.

    Attributes:
        optimizer: ``bfgs`` or ``cobyqa``.
        max_iterations: Per search.
        restarts: Further searches when one ends on the boundary.
    """

    optimizer: str
    max_iterations: int
    restarts: int


@dataclass(frozen=True)
class Optimum:
    """Where the search ended.

    Attributes:
        point: Parameters; zero where the boundary was reached.
        value: statsmodels' log-likelihood there.
        gradient: Largest derivative of deviance / n by a packed parameter.
        gain: Estimate of the deviance still to be gained.
        searches: Number of starts.
        confirmed: Whether the first-order conditions hold and no other start did better without being followed.
        complaints: Why not, in words.
    """

    point: Point
    value: float
    gradient: float
    gain: float
    searches: int
    confirmed: bool
    complaints: tuple[str, ...]


Exact = Callable[[Point], float]
"""Log-likelihood of a point without statsmodels' floor under the variances (it cannot evaluate zeros)."""


def search(
    likelihood: Likelihood, exact: Exact, settings: Settings, starts: Sequence[Point], curvature: FloatArray | None
) -> Optimum:
    """Find the maximum from a first start, and from further ones when it lies on the boundary.

    Args:
        likelihood: statsmodels' own.
        exact: For variances that are exactly zero.
        settings: How to search.
        starts: Where to start (all of them); more follow if the best is on the boundary.
        curvature: Inverse Hessian of deviance / n at the first start, if known.
    """
    best: Optimum | None = None
    searches = 0
    for start in (*starts, *_starts(likelihood)):
        found = _climb(likelihood, exact, start, settings, curvature if searches == 0 else None)
        searches += 1
        if best is None or found.value > best.value + WORTHWHILE / 2 or (found.confirmed and not best.confirmed):
            best = found if best is None or found.value > best.value - WORTHWHILE / 2 else best
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
    """One start: search, put negligible variances to zero, leave saddles, check."""
    tolerance = 1e-3 * np.sqrt(likelihood.n / 1000) / likelihood.n
    point = start
    if settings.optimizer == "cobyqa":
        point = _cobyqa(likelihood, point, settings)
    else:
        # A variance on its way to zero gets there at a stroke, not by hundreds of shrinking steps.
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
        left = f"about {gain / 2:.2g} log-likelihood to gain" if np.isfinite(gain) else "and no maximum is near"
        complaints.append(f"the gradient of the log-likelihood is not zero at the end ({left})")
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
    found = minimize(objective, start.pack(), jac=True, method=method, options=options)
    return Point.unpack(found.x, likelihood.q)


def _cobyqa(likelihood: Likelihood, start: Point, settings: Settings) -> Point:
    """Minimise the deviance of standard deviations without the score."""

    def objective(values: FloatArray) -> float:
        value = likelihood.value(Point.unpack(values, likelihood.q))
        return -2 * value if np.isfinite(value) else 1e10

    options = {"maxfev": 20 * settings.max_iterations, "initial_tr_radius": 0.25, "final_tr_radius": 1e-5}
    if settings.max_iterations == 1:
        options["maxfev"] = 2 * likelihood.size + 2
    bounds = Bounds(np.zeros(likelihood.size), np.full(likelihood.size, np.inf))
    found = minimize(objective, start.pack(), method="COBYQA", bounds=bounds, options=options)
    return Point.unpack(found.x, likelihood.q)


def _snap(point: Point, exact: Exact, size: float = SNAP) -> Point:
    """Put variances (and directions of the covariance matrix) to exactly zero where that costs nothing."""
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
    """Lower triangular L (q, q) with L L' = F F' for a factor F (q, r), r <= q; zero columns where the rank lacks.

    Rows whose part outside the earlier columns is rounding (1e-7 of the row) get a zero diagonal.
    """
    q = len(factor)
    covariance = factor @ factor.T
    root = np.zeros((q, q))
    for i in range(q):
        for j in range(i):
            if root[j, j] > 0:
                root[i, j] = (covariance[i, j] - root[i, :j] @ root[j, :j]) / root[j, j]
        left = covariance[i, i] - root[i, :i] @ root[i, :i]
        root[i, i] = np.sqrt(left) if left > 1e-14 * covariance[i, i] else 0.0
    return root


def _wider(point: Point, direction: FloatArray, t: float) -> Point:
    """Add t to the variances of components."""
    return Point(point.root, point.spread + np.sqrt(t) * direction)


def _longer(point: Point, direction: FloatArray, t: float) -> Point:
    """Add t times a dyad to the covariance matrix."""
    return Point(triangular_root(np.column_stack([point.root, np.sqrt(t) * direction])), point.spread)


def _way_up(
    point: Point, by_covariance: FloatArray, by_variances: FloatArray, likelihood: Likelihood, value: float
) -> Point | None:
    """A better point in a direction that is zero now, if the score promises one and the likelihood agrees."""
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
    """Deviance that a Newton step promises, g'H^-1 g / 2, with H from differences of the score."""
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
