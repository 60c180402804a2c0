"""Residuals of every kind, from observed values and linear predictors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unimix.distributions.family import Family
from unimix.distributions.log_density import response_variance, unit_deviance
from unimix.distributions.random_responses import location_of, mean_of, mean_slope
from unimix.errors import OptionError, listing
from unimix.fitted.schema import ResidualPartResult, Rows
from unimix.likelihood.lmm.weights import counted_rows

FloatArray = npt.NDArray[np.float64]
KINDS = ("response", "pearson", "standardized", "deviance", "working")


def mean(family: Family, parameters: FloatArray, rows: Rows, *, groups: bool = True) -> FloatArray:
    """Expected response per row, zero inflation included, shape (n,); of a posterior its posterior mean.

    Args:
        family: Distribution and link.
        parameters: Dispersion parameters, shape (k,).
        rows: Linear predictors and, of a posterior under a curved link, expected responses.
        groups: Whether the group effects are part of it.
    """
    known = rows.expected if groups else rows.population_expected
    if known is not None:
        return known
    expected = mean_of(family, rows.linear_predictor if groups else rows.population_predictor, parameters)
    return expected if rows.zero_probability is None else expected * (1.0 - rows.zero_probability)


def dispersion(family: Family, parameters: FloatArray) -> float:
    """Factor of the variance that R's Pearson residuals leave out: sigma^2, the dispersion of a gamma model; or 1."""
    if family.name == "gaussian":
        return float(parameters[0] ** 2)
    scaled = family.parameters == ("dispersion",) and family.response == "positive"
    return float(parameters[0]) if scaled else 1.0


def residuals(family: Family, parameters: FloatArray, rows: Rows, kind: str) -> FloatArray:
    """Residuals given the group effects.

    Args:
        family: Distribution and link.
        parameters: Dispersion parameters.
        rows: Observed values and linear predictors.
        kind: One of :data:`KINDS`.

    Returns:
        Shape (n,). Pearson residuals are divided by the root of the variance function and multiplied by the root of
        the weight (or trials), without the dispersion, as in R; standardized ones with it.

    Raises:
        OptionError: For an unknown kind, or one that the family does not have.
    """
    if kind not in KINDS:
        raise OptionError(f"kind={kind!r}: choose {listing(map(repr, KINDS))}.")
    mu = mean(family, parameters, rows)
    plain = rows.observed - mu
    if kind == "response":
        return plain
    if rows.zero_probability is not None:
        raise OptionError(f"kind={kind!r} is not defined with zero inflation: choose 'response'.")
    if kind == "working":
        return np.asarray(plain / mean_slope(family, rows.linear_predictor, parameters))
    if rows.dispersion is not None and kind in ("pearson", "standardized"):  # of a linear model; see refuse_kind
        return np.asarray(plain * (1.0 if rows.weights is None else np.sqrt(rows.weights)) / rows.dispersion)
    weights = rows.trials if rows.trials is not None else rows.weights
    root = np.ones_like(plain) if weights is None else np.sqrt(weights)
    location = location_of(family, rows.linear_predictor)
    scale = dispersion(family, parameters)
    if kind == "deviance":
        unit = unit_deviance(family, parameters, rows.observed, mu)
        if unit is None:
            raise OptionError(f"The {family.name} family has no deviance residuals: choose 'pearson' or 'response'.")
        return np.asarray(np.sign(plain) * root * np.sqrt(unit))
    if family.name == "student_t":
        unit_variance = np.ones_like(mu)
        scale = float(parameters[0] ** 2)
    else:
        unit_variance = response_variance(family, parameters, location, rows.trials) / scale
        unit_variance = unit_variance if rows.trials is None else unit_variance * rows.trials
    # An outcome that is certain (mu rounds to 0 or 1) and occurs has no residual.
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(np.where(plain == 0, 1.0, unit_variance))
        return np.asarray(plain * root / spread / (np.sqrt(scale) if kind == "standardized" else 1.0))


def residual_deviance(family: Family, parameters: FloatArray, rows: Rows) -> float:
    """Sum of squared deviance residuals given the group effects; NaN where the model has no such residuals."""
    if family.response == "ordered" or rows.zero_probability is not None or not np.isfinite(parameters).all():
        return float("nan")
    mu = mean(family, parameters, rows)
    unit = unit_deviance(family, parameters, rows.observed, mu)
    if unit is None:
        return float("nan")
    weights = rows.trials if rows.trials is not None else rows.weights
    return float(np.sum(unit if weights is None else weights * unit))


def refuse_kind(kind: str, *, modelled: bool, residual: ResidualPartResult | None) -> None:
    """Refuse residuals that are divided by a standard deviation, where there are several.

    Args:
        kind: Kind of residuals.
        modelled: Whether the dispersion has a formula for which the kind is not defined.
        residual: Covariance of the residuals, or None.

    Raises:
        OptionError: If the residuals are not defined.
    """
    if kind == "response":
        return
    if modelled:
        raise OptionError(f"kind={kind!r} is not defined where the dispersion has a model: choose 'response'.")
    if residual is not None and len(residual.sd) > 1:
        raise OptionError(f"kind={kind!r} is not defined where residuals have several variances: choose 'response'.")


def pearson_dispersion(family: Family, parameters: FloatArray, rows: Rows, n_parameters: int) -> float:
    """Pearson chi-squared over its degrees of freedom, n - k: above 1 means overdispersion; NaN without any left.

    Where weights count copies of rows, n is their sum.
    """
    df_residual = counted_rows(family, len(rows.observed), rows.weights) - n_parameters
    if df_residual <= 0 or rows.zero_probability is not None:
        return float("nan")
    return float(np.sum(residuals(family, parameters, rows, "pearson") ** 2) / df_residual)
