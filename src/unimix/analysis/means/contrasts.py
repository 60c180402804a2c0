"""Contrasts of means: their weights, tests and names."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.means.linear_functions import Functions
from unimix.errors import OptionError, did_you_mean, listing
from unimix.stats.multiplicity import METHODS, adjusted_p_values, critical_value

FloatArray = npt.NDArray[np.float64]

RATIOS = {"log": "ratio", "logit": "odds_ratio"}
KNOWN = ("pairwise", "reference", "effects", "consecutive", "poly")
DEFAULTS = {"pairwise": "tukey", "reference": "mvt", "consecutive": "mvt", "effects": "fdr"}
"""Default adjustments by method, as in R's emmeans; other methods have none."""
WITHOUT_INTERVALS = ("holm", "fdr")
"""Adjustments of p values without simultaneous intervals of their own: Bonferroni's intervals are given with them."""


def adjustment(adjust: str | None, method: str) -> str:
    """Check the adjustment of a method's contrasts, and fill in the default.

    Raises:
        OptionError: If the adjustment is unknown, or not defined for these contrasts.
    """
    chosen = adjust or DEFAULTS.get(method, "none")
    if chosen not in METHODS:
        raise OptionError(f"adjust={adjust!r}: choose {listing(METHODS)}.{did_you_mean(chosen, METHODS)}")
    if chosen == "tukey" and method != "pairwise":
        raise OptionError("adjust='tukey' is for pairwise contrasts: choose 'sidak', 'holm' or 'mvt' for others.")
    return chosen


def contrast_table(functions: Functions, shift: FloatArray, adjust: str, family: int, level: float) -> pd.DataFrame:
    """Estimates, tests and intervals of contrasts, adjusted for all of them together.

    Args:
        functions: The contrasts as linear functions of the fixed effects.
        shift: Constants added to the contrasts, shape (m,).
        adjust: Adjustment, one of :data:`unimix.stats.multiplicity.METHODS`.
        family: Number of means that are compared.
        level: Probability of the intervals.
    """
    moved = replace(
        functions,
        estimate=functions.estimate + shift,
        draws=None if functions.draws is None else functions.draws + shift,
    )
    made = moved.table(level)
    if "statistic" not in made:
        return made
    # A contrast that tends to infinity has no test: it counts as one of the contrasts, as the least significant.
    endless = np.isinf(functions.std_error)
    sd = np.where((functions.std_error > 0) & ~endless, functions.std_error, 1.0)
    correlation = functions.covariance / np.outer(sd, sd)
    correlation[endless], correlation[:, endless] = np.eye(len(sd))[endless], np.eye(len(sd))[:, endless]
    statistic = np.where(endless, 0.0, made["statistic"].to_numpy())
    p_value = adjusted_p_values(adjust, statistic, functions.df, correlation, family)
    made["p_value"] = np.where(endless, np.nan, p_value)
    if adjust != "none":
        joint = "bonferroni" if adjust in WITHOUT_INTERVALS else adjust
        reach = _critical_values(joint, level, functions.df, correlation, family)
        made["lower"] = made["estimate"] - reach * made["std_error"]
        made["upper"] = made["estimate"] + reach * made["std_error"]
    return made


def _critical_values(adjust: str, level: float, df: FloatArray, correlation: FloatArray, family: int) -> FloatArray:
    """Critical values, one per contrast, shape (m,); they are interpolated linearly in 1 / df."""
    ends = np.unique([df.min(), df.max()])
    values = [critical_value(adjust, level, float(d), correlation, family) for d in ends]
    if len(ends) == 1:
        return np.full(len(df), values[0])
    if ends[0] < 0.8 * ends[1]:
        return np.array([critical_value(adjust, level, float(d), correlation, family) for d in df])
    return np.interp(-1 / df, -1 / ends, values)


def as_ratios(made: pd.DataFrame, name: str, draws: FloatArray | None = None) -> pd.DataFrame:
    """Differences of logarithms as ratios, standard errors by the delta method; means and SDs of draws (S, m)."""
    made = made.copy()
    for column in ("estimate", "lower", "upper"):
        made[column] = np.exp(made[column])
    made["std_error"] *= made["estimate"]
    if draws is not None:
        ratios = np.exp(draws)
        made["estimate"], made["std_error"] = ratios.mean(axis=0), ratios.std(axis=0, ddof=1)
    return made.rename(columns={"estimate": name})


def _numbers(values: Any) -> FloatArray:
    """Numbers as an array; an array of another shape where they are none."""
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return np.array(np.nan)


def contrast_weights(
    method: str | Mapping[str, Sequence[float]], labels: list[str], reference: Any, sign: str = "-"
) -> dict[str, FloatArray]:
    """Weights of the means for each contrast by name, shapes (m,).

    Args:
        method: One of :data:`KNOWN`, or weights by name.
        labels: Labels of the means.
        reference: Level that ``method="reference"`` compares the others with.
        sign: Sign between two labels: ``-`` for differences, ``/`` for ratios.

    Raises:
        OptionError: If the method or the reference level is unknown, or weights do not sum to zero.
    """
    m = len(labels)
    eye = np.eye(m)
    if isinstance(method, Mapping | pd.DataFrame):
        made = {str(k): _numbers(v) for k, v in method.items()}
        bad = [k for k, v in made.items() if v.shape != (m,) or not abs(v.sum()) <= 1e-9 * np.abs(v).sum()]
        if not made:
            raise OptionError(f"method={{}} names no contrast: choose {listing(map(repr, KNOWN))}, or weights by name.")
        if bad:
            raise OptionError(
                f"The weights of {bad[0]!r} must be {m} numbers that sum to zero, one per mean: {listing(labels)}."
            )
        return made
    match method:
        case "pairwise":
            return {f"{labels[i]} {sign} {labels[j]}": eye[i] - eye[j] for i, j in itertools.combinations(range(m), 2)}
        case "reference":
            if reference is not None and str(reference) not in labels:
                raise OptionError(f"reference={reference!r} is not one of {listing(labels)}.")
            k = 0 if reference is None else labels.index(str(reference))
            return {f"{labels[i]} {sign} {labels[k]}": eye[i] - eye[k] for i in range(m) if i != k}
        case "effects":
            return {f"{labels[i]} {sign} mean": eye[i] - 1 / m for i in range(m)}
        case "consecutive":
            return {f"{labels[i + 1]} {sign} {labels[i]}": eye[i + 1] - eye[i] for i in range(m - 1)}
        case "poly":
            names = ("linear", "quadratic", "cubic", "quartic")[: m - 1]
            grid = np.vander(np.arange(m) - (m - 1) / 2, len(names) + 1, increasing=True)
            q, r = np.linalg.qr(grid)
            return {n: q[:, j + 1] * np.sign(r[j + 1, j + 1]) for j, n in enumerate(names)}
        case _:
            raise OptionError(
                f"method={method!r}: choose {listing(KNOWN)}, or weights by name.{did_you_mean(method, KNOWN)}"
            )


__all__ = ["DEFAULTS", "KNOWN", "RATIOS", "adjustment", "as_ratios", "contrast_table", "contrast_weights"]
