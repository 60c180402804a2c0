"""Log posterior of a Gaussian mixed model in unconstrained coordinates, with its gradient, in NumPy.

Everything is sampled in well-scaled columns, priors are on the user's. Coordinates: fixed effects; standard
deviations by log, by logit between the ends of a uniform prior, or, for the last of at most two random columns whose
prior is positive at zero, by sd = |c sinh(eta)|, which is smooth through zero variance; inverse hyperbolic tangents of
the canonical partial correlations (Lewandowski, Kurowicka & Joe 2009; Stan Reference Manual, section "Cholesky factors
of correlation matrices"); log sigma. The group effects are integrated out.

A block of q > 1 columns has covariance M F F'M' in the user's columns. With sd_i the user's standard deviations and s_i
those of F F', the Jacobian from (sd, R) to the covariance gives, for a prior prod p(sd_i) LKJ(R | eta), the density

    prod p(sd_i) (s_i / sd_i)^kappa * LKJ(correlation of FF' | eta),   kappa = q + 2 (eta - 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np
import numpy.typing as npt

from unimix.backends._pymc_priors import PriorTable
from unimix.model.design import Design
from unimix.model.priors import Exponential, HalfCauchy, HalfNormal, HalfStudentT, Prior, Uniform
from unimix.numerics.conditioning import condition
from unimix.numerics.marginal import cross_products, log_density

FloatArray = npt.NDArray[np.float64]
_POSITIVE_AT_ZERO = (Exponential, HalfCauchy, HalfNormal, HalfStudentT)


class PriorStack:
    """Independent priors of a vector, those of one class evaluated at once."""

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

    def __call__(self, x: FloatArray) -> tuple[float, FloatArray]:
        """Log density up to ``constant``, and its gradient, shape of ``x``."""
        total, gradient = 0.0, np.empty_like(x)
        for kernel, index, columns in self._parts:
            value, slope = kernel(x[index], *columns)
            total += float(value.sum())
            gradient[index] = slope
        return total, gradient


@dataclass(frozen=True)
class ParameterDraws:
    """Parameters in the user's units.

    Attributes:
        beta: Fixed effects, shape (S, p).
        sds: Standard deviations per block, shapes (S, q).
        correlations: Correlation matrices per block, shapes (S, q, q).
        sigma: Residual standard deviation, shape (S,).
        beta_c: Fixed effects in the fitted columns, shape (S, p).
        factors_c: Covariance factors in the fitted columns, shapes (S, q, q).
        log_sigma_c: Log of sigma in the fitted response, shape (S,).
    """

    beta: FloatArray
    sds: tuple[FloatArray, ...]
    correlations: tuple[FloatArray, ...]
    sigma: FloatArray
    beta_c: FloatArray
    factors_c: tuple[FloatArray, ...]
    log_sigma_c: FloatArray


class LogPosterior:
    """The log posterior as a function of one vector of length ``size``.

    Attributes:
        data: Cross-products of the fitted columns.
        maps: M per block, from fitted effects to the user's, shapes (q, q).
    """

    def __init__(self, design: Design, table: PriorTable) -> None:
        conditioned, way_back = condition(design)
        blocks, self.maps, self._kappas = [], [], []
        for k, (block, sds, lkj) in enumerate(zip(design.blocks, table.sds, table.correlations, strict=True)):
            turned = lkj is not None and not any(isinstance(p, Uniform) for p in sds)
            rms = np.sqrt(np.mean(block.z**2, axis=0))
            rms = np.where(rms > 0, rms, 1.0)
            blocks.append(conditioned.blocks[k] if turned else replace(block, z=block.z / rms))
            self.maps.append(way_back.scale * (way_back.blocks[k] if turned else np.diag(1 / rms)))
            self._kappas.append(block.q + 2.0 * (lkj.eta - 1.0) if lkj is not None and turned else 0.0)
        self.data = cross_products(replace(conditioned, blocks=tuple(blocks)))
        self.p = design.p
        self.qs = [b.q for b in design.blocks]
        self._shift, self._matrix = way_back.shift, way_back.coefficients
        self._fixed = PriorStack(table.fixed)
        self._offset = table.functionals @ self._shift
        self._functionals = table.functionals @ self._matrix
        scales = [prior for block in table.sds for prior in block] + [table.sigma]
        self.n_sd = len(scales)
        self._scale_priors = PriorStack(scales)
        self._sigma_unit = way_back.residual
        self._bounded = np.array([i for i, p in enumerate(scales) if isinstance(p, Uniform)], dtype=int)
        units = np.concatenate([*(np.diag(m) for m in self.maps), [self._sigma_unit]])
        bounds = [(p.lower, p.upper) for p in scales if isinstance(p, Uniform)]
        self._ends = np.array(bounds).reshape(-1, 2) / units[self._bounded, None]
        # The last row of M has one entry: only there does a zero in the fitted columns mean zero in the user's.
        # With three columns the log is kept: folding made few levels diverge more often, not less.
        last = np.array([a == b.q - 1 and b.q <= 2 for b in design.blocks for a in range(b.q)], dtype=bool)
        smooth = np.array([isinstance(p, _POSITIVE_AT_ZERO) for p in scales[:-1]], dtype=bool)
        self._folded = np.flatnonzero(last & smooth)
        per_level = np.array([b.n_levels / design.n for b in design.blocks for _ in b.terms])
        self._knee = np.sqrt(per_level[self._folded])
        exponents = [
            c.exponents(q)[k]
            for c, q in zip(table.correlations, self.qs, strict=True)
            if c is not None
            for i in range(1, q)
            for k in range(i)
        ]
        self._exponents = np.array(exponents)
        self.size = self.p + self.n_sd + len(exponents)

    def __call__(self, theta: FloatArray) -> tuple[float, FloatArray]:
        """Log posterior density of the unconstrained vector up to a constant, and its gradient, (size,)."""
        p, n_sd = self.p, self.n_sd
        beta, y = theta[:p], theta[p + n_sd :]
        sd, rate, log_jacobian, by_eta = self._scales(theta[p : p + n_sd])
        factors, roots = self._factors(sd, y)
        value, by_beta, by_factor, by_log_sigma = log_density(self.data, beta, factors, float(np.log(sd[-1])))
        gradient = np.empty_like(theta)
        prior, slope = self._fixed(self._offset + self._functionals @ beta)
        gradient[:p] = by_beta + slope @ self._functionals

        turned = [m @ f for m, f in zip(self.maps, factors, strict=True)]
        user = np.concatenate([*(np.sqrt((t * t).sum(axis=1)) for t in turned), [sd[-1] * self._sigma_unit]])
        scale_prior, by_user = self._scale_priors(user)
        value += prior + scale_prior + log_jacobian
        by_sd = np.empty(n_sd)
        by_sd[-1] = by_user[-1] * self._sigma_unit + by_log_sigma / sd[-1]
        start, place = 0, p + n_sd
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
            gradient[place:stop] = _correlation_gradient(by * sd[own, None], roots[k], theta[place:stop])
            place = stop
        gradient[p : p + n_sd] = by_sd * rate + by_eta
        if len(y):
            size = np.abs(y)
            value -= 2.0 * float(self._exponents @ (size + np.log1p(np.exp(-2.0 * size))))
            gradient[p + n_sd :] -= 2.0 * self._exponents * np.tanh(y)
        return float(value), gradient

    def _scales(self, eta: FloatArray) -> tuple[FloatArray, FloatArray, float, FloatArray]:
        """Standard deviations in fitted units (folded ones with a sign), d sd / d eta, log Jacobian, its derivative."""
        sd = np.exp(eta)
        rate, log_rate, by_eta = sd.copy(), eta.copy(), np.ones_like(eta)
        if len(self._folded):
            i = self._folded
            e = np.clip(eta[i], -300, 300)
            sd[i], rate[i] = self._knee * np.sinh(e), self._knee * np.cosh(e)
            log_rate[i], by_eta[i] = np.log(rate[i]), np.tanh(e)
        if len(self._bounded):
            i = self._bounded
            inside, width = 1.0 / (1.0 + np.exp(-eta[i])), self._ends[:, 1] - self._ends[:, 0]
            sd[i], rate[i] = self._ends[:, 0] + width * inside, width * inside * (1 - inside)
            log_rate[i], by_eta[i] = np.log(rate[i]), 1 - 2 * inside
        return sd, rate, float(log_rate.sum()), by_eta

    def _factors(self, sd: FloatArray, y: FloatArray) -> tuple[list[FloatArray], list[FloatArray]]:
        """Covariance factors and correlation factors per block, shapes (q, q)."""
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

    def start(self) -> FloatArray:
        """A point inside, shape (size,)."""
        theta = np.zeros(self.size)
        scales = theta[self.p : self.p + self.n_sd]
        scales[:] = -1.0
        scales[self._folded] = np.arcsinh(np.exp(-1.0) / self._knee)
        scales[self._bounded] = 0.0
        return theta

    def draws(self, thetas: FloatArray) -> ParameterDraws:
        """Parameters of unconstrained vectors, shape (S, size)."""
        total, beta_c = len(thetas), thetas[:, : self.p]
        factors = [np.empty((total, q, q)) for q in self.qs]
        sigma_c = np.empty(total)
        for s, theta in enumerate(thetas):
            sd = self._scales(theta[self.p : self.p + self.n_sd])[0]
            for k, factor in enumerate(self._factors(sd, theta[self.p + self.n_sd :])[0]):
                factors[k][s] = factor
            sigma_c[s] = sd[-1]
        sds, correlations = [], []
        for factor, mapping in zip(factors, self.maps, strict=True):
            turned = mapping @ factor
            sd = np.sqrt((turned**2).sum(axis=2))
            unit = turned / np.maximum(sd, 1e-300)[:, :, None]
            sds.append(sd)
            correlations.append(unit @ unit.swapaxes(1, 2) if sd.shape[1] > 1 else np.ones((total, 1, 1)))
        return ParameterDraws(
            beta=self._shift + beta_c @ self._matrix.T,
            sds=tuple(sds),
            correlations=tuple(correlations),
            sigma=sigma_c * self._sigma_unit,
            beta_c=beta_c,
            factors_c=tuple(factors),
            log_sigma_c=np.log(sigma_c),
        )


def correlation_factor(y: FloatArray, q: int) -> FloatArray:
    """Cholesky factor of a correlation matrix from unconstrained numbers.

    Args:
        y: Inverse hyperbolic tangents of the canonical partial correlations, rows of the lower triangle, (q(q-1)/2,).
        q: Size.

    Returns:
        Lower triangular, rows of length one, shape (q, q).
    """
    z, c = np.tanh(y), 1.0 / np.cosh(np.clip(y, -300, 300))
    if q == 2:
        return np.array([[1.0, 0.0], [z[0], c[0]]])
    root = np.zeros((q, q))
    root[0, 0] = 1.0
    place = 0
    for i in range(1, q):
        left = 1.0
        for j in range(i):
            root[i, j] = z[place] * left
            left *= c[place]
            place += 1
        root[i, i] = left
    return root


def _correlation_gradient(by_root: FloatArray, root: FloatArray, y: FloatArray) -> FloatArray:
    """Chain the gradient by the factor's entries (q, q) to the unconstrained numbers (q(q-1)/2,)."""
    z, c = np.tanh(y), 1.0 / np.cosh(np.clip(y, -300, 300))
    if len(root) == 2:
        pair: FloatArray = c * (by_root[1, 0] * c - by_root[1, 1] * z)
        return pair
    result = np.empty_like(y)
    products = by_root * root
    place = 0
    for i in range(1, len(root)):
        left = 1.0
        for j in range(i):
            after = products[i, j + 1 : i + 1].sum()
            result[place] = by_root[i, j] * left * c[place] ** 2 - z[place] * after
            left *= c[place]
            place += 1
    return result
