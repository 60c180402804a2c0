"""Log posterior of a Gaussian mixed model in unconstrained coordinates, with its gradient, in NumPy.

Parameters are sampled for well-scaled columns, and priors apply to the user's. The coordinates are the fixed effects,
and standard deviations, sigma and correlations as in :mod:`unimix.backends.sampling.scales`. The group effects are
integrated out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unimix.backends.sampling.priors import PriorTable
from unimix.backends.sampling.scales import FixedPriors, Scales, fitted_columns
from unimix.design.arrays import Design
from unimix.likelihood.posterior.marginal import cross_products, log_density

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ParameterDraws:
    """Parameters in the user's units.

    Attributes:
        beta: Fixed effects, shape (S, p).
        sds: Standard deviations of each block, shapes (S, q).
        correlations: Correlation matrices of each block, shapes (S, q, q).
        sigma: Residual standard deviation, shape (S,).
        beta_c: Fixed effects in the fitted columns, shape (S, p).
        factors_c: Covariance factors in the fitted columns, shapes (S, q, q).
        sigma_c: Sigma in the fitted response, shape (S,).
    """

    beta: FloatArray
    sds: tuple[FloatArray, ...]
    correlations: tuple[FloatArray, ...]
    sigma: FloatArray
    beta_c: FloatArray
    factors_c: tuple[FloatArray, ...]
    sigma_c: FloatArray


class LogPosterior:
    """Log posterior density as a function of one vector of length ``size``.

    Attributes:
        columns: Fitted columns.
        data: Cross-products of the fitted columns.
        maps: Matrix M of each block, from fitted effects to the user's, shapes (q, q).
    """

    def __init__(self, design: Design, table: PriorTable) -> None:
        columns = fitted_columns(design, table)
        self.maps = columns.maps
        self.data = cross_products(columns.design)
        self.p = design.p
        self.columns = columns
        self._fixed = FixedPriors(columns, table)
        self._scales = Scales(columns, table, [float(np.sqrt(b.n_levels / design.n)) for b in design.blocks])
        self.size = self.p + self._scales.size

    def __call__(self, theta: FloatArray) -> tuple[float, FloatArray]:
        """Log posterior density of the unconstrained vector up to a constant, and its gradient, (size,)."""
        p = self.p
        beta = theta[:p]
        state = self._scales.at(theta[p:])
        sigma = float(state.sd[-1])
        value, by_beta, by_factor, by_log_sigma = log_density(self.data, beta, state.factors, float(np.log(sigma)))
        prior, slope = self._fixed(beta)
        by_sigma = np.array([by_log_sigma / (sigma * self.columns.residual)])
        rest, by_scales = self._scales.density(state, by_factor, by_sigma)
        return value + prior + rest, np.concatenate([by_beta + slope, by_scales])

    def start(self) -> FloatArray:
        """Starting point inside the support, shape (size,)."""
        return np.concatenate([np.zeros(self.p), self._scales.start(float(np.exp(-1.0)))])

    def draws(self, thetas: FloatArray) -> ParameterDraws:
        """Convert unconstrained vectors (S, size) to parameters."""
        beta_c = thetas[:, : self.p]
        sds, correlations, factors, sigma = self._scales.draws(thetas[:, self.p :])
        return ParameterDraws(
            beta=self.columns.shift + beta_c @ self.columns.matrix.T,
            sds=sds,
            correlations=correlations,
            sigma=sigma[:, 0],
            beta_c=beta_c,
            factors_c=factors,
            sigma_c=sigma[:, 0] / self.columns.residual,
        )
