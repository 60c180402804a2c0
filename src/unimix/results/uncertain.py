"""Predictions with their uncertainty: fixed effects, group effects and residual joined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from unimix.errors import DataError, OptionError, did_you_mean, listing
from unimix.model.data import FactorColumn, NumericColumn, as_numbers
from unimix.model.design import Design
from unimix.model.frames import column_labels, one_row, to_pandas
from unimix.model.newdata import predictor_names, trial_numbers
from unimix.model.parse import parse
from unimix.numerics.conditional import predictor_variance
from unimix.numerics.inference import checked_level
from unimix.numerics.links import LINKS
from unimix.numerics.variates import mean_of
from unimix.results.draws import coefficient_draws, conditional_at, dispersion_of, is_sampled
from unimix.results.predictive import Placed, Rows, SampledPredictive, new_effects, of_normal, place

if TYPE_CHECKING:
    from unimix.results.result import FitResult

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

LEVELS = ("group", "population")
NEW = ("error", "population", "sample")


def included(fit: FitResult, level: str | Sequence[str]) -> list[bool]:
    """Which blocks' effects are in a prediction.

    Raises:
        OptionError: For unknown levels or grouping factors.
    """
    groups = [b.group for b in fit.random]
    if isinstance(level, str):
        if level not in LEVELS:
            raise OptionError(
                f"level={level!r}: choose 'group', 'population' or a list of grouping factors."
                f"{did_you_mean(level, LEVELS)}"
            )
        return [level == "group"] * len(groups)
    strange = [g for g in level if g not in groups]
    if strange:
        raise OptionError(
            f"level=[{strange[0]!r}]: not a grouping factor of this model.{did_you_mean(str(strange[0]), groups)} "
            f"Known: {listing(dict.fromkeys(groups)) or 'none'}."
        )
    return [g in level for g in groups]


def predict_interval(
    fit: FitResult,
    data: Any,
    *,
    level: str | Sequence[str],
    new_levels: str,
    interval: str,
    kind: str,
    ci_level: float,
    seed: int,
    fitted: Any = None,
) -> pd.DataFrame:
    """Predictions with intervals, columns estimate, std_error, lower, upper; NaN where a predictor is missing.

    Args:
        fit: The result.
        data: New rows.
        level: group, population, or the grouping factors whose effects are in the prediction.
        new_levels: error, population or sample.
        interval: confidence (of the expected response) or prediction (of a response).
        kind: response or link.
        ci_level: Probability.
        seed: Of the responses that are drawn where there is no closed form.
        fitted: The data that were fitted, for a result that was loaded.

    Raises:
        OptionError: For wrong arguments.
        DataError: For unknown levels.
    """
    checked_level(ci_level)
    if interval not in ("confidence", "prediction"):
        raise OptionError(f"interval={interval!r}: choose 'confidence' or 'prediction'.")
    if interval == "prediction" and kind == "link":
        raise OptionError("A response has no linear predictor: interval='prediction' goes with kind='response'.")
    chosen = included(fit, level)
    at = place(fit, _with_groups(fit, one_row(data), chosen))
    strange = {
        b.group: sorted({str(at.rows.labels[k][i]) for i in np.flatnonzero(at.codes[k] < 0)})
        for k, b in enumerate(fit.random)
        if chosen[k] and (at.codes[k] < 0).any()
    }
    if strange and new_levels == "error":
        told = "; ".join(f"{group}: {listing(levels)}" for group, levels in strange.items())
        raise DataError(
            f"The new data have levels that were not fitted ({told}): new_levels='sample' integrates their effects "
            "out, new_levels='population' sets them to zero."
        )
    found = _sampled if is_sampled(fit) else _estimated
    values = found(fit, at, chosen, new_levels, interval, kind, ci_level, seed, _rows(fit, at, data, seed), fitted)
    table = np.full((len(at.rows.complete), 4), np.nan)
    table[at.rows.complete] = values
    index = data.index if isinstance(data, pd.DataFrame) else None
    return pd.DataFrame(table, columns=["estimate", "std_error", "lower", "upper"], index=index)


def _with_groups(fit: FitResult, data: Any, chosen: list[bool]) -> Any:
    """The data, with a new level of every grouping factor whose effects are left out and whose columns are absent."""
    spec = parse(fit.model.recipe.formula)
    wanted = {b.group for b, c in zip(fit.random, chosen, strict=True) if c}
    needed = {f for t in spec.random if t.group in wanted for f in t.factors}
    have = set(column_labels(data)) | set(predictor_names(fit.model.recipe))
    absent = {f for t in spec.random for f in t.factors} - needed - have
    return to_pandas(data).assign(**dict.fromkeys(absent, "(new)")) if absent else data


def _rows(fit: FitResult, at: Placed, data: Any, seed: int) -> Rows:
    zero = None if "zero" not in fit.parts or at.rows.zero is None else at.rows.zero @ fit.parts["zero"].estimate
    trials = None
    if fit.family.name == "binomial":
        trials = trial_numbers(fit.model.recipe, one_row(data))
        trials = np.ones(int(at.rows.complete.sum())) if trials is None else trials[at.rows.complete]
    return Rows(fit.family, None, trials, zero, seed)


def _estimated(
    fit: FitResult,
    at: Placed,
    chosen: list[bool],
    new_levels: str,
    interval: str,
    kind: str,
    ci_level: float,
    seed: int,
    rows: Rows,
    fitted: Any,
) -> FloatArray:
    """Shape (n, 4) for an engine that estimates."""
    del seed
    design = fit.design(fitted)
    centre = at.rows.x @ fit.fixed.estimate + at.rows.offset
    z, codes = [], []
    for k, block in enumerate(fit.random):
        values, own = at.rows.z[k], at.codes[k]
        modes = np.vstack([block.modes, np.zeros((1, len(block.terms)))])
        unknown = own < 0
        if chosen[k]:
            centre = centre + np.einsum("nq,nq->n", values, modes[own])
            kept = values if new_levels == "sample" or interval == "prediction" else values * ~unknown[:, None]
            z.append(kept)
            codes.append(own)
        else:
            # Of an effect that is left out a prediction interval knows its variance only.
            z.append(values if interval == "prediction" else np.zeros_like(values))
            codes.append(np.full(len(values), -1))
    variance = np.maximum(predictor_variance(conditional_at(fit, design), at.rows.x, z, codes), 0.0)
    reach = float(special.ndtri(0.5 + ci_level / 2))
    if interval == "prediction":
        made = of_normal(rows, centre, variance, dispersion_of(fit))
        lower, upper = made.interval(ci_level)
        return np.column_stack([made.mean, made.spread, lower, upper])
    sd = np.sqrt(variance)
    ends = np.column_stack([centre, centre - reach * sd, centre + reach * sd])
    if kind == "link":
        return np.column_stack([ends[:, 0], sd, ends[:, 1:]])
    mean = mean_of(fit.family, ends) * np.atleast_1d(rows.share)[:, None]
    slope = np.abs(LINKS[fit.family.link].slope(centre)) * rows.share
    return np.column_stack([mean[:, 0], slope * sd, np.sort(mean[:, 1:], axis=1)])


def _sampled(
    fit: FitResult,
    at: Placed,
    chosen: list[bool],
    new_levels: str,
    interval: str,
    kind: str,
    ci_level: float,
    seed: int,
    rows: Rows,
    fitted: Any,
) -> FloatArray:
    """Shape (n, 4) from posterior draws."""
    draws = coefficient_draws(fit, fit.status.n_draws or 1, seed, fitted)
    rng = np.random.default_rng([seed, 5])
    eta = draws.beta @ at.rows.x.T + at.rows.offset
    for k in range(len(fit.random)):
        values, own = at.rows.z[k], at.codes[k] if chosen[k] else np.full(len(eta.T), -1)
        known = np.flatnonzero(own >= 0)
        for j in range(values.shape[1]):
            eta[:, known] += draws.effects[k][:, own[known], j] * values[known, j]
        if interval == "prediction" or (chosen[k] and new_levels == "sample"):
            unknown = np.flatnonzero(own < 0)
            labels = [str(at.rows.labels[k][i]) for i in unknown]
            eta[:, unknown] += new_effects(draws.covariances[k], labels, values[unknown], rng)
    tail = 0.5 - ci_level / 2
    if interval == "prediction":
        made = SampledPredictive(rows, eta, draws.parameters)
        lower, upper = made.interval(ci_level)
        return np.column_stack([made.mean, made.spread, lower, upper])
    shown = eta if kind == "link" else mean_of(fit.family, eta) * rows.share
    lower, upper = np.quantile(shown, [tail, 1 - tail], axis=0)
    return np.column_stack([shown.mean(axis=0), shown.std(axis=0, ddof=1), lower, upper])


def frame_of(design: Design) -> dict[str, Any]:
    """The columns that were fitted, as a mapping of lists."""
    return {
        name: [c.levels[k] for k in c.codes] if isinstance(c, FactorColumn) else as_exact(c)
        for name, c in design.columns.items()
    }


def as_exact(column: NumericColumn) -> Any:
    """Its numbers, whole ones without loss."""
    return as_numbers(column) if column.whole is None else column.whole


__all__ = ["NEW", "frame_of", "included", "predict_interval"]
