"""Satterthwaite's and Kenward and Roger's degrees of freedom for engines without their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design
from unimix.design.estimates import Estimates
from unimix.design.modelled_variances import covariance_parameters, has_criterion
from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.likelihood.lmm.denominator_df import df_of_contrasts


def supply_df(
    estimates: Estimates, design: Design, method: str, df_method: str, coefficients: npt.NDArray[np.float64]
) -> Estimates:
    """Add degrees of freedom to a linear mixed model whose engine lacks the requested kind.

    Args:
        estimates: Estimates in the coordinates of ``design``.
        design: The model that the engine received.
        method: Criterion of the fit.
        df_method: Kind of degrees of freedom, satterthwaite or kenward-roger.
        coefficients: Contrasts, one per row, whose degrees of freedom are computed, shape (p, p).
    """
    wanted = df_method in ("satterthwaite", "kenward-roger") and method in ("REML", "ML")
    if estimates.df is not None or not (
        wanted and has_criterion(design) and design.has_covariances and design.p and estimates.converged
    ):
        return estimates
    criterion = LinearCriterion.of(design)
    uncertainty = criterion.at(*covariance_parameters(design, estimates), reml=method == "REML").uncertainty(df_method)
    coefficients = coefficients @ criterion.way_back.coefficients
    df = df_of_contrasts(uncertainty, coefficients)
    if not (np.isfinite(df) & (df > 0)).all():
        source = f"none: the covariance parameters leave {df_method} degrees of freedom undefined; z is reported"
        return replace(estimates, provenance={**estimates.provenance, "df": source})
    source = f"{df_method} by unimix, from exact derivatives at {method} estimates"
    estimates = replace(estimates, df=df, df_method=df_method, provenance={**estimates.provenance, "df": source})
    if uncertainty.adjusted is None:
        return estimates
    std_error = np.sqrt(np.diag(coefficients @ uncertainty.adjusted @ coefficients.T))
    source = "Kenward and Roger's adjusted covariance matrix, by unimix"
    provenance = {**estimates.provenance, "std_error": source}
    return replace(estimates, std_error=std_error, std_error_kind="Kenward-Roger", provenance=provenance)


def same_evaluation(fitted: Design, estimates: Estimates, design: Design, restored: Estimates, method: str) -> None:
    """Share the evaluation at the engine's estimates with the user's design, to avoid computing it again.

    Args:
        fitted: The model that the engine received.
        estimates: Estimates in the coordinates of ``fitted``.
        design: The model in the user's coordinates.
        restored: The same estimates in the user's coordinates.
        method: Criterion of the fit.
    """
    worked_out = estimates.df_method in ("satterthwaite", "kenward-roger") and design.has_covariances
    if not worked_out:
        return
    reml, criterion = method == "REML", LinearCriterion.of(design)
    at = LinearCriterion.of(fitted).at(*covariance_parameters(fitted, estimates), reml=reml)
    if at.data is criterion.data:
        criterion.recognise(*covariance_parameters(design, restored), at)
