"""Marginal means, slopes and tests of terms, pooled over imputed data sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.comparisons.predictors import Predictors
from unimix.analysis.means.marginal_means import MarginalMeans
from unimix.analysis.means.reference_grid import PopulationRows
from unimix.analysis.means.scales import Scale, is_transformed, total_variance
from unimix.analysis.tests.anova import NO_TERMS, term_hypotheses
from unimix.errors import DataError
from unimix.fitted.criterion import column_mean, support_arrays
from unimix.fitted.table_result import TableResult
from unimix.result import FitResult
from unimix.stats.delta import Linear
from unimix.workflows.imputation.inference import PooledInference, pooled, stacked

FloatArray = npt.NDArray[np.float64]


class RowsOfAll(PopulationRows):
    """Rows of all columns of m fits beside each other, of which each fit must determine its own part."""

    def __init__(self, each: Sequence[PopulationRows], sizes: Sequence[int]) -> None:
        self.each, self.ends = tuple(each), np.cumsum(sizes)[:-1]
        self.aliased = each[0].aliased

    def _parts(self, x: FloatArray) -> list[FloatArray]:
        return np.split(x, self.ends, axis=1)

    def lacks(self, x: FloatArray) -> npt.NDArray[np.bool_]:
        """Whether the estimates of a fit do not determine each of the rows, shape (n,)."""
        lacking = [rows.lacks(part) for rows, part in zip(self.each, self._parts(x), strict=True)]
        return np.asarray(np.any(lacking, axis=0))

    def outside(self, x: FloatArray) -> FloatArray:
        """Parts of the rows that the estimates of some fit do not determine, shape (n, d)."""
        return np.hstack([rows.outside(part) for rows, part in zip(self.each, self._parts(x), strict=True)])

    def fitted(self, rows: Linear, what: str) -> Linear:
        """The first fit's columns that were fitted; refused if a fit does not determine the rows."""
        made = [
            one.fitted(Linear(part, rows.offset), what)
            for one, part in zip(self.each, self._parts(rows.x), strict=True)
        ]
        return made[0]


def common_values(fits: Sequence[FitResult], at: Mapping[str, Any] | None) -> tuple[dict[str, Any], list[str]]:
    """Values of the grid's numeric predictors: those asked for, and else means over all rows and imputations.

    Returns:
        The values by name, and the names of the predictors whose means differ between imputations.
    """
    first = fits[0]
    design = support_arrays(first)
    factors = Predictors.of(first, design).levels
    names = [n for n in first.model.encoding.predictors if n in design.columns and n not in factors]
    each = {n: [column_mean(fit, n) for fit in fits] for n in names if n not in (at or {})}
    means = {n: float(np.mean(values)) for n, values in each.items()}
    return {**means, **(at or {})}, [n for n, values in each.items() if np.ptp(values) > 0]


def pooled_means(
    fits: Sequence[FitResult],
    inference: PooledInference,
    asked: Mapping[str, Any] | None,
    make: Callable[[FitResult, Mapping[str, Any]], MarginalMeans],
) -> MarginalMeans:
    """Means or slopes of one grid in every fit, as linear functions of the coefficients of all fits.

    Args:
        fits: The fits.
        inference: Their pooled inference.
        asked: Values of predictors that the user gave.
        make: Function that makes the means of one fit at given values of the predictors.

    Raises:
        DataError: If the levels of a factor differ between the data sets.
        UnsupportedModelError: If the means of a fit tend to infinity or to zero.
    """
    values, varying = common_values(fits, asked)
    each = [make(fit, values) for fit in fits]
    first = each[0]
    if any(not one.levels.equals(first.levels) for one in each[1:]):
        raise DataError(
            "The levels of a factor differ between the imputed data sets, so that means have no counterpart in each. "
            "Give the column the same categories in every data set."
        )
    if first.kind == "response" and (first.what == "slope" or fits[0].parts.keys() & {"zero", "thresholds"}):
        # these are functions of the means or slopes of each fit, which have taken the place of its coefficients
        inference = pooled(tuple(one._inference for one in each))
    # without the columns of the variances, which are pooled as if they were known
    own = [one.functions.weights[:, : len(part.beta)] for one, part in zip(each, inference.each, strict=True)]
    functions = inference.functions(stacked(own))
    empty, whole = np.any([one._empty for one in each], axis=0), [one._whole for one in each]
    rows = RowsOfAll([one._rows for one in each], [part.shape[1] for part in whole])
    averaged, scale = [n for n in varying if n not in first.levels], _scale(first.scale, fits)
    note = f"Means of {', '.join(averaged)} are over all imputations." if averaged else ""
    means = replace(
        first,
        functions=functions,
        offset=np.mean([one.offset for one in each], axis=0),
        warned=(*(scale.note if w == first.scale.note else w for w in first.warned), *([note] if note else [])),
        lost=np.any([one.lost for one in each], axis=0),
        scale=scale,
        _whole=stacked(whole),
        _empty=empty,
        _rows=rows,
        _inference=inference,
    )
    means.check_estimable()
    return means


def _scale(scale: Scale, fits: Sequence[FitResult]) -> Scale:
    """The scale of one fit, with the pooled covariances of the groups where it averages over them."""
    if scale.over is None:
        return scale
    covariances = tuple(
        np.mean([np.asarray(fit.random[k].covariance) for fit in fits], axis=0) for k in range(len(fits[0].random))
    )
    return Scale.over_groups(scale.over.at_known_variances(covariances, "they are pooled over the imputations"))


def pooled_spread(fits: Sequence[FitResult], kind: str, bias_adjust: bool | float) -> bool | float:
    """The standard deviation that turns a transformed response back without bias, pooled as variances are."""
    if bias_adjust is not True or kind != "response" or not is_transformed(fits[0]):
        return bias_adjust
    return float(np.sqrt(np.mean([total_variance(fit, [True] * len(fit.random)) for fit in fits])))


def pooled_terms(fits: Sequence[FitResult], inference: PooledInference, chosen: str) -> TableResult:
    """Test each term of the fixed part by D1.

    Args:
        fits: The fits.
        inference: Their pooled inference.
        chosen: Type of the tests: III or II.
    """
    # type II hypotheses depend on a covariance matrix: the pooled one, so that they are the same in every fit
    beta = np.array([one.beta for one in inference.each])
    total = np.mean([one.covariance for one in inference.each], axis=0)
    total += (1 + 1 / len(fits)) * np.atleast_2d(np.cov(beta, rowvar=False))
    alike = [replace(one, covariance=total) for one in inference.each]
    each = [term_hypotheses(fit, one, chosen) for fit, one in zip(fits, alike, strict=True)]
    names, rows = each[0][0], {}
    if not names:
        return TableResult(pd.DataFrame(columns=["F", "p_value"], index=pd.Index([], name="term")), [NO_TERMS])
    for i, name in enumerate(names):
        weights = stacked([hypotheses[i] for _, hypotheses in each])
        statistic, numerator, denominator, p_value = inference.joint_test(weights)
        riv = inference.relative_increase(weights)
        rows[name] = {"F": statistic, "num_df": numerator, "den_df": denominator, "p_value": p_value, "riv": riv}
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.index.name = "term"
    return TableResult(frame, heading=f"Type {chosen} F tests, {inference.joint_words}")


__all__ = ["common_values", "pooled_means", "pooled_spread", "pooled_terms"]
