"""Checks of residuals, of conditional modes, and of the influence of rows and levels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import scipy
from scipy import special

from unimix.analysis.checks.findings import LOOK, OK, PROBLEM, Finding
from unimix.analysis.checks.influence import Influence, influence
from unimix.analysis.checks.simulated_residuals import simulated_residuals
from unimix.analysis.prediction.loo import loo
from unimix.distributions.family import Cumulative
from unimix.errors import DataError, UnimixError, UnsupportedModelError, listing
from unimix.fitted.criterion import has_modelled_variances
from unimix.fitted.formatting import p_phrase
from unimix.fitted.model import is_sampled
from unimix.likelihood.lmm.weights import counted_rows

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel
    from unimix.fitted.schema import RandomPartResult

FloatArray = npt.NDArray[np.float64]

SURE = 0.001
"""P value below which a departure counts; with thousands of rows small departures are significant, so that their size
is judged as well."""
FEWEST = 20
"""Smallest number of values from which the shape of a distribution is judged (the test of kurtosis needs them)."""
MOST_VALUES = 40_000_000
SIMULATIONS, MOST_SIMULATED = 250, 8000
"""Number of simulated responses of each row, and the largest number of rows for which they are made."""


def normal_residuals(fit: FittedModel) -> Finding | None:
    """Check skewness and kurtosis of the residuals (D'Agostino & Pearson 1973, Biometrika 60:613-622)."""
    if not fit.family.is_linear:
        return None
    _refuse_parts(fit)
    verdict, skew, kurtosis = _shape(fit.residuals("standardized"), "residuals")
    return Finding(
        "residuals: normality",
        verdict,
        skew,
        f"Skewness {skew:.2f}, excess kurtosis {kurtosis:.2f}{'' if verdict == OK else ': not normal'}.",
        "" if verdict == OK else f"{_remedy(skew, fit.rows.observed)} See fit.plot.diagnostics().",
    )


def _remedy(skew: float, observed: FloatArray) -> str:
    if abs(skew) <= 1:
        return "Heavy tails: family='student_t'. Estimates are hardly affected, prediction intervals are."
    if skew > 1 and (observed > 0).all():
        return "Model the logarithm of the response, or family='gamma'."
    return "Transform the response, or family='student_t'."


def _refuse_parts(fit: FittedModel) -> None:
    if fit.parts and not has_modelled_variances(fit):
        raise UnsupportedModelError("Standardized residuals are not defined where the dispersion has a formula.")


def _enough(count: int, what: str) -> None:
    if count < FEWEST:
        raise DataError(f"{count} {what} are too few to judge the shape of a distribution ({FEWEST} are needed).")


def _shape(values: FloatArray, what: str) -> tuple[str, float, float]:
    """Verdict, skewness and excess kurtosis.

    West, Finch & Curran (1995): a skewness beyond 2 or a kurtosis beyond 7 is a problem.

    Raises:
        DataError: For too few values or constant ones.
    """
    values = values[np.isfinite(values)]
    _enough(len(values), what)
    if np.ptp(values) == 0:
        raise DataError(f"All {what} are the same.")
    skew, kurtosis = float(scipy.stats.skew(values)), float(scipy.stats.kurtosis(values))
    if abs(skew) > 2 or kurtosis > 7:
        return PROBLEM, skew, kurtosis
    sure = float(scipy.stats.normaltest(values).pvalue) < SURE
    return (LOOK if sure and (abs(skew) > 0.5 or kurtosis > 1 or kurtosis < -1) else OK), skew, kurtosis


def normal_modes(fit: FittedModel, block: RandomPartResult, term: int) -> Finding:
    """Check skewness and kurtosis of the conditional modes of one term."""
    if not is_sampled(fit) and block.sd[term] * block.unit[term] < 1e-4 * max(fit.sigma, 1e-300):
        raise DataError("Its variance is zero.")
    verdict, skew, kurtosis = _shape(np.asarray(block.modes)[:, term], f"levels of {block.group}")
    return Finding(
        f"group effects: {block.terms[term]} | {block.group}",
        verdict,
        skew,
        f"Skewness {skew:.2f}, excess kurtosis {kurtosis:.2f}{'' if verdict == OK else ': not normal'}.",
        ""
        if verdict == OK
        else f"Look for a predictor of {block.group} that is missing, or for odd levels: "
        "fit.plot.caterpillar(), fit.plot.diagnostics().",
    )


def constant_spread(fit: FittedModel) -> Finding | None:
    """Check constant spread: regress squared standardized residuals on fitted values (Koenker's test).

    Koenker (1981), J. Econometrics 17:107-112. A change of the residual SD by a factor of 3 is a problem (Fox 2016,
    Applied Regression Analysis, section 12.2).
    """
    if not fit.family.is_linear:
        return None
    _refuse_parts(fit)
    fitted, squared = np.asarray(fit.fitted), fit.residuals("standardized") ** 2
    _enough(len(fitted), "residuals")
    if np.ptp(fitted) == 0 or np.ptp(squared) == 0:
        raise DataError(f"All {'fitted values' if np.ptp(fitted) == 0 else 'squared residuals'} are the same.")
    correlation = float(np.corrcoef(fitted, squared)[0, 1])
    p = float(special.chdtrc(1, len(fitted) * correlation**2))
    order = np.argsort(fitted, kind="stable")
    low, *_, high = np.array_split(squared[order], 3)
    ratio = float(np.sqrt(high.mean() / low.mean())) if low.mean() > 0 else float("inf")
    size = max(ratio, 1 / ratio) if ratio > 0 else float("inf")
    verdict = OK if p >= SURE or size < 1.5 else PROBLEM if size >= 3 else LOOK
    sentence = f"The residual SD of the upper third of fitted values is {ratio:.2f} times that of the lower third"
    return Finding(
        "residuals: spread",
        verdict,
        ratio,
        f"{sentence} ({p_phrase(p)}).",
        ""
        if verdict == OK
        else "Model the logarithm of the response, give weights=, or model the spread: dispformula='~ x'. "
        "See fit.plot.diagnostics().",
    )


def quantile_residuals(fit: FittedModel) -> Finding | None:
    """Check the distribution of the response given the group effects by simulated residuals, which any family has.

    The residuals are those after one draw of all coefficients given the data, which are independent and uniform if the
    model is right; ordered categories have no such draw, and are simulated with new group effects. The limits 0.05 and
    0.15 of their Kolmogorov distance are conventions of this table.

    Raises:
        DataError: If there are so many rows that simulations would make the other checks wait.
    """
    effects: Literal["new", "drawn"] = "new" if isinstance(fit.family, Cumulative) else "drawn"
    call = f"fit.simulated_residuals(effects={effects!r})"
    if fit.n_obs > MOST_SIMULATED:
        raise DataError(f"{fit.n_obs:,} rows take a while: {call} makes this check by itself.")
    table = simulated_residuals(fit, SIMULATIONS, effects=effects).table
    distance, p = (float(table[name].to_numpy()[0]) for name in ("statistic", "p_value"))  # uniformity comes first
    sure = p < SURE and distance > 0.05
    verdict = PROBLEM if sure and distance >= 0.15 else LOOK if sure else OK
    return Finding(
        "simulated residuals",
        verdict,
        distance,
        f"Largest distance from the uniform distribution {distance:.2f}, {p_phrase(p)}"
        f"{': the family does not describe the response' if sure else ''}.",
        ""
        if verdict == OK
        else f"{call} tests dispersion, zeros and outliers, and its plot('x') shows the residuals against a predictor.",
    )


def single_rows(fit: FittedModel) -> Finding:
    """Check single rows by Cook's distance, or by Pareto k for posteriors (Vehtari, Gelman & Gabry 2017)."""
    if fit.fixed.interval != "credible":
        return _judged(fit, influence(fit, None))
    if (fit.status.n_draws or 0) * fit.n_obs > MOST_VALUES:
        raise UnimixError("Leave-one-out cross-validation takes long with so many rows and draws: fit.loo().")
    k = np.asarray(loo(fit).pareto_k)
    bad = int((k > 0.7).sum())
    other = " family='student_t' is robust to outliers." if fit.family.is_linear else ""
    return Finding(
        "influential rows",
        LOOK if bad else OK,
        float(k.max()),
        f"{bad or 'No'} rows with a Pareto k above 0.7.",
        f"fit.loo() tells which (.pareto_k).{other}" if bad else "",
    )


def influential(fit: FittedModel, group: str) -> Finding:
    """Check the levels of a grouping factor by Cook's distance."""
    count = fit.n_groups[group]
    if fit.fixed.interval == "credible":
        raise UnimixError(
            f"Influence is not defined for a posterior, which also depends on its prior: fit again without a level of "
            f"{group}."
        )
    if count < 3:
        raise DataError(f"{count} levels are too few to compare one with the others.")
    if count == fit.n_obs:
        raise DataError(f"{group} has one level per row: see influential rows.")
    return _judged(fit, influence(fit, group))


def _judged(fit: FittedModel, influence: Influence) -> Finding:
    """The verdict on Cook's distances.

    A distance beyond the median of F (Cook 1977, Technometrics 19:15-18) gets the verdict look, one beyond 1 (Cook &
    Weisberg 1982) problem. With few levels each one moves the estimates: if it does so no more than the model expects,
    the verdict is look at most. The finding names the largest distance, and the row farthest from the others if that is
    a different one.
    """
    rows = influence.by == "row"
    name = "influential rows" if rows else f"influential levels of {influence.by}"
    distance = influence.table["cooks_distance"].to_numpy(dtype=np.float64)
    p, m = len(fit.fixed.terms), len(distance)
    lost = np.isnan(distance)
    if lost.all():
        return Finding(name, LOOK, np.nan, "The fixed effects cannot be estimated without any one of them.", "")
    counted = counted_rows(fit.family, fit.n_obs, fit.rows.weights)
    limit = float(special.fdtri(p, max(counted - p, 1), 0.5))
    approximate = influence.method == "one-step" and rows
    odd = ~lost if approximate else influence.p_values * m < 0.01
    worst = int(np.nanargmax(distance))
    value = float(distance[worst])
    far = np.flatnonzero(odd & ~lost) if rows and not approximate else np.empty(0, dtype=int)
    apart = int(far[np.argmax(distance[far])]) if len(far) else -1
    beyond = bool((odd & (distance > limit)).any())
    verdict = PROBLEM if value > 1 and (rows or odd[worst]) else LOOK if beyond or len(far) or value > 1 else OK
    sentence = _moved(influence, worst, "Row" if rows else influence.by)
    if apart == worst:
        sentence += ", and it lies far from the others"
    elif apart >= 0:
        sentence += f". {_moved(influence, apart, 'Row')}, and it lies far from the others"
    if lost.any():
        names = listing(influence.table.index[lost], 3)
        sentence += f". Without {names if rows else f'{influence.by} {names}'} some fixed effects cannot be estimated"
    call, picture = ("fit.influence()", "fit.plot.diagnostics()")
    if not rows:
        call, picture = f"fit.influence({influence.by!r})", f"fit.plot.caterpillar({influence.by!r})"
    return Finding(
        name,
        verdict,
        value,
        f"{sentence}.",
        "" if verdict == OK else f"Look at it, and fit without it: {call} has all of them; {picture}.",
    )


def _moved(influence: Influence, index: int, kind: str) -> str:
    moved = influence.dfbetas.iloc[index]
    term = str(moved.abs().idxmax())
    return (
        f"{kind} {influence.table.index[index]}: Cook's distance "
        f"{influence.table['cooks_distance'].iloc[index]:.2g}; without it {term} moves by {-moved[term]:.2g} standard "
        "errors"
    )


__all__ = [
    "constant_spread",
    "influential",
    "normal_modes",
    "normal_residuals",
    "quantile_residuals",
    "single_rows",
]
