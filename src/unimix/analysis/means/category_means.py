"""Marginal means of ordered responses: probabilities of the categories, exceedances, and mean categories.

Predictions without group effects are averaged over the reference grid, as R's emmeans does for ``mode = "prob"``,
``"exc.prob"`` and ``"mean.class"``. Their covariance matrix follows by the delta method from that of the coefficients
and the thresholds (Agresti 2013, Categorical Data Analysis, section 16.1). Intervals are symmetric on the logit scale
between the ends of the range, as those of predictions; contrasts are differences.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from unimix.analysis.means.linear_functions import FixedInference
from unimix.analysis.means.scales import Scale
from unimix.analysis.prediction.categories import CAPTIONS, predictions_at, share_of_range, with_thresholds
from unimix.distributions.family import Cumulative, Family
from unimix.errors import OptionError, listing

if TYPE_CHECKING:
    from unimix.analysis.means.averaging import Average
    from unimix.analysis.means.reference_grid import Grid, PopulationRows
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
CATEGORY = "category"


@dataclass(frozen=True)
class CategoryMeans:
    """Logits of averages of predictions of an ordered response, which take the place of the fixed effects.

    Attributes:
        inference: Inference about functions of the m logits, log((v - a) / (b - v)) of averages v between a and b.
        scale: The scale of the averages.
        levels: Levels of the predictors, and the category unless the averages are mean categories, m rows.
        cell: Number of the cell of the grid that each average belongs to, shape (m,).
    """

    inference: FixedInference
    scale: Scale
    levels: pd.DataFrame
    cell: npt.NDArray[np.int64]


def is_of_categories(family: Family, kind: str, names: list[str]) -> bool:
    """Whether means of this kind are those of an ordered response.

    Raises:
        OptionError: If the kind is for ordered responses and the family is another, or for others and it is ordered; or
            if a predictor has the name of the column of categories.
    """
    kinds = listing(map(repr, CAPTIONS))
    if not isinstance(family, Cumulative):
        if kind in CAPTIONS:
            raise OptionError(
                f"kind={kind!r} is for ordered categories, family='cumulative': choose 'response' or 'link'."
            )
        return False
    if kind not in ("response", "link", *CAPTIONS):
        raise OptionError(f"kind={kind!r}: choose {kinds} or 'link'.")
    if kind == "response":
        raise OptionError(f"kind='response': categories have no mean without scores. Choose {kinds} or 'link'.")
    if kind in CAPTIONS and kind != "mean" and CATEGORY in names:
        raise OptionError(f"kind={kind!r} has a column {CATEGORY!r}, which is a predictor here: rename the predictor.")
    return kind in CAPTIONS


def category_means(
    fit: FittedModel, of_mean: FixedInference, grid: Grid, every: PopulationRows, averages: Average, kind: str
) -> CategoryMeans:
    """Average predictions of an ordered response over a reference grid.

    Args:
        fit: A result of an ordered response.
        of_mean: Inference about the coefficients.
        grid: The reference grid.
        every: Columns at rows of predictors.
        averages: Averages over the rows of the grid.
        kind: probability, exceedance or mean.
    """
    family = fit.family
    assert isinstance(family, Cumulative)  # noqa: S101  the caller has asked
    whole = every.full(grid.frame, "The grid").x
    x = whole if every.span is None else whole[:, every.kept]
    thresholds, joint = with_thresholds(fit, of_mean.covariance)
    found = predictions_at(family, thresholds, x @ of_mean.beta + grid.offset, kind)
    count, cells = len(found.names), len(averages.turn)
    value = np.einsum("cn,mn->cm", averages.turn, found.estimates).reshape(-1)
    by_all = np.einsum("cn,mnj->cmj", averages.turn, found.gradient(x)).reshape(cells * count, -1)
    low, high = found.ends
    share = share_of_range(value, found.ends)
    by_all = by_all / ((high - low) * share * (1 - share))[:, None]  # d logit(s) = ds / (s (1 - s))
    cell = np.repeat(np.arange(cells), count)
    endless = ((averages.turn != 0) @ of_mean.lacks(x) > 0)[cell]
    inference = replace(
        of_mean,
        beta=special.logit(share),
        covariance=by_all @ joint @ by_all.T,
        turn=np.eye(len(share)),
        unbounded=np.eye(len(share))[endless],
    )
    levels = averages.levels.iloc[cell].reset_index(drop=True)
    if kind != "mean":
        levels[CATEGORY] = pd.Categorical(list(found.names) * cells, list(found.names), ordered=True)
    scale = Scale(
        lambda logit: low + (high - low) * special.expit(logit),
        lambda logit: (high - low) * special.expit(logit) * special.expit(-logit),
        name="mean category" if kind == "mean" else "probability",
        note=f"Each is {CAPTIONS[kind]}, without group effects.",
    )
    return CategoryMeans(inference, scale, levels, cell)


__all__ = ["CATEGORY", "CategoryMeans", "category_means", "is_of_categories"]
