"""Predictions of a transformed response, such as ``log(y)``, turned back to the units of its column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.means.scales import Scale, is_transformed
from unimix.analysis.prediction.distributions import Placed, predictor_draws
from unimix.analysis.prediction.draws import coefficient_draws
from unimix.fitted.table_result import TableResult
from unimix.stats.predictor import CELLS, PredictorRows

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]

COLUMNS = ["estimate", "std_error", "lower", "upper"]


def turned_back(fit: FittedModel, kind: str, chosen: Sequence[bool], bias_adjust: bool | float) -> Scale | None:
    """The scale of a transformed response that is turned back; None if there is nothing to turn back."""
    turned = kind == "response" and is_transformed(fit)
    scale = Scale.of(fit, kind, bias_adjust, [not c for c in chosen])
    return scale if turned else None


def with_variances(table: pd.DataFrame, scale: Scale, x: FloatArray | None = None) -> pd.DataFrame:
    """Intervals of linear predictors that hold the error of the variances on which their scale depends, if it is known.

    Args:
        table: Columns estimate, std_error, lower, upper of the linear predictors.
        scale: The scale to which they are turned.
        x: Columns of the fixed effects, shape (n, p); None for a linear model, where the errors are independent.
    """
    eta, plain = table["estimate"].to_numpy(), table["std_error"].to_numpy()
    moved = scale.moved(eta)
    if scale.variances is None or moved is None:
        return table
    wide = scale.variances.widened(plain, moved, x)
    ratio = np.divide(wide, plain, out=np.ones_like(wide), where=plain > 0)
    ends = {end: eta + ratio * (table[end] - eta) for end in ("lower", "upper")}
    return table.assign(std_error=wide, **ends)


def of_posterior(
    fit: FittedModel, at: Placed, scale: Scale, ci_level: float, integrated: Sequence[bool], seed: int
) -> FloatArray:
    """Means, SDs and quantiles of the posterior draws of responses that are turned back, shape (n, 4).

    Rows with missing predictors are NaN.

    Args:
        fit: A posterior with its draws.
        at: The rows; effects with code -1 are zero.
        scale: The scale of the response.
        ci_level: Probability of the intervals.
        integrated: For each block, whether an effect with code -1 is drawn instead.
        seed: Seed of the effects that are drawn.
    """
    tail = 0.5 - ci_level / 2

    def summary(eta: FloatArray) -> FloatArray:
        values = scale.of_draws(eta)
        ends = np.quantile(values, [tail, 1 - tail], axis=0)
        return np.column_stack([values.mean(axis=0), values.std(axis=0, ddof=1), *ends])

    found = np.full((len(at.rows.complete), 4), np.nan)
    if any(integrated):
        found[at.rows.complete] = summary(predictor_draws(fit, at, integrated, fit.status.n_draws or 1, seed)[0])
        return found
    draws, rows = coefficient_draws(fit, fit.status.n_draws or 1), at.predictor
    step, places = max(1, CELLS // len(draws.beta)), np.flatnonzero(at.rows.complete)
    for start in range(0, len(places), step):
        part = slice(start, start + step)
        offset = rows.offset if np.ndim(rows.offset) == 0 else np.asarray(rows.offset)[part]
        some = PredictorRows(rows.x[part], offset, [z[part] for z in rows.z], [c[part] for c in rows.codes])
        found[places[part]] = summary(some.under(draws.beta, draws.effects))
    return found


def in_units_of_the_column(
    plain: FloatArray | TableResult, back: Scale, drawn: FloatArray | None
) -> FloatArray | TableResult:
    """Predictions of a transformed response, turned back; the ends of intervals are those of the same quantiles.

    Args:
        plain: Predictions of the transformed response.
        back: The scale to which they are turned.
        drawn: What :func:`of_posterior` returned, for a posterior with draws; else None.
    """
    if not isinstance(plain, TableResult):
        return back.mean(plain) if drawn is None else np.asarray(drawn[:, 0])
    at, quantiles = plain.table["estimate"].to_numpy(), " prediction intervals " in plain.notes[0]
    if drawn is not None and not quantiles:
        return TableResult(pd.DataFrame(drawn, columns=COLUMNS, index=plain.table.index), [*plain.notes, back.note])
    table = plain.table.copy() if quantiles else with_variances(plain.table, back)
    table["std_error"] *= np.abs(back.slope(at))
    table["lower"], table["upper"] = back.interval(table[["lower", "upper"]].to_numpy(), at, quantiles=quantiles)
    table["estimate"] = back.mean(at) if drawn is None else drawn[:, 0]
    return TableResult(table, [*plain.notes, back.note])


__all__ = ["in_units_of_the_column", "of_posterior", "turned_back", "with_variances"]
