"""Error variances of predictions of a linear (mixed) model, and their degrees of freedom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unimix.analysis.means.linear_functions import fixed_inference
from unimix.analysis.prediction.distributions import Placed
from unimix.design.dispersion_columns import dispersion_columns
from unimix.design.modelled_variances import residual_cells
from unimix.fitted.correlated import refuse_correlated
from unimix.fitted.criterion import covariances_of, likelihood_arrays
from unimix.fitted.joint_df import satterthwaite_of
from unimix.fitted.smooth_parts import mixed_columns, mixed_form
from unimix.stats.joint_error import conditional, predictor_variance

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
ONLY_POPULATION = "Intervals of population means are there: level='population', interval='confidence'."


def variance_and_df(
    fit: FittedModel, at: Placed, integrated: Sequence[bool], residual: FloatArray | None, new: Any = None
) -> tuple[FloatArray, FloatArray] | None:
    """Error variances of predictions of a linear model, and their degrees of freedom, shapes (n,).

    Satterthwaite's degrees of freedom are 2 v^2 / var(v), where the error variance v is a function of all covariance
    parameters; for a function x'beta of the fixed effects they are those of its t test. The method is that of
    Giesbrecht & Burns (1985), Biometrics 41:477, applied to Henderson's joint error of fixed and group effects.

    Args:
        fit: A linear model that is not a posterior.
        at: The rows to predict; an effect with code -1 is zero in the prediction.
        integrated: For each block, whether the variance of such an effect is part of the prediction's variance.
        residual: Weights of new responses, whose residual variance is then included, shape (n,); None for means.
        new: The rows as they were given, with the variables of a formula of the residual variance.

    Returns:
        Variances and degrees of freedom; None if the result has no degrees of freedom.
    """
    if fit.smooths:
        return variance_and_df(
            mixed_form(fit), _in_mixed_model(fit, at), [*integrated, *(False for _ in fit.smooths)], residual
        )
    kind, x = fit.fixed.df_method, at.rows.x
    if not np.isfinite(np.asarray(fit.fixed.df)).all() or kind not in ("residual", "satterthwaite", "kenward-roger"):
        return None
    fixed_only = residual is None and all((c < 0).all() and not i for c, i in zip(at.codes, integrated, strict=True))
    if fit.residual_part is not None:
        if not fixed_only:
            refuse_correlated(
                fit, "An interval of a prediction with group effects, or of a new response", ONLY_POPULATION
            )
        inference = fixed_inference(fit)
        return np.einsum("np,pr,nr->n", x, inference.covariance, x), inference.df_of(x)
    design = likelihood_arrays(fit)
    kept = at.columns(integrated)

    cells, columns = residual_cells(design), None
    if cells is not None and residual is not None:
        columns = dispersion_columns(fit.model.encoding, new)[at.rows.complete]

    def error(covariances: Sequence[FloatArray], sigma: float, beta_cov: FloatArray) -> FloatArray:
        sds, of_new = np.array([sigma]), np.array(sigma)
        if cells is not None and design.dispersion is not None:  # the last matrix is that of the cells
            gamma, covariances = cells.coefficients(covariances[-1], sigma), covariances[:-1]
            sds = np.exp(design.dispersion.x @ gamma)[None]
            of_new = of_new if columns is None else np.exp(columns @ gamma)
        joint = conditional(design, design.y, covariances, sds, beta_cov)
        variances = np.maximum(predictor_variance(joint, x, kept, at.codes), 0.0)
        return variances if residual is None else variances + of_new**2 / residual

    inference = fixed_inference(fit)
    variance = error(*covariances_of(fit), inference.covariance)
    if kind == "residual":
        return variance, np.full(len(x), float(fit.criteria.df_residual))
    if fixed_only:
        return variance, inference.df_of(x)
    return variance, satterthwaite_of(fit, error, variance if kind == "satterthwaite" else None)


def _in_mixed_model(fit: FittedModel, at: Placed) -> Placed:
    """Rows of a result with smooths as rows of its mixed model, in which curves are effects of one level."""
    x, z, codes = mixed_columns(fit, at.rows.x)
    return Placed(replace(at.rows, x=x, z=(*at.rows.z, *z)), (*at.codes, *codes))


__all__ = ["variance_and_df"]
