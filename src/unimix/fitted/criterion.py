"""unimix's own likelihood at the estimates of a fit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design
from unimix.design.modelled_variances import residual_cells
from unimix.design.typed_columns import as_numbers
from unimix.fitted.model import FittedModel
from unimix.fitted.smooth_parts import mixed_form
from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.likelihood.lmm.evaluation import Evaluation


def likelihood_arrays(fit: FittedModel) -> Design:
    """The arrays from which a linear model's likelihood is computed: all rows, or compressed ones.

    They suit whatever depends on the rows through their cross-products within levels only.
    """
    return fit._arrays()


def support_arrays(fit: FittedModel) -> Design:
    """Arrays whose rows are rows of the data: all of them, or some that have every level and span all columns.

    They suit whatever depends on which columns and levels there are; means and frequencies are
    :func:`column_mean` and those of the compression.
    """
    design = fit._arrays()
    return design if design.compression is None else design.compression.support


def moment_arrays(fit: FittedModel) -> Design:
    """Arrays whose columns have the means and covariances of the data: all rows, or a few made for the purpose."""
    design = fit._arrays()
    return design if design.compression is None else design.compression.moments


def column_mean(fit: FittedModel, name: str) -> float:
    """Mean of a numeric predictor over all rows used."""
    compression = fit._arrays().compression
    if compression is not None:
        return compression.means[name]
    return float(as_numbers(fit.design().columns[name]).mean())


def criterion_at(fit: FittedModel) -> tuple[LinearCriterion, Evaluation]:
    """The likelihood criterion of a linear mixed model, and its evaluation at the fit's estimates.

    Args:
        fit: A linear model with group effects or smooths. Posterior means are evaluated by REML.

    Raises:
        DataError: If the result was loaded or unpickled and has not been given its data.
    """
    fit = mixed_form(fit)
    criterion = LinearCriterion.of(likelihood_arrays(fit))
    reml = fit.fixed.interval == "credible" or fit.criteria.criterion == "REML"
    return criterion, criterion.at(*covariances_of(fit), reml=reml)


def has_modelled_variances(fit: FittedModel) -> bool:
    """Whether the fit is a linear model whose residual standard deviations have a formula."""
    return fit.family.is_linear and "dispersion" in fit.parts


def covariances_of(fit: FittedModel) -> tuple[list[npt.NDArray[np.float64]], float]:
    """Covariance parameters as :meth:`.LinearCriterion.at` takes them.

    Returns:
        The covariance matrix of each block, shapes (q, q), and that of the residuals last if they are correlated or
        have several variances, over the times, shape (T, T), or over the cells of
        :mod:`unimix.design.modelled_variances`; and the residual standard deviation, the first if there are several.
    """
    covariances = [np.asarray(b.covariance) for b in fit.random]
    residual = fit.residual_part
    if has_modelled_variances(fit):
        cells = residual_cells(likelihood_arrays(fit))
        assert cells is not None  # noqa: S101  the criterion of other models is not computed
        of_times = None if residual is None else residual.covariance
        matrix, sigma = cells.covariance(fit.parts["dispersion"].estimate, of_times)
        return [*covariances, matrix], sigma
    if residual is None:
        return covariances, fit.sigma
    return [*covariances, residual.covariance], residual.reference_sd
