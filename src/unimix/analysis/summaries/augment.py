"""Rows of data with their fitted values and residuals."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.prediction.draws import conditional_at
from unimix.analysis.prediction.expected import is_curved_posterior
from unimix.analysis.prediction.predict import predict
from unimix.design.frames import one_row, to_pandas
from unimix.distributions.log_density import unit_deviance
from unimix.errors import DataError, OptionError, UnsupportedModelError, listing
from unimix.fitted.correlated import refuse_correlated
from unimix.fitted.model import has_design
from unimix.fitted.rebuild_design import with_data
from unimix.fitted.smooth_parts import mixed_form
from unimix.likelihood.lmm.weights import counted_rows
from unimix.likelihood.response import row_log_likelihood
from unimix.stats.cooks_distance import cooks_distance, standardized
from unimix.stats.joint_error import leverage

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]


def augment_rows(fit: FittedModel, *, full: bool = False) -> pd.DataFrame:
    """The rows used, with columns response, ``.fitted``, ``.resid``, ``.fixed``.

    The index is that of the data, or the position of the rows.

    Args:
        fit: The result.
        full: Whether to add the columns of :func:`influence_columns`.
    """
    rows = fit.rows
    columns = {
        fit.model.response: np.array(rows.observed),
        ".fitted": np.array(fit.fitted),
        ".resid": rows.observed - fit.fitted,
        ".fixed": np.array(predict(fit, level="population")),
    }
    if full:
        columns |= influence_columns(fit)
    positions = pd.Index(_places(fit), name="row")
    return pd.DataFrame(columns, index=positions if rows.labels is None else rows.labels.index())


def influence_columns(fit: FittedModel) -> dict[str, FloatArray]:
    """Columns that broom adds to fitted values and residuals, shapes (n,).

    Args:
        fit: The result.

    Returns:
        ``.eta`` (linear predictor), ``.mu`` (expected response), ``.offset``, ``.weights`` (or trials), ``.wtres``
        (Pearson residuals); of linear models, and of generalised ones without group effects whose family has deviance
        residuals, also ``.hat``, ``.std.resid`` and ``.cooksd``.

    Raises:
        UnsupportedModelError: If the model has zero inflation or a dispersion formula.
        DataError: If the data are needed and the result does not hold them.
    """
    refuse_correlated(fit, "The leverage of rows", "Use fit.fitted and fit.residuals().")
    if fit.parts:
        raise UnsupportedModelError(
            f"Weighted residuals and leverages are not defined for a model with {listing(fit.parts)}: fit.augment() "
            "gives fitted values and plain residuals."
        )
    fit = mixed_form(fit)
    design, rows = fit.design(), fit.rows
    weights = rows.trials if rows.trials is not None else rows.weights
    pearson = fit.residuals("pearson")
    columns = {
        ".eta": np.array(rows.linear_predictor),
        ".mu": np.array(fit.fitted),
        ".offset": np.zeros(design.n) if design.offset is None else np.array(design.offset),
        ".weights": np.ones(design.n) if weights is None else np.array(weights),
        ".wtres": pearson,
    }
    family = fit.family
    deviance = unit_deviance(family, fit.dispersion_parameters, rows.observed, fit.fitted)
    if (fit.random and not family.is_linear) or deviance is None:
        return columns
    at = conditional_at(fit, design)
    if not family.is_linear:
        expected = row_log_likelihood(design, fit.dispersion_parameters, rows.linear_predictor).expected
        at = replace(at, weight=expected)
    hat = leverage(at, design)
    if family.is_linear:
        dispersion = fit.sigma**2
    elif family.parameters in (("sigma",), ("dispersion",)):
        df_residual = counted_rows(family, design.n, rows.weights) - design.p
        dispersion = float(np.sum(pearson**2) / df_residual) if df_residual > 0 else np.nan
    else:
        dispersion = 1.0
    columns[".hat"] = hat
    columns[".std.resid"] = standardized(fit.residuals("deviance"), hat, dispersion)
    columns[".cooksd"] = cooks_distance(pearson, hat, dispersion, design.p)
    return columns


def augment_data(
    fit: FittedModel, data: Any, new_levels: Literal["error", "population"], *, full: bool = False
) -> pd.DataFrame:
    """A copy of the data with ``.fitted``, ``.resid`` and ``.fixed``.

    Args:
        fit: The result.
        data: The data that were fitted, in which dropped rows get NaN, or new rows.
        new_levels: Treatment of levels that were not fitted: error or population.
        full: Whether to add the columns of :func:`influence_columns`; not for new rows.

    Raises:
        OptionError: If ``full`` is asked of new rows.
    """
    data = one_row(data)
    table = to_pandas(data)
    observed = fit.model.encoding.response(data)
    if _is_fitted_to(fit, table, observed):
        rows = augment_rows(with_data(fit, data) if full and not has_design(fit) else fit, full=full)
        for column in rows.columns[1:]:
            values = np.full(len(table), np.nan)
            values[_places(fit)] = rows[column]
            table[column] = values
        return table
    if full:
        raise OptionError(
            "full=True adds weights, leverages and Cook's distances of the rows that were fitted, and these are new "
            "rows. Type fit.augment(data) without it."
        )
    fitted = predict(fit, data, new_levels=new_levels)
    table[".fitted"] = fitted
    table[".resid"] = np.nan if observed is None else observed - fitted
    table[".fixed"] = predict(fit, data, level="population")
    return table


def _places(fit: FittedModel) -> npt.NDArray[np.int64]:
    return np.array(fit.rows.index, dtype=np.int64)


def _is_fitted_to(fit: FittedModel, table: pd.DataFrame, observed: FloatArray | None) -> bool:
    """Whether these are the rows that were fitted, dropped ones included: same responses, same fitted values."""
    if observed is None or len(table) != fit.model.n_obs + fit.model.n_dropped:
        return False
    places = _places(fit)
    if not np.allclose(observed[places], fit.rows.observed, rtol=1e-9, atol=0.0):
        return False
    # the mean over draws may be slow, or the draws may not be there: the linear predictor tells rows apart as well
    on_link = is_curved_posterior(fit)
    known = fit.rows.linear_predictor if on_link else fit.fitted
    try:
        predicted = predict(fit, table.iloc[places], kind="link" if on_link else "response")
    except DataError:  # the data lack a column of the offset, or have other levels
        return False
    size = float(np.ptp(known if on_link else fit.rows.observed))
    return bool(np.allclose(predicted, known, rtol=1e-7, atol=1e-7 * size))


def augment(
    fit: FittedModel,
    newdata: Any = None,
    *,
    new_levels: Literal["error", "population"] = "error",
    full: bool = False,
) -> pd.DataFrame:
    """Rows with broom's columns ``.fitted``, ``.resid`` (observed minus fitted) and ``.fixed`` (population level).

    Args:
        newdata: The data that were fitted, or new rows. None gives the rows used, with the response as the only other
            column.
        new_levels: Treatment of levels of new rows that were not fitted: error, or population (their effects are zero).
        full: Whether to add, for the rows that were fitted, ``.eta``, ``.mu``, ``.offset``, ``.weights`` (or trials)
            and ``.wtres`` (Pearson residuals), and for linear models and generalised ones without group effects also
            ``.hat``, ``.std.resid`` and ``.cooksd``. The cost is about that of a prediction with intervals.

    Returns:
        Without data, one row per row used, with the index of the pandas frame that was fitted (else row positions).
        With data, a pandas copy of them with the three columns: NaN for rows that the fit dropped; for new rows,
        predictions, and ``.resid`` if the response is known.

    Raises:
        DataError: If new rows lack columns or have unknown levels, or ``full`` is asked of a loaded result without
            data.
        OptionError: If ``full`` is asked of new rows.
        UnsupportedModelError: If ``full`` is asked of a model with zero inflation or a dispersion formula.

    Example:
        >>> import unimix as um
        >>> sleep = um.load_dataset("sleepstudy")
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", sleep)
        >>> fit.augment(sleep).round(2).head(3)
           Reaction  Days Subject  .fitted  .resid  .fixed
        0    249.56     0     308   292.19  -42.63  251.41
        1    258.70     1     308   302.66  -43.95  261.87
        2    250.80     2     308   313.12  -62.32  272.34
    """
    if newdata is None:
        return augment_rows(fit, full=full)
    return augment_data(fit, newdata, new_levels, full=full)


__all__ = ["augment", "augment_data", "augment_rows", "influence_columns"]
