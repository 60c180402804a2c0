"""Likelihood-ratio tests of nested models, pooled over imputed data sets (D3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy

from unimix.backends.evaluation import laplace_at_estimates
from unimix.design.arrays import Design
from unimix.errors import DataError, UnsupportedModelError
from unimix.estimation.refit import refit_design
from unimix.fitted.criterion import likelihood_arrays
from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.likelihood.response import row_log_likelihood
from unimix.result import FitResult
from unimix.stats.rubin import likelihood_ratio
from unimix.workflows.model_tests.nesting import likelihoods, one_kind, same_response, step_between

FloatArray = npt.NDArray[np.float64]


def log_likelihood_at(
    design: Design, beta: FloatArray, covariances: Sequence[FloatArray], parameters: FloatArray
) -> float:
    """Log likelihood of a (generalised) linear mixed model at any parameters, by ML or Laplace's approximation.

    Args:
        design: The model and its data.
        beta: Fixed effects, shape (p,).
        covariances: Covariance matrix of each block's effects, shapes (q, q).
        parameters: Dispersion parameters, shape (k,); sigma of a linear model.
    """
    if not design.blocks:
        eta = design.x @ beta + (0.0 if design.offset is None else design.offset)
        return float(row_log_likelihood(design, parameters, eta).value.sum())
    if not design.is_linear:
        return laplace_at_estimates(design, beta, covariances, parameters).log_likelihood
    criterion = LinearCriterion.of(design)
    at = criterion.at(covariances, float(parameters[0]), reml=False)
    off = beta - criterion.beta(at)
    # l(beta) = l(beta_hat) - (beta - beta_hat)' X'V^-1 X (beta - beta_hat) / 2 at given variances
    return criterion.value(at) - 0.5 * float(off @ np.linalg.solve(criterion.beta_cov(at), off))


def at_pooled(fits: Sequence[FitResult]) -> FloatArray:
    """Log likelihood of each data set at the parameters pooled over all, shape (m,).

    Pooled are fixed effects, covariance matrices, and residual variances (other dispersion parameters as they are): the
    scales of R's mitml.
    """
    beta = np.mean([np.asarray(fit.fixed.estimate) for fit in fits], axis=0)
    covariances = [
        np.mean([np.asarray(fit.random[k].covariance) for fit in fits], axis=0) for k in range(len(fits[0].random))
    ]
    own = np.array([fit.dispersion_parameters for fit in fits])
    if fits[0].model.method == "least squares":  # sigma^2 = RSS / (n - p), where the likelihood has RSS / n
        own *= np.sqrt(fits[0].criteria.df_residual / fits[0].n_obs)
    parameters = np.sqrt(np.mean(own**2, axis=0)) if fits[0].family.is_linear else own.mean(axis=0)
    return np.array([log_likelihood_at(likelihood_arrays(fit), beta, covariances, parameters) for fit in fits])


def pooled_ratio(larger: Sequence[FitResult], smaller: Sequence[FitResult], notes: list[str]) -> dict[str, float]:
    """Columns F, num_df, den_df, p_value and riv of the pooled test of two nested models.

    Args:
        larger: Fits of the larger model.
        smaller: Fits of the smaller one to the same data sets.
        notes: List of notes, to which those of this test are added.

    Raises:
        DataError: If the models are not nested, or belong to different data.
        UnsupportedModelError: If the likelihood has no value at pooled parameters.
    """
    _check(larger, smaller)
    big, small = _by_ml(larger, notes), _by_ml(smaller, notes)
    step = step_between(big[0], small[0])
    if step.boundary or step.note:
        notes.append(
            "A parameter on its boundary is tested: no mixture of distributions is known for pooled tests, and the p "
            "value of F is conservative."
        )
    own = np.array([2 * (b.log_likelihood - s.log_likelihood) for b, s in zip(big, small, strict=True)])
    pooled = 2 * (at_pooled(big) - at_pooled(small))
    if not np.isfinite(pooled).all():
        raise UnsupportedModelError("The likelihood has no value at the pooled estimates: test by D1, imputed.anova().")
    statistic, denominator, riv = likelihood_ratio(own, pooled, step.df)
    if np.isinf(denominator):
        p_value = float(scipy.special.chdtrc(step.df, max(statistic, 0.0) * step.df))
    else:
        p_value = float(scipy.stats.f.sf(max(statistic, 0.0), step.df, denominator))
    if statistic < 0:
        notes.append("The statistic is negative, which pooled likelihood ratios can be: the smaller model is kept.")
    return {"F": statistic, "num_df": float(step.df), "den_df": denominator, "p_value": p_value, "riv": riv}


def _check(larger: Sequence[FitResult], smaller: Sequence[FitResult]) -> None:
    if len(larger) != len(smaller):
        raise DataError(
            f"The results have {len(larger)} and {len(smaller)} imputations: fit both to the same data sets."
        )
    likelihoods([*larger, *smaller], "anova")
    for big, small in zip(larger, smaller, strict=True):
        same_response([big, small], families=True)
    if any(fit.design().is_structured or fit.parts for fit in (larger[0], smaller[0])):
        raise UnsupportedModelError(
            "D3 is for unstructured covariances and models of the mean alone. Compare each imputation: "
            "[um.anova(a, b) for a, b in zip(small.fits, large.fits)]."
        )
    if any(fit.criteria.criterion.startswith("AGQ") for fit in (*larger, *smaller)):
        raise UnsupportedModelError("D3 needs the estimates of Laplace's approximation: fit with method='Laplace'.")


def _by_ml(fits: Sequence[FitResult], notes: list[str]) -> list[FitResult]:
    made = [refit_design(f, method="ML") if f.model.method == "REML" else f for f in fits]
    if any(f.model.method == "REML" for f in fits):
        notes.append("REML fits were refitted by ML.")
    one_kind(made)
    return made


__all__ = ["at_pooled", "log_likelihood_at", "pooled_ratio"]
