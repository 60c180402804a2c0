"""Likelihood of generalised mixed models with one grouping factor, its group effects integrated out group by group.

Given beta and a factor F with Cov(b) = F F', groups are independent. With standardised effects u ~ N(0, I), b = F u,

    p(y_g) = int exp(l_g(u)) phi(u) du,   l_g(u) = sum of log p(y_i | x_i'beta + offset_i + z_i'F u) over the group,

and adaptive Gauss-Hermite quadrature places its nodes at the mode c and the curvature A of the integrand (Liu & Pierce
1994, Biometrika 81:624; Pinheiro & Bates 1995, J. Comput. Graph. Stat. 4:12). With A^-1 = R'R and the nodes x_k and
weights w_k of the standard normal distribution,

    p(y_g) = |R| sum_k w_k exp(|x_k|^2 / 2 - |u_k|^2 / 2 + l_g(u_k)),   u_k = c + R'x_k.

All draws of the parameters, groups and nodes are computed at once, in pieces of bounded size. Arrays of rows have the
shape (n, draws, nodes), with the rows of a group side by side.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from unimix.design.arrays import Design
from unimix.likelihood.lmm.batched_linalg import inverse_factor, outer, per_level
from unimix.likelihood.posterior.row_densities import RowDensities

FloatArray = npt.NDArray[np.float64]

AT_ONCE = 100_000
"""Size of one array in numbers; beyond a processor's cache the same work takes longer."""
LADDER = {1: (3, 5, 7, 9, 13, 19, 27, 39, 55), 2: (3, 5, 7, 9, 13, 19), 3: (3, 5, 7, 9)}
"""Numbers of nodes per effect that are tried, by the number of effects of a group."""
OFF = 0.005
"""Largest distance in total variation between a draw of a group's effects and its distribution."""
MOST_STEPS = 40
"""Largest number of Metropolis steps behind such a draw."""
FREEDOM = 8.0
"""Degrees of freedom of the proposals of effects, whose tails must be heavier than normal."""
_LOG_2PI = float(np.log(2 * np.pi))
_ROUNDS = 25
_SETTLED = 0.03


@dataclass(frozen=True)
class Parameters:
    """Parameters of S draws.

    Attributes:
        beta: Fixed effects, shape (S, p).
        factor: Covariance factors F of a group's stacked effects, shape (S, q, q).
        dispersion: Dispersion parameters of the family, shape (S, k).
    """

    beta: FloatArray
    factor: FloatArray
    dispersion: FloatArray

    def __getitem__(self, part: slice) -> Parameters:
        return Parameters(self.beta[part], self.factor[part], self.dispersion[part])

    def __len__(self) -> int:
        return len(self.beta)


@dataclass(frozen=True)
class Peaks:
    """Modes and curvatures of the integrands.

    Attributes:
        centre: Modes c, shape (q, L, S).
        root: Lower triangular R with R'R = A^-1, shape (q, q, L, S).
    """

    centre: FloatArray
    root: FloatArray

    def spread(self, x: FloatArray) -> FloatArray:
        """Effects c + R'x, shape (q, L, S, m), at x (q, ..., m) that extends to that shape."""
        q = len(self.centre)
        # row i of R'x is the sum over j >= i of R_ji x_j
        return np.stack(
            [self.centre[i][..., None] + sum(self.root[j, i][..., None] * x[j] for j in range(i, q)) for i in range(q)]
        )

    def log_scale(self) -> FloatArray:
        """Logarithm of |R|, shape (L, S)."""
        return np.asarray(np.log(np.einsum("iils->ils", self.root)).sum(axis=0))


class GroupIntegrals:
    """Integrals over the group effects of one factor, and draws of these effects.

    Args:
        design: Generalised design whose blocks, if any, belong to one grouping factor.

    Attributes:
        q: Number of effects of a group, over all blocks.
        nodes: Number of nodes per effect.
    """

    def __init__(self, design: Design) -> None:
        blocks = design.blocks
        self.q = sum(b.q for b in blocks)
        codes = blocks[0].codes if blocks else np.zeros(design.n, dtype=np.intp)
        order = np.argsort(codes, kind="stable")
        self._codes = codes[order]
        self.levels = blocks[0].n_levels if blocks else 1
        self._starts = np.searchsorted(self._codes, np.arange(self.levels))
        self._rows = RowDensities(design, order)
        self._x = np.ascontiguousarray(design.x[order])
        offset = np.zeros(design.n) if design.offset is None else design.offset
        self._offset = offset[order]
        self._z = [np.ascontiguousarray(c[order]) for b in blocks for c in b.z.T]
        self.nodes = LADDER[self.q][1] if self.q else 1
        self._reference: tuple[FloatArray, FloatArray, FloatArray] | None = None

    @property
    def has_short_formulas(self) -> bool:
        """Whether the family is among those whose log density takes little time."""
        return bool(self._rows.short)

    def move_reference(self, at: Parameters) -> FloatArray:
        """Start the searches for the modes from the normal approximation of the rows at one point.

        The rows are approximated at the group effects that are most likely there.

        Returns:
            Average information G = Z'WZ of a group about its effects, shape (q, q).
        """
        # eta ~ N(z, W^-1): u = (I + F'GF)^-1 F'Z'W (z - X beta)
        peaks = self._peaks(at, self._fixed(at.beta))
        eta = self._predictor(self._fixed(at.beta), at.factor, peaks.centre)
        _, score, w = (a[:, 0] for a in self._rows.derivatives(at.dispersion.T[:, None, :], eta))
        response = w * (eta[:, 0] - self._offset) + score
        q, p = self.q, self._x.shape[1]
        g, rz, rx = np.empty((q, q, self.levels)), np.empty((q, self.levels)), np.empty((q, self.levels, p))
        for a, column in enumerate(self._z):
            rz[a] = self._sums(column * response)
            rx[a] = self._sums((column * w)[:, None] * self._x)
            for b in range(q):
                g[a, b] = self._sums(column * w * self._z[b])
        self._reference = (g, rz, rx)
        return np.asarray(g.mean(axis=2))

    def log_likelihood(self, at: Parameters) -> FloatArray:
        """Log p(y) with all constants, shape (S,), by quadrature with the current number of nodes."""
        if not self.q:
            parts = [self._without_effects(at[part]) for part in self._parts(len(at), 1)]
        else:
            x, log_weights = hermite_grid(self.nodes, self.q)
            parts = [self._integrated(at[part], x, log_weights) for part in self._parts(len(at), len(log_weights))]
        return np.concatenate(parts) if parts else np.empty(0)

    def _without_effects(self, at: Parameters) -> FloatArray:
        return np.asarray(self._rows.values(at.dispersion.T[:, None, :], self._fixed(at.beta)).sum(axis=0))

    def _integrated(self, at: Parameters, x: FloatArray, log_weights: FloatArray) -> FloatArray:
        fixed = self._fixed(at.beta)
        peaks = self._peaks(at, fixed)
        values = self._log_integrand(at, fixed, peaks.spread(x[:, None, None, :]))
        lifted = values + log_weights + 0.5 * (x * x).sum(axis=0)
        return np.asarray((_log_sum_exp(lifted) + peaks.log_scale()).sum(axis=0))

    def draw(self, at: Parameters, rng: np.random.Generator) -> FloatArray:
        """Draw the standardised effects of all groups given y and each draw of the parameters, shape (S, L, q).

        An independence Metropolis chain per group has a t distribution as its proposal, with mean and covariance from
        the nodes. After m steps its distribution is within (1 - 1 / w*)^m of the exact one in total variation
        (Mengersen & Tweedie 1996, Ann. Stat. 24:101), where w* is the largest ratio of the effects' density to the
        proposal's. The nodes give w*, and m is so large that the bound is below ``OFF``.
        """
        found = np.empty((len(at), self.levels, self.q))
        x, log_weights = hermite_grid(self.nodes, self.q)
        for part in self._parts(len(at), len(log_weights)):
            found[part] = self._drawn(at[part], x, log_weights, rng).transpose(2, 1, 0)
        return found

    def _drawn(self, at: Parameters, x: FloatArray, log_weights: FloatArray, rng: np.random.Generator) -> FloatArray:
        fixed = self._fixed(at.beta)
        moments, bound = self._proposal(at, fixed, x, log_weights)
        # (1 - 1 / w*)^m < OFF
        steps = int(np.clip(np.ceil(np.log(OFF) / np.log1p(-1.0 / max(bound, 1.01))), 2, MOST_STEPS))
        shape = (self.q, self.levels, len(at), steps + 1)
        noise = rng.standard_normal(shape) * np.sqrt(FREEDOM / rng.chisquare(FREEDOM, shape[1:]))
        u = moments.spread(noise)
        ratio = self._log_integrand(at, fixed, u) - _log_t((noise * noise).sum(axis=0), self.q)
        ratio = np.where(np.isfinite(ratio), ratio, -np.inf)
        chosen, here = np.zeros(shape[1:3], dtype=np.intp), ratio[..., 0]
        for t in range(1, steps + 1):
            accepted = np.log(rng.random(here.shape)) < ratio[..., t] - here
            chosen = np.where(accepted, t, chosen)
            here = np.where(accepted, ratio[..., t], here)
        return np.asarray(np.take_along_axis(u, chosen[None, ..., None], axis=-1)[..., 0])

    def _proposal(
        self, at: Parameters, fixed: FloatArray, x: FloatArray, log_weights: FloatArray
    ) -> tuple[Peaks, float]:
        """Conditional means and roots of the conditional covariances of the effects, and the largest w* of a group."""
        peaks = self._peaks(at, fixed)
        u = peaks.spread(x[:, None, None, :])
        values = self._log_integrand(at, fixed, u)
        lifted = values + log_weights + 0.5 * (x * x).sum(axis=0)
        total = _log_sum_exp(lifted)
        share = np.exp(lifted - total[..., None])
        centre = (share * u).sum(axis=-1)
        off = u - centre[..., None]
        q = self.q
        covariance = np.stack([[(share * off[i] * off[j]).sum(axis=-1) for j in range(q)] for i in range(q)])
        scale = covariance.reshape(q, q, -1) * (FREEDOM - 1.0) / FREEDOM
        # R'R = S: the inverse factor of S^-1 = T'T, with T the inverse factor of S
        inverse = outer(inverse_factor(scale)[0])
        root = inverse_factor(inverse)[0].reshape(covariance.shape)
        square = np.einsum("ilsm,ijls,jlsm->lsm", off, inverse.reshape(covariance.shape), off, optimize=True)
        moments = Peaks(centre, root)
        # target density: exp(values - total) / |R of the peaks| (2 pi)^(-q/2)
        ratio = values - total[..., None] - peaks.log_scale()[..., None] - 0.5 * q * _LOG_2PI
        ratio = ratio - _log_t(square, q) + moments.log_scale()[..., None]
        return moments, float(np.exp(np.nanmax(ratio, initial=0.0)))

    # -- pieces -------------------------------------------------------------------------------------

    def _parts(self, total: int, nodes: int) -> Iterator[slice]:
        size = max(1, AT_ONCE // max(len(self._offset) * nodes, 1))
        for start in range(0, total, size):
            yield slice(start, min(start + size, total))

    def _fixed(self, beta: FloatArray) -> FloatArray:
        """X beta + offset, shape (n, S)."""
        return np.asarray(self._x @ beta.T + self._offset[:, None])

    def _sums(self, rows: FloatArray) -> FloatArray:
        """Sums over the rows of each group, shape (L, ...)."""
        return np.asarray(np.add.reduceat(rows, self._starts, axis=0))

    def _predictor(self, fixed: FloatArray, factor: FloatArray, u: FloatArray) -> FloatArray:
        """Linear predictors at standardised effects u (q, L, S) or (q, L, S, m)."""
        eta, axes = fixed, (1,) * (u.ndim - 2)
        if u.ndim == 4:
            eta = fixed[:, :, None]
            factor = factor[..., None]
        for a, column in enumerate(self._z):
            b = sum(factor[:, a, j] * u[j] for j in range(self.q) if (factor[:, a, j] != 0).any())
            if isinstance(b, np.ndarray):
                part = b[self._codes]
                part *= column.reshape(-1, *axes)
                part += eta
                eta = part
        return np.asarray(np.broadcast_to(eta, (len(self._codes), *u.shape[2:])))

    def _log_integrand(self, at: Parameters, fixed: FloatArray, u: FloatArray) -> FloatArray:
        """l_g(u) - |u|^2 / 2, shape (L, S, m), at effects (q, L, S, m)."""
        eta = self._predictor(fixed, at.factor, u)
        rows = self._rows.values(at.dispersion.T[:, None, :, None], eta)
        return np.asarray(self._sums(rows) - 0.5 * (u * u).sum(axis=0))

    def _peaks(self, at: Parameters, fixed: FloatArray) -> Peaks:
        """Find the modes by Newton's method; a step that lowers the integrand is halved."""
        q, levels, count = self.q, self.levels, len(at)
        best = self._guess(at)
        move, size = np.zeros_like(best), np.ones((levels, count))
        here = np.full((levels, count), -np.inf)
        root = np.zeros((q, q, levels, count))
        step = np.zeros_like(best)
        for _ in range(_ROUNDS):
            trial = best + size * move
            value, gradient, root_there = self._expansion(at, fixed, trial)
            better = (value >= here - 1e-10 * (1.0 + np.abs(here))) | ~np.isfinite(here)
            best = np.where(better, trial, best)
            here = np.where(better, value, here)
            root = np.where(better, root_there, root)
            flat = root_there.reshape(q, q, -1)
            newton = per_level(flat, per_level(flat, gradient.reshape(q, -1)), transpose=True).reshape(best.shape)
            step = np.where(better, newton, step)
            size = np.where(better, 1.0, 0.25 * size)
            move = step
            # the length of the step that is left, in units of the curvature: |R^-T step|
            left = np.abs(size * step) / np.sqrt((root * root).sum(axis=0))
            if left.max(initial=0.0) < _SETTLED:
                break
        return Peaks(best + size * step, root)

    def _guess(self, at: Parameters) -> FloatArray:
        q, levels, count = self.q, self.levels, len(at)
        if self._reference is None:
            return np.zeros((q, levels, count))
        g, rz, rx = self._reference
        left = rz[:, :, None] - rx @ at.beta.T
        inner = np.einsum("sai,abl,sbj->ijls", at.factor, g, at.factor, optimize=True).reshape(q, q, -1)
        inner[np.arange(q), np.arange(q)] += 1.0
        root, _ = inverse_factor(inner)
        turned = np.einsum("sai,als->ils", at.factor, left).reshape(q, -1)
        return per_level(root, per_level(root, turned), transpose=True).reshape(q, levels, count)

    def _expansion(self, at: Parameters, fixed: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Log integrand (L, S), its gradient (q, L, S), and R (q, q, L, S) with R'R the inverse of its curvature."""
        q = self.q
        eta = self._predictor(fixed, at.factor, u)
        value, score, weight = self._rows.derivatives(at.dispersion.T[:, None, :], eta)
        f = at.factor
        by_b = np.stack([self._sums(column[:, None] * score) for column in self._z])
        # curvature A = I + F'Z'WZF
        inner = np.empty((q, q, *u.shape[1:]))
        for a, b in itertools.combinations_with_replacement(range(q), 2):
            inner[a, b] = inner[b, a] = self._sums((self._z[a] * self._z[b])[:, None] * weight)
        turned = np.einsum("sai,abls,sbj->ijls", f, inner, f, optimize=True) if q > 1 else f[:, 0, 0] ** 2 * inner
        turned = np.array(turned)
        turned[np.arange(q), np.arange(q)] += 1.0
        root, _ = inverse_factor(turned.reshape(q, q, -1))
        gradient = np.einsum("sai,als->ils", f, by_b) - u
        total = self._sums(value) - 0.5 * (u * u).sum(axis=0)
        return np.where(np.isfinite(total), total, -np.inf), gradient, root.reshape(turned.shape)


def hermite_grid(nodes: int, q: int) -> tuple[FloatArray, FloatArray]:
    """Product of Gauss-Hermite rules for the standard normal distribution in q dimensions.

    Args:
        nodes: Number of nodes per dimension.
        q: Number of dimensions.

    Returns:
        Nodes, shape (q, nodes^q), and logarithms of the weights, whose sum is one, shape (nodes^q,).
    """
    x, w = special.roots_hermitenorm(nodes)
    grid = np.array(np.meshgrid(*[x] * q, indexing="ij")).reshape(q, -1)
    log_weights = np.log(w / w.sum())
    return grid, np.array(np.meshgrid(*[log_weights] * q, indexing="ij")).reshape(q, -1).sum(axis=0)


def _log_sum_exp(a: FloatArray) -> FloatArray:
    """Logarithm of the sum of exponentials over the last axis."""
    top = a.max(axis=-1)
    safe = np.where(np.isfinite(top), top, 0.0)
    return np.asarray(safe + np.log(np.exp(a - safe[..., None]).sum(axis=-1)))


def _log_t(square: FloatArray, q: int) -> FloatArray:
    """Log density of a standard t distribution in q dimensions at squared lengths."""
    constant = special.gammaln(0.5 * (FREEDOM + q)) - special.gammaln(0.5 * FREEDOM) - 0.5 * q * np.log(FREEDOM * np.pi)
    return np.asarray(constant - 0.5 * (FREEDOM + q) * np.log1p(square / FREEDOM))


__all__ = ["LADDER", "GroupIntegrals", "Parameters", "hermite_grid"]
