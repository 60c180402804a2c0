"""Variance components and group effects, pooled over imputed data sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from unimix.analysis.intervals.intervals import Intervals, wald
from unimix.analysis.intervals.parameters import Parameter, parameters_of, values_of
from unimix.fitted.schema import RandomPartResult
from unimix.result import FitResult
from unimix.stats.inference import correlation, wald_interval
from unimix.stats.rubin import pool

FloatArray = npt.NDArray[np.float64]
HOW = (
    "Variances and covariances are means over the imputations; SDs and correlations follow from them. Intervals: "
    "Rubin's rules for log(SD) and atanh(correlation)."
)


def pooled_random(fits: Sequence[FitResult]) -> tuple[RandomPartResult, ...]:
    """Blocks of random effects whose covariance matrices and modes are means over the fits.

    The error variance of a mode follows Rubin's rules; a level that is absent from one of the fits is left out.
    """
    blocks = []
    for k, first in enumerate(fits[0].random):
        same = [fit.random[k] for fit in fits]
        covariance = np.mean([np.asarray(b.covariance) for b in same], axis=0)
        unit = np.mean([np.asarray(b.unit) for b in same], axis=0)
        common = [level for level in first.levels if all(level in b.levels for b in same)]
        places = [[b.levels.index(level) for level in common] for b in same]
        modes = np.array([np.asarray(b.modes)[at] for b, at in zip(same, places, strict=True)])
        within = np.mean([np.asarray(b.mode_covariance)[at] for b, at in zip(same, places, strict=True)], axis=0)
        off = modes - modes.mean(axis=0)
        between = np.einsum("mli,mlj->lij", off, off) / (len(fits) - 1)
        error = within + (1 + 1 / len(fits)) * between
        blocks.append(
            first.model_copy(
                update={
                    "unit": unit,
                    "covariance": covariance,
                    "sd": np.sqrt(np.diag(covariance)),
                    "correlation": correlation(covariance, unit),
                    "levels": tuple(common),
                    "modes": modes.mean(axis=0),
                    "mode_covariance": error,
                    "mode_sd": np.sqrt(np.einsum("lii->li", error)),
                }
            )
        )
    return tuple(blocks)


def pooled_sigma(fits: Sequence[FitResult]) -> float:
    """The square root of the mean residual variance."""
    return float(np.sqrt(np.mean([fit.sigma**2 for fit in fits])))


def intervals_of_scales(fits: Sequence[FitResult], random: tuple[RandomPartResult, ...], ci_level: float) -> Intervals:
    """Wald intervals of SDs, correlations and the residual SD, on the scales of :data:`HOW`.

    The error variance within an imputation is that of the fit's own Wald interval, from the observed information.
    Where a fit has none, because a variance is zero, there is no pooled interval.
    """
    first = fits[0]
    named = [p for p in parameters_of(first) if p.target is not None and p.target.kind != "fixed"]
    estimates = _estimates(first, random, named, fits)
    ends = np.full((len(named), 2), np.nan)
    notes = [HOW]
    reach = float(special.ndtri(0.975))
    tables = [wald(fit, [p.name for p in named], 0.95).table for fit in fits] if named else []
    lacking = []
    for i, p in enumerate(named):
        free = _free(p)
        if p.target is not None and p.target.kind == "scale" and not first.family.is_linear:
            lacking.append(p.name)
            continue
        each = np.array(
            [t.loc[p.name, ["estimate", "lower", "upper"]].to_numpy(dtype=np.float64) for t in tables if t is not None]
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            turned = free[0](each)
        if not np.isfinite(turned).all():
            lacking.append(p.name)
            continue
        error = (turned[:, 2] - turned[:, 1]) / (2 * reach)
        found = pool(turned[:, :1], error[:, None] ** 2, np.full((len(fits), 1), np.inf))
        wide = wald_interval(np.zeros(1), np.ones(1), found.df, ci_level)[1]
        centre = float(free[0](np.array(estimates[i])))
        ends[i] = free[1](centre + float(wide[0] * found.std_error[0]) * np.array([-1.0, 1.0]))
    if lacking:
        notes.append(f"No intervals of {', '.join(lacking)}: an imputation has none, as at a variance of zero.")
    table = pd.DataFrame(
        {"estimate": estimates, "lower": ends[:, 0], "upper": ends[:, 1]},
        index=pd.Index([p.name for p in named], name="parameter"),
    )
    return Intervals(table, "wald", ci_level, tuple(notes))


def _free(p: Parameter) -> tuple[np.ufunc, np.ufunc]:
    """The function to the scale on which errors are nearly normal, and its inverse."""
    is_correlation = p.target is not None and p.target.kind == "cor"
    return (np.arctanh, np.tanh) if is_correlation else (np.log, np.exp)


def _estimates(
    first: FitResult, random: tuple[RandomPartResult, ...], named: Sequence[Parameter], fits: Sequence[FitResult]
) -> FloatArray:
    """Pooled values of the parameters, shape (k,)."""
    values = []
    for p in named:
        target = p.target
        if target is None or target.kind == "scale":
            own = np.array([values_of(fit, [p])[0] for fit in fits])
            values.append(float(np.sqrt(np.mean(own**2))) if first.family.is_linear else float(own.mean()))
        else:
            block = random[target.index]
            one = block.sd[target.first] if target.kind == "sd" else block.correlation[target.first, target.second]
            values.append(float(one))
    return np.array(values)


__all__ = ["HOW", "intervals_of_scales", "pooled_random", "pooled_sigma"]
