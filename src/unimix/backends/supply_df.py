"""Satterthwaite's and Kenward and Roger's degrees of freedom for engines that have none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design
from unimix.design.estimates import Estimates
from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.likelihood.lmm.denominator_df import df_of_contrasts


def supply_df(
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
    criterion = LinearCriterion.of(design)
    made = criterion.at(found.covariances, found.sigma, reml=method == "REML").uncertainty(df_method)
    coefficients = coefficients @ criterion.way_back.coefficients
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


def same_evaluation(fitted: Design, found: Estimates, design: Design, restored: Estimates, method: str) -> None:
    """Tell the user's design that these estimates are those that degrees of freedom were worked out for.

    Args:
        fitted: The model that the engine was given.
        found: In its coordinates.
        design: The model in the user's coordinates.
        restored: The same estimates in these.
        method: The criterion.
    """
    worked_out = found.df_method in ("satterthwaite", "kenward-roger") and bool(design.blocks)
    if not worked_out or any(b.structure != "us" for b in design.blocks):
        return
    reml, own = method == "REML", LinearCriterion.of(design)
    at = LinearCriterion.of(fitted).at(found.covariances, found.sigma, reml=reml)
    if at.data is own.data:
        own.recognise(restored.covariances, restored.sigma, at)
