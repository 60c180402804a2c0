"""Log posterior of a Gaussian mixed model in unconstrained coordinates, with its gradient, in NumPy.

Coordinates: fixed effects in well-scaled columns; log standard deviations (logit between the ends of a uniform
prior); inverse hyperbolic tangents of the canonical partial correlations (Lewandowski, Kurowicka & Joe 2009; Stan
Reference Manual, section "Cholesky factors of correlation matrices"); log sigma. All Jacobians are included, so the
posterior of the user's parameters is exact. The group effects are integrated out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np
import numpy.typing as npt

from unimix.backends._pymc_priors import PriorTable
from unimix.model.design import Design
from unimix.model.priors import Prior, Uniform
from unimix.numerics.conditioning import condition
from unimix.numerics.marginal import cross_products, log_density

FloatArray = npt.NDArray[np.float64]


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
        scale: Unit of the fitted response.
        units: User's units per fitted unit of each block's effects, shapes (q,).
    """

    def __init__(self, design: Design, table: PriorTable) -> None:
        conditioned, way_back = condition(design)
        rms = [np.sqrt(np.mean(b.z**2, axis=0)) for b in design.blocks]
        rms = [np.where(r > 0, r, 1.0) for r in rms]
        blocks = tuple(replace(b, z=b.z / r) for b, r in zip(design.blocks, rms, strict=True))
        self.data = cross_products(replace(conditioned, blocks=blocks))
        self.scale = way_back.scale
        self.units = [way_back.scale / r for r in rms]
        self._shift, self._matrix = way_back.shift, way_back.coefficients
        self.p = design.p
        self.qs = [b.q for b in design.blocks]
        self._fixed = PriorStack(table.fixed)
        self._offset = table.functionals @ self._shift
        self._functionals = table.functionals @ self._matrix
        scales = [prior for block in table.sds for prior in block] + [table.sigma]
        self._scale_priors = PriorStack(scales)
        self._unit = np.concatenate([*self.units, [self.scale]])
        self._ends = np.array([[p.lower, p.upper] if isinstance(p, Uniform) else [0, np.inf] for p in scales])
        self._bounded = np.isfinite(self._ends[:, 1])
        self._any_bounded = bool(self._bounded.any())
        self.n_sd = len(scales)
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
        """Log posterior density of the unconstrained vector up to a constant, and its gradient, both (size,)."""
        p, n_sd = self.p, self.n_sd
        beta = theta[:p]
        sd, rate, log_jacobian, jacobian_slope = self._scales(theta[p : p + n_sd])
        y = theta[p + n_sd :]
        factors, roots = self._factors(sd[:-1], y)
        value, by_beta, by_factor, by_log_sigma = log_density(self.data, beta, factors, float(np.log(sd[-1])))
        gradient = np.empty_like(theta)
        prior, slope = self._fixed(self._offset + self._functionals @ beta)
        gradient[:p] = by_beta + slope @ self._functionals
        scale_prior, scale_slope = self._scale_priors(sd * self._unit)
        by_sd = gradient[p : p + n_sd]
        by_sd[:] = scale_slope * (rate * self._unit) + jacobian_slope
        by_sd[-1] += by_log_sigma * rate[-1] / sd[-1]
        start = place = 0
        for factor, root, by, q in zip(factors, roots, by_factor, self.qs, strict=True):
            product = (by * factor).sum(axis=1) if q > 1 else by[0] * factor[0]
            own = slice(start, start + q)
            by_sd[own] += product * rate[own] / sd[own]
            if q > 1:
                m = q * (q - 1) // 2
                gradient[p + n_sd + place : p + n_sd + place + m] = _correlation_gradient(
                    by * sd[own, None], root, y[place : place + m]
                )
                place += m
            start += q
        total = value + prior + scale_prior + log_jacobian
        if len(y):
            size = np.abs(y)
            total -= 2.0 * float(self._exponents @ (size + np.log1p(np.exp(-2.0 * size))))
            gradient[p + n_sd :] -= 2.0 * self._exponents * np.tanh(y)
        return float(total), gradient

    def _scales(self, eta: FloatArray) -> tuple[FloatArray, FloatArray, float, FloatArray | float]:
        """Standard deviations in fitted units, d sd / d eta, the log Jacobian and its derivative."""
        if not self._any_bounded:
            sd = np.exp(eta)
            return sd, sd, float(eta.sum()), 1.0
        inside = 1.0 / (1.0 + np.exp(-eta))
        ends = self._ends / self._unit[:, None]
        width = np.where(self._bounded, ends[:, 1] - ends[:, 0], 1.0)
        free = np.exp(np.where(self._bounded, 0.0, eta))
        sd = np.where(self._bounded, ends[:, 0] + width * inside, free)
        rate = np.where(self._bounded, width * inside * (1 - inside), free)
        slope = np.where(self._bounded, 1 - 2 * inside, 1.0)
        return sd, rate, float(np.log(rate).sum()), slope

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
        scales[:] = np.where(self._bounded, 0.0, -1.0)
        return theta

    def draws(self, thetas: FloatArray) -> ParameterDraws:
        """Parameters of unconstrained vectors, shape (S, size)."""
        beta_c = thetas[:, : self.p]
        sds_c, sds, correlations, factors, sigma_c = [], [], [], [], np.empty(len(thetas))
        for q in self.qs:
            sds_c.append(np.empty((len(thetas), q)))
            factors.append(np.empty((len(thetas), q, q)))
            correlations.append(np.empty((len(thetas), q, q)))
        for s, theta in enumerate(thetas):
            sd = self._scales(theta[self.p : self.p + self.n_sd])[0]
            own, roots = self._factors(sd[:-1], theta[self.p + self.n_sd :])
            start = 0
            for k, q in enumerate(self.qs):
                sds_c[k][s] = sd[start : start + q]
                factors[k][s], correlations[k][s] = own[k], roots[k] @ roots[k].T
                start += q
            sigma_c[s] = sd[-1]
        sds = [sd * unit for sd, unit in zip(sds_c, self.units, strict=True)]
        return ParameterDraws(
            beta=self._shift + beta_c @ self._matrix.T,
            sds=tuple(sds),
            correlations=tuple(correlations),
            sigma=sigma_c * self.scale,
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
