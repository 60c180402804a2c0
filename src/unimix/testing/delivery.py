"""Check a fit against the likelihood, computed from the full covariance matrix."""

from __future__ import annotations

import numpy as np
import pytest

from unimix.design.arrays import Design
from unimix.design.smooths import mixed_design
from unimix.fitted.criterion import covariances_of
from unimix.fitted.smooth_parts import mixed_form
from unimix.result import FitResult
from unimix.testing import dense
from unimix.testing.generalised import check_generalised


def check_delivery(fit: FitResult, design: Design, method: str) -> None:
    """Check a fit of small data against the likelihood, computed from the dense covariance matrix of the response.

    The reported log-likelihood is that of the reported parameters (to a relative 1e-6, the rounding error of the
    transformation from scaled columns); the fixed effects are the GLS solution (to 1e-3 SE, the error of optimizers);
    and no change of a covariance parameter by 2 % increases the log-likelihood by more than 1e-3.

    Args:
        fit: The result.
        design: The model that was fitted.
        method: Criterion of the fit.

    Raises:
        AssertionError: If the fit and the likelihood disagree.
    """
    fit, design = mixed_form(fit), mixed_design(design)
    if not design.is_linear:
        check_generalised(fit, design)
        return
    assert fit.converged, fit.status
    given, at_sigma = covariances_of(fit)
    covariances = tuple(given)
    beta, cov = dense.gls(design, covariances, at_sigma)
    distance = np.abs(fit.fixed.estimate - beta) / np.sqrt(np.diag(cov))
    if method == "posterior":
        # Averaging over the variance parameters moves the mean by a fraction of an SE; 4 Monte Carlo errors are added.
        assert distance.max() < 0.35 + 4 / np.sqrt(fit.status.ess_bulk or 1.0)
        assert (fit.fixed.lower < fit.fixed.estimate).all()
        assert (fit.fixed.estimate < fit.fixed.upper).all()
        return
    assert distance.max() < 1e-3
    if fit.fixed.std_error_kind == "observed information":
        # These standard errors include the uncertainty of the variances, which is visible with few groups: by 60 % with
        # 14 groups and a correlation for each lag.
        ratio = fit.fixed.std_error / np.sqrt(np.diag(cov))
        assert (ratio > 0.97).all()
        assert (ratio < 2.0).all()
    else:
        np.testing.assert_allclose(fit.fixed.covariance, cov, rtol=3e-3, atol=3e-3 * np.diag(cov).min())
    reml = method == "REML" and design.has_covariances
    if not design.has_covariances:
        assert fit.sigma**2 * fit.criteria.df_residual == pytest.approx(weighted_rss(design, fit), rel=1e-9)
        return
    expected = dense.log_likelihood(design, covariances, at_sigma, reml=reml)
    assert fit.log_likelihood == pytest.approx(expected, rel=1e-6)
    for factor in (0.98, 1.02):
        moved = [(covariances, at_sigma * factor)] if design.sigma is None else []
        for k, c in enumerate(covariances):
            for j in range(len(c) if k < len(design.blocks) and design.blocks[k].structure == "us" else 0):
                turn = np.eye(len(c))
                turn[j, j] = factor
                other = [turn @ c @ turn if i == k else x for i, x in enumerate(covariances)]
                moved.append((tuple(other), at_sigma))
        for parameters, sigma in moved:
            assert dense.log_likelihood(design, parameters, sigma, reml=reml) < expected + 1e-3


def weighted_rss(design: Design, fit: FitResult) -> float:
    """Weighted residual sum of squares."""
    w = np.ones(design.n) if design.weights is None else design.weights
    return float(np.sum(w * fit.residuals() ** 2))
