"""Satterthwaite's and Kenward and Roger's degrees of freedom for engines that have none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design
from unimix.design.estimates import Estimates
from unimix.likelihood.lmm.conditioning import condition
from unimix.likelihood.lmm.denominator_df import df_of_contrasts, kenward_roger, satterthwaite
from unimix.likelihood.lmm.reduced_data import form


def with_degrees(
    found: Estimates, design: Design, method: str, df_method: str, coefficients: npt.NDArray[np.float64]
) -> Estimates:
    """Degrees of freedom of a linear mixed model, where the engine has none of the kind that is asked for.

    Args:
        found: In the coordinates of ``design``.
        design: The model that the engine was given.
        method: The criterion.
        df_method: The kind.
        coefficients: Rows are the contrasts whose degrees of freedom are wanted, shape (p, p).
    """
    wanted = df_method in ("satterthwaite", "kenward-roger") and method in ("REML", "ML")
    if found.df is not None or not (wanted and design.is_linear and design.blocks and design.p and found.converged):
        return found
    if any(b.structure != "us" for b in design.blocks):
        return found
    kenward = df_method == "kenward-roger"
    # Also where the engine was given bare columns: derivatives want well-scaled ones.
    own, way_back = condition(design)
    sigma = found.sigma / way_back.residual
    products = form(own)
    factors = way_back.relative(found.covariances, found.sigma)
    coefficients = coefficients @ way_back.coefficients
    if kenward:
        made = kenward_roger(products, factors, sigma)
    else:
        made = satterthwaite(products, factors, sigma, reml=method == "REML")
    df = df_of_contrasts(made, coefficients)
    if not (np.isfinite(df) & (df > 0)).all():
        told = f"none: the covariance parameters leave {df_method} degrees of freedom undefined; z is reported"
        return replace(found, provenance={**found.provenance, "df": told})
    told = f"{df_method} by unimix, from exact derivatives at {method} estimates"
    found = replace(found, df=df, df_method=df_method, provenance={**found.provenance, "df": told})
    if made.adjusted is None:
        return found
    std_error = np.sqrt(np.diag(coefficients @ made.adjusted @ coefficients.T))
    told = "Kenward and Roger's adjusted covariance matrix, by unimix"
    provenance = {**found.provenance, "std_error": told}
    return replace(found, std_error=std_error, std_error_kind="Kenward-Roger", provenance=provenance)
