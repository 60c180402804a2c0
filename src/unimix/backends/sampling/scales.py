"""Standard deviations, correlations and dispersion parameters in unconstrained coordinates, with their priors.

The coordinate of a standard deviation is its log, or its logit between the ends of a uniform prior. For the last of at
most two random columns, with a prior that is positive at zero, it is eta in sd = |c sinh(eta)|, which is smooth through
zero variance. Sigma and other dispersion parameters are treated like standard deviations. The coordinates of
correlations are the inverse hyperbolic tangents of the canonical partial correlations (Lewandowski, Kurowicka & Joe
2009; Stan Reference Manual, section "Cholesky factors of correlation matrices").

A block of q > 1 columns has covariance M F F'M' in the user's columns. With sd_i the user's standard deviations and s_i
those of F F', the Jacobian from (sd, R) to the covariance gives, for a prior prod p(sd_i) LKJ(R | eta), the density

    prod p(sd_i) (s_i / sd_i)^kappa * LKJ(correlation of FF' | eta),   kappa = q + 2 (eta - 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np
import numpy.typing as npt

from unimix.backends.sampling.correlations import correlation_factor, correlation_factors, correlation_gradient
from unimix.backends.sampling.priors import PriorTable
from unimix.design.arrays import Design, RandomBlock
from unimix.distributions.priors import Exponential, HalfCauchy, HalfNormal, HalfStudentT, Prior, Uniform
from unimix.likelihood.lmm.conditioning import well_scaled
from unimix.likelihood.posterior.effect_draws import EffectDraws

FloatArray = npt.NDArray[np.float64]
_POSITIVE_AT_ZERO = (Exponential, HalfCauchy, HalfNormal, HalfStudentT)


class PriorStack:
    """Independent priors of the elements of a vector, with priors of the same class evaluated at once."""

    def __init__(self, priors: Sequence[Prior]) -> None:
        self.constant = sum(p.constant() for p in priors)
        self._parts: list[
            tuple[Callable[..., tuple[FloatArray, FloatArray]], FloatArray | slice, list[FloatArray]]
        ] = []
        for cls in dict.fromkeys(type(p) for p in priors):
            where = [i for i, p in enumerate(priors) if type(p) is cls]
            columns = [np.array(c) for c in zip(*(astuple(priors[i]) for i in where), strict=True)]
            index: FloatArray | slice = slice(None) if len(where) == len(priors) else np.array(where)
            self._parts.append((cls.kernel, index, columns))

    def values(self, x: FloatArray) -> FloatArray:
        """Log density up to ``constant``, shape (S,), of many vectors (S, k)."""
        total = np.zeros(len(x))
        for kernel, index, columns in self._parts:
            total += kernel(x[:, index], *columns)[0].sum(axis=1)
        return total

    def __call__(self, x: FloatArray) -> tuple[float, FloatArray]:
        """Log density up to ``constant``, and its gradient in the shape of ``x``."""
        total, gradient = 0.0, np.empty_like(x)
        for kernel, index, columns in self._parts:
            value, slope = kernel(x[index], *columns)
            total += float(value.sum())
            gradient[index] = slope
        return total, gradient


@dataclass(frozen=True)
class FittedColumns:
    """Columns in which a density is computed, and the transformation back to the user's.

    Attributes:
        design: Design in well-scaled columns.
        maps: Matrix M of each block, from fitted effects to the user's, shapes (q, q).
        kappas: Exponent kappa of each block's Jacobian.
        shift: The user's fixed effects at fitted effects of zero, shape (p,).
        matrix: Matrix from fitted fixed effects to differences of the user's, shape (p, p).
        residual: Ratio of the user's residual standard deviation to the fitted one.
        lost: Log density of the fitted response minus that of the user's.
    """

    design: Design
    maps: tuple[FloatArray, ...]
    kappas: tuple[float, ...]
    shift: FloatArray
    matrix: FloatArray
    residual: float
    lost: float


def fitted_columns(design: Design, table: PriorTable) -> FittedColumns:
    """Orthogonalise the columns if the priors allow it, and scale them otherwise.

    Args:
        design: Design in the user's columns, without an offset if the model is linear.
        table: Priors of all parameters.
    """
    scaled = well_scaled(design)
    conditioned, way_back = scaled.rows, scaled.way_back
    blocks: list[RandomBlock] = []
    maps, kappas = [], []
    for k, (block, sds, lkj) in enumerate(zip(design.blocks, table.sds, table.correlations, strict=True)):
        turned = lkj is not None and not any(isinstance(p, Uniform) for p in sds)
        rms = np.sqrt(np.mean(block.z**2, axis=0))
        rms = np.where(rms > 0, rms, 1.0)
        blocks.append(conditioned.blocks[k] if turned else replace(block, z=block.z / rms))
        maps.append(way_back.scale * (way_back.blocks[k] if turned else np.diag(1 / rms)))
        kappas.append(block.q + 2.0 * (lkj.eta - 1.0) if lkj is not None and turned else 0.0)
    return FittedColumns(
        replace(conditioned, blocks=tuple(blocks)),
        tuple(maps),
        tuple(kappas),
        way_back.shift,
        way_back.coefficients,
        way_back.residual,
        way_back.lost(reml=False),
    )


class FixedPriors:
    """Log prior of the user's fixed effects as a function of the fitted ones."""

    def __init__(self, columns: FittedColumns, table: PriorTable) -> None:
        self._priors = PriorStack(table.fixed)
        self._offset = table.functionals @ columns.shift
        self._functionals = table.functionals @ columns.matrix
        # of a density of the fitted effects: p(A beta) |A| |d beta / d fitted|
        self.constant = self._priors.constant + _log_det(self._functionals)

    def values(self, beta: FloatArray) -> FloatArray:
        """Log density up to a constant, shape (S,), of many vectors (S, p)."""
        return self._priors.values(self._offset + beta @ self._functionals.T)

    def __call__(self, beta: FloatArray) -> tuple[float, FloatArray]:
        """Log density, and its gradient, shape (p,)."""
        value, slope = self._priors(self._offset + self._functionals @ beta)
        return value, slope @ self._functionals


@dataclass(frozen=True)
class ScaleState:
    """Covariance parameters at one point.

    Attributes:
        y: Unconstrained correlations.
        sd: Standard deviations and dispersion parameters in fitted units (folded ones with a sign), shape (n_sd,).
        rate: Derivatives d sd / d eta, shape (n_sd,).
        log_jacobian: Sum of the logarithms of ``rate``.
        by_eta: Derivatives of ``log_jacobian`` with respect to eta, shape (n_sd,).
        factors: Covariance factors F of the blocks, shapes (q, q).
        roots: Correlation factors of the blocks, shapes (q, q).
    """

    y: FloatArray
    sd: FloatArray
    rate: FloatArray
    log_jacobian: float
    by_eta: FloatArray
    factors: list[FloatArray]
    roots: list[FloatArray]


class Scales:
    """Covariance and dispersion parameters as functions of a vector of length ``size``.

    Args:
        columns: Fitted columns.
        table: Priors of all parameters.
        knees: Standard deviation of each block's effects, in fitted units, above which the data distinguish it from
            zero.
    """

    def __init__(self, columns: FittedColumns, table: PriorTable, knees: Sequence[float]) -> None:
        self.maps, self._kappas = columns.maps, columns.kappas
        self.qs = [b.q for b in columns.design.blocks]
        scales = [prior for block in table.sds for prior in block]
        self.n_block = len(scales)
        scales += table.dispersion
        self.n_sd = len(scales)
        self._priors = PriorStack(scales)
        self._extra_unit = np.full(self.n_sd - self.n_block, columns.residual)
        self._bounded = np.array([i for i, p in enumerate(scales) if isinstance(p, Uniform)], dtype=int)
        units = np.concatenate([*(np.diag(m) for m in self.maps), self._extra_unit])
        bounds = [(p.lower, p.upper) for p in scales if isinstance(p, Uniform)]
        self._ends = np.array(bounds).reshape(-1, 2) / units[self._bounded, None]
        # The last row of M has one entry, so that only there a zero in the fitted columns is a zero in the user's.
        # With three columns the log is used, because folding increased the number of divergences with few levels.
        last = np.array([a == q - 1 and q <= 2 for q in self.qs for a in range(q)], dtype=bool)
        smooth = np.array([isinstance(p, _POSITIVE_AT_ZERO) for p in scales[: self.n_block]], dtype=bool)
        self._folded = np.flatnonzero(last & smooth)
        self._knee = self._knees(knees)
        exponents = [
            c.exponents(q)[k]
            for c, q in zip(table.correlations, self.qs, strict=True)
            if c is not None
            for i in range(1, q)
            for k in range(i)
        ]
        self._exponents = np.array(exponents)
        self.size = self.n_sd + len(exponents)
        self.constant = self._log_constant(table)

    def _log_constant(self, table: PriorTable) -> float:
        """Constant that makes the log prior of :meth:`many` that of a density, with folded coordinates positive.

        With |d Sigma / d(sd, R)| = prod 2 sd_i^q and Sigma = M S M', d Sigma / d S = |M|^(q + 1) and
        |R| = |M|^2 |R_S| prod (s_i / sd_i)^2, the density of (s, R_S) has the factor |M|^(kappa + 1).
        """
        total = self._priors.constant + float(np.log(self._extra_unit).sum())
        for m, kappa, lkj in zip(self.maps, self._kappas, table.correlations, strict=True):
            total += (kappa + 1.0) * _log_det(m) + (0.0 if lkj is None else lkj.log_constant(len(m)))
        # log(1 - tanh(y)^2) = 2 log 2 - 2 (|y| + log(1 + exp(-2 |y|))), whose first term the density omits
        return total + 2.0 * float(np.log(2.0)) * float(self._exponents.sum())

    @property
    def folded(self) -> npt.NDArray[np.int64]:
        """Indices of the coordinates of folded standard deviations."""
        return self._folded

    def _knees(self, knees: Sequence[float]) -> FloatArray:
        return np.array([c for c, q in zip(knees, self.qs, strict=True) for _ in range(q)])[self._folded]

    def move_knees(self, theta: FloatArray, knees: Sequence[float]) -> FloatArray:
        """Change the coordinates, and return the same point in the new ones, shape (size,)."""
        moved, old = theta.copy(), self._knee
        self._knee = self._knees(knees)
        moved[self._folded] = np.arcsinh(old * np.sinh(np.clip(theta[self._folded], -300, 300)) / self._knee)
        return moved

    def at(self, theta: FloatArray) -> ScaleState:
        """Parameters at a point, shape (size,)."""
        sd, rate, log_rate, by_eta = self._scales(theta[: self.n_sd])
        y = theta[self.n_sd :]
        factors, roots = self._factors(sd, y)
        return ScaleState(y, sd, rate, float(log_rate.sum()), by_eta, factors, roots)

    def extras(self, state: ScaleState) -> FloatArray:
        """Dispersion parameters in the user's units, shape (k,)."""
        found: FloatArray = state.sd[self.n_block :] * self._extra_unit
        return found

    def density(
        self, state: ScaleState, by_factor: Sequence[FloatArray], by_extra: FloatArray
    ) -> tuple[float, FloatArray]:
        """Log prior with the Jacobian, and the gradient of the whole log density.

        Args:
            state: Result of :meth:`at`.
            by_factor: Derivatives of the other terms of the log density with respect to the factors' entries, shapes
                (q, q).
            by_extra: Derivatives of the other terms with respect to the dispersion parameters in the user's units,
                shape (k,).

        Returns:
            Log prior density of the unconstrained vector, and the gradient of the whole log density, shape (size,).
        """
        n_sd, sd, roots = self.n_sd, state.sd, state.roots
        gradient = np.empty(self.size)
        turned = [m @ f for m, f in zip(self.maps, state.factors, strict=True)]
        user = np.concatenate([*(np.sqrt((t * t).sum(axis=1)) for t in turned), self.extras(state)])
        value, by_user = self._priors(user)
        value += state.log_jacobian
        by_sd = np.empty(n_sd)
        by_sd[self.n_block :] = (by_user[self.n_block :] + by_extra) * self._extra_unit
        start, place = 0, n_sd
        for k, q in enumerate(self.qs):
            own, kappa = slice(start, start + q), self._kappas[k]
            start += q
            if q == 1:
                by_sd[own] = by_factor[k][0] + by_user[own] * self.maps[k][0] * np.sign(sd[own])
                continue
            value += kappa * float(np.log(np.abs(sd[own]) / user[own]).sum())
            weights = (by_user[own] - kappa / user[own]) / user[own]
            by = by_factor[k] + self.maps[k].T @ (weights[:, None] * turned[k])
            by_sd[own] = (by * roots[k]).sum(axis=1) + kappa / sd[own]
            stop = place + q * (q - 1) // 2
            y = state.y[place - n_sd : stop - n_sd]
            gradient[place:stop] = correlation_gradient(by * sd[own, None], roots[k], y)
            place = stop
        gradient[:n_sd] = by_sd * state.rate + state.by_eta
        if len(state.y):
            size = np.abs(state.y)
            value -= 2.0 * float(self._exponents @ (size + np.log1p(np.exp(-2.0 * size))))
            gradient[n_sd:] -= 2.0 * self._exponents * np.tanh(state.y)
        return float(value), gradient

    def many(self, thetas: FloatArray) -> tuple[list[FloatArray], FloatArray, FloatArray]:
        """Parameters and log prior of many points at once.

        Args:
            thetas: Unconstrained vectors, shape (S, size).

        Returns:
            Factors of the fitted effects per block, shapes (S, q, q); dispersion parameters in the user's units, shape
            (S, k); log density of the unconstrained vectors up to a constant, as :meth:`density`, shape (S,).
        """
        sd, _, log_rate, _ = self._scales(thetas[:, : self.n_sd])
        y = thetas[:, self.n_sd :]
        extras = sd[:, self.n_block :] * self._extra_unit
        factors, users, value = [], [], log_rate.sum(axis=1)
        start = place = 0
        for k, q in enumerate(self.qs):
            own, m = sd[:, start : start + q], q * (q - 1) // 2
            factor = own[:, :, None] * correlation_factors(y[:, place : place + m], q)
            turned = self.maps[k] @ factor
            user = np.sqrt((turned * turned).sum(axis=2))
            if self._kappas[k]:
                value = value + self._kappas[k] * np.log(np.abs(own) / user).sum(axis=1)
            factors.append(factor)
            users.append(user)
            start, place = start + q, place + m
        value = value + self._priors.values(np.concatenate([*users, extras], axis=1))
        if y.shape[1]:
            size = np.abs(y)
            value = value - 2.0 * (size + np.log1p(np.exp(-2.0 * size))) @ self._exponents
        return factors, extras, value

    def _scales(self, eta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """SDs, their rates d sd / d eta, the logarithms of the rates and the derivatives of these, (..., n_sd) each."""
        sd = np.exp(eta)
        rate, log_rate, by_eta = sd.copy(), eta.copy(), np.ones_like(eta)
        if len(self._folded):
            i = self._folded
            e = np.minimum(np.maximum(eta[..., i], -300.0), 300.0)
            slope = self._knee * np.cosh(e)
            sd[..., i], rate[..., i] = self._knee * np.sinh(e), slope
            log_rate[..., i], by_eta[..., i] = np.log(slope), np.tanh(e)
        if len(self._bounded):
            i = self._bounded
            inside, width = 1.0 / (1.0 + np.exp(-eta[..., i])), self._ends[:, 1] - self._ends[:, 0]
            sd[..., i], rate[..., i] = self._ends[:, 0] + width * inside, width * inside * (1 - inside)
            log_rate[..., i], by_eta[..., i] = np.log(rate[..., i]), 1 - 2 * inside
        return sd, rate, log_rate, by_eta

    def _factors(self, sd: FloatArray, y: FloatArray) -> tuple[list[FloatArray], list[FloatArray]]:
        factors, roots = [], []
        start = place = 0
        for q in self.qs:
            own = sd[start : start + q]
            if q == 1:
                roots.append(np.ones((1, 1)))
                factors.append(own[:, None])
            else:
                m = q * (q - 1) // 2
                root = correlation_factor(y[place : place + m], q)
                roots.append(root)
                factors.append(own[:, None] * root)
                place += m
            start += q
        return factors, roots

    def start(self, sd: float, extras: FloatArray | None = None) -> FloatArray:
        """Starting point inside the support, shape (size,).

        Args:
            sd: Standard deviation of all effects, in fitted units.
            extras: Dispersion parameters in the user's units, shape (k,); None to use ``sd`` for them too.
        """
        theta = np.zeros(self.size)
        scales = theta[: self.n_sd]
        scales[:] = np.log(sd)
        if extras is not None:
            # those with a uniform prior, which may be negative, have a scale of their own below
            scales[self.n_block :] = np.log(np.where(extras > 0, extras, 1.0) / self._extra_unit)
        scales[self._folded] = np.arcsinh(sd / self._knee)
        scales[self._bounded] = 0.0
        return theta

    def draws(
        self, thetas: FloatArray
    ) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...], tuple[FloatArray, ...], FloatArray]:
        """Convert many points (S, size) to parameters.

        Returns:
            Standard deviations (S, q) and correlation matrices (S, q, q) of the user's effects per block; covariance
            factors of the fitted ones (S, q, q); dispersion parameters (S, k).
        """
        factors, extras, _ = self.many(thetas)
        return *in_users_units(factors, self.maps), tuple(factors), extras


def _log_det(matrix: FloatArray) -> float:
    return float(np.linalg.slogdet(matrix)[1])


def in_users_units(
    factors: Sequence[FloatArray], maps: Sequence[FloatArray]
) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]]:
    """Standard deviations (S, q) and correlation matrices (S, q, q) of the user's effects, per block.

    Args:
        factors: Covariance factors of the fitted effects per block, shapes (S, q, q).
        maps: Matrices from fitted effects to the user's, shapes (q, q).
    """
    sds, correlations = [], []
    for factor, mapping in zip(factors, maps, strict=True):
        turned = mapping @ factor
        sd = np.sqrt((turned**2).sum(axis=2))
        unit = turned / np.maximum(sd, 1e-300)[:, :, None]
        sds.append(sd)
        correlations.append(unit @ unit.swapaxes(1, 2) if sd.shape[1] > 1 else np.ones((len(sd), 1, 1)))
    return tuple(sds), tuple(correlations)


def effects_in_users_units(
    found: EffectDraws, maps: Sequence[FloatArray], *, kept: bool
) -> tuple[tuple[FloatArray, ...] | None, tuple[FloatArray, ...], tuple[FloatArray, ...]]:
    """Draws (None if not kept), means and covariances of the user's effects, per block.

    Args:
        found: Draws and moments of the fitted effects.
        maps: Matrices from fitted effects to the user's, shapes (q, q).
        kept: Whether draws have been kept.
    """
    return (
        tuple(d @ m.T for d, m in zip(found.draws, maps, strict=True)) if kept else None,
        tuple(d @ m.T for d, m in zip(found.means, maps, strict=True)),
        tuple(m @ c @ m.T for c, m in zip(found.covariances, maps, strict=True)),
    )
