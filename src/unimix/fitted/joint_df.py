"""Satterthwaite's degrees of freedom of error variances that depend on all covariance parameters.

The method is that of Giesbrecht & Burns (1985), Biometrics 41:477, applied to Henderson's joint error of fixed and
group effects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from unimix.fitted.criterion import criterion_at, likelihood_arrays
from unimix.fitted.smooth_parts import mixed_columns, mixed_form
from unimix.likelihood.lmm import penalised_least_squares
from unimix.likelihood.lmm.denominator_df import free_parameters
from unimix.likelihood.lmm.parameters import factors_of, parameters_of
from unimix.stats.joint_error import conditional, predictor_variance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
ErrorVariance = Callable[..., FloatArray]
STEP = 1e-4
"""Step of the numerical derivatives, relative to an element of a covariance factor."""


def df_of_curves(fit: FittedModel, weights: FloatArray) -> FloatArray:
    """Degrees of freedom of functions L beta of fixed effects and curves of a linear model with smooths, shape (m,).

    Args:
        fit: The result.
        weights: Matrix L, shape (m, p).
    """
    form = mixed_form(fit)
    design = likelihood_arrays(form)
    x, curves, of_curves = mixed_columns(fit, weights)
    left_out = [(np.zeros((len(x), len(b.terms))), np.full(len(x), -1, dtype=np.int64)) for b in fit.random]
    columns, codes = [*(z for z, _ in left_out), *curves], [*(c for _, c in left_out), *of_curves]

    def error(covariances: Sequence[FloatArray], sigma: float, beta_cov: FloatArray) -> FloatArray:
        joint = conditional(design, design.y, covariances, np.array([sigma]), beta_cov)
        return np.maximum(predictor_variance(joint, x, columns, codes), 0.0)

    central = error([np.asarray(b.covariance) for b in form.random], form.sigma, np.asarray(form.fixed.covariance))
    return satterthwaite_of(form, error, central)


def satterthwaite_of(fit: FittedModel, error: ErrorVariance, central: FloatArray | None) -> FloatArray:
    """Degrees of freedom 2 v^2 / var(v) of error variances v, shape (n,).

    Args:
        fit: A linear mixed model.
        error: Function of covariances (q, q), sigma and the covariance of the fixed effects (p, p) that returns v (n,).
        central: v at the estimates; None computes it, where Kenward and Roger's adjustment is part of it.
    """
    criterion, here = criterion_at(fit)
    spread = here.satterthwaite.variances()

    known = criterion.data.sigma

    def variance(theta: FloatArray) -> FloatArray:
        own = factors_of(criterion.data, theta if known is not None else theta[:-1])
        scale = float(np.exp(theta[-1])) if known is None else known
        unscaled = penalised_least_squares.profile(criterion.data, own, reml=True, whole=False).cov_unscaled
        covariances, sigma = criterion.covariances(own, scale)
        return error(covariances, sigma, criterion.coefficients_cov(scale**2 * unscaled))

    at = np.append(parameters_of(criterion.data, here.factors), [] if known is not None else np.log(here.sigma))
    free = free_parameters(criterion.data, here.factors)
    steps = STEP * np.maximum(np.abs(at), 0.1)
    slopes = np.array([(variance(at + d) - variance(at - d)) / (2 * d.max()) for d in np.diag(steps)[free]])
    central = variance(at) if central is None else central
    with np.errstate(divide="ignore", invalid="ignore"):
        df = 2.0 * central**2 / np.einsum("an,ab,bn->n", slopes, spread, slopes)
    # Degrees of freedom are at least 1, because no useful interval exists below; a variance of zero gives no ratio.
    return np.where(np.isfinite(df), np.maximum(df, 1.0), np.inf)


__all__ = ["ErrorVariance", "df_of_curves", "satterthwaite_of"]
