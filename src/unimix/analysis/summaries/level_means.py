"""Means of the levels of a grouping factor: of their own rows, of the population, and partially pooled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.prediction.draws import draws_of_both_parts
from unimix.analysis.prediction.predict import predict
from unimix.analysis.summaries.partial_pooling import the_group
from unimix.distributions.random_responses import mean_of
from unimix.fitted.model import interval_level, is_sampled
from unimix.fitted.table_result import TableResult
from unimix.likelihood.lmm.weights import row_copies
from unimix.parallel.jobs import check_seed
from unimix.stats.inference import checked_level
from unimix.stats.predictor import linear_predictors

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]

DRAWS, BATCH = 1000, 50
"""Number of draws of the coefficients from which intervals are computed, and of those that are worked on at once."""


def level_means(
    fit: FittedModel, group: str | None = None, *, ci_level: float | None = None, seed: int = 0
) -> TableResult:
    """Mean response of each level of a grouping factor: of its own rows, and partially pooled, side by side.

    All means of a level are averages over the level's own rows, so that they differ in what they borrow and not in the
    rows they stand for: ``raw`` is the mean of its responses (no pooling), ``population`` that of the expected
    responses by the fixed effects alone, and ``partial`` that of the expected responses with the group effects.
    Averages weigh rows by their numbers of trials or weights.

    Args:
        group: Name of the grouping factor; optional if the model has only one.
        ci_level: Probability of the intervals; None takes that of the fit.
        seed: Seed of the 1000 draws from the joint error of fixed and group effects that give the intervals; a sampler
            has its own draws.

    Returns:
        ``.table`` with index level, in the order of the levels: columns rows, raw, raw_se (standard deviation of its
        responses divided by the root of their number; NaN for one row), population, partial, lower, upper (of
        ``partial``), all in units of the response.

    Raises:
        DataError: If the model has no such grouping factor, or the result was loaded without its data.
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

    draws, share = draws_of_both_parts(fit, DRAWS, seed=seed)
    zero = fit.parts.get("zero")
    only = zero is not None and len(share) == 1 and not is_sampled(fit)
    known = "variances and probabilities of structural zeros" if only else "variances"
    means = []
    for start in range(0, len(draws), BATCH):
        of = slice(start, start + BATCH)
        eta = linear_predictors(design, draws.beta[of], tuple(e[of] for e in draws.effects))
        parameters = np.asarray([p[of][:, None] for p in draws.parameters.T])
        means.append(average(mean_of(fit.family, eta, parameters) * (share[of] if len(share) > 1 else share)))
    tail = 0.5 - level / 2
    lower, upper = np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0)
    population = np.asarray(predict(fit, level="population"))
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
        "population": average(population)[0],
        "partial": average(fit.fitted)[0],
        "lower": lower,
        "upper": upper,
    }
    notes = [f"{100 * level:g}% intervals of partial, given the estimated {known}, by {len(draws)} draws."]
    if fit.fixed.interval == "credible":
        notes = [f"{100 * level:g}% credible intervals of partial."]
    table = pd.DataFrame(columns, index=pd.Index([str(v) for v in block.levels], name="level"))
    return TableResult(table, notes, f"Means of {group}, each over its own rows")


__all__ = ["level_means"]
