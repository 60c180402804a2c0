"""Contrasts of means: their weights, tests and names."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.means.equivalence import equivalence_columns
from unimix.analysis.means.linear_functions import Functions
from unimix.errors import OptionError, did_you_mean, listing
from unimix.stats.direction import direction
from unimix.stats.multiplicity import METHODS, adjusted_p_values, critical_value

FloatArray = npt.NDArray[np.float64]

RATIOS = {"log": "ratio", "logit": "odds_ratio"}
KNOWN = (*("pairwise", "revpairwise", "reference", "effects", "del.eff", "consecutive", "mean_chg", "helmert", "poly"),)
DEFAULTS = {
    **dict.fromkeys(("pairwise", "revpairwise"), "tukey"),
    **dict.fromkeys(("reference", "consecutive", "mean_chg"), "mvt"),
    **dict.fromkeys(("effects", "del.eff"), "fdr"),
}
"""Default adjustments by method, as in R's emmeans; other methods have none."""
SYNONYMS = {
    **dict.fromkeys(("trt.vs.ctrl", "trt.vs.ctrl1", "dunnett", "trt.vs.ctrlk"), "reference"),
    "consec": "consecutive",
    "eff": "effects",
    "tukey": "pairwise",
}
"""Names of the same contrasts in R's emmeans; ``trt.vs.ctrlk`` has the last level as reference."""
ELSEWHERE = {"seq": "'consecutive'", "interaction": "interaction='pairwise', or one method per factor"}
"""Other names of contrasts, and what they are here."""
POLYNOMIALS = ("linear", "quadratic", "cubic", "quartic", "degree 5", "degree 6")
"""Names of polynomial contrasts by degree, as in R's emmeans."""
SIGN = re.compile(r" [-/:] ")
"""Signs that the labels of contrasts have between those of means."""
WITHOUT_INTERVALS = ("holm", "fdr")
"""Adjustments of p values without simultaneous intervals of their own: Bonferroni's intervals are given with them."""


def adjustment(adjust: str | None, method: str) -> str:
    """Check the adjustment of a method's contrasts, and fill in the default.

    Raises:
        OptionError: If the adjustment is unknown, or not defined for these contrasts.
    """
    method = SYNONYMS.get(method, method)
    chosen = adjust or DEFAULTS.get(method, "none")
    if chosen not in METHODS:
        raise OptionError(f"adjust={adjust!r}: choose {listing(METHODS)}.{did_you_mean(chosen, METHODS)}")
    if chosen == "tukey" and method not in ("pairwise", "revpairwise"):
        raise OptionError("adjust='tukey' is for pairwise contrasts: choose 'sidak', 'holm' or 'mvt' for others.")
    if chosen == "dunnettx" and method != "reference":
        raise OptionError("adjust='dunnettx' is for comparisons with a reference: choose 'sidak' or 'mvt' for others.")
    return chosen


def contrast_table(
    functions: Functions,
    shift: FloatArray,
    adjust: str,
    family: int,
    level: float,
    bounds: tuple[float, float] | None = None,
) -> pd.DataFrame:
    """Estimates, tests and intervals of contrasts, adjusted for all of them together.

    A posterior has p_direction in place of tests.

    Args:
        functions: The contrasts as linear functions of the fixed effects.
        shift: Constants added to the contrasts, shape (m,).
        adjust: Adjustment, one of :data:`unimix.stats.multiplicity.METHODS`.
        family: Number of means that are compared.
        level: Probability of the intervals.
        bounds: Bounds of equivalence tests, whose columns are added; None for no such tests.
    """
    moved = replace(
        functions,
        estimate=functions.estimate + shift,
        draws=None if functions.draws is None else functions.draws + shift,
    )
    frame = moved.table(level)
    tested = pd.DataFrame(index=frame.index)
    if bounds is not None:
        tested = equivalence_columns(moved.estimate, moved.std_error, moved.df, moved.draws, bounds, adjust)
    if moved.draws is not None:
        return pd.concat([frame.assign(p_direction=direction(moved.draws)), tested], axis=1)
    frame["p_value"] = contrast_p_values(moved, adjust, family)
    frame.loc[~(functions.std_error > 0), "statistic"] = np.nan  # a constant has no test
    if adjust != "none":
        joint = "bonferroni" if adjust in WITHOUT_INTERVALS else adjust
        reach = _critical_values(joint, level, functions.df, _correlation(moved), family)
        frame["lower"] = frame["estimate"] - reach * frame["std_error"]
        frame["upper"] = frame["estimate"] + reach * frame["std_error"]
    return pd.concat([frame, tested], axis=1)


def contrast_p_values(functions: Functions, adjust: str, family: int) -> FloatArray:
    """P values of contrasts, adjusted for all of them together, shape (m,).

    A contrast that tends to infinity, or is a constant, has no test, NaN: it counts as one of the contrasts, as the
    least significant.
    """
    error = functions.std_error
    untested = np.isinf(error) | ~(error > 0)
    statistic = np.where(untested, 0.0, functions.estimate / np.where(untested, 1.0, error))
    p_value = adjusted_p_values(adjust, statistic, functions.df, _correlation(functions), family)
    return np.where(untested, np.nan, p_value)


def _correlation(functions: Functions) -> FloatArray:
    """Correlation matrix of contrasts, shape (m, m); contrasts that tend to infinity have none with others."""
    endless = np.isinf(functions.std_error)
    sd = np.where((functions.std_error > 0) & ~endless, functions.std_error, 1.0)
    correlation = functions.covariance / np.outer(sd, sd)
    correlation[endless], correlation[:, endless] = np.eye(len(sd))[endless], np.eye(len(sd))[:, endless]
    return np.asarray(correlation)


def _critical_values(adjust: str, level: float, df: FloatArray, correlation: FloatArray, family: int) -> FloatArray:
    """Critical values, one per contrast, shape (m,); they are interpolated linearly in 1 / df."""
    ends = np.unique([df.min(), df.max()])
    values = [critical_value(adjust, level, float(d), correlation, family) for d in ends]
    if len(ends) == 1:
        return np.full(len(df), values[0])
    if ends[0] < 0.8 * ends[1]:
        return np.array([critical_value(adjust, level, float(d), correlation, family) for d in df])
    return np.interp(-1 / df, -1 / ends, values)


def as_ratios(frame: pd.DataFrame, name: str, draws: FloatArray | None = None, unit: float = 1.0) -> pd.DataFrame:
    """Differences of logarithms as ratios, standard errors by the delta method; means and SDs of draws (S, m).

    ``unit`` is the natural logarithm of the logarithms' base.
    """
    frame = frame.copy()
    for column in ("estimate", "lower", "upper"):
        frame[column] = np.exp(unit * frame[column])
    frame["std_error"] *= unit * frame["estimate"]
    if draws is not None:
        ratios = np.exp(unit * draws)
        frame["estimate"], frame["std_error"] = ratios.mean(axis=0), ratios.std(axis=0, ddof=1)
    return frame.rename(columns={"estimate": name})


def _numbers(values: Any) -> FloatArray:
    """Numbers as an array; an array of another shape where they are none."""
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return np.array(np.nan)


def parenthesised(label: str) -> str:
    """A label in parentheses if it has a sign of its own, as ``b - a`` has."""
    return f"({label})" if SIGN.search(label) else label


def contrast_weights(
    method: str | Mapping[str, Sequence[float]],
    labels: list[str],
    reference: Any,
    sign: str = "-",
    scores: Sequence[float] | None = None,
) -> dict[str, FloatArray]:
    """Weights of the means for each contrast by name, shapes (m,).

    Args:
        method: One of :data:`KNOWN`, or weights by name.
        labels: Labels of the means; those with a sign of their own stand in parentheses.
        reference: Level that ``method="reference"`` compares the others with.
        sign: Sign between two labels: ``-`` for differences, ``/`` for ratios.
        scores: Scores of the means for ``method="poly"``; None for equal steps.

    Raises:
        OptionError: If the method or the reference level is unknown, or weights do not sum to zero.
    """
    m, given = len(labels), labels
    eye, labels = np.eye(m), [parenthesised(label) for label in labels]
    if isinstance(method, Mapping | pd.DataFrame):
        weights = {str(k): _numbers(v) for k, v in method.items()}
        bad = [k for k, v in weights.items() if v.shape != (m,) or not abs(v.sum()) <= 1e-9 * np.abs(v).sum()]
        if not weights:
            raise OptionError(f"method={{}} names no contrast: choose {listing(map(repr, KNOWN))}, or weights by name.")
        if bad:
            raise OptionError(
                f"The weights of {bad[0]!r} must be {m} numbers that sum to zero, one each for {listing(given)}."
            )
        return weights
    if method == "trt.vs.ctrlk" and reference is None:
        reference = given[-1]
    match SYNONYMS.get(method, method):
        case "revpairwise":
            return {f"{labels[j]} {sign} {labels[i]}": eye[j] - eye[i] for i, j in itertools.combinations(range(m), 2)}
        case "del.eff":
            return {f"{labels[i]} {sign} mean of others": (eye[i] - 1 / m) * m / (m - 1) for i in range(m)}
        case "mean_chg":
            # the mean after a step minus the mean up to it
            steps = [np.where(np.arange(m) > i, 1 / (m - 1 - i), -1 / (i + 1)) for i in range(m - 1)]
            return {f"after {labels[i]} {sign} up to it": steps[i] for i in range(m - 1)}
        case "helmert":
            # whole numbers, as R's contr.helmert: i times a mean minus the sum of the i before it
            rows = [np.where(np.arange(m) < i, -1.0, np.where(np.arange(m) == i, float(i), 0.0)) for i in range(1, m)]
            return {f"{labels[i]} {sign} mean of earlier (x {i})": rows[i - 1] for i in range(1, m)}
        case "pairwise":
            return {f"{labels[i]} {sign} {labels[j]}": eye[i] - eye[j] for i, j in itertools.combinations(range(m), 2)}
        case "reference":
            if reference is not None and str(reference) not in given:
                raise OptionError(f"reference={reference!r} is not one of {listing(given)}.")
            k = 0 if reference is None else given.index(str(reference))
            return {f"{labels[i]} {sign} {labels[k]}": eye[i] - eye[k] for i in range(m) if i != k}
        case "effects":
            return {f"{labels[i]} {sign} mean": eye[i] - 1 / m for i in range(m)}
        case "consecutive":
            return {f"{labels[i + 1]} {sign} {labels[i]}": eye[i + 1] - eye[i] for i in range(m - 1)}
        case "poly":
            names = POLYNOMIALS[: m - 1]
            return dict(zip(names, _polynomials(m, len(names), scores), strict=True))
        case _:
            hint = f" emmeans' {method} is {ELSEWHERE[method]}." if method in ELSEWHERE else did_you_mean(method, KNOWN)
            raise OptionError(f"method={method!r}: choose {listing(KNOWN)}, or weights by name.{hint}")


def _polynomials(m: int, degree: int, scores: Sequence[float] | None) -> list[FloatArray]:
    """Weights of orthogonal polynomials of degrees 1 to ``degree`` over m means.

    They are the smallest whole numbers for equal steps, as in R's emmeans, and have length one for other scores, as in
    R's ``contr.poly``.
    """
    if scores is not None:
        at = np.asarray(scores, dtype=np.float64)
        if at.shape != (m,) or not np.isfinite(at).all() or len(np.unique(at)) < m:
            raise OptionError(f"scores={scores!r}: give {m} different numbers, one per mean.")
        at = (at - at.mean()) / np.abs(at - at.mean()).max()
        q, r = np.linalg.qr(np.vander(at, degree + 1, increasing=True))
        return [q[:, j] * np.sign(r[j, j]) for j in range(1, degree + 1)]
    # Gram and Schmidt's method in fractions: whole numbers stay exact
    basis = [[Fraction(1)] * m]
    for power in range(1, degree + 1):
        column = [Fraction(i**power) for i in range(m)]
        for done in basis:
            share = Fraction(sum(a * b for a, b in zip(column, done, strict=True))) / sum(a * a for a in done)
            column = [a - share * b for a, b in zip(column, done, strict=True)]
        basis.append(column)
    rows = []
    for column in basis[1:]:
        whole = [int(a * math.lcm(*(v.denominator for v in column))) for a in column]
        rows.append(np.array(whole, dtype=np.float64) / math.gcd(*whole))
    return rows


def interaction_weights(
    methods: Sequence[str], levels: Sequence[list[str]], reference: Any, sign: str, scores: Sequence[float] | None
) -> dict[str, FloatArray]:
    """Weights of contrasts of contrasts: the products of one contrast of each factor.

    Args:
        methods: Method of each factor, or one for all.
        levels: Labels of each factor's levels; the means are all combinations, of which the first factor varies
            fastest.
        reference: Level that ``reference`` compares the others with, as in :func:`contrast_weights`.
        sign: Sign between two labels.
        scores: Scores for ``poly``.

    Raises:
        OptionError: If there is one factor only, or the number of methods is another.
    """
    chosen = [*methods] * len(levels) if len(methods) == 1 else list(methods)
    if len(levels) < 2 or len(chosen) != len(levels):
        raise OptionError(
            f"interaction={list(methods)!r}: give one method for all factors or one for each; the means have "
            f"{len(levels)} factor{'s' if len(levels) != 1 else ''}."
        )
    parts = [contrast_weights(m, names, reference, sign, scores) for m, names in zip(chosen, levels, strict=True)]
    weights = {}
    for last_first in itertools.product(*(p.items() for p in reversed(parts))):
        name = " : ".join(n for n, _ in reversed(last_first))
        weights[name] = functools.reduce(lambda a, b: np.asarray(np.kron(a, b)), [w for _, w in last_first])
    return weights


__all__ = [
    "DEFAULTS",
    "KNOWN",
    "RATIOS",
    "adjustment",
    "as_ratios",
    "contrast_p_values",
    "contrast_table",
    "contrast_weights",
    "interaction_weights",
]
