"""The error of estimated variances in means that depend on them: means over the groups, and means that are turned back.

The mean response over the groups, m(beta, theta), depends on the fixed effects beta and on the covariance parameters
theta. By the delta method its variance is g'Jg, with its derivatives g about (beta, theta) and the covariance matrix
J of their estimates, the inverse of the observed information of the likelihood.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from unimix.analysis.certificate.supported_models import out_of_reach
from unimix.analysis.intervals.intervals import joint_error, no_likelihood
from unimix.fitted.criterion import likelihood_arrays
from unimix.fitted.describe import is_robust
from unimix.fitted.model import has_design, is_sampled
from unimix.likelihood.profile.constrained_parameters import Target

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
Covariances = tuple[FloatArray, ...]

STEP = 1e-4
"""Step of central differences on the scales of log SDs and of atanh of correlations: a relative error near 1e-8."""


@dataclass(frozen=True)
class VarianceError:
    """The error of k variance parameters, with that of the p fixed effects.

    Attributes:
        joint: Covariance matrix of (beta, theta), shape (p + k, p + k). The part of beta is the engine's own.
        slopes: Derivatives of the blocks' covariance matrices with respect to each parameter, shapes (k, q, q).
        residual: Derivatives of the residual variance of a linear model, shape (k,).
    """

    joint: FloatArray
    slopes: Covariances
    residual: FloatArray

    @property
    def k(self) -> int:
        """Number of variance parameters."""
        return len(self.residual)

    @property
    def fixed(self) -> int:
        """Number p of fixed effects."""
        return len(self.joint) - self.k

    def moved(self, covariances: Covariances, parameter: int, step: float) -> Covariances:
        """Covariance matrices of the blocks' effects after a small step of one parameter, shapes (q, q)."""
        return tuple(c + step * s[parameter] for c, s in zip(covariances, self.slopes, strict=True))

    def widened(self, std_error: FloatArray, moved: FloatArray, x: FloatArray | None = None) -> FloatArray:
        """Standard errors, shape (n,), of linear predictors that also move with the variance parameters.

        Args:
            std_error: Standard errors of the linear predictors at known variances, shape (n,).
            moved: Change of the linear predictors with each parameter, shape (n, k).
            x: Columns of the fixed effects, shape (n, p); None where these and the variances are independent.
        """
        p = self.fixed
        variance = std_error**2 + np.einsum("nk,kl,nl->n", moved, self.joint[p:, p:], moved)
        if x is not None:
            variance += 2 * np.einsum("nk,nk->n", x @ self.joint[:p, p:], moved)
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)))

    def gradient(self, function: Callable[[Covariances], FloatArray], covariances: Covariances) -> FloatArray:
        """Derivatives, shape (m, k), of a function of the covariance matrices with values (m,)."""
        ends = [[function(self.moved(covariances, i, s)) for s in (STEP, -STEP)] for i in range(self.k)]
        return np.column_stack([(high - low) / (2 * STEP) for high, low in ends])


def variance_error(fit: FittedModel) -> tuple[VarianceError | None, str]:
    """The error of a fit's variance parameters by unimix's own likelihood at its maximum.

    Returns:
        The error, and an empty text; or None and the reason in words why it is not known. A posterior needs none,
        because each of its draws has variances of its own.
    """
    if why := _unknown(fit):
        return None, why
    if not fit.random:
        # the variance of log sigma is 1 / (2 f) with f residual degrees of freedom
        joint = np.diag(np.append(np.zeros(len(fit.fixed.estimate)), 0.5 / fit.criteria.df_residual))
        joint[:-1, :-1] = np.asarray(fit.fixed.covariance)
        return VarianceError(joint, (), np.array([2 * fit.sigma**2])), ""
    design = likelihood_arrays(fit)
    targets, joint = joint_error(fit, design)
    if not np.isfinite(joint).all():
        return None, "one is on its boundary"
    p, covariances = design.p, [np.asarray(b.covariance) for b in fit.random]
    known = [i for i, (t, _) in enumerate(targets) if t.kind != "scale" or design.is_linear]
    order = np.concatenate([np.arange(p), p + np.array(known, dtype=np.int64)])
    joint = joint[np.ix_(order, order)]
    joint[:p, :p] = np.asarray(fit.fixed.covariance)
    chosen = [targets[i][0] for i in known]
    slopes = tuple(
        np.array([_slope(c, t) if t.index == k and t.kind != "scale" else np.zeros_like(c) for t in chosen])
        for k, c in enumerate(covariances)
    )
    # d sigma^2 / d log sigma = 2 sigma^2
    residual = np.array([2 * fit.sigma**2 if t.kind == "scale" else 0.0 for t in chosen])
    return VarianceError(joint, slopes, residual), ""


def variances_note(error: VarianceError | None, why: str) -> str:
    """Words on whether errors hold those of the variances."""
    if error is not None:
        return "with the error of the estimated variances"
    return f"at the estimated variances as if they were known{f': {why}' if why else ''}"


def _slope(covariance: FloatArray, target: Target) -> FloatArray:
    """Derivative of a covariance matrix (q, q) with respect to the logarithm of an SD or atanh of a correlation."""
    slope = np.zeros_like(covariance)
    if target.kind == "sd":  # entries sd_i sd_j rho_ij, so that those of row and column i follow log sd_i
        slope[target.first] += covariance[target.first]
        slope[:, target.first] += covariance[:, target.first]
        return slope
    i, j = target.first, target.second
    scale = np.sqrt(covariance[i, i] * covariance[j, j])
    # d rho / d atanh rho = 1 - rho^2
    slope[i, j] = slope[j, i] = scale * (1 - (covariance[i, j] / scale) ** 2)
    return slope


def _unknown(fit: FittedModel) -> str:
    """The reason why the error of the variances is not known; empty if it is."""
    if is_sampled(fit) or fit.fixed.interval == "credible":
        return "a posterior has them in its draws"
    if fit.smooths:
        return "their errors are not computed beside a smooth"
    if not fit.random and (not fit.family.is_linear or fit.model.sigma is not None):
        return "none is estimated"
    if is_robust(fit):
        return "cluster-robust errors are those of the fixed effects"
    if not has_design(fit):
        return "their errors need the data, fit.with_data(frame)"
    if why := no_likelihood(fit):
        return why
    design = likelihood_arrays(fit)
    if design.is_structured or design.residual is not None:
        return "their errors are not computed for structured covariances"
    return out_of_reach(design)


__all__ = ["VarianceError", "variance_error", "variances_note"]
