"""Means of the levels of a grouping factor: of their own rows, of the population, and partially pooled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit

from unimix.analysis.comparisons.predictors import response_note
from unimix.analysis.means.reference_grid import fitted_frame, given_offset
from unimix.analysis.prediction.distributions import Placed, place_alone
from unimix.analysis.prediction.draws import draws_of_both_parts
from unimix.analysis.prediction.expected import expected_rows
from unimix.analysis.prediction.predict import predict
from unimix.analysis.summaries.partial_pooling import the_group
from unimix.distributions.random_responses import mean_of
from unimix.errors import OptionError, did_you_mean, listing
from unimix.fitted.model import interval_level, is_sampled
from unimix.fitted.table_result import TableResult
from unimix.likelihood.lmm.weights import row_copies
from unimix.parallel.jobs import check_seed
from unimix.stats.inference import checked_level
from unimix.stats.predictor import PredictorRows

if TYPE_CHECKING:
    from unimix.design.arrays import Design
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]

DRAWS, BATCH = 1000, 50
"""Number of draws of the coefficients from which intervals are computed, and of those that are worked on at once."""


def level_means(
    fit: FittedModel,
    group: str | None = None,
    *,
    at: Mapping[str, Any] | None = None,
    ci_level: float | None = None,
    seed: int = 0,
) -> TableResult:
    """Mean response of each level of a grouping factor: of its own rows, and partially pooled, side by side.

    All means of a level are averages over the level's own rows, so that they differ in what they borrow and not in the
    rows they stand for: ``raw`` is the mean of its responses (no pooling), ``population`` that of the expected
    responses by the fixed effects alone, and ``partial`` that of the expected responses with the group effects.
    Averages weigh rows by their numbers of trials or weights.

    Args:
        group: Name of the grouping factor; optional if the model has only one.
        at: Values of predictors, one for each name, at which all rows are set, so that levels are compared at equal
            values; the other predictors keep the rows' own. Raw means are those of other values then, and left out.
        ci_level: Probability of the intervals; None takes that of the fit.
        seed: Seed of the 1000 draws from the joint error of fixed and group effects that give the intervals; a sampler
            has its own draws.

    Returns:
        ``.table`` with index level, in the order of the levels: columns rows, raw, raw_se (standard deviation of its
        responses divided by the root of their number, where a row of weight w counts as w responses unless weights are
        precisions; NaN for one response), population, partial, lower, upper (of ``partial``), all in units of the
        response.

    Raises:
        DataError: If the model has no such grouping factor, a value was not fitted, or the result was loaded without
            its data.
        OptionError: If ``at`` names no predictor.
        UnsupportedModelError: If the dispersion has a formula, or the data are separated.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
        >>> fit.level_means().table[["raw", "population", "partial"]].round(1).head(3)
                   raw  population  partial
        level
        308      342.1       298.5    339.3
        309      215.2       298.5    220.7
        310      231.0       298.5    235.4
        >>> fit.level_means(at={"Days": 0}).table[["population", "partial"]].round(1).head(2)
               population  partial
        level
        308         251.4    292.2
        309         251.4    173.6
    """
    check_seed(seed)
    level = interval_level(fit, ci_level)
    checked_level(level)
    group = the_group(fit, group)
    design = fit.design()
    block = next(b for b in design.blocks if b.group == group)
    size = design.trials if design.trials is not None else design.weights
    weights = np.ones(design.n) if size is None else size
    codes, count = block.codes, block.n_levels
    total = np.bincount(codes, weights, count)

    def average(values: FloatArray) -> FloatArray:
        """Weighted means per level, shape (..., L), of values per row, shape (..., n)."""
        flat = np.atleast_2d(values) * weights
        return np.asarray([np.bincount(codes, row, count) / total for row in flat])

    rows_at = _rows(fit, design, at or {})
    draws, gamma = draws_of_both_parts(fit, DRAWS, seed=seed)
    lacking = "zero" in fit.parts and gamma is None and not is_sampled(fit)
    known = "variances and probabilities of structural zeros" if lacking else "variances"
    means = []
    for start in range(0, len(draws), BATCH):
        of = slice(start, start + BATCH)
        eta = rows_at.predictor.under(draws.beta[of], tuple(e[of] for e in draws.effects))
        parameters = np.asarray([p[of][:, None] for p in draws.parameters.T])
        share = rows_at.share
        if gamma is not None and rows_at.zero is not None:
            share = expit(-(gamma[of] @ rows_at.zero.T))
        means.append(average(mean_of(fit.family, eta, parameters) * share))
    tail = 0.5 - level / 2
    lower, upper = np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0)
    rows = np.bincount(codes, minlength=count)
    copies = row_copies(fit.family, design.weights)
    responses = rows if copies is None else np.bincount(codes, copies, count)
    raw = average(design.y)[0]
    squared = np.bincount(codes, weights * (design.y - raw[codes]) ** 2, count) / total
    with np.errstate(divide="ignore", invalid="ignore"):
        # s^2 / n with s^2 = n / (n - 1) times the mean square
        raw_se = np.where(responses > 1, np.sqrt(squared / (responses - 1)), np.nan)
    columns = {
        "rows": rows,
        "raw": raw,
        "raw_se": raw_se,
        "population": average(rows_at.population)[0],
        "partial": average(rows_at.partial)[0],
        "lower": lower,
        "upper": upper,
    }
    notes = [f"{100 * level:g}% intervals of partial, given the estimated {known}, by {len(draws)} draws."]
    if fit.fixed.interval == "credible":
        notes = [f"{100 * level:g}% credible intervals of partial."]
    notes += [note] if (note := response_note(fit, design)) else []
    if at:
        columns = {n: v for n, v in columns.items() if not n.startswith("raw")}
        notes.append(f"All rows at {', '.join(f'{n} = {v}' for n, v in at.items())}.")
    table = pd.DataFrame(columns, index=pd.Index([str(v) for v in block.levels], name="level"))
    return TableResult(table, notes, f"Means of {group}, each over its own rows")


@dataclass(frozen=True)
class _Rows:
    """The rows over which means are taken.

    Attributes:
        predictor: The linear predictor of n rows.
        zero: Columns of the zero inflation, shape (n, r), or None.
        share: Probability that a row is no structural zero, shape (n,), or 1.
        population: Expected responses by the fixed effects alone, shape (n,).
        partial: Expected responses with the group effects, shape (n,).
    """

    predictor: PredictorRows
    zero: FloatArray | None
    share: FloatArray | float
    population: FloatArray
    partial: FloatArray


def _rows(fit: FittedModel, design: Design, at: Mapping[str, Any]) -> _Rows:
    """The rows that were fitted, with some predictors at other values."""
    if not at:
        zero = fit.rows.zero_probability
        share = 1.0 if zero is None else 1.0 - np.asarray(zero)
        population = np.asarray(predict(fit, level="population"))
        columns = None if design.zero is None else design.zero.x
        return _Rows(PredictorRows.of(design), columns, share, population, np.asarray(fit.fitted))
    encoding = fit.model.encoding
    known = [n for n in encoding.variables if n not in encoding.groupings and n in design.columns]
    strange = [n for n in at if n not in known]
    if strange:
        raise OptionError(
            f"at={{{strange[0]!r}: ...}} is not a predictor of this model.{did_you_mean(strange[0], known)} "
            f"Predictors: {listing(known) or 'none'}."
        )
    several = [n for n, v in at.items() if not np.isscalar(v) or (isinstance(v, float) and np.isnan(v))]
    if several:
        raise OptionError(f"at={{{several[0]!r}: {at[several[0]]!r}}}: give one value, at which all rows are set.")
    offset = given_offset(fit, design)
    rows = encoding.without_given_offset().transform(fitted_frame(design).assign(**at), with_groups=True)
    rows.check_estimable(fit.model.aliased)
    rows = rows if offset is None else replace(rows, offset=rows.offset + offset)
    placed = Placed(rows, tuple(own.among(b.levels) for b, own in zip(fit.random, rows.levels, strict=True)))
    part = fit.parts.get("zero")
    share = 1.0 if part is None or rows.zero is None else expit(-(rows.zero @ part.estimate))
    population = expected_rows(fit, place_alone(fit, rows)) * share
    return _Rows(placed.predictor, rows.zero, share, population, expected_rows(fit, placed) * share)


__all__ = ["level_means"]
