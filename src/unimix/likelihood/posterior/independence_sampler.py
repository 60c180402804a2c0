"""Exact sampling from a low-dimensional density by an adapted independence sampler.

A multivariate t distribution approximates the density at its mode, and importance weights adapt its moments. An
independence Metropolis-Hastings chain with this proposal has the density itself as its stationary distribution. All
proposals of a round are evaluated in one call. Sources: Tierney (1994), Ann. Stat. 22:1701, section 2.3.3; Cappe, Douc,
Guillin, Marin & Robert (2008), Stat. Comput. 18:447, for the adaptation; Vehtari, Simpson, Gelman, Yao & Gabry (2024),
J. Mach. Learn. Res. 25(72), for Pareto k.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy
from scipy import special

FloatArray = npt.NDArray[np.float64]
LogDensities = Callable[[FloatArray], FloatArray]

FREEDOM = 6.0
"""Degrees of freedom of the proposal, whose tails must be heavier than those of the density."""
WIDE, WIDER, HEAVY = 0.15, 2.0, 3.0
"""Share, relative scale and degrees of freedom of the wider component, which covers the far tails."""
ROUNDS = 4
REACH = 12.0
"""Number of scales from zero beyond which the mirrored side of a folded coordinate is neglected."""
STEP = 1e-3


@dataclass(frozen=True)
class Proposal:
    """Mixture of a multivariate t distribution and a wider one, some of whose coordinates are folded to be positive.

    Attributes:
        centre: Location, shape (d,).
        root: Matrix R whose product R R' is the scale matrix, shape (d, d).
        folded: Indices of the folded coordinates, which are replaced by their absolute values.
    """

    centre: FloatArray
    root: FloatArray
    folded: tuple[int, ...]

    def draw(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n points, shape (n, d)."""
        d = len(self.centre)
        wide = rng.random(n) < WIDE
        mix = np.where(
            wide, WIDER * np.sqrt(HEAVY / rng.chisquare(HEAVY, n)), np.sqrt(FREEDOM / rng.chisquare(FREEDOM, n))
        )
        found = np.asarray(self.centre + (rng.standard_normal((n, d)) * mix[:, None]) @ self.root.T)
        found[:, self.folded] = np.abs(found[:, self.folded])
        return found

    def log_density(self, x: FloatArray) -> FloatArray:
        """Log density at points with positive folded coordinates, with its constant, shape (n,)."""
        sd = np.sqrt(np.sum(self.root**2, axis=1))
        near = [j for j in self.folded if abs(self.centre[j]) < REACH * sd[j]]
        values = []
        for signs in itertools.product((1.0, -1.0), repeat=len(near)):
            turned = x.copy()
            turned[:, near] *= signs
            values.append(self._unfolded(turned))
        return np.asarray(special.logsumexp(values, axis=0))

    def _unfolded(self, x: FloatArray) -> FloatArray:
        square = np.sum(np.linalg.solve(self.root, (x - self.centre).T) ** 2, axis=0)
        d = len(self.centre)
        spread = float(np.log(np.abs(np.diag(self.root))).sum())
        narrow = _t_log_density(square, d, FREEDOM) + np.log1p(-WIDE)
        heavy = _t_log_density(square / WIDER**2, d, HEAVY) - d * np.log(WIDER) + np.log(WIDE)
        return np.asarray(np.logaddexp(narrow, heavy) - spread)


def _t_log_density(square: FloatArray, d: int, freedom: float) -> FloatArray:
    """Log density of a standard multivariate t distribution at squared lengths (n,)."""
    constant = special.gammaln((freedom + d) / 2) - special.gammaln(freedom / 2) - 0.5 * d * np.log(freedom * np.pi)
    return np.asarray(constant - 0.5 * (freedom + d) * np.log1p(square / freedom))


@dataclass(frozen=True)
class Sampled:
    """Draws and diagnostics of the sampler.

    Attributes:
        points: Draws, shape (chains, draws, d).
        accepted: Share of accepted proposals.
        efficiency: Efficiency of the importance weights w of all proposals, 1 / (n * sum w^2).
        log_weights: Log importance weights of all proposals, shape (chains * draws,).
        largest: Share of the largest weight in their sum.
    """

    points: FloatArray
    accepted: float
    efficiency: float
    log_weights: FloatArray
    largest: float

    def log_integral(self) -> tuple[float, float]:
        """Logarithm of the integral of the density, and its Monte Carlo standard error.

        The integral is the mean of the importance weights of all proposals, which are independent. The error is the
        standard error of that mean over the mean (the delta method).
        """
        w = self.log_weights
        value = float(special.logsumexp(w) - np.log(len(w)))
        relative = np.exp(w - value)
        return value, float(np.std(relative, ddof=1) / np.sqrt(len(w)))


def sample(
    log_density: LogDensities,
    start: FloatArray,
    *,
    chains: int,
    draws: int,
    rng: np.random.Generator,
    folded: Sequence[int] = (),
) -> Sampled:
    """Draw from a density by independence Metropolis-Hastings chains.

    Args:
        log_density: Function of points (n, d) that returns the log density up to a constant, shape (n,); -inf outside
            the support.
        start: Point at which the search for the mode starts, shape (d,).
        chains: Number of chains.
        draws: Number of draws per chain.
        rng: Random number generator.
        folded: Coordinates on whose sign the density does not depend; they are drawn positive.
    """
    proposal = adapt(log_density, proposal_at_mode(log_density, start, folded), rng)
    return draw_chains(log_density, proposal, chains=chains, draws=draws, rng=rng)


def draw_chains(
    log_density: LogDensities, proposal: Proposal, *, chains: int, draws: int, rng: np.random.Generator
) -> Sampled:
    """Draw by chains with one proposal; the arguments are those of :func:`sample`."""
    total = chains * draws
    # one more proposal per chain, at which it starts
    points = proposal.draw(total + chains, rng)
    weights = _log_weights(log_density, proposal, points)
    w = weights[:total]
    share = np.exp(w - w.max())
    share /= share.sum()
    # chains start in the distribution itself, by resampling proposals with their importance weights
    at = rng.choice(total, size=chains, p=share)
    index = np.empty((chains, draws), dtype=np.int64)
    own = np.arange(total).reshape(chains, draws)
    uniform = np.log(rng.random((chains, draws)))
    moved = 0
    for t in range(draws):
        take = uniform[:, t] < w[own[:, t]] - w[at]
        at = np.where(take, own[:, t], at)
        moved += int(take.sum())
        index[:, t] = at
    return Sampled(points[index], moved / total, float(1.0 / (total * np.sum(share**2))), w, float(share.max()))


def _log_weights(log_density: LogDensities, proposal: Proposal, points: FloatArray) -> FloatArray:
    found = log_density(points) - proposal.log_density(points)
    return np.asarray(np.where(np.isfinite(found), found, -np.inf))


def proposal_at_mode(log_density: LogDensities, start: FloatArray, folded: Sequence[int] = ()) -> Proposal:
    """Make a t distribution with the mode and curvature of the density; the arguments are those of :func:`sample`."""
    d = len(start)
    moves = np.concatenate([np.zeros((1, d)), STEP * np.eye(d), -STEP * np.eye(d)])

    def loss(x: FloatArray) -> tuple[float, FloatArray]:
        values = log_density(x + moves)
        if not np.isfinite(values).all():
            return 1e300, np.zeros(d)
        return -float(values[0]), -(values[1 : d + 1] - values[d + 1 :]) / (2 * STEP)

    mode = scipy.optimize.minimize(loss, start, jac=True, method="BFGS", options={"gtol": 1e-3}).x
    values, vectors = np.linalg.eigh(-_hessian(log_density, mode))
    # where the density is flat or not concave, a scale of one is wide enough; the adaptation narrows it
    spread = 1.0 / np.sqrt(np.where(values > 1.0 / 9.0, values, 1.0 / 9.0))
    root = np.linalg.cholesky((vectors * spread**2) @ vectors.T)
    sign = np.ones(d)
    sign[list(folded)] = np.where(mode[list(folded)] < 0, -1.0, 1.0)
    return Proposal(sign * mode, sign[:, None] * root, tuple(folded))


def _hessian(log_density: LogDensities, x: FloatArray, step: float = 1e-2) -> FloatArray:
    d = len(x)
    pairs = [(i, j) for i in range(d) for j in range(i)]
    unit = step * np.eye(d)
    moves = [np.zeros(d), *unit, *-unit]
    for i, j in pairs:
        moves += [unit[i] + unit[j], -unit[i] - unit[j]]
    values = log_density(x + np.array(moves))
    found = np.zeros((d, d))
    centre, up, down = values[0], values[1 : d + 1], values[d + 1 : 2 * d + 1]
    found[np.diag_indices(d)] = (up - 2 * centre + down) / step**2
    for k, (i, j) in enumerate(pairs):
        high, low = values[2 * d + 1 + 2 * k], values[2 * d + 2 + 2 * k]
        both = (high - 2 * centre + low) / step**2
        found[i, j] = found[j, i] = (both - found[i, i] - found[j, j]) / 2
    return np.where(np.isfinite(found), found, 0.0)


def adapt(log_density: LogDensities, proposal: Proposal, rng: np.random.Generator) -> Proposal:
    """Adapt location and scale by truncated importance weights (Ionides 2008, J. Comput. Graph. Stat. 17:295)."""
    d = len(proposal.centre)
    n = 200 * (d + 1)
    for _ in range(ROUNDS):
        points = proposal.draw(n, rng)
        w = _log_weights(log_density, proposal, points)
        w = np.exp(w - w.max())
        w = np.minimum(w, w.sum() / np.sqrt(n))
        w /= w.sum()
        efficiency = 1.0 / (n * np.sum(w**2))
        centre = w @ points
        off = points - centre
        covariance = (off * w[:, None]).T @ off
        # the covariance of a t distribution is f / (f - 2) times its scale matrix; a slightly wide proposal is safe
        scale = covariance * (FREEDOM - 2) / FREEDOM * 1.1 + 1e-12 * np.eye(d)
        # few effective points estimate a covariance poorly: keep a part of the old one
        kept = float(np.clip(10 * d / max(n * efficiency, 1.0), 0.0, 0.9))
        old = proposal.root @ proposal.root.T
        proposal = Proposal(centre, np.linalg.cholesky((1 - kept) * scale + kept * old), proposal.folded)
        if efficiency > 0.7:
            break
    return proposal


__all__ = ["Proposal", "Sampled", "adapt", "draw_chains", "proposal_at_mode", "sample"]
